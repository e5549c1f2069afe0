//! `DockerSettings`: the fields, each with what is known of it.

use std::{
    collections::BTreeMap,
    num::NonZeroU16,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    BuildStrategy, Compression, Field, IndexUrl, Lazy, Platforms, Requirements, SecretSource, Section,
    SettingsError, field::Setting,
};

/// Makes the type of the settings, the table of its fields, and what goes over all fields, from one list: a field cannot
/// be in one and not in the other.
macro_rules! settings {
    ($(
        $(#[doc = $doc:literal])+
        [$section:ident, default: $default:literal]
        $field:ident: $type:ty,
    )+) => {
        /// Settings of an image. A field that is not set has the value of the next level: [`DockerSettings::over`].
        #[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct DockerSettings {
            $(
                $(#[doc = $doc])+
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $field: Option<$type>,
            )+
        }

        impl DockerSettings {
            /// What is known of each field, in the order in which they are listed.
            pub const FIELDS: &[Field] = &[$(
                Field {
                    name: stringify!($field),
                    section: Section::$section,
                    kind: <$type as Setting>::KIND,
                    default: $default,
                    doc: concat!($($doc, "\n"),+),
                },
            )+];

            /// Sets one field.
            pub fn set(&mut self, field: &str, value: Value) -> Result<(), SettingsError> {
                match field {
                    $(
                        stringify!($field) => {
                            // What is nothing sets nothing.
                            if let Some(fault) = <$type as Setting>::KIND.mismatch(&value).filter(|_| !value.is_null()) {
                                return Err(SettingsError::Fault { field: stringify!($field), fault });
                            }
                            let wrong = |reason| SettingsError::Value { field: stringify!($field), reason };
                            let value: Option<$type> = serde_json::from_value(value).map_err(wrong)?;
                            if let Some(fault) = value.as_ref().and_then(|value| value.fault(stringify!($field))) {
                                return Err(SettingsError::Fault { field: stringify!($field), fault });
                            }
                            self.$field = value;
                        }
                    )+
                    _ => return Err(SettingsError::unknown(field)),
                }
                Ok(())
            }

            /// These settings where they are set, `base` elsewhere. Texts, numbers and lists are taken whole; what has
            /// names (variables, labels, indexes, secrets) is put together, and these settings win name by name.
            pub fn over(&self, base: &Self) -> Self {
                Self { $($field: over(self.$field.as_ref(), base.$field.as_ref()),)+ }
            }

            /// Takes the paths of files on this machine as relative to a folder.
            pub fn below(mut self, folder: &Path) -> Self {
                $(self.$field.iter_mut().for_each(|value| value.below(folder));)+
                self
            }
        }
    };
}

fn over<T: Setting>(own: Option<&T>, base: Option<&T>) -> Option<T> {
    match (own, base) {
        (Some(own), Some(base)) => Some(own.over(base)),
        (own, base) => own.or(base).cloned(),
    }
}

settings! {
    /// The image to build on, as `registry/repository:tag` or by digest.
    [Parent, default: "one with Python, made from Debian packages"]
    parent_image: String,
    /// Debian packages to add.
    [Parent, default: "none"]
    apt_packages: Vec<String>,
    /// Whether the parent image is used as it is: its tag is resolved to a digest, and nothing is built. It must have all
    /// that the steps need, their code and this version of longshore included.
    [Parent, default: "false"]
    skip_build: bool,

    /// Python packages: a list of requirements (PEP 508), or the path of a requirements file.
    [Packages, default: "none"]
    requirements: Requirements,
    /// A lock file, whose packages are installed exactly as it has them: `uv.lock`, `pylock.toml` or `pylock.NAME.toml`,
    /// `poetry.lock`, `Pipfile.lock`.
    [Packages, default: "none"]
    lock: PathBuf,
    /// A `pyproject.toml` whose dependencies are installed.
    [Packages, default: "none"]
    pyproject: PathBuf,
    /// Extras of the project of `pyproject` or `lock` that are installed too.
    [Packages, default: "none"]
    extras: Vec<String>,
    /// Dependency groups (PEP 735) of the project of `pyproject` or `lock` that are installed too.
    [Packages, default: "none"]
    groups: Vec<String>,
    /// Whether the packages of the Python that the pipeline is started with are installed, in the same versions.
    [Packages, default: "false"]
    replicate_local_python_environment: bool,
    /// Whether packages are installed although the parent image has them in the version that is wanted.
    [Packages, default: "false"]
    ignore_parent_packages: bool,
    /// Package indexes by name: URLs without credentials. The one named `default` takes the place of the public one.
    [Packages, default: "none but the public one"]
    indexes: BTreeMap<String, IndexUrl>,
    /// Secrets of the build by name: where each is on this machine, as `env:NAME` or `file:PATH`. The secret that has the
    /// name of an index is its `user:password`, or its token. None gets into the image, its cache key or a log.
    [Packages, default: "none"]
    secrets: BTreeMap<String, SecretSource>,

    /// Files and folders of code, relative to the folder of the code, that may hold what looks like a key, a token or a
    /// password. All others that do are refused: who can read an image can read them.
    [Code, default: "none"]
    allow_secrets: Vec<String>,
    /// Whether the image holds compiled bytecode, so that imports are fast from the first start.
    [Code, default: "true"]
    compile_bytecode: bool,

    /// Environment variables, set while the image is built and when it runs.
    [Container, default: "those of the parent image"]
    environment: BTreeMap<String, String>,
    /// Environment variables of the containers alone, set after all else: nothing of the build sees them.
    [Container, default: "none"]
    runtime_environment: BTreeMap<String, String>,
    /// The user that containers run as: a name in the image or a number, with `:group` or without.
    [Container, default: "that of the parent image"]
    user: String,
    /// Labels of the image.
    [Container, default: "those of the parent image"]
    labels: BTreeMap<String, String>,

    /// The repository below the registry's URI.
    [Name, default: "the pipeline's name"]
    target_repository: String,
    /// The tag.
    [Name, default: "the UTC time of the build"]
    image_tag: String,

    /// The platforms that the image is for, `linux/amd64` or `linux/arm64` or both.
    [Build, default: "that of this machine"]
    platform: Platforms,
    /// The most layers that the image may have, those of its parent included.
    [Build, default: "as many as caching is best with"]
    layers: NonZeroU16,
    /// How layers are compressed.
    [Build, default: "gzip"]
    compression: Compression,
    /// Whether layers can be fetched file by file while the container already runs, by runtimes that know the format.
    [Build, default: "they are fetched whole"]
    lazy: Lazy,
    /// Whether the image is built anew although there is one of the same inputs.
    [Build, default: "false"]
    prevent_build_reuse: bool,
    /// Who builds the image: `local` is longshore itself, on this machine.
    [Build, default: "local"]
    build_strategy: BuildStrategy,
}

impl DockerSettings {
    /// Reads settings, refusing fields that do not exist.
    pub fn from_json(fields: &Map<String, Value>) -> Result<Self, SettingsError> {
        let mut settings = Self::default();
        for (field, value) in fields {
            settings.set(field, value.clone())?;
        }
        Ok(settings)
    }

    /// Checks what no field can be checked for alone: for settings of all levels, put together.
    pub fn check(&self) -> Result<(), SettingsError> {
        if self.skip_build == Some(true) && self.parent_image.is_none() {
            return Err(SettingsError::NothingToUse);
        }
        Ok(())
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
    fn every_field_is_written_as_it_is_read() {
        let all = json!({
            "parent_image": "a", "apt_packages": ["c"], "skip_build": true, "requirements": ["b"], "lock": "uv.lock",
            "pyproject": "pyproject.toml", "extras": ["x"], "groups": ["y"], "replicate_local_python_environment": true,
            "ignore_parent_packages": true,
            "indexes": {"mine": "https://packages.example.com/simple"}, "secrets": {"mine": "env:TOKEN", "b": "file:f"},
            "allow_secrets": ["g"], "compile_bytecode": false, "environment": {"D": "d"},
            "runtime_environment": {"R": "r"}, "user": "e", "labels": {"l": "m"}, "target_repository": "f",
            "image_tag": "g", "platform": "linux/arm64", "layers": 20, "compression": "zstd", "lazy": "estargz",
            "prevent_build_reuse": true, "build_strategy": "local",
        });
        let settings = parse(&all).unwrap();
        let written = serde_json::to_value(&settings).unwrap();
        assert_eq!(written, all);
        let mut fields: Vec<_> = DockerSettings::FIELDS.iter().map(|field| field.name).collect();
        fields.sort_unstable();
        assert_eq!(written.as_object().unwrap().keys().collect::<Vec<_>>(), fields);
    }

    #[test]
    fn a_misspelt_field_is_an_error_with_a_suggestion() {
        let error = parse(&json!({"requirments": []})).unwrap_err();
        assert_eq!(
            error.to_string(),
            "DockerSettings has no field `requirments`; did you mean `requirements`?"
        );
        let error = parse(&json!({"zebra": 1})).unwrap_err();
        assert!(error.to_string().contains("it has parent_image, apt_packages"), "{error}");
    }

    #[test]
    fn a_value_of_the_wrong_type_is_an_error_that_names_its_field() {
        let cases = [
            (json!({"compile_bytecode": "yes"}), "`compile_bytecode` must be true or false, not \"yes\""),
            (
                json!({"build_strategy": "docker"}),
                "`build_strategy`: unknown variant `docker`, expected `local`",
            ),
            (json!({"lazy": "stargz"}), "`lazy`: unknown variant `stargz`, expected `estargz`"),
            (json!({"requirements": 3}), "`requirements` must be a list of texts or a path, not 3"),
            (json!({"layers": 0}), "`layers` must be a number from 1 to 65535, not 0"),
            (json!({"user": 1000}), "`user` must be text, not 1000; put it in quotes"),
            (json!({"groups": "dev"}), "`groups` must be a list of texts, not text; write [\"dev\"]"),
            (json!({"extras": ["a", " "]}), "`extras` has an empty text in it; leave it out"),
            (json!({"secrets": {"mine": 1234}}), "`secrets` must be texts by name"),
            (
                json!({"environment": {"A=B": ""}}),
                "`environment` has the name \"A=B\"; the name of a variable has no `=` in it",
            ),
            (
                json!({"platform": ["linux/s390x"]}),
                "`platform`: images are built for linux/amd64 and linux/arm64, not for `linux/s390x`",
            ),
            (
                json!({"secrets": {"mine": "hunter2"}}),
                "`secrets`: a secret is named by where it is, as env:NAME or file:PATH, and not written here itself",
            ),
        ];
        for (fields, message) in cases {
            assert_eq!(parse(&fields).unwrap_err().to_string(), format!("DockerSettings: {message}"));
        }
    }

    #[test]
    fn a_steps_settings_win_where_they_are_set() {
        let base = parse(&json!({"requirements": ["a"], "user": "me", "apt_packages": ["git"]})).unwrap();
        let step = parse(&json!({"requirements": "requirements.txt", "apt_packages": []})).unwrap();
        let merged = step.over(&base);
        assert_eq!(merged.requirements, Some(Requirements::File("requirements.txt".into())));
        assert_eq!(merged.user.as_deref(), Some("me"));
        assert_eq!(merged.apt_packages, Some(Vec::new()));
        assert_eq!(DockerSettings::default().over(&base), base);
        assert_eq!(base.over(&DockerSettings::default()), base);
    }

    #[test]
    fn what_has_names_is_put_together() {
        let maps = |value: &str| {
            let text = json!({"a": value, value: value});
            let index = json!({"a": format!("https://{value}/"), value: format!("https://{value}/")});
            let secret = json!({"a": format!("env:{value}"), value: format!("env:{value}")});
            json!({
                "environment": text, "runtime_environment": text, "labels": text, "indexes": index, "secrets": secret,
            })
        };
        let (base, step) = (maps("base"), maps("step"));
        let merged = parse(&step).unwrap().over(&parse(&base).unwrap());
        let merged = serde_json::to_value(merged).unwrap();
        let fields: Vec<_> = DockerSettings::FIELDS
            .iter()
            .filter(|field| field.kind.merges())
            .map(|field| field.name)
            .collect();
        assert_eq!(fields.len(), base.as_object().unwrap().len());
        for field in fields {
            assert_eq!(merged[field]["a"], step[field]["a"]);
            assert_eq!(merged[field]["step"], step[field]["step"]);
            assert_eq!(merged[field]["base"], base[field]["base"]);
        }
    }

    #[test]
    fn levels_can_be_put_together_in_any_grouping() {
        let a = parse(&json!({"environment": {"X": "a"}, "user": "a"})).unwrap();
        let b = parse(&json!({"environment": {"X": "b", "Y": "b"}, "image_tag": "b"})).unwrap();
        let c = parse(&json!({"environment": {"Y": "c", "Z": "c"}, "user": "c", "image_tag": "c"})).unwrap();
        assert_eq!(a.over(&b.over(&c)), a.over(&b).over(&c));
    }

    #[test]
    fn paths_are_those_of_files_on_this_machine() {
        let settings = parse(&json!({
            "requirements": "r.txt", "lock": "uv.lock", "pyproject": "/abs/pyproject.toml",
            "secrets": {"a": "file:a", "b": "env:B"}, "allow_secrets": ["keys"],
        }))
        .unwrap()
        .below(Path::new("/project"));
        assert_eq!(
            serde_json::to_value(settings).unwrap(),
            json!({
                "requirements": "/project/r.txt", "lock": "/project/uv.lock", "pyproject": "/abs/pyproject.toml",
                "secrets": {"a": "file:/project/a", "b": "env:B"}, "allow_secrets": ["keys"],
            })
        );
    }

    #[test]
    fn an_image_that_is_used_as_it_is_has_a_name() {
        let settings = parse(&json!({"skip_build": true})).unwrap();
        assert!(matches!(settings.check(), Err(SettingsError::NothingToUse)));
        assert!(parse(&json!({"parent_image": "a"})).unwrap().over(&settings).check().is_ok());
    }
}
