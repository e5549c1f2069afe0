//! Unpacking one layer into a directory, whatever the layer says.
//!
//! No path is ever handed to the kernel as a whole while the layer is unpacked: every part of it is
//! opened below the directory before it, and a link is never followed. So nothing a layer contains can
//! lead out of the directory, whatever order its entries come in.

use std::{
    collections::BTreeMap,
    io::{BufRead, Read},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use longshore_layer::{
    Entry, EntryPath, Kind,
    read::{Change, Compression, LayerReader},
};
use longshore_oci::Digest;
use rustix::{
    fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid},
    io::Errno,
};

use crate::{Error, Privilege, Result, tree};

/// Unpacks a layer into an empty directory and returns the digest of its uncompressed bytes.
pub(crate) fn extract(
    layer: &Digest,
    compression: Compression,
    input: impl Read,
    target: &Path,
) -> Result<Digest> {
    let damaged = |source| Error::Layer { layer: *layer, source };
    let root =
        rustix::fs::openat(CWD, target, DIRECTORY, Mode::empty()).map_err(Error::io("open", target))?;
    let owners = if Privilege::of_caller() == Privilege::Root { Owners::Kept } else { Owners::Caller };
    let mut tree = Tree { root, chain: Vec::new(), directories: BTreeMap::new(), owners };
    let mut reader = LayerReader::new(input, compression).map_err(damaged)?;
    while let Some(mut entry) = reader.next_entry().map_err(damaged)? {
        let change = entry.change().clone();
        tree.change(&change, &mut entry).map_err(|fault| fault.of(layer, &change, target))?;
    }
    let summary = reader.finish().map_err(damaged)?;
    tree.finish(target)?;
    Ok(summary.diff_id)
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Whom files belong to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owners {
    /// Whom the layer says.
    Kept,
    /// The caller, who can give nothing away.
    Caller,
}

/// Why an entry was not unpacked.
enum Fault {
    /// The entry is at fault.
    Hostile(&'static str),
    /// The layer's bytes are.
    Damaged(longshore_layer::Error),
    /// The file system is.
    System(std::io::Error),
}

impl Fault {
    fn of(self, layer: &Digest, change: &Change, target: &Path) -> Error {
        let path = match change {
            Change::Put(Entry { path, .. }) | Change::Whiteout(path) | Change::Opaque(Some(path)) => {
                path.as_str()
            }
            Change::Opaque(None) => "",
        };
        match self {
            Self::Hostile(why) => Error::HostileLayer { layer: *layer, entry: path.to_owned(), why },
            Self::Damaged(source) => Error::Layer { layer: *layer, source },
            Self::System(source) => Error::Io { doing: "unpack", path: target.join(path), source },
        }
    }
}

impl From<Errno> for Fault {
    fn from(error: Errno) -> Self {
        match error {
            Errno::LOOP | Errno::NOTDIR => {
                Self::Hostile("lies below something that the layer itself has as no directory")
            }
            error => Self::System(error.into()),
        }
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        match error.downcast() {
            Ok(source) => Self::Damaged(source),
            Err(error) => Self::System(error),
        }
    }
}

/// What a directory is given at the end, when nothing is written into it any more.
struct Finish {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: u64,
}

/// A tree that is being unpacked.
struct Tree {
    root: OwnedFd,
    /// The directories, open, that lead to where the last entry was: most entries are neighbours.
    chain: Vec<(Box<str>, OwnedFd)>,
    directories: BTreeMap<String, Finish>,
    owners: Owners,
}

impl Tree {
    fn change(&mut self, change: &Change, content: &mut impl BufRead) -> Result<(), Fault> {
        match change {
            Change::Put(entry) => self.put(entry, content),
            Change::Whiteout(path) => self.white_out(path),
            Change::Opaque(directory) => {
                let directory = self.enter(directory.as_ref().map(EntryPath::as_str))?;
                Ok(tree::set_opaque(directory)?)
            }
        }
    }

    /// Opens a directory, made with its parents where they are missing.
    fn enter(&mut self, path: Option<&str>) -> Result<BorrowedFd<'_>, Fault> {
        let parts = || path.into_iter().flat_map(|path| path.split('/'));
        let same = self.chain.iter().zip(parts()).take_while(|((name, _), part)| &**name == *part).count();
        self.chain.truncate(same);
        let mut length = self.chain.iter().map(|(name, _)| name.len() + 1).sum::<usize>();
        for part in parts().skip(same) {
            let here = self.chain.last().map_or(&self.root, |(_, fd)| fd);
            length += part.len() + 1;
            let opened = match rustix::fs::openat(here, part, DIRECTORY, Mode::empty()) {
                Err(Errno::NOENT | Errno::NOTDIR) if make_directory(here, part, IfOther::Refuse)? => {
                    let path = path.unwrap_or_default()[..length - 1].to_owned();
                    self.directories.insert(path, Finish { mode: 0o755, uid: 0, gid: 0, mtime: 0 });
                    rustix::fs::openat(here, part, DIRECTORY, Mode::empty())?
                }
                other => other?,
            };
            self.chain.push((part.into(), opened));
        }
        Ok(self.chain.last().map_or(&self.root, |(_, fd)| fd).as_fd())
    }

    fn put(&mut self, entry: &Entry, content: &mut impl BufRead) -> Result<(), Fault> {
        let parent = entry.path.parent();
        let name = entry.path.name();
        let owners = self.owners;
        match &entry.kind {
            Kind::Directory => {
                let parent = self.enter(parent.as_ref().map(EntryPath::as_str))?;
                make_directory(parent, name, IfOther::Replace)?;
                let finish = Finish { mode: entry.mode, uid: entry.uid, gid: entry.gid, mtime: entry.mtime };
                self.directories.insert(entry.path.as_str().to_owned(), finish);
                return Ok(());
            }
            // The sandbox has a /dev of its own; devices anywhere else would be a way to the host.
            Kind::CharacterDevice { .. } | Kind::BlockDevice { .. } => return Ok(()),
            Kind::HardLink { target } => return self.link(&entry.path, target),
            Kind::File | Kind::Symlink { .. } | Kind::Fifo => {}
        }
        self.vacate(&entry.path)?;
        let parent = self.enter(parent.as_ref().map(EntryPath::as_str))?;
        match &entry.kind {
            Kind::Symlink { target } => rustix::fs::symlinkat(target.as_str(), parent, name)?,
            Kind::Fifo => {
                rustix::fs::mknodat(parent, name, FileType::Fifo, Mode::from(entry.mode & 0o777), 0)?;
            }
            _ => {
                let flags =
                    OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = rustix::fs::openat(parent, name, flags, Mode::from(0o600))?;
                copy(content, &file)?;
                if owners == Owners::Kept && (entry.uid, entry.gid) != (0, 0) {
                    rustix::fs::fchown(
                        &file,
                        Some(Uid::from_raw(entry.uid)),
                        Some(Gid::from_raw(entry.gid)),
                    )?;
                }
                // After the owner, for a change of owner takes these bits away.
                rustix::fs::fchmod(&file, mode(entry.mode, owners))?;
                return Ok(rustix::fs::futimens(&file, &times(entry.mtime))?);
            }
        }
        if owners == Owners::Kept {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(
                parent,
                name,
                Some(Uid::from_raw(entry.uid)),
                Some(Gid::from_raw(entry.gid)),
                flags,
            )?;
        }
        Ok(rustix::fs::utimensat(parent, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Gives a file that the layer has already another name.
    fn link(&mut self, path: &EntryPath, target: &EntryPath) -> Result<(), Fault> {
        if path == target {
            return Err(Fault::Hostile("is a hard link to itself"));
        }
        self.vacate(path)?;
        let missing = Fault::Hostile("is a hard link to a file that the layer does not have");
        let name = target.name();
        let folder = match target.parent() {
            None => self.root.try_clone()?,
            Some(parent) => match open_beneath(&self.root, parent.as_str()) {
                Err(Errno::NOENT) => return Err(missing),
                other => other?,
            },
        };
        match rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Err(missing),
            found => match FileType::from_raw_mode(found?.st_mode) {
                FileType::RegularFile | FileType::Symlink | FileType::Fifo => {}
                _ => return Err(Fault::Hostile("is a hard link to something that is no file")),
            },
        }
        let parent = self.enter(path.parent().as_ref().map(EntryPath::as_str))?;
        Ok(rustix::fs::linkat(&folder, name, parent, path.name(), AtFlags::empty())?)
    }

    /// Takes away what an earlier entry put where a later one is to stand.
    fn vacate(&mut self, path: &EntryPath) -> Result<(), Fault> {
        let name = path.name();
        let parent = self.enter(path.parent().as_ref().map(EntryPath::as_str))?;
        match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR) => {}
            Err(error) => return Err(error.into()),
        }
        let inside =
            std::path::PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&parent)));
        tree::remove_tree(&inside.join(name)).map_err(Fault::System)?;
        let below = format!("{path}/");
        self.directories.retain(|directory, _| directory != path.as_str() && !directory.starts_with(&below));
        Ok(())
    }

    /// Hides what lower layers have under a path. What this layer itself has there stays.
    fn white_out(&mut self, path: &EntryPath) -> Result<(), Fault> {
        let parent = self.enter(path.parent().as_ref().map(EntryPath::as_str))?;
        let name = path.name();
        // A character device 0/0, which is no device, anybody may make since Linux 5.8.
        match rustix::fs::mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0) {
            Err(Errno::EXIST) => match rustix::fs::openat(parent, name, DIRECTORY, Mode::empty()) {
                Ok(directory) => Ok(tree::set_opaque(directory)?),
                Err(Errno::NOTDIR | Errno::LOOP) => Ok(()),
                Err(error) => Err(error.into()),
            },
            other => Ok(other?),
        }
    }

    /// Gives the directories their modes, owners and times, the deeper ones first.
    fn finish(&self, target: &Path) -> Result<()> {
        for (path, finish) in self.directories.iter().rev() {
            let done = open_beneath(&self.root, path).and_then(|directory| {
                if self.owners == Owners::Kept && (finish.uid, finish.gid) != (0, 0) {
                    rustix::fs::fchown(
                        &directory,
                        Some(Uid::from_raw(finish.uid)),
                        Some(Gid::from_raw(finish.gid)),
                    )?;
                }
                rustix::fs::fchmod(&directory, mode(finish.mode, self.owners))?;
                rustix::fs::futimens(&directory, &times(finish.mtime))
            });
            done.map_err(Error::io("finish", target.join(path)))?;
        }
        Ok(())
    }
}

