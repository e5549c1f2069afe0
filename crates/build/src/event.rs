//! What a build reports while it works. Whoever shows it decides how.

use std::time::Duration;

use longshore_oci::{Digest, Reference};

/// Something that happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The parent's packages are being looked up.
    ParentStarted,
    /// The tag of the parent stands for another image than in the last build.
    ParentMoved {
        /// The parent, by tag.
        image: String,
        /// What it stood for.
        from: Digest,
        /// What it stands for now.
        to: Digest,
    },
    /// The parent is in the registry.
    ParentDone(ParentReport),
    /// The requirements are being resolved.
    LockStarted,
    /// The requirements are resolved.
    LockDone {
        /// How many packages the lock has.
        packages: usize,
        /// How long it took.
        took: Duration,
        /// Whether an earlier resolution was taken.
        origin: Origin,
    },
    /// A download of that many bytes begins.
    FetchStarted {
        /// Its length in bytes.
        bytes: u64,
    },
    /// Bytes of a download have arrived, or have been given up again.
    FetchProgress {
        /// How many more.
        bytes: i64,
    },
    /// A download is complete.
    FetchDone {
        /// What it was, e.g. `numpy 2.1.3`.
        what: String,
        /// Its length in bytes.
        bytes: u64,
        /// How long it took.
        took: Duration,
    },
    /// A push of at most that many bytes begins; [`Event::FetchProgress`] tells how far it is.
    PushStarted {
        /// The bytes of all blobs.
        bytes: u64,
    },
    /// A layer is ready.
    LayerDone(LayerReport),
    /// The image is in the registry, and its bill of materials could not be put beside it.
    SbomNotAttached {
        /// Why.
        reason: String,
    },
    /// An image is used as it is: nothing is built.
    ImageUsed {
        /// Its name, with its digest.
        image: Reference,
    },
    /// The image is in the registry.
    ImageDone(ImageReport),
}

/// Where something that the build needs comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Made now.
    New,
    /// Made by an earlier build.
    Reused,
}

/// A layer's place and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerTitle {
    /// What it holds, e.g. `numpy 2.1.3`.
    pub title: String,
    /// What is done to make it: `spliced`, `compiled`, `packed`.
    pub verb: &'static str,
}

/// What is known of a parent image.
#[derive(Clone, Debug)]
pub struct ParentReport {
    /// What it is, e.g. `Debian 12.5 (bookworm), Python 3.11.2`.
    pub title: String,
    /// The bytes of its layers.
    pub size: u64,
    /// Whether it was made now.
    pub origin: Origin,
    /// How long that took.
    pub took: Duration,
    /// Debian packages that bring an installation script whose work was not done: no script is run.
    pub scripts_not_run: Vec<String>,
}

/// What became of a layer.
#[derive(Clone, Debug)]
pub struct LayerReport {
    /// Which.
    pub layer: LayerTitle,
    /// Its compressed size in bytes.
    pub size: u64,
    /// Whether it was made now.
    pub origin: Origin,
    /// How long making it took, without the wait for downloads and for a free processor.
    pub took: Duration,
}

/// What became of the image.
#[derive(Clone, Debug)]
pub struct ImageReport {
    /// Its name, by tag and digest.
    pub image: Reference,
    /// The bytes of all its layers.
    pub size: u64,
    /// The bytes that the registry did not have before.
    pub pushed: u64,
    /// How many layers were new to it.
    pub new_layers: usize,
    /// How many blobs it took from another of its repositories.
    pub mounted: usize,
    /// How many layers it has.
    pub layers: usize,
    /// How long the whole build took.
    pub took: Duration,
}

/// Takes events, from any thread.
pub type Observer<'a> = &'a (dyn Fn(Event) + Send + Sync);
