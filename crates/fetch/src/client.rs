//! One exchange: a request, its redirects, and a response that has a body to read.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use longshore_endpoint::{Fault, Stage, Web, bare, is_transient, redacted, retry_after, root_cause};
use reqwest::Response;
use tokio::sync::{Semaphore, SemaphorePermit};
use url::{Origin, Url};

use crate::{
    FetchConfig, FetchError, Result,
    credentials::{Credentials, embedded},
    error::SentCredentials,
    netrc::Login,
};

/// As many redirects as browsers and curl follow, roughly.
const MOST_REDIRECTS: usize = 10;

/// Downloads things. Clones share their connections; the HTTP client, and with it the trust store, is loaded at the
/// first request.
#[derive(Clone, Debug)]
pub struct Fetcher {
    shared: Arc<Shared>,
    /// The credentials of origins.
    logins: Arc<[(Origin, Login)]>,
}

#[derive(Debug)]
struct Shared {
    config: FetchConfig,
    credentials: Credentials,
    web: Web,
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
        let shared = Arc::new(Shared { web: Web::new(config.web.clone()), config, credentials, slots });
        Self { shared, logins: Arc::new([]) }
    }

    /// The same fetcher, with credentials for the scheme, host and port of each URL: a name and a password, sent in a
    /// header to exactly that origin. They go before those that are looked up.
    pub fn with_logins(&self, logins: impl IntoIterator<Item = (Url, String, String)>) -> Self {
        let logins = logins.into_iter().map(|(url, name, password)| (url.origin(), Login { name, password }));
        Self { shared: Arc::clone(&self.shared), logins: logins.collect() }
    }

    /// Who asks at a URL.
    fn login_at(&self, url: &Url) -> Option<&Login> {
        let origin = url.origin();
        let given = self.logins.iter().find(|(known, _)| *known == origin).map(|(_, login)| login);
        given.or_else(|| self.shared.credentials.for_host(url.host_str()?))
    }

    pub(crate) fn config(&self) -> &FetchConfig {
        &self.shared.config
    }

    /// Waits for leave to make an exchange.
    pub(crate) async fn slot(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        self.shared.slots.acquire().await.ok()
    }

    /// Sends a GET and follows redirects. What comes back has one of the `hoped` statuses.
    pub(crate) async fn get_response(
        &self,
        wanted: Wanted<'_>,
        headers: &[(HeaderName, HeaderValue)],
        hoped: &[StatusCode],
    ) -> Result<Response, Failure> {
        let unreachable = |fault| FetchError::Unreachable { what: wanted.what.to_owned(), fault };
        let client = self.shared.web.client().map_err(unreachable)?;
        let mut login = embedded(wanted.url);
        let mut url = bare(wanted.url);
        for _ in 0..=MOST_REDIRECTS {
            let mut request = client.get(url.clone());
            for (name, value) in headers {
                request = request.header(name, value);
            }
            let login_here = login.as_ref().or_else(|| self.login_at(&url));
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
        let (fault, stage) = self.shared.web.explain(wanted.url, error);
        let error = match fault {
            // Downloads know how much had arrived.
            Fault::Broken { host, .. } => {
                FetchError::Interrupted { what, host, received: 0, reason: root_cause(error) }
            }
            fault => FetchError::Unreachable { what, fault },
        };
        Failure { error, stage, retry_after: None }
    }
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

/// A header of a response as text.
pub(crate) fn text_header(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}
