//! Where blobs lie.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use longshore_oci::Digest;
use rustix::io::Errno;

use crate::{
    Blob, Result, StoreError,
    composed::{self, Composed, RECIPE, SOURCE},
    durability::Open,
    error::Context,
    folder,
};

/// What follows the digits in the name of a composed blob's folder.
const COMPOSED: &str = ".composed";

/// The places of a store's blobs: a file `sha256/<first two digits>/<all 64 digits>`, or for a composed one a folder of
/// that name and `.composed`.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// The store's folder.
    root: PathBuf,
    /// `sha256` in it.
    folder: PathBuf,
}

impl Layout {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), folder: root.join("sha256") }
    }

    /// The file of a blob that has one of its own.
    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.folder.join(&hex[..2]).join(hex)
    }

    /// The folder of a composed blob.
    pub(crate) fn composed(&self, digest: &Digest) -> PathBuf {
        let mut path = self.path(digest).into_os_string();
        path.push(COMPOSED);
        path.into()
    }

    /// The files that a blob is in: its own, or recipe and source.
    pub(crate) fn files(&self, digest: &Digest) -> Vec<PathBuf> {
        let path = self.path(digest);
        if path.exists() {
            return vec![path];
        }
        let folder = self.composed(digest);
        [RECIPE, SOURCE].map(|name| folder.join(name)).into_iter().filter(|path| path.exists()).collect()
    }

    /// The digests that something lies under, in ascending order.
    pub(crate) fn digests(&self) -> Result<Vec<Digest>> {
        let mut digests = Vec::new();
        for shard in folder::names(&self.folder)? {
            let names = folder::names(&self.folder.join(shard))?;
            let hexes = names.iter().map(|name| name.strip_suffix(COMPOSED).unwrap_or(name));
            digests.extend(hexes.filter_map(|hex| Digest::from_hex(hex).ok()));
        }
        digests.sort_unstable();
        digests.dedup();
        Ok(digests)
    }

    /// A blob's length. One whose files do not fit together is none.
    pub(crate) fn size_of(&self, digest: &Digest) -> Result<Option<u64>> {
        let path = self.path(digest);
        let whole = || match rustix::fs::stat(&path) {
            Ok(found) => Ok(Some(found.st_size.unsigned_abs())),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error).doing("examine", &path),
        };
        if let Some(size) = whole()? {
            return Ok(Some(size));
        }
        match Composed::open(&self.composed(digest)) {
            Ok(Some(composed)) => Ok(Some(composed.size())),
            // Another writer may have put the whole blob in the place of the composed one.
            Ok(None) => whole(),
            Err(StoreError::Recipe { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A blob, if it is there.
    pub(crate) fn open(&self, digest: &Digest) -> Result<Option<Blob>> {
        let path = self.path(digest);
        let whole = || match File::open(&path) {
            Ok(file) => Ok(Some(Blob::whole(file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).doing("open", &path),
        };
        if let Some(blob) = whole()? {
            return Ok(Some(blob));
        }
        match Composed::open(&self.composed(digest))? {
            Some(composed) => Ok(Some(Blob::composed(composed.reader()?))),
            // As above.
            None => whole(),
        }
    }

    /// Removes a blob, and what is left of one; says whether there was something.
    pub(crate) fn remove(&self, digest: &Digest) -> Result<bool> {
        let was_whole = folder::remove_file(&self.path(digest))?;
        Ok(composed::remove(&self.composed(digest))? || was_whole)
    }

    /// All that must be written to disk for a blob to be there: its files, and the folders that have their names. Nothing
    /// where there is no blob.
    pub(crate) fn to_sync(&self, digest: &Digest) -> Result<(Vec<Open>, Vec<PathBuf>)> {
        let mut files = Vec::new();
        for path in self.files(digest) {
            match File::open(&path) {
                Ok(file) => files.push((file, path)),
                // Removed meanwhile: nothing left to write.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).doing("open", path),
            }
        }
        let folder = files.first().and_then(|(_, path)| path.parent()).map(Path::to_owned);
        let folders = folder.iter().flat_map(|folder| folder::with_ancestors(folder, &self.root));
        Ok((files, folders.map(Path::to_owned).collect()))
    }
}
