//! Starts the steps of a run on this machine, side by side as far as they and the machine allow.

use std::{
    sync::mpsc::{self, Sender},
    thread,
    time::{Duration, Instant},
};

use longshore_sandbox::Exit;
use longshore_stack::{RunStatus, State};

use crate::{Capacity, Dag, Event, Interrupt, Next, Observer, Phase, RunError, RunPlan, StepPlan};

/// A run that is being carried out.
pub(crate) struct Dispatch<'a> {
    pub(crate) plan: &'a RunPlan,
    pub(crate) capacity: &'a Capacity,
    pub(crate) state: &'a State,
    pub(crate) interrupt: &'a Interrupt,
    pub(crate) observer: Observer<'a>,
}

/// How a step ended, from the thread that ran it.
struct Ending {
    position: usize,
    took: Duration,
    exit: Result<Exit, RunError>,
}

/// Tells of a step's end, also if its thread panics.
struct Teller {
    endings: Sender<Option<Ending>>,
    ending: Option<Ending>,
}

impl Teller {
    fn tell(mut self, ending: Ending) {
        self.ending = Some(ending);
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        // The one who listens is gone only if it panicked itself.
        let _ = self.endings.send(self.ending.take());
    }
}

impl Dispatch<'_> {
    /// Runs the steps, each with `run` on a thread of its own, until all have ended, or those that began before one failed
    /// or before somebody wished to stop.
    pub(crate) fn run(
        &self,
        run: &(dyn Fn(&StepPlan) -> Result<Exit, RunError> + Sync),
    ) -> Result<RunStatus, RunError> {
        let dag = self.plan.dag();
        let mut phases = vec![Phase::Pending; self.plan.steps.len()];
        // An error around the steps ends the run as a step's failure does.
        let mut broken: Option<RunError> = None;
        thread::scope(|scope| {
            let (endings, told) = mpsc::channel();
            loop {
                for position in self.ready(&dag, &phases, broken.is_some()) {
                    let step = &self.plan.steps[position];
                    if let Err(error) = self.state.begin_step(self.plan.id, &step.job.name) {
                        broken.get_or_insert(error.into());
                        break;
                    }
                    (self.observer)(&Event::StepStarted { step: &step.job.name });
                    phases[position] = Phase::Running;
                    let teller = Teller { endings: endings.clone(), ending: None };
                    scope.spawn(move || {
                        let started = Instant::now();
                        let exit = run(step);
                        teller.tell(Ending { position, took: started.elapsed(), exit });
                    });
                }
                if !phases.contains(&Phase::Running) {
                    break;
                }
                // Without an ending the thread panicked, and the scope will do so, too, when the others have ended.
                let Ok(Some(ending)) = told.recv() else { break };
                let position = ending.position;
                let (phase, error) = self.end(ending);
                phases[position] = phase;
                if let Some(error) = error {
                    broken.get_or_insert(error);
                }
            }
        });
        let failed = phases.iter().position(|phase| *phase == Phase::Failed);
        for (step, _) in self.plan.steps.iter().zip(&phases).filter(|(_, phase)| !phase.is_final()) {
            (self.observer)(&Event::StepSkipped { step: &step.job.name });
        }
        match (broken, failed) {
            (Some(error), _) => Err(error),
            (None, Some(_)) => Ok(RunStatus::Failed),
            (None, None) if phases.iter().all(|phase| *phase == Phase::Succeeded) => Ok(RunStatus::Succeeded),
            (None, None) => Ok(RunStatus::Interrupted),
        }
    }

    /// The steps that begin now.
    fn ready(&self, dag: &Dag, phases: &[Phase], is_broken: bool) -> Vec<usize> {
        if is_broken || self.interrupt.is_stopping() {
            return Vec::new();
        }
        match dag.next(phases, self.capacity) {
            Next::Begin(positions) => positions,
            Next::Drain { .. } | Next::Ended { .. } => Vec::new(),
        }
    }

    /// Takes note of a step's end, and says what went wrong around it.
    fn end(&self, ending: Ending) -> (Phase, Option<RunError>) {
        let step = &self.plan.steps[ending.position].job.name;
        let (phase, status) = match &ending.exit {
            Ok(Exit::Code(0)) => (Phase::Succeeded, RunStatus::Succeeded),
            _ if self.interrupt.is_stopping() => (Phase::Cancelled, RunStatus::Interrupted),
            _ => (Phase::Failed, RunStatus::Failed),
        };
        let recorded = self.state.end_step(self.plan.id, step, status);
        (self.observer)(&Event::StepDone { step, status, took: ending.took });
        (phase, ending.exit.err().or_else(|| recorded.err().map(RunError::from)))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        num::NonZeroU32,
        panic::{AssertUnwindSafe, catch_unwind},
        path::Path,
        sync::{Barrier, Mutex},
    };

    use longshore_pipeline::PipelineSpec;
    use longshore_stack::{NewRun, RunId};
    use serde_json::json;

    use super::*;
    use crate::ArtifactView;

    /// What was told of the steps, and how the run and each step of it ended by the records.
    struct Outcome {
        told: Vec<String>,
        status: Result<RunStatus, RunError>,
        records: Vec<(String, RunStatus)>,
    }

    /// Carries out the steps `a` and `b`, and `c` after both, two at a time.
    fn carry_out(interrupt: &Interrupt, run: &(dyn Fn(&str) -> Result<Exit, RunError> + Sync)) -> Outcome {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(&folder.path().join("state.db")).unwrap();
        let step = |name: &str, after: &[&str]| json!({"name": name, "source": {"module": "m", "attribute": name}, "outputs": [], "after": after});
        let spec = json!({
            "version": 2, "pipeline": {"name": "p"}, "source_root": "/src", "sdk_version": "0.1.0",
            "python": {"executable": "/usr/bin/python3", "version": "3.11.2"},
            "steps": [step("a", &[]), step("b", &[]), step("c", &["a", "b"])],
        });
        let spec = PipelineSpec::from_json(spec.to_string().as_bytes()).unwrap();
        let plan = RunPlan::new(&spec, RunId::new(), Path::new("/artifacts"), ArtifactView::Host, |_| None);
        state.begin_run(NewRun::here(plan.id, "p", "default")).unwrap();
        let told = Mutex::new(Vec::new());
        let observer = |event: &Event<'_>| {
            told.lock().unwrap().push(match event {
                Event::StepStarted { step } => format!("{step} began"),
                Event::StepDone { step, status, .. } => format!("{step} {}", status.as_str()),
                Event::StepSkipped { step } => format!("{step} skipped"),
                Event::Line { line, .. } => (*line).to_owned(),
            });
        };
        let capacity = &Capacity::of_steps(NonZeroU32::new(2).unwrap());
        let dispatch = Dispatch { plan: &plan, capacity, state: &state, interrupt, observer: &observer };
        let status = dispatch.run(&|step: &StepPlan| run(&step.job.name));
        let found = state.run_named(&plan.id.to_string()).unwrap();
        let records = found.steps.into_iter().map(|step| (step.name, step.status)).collect();
        Outcome { told: told.into_inner().unwrap(), status, records }
    }

    #[test]
    fn steps_run_at_the_same_time_and_in_order() {
        let both = Barrier::new(2);
        let outcome = carry_out(&Interrupt::new(), &|step| {
            if step != "c" {
                both.wait();
            }
            Ok(Exit::Code(0))
        });
        assert_eq!(outcome.status.unwrap(), RunStatus::Succeeded);
        assert_eq!(outcome.told[..2], ["a began", "b began"]);
        assert_eq!(outcome.told[4..], ["c began", "c succeeded"]);
    }

    #[test]
    fn what_cannot_be_run_ends_the_run_when_the_others_have_ended() {
        let both = Barrier::new(2);
        let outcome = carry_out(&Interrupt::new(), &|step| {
            both.wait();
            if step == "a" { Err(RunError::NoImage("a".into())) } else { Ok(Exit::Code(0)) }
        });
        assert!(matches!(outcome.status, Err(RunError::NoImage(_))));
        let expected = [("a".to_owned(), RunStatus::Failed), ("b".to_owned(), RunStatus::Succeeded)];
        assert_eq!(outcome.records, expected);
        assert_eq!(outcome.told.last().unwrap(), "c skipped");
    }

    #[test]
    fn a_wish_to_stop_lets_nothing_begin() {
        let interrupt = Interrupt::new();
        let outcome = carry_out(&interrupt, &|_| {
            interrupt.stop();
            Ok(Exit::Signal(2))
        });
        assert_eq!(outcome.status.unwrap(), RunStatus::Interrupted);
        assert!(outcome.records.iter().all(|(_, status)| *status == RunStatus::Interrupted));
        assert_eq!(outcome.told.last().unwrap(), "c skipped");
        let again = carry_out(&interrupt, &|_| unreachable!());
        assert_eq!(again.status.unwrap(), RunStatus::Interrupted);
        assert_eq!(again.told, ["a skipped", "b skipped", "c skipped"]);
    }

    #[test]
    fn a_defect_in_a_step_does_not_hang_the_run() {
        let run = || carry_out(&Interrupt::new(), &|_| panic!("a defect"));
        assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
    }
}
