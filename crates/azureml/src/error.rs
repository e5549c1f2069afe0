//! Why Azure Machine Learning did not do what it was asked.

use http::StatusCode;
use longshore_auth::AuthError;
use longshore_endpoint::is_transient;
use longshore_kubeflow::{
    exchange::{Answer, NoAnswer},
    settings::SettingsError,
};
use longshore_orchestrator::{Retry, ServiceError};
use longshore_pipeline::CronError;

use crate::{Config, config::ConfigError};

/// Why Azure Machine Learning did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The settings of a step are wrong.
    #[error("in the settings of step {step}: {source}")]
    Settings {
        /// The step.
        step: String,
        /// What is wrong.
        source: SettingsError,
    },
    /// A field of the settings is not what it should be.
    #[error(
        "in the settings of step {step}: `{text}` is no `{field}`; examples: compute `cpu-cluster`, instance_type \
         `Standard_DS3_v2`, shm_size `2g`"
    )]
    Setting {
        /// The step.
        step: String,
        /// The field.
        field: &'static str,
        /// What was given.
        text: String,
    },
    /// No machine has what is asked for.
    #[error(
        "step {step} wants {wanted}, and no size of machines that longshore knows has that; name one by `instance_type` of \
         its AzureMLSettings"
    )]
    NoSize {
        /// The step.
        step: String,
        /// What it wants.
        wanted: String,
    },
    /// Parameters that are too large.
    #[error(
        "step {step}: its parameters are too large for Azure Machine Learning, which gives a shell all of a command in one \
         argument, and Linux takes 128 KiB there: they are {bytes} bytes, compressed; give large values as outputs of a step \
         before it"
    )]
    LongDocument {
        /// The step.
        step: String,
        /// How large they are.
        bytes: usize,
    },
    /// There is no safe place for a variable.
    #[error(
        "step {step} needs {variable}, which must not stand in a pipeline job; let the run's identity read and write the \
         artifact store itself, with the role Storage Blob Data Contributor, and give the orchestrator --identity=managed"
    )]
    Secret {
        /// The step.
        step: String,
        /// The variable.
        variable: String,
    },
    /// A schedule that is none.
    #[error("pipeline {pipeline}: {source}")]
    Cron {
        /// The pipeline.
        pipeline: String,
        /// What is wrong.
        source: CronError,
    },
    /// A schedule for other days than the service's triggers have.
    #[error(
        "pipeline {pipeline} has the schedule `{cron}`: triggers of Azure Machine Learning are for days of the week, or for days \
         of every month, not for both nor for some months; leave the others `*`"
    )]
    Days {
        /// The pipeline.
        pipeline: String,
        /// Its schedule.
        cron: String,
    },
    /// A time zone that Windows has no name for.
    #[error(
        "pipeline {pipeline}: Windows, whose time zones schedules of Azure Machine Learning have, has none for `{zone}`; name \
         one as Europe/Zurich"
    )]
    TimeZone {
        /// The pipeline.
        pipeline: String,
        /// The time zone.
        zone: String,
    },
    /// A schedule was not made.
    #[error("cannot {what}: it became {state}; {url} says why")]
    NotMade {
        /// What was wanted.
        what: String,
        /// What became of it.
        state: String,
        /// Where that is shown.
        url: String,
    },
    /// A schedule prints nothing.
    #[error("{0} is a schedule: its runs have logs of their own, which the studio shows")]
    ScheduleHasNoLog(String),
    /// A log that cannot be read from here.
    #[error(
        "cannot read the log of step {step}: the workspace's storage answered {status}; let this machine through the storage \
         account's firewall, or read it in the studio: {url}"
    )]
    Log {
        /// The step.
        step: String,
        /// What the storage answered.
        status: StatusCode,
        /// The run in the studio.
        url: String,
    },
    /// There is no credential.
    #[error("cannot {what}: {source}")]
    Credential {
        /// What was wanted.
        what: String,
        /// Why not.
        source: AuthError,
    },
    /// There was no answer.
    #[error("cannot {what}: {source}")]
    NoAnswer {
        /// What was wanted.
        what: String,
        /// Why not.
        source: NoAnswer,
    },
    /// A refusal.
    #[error("cannot {what}: {reason}{remedy}")]
    Refused {
        /// What was wanted.
        what: String,
        /// The status.
        status: StatusCode,
        /// What it said.
        reason: String,
        /// What to do, after a semicolon.
        remedy: String,
    },
    /// An answer that is not the API's.
    #[error(
        "cannot {what}: {host} answered with something else than Azure's API does; check that no proxy answers in its place"
    )]
    Unexpected {
        /// What was wanted.
        what: String,
        /// Who answered.
        host: String,
    },
    /// The history of runs is somewhere that tokens are not for.
    #[error(
        "cannot {what}: the workspace says that its region answers at {host}, which is no host of Azure Machine Learning in \
         the connector's cloud; check the connector's `cloud`"
    )]
    Region {
        /// What was wanted.
        what: String,
        /// Where the workspace says it is.
        host: String,
    },
    /// The run has no step of that name.
    #[error("run {run} has no step {step}; it has {}", .steps.join(", "))]
    NoStep {
        /// The run.
        run: String,
        /// The step.
        step: String,
        /// Its steps.
        steps: Vec<String>,
    },
}

