//! Why `SageMaker` did not do what it was asked.

use longshore_auth::{
    AuthError,
    aws::{AmazonApi, AmazonRefusal, AmazonRest},
};
use longshore_kubeflow::settings::SettingsError;
use longshore_orchestrator::{Retry, ServiceError};
use longshore_pipeline::CronError;

use crate::{Config, config::ConfigError};

/// Why `SageMaker` did not do what it was asked.
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
    /// A setting that is not what it should be.
    #[error(
        "in the settings of step {step}: SagemakerSettings: `{field}` is {text}, which SageMaker does not take"
    )]
    Setting {
        /// The step.
        step: String,
        /// The setting.
        field: &'static str,
        /// What it is.
        text: String,
    },
    /// A schedule that is none.
    #[error("pipeline {pipeline}: {source}")]
    Cron {
        /// The pipeline.
        pipeline: String,
        /// What is wrong.
        source: CronError,
    },
    /// A schedule for days of the month and days of the week.
    #[error(
        "pipeline {pipeline} has the schedule `{cron}`, for days of the month and for days of the week: cron runs on either, \
         which Amazon EventBridge Scheduler cannot say; leave one of them `*`"
    )]
    Days {
        /// The pipeline.
        pipeline: String,
        /// Its schedule.
        cron: String,
    },
    /// A schedule prints nothing.
    #[error(
        "{0} is a schedule: its runs have logs of their own, in the console of SageMaker, below the pipeline's executions"
    )]
    ScheduleHasNoLog(String),
    /// An artifact store elsewhere.
    #[error(
        "SageMaker keeps outputs in S3, and the artifact store is elsewhere; take one with a URI that begins with s3://"
    )]
    Store,
    /// There is no safe place for a variable.
    #[error(
        "step {step} needs {variable}, which must not stand in a pipeline definition; let the role {role} read and write the \
         artifact store itself"
    )]
    Secret {
        /// The step.
        step: String,
        /// The variable.
        variable: String,
        /// The role that it runs as.
        role: String,
    },
    /// No instance has so much.
    #[error(
        "step {step}: no instance that longshore knows has the processors, memory and accelerators that it wants; name one that \
         has: SagemakerSettings(instance_type=\"ml.p4d.24xlarge\")"
    )]
    NoInstance {
        /// The step.
        step: String,
    },
    /// Parameters that are too large.
    #[error(
        "step {step}: its parameters are too large for SageMaker, which takes 100 arguments of 256 characters: they are {bytes} \
         bytes, compressed; give large values as outputs of a step before it"
    )]
    LongDocument {
        /// The step.
        step: String,
        /// How large they are.
        bytes: usize,
    },
    /// A definition that is too large.
    #[error(
        "pipeline {pipeline} is too large for SageMaker: its definition has {bytes} bytes, and may have 1048576; make two \
         pipelines of it, or give steps smaller parameters"
    )]
    LongDefinition {
        /// The pipeline.
        pipeline: String,
        /// How large it is.
        bytes: usize,
    },
    /// The reference of an image that is too long.
    #[error(
        "step {step}: the image {image} has a name that is too long for SageMaker, which takes 255 characters; push it to a repository with a shorter name"
    )]
    LongImage {
        /// The step.
        step: String,
        /// The image.
        image: String,
    },
    /// A variable that is too long.
    #[error(
        "step {step}: {variable} is longer than the {longest} characters that SageMaker takes; shorten it"
    )]
    LongVariable {
        /// The step.
        step: String,
        /// The variable.
        variable: String,
        /// The most characters.
        longest: usize,
    },
    /// Too many variables.
    #[error("step {step} has {count} environment variables, and SageMaker takes 100; take some out")]
    ManyVariables {
        /// The step.
        step: String,
        /// How many.
        count: usize,
    },
    /// A time limit that is too long.
    #[error(
        "step {step}: with its retries it may take {seconds} s, and SageMaker's jobs end after {most} s; shorten its timeout"
    )]
    Timeout {
        /// The step.
        step: String,
        /// How long it may take.
        seconds: u64,
        /// How long a job may take.
        most: u64,
    },
    /// There is no credential, or no answer.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// A refusal.
    #[error("cannot {what}: {message} ({code}){remedy}")]
    Refused {
        /// What was wanted.
        what: String,
        /// A word for programs.
        code: String,
        /// What it said.
        message: String,
        /// What to do, after a semicolon.
        remedy: String,
    },
    /// An answer that is not the API's.
    #[error(
        "cannot {what}: the answer has no {field}; check AWS_ENDPOINT_URL, and that no proxy answers in SageMaker's place"
    )]
    Unexpected {
        /// What was wanted.
        what: String,
        /// What is missing.
        field: &'static str,
    },
    /// The run has no step of that name, or it has not begun.
    #[error("run {run} has no step {step} that has begun; those that have: {}", .steps.join(", "))]
    NoStep {
        /// The run.
        run: String,
        /// The step.
        step: String,
        /// Those that have begun.
        steps: Vec<String>,
    },
}

