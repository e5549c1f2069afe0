//! Exchanges with services that issue credentials.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use longshore_endpoint::{
    Endpoint, Fault, Pauses, ProxySource, Stage, Tries, Web, WebConfig, is_transient, retry_after,
};
use serde::de::DeserializeOwned;
use url::Url;

use crate::{AuthError, Problem, Secret};

/// The longest answer that is read. Tokens are a few kB, pages of listings some hundred.
const LONGEST_ANSWER: usize = 4 << 20;

/// A clock that is further off than this fails signatures and tokens.
const CLOCK_TOLERANCE_SECONDS: u64 = 120;

/// Sends requests on behalf of a source of credentials.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    web: Web,
    /// For services inside of the machine: without a proxy, and without a long wait for what is not there.
    nearby: Web,
    origin: String,
    pauses: Pauses,
}

/// A request. Its headers and body may be secrets, so it has no `Debug`.
pub(crate) struct Request {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Vec<u8>,
    endpoint: Option<Endpoint>,
}

/// An answer. Its body may be a secret, so it has no `Debug`.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: Vec<u8>,
    url: Url,
    origin: String,
}

/// What a service that refuses says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// A word for programs: `invalid_grant`, `PERMISSION_DENIED`; empty if there is none.
    pub(crate) code: String,
    /// A sentence for people.
    pub(crate) message: String,
}

impl Request {
    pub(crate) fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: HeaderMap::new(), body: Vec::new(), endpoint: None }
    }

    pub(crate) fn get(url: Url) -> Self {
        Self::new(Method::GET, url)
    }

    /// A POST of a form.
    pub(crate) fn form<'a>(url: Url, fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        Self::new(Method::POST, url)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body.into_bytes())
    }

    /// A POST of JSON.
    pub(crate) fn json(url: Url, value: &serde_json::Value) -> Self {
        Self::new(Method::POST, url)
            .header("content-type", "application/json")
            .body(value.to_string().into_bytes())
    }

    pub(crate) fn body(mut self, body: Vec<u8>) -> Self {
        self.body = body;
        self
    }

    /// A header, which is left out if its value cannot be one.
    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    /// Headers that something else made: a signature.
    pub(crate) fn headers(mut self, headers: HeaderMap) -> Self {
        self.headers.extend(headers);
        self
    }

    /// The `Authorization` header.
    pub(crate) fn authorization(mut self, scheme: &str, value: &Secret) -> Self {
        if let Ok(mut value) = HeaderValue::from_str(&format!("{scheme} {}", value.expose())) {
            value.set_sensitive(true);
            self.headers.insert(header::AUTHORIZATION, value);
        }
        self
    }

    pub(crate) fn basic(self, username: &str, password: &Secret) -> Self {
        self.authorization("Basic", &crate::credential::basic(username, password))
    }

    pub(crate) fn bearer(self, token: &Secret) -> Self {
        self.authorization("Bearer", token)
    }

    /// The endpoint that is asked, for the certificate authorities that it is trusted by.
    pub(crate) fn at(mut self, endpoint: Endpoint) -> Self {
        self.endpoint = Some(endpoint);
        self
    }
}

impl Service {
    pub(crate) fn new(web: Web, origin: impl Into<String>) -> Self {
        let nearby = Web::new(WebConfig {
            proxy: ProxySource::Direct,
            connect_timeout: Duration::from_secs(2),
            ..web.config().clone()
        });
        Self { web, nearby, origin: origin.into(), pauses: Pauses::default() }
    }

    /// The same for services inside of the machine: metadata servers.
    pub(crate) fn nearby(&self) -> Self {
        let pauses = Pauses { attempts: 2, ..self.pauses };
        Self { web: self.nearby.clone(), nearby: self.nearby.clone(), origin: self.origin.clone(), pauses }
    }

