//! Stacks and their components, and the records of builds and runs.
//!
//! A *stack* says where a pipeline runs (its orchestrator), where its images are kept (its container registry),
//! what builds them (its image builder) and where its steps' outputs go (its artifact store). Two stacks exist
//! without being registered: `default`, which runs steps in containers on this machine, and `local`, which runs
//! them in one process here. The records of builds and runs are in one SQLite database, [`State`].
#![forbid(unsafe_code)]

mod component;
mod home;
mod record;
mod state;

pub use component::{ArtifactStore, ContainerRegistry, ImageBuilder, Orchestrator, Stack, StackError};
pub use home::{Home, HomeError};
pub use record::{Build, Run, RunId, RunStatus, StepRun};
pub use state::{State, StateError};
