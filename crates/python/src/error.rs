//! What can go wrong, as sentences.

use std::{io, path::PathBuf};

use pep508_rs::PackageName;

use crate::target::{PythonVersion, Target};

/// What went wrong between requirements and layers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no uv.
    #[error(
        "uv, which resolves Python requirements, was not found (looked in: {looked}): install it with `pip install uv`, \
         or put it on PATH"
    )]
    UvMissing {
        /// Where it was looked for.
        looked: String,
    },
    /// There is a uv, of a version that this was not made for.
    #[error("{program} is uv {found}, but longshore needs {needed}: run `pip install --upgrade uv`", program = program.display())]
    UvVersion {
        /// The program.
        program: PathBuf,
        /// Its version, or what it printed instead.
        found: String,
        /// The range that serves.
        needed: &'static str,
    },
    /// uv could not be started, or talked to.
    #[error("cannot run {program}: {source}", program = program.display())]
    UvRun {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A requirements file could not be read.
    #[error("cannot read the requirements file {path}: {source}", path = path.display())]
    RequirementsFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A requirements file includes itself.
    #[error("the requirements file {path} includes itself: remove the circle of -r and -c lines", path = path.display())]
    RequirementsCircle {
        /// The file.
        path: PathBuf,
    },
    /// The requirements have no solution, or none could be looked for.
    #[error(transparent)]
    Resolution(#[from] Resolution),
    /// uv's answer is not the lock that it should be.
    #[error("uv's lock cannot be used: {reason}; `pip install --upgrade uv` may help")]
    Lock {
        /// Why.
        reason: String,
    },
    /// A `pyproject.toml` cannot be used.
    #[error("{path} cannot be used: {reason}", path = path.display())]
    Project {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A lock file of the user's cannot be used.
    #[error("the lock file {path} cannot be used: {reason}", path = path.display())]
    LockFile {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A lock file of the user's is older than what it locks.
    #[error("{path} does not match {of} any more: run `{remedy}`, then build again", path = path.display())]
    LockStale {
        /// The file.
        path: PathBuf,
        /// What it locks.
        of: &'static str,
        /// What makes it match.
        remedy: &'static str,
    },
    /// A lock file does not satisfy what the settings require.
    #[error(
        "the lock {path} does not satisfy the requirements: {differences}; lock the requirements again, or take them back",
        path = path.display()
    )]
    LockUnsatisfied {
        /// The file.
        path: PathBuf,
        /// What is required and not there.
        differences: String,
    },
    /// A lock file of a program that is not installed.
    #[error("{path} is read by {program}, which is missing: run `{remedy}`", path = path.display())]
    ExporterMissing {
        /// The file.
        path: PathBuf,
        /// The program.
        program: &'static str,
        /// What installs it.
        remedy: &'static str,
    },
    /// The program that reads a lock file failed.
    #[error("{program} cannot export {path}: {said}", path = path.display())]
    Exporter {
        /// The file.
        path: PathBuf,
        /// The program.
        program: &'static str,
        /// What it said.
        said: String,
    },
    /// Something that no extra or dependency group can be called.
    #[error(
        "`{name}` is not the name of an extra or a dependency group: letters, digits, `-`, `_` and `.` make one"
    )]
    ExtraName {
        /// The name.
        name: String,
    },
    /// A repository that is not one of git's.
    #[error("{package} is required from a repository of {kind}, and only git's can be read")]
    NotGit {
        /// The package.
        package: PackageName,
        /// What it is.
        kind: String,
    },
    /// A lock has wheels of a package, but none for the target, and no source distribution.
    #[error(
        "{package} {version} has no wheel for {target}: there are wheels for {listed}; \
         require a version that has one, or take another parent image"
    )]
    NoWheelListed {
        /// The package.
        package: PackageName,
        /// Its version.
        version: String,
        /// What it was to run on.
        target: Target,
        /// The tags of the wheels that there are.
        listed: String,
    },
    /// The packages of a Python on this machine cannot be listed.
    #[error("cannot list the packages of {python}: {reason}", python = python.display())]
    Installed {
        /// The interpreter.
        python: PathBuf,
        /// Why.
        reason: String,
    },
    /// A package of a Python on this machine that cannot be had elsewhere.
    #[error(
        "{package} was installed from {place}, which is not there any more, so that it cannot be replicated: \
         install it from an index or leave replicate_local_python_environment out"
    )]
    NotReplicable {
        /// The package.
        package: String,
        /// Where from.
        place: String,
    },
    /// No wheel of a locked package has a hash that the requirements allow.
    #[error(
        "no wheel of {package} {version} for {target} has one of the hashes that the requirements state: \
         the file was replaced, or the hashes are those of another platform; lock the requirements again"
    )]
    Hash {
        /// The package.
        package: PackageName,
        /// Its version.
        version: String,
        /// What it was to run on.
        target: Target,
    },
    /// The C library of the image is too old.
    #[error("no wheel runs on {target}: take a parent image with glibc 2.17 or newer")]
    OldLibc {
        /// What was asked for.
        target: Target,
    },
    /// A wheel is damaged, or not what its name says.
    #[error("wheel {wheel}: {problem}")]
    Wheel {
        /// The file name.
        wheel: String,
        /// What is wrong, naming the entry.
        problem: WheelProblem,
    },
    /// The interpreter that compiles bytecode failed.
    #[error("compiling bytecode: {reason}")]
    Bytecode {
        /// What happened, and to which file.
        reason: String,
    },
    /// The interpreter is not the one that the layers are made for.
    #[error("the interpreter of the image is Python {found}, but the layers are made for Python {wanted}")]
    InterpreterVersion {
        /// What the interpreter says of itself.
        found: PythonVersion,
        /// What the target says.
        wanted: PythonVersion,
    },
    /// A layer could not be written.
    #[error(transparent)]
    Layer(#[from] longshore_layer::Error),
    /// Reading or writing failed.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why it failed.
        source: io::Error,
    },
}

