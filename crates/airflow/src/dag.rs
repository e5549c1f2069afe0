//! The DAG file of a workflow.

use std::fmt::Write as _;

use longshore_orchestrator::{Content, Document, Workflow};
use sha2::{Digest as _, Sha256};

use crate::{Config, Error, Operator, name::valid, operator, python::text};

/// What the file begins with: what longshore wrote, it may write again.
pub(crate) const HEADER: &str = "# Written by longshore";

/// What stands for the documentation until the file is whole.
const VERSION: &str = "\0";
/// What Airflow puts the run's name in place of. Runs of one DAG have names of their own, so the DAG's is in front.
const RUN: &str = "{{ run_folder(dag_run) }}";

/// The function of the file that names the folder of a run.
const RUN_FOLDER: &str = r#"def run_folder(dag_run):
    """The name of the folder in which a run keeps its outputs: the DAG's and the run's, without what folders do not like."""
    digest = hashlib.sha256(dag_run.run_id.encode()).hexdigest()[:8]
    run = re.sub("[^A-Za-z0-9]+", "-", dag_run.run_id)[:80].strip("-")
    return f"{dag_run.dag_id}-{run}-{digest}"
"#;

/// A workflow for Airflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The name of the DAG.
    pub dag: String,
    /// The DAG file: Python.
    pub file: String,
    /// What its documentation says of which version it is.
    pub version: String,
}

impl Plan {
    /// Plans a workflow.
    pub fn new(workflow: &Workflow, config: &Config) -> Result<Self, Error> {
        let dag = valid(&workflow.pipeline);
        let mut file = format!(
            "{HEADER} for the pipeline {}: changes are lost when it is submitted again.\n",
            // A name has no line in it; what somebody else made of one has none here.
            workflow.pipeline.replace(|c: char| c.is_control(), " ")
        );
        file.push_str(match config.operator {
            Operator::Kubernetes => IMPORTS_OF_PODS,
            Operator::Docker => IMPORTS_OF_CONTAINERS,
        });
        file.extend(["\n\n", RUN_FOLDER, "\n\n"]);
        let (cron, timezone) = match &workflow.schedule {
            Some(schedule) => (text(&schedule.cron), text(&schedule.timezone)),
            None => ("None".to_owned(), text("UTC")),
        };
        file.extend([format!(
            "with DAG(\n    dag_id={},\n    doc_md={VERSION},\n    schedule={cron},\n    start_date=pendulum.datetime(2024, 1, 1, tz={timezone}),\n    \
             catchup=False,\n    is_paused_upon_creation=False,\n    user_defined_macros={{\"run_folder\": run_folder}},\n    \
             tags=[\"longshore\"],\n) as dag:\n    tasks = {{}}\n",
            text(&dag),
        )]);
        for step in &workflow.steps {
            let task = valid(&step.name);
            let arguments = operator::arguments(step, &task, RUN, config)?;
            let class = match config.operator {
                Operator::Kubernetes => "KubernetesPodOperator",
                Operator::Docker => "DockerOperator",
            };
            file.extend([format!("    tasks[{}] = {class}(\n", text(&task))]);
            for argument in arguments {
                file.extend(["        ", &argument, ",\n"]);
            }
            file.push_str("    )\n");
        }
        for step in workflow.steps.iter().filter(|step| !step.upstream.is_empty()) {
            let before: Vec<String> =
                step.upstream.iter().map(|name| format!("tasks[{}]", text(&valid(name)))).collect();
            file.extend([format!("    [{}] >> tasks[{}]\n", before.join(", "), text(&valid(&step.name)))]);
        }
        let version = version(&file);
        let documentation = format!("{} in the version {version}, written by longshore.", workflow.pipeline);
        Ok(Self { dag, file: file.replacen(VERSION, &text(&documentation), 1), version })
    }

    /// The name of the file.
    pub fn file_name(&self) -> String {
        file_name(&self.dag)
    }

    /// What is submitted.
    pub fn documents(self) -> Vec<Document> {
        vec![Document { name: self.file_name(), content: Content::Text(self.file) }]
    }
}

/// What is the same for the same text: twelve digits of its digest.
fn version(text: &str) -> String {
    Sha256::digest(text).iter().take(6).fold(String::new(), |mut hex, byte| {
        // Writing to a text does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// The name of the file of a DAG.
pub(crate) fn file_name(dag: &str) -> String {
    format!("{dag}.py")
}

const IMPORTS_OF_PODS: &str = "
import hashlib
import re
from datetime import timedelta

import pendulum
from airflow import DAG
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.secret import Secret
from kubernetes.client import models as k8s
";

const IMPORTS_OF_CONTAINERS: &str = "
import hashlib
import re
from datetime import timedelta

import pendulum
from airflow import DAG
from airflow.providers.docker.operators.docker import DockerOperator
from docker.types import DeviceRequest
";
