//! Runs pipelines on Azure Machine Learning.
//!
//! [`Plan`] makes the environments, the components and the pipeline job of a workflow: pure values. [`AzureMl`] submits them,
//! and tells how far runs are.
#![forbid(unsafe_code)]

mod config;
mod error;
mod job;
mod log;
mod name;
mod plan;
mod schedule;
mod service;
mod settings;
mod size;
mod timezone;

pub use config::{Config, ConfigError, Identity};
pub use error::Error;
pub use plan::{Asset, Plan, StepContainer};
pub use schedule::Schedule;
pub use service::AzureMl;
pub use settings::AzureMlSettings;
