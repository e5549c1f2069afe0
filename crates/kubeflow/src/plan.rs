//! The documents of a workflow.

use std::time::Duration;

use longshore_orchestrator::{Content, Document, Workflow};
use serde_json::{Value, json};

use crate::{Config, Dialect, Error, PipelineSpec, platform};

/// Kubeflow's words. Argo makes no retry after `longest_retry`, counted from the first try's beginning.
const DIALECT: Dialect =
    Dialect { run: "{{$.pipeline_job_uuid}}", longest_retry: Duration::from_hours(30 * 24) };

/// A workflow for Kubeflow.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The pipeline spec.
    pub pipeline: Value,
    /// The platform spec, if a step needs one.
    pub platform: Option<Value>,
    /// When it runs by itself, in Kubeflow's form: with seconds.
    pub cron: Option<String>,
}

impl Plan {
    /// Plans a workflow.
    pub fn new(workflow: &Workflow, config: &Config) -> Result<Self, Error> {
        let cron = match &workflow.schedule {
            Some(schedule) if schedule.timezone != config.timezone => {
                return Err(Error::Timezone {
                    asked: schedule.timezone.clone(),
                    kept: config.timezone.clone(),
                });
            }
            // Five fields would be taken for seconds, minutes, hours, days and months.
            Some(schedule) => Some(format!("0 {}", schedule.cron)),
            None => None,
        };
        let spec = PipelineSpec::of(workflow, DIALECT, |step| Ok::<_, Error>(platform::accelerator(step)))?;
        Ok(Self {
            // The types of a spec are maps by text, texts and numbers.
            pipeline: serde_json::to_value(spec).unwrap_or_default(),
            platform: platform::spec(workflow, config)?,
            cron,
        })
    }

    /// Both in one, as the API takes them.
    pub fn document(&self) -> Value {
        match &self.platform {
            Some(platform) => json!({ "pipeline_spec": self.pipeline, "platform_spec": platform }),
            None => self.pipeline.clone(),
        }
    }

    /// One after the other, as a file of YAML has them.
    pub fn documents(self) -> Vec<Document> {
        let document = |name: &str, data| Document { name: name.to_owned(), content: Content::Data(data) };
        let pipeline = document("pipeline.yaml", self.pipeline);
        std::iter::once(pipeline)
            .chain(self.platform.map(|platform| document("platform.yaml", platform)))
            .collect()
    }
}