impl Error {
    /// Whether the same may work when it is tried again.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NoAnswer { source, .. } => source.fault.is_retryable(),
            Self::Credential { source, .. } => source.is_retryable(),
            Self::Refused { status, .. } | Self::Log { status, .. } => is_transient(*status),
            _ => false,
        }
    }

    /// A refusal, with what to do about it.
    pub(crate) fn refused(what: &str, answer: &Answer, config: &Config) -> Self {
        let json = answer.json();
        let code = json.pointer("/error/code").and_then(serde_json::Value::as_str).unwrap_or_default();
        let reason = answer.reason();
        let lower = format!("{code} {reason}").to_ascii_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
        let Config { subscription_id, resource_group, workspace, .. } = config;
        let remedy = match answer.status.as_u16() {
            401 => {
                "; the connector's credentials are not accepted: longshore service-connector verify says why"
                    .to_owned()
            }
            403 => {
                let scope = quoted_after(&reason, "over scope ").unwrap_or(&config.workspace_id()).to_owned();
                let whom = quoted_after(&reason, "object id ").unwrap_or("APPLICATION_OR_IDENTITY");
                format!(
                    "; let the connector's account do that: az role assignment create --assignee {whom} --role \"AzureML \
                     Data Scientist\" --scope {scope}"
                )
            }
            _ if has(&["quota"]) => format!(
                "; ask for more quota (https://ml.azure.com/quota, subscription {subscription_id}), or name another \
                 `instance_type`"
            ),
            _ if has(&["subscriptionnotfound", "invalidsubscriptionid"]) => {
                "; check --subscription_id of the orchestrator, and the connector's tenant".to_owned()
            }
            _ if has(&["resourcegroupnotfound"]) => {
                format!("; check --resource_group: az group list --subscription {subscription_id}")
            }
            400 | 404 if has(&["compute"]) => format!(
                "; the workspace's computes: az ml compute list --workspace-name {workspace} --resource-group \
                 {resource_group} --subscription {subscription_id}"
            ),
            404 if has(&["/workspaces/", "workspace"])
                && has(&["resourcenotfound", "workspace not found"]) =>
            {
                format!(
                    "; check --workspace: az ml workspace list --resource-group {resource_group} --subscription \
                     {subscription_id}"
                )
            }
            404 => format!("; check the name, and that the workspace {workspace} is right"),
            429 => "; Resource Manager is asked too often: try again later".to_owned(),
            _ => String::new(),
        };
        Self::Refused { what: what.to_owned(), status: answer.status, reason, remedy }
    }
}

/// What is quoted after some words: `over scope '/subscriptions/…'`.
fn quoted_after<'a>(text: &'a str, words: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(words)?;
    let (quoted, _) = rest.strip_prefix('\'')?.split_once('\'')?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./()".contains(c);
    (!quoted.is_empty() && quoted.chars().all(is_plain)).then_some(quoted)
}

impl From<Error> for ServiceError {
    fn from(error: Error) -> Self {
        let retry = if error.is_retryable() { Retry::Maybe } else { Retry::Never };
        Self::new(error, retry)
    }
}