/// Why uv found no solution; the words are uv's where they name versions.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resolution {
    /// A line is not a requirement.
    #[error("`{text}` is not a valid requirement: {reason}")]
    Syntax {
        /// The line.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The index knows no such package.
    #[error(
        "there is no package `{package}` in the package index: check its spelling, or name the index that has it"
    )]
    UnknownPackage {
        /// The package.
        package: String,
    },
    /// The package exists, the version does not.
    #[error("there is no version of {package} that satisfies `{requirement}`: {explanation}")]
    UnknownVersion {
        /// The package.
        package: String,
        /// What was required of it.
        requirement: String,
        /// uv's reasoning.
        explanation: String,
    },
    /// There are wheels, but none for this Python or platform.
    #[error("{package} has no wheel for {target}: {explanation}")]
    NoWheel {
        /// The package.
        package: String,
        /// What was asked for.
        target: Target,
        /// uv's reasoning, with what there is.
        explanation: String,
    },
    /// There is no usable wheel at all.
    #[error(
        "{package} has no wheel that can be used on {target}, only a source distribution that cannot be used or wheels \
         for other Python versions: require a version that has one"
    )]
    OnlySource {
        /// The package.
        package: String,
        /// What was asked for.
        target: Target,
    },
    /// What a source distribution depends on cannot be found out.
    #[error(
        "{package} has no wheel that can be used, and what its source depends on cannot be found out: {explanation}; \
         require a version that has a wheel"
    )]
    SourceMetadata {
        /// The package.
        package: String,
        /// uv's words.
        explanation: String,
    },
    /// git is needed and missing.
    #[error(
        "git, which fetches requirements from repositories, was not found: install it (apt-get install git)"
    )]
    NoGit,
    /// A repository could not be fetched.
    #[error("a repository cannot be fetched: {explanation}")]
    Repository {
        /// What failed.
        explanation: String,
    },
    /// The requirements contradict each other.
    #[error("the requirements contradict each other: {explanation}")]
    Conflict {
        /// uv's reasoning.
        explanation: String,
    },
    /// The index could not be reached.
    #[error(
        "the package index cannot be reached: {explanation}; check the network and the proxy settings (HTTPS_PROXY), \
         then run again"
    )]
    Network {
        /// What failed.
        explanation: String,
    },
    /// The index answered that it cannot answer.
    #[error("the package index has a fault: {explanation}; try again later, or name another index")]
    Broken {
        /// What it said.
        explanation: String,
    },
    /// The index wants other credentials.
    #[error(
        "the package index refuses access: {explanation}; look at its secret, as in secrets={{\"NAME OF THE INDEX\": \
         \"env:VARIABLE\"}}, or, if uv's own configuration names it, at UV_INDEX_<NAME>_USERNAME and UV_INDEX_<NAME>_PASSWORD"
    )]
    Denied {
        /// What failed.
        explanation: String,
    },
    /// uv needs some Python to ask, and there is none.
    #[error("uv found no Python on this machine to ask about packages: install one, or put it on PATH")]
    NoPython,
    /// Something else, in uv's words.
    #[error("uv could not resolve the requirements: {explanation}")]
    Other {
        /// uv's words.
        explanation: String,
    },
}

/// What is wrong with a wheel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WheelProblem {
    /// A file that every wheel has is missing, or there are two.
    #[error(
        "{0}; the file is damaged or was not made by a build tool: download it again or report it to its makers"
    )]
    Structure(String),
    /// A metadata file has something that cannot be.
    #[error("`{entry}` cannot be used: {reason}")]
    Metadata {
        /// The entry.
        entry: String,
        /// Why.
        reason: String,
    },
    /// The wheel says it is another package than its file name says.
    #[error("its file name says {filename}, its metadata {metadata}: it was renamed or tampered with")]
    Mismatch {
        /// Name and version by the file name.
        filename: String,
        /// Name and version by METADATA.
        metadata: String,
    },
    /// RECORD gives a file another size than it has.
    #[error(
        "RECORD gives `{entry}` a size of {recorded} bytes, it has {actual}: the wheel was changed after it was built"
    )]
    RecordSize {
        /// The entry.
        entry: String,
        /// By RECORD.
        recorded: u64,
        /// By the archive.
        actual: u64,
    },
    /// The archive is not a proper zip archive, or an entry's content is not what it says.
    #[error(transparent)]
    Archive(#[from] longshore_layer::Error),
    /// An entry would be installed outside of the environment, or over something that must not change.
    #[error("entry `{entry}` is refused: {reason}")]
    Entry {
        /// The entry.
        entry: String,
        /// Why.
        reason: String,
    },
}

impl Resolution {
    /// Whether sources, where wheels were asked for, may be a solution.
    pub(crate) const fn may_have_sources(&self) -> bool {
        matches!(self, Self::OnlySource { .. } | Self::NoWheel { .. } | Self::Other { .. })
    }
}

impl Error {
    /// Whether trying again may help.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Resolution(Resolution::Network { .. } | Resolution::Broken { .. }))
    }

    /// An error with a wheel.
    pub(crate) fn wheel(wheel: &impl ToString, problem: WheelProblem) -> Self {
        Self::Wheel { wheel: wheel.to_string(), problem }
    }
}
