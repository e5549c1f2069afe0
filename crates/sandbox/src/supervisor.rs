//! The outer half of a sandbox: this program, executed again, single-threaded.
//!
//! ```text
//! parent ──socket──┬── supervisor   the caller's PID and mount namespaces, a user namespace if not root;
//!                  │                holds the folder, waits, removes it
//!                  └── init         PID 1 of the new namespaces: mounts, reaps, forwards signals
//!                        └── the command
//! ```
//! Init dies with the supervisor (by the parent-death signal and by the end of a pipe) and with the
//! parent (by the end of the socket); with init the kernel kills whatever runs in its PID namespace.

use std::{fs::File, io::Write as _, os::fd::OwnedFd};

use nix::{
    sched::{CloneFlags, unshare},
    sys::signal::{SigSet, Signal, kill},
    sys::wait::{WaitPidFlag, WaitStatus, waitpid},
    unistd::Pid,
};
use rustix::{
    fs::OFlags,
    process::getegid,
    process::geteuid,
    thread::{Gid, Uid},
};

use crate::{
    Failure, Stage, changes,
    error::At,
    init,
    lease::Lease,
    mounts::Identifiers,
    sys::{self, SingleThreaded},
    user,
    wire::{Changes, Entry, Maps, Request, ToParent, ToSandbox, Wire},
};

/// Serves the parent at the other end of standard input.
pub(crate) fn run() -> i32 {
    let Ok(socket) = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3) else {
        return 1;
    };
    let wire = Wire::from_fd(socket);
    match serve(&wire) {
        Ok(code) => code,
        Err(failure) => {
            // If the parent is gone, nobody is left to tell.
            let _ = wire.send(&ToParent::Failed(failure));
            1
        }
    }
}

fn serve(wire: &Wire) -> Result<i32, Failure> {
    let stage = Stage::Request;
    let single = SingleThreaded::prove().at(stage, "threads")?;
    let gone = || Failure::new(stage, "", "the parent is gone");
    let ((), fds) = wire.receive_with().at(stage, "")?.ok_or_else(gone)?;
    let mut fds = fds.into_iter();
    let request = File::from(fds.next().ok_or_else(gone)?);
    let request: Request = serde_json::from_reader(std::io::BufReader::new(request)).at(stage, "")?;
    let changes = match request.changes {
        Changes::Dropped => None,
        Changes::Kept => Some(File::from(fds.next().ok_or_else(gone)?)),
    };
    match fds.next() {
        Some(stdin) => rustix::stdio::dup2_stdin(stdin).at(stage, "standard input")?,
        None => rustix::stdio::dup2_stdin(null().at(stage, "/dev/null")?).at(stage, "standard input")?,
    }
    // A session of its own: what the terminal sends to the parent's process group is for the parent,
    // which passes on what it wants to.
    rustix::process::setsid().at(stage, "setsid")?;
    SigSet::all().thread_block().at(stage, "signals")?;
    sys::reset_signals();

    let identifiers = match request.entry {
        Entry::Root => Identifiers::Many,
        Entry::User { maps } => enter_user_namespace(wire, maps)?,
    };
    let folder = request.scratch.to_string_lossy().into_owned();
    // In the user namespace, so that files of mapped users can be removed.
    Lease::sweep(&request.scratch).at(Stage::Folder, &folder)?;
    let lease = Lease::take(&request.scratch).at(Stage::Folder, &folder)?;
    let (alive, life) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).at(stage, "pipe")?;
    unshare(CloneFlags::CLONE_NEWPID).at(Stage::Namespaces, "PID")?;
    let Some(init) = sys::fork(&single).at(Stage::Namespaces, "fork")? else {
        drop(life);
        return Ok(init::run(&init::Setting { wire, alive, request, identifiers, lease, single }));
    };
    drop(alive);
    let outcome = let_go_of_streams().and_then(|()| attend(init));
    let upper = lease.path().join("upper");
    let written = changes.filter(|_| upper.is_dir()).map_or(Ok(()), |out| changes::write(&upper, out));
    let cleaned = lease.release();
    outcome.at(Stage::Namespaces, "waiting")?;
    written?;
    cleaned.at(Stage::Folder, &folder)?;
    Ok(0)
}

/// Becomes root of a new user namespace.
fn enter_user_namespace(wire: &Wire, maps: Maps) -> Result<Identifiers, Failure> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    unshare(CloneFlags::CLONE_NEWUSER).at(Stage::Namespaces, "user")?;
    if maps == Maps::Parent {
        wire.send(&ToParent::Unshared).at(Stage::IdMap, "")?;
        match wire.receive().at(Stage::IdMap, "")? {
            Some(ToSandbox::Mapped) => {
                let root = (Uid::ROOT, Gid::ROOT);
                rustix::thread::set_thread_groups(&[]).at(Stage::IdMap, "groups")?;
                rustix::thread::set_thread_res_gid(root.1, root.1, root.1).at(Stage::IdMap, "gid")?;
                rustix::thread::set_thread_res_uid(root.0, root.0, root.0).at(Stage::IdMap, "uid")?;
                return Ok(Identifiers::Many);
            }
            Some(ToSandbox::MapYourself) => {}
            _ => return Err(Failure::new(Stage::IdMap, "", "the parent is gone")),
        }
    }
    map_one(0, uid, 0, gid)?;
    Ok(Identifiers::One)
}

/// Maps one user and one group into the new user namespace of this process.
pub(crate) fn map_one(uid: u32, caller: u32, gid: u32, callers_group: u32) -> Result<(), Failure> {
    let lines = [
        // Without this, giving up a group could give access to what denies access to the group.
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", user::single_map(uid, caller)),
        ("/proc/self/gid_map", user::single_map(gid, callers_group)),
    ];
    for (path, text) in lines {
        // One of two maps may have been written by the parent before the other one failed.
        if path.ends_with("_map") && !std::fs::read(path).at(Stage::IdMap, path)?.is_empty() {
            continue;
        }
        let mut file = File::options().write(true).open(path).at(Stage::IdMap, path)?;
        file.write_all(text.as_bytes()).at(Stage::IdMap, path)?;
    }
    Ok(())
}

/// Waits for init to end, handing on what signals come.
fn attend(init: Pid) -> std::io::Result<()> {
    loop {
        // A real-time signal has no name, and nobody sends us one.
        let Ok(signal) = SigSet::all().wait() else { continue };
        if signal != Signal::SIGCHLD {
            let _ = kill(init, signal);
            continue;
        }
        match waitpid(init, Some(WaitPidFlag::WNOHANG))? {
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => return Ok(()),
            _ => {}
        }
    }
}

/// Replaces the standard streams, which are the command's, so that their ends are seen when it closes them.
pub(crate) fn let_go_of_streams() -> std::io::Result<()> {
    let null = null()?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}

fn null() -> rustix::io::Result<OwnedFd> {
    rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, rustix::fs::Mode::empty())
}