    /// What asks, as messages name it.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// Sends a request until there is an answer that will not be another one later. `what` follows "cannot".
    pub(crate) async fn send(&self, what: &str, request: Request) -> Result<Answer, AuthError> {
        let unreachable = |fault: Fault| AuthError {
            origin: self.origin.clone(),
            problem: Problem::Unreachable { what: format!("cannot {what}"), fault: Box::new(fault) },
        };
        let client = match &request.endpoint {
            Some(endpoint) => self.web.client_for(endpoint),
            None => self.web.client(),
        }
        .map_err(unreachable)?;
        let mut tries = Tries::new(self.pauses);
        loop {
            let sent = client
                .request(request.method.clone(), request.url.clone())
                .headers(request.headers.clone())
                .body(request.body.clone());
            let (failure, stage, wait) = match self.once(sent, &request.url).await {
                Ok(answer) if is_transient(answer.status) => {
                    let wait = answer
                        .headers
                        .get(header::RETRY_AFTER)
                        .and_then(|value| retry_after(value.to_str().ok()?, SystemTime::now()));
                    (answer.unavailable(what), Stage::Connected, wait)
                }
                Ok(answer) => return Ok(answer),
                Err((fault, stage)) if fault.is_retryable() => (unreachable(fault), stage, None),
                Err((fault, _)) => return Err(unreachable(fault)),
            };
            let Some(pause) = tries.failed(stage, wait) else { return Err(failure) };
            tracing::debug!(error = %failure, ?pause, "trying again");
            tokio::time::sleep(pause).await;
        }
    }

    async fn once(&self, request: reqwest::RequestBuilder, url: &Url) -> Result<Answer, (Fault, Stage)> {
        let explain = |error: reqwest::Error| self.web.explain(url, &error);
        let mut response = request.send().await.map_err(explain)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(explain)? {
            if body.len() + chunk.len() > LONGEST_ANSWER {
                let host = url.host_str().unwrap_or_default().to_owned();
                let reason = format!("it sent more than {LONGEST_ANSWER} bytes");
                return Err((Fault::Broken { host, reason }, Stage::Connected));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, headers, body, url: url.clone(), origin: self.origin.clone() })
    }
}

impl Answer {
    /// The answer, if it is a good one, else what `refused` makes of it.
    pub(crate) fn accepted<E>(self, refused: impl FnOnce(&Self) -> E) -> Result<Self, E> {
        if self.status.is_success() { Ok(self) } else { Err(refused(&self)) }
    }

    /// The body as JSON.
    pub(crate) fn parse<T: DeserializeOwned>(&self, what: &str) -> Result<T, AuthError> {
        // The parser's message could show a part of a token.
        serde_json::from_slice(&self.body).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            let reason = if self.is_page() {
                format!("{} answered with a web page", self.host())
            } else {
                format!(
                    "{} answered with something else than what was asked for (line {line}, column {column})",
                    self.host()
                )
            };
            AuthError::refused(
                &self.origin,
                format!("cannot {what}"),
                reason,
                format!(
                    "check that {} is the right address, and that no proxy answers in its place",
                    self.host()
                ),
            )
        })
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn host(&self) -> String {
        match (self.url.host_str(), self.url.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (host, _) => host.unwrap_or_default().to_owned(),
        }
    }

    pub(crate) fn is_page(&self) -> bool {
        let typed = self.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        typed.is_some_and(|typed| typed.starts_with("text/html"))
            || self.body.trim_ascii_start().first_chunk::<5>().is_some_and(|start| {
                start.eq_ignore_ascii_case(b"<html") || start.eq_ignore_ascii_case(b"<!doc")
            })
    }

    /// What the service says, in whichever of the usual forms.
    pub(crate) fn refusal(&self) -> Refusal {
        // What is typed as a page need not be one.
        let mut refusal = Refusal::read(&self.body).unwrap_or_else(|| Refusal {
            code: String::new(),
            message: if self.is_page() {
                format!("{} answered {} with a web page", self.host(), self.status)
            } else {
                format!("{} answered {}", self.host(), self.status)
            },
        });
        refusal.message = refusal.message.trim().trim_end_matches('.').to_owned();
        refusal
    }

    fn unavailable(&self, what: &str) -> AuthError {
        let problem = Problem::Unavailable {
            what: format!("cannot {what}"),
            reason: format!("{} answered {}", self.host(), self.status),
        };
        AuthError { origin: self.origin.clone(), problem }
    }

    /// The error of a refusal. `remedy` is what to do; a clock that is off comes first, since it explains all else.
    pub(crate) fn refused(&self, what: &str, refusal: &Refusal, remedy: impl Into<String>) -> AuthError {
        let remedy = match self.clock() {
            Some(off) => format!("the clock of this machine is {off}: set it right and try again"),
            None => remedy.into(),
        };
        AuthError::refused(&self.origin, format!("cannot {what}"), refusal.to_string(), remedy)
    }

    /// By how much this machine's clock is off, if the service's is right: `3 minutes slow`.
    fn clock(&self) -> Option<String> {
        let theirs = httpdate::parse_http_date(self.headers.get(header::DATE)?.to_str().ok()?).ok()?;
        let ours = SystemTime::now();
        let (off, way) = match ours.duration_since(theirs) {
            Ok(ahead) => (ahead, "fast"),
            Err(behind) => (behind.duration(), "slow"),
        };
        (off.as_secs() > CLOCK_TOLERANCE_SECONDS)
            .then(|| format!("{} minutes {way}", (off.as_secs() + 30) / 60))
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.code.as_str(), self.message.as_str()) {
            ("", message) => f.write_str(message),
            (code, "") => f.write_str(code),
            (code, message) => write!(f, "{message} ({code})"),
        }
    }
}

