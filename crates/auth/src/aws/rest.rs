//! Requests to Amazon's APIs that speak REST, signed.

use http::{HeaderMap, Method, StatusCode};

use super::{
    AmazonRefusal, Aws, DEFAULT_REGION,
    client::{Unsent, aws_remedy},
    host::{is_region, suffix_of},
    sign::Signing,
};
use crate::{AuthError, service};

/// An API of Amazon's that speaks REST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmazonRest {
    /// `EventBridge` Scheduler, version 2021-06-30.
    Scheduler,
    /// S3, with the bucket as the first segment of the path.
    S3,
}

/// A request to an API.
#[derive(Clone, Copy, Debug)]
pub struct AmazonRequest<'a> {
    /// What it is for, after "cannot".
    pub what: &'a str,
    /// The API.
    pub api: AmazonRest,
    /// The region; the connector's own if there is none.
    pub region: Option<&'a str>,
    /// The method.
    pub method: &'a Method,
    /// The path and the query, percent-encoded, without a slash at the beginning.
    pub path: &'a str,
    /// Headers, by their names in small letters.
    pub headers: &'a [(&'static str, &'a str)],
    /// What is sent.
    pub body: &'a [u8],
}

/// What an API answered.
#[derive(Clone, Debug)]
pub struct AmazonAnswer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, as text.
    pub text: String,
    /// Which region was asked.
    pub region: String,
    /// What it says, if it did not do what it was asked.
    pub refusal: Option<AmazonRefusal>,
}

impl AmazonRest {
    /// The name that requests are signed for, and that policies have before a colon.
    pub const fn signing_name(self) -> &'static str {
        match self {
            Self::Scheduler => "scheduler",
            Self::S3 => "s3",
        }
    }

    /// The ending of the environment variable that names its endpoint.
    const fn variable(self) -> &'static str {
        match self {
            Self::Scheduler => "SCHEDULER",
            Self::S3 => "S3",
        }
    }

    const fn signing(self) -> Signing {
        match self {
            Self::Scheduler => Signing::Common,
            Self::S3 => Signing::S3,
        }
    }
}

impl Aws {
    /// What the API answered. A refusal of the credentials themselves is an error.
    pub(crate) async fn send(&self, request: &AmazonRequest<'_>) -> Result<AmazonAnswer, AuthError> {
        let AmazonRequest { what, api, region, method, path, headers, body } = *request;
        let client = &self.client;
        let region = match region {
            Some(region) => region.to_owned(),
            None => self.region()?.unwrap_or_else(|| DEFAULT_REGION.to_owned()),
        };
        // It becomes a part of a host's name.
        if !is_region(&region) {
            return Err(AuthError::unusable(
                client.service.origin(),
                format!("cannot {what}: `{region}` is not a region such as eu-west-1"),
                "correct the region",
            ));
        }
        let own = || format!("https://{}.{region}.{}", api.signing_name(), suffix_of(&region));
        let endpoint = client.endpoint(api.variable(), own);
        let url = client.url(&format!("{}/{path}", endpoint.trim_end_matches('/')))?;
        let keys = self.keys(&region).await?;
        let unsent = Unsent { method: method.clone(), url, headers, body: body.to_vec() };
        let service = (api.signing_name(), api.signing());
        let sent = client.signed_request(what, unsent, &keys, &region, service)?;
        let answer = client.service.send(what, sent).await?;
        let refusal = if answer.status.is_success() {
            None
        } else {
            let mut refusal = answer.refusal();
            // Where the body has no word for it, as with JSON over REST, a header has.
            if let Some(code) = error_type(&answer)
                && refusal.code.is_empty()
            {
                refusal.code = code;
            }
            let remedy = aws_remedy(&refusal, "");
            if !remedy.is_empty() {
                return Err(answer.refused(what, &refusal, remedy));
            }
            Some(AmazonRefusal { code: refusal.code, message: refusal.message })
        };
        let (status, headers, text) = (answer.status, answer.headers.clone(), answer.text());
        Ok(AmazonAnswer { status, headers, text, region, refusal })
    }
}

/// `x-amzn-ErrorType`: `ConflictException:http://…`.
fn error_type(answer: &service::Answer) -> Option<String> {
    let named = answer.headers.get("x-amzn-errortype")?.to_str().ok()?;
    named.split(':').next().map(str::to_owned)
}
