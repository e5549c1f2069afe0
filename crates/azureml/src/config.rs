//! The configuration of the orchestrator.

use std::collections::BTreeMap;

/// In which workspace pipelines run, on what, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The subscription, by its ID.
    pub subscription_id: String,
    /// The resource group of the workspace.
    pub resource_group: String,
    /// The workspace.
    pub workspace: String,
    /// The compute that steps run on; serverless if there is none.
    pub compute: Option<String>,
    /// The machines of serverless compute.
    pub instance_type: Option<String>,
    /// Whom steps run as.
    pub identity: Option<Identity>,
}

/// Whom steps run as, where it is not whom Azure Machine Learning takes by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Who submits the run.
    User,
    /// The managed identity that the compute has.
    Managed,
    /// The user-assigned managed identity with this client ID.
    UserAssigned(String),
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
const OPTIONS: [(&str, &str); 6] = [
    ("subscription_id", "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"),
    ("resource_group", "my-group"),
    ("workspace", "my-workspace"),
    ("compute", "cpu-cluster"),
    ("instance_type", "Standard_DS3_v2"),
    ("identity", "managed"),
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
            Some(text) if valid(text) => Ok(Some(text.clone())),
            Some(text) => Err(ConfigError::Wrong { option, text: text.clone() }),
            None => Ok(None),
        };
        let required = |option: &'static str, valid: fn(&str) -> bool| {
            text(option, valid)?.ok_or(ConfigError::Missing(option))
        };
        Ok(Self {
            // They become parts of paths.
            subscription_id: required("subscription_id", |text| is_name(text, "-"))?,
            resource_group: required("resource_group", |text| {
                is_name(text, "-_.()") && !text.ends_with('.')
            })?,
            workspace: required("workspace", |text| is_name(text, "-_"))?,
            compute: text("compute", is_compute)?,
            instance_type: text("instance_type", is_instance_type)?,
            identity: text("identity", |text| is_name(text, "-"))?.map(|text| match text.as_str() {
                "user" => Identity::User,
                "managed" => Identity::Managed,
                _ => Identity::UserAssigned(text),
            }),
        })
    }

    /// The workspace's ID in Resource Manager.
    pub fn workspace_id(&self) -> String {
        format!(
            "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.MachineLearningServices/workspaces/{}",
            self.subscription_id, self.resource_group, self.workspace
        )
    }
}

fn is_name(text: &str, besides: &str) -> bool {
    !text.starts_with('.') && text.chars().all(|c| c.is_ascii_alphanumeric() || besides.contains(c))
}

/// Whether that may be the name of a compute.
pub(crate) fn is_compute(text: &str) -> bool {
    !text.is_empty() && is_name(text, "-_")
}

/// Whether that may be the name of a type of machines, on serverless compute or on a cluster of Kubernetes.
pub(crate) fn is_instance_type(text: &str) -> bool {
    !text.is_empty() && is_name(text, "-_.")
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
        assert_eq!(
            config.workspace_id(),
            "/subscriptions/aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee/resourceGroups/my-group/providers/\
             Microsoft.MachineLearningServices/workspaces/my-workspace"
        );
        assert_eq!(config.identity, Some(Identity::Managed));
    }

    #[test]
    fn mistakes_come_with_an_example() {
        assert_eq!(
            config(&[("subscription_id", "s"), ("resource_group", "g")]).unwrap_err().to_string(),
            "the orchestrator has no workspace; give --workspace=my-workspace"
        );
        for (option, text) in [
            ("subscription_id", "a/b"),
            ("resource_group", "../g"),
            ("workspace", "w?x"),
            ("compute", "c/../d"),
            ("instance_type", "Standard DS3"),
            ("identity", "a@b"),
        ] {
            let mut values =
                BTreeMap::from([("subscription_id", "s"), ("resource_group", "g"), ("workspace", "w")]);
            values.insert(option, text);
            let values: Vec<(&str, &str)> = values.into_iter().collect();
            let error = config(&values).unwrap_err();
            assert!(
                matches!(&error, ConfigError::Wrong { option: wrong, .. } if *wrong == option),
                "{error}"
            );
        }
    }
}
