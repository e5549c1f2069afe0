//! Why Vertex AI did not do what it was asked.

use http::StatusCode;
use longshore_auth::AuthError;
use longshore_endpoint::is_transient;
use longshore_kubeflow::{
    IrError,
    exchange::{Answer, NoAnswer},
    settings::SettingsError,
};
use longshore_orchestrator::{Retry, ServiceError};

use crate::{Config, config::ConfigError};

/// Why Vertex AI did not do what it was asked.
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
    /// There is nowhere for Vertex AI's own records.
    #[error(
        "Vertex AI keeps records of its own in Cloud Storage, and the artifact store is elsewhere; give the orchestrator \
         --pipeline_root=gs://BUCKET/FOLDER, or take an artifact store in Cloud Storage"
    )]
    NoPipelineRoot,
    /// A timeout.
    #[error(
        "step {step} has a timeout ({seconds} s), which Vertex AI's container tasks do not have; take it out, or end the work \
         in the step itself"
    )]
    Timeout {
        /// The step.
        step: String,
        /// How long.
        seconds: u64,
    },
    /// There is no safe place for a variable.
    #[error(
        "step {step} needs {variable}, which must not stand in a pipeline job; Vertex AI has no safe place for it: let the \
         run's service account read and write the artifact store itself, as it does in Cloud Storage with \
         roles/storage.objectUser"
    )]
    Secret {
        /// The step.
        step: String,
        /// The variable.
        variable: String,
    },
    /// Accelerators of no type.
    #[error(
        "step {step} wants accelerators and does not say which; set `gpu_type` of its ResourceSettings, e.g. NVIDIA_L4"
    )]
    NoAcceleratorType {
        /// The step.
        step: String,
    },
    /// Accelerators that do not exist.
    #[error("step {step}: Vertex AI has no accelerators of type `{name}`{hint}")]
    AcceleratorType {
        /// The step.
        step: String,
        /// The type.
        name: String,
        /// What there is instead.
        hint: String,
    },
    /// What is no type of a machine.
    #[error("step {step}: `{name}` is no type of a machine; an example: n1-highmem-8")]
    MachineType {
        /// The step.
        step: String,
        /// What was given.
        name: String,
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
    /// There is no such location.
    #[error(
        "cannot {what}: there is no Vertex AI in {location}, or the network does not know the name {host}; regions are listed \
         at https://cloud.google.com/vertex-ai/docs/general/locations"
    )]
    Location {
        /// What was wanted.
        what: String,
        /// The location.
        location: String,
        /// The host of its API.
        host: String,
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
        "cannot {what}: {host} answered with something else than Vertex AI's API does; check that no proxy answers in its place"
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
    /// A schedule prints nothing itself.
    #[error("{0} is a schedule, which prints nothing; ask for the logs of one of its runs")]
    ScheduleHasNoLog(String),
}

impl Error {
    /// Whether the same may work when it is tried again.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NoAnswer { source, .. } => source.fault.is_retryable(),
            Self::Credential { source, .. } => source.is_retryable(),
            Self::Refused { status, .. } => is_transient(*status),
            _ => false,
        }
    }

    /// A refusal, with what to do about it.
    pub(crate) fn refused(what: &str, answer: &Answer, api: GoogleApi, config: &Config) -> Self {
        let reason = answer.reason();
        let (project, lower) = (&config.project, reason.to_ascii_lowercase());
        let service = api.host();
        let remedy = match answer.status.as_u16() {
            401 => {
                "; the connector's credentials are not accepted: longshore service-connector verify says why"
                    .to_owned()
            }
            403 if lower.contains("has not been used in project") || lower.contains("is disabled") => {
                format!("; switch the API on: gcloud services enable {service} --project={project}")
            }
            403 if lower.contains("actas") => format!(
                "; grant the connector's account roles/iam.serviceAccountUser on the service account {}",
                config.service_account.as_deref().unwrap_or("that Compute Engine has by default")
            ),
            403 => {
                format!("; grant the connector's account {} in the project {project}", api.role())
            }
            404 => format!(
                "; check the name, and that the project {project} and the location {} are right",
                config.location
            ),
            429 => format!(
                "; ask for more quota (https://console.cloud.google.com/iam-admin/quotas?project={project}), or try again later"
            ),
            _ => String::new(),
        };
        Self::Refused { what: what.to_owned(), status: answer.status, reason, remedy }
    }
}

/// The APIs of Google's that are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GoogleApi {
    Vertex,
    Logging,
}

impl GoogleApi {
    const fn host(self) -> &'static str {
        match self {
            Self::Vertex => "aiplatform.googleapis.com",
            Self::Logging => "logging.googleapis.com",
        }
    }

    const fn role(self) -> &'static str {
        match self {
            Self::Vertex => "roles/aiplatform.user",
            Self::Logging => "roles/logging.viewer",
        }
    }
}

impl From<Error> for ServiceError {
    fn from(error: Error) -> Self {
        let retry = if error.is_retryable() { Retry::Maybe } else { Retry::Never };
        Self::new(error, retry)
    }
}
