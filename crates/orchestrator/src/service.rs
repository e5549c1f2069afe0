//! What an orchestrator elsewhere does for longshore.

use std::fmt;

use futures::{FutureExt as _, future::BoxFuture};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Term, Workflow};

/// An orchestrator elsewhere. Its documents are pure values; the rest talks to it.
pub trait Service: fmt::Debug + Send + Sync {
    /// Exactly what would be submitted for a workflow, in its order.
    fn documents(&self, workflow: &Workflow) -> Result<Vec<Document>, ServiceError>;

    /// How long the credentials are good that a workflow would be given. Nothing is submitted.
    fn terms<'a>(&'a self, _: &'a Workflow) -> BoxFuture<'a, Result<Vec<Term>, ServiceError>> {
        async { Ok(Vec::new()) }.boxed()
    }

    /// Submits a workflow: it runs from then on without this process, or when its schedule says so.
    fn submit<'a>(&'a self, workflow: &'a Workflow) -> BoxFuture<'a, Result<Submission, ServiceError>>;

    /// How far a run is.
    fn status<'a>(&'a self, run: &'a str) -> BoxFuture<'a, Result<RunState, ServiceError>>;

    /// What a step printed, from the line of that number on; with [`Follow::Yes`], until the step ends. `line` is called for
    /// each. Returns how many lines there are, for the next call after a lost connection.
    fn logs<'a>(
        &'a self,
        run: &'a str,
        step: &'a str,
        from: usize,
        follow: Follow,
        line: &'a (dyn Fn(&str) + Send + Sync),
    ) -> BoxFuture<'a, Result<usize, ServiceError>>;

    /// Ends a run. One that has ended already stays as it is.
    fn cancel<'a>(&'a self, run: &'a str) -> BoxFuture<'a, Result<(), ServiceError>>;
}

/// Whether lines are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// Those that are there.
    No,
    /// Those that come, too.
    Yes,
}

/// A document that an orchestrator is given.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// A name for a file of it, with its ending: `pipeline.yaml`, `my_dag.py`.
    pub name: String,
    /// What it holds.
    pub content: Content,
}

/// What a document holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Data, printed as YAML or JSON as the user likes.
    Data(serde_json::Value),
    /// Text that is what it is: a Python file.
    Text(String),
}

/// What was submitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submission {
    /// What the orchestrator calls the run, or the schedule: [`Service::status`] understands it.
    pub run: String,
    /// The folder of the run in the artifact store, if it is known already.
    pub artifacts: Option<String>,
    /// Where a person looks at it in a browser.
    pub url: Option<String>,
}

/// How far a run is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunState {
    /// The run's status.
    pub phase: Phase,
    /// Why, in a sentence, where there is something to say.
    pub reason: Option<String>,
    /// Its steps, as far as the orchestrator knows of them.
    pub steps: Vec<StepState>,
}

/// How far a step is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepState {
    /// The step, by its name in the pipeline.
    pub name: String,
    /// Its status.
    pub phase: Phase,
    /// Why, in a sentence with the remedy, where there is something to say: also while it waits for something that may never
    /// come, such as an image that cannot be pulled.
    pub reason: Option<String>,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub finished: Option<Timestamp>,
}

/// How far something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Not begun.
    Pending,
    /// Begun.
    Running,
    /// Ended well.
    Succeeded,
    /// Ended with an error.
    Failed,
    /// Ended because somebody wished so.
    Cancelled,
    /// Not run, since something before it failed; or taken from an earlier run.
    Skipped,
}

impl Phase {
    /// Whether it stays as it is.
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }
}

/// Why an orchestrator did not do what it was asked: a sentence that says what failed, on which object, why, and what to do.
#[derive(Debug)]
pub struct ServiceError {
    error: Box<dyn std::error::Error + Send + Sync>,
    retry: Retry,
}

/// Whether the same may work when it is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It may: a lost connection, a service that is busy.
    Maybe,
    /// It will not.
    Never,
}

impl ServiceError {
    /// An orchestrator's own error.
    pub fn new(error: impl std::error::Error + Send + Sync + 'static, retry: Retry) -> Self {
        Self { error: Box::new(error), retry }
    }

    /// Whether the same may work when it is tried again.
    pub fn is_retryable(&self) -> bool {
        self.retry == Retry::Maybe
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for ServiceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}
