//! Stacks, their components and service connectors, and the records of builds and runs.
//!
//! A *stack* says where a pipeline runs (its orchestrator), where its images are kept (its container registry),
//! what builds them (its image builder) and where its steps' outputs go (its artifact store). Two stacks exist
//! without being registered: `default`, which runs steps in containers on this machine, and `local`, which runs
//! them in one process here. A *service connector* is stored credentials that components are connected to.
//!
//! All of it is in one SQLite database, [`State`], secrets sealed. What must be verified before it is stored is given
//! to the caller's function first. [`Access`] alone uses the network, through the connectors.
#![forbid(unsafe_code)]

mod access;
mod component;
mod configuration;
mod field;
mod fit;
mod flavor;
mod home;
mod name;
mod provider;
mod record;
mod registry_uri;
mod seal;
mod stack;
mod stack_file;
mod state;
mod store_grant;
mod store_uri;

pub use access::{Access, AccessError, connector, store_connector};
pub use component::{
    ArtifactStore, Component, ContainerRegistry, ImageBuilder, Orchestrator, Origin, RemoteOrchestrator,
    RemoteRegistry, RemoteStore,
};
pub use configuration::{Configuration, ConfigurationError, Creation, EcrRepositories, Mutability, Scan};
pub use field::{Field, Need, Shape, Values};
pub use fit::Misfit;
pub use flavor::{
    ComponentKind, Flavor, FlavorError, OrchestratorFlavor, Registrable, RegistryFlavor, StoreFlavor,
};
pub use home::{Home, HomeError};
pub use name::{Name, NameError};
pub use provider::{Ecr, Provider};
pub use record::{Build, Elsewhere, GraphStep, NewRun, Run, RunId, RunStatus, StepRun};
pub use registry_uri::{RegistryUri, UriError};
pub use seal::SealError;
pub use stack::{Parts, RegisteredStack, Stack};
pub use stack_file::{StackFile, StackFileComponent, StackFileConnector};
pub use state::{NewComponent, NewConnector, RegisteredConnector, Selection, State, StateError, Subject};
pub use store_grant::StoreGrant;
pub use store_uri::{StoreScheme, StoreUri, StoreUriError};
