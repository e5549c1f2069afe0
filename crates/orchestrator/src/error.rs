//! What can go wrong around the steps. A step's own failure is not an error here: it is how a run ends.

use std::{io, path::PathBuf};

/// Why a run could not be carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A container could not be run.
    #[error(transparent)]
    Sandbox(#[from] longshore_sandbox::Error),
    /// How far the run is cannot be remembered.
    #[error(transparent)]
    State(#[from] longshore_stack::StateError),
    /// A file or folder of the run cannot be made.
    #[error("cannot write {path}: {source}; check the disk and the folder's owner, or set LONGSHORE_HOME")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The user's Python does not start.
    #[error("cannot start {program}: {source}")]
    Start {
        /// The interpreter.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A step has no image.
    #[error("step {0} has no image; this is a defect in longshore")]
    NoImage(String),
}
