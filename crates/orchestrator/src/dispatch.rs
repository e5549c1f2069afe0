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
