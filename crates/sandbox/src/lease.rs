//! Folders that vanish with their owner.
//!
//! A folder `X` belongs to whoever holds the lock on the file `X.lock` beside it. The kernel drops
//! the lock when the last process that inherited it dies, however it dies; what is not locked is
//! rubbish, and the next one to come by takes it away.

use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, Mode, OFlags},
    io::Errno,
};

use crate::tree::remove_tree;

const LOCK: &str = "lock";

/// A folder of one's own.
#[derive(Debug)]
pub(crate) struct Lease {
    folder: PathBuf,
    lock: OwnedFd,
}

impl Lease {
    /// Makes a new, empty folder in `parent`, mode 0700.
    pub(crate) fn take(parent: &Path) -> io::Result<Self> {
        loop {
            let folder = parent.join(random_name()?);
            let lock_path = folder.with_extension(LOCK);
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let lock = match rustix::fs::open(&lock_path, flags, Mode::from(0o600)) {
                Ok(lock) => lock,
                Err(Errno::EXIST) => continue,
                Err(error) => return Err(error.into()),
            };
            // Between the two calls a sweeper may have taken the new file for rubbish.
            if !lock_now(&lock)? {
                continue;
            }
            std::fs::create_dir(&folder)?;
            std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
            return Ok(Self { folder, lock });
        }
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        &self.folder
    }

    /// Removes the folder with all that is in it, if it still exists.
    pub(crate) fn release(self) -> io::Result<()> {
        discard(&self.folder)?;
        drop(self.lock);
        Ok(())
    }

    /// Removes every folder in `parent` whose owner is gone. What cannot be removed stays: it is
    /// somebody else's, or the next sweep's.
    pub(crate) fn sweep(parent: &Path) -> io::Result<()> {
        for entry in std::fs::read_dir(parent)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != LOCK) {
                continue;
            }
            let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let Ok(lock) = rustix::fs::open(&path, flags, Mode::empty()) else { continue };
            if lock_now(&lock)? {
                let _ = discard(&path.with_extension(""));
            }
        }
        Ok(())
    }
}

/// Removes a folder and then its lock, so that a folder never stands without one.
fn discard(folder: &Path) -> io::Result<()> {
    remove_tree(folder)?;
    std::fs::remove_file(folder.with_extension(LOCK))
}

/// Locks a file that must not have been removed in the meantime; `false` if it has or if it is locked.
fn lock_now(lock: &OwnedFd) -> io::Result<bool> {
    match rustix::fs::flock(lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(rustix::fs::fstat(lock)?.st_nlink > 0),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Holds the lock file at `path` until it is dropped, waiting for it if need be.
pub(crate) fn exclusive(path: &Path) -> io::Result<File> {
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
    Ok(file)
}

/// Sixteen random hexadecimal digits.
pub(crate) fn random_name() -> io::Result<String> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(format!("{:016x}", u64::from_ne_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_takes_what_nobody_holds() {
        let root = tempfile::tempdir().unwrap();
        let held = Lease::take(root.path()).unwrap();
        let lost = Lease::take(root.path()).unwrap();
        std::fs::create_dir(lost.path().join("full")).unwrap();
        let gone = lost.path().to_owned();
        drop(lost);
        Lease::sweep(root.path()).unwrap();
        assert!(held.path().exists());
        assert!(!gone.exists() && !gone.with_extension(LOCK).exists());
        held.release().unwrap();
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn many_take_and_sweep_at_once() {
        let root = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let lease = Lease::take(root.path()).unwrap();
                        std::fs::write(lease.path().join("file"), "x").unwrap();
                        Lease::sweep(root.path()).unwrap();
                        assert!(lease.path().join("file").exists());
                        lease.release().unwrap();
                    }
                });
            }
        });
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
    }
}
