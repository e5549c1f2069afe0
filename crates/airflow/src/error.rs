//! Why a pipeline was not given to Airflow.

use std::{io, path::PathBuf};

use http::StatusCode;
use longshore_auth::AuthError;
use longshore_endpoint::is_transient;
use longshore_kubeflow::{Unreadable, exchange::NoAnswer, settings::SettingsError};
use longshore_orchestrator::{Retry, ServiceError};

use crate::{Operator, config::ConfigError};

/// Why a pipeline was not given to Airflow.
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
    /// A setting of the other operator.
    #[error(
        "in the settings of step {step}: `{field}` means nothing to the operator {}; take it out, or register the orchestrator \
         with the other operator", .operator.as_str()
    )]
    OtherOperator {
        /// The step.
        step: String,
        /// The setting.
        field: &'static str,
        /// The operator.
        operator: Operator,
    },
    /// A variable that must not stand in a DAG file, with the operator kubernetes.
    #[error(
        "step {step} needs {variable}, which must not stand in a DAG file; keep it in a Secret of the cluster and give \
         AirflowSettings(secret_environment={{\"{variable}\": \"secret/key\"}}), or let the pod's service account read and \
         write the artifact store itself"
    )]
    SecretOfPod {
        /// The step.
        step: String,
        /// The variable.
        variable: String,
    },
    /// A variable that must not stand in a DAG file, with the operator docker.
    #[error(
        "step {step} needs {variable}, which must not stand in a DAG file, and the operator docker has no safe place for it; \
         let the machine that Docker runs on read and write the artifact store itself, or take the operator kubernetes"
    )]
    SecretOfContainer {
        /// The step.
        step: String,
        /// The variable.
        variable: String,
    },
    /// The folder is not there.
    #[error(
        "cannot {what}: there is no folder {}; make it, or give the folder that Airflow reads its DAGs from (`airflow config \
         get-value core dags_folder` prints it)", .folder.display()
    )]
    NoFolder {
        /// What was wanted.
        what: String,
        /// The folder.
        folder: PathBuf,
    },
    /// The file of somebody else.
    #[error(
        "cannot {what}: a file of that name is there, and longshore has not written it; move it, or give the pipeline another \
         name"
    )]
    Foreign {
        /// What was wanted.
        what: String,
    },
    /// The folder cannot be read or written.
    #[error(
        "cannot {what}: {source}; check who may write into {}, and that the disk is not full", .folder.display()
    )]
    Io {
        /// What was wanted.
        what: String,
        /// The folder.
        folder: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There is no credential, or no answer.
    #[error(transparent)]
    Auth(#[from] AuthError),
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
    /// Somebody else changes the file all the time.
    #[error("cannot {what}: somebody else changes the file at the same time; try again")]
    Busy {
        /// What was wanted.
        what: String,
    },
    /// The file is not there any more.
    #[error(
        "the DAG {dag} has no file any more: {file} is not there, or longshore has not written it; submit the pipeline again"
    )]
    NoFile {
        /// The DAG.
        dag: String,
        /// Where it would be.
        file: String,
    },
    /// A secret that cannot be read.
    #[error("cannot {what}: the {named} for Airflow: {source}")]
    Unreadable {
        /// What was wanted.
        what: String,
        /// Which secret.
        named: &'static str,
        /// Why not.
        source: Unreadable,
    },
    /// An answer that is not the API's.
    #[error(
        "cannot {what}: {host} answered with something else than Airflow's API does; check --api, and that no proxy answers in \
         its place"
    )]
    Unexpected {
        /// What was wanted.
        what: String,
        /// Who answered.
        host: String,
    },
    /// Airflow could not import the file.
    #[error(
        "cannot {what}: Airflow could not import {file}: {reason}; check that the operator's provider is installed there"
    )]
    Import {
        /// What was wanted.
        what: String,
        /// The file.
        file: String,
        /// The last line of what Python said.
        reason: String,
    },
    /// Airflow has not read the file.
    #[error(
        "cannot {what}: Airflow has not read {file} for {minutes} minutes; check that it reads its DAGs from there, and that its \
         DAG processor runs"
    )]
    NotRead {
        /// What was wanted.
        what: String,
        /// The file.
        file: String,
        /// For how long.
        minutes: u64,
    },
    /// A run that was begun at an API which the orchestrator has no more.
    #[error(
        "run {run} was begun at Airflow's API, which the orchestrator does not name any more; give it --api=URL again"
    )]
    NoServer {
        /// The run.
        run: String,
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
    /// What tasks print is Airflow's to show.
    #[error(
        "the logs of {dag} cannot be had from here: Airflow's own page shows them, and `airflow dags list-runs {dag}` on a \
         machine of Airflow's lists its runs"
    )]
    NoLog {
        /// The DAG.
        dag: String,
    },
}

impl Error {
    /// Whether the same may work when it is tried again.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Auth(source) => source.is_retryable(),
            Self::NoAnswer { source, .. } => source.fault.is_retryable(),
            Self::Refused { status, .. } => is_transient(*status),
            Self::Busy { .. } => true,
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
