//! Files on their way to their final name.
//!
//! Where the file system can, a file has no name at all while it is written (`O_TMPFILE`), so that nothing is
//! left of it when its process is killed. Elsewhere, and for what replaces an existing file (which only `rename`
//! does atomically), it has a name in `tmp/` and its writer holds a lock on it; a file there that nobody has
//! locked belongs to a dead process and is removed when the store is opened.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::{
    fs::{AtFlags, CWD, FlockOperation, Mode, OFlags},
    io::Errno,
};
use uuid::Uuid;

use crate::{Result, error::Context, folder};

/// Where files are written before they get their names: `tmp/` of a store.
#[derive(Debug)]
pub(crate) struct Staging {
    folder: Arc<Path>,
    nameless: AtomicBool,
}

impl Staging {
    /// The staging folder of the store at `root`, made at the first write. Clears what dead processes left.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let folder = root.join("tmp");
        for name in folder::names(&folder)? {
            remove_if_abandoned(&folder.join(name));
        }
        Ok(Self { folder: folder.into(), nameless: AtomicBool::new(nameless_files_can_be_linked()) })
    }

    /// A new file for a name that nothing has yet.
    pub(crate) fn begin(&self) -> Result<Staged> {
        if self.nameless.load(Ordering::Relaxed) {
            match self.open_in(&self.folder, OFlags::TMPFILE) {
                Ok(file) => return Ok(Staged { file, name: None, folder: Arc::clone(&self.folder) }),
                // Not every file system has them; a kernel that does not know the flag takes it for O_DIRECTORY.
                Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                    self.nameless.store(false, Ordering::Relaxed);
                }
                Err(error) => return Err(error).doing("create a file in", &*self.folder),
            }
        }
        self.begin_named()
    }

    /// A new file that may replace another.
    pub(crate) fn begin_named(&self) -> Result<Staged> {
        loop {
            let name = unused_name(&self.folder);
            let file = self.open_in(&name, OFlags::CREATE | OFlags::EXCL).doing("create", &name)?;
            rustix::fs::flock(&file, FlockOperation::LockExclusive).doing("lock", &name)?;
            // Between the two calls another process may have taken it for abandoned.
            if rustix::fs::fstat(&file).doing("examine", &name)?.st_nlink > 0 {
                return Ok(Staged { file, name: Some(name), folder: Arc::clone(&self.folder) });
            }
        }
    }

    /// Opens a new file in the staging folder, which is made when it is missing.
    fn open_in(&self, path: &Path, how: OFlags) -> Result<File, Errno> {
        let open = || {
            let flags = how | OFlags::RDWR | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::from_raw_mode(0o644)).map(File::from)
        };
        match open() {
            Err(Errno::NOENT) => {
                folder::create(&self.folder)?;
                open()
            }
            opened => opened,
        }
    }

    /// A new folder that has `file` under `name`; none where the file cannot have another name there: another file system,
    /// one without hard links, a file of another user.
    pub(crate) fn begin_folder(&self, file: &File, name: &str) -> Result<Option<StagedFolder>> {
        let path = unused_name(&self.folder);
        folder::create(&path).doing("create the folder", &path)?;
        let staged = match File::open(&path) {
            Ok(lock) => StagedFolder { path, lock },
            // Before it was locked, another process took it for abandoned.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).doing("open", path),
        };
        rustix::fs::flock(&staged.lock, FlockOperation::LockExclusive).doing("lock", &staged.path)?;
        Ok(link(file, &staged.path.join(name)).is_ok().then_some(staged))
    }

    /// A new file with these bytes that may replace another, e.g. `target`.
    pub(crate) fn write(&self, target: &Path, bytes: &[u8]) -> Result<Staged> {
        let mut staged = self.begin_named()?;
        staged.file.write_all(bytes).doing("write", target)?;
        Ok(staged)
    }
}

/// A file on its way. Dropped, it is gone.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) file: File,
    /// Its name in the staging folder, if it has one.
    name: Option<PathBuf>,
    folder: Arc<Path>,
}

impl Staged {
    /// A file with a name of its own, locked by its owner, that is to get another name.
    pub(crate) fn adopt(file: File, name: PathBuf) -> Self {
        let folder = name.parent().unwrap_or(&name).into();
        Self { file, name: Some(name), folder }
    }

    /// The file once more, to be written to disk together with others.
    pub(crate) fn reopen(&self, target: &Path) -> Result<(File, PathBuf)> {
        Ok((self.file.try_clone().doing("write", target)?, target.to_owned()))
    }

    /// Writes the bytes to disk, on behalf of `target`.
    pub(crate) fn sync(&self, target: &Path) -> Result<()> {
        rustix::fs::fdatasync(&self.file).doing("write to disk", target)
    }

    /// Gives the file the name `target`; another file that has it stays. The folder of `target` is made when it is missing.
    pub(crate) fn place(self, target: &Path) -> Result<()> {
        if self.name.is_some() {
            // Not linkat: file systems without nameless files are often without hard links too. Two writers that
            // both see nothing there replace one right file with another.
            if target.try_exists().doing("examine", target)? {
                return Ok(());
            }
            return self.replace(target);
        }
        match in_its_folder(target, || link(&self.file, target)) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error).doing("create", target),
        }
    }

    /// Gives the file the name `target`, in place of what has that name now.
    pub(crate) fn replace(mut self, target: &Path) -> Result<()> {
        let name = if let Some(name) = &self.name {
            name.clone()
        } else {
            let name = unused_name(&self.folder);
            rustix::fs::flock(&self.file, FlockOperation::LockExclusive).doing("lock", &name)?;
            link(&self.file, &name).doing("create", &name)?;
            self.name.insert(name).clone()
        };
        in_its_folder(target, || rustix::fs::rename(&name, target)).doing("create", target)?;
        self.name = None;
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // What cannot be removed now is removed as abandoned later.
            let _ = fs::remove_file(name);
        }
    }
}

