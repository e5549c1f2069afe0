//! HTTP clients, and what their errors mean.

use std::{
    collections::HashMap,
    error::Error as _,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::Client;
use url::Url;

use crate::{Endpoint, Fault, Stage, bare, redacted};

/// How hosts are reached. The default serves everywhere but in tests.
#[derive(Clone, Debug)]
pub struct WebConfig {
    /// The `User-Agent`.
    pub user_agent: String,
    /// How long a connection may take to come about, TLS included.
    pub connect_timeout: Duration,
    /// How long a server may send nothing. There is no limit on the whole.
    pub idle_timeout: Duration,
    /// Where proxies are looked up.
    pub proxy: ProxySource,
}

/// Where proxies are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxySource {
    /// In the environment.
    Environment,
    /// Nowhere: every host is reached directly.
    Direct,
    /// For every host this one.
    Fixed(Url),
}

impl Default for WebConfig {
    fn default() -> Self {
        Self {
            user_agent: concat!("longshore/", env!("CARGO_PKG_VERSION")).to_owned(),
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            proxy: ProxySource::Environment,
        }
    }
}

/// Makes HTTP clients. Clones share them; a client, and with it the trust store, is made when it is first asked for.
#[derive(Clone, Debug)]
pub struct Web {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: WebConfig,
    clients: Mutex<Clients>,
}

/// By the file of further authorities, `None` for hosts without one.
type Clients = HashMap<(Option<PathBuf>, Watch), Result<Client, Fault>>;

/// Who notices that a server sends nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Watch {
    Client,
    Caller,
}

impl Web {
    /// No client is made yet.
    pub fn new(config: WebConfig) -> Self {
        Self { shared: Arc::new(Shared { config, clients: Mutex::default() }) }
    }

    /// How hosts are reached.
    pub fn config(&self) -> &WebConfig {
        &self.shared.config
    }

    /// The client for hosts that `hosts.toml` says nothing about. It follows no redirects and retries nothing.
    pub fn client(&self) -> Result<Client, Fault> {
        self.client_trusting(None, Watch::Client)
    }

    /// The client for an endpoint: one that trusts its certificate authorities too.
    pub fn client_for(&self, endpoint: &Endpoint) -> Result<Client, Fault> {
        self.client_trusting(endpoint.authorities.as_deref(), Watch::Client)
    }

    /// The client for an endpoint that large bodies are sent to. Its caller watches for silence: reqwest counts the
    /// time that sending takes as silence of the server.
    pub fn unwatched_client_for(&self, endpoint: &Endpoint) -> Result<Client, Fault> {
        self.client_trusting(endpoint.authorities.as_deref(), Watch::Caller)
    }

    fn client_trusting(&self, authorities: Option<&Path>, watch: Watch) -> Result<Client, Fault> {
        // A panic while a client is made leaves nothing half written in the map.
        let mut clients = self.shared.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (authorities.map(Path::to_owned), watch);
        if let Some(made) = clients.get(&key) {
            return made.clone();
        }
        let made = build(&self.shared.config, authorities, watch);
        clients.insert(key, made.clone());
        made
    }

    /// What a failed exchange with `url` means to the user, and how far it got.
    pub fn explain(&self, url: &Url, error: &reqwest::Error) -> (Fault, Stage) {
        let host = host(url);
        let proxy = self.proxy_for(url);
        let stage = if error.is_connect() { Stage::Connecting } else { Stage::Connected };
        let reason = root_cause(error);
        let fault = if let Some(tls) = tls_error(error) {
            use rustls::{CertificateError::UnknownIssuer, Error};
            match tls {
                Error::InvalidCertificate(UnknownIssuer) => Fault::UnknownAuthority { host },
                // What an HTTP server answers to a TLS greeting is not a TLS record.
                Error::InvalidMessage(_) => Fault::NotTls { host },
                // What `openssl req -x509` makes by default; libraries differ in whether they take it.
                Error::InvalidCertificate(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
                    let reason = "its certificate is that of an authority (CA:TRUE), not of a host; give the host one \
                                  that an authority has signed"
                        .to_owned();
                    Fault::Tls { host, reason }
                }
                other => Fault::Tls { host, reason: other.to_string() },
            }
        } else if error.is_dns() {
            Fault::Dns { host, proxy }
        } else if let (Some(proxy), true) = (&proxy, reason.starts_with("tunnel error")) {
            Fault::Proxy { host, proxy: proxy.clone(), reason }
        } else if error.is_connect() {
            Fault::Connect { host, proxy, reason }
        } else if error.is_timeout() {
            Fault::Silence { host, after: self.shared.config.idle_timeout }
        } else {
            Fault::Broken { host, reason }
        };
        (fault, stage)
    }

    /// The proxy that a URL is reached through, as messages name it.
    fn proxy_for(&self, url: &Url) -> Option<String> {
        match &self.shared.config.proxy {
            ProxySource::Direct => None,
            ProxySource::Fixed(proxy) => Some(redacted(proxy)),
            ProxySource::Environment => {
                let proxy = Matcher::from_system().intercept(&bare(url).as_str().parse().ok()?)?;
                Some(redacted(&Url::parse(&proxy.uri().to_string()).ok()?))
            }
        }
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

fn build(config: &WebConfig, authorities: Option<&Path>, watch: Watch) -> Result<Client, Fault> {
    let extra = authorities.map(read_certificates).transpose()?;
    let builder = || {
        let mut builder = Client::builder()
            .user_agent(&config.user_agent)
            .connect_timeout(config.connect_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never());
        if watch == Watch::Client {
            builder = builder.read_timeout(config.idle_timeout);
        }
        match &config.proxy {
            ProxySource::Environment => Ok(builder),
            ProxySource::Direct => Ok(builder.no_proxy()),
            ProxySource::Fixed(url) => Ok(builder.no_proxy().proxy(reqwest::Proxy::all(url.clone())?)),
        }
    };
    let with_trust = builder().and_then(|builder| match &extra {
        Some(extra) => builder.tls_certs_merge(extra.iter().cloned()).build(),
        None => builder.build(),
    });
    // A machine without any trusted authority can still use plain HTTP (Debian's mirrors, where signatures and hashes
    // do the rest); HTTPS then fails as for an unknown authority.
    with_trust
        .or_else(|_| builder()?.tls_certs_only(extra.clone().unwrap_or_default()).build())
        .map_err(|error| Fault::Client(root_cause(&error)))
}

fn read_certificates(path: &Path) -> Result<Vec<reqwest::Certificate>, Fault> {
    let fault = |reason: String| Fault::Certificates { path: path.display().to_string(), reason };
    let pem = fs::read(path).map_err(|error| fault(error.to_string()))?;
    let certificates =
        reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| fault(root_cause(&error)))?;
    if certificates.is_empty() {
        Err(fault("it has none in PEM format".to_owned()))
    } else {
        Ok(certificates)
    }
}

/// The innermost cause, which says most: `Connection refused`, not `error sending request`.
pub fn root_cause(error: &reqwest::Error) -> String {
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
