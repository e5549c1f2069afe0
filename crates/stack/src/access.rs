//! Who has credentials for which registry: the connectors of registered container registries, then the docker
//! configuration.

use std::{collections::BTreeMap, sync::Arc};

use futures::{FutureExt as _, future::BoxFuture};
use longshore_auth::{
    AuthError, CredentialSource, DockerConfig, Environment, Found, Problem, Sources, Target,
    aws::{Created, Immutability, RepositorySettings, ScanOnPush},
    connector::{Config, ConfigError, Connector, ConnectorType},
};
use longshore_endpoint::{Hosts, Web};
use longshore_oci::Repository;

use crate::{
    ComponentKind, ContainerRegistry, Creation, EcrRepositories, Mutability, Name, RegistryUri,
    RemoteRegistry, RemoteStore, Scan, State, StateError,
};

/// The registered container registries, each with its connector.
#[derive(Clone, Debug)]
pub struct Access {
    registries: Vec<Connected>,
    docker: Arc<dyn CredentialSource>,
    web: Web,
    hosts: Hosts,
}

/// A registry that is connected to a connector. The connector's credentials are for what is below its URI.
#[derive(Clone, Debug)]
struct Connected {
    uri: RegistryUri,
    name: Name,
    /// One that cannot be used is an error for those who need it, and for nobody else.
    connector: Result<Arc<Connector>, AuthError>,
}

/// A source that cannot be used: whoever asks it is told why.
#[derive(Debug)]
struct Unusable(AuthError);

/// Why it cannot be told who has credentials.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// The database cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// A connector or the docker configuration is unusable.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The URI of a registry cannot be used.
    #[error(transparent)]
    Uri(#[from] crate::UriError),
    /// The connector of the environment cannot be configured.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A repository of Amazon's that only Amazon's credentials can make.
    #[error(
        "the repository {repository} does not exist and cannot be made: container registry {registry} is not connected to a \
         service connector of type aws; connect it to one, or create the repository and set --create-repositories=false"
    )]
    NotAws {
        /// The container registry.
        registry: String,
        /// The repository.
        repository: String,
    },
}

impl Access {
    /// Reads which registries are connected to which connectors. `preferred` decides where several registries that are
    /// registered have the same URI: it is the one that the stack has.
    pub fn open(
        state: &State,
        preferred: Option<&Name>,
        web: Web,
        hosts: Hosts,
        environment: &Environment,
    ) -> Result<Self, AccessError> {
        let mut registries = Vec::new();
        for component in state.components(ComponentKind::ContainerRegistry)? {
            let Some(ContainerRegistry::Remote(registry)) = component.container_registry()? else { continue };
            let Some(name) = &registry.connector else { continue };
            let connector = open(state, name, web.clone(), hosts.clone());
            let connector = connector.map(|connector| Arc::new(connector.bound_to(registry.uri.host())));
            let connected = Connected { uri: registry.uri, name: name.clone(), connector };
            registries.push((preferred == Some(&registry.name), connected));
        }
        // What is said of a part of a registry counts more than what is said of all of it.
        let depth = |uri: &RegistryUri| uri.namespace().map_or(0, str::len);
        registries.sort_by_key(|(is_preferred, connected)| {
            (std::cmp::Reverse(depth(&connected.uri)), std::cmp::Reverse(*is_preferred))
        });
        let registries = registries.into_iter().map(|(_, connected)| connected).collect();
        let docker: Arc<dyn CredentialSource> = match DockerConfig::discover(environment) {
            Ok(docker) => Arc::new(docker),
            Err(error) => Arc::new(Unusable(error)),
        };
        Ok(Self { registries, docker, web, hosts })
    }

    /// The credentials of all of them.
    pub fn sources(&self) -> Sources {
        let connected = self.registries.iter().map(|connected| Arc::new(connected.clone()) as _);
        Sources(connected.chain([Arc::clone(&self.docker) as _]).collect())
    }

