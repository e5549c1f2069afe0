//! `AzureMLSettings`: what a step is given in Azure Machine Learning's own words.

use longshore_kubeflow::settings::{SettingsError, read};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Settings of a step on Azure Machine Learning.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AzureMlSettings {
    /// The compute that it runs on, in place of the orchestrator's; `serverless` for none.
    pub compute: Option<String>,
    /// The type of its machine: on serverless compute a size, `Standard_NC4as_T4_v3`, on a cluster of Kubernetes one of its
    /// instance types.
    pub instance_type: Option<String>,
    /// How much memory processes share: `2g`.
    pub shm_size: Option<String>,
}

/// The fields of [`AzureMlSettings`].
pub(crate) const FIELDS: [&str; 3] = ["compute", "instance_type", "shm_size"];

impl AzureMlSettings {
    /// Reads settings, refusing fields that do not exist.
    pub fn from_json(fields: &Map<String, Value>) -> Result<Self, SettingsError> {
        read("AzureMLSettings", &FIELDS, fields)
    }
}

/// Whether that is an amount of shared memory as Docker writes it: digits, then `b`, `k`, `m` or `g`.
pub(crate) fn is_shm_size(text: &str) -> bool {
    let digits = text.trim_end_matches(['b', 'k', 'm', 'g']);
    text.len() - digits.len() == 1
        && digits.starts_with(|c: char| ('1'..='9').contains(&c))
        && digits.chars().all(|c| c.is_ascii_digit())
}
