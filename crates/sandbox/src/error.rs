//! What can go wrong, in words that say what to do.

use std::{fmt, io, path::PathBuf};

use longshore_oci::Digest;
use serde::{Deserialize, Serialize};

use crate::Obstacle;

/// Why something could not be run in a sandbox, or a layer not be unpacked for it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file operation outside any sandbox failed.
    #[error("cannot {doing} `{}`: {source}{}", path.display(), remedy(source))]
    Io {
        /// What was being done, as an infinitive.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The program never called [`crate::enter_if_asked`], so it cannot be executed again as a sandbox.
    #[error(
        "this program cannot start sandboxes: its `main` must call `longshore_sandbox::enter_if_asked` first"
    )]
    NotEntered,
    /// Neither root nor user namespaces are to be had.
    #[error(
        "cannot make a container: this needs root or user namespaces, and the kernel refused ({source}).{} \
         Or let a container engine do it: `--engine docker` or `--engine podman`",
        advice(obstacles)
    )]
    NoPrivilege {
        /// What stands in the way, as far as can be told.
        obstacles: Vec<Obstacle>,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A step of making the sandbox failed.
    #[error("cannot start the container: {0}")]
    Setup(Failure),
    /// The sandbox ended before it was ready, without an error of its own.
    #[error("the container ended before it was ready: {0}")]
    Vanished(std::process::ExitStatus),
    /// What was asked for makes no sense.
    #[error("cannot start the container: {0}")]
    Invalid(String),
    /// The bytes of a layer are not the ones that were asked for.
    #[error(
        "layer {wanted} is damaged: its content has the digest {found}. Remove it from the store and fetch it again"
    )]
    WrongLayer {
        /// The diff_id that was asked for.
        wanted: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// A layer cannot be read.
    #[error("cannot unpack layer {layer}: {source}")]
    Layer {
        /// The layer's diff_id.
        layer: Digest,
        /// What is wrong with it.
        source: longshore_layer::Error,
    },
    /// A layer contains something that must not be unpacked.
    #[error("layer {layer} is refused: entry `{entry}` {why}")]
    HostileLayer {
        /// The layer's diff_id.
        layer: Digest,
        /// The path of the entry.
        entry: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A container engine could not be used.
    #[error("{0}")]
    Engine(#[from] crate::engine::EngineError),
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// For `map_err`: an [`Error::Io`].
    pub(crate) fn io<E: Into<io::Error>>(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(E) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source: source.into() }
    }

    /// The exit code that a shell would give: 127 for a command that does not exist, 126 for one that
    /// cannot be executed, and nothing for errors that are not the command's.
    pub fn exit_code(&self) -> Option<u8> {
        match self {
            Self::Setup(failure) if failure.stage == Stage::Execute => {
                Some(if failure.errno == rustix::io::Errno::NOENT.raw_os_error() { 127 } else { 126 })
            }
            _ => None,
        }
    }
}

/// What can be done about a folder that does not take what is written.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free some space or choose a folder on another disk"
        }
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            "; choose a folder that can be written"
        }
        _ => "",
    }
}

fn advice(obstacles: &[Obstacle]) -> String {
    obstacles.iter().fold(String::new(), |text, obstacle| format!("{text} {}", obstacle.advice()))
}

/// The steps of making a sandbox, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Stage {
    /// Reading the request.
    Request,
    /// Entering the namespaces.
    Namespaces,
    /// Mapping user and group identifiers.
    IdMap,
    /// Making the sandbox's own folder.
    Folder,
    /// Making the root file system out of the layers.
    RootFs,
    /// Mounting `/proc`.
    Proc,
    /// Making `/dev`.
    Dev,
    /// Mounting `/sys`.
    Sys,
    /// Providing `resolv.conf`, `hosts` and `hostname`.
    Etc,
    /// Mounting what the caller asked for.
    Mount,
    /// Changing the root.
    Root,
    /// Finding the user.
    User,
    /// Entering the working directory.
    WorkDir,
    /// Giving privileges up.
    Privileges,
    /// Executing the command.
    Execute,
    /// Writing down what the command changed.
    Changes,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Request => "cannot read the request",
            Self::Namespaces => "cannot enter new namespaces",
            Self::IdMap => "cannot map user identifiers",
            Self::Folder => "cannot make the container's own folder",
            Self::RootFs => "cannot make the root file system",
            Self::Proc => "cannot mount /proc",
            Self::Dev => "cannot make /dev",
            Self::Sys => "cannot mount /sys",
            Self::Etc => "cannot provide the network's files",
            Self::Mount => "cannot mount a host path",
            Self::Root => "cannot change the root",
            Self::User => "cannot become the user",
            Self::WorkDir => "cannot enter the working directory",
            Self::Privileges => "cannot give privileges up",
            Self::Execute => "cannot execute the command",
            Self::Changes => "cannot write down what the command changed",
        })
    }
}

/// A step that failed inside the sandbox, as it comes to the parent process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The step.
    pub stage: Stage,
    /// The file, user, command or setting that it was about; empty if none.
    pub object: String,
    /// The kernel's error number; 0 if the reason is in `detail`.
    pub errno: i32,
    /// The reason, where there is no error number for it.
    pub detail: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.stage)?;
        if !self.object.is_empty() {
            write!(f, " (`{}`)", self.object)?;
        }
        match self.errno {
            0 => write!(f, ": {}", self.detail),
            number => write!(f, ": {}", io::Error::from_raw_os_error(number)),
        }
    }
}

impl Failure {
    pub(crate) fn new(stage: Stage, object: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { stage, object: object.into(), errno: 0, detail: detail.into() }
    }
}

/// Turns the error of a system call into a [`Failure`].
pub(crate) trait At<T> {
    fn at(self, stage: Stage, object: &str) -> std::result::Result<T, Failure>;
}

impl<T, E: Into<io::Error>> At<T> for std::result::Result<T, E> {
    fn at(self, stage: Stage, object: &str) -> std::result::Result<T, Failure> {
        self.map_err(|error| {
            let error: io::Error = error.into();
            let errno = error.raw_os_error().unwrap_or(0);
            let detail = if errno == 0 { error.to_string() } else { String::new() };
            Failure { stage, object: object.to_owned(), errno, detail }
        })
    }
}