    /// Makes a repository of Amazon's registry, with the credentials that are used for pushing to it, or those of the
    /// environment where there is no connector.
    pub async fn make_repository(
        &self,
        registry: &RemoteRegistry,
        settings: &EcrRepositories,
        repository: &Repository,
    ) -> Result<Created, AccessError> {
        let named = registry.connector.as_ref();
        let connected = self.registries.iter().find(|connected| Some(&connected.name) == named);
        let connector = if let Some(connected) = connected {
            connected.connector.clone()?
        } else {
            let config = Config::new(ConnectorType::Aws, "implicit", BTreeMap::new())?;
            let name = "of the environment".to_owned();
            Arc::new(Connector::new(name, config, self.web.clone(), self.hosts.clone())?)
        };
        let not_aws = || AccessError::NotAws {
            registry: registry.name.to_string(),
            repository: repository.to_string(),
        };
        let ecr = connector.ecr(repository.host()).ok_or_else(not_aws)?;
        Ok(ecr.create_repository(repository.path(), &creation_settings(settings)).await?)
    }
}

/// The service connector that a component is connected to; without one, that of the cloud's own tools and environment.
pub fn connector(
    state: &State,
    name: Option<&Name>,
    of: ConnectorType,
    web: Web,
    hosts: Hosts,
) -> Result<Connector, AccessError> {
    if let Some(name) = name {
        return Ok(open(state, name, web, hosts)?);
    }
    let config = Config::new(of, "implicit", BTreeMap::new())?;
    Ok(Connector::new("of the environment".to_owned(), config, web, hosts)?)
}

/// The service connector that an artifact store is connected to, if it is to one.
pub fn store_connector(
    state: &State,
    store: &RemoteStore,
    web: Web,
    hosts: Hosts,
) -> Result<Option<Connector>, AccessError> {
    Ok(store.connector.as_ref().map(|name| open(state, name, web, hosts)).transpose()?)
}

/// The connector of that name.
fn open(state: &State, name: &Name, web: Web, hosts: Hosts) -> Result<Connector, AuthError> {
    let unusable = |error: StateError| AuthError {
        origin: format!("service connector {name}"),
        problem: Problem::Unusable {
            what: error.to_string(),
            remedy: format!("register it anew, or `longshore service-connector update {name} …`"),
        },
    };
    let config = state.connector(name.as_str()).map_err(unusable)?;
    Connector::new(name.to_string(), config, web, hosts)
}

fn creation_settings(settings: &EcrRepositories) -> RepositorySettings {
    RepositorySettings {
        immutability: match settings.tags_are {
            Mutability::Mutable => Immutability::Mutable,
            Mutability::Immutable => Immutability::Immutable,
        },
        scan_on_push: match settings.scan {
            Scan::OnPush => ScanOnPush::On,
            Scan::OnDemand => ScanOnPush::Off,
        },
        kms_key: settings.kms_key.clone(),
        tags: settings.tags.clone(),
    }
}

impl RemoteRegistry {
    /// How repositories are made when something is pushed to one that does not exist; none if they are not.
    pub fn creation(&self) -> Option<&EcrRepositories> {
        self.repositories.as_ref().filter(|settings| settings.creation == Creation::OnPush)
    }
}

impl Connected {
    fn has(&self, target: Target<'_>) -> bool {
        target.host == self.uri.host()
            && self.uri.namespace().is_none_or(|namespace| {
                target.repository.is_none_or(|path| {
                    path.strip_prefix(namespace).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                })
            })
    }
}

impl CredentialSource for Connected {
    fn credential<'a>(&'a self, target: Target<'a>) -> BoxFuture<'a, Result<Found, AuthError>> {
        async move {
            if !self.has(target) {
                return Ok(Found::Nothing);
            }
            match &self.connector {
                Ok(connector) => connector.credential(target).await,
                Err(error) => Err(error.clone()),
            }
        }
        .boxed()
    }

    fn forget(&self, target: Target<'_>) {
        if let (true, Ok(connector)) = (self.has(target), &self.connector) {
            connector.forget(target);
        }
    }
}

impl CredentialSource for Unusable {
    fn credential<'a>(&'a self, _: Target<'a>) -> BoxFuture<'a, Result<Found, AuthError>> {
        async move { Err(self.0.clone()) }.boxed()
    }

    fn forget(&self, _: Target<'_>) {}
}
