//! Starting a sandbox, from the parent's side.

use std::{
    fs,
    io::{PipeReader, PipeWriter, Seek as _, Write as _},
    os::fd::{AsFd as _, OwnedFd},
    os::unix::{fs::DirBuilderExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde::{Deserialize, Serialize};

use crate::{
    Container, Error, Failure, Obstacle, Privilege, Result, Running, Stage,
    running::Inner,
    user::IdRange,
    wire::{Changes, Entry, Maps, Request, Task, ToParent, ToSandbox, Wire},
};

/// The name under which the program is executed again as a sandbox.
const MARK: &str = "longshore-sandbox";

/// Whether [`enter_if_asked`] was called, so that an execution of this program under [`MARK`] would
/// become a sandbox and not run the program.
static READY: AtomicBool = AtomicBool::new(false);

/// Becomes a sandbox if this process was started to be one, and does not return then.
///
/// Every program that uses [`Sandbox::spawn`] or [`crate::Capabilities::probe`] must call this before
/// anything else in `main`, while it has one thread.
pub fn enter_if_asked() {
    if std::env::args_os().next().is_some_and(|name| name == MARK) {
        std::process::exit(crate::supervisor::run());
    }
    READY.store(true, Ordering::Release);
}

/// A container made of layers on this machine.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// The layers' folders, lowest first, as [`crate::Snapshots`] makes them.
    pub layers: Vec<PathBuf>,
    /// The folder in which each sandbox makes one of its own, for what the container writes. It is made
    /// if missing; what killed sandboxes left in it is removed at each start. An overlay needs it to be
    /// on a file system that can carry one (ext4, xfs, btrfs, tmpfs; not another overlay).
    pub scratch: PathBuf,
    /// What runs, and what it sees of the host.
    pub container: Container,
}

/// How the root file system of a sandbox was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RootFs {
    /// An overlay over the layers: nothing was copied.
    Overlay,
    /// A copy of the layers, where overlay is not to be had.
    Copy,
}

/// Where the standard streams of a container lead.
#[derive(Debug)]
pub struct Streams {
    /// Standard input.
    pub stdin: Stream,
    /// Standard output.
    pub stdout: Stream,
    /// Standard error.
    pub stderr: Stream,
}

/// Where one standard stream leads.
#[derive(Debug)]
pub enum Stream {
    /// Where the caller's own leads.
    Inherit,
    /// Nowhere.
    Null,
    /// To the caller, through a pipe.
    Piped,
    /// To an open file.
    File(OwnedFd),
}

impl Streams {
    /// All three where the caller's own lead.
    pub const fn inherit() -> Self {
        Self { stdin: Stream::Inherit, stdout: Stream::Inherit, stderr: Stream::Inherit }
    }

    /// No input, and both outputs to the caller through pipes.
    pub const fn captured() -> Self {
        Self { stdin: Stream::Null, stdout: Stream::Piped, stderr: Stream::Piped }
    }
}

/// The caller's ends of the pipes.
#[derive(Debug, Default)]
pub(crate) struct Pipes {
    pub(crate) stdin: Option<PipeWriter>,
    pub(crate) stdout: Option<PipeReader>,
    pub(crate) stderr: Option<PipeReader>,
}

impl Stream {
    pub(crate) fn input(self, pipes: &mut Pipes) -> Result<Option<OwnedFd>> {
        Ok(match self {
            Self::Null => None,
            Self::Inherit => Some(
                rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)
                    .map_err(Error::io("duplicate", "/dev/stdin"))?,
            ),
            Self::File(file) => Some(file),
            Self::Piped => {
                let (reader, writer) = std::io::pipe().map_err(Error::io("make", "a pipe"))?;
                pipes.stdin = Some(writer);
                Some(reader.into())
            }
        })
    }

    pub(crate) fn output(self, pipe: &mut Option<PipeReader>) -> Result<Stdio> {
        Ok(match self {
            Self::Null => Stdio::null(),
            Self::Inherit => Stdio::inherit(),
            Self::File(file) => file.into(),
            Self::Piped => {
                let (reader, writer) = std::io::pipe().map_err(Error::io("make", "a pipe"))?;
                *pipe = Some(reader);
                writer.into()
            }
        })
    }
}

impl Sandbox {
    /// Starts the container; it runs when this returns.
    pub fn spawn(&self, streams: Streams) -> Result<Running> {
        self.start(streams, None)
    }

