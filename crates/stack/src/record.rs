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
    /// Its steps, in the order in which they began.
    pub steps: Vec<StepRun>,
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
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }

    /// The status of that spelling.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Running, Self::Succeeded, Self::Failed, Self::Interrupted]
            .into_iter()
            .find(|status| status.as_str() == name)
    }
}
