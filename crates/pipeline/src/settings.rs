//! `DockerSettings`: what the image of a pipeline or of a step consists of.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What to install with `pip`'s syntax: the requirements themselves, or the path of a file of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Requirements {
    /// Requirement strings, e.g. `pandas==2.2.3`.
    List(Vec<String>),
    /// The path of a requirements file, relative to the source root.
    File(String),
}

impl Default for Requirements {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

/// Which builder makes the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BuildStrategy {
    /// longshore itself, on this machine.
    #[default]
    Local,
}

/// How an image's layers can be fetched by what runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lazy {
    /// File by file while the container already runs, by containerd's stargz-snapshotter and what else knows eStargz; whole
    /// by everybody else.
    Estargz,
}

/// Settings of an image. A field that is not set keeps the pipeline's value at a step, and the default otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DockerSettings {
    /// The image to build on. Without one, a parent is made from Debian packages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_image: Option<String>,
    /// Python packages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requirements: Option<Requirements>,
    /// Debian packages, added to the parent that is made from Debian packages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apt_packages: Option<Vec<String>>,
    /// Environment variables of the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<BTreeMap<String, String>>,
    /// The user that steps run as: a name in the image, or `uid[:gid]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The repository below the registry's URI, in place of the pipeline's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_repository: Option<String>,
    /// The tag, in place of the time of the build.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_tag: Option<String>,
    /// Whether the image holds compiled bytecode, so that imports are fast from the first start. Default: yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compile_bytecode: Option<bool>,
    /// Files and folders of code, by their path below the source root, that may hold what looks like a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_secrets: Option<Vec<String>>,
    /// Whether the layers can be fetched file by file. Default: they are fetched whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lazy: Option<Lazy>,
    /// Which builder makes the image. Default: `local`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_strategy: Option<BuildStrategy>,
}

/// The fields of [`DockerSettings`], for suggestions. A test holds them against the type.
const FIELDS: [&str; 11] = [
    "parent_image",
    "requirements",
    "apt_packages",
    "environment",
    "user",
    "target_repository",
    "image_tag",
    "compile_bytecode",
    "allow_secrets",
    "lazy",
    "build_strategy",
];

/// Why some JSON is not valid settings.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// A field that does not exist.
    #[error("DockerSettings has no field `{field}`{}", suggest(.suggestion.as_deref()))]
    UnknownField {
        /// The field.
        field: String,
        /// The nearest one that exists.
        suggestion: Option<&'static str>,
    },
    /// A value of the wrong type.
    #[error("DockerSettings: {0}")]
    Value(serde_json::Error),
}

fn suggest(suggestion: Option<&str>) -> String {
    suggestion.map_or_else(
        || format!("; it has {}", FIELDS.join(", ")),
        |field| format!("; did you mean `{field}`?"),
    )
}

impl DockerSettings {
    /// Reads settings, refusing fields that do not exist.
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
        serde_json::from_value(Value::Object(fields.clone())).map_err(SettingsError::Value)
    }

    /// These settings where they are set, `base` elsewhere: how a step's settings meet its pipeline's.
    pub fn over(&self, base: &Self) -> Self {
        let this = self.clone();
        let base = base.clone();
        Self {
            parent_image: this.parent_image.or(base.parent_image),
            requirements: this.requirements.or(base.requirements),
            apt_packages: this.apt_packages.or(base.apt_packages),
            environment: this.environment.or(base.environment),
            user: this.user.or(base.user),
            target_repository: this.target_repository.or(base.target_repository),
            image_tag: this.image_tag.or(base.image_tag),
            compile_bytecode: this.compile_bytecode.or(base.compile_bytecode),
            allow_secrets: this.allow_secrets.or(base.allow_secrets),
            lazy: this.lazy.or(base.lazy),
            build_strategy: this.build_strategy.or(base.build_strategy),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(value: &Value) -> Result<DockerSettings, SettingsError> {
        DockerSettings::from_json(value.as_object().unwrap())
    }

    #[test]
    fn the_list_of_fields_is_the_types_own() {
        let all = json!({
            "parent_image": "a", "requirements": ["b"], "apt_packages": ["c"], "environment": {"D": "d"}, "user": "e",
            "target_repository": "f", "image_tag": "g", "compile_bytecode": false, "allow_secrets": ["g"],
            "lazy": "estargz",
            "build_strategy": "local",
        });
        let settings = parse(&all).unwrap();
        let written = serde_json::to_value(&settings).unwrap();
        assert_eq!(written, all);
        let mut names: Vec<_> = written.as_object().unwrap().keys().map(String::as_str).collect();
        let mut fields = FIELDS.to_vec();
        names.sort_unstable();
        fields.sort_unstable();
        assert_eq!(names, fields);
    }

    #[test]
    fn a_misspelt_field_is_an_error_with_a_suggestion() {
        let error = parse(&json!({"requirments": []})).unwrap_err();
        assert_eq!(
            error.to_string(),
            "DockerSettings has no field `requirments`; did you mean `requirements`?"
        );
        let error = parse(&json!({"zebra": 1})).unwrap_err();
        assert!(error.to_string().contains("it has parent_image, requirements"), "{error}");
    }

    #[test]
    fn a_value_of_the_wrong_type_is_an_error() {
        assert!(matches!(parse(&json!({"compile_bytecode": "yes"})), Err(SettingsError::Value(_))));
        assert!(matches!(parse(&json!({"build_strategy": "docker"})), Err(SettingsError::Value(_))));
        let error = parse(&json!({"lazy": "stargz"})).unwrap_err().to_string();
        assert_eq!(error, "DockerSettings: unknown variant `stargz`, expected `estargz`");
    }

    #[test]
    fn a_steps_settings_win_where_they_are_set() {
        let base = parse(&json!({"requirements": ["a"], "user": "me"})).unwrap();
        let step = parse(&json!({"requirements": "requirements.txt"})).unwrap();
        let merged = step.over(&base);
        assert_eq!(merged.requirements, Some(Requirements::File("requirements.txt".into())));
        assert_eq!(merged.user.as_deref(), Some("me"));
        assert_eq!(DockerSettings::default().over(&base), base);
    }
}
