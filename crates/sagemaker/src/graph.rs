//! The steps of an execution, by the definition that it runs.

use longshore_orchestrator::{Phase, StepState};
use serde::Deserialize;

use crate::execution::Step;

/// A step of a definition.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Planned {
    name: String,
    display_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Definition {
    steps: Vec<Planned>,
}

impl Planned {
    /// The steps of a definition, each after those that it waits for; none if it is not a definition.
    pub(crate) fn all(definition: &str) -> Option<Vec<Self>> {
        serde_json::from_str::<Definition>(definition).ok().map(|definition| definition.steps)
    }

    fn name(&self) -> &str {
        self.display_name.as_deref().filter(|name| !name.is_empty()).unwrap_or(&self.name)
    }
}

/// How far each step is: those that have begun are listed, the others have not begun, or will not any more.
pub(crate) fn states(planned: &[Planned], begun: &[Step], run: Phase) -> Vec<StepState> {
    let unbegun = match run {
        Phase::Pending | Phase::Running => Phase::Pending,
        Phase::Cancelled => Phase::Cancelled,
        Phase::Succeeded | Phase::Failed | Phase::Skipped => Phase::Skipped,
    };
    let of = |planned: &Planned| {
        let found = begun.iter().find(|step| step.id() == planned.name);
        found.map_or_else(
            || StepState {
                name: planned.name().to_owned(),
                phase: unbegun,
                reason: None,
                started: None,
                finished: None,
            },
            Step::state,
        )
    };
    let others = begun.iter().filter(|step| planned.iter().all(|planned| planned.name != step.id()));
    planned.iter().map(of).chain(others.map(Step::state)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn steps_that_have_not_begun_wait() {
        let definition = json!({ "Version": "2020-12-01", "Steps": [
            { "Name": "load-1", "DisplayName": "load.data", "Type": "Processing" }, { "Name": "train", "Type": "Training" },
        ] });
        let planned = Planned::all(&definition.to_string()).unwrap();
        let begun: Step = serde_json::from_value(
            json!({ "StepName": "load-1", "StepDisplayName": "load.data", "StepStatus": "Executing" }),
        )
        .unwrap();
        let phases = |begun: &[Step], run| {
            states(&planned, begun, run).into_iter().map(|step| (step.name, step.phase)).collect::<Vec<_>>()
        };
        let named = |load, train| vec![("load.data".to_owned(), load), ("train".to_owned(), train)];
        assert_eq!(
            phases(std::slice::from_ref(&begun), Phase::Running),
            named(Phase::Running, Phase::Pending)
        );
        assert_eq!(phases(&[begun], Phase::Failed), named(Phase::Running, Phase::Skipped));
        assert_eq!(phases(&[], Phase::Cancelled), named(Phase::Cancelled, Phase::Cancelled));
        assert_eq!(Planned::all("{}"), None);
    }
}
