//! The components of stacks.

use std::{collections::BTreeMap, num::NonZeroU32};

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    ComponentKind, Configuration, EcrRepositories, Flavor, Name, OrchestratorFlavor, RegistryFlavor,
    RegistryUri, StoreFlavor, StoreUri, StoreUriError, UriError, Values,
};

/// A registered component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// Its name, one among the components of its kind.
    pub name: Name,
    /// Its flavor and the values that it takes.
    pub configuration: Configuration,
    /// The service connector that gives its credentials.
    pub connector: Option<Name>,
    /// Who made it.
    pub origin: Origin,
    /// When it was registered.
    pub created: Timestamp,
    /// When it was changed last.
    pub updated: Timestamp,
}

/// Who made something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// It is always there and never changes.
    BuiltIn,
    /// The user.
    Registered,
}

impl Component {
    /// What it is for.
    pub const fn kind(&self) -> ComponentKind {
        self.flavor().kind()
    }

    /// Its flavor.
    pub const fn flavor(&self) -> Flavor {
        self.configuration.flavor()
    }

    /// The configuration values that were given.
    pub const fn values(&self) -> &Values {
        self.configuration.values()
    }

    /// The orchestrator that it is, if it is one.
    pub fn orchestrator(&self) -> Option<Orchestrator> {
        Some(match self.flavor() {
            Flavor::LocalOrchestrator => {
                Orchestrator::Local { max_parallelism: self.configuration.max_parallelism() }
            }
            Flavor::LocalContainerOrchestrator => {
                Orchestrator::LocalContainer { max_parallelism: self.configuration.max_parallelism() }
            }
            Flavor::Orchestrator(flavor) => Orchestrator::Remote(Box::new(RemoteOrchestrator {
                name: self.name.clone(),
                flavor,
                values: self.values().clone(),
                connector: self.connector.clone(),
            })),
            _ => return None,
        })
    }

    /// The artifact store that it is, if it is one.
    pub fn artifact_store(&self) -> Result<Option<ArtifactStore>, StoreUriError> {
        let flavor = match self.flavor() {
            Flavor::LocalStore => return Ok(Some(ArtifactStore::Local)),
            Flavor::Store(flavor) => flavor,
            _ => return Ok(None),
        };
        let variable =
            |(field, value): (&String, &String)| Some((flavor.variable(field)?.to_owned(), value.clone()));
        Ok(Some(ArtifactStore::Remote(Box::new(RemoteStore {
            name: self.name.clone(),
            flavor,
            uri: self.configuration.store_uri()?,
            environment: self.values().iter().filter_map(variable).collect(),
            values: self.values().clone(),
            connector: self.connector.clone(),
        }))))
    }

    /// The container registry that it is, if it is one.
    pub fn container_registry(&self) -> Result<Option<ContainerRegistry>, UriError> {
        let flavor = match self.flavor() {
            Flavor::EmbeddedRegistry => return Ok(Some(ContainerRegistry::Embedded)),
            Flavor::Registry(flavor) => flavor,
            _ => return Ok(None),
        };
        Ok(Some(ContainerRegistry::Remote(Box::new(RemoteRegistry {
            name: self.name.clone(),
            flavor,
            uri: self.configuration.uri()?,
            default_repository: self.configuration.default_repository(),
            repositories: self.configuration.repositories(),
            connector: self.connector.clone(),
        }))))
    }
}

/// What runs the steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Orchestrator {
    /// All steps with the user's own Python on this machine, with no image: in one process, or, several at a time, each in
    /// one of its own.
    Local {
        /// How many steps may run at a time; one if nothing is said.
        max_parallelism: Option<NonZeroU32>,
    },
    /// Each step in a container on this machine.
    LocalContainer {
        /// How many steps may run at a time; as many as there are processors if nothing is said.
        max_parallelism: Option<NonZeroU32>,
    },
    /// Steps run on other machines.
    Remote(Box<RemoteOrchestrator>),
}

/// An orchestrator that runs steps on other machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteOrchestrator {
    /// The component's name.
    pub name: Name,
    /// Its flavor.
    pub flavor: OrchestratorFlavor,
    /// What its flavor's fields say.
    pub values: Values,
    /// The service connector that gives its credentials.
    pub connector: Option<Name>,
}

/// Where images are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerRegistry {
    /// The registry in longshore's own data folder.
    Embedded,
    /// A registry elsewhere.
    Remote(Box<RemoteRegistry>),
}

/// A registry that is reached over the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteRegistry {
    /// The component's name.
    pub name: Name,
    /// Its flavor.
    pub flavor: RegistryFlavor,
    /// Where its images are.
    pub uri: RegistryUri,
    /// The repository below the URI for images whose settings name none, instead of the pipeline's name.
    pub default_repository: Option<String>,
    /// How repositories are made, where a push does not make them by itself.
    pub repositories: Option<EcrRepositories>,
    /// The service connector that gives its credentials. Without one they come from the docker configuration.
    pub connector: Option<Name>,
}

impl ContainerRegistry {
    /// What the names of images in the embedded registry begin with. `longshore registry serve` listens there by
    /// default, so the names that a build prints can be pulled once it runs.
    pub const EMBEDDED_URI: &'static str = "localhost:5000";

    /// What the names of its images begin with.
    pub fn uri(&self) -> String {
        match self {
            Self::Embedded => Self::EMBEDDED_URI.to_owned(),
            Self::Remote(registry) => registry.uri.to_string(),
        }
    }
}

/// What builds images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageBuilder {
    /// longshore itself, on this machine.
    Native,
}

/// Where the steps' outputs are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArtifactStore {
    /// A folder on this machine.
    Local,
    /// A bucket that other machines reach.
    Remote(Box<RemoteStore>),
}

/// An artifact store that is reached over the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteStore {
    /// The component's name.
    pub name: Name,
    /// Its flavor.
    pub flavor: StoreFlavor,
    /// Where it is.
    pub uri: StoreUri,
    /// What the driver in the container reads of its configuration, as environment variables.
    pub environment: BTreeMap<String, String>,
    /// What its flavor's fields say.
    pub values: Values,
    /// The service connector that gives its credentials. Without one, the container's own identity is used.
    pub connector: Option<Name>,
}
