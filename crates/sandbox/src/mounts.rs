//! The mounts of a sandbox, made by its first process in its own mount namespace.

use std::{
    fs,
    os::fd::{AsFd as _, OwnedFd},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, OFlags},
    io::Errno,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
        UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount,
        mount_change, move_mount, open_tree, unmount,
    },
};

use crate::{
    Access, Container, Failure, RootFs, Stage,
    error::At,
    root::{Place, Root},
    sys,
    wire::{Changes, Entry},
};

type Done<T = ()> = Result<T, Failure>;

/// Files of the host that a process with the host's network needs.
const NETWORK_FILES: [&str; 2] = ["resolv.conf", "hosts"];

/// What `/proc` shows of the kernel and may be looked at only; as root in no user namespace a process
/// could otherwise change the host's settings (the paths are those that container engines protect).
const PROC_READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
/// What must not even be read.
const PROC_MASKED: [&str; 8] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
];

/// Detaches this mount namespace from the host's: mounts made here are not seen there.
pub(crate) fn make_private() -> Done {
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", flags).at(Stage::Namespaces, "/")
}

/// Makes the root file system in `folder` and returns where it is.
pub(crate) fn root_file_system(
    layers: &[PathBuf],
    folder: &Path,
    changes: Changes,
) -> Done<(PathBuf, RootFs)> {
    let root = folder.join("root");
    make_directory(&root, Stage::RootFs)?;
    match overlay(layers, folder) {
        Ok(()) => return Ok((root, RootFs::Overlay)),
        // Only an overlay tells what was changed.
        Err(failure) if changes == Changes::Kept => return Err(failure),
        Err(_) => {}
    }
    // A file system that cannot carry an overlay, a kernel without it: a copy always works.
    crate::tree::merge(layers, &root).map_err(|(path, error)| error_at(error, Stage::RootFs, &path))?;
    let tree = clone_tree(&root, Stage::RootFs)?;
    attach(&tree, &open_path(&root, Stage::RootFs)?, Stage::RootFs, "root")?;
    Ok((root, RootFs::Copy))
}

/// Mounts the layers and a new, empty one on top. The layers are named by links, in digits: many long
/// paths would not fit into the page of options that mount(2) takes, and need escapes.
pub(crate) fn overlay(layers: &[PathBuf], folder: &Path) -> Done {
    let stage = Stage::RootFs;
    for name in ["upper", "work", "layers"] {
        make_directory(&folder.join(name), stage)?;
    }
    rustix::process::chdir(folder.join("layers")).at(stage, "layers")?;
    let mut lower = Vec::new();
    for (number, layer) in layers.iter().enumerate().rev() {
        let number = number.to_string();
        symlink(layer, &number).at(stage, &number)?;
        lower.push(number);
    }
    if lower.is_empty() {
        make_directory(Path::new("none"), stage)?;
        lower.push("none".to_owned());
    }
    // Volatile: what is thrown away afterwards need not reach the disk first, and without this the end of
    // every sandbox would wait until all that anybody wrote to the same file system has.
    let options =
        format!("userxattr,volatile,lowerdir={},upperdir=../upper,workdir=../work", lower.join(":"));
    let options = std::ffi::CString::new(options).map_err(|_| Failure::new(stage, "", "NUL"))?;
    let flags = rustix::mount::MountFlags::NODEV | rustix::mount::MountFlags::NOSUID;
    mount("longshore", "../root", "overlay", flags, options.as_c_str()).at(stage, "overlay")
}

/// Everything that is mounted over the root file system.
pub(crate) fn furnish(
    root: &Root,
    container: &Container,
    folder: &Path,
    entry: Entry,
    identifiers: Identifiers,
) -> Done {
    proc(root, entry)?;
    dev(root, identifiers)?;
    sysfs(root, entry)?;
    network_files(root, container, folder)?;
    let mut mounts: Vec<_> = container.mounts.iter().collect();
    // What is mounted deeper comes later, else it would be covered.
    mounts.sort_by_key(|mount| mount.target.split('/').filter(|part| !part.is_empty()).count());
    for mount in mounts {
        let tree = clone_tree(&mount.source, Stage::Mount)?;
        let access = if mount.access == Access::ReadOnly { sys::READ_ONLY } else { 0 };
        bind(root, &tree, &mount.target, access | sys::NO_SETUID | sys::NO_DEVICES, Stage::Mount)?;
    }
    Ok(())
}

/// Which identifiers the sandbox can name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Identifiers {
    /// One user and one group.
    One,
    /// All that images use.
    Many,
}

