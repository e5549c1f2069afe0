//! Runs pipelines on Apache Airflow.
//!
//! [`Plan`] makes the DAG file of a workflow: Python text that needs Airflow and the operator's provider only. [`Airflow`] puts
//! it into the [`Place`] that Airflow reads: a folder, or one in a bucket.
#![forbid(unsafe_code)]

mod config;
mod dag;
mod error;
mod folder;
mod gcs;
mod name;
mod operator;
mod place;
mod python;
mod s3;
mod service;
mod settings;

pub use config::{Config, ConfigError, Dags, Operator};
pub use dag::Plan;
pub use error::Error;
pub use place::Place;
pub use service::Airflow;
pub use settings::AirflowSettings;
