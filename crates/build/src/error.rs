//! What can go wrong in a build.

use std::io;

use longshore_debian::addition::Tool;
use longshore_oci::{Arch, Digest, ManifestError, Reference, ReferenceError};
use longshore_python::{PackageName, target::PythonVersion};
use longshore_sandbox::Exit;

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
    /// A layer of a parent that no archive is in.
    #[error(
        "layer {layer} of parent image {image} cannot be read: {source}; its bytes are those that its registry has, so push \
         that image again, or choose another parent"
    )]
    ParentLayer {
        /// The image.
        image: Box<Reference>,
        /// The layer.
        layer: Digest,
        /// What is wrong with it.
        source: Box<BuildError>,
    },
    /// An image for other machines.
    #[error(
        "image {image} is for {found}, not for {wanted}: choose a parent for {wanted}, or another `platform`"
    )]
    ParentPlatform {
        /// The image.
        image: Box<Reference>,
        /// Its platform.
        found: String,
        /// The one that is wanted.
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
    /// Debian packages cannot be added to a parent.
    #[error("apt_packages cannot be added to parent image {image}: {source}")]
    Apt {
        /// The parent.
        image: String,
        /// Why.
        source: Box<longshore_debian::Error>,
    },
    /// The parent's own program did not install them.
    #[error("{tool} could not install the apt_packages ({exit}):\n{said}{hint}")]
    AptInstall {
        /// The program.
        tool: Tool,
        /// How it ended.
        exit: Exit,
        /// The end of what it said.
        said: String,
        /// What to do, if that is known.
        hint: &'static str,
    },
    /// The packages' scripts cannot be run on this machine.
    #[error(
        "some of the apt_packages need {tool} to be run in the parent, which is for {arch}; this machine is not: build on one that \
         is, or leave those packages out"
    )]
    AptArch {
        /// The parent's architecture.
        arch: Arch,
        /// The program.
        tool: Tool,
    },
    /// Layers that would have to be both.
    #[error(
        "lazy=\"estargz\" is a form of gzip, and compression is \"zstd\": leave one of them out. Layers in zstd are \
         fetched whole (zstd:chunked is not made)"
    )]
    LazyZstd,
    /// The wheels cannot be divided into layers.
    #[error(transparent)]
    Budget(#[from] longshore_python::plan::BudgetError),
    /// Bytecode for a processor that this machine does not have, by another Python.
    #[error(
        "the parent for linux/{arch} has Python {python}, and the one for this machine, which would compile its bytecode, \
         has {here}: choose a parent that has one Python on all platforms, or set compile_bytecode to False"
    )]
    Interpreter {
        /// The processor.
        arch: Arch,
        /// The Python there.
        python: PythonVersion,
        /// The Python here.
        here: PythonVersion,
    },
    /// `skip_build` without an image to use.
    #[error("skip_build uses parent_image as it is, and there is none: name the image there")]
    NothingToUse,
    /// A machine that no image can be made for.
    #[error("images can be made for amd64 and arm64; this machine is neither")]
    Machine,
    /// Extras or groups of no project.
    #[error(
        "extras and groups are those of a project: name its pyproject.toml as pyproject, or its lock as lock"
    )]
    NoProject,
    /// A lock, and the packages of this Python, which are one too.
    #[error(
        "lock and replicate_local_python_environment both say which versions are installed; leave one of them out"
    )]
    TwoLocks,
    /// The packages of this Python, and there is none.
    #[error(
        "replicate_local_python_environment needs a Python on this machine: install one, or put it on PATH"
    )]
    NoLocalPython,
    /// An index whose name uv does not take.
    #[error("`{0}` is not the name of an index: letters, digits, `-`, `_` and `.` make one")]
    IndexName(String),
    /// The credentials of an index are not where they should be.
    #[error("the secret of the index `{index}` cannot be read from {place}: {reason}")]
    Secret {
        /// The index.
        index: String,
        /// Where they should be.
        place: String,
        /// Why they cannot be read.
        reason: String,
    },
    /// A wheel could not be built.
    #[error("cannot build a wheel of {package} from {of}:\n  {said}")]
    WheelBuild {
        /// The package.
        package: PackageName,
        /// What it was to be built of.
        of: String,
        /// The last that the build said.
        said: String,
    },
    /// A wheel could not be built for want of a compiler.
    #[error(
        "cannot build a wheel of {package} from {of}, which has code in C: {said}; add a compiler and Python's \
         headers to the parent, as in apt_packages=[\"gcc\", \"libc6-dev\", \"python3-dev\"], or require a version \
         that has a wheel"
    )]
    NoCompiler {
        /// The package.
        package: PackageName,
        /// What it was to be built of.
        of: String,
        /// What the build said.
        said: String,
    },
    /// What builds a wheel is itself without a wheel.
    #[error(
        "cannot build a wheel of {0}: what it needs to be built has no wheels itself; build that first, and name an index \
         that has it"
    )]
    SourceNeedsSource(PackageName),
    /// A wheel was built again, and became another.
    #[error(
        "the wheel of {package} that was built from {of} is {found}, and the lock has {expected}: the project does not \
         build reproducibly; lock again, or keep the wheel on an index"
    )]
    NotTheLocked {
        /// The package.
        package: PackageName,
        /// What it was built of.
        of: String,
        /// The lock's.
        expected: Digest,
        /// What it became.
        found: Digest,
    },
    /// git is missing.
    #[error("{0} is required from a git repository, and git was not found: install it (apt-get install git)")]
    NoGit(PackageName),
    /// git failed.
    #[error("cannot fetch {package} from {url}: {said}")]
    Git {
        /// The package.
        package: PackageName,
        /// The repository.
        url: String,
        /// What git said.
        said: String,
    },
    /// `SOURCE_DATE_EPOCH` is not a time.
    #[error("SOURCE_DATE_EPOCH is `{0}`; it must be a number of seconds since 1970")]
    Epoch(String),
    /// A layer that neither this machine nor a registry has.
    #[error(
        "layer {0} is neither on this machine nor in a registry that it could be pulled from; build its image again"
    )]
    Nowhere(Digest),
    /// A layer that is not what the configuration of its image says.
    #[error(
        "layer {layer} holds {found}, and the configuration of its image says {wanted} (diff_id): the image was put \
         together wrongly; build it again where it comes from, or choose another"
    )]
    WrongDiffId {
        /// The layer.
        layer: Digest,
        /// The digest that the configuration has.
        wanted: Digest,
        /// The digest of what it unpacks to.
        found: Digest,
    },
    /// The embedded registry does not have an image.
    #[error("there is no image {0}; `longshore image list` has the names of those in the embedded registry")]
    NoImage(Box<Reference>),
    /// A layer on this machine has other bytes than its digest says.
    #[error(
        "layer {0} was damaged on this machine's disk and has been removed; build its image again, which makes or fetches it anew"
    )]
    DamagedLayer(Digest),
    /// Part of the build ended without an answer: a defect of this program.
    #[error("{0} ended without an answer; this is a defect in longshore")]
    Lost(&'static str),
    /// What an image consists of cannot be told.
    #[error(transparent)]
    Contents(Box<longshore_attest::AttestError>),
    /// An image cannot be edited.
    #[error(transparent)]
    Edit(Box<crate::edit::EditError>),
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

impl BuildError {
    /// Names the parent, if Debian packages cannot be added to it.
    pub(crate) fn of_parent(self, image: &str) -> Self {
        match self {
            Self::Debian(source) => Self::Apt { image: image.to_owned(), source: Box::new(source) },
            other => other,
        }
    }
}
