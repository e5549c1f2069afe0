//! The configuration of the orchestrator.

use std::{collections::BTreeMap, env, fmt, fs, path::PathBuf, str::FromStr};

use http::HeaderValue;
use longshore_auth::Secret;
use url::Url;

/// Which Kubeflow, and how it is talked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where Kubeflow Pipelines is served: the URL below which its API has `apis/v2beta1`.
    pub host: Url,
    /// The namespace that runs are in, where Kubeflow serves several.
    pub namespace: Option<String>,
    /// The experiment that runs belong to.
    pub experiment: String,
    /// Where the token that it is sent comes from.
    pub token: Option<SecretSource>,
    /// Where the cookies that it is sent come from.
    pub cookies: Option<SecretSource>,
    /// The Kubernetes service account that steps run as.
    pub service_account: Option<String>,
    /// Kubernetes Secrets that the images of all steps are pulled with.
    pub image_pull_secrets: Vec<String>,
    /// The Kubernetes Secret that has the environment variables that must not be seen, each by its name.
    pub secret: Option<String>,
    /// The time zone that this installation keeps schedules in.
    pub timezone: String,
}

/// Where a secret is read, each time that it is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// An environment variable.
    Environment(String),
    /// A file.
    File(PathBuf),
}

/// What is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// There is no host.
    #[error(
        "the orchestrator has no host; give --host=URL, where Kubeflow Pipelines is served, e.g. https://kubeflow.example.com/pipeline"
    )]
    NoHost,
    /// The host is not a URL.
    #[error(
        "`{0}` is not where Kubeflow Pipelines can be served; write its URL without a password, e.g. https://kubeflow.example.com/pipeline"
    )]
    Host(String),
    /// A source of a secret that is none.
    #[error(
        "--{option}={text}: a secret is not given itself; write env:NAME or file:PATH, where it can be read"
    )]
    Source {
        /// The option.
        option: String,
        /// What was given.
        text: String,
    },
    /// A secret that cannot be read.
    #[error("the {what} for Kubeflow cannot be read from {place}: {reason}")]
    Unreadable {
        /// What was wanted.
        what: &'static str,
        /// Where.
        place: String,
        /// Why.
        reason: String,
    },
    /// An option that does not exist.
    #[error("the orchestrator has no option {0}")]
    Unknown(String),
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(name) => write!(f, "the environment variable {name}"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

impl FromStr for SecretSource {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text.split_once(':') {
            Some(("env", name)) if !name.is_empty() => Ok(Self::Environment(name.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            _ => Err(()),
        }
    }
}

/// A secret that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it cannot be read from {place}: {reason}")]
pub struct Unreadable {
    /// Where.
    pub place: String,
    /// Why.
    pub reason: String,
}

impl SecretSource {
    /// The secret, without white space around it.
    pub fn read(&self) -> Result<Secret, Unreadable> {
        let place = self.to_string();
        let text = match self {
            Self::Environment(name) => env::var(name).map_err(|error| error.to_string()),
            Self::File(path) => fs::read_to_string(path).map_err(|error| error.to_string()),
        };
        match text {
            Ok(text) if text.trim().is_empty() => Err(Unreadable { place, reason: "it is empty".to_owned() }),
            Ok(text) => Ok(Secret::new(text.trim())),
            Err(reason) => Err(Unreadable { place, reason }),
        }
    }

    /// The secret, as the value of a header.
    pub(crate) fn header(&self, what: &'static str, prefix: &str) -> Result<HeaderValue, ConfigError> {
        let named = |Unreadable { place, reason }| ConfigError::Unreadable { what, place, reason };
        let secret = self.read().map_err(named)?;
        let mut value = HeaderValue::from_str(&format!("{prefix}{}", secret.expose())).map_err(|_| {
            let reason = "it has characters that a header cannot have".to_owned();
            ConfigError::Unreadable { what, place: self.to_string(), reason }
        })?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl Config {
    /// Reads the values of a component.
    pub fn new(values: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let known = [
            "host",
            "namespace",
            "experiment",
            "token",
            "cookies",
            "service_account",
            "image_pull_secrets",
            "secret",
            "timezone",
        ];
        if let Some(unknown) = values.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(ConfigError::Unknown(unknown.clone()));
        }
        let text = |name: &str| values.get(name).filter(|text| !text.is_empty()).cloned();
        let source = |option: &str| {
            text(option)
                .map(|text| {
                    text.parse().map_err(|()| ConfigError::Source {
                        option: option.to_owned(),
                        // What is not a source may be the secret itself.
                        text: "…".to_owned(),
                    })
                })
                .transpose()
        };
        let host = text("host").ok_or(ConfigError::NoHost)?;
        let wrong = || ConfigError::Host(shown(&host));
        let url: Url = host.trim_end_matches("/#/").trim_end_matches('/').parse().map_err(|_| wrong())?;
        if !matches!(url.scheme(), "http" | "https")
            || url.host_str().is_none()
            || !url.username().is_empty()
            || url.password().is_some()
            || url.query().is_some()
            || url.fragment().is_some()
        {
            return Err(wrong());
        }
        Ok(Self {
            host: url,
            namespace: text("namespace"),
            experiment: text("experiment").unwrap_or_else(|| "longshore".to_owned()),
            token: source("token")?,
            cookies: source("cookies")?,
            service_account: text("service_account"),
            image_pull_secrets: text("image_pull_secrets")
                .map(|list| list.split(',').map(|name| name.trim().to_owned()).collect())
                .unwrap_or_default(),
            secret: text("secret"),
            timezone: text("timezone").unwrap_or_else(|| "UTC".to_owned()),
        })
    }
}

/// The text of a URL without what may be a password.
fn shown(text: &str) -> String {
    match Url::parse(text) {
        Ok(url) => longshore_endpoint::redacted(&url),
        Err(_) if text.contains('@') => "…".to_owned(),
        Err(_) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(values: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::new(&values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn a_host_is_enough() {
        let config = config(&[("host", "https://kubeflow.example.com/pipeline/")]).unwrap();
        assert_eq!(config.host.as_str(), "https://kubeflow.example.com/pipeline");
        assert_eq!((config.experiment.as_str(), config.timezone.as_str()), ("longshore", "UTC"));
    }

    #[test]
    fn secrets_are_named_and_never_shown() {
        let host = ("host", "https://kubeflow.example.com");
        let error = config(&[host, ("token", "hunter2")]).unwrap_err().to_string();
        assert!(error.contains("env:NAME") && !error.contains("hunter2"), "{error}");
        let error = config(&[("host", "https://user:hunter2@kubeflow.example.com")]).unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
        for host in ["kubeflow", "ftp://kubeflow", "https://h/?a=b"] {
            assert!(matches!(config(&[("host", host)]), Err(ConfigError::Host(_))), "{host}");
        }
        assert_eq!(config(&[]), Err(ConfigError::NoHost));
        let source = SecretSource::File("/nonexistent/token".into());
        let error = source.header("token", "Bearer ").unwrap_err().to_string();
        assert!(
            error.starts_with("the token for Kubeflow cannot be read from /nonexistent/token"),
            "{error}"
        );
    }
}
