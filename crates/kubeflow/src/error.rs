//! Why Kubeflow did not do what it was asked.

use http::StatusCode;
use longshore_endpoint::is_transient;
use longshore_orchestrator::{Retry, ServiceError};

use crate::{config::ConfigError, exchange::NoAnswer, ir::IrError, settings::SettingsError};

/// Why Kubeflow did not do what it was asked.
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
    /// The workflow cannot be written down.
    #[error(transparent)]
    Ir(#[from] IrError),
    /// There is no safe place for a variable.
    #[error(
        "step {step} needs {}, which must not stand in a pipeline; put them into a Kubernetes Secret (kubectl create secret \
         generic longshore --namespace={namespace} --from-literal={}=…) and name it: --secret=longshore",
        .variables.join(" and "), .variables.first().map_or("NAME", String::as_str)
    )]
    NoSecret {
        /// The step.
        step: String,
        /// The variables.
        variables: Vec<String>,
        /// Where Secrets of runs are.
        namespace: String,
    },
    /// A schedule in another time zone.
    #[error(
        "the schedule is in the time zone {asked}, and this Kubeflow keeps schedules in {kept}: it has one time zone for all of \
         them (CRON_SCHEDULE_TIMEZONE of ml-pipeline-scheduledworkflow); write the schedule in {kept}, or, if the installation \
         has another, give --timezone"
    )]
    Timezone {
        /// The schedule's.
        asked: String,
        /// The installation's.
        kept: String,
    },
    /// There was no answer.
    #[error("cannot {what}: {source}")]
    NoAnswer {
        /// What was wanted.
        what: String,
        /// Why not.
        source: NoAnswer,
    },
    /// A login form answered in place of the API.
    #[error(
        "cannot {what}: {host} wants a login in a browser; give the cookies of a session (--cookies=env:NAME) or a token that \
         its gateway accepts (--token=env:NAME), or reach Kubeflow past it: kubectl port-forward --namespace=kubeflow \
         svc/ml-pipeline 8888:8888, and --host=http://localhost:8888"
    )]
    Login {
        /// What was wanted.
        what: String,
        /// Who answered.
        host: String,
    },
    /// The token is not accepted.
    #[error("cannot {what}: {host} does not accept who we are ({reason}); {remedy}")]
    Unauthenticated {
        /// What was wanted.
        what: String,
        /// Who answered.
        host: String,
        /// What it said.
        reason: String,
        /// What to do.
        remedy: &'static str,
    },
    /// There is no permission.
    #[error("cannot {what}: {host} does not allow it ({reason}); {remedy}")]
    Forbidden {
        /// What was wanted.
        what: String,
        /// Who answered.
        host: String,
        /// What it said.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// It does not exist.
    #[error("cannot {what}: {host} has no such thing ({reason}); {remedy}")]
    NotFound {
        /// What was wanted.
        what: String,
        /// Who answered.
        host: String,
        /// What it said.
        reason: String,
        /// What to do.
        remedy: &'static str,
    },
    /// Some other refusal.
    #[error("cannot {what}: {host} answered {status}: {reason}")]
    Refused {
        /// What was wanted.
        what: String,
        /// Who answered.
        host: String,
        /// The status.
        status: StatusCode,
        /// What it said.
        reason: String,
    },
    /// An answer that is not the API's.
    #[error(
        "cannot {what}: {host} answered with something else than Kubeflow Pipelines' API, version 2beta1, does; check that \
         --host is where Kubeflow Pipelines 2 or newer is served"
    )]
    Unexpected {
        /// What was wanted.
        what: String,
        /// Who answered.
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
    /// There is no log.
    #[error(
        "Kubeflow has no log of step {step} ({reason}): the pod is gone, or was never made; what Kubeflow keeps of it is at {url}"
    )]
    NoLog {
        /// The step.
        step: String,
        /// What the service said.
        reason: String,
        /// Where to look.
        url: String,
    },
    /// A schedule prints nothing itself.
    #[error("{0} is a schedule, which prints nothing; ask for the logs of one of its runs")]
    ScheduleHasNoLog(String),
}

impl Error {
    /// Whether the same may work when it is tried again.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NoAnswer { source, .. } => source.fault.is_retryable(),
            Self::Refused { status, .. } => is_transient(*status),
            _ => false,
        }
    }
}

impl From<Error> for ServiceError {
    fn from(error: Error) -> Self {
        let retry = if error.is_retryable() { Retry::Maybe } else { Retry::Never };
        Self::new(error, retry)
    }
}
