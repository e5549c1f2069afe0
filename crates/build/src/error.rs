//! What can go wrong in a build.

use std::io;

use longshore_oci::{ManifestError, Reference, ReferenceError};

use crate::source::SourceError;

/// Why an image could not be built. Most of it is said by the crate whose business it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The code cannot be packed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The requirements cannot be resolved, or a wheel is not what it should be.
    #[error(transparent)]
    Python(#[from] longshore_python::Error),
    /// The parent cannot be made from Debian packages.
    #[error(transparent)]
    Debian(#[from] longshore_debian::Error),
    /// A download failed.
    #[error(transparent)]
    Fetch(#[from] longshore_fetch::FetchError),
    /// The registry or a cache refused.
    #[error(transparent)]
    Store(#[from] longshore_store::StoreError),
    /// A layer cannot be written.
    #[error(transparent)]
    Layer(#[from] longshore_layer::Error),
    /// The image's own Python cannot be run.
    #[error(transparent)]
    Sandbox(#[from] longshore_sandbox::Error),
    /// A manifest or configuration in the registry is not valid.
    #[error("image {image}: {source}")]
    Manifest {
        /// The image.
        image: String,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// A name in the settings is not an image reference.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// Another registry refused, or was not reached.
    #[error(transparent)]
    Client(Box<longshore_client::ClientError>),
    /// A parent image whose Python is not known.
    #[error(
        "parent image {image} has no Python that longshore can use: {reason}; choose a parent with python3 (3.9 or newer) \
         on its PATH, or leave parent_image out to build on Debian packages"
    )]
    ParentPython {
        /// The image.
        image: Box<Reference>,
        /// Why.
        reason: String,
    },
    /// An image for other machines.
    #[error("image {image} is for {found}; this machine runs {wanted}")]
    ParentPlatform {
        /// The image.
        image: Box<Reference>,
        /// Its platform.
        found: String,
        /// This machine's.
        wanted: String,
    },
    /// The archives that apt is configured for have no Python for a parent.
    #[error(
        "{distribution}, which apt is configured for, has no {missing}; name a parent_image that has Python"
    )]
    DebianPython {
        /// The distribution.
        distribution: String,
        /// What it lacks.
        missing: String,
    },
    /// Debian packages on a parent that was not made from Debian packages.
    #[error(
        "apt_packages can be added to the parent that longshore makes from Debian packages, not to {0}; \
         leave parent_image or apt_packages out"
    )]
    AptOnParent(String),
    /// `skip_build` without an image to use.
    #[error("skip_build uses parent_image as it is, and there is none: name the image there")]
    NothingToUse,
    /// A machine that no image can be made for.
    #[error("images can be made for amd64 and arm64; this machine is neither")]
    Machine,
    /// `SOURCE_DATE_EPOCH` is not a time.
    #[error("SOURCE_DATE_EPOCH is `{0}`; it must be a number of seconds since 1970")]
    Epoch(String),
    /// A layer that neither this machine nor a registry has.
    #[error(
        "layer {0} is neither on this machine nor in a registry that it could be pulled from; build its image again"
    )]
    Nowhere(longshore_oci::Digest),
    /// Part of the build ended without an answer: a defect of this program.
    #[error("{0} ended without an answer; this is a defect in longshore")]
    Lost(&'static str),
    /// The system refused something.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done, on which object.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
}

impl From<longshore_client::ClientError> for BuildError {
    fn from(error: longshore_client::ClientError) -> Self {
        Self::Client(Box::new(error))
    }
}
