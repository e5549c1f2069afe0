//! What is remembered of builds and runs.

use std::fmt;

use jiff::Timestamp;
use longshore_oci::Reference;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The identity of a run. Later runs sort after earlier ones (UUID version 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(Uuid);

impl RunId {
    /// The identity that was written so.
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::try_parse(text).ok().map(Self)
    }

    /// A new identity.
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }
}

impl Default for RunId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.as_simple())
    }
}

/// One image made for a pipeline.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Build {
    /// When it was finished.
    pub created: Timestamp,
    /// The pipeline.
    pub pipeline: String,
    /// The image, by tag and digest.
    pub image: Reference,
    /// What went into it: parent, lock, settings, code.
    pub inputs: serde_json::Value,
}

/// One execution of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Run {
    /// Its identity.
    pub id: String,
    /// The pipeline.
    pub pipeline: String,
    /// The stack.
    pub stack: String,
    /// The image, by digest, if there was one.
    pub image: Option<String>,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// How it ended.
    pub status: RunStatus,
    /// Where it runs, if not on this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<Elsewhere>,
    /// The pipeline's steps, each after those that it waits for.
    pub graph: Vec<GraphStep>,
    /// Its steps, in the order in which they began.
    pub steps: Vec<StepRun>,
}

/// A run that an orchestrator elsewhere has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elsewhere {
    /// The orchestrator's name among the registered ones.
    pub orchestrator: String,
    /// What the orchestrator calls the run, or the schedule.
    pub run: String,
    /// The folder of the run in the artifact store, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifacts: Option<String>,
    /// Where a person looks at it in a browser.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// A step of a pipeline, and what it waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraphStep {
    /// The step.
    pub name: String,
    /// The steps that have to succeed before it.
    pub upstream: Vec<String>,
    /// The names of its outputs.
    #[serde(default)]
    pub outputs: Vec<String>,
}

/// A run that begins.
#[derive(Clone, Copy, Debug)]
pub struct NewRun<'a> {
    /// Its identity.
    pub id: RunId,
    /// The pipeline.
    pub pipeline: &'a str,
    /// The stack.
    pub stack: &'a str,
    /// The image, by digest, if there is one.
    pub image: Option<&'a Reference>,
    /// The pipeline's steps.
    pub graph: &'a [GraphStep],
    /// Where it runs, if not on this machine.
    pub elsewhere: Option<&'a Elsewhere>,
    /// Whether it runs now, or when its schedule says so.
    pub status: RunStatus,
}

impl<'a> NewRun<'a> {
    /// A run on this machine that begins now.
    pub const fn here(id: RunId, pipeline: &'a str, stack: &'a str) -> Self {
        Self { id, pipeline, stack, image: None, graph: &[], elsewhere: None, status: RunStatus::Running }
    }
}

/// One step of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StepRun {
    /// The step.
    pub name: String,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// How it ended.
    pub status: RunStatus,
}

/// How far a run or step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    /// It runs by itself when its schedule says so.
    Scheduled,
    /// Begun and not ended; for ever, if longshore itself was killed.
    Running,
    /// Ended well.
    Succeeded,
    /// Ended with an error.
    Failed,
    /// Ended by the user.
    Interrupted,
}

impl RunStatus {
    /// The status as the database and the terminal spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }

    /// The status of that spelling.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Scheduled, Self::Running, Self::Succeeded, Self::Failed, Self::Interrupted]
            .into_iter()
            .find(|status| status.as_str() == name)
    }
}
