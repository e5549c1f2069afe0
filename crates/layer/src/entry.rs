//! What a layer contains.

use std::collections::BTreeMap;

use crate::EntryPath;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link. The target is free text: it may be absolute, or lead out of the root; whoever follows it
    /// inside an image resolves it below the image's root.
    Symlink {
        /// Where it points.
        target: String,
    },
    /// Another name for a file that comes earlier in the same layer or is in a layer below.
    HardLink {
        /// The file.
        target: EntryPath,
    },
    /// A character device. Read from others' layers, never written.
    CharacterDevice {
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// A block device. Read from others' layers, never written.
    BlockDevice {
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// A named pipe. Read from others' layers, never written.
    Fifo,
}

/// One entry of a layer, without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it is.
    pub path: EntryPath,
    /// What it is.
    pub kind: Kind,
    /// Permission bits with set-uid, set-gid and sticky: at most `0o7777`.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// When it was changed: seconds since 1970.
    pub mtime: u64,
    /// Extended attributes, by name (`security.capability`, …).
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

impl Entry {
    /// An entry of root's, changed in 1970, without extended attributes.
    pub const fn new(path: EntryPath, kind: Kind, mode: u32) -> Self {
        Self { path, kind, mode, uid: 0, gid: 0, mtime: 0, xattrs: BTreeMap::new() }
    }

    /// A regular file.
    pub const fn file(path: EntryPath, mode: u32) -> Self {
        Self::new(path, Kind::File, mode)
    }

    /// A directory with mode 0755.
    pub const fn directory(path: EntryPath) -> Self {
        Self::new(path, Kind::Directory, 0o755)
    }

    /// A symbolic link, with mode 0777 as Linux shows it.
    pub fn symlink(path: EntryPath, target: impl Into<String>) -> Self {
        Self::new(path, Kind::Symlink { target: target.into() }, 0o777)
    }

    /// Another name for the file `target`. A link has no mode of its own; unpackers give the file this one.
    pub const fn hard_link(path: EntryPath, target: EntryPath, mode: u32) -> Self {
        Self::new(path, Kind::HardLink { target }, mode)
    }

    /// The same entry with another owner and group.
    pub fn owned_by(self, uid: u32, gid: u32) -> Self {
        Self { uid, gid, ..self }
    }

    /// The same entry with another time, in seconds since 1970.
    pub fn changed_at(self, mtime: u64) -> Self {
        Self { mtime, ..self }
    }
}
