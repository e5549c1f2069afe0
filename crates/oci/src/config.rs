//! The image configuration (OCI image specification, "Image Configuration").

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Arch, Digest, ManifestError, Platform, manifest::json};

/// What an image is: its platform, how to run it and which layers it consists of.
///
/// Fields that this type does not name are kept as found, so that adding a layer to somebody else's
/// image loses nothing of its configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When the image was made, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The platform.
    #[serde(flatten)]
    pub platform: Platform,
    /// How a container of the image runs.
    #[serde(default)]
    pub config: Process,
    /// The layers, by the digest of their uncompressed bytes.
    pub rootfs: RootFs,
    /// Where each layer came from, lowest first, with steps that made none in between.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
    /// Everything else.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// How a container runs: the `config` object of an image configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Process {
    /// `user`, `uid`, `user:group` or `uid:gid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// `NAME=value` entries.
    #[serde(default, skip_serializing_if = "nothing")]
    pub env: Option<Vec<String>>,
    /// What is run before the command.
    #[serde(default, skip_serializing_if = "nothing")]
    pub entrypoint: Option<Vec<String>>,
    /// The command, or the entrypoint's arguments.
    #[serde(default, skip_serializing_if = "nothing")]
    pub cmd: Option<Vec<String>>,
    /// The working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Everything else (ports, volumes, stop signal, …).
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// Docker writes `null` for a list that is absent; both read as `None`, and an empty list is not written.
#[expect(clippy::ref_option, reason = "serde hands the field by reference")]
fn nothing(list: &Option<Vec<String>>) -> bool {
    list.as_ref().is_none_or(Vec::is_empty)
}

impl Process {
    /// The value of an environment variable.
    pub fn env(&self, name: &str) -> Option<&str> {
        let entries = self.env.as_deref().unwrap_or_default();
        entries
            .iter()
            .rev()
            .find_map(|entry| entry.split_once('=').filter(|(n, _)| *n == name))
            .map(|(_, v)| v)
    }

    /// Sets an environment variable, in its old place if it had one.
    pub fn set_env(&mut self, name: &str, value: &str) {
        let entries = self.env.get_or_insert_with(Vec::new);
        let entry = format!("{name}={value}");
        match entries.iter_mut().find(|entry| entry.split_once('=').is_some_and(|(n, _)| n == name)) {
            Some(old) => *old = entry,
            None => entries.push(entry),
        }
    }
}

/// The layers of an image by diff_id, lowest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The digests of the uncompressed layers.
    pub diff_ids: Vec<Digest>,
}

/// One line of an image's history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// When, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// What made the layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Anything worth saying.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether this step made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

impl ImageConfig {
    /// A configuration with no layers.
    pub fn linux(arch: Arch) -> Self {
        Self {
            created: None,
            platform: Platform::linux(arch),
            config: Process::default(),
            rootfs: RootFs { kind: "layers".to_owned(), diff_ids: Vec::new() },
            history: Vec::new(),
            other: BTreeMap::new(),
        }
    }

    /// Reads a configuration.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        serde_json::from_slice(bytes)
            .map_err(|source| ManifestError::Json { what: "image configuration", source })
    }

    /// The bytes to store and hash: JSON without blanks, maps sorted.
    pub fn to_bytes(&self) -> Vec<u8> {
        json(self)
    }

    /// Adds a layer on top, with its line of history.
    pub fn push_layer(&mut self, diff_id: Digest, created_by: impl Into<String>) {
        self.rootfs.diff_ids.push(diff_id);
        self.history.push(History {
            created: self.created.clone(),
            created_by: Some(created_by.into()),
            ..History::default()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_understood_is_kept() {
        let text = r#"{"architecture":"arm64","variant":"v8","os":"linux","docker_version":"20","moby.buildkit.x":{"b":1,"a":2},
            "config":{"Env":["A=1","B"],"Cmd":null,"ExposedPorts":{"80/tcp":{}},"OnBuild":null},
            "rootfs":{"type":"layers","diff_ids":[]}}"#;
        let config = ImageConfig::parse(text.as_bytes()).unwrap();
        assert_eq!(config.platform.to_string(), "linux/arm64/v8");
        assert_eq!((config.config.env("A"), config.config.env("B")), (Some("1"), None));
        let again: Value = serde_json::from_slice(&config.to_bytes()).unwrap();
        assert_eq!(again["docker_version"], "20");
        assert_eq!(again["moby.buildkit.x"]["b"], 1);
        assert_eq!(again["config"]["ExposedPorts"]["80/tcp"], serde_json::json!({}));
        let theirs: oci_spec::image::ImageConfiguration = serde_json::from_slice(&config.to_bytes()).unwrap();
        assert_eq!(theirs.variant().as_deref(), Some("v8"));
    }

    #[test]
    fn a_variable_is_set_in_its_place() {
        let mut process = Process { env: Some(vec!["PATH=/bin".into(), "X=1".into()]), ..Process::default() };
        process.set_env("PATH", "/opt/venv/bin:/bin");
        process.set_env("Y", "a=b");
        assert_eq!(process.env.as_deref().unwrap(), ["PATH=/opt/venv/bin:/bin", "X=1", "Y=a=b"]);
        assert_eq!(process.env("Y"), Some("a=b"));
    }

    #[test]
    fn the_bytes_do_not_depend_on_the_order_of_insertion() {
        let build = |names: [&str; 3]| {
            let mut config = ImageConfig::linux(Arch::Amd64);
            let labels = names.iter().map(|name| ((*name).to_owned(), String::new())).collect();
            config.config.labels = Some(labels);
            config.push_layer(Digest::of([]), "x");
            config.to_bytes()
        };
        assert_eq!(build(["a", "b", "c"]), build(["c", "a", "b"]));
    }
}