/// Which of Amazon's APIs was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// `SageMaker`.
    SageMaker,
    /// `CloudWatch` Logs.
    Logs,
    /// `EventBridge` Scheduler.
    Scheduler,
}

impl Asked {
    const fn name(self) -> &'static str {
        match self {
            Self::SageMaker => "SageMaker Pipelines",
            Self::Logs => "CloudWatch Logs",
            Self::Scheduler => "EventBridge Scheduler",
        }
    }

    /// What policies have before a colon.
    const fn signing_name(self) -> &'static str {
        match self {
            Self::SageMaker => AmazonApi::SageMaker.signing_name(),
            Self::Logs => AmazonApi::Logs.signing_name(),
            Self::Scheduler => AmazonRest::Scheduler.signing_name(),
        }
    }
}

impl From<AmazonApi> for Asked {
    fn from(api: AmazonApi) -> Self {
        match api {
            AmazonApi::SageMaker => Self::SageMaker,
            AmazonApi::Logs => Self::Logs,
        }
    }
}

/// Refusals that are another answer later.
const TRANSIENT: [&str; 6] = [
    "ThrottlingException",
    "Throttling",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "ServiceUnavailableException",
    "InternalFailure",
];

impl Error {
    /// Whether the same may work when it is tried again.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Auth(source) => source.is_retryable(),
            Self::Refused { code, .. } => TRANSIENT.contains(&code.as_str()),
            _ => false,
        }
    }

    /// A refusal, with what to do about it.
    pub(crate) fn refused(
        what: &str,
        (api, action): (Asked, &str),
        refusal: AmazonRefusal,
        config: &Config,
    ) -> Self {
        let AmazonRefusal { code, message } = refusal;
        let region = &config.region;
        let (role, trusted) = match api {
            Asked::Scheduler => (config.scheduler_role(), "scheduler.amazonaws.com"),
            Asked::SageMaker | Asked::Logs => (config.role.as_str(), "sagemaker.amazonaws.com"),
        };
        let remedy = match code.as_str() {
            _ if message.contains("iam:PassRole") => {
                format!("; allow iam:PassRole on {role} in the policies of the connector's identity")
            }
            "AccessDeniedException" | "AccessDenied" => {
                format!("; allow {}:{action} in the policies of the connector's identity", api.signing_name())
            }
            "ValidationException" if message.contains("assume") || message.contains("role") => {
                format!("; check that the role {role} exists and trusts {trusted}")
            }
            "ResourceLimitExceeded" => format!(
                "; ask for more in Service Quotas (https://{region}.console.aws.amazon.com/servicequotas/home/services/sagemaker/quotas), \
                 or name another instance type"
            ),
            "ValidationException" if message.to_ascii_lowercase().contains("timezone") => {
                "; name a time zone of the IANA: Europe/Zurich".to_owned()
            }
            "ServiceQuotaExceededException" => format!(
                "; ask for more schedules in Service Quotas (https://{region}.console.aws.amazon.com/servicequotas/home/services/scheduler/quotas)"
            ),
            "ResourceNotFound" | "ResourceNotFoundException" => {
                format!("; check the name, and that the region {region} is right")
            }
            "UnknownOperationException" | "UnknownEndpoint" => {
                format!("; check that {} is offered in {region}", api.name())
            }
            _ => String::new(),
        };
        Self::Refused { what: what.to_owned(), code, message, remedy }
    }
}

impl From<Error> for ServiceError {
    fn from(error: Error) -> Self {
        let retry = if error.is_retryable() { Retry::Maybe } else { Retry::Never };
        Self::new(error, retry)
    }
}
