//! What a process that runs several steps says of them (`docs/pipeline-spec.md`, "The progress").

use jiff::Timestamp;
use longshore_stack::{RunStatus, StepRun};
use serde::Deserialize;

/// A line.
#[derive(Deserialize)]
struct Line {
    step: String,
    status: RunStatus,
    /// Milliseconds since 1970.
    at: i64,
}

/// The steps that began, in their order. One whose end was not told ended with the process: now, as that did.
pub(crate) fn read(text: &str, ended: RunStatus, now: Timestamp) -> Vec<StepRun> {
    let mut steps: Vec<StepRun> = Vec::new();
    // A process that was killed may have been in the middle of the last line.
    for Line { step, status, at } in text.lines().filter_map(|line| serde_json::from_str(line).ok()) {
        let at = Timestamp::from_millisecond(at).unwrap_or(now);
        match steps.last_mut().filter(|last| last.name == step) {
            Some(last) => (last.status, last.finished) = (status, Some(at)),
            None => steps.push(StepRun { name: step, started: at, finished: None, status }),
        }
    }
    if let Some(last) = steps.last_mut().filter(|last| last.finished.is_none()) {
        (last.status, last.finished) = (ended, Some(now));
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_has_its_own_times_and_end() {
        let text = "{\"step\":\"a\",\"status\":\"running\",\"at\":1000}\n{\"step\":\"a\",\"status\":\"succeeded\",\"at\":3000}\n\
                    {\"step\":\"b\",\"status\":\"running\",\"at\":3000}\n{\"step\":\"b\",\"sta";
        let now = Timestamp::from_second(9).unwrap();
        let steps = read(text, RunStatus::Interrupted, now);
        let seconds: Vec<_> = steps
            .iter()
            .map(|step| (step.started.as_second(), step.finished.unwrap().as_second(), step.status))
            .collect();
        assert_eq!(seconds, [(1, 3, RunStatus::Succeeded), (3, 9, RunStatus::Interrupted)]);
        assert!(read("", RunStatus::Failed, now).is_empty());
    }
}
