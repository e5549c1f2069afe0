//! How far a run is, from what Kubeflow tells of it (`V2beta1Run`).

use std::collections::BTreeMap;

use jiff::Timestamp;
use longshore_orchestrator::{Phase, RunState, StepState};
use serde::Deserialize;
use serde_json::Value;

use crate::ir;

/// A run.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Run {
    #[serde(rename = "run_id")]
    pub(crate) id: String,
    #[serde(default)]
    display_name: String,
    #[serde(default)]
    state: State,
    #[serde(default)]
    error: Option<Status>,
    #[serde(default)]
    state_history: Vec<Change>,
    #[serde(default)]
    pub(crate) pipeline_spec: Value,
    #[serde(rename = "run_details", default)]
    details: Details,
}

/// What it calls the states of runs and tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum State {
    Pending,
    Running,
    Succeeded,
    Skipped,
    Failed,
    Canceling,
    Canceled,
    Paused,
    #[default]
    #[serde(other)]
    Unknown,
}

#[derive(Clone, Debug, Deserialize)]
struct Status {
    #[serde(default)]
    message: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Change {
    #[serde(default)]
    error: Option<Status>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Details {
    #[serde(default)]
    task_details: Vec<Task>,
}

#[derive(Clone, Debug, Deserialize)]
struct Task {
    #[serde(default)]
    display_name: String,
    #[serde(default)]
    state: State,
    #[serde(default)]
    start_time: Option<Timestamp>,
    #[serde(default)]
    end_time: Option<Timestamp>,
    #[serde(default)]
    error: Option<Status>,
    #[serde(default)]
    state_history: Vec<Change>,
    #[serde(default)]
    child_tasks: Vec<Child>,
}

#[derive(Clone, Debug, Deserialize)]
struct Child {
    #[serde(default)]
    pod_name: Option<String>,
}

impl State {
    const fn phase(self) -> Phase {
        match self {
            Self::Unknown | Self::Pending => Phase::Pending,
            Self::Running | Self::Canceling | Self::Paused => Phase::Running,
            Self::Succeeded => Phase::Succeeded,
            Self::Skipped => Phase::Skipped,
            Self::Failed => Phase::Failed,
            Self::Canceled => Phase::Cancelled,
        }
    }
}

impl Run {
    /// Its name for people.
    pub(crate) fn name(&self) -> &str {
        &self.display_name
    }

    /// Its status.
    pub(crate) fn phase(&self) -> Phase {
        self.state.phase()
    }

    /// Its steps, by the names of their tasks.
    pub(crate) fn steps(&self) -> BTreeMap<String, String> {
        ir::steps(self.pipeline_spec.get("pipeline_spec").unwrap_or(&self.pipeline_spec))
    }

    /// The Argo node in which the pods of a task are, once there is one.
    pub(crate) fn child(&self, task: &str, step: &str) -> Option<&str> {
        self.task(task, step)?.child_tasks.first()?.pod_name.as_deref()
    }

    fn task(&self, task: &str, step: &str) -> Option<&Task> {
        let named = |name: &str| self.details.task_details.iter().find(|task| task.display_name == name);
        named(task).or_else(|| named(step))
    }

    /// How far it is.
    pub(crate) fn state(&self) -> RunState {
        let phase = self.phase();
        let steps = self.steps();
        let step = |(task, step): (&String, &String)| match self.task(task, step) {
            Some(found) => StepState {
                name: step.clone(),
                phase: found.phase_in(phase),
                reason: reason(found.error.as_ref(), &found.state_history),
                started: instant(found.start_time),
                finished: instant(found.end_time),
            },
            None => StepState {
                name: step.clone(),
                phase: unheard(phase),
                reason: None,
                started: None,
                finished: None,
            },
        };
        RunState {
            phase,
            reason: reason(self.error.as_ref(), &self.state_history)
                .or_else(|| (self.state == State::Canceling).then(|| "the run is being cancelled".to_owned()))
                .or_else(|| (self.state == State::Paused).then(|| "the run is paused".to_owned())),
            steps: steps.iter().map(step).collect(),
        }
    }
}

impl Task {
    /// Argo leaves what it has stopped in the state that it was in.
    const fn phase_in(&self, run: Phase) -> Phase {
        let phase = self.state.phase();
        if run.is_final() && !phase.is_final() { unheard(run) } else { phase }
    }
}

/// The status of a step that nothing is told of, in a run of that status.
const fn unheard(run: Phase) -> Phase {
    match run {
        Phase::Pending | Phase::Running => Phase::Pending,
        Phase::Succeeded => Phase::Succeeded,
        Phase::Failed | Phase::Skipped => Phase::Skipped,
        Phase::Cancelled => Phase::Cancelled,
    }
}

fn reason(error: Option<&Status>, history: &[Change]) -> Option<String> {
    error
        .into_iter()
        .chain(history.iter().rev().filter_map(|change| change.error.as_ref()))
        .map(|status| status.message.trim())
        .find(|message| !message.is_empty())
        .map(|message| message.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// A time; the beginning of the Unix era stands for none.
fn instant(time: Option<Timestamp>) -> Option<Timestamp> {
    time.filter(|time| time.as_second() > 0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(state: &str, tasks: &Value) -> Run {
        serde_json::from_value(json!({
            "run_id": "r", "display_name": "p", "state": state,
            "pipeline_spec": { "root": { "dag": { "tasks": {
                "load-data": { "taskInfo": { "name": "load_data" } }, "train": { "taskInfo": { "name": "train" } },
            } } } },
            "run_details": { "task_details": tasks },
        }))
        .unwrap()
    }

    fn phases(state: &RunState) -> Vec<(&str, Phase)> {
        state.steps.iter().map(|step| (step.name.as_str(), step.phase)).collect()
    }

    #[test]
    fn tasks_are_told_as_steps() {
        let tasks = json!([
            { "display_name": "load-data-driver", "state": "SUCCEEDED" },
            { "display_name": "load-data", "state": "SUCCEEDED", "start_time": "2026-01-02T03:04:05Z",
              "end_time": "1970-01-01T00:00:00Z", "child_tasks": [{ "pod_name": "p-1" }] },
            { "display_name": "train", "state": "FAILED", "error": { "code": 13, "message": "OOM\nkilled" } },
        ]);
        let run = run("FAILED", &tasks);
        let state = run.state();
        assert_eq!(phases(&state), [("load_data", Phase::Succeeded), ("train", Phase::Failed)]);
        assert_eq!(state.steps[1].reason.as_deref(), Some("OOM killed"));
        assert!(state.steps[0].started.is_some() && state.steps[0].finished.is_none());
        assert_eq!(run.child("load-data", "load_data"), Some("p-1"));
    }

    #[test]
    fn a_run_that_ended_has_no_step_that_goes_on() {
        let tasks = json!([{ "display_name": "load-data", "state": "RUNNING" }]);
        for (state, phase) in
            [("RUNNING", Phase::Running), ("CANCELED", Phase::Cancelled), ("SUCCEEDED", Phase::Succeeded)]
        {
            assert_eq!(run(state, &tasks).state().steps[0].phase, phase, "{state}");
        }
        let state = run("FAILED", &json!([])).state();
        assert_eq!(phases(&state), [("load_data", Phase::Skipped), ("train", Phase::Skipped)]);
    }

    #[test]
    fn states_that_come_later_are_no_end() {
        assert_eq!(run("RUNTIME_STATE_UNSPECIFIED", &json!([])).phase(), Phase::Pending);
        assert_eq!(run("CANCELING", &json!([])).state().reason.unwrap(), "the run is being cancelled");
    }
}
