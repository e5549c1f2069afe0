//! A container that runs.

use std::{
    fmt,
    io::{PipeReader, PipeWriter, Read},
    os::{fd::OwnedFd, unix::process::ExitStatusExt as _},
    process::{Child, ExitStatus},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    Error, Result, RootFs, Stage,
    engine::Named,
    run::Pipes,
    wire::{ToParent, ToSandbox, Wire},
};

/// How a container's command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// It ended with this code.
    Code(u8),
    /// It, or the whole container, was ended by this signal.
    Signal(i32),
}

impl Exit {
    /// Whether it ended with code 0.
    pub const fn success(self) -> bool {
        matches!(self, Self::Code(0))
    }

    /// The code as a shell gives it: 128 + n for signal n.
    pub fn code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => u8::try_from(signal.saturating_add(128)).unwrap_or(u8::MAX),
        }
    }

    fn of(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(u8::try_from(code & 0xff).unwrap_or(u8::MAX)),
            (None, signal) => Self::Signal(signal.unwrap_or(Signal::KILL.0)),
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// A signal, by its number on Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal(i32);

impl Signal {
    /// The terminal is gone.
    pub const HANGUP: Self = Self(1);
    /// Ctrl-C.
    pub const INTERRUPT: Self = Self(2);
    /// Ctrl-\.
    pub const QUIT: Self = Self(3);
    /// The end, unasked.
    pub const KILL: Self = Self(9);
    /// The program's own meaning.
    pub const USER1: Self = Self(10);
    /// The program's own meaning.
    pub const USER2: Self = Self(12);
    /// Please end.
    pub const TERMINATE: Self = Self(15);

    /// A signal by its number, 1 to 31.
    pub fn from_number(number: i32) -> Option<Self> {
        (1..=31).contains(&number).then_some(Self(number))
    }

    /// The number.
    pub const fn number(self) -> i32 {
        self.0
    }
}

/// A running container. Dropping it kills every process in it and waits until its folder is removed.
#[derive(Debug)]
pub struct Running {
    /// The container's standard input, if it was asked to be [`crate::Stream::Piped`].
    pub stdin: Option<PipeWriter>,
    /// Its standard output, likewise.
    pub stdout: Option<PipeReader>,
    /// Its standard error, likewise.
    pub stderr: Option<PipeReader>,
    inner: Inner,
    exit: Option<Exit>,
}

#[derive(Debug)]
pub(crate) enum Inner {
    Sandbox { child: Child, wire: Arc<Wire>, rootfs: RootFs },
    Engine { child: Child, process: Arc<OwnedFd>, named: Named },
}

/// Sends signals to a running container, also while another thread waits for it.
#[derive(Clone, Debug)]
pub struct Signals(Target);

#[derive(Clone, Debug)]
enum Target {
    Sandbox(Arc<Wire>),
    Engine(Arc<OwnedFd>),
}

impl Signals {
    /// Sends a signal to the container's command; the keyboard's (interrupt, quit, hang-up) go to its
    /// whole process group. Nothing happens if the container has ended.
    pub fn send(&self, signal: Signal) {
        match &self.0 {
            Target::Sandbox(wire) => {
                let _ = wire.send(&ToSandbox::Signal(signal.0));
            }
            Target::Engine(process) => {
                if let Some(signal) = rustix::process::Signal::from_named_raw(signal.0) {
                    let _ = rustix::process::pidfd_send_signal(process, signal);
                }
            }
        }
    }
}

impl Running {
    pub(crate) fn new(pipes: Pipes, inner: Inner) -> Self {
        Self { stdin: pipes.stdin, stdout: pipes.stdout, stderr: pipes.stderr, inner, exit: None }
    }

    /// How the root file system was made; `None` if a container engine runs the container.
    pub fn rootfs(&self) -> Option<RootFs> {
        match self.inner {
            Inner::Sandbox { rootfs, .. } => Some(rootfs),
            Inner::Engine { .. } => None,
        }
    }

    /// The process to signal or to look at from outside: the sandbox's supervisor or the engine's client.
    pub fn id(&self) -> u32 {
        match &self.inner {
            Inner::Sandbox { child, .. } | Inner::Engine { child, .. } => child.id(),
        }
    }

    /// What sends signals to the container.
    pub fn signals(&self) -> Signals {
        Signals(match &self.inner {
            Inner::Sandbox { wire, .. } => Target::Sandbox(Arc::clone(wire)),
            Inner::Engine { process, .. } => Target::Engine(Arc::clone(process)),
        })
    }

    /// Closes standard input and waits until the command has ended and nothing of the container is left.
    ///
    /// Pipes that were asked for must be read meanwhile, or the command may wait for that for ever.
    pub fn wait(&mut self) -> Result<Exit> {
        if let Some(exit) = self.exit {
            return Ok(exit);
        }
        self.stdin = None;
        let io = || Error::io("wait for", "the container");
        let exit = match &mut self.inner {
            Inner::Sandbox { child, wire, .. } => {
                let last = wire.receive().map_err(io())?;
                if matches!(last, Some(ToParent::Exited(_)))
                    && let Ok(Some(ToParent::Failed(failure))) = wire.receive()
                    && failure.stage == Stage::Changes
                {
                    let _ = child.wait();
                    return Err(Error::Setup(failure));
                }
                // Fails if the caller ignores SIGCHLD, but not before the supervisor has ended.
                let _ = child.wait();
                match last {
                    Some(ToParent::Exited(exit)) => exit,
                    Some(ToParent::Failed(failure)) => return Err(Error::Setup(failure)),
                    // Somebody killed the sandbox itself.
                    _ => Exit::Signal(Signal::KILL.0),
                }
            }
            Inner::Engine { child, named, .. } => {
                let exit = Exit::of(child.wait().map_err(io())?);
                named.ended();
                exit
            }
        };
        self.exit = Some(exit);
        Ok(exit)
    }

    /// Waits as [`Running::wait`] does, and returns what was written to the pipes that were asked for.
    pub fn output(mut self) -> Result<Output> {
        let read = |pipe: Option<PipeReader>| {
            let mut bytes = Vec::new();
            pipe.map_or(Ok(0), |mut pipe| pipe.read_to_end(&mut bytes)).map(|_| bytes)
        };
        self.stdin = None;
        let (stdout, stderr) = (self.stdout.take(), self.stderr.take());
        let (stdout, stderr) = std::thread::scope(|scope| {
            let stderr = scope.spawn(move || read(stderr));
            (read(stdout), stderr.join())
        });
        let io = || Error::io("read from", "the container");
        let stderr = stderr.unwrap_or_else(|_| Ok(Vec::new())).map_err(io())?;
        Ok(Output { stdout: stdout.map_err(io())?, stderr, exit: self.wait()? })
    }
}

/// What a container wrote, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub exit: Exit,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: Vec<u8>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.exit.is_some() {
            return;
        }
        match &mut self.inner {
            Inner::Sandbox { child, wire, .. } => {
                wire.shut_down();
                let _ = child.wait();
            }
            Inner::Engine { child, named, .. } => {
                named.remove();
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_a_shell() {
        assert_eq!((Exit::Code(3).code(), Exit::Signal(15).code()), (3, 143));
        assert!(Exit::Code(0).success() && !Exit::Signal(0).success());
        assert_eq!(Exit::of(ExitStatus::from_raw(2 << 8)), Exit::Code(2));
        assert_eq!(Exit::of(ExitStatus::from_raw(9)), Exit::Signal(9));
        assert_eq!(Signal::from_number(2), Some(Signal::INTERRUPT));
        assert!(Signal::from_number(64).is_none() && Signal::from_number(0).is_none());
    }
}
