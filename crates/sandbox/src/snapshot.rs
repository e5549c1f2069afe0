//! Layers on disk, ready to be mounted.

use std::{
    fs,
    io::{ErrorKind, Read},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use longshore_layer::read::Compression;
use longshore_oci::{Digest, MediaType};
use rustix::{
    fs::{CWD, RenameFlags},
    io::Errno,
};

use crate::{Error, Result, extract, lease};

/// A folder of unpacked layers, each under the hexadecimal digits of its diff_id.
///
/// Whiteouts are kept as overlayfs has them for everybody (`userxattr`): character devices 0/0, and the
/// attribute `user.overlay.opaque`. Root keeps owners and modes as the layers say; an ordinary user owns
/// everything, without set-user-ID bits. The folder is closed to others. Any number of processes may use
/// one folder at once.
///
/// A new layer is not forced to the disk at once, which would cost more than unpacking it. Instead it
/// is marked with the boot of the machine in which it was made: after a crash, marked layers are made
/// again. The marks go when the layers have reached the disk.
#[derive(Clone, Debug)]
pub struct Snapshots {
    root: PathBuf,
    partial: PathBuf,
    boot: String,
}

/// The extension of a mark.
const MARK: &str = "boot";
/// By when the kernel has written most things down, so that asking for the rest is cheap.
const SETTLED: Duration = Duration::from_mins(1);

impl Snapshots {
    /// Opens a folder, made if it is missing, and removes what killed processes left half unpacked.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        let partial = root.join("partial");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&partial)
            .map_err(Error::io("make folder", &partial))?;
        let closed = fs::Permissions::from_mode(0o700);
        fs::set_permissions(&root, closed).map_err(Error::io("close to others", &root))?;
        lease::Lease::sweep(&partial).map_err(Error::io("tidy folder", &partial))?;
        let boot_id = "/proc/sys/kernel/random/boot_id";
        let boot = fs::read_to_string(boot_id).map_err(Error::io("read", boot_id))?;
        let snapshots = Self { root, partial, boot };
        let marked = snapshots.marked_before(SETTLED);
        if !marked.is_empty() {
            let root = snapshots.root.clone();
            // Nobody waits for this; if the process ends first, the next one does it.
            std::thread::spawn(move || settle(&root, &marked));
        }
        Ok(snapshots)
    }

    /// Marks of this boot that are older than `age`.
    fn marked_before(&self, age: Duration) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(&self.partial) else { return Vec::new() };
        entries
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == MARK))
            .filter(|path| {
                let old = fs::metadata(path).and_then(|metadata| metadata.modified());
                old.is_ok_and(|time| time.elapsed().is_ok_and(|elapsed| elapsed >= age))
                    && fs::read_to_string(path).is_ok_and(|boot| boot == self.boot)
            })
            .collect()
    }

    fn mark(&self, diff_id: &Digest) -> PathBuf {
        self.partial.join(diff_id.hex()).with_extension(MARK)
    }

    /// Whether a layer can have lost nothing: it has no mark, or one of this boot.
    fn is_whole(&self, diff_id: &Digest) -> bool {
        match fs::read_to_string(self.mark(diff_id)) {
            Ok(boot) => boot == self.boot,
            Err(error) => error.kind() == ErrorKind::NotFound,
        }
    }

    /// Where a layer is, if it has been unpacked.
    pub fn get(&self, diff_id: &Digest) -> Option<PathBuf> {
        let path = self.root.join(diff_id.hex());
        (path.is_dir() && self.is_whole(diff_id)).then_some(path)
    }

    /// Unpacks a layer, unless that has been done, and returns where it is. The layer appears whole or not
    /// at all, and only if the digest of its uncompressed bytes is `diff_id`. Nothing is read of a layer
    /// that is there already; of several processes with the same layer, one unpacks and the others wait.
    pub fn unpack(&self, diff_id: &Digest, media_type: &MediaType, layer: impl Read) -> Result<PathBuf> {
        if let Some(path) = self.get(diff_id) {
            return Ok(path);
        }
        let compression = Compression::of(media_type).ok_or_else(|| {
            Error::Invalid(format!(
                "layer {diff_id} has the media type `{media_type}`, which is none of a layer"
            ))
        })?;
        let busy = self.partial.join(diff_id.hex());
        let lock = lease::exclusive(&busy).map_err(Error::io("lock", &busy))?;
        if let Some(path) = self.get(diff_id) {
            return Ok(path);
        }
        if self.root.join(diff_id.hex()).exists() {
            // It may have been damaged by a crash.
            self.remove(diff_id)?;
        }
        let lease =
            lease::Lease::take(&self.partial).map_err(Error::io("make a folder in", &self.partial))?;
        let unpacked = self.unpack_into(lease.path(), diff_id, compression, layer);
        let released = lease.release().map_err(Error::io("tidy folder", &self.partial));
        let path = unpacked?;
        released?;
        // Whoever waits for the lock finds the layer now; a file of that name is needed no more.
        let _ = fs::remove_file(&busy);
        drop(lock);
        Ok(path)
    }

    fn unpack_into(
        &self,
        folder: &Path,
        diff_id: &Digest,
        compression: Compression,
        layer: impl Read,
    ) -> Result<PathBuf> {
        let tree = folder.join("tree");
        fs::DirBuilder::new().mode(0o755).create(&tree).map_err(Error::io("make folder", &tree))?;
        let found = extract::extract(diff_id, compression, layer, &tree)?;
        if found != *diff_id {
            return Err(Error::WrongLayer { wanted: *diff_id, found });
        }
        let mark = self.mark(diff_id);
        fs::write(&mark, &self.boot).map_err(Error::io("write", &mark))?;
        let path = self.root.join(diff_id.hex());
        match rustix::fs::renameat_with(CWD, &tree, CWD, &path, RenameFlags::NOREPLACE) {
            Ok(()) | Err(Errno::EXIST) => Ok(path),
            Err(error) => Err(error).map_err(Error::io("put in place", path)),
        }
    }

    /// Removes a layer. No sandbox may be using it: what that would see then is undefined.
    pub fn remove(&self, diff_id: &Digest) -> Result<()> {
        let path = self.root.join(diff_id.hex());
        let lease =
            lease::Lease::take(&self.partial).map_err(Error::io("make a folder in", &self.partial))?;
        let moved = match rustix::fs::rename(&path, lease.path().join("tree")) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error).map_err(Error::io("remove", path)),
        };
        let released = lease.release().map_err(Error::io("tidy folder", &self.partial));
        // Last: a layer whose removal is interrupted keeps its mark.
        let _ = fs::remove_file(self.mark(diff_id));
        moved.and(released)
    }
}

