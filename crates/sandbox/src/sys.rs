//! The system calls for which `rustix` and `nix` have no safe wrapper, each in one.
//!
//! This is the only module of the crate that may hold `unsafe`.
#![allow(unsafe_code)]

use std::{io, os::fd::AsRawFd as _, os::fd::BorrowedFd};

use nix::unistd::{ForkResult, Pid};

/// Proof that this process has one thread, which is what makes a fork safe.
pub(crate) struct SingleThreaded(());

impl SingleThreaded {
    /// The proof, if it holds: a process that was just executed and has started no thread.
    pub(crate) fn prove() -> io::Result<Self> {
        match std::fs::read_dir("/proc/self/task")?.count() {
            1 => Ok(Self(())),
            threads => Err(io::Error::other(format!("{threads} threads run before the sandbox was entered"))),
        }
    }
}

/// Makes a child process; `None` is the answer in the child.
pub(crate) fn fork(_: &SingleThreaded) -> io::Result<Option<Pid>> {
    // SAFETY: the argument proves that no other thread exists which could hold a lock (of the
    // allocator, say) that the child would wait for in vain, so the child may run any code.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}

/// Sets every signal to its default action. What the caller of the parent ignored (a shell ignores
/// SIGINT for a job in the background, Rust ignores SIGPIPE) is no business of the sandboxed process,
/// and if SIGCHLD stayed ignored, nobody here would learn of a child's end.
pub(crate) fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: the default action is no function of ours. The call fails for SIGKILL, SIGSTOP and
        // the two signals of the C library, which need no reset.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Marks every file descriptor from 3 up to be closed by `execve`.
pub(crate) fn close_on_exec() -> io::Result<()> {
    // SAFETY: close_range with CLOSE_RANGE_CLOEXEC reads no memory and closes nothing now, so that no
    // owner of a descriptor is deceived.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Leaves the session keyring of the caller, whose keys (of a login by Kerberos, say) are no business of
/// the sandboxed process. Where keyrings are not to be had, there is nothing to leave.
pub(crate) fn leave_keyring() {
    // SAFETY: with a null pointer for the name, keyctl(KEYCTL_JOIN_SESSION_KEYRING) reads no memory.
    unsafe {
        libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>())
    };
}

/// What `mount_setattr` sets: `struct mount_attr` of linux/mount.h, first version.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// The mount may not be written to.
pub(crate) const READ_ONLY: u64 = 0x1;
/// Set-user-ID bits and file capabilities have no effect.
pub(crate) const NO_SETUID: u64 = 0x2;
/// Device nodes are not devices.
pub(crate) const NO_DEVICES: u64 = 0x4;
/// Nothing can be executed.
pub(crate) const NO_EXEC: u64 = 0x8;

/// Sets attributes of a mount and of all mounts below it, and makes them private (Linux 5.12).
pub(crate) fn restrict_mount(mount: BorrowedFd<'_>, attributes: u64) -> io::Result<()> {
    const AT_EMPTY_PATH: u32 = 0x1000;
    const AT_RECURSIVE: u32 = 0x8000;
    const PRIVATE: u64 = 1 << 18;
    let attr = MountAttr { attr_set: attributes, attr_clr: 0, propagation: PRIVATE, userns_fd: 0 };
    // SAFETY: the descriptor is open, the path is an empty C string, and the kernel reads `attr`,
    // whose size is passed, during the call only.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            AT_EMPTY_PATH | AT_RECURSIVE,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
