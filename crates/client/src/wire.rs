//! The wire: a request is sent, an answer comes or does not, and nothing else is decided.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, Method, StatusCode, header};
use longshore_endpoint::{Endpoint, Fault, Stage, is_transient, redacted, retry_after};
use reqwest::Response;
use tokio::time::Instant;
use url::Url;

use crate::{
    ClientError, RegistryError, Result,
    client::Client,
    refusal::{is_web_page, wants_tls},
};

/// The longest body of an error that is read.
const LONGEST_ERROR: u64 = 64 << 10;
/// Who sends less per second, over the time that a server may be silent, is taken to be silent.
const SLOWEST: u64 = 1 << 10;
/// How many times longer than between bytes we wait for the answer to a large body: the registry may hash it first.
const COMMIT_PATIENCE: u32 = 10;

/// A failed try.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: ClientError,
    pub(crate) stage: Stage,
    pub(crate) retry_after: Option<Duration>,
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self { error, stage: Stage::Connected, retry_after: None }
    }
}

/// What a request carries.
pub(crate) enum Body {
    None,
    Bytes(Bytes),
    /// Bytes that are produced while they are sent. `sent` counts them.
    Stream {
        body: reqwest::Body,
        length: u64,
        sent: Arc<AtomicU64>,
    },
}

/// Sends requests to a host and waits for its answers: no more.
pub(crate) struct Wire<'a> {
    pub(crate) client: &'a Client,
    pub(crate) what: &'a str,
    pub(crate) endpoint: &'a Endpoint,
}

impl Wire<'_> {
    fn fault(&self, fault: Fault, stage: Stage) -> Failure {
        let what = self.what.to_owned();
        Failure { error: ClientError::Unreachable { what, fault }, stage, retry_after: None }
    }

    fn silence(&self, url: &Url, after: Duration) -> Failure {
        let host = Endpoint { url: url.clone(), authorities: None }.name();
        self.fault(Fault::Silence { host, after }, Stage::Connected)
    }

    fn explain(&self, url: &Url, error: &reqwest::Error) -> Failure {
        let (fault, stage) = self.client.config().web.explain(url, error);
        // What a TLS server answers to plain HTTP is not HTTP.
        if let Fault::Broken { host, reason } = &fault
            && url.scheme() == "http"
            && reason.contains("invalid HTTP version")
        {
            let (what, host) = (self.what.to_owned(), host.clone());
            return ClientError::NotPlain { what, host }.into();
        }
        self.fault(fault, stage)
    }

    /// Sends a request, once. Redirects are answers like others.
    pub(crate) async fn send(
        &self,
        method: Method,
        url: &Url,
        headers: HeaderMap,
        body: Body,
    ) -> Result<Answer, Failure> {
        let web = &self.client.config().web;
        let client = web.unwatched_client_for(self.endpoint);
        let client = client.map_err(|fault| self.fault(fault, Stage::Connecting))?;
        let idle = web.config().idle_timeout;
        let mut request = client.request(method.clone(), url.clone()).headers(headers);
        let mut watched = None;
        match body {
            Body::None => {
                // A POST or PUT without a body says so (RFC 9110 §8.6); some servers answer 411 otherwise.
                if matches!(method, Method::POST | Method::PUT | Method::PATCH) {
                    request = request.header(header::CONTENT_LENGTH, 0);
                }
            }
            Body::Bytes(bytes) => request = request.body(bytes),
            Body::Stream { body, length, sent } => {
                request = request.header(header::CONTENT_LENGTH, length).body(body);
                watched = Some((sent, length));
            }
        }
        tracing::debug!(%method, url = redacted(url), "request");
        let response = match watched {
            None => {
                let sent = tokio::time::timeout(idle, request.send()).await;
                sent.map_err(|_| self.silence(url, idle))?
            }
            Some((sent, length)) => tokio::select! {
                response = request.send() => response,
                after = stalled(&sent, length, idle) => return Err(self.silence(url, after)),
            },
        };
        let response = response.map_err(|error| self.explain(url, &error))?;
        tracing::debug!(%method, url = redacted(url), status = response.status().as_u16(), "answer");
        Ok(Answer {
            response,
            url: url.clone(),
            what: self.what.to_owned(),
            client: self.client.clone(),
            endpoint: self.endpoint.clone(),
            window: Window { since: Instant::now(), bytes: 0 },
        })
    }
}

/// Ends when nothing more of a body of `length` is taken for `idle`, or no answer comes a while after its end.
async fn stalled(sent: &AtomicU64, length: u64, idle: Duration) -> Duration {
    let mut before = 0;
    loop {
        tokio::time::sleep(idle).await;
        let now = sent.load(Ordering::Relaxed);
        if now >= length {
            let patience = idle * COMMIT_PATIENCE;
            tokio::time::sleep(patience).await;
            return patience;
        }
        if now == before {
            return idle;
        }
        before = now;
    }
}

