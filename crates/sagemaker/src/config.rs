//! The configuration of the orchestrator.

use std::collections::BTreeMap;

/// In which region pipelines run, as whom, and on what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The ARN of the role that pipelines and steps run as.
    pub role: String,
    /// The region.
    pub region: String,
    /// The type of instances, for steps that name none.
    pub instance_type: Option<String>,
    /// The size of instances' volumes, in GB.
    pub volume_size: Option<u32>,
    /// The subnets that steps are in.
    pub subnets: Vec<String>,
    /// The security groups of steps.
    pub security_groups: Vec<String>,
    /// Tags of pipelines and jobs.
    pub tags: BTreeMap<String, String>,
    /// How many steps of a run may run at once.
    pub max_parallelism: Option<u32>,
    /// The ARN of the role that schedules start pipelines as, if it is another one.
    pub scheduler_role: Option<String>,
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
    /// Subnets without security groups, or these without those.
    #[error("--{0} goes with --{1}: give both, or neither")]
    Together(&'static str, &'static str),
    /// An option that does not exist.
    #[error("the orchestrator has no option {0}")]
    Unknown(String),
}

/// The options, each with an example.
const OPTIONS: [(&str, &str); 9] = [
    ("role", "arn:aws:iam::123456789012:role/SageMakerExecution"),
    ("region", "eu-central-1"),
    ("instance_type", "ml.m5.xlarge"),
    ("volume_size", "30"),
    ("subnets", "subnet-0a1b2c3d,subnet-4e5f6a7b"),
    ("security_groups", "sg-0a1b2c3d"),
    ("tags", "team=ml,cost=42"),
    ("max_parallelism", "10"),
    ("scheduler_role", "arn:aws:iam::123456789012:role/StartPipelines"),
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
            Some(text) if !text.is_empty() && !valid(text) => {
                Err(ConfigError::Wrong { option, text: text.clone() })
            }
            given => Ok(given.filter(|text| !text.is_empty()).cloned()),
        };
        let number = |option: &'static str, most: u32| {
            let given = text(option, |_| true)?;
            let read = |text: String| match text.parse::<u32>() {
                Ok(number) if (1..=most).contains(&number) => Ok(number),
                _ => Err(ConfigError::Wrong { option, text }),
            };
            given.map(read).transpose()
        };
        let list = |option: &'static str, valid: fn(&str) -> bool| {
            let given = text(option, valid)?.unwrap_or_default();
            Ok(given
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(str::to_owned)
                .collect::<Vec<_>>())
        };
        let config = Self {
            role: text("role", is_role)?.ok_or(ConfigError::Missing("role"))?,
            region: text("region", is_region)?.ok_or(ConfigError::Missing("region"))?,
            instance_type: text("instance_type", is_instance_type)?,
            volume_size: number("volume_size", LARGEST_VOLUME)?,
            subnets: list("subnets", |text| are_ids(text, "subnet-", 16))?,
            security_groups: list("security_groups", |text| are_ids(text, "sg-", 5))?,
            tags: text("tags", |text| tag_map(text).is_some())?
                .and_then(|text| tag_map(&text))
                .unwrap_or_default(),
            max_parallelism: number("max_parallelism", u32::MAX)?,
            scheduler_role: text("scheduler_role", is_role)?,
        };
        match (config.subnets.is_empty(), config.security_groups.is_empty()) {
            (false, true) => Err(ConfigError::Together("subnets", "security_groups")),
            (true, false) => Err(ConfigError::Together("security_groups", "subnets")),
            _ => Ok(config),
        }
    }

    /// The role that schedules start pipelines as.
    pub fn scheduler_role(&self) -> &str {
        self.scheduler_role.as_deref().unwrap_or(&self.role)
    }
}

/// GB of the largest volume (`ProcessingVolumeSizeInGB`).
pub(crate) const LARGEST_VOLUME: u32 = 16_384;

/// The pattern of `RoleArn`.
pub(crate) fn is_role(text: &str) -> bool {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let [arn, partition, "iam", "", account, role] = parts[..] else { return false };
    arn == "arn"
        && partition.starts_with("aws")
        && account.len() == 12
        && account.bytes().all(|digit| digit.is_ascii_digit())
        && role.strip_prefix("role/").is_some_and(|name| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "+=,.@-_/".contains(c))
        })
}

fn is_region(text: &str) -> bool {
    text.split('-').count() >= 3
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && text.ends_with(|c: char| c.is_ascii_digit())
}

/// `ml.m5.xlarge`: which ones there are changes, and differs between regions.
pub(crate) fn is_instance_type(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    let word = |part: &&str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    matches!(parts[..], ["ml", _, _]) && parts.iter().all(word)
}

pub(crate) fn are_ids(text: &str, prefix: &str, most: usize) -> bool {
    let items: Vec<&str> = text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect();
    (1..=most).contains(&items.len())
        && items.iter().all(|item| {
            item.len() <= 32
                && item.strip_prefix(prefix).is_some_and(|id| {
                    !id.is_empty() && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
                })
        })
}

/// Whether a tag's key or value has the characters of tags, and no more than so many.
pub(crate) fn is_tag(text: &str, most: usize) -> bool {
    text.chars().count() <= most
        && text.chars().all(|c| c.is_alphanumeric() || c == ' ' || "_.:/=+-@".contains(c))
}

fn tag_map(text: &str) -> Option<BTreeMap<String, String>> {
    text.split(',')
        .map(|tag| {
            let (key, value) = tag.split_once('=')?;
            let (key, value) = (key.trim(), value.trim());
            (!key.is_empty() && is_tag(key, 128) && is_tag(value, 256))
                .then(|| (key.to_owned(), value.to_owned()))
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
        assert_eq!(config.subnets.len(), 2);
        assert_eq!(config.tags["cost"], "42");
        assert_eq!(config.volume_size, Some(30));
    }

    #[test]
    fn mistakes_come_with_an_example() {
        let missing = config(&[("region", "eu-central-1")]).unwrap_err().to_string();
        assert_eq!(
            missing,
            "the orchestrator has no role; give --role=arn:aws:iam::123456789012:role/SageMakerExecution"
        );
        for (option, text) in [
            ("role", "SageMakerExecution"),
            ("role", "arn:aws:iam::123456789012:user/me"),
            ("region", "evil.example.com/"),
            ("instance_type", "m5.xlarge"),
            ("volume_size", "30GB"),
            ("volume_size", "0"),
            ("subnets", "vpc-1"),
            ("tags", "team"),
        ] {
            let mut values: BTreeMap<String, String> =
                OPTIONS[..2].iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            values.insert(option.to_owned(), text.to_owned());
            assert!(matches!(Config::new(&values), Err(ConfigError::Wrong { .. })), "{option}={text}");
        }
        let alone = config(&[OPTIONS[0], OPTIONS[1], OPTIONS[4]]);
        assert_eq!(alone, Err(ConfigError::Together("subnets", "security_groups")));
    }
}
