//! Why a pipeline was not given to Airflow.

use std::{io, path::PathBuf};

use longshore_kubeflow::settings::SettingsError;
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
        "cannot put pipeline {pipeline} into {}: there is no such folder; make it, or give the folder that Airflow reads its \
         DAGs from (`airflow config get-value core dags_folder` prints it)", .folder.display()
    )]
    NoFolder {
        /// The pipeline.
        pipeline: String,
        /// The folder.
        folder: PathBuf,
    },
    /// The file of somebody else.
    #[error(
        "cannot put pipeline {pipeline} into {}: a file of that name is there, and longshore has not written it; move it, or \
         give the pipeline another name", .file.display()
    )]
    Foreign {
        /// The pipeline.
        pipeline: String,
        /// The file.
        file: PathBuf,
    },
    /// The file cannot be written.
    #[error("cannot write {}: {source}; check who may write into that folder, and that the disk is not full", .file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What Airflow shows itself.
    #[error(
        "{what} of {dag} cannot be had from here: Airflow's own page shows it, and `airflow {command}` on a machine of Airflow's"
    )]
    Elsewhere {
        /// What was wanted.
        what: &'static str,
        /// The DAG.
        dag: String,
        /// A command of Airflow's.
        command: String,
    },
}

impl From<Error> for ServiceError {
    fn from(error: Error) -> Self {
        Self::new(error, Retry::Never)
    }
}
