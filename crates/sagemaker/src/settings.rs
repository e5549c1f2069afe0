//! `SagemakerSettings`: what a step's job is like.

use std::collections::BTreeMap;

use longshore_kubeflow::settings::{SettingsError, read};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Settings of a step on `SageMaker`. What is not set is the orchestrator's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SagemakerSettings {
    /// What kind of job it is.
    pub step_type: StepType,
    /// The type of its instance.
    pub instance_type: Option<String>,
    /// The size of its volume, in GB.
    pub volume_size: Option<u32>,
    /// The ARN of the role that it runs as.
    pub role: Option<String>,
    /// The subnets that it is in.
    pub subnets: Vec<String>,
    /// Its security groups.
    pub security_groups: Vec<String>,
    /// Tags of its job, besides the orchestrator's.
    pub tags: BTreeMap<String, String>,
}

/// What kind of job a step is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepType {
    /// A processing job.
    #[default]
    Processing,
    /// A training job.
    Training,
}

/// The fields of [`SagemakerSettings`].
pub(crate) const FIELDS: [&str; 7] =
    ["step_type", "instance_type", "volume_size", "role", "subnets", "security_groups", "tags"];

impl SagemakerSettings {
    /// Reads settings, refusing fields that do not exist.
    pub fn from_json(fields: &Map<String, Value>) -> Result<Self, SettingsError> {
        read("SagemakerSettings", &FIELDS, fields)
    }
}

impl StepType {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Processing => "Processing",
            Self::Training => "Training",
        }
    }
}
