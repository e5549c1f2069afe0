//! How far a run is, from what Azure Machine Learning tells of it: the job (`JobBase` of the REST API), and the runs of its
//! nodes (`Run` of the history).

use std::collections::BTreeMap;

use jiff::Timestamp;
use longshore_orchestrator::{Phase, RunState, StepState};
use serde::Deserialize;
use serde_json::Value;

use crate::plan::step_of;

/// A pipeline job.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Job {
    properties: Properties,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Properties {
    #[serde(default)]
    status: Status,
    #[serde(default)]
    jobs: BTreeMap<String, Value>,
    #[serde(default)]
    services: Option<Services>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Services {
    #[serde(default)]
    studio: Option<Studio>,
}

#[derive(Clone, Debug, Deserialize)]
struct Studio {
    #[serde(default)]
    endpoint: Option<String>,
}

/// `JobStatus`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
enum Status {
    NotStarted,
    Starting,
    Provisioning,
    Preparing,
    Queued,
    Running,
    Finalizing,
    CancelRequested,
    Completed,
    Failed,
    Canceled,
    NotResponding,
    Paused,
    #[default]
    #[serde(other)]
    Unknown,
}

/// The run of a node.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeRun {
    #[serde(default)]
    run_id: Option<String>,
    #[serde(default)]
    status: Status,
    #[serde(default)]
    display_name: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    start_time_utc: Option<Timestamp>,
    #[serde(default)]
    end_time_utc: Option<Timestamp>,
    #[serde(default)]
    error: Option<Failure>,
}

#[derive(Clone, Debug, Deserialize)]
struct Failure {
    #[serde(default)]
    error: Option<RootError>,
}

#[derive(Clone, Debug, Deserialize)]
struct RootError {
    #[serde(default)]
    message: Option<String>,
}

impl Status {
    const fn phase(self) -> Phase {
        match self {
            Self::NotStarted
            | Self::Starting
            | Self::Provisioning
            | Self::Preparing
            | Self::Queued
            | Self::Unknown => Phase::Pending,
            Self::Running | Self::Finalizing | Self::CancelRequested | Self::NotResponding | Self::Paused => {
                Phase::Running
            }
            Self::Completed => Phase::Succeeded,
            Self::Failed => Phase::Failed,
            Self::Canceled => Phase::Cancelled,
        }
    }
}

impl Job {
    /// Its status.
    pub(crate) const fn phase(&self) -> Phase {
        self.properties.status.phase()
    }

    /// Where it is shown.
    pub(crate) fn studio(&self) -> Option<String> {
        self.properties.services.as_ref()?.studio.as_ref()?.endpoint.clone()
    }

    /// Its steps, by the names of their nodes.
    pub(crate) fn steps(&self) -> BTreeMap<&str, String> {
        self.properties.jobs.iter().map(|(node, job)| (node.as_str(), step_of(node, job))).collect()
    }

    /// The run of a step, by the step's name, if it has begun: the last of several.
    pub(crate) fn run_of<'a>(&self, step: &str, runs: &'a [NodeRun]) -> Option<&'a NodeRun> {
        self.steps().iter().find_map(|(node, name)| (name == step).then(|| last(runs, node, name)).flatten())
    }

    /// How far it is.
    pub(crate) fn state(&self, runs: &[NodeRun]) -> RunState {
        let phase = self.phase();
        let step = |(node, name): (&str, String)| {
            let found = last(runs, node, &name);
            let unseen = match phase {
                Phase::Pending | Phase::Running => Phase::Pending,
                Phase::Succeeded => Phase::Succeeded,
                Phase::Failed | Phase::Skipped => Phase::Skipped,
                Phase::Cancelled => Phase::Cancelled,
            };
            StepState {
                name,
                phase: found.map_or(unseen, |run| run.status.phase()),
                reason: found.and_then(NodeRun::reason),
                started: found.and_then(|run| run.start_time_utc),
                finished: found.and_then(|run| run.end_time_utc),
            }
        };
        RunState {
            phase,
            reason: (self.properties.status == Status::CancelRequested)
                .then(|| "the run is being cancelled".to_owned()),
            steps: self.steps().into_iter().map(step).collect(),
        }
    }
}

