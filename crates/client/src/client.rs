//! The client, and where registries are.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use http::{Method, StatusCode};
use jiff::Timestamp;
use longshore_oci::Repository;

use crate::{
    ClientConfig, ClientError, Quota, Result,
    capability::Capabilities,
    exchange::Call,
    pace::Metronome,
    reader::Buffers,
    refusal::is_web_page,
    scope::Scopes,
    site::{Place, Role, Site},
};

/// The largest answer to a ping.
const LARGEST_PING: u64 = 1 << 20;

/// What a registry answers to a ping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pong {
    /// What its clock says, to the second.
    pub date: Option<Timestamp>,
}

/// Speaks with registries. Clones share connections, tokens and what is known of registries.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: ClientConfig,
    sites: Mutex<HashMap<Place, Arc<Site>>>,
    capabilities: Capabilities,
    buffers: Buffers,
}

impl Client {
    /// A client that has asked nobody yet.
    pub fn new(config: ClientConfig) -> Self {
        let capabilities = Capabilities::load(config.capabilities.clone());
        let shared = Shared { config, sites: Mutex::default(), capabilities, buffers: Buffers::default() };
        Self { shared: Arc::new(shared) }
    }

    /// What it was told.
    pub fn config(&self) -> &ClientConfig {
        &self.shared.config
    }

    pub(crate) fn capabilities(&self) -> &Capabilities {
        &self.shared.capabilities
    }

    pub(crate) fn buffers(&self) -> &Buffers {
        &self.shared.buffers
    }

    /// Where a registry itself is.
    pub(crate) fn server(&self, host: &str) -> Arc<Site> {
        let endpoint = self.config().hosts.registry(host).server;
        self.site(Place { endpoint, name: host.to_owned(), role: Role::Server })
    }

    /// A registry's mirrors, in the order in which they are asked.
    fn mirrors(&self, host: &str) -> Vec<Arc<Site>> {
        let mirrors = self.config().hosts.registry(host).mirrors.into_iter();
        let places = mirrors.map(|endpoint| Place { name: endpoint.name(), endpoint, role: Role::Mirror });
        places.map(|place| self.site(place)).collect()
    }

    fn site(&self, place: Place) -> Arc<Site> {
        // Nothing that could panic happens while the map is locked.
        let mut sites = self.shared.sites.lock().unwrap_or_else(PoisonError::into_inner);
        let site = sites.entry(place).or_insert_with_key(|place| {
            Arc::new(Site::new(place.clone(), Metronome::new(self.shared.config.pace)))
        });
        Arc::clone(site)
    }

    /// Asks a registry's mirrors, and the registry itself if none of them can answer.
    pub(crate) async fn reading<T, F>(&self, host: &str, ask: impl Fn(Arc<Site>) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        for mirror in self.mirrors(host) {
            if mirror.is_down() {
                continue;
            }
            match ask(Arc::clone(&mirror)).await {
                Err(ClientError::Sink { what, source }) => return Err(ClientError::Sink { what, source }),
                Err(error) => {
                    tracing::debug!(mirror = mirror.shown(), %error, "mirror passed over");
                    if matches!(error, ClientError::Unreachable { .. }) {
                        mirror.note_down();
                    }
                }
                done => return done,
            }
        }
        ask(self.server(host)).await
    }

    /// Asks whether a registry is there and accepts the credentials for it.
    pub async fn ping(&self, host: &str) -> Result<Pong> {
        let what = format!("reach the registry {host}");
        let site = self.server(host);
        let call = Call::new(&what, Method::GET, site.api(&what, "v2/")?, Scopes::none());
        let answer = self.exchange_whole(&site, &call, &[StatusCode::OK], LARGEST_PING).await?;
        if is_web_page(answer.content_type(), &answer.bytes) {
            let url = longshore_endpoint::redacted(&answer.url);
            return Err(ClientError::NotRegistry { what, url });
        }
        let date = answer.named("date").and_then(|date| httpdate::parse_http_date(date).ok());
        Ok(Pong { date: date.and_then(|date| date.try_into().ok()) })
    }

    /// What a registry last said of its limit on pulls, if it says anything (Docker Hub does).
    pub fn quota(&self, host: &str) -> Option<Quota> {
        self.server(host).quota()
    }
}

/// A path in a repository's API: `v2/library/python/tags/list`.
pub(crate) fn path(repository: &Repository, rest: &str) -> String {
    format!("v2/{}/{rest}", repository.path())
}
