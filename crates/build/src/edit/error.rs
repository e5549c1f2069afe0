//! Why an image cannot be edited.

use longshore_oci::{Digest, Reference};

/// Why an image cannot be rebased, patched or made again. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// The image does not say what it was built on.
    #[error(
        "{0} does not say what it was built on (annotation org.opencontainers.image.base.digest); name it with --from"
    )]
    NoBase(Box<Reference>),
    /// The image was built on something else.
    #[error(
        "the layers of {image} do not begin with those of {parent}: {layer} of them is another one; name the image that \
         it was built on with --from"
    )]
    OtherBase {
        /// The image.
        image: String,
        /// What was taken for its parent.
        parent: String,
        /// Which layer differs, from 1, as people count.
        layer: usize,
    },
    /// The new parent is for another machine.
    #[error("{parent} has no image for {wanted}, which the image is for")]
    Platform {
        /// The new parent.
        parent: String,
        /// The image's platform.
        wanted: String,
    },
    /// Debian packages that go with the old parent.
    #[error(
        "{image} has a layer of apt_packages, which were chosen for the packages of its parent and are not those that \
         {parent} lacks; build the image anew on that parent"
    )]
    AptLayer {
        /// The image.
        image: String,
        /// The new parent.
        parent: String,
    },
    /// The new parent lacks the interpreter that the image's packages are for.
    #[error(
        "the packages of {image} are for Python {wanted} at {executable}, and {parent} has {found}; build the image anew on \
         that parent"
    )]
    Python {
        /// The image.
        image: String,
        /// `3.11`.
        wanted: String,
        /// The interpreter's path.
        executable: String,
        /// The new parent.
        parent: String,
        /// What Python that has.
        found: String,
    },
    /// The new parent's C library is too old.
    #[error(
        "{parent} has {found}, and the image's packages need {wanted}; build the image anew on that parent"
    )]
    Libc {
        /// The new parent.
        parent: String,
        /// What it has.
        found: String,
        /// What is needed.
        wanted: String,
    },
    /// Nobody knows how the image was built.
    #[error(
        "how {0} was built is not recorded on this machine; what needs the record has to be done where the image was built"
    )]
    NoRecord(Box<Reference>),
    /// The record of a build cannot be read.
    #[error("the record of the build of {image} cannot be used: {why}")]
    Record {
        /// The image.
        image: String,
        /// Why not.
        why: String,
    },
    /// The layers are not those that the record leads to.
    #[error(
        "the layers of {image} are not laid out as this version of longshore does it ({why}); build the image anew"
    )]
    Layout {
        /// The image.
        image: String,
        /// What differs.
        why: String,
    },
    /// The package to replace is not there.
    #[error("{image} has no package {package}; it has {others}")]
    NoPackage {
        /// The image.
        image: String,
        /// The package.
        package: String,
        /// The packages that it has.
        others: String,
    },
    /// The package to replace is the parent's.
    #[error(
        "{package} is not installed in {image}: its parent {parent} has it; require the version that is wanted and build the \
         image anew"
    )]
    OfParent {
        /// The image.
        image: String,
        /// The package with its version.
        package: String,
        /// The parent.
        parent: String,
    },
    /// The new parent lacks packages that the image has of its old one.
    #[error(
        "{image} uses packages of its parent that {parent} does not have in the same version ({missing}); build the image anew on \
         that parent"
    )]
    ParentPackages {
        /// The image.
        image: String,
        /// The new parent.
        parent: String,
        /// What it lacks.
        missing: String,
    },
    /// What to put in is not one package at one version.
    #[error("`{0}` is neither NAME==VERSION nor the path of a wheel")]
    Wanted(String),
    /// What is to be put in, or what it needs, has no wheel.
    #[error(
        "the version that is asked for, or what it needs, has no wheel, only sources; build the image anew with it"
    )]
    OnlySource,
    /// The new version needs more.
    #[error(
        "{package} needs {missing}, which {image} does not have; add it to the requirements and build the image anew"
    )]
    Missing {
        /// The new version.
        package: String,
        /// What it needs.
        missing: String,
        /// The image.
        image: String,
    },
    /// The same version is there.
    #[error("{image} has {package} already")]
    Same {
        /// The image.
        image: String,
        /// The package.
        package: String,
    },
    /// Several images under one name.
    #[error("{0} is an image for several platforms; only an image for one can be made again")]
    Several(Box<Reference>),
    /// An edit needs a name for its result.
    #[error("{0} is named by its digest; say with --tag what the new image is to be called")]
    NoTag(Box<Reference>),
    /// A layer is neither here nor where the image is.
    #[error("layer {layer} of {image} is nowhere to be had")]
    LayerMissing {
        /// The layer.
        layer: Digest,
        /// The image.
        image: String,
    },
}
