//! The configuration of the orchestrator.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use longshore_kubeflow::SecretSource;
use longshore_orchestrator::{StoreScheme, StoreUri};
use url::Url;

/// Where the DAG files go, and what runs the containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where Airflow reads its DAGs from.
    pub dags: Dags,
    /// What runs the containers.
    pub operator: Operator,
    /// The namespace that pods run in.
    pub namespace: Option<String>,
    /// The service account that pods run as.
    pub service_account: Option<String>,
    /// The connection of Airflow that the operator uses.
    pub connection: Option<String>,
    /// Airflow's API, if runs are begun and looked at from here.
    pub server: Option<ServerConfig>,
}

/// Airflow's API, and how it is talked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// Where Airflow is served: the URL below which its API has `api/v2`.
    pub url: Url,
    /// What it is sent.
    pub credentials: Credentials,
}

/// What Airflow's API is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// Nothing: it lets everyone in.
    None,
    /// A token.
    Token(SecretSource),
    /// A token that name and password are exchanged for.
    Password {
        /// The user's name.
        username: String,
        /// Where the password is.
        password: SecretSource,
    },
}

/// Where Airflow reads its DAGs from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dags {
    /// A folder.
    Folder(PathBuf),
    /// A folder in a bucket of Amazon S3, as with Amazon MWAA: `s3://bucket/dags`.
    S3(StoreUri),
    /// A folder in a bucket of Google Cloud Storage, as with Cloud Composer: `gs://bucket/dags`.
    Gcs(StoreUri),
}

impl Dags {
    fn read(text: &str) -> Result<Self, ConfigError> {
        if !text.contains("://") {
            return Ok(Self::Folder(text.into()));
        }
        let bucket = || ConfigError::Dags(text.to_owned());
        let uri: StoreUri = text.parse().map_err(|_| bucket())?;
        match uri.scheme() {
            StoreScheme::S3 => Ok(Self::S3(uri)),
            StoreScheme::Gcs => Ok(Self::Gcs(uri)),
            StoreScheme::File | StoreScheme::Azure => Err(bucket()),
        }
    }
}

impl fmt::Display for Dags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => folder.display().fmt(f),
            Self::S3(uri) | Self::Gcs(uri) => uri.fmt(f),
        }
    }
}

/// What runs the containers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Operator {
    /// `KubernetesPodOperator`: pods of a cluster.
    #[default]
    Kubernetes,
    /// `DockerOperator`: a Docker daemon.
    Docker,
}

impl Operator {
    /// The operator as options spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Docker => "docker",
        }
    }
}

/// What is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// There is no folder.
    #[error(
        "the orchestrator has no dags; give --dags=/opt/airflow/dags, the folder that Airflow reads its DAGs from, or that in \
         a bucket: --dags=s3://bucket/dags"
    )]
    NoFolder,
    /// What is neither a folder nor in a bucket that files are put into.
    #[error(
        "DAG files are put into folders, and --dags={0} is none; give --dags=/opt/airflow/dags, --dags=s3://bucket/dags or \
         --dags=gs://bucket/dags, or mount the bucket as a folder"
    )]
    Dags(String),
    /// An operator that does not exist.
    #[error("--operator={0} is neither kubernetes nor docker")]
    Operator(String),
    /// An option of the other operator.
    #[error("--{0} is for the operator kubernetes; take it out, or give --operator=kubernetes")]
    OtherOperator(&'static str),
    /// The API is not at a URL.
    #[error(
        "`{0}` is not where Airflow can be served; write its URL without a password, e.g. https://airflow.example.com"
    )]
    Api(String),
    /// A source of a secret that is none.
    #[error("--{0}: a secret is not given itself; write env:NAME or file:PATH, where it can be read")]
    Source(&'static str),
    /// An option that goes with another.
    #[error("--{0} goes with --{1}: give that too, or take it out")]
    Together(&'static str, &'static str),
    /// A token, and name and password.
    #[error("--token stands in place of --username and --password: give one or the other")]
    TwoCredentials,
    /// An option that does not exist.
    #[error("the orchestrator has no option {0}")]
    Unknown(String),
}

/// The options. `local` says where Airflow runs, which matters to registries alone.
const OPTIONS: [&str; 10] = [
    "dags",
    "operator",
    "namespace",
    "service_account",
    "connection",
    "api",
    "token",
    "username",
    "password",
    "local",
];

