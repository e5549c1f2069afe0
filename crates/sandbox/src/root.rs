//! Paths inside a root file system, resolved as a process in it would: no link of the image leads out.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags},
    io::Errno,
};

/// An open root directory.
pub(crate) struct Root(OwnedFd);

/// What a mount is put on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    File,
    Directory,
}

impl Root {
    /// Opens a directory as the root.
    pub(crate) fn open(path: &std::path::Path) -> io::Result<Self> {
        Ok(Self(rustix::fs::openat(
            CWD,
            path,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?))
    }

    /// Opens what a path leads to.
    pub(crate) fn at(&self, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let path = path.trim_start_matches('/');
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let path = if path.is_empty() { "." } else { path };
        loop {
            match rustix::fs::openat2(&self.0, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                // The kernel gives up when something was renamed meanwhile.
                Err(Errno::AGAIN) => {}
                other => return other,
            }
        }
    }

    /// Opens a directory, made with its parents if it is missing.
    pub(crate) fn make_directory(&self, path: &str) -> io::Result<OwnedFd> {
        let mut current = self.at("", OFlags::PATH)?;
        let mut reached = String::new();
        for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
            let parent = reached.clone();
            reached = format!("{parent}/{part}");
            current = match self.at(&reached, OFlags::PATH | OFlags::DIRECTORY) {
                Ok(found) => found,
                Err(Errno::NOENT) => {
                    make(&current, part, Place::Directory)?;
                    self.at(&reached, OFlags::PATH | OFlags::DIRECTORY)?
                }
                Err(error) => return Err(error.into()),
            };
        }
        Ok(current)
    }

    /// Opens a place for a mount, made if it is missing.
    pub(crate) fn make_place(&self, path: &str, place: Place) -> io::Result<OwnedFd> {
        if place == Place::Directory {
            return self.make_directory(path);
        }
        let (parent, name) = path.trim_end_matches('/').rsplit_once('/').unwrap_or(("", path));
        let parent = self.make_directory(parent)?;
        match self.at(path, OFlags::PATH) {
            Ok(found) => return Ok(found),
            Err(Errno::NOENT) => make(&parent, name, Place::File)?,
            Err(error) => return Err(error.into()),
        }
        Ok(self.at(path, OFlags::PATH)?)
    }

    /// The text of a file, cut at a mebibyte; empty if there is none.
    pub(crate) fn read(&self, path: &str) -> io::Result<String> {
        let file = match self.at(path, OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(String::new()),
            Err(error) => return Err(error.into()),
        };
        if !file.metadata()?.is_file() {
            return Ok(String::new());
        }
        let mut bytes = Vec::new();
        file.take(1 << 20).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Makes a file or directory in place of nothing, or of a link that leads nowhere.
fn make(parent: &OwnedFd, name: &str, place: Place) -> io::Result<()> {
    let create = || match place {
        Place::Directory => rustix::fs::mkdirat(parent, name, Mode::from(0o755)),
        Place::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::openat(parent, name, flags, Mode::from(0o644)).map(drop)
        }
    };
    match create() {
        Err(Errno::EXIST) => {
            rustix::fs::unlinkat(parent, name, AtFlags::empty())?;
            Ok(create()?)
        }
        other => Ok(other?),
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    #[test]
    fn links_stay_inside() {
        let outside = tempfile::tempdir().unwrap();
        let inside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "s").unwrap();
        symlink(outside.path(), inside.path().join("absolute")).unwrap();
        symlink("../../../../../../../..", inside.path().join("up")).unwrap();
        fs::create_dir(inside.path().join("etc")).unwrap();
        symlink("/nowhere/resolv.conf", inside.path().join("etc/resolv.conf")).unwrap();
        let root = Root::open(inside.path()).unwrap();
        let secret = outside.path().join("secret");
        assert_eq!(root.read(secret.to_str().unwrap()).unwrap(), "");
        assert_eq!(root.read("absolute/secret").unwrap(), "");
        root.make_directory("/up/made").unwrap();
        assert!(inside.path().join("made").is_dir());
        root.make_directory("absolute/deep").unwrap();
        assert!(!outside.path().join("deep").exists());
        assert!(inside.path().join("absolute/deep").is_dir(), "a dangling link gives way");
        root.make_place("/etc/resolv.conf", Place::File).unwrap();
        assert!(fs::symlink_metadata(inside.path().join("etc/resolv.conf")).unwrap().is_file());
        root.make_place("/new/place/file", Place::File).unwrap();
        assert!(inside.path().join("new/place/file").is_file());
        assert_eq!(
            root.make_place("/etc/resolv.conf/x", Place::File).err().unwrap().kind(),
            io::ErrorKind::NotADirectory
        );
    }
}