/// A folder on its way. Dropped, it is gone.
#[derive(Debug)]
pub(crate) struct StagedFolder {
    path: PathBuf,
    /// The folder itself, locked as long as its writer lives.
    lock: File,
}

impl StagedFolder {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the folder the name `target`, unless another folder has it that is not empty; says whether it did.
    pub(crate) fn place(&self, target: &Path) -> Result<bool> {
        match in_its_folder(target, || rustix::fs::rename(&self.path, target)) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST | Errno::NOTEMPTY) => Ok(false),
            Err(error) => Err(error).doing("create", target),
        }
    }

    /// Writes the names in it to disk.
    pub(crate) fn sync(&self) -> Result<()> {
        self.lock.sync_all().doing("write to disk", &self.path)
    }
}

impl Drop for StagedFolder {
    fn drop(&mut self) {
        // Once it has its place there is nothing under this name. What cannot be removed now is removed as abandoned later.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A name in the staging folder that no other writer on any machine chooses.
fn unused_name(folder: &Path) -> PathBuf {
    folder.join(Uuid::now_v7().to_string())
}

/// Gives a nameless file a name (open(2), `O_TMPFILE`).
fn link(file: &File, target: &Path) -> Result<(), Errno> {
    let source = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::linkat(CWD, source.as_str(), CWD, target, AtFlags::SYMLINK_FOLLOW)
}

/// Linking goes through `/proc`, which a container may lack.
fn nameless_files_can_be_linked() -> bool {
    Path::new("/proc/self/fd").is_dir()
}

/// Does something that needs `target`'s folder, and makes the folder when that is what it failed for.
fn in_its_folder(target: &Path, attempt: impl Fn() -> Result<(), Errno>) -> Result<(), Errno> {
    match (attempt(), target.parent()) {
        (Err(Errno::NOENT), Some(parent)) => {
            folder::create(parent)?;
            attempt()
        }
        (result, _) => result,
    }
}

/// Removes a staged file or folder unless its writer lives: a writer holds a lock.
fn remove_if_abandoned(path: &Path) {
    let Ok(file) = File::open(path) else { return };
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
        // Best effort: the folder may be read-only, and nobody waits for this.
        let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn staging(nameless: bool) -> (tempfile::TempDir, Staging) {
        let root = tempfile::tempdir().unwrap();
        let staging = Staging::open(root.path()).unwrap();
        staging.nameless.store(nameless, Ordering::Relaxed);
        (root, staging)
    }

    fn names(staging: &Staging) -> usize {
        folder::names(&staging.folder).unwrap().len()
    }

    /// Both ways to a final name, on every file system that the tests run on.
    #[test]
    fn a_file_appears_whole_and_leaves_nothing_behind() {
        for nameless in [true, false] {
            let (root, staging) = staging(nameless);
            let target = root.path().join("a/b/c");
            let mut staged = staging.begin().unwrap();
            assert_eq!(names(&staging), usize::from(!nameless));
            staged.file.write_all(b"first").unwrap();
            assert!(!target.exists());
            staged.place(&target).unwrap();
            assert_eq!(fs::read(&target).unwrap(), b"first");

            let mut second = staging.begin().unwrap();
            second.file.write_all(b"second").unwrap();
            second.place(&target).unwrap();
            assert_eq!(fs::read(&target).unwrap(), b"first", "place does not replace");

            let mut third = staging.begin().unwrap();
            third.file.write_all(b"third").unwrap();
            third.replace(&target).unwrap();
            assert_eq!(fs::read(&target).unwrap(), b"third");

            drop(staging.begin().unwrap());
            assert_eq!(names(&staging), 0, "nameless: {nameless}");
        }
    }

    #[test]
    fn a_folder_appears_with_the_file_in_it_or_not_at_all() {
        let (root, staging) = staging(true);
        let (target, source) = (root.path().join("a/b/c"), root.path().join("source"));
        fs::write(&source, "bytes").unwrap();
        let file = File::open(&source).unwrap();
        let begin = || staging.begin_folder(&file, "name").unwrap().unwrap();
        let first = begin();
        assert!(!target.exists());
        Staging::open(root.path()).unwrap();
        assert!(first.place(&target).unwrap());
        assert!(!begin().place(&target).unwrap());
        drop(begin());
        assert_eq!((fs::read(target.join("name")).unwrap(), names(&staging)), (b"bytes".to_vec(), 0));
        fs::create_dir(staging.folder.join("left")).unwrap();
        Staging::open(root.path()).unwrap();
        assert_eq!(names(&staging), 0);
        fs::remove_file(&source).unwrap();
        fs::remove_file(target.join("name")).unwrap();
        assert!(staging.begin_folder(&file, "name").unwrap().is_none(), "a file without a name gets none");
        assert_eq!(names(&staging), 0);
    }

    #[test]
    fn only_what_dead_writers_left_is_cleared() {
        let (root, staging) = staging(false);
        let mut living = staging.begin().unwrap();
        living.file.write_all(b"alive").unwrap();
        fs::write(staging.folder.join("left"), "half").unwrap();
        Staging::open(root.path()).unwrap();
        assert_eq!(names(&staging), 1);
        let target = root.path().join("x");
        living.place(&target).unwrap();
        assert_eq!(fs::read(target).unwrap(), b"alive");
    }
}
