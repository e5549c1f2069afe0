//! What a build reports while it works. Whoever shows it decides how.

use std::time::Duration;

use longshore_oci::{Digest, Reference};

/// Something that happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The parent is being looked up or made.
    ParentStarted,
    /// The parent is known.
    ParentDone(ParentReport),
    /// The requirements are being resolved.
    LockStarted {
        /// How many requirements there are.
        requirements: usize,
    },
    /// The requirements are resolved.
    LockDone {
        /// How many packages the lock has.
        packages: usize,
        /// How long it took.
        took: Duration,
        /// Whether an earlier resolution was taken.
        origin: Origin,
    },
    /// What there is to do is known.
    Planned {
        /// The layers above the parent, lowest first.
        layers: Vec<LayerTitle>,
        /// The bytes to fetch.
        to_fetch: u64,
    },
    /// Bytes of a download have arrived.
    Fetched {
        /// How many.
        bytes: u64,
    },
    /// One download is complete.
    FetchDone {
        /// What it was, e.g. `numpy 2.1.3`.
        what: String,
        /// Its length in bytes.
        bytes: u64,
        /// How long it took.
        took: Duration,
    },
    /// A layer is ready.
    LayerDone(LayerReport),
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
    /// Its position above the parent, from 0.
    pub position: usize,
    /// What it holds, e.g. `numpy 2.1.3`.
    pub title: String,
}

/// What is known of a parent image.
#[derive(Clone, Debug)]
pub struct ParentReport {
    /// What it is, e.g. `Debian 12 (bookworm), Python 3.11, amd64`.
    pub title: String,
    /// Its digest.
    pub digest: Digest,
    /// The bytes of its layers.
    pub size: u64,
    /// Whether it was made now.
    pub origin: Origin,
    /// The bytes that were fetched for it.
    pub fetched: u64,
    /// How long it took.
    pub took: Duration,
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
    /// How many layers were new.
    pub new_layers: usize,
    /// How many layers were there already.
    pub reused_layers: usize,
    /// How long the whole build took.
    pub took: Duration,
}

/// Takes events, from any thread.
pub type Observer<'a> = &'a (dyn Fn(Event) + Send + Sync);
