//! How far a run is, from what Vertex AI tells of it (`PipelineJob`, `PipelineTaskDetail`).

use std::collections::BTreeMap;

use jiff::Timestamp;
use longshore_kubeflow::steps;
use longshore_orchestrator::{Phase, RunState, StepState};
use serde::Deserialize;
use serde_json::Value;

/// A pipeline job.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Job {
    /// `projects/<number>/locations/<location>/pipelineJobs/<id>`
    pub(crate) name: String,
    #[serde(default)]
    state: State,
    #[serde(default)]
    error: Option<Status>,
    #[serde(default)]
    pipeline_spec: Value,
    #[serde(rename = "jobDetail", default)]
    detail: Detail,
}

/// What it calls the states of jobs (after `PIPELINE_STATE_`) and tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum State {
    #[serde(alias = "PIPELINE_STATE_QUEUED", alias = "PIPELINE_STATE_PENDING")]
    Pending,
    #[serde(alias = "PIPELINE_STATE_RUNNING", alias = "PIPELINE_STATE_PAUSED")]
    Running,
    #[serde(alias = "PIPELINE_STATE_SUCCEEDED")]
    Succeeded,
    #[serde(alias = "PIPELINE_STATE_FAILED")]
    Failed,
    #[serde(alias = "PIPELINE_STATE_CANCELLING", alias = "CANCEL_PENDING")]
    Cancelling,
    #[serde(alias = "PIPELINE_STATE_CANCELLED")]
    Cancelled,
    Skipped,
    NotTriggered,
    #[default]
    #[serde(other)]
    Unknown,
}