impl Refusal {
    /// The forms: OAuth (RFC 6749 §5.2), Google's APIs, registries, AWS's JSON and Query protocols.
    fn read(body: &[u8]) -> Option<Self> {
        let text =
            |value: Option<&serde_json::Value>| value.and_then(|value| value.as_str()).map(str::to_owned);
        let Ok(json) = serde_json::from_slice::<serde_json::Value>(body) else {
            let xml = std::str::from_utf8(body).ok()?;
            let code = element(xml, "Code")?;
            return Some(Self { code, message: element(xml, "Message").unwrap_or_default() });
        };
        let (code, message) = match json.get("error") {
            Some(serde_json::Value::Object(error)) => {
                (text(error.get("status")).or_else(|| text(error.get("code"))), text(error.get("message")))
            }
            Some(serde_json::Value::String(code)) => {
                (Some(code.clone()), text(json.get("error_description")))
            }
            _ => {
                let error = json.pointer("/errors/0").unwrap_or(&json);
                let kind = text(error.get("__type"));
                let kind = kind.map(|kind| kind.rsplit('#').next().unwrap_or_default().to_owned());
                (
                    kind.or_else(|| text(error.get("code"))),
                    text(error.get("message")).or_else(|| text(error.get("Message"))),
                )
            }
        };
        if code.is_none() && message.is_none() {
            return None;
        }
        Some(Self { code: code.unwrap_or_default(), message: message.unwrap_or_default() })
    }
}

/// The text of the first element of that name. AWS's Query protocol answers with flat, generated XML.
pub(crate) fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(
        text.replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&quot;", "\"")
            .replace("&apos;", "'")
            .replace("&#39;", "'")
            .replace("&amp;", "&"),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(body: &str) -> String {
        Refusal::read(body.as_bytes()).unwrap().to_string()
    }

    #[test]
    fn refusals_are_read_in_every_form() {
        assert_eq!(
            read(r#"{"error":"invalid_grant","error_description":"Invalid JWT Signature."}"#),
            "Invalid JWT Signature. (invalid_grant)"
        );
        assert_eq!(
            read(r#"{"error":{"code":403,"message":"Denied","status":"PERMISSION_DENIED"}}"#),
            "Denied (PERMISSION_DENIED)"
        );
        assert_eq!(read(r#"{"errors":[{"code":"UNAUTHORIZED","message":"no"}]}"#), "no (UNAUTHORIZED)");
        assert_eq!(
            read(r#"{"__type":"com.amazonaws.ecr#RepositoryNotFoundException","message":"no"}"#),
            "no (RepositoryNotFoundException)"
        );
        assert_eq!(
            read(
                "<ErrorResponse><Error><Code>AccessDenied</Code><Message>a &amp; b</Message></Error></ErrorResponse>"
            ),
            "a & b (AccessDenied)"
        );
        assert_eq!(Refusal::read(b"{}"), None);
        assert_eq!(Refusal::read(b"oops"), None);
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(body in proptest::collection::vec(any::<u8>(), 0..200), text in "\\PC{0,80}") {
            let _ = Refusal::read(&body);
            let _ = Refusal::read(format!("<Code>{text}</Code>").as_bytes());
            let _ = Refusal::read(format!("{{\"error\":{text}}}").as_bytes());
        }
    }
}
