//! Runs of a DAG, as Airflow's API tells of them (`DAGRunResponse`, `TaskInstanceResponse`).

use std::fmt::Write as _;

use jiff::Timestamp;
use longshore_orchestrator::{Phase, RunState, StepState};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// How much of a run's name is in the name of its folder.
const LONGEST_RUN: usize = 80;

/// A run of a DAG.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct DagRun {
    state: String,
}

/// A task of a run.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct TaskInstance {
    pub(crate) task_id: String,
    #[serde(default)]
    task_display_name: Option<String>,
    #[serde(default)]
    state: Option<String>,
    #[serde(default)]
    pub(crate) try_number: u32,
    #[serde(default)]
    start_date: Option<Timestamp>,
    #[serde(default)]
    end_date: Option<Timestamp>,
}

impl DagRun {
    pub(crate) fn phase(&self) -> Phase {
        match self.state.as_str() {
            "running" => Phase::Running,
            "success" => Phase::Succeeded,
            "failed" => Phase::Failed,
            _ => Phase::Pending,
        }
    }

    /// How far it is.
    pub(crate) fn state(&self, tasks: &[TaskInstance]) -> RunState {
        let phase = self.phase();
        let reason = (self.state == "queued").then(|| {
            "the run waits for Airflow to begin it: its DAG may be paused, or have as many runs as it may"
                .to_owned()
        });
        RunState { phase, reason, steps: tasks.iter().map(|task| task.step(phase)).collect() }
    }
}

impl TaskInstance {
    /// The step's name in the pipeline.
    pub(crate) fn name(&self) -> &str {
        self.task_display_name.as_deref().filter(|name| !name.is_empty()).unwrap_or(&self.task_id)
    }

    /// How far it is, in a run that is as far as that.
    pub(crate) fn phase(&self, run: Phase) -> Phase {
        match self.state.as_deref() {
            Some(
                "running" | "restarting" | "up_for_retry" | "up_for_reschedule" | "deferred"
                | "awaiting_input",
            ) => Phase::Running,
            Some("success") => Phase::Succeeded,
            Some("failed") => Phase::Failed,
            Some("upstream_failed" | "skipped" | "removed") => Phase::Skipped,
            // It has not begun, or will not any more.
            _ if run.is_final() => Phase::Skipped,
            _ => Phase::Pending,
        }
    }

    fn step(&self, run: Phase) -> StepState {
        let reason = match self.state.as_deref() {
            Some("failed") => Some("its log says why".to_owned()),
            Some("up_for_retry") => Some("it has failed and is tried again; its log says why".to_owned()),
            _ => None,
        };
        let phase = self.phase(run);
        // Airflow has times for tasks that were passed over, too.
        let has_run = phase != Phase::Skipped;
        StepState {
            name: self.name().to_owned(),
            phase,
            reason,
            started: self.start_date.filter(|_| has_run),
            finished: self.end_date.filter(|_| has_run),
        }
    }
}

/// The folder of a run in the artifact store: what `run_folder` of the DAG file makes of its names.
pub(crate) fn folder(dag: &str, run: &str) -> String {
    let digest = Sha256::digest(run).iter().take(4).fold(String::new(), |mut hex, byte| {
        // Writing to a text does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    let mut plain = String::new();
    for c in run.chars() {
        if c.is_ascii_alphanumeric() {
            plain.push(c);
        } else if !plain.ends_with('-') {
            plain.push('-');
        }
    }
    let kept: String = plain.chars().take(LONGEST_RUN).collect();
    format!("{dag}-{}-{digest}", kept.trim_matches('-'))
}

/// The lines of a log: of Airflow's messages, what they say.
pub(crate) fn lines(log: &Value) -> Vec<String> {
    let messages = log.get("content").and_then(Value::as_array).into_iter().flatten();
    let said = messages.filter_map(|message| message.as_str().or_else(|| message.get("event")?.as_str()));
    said.flat_map(|text| text.lines().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn folders_are_those_of_the_dag_file() {
        // What Python makes of the same names.
        assert_eq!(
            folder("digits_pipeline", "manual__2026-01-02T03:04:05.678+00:00"),
            "digits_pipeline-manual-2026-01-02T03-04-05-678-00-00-405a0fae"
        );
    }

    #[test]
    fn every_state_of_a_task_is_known() {
        let task = |state: Value| {
            serde_json::from_value::<TaskInstance>(json!({ "task_id": "t", "try_number": 1, "state": state }))
                .unwrap()
        };
        for (state, phase) in [
            (json!(null), Phase::Pending),
            (json!("queued"), Phase::Pending),
            (json!("scheduled"), Phase::Pending),
            (json!("running"), Phase::Running),
            (json!("up_for_retry"), Phase::Running),
            (json!("success"), Phase::Succeeded),
            (json!("failed"), Phase::Failed),
            (json!("upstream_failed"), Phase::Skipped),
        ] {
            assert_eq!(task(state).phase(Phase::Running), phase);
        }
        assert_eq!(task(json!(null)).phase(Phase::Failed), Phase::Skipped);
        let passed_over: TaskInstance = serde_json::from_value(json!({
            "task_id": "t", "state": "upstream_failed", "start_date": "2026-01-02T03:04:05Z", "end_date": "2026-01-02T03:04:05Z",
        }))
        .unwrap();
        let step = passed_over.step(Phase::Failed);
        assert_eq!((step.phase, step.started, step.finished), (Phase::Skipped, None, None));
    }

    #[test]
    fn messages_are_lines() {
        let log = json!({ "content": [
            { "event": "::group::Log message source details", "sources": ["/x"] },
            { "timestamp": "2026-01-02T03:04:05Z", "event": "one\ntwo", "level": "info" }, "three\n", { "level": "info" },
        ] });
        assert_eq!(lines(&log), ["::group::Log message source details", "one", "two", "three"]);
    }
}
