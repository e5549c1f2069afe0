//! How far a run is: what the controller decides by, and writes down so that it is known from any machine.

use std::collections::BTreeMap;

use jiff::Timestamp;
use longshore_orchestrator::{Capacity, Dag, Demand, Next, Phase, RunState, StepState};
use serde::{Deserialize, Serialize};

use crate::{
    Plan, PlannedStep,
    diagnosis::{Finding, Observed},
    plan::CONTAINER,
};

/// How far a run is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The run's status.
    pub phase: Phase,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The steps, in the plan's order.
    pub steps: Vec<StepRecord>,
}

/// How far a step is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Its name.
    pub name: String,
    /// Its status.
    pub phase: Phase,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<Timestamp>,
    /// Whether its Job was made: one that is gone then was deleted.
    #[serde(default)]
    pub made: bool,
}

/// What is known of each step's Job, by the step's name.
pub type Observations<'a> = BTreeMap<&'a str, Observed<'a>>;

impl Record {
    /// Nothing has begun.
    pub fn new(plan: &Plan) -> Self {
        let steps = plan.steps.iter().map(|step| StepRecord {
            name: step.name.clone(),
            phase: Phase::Pending,
            reason: None,
            started: None,
            finished: None,
            made: false,
        });
        Self { phase: Phase::Pending, reason: None, steps: steps.collect() }
    }

    /// Takes note of what is seen. What was final stays.
    pub fn observe(&mut self, observations: &Observations<'_>) {
        for step in self.steps.iter_mut().filter(|step| !step.phase.is_final()) {
            let observed = observations.get(step.name.as_str()).filter(|observed| observed.job.is_some());
            let finding = match observed {
                Some(observed) => observed.finding(CONTAINER),
                None if step.made => Finding {
                    phase: Phase::Failed,
                    reason: Some("its Job was deleted".to_owned()),
                    started: step.started,
                    finished: None,
                },
                None => continue,
            };
            step.made = true;
            step.phase = finding.phase;
            step.reason = finding.reason;
            step.started = step.started.or(finding.started);
            step.finished = finding.finished;
        }
        if self.phase == Phase::Pending && self.steps.iter().any(|step| step.made) {
            self.phase = Phase::Running;
        }
    }

    /// The steps whose Jobs are to be made now. After a failure no further step begins, and those that run are waited for;
    /// when all has ended, so has the run.
    pub fn decide<'p>(&mut self, plan: &'p Plan) -> Vec<&'p PlannedStep> {
        let graph = plan
            .steps
            .iter()
            .map(|step| (step.name.as_str(), step.upstream.iter().map(String::as_str), Demand::default()));
        // The Job of a step may be there long before its pod runs.
        let phase = |step: &StepRecord| match step.phase {
            Phase::Pending if step.made => Phase::Running,
            phase => phase,
        };
        let phases: Vec<Phase> = self.steps.iter().map(phase).collect();
        let next = Dag::new(graph).next(&phases, &Capacity::of_steps(plan.parallelism));
        if let Next::Drain { failed } | Next::Ended { failed: Some(failed) } = next {
            let reason = format!("step {} failed", self.steps[failed].name);
            for step in self.steps.iter_mut().filter(|step| step.phase == Phase::Pending && !step.made) {
                step.phase = Phase::Skipped;
                step.reason = Some(reason.clone());
            }
            if matches!(next, Next::Ended { .. }) {
                self.phase = Phase::Failed;
                self.reason = Some(reason);
                return Vec::new();
            }
        }
        self.phase = if next == (Next::Ended { failed: None }) { Phase::Succeeded } else { Phase::Running };
        match next {
            Next::Begin(positions) => positions.into_iter().map(|position| &plan.steps[position]).collect(),
            Next::Drain { .. } | Next::Ended { .. } => Vec::new(),
        }
    }

    /// The Job of a step was made.
    pub fn made(&mut self, step: &str) {
        for step in self.steps.iter_mut().filter(|known| known.name == step) {
            step.made = true;
        }
    }

    /// The Job of a step cannot be made.
    pub fn refused(&mut self, step: &str, reason: &str) {
        for step in self.steps.iter_mut().filter(|known| known.name == step) {
            step.phase = Phase::Failed;
            step.reason = Some(reason.to_owned());
            step.made = true;
        }
    }

    /// Somebody wished it to end. What had ended stays as it was.
    pub fn cancel(&mut self) {
        for step in self.steps.iter_mut().filter(|step| !step.phase.is_final()) {
            step.phase = if step.made { Phase::Cancelled } else { Phase::Skipped };
            step.reason = None;
        }
        if !self.phase.is_final() {
            self.phase = Phase::Cancelled;
            self.reason = None;
        }
    }

    /// The same for whoever asks.
    pub fn state(&self) -> RunState {
        let step = |step: &StepRecord| StepState {
            name: step.name.clone(),
            phase: step.phase,
            reason: step.reason.clone(),
            started: step.started,
            finished: step.finished,
        };
        RunState {
            phase: self.phase,
            reason: self.reason.clone(),
            steps: self.steps.iter().map(step).collect(),
        }
    }
}
