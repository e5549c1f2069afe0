//! Settings as they are written on a command line: text, which means what the kind of its field says.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Map, Value};

use super::{DockerSettings, Kind, SettingsError};

/// Settings that were given for one start of the program, and win over all others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// For all steps.
    pub docker: DockerSettings,
    /// For steps.
    pub steps: BTreeMap<String, DockerSettings>,
}

/// Why some text sets nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OverrideError {
    /// Not of the form of an assignment.
    #[error(
        "`{0}` sets nothing: write docker.FIELD=VALUE for all steps, or step.NAME.docker.FIELD=VALUE for one, as in \
         docker.user=1000"
    )]
    Form(String),
    /// The field or its value is wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
}

impl Overrides {
    /// Reads assignments, `docker.FIELD=VALUE` or `step.NAME.docker.FIELD=VALUE`. Paths are relative to `folder`.
    pub fn parse<T: AsRef<str>>(assignments: &[T], folder: &Path) -> Result<Self, OverrideError> {
        let mut overrides = Self::default();
        for assignment in assignments.iter().map(AsRef::as_ref) {
            let form = || OverrideError::Form(assignment.to_owned());
            let (path, value) = assignment.split_once('=').ok_or_else(form)?;
            let (settings, field) = match path.split_once('.').ok_or_else(form)? {
                ("docker", field) => (&mut overrides.docker, field),
                ("step", rest) => {
                    // A step's name may have dots in it.
                    let (step, field) = rest.split_once(".docker.").ok_or_else(form)?;
                    (overrides.steps.entry(step.to_owned()).or_default(), field)
                }
                _ => return Err(form()),
            };
            let given = match field.split_once('.') {
                Some((field, name)) => {
                    let mut given = DockerSettings::default();
                    given.set(field, Value::Object(Map::from_iter([(name.to_owned(), value.into())])))?;
                    given
                }
                None => DockerSettings::written(field, &[value])?,
            };
            *settings = given.over(settings);
        }
        overrides.docker = overrides.docker.below(folder);
        for settings in overrides.steps.values_mut() {
            *settings = settings.clone().below(folder);
        }
        Ok(overrides)
    }
}

impl DockerSettings {
    /// Settings of one field, from what was written for it. Lists are written as several texts or as a list of JSON, and what
    /// has names as `NAME=VALUE` or as an object of JSON.
    pub fn written<T: AsRef<str>>(field: &str, texts: &[T]) -> Result<Self, SettingsError> {
        let known = Self::FIELDS.iter().find(|known| known.name == field);
        let kind = known.ok_or_else(|| SettingsError::unknown(field))?.kind;
        let last = texts.last().map_or("", AsRef::as_ref);
        let value = match kind {
            // What is no number is told so by the field.
            Kind::Number => last.parse::<u64>().map_or_else(|_| last.into(), Value::from),
            Kind::Bool => last.parse::<bool>().map_or_else(|_| last.into(), Value::from),
            Kind::List | Kind::TextOrList => list(texts),
            Kind::ListOrPath if last.starts_with('[') => list(texts),
            Kind::Text | Kind::Path | Kind::Word(_) | Kind::ListOrPath => last.into(),
            Kind::Map => {
                let mut entries = Map::new();
                for text in texts.iter().map(AsRef::as_ref) {
                    match (text.starts_with('{').then(|| serde_json::from_str(text)), text.split_once('=')) {
                        (Some(Ok(Value::Object(object))), _) => entries.extend(object),
                        (_, Some((name, value))) => drop(entries.insert(name.to_owned(), value.into())),
                        (_, None) => return Err(SettingsError::NoName { field: field.to_owned() }),
                    }
                }
                Value::Object(entries)
            }
        };
        let mut settings = Self::default();
        settings.set(field, value)?;
        Ok(settings)
    }
}

fn list<T: AsRef<str>>(texts: &[T]) -> Value {
    let items = |text: &str| match serde_json::from_str(text) {
        Ok(Value::Array(items)) => items,
        _ => vec![Value::from(text)],
    };
    Value::Array(texts.iter().flat_map(|text| items(text.as_ref())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(assignments: &[&str]) -> Result<Overrides, OverrideError> {
        Overrides::parse(assignments, Path::new("/here"))
    }

    #[test]
    fn text_means_what_its_field_is() {
        let overrides = parse(&[
            "docker.user=1000",
            "docker.layers=9",
            "docker.skip_build=true",
            "docker.lazy=estargz",
            "docker.lock=uv.lock",
            "docker.requirements=[\"pandas>=2; python_version<'3.13'\"]",
            "docker.apt_packages=git",
            "docker.environment.A.B=x=y",
            "docker.environment={\"C\": \"d\"}",
            "docker.labels=a=b",
            "docker.platform=linux/arm64",
            "step.a.b.docker.requirements=r.txt",
        ])
        .unwrap();
        let expected = json!({
            "user": "1000", "layers": 9, "skip_build": true, "lazy": "estargz", "lock": "/here/uv.lock",
            "requirements": ["pandas>=2; python_version<'3.13'"], "apt_packages": ["git"],
            "environment": {"A.B": "x=y", "C": "d"}, "labels": {"a": "b"}, "platform": "linux/arm64",
        });
        assert_eq!(serde_json::to_value(&overrides.docker).unwrap(), expected);
        let step = serde_json::to_value(&overrides.steps["a.b"]).unwrap();
        assert_eq!(step, json!({"requirements": "/here/r.txt"}));
    }

    #[test]
    fn the_last_assignment_wins() {
        let overrides = parse(&["docker.user=a", "docker.user=b"]).unwrap();
        assert_eq!(overrides.docker.user.as_deref(), Some("b"));
    }

    #[test]
    fn mistakes_are_sentences() {
        for text in ["docker", "user=3", "docker.user", "step.train.user=3", "=", ""] {
            assert!(matches!(parse(&[text]), Err(OverrideError::Form(_))), "{text}");
        }
        let cases = [
            ("docker.usr=3", "DockerSettings has no field `usr`; did you mean `user`?"),
            ("docker.user=", "DockerSettings: `user` is empty; leave it out or give it a value"),
            ("docker.layers=few", "DockerSettings: `layers` must be a number from 1 to 65535, not \"few\""),
            ("docker.labels=a", "DockerSettings: `labels` has names: write NAME=VALUE"),
            ("docker.environment.=a", "DockerSettings: `environment` has an empty name"),
        ];
        for (text, message) in cases {
            assert_eq!(parse(&[text]).unwrap_err().to_string(), message);
        }
    }
}