/// Of the runs of a node, the last.
fn last<'a>(runs: &'a [NodeRun], node: &str, name: &str) -> Option<&'a NodeRun> {
    let is_named =
        |given: &Option<String>| given.as_deref().is_some_and(|given| given == name || given == node);
    runs.iter()
        .filter(|run| is_named(&run.display_name) || is_named(&run.name))
        .max_by_key(|run| run.start_time_utc)
}

impl NodeRun {
    /// What the history calls it.
    pub(crate) fn id(&self) -> Option<&str> {
        self.run_id.as_deref()
    }

    /// How far it is.
    pub(crate) const fn phase(&self) -> Phase {
        self.status.phase()
    }

    /// What its error means, with what to do where that is known.
    fn reason(&self) -> Option<String> {
        let message = self.error.as_ref()?.error.as_ref()?.message.as_deref()?;
        let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
        let lower = message.to_ascii_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
        let remedy = if message.is_empty() {
            return None;
        } else if has(&["azurecr.", "acr", "pull image", "pull docker image", "image pull", "pulling image"])
        {
            "let the identity of the compute or of the workspace pull it: az role assignment create --assignee IDENTITY \
             --role AcrPull --scope REGISTRY_ID"
        } else if has(&["quota"]) {
            "ask for more quota (https://ml.azure.com/quota), or name another `instance_type` in its AzureMLSettings"
        } else if has(&["out of memory", "out-of-memory", "oomkilled", "exit code 137", "code 137"]) {
            "the step needs more memory: set `memory` of its ResourceSettings, or a larger `instance_type`"
        } else if has(&["authorizationpermissionmismatch", "not authorized", "permission", "forbidden"]) {
            "give the run's identity the role that it needs there: Storage Blob Data Contributor for artifacts"
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

    fn job(status: &str) -> Job {
        serde_json::from_value(json!({ "properties": {
            "jobType": "Pipeline", "status": status,
            "services": { "Tracking": {}, "Studio": { "endpoint": "https://ml.azure.com/runs/r" } },
            "jobs": { "load_data": { "display_name": "load-data" }, "train": {} },
        } }))
        .unwrap()
    }

    #[test]
    fn runs_of_nodes_are_told_as_steps() {
        let runs: Vec<NodeRun> = serde_json::from_value(json!([
            { "displayName": "load-data", "status": "Failed", "startTimeUtc": "2026-01-02T03:04:05.5+00:00" },
            { "displayName": "load-data", "status": "Completed", "startTimeUtc": "2026-01-02T03:05:05.5+00:00" },
            { "name": "train", "status": "Something new" },
        ]))
        .unwrap();
        let job = job("CancelRequested");
        let state = job.state(&runs);
        let phases: Vec<_> = state.steps.iter().map(|step| (step.name.as_str(), step.phase)).collect();
        assert_eq!(phases, [("load-data", Phase::Succeeded), ("train", Phase::Pending)]);
        assert_eq!(state.reason.as_deref(), Some("the run is being cancelled"));
        assert_eq!(job.studio().as_deref(), Some("https://ml.azure.com/runs/r"));
    }

    #[test]
    fn errors_come_with_what_to_do() {
        for (message, remedy) in [
            ("Failed to pull Docker image r.azurecr.io/i@sha256:0: unauthorized", "--role AcrPull"),
            ("The specified subscription has a total vCPU quota of 0.", "ask for more quota"),
            ("Execution failed. User process exited with code 137", "more memory"),
            ("This request is not authorized to perform this operation", "Storage Blob Data Contributor"),
        ] {
            let run: NodeRun = serde_json::from_value(json!({
                "displayName": "train", "status": "Failed", "error": { "error": { "message": message } } }))
            .unwrap();
            let state = job("Failed").state(&[run]);
            let reason = state.steps[1].reason.clone().unwrap();
            assert!(reason.contains(remedy), "{reason}");
            assert_eq!(state.steps[0].phase, Phase::Skipped);
        }
    }
}
