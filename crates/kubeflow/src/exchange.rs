//! Exchanges with an API that speaks JSON: tried again where that is safe, and nothing said of it but what it answered.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, Method, StatusCode, header};
use longshore_endpoint::{Endpoint, Fault, Pauses, Stage, Tries, Web, is_transient, retry_after};
use serde_json::Value;
use url::Url;

/// The longest answer that is read: a run of a thousand steps is a few MB.
const LONGEST_ANSWER: usize = 64 << 20;

/// The API of a service, by its endpoint.
#[derive(Clone, Debug)]
pub struct Api {
    web: Web,
    endpoint: Endpoint,
    pauses: Pauses,
}

/// What is asked. Its headers may be secrets, so it has no `Debug`.
pub struct Request {
    /// The method.
    pub method: Method,
    /// The path and query, below the endpoint, without a slash at the beginning.
    pub path: String,
    /// Headers, besides those of the content.
    pub headers: HeaderMap,
    /// What is sent.
    pub body: Option<Body>,
    /// Whether it may be sent twice.
    pub repeat: Repeat,
}

/// What is sent.
#[derive(Clone, Debug)]
pub enum Body {
    /// JSON.
    Json(Value),
    /// Text that is what it is. The headers say of which type.
    Text(String),
}

/// Whether a request may be sent again when nobody knows what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Sent twice, it does what it does once.
    Safe,
    /// Sent twice, it might do the same twice: it is sent again only when the service said that it did nothing, or when there
    /// was no connection.
    Unsafe,
}

/// What a service answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, as text.
    pub text: String,
}

/// What a service answered, before it is text.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub bytes: Vec<u8>,
}

impl From<Fetched> for Answer {
    fn from(Fetched { status, headers, bytes }: Fetched) -> Self {
        Self { status, headers, text: String::from_utf8_lossy(&bytes).into_owned() }
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault}")]
pub struct NoAnswer {
    /// What went wrong.
    pub fault: Fault,
    /// Whether the service may have got the request nevertheless.
    pub perhaps_received: bool,
}

impl Request {
    /// A GET.
    pub fn get(path: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            path: path.into(),
            headers: HeaderMap::new(),
            body: None,
            repeat: Repeat::Safe,
        }
    }

    /// A DELETE.
    pub fn delete(path: impl Into<String>) -> Self {
        Self { method: Method::DELETE, ..Self::get(path) }
    }

    /// A POST.
    pub fn post(path: impl Into<String>, body: Option<Value>, repeat: Repeat) -> Self {
        let body = body.map(Body::Json);
        Self { method: Method::POST, path: path.into(), headers: HeaderMap::new(), body, repeat }
    }

    /// The same with these headers.
    pub fn with_headers(mut self, headers: HeaderMap) -> Self {
        self.headers = headers;
        self
    }
}

impl Answer {
    /// The body as JSON; `Null` if it is not.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    /// Whether it is a page for people: a login form, the error of a proxy.
    pub fn is_page(&self) -> bool {
        let start = self.text.trim_start().get(..5).unwrap_or_default();
        start.eq_ignore_ascii_case("<html") || start.eq_ignore_ascii_case("<!doc")
    }

    /// What the service says about its refusal, in whichever of the usual forms (`google.rpc.Status` on its own or below
    /// `error`, plain text), in one line.
    pub fn reason(&self) -> String {
        let json = self.json();
        let said = [
            json.pointer("/error/message"),
            json.get("message"),
            json.get("error_message"),
            json.get("error"),
        ]
        .into_iter()
        .flatten()
        .find_map(Value::as_str);
        let text = match said {
            Some(said) => said,
            None if self.is_page() || json.is_object() || self.text.trim().is_empty() => {
                return format!("it answered {}", self.status);
            }
            None => &self.text,
        };
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let short: String = line.chars().take(600).collect();
        short.trim_end_matches('.').to_owned()
    }
}

impl Api {
    /// The API at an endpoint.
    pub fn new(web: Web, endpoint: Endpoint) -> Self {
        Self { web, endpoint, pauses: Pauses::default() }
    }

