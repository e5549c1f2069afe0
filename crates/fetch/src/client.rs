//! One exchange: a request, its redirects, and a response that has a body to read.

use std::{
    error::Error as _,
    io,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::{Client, Response};
use tokio::sync::{Semaphore, SemaphorePermit};
use url::Url;

use crate::{
    FetchConfig, FetchError, ProxySource, Result,
    credentials::{Credentials, bare, embedded, redacted},
    error::SentCredentials,
    retry::{Stage, is_transient, retry_after},
};

/// As many redirects as browsers and curl follow, roughly.
const MOST_REDIRECTS: usize = 10;

/// Downloads things. Clones share their connections; the HTTP client, and with it the trust store, is loaded at the
/// first request.
#[derive(Clone, Debug)]
pub struct Fetcher {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: FetchConfig,
    credentials: Credentials,
    client: OnceLock<Result<Client, String>>,
    slots: Semaphore,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) what: &'a str,
    pub(crate) url: &'a Url,
}

impl Wanted<'_> {
    pub(crate) fn host(&self) -> String {
        host(self.url)
    }
}

/// A host as messages name it.
fn host(url: &Url) -> String {
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => "this machine".to_owned(),
    }
}

/// A failed try.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: FetchError,
    pub(crate) stage: Stage,
    pub(crate) retry_after: Option<Duration>,
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        Self { error, stage: Stage::Connected, retry_after: None }
    }
}

impl Fetcher {
    /// A fetcher that has done nothing yet.
    pub fn new(config: FetchConfig) -> Self {
        let credentials = Credentials::new(config.netrc.clone());
        let slots = Semaphore::new(config.concurrency.clamp(1, Semaphore::MAX_PERMITS));
        Self { shared: Arc::new(Shared { config, credentials, client: OnceLock::new(), slots }) }
    }

    pub(crate) fn config(&self) -> &FetchConfig {
        &self.shared.config
    }

    /// Waits for leave to make an exchange.
    pub(crate) async fn slot(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        self.shared.slots.acquire().await.ok()
    }

    fn client(&self) -> Result<&Client> {
        let client = self.shared.client.get_or_init(|| build(&self.shared.config));
        client.as_ref().map_err(|reason| FetchError::Client(reason.clone()))
    }

    /// Sends a GET and follows redirects. What comes back has one of the `hoped` statuses.
    pub(crate) async fn get_response(
        &self,
        wanted: Wanted<'_>,
        headers: &[(HeaderName, HeaderValue)],
        hoped: &[StatusCode],
    ) -> Result<Response, Failure> {
        let client = self.client()?;
        let mut login = embedded(wanted.url);
        let mut url = bare(wanted.url);
        for _ in 0..=MOST_REDIRECTS {
            let mut request = client.get(url.clone());
            for (name, value) in headers {
                request = request.header(name, value);
            }
            let login_here = login.as_ref().or_else(|| self.shared.credentials.for_host(url.host_str()?));
            if let Some(login) = login_here {
                request = request.basic_auth(&login.name, Some(&login.password));
            }
            let here = Wanted { what: wanted.what, url: &url };
            let response = request.send().await.map_err(|error| self.explain(here, &error))?;
            let status = response.status();
            if hoped.contains(&status) {
                return Ok(response);
            }
            let location = response.headers().get(header::LOCATION);
            let Some(location) = location.filter(|_| is_redirect(status)) else {
                let sent = if login_here.is_some() { SentCredentials::Yes } else { SentCredentials::No };
                return Err(refusal(here, &response, sent));
            };
            let next = follow(here, location)?;
            if next.origin() != url.origin() {
                login = None;
            }
            url = next;
        }
        Err(redirect(wanted, "more than ten times").into())
    }

