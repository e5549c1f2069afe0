//! Runs pipelines on Kubeflow Pipelines.
//!
//! [`Plan`] makes the pipeline spec of a workflow, and the platform spec with what only Kubernetes knows of: pure values.
//! [`Kubeflow`] submits them, and tells how far runs are. [`PipelineSpec`], [`exchange`] and [`settings`] serve Vertex AI, too,
//! which runs the same representation.
#![forbid(unsafe_code)]

mod config;
mod error;
pub mod exchange;
mod ir;
mod log;
mod name;
mod plan;
mod platform;
mod run;
mod service;
pub mod settings;

pub use config::{Config, ConfigError, SecretSource, Unreadable};
pub use error::Error;
pub use ir::{Accelerator, Dialect, IrError, PipelineSpec, StepContainer, containers, steps};
pub use name::pipeline as pipeline_name;
pub use plan::Plan;
pub use service::Kubeflow;
pub use settings::KubeflowSettings;
