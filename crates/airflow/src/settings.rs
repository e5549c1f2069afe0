//! `AirflowSettings`: what a step's task and container are like.

use std::collections::BTreeMap;

use longshore_kubeflow::settings::{SecretKey, SettingsError, Toleration, read};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::Operator;

/// Settings of a step on Airflow. What is not set is Airflow's own default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AirflowSettings {
    /// The pool that its task takes a slot of.
    pub pool: Option<String>,
    /// The queue of workers that its task runs on.
    pub queue: Option<String>,
    /// What it has before other tasks that wait.
    pub priority_weight: Option<i32>,
    /// Seconds between its tries.
    pub retry_delay: Option<u32>,
    /// The namespace of its pod.
    pub namespace: Option<String>,
    /// The service account of its pod.
    pub service_account: Option<String>,
    /// Labels that its node must have.
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that it bears.
    pub tolerations: Vec<Toleration>,
    /// Labels of its pod.
    pub labels: BTreeMap<String, String>,
    /// Annotations of its pod.
    pub annotations: BTreeMap<String, String>,
    /// Kubernetes Secrets that its image is pulled with.
    pub image_pull_secrets: Vec<String>,
    /// Environment variables that are keys of Kubernetes Secrets: `HF_TOKEN` from `huggingface/token`.
    pub secret_environment: BTreeMap<String, SecretKey>,
    /// How long its pod may take to start, in seconds: pulling the image, and waiting for a node.
    pub startup_timeout: Option<u32>,
    /// The network of its container, with the operator docker.
    pub network_mode: Option<String>,
}

/// The fields of [`AirflowSettings`].
pub(crate) const FIELDS: [&str; 14] = [
    "pool",
    "queue",
    "priority_weight",
    "retry_delay",
    "namespace",
    "service_account",
    "node_selector",
    "tolerations",
    "labels",
    "annotations",
    "image_pull_secrets",
    "secret_environment",
    "startup_timeout",
    "network_mode",
];
/// Those that only pods have.
const OF_PODS: [&str; 9] = [
    "namespace",
    "service_account",
    "node_selector",
    "tolerations",
    "labels",
    "annotations",
    "image_pull_secrets",
    "secret_environment",
    "startup_timeout",
];
/// Those that only containers of Docker have.
const OF_CONTAINERS: [&str; 1] = ["network_mode"];

impl AirflowSettings {
    /// Reads settings, refusing fields that do not exist.
    pub fn from_json(fields: &Map<String, Value>) -> Result<Self, SettingsError> {
        read("AirflowSettings", &FIELDS, fields)
    }
}

/// The first of the fields that means nothing to an operator.
pub(crate) fn of_the_other(fields: &Map<String, Value>, operator: Operator) -> Option<&'static str> {
    let others = match operator {
        Operator::Kubernetes => &OF_CONTAINERS[..],
        Operator::Docker => &OF_PODS[..],
    };
    others.iter().find(|field| fields.contains_key(**field)).copied()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn unknown_fields_come_with_a_suggestion() {
        let fields = json!({"node_selectors": {}});
        let error = AirflowSettings::from_json(fields.as_object().unwrap()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "AirflowSettings has no field `node_selectors`; did you mean `node_selector`?"
        );
    }

    #[test]
    fn each_operator_has_its_own() {
        let fields = json!({"pool": "p", "network_mode": "host", "labels": {"a": "b"}});
        let fields = fields.as_object().unwrap();
        assert_eq!(of_the_other(fields, Operator::Kubernetes), Some("network_mode"));
        assert_eq!(of_the_other(fields, Operator::Docker), Some("labels"));
    }
}