    /// What a failed request means to the user.
    pub(crate) fn explain(&self, wanted: Wanted<'_>, error: &reqwest::Error) -> Failure {
        let what = wanted.what.to_owned();
        let host = wanted.host();
        let proxy = self.proxy_for(wanted.url);
        let stage = if error.is_connect() { Stage::Connecting } else { Stage::Connected };
        let reason = root_cause(error);
        let error = if let Some(tls) = tls_error(error) {
            use rustls::CertificateError::UnknownIssuer;
            match tls {
                rustls::Error::InvalidCertificate(UnknownIssuer) => {
                    FetchError::UnknownAuthority { what, host }
                }
                other => FetchError::Tls { what, host, reason: other.to_string() },
            }
        } else if error.is_dns() {
            FetchError::Dns { what, host, proxy }
        } else if let (Some(proxy), true) = (&proxy, reason.starts_with("tunnel error")) {
            FetchError::Proxy { what, host, proxy: proxy.clone(), reason }
        } else if error.is_connect() {
            FetchError::Connect { what, host, proxy, reason }
        } else if error.is_timeout() {
            FetchError::Silence { what, host, after: self.config().idle_timeout }
        } else {
            FetchError::Interrupted { what, host, received: 0, reason }
        };
        Failure { error, stage, retry_after: None }
    }

    /// The proxy that a URL is reached through, as messages name it.
    fn proxy_for(&self, url: &Url) -> Option<String> {
        match &self.config().proxy {
            ProxySource::Direct => None,
            ProxySource::Fixed(proxy) => Some(redacted(proxy)),
            ProxySource::Environment => {
                let proxy = Matcher::from_system().intercept(&bare(url).as_str().parse().ok()?)?;
                Some(redacted(&Url::parse(&proxy.uri().to_string()).ok()?))
            }
        }
    }
}

fn build(config: &FetchConfig) -> Result<Client, String> {
    let builder = || {
        let builder = Client::builder()
            .user_agent(&config.user_agent)
            .connect_timeout(config.connect_timeout)
            .read_timeout(config.idle_timeout)
            // Followed here, where it is decided what goes along.
            .redirect(reqwest::redirect::Policy::none())
            // Retried here as well.
            .retry(reqwest::retry::never());
        match &config.proxy {
            ProxySource::Environment => Ok(builder),
            ProxySource::Direct => Ok(builder.no_proxy()),
            ProxySource::Fixed(url) => Ok(builder.no_proxy().proxy(reqwest::Proxy::all(url.clone())?)),
        }
    };
    let with_trust = builder().and_then(reqwest::ClientBuilder::build);
    // A machine without any trusted authority can still use plain http (Debian's mirrors, where signatures and hashes
    // do the rest); https then fails as for an unknown authority.
    with_trust
        .or_else(|_| builder().and_then(|builder| builder.tls_certs_only([]).build()))
        .map_err(|error| root_cause(&error))
}

const fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Where a redirect leads.
fn follow(here: Wanted<'_>, location: &HeaderValue) -> Result<Url> {
    let target = location.to_str().ok().and_then(|location| here.url.join(location).ok());
    let Some(target) = target else {
        return Err(redirect(here, "to something that is not a URL"));
    };
    match (here.url.scheme(), target.scheme()) {
        (_, "https") | ("http", "http") => Ok(bare(&target)),
        ("https", "http") => Err(redirect(here, "from https to http, which is not followed")),
        (_, other) => Err(redirect(here, &format!("to a URL of scheme {other}, which is not followed"))),
    }
}

fn redirect(here: Wanted<'_>, reason: &str) -> FetchError {
    FetchError::Redirect { what: here.what.to_owned(), host: here.host(), reason: reason.to_owned() }
}

/// What an answer that nobody hoped for means to the user.
fn refusal(wanted: Wanted<'_>, response: &Response, sent_credentials: SentCredentials) -> Failure {
    let what = wanted.what.to_owned();
    let host = wanted.host();
    let url = redacted(wanted.url);
    let status = response.status();
    let error = match status.as_u16() {
        404 | 410 => FetchError::NotFound { what, host, url },
        401 | 403 | 407 => FetchError::Refused { what, host, url, status, sent_credentials },
        _ => FetchError::Status { what, host, url, status, is_retryable: is_transient(status) },
    };
    let after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = after.and_then(|value| retry_after(value, SystemTime::now()));
    Failure { error, stage: Stage::Connected, retry_after }
}

/// The innermost cause, which says most: `Connection refused`, not `error sending request`.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// The TLS error among the causes. `io::Error` hides what it wraps from `source`.
fn tls_error(error: &reqwest::Error) -> Option<&rustls::Error> {
    let mut next = error.source();
    while let Some(cause) = next {
        if let Some(tls) = cause.downcast_ref() {
            return Some(tls);
        }
        next = match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => cause.source(),
        };
    }
    None
}

/// A header of a response as text.
pub(crate) fn text_header(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}
