//! Runs pipelines on Amazon `SageMaker`.
//!
//! [`Plan`] makes the pipeline definition of a workflow: a pure value. [`SageMaker`] submits it, and tells how far runs are.
#![forbid(unsafe_code)]

mod config;
mod error;
mod execution;
mod graph;
mod instance;
mod log;
mod name;
mod plan;
mod schedule;
mod service;
mod settings;

pub use config::{Config, ConfigError};
pub use error::Error;
pub use instance::INSTANCES;
pub use plan::Plan;
pub use schedule::Schedule;
pub use service::SageMaker;
pub use settings::{SagemakerSettings, StepType};
