//! `KubernetesSettings`: what only Kubernetes knows of a step's pod.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, SecurityContext, Toleration, Volume, VolumeMount};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

/// Settings of a step's pod. What Kubernetes has a type for is written as in a manifest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KubernetesSettings {
    /// The service account that the step runs as, for example one that a cloud's identity is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    /// Whether the service account's token is in the container. Default: it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub automount_service_account_token: Option<bool>,
    /// Labels that a node must have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<BTreeMap<String, String>>,
    /// Taints of nodes that do not keep the pod away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tolerations: Option<Vec<Toleration>>,
    /// Where the pod runs, relative to nodes and other pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Labels of the Job and its pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations of the Job and its pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// The name of a PriorityClass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class: Option<String>,
    /// Volumes of the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volumes: Option<Vec<Volume>>,
    /// Where the container sees them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_mounts: Option<Vec<VolumeMount>>,
    /// Environment variables of the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, String>>,
    /// Names of Secrets with which the image is pulled, besides longshore's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_secrets: Option<Vec<String>>,
    /// What the container's processes may do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_context: Option<SecurityContext>,
}

/// The fields of [`KubernetesSettings`]. A test holds them against the type, and another against the Python class.
pub(crate) const FIELDS: [&str; 13] = [
    "service_account",
    "automount_service_account_token",
    "node_selector",
    "tolerations",
    "affinity",
    "labels",
    "annotations",
    "priority_class",
    "volumes",
    "volume_mounts",
    "env",
    "image_pull_secrets",
    "security_context",
];

/// Why some JSON is not [`KubernetesSettings`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// A field that does not exist.
    #[error("KubernetesSettings has no field `{field}`{}", suggest(.suggestion.as_deref()))]
    UnknownField {
        /// The field.
        field: String,
        /// The nearest one that exists.
        suggestion: Option<&'static str>,
    },
    /// A value of the wrong type.
    #[error("KubernetesSettings: {field}: {source}")]
    Value {
        /// The field.
        field: String,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A part of a value that Kubernetes does not know.
    #[error(
        "KubernetesSettings: Kubernetes has no `{path}`; it is written as in a manifest, and case counts"
    )]
    UnknownPart {
        /// Where it is.
        path: String,
    },
    /// A mount of a volume that the pod does not have.
    #[error("KubernetesSettings: volume_mounts names the volume `{0}`, and volumes has none of that name")]
    NoVolume(String),
}

fn suggest(suggestion: Option<&str>) -> String {
    suggestion.map_or_else(
        || format!("; it has {}", FIELDS.join(", ")),
        |field| format!("; did you mean `{field}`?"),
    )
}

impl KubernetesSettings {
    /// Reads settings, refusing what does not exist at any depth.
    pub fn from_json(fields: &Map<String, Value>) -> Result<Self, SettingsError> {
        if let Some(field) = fields.keys().find(|field| !FIELDS.contains(&field.as_str())) {
            let suggestion = FIELDS
                .iter()
                .map(|known| (strsim::jaro_winkler(known, field), *known))
                .filter(|(likeness, _)| *likeness > 0.8)
                .max_by(|a, b| a.0.total_cmp(&b.0))
                .map(|(_, known)| known);
            return Err(SettingsError::UnknownField { field: field.clone(), suggestion });
        }
        let settings = Self {
            service_account: read(fields, "service_account")?,
            automount_service_account_token: read(fields, "automount_service_account_token")?,
            node_selector: read(fields, "node_selector")?,
            tolerations: read(fields, "tolerations")?,
            affinity: read(fields, "affinity")?,
            labels: read(fields, "labels")?,
            annotations: read(fields, "annotations")?,
            priority_class: read(fields, "priority_class")?,
            volumes: read(fields, "volumes")?,
            volume_mounts: read(fields, "volume_mounts")?,
            env: read(fields, "env")?,
            image_pull_secrets: read(fields, "image_pull_secrets")?,
            security_context: read(fields, "security_context")?,
        };
        let volumes = settings.volumes.as_deref().unwrap_or_default();
        let is_missing = |mount: &&VolumeMount| !volumes.iter().any(|volume| volume.name == mount.name);
        if let Some(mount) = settings.volume_mounts.iter().flatten().find(is_missing) {
            return Err(SettingsError::NoVolume(mount.name.clone()));
        }
        Ok(settings)
    }
}

