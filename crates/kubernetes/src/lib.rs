//! Runs pipelines on Kubernetes.
//!
//! ```text
//! longshore ── Job: controller ── Job: step ── pod
//!                    │        └── Job: step ── pod
//!                    └ ConfigMap: how far the run is
//! ```
//!
//! [`Manifests`] are pure values made from a [`Workflow`](longshore_orchestrator::Workflow). [`Kubernetes`] submits them, and tells
//! how far a run is. From then on the [`Controller`] looks after the run from within the cluster: this program in an image of
//! its own ([`image`]).
#![forbid(unsafe_code)]

mod cluster;
mod config;
mod controller;
mod diagnosis;
mod error;
mod events;
pub mod image;
pub mod label;
mod logs;
mod manifests;
mod name;
mod plan;
mod record;
mod secret;
mod security;
mod service;
mod settings;
mod submission;

pub use cluster::{Cluster, Right};
pub use config::{Access, Config, ConfigError, FIELDS, Pull};
pub use controller::{Controller, Ended, run_in_cluster};
pub use diagnosis::{Finding, Observed};
pub use error::Error;
pub use manifests::{
    Inputs, Manifests, NAMESPACE_VARIABLE, OwnerManifest, PLAN_FILE, RUN_FAILED, RUN_VARIABLE, rules,
};
pub use plan::{CONTAINER, Plan, PlannedStep, Run};
pub use record::{Observations, Record, StepRecord};
pub use secret::{PullCredential, SecretManifest};
pub use service::{Kubernetes, Scheduled};
pub use settings::{KubernetesSettings, SettingsError};
pub use submission::refuse_expiring;
