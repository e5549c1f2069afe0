//! What a build reports while it works. Whoever shows it decides how.

use std::time::Duration;

use longshore_debian::addition::Way;
use longshore_oci::{Digest, Platform, Reference};

/// Something that happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// What follows is of the image for this platform, one of several.
    Platform(Platform),
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
    /// What `apt_packages` add to the parent is being found out.
    AptStarted,
    /// What they add is known, and how.
    AptPlanned(AptReport),
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
    /// Packages that are required are in the parent already: they are not installed again.
    PackagesPresent {
        /// Name and version of each.
        packages: Vec<String>,
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
    /// A wheel was built of a source.
    WheelBuilt {
        /// What it is of, e.g. `docopt 0.6.2`.
        what: String,
        /// Its length in bytes.
        bytes: u64,
        /// How long it took, with what it needed.
        took: Duration,
    },
    /// Two packages have different files at a path; the image has the one's.
    FilesClash {
        /// The path below the virtual environment.
        path: String,
        /// The wheel whose file is hidden.
        hidden: String,
        /// The wheel whose file is in the image.
        shown: String,
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
    /// The index of the images for several platforms is in the registry.
    IndexDone {
        /// Its name, by tag and digest.
        image: Reference,
        /// The platforms.
        platforms: Vec<Platform>,
        /// How long the whole build took.
        took: Duration,
    },
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

/// What `apt_packages` add to a parent.
#[derive(Clone, Debug)]
pub struct AptReport {
    /// The packages that it lacks: name and version.
    pub packages: Vec<String>,
    /// Their bytes.
    pub bytes: u64,
    /// Those of them, by name, that it has in an older version.
    pub upgraded: Vec<String>,
    /// How they are installed, and if not natively, why.
    pub way: Way,
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
