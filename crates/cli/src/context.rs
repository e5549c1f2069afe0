//! What commands work with: the folders of this machine, opened when a command first needs them.

use std::{
    env,
    sync::{Arc, Mutex, PoisonError},
};

use longshore_auth::Environment;
use longshore_build::{Builder, BuilderParts, Images, cache::Hold};
use longshore_client::{Client, ClientConfig};
use longshore_endpoint::{Hosts, Web, WebConfig};
use longshore_fetch::{FetchConfig, Fetcher};
use longshore_python::uv::Search;
use longshore_sandbox::Snapshots;
use longshore_stack::{Access, ContainerRegistry, Home, Name, State};
use longshore_store::{BlobStore, Registry, Table};

use crate::failure::Failure;

/// What the names of images in the embedded registry begin with.
pub(crate) const URI: &str = ContainerRegistry::EMBEDDED_URI;

/// The folders of this machine.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// Where everything is.
    pub(crate) home: Home,
    /// The caches, while this process may use them.
    hold: Arc<Mutex<Option<Hold>>>,
}

/// Other registries than the embedded one.
#[derive(Clone, Debug)]
pub(crate) struct Registries {
    /// Who has credentials for them.
    pub(crate) access: Access,
    /// What talks to them.
    pub(crate) client: Client,
}

impl Context {
    /// The folders that the environment names.
    pub(crate) fn from_env() -> Result<Self, Failure> {
        Ok(Self { home: Home::from_env(|name| env::var_os(name))?, hold: Arc::default() })
    }

    /// Keeps others from removing what this process may use, until it ends or [lets go](Self::let_go).
    fn use_caches(&self) {
        let mut hold = self.hold.lock().unwrap_or_else(PoisonError::into_inner);
        if hold.is_none() {
            *hold = Some(Hold::shared(self.home.cache()));
        }
    }

    /// This process uses the caches no more.
    pub(crate) fn let_go(&self) {
        *self.hold.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The embedded registry.
    pub(crate) fn registry(&self) -> Result<Registry, Failure> {
        Ok(Registry::open(self.home.registry())?)
    }

    /// The images of the embedded registry, as folders to run in.
    pub(crate) fn images(&self, registry: &Registry) -> Result<Images, Failure> {
        self.use_caches();
        let snapshots = Snapshots::open(self.home.snapshots())?;
        Ok(Images::new(registry.blobs().clone(), snapshots, self.home.sandboxes()))
    }

    /// The record of builds and runs.
    pub(crate) fn state(&self) -> Result<State, Failure> {
        Ok(State::open(&self.home.database())?)
    }

    /// What sends requests, and where hosts are served.
    pub(crate) fn network(&self) -> Result<(Web, Hosts), Failure> {
        Ok((Web::new(WebConfig::default()), Hosts::load(&self.home.hosts_file())?))
    }

    /// Other registries, with the credentials of those that are registered; `preferred` is that of the stack.
    pub(crate) fn registries(&self, state: &State, preferred: Option<&Name>) -> Result<Registries, Failure> {
        let (web, hosts) = self.network()?;
        let environment = Environment::process();
        let access = Access::open(state, preferred, web.clone(), hosts.clone(), &environment)?;
        let client = Client::new(ClientConfig {
            hosts,
            web,
            credentials: access.sources(),
            capabilities: Some(self.home.capabilities()),
            ..ClientConfig::default()
        });
        Ok(Registries { access, client })
    }

    /// The native builder.
    pub(crate) fn builder(&self, client: Client) -> Result<Builder, Failure> {
        let registry = self.registry()?;
        let images = self.images(&registry)?;
        let own_folder = env::current_exe().ok().and_then(|program| Some(program.parent()?.to_owned()));
        let search =
            Search { folders: own_folder.into_iter().collect(), path: env::var_os("PATH"), python: None };
        Ok(Builder::new(BuilderParts {
            registry,
            uri: URI,
            images,
            client,
            table: Table::open(self.home.table())?,
            downloads: BlobStore::open(self.home.downloads())?,
            fetcher: Fetcher::new(FetchConfig::default()),
            uv: search,
            epoch: env::var("SOURCE_DATE_EPOCH").ok(),
        })?)
    }
}