    /// The same, with other pauses between tries.
    pub fn with_pauses(mut self, pauses: Pauses) -> Self {
        self.pauses = pauses;
        self
    }

    /// Where it is served.
    pub fn url(&self) -> &Url {
        &self.endpoint.url
    }

    /// Its host, as people and credentials name it.
    pub fn host(&self) -> String {
        self.endpoint.name()
    }

    /// Asks until there is an answer that will not be another one later, or none will come.
    pub async fn send(&self, request: &Request) -> Result<Answer, NoAnswer> {
        Ok(self.fetch(request).await?.into())
    }

    /// The same, for what need not be text: a part of a file.
    pub async fn fetch(&self, request: &Request) -> Result<Fetched, NoAnswer> {
        let before = |fault| NoAnswer { fault, perhaps_received: false };
        let client = self.web.client_for(&self.endpoint).map_err(before)?;
        let url = self
            .endpoint
            .at(&request.path)
            .map_err(|error| before(Fault::Client(format!("{} is not a path: {error}", request.path))))?;
        let mut tries = Tries::new(self.pauses);
        loop {
            let (outcome, stage, wait) = match self.once(&client, &url, request).await {
                Ok(answer) if is_transient(answer.status) => {
                    // 429 and 503 say that nothing was done; what became of it after other failures is unknown.
                    let nothing_done = matches!(answer.status.as_u16(), 429 | 503);
                    if request.repeat == Repeat::Unsafe && !nothing_done {
                        return Ok(answer);
                    }
                    let wait = answer
                        .headers
                        .get(header::RETRY_AFTER)
                        .and_then(|value| retry_after(value.to_str().ok()?, SystemTime::now()));
                    (Ok(answer), Stage::Connected, wait)
                }
                Ok(answer) => return Ok(answer),
                Err((fault, stage)) => {
                    let failure = NoAnswer { fault, perhaps_received: stage == Stage::Connected };
                    let again = failure.fault.is_retryable()
                        && (request.repeat == Repeat::Safe || stage == Stage::Connecting);
                    if !again {
                        return Err(failure);
                    }
                    (Err(failure), stage, None::<Duration>)
                }
            };
            let Some(pause) = tries.failed(stage, wait) else { return outcome };
            tracing::debug!(host = %self.host(), ?pause, "trying again");
            tokio::time::sleep(pause).await;
        }
    }

    async fn once(
        &self,
        client: &reqwest::Client,
        url: &Url,
        request: &Request,
    ) -> Result<Fetched, (Fault, Stage)> {
        let explain = |error: reqwest::Error| self.web.explain(url, &error);
        let mut sent = client.request(request.method.clone(), url.clone()).headers(request.headers.clone());
        sent = match &request.body {
            Some(Body::Json(value)) => sent.json(value),
            Some(Body::Text(text)) => sent.body(text.clone()),
            None => sent,
        };
        let mut response = sent.send().await.map_err(explain)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(explain)? {
            if bytes.len() + chunk.len() > LONGEST_ANSWER {
                let reason = format!("it sent more than {LONGEST_ANSWER} bytes");
                return Err((Fault::Broken { host: self.host(), reason }, Stage::Connected));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Fetched { status, headers, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> Answer {
        Answer { status: StatusCode::FORBIDDEN, headers: HeaderMap::new(), text: text.to_owned() }
    }

    #[test]
    fn refusals_are_read_in_every_form() {
        for (text, reason) in [
            (r#"{"error":{"code":403,"message":"Denied.","status":"PERMISSION_DENIED"}}"#, "Denied"),
            (r#"{"code":7,"message":"no\nway","details":[]}"#, "no way"),
            (r#"{"error_message":"gone","error_details":"gone"}"#, "gone"),
            ("upstream connect error", "upstream connect error"),
            ("<!DOCTYPE html><p>", "it answered 403 Forbidden"),
            ("", "it answered 403 Forbidden"),
            ("{}", "it answered 403 Forbidden"),
        ] {
            assert_eq!(answer(text).reason(), reason, "{text}");
        }
    }
}