impl Config {
    /// Reads the values of a component.
    pub fn new(values: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        if let Some(unknown) = values.keys().find(|name| !OPTIONS.contains(&name.as_str())) {
            return Err(ConfigError::Unknown(unknown.clone()));
        }
        let text = |option: &str| values.get(option).filter(|text| !text.is_empty()).cloned();
        let dags = Dags::read(&text("dags").ok_or(ConfigError::NoFolder)?)?;
        let operator = match text("operator").as_deref() {
            None | Some("kubernetes") => Operator::Kubernetes,
            Some("docker") => Operator::Docker,
            Some(other) => return Err(ConfigError::Operator(other.to_owned())),
        };
        for option in ["namespace", "service_account"] {
            if operator == Operator::Docker && text(option).is_some() {
                return Err(ConfigError::OtherOperator(option));
            }
        }
        let server = server(&text)?;
        Ok(Self {
            dags,
            server,
            operator,
            namespace: text("namespace"),
            service_account: text("service_account"),
            connection: text("connection"),
        })
    }
}

/// Airflow's API, by the options for it.
fn server(text: &impl Fn(&str) -> Option<String>) -> Result<Option<ServerConfig>, ConfigError> {
    let source = |option: &'static str| {
        text(option).map(|text| text.parse().map_err(|()| ConfigError::Source(option))).transpose()
    };
    let credentials = match (source("token")?, text("username"), source("password")?) {
        (None, None, None) => Credentials::None,
        (Some(token), None, None) => Credentials::Token(token),
        (None, Some(username), Some(password)) => Credentials::Password { username, password },
        (None, Some(_), None) => return Err(ConfigError::Together("username", "password")),
        (None, None, Some(_)) => return Err(ConfigError::Together("password", "username")),
        (Some(_), ..) => return Err(ConfigError::TwoCredentials),
    };
    let Some(api) = text("api") else {
        return match credentials {
            Credentials::None => Ok(None),
            Credentials::Token(_) => Err(ConfigError::Together("token", "api")),
            Credentials::Password { .. } => Err(ConfigError::Together("username", "api")),
        };
    };
    let is_plain = |url: &Url| {
        matches!(url.scheme(), "http" | "https")
            && url.host_str().is_some()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    };
    match Url::parse(api.trim_end_matches('/')) {
        Ok(url) if is_plain(&url) => Ok(Some(ServerConfig { url, credentials })),
        Ok(url) => Err(ConfigError::Api(longshore_endpoint::redacted(&url))),
        Err(_) if api.contains('@') => Err(ConfigError::Api("…".to_owned())),
        Err(_) => Err(ConfigError::Api(api)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(values: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::new(&values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn a_folder_is_enough() {
        let config = config(&[("dags", "/opt/airflow/dags"), ("local", "true")]).unwrap();
        assert_eq!((config.operator, config.namespace), (Operator::Kubernetes, None));
        assert!(matches!(config.dags, Dags::Folder(_)));
    }

    #[test]
    fn a_bucket_is_a_folder() {
        let config = config(&[("dags", "gs://bucket/dags/")]).unwrap();
        assert_eq!(config.dags.to_string(), "gs://bucket/dags");
        assert!(matches!(config.dags, Dags::Gcs(_)));
    }

    #[test]
    fn mistakes_say_what_to_do() {
        for (values, part) in [
            (&[][..], "give --dags=/opt/airflow/dags"),
            (&[("dags", "az://container/dags")], "mount the bucket as a folder"),
            (&[("dags", "s3:///dags")], "--dags=s3://bucket/dags"),
            (&[("dags", "/d"), ("operator", "podman")], "neither kubernetes nor docker"),
            (&[("dags", "/d"), ("operator", "docker"), ("namespace", "n")], "take it out"),
            (&[("dags", "/d"), ("folder", "/d")], "no option folder"),
            (&[("dags", "/d"), ("api", "airflow:8080")], "is not where Airflow can be served"),
            (&[("dags", "/d"), ("api", "http://a"), ("token", "hunter2")], "env:NAME or file:PATH"),
            (&[("dags", "/d"), ("api", "http://a"), ("username", "me")], "goes with --password"),
            (&[("dags", "/d"), ("token", "env:T")], "--token goes with --api"),
            (&[("dags", "/d"), ("api", "http://me:hunter2@a")], "without a password"),
        ] {
            let error = config(values).unwrap_err().to_string();
            assert!(error.contains(part) && !error.contains("hunter2"), "{part}: {error}");
        }
    }
}