    /// Starts the container, and writes to `changes` what it changed, as an image layer on top of its layers; the layer is
    /// complete when [`Running::wait`] or [`Running::output`] returns without an error.
    ///
    /// Owners and modes are those that files have inside. This needs an overlay: a copy of the layers does not show what was
    /// changed.
    pub fn spawn_recorded(&self, streams: Streams, changes: OwnedFd) -> Result<Running> {
        self.start(streams, Some(changes))
    }

    fn start(&self, streams: Streams, changes: Option<OwnedFd>) -> Result<Running> {
        self.container.check()?;
        for layer in &self.layers {
            fs::read_dir(layer).map_err(Error::io("read layer", layer))?;
        }
        for mount in &self.container.mounts {
            fs::metadata(&mount.source).map_err(Error::io("mount", &mount.source))?;
        }
        // Nothing below a layer that hides everything is seen; overlayfs heeds no such mark on a root.
        let lowest = self.layers.iter().rposition(|layer| crate::tree::is_opaque(layer)).unwrap_or(0);
        let layers = self.layers[lowest..].iter().map(absolute).collect::<Result<_>>()?;
        let task = Task::Run { layers, container: Box::new(self.container.clone()) };
        let maps = if is_root(&self.container.process.user) { Maps::Parent } else { Maps::Own };
        let mut start = Start::new(&self.scratch, task, maps, streams, changes)?;
        match start.converse()? {
            ToParent::Started { rootfs } => {
                let Start { wire, child, pipes, .. } = start;
                Ok(Running::new(pipes, Inner::Sandbox { child, wire: Arc::new(wire), rootfs }))
            }
            other => Err(start.unexpected(&other)),
        }
    }
}

/// Whether this surely means user 0. Another name of root just gets one identifier.
fn is_root(user: &str) -> bool {
    matches!(user.split(':').next(), None | Some("" | "0" | "root"))
}

fn absolute(path: impl AsRef<Path>) -> Result<PathBuf> {
    let path = path.as_ref();
    std::path::absolute(path).map_err(Error::io("find", path))
}

/// A sandbox on its way.
pub(crate) struct Start {
    wire: Wire,
    child: Child,
    pipes: Pipes,
    entry: Entry,
    ranges: Option<(IdRange, IdRange)>,
}

impl Start {
    #[expect(clippy::needless_pass_by_value, reason = "it is closed here once the container has it")]
    pub(crate) fn new(
        scratch: &Path,
        task: Task,
        maps: Maps,
        streams: Streams,
        changes: Option<OwnedFd>,
    ) -> Result<Self> {
        if !READY.load(Ordering::Acquire) {
            return Err(Error::NotEntered);
        }
        let scratch = absolute(scratch)?;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&scratch)
            .map_err(Error::io("make folder", &scratch))?;
        let ranges = if maps == Maps::Parent { crate::probe::id_ranges() } else { None };
        let entry = match Privilege::of_caller() {
            Privilege::Root => Entry::Root,
            _ if ranges.is_some() => Entry::User { maps: Maps::Parent },
            _ => Entry::User { maps: Maps::Own },
        };
        let kept = if changes.is_some() { Changes::Kept } else { Changes::Dropped };
        let request = memory_file(&Request { entry, scratch, task, changes: kept })?;
        let mut pipes = Pipes::default();
        let stdin = streams.stdin.input(&mut pipes)?;
        let program = "/proc/self/exe";
        let (wire, theirs) = Wire::pair().map_err(Error::io("make", "a socket"))?;
        let child = Command::new(program)
            .arg0(MARK)
            .env_clear()
            .stdin(theirs)
            .stdout(streams.stdout.output(&mut pipes.stdout)?)
            .stderr(streams.stderr.output(&mut pipes.stderr)?)
            .spawn()
            .map_err(Error::io("execute", program))?;
        let fds: Vec<_> = std::iter::once(request.as_fd())
            .chain(changes.as_ref().map(|fd| fd.as_fd()))
            .chain(stdin.as_ref().map(|fd| fd.as_fd()))
            .collect();
        // If the other end is gone already, the conversation will show it.
        let _ = wire.send_with(&(), &fds);
        Ok(Self { wire, child, pipes, entry, ranges })
    }

    /// Waits for the answer, doing what the sandbox asks for meanwhile.
    pub(crate) fn converse(&mut self) -> Result<ToParent> {
        loop {
            let message = self.wire.receive().map_err(Error::io("read from", "the sandbox"))?;
            match message {
                Some(ToParent::Unshared) => {
                    let answer = if self.map() { ToSandbox::Mapped } else { ToSandbox::MapYourself };
                    let _ = self.wire.send(&answer);
                }
                Some(ToParent::Failed(failure)) => {
                    let _ = self.child.wait();
                    return Err(explain(failure, self.entry));
                }
                Some(message) => return Ok(message),
                None => {
                    let status = self.child.wait().map_err(Error::io("wait for", "the sandbox"))?;
                    return Err(Error::Vanished(status));
                }
            }
        }
    }

    /// Waits for the end.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.wire.shut_down();
        self.child.wait().map_err(Error::io("wait for", "the sandbox"))?;
        Ok(())
    }

    pub(crate) fn unexpected(self, message: &ToParent) -> Error {
        let failure = Failure::new(Stage::Request, "", format!("unexpected answer {message:?}"));
        self.finish().err().unwrap_or(Error::Setup(failure))
    }

    /// Writes the maps of the sandbox's user namespace with the setuid programs that may do so.
    fn map(&self) -> bool {
        let Some((users, groups)) = self.ranges else { return false };
        let pid = self.child.id().to_string();
        let run = |program: &str, range: IdRange, caller: u32| {
            // Its status is lost if the caller ignores SIGCHLD; the map itself tells what became of it.
            let _ = Command::new(program)
                .arg(&pid)
                .args(range.map_arguments(caller))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
        };
        run("newuidmap", users, rustix::process::geteuid().as_raw());
        run("newgidmap", groups, rustix::process::getegid().as_raw());
        let written = |map: &str| fs::read(format!("/proc/{pid}/{map}")).is_ok_and(|lines| !lines.is_empty());
        written("uid_map") && written("gid_map")
    }
}

