//! A folder in a bucket of Amazon S3 (REST API, version 2006-03-01). Writing is conditional: on there being no file, or on the one
//! that was looked at ("Conditional requests").

use std::sync::{Arc, Mutex, PoisonError};

use http::{Method, StatusCode};
use longshore_auth::{
    aws::{AmazonAnswer, AmazonRequest, AmazonRest},
    connector::Connector,
};
use longshore_orchestrator::StoreUri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::{
    Error,
    place::{BEGINNING, Found, Wrote, key},
};

/// What S3's signatures have percent signs for: all but RFC 3986's unreserved characters and slashes.
const ENCODED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');
/// In which region a bucket is, with every answer about it.
const REGION: &str = "x-amz-bucket-region";

/// A folder in a bucket.
#[derive(Debug)]
pub(crate) struct S3 {
    pub(crate) uri: StoreUri,
    connector: Arc<Connector>,
    /// The bucket's region, once an answer has said it.
    region: Mutex<Option<String>>,
}

impl S3 {
    pub(crate) fn new(uri: StoreUri, connector: Arc<Connector>) -> Self {
        Self { uri, connector, region: Mutex::default() }
    }

    /// Asks in the bucket's region. Where it is not known yet, the first answer names it.
    async fn send(
        &self,
        what: &str,
        method: &Method,
        name: &str,
        headers: &[(&'static str, &str)],
        body: &str,
    ) -> Result<AmazonAnswer, Error> {
        let key = key(&self.uri, name);
        let path = format!("{}/{}", self.uri.bucket(), utf8_percent_encode(&key, &ENCODED));
        let known = || self.region.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut region = known();
        loop {
            let request = AmazonRequest {
                what,
                api: AmazonRest::S3,
                region: region.as_deref(),
                method,
                path: &path,
                headers,
                body: body.as_bytes(),
            };
            let answer = self.connector.send_to_amazon(&request).await?;
            let named = answer.headers.get(REGION).and_then(|value| value.to_str().ok());
            match named {
                Some(named) if answer.refusal.is_some() && named != answer.region && region.is_none() => {
                    region = Some(named.to_owned());
                    self.region.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&region);
                }
                _ => return Ok(answer),
            }
        }
    }

    pub(crate) async fn read(&self, what: &str, name: &str) -> Result<Option<Found>, Error> {
        let range = format!("bytes=0-{}", BEGINNING - 1);
        let answer = self.send(what, &Method::GET, name, &[("range", &range)], "").await?;
        let version = answer.headers.get("etag").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let found = |text: &str| Found { beginning: text.as_bytes().to_vec(), version: version.to_owned() };
        match answer.refusal.as_ref().map(|refusal| refusal.code.as_str()) {
            None => Ok(Some(found(&answer.text))),
            Some("NoSuchKey") => Ok(None),
            // Nothing is in it.
            Some("InvalidRange") => Ok(Some(found(""))),
            Some(_) => Err(self.refused(what, "s3:GetObject", &answer)),
        }
    }

    pub(crate) async fn write(
        &self,
        what: &str,
        name: &str,
        text: &str,
        before: Option<&Found>,
    ) -> Result<Wrote, Error> {
        let condition = before.map_or(("if-none-match", "*"), |found| ("if-match", found.version.as_str()));
        let headers = [("content-type", "text/x-python"), condition];
        let answer = self.send(what, &Method::PUT, name, &headers, text).await?;
        match answer.refusal.as_ref().map(|refusal| refusal.code.as_str()) {
            None => Ok(Wrote::Done),
            Some("PreconditionFailed" | "ConditionalRequestConflict" | "NoSuchKey") => Ok(Wrote::Changed),
            Some(_) => Err(self.refused(what, "s3:PutObject", &answer)),
        }
    }

    pub(crate) async fn remove(&self, what: &str, name: &str) -> Result<(), Error> {
        let answer = self.send(what, &Method::DELETE, name, &[], "").await?;
        if answer.refusal.is_some() { Err(self.refused(what, "s3:DeleteObject", &answer)) } else { Ok(()) }
    }

    fn refused(&self, what: &str, action: &str, answer: &AmazonAnswer) -> Error {
        let (code, message) = answer
            .refusal
            .as_ref()
            .map_or(("", ""), |refusal| (refusal.code.as_str(), refusal.message.as_str()));
        let bucket = self.uri.bucket();
        let remedy = match (code, answer.status) {
            ("NoSuchBucket", _) => {
                format!(
                    "; check --dags of the orchestrator: aws s3 ls shows the account's buckets, and {bucket} is none"
                )
            }
            ("AccessDenied" | "AllAccessDisabled", _) | (_, StatusCode::FORBIDDEN) => format!(
                "; allow {action} on arn:aws:s3:::{bucket}/*, and s3:ListBucket on arn:aws:s3:::{bucket}, in the policies of \
                 the connector's identity"
            ),
            _ => String::new(),
        };
        let reason = match (code, message) {
            ("", message) => message.to_owned(),
            (code, message) => format!("{message} ({code})"),
        };
        Error::Refused { what: what.to_owned(), status: answer.status, reason, remedy }
    }
}