/// Makes `root` the root and lets go of the old one.
pub(crate) fn pivot(root: &Root) -> Done {
    let stage = Stage::Root;
    rustix::process::fchdir(root).at(stage, "root")?;
    rustix::process::pivot_root(".", ".").at(stage, "pivot_root")?;
    // The old root now lies over the new one at the same place; this uncovers it.
    unmount(".", UnmountFlags::DETACH).at(stage, "old root")?;
    rustix::process::chdir("/").at(stage, "/")
}

/// A new `/proc`, of this PID namespace.
pub(crate) fn new_proc() -> rustix::io::Result<OwnedFd> {
    new_file_system("proc", &[], MountAttrFlags::MOUNT_ATTR_NOEXEC)
}

fn proc(root: &Root, entry: Entry) -> Done {
    let stage = Stage::Proc;
    let place = root.make_directory("/proc").at(stage, "/proc")?;
    match new_proc() {
        Ok(proc) => attach(&proc, &place, stage, "/proc")?,
        // In a container that hides parts of its own /proc the kernel refuses a new one. The outer one
        // serves: it shows processes by their outer numbers, and /proc/self is right.
        Err(Errno::PERM | Errno::ACCESS) if entry != Entry::Root => {
            bind(root, &clone_tree(Path::new("/proc"), stage)?, "/proc", 0, stage)?;
        }
        Err(error) => return Err(error).at(stage, "/proc"),
    }
    if entry != Entry::Root {
        return Ok(());
    }
    for path in PROC_READ_ONLY {
        if root.at(path, OFlags::PATH).is_ok() {
            let tree = clone_at(root, path, stage)?;
            bind(root, &tree, path, sys::READ_ONLY | sys::NO_SETUID | sys::NO_DEVICES | sys::NO_EXEC, stage)?;
        }
    }
    for path in PROC_MASKED {
        mask(root, path, stage)?;
    }
    Ok(())
}

/// Covers a path, if it exists, with nothing.
fn mask(root: &Root, path: &str, stage: Stage) -> Done {
    let Ok(place) = root.at(path, OFlags::PATH) else { return Ok(()) };
    let is_directory = root.at(path, OFlags::PATH | OFlags::DIRECTORY).is_ok();
    let cover = if is_directory {
        new_file_system("tmpfs", &[], MountAttrFlags::MOUNT_ATTR_RDONLY).at(stage, path)?
    } else {
        let null = clone_tree(Path::new("/dev/null"), stage)?;
        sys::restrict_mount(null.as_fd(), sys::READ_ONLY).at(stage, path)?;
        null
    };
    attach(&cover, &place, stage, path)
}

fn sysfs(root: &Root, entry: Entry) -> Done {
    let stage = Stage::Sys;
    let place = root.make_directory("/sys").at(stage, "/sys")?;
    if entry == Entry::Root {
        let sysfs = new_file_system("sysfs", &[], MountAttrFlags::MOUNT_ATTR_RDONLY);
        attach(&sysfs.at(stage, "/sys")?, &place, stage, "/sys")?;
        return mask(root, "/sys/firmware", stage);
    }
    // A new one belongs to whoever owns the network namespace, and that is the host's.
    let tree = clone_tree(Path::new("/sys"), stage)?;
    bind(root, &tree, "/sys", sys::READ_ONLY | sys::NO_SETUID | sys::NO_DEVICES | sys::NO_EXEC, stage)
}

fn dev(root: &Root, identifiers: Identifiers) -> Done {
    let stage = Stage::Dev;
    let place = root.make_directory("/dev").at(stage, "/dev")?;
    let strict = MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let dev = new_file_system("tmpfs", &[("mode", "0755"), ("size", "64k")], strict).at(stage, "/dev")?;
    attach(&dev, &place, stage, "/dev")?;
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        let path = format!("/dev/{name}");
        // Bound from the host, for an ordinary user cannot make devices; read-only, so that nobody can
        // change the host's modes and owners through it (a device is written to all the same).
        let tree = clone_tree(Path::new(&path), stage)?;
        bind(root, &tree, &path, sys::READ_ONLY | sys::NO_SETUID | sys::NO_EXEC, stage)?;
    }
    let mut options = vec![("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620")];
    if identifiers == Identifiers::Many {
        options.push(("gid", "5"));
    }
    let pts = new_file_system("devpts", &options, strict).at(stage, "/dev/pts")?;
    attach(&pts, &root.make_directory("/dev/pts").at(stage, "/dev/pts")?, stage, "/dev/pts")?;
    let shm = new_file_system("tmpfs", &[("mode", "1777")], strict).at(stage, "/dev/shm")?;
    attach(&shm, &root.make_directory("/dev/shm").at(stage, "/dev/shm")?, stage, "/dev/shm")?;
    let links = [
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
        ("pts/ptmx", "ptmx"),
    ];
    let dev = root.at("/dev", OFlags::PATH).at(stage, "/dev")?;
    for (target, name) in links {
        rustix::fs::symlinkat(target, &dev, name).at(stage, name)?;
    }
    Ok(())
}

