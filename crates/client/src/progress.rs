//! What whoever waits is told.

use std::time::Duration;

use longshore_oci::{Digest, Reference, Repository};

/// Is told what happens, from several tasks at a time.
pub type Observer = dyn Fn(Event) + Send + Sync;

/// An observer that looks away.
pub fn ignore(_: Event) {}

/// A step of a push, a pull or a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// What there is to move, at most.
    Planned {
        /// How many blobs.
        blobs: usize,
        /// Their bytes.
        bytes: u64,
    },
    /// So much of a blob has been moved; less than before when it must begin again.
    Moved {
        /// The blob.
        digest: Digest,
        /// How many bytes of it.
        bytes: u64,
        /// Its size.
        size: u64,
    },
    /// A blob is where it should be.
    Blob {
        /// The blob.
        digest: Digest,
        /// How it came there.
        outcome: BlobOutcome,
        /// Its size.
        size: u64,
    },
    /// A manifest is where it should be.
    Manifest {
        /// Its digest.
        digest: Digest,
        /// The repository that it was pushed to or pulled from.
        repository: Repository,
    },
    /// A tag names what was pushed.
    Tagged(Reference),
    /// Something failed and is tried again.
    Retry {
        /// What is tried: `upload blob sha256:… to ghcr.io/me/app`.
        what: String,
        /// Why it failed.
        reason: String,
        /// How long we wait first.
        pause: Duration,
    },
}

/// How a blob came where it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobOutcome {
    /// It was there.
    Existed,
    /// The registry took it from another of its repositories.
    Mounted,
    /// Its bytes were moved.
    Moved,
}
