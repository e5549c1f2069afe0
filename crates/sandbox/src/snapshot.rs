//! Layers on disk, ready to be mounted.

use std::{
    fs,
    io::Read,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
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
#[derive(Clone, Debug)]
pub struct Snapshots {
    root: PathBuf,
    partial: PathBuf,
}

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
        Ok(Self { root, partial })
    }

    /// Where a layer is, if it has been unpacked.
    pub fn get(&self, diff_id: &Digest) -> Option<PathBuf> {
        let path = self.root.join(diff_id.hex());
        path.is_dir().then_some(path)
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
        moved.and(released)
    }
}
