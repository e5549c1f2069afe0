//! Runs pipelines on Apache Airflow.
//!
//! [`Plan`] makes the DAG file of a workflow: Python text that needs Airflow and the operator's provider only. [`Airflow`] puts
//! it into the [`Place`] that Airflow reads: a folder, or one in a bucket. Where Airflow's API is known, a run is begun and looked at
//! there.
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
mod run;
mod s3;
mod server;
mod service;
mod settings;

pub use config::{Config, ConfigError, Credentials, Dags, Operator, ServerConfig};
pub use dag::Plan;
pub use error::Error;
pub use place::Place;
pub use service::Airflow;
pub use settings::AirflowSettings;