/// Forces what was unpacked to the disk and takes the marks away.
fn settle(root: &Path, marks: &[PathBuf]) {
    let synced = fs::File::open(root).and_then(|root| Ok(rustix::fs::syncfs(root)?));
    if synced.is_ok() {
        for mark in marks {
            let _ = fs::remove_file(mark);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpacked() -> (tempfile::TempDir, Snapshots, Digest, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::open(folder.path()).unwrap();
        let layer = vec![0; 1024];
        let diff_id = Digest::of(&layer);
        snapshots.unpack(&diff_id, &MediaType::LayerTar, &layer[..]).unwrap();
        (folder, snapshots, diff_id, layer)
    }

    #[test]
    fn what_a_crash_may_have_damaged_is_made_again() {
        let (_folder, snapshots, diff_id, layer) = unpacked();
        let torn = snapshots.get(&diff_id).unwrap().join("torn");
        fs::write(&torn, "").unwrap();
        for mark in ["another boot", ""] {
            fs::write(snapshots.mark(&diff_id), mark).unwrap();
            assert_eq!(snapshots.get(&diff_id), None);
        }
        snapshots.unpack(&diff_id, &MediaType::LayerTar, &layer[..]).unwrap();
        assert!(!torn.exists() && snapshots.get(&diff_id).is_some());
    }

    #[test]
    fn what_has_reached_the_disk_is_trusted_after_a_crash() {
        let (_folder, snapshots, diff_id, _) = unpacked();
        assert_eq!(snapshots.marked_before(SETTLED), Vec::<PathBuf>::new());
        let marked = snapshots.marked_before(Duration::ZERO);
        assert_eq!(marked, [snapshots.mark(&diff_id)]);
        settle(&snapshots.root, &marked);
        let after = Snapshots { boot: "the next boot".to_owned(), ..snapshots };
        assert!(after.get(&diff_id).is_some());
    }
}
