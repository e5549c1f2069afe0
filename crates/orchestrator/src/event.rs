//! What a run reports while it works.

use std::time::Duration;

use longshore_stack::RunStatus;

/// Something that happened in a run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A step begins.
    StepStarted {
        /// The step.
        step: &'a str,
    },
    /// A step printed a line.
    Line {
        /// The step.
        step: &'a str,
        /// Where it printed.
        stream: Stream,
        /// The line, without its end.
        line: &'a str,
    },
    /// A step ended.
    StepDone {
        /// The step.
        step: &'a str,
        /// How.
        status: RunStatus,
        /// How long it took.
        took: Duration,
    },
    /// A step is not run: one before it failed, or the run was stopped.
    StepSkipped {
        /// The step.
        step: &'a str,
    },
}

/// Where a line was printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

/// Takes events, from any thread.
pub type Observer<'a> = &'a (dyn Fn(&Event<'_>) + Send + Sync);
