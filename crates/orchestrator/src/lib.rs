//! Runs the steps of a pipeline.
//!
//! [`RunPlan`] says what each step is given: a pure value. Two orchestrators carry it out on this machine:
//! [`local_container`], each step in a container of its image, and [`local`], all steps in one Python process or each in
//! one of its own. Both remember in [`longshore_stack::State`] how far they came. Which steps run side by side is for
//! [`Dag`] to say, here as in a cluster.
//!
//! [`Workflow`] says the same for orchestrators elsewhere, each a crate of its own that is a [`Service`]: it makes documents
//! of a workflow, submits them, and tells how far the run is.
#![forbid(unsafe_code)]

mod dag;
mod dispatch;
mod error;
mod event;
mod interrupt;
pub mod local;
pub mod local_container;
mod machine;
mod plan;
mod printed;
mod progress;
mod service;
mod term;
mod wire;
mod workflow;

pub use dag::{Capacity, Dag, Demand, Next};
pub use error::RunError;
pub use event::{Event, Observer, Stream};
pub use interrupt::Interrupt;
pub use longshore_stack::{StoreScheme, StoreUri, StoreUriError};
pub use machine::capacity;
pub use plan::{Artifact, ArtifactView, Job, JobStep, RunPlan, StepPlan};
pub use printed::log_file;
pub use service::{
    Content, Document, Follow, Phase, Retry, RunState, Service, ServiceError, StepState, Submission,
};
pub use term::{GrantSource, Purpose, Term};
pub use workflow::{PYTHON, Supervision, Target, Workflow, WorkflowStep};

/// The module that carries out a job.
const ENTRYPOINT: &str = "longshore.entrypoint";
/// The environment variable that names the file of the job.
const JOB: &str = "LONGSHORE_STEP";
/// The environment variable that names the file in which a failed step says why.
const FAILURE: &str = "LONGSHORE_FAILURE";
/// The environment variable that names the file in which a process that runs several steps says how far it is.
const PROGRESS: &str = "LONGSHORE_PROGRESS";