#[derive(Clone, Debug, Deserialize)]
struct Status {
    #[serde(default)]
    message: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Detail {
    #[serde(default)]
    task_details: Vec<Task>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Task {
    #[serde(rename = "taskName", default)]
    name: String,
    #[serde(default)]
    state: State,
    #[serde(default)]
    start_time: Option<Timestamp>,
    #[serde(default)]
    end_time: Option<Timestamp>,
    #[serde(default)]
    error: Option<Status>,
    #[serde(default)]
    executor_detail: Executor,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Executor {
    #[serde(default)]
    container_detail: Container,
    #[serde(default)]
    custom_job_detail: CustomJob,
}

/// Of a step that names its machine.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CustomJob {
    #[serde(default)]
    job: Option<String>,
    #[serde(default)]
    failed_jobs: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    #[serde(default)]
    main_job: Option<String>,
    #[serde(default)]
    failed_main_jobs: Vec<String>,
}

impl State {
    const fn phase(self) -> Phase {
        match self {
            Self::Unknown | Self::Pending => Phase::Pending,
            Self::Running | Self::Cancelling => Phase::Running,
            Self::Succeeded => Phase::Succeeded,
            Self::Failed => Phase::Failed,
            Self::Cancelled => Phase::Cancelled,
            Self::Skipped | Self::NotTriggered => Phase::Skipped,
        }
    }
}

impl Job {
    /// Its status.
    pub(crate) const fn phase(&self) -> Phase {
        self.state.phase()
    }

    /// Its steps, by the names of their tasks.
    pub(crate) fn steps(&self) -> BTreeMap<String, String> {
        steps(&self.pipeline_spec)
    }

    fn task(&self, task: &str, step: &str) -> Option<&Task> {
        let named = |name: &str| self.detail.task_details.iter().find(|task| task.name == name);
        named(task).or_else(|| named(step))
    }

    /// The IDs of the custom jobs that a step's container ran in, in their order: one for each try.
    pub(crate) fn custom_jobs(&self, task: &str, step: &str) -> Vec<String> {
        let Some(found) = self.task(task, step) else { return Vec::new() };
        let Executor { container_detail: container, custom_job_detail: custom } = &found.executor_detail;
        container
            .failed_main_jobs
            .iter()
            .chain(&container.main_job)
            .chain(&custom.failed_jobs)
            .chain(&custom.job)
            .filter_map(|name| name.rsplit('/').next())
            .map(str::to_owned)
            .collect()
    }

    /// How far it is.
    pub(crate) fn state(&self) -> RunState {
        let phase = self.phase();
        let steps = self.steps();
        let step = |(task, step): (&String, &String)| match self.task(task, step) {
            Some(found) => StepState {
                name: step.clone(),
                phase: found.state.phase(),
                reason: found.error.as_ref().and_then(|error| self.explain(&error.message)),
                started: found.start_time,
                finished: found.end_time,
            },
            None => StepState {
                name: step.clone(),
                phase: match phase {
                    Phase::Pending | Phase::Running => Phase::Pending,
                    Phase::Succeeded => Phase::Succeeded,
                    Phase::Failed | Phase::Skipped => Phase::Skipped,
                    Phase::Cancelled => Phase::Cancelled,
                },
                reason: None,
                started: None,
                finished: None,
            },
        };
        let reason = self.error.as_ref().and_then(|error| self.explain(&error.message));
        RunState {
            phase,
            reason: reason.or_else(|| {
                (self.state == State::Cancelling).then(|| "the run is being cancelled".to_owned())
            }),
            steps: steps.iter().map(step).collect(),
        }
    }

    /// What an error means, with what to do where that is known.
    fn explain(&self, message: &str) -> Option<String> {
        let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
        if message.is_empty() {
            return None;
        }
        let lower = message.to_ascii_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
        let remedy = if has(&["quota"]) {
            "ask for more quota of the location (https://console.cloud.google.com/iam-admin/quotas), or run in another".to_owned()
        } else if has(&[
            "artifactregistry",
            "pull image",
            "image pull",
            "image not found",
            "access the image",
        ]) {
            let number = self.name.split('/').nth(1).unwrap_or("PROJECT_NUMBER");
            format!(
                "grant roles/artifactregistry.reader on the image's repository to Vertex AI's service agents, \
                 service-{number}@gcp-sa-aiplatform.iam.gserviceaccount.com and \
                 service-{number}@gcp-sa-aiplatform-cc.iam.gserviceaccount.com"
            )
        } else if has(&["out of memory", "out-of-memory", "oomkilled", "exit code 137", "exit status of 137"])
        {
            "the step needs more memory: set `memory` of its ResourceSettings".to_owned()
        } else if has(&["permission", "forbidden"]) {
            "grant the run's service account the role that it needs there".to_owned()
        } else {
            return Some(message);
        };
        Some(format!("{}; {remedy}", message.trim_end_matches('.')))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(state: &str, tasks: &Value) -> Job {
        serde_json::from_value(json!({
            "name": "projects/42/locations/us-central1/pipelineJobs/p-1", "state": state,
            "pipelineSpec": { "root": { "dag": { "tasks": {
                "load-data": { "taskInfo": { "name": "load_data" } }, "train": { "taskInfo": { "name": "train" } },
            } } } },
            "jobDetail": { "taskDetails": tasks },
        }))
        .unwrap()
    }

    #[test]
    fn tasks_are_told_as_steps() {
        let tasks = json!([
            { "taskName": "p-1", "state": "RUNNING" },
            { "taskName": "load-data", "state": "SUCCEEDED", "startTime": "2026-01-02T03:04:05.5Z" },
            { "taskName": "train", "state": "CANCEL_PENDING", "executorDetail": { "containerDetail": {
                "mainJob": "projects/42/locations/us-central1/customJobs/9",
                "failedMainJobs": ["projects/42/locations/us-central1/customJobs/8"] } } },
        ]);
        let job = job("PIPELINE_STATE_CANCELLING", &tasks);
        let state = job.state();
        let phases: Vec<_> = state.steps.iter().map(|step| (step.name.as_str(), step.phase)).collect();
        assert_eq!(phases, [("load_data", Phase::Succeeded), ("train", Phase::Running)]);
        assert_eq!(
            (state.phase, state.reason.unwrap().as_str()),
            (Phase::Running, "the run is being cancelled")
        );
        assert_eq!(job.custom_jobs("train", "train"), ["8", "9"]);
    }

    #[test]
    fn errors_come_with_what_to_do() {
        for (message, remedy) in [
            (
                "The following quota metrics exceed quota limits: aiplatform.googleapis.com/custom_model_training_cpus.",
                "ask for more quota of the location",
            ),
            (
                "Permission \"artifactregistry.repositories.downloadArtifacts\" denied on resource",
                "service-42@gcp-sa-aiplatform-cc.iam.gserviceaccount.com",
            ),
            ("The replica workerpool0-0 ran out-of-memory and exited.", "more memory"),
            ("403 Forbidden: storage.objects.get", "the run's service account"),
        ] {
            let tasks = json!([{ "taskName": "train", "state": "FAILED", "error": { "code": 9, "message": message } }]);
            let reason = job("PIPELINE_STATE_FAILED", &tasks).state().steps[1].reason.clone().unwrap();
            assert!(reason.contains(remedy), "{reason}");
        }
    }
}
