//! A folder in a bucket of Google Cloud Storage (JSON API, version 1). Writing is conditional: on there being no file, or on the
//! generation of it that was looked at.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use longshore_auth::connector::Connector;
use longshore_endpoint::{Hosts, Pauses, Web};
use longshore_kubeflow::exchange::{Answer, Api, Body, Repeat, Request};
use longshore_orchestrator::StoreUri;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::{
    Error,
    place::{BEGINNING, Found, Wrote, key},
};

const HOST: &str = "storage.googleapis.com";
const GENERATION: &str = "x-goog-generation";

/// A folder in a bucket.
#[derive(Debug)]
pub(crate) struct Gcs {
    pub(crate) uri: StoreUri,
    connector: Arc<Connector>,
    api: Api,
}

impl Gcs {
    pub(crate) fn new(uri: StoreUri, connector: Arc<Connector>, web: Web, hosts: &Hosts) -> Self {
        Self { uri, connector, api: Api::new(web, hosts.registry(HOST).server) }
    }

    pub(crate) fn with_pauses(mut self, pauses: Pauses) -> Self {
        self.api = self.api.with_pauses(pauses);
        self
    }

    /// Asks, with a token; a second time with a new one, if the first is not accepted.
    async fn send(
        &self,
        what: &str,
        method: Method,
        path: &str,
        given: (HeaderName, &str),
        body: Option<&str>,
    ) -> Result<Answer, Error> {
        let mut renewed = false;
        loop {
            let token = self.connector.google_access_token(HOST).await?;
            let mut headers = HeaderMap::new();
            if let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {}", token.expose())) {
                value.set_sensitive(true);
                headers.insert(header::AUTHORIZATION, value);
            }
            if let Ok(value) = HeaderValue::from_str(given.1) {
                headers.insert(given.0.clone(), value);
            }
            let request = Request {
                method: method.clone(),
                path: path.to_owned(),
                headers,
                body: body.map(|text| Body::Text(text.to_owned())),
                // Conditions say that it is done once.
                repeat: Repeat::Safe,
            };
            let answer = self.api.send(&request).await;
            let answer = answer.map_err(|source| Error::NoAnswer { what: what.to_owned(), source })?;
            if answer.status == StatusCode::UNAUTHORIZED && !renewed {
                self.connector.forget_google_access_token();
                renewed = true;
                continue;
            }
            return Ok(answer);
        }
    }

    fn object(&self, name: &str) -> String {
        format!("storage/v1/b/{}/o/{}", encoded(self.uri.bucket()), encoded(&key(&self.uri, name)))
    }

    pub(crate) async fn read(&self, what: &str, name: &str) -> Result<Option<Found>, Error> {
        let path = format!("{}?alt=media", self.object(name));
        let range = format!("bytes=0-{}", BEGINNING - 1);
        let answer = self.send(what, Method::GET, &path, (header::RANGE, &range), None).await?;
        let version = answer.headers.get(GENERATION).and_then(|value| value.to_str().ok());
        let found = |text: &str| Found {
            beginning: text.as_bytes().to_vec(),
            version: version.unwrap_or_default().to_owned(),
        };
        match answer.status {
            StatusCode::NOT_FOUND => Ok(None),
            // Nothing is in it.
            StatusCode::RANGE_NOT_SATISFIABLE => Ok(Some(found(""))),
            status if status.is_success() => Ok(Some(found(&answer.text))),
            _ => Err(self.refused(what, "storage.objects.get", &answer)),
        }
    }

    pub(crate) async fn write(
        &self,
        what: &str,
        name: &str,
        text: &str,
        before: Option<&Found>,
    ) -> Result<Wrote, Error> {
        let path = format!(
            "upload/storage/v1/b/{}/o?uploadType=media&name={}&ifGenerationMatch={}",
            encoded(self.uri.bucket()),
            encoded(&key(&self.uri, name)),
            // Zero: on there being none.
            before.map_or("0", |found| &found.version),
        );
        let typed = (header::CONTENT_TYPE, "text/x-python");
        let answer = self.send(what, Method::POST, &path, typed, Some(text)).await?;
        match answer.status {
            StatusCode::PRECONDITION_FAILED => Ok(Wrote::Changed),
            status if status.is_success() => Ok(Wrote::Done),
            _ => Err(self.refused(what, "storage.objects.create", &answer)),
        }
    }

    pub(crate) async fn remove(&self, what: &str, name: &str, found: &Found) -> Result<(), Error> {
        let path = format!("{}?ifGenerationMatch={}", self.object(name), found.version);
        let plain = (header::ACCEPT, "application/json");
        let answer = self.send(what, Method::DELETE, &path, plain, None).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(()),
            StatusCode::PRECONDITION_FAILED => Err(Error::Busy { what: what.to_owned() }),
            status if status.is_success() => Ok(()),
            _ => Err(self.refused(what, "storage.objects.delete", &answer)),
        }
    }

    fn refused(&self, what: &str, permission: &str, answer: &Answer) -> Error {
        let bucket = self.uri.bucket();
        let remedy = match answer.status {
            StatusCode::NOT_FOUND => format!(
                "; check --dags of the orchestrator: gcloud storage ls shows the project's buckets, and {bucket} is none"
            ),
            StatusCode::FORBIDDEN => format!(
                "; let the connector's account do that ({permission}): gcloud storage buckets add-iam-policy-binding \
                 gs://{bucket} --member=serviceAccount:ACCOUNT --role=roles/storage.objectUser"
            ),
            StatusCode::UNAUTHORIZED => {
                "; the connector's credentials are not accepted: longshore service-connector verify says why"
                    .to_owned()
            }
            _ => String::new(),
        };
        Error::Refused { what: what.to_owned(), status: answer.status, reason: answer.reason(), remedy }
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