/// Tells a refusal of privileges, which the user can do something about, from other failures.
fn explain(failure: Failure, entry: Entry) -> Error {
    let source = || std::io::Error::from_raw_os_error(failure.errno);
    let refused = matches!(
        source().kind(),
        std::io::ErrorKind::PermissionDenied
            | std::io::ErrorKind::StorageFull
            | std::io::ErrorKind::Unsupported
    ) || failure.errno == rustix::io::Errno::INVAL.raw_os_error();
    let obstacles = if entry == Entry::Root { Vec::new() } else { Obstacle::find() };
    match failure.stage {
        Stage::Namespaces | Stage::IdMap if refused => Error::NoPrivilege { obstacles, source: source() },
        // AppArmor lets the namespace be made and then refuses every use of it.
        Stage::RootFs | Stage::Proc | Stage::Dev if refused && obstacles.contains(&Obstacle::AppArmor) => {
            Error::NoPrivilege { obstacles, source: source() }
        }
        _ => Error::Setup(failure),
    }
}

/// A file in memory with the request in it.
fn memory_file(request: &Request) -> Result<fs::File> {
    let io = || Error::io("write", "the request");
    let fd = rustix::fs::memfd_create("longshore", rustix::fs::MemfdFlags::CLOEXEC)
        .map_err(Error::io("make", "a memory file"))?;
    let mut file = fs::File::from(fd);
    let bytes = serde_json::to_vec(request)
        .map_err(|error| Error::Invalid(format!("the request cannot be written down: {error}")))?;
    file.write_all(&bytes).map_err(io())?;
    file.rewind().map_err(io())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Process;

    #[test]
    fn a_program_that_cannot_be_a_sandbox_is_told_so() {
        let scratch = tempfile::tempdir().unwrap();
        let sandbox = Sandbox {
            layers: Vec::new(),
            scratch: scratch.path().to_owned(),
            container: Container::new(Process::new(["true"])),
        };
        assert!(matches!(sandbox.spawn(Streams::captured()), Err(Error::NotEntered)));
    }

    #[test]
    fn a_refusal_names_the_way_out() {
        let failure = Failure {
            stage: Stage::Namespaces,
            object: "user".into(),
            errno: rustix::io::Errno::PERM.raw_os_error(),
            detail: String::new(),
        };
        let text = explain(failure, Entry::User { maps: Maps::Own }).to_string();
        assert!(text.contains("--engine docker") && text.contains("Operation not permitted"), "{text}");
    }
}
