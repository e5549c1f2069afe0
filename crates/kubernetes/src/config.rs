//! What an orchestrator of this flavor is registered with.

use std::{collections::BTreeMap, num::NonZeroU32, path::PathBuf, time::Duration};

/// How longshore reaches a cluster, and how runs go there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where the cluster's address and credentials are.
    pub access: Access,
    /// The namespace of all objects; otherwise the context's.
    pub namespace: Option<String>,
    /// The service account of the controller. Without one, each run gets one of its own with the rights that it needs.
    pub service_account: Option<String>,
    /// The most steps of a run that are carried out at a time.
    pub max_parallelism: Option<NonZeroU32>,
    /// How images are pulled.
    pub pull: Pull,
    /// How long a run's objects stay after its end.
    pub ttl: Duration,
}

/// Where the cluster's address and credentials are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// In a kubeconfig file.
    Kubeconfig {
        /// The file; otherwise `KUBECONFIG` or `~/.kube/config`.
        file: Option<PathBuf>,
        /// The context; otherwise the current one.
        context: Option<String>,
    },
    /// In the pod that this runs in.
    InCluster,
}

/// How images are pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pull {
    /// With a Secret for each run, made from the credentials that longshore has for the registry.
    Credentials,
    /// With what the nodes and service accounts have.
    Nodes,
    /// With Secrets that exist in the namespace.
    Secrets(Vec<String>),
}

/// Values that do not make a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A value that does not exist.
    #[error("the kubernetes orchestrator has no option `{name}`; it has {}", FIELDS.join(", "))]
    Unknown {
        /// Its name.
        name: String,
    },
    /// A value of the wrong form.
    #[error("{name}: `{value}` is not {wanted}")]
    Value {
        /// Its name.
        name: &'static str,
        /// What was given.
        value: String,
        /// What it has to be.
        wanted: &'static str,
    },
    /// A kubeconfig and the pod's own credentials.
    #[error(
        "in_cluster and {0} exclude each other: the pod's own credentials, or those of a kubeconfig file"
    )]
    Both(&'static str),
}

/// The names of the values. Whether the cluster is on this machine (`local`) matters to what it is combined with, not here.
pub const FIELDS: [&str; 9] = [
    "context",
    "namespace",
    "kubeconfig",
    "in_cluster",
    "service_account",
    "max_parallelism",
    "image_pull_secrets",
    "ttl",
    "local",
];

/// How long a run's objects stay by default.
const TTL: Duration = Duration::from_hours(24);

impl Default for Config {
    fn default() -> Self {
        Self {
            access: Access::Kubeconfig { file: None, context: None },
            namespace: None,
            service_account: None,
            max_parallelism: None,
            pull: Pull::Credentials,
            ttl: TTL,
        }
    }
}

impl Config {
    /// Reads the values of a component.
    pub fn from_values(values: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        if let Some(name) = values.keys().find(|name| !FIELDS.contains(&name.as_str())) {
            return Err(ConfigError::Unknown { name: name.clone() });
        }
        let text =
            |name: &'static str| values.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let wrong = |name, value: &str, wanted| ConfigError::Value { name, value: value.to_owned(), wanted };
        let named = |name| match text(name) {
            Some(value) if !is_name(value) => {
                Err(wrong(name, value, "a name of lower-case letters, digits and dashes"))
            }
            value => Ok(value.map(str::to_owned)),
        };
        let in_cluster = match text("in_cluster").map(str::to_ascii_lowercase).as_deref() {
            None | Some("false" | "no" | "off" | "0") => false,
            Some("true" | "yes" | "on" | "1") => true,
            Some(other) => return Err(wrong("in_cluster", other, "true or false")),
        };
        let access = match (in_cluster, text("kubeconfig"), text("context")) {
            (true, Some(_), _) => return Err(ConfigError::Both("kubeconfig")),
            (true, _, Some(_)) => return Err(ConfigError::Both("context")),
            (true, None, None) => Access::InCluster,
            (false, file, context) => {
                Access::Kubeconfig { file: file.map(PathBuf::from), context: context.map(str::to_owned) }
            }
        };
        let max_parallelism = text("max_parallelism")
            .map(|value| value.parse().map_err(|_| wrong("max_parallelism", value, "a number above zero")))
            .transpose()?;
        let pull = match text("image_pull_secrets") {
            None | Some("connector") => Pull::Credentials,
            Some("none") => Pull::Nodes,
            Some(list) => {
                let secrets: Vec<_> = list.split(',').map(|name| name.trim().to_owned()).collect();
                if let Some(name) = secrets.iter().find(|name| !is_name(name)) {
                    return Err(wrong("image_pull_secrets", name, "connector, none, or names of Secrets"));
                }
                Pull::Secrets(secrets)
            }
        };
        let ttl = text("ttl").map(|value| {
            let seconds = value.parse::<u32>().map_err(|_| wrong("ttl", value, "a number of seconds"));
            seconds.map(|seconds| Duration::from_secs(seconds.into()))
        });
        Ok(Self {
            access,
            namespace: named("namespace")?,
            service_account: named("service_account")?,
            max_parallelism,
            pull,
            ttl: ttl.transpose()?.unwrap_or(TTL),
        })
    }
}

/// Whether a text is the name of an object (RFC 1123 subdomain).
fn is_name(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let outer = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.len() <= 253 && text.starts_with(outer) && text.ends_with(outer) && text.chars().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(values: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let values = values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::from_values(&values.collect())
    }

    #[test]
    fn nothing_has_to_be_given() {
        assert_eq!(config(&[]), Ok(Config::default()));
    }

    #[test]
    fn every_value_counts() {
        let read = config(&[
            ("context", "prod"),
            ("namespace", "ml"),
            ("kubeconfig", "/k"),
            ("service_account", "runner"),
            ("max_parallelism", "4"),
            ("image_pull_secrets", "a, b.c"),
            ("ttl", "60"),
        ]);
        let expected = Config {
            access: Access::Kubeconfig { file: Some("/k".into()), context: Some("prod".to_owned()) },
            namespace: Some("ml".to_owned()),
            service_account: Some("runner".to_owned()),
            max_parallelism: NonZeroU32::new(4),
            pull: Pull::Secrets(vec!["a".to_owned(), "b.c".to_owned()]),
            ttl: Duration::from_mins(1),
        };
        assert_eq!(read, Ok(expected));
        assert_eq!(config(&[("in_cluster", "true")]).unwrap().access, Access::InCluster);
        assert_eq!(config(&[("image_pull_secrets", "none")]).unwrap().pull, Pull::Nodes);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for values in [
            &[("contxt", "a")][..],
            &[("namespace", "My_Space")],
            &[("max_parallelism", "0")],
            &[("in_cluster", "perhaps")],
            &[("in_cluster", "true"), ("context", "a")],
            &[("image_pull_secrets", "a,,b")],
            &[("ttl", "a day")],
        ] {
            assert!(config(values).is_err(), "{values:?}");
        }
    }
}
