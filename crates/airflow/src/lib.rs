//! Runs pipelines on Apache Airflow.
//!
//! [`Plan`] makes the DAG file of a workflow: Python text that needs Airflow and the operator's provider only. [`Airflow`] puts
//! it into the folder that Airflow reads.
#![forbid(unsafe_code)]

mod config;
mod dag;
mod error;
mod name;
mod operator;
mod python;
mod service;
mod settings;

pub use config::{Config, ConfigError, Operator};
pub use dag::Plan;
pub use error::Error;
pub use service::Airflow;
pub use settings::AirflowSettings;