#[derive(Debug)]
struct Window {
    since: Instant,
    bytes: u64,
}

/// An answer whose body is still to be read.
pub(crate) struct Answer {
    response: Response,
    pub(crate) url: Url,
    what: String,
    client: Client,
    endpoint: Endpoint,
    window: Window,
}

impl Answer {
    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// A header as text.
    pub(crate) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// A header of the distribution protocol as text.
    pub(crate) fn named(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// `Content-Length`, also where there is no body (HEAD).
    pub(crate) fn length(&self) -> Option<u64> {
        self.header(&header::CONTENT_LENGTH)?.trim().parse().ok()
    }

    pub(crate) fn content_type(&self) -> Option<&str> {
        self.header(&header::CONTENT_TYPE)
    }

    fn wire(&self) -> Wire<'_> {
        Wire { client: &self.client, what: &self.what, endpoint: &self.endpoint }
    }

    /// The next bytes of the body, or `None` after its end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        let idle = self.client.config().web.config().idle_timeout;
        let Ok(chunk) = tokio::time::timeout(idle, self.response.chunk()).await else {
            return Err(self.wire().silence(&self.url, idle));
        };
        let chunk = chunk.map_err(|error| {
            let mut failure = self.wire().explain(&self.url, &error);
            failure.stage = Stage::Connected;
            failure
        })?;
        self.window.bytes += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        let elapsed = self.window.since.elapsed();
        if elapsed > idle {
            if self.window.bytes < SLOWEST * elapsed.as_secs() {
                return Err(self.wire().silence(&self.url, elapsed));
            }
            self.window = Window { since: Instant::now(), bytes: 0 };
        }
        Ok(chunk)
    }

    /// The whole body, if it is no longer than `limit`.
    pub(crate) async fn bytes(mut self, limit: u64) -> Result<Bytes, Failure> {
        let mut bytes = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            if bytes.len() as u64 + chunk.len() as u64 > limit {
                return Err(ClientError::TooLarge { what: self.what, limit }.into());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    }

    /// Reads the body of an answer that nobody hoped for.
    pub(crate) async fn refusal(mut self) -> Refusal {
        let mut body = Vec::new();
        let idle = self.client.config().web.config().idle_timeout;
        // What is there counts, even if the rest does not come.
        let _ = tokio::time::timeout(idle, async {
            while let Ok(Some(chunk)) = self.chunk().await {
                body.extend_from_slice(&chunk);
                if body.len() as u64 > LONGEST_ERROR {
                    break;
                }
            }
        })
        .await;
        let after = self.header(&header::RETRY_AFTER);
        let retry_after = after.and_then(|value| retry_after(value, SystemTime::now()));
        let is_web_page = is_web_page(self.content_type(), &body);
        Refusal {
            status: self.status(),
            headers: self.headers().clone(),
            said: if is_web_page { None } else { RegistryError::read(&body) },
            is_web_page,
            wants_tls: self.url.scheme() == "http" && wants_tls(self.status(), &body),
            retry_after,
            host: Endpoint { url: self.url.clone(), authorities: None }.name(),
            url: self.url,
        }
    }
}

/// An answer that nobody hoped for.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) said: Option<RegistryError>,
    pub(crate) is_web_page: bool,
    wants_tls: bool,
    retry_after: Option<Duration>,
    host: String,
    url: Url,
}

impl Refusal {
    /// Whether the registry knows who asks, and says no.
    pub(crate) fn is_denial(&self) -> bool {
        self.status == StatusCode::FORBIDDEN && !self.is_web_page
    }

    /// The same, said by the registry of that name.
    pub(crate) fn by(mut self, name: String) -> Self {
        // Where the scheme is wrong, the remedy is about the place.
        if !self.wants_tls {
            self.host = name;
        }
        self
    }

    /// What it means to the user.
    pub(crate) fn failure(self, what: &str) -> Failure {
        let (what, host) = (what.to_owned(), self.host);
        let reason = self.said.as_ref().map(ToString::to_string);
        let is_retryable = is_transient(self.status);
        let error = match self.status.as_u16() {
            _ if self.wants_tls => ClientError::NotPlain { what, host },
            _ if self.is_web_page && !is_retryable => {
                ClientError::NotRegistry { what, url: redacted(&self.url) }
            }
            404 | 410 => ClientError::NotFound { what, host, reason },
            429 => ClientError::RateLimited { what, host, reason },
            _ => ClientError::Refused { what, host, status: self.status, reason: self.said, is_retryable },
        };
        Failure { error, stage: Stage::Connected, retry_after: self.retry_after }
    }
}
