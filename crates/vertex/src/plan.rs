//! The pipeline job of a workflow.

use std::{collections::BTreeMap, time::Duration};

use longshore_kubeflow::{Accelerator, Dialect, PipelineSpec, pipeline_name, settings::hint};
use longshore_orchestrator::{Content, Document, StoreScheme, Workflow, WorkflowStep};
use serde_json::{Map, Value, json};

use crate::{
    Config, Error, VertexSettings,
    machine::{self, is_machine_type},
    settings::{ACCELERATORS, accelerator},
};

/// Vertex AI's words: the name of a job is its ID, which is known before it is made. It retries for an hour.
const DIALECT: Dialect = Dialect { run: "{{$.pipeline_job_name}}", longest_retry: Duration::from_hours(1) };

/// A workflow for Vertex AI.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What IDs of jobs begin with.
    pub name: String,
    /// The `PipelineJob`.
    pub job: Value,
    /// The `Schedule` that makes such jobs, if it runs by itself.
    pub schedule: Option<Value>,
}

impl Plan {
    /// Plans a workflow.
    pub fn new(workflow: &Workflow, config: &Config) -> Result<Self, Error> {
        for step in &workflow.steps {
            expressible(step)?;
        }
        let root = match (&config.pipeline_root, workflow.store.scheme()) {
            (Some(root), _) => root.clone(),
            (None, StoreScheme::Gcs) => workflow.store.run("vertex"),
            (None, _) => return Err(Error::NoPipelineRoot),
        };
        let spec = PipelineSpec::of(workflow, DIALECT, accelerators)?;
        // The types of a spec are maps by text, texts and numbers.
        let mut spec = serde_json::to_value(spec).unwrap_or_default();
        let machines = machines(workflow)?;
        machine::place(&mut spec, config, |step| machines.get(step).map(String::as_str));
        let mut job = Map::from_iter([
            ("displayName".to_owned(), json!(workflow.pipeline)),
            ("pipelineSpec".to_owned(), spec),
            ("runtimeConfig".to_owned(), json!({ "gcsOutputDirectory": root })),
        ]);
        if !config.labels.is_empty() {
            job.insert("labels".to_owned(), json!(config.labels));
        }
        for (field, value) in [("serviceAccount", &config.service_account), ("network", &config.network)] {
            if let Some(value) = value {
                job.insert(field.to_owned(), json!(value));
            }
        }
        if let Some(key) = &config.encryption_key {
            job.insert("encryptionSpec".to_owned(), json!({ "kmsKeyName": key }));
        }
        let job = Value::Object(job);
        let schedule = workflow.schedule.as_ref().map(|schedule| {
            json!({
                "displayName": workflow.pipeline,
                "cron": format!("TZ={} {}", schedule.timezone, schedule.cron),
                // Protobuf's JSON has integers of 64 bits as text.
                "maxConcurrentRunCount": "1",
                "createPipelineJobRequest": { "parent": config.parent(), "pipelineJob": job },
            })
        });
        Ok(Self { name: pipeline_name(&workflow.pipeline), job, schedule })
    }

    /// What is submitted.
    pub fn documents(self) -> Vec<Document> {
        let (name, data) = match self.schedule {
            Some(schedule) => ("schedule.json", schedule),
            None => ("pipeline_job.json", self.job),
        };
        vec![Document { name: name.to_owned(), content: Content::Data(data) }]
    }
}

/// Refuses what a container task cannot say.
fn expressible(step: &WorkflowStep) -> Result<(), Error> {
    if let Some(timeout) = step.timeout {
        return Err(Error::Timeout { step: step.name.clone(), seconds: timeout.as_secs() });
    }
    if let Some(variable) = step.secrets.keys().next() {
        return Err(Error::Secret { step: step.name.clone(), variable: variable.clone() });
    }
    Ok(())
}

/// The types of the machines that steps name, by the steps' names.
fn machines(workflow: &Workflow) -> Result<BTreeMap<&str, String>, Error> {
    let mut machines = BTreeMap::new();
    for step in &workflow.steps {
        if let Some(machine) = settings(step)?.machine_type {
            if !is_machine_type(&machine) {
                return Err(Error::MachineType { step: step.name.clone(), name: machine });
            }
            machines.insert(step.name.as_str(), machine);
        }
    }
    Ok(machines)
}

fn settings(step: &WorkflowStep) -> Result<VertexSettings, Error> {
    VertexSettings::from_json(&step.settings)
        .map_err(|source| Error::Settings { step: step.name.clone(), source })
}

fn accelerators(step: &WorkflowStep) -> Result<Option<Accelerator>, Error> {
    let settings = settings(step)?;
    let name = settings.accelerator_type.or_else(|| step.resources.gpu_type.clone());
    let count = settings.accelerator_count.or(step.resources.gpu);
    let Some(name) = name else {
        return match count {
            Some(_) => Err(Error::NoAcceleratorType { step: step.name.clone() }),
            None => Ok(None),
        };
    };
    let Some(known) = accelerator(&name) else {
        let asked = name.to_ascii_uppercase().replace('-', "_");
        return Err(Error::AcceleratorType {
            step: step.name.clone(),
            name,
            hint: hint(&asked, &ACCELERATORS),
        });
    };
    Ok(Some(Accelerator { name: known.to_owned(), count: count.unwrap_or(1) }))
}
