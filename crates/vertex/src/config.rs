//! The configuration of the orchestrator.

use std::collections::BTreeMap;

/// In which project and location pipelines run, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The project, by its ID or number.
    pub project: String,
    /// The region: `europe-west4`.
    pub location: String,
    /// A folder in Cloud Storage where Vertex AI keeps its own records of runs.
    pub pipeline_root: Option<String>,
    /// The service account that steps run as.
    pub service_account: Option<String>,
    /// The network that steps are peered with.
    pub network: Option<String>,
    /// The key that everything of a run is encrypted with.
    pub encryption_key: Option<String>,
    /// Labels of runs.
    pub labels: BTreeMap<String, String>,
}

/// What is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// An option that must be given.
    #[error("the orchestrator has no {0}; give --{0}={example}", example = example(.0))]
    Missing(&'static str),
    /// An option that is not what it should be.
    #[error("--{option}={text} is not what it should be; an example: --{option}={example}", example = example(.option))]
    Wrong {
        /// The option.
        option: &'static str,
        /// What was given.
        text: String,
    },
    /// An option that does not exist.
    #[error("the orchestrator has no option {0}")]
    Unknown(String),
}

/// The options, each with an example.
const OPTIONS: [(&str, &str); 7] = [
    ("project", "my-project"),
    ("location", "europe-west4"),
    ("pipeline_root", "gs://my-bucket/vertex"),
    ("service_account", "trainer@my-project.iam.gserviceaccount.com"),
    ("network", "projects/123456789/global/networks/default"),
    ("encryption_key", "projects/my-project/locations/europe-west4/keyRings/ring/cryptoKeys/key"),
    ("labels", "team=ml,cost=42"),
];

fn example(option: &str) -> &'static str {
    OPTIONS.iter().find(|(name, _)| *name == option).map_or("", |(_, example)| example)
}

impl Config {
    /// Reads the values of a component.
    pub fn new(values: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        if let Some(unknown) = values.keys().find(|name| OPTIONS.iter().all(|(option, _)| option != name)) {
            return Err(ConfigError::Unknown(unknown.clone()));
        }
        let text = |option: &'static str, valid: fn(&str) -> bool| match values.get(option) {
            Some(text) if text.is_empty() => Ok(None),
            Some(text) if valid(text) => Ok(Some(text.trim_end_matches('/').to_owned())),
            Some(text) => Err(ConfigError::Wrong { option, text: text.clone() }),
            None => Ok(None),
        };
        let labels = values.get("labels").filter(|text| !text.is_empty());
        Ok(Self {
            // Both become parts of URLs, the location of a host's name.
            project: text("project", is_project)?.ok_or(ConfigError::Missing("project"))?,
            location: text("location", is_location)?.ok_or(ConfigError::Missing("location"))?,
            pipeline_root: text("pipeline_root", |text| {
                text.strip_prefix("gs://").is_some_and(|rest| !rest.starts_with('/') && !rest.is_empty())
            })?,
            service_account: text("service_account", |text| text.split('@').count() == 2)?,
            network: text("network", |text| {
                text.starts_with("projects/") && text.contains("/global/networks/")
            })?,
            encryption_key: text("encryption_key", |text| {
                text.starts_with("projects/") && text.contains("/cryptoKeys/")
            })?,
            labels: match labels {
                Some(text) => label_map(text)
                    .ok_or_else(|| ConfigError::Wrong { option: "labels", text: text.clone() })?,
                None => BTreeMap::new(),
            },
        })
    }

    /// The host of Vertex AI's API in the location.
    pub fn host(&self) -> String {
        format!("{}-aiplatform.googleapis.com", self.location)
    }

    /// What jobs and schedules are in.
    pub fn parent(&self) -> String {
        format!("projects/{}/locations/{}", self.project, self.location)
    }
}

fn is_location(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

fn is_project(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.' | ':'))
}

/// Labels of Google Cloud: small letters, digits, `_` and `-`, at most 63.
fn label_map(text: &str) -> Option<BTreeMap<String, String>> {
    let valid = |text: &str| {
        text.len() <= 63
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-'))
    };
    text.split(',')
        .map(|label| {
            let (key, value) = label.split_once('=')?;
            let (key, value) = (key.trim(), value.trim());
            (!key.is_empty() && valid(key) && valid(value)).then(|| (key.to_owned(), value.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(values: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::new(&values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn every_example_is_right() {
        let config = config(&OPTIONS).unwrap();
        assert_eq!(config.host(), "europe-west4-aiplatform.googleapis.com");
        assert_eq!(config.parent(), "projects/my-project/locations/europe-west4");
        assert_eq!(config.labels["cost"], "42");
    }

    #[test]
    fn mistakes_come_with_an_example() {
        assert_eq!(
            config(&[("project", "p")]).unwrap_err().to_string(),
            "the orchestrator has no location; give --location=europe-west4"
        );
        for (option, text) in [
            ("location", "evil.example.com/"),
            ("project", "p/../q"),
            ("pipeline_root", "s3://bucket"),
            ("network", "default"),
            ("labels", "Team=ML"),
        ] {
            let given = [("project", "p"), ("location", "us-central1"), (option, text)];
            let values = given.iter().rev().fold(BTreeMap::new(), |mut values, (name, value)| {
                values.entry((*name).to_owned()).or_insert_with(|| (*value).to_owned());
                values
            });
            assert!(matches!(Config::new(&values), Err(ConfigError::Wrong { .. })), "{option}");
        }
    }
}
