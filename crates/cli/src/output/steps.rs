//! What a person sees of a run: the steps' own lines, each with the step's name before it.

use std::{
    io::Write,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use longshore_orchestrator::{Event, Stream};
use longshore_stack::RunStatus;

use super::quantity::{count, duration};

/// Shows the events of a run. Lines of a step's standard output go to ours, all else to standard error.
#[derive(Debug)]
pub(crate) struct Steps {
    width: usize,
    started: Instant,
    succeeded: AtomicUsize,
}

impl Steps {
    /// A view of steps of these names.
    pub(crate) fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let width = names.map(|name| name.chars().count()).max().unwrap_or(0).max(8);
        Self { width, started: Instant::now(), succeeded: AtomicUsize::new(0) }
    }

    /// Takes an event.
    pub(crate) fn observe(&self, event: &Event<'_>) {
        let width = self.width;
        let bold = anstyle::Style::new().bold();
        let dim = anstyle::Style::new().dimmed();
        match event {
            Event::Line { step, stream: Stream::Output, line } => {
                // Whoever reads our output may have stopped to; the step goes on.
                let _ = writeln!(anstream::stdout(), "{bold}{step:<width$}{bold:#} | {line}");
            }
            Event::Line { step, stream: Stream::Error, line } => {
                let _ = writeln!(anstream::stderr(), "{bold}{step:<width$}{bold:#} | {line}");
            }
            Event::StepDone { step, status, took } => {
                if *status == RunStatus::Succeeded {
                    self.succeeded.fetch_add(1, Ordering::Relaxed);
                }
                let status = status.as_str();
                let took = duration(*took);
                let _ =
                    writeln!(anstream::stderr(), "{bold}{step:<width$}{bold:#} {dim}{status}, {took}{dim:#}");
            }
            _ => {}
        }
    }

    /// Says how a run elsewhere ended, whose outputs are in that folder of its store.
    pub(crate) fn finish_elsewhere(&self, status: RunStatus, folder: Option<&str>) {
        let bold = anstyle::Style::new().bold();
        let steps = count(self.succeeded.load(Ordering::Relaxed), "step");
        let took = duration(self.started.elapsed());
        let (width, status) = (self.width, status.as_str());
        anstream::eprintln!("{bold}{:<width$}{bold:#} {status}: {steps} done, {took}", "run");
        if let Some(folder) = folder {
            anstream::eprintln!("{:<width$} outputs in {folder}", "");
        }
    }

    /// Says how the run ended.
    pub(crate) fn finish(&self, status: RunStatus, artifacts: &Path) {
        let bold = anstyle::Style::new().bold();
        let steps = count(self.succeeded.load(Ordering::Relaxed), "step");
        let took = duration(self.started.elapsed());
        let width = self.width;
        let status = status.as_str();
        anstream::eprintln!("{bold}{:<width$}{bold:#} {status}: {steps} done, {took}", "run");
        anstream::eprintln!("{:<width$} outputs in {}", "", artifacts.display());
    }
}
