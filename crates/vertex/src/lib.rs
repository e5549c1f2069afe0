//! Runs pipelines on Vertex AI.
//!
//! [`Plan`] makes the pipeline job of a workflow: a pure value, with the same pipeline spec that Kubeflow runs. [`Vertex`]
//! submits it, and tells how far runs are.
#![forbid(unsafe_code)]

mod config;
mod error;
mod job;
mod logging;
mod machine;
mod plan;
mod service;
mod settings;

pub use config::{Config, ConfigError};
pub use error::Error;
pub use plan::Plan;
pub use service::Vertex;
pub use settings::VertexSettings;
