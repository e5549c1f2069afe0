//! Who uses the caches.

use std::{
    fs::{self, File},
    io::ErrorKind,
    path::Path,
};

use rustix::{fs::FlockOperation, io::Errno};

use super::CacheError;

/// The file whose lock is held.
const FILE: &str = "in-use";

/// The caches, held by a process: shared by those who build and run, alone by who removes something. The system gives it
/// back when the process ends, however that is.
#[derive(Debug)]
pub struct Hold(#[expect(dead_code, reason = "dropping it gives the lock back")] Option<File>);

impl Hold {
    /// Holds the caches together with others; waits while somebody removes something. In a folder that cannot be written
    /// nothing can be removed either, so nothing is held.
    pub fn shared(folder: &Path) -> Self {
        let Ok(file) = open(folder) else { return Self(None) };
        Self(rustix::fs::flock(&file, FlockOperation::LockShared).is_ok().then_some(file))
    }

    /// Holds the caches alone; fails at once if somebody else uses them.
    pub fn alone(folder: &Path) -> Result<Self, CacheError> {
        let path = folder.join(FILE);
        let file =
            open(folder).map_err(|source| CacheError::Io { doing: "write", path: path.clone(), source })?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self(Some(file))),
            Err(Errno::WOULDBLOCK) => Err(CacheError::Busy),
            Err(error) => Err(CacheError::Io { doing: "lock", path, source: error.into() }),
        }
    }
}

fn open(folder: &Path) -> std::io::Result<File> {
    let path = folder.join(FILE);
    let open = || File::options().create(true).truncate(false).write(true).open(&path);
    match open() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            fs::create_dir_all(folder)?;
            open()
        }
        opened => opened,
    }
}

/// Held by who serves the embedded registry to others: they may be putting layers there whose image comes later.
pub fn serving(registry: &Path) -> Hold {
    Hold::shared(registry)
}

/// Whether somebody serves the embedded registry.
pub(super) fn is_served(registry: &Path) -> bool {
    matches!(Hold::alone(registry), Err(CacheError::Busy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_removes_while_somebody_uses() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (Hold::shared(folder.path()), Hold::shared(folder.path()));
        assert!(matches!(Hold::alone(folder.path()), Err(CacheError::Busy)));
        drop(one);
        assert!(matches!(Hold::alone(folder.path()), Err(CacheError::Busy)));
        drop(other);
        let alone = Hold::alone(folder.path()).unwrap();
        assert!(matches!(Hold::alone(folder.path()), Err(CacheError::Busy)));
        drop(alone);
        assert!(Hold::alone(folder.path()).is_ok());
    }
}
