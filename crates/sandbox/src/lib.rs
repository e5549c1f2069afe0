//! Runs a process in an image's root file system, without a daemon and without root.
//!
//! A [`Sandbox`] is a stack of layers on disk and a [`Container`]: a process, the host's paths that it
//! sees, a host name. It runs in PID, mount, UTS and IPC namespaces of its own, and in a user namespace
//! where the caller is not root; the network is the host's. The root file system is an overlay over the
//! layers where the kernel allows one and a copy of them elsewhere. Whatever happens to the process that
//! started it, all that it ran ends with it, and its folder is removed then or at the next start.
//!
//! ```no_run
//! use longshore_sandbox::{Access, Container, Process, Sandbox, Streams};
//!
//! # fn main() -> longshore_sandbox::Result<()> {
//! longshore_sandbox::enter_if_asked(); // first thing in main
//! let container = Container::new(Process::new(["python3", "-c", "print(6 * 7)"]))
//!     .mount("/srv/data", "/data", Access::ReadOnly);
//! let sandbox = Sandbox { layers: vec!["/var/layers/0a1b".into()], scratch: "/var/run/boxes".into(), container };
//! let output = sandbox.spawn(Streams::captured())?.output()?;
//! assert_eq!(output.stdout, b"42\n");
//! # Ok(())
//! # }
//! ```
//!
//! [`Snapshots`] unpacks layers for it; [`engine`] hands the same [`Container`] to Docker or Podman.
//!
//! Needs Linux 5.12; overlays for ordinary users need 5.11 and are tested, not assumed.

mod changes;
mod error;
mod extract;
mod init;
mod lease;
mod mounts;
mod probe;
mod root;
mod run;
mod running;
mod snapshot;
mod spec;
mod supervisor;
mod sys;
mod tree;
mod user;
mod wire;

pub mod engine;

pub use error::{Error, Failure, Result, Stage};
pub use probe::{Capabilities, Obstacle, Privilege, Ranges};
pub use run::{RootFs, Sandbox, Stream, Streams, enter_if_asked};
pub use running::{Exit, Output, Running, Signal, Signals};
pub use snapshot::Snapshots;
pub use spec::{Access, Container, Mount, Process};
pub use user::IdRange;