fn network_files(root: &Root, container: &Container, folder: &Path) -> Done {
    let stage = Stage::Etc;
    let etc = folder.join("etc");
    make_directory(&etc, stage)?;
    let host = &container.hostname;
    let mut files = vec![("hostname", format!("{host}\n"))];
    for name in NETWORK_FILES {
        let text = fs::read_to_string(Path::new("/etc").join(name)).unwrap_or_default();
        files.push((name, if name == "hosts" { hosts(&text, host) } else { text }));
    }
    for (name, text) in files {
        let file = etc.join(name);
        fs::write(&file, text).at(stage, name)?;
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).at(stage, name)?;
        let tree = clone_tree(&file, stage)?;
        let attributes = sys::READ_ONLY | sys::NO_SETUID | sys::NO_DEVICES | sys::NO_EXEC;
        bind(root, &tree, &format!("/etc/{name}"), attributes, stage)?;
    }
    Ok(())
}

/// The host's table, for the network is the host's too, with the container's own name.
fn hosts(text: &str, host: &str) -> String {
    let names = |line: &str| {
        let line = line.split('#').next().unwrap_or_default();
        line.split_whitespace().skip(1).any(|name| name == host)
    };
    let separator = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    if text.lines().any(names) { text.to_owned() } else { format!("{text}{separator}127.0.0.1\t{host}\n") }
}

/// A copy of the mount at `path` with all below it, attached nowhere yet.
fn clone_tree(path: &Path, stage: Stage) -> Done<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    open_tree(CWD, path, flags).map_err(|error| error_at(error.into(), stage, path))
}

fn clone_at(root: &Root, path: &str, stage: Stage) -> Done<OwnedFd> {
    let found = root.at(path, OFlags::PATH).at(stage, path)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(&found, "", flags).at(stage, path)
}

/// Attaches a copied mount at a path of the root, which is made if it is missing.
fn bind(root: &Root, tree: &OwnedFd, path: &str, attributes: u64, stage: Stage) -> Done {
    sys::restrict_mount(tree.as_fd(), attributes).at(stage, path)?;
    let directory = rustix::fs::fstat(tree).at(stage, path)?.st_mode & 0o170_000 == 0o040_000;
    let place = if directory { Place::Directory } else { Place::File };
    let place = root.make_place(path, place).at(stage, path)?;
    attach(tree, &place, stage, path)
}

fn attach(tree: &OwnedFd, place: &OwnedFd, stage: Stage, path: &str) -> Done {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, "", place, "", flags).at(stage, path)
}

fn new_file_system(
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> rustix::io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (name, value) in options {
        if value.is_empty() {
            fsconfig_set_flag(&context, *name)?;
        } else {
            fsconfig_set_string(&context, *name, *value)?;
        }
    }
    fsconfig_create(&context)?;
    // Only /dev/pts needs devices.
    let devices = if kind == "devpts" { MountAttrFlags::empty() } else { MountAttrFlags::MOUNT_ATTR_NODEV };
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes | devices | MountAttrFlags::MOUNT_ATTR_NOSUID)
}

fn open_path(path: &Path, stage: Stage) -> Done<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, rustix::fs::Mode::empty())
        .map_err(|error| error_at(error.into(), stage, path))
}

fn make_directory(path: &Path, stage: Stage) -> Done {
    fs::create_dir(path).map_err(|error| error_at(error, stage, path))?;
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .map_err(|error| error_at(error, stage, path))
}

fn error_at(error: std::io::Error, stage: Stage, path: &Path) -> Failure {
    Err::<(), _>(error)
        .at(stage, &path.to_string_lossy())
        .err()
        .unwrap_or_else(|| Failure::new(stage, "", ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_name_is_added_once() {
        assert_eq!(hosts("", "box"), "127.0.0.1\tbox\n");
        assert_eq!(hosts("127.0.0.1 localhost", "box"), "127.0.0.1 localhost\n127.0.0.1\tbox\n");
        assert_eq!(hosts("10.0.0.1 a box # c\n", "box"), "10.0.0.1 a box # c\n");
        assert_eq!(hosts("# 10.0.0.1 box\n", "box"), "# 10.0.0.1 box\n127.0.0.1\tbox\n");
    }
}
