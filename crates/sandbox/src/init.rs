//! The inner half of a sandbox: PID 1 of its namespaces, which starts the command and looks after it.

use std::{
    io::{Read as _, Write as _},
    os::fd::{AsFd as _, OwnedFd},
    os::unix::process::CommandExt as _,
    process::Command,
};

use nix::{
    sched::{CloneFlags, unshare},
    sys::signal::{SigSet, Signal, kill},
    sys::signalfd::{SfdFlags, SignalFd},
    sys::wait::{WaitPidFlag, WaitStatus, waitpid},
    unistd::Pid,
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{FileType, Mode},
    thread::{CapabilitySet, CapabilitySets, Gid, Uid},
};

use crate::{
    Container, Exit, Failure, RootFs, Stage,
    error::At,
    lease::Lease,
    mounts::{self, Identifiers},
    root::Root,
    supervisor::{let_go_of_streams, map_one},
    sys::{self, SingleThreaded},
    user::Identity,
    wire::{Entry, Request, Task, ToParent, ToSandbox, Wire},
};

/// What a root process in the container may do: Docker's default set without what is only safe with a
/// network and device rules of one's own (making devices, raw sockets, writing audit records).
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SYS_CHROOT);

/// What init is given by the supervisor.
pub(crate) struct Setting<'a> {
    pub(crate) wire: &'a Wire,
    /// Ends when the supervisor does.
    pub(crate) alive: OwnedFd,
    pub(crate) request: Request,
    pub(crate) identifiers: Identifiers,
    /// The folder; holding it here too keeps it locked until the last process is gone.
    pub(crate) lease: Lease,
    pub(crate) single: SingleThreaded,
}

/// Runs what was asked for and reports to the parent.
pub(crate) fn run(setting: &Setting<'_>) -> i32 {
    let result = match &setting.request.task {
        Task::Run { layers, container } => {
            start(setting, layers, container).and_then(|(command, rootfs)| attend(setting, command, rootfs))
        }
        Task::Probe => probe(setting),
    };
    match result {
        Ok(()) => 0,
        Err(failure) => {
            let _ = setting.wire.send(&ToParent::Failed(failure));
            1
        }
    }
}

fn enter_namespaces() -> Result<(), Failure> {
    let stage = Stage::Namespaces;
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).at(stage, "")?;
    let flags = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC;
    unshare(flags).at(stage, "mount, UTS and IPC")?;
    rustix::process::umask(Mode::empty());
    mounts::make_private()
}

fn probe(setting: &Setting<'_>) -> Result<(), Failure> {
    enter_namespaces()?;
    let folder = setting.lease.path();
    let mut layers = Vec::new();
    for name in ["root", "one", "two"] {
        let path = folder.join(name);
        std::fs::create_dir(&path).at(Stage::RootFs, name)?;
        layers.push(path);
    }
    let overlay = mounts::overlay(&layers[1..], folder);
    let proc = mounts::new_proc().map(drop).at(Stage::Proc, "/proc");
    setting.wire.send(&ToParent::Probed { overlay, proc }).at(Stage::Request, "")
}

/// Makes the sandbox and starts the command in it.
fn start(
    setting: &Setting<'_>,
    layers: &[std::path::PathBuf],
    container: &Container,
) -> Result<(Pid, RootFs), Failure> {
    enter_namespaces()?;
    let folder = setting.lease.path();
    let entry = setting.request.entry;
    let (path, rootfs) = mounts::root_file_system(layers, folder, setting.request.changes)?;
    {
        // No descriptor of the old root may be open when the command's directory is entered.
        let root = Root::open(&path).at(Stage::Root, "root")?;
        mounts::furnish(&root, container, folder, entry, setting.identifiers)?;
        mounts::pivot(&root)?;
    }
    rustix::system::sethostname(container.hostname.as_bytes()).at(Stage::Etc, &container.hostname)?;
    let root = Root::open(std::path::Path::new("/")).at(Stage::Root, "/")?;
    let passwd = root.read("/etc/passwd").at(Stage::User, "/etc/passwd")?;
    let group = root.read("/etc/group").at(Stage::User, "/etc/group")?;
    let user = &container.process.user;
    let identity = Identity::resolve(user, &passwd, &group)
        .map_err(|reason| Failure::new(Stage::User, user.clone(), reason))?;
    enter_work_dir(root, &container.process.cwd)?;

    let (mut report, reporter) = std::io::pipe().at(Stage::Execute, "pipe")?;
    let Some(command) = sys::fork(&setting.single).at(Stage::Execute, "fork")? else {
        let Err(failure) = execute(setting, container, &identity);
        let _ = serde_json::to_writer(&reporter, &failure).map(|()| (&reporter).flush());
        std::process::exit(127);
    };
    drop(reporter);
    let_go_of_streams().at(Stage::Execute, "streams")?;
    // The command cannot look into this process.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .at(Stage::Privileges, "")?;
    let mut text = String::new();
    report.read_to_string(&mut text).at(Stage::Execute, "pipe")?;
    match serde_json::from_str(&text) {
        Ok(failure) => Err(failure),
        // Nothing was written: the pipe was closed by the execution of the command.
        Err(_) => Ok((command, rootfs)),
    }
}

fn enter_work_dir(root: Root, cwd: &str) -> Result<(), Failure> {
    let stage = Stage::WorkDir;
    let directory = root.make_directory(cwd).at(stage, cwd)?;
    drop(root);
    rustix::process::fchdir(&directory).at(stage, cwd)?;
    drop(directory);
    // A path like /proc/self/fd/7 could lead to a directory of the host that somebody left open.
    let path = rustix::process::getcwd(Vec::new()).at(stage, cwd)?;
    if path.as_bytes().starts_with(b"/") {
        Ok(())
    } else {
        Err(Failure::new(stage, cwd, "it is outside the container"))
    }
}