/// A field's value. The types of Kubernetes' own pass over what they do not know, so what was read is compared with what was
/// written.
fn read<T: DeserializeOwned + Serialize>(
    fields: &Map<String, Value>,
    field: &str,
) -> Result<Option<T>, SettingsError> {
    let Some(value) = fields.get(field).filter(|value| !value.is_null()) else { return Ok(None) };
    let wrong = |source| SettingsError::Value { field: field.to_owned(), source };
    let read = T::deserialize(value).map_err(wrong)?;
    match lost(value, &serde_json::to_value(&read).map_err(wrong)?, field) {
        Some(path) => Err(SettingsError::UnknownPart { path }),
        None => Ok(Some(read)),
    }
}

/// The path of something in `written` that is not in `read`.
fn lost(written: &Value, read: &Value, path: &str) -> Option<String> {
    match (written, read) {
        (Value::Object(written), Value::Object(read)) => written.iter().find_map(|(key, value)| {
            let path = format!("{path}.{key}");
            match read.get(key) {
                Some(read) => lost(value, read, &path),
                // Nothing, an empty list and an empty object may be left out.
                None => (!is_nothing(value)).then_some(path),
            }
        }),
        (Value::Array(written), Value::Array(read)) => written
            .iter()
            .zip(read)
            .enumerate()
            .find_map(|(index, (written, read))| lost(written, read, &format!("{path}[{index}]"))),
        _ => None,
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(value: &Value) -> Result<KubernetesSettings, SettingsError> {
        KubernetesSettings::from_json(value.as_object().unwrap())
    }

    fn all() -> Value {
        json!({
            "service_account": "trainer", "automount_service_account_token": true,
            "node_selector": {"disk": "ssd"},
            "tolerations": [{"key": "spot", "operator": "Exists", "effect": "NoSchedule"}],
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}]}}},
            "labels": {"team": "ml"}, "annotations": {"a": "b"}, "priority_class": "high",
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
            "volume_mounts": [{"name": "data", "mountPath": "/data", "readOnly": true}],
            "env": {"A": "1"}, "image_pull_secrets": ["regcred"], "security_context": {"runAsUser": 1000},
        })
    }

    #[test]
    fn the_list_of_fields_is_the_types_own() {
        let written = serde_json::to_value(parse(&all()).unwrap()).unwrap();
        assert_eq!(written, all());
        let mut names: Vec<_> = written.as_object().unwrap().keys().map(String::as_str).collect();
        let mut fields = FIELDS.to_vec();
        names.sort_unstable();
        fields.sort_unstable();
        assert_eq!(names, fields);
    }

    #[test]
    fn what_does_not_exist_is_refused_at_any_depth() {
        let error = |value: &Value| parse(value).unwrap_err().to_string();
        assert_eq!(
            error(&json!({"node_selektor": {}})),
            "KubernetesSettings has no field `node_selektor`; did you mean `node_selector`?"
        );
        assert_eq!(
            error(&json!({"tolerations": [{"key": "a", "efect": "NoSchedule"}]})),
            "KubernetesSettings: Kubernetes has no `tolerations[0].efect`; it is written as in a manifest, and case counts"
        );
        assert!(error(&json!({"env": {"A": 1}})).starts_with("KubernetesSettings: env: invalid type"));
        assert!(
            error(&json!({"volume_mounts": [{"name": "x", "mountPath": "/x"}]})).contains("the volume `x`")
        );
    }
}
