//! `KubeflowSettings`: what a step's pod is like.

use std::collections::BTreeMap;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

/// Settings of a step on Kubeflow. What is not set is Kubeflow's own default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KubeflowSettings {
    /// Labels that its node must have.
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that it bears.
    pub tolerations: Vec<Toleration>,
    /// Labels of its pod.
    pub labels: BTreeMap<String, String>,
    /// Annotations of its pod.
    pub annotations: BTreeMap<String, String>,
    /// Kubernetes Secrets, in the run's namespace, that its image is pulled with.
    pub image_pull_secrets: Vec<String>,
    /// When its image is pulled.
    pub image_pull_policy: Option<PullPolicy>,
    /// Environment variables that are keys of Kubernetes Secrets: `HF_TOKEN` from `huggingface/token`.
    pub secret_environment: BTreeMap<String, SecretKey>,
    /// Kubernetes Secrets that are mounted as folders, by the folder's path.
    pub secret_volumes: BTreeMap<String, String>,
    /// Persistent volume claims that are mounted, by the folder's path.
    pub volumes: BTreeMap<String, String>,
    /// The user that it runs as, in place of the image's.
    pub run_as_user: Option<u32>,
    /// The group that it runs as.
    pub run_as_group: Option<u32>,
}

/// The fields of [`KubeflowSettings`].
pub const FIELDS: [&str; 11] = [
    "node_selector",
    "tolerations",
    "labels",
    "annotations",
    "image_pull_secrets",
    "image_pull_policy",
    "secret_environment",
    "secret_volumes",
    "volumes",
    "run_as_user",
    "run_as_group",
];

/// A taint that is borne.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Toleration {
    /// The taint's key; none stands for all.
    #[serde(default)]
    pub key: Option<String>,
    /// How its value is compared.
    #[serde(default)]
    pub operator: TolerationOperator,
    /// The taint's value.
    #[serde(default)]
    pub value: Option<String>,
    /// The taint's effect; none stands for all.
    #[serde(default)]
    pub effect: Option<TaintEffect>,
    /// How long it is borne.
    #[serde(default)]
    pub toleration_seconds: Option<u32>,
}

/// How a taint's value is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum TolerationOperator {
    /// It is the same.
    #[default]
    Equal,
    /// It does not matter.
    Exists,
}

/// What a taint does to pods that do not bear it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum TaintEffect {
    /// They do not come.
    NoSchedule,
    /// They come only if there is no other place.
    PreferNoSchedule,
    /// They go.
    NoExecute,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum PullPolicy {
    /// For each container.
    Always,
    /// If the node has none.
    IfNotPresent,
    /// Not at all.
    Never,
}

/// A key of a Kubernetes Secret, written `secret/key`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct SecretKey {
    /// The Secret.
    pub secret: String,
    /// The key in it.
    pub key: String,
}

impl TryFrom<String> for SecretKey {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.split_once('/') {
            Some((secret, key)) if !secret.is_empty() && !key.is_empty() => {
                Ok(Self { secret: secret.to_owned(), key: key.to_owned() })
            }
            _ => Err(format!("`{text}` is not a key of a Secret; write secret/key")),
        }
    }
}

impl TolerationOperator {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "Equal",
            Self::Exists => "Exists",
        }
    }
}

impl TaintEffect {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::NoSchedule => "NoSchedule",
            Self::PreferNoSchedule => "PreferNoSchedule",
            Self::NoExecute => "NoExecute",
        }
    }
}

impl PullPolicy {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// Why some JSON is not settings of a kind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// A field that does not exist.
    #[error("{owner} has no field `{field}`{hint}")]
    UnknownField {
        /// The kind of settings.
        owner: &'static str,
        /// The field.
        field: String,
        /// What there is instead.
        hint: String,
    },
    /// A value of the wrong type.
    #[error("{owner}: {reason}")]
    Value {
        /// The kind of settings.
        owner: &'static str,
        /// What is wrong.
        reason: serde_json::Error,
    },
}

/// Reads settings of a kind that has these fields.
pub fn read<T: DeserializeOwned>(
    owner: &'static str,
    known: &[&'static str],
    fields: &Map<String, Value>,
) -> Result<T, SettingsError> {
    if let Some(field) = fields.keys().find(|field| !known.contains(&field.as_str())) {
        return Err(SettingsError::UnknownField { owner, field: field.clone(), hint: hint(field, known) });
    }
    serde_json::from_value(Value::Object(fields.clone()))
        .map_err(|reason| SettingsError::Value { owner, reason })
}

/// The nearest of the names that exist, or all of them, as the end of a sentence.
pub fn hint(name: &str, known: &[&str]) -> String {
    let nearest = known
        .iter()
        .map(|known| (strsim::jaro_winkler(known, name), known))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((_, known)) => format!("; did you mean `{known}`?"),
        None => format!("; it has {}", known.join(", ")),
    }
}

impl KubeflowSettings {
    /// Reads settings, refusing fields that do not exist.
    pub fn from_json(fields: &Map<String, Value>) -> Result<Self, SettingsError> {
        read("KubeflowSettings", &FIELDS, fields)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn from(value: &Value) -> Result<KubeflowSettings, SettingsError> {
        KubeflowSettings::from_json(value.as_object().unwrap())
    }

    #[test]
    fn all_fields_are_read() {
        let all = json!({
            "node_selector": {"pool": "gpu"}, "labels": {"team": "ml"}, "annotations": {"a": "b"},
            "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
            "image_pull_secrets": ["regcred"], "image_pull_policy": "Always",
            "secret_environment": {"HF_TOKEN": "huggingface/token"}, "secret_volumes": {"/etc/keys": "keys"},
            "volumes": {"/data": "datasets"}, "run_as_user": 1000, "run_as_group": 1000,
        });
        let settings = from(&all).unwrap();
        let expected = SecretKey { secret: "huggingface".to_owned(), key: "token".to_owned() };
        assert_eq!(settings.secret_environment["HF_TOKEN"], expected);
        let mut fields: Vec<&str> = all.as_object().unwrap().keys().map(String::as_str).collect();
        let mut known = FIELDS.to_vec();
        fields.sort_unstable();
        known.sort_unstable();
        assert_eq!(fields, known);
    }

    #[test]
    fn mistakes_are_named() {
        for (value, message) in [
            (
                json!({"node_selectors": {}}),
                "KubeflowSettings has no field `node_selectors`; did you mean `node_selector`?",
            ),
            (
                json!({"secret_environment": {"A": "b"}}),
                "KubeflowSettings: `b` is not a key of a Secret; write secret/key",
            ),
        ] {
            assert_eq!(from(&value).unwrap_err().to_string(), message);
        }
        assert!(from(&json!({"image_pull_policy": "always"})).unwrap_err().to_string().contains("`Always`"));
    }
}