/// Becomes the command; returns only if that fails.
fn execute(
    setting: &Setting<'_>,
    container: &Container,
    identity: &Identity,
) -> Result<std::convert::Infallible, Failure> {
    let process = &container.process;
    let name = process.argv.first().map_or("", String::as_str);
    rustix::process::setsid().at(Stage::Execute, "setsid")?;
    sys::close_on_exec().at(Stage::Privileges, "file descriptors")?;
    sys::leave_keyring();
    give_up_privileges(setting, identity)?;
    rustix::process::umask(Mode::from(0o022));
    SigSet::empty().thread_set_mask().at(Stage::Execute, "signals")?;
    let error = Command::new(name)
        .args(process.argv.iter().skip(1))
        .env_clear()
        .envs(process.complete_env(&identity.home, &container.hostname))
        .exec();
    Err(error).at(Stage::Execute, name)
}

/// Becomes the user and keeps no more than [`KEPT`].
fn give_up_privileges(setting: &Setting<'_>, identity: &Identity) -> Result<(), Failure> {
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    let name = identity.uid.to_string();
    let one_user = setting.request.entry != Entry::Root
        && (identity.uid != 0 || identity.gid != 0 && setting.identifiers == Identifiers::One);
    if one_user {
        // The caller's own identifiers appear as the ones that the image wants: files of the image and
        // of the caller can then be read and written as the image and the caller expect.
        unshare(CloneFlags::CLONE_NEWUSER).at(Stage::User, &name)?;
        map_one(identity.uid, 0, identity.gid, 0)?;
    } else if setting.identifiers == Identifiers::Many {
        let groups: Vec<_> = identity.groups.iter().copied().map(Gid::from_raw).collect();
        rustix::thread::set_thread_groups(&groups).at(Stage::User, &name)?;
        give_away_pipes(uid);
    }
    for capability in CapabilitySet::all().iter().filter(|capability| !KEPT.contains(*capability)) {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // One that this kernel does not know.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error).at(Stage::Privileges, "bounding set"),
        }
    }
    rustix::thread::set_thread_res_gid(gid, gid, gid).at(Stage::User, &name)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).at(Stage::User, &name)?;
    let kept = if identity.uid == 0 { KEPT } else { CapabilitySet::empty() };
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).at(Stage::Privileges, "capabilities")?;
    rustix::thread::set_no_new_privs(true).at(Stage::Privileges, "no_new_privs")
}

/// Gives the standard streams that are pipes to the user, who else could not open `/dev/stdout`.
fn give_away_pipes(uid: Uid) {
    let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    for stream in streams {
        let is_pipe = rustix::fs::fstat(stream)
            .is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Fifo);
        if is_pipe {
            // A pipe that is somebody else's stays so.
            let _ = rustix::fs::fchown(stream, Some(uid), None);
        }
    }
}

/// Looks after the command until it ends, or until nobody is there to care.
fn attend(setting: &Setting<'_>, command: Pid, rootfs: RootFs) -> Result<(), Failure> {
    let stage = Stage::Execute;
    let signals = SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .at(stage, "signals")?;
    setting.wire.send(&ToParent::Started { rootfs }).at(stage, "")?;
    loop {
        let mut fds = [
            PollFd::new(&signals, PollFlags::IN),
            PollFd::from_borrowed_fd(setting.wire.as_fd(), PollFlags::IN),
            PollFd::new(&setting.alive, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).at(stage, "poll"),
        }
        let [signalled, spoken, widowed] = fds.map(|fd| !fd.revents().is_empty());
        if signalled {
            while let Ok(Some(info)) = signals.read_signal() {
                let number = i32::try_from(info.ssi_signo).unwrap_or_default();
                if number != Signal::SIGCHLD as i32 {
                    forward(command, number);
                }
            }
            if let Some(exit) = reap(command).at(stage, "wait")? {
                return setting.wire.send(&ToParent::Exited(exit)).at(stage, "");
            }
        }
        if spoken {
            match setting.wire.receive() {
                Ok(Some(ToSandbox::Signal(number))) => forward(command, number),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return Ok(()),
            }
        }
        if widowed {
            return Ok(());
        }
    }
}

/// Takes the dead away; the answer is the command's end, if it is among them.
fn reap(command: Pid) -> nix::Result<Option<Exit>> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == command => {
                return Ok(Some(Exit::Code(u8::try_from(code & 0xff).unwrap_or(u8::MAX))));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == command => {
                return Ok(Some(Exit::Signal(signal as i32)));
            }
            Ok(WaitStatus::StillAlive) | Err(nix::Error::ECHILD) => return Ok(None),
            Ok(_) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Sends a signal to the command. Those that a terminal sends go to the whole process group, as a
/// terminal would send them.
fn forward(command: Pid, number: i32) {
    let Ok(signal) = Signal::try_from(number) else { return };
    let group = matches!(
        signal,
        Signal::SIGINT
            | Signal::SIGQUIT
            | Signal::SIGHUP
            | Signal::SIGWINCH
            | Signal::SIGTSTP
            | Signal::SIGCONT
    );
    let target = if group { Pid::from_raw(-command.as_raw()) } else { command };
    // It may have ended just now.
    let _ = kill(target, signal);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reaches_the_host_is_not_kept() {
        for capability in [CapabilitySet::SYS_ADMIN, CapabilitySet::MKNOD, CapabilitySet::SYS_PTRACE] {
            assert!(!KEPT.intersects(capability));
        }
    }
}