/// What to do with something that is no directory where one is to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum IfOther {
    Replace,
    Refuse,
}

/// Makes a directory unless it is there; tells whether there is a new one. In place of a whiteout it hides
/// what the whiteout hid.
fn make_directory(parent: impl AsFd, name: &str, if_other: IfOther) -> Result<bool, Fault> {
    let make = || rustix::fs::mkdirat(&parent, name, Mode::from(0o700));
    match make() {
        Ok(()) => return Ok(true),
        Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let found = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = FileType::from_raw_mode(found.st_mode);
    let was_whiteout = kind == FileType::CharacterDevice;
    if kind == FileType::Directory || if_other == IfOther::Refuse && !was_whiteout {
        return Ok(false);
    }
    rustix::fs::unlinkat(&parent, name, AtFlags::empty())?;
    make()?;
    if was_whiteout {
        tree::set_opaque(rustix::fs::openat(&parent, name, DIRECTORY, Mode::empty())?)?;
    }
    Ok(true)
}

/// Opens a directory below another one, following no link.
fn open_beneath(root: &OwnedFd, path: &str) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    rustix::fs::openat2(root, path, DIRECTORY, Mode::empty(), resolve)
}

fn copy(content: &mut impl BufRead, file: &OwnedFd) -> Result<(), Fault> {
    loop {
        let bytes = content.fill_buf()?;
        if bytes.is_empty() {
            return Ok(());
        }
        let written = rustix::io::retry_on_intr(|| rustix::io::write(file, bytes))?;
        content.consume(written);
    }
}

/// The mode that a file gets. An ordinary user's set-user-ID program would be one of that user's for
/// everybody who can reach it, and nobody inside needs it.
fn mode(mode: u32, owners: Owners) -> Mode {
    Mode::from(match owners {
        Owners::Kept => mode & 0o7777,
        Owners::Caller => mode & 0o1777,
    })
}

fn times(mtime: u64) -> Timestamps {
    let time = Timespec { tv_sec: i64::try_from(mtime).unwrap_or(0), tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}
