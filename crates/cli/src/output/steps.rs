//! What a person sees of a run: the steps' own lines, each with the step's name before it.

use std::{
    io::Write,
    path::Path,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use longshore_orchestrator::{Event, Stream};
use longshore_stack::RunStatus;

use super::{
    quantity::{count, duration},
    table::shorten,
};

/// The least and the most columns that the names of steps take.
const NAME: (usize, usize) = (8, 20);
/// The width of a terminal that every line of our own fits.
const TERMINAL: usize = 80;

/// Shows the events of a run. Lines of a step's standard output go to ours, all else to standard error.
#[derive(Debug)]
pub(crate) struct Steps {
    width: usize,
    started: Instant,
    /// Held while a line is written: both streams may be the same terminal.
    told: Mutex<Told>,
}

/// What has been told of the steps.
#[derive(Debug, Default)]
struct Told {
    succeeded: usize,
    skipped: Vec<String>,
}

impl Steps {
    /// A view of steps of these names.
    pub(crate) fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let width = names.map(|name| name.chars().count()).max().unwrap_or(0).clamp(NAME.0, NAME.1);
        Self { width, started: Instant::now(), told: Mutex::default() }
    }

    /// Takes an event.
    pub(crate) fn observe(&self, event: &Event<'_>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let dim = anstyle::Style::new().dimmed();
        // Each is written at once. Whoever reads our output may have stopped to; the step goes on.
        let _ = match event {
            Event::Line { step, stream: Stream::Output, line } => {
                anstream::stdout().write_all(format!("{} | {line}\n", self.name(step)).as_bytes())
            }
            Event::Line { step, stream: Stream::Error, line } => {
                anstream::stderr().write_all(format!("{} | {line}\n", self.name(step)).as_bytes())
            }
            Event::StepDone { step, status, took } => {
                if *status == RunStatus::Succeeded {
                    told.succeeded += 1;
                }
                let (name, status, took) = (self.name(step), status.as_str(), duration(*took));
                anstream::stderr().write_all(format!("{name} {dim}{status}, {took}{dim:#}\n").as_bytes())
            }
            Event::StepSkipped { step } => {
                told.skipped.push((*step).to_owned());
                Ok(())
            }
            _ => Ok(()),
        };
    }

    /// Says how a run elsewhere ended, whose outputs are in that folder of its store.
    pub(crate) fn finish_elsewhere(&self, status: RunStatus, folder: Option<&str>) {
        let text = self.summary(status, folder);
        let _ = anstream::stderr().write_all(text.as_bytes());
    }

    /// Says how the run ended.
    pub(crate) fn finish(&self, status: RunStatus, artifacts: &Path) {
        self.finish_elsewhere(status, Some(&artifacts.display().to_string()));
    }

    fn summary(&self, status: RunStatus, folder: Option<&str>) -> String {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let width = self.width;
        let (run, status, done) = (self.name("run"), status.as_str(), count(told.succeeded, "step"));
        let skipped = match told.skipped.len() {
            0 => String::new(),
            number => format!(", {number} not run"),
        };
        let took = duration(self.started.elapsed());
        let mut lines = vec![format!("{run} {status}: {done} done{skipped}, {took}\n")];
        if !told.skipped.is_empty() {
            let label = "not run: ";
            let names = listed(&told.skipped, TERMINAL - width - 1 - label.len());
            lines.push(format!("{:width$} {label}{names}\n", ""));
        }
        lines.extend(folder.map(|folder| format!("{:width$} outputs in {folder}\n", "")));
        lines.concat()
    }

    /// A step's name, in a column.
    fn name(&self, step: &str) -> String {
        let (width, bold) = (self.width, anstyle::Style::new().bold());
        format!("{bold}{:<width$}{bold:#}", shorten(step, width))
    }
}

/// As many of the names as fit so many columns, and how many more there are.
fn listed(names: &[String], width: usize) -> String {
    let more = |shown: usize| match names.len() - shown {
        0 => String::new(),
        left => format!(" and {left} more"),
    };
    let text = |shown: usize| format!("{}{}", names[..shown].join(", "), more(shown));
    let fits = |shown: &usize| text(*shown).chars().count() <= width;
    match (1..=names.len()).rev().find(fits) {
        Some(shown) => text(shown),
        None => count(names.len(), "step"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn view(names: &[&str]) -> Steps {
        Steps::new(names.iter().copied())
    }

    #[test]
    fn names_stand_in_a_column() {
        let steps = view(&["load", "a_step_with_a_name_that_is_long"]);
        let plain = |text: &str| anstream::adapter::strip_str(text).to_string();
        assert_eq!(plain(&steps.name("load")), "load                ");
        let shortened = plain(&steps.name("a_step_with_a_name_that_is_long"));
        assert_eq!((shortened.chars().count(), shortened.contains('…')), (20, true));
        assert_eq!(plain(&view(&["a"]).name("a")), "a       ");
    }

    #[test]
    fn what_was_not_run_is_said_within_80_columns() {
        let steps = view(&["load"]);
        let took = Duration::from_secs(1);
        steps.observe(&Event::StepDone { step: "load", status: RunStatus::Succeeded, took });
        let names: Vec<String> = (0..40).map(|step| format!("step_{step}")).collect();
        for step in &names {
            steps.observe(&Event::StepSkipped { step });
        }
        let text = anstream::adapter::strip_str(&steps.summary(RunStatus::Failed, None)).to_string();
        assert!(text.starts_with("run      failed: 1 step done, 40 not run, "), "{text}");
        assert!(text.contains("         not run: step_0, step_1,") && text.ends_with(" more\n"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert_eq!(listed(&names[..2], 60), "step_0, step_1");
        assert_eq!(listed(&names[..2], 5), "2 steps");
    }
}
