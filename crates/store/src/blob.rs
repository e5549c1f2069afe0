//! Blobs by digest.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use longshore_oci::Digest;

use crate::{
    BlobWriter, Durability, Result, StoreError,
    durability::{Marks, Open, hash},
    error::Context,
    folder,
    staging::{Staged, Staging},
};

/// Blobs in a folder, each in a file `sha256/<first two digits>/<all 64 digits>`.
///
/// Handles are cheap to clone, and any number of processes may use the same folder. A blob that is there has the
/// bytes that its name says, as far as the disk keeps them; [`read`](Self::read) and [`verify`](Self::verify)
/// look again.
#[derive(Clone, Debug)]
pub struct BlobStore {
    shared: Arc<Shared>,
    durability: Durability,
}

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    layout: Layout,
    staging: Staging,
    marks: Marks,
}

/// Where blobs lie.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// The store's folder.
    root: PathBuf,
    /// `sha256` in it.
    folder: PathBuf,
}

impl Layout {
    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.folder.join(&hex[..2]).join(hex)
    }

    /// The folders that must be on disk for the blob to have its name there.
    pub(crate) fn folders(&self, digest: &Digest) -> Vec<PathBuf> {
        let path = self.path(digest);
        path.parent()
            .map(|folder| folder::with_ancestors(folder, &self.root).map(Path::to_owned).collect())
            .unwrap_or_default()
    }
}

impl BlobStore {
    /// The blobs in `root`, which is made when something is first written. What dead processes left half-written is
    /// cleared, and blobs that a power cut may have damaged are checked.
    pub fn open(root: impl AsRef<Path>) -> Result<Self> {
        let root = std::path::absolute(root.as_ref()).doing("find", root.as_ref())?;
        let layout = Layout { folder: root.join("sha256"), root: root.clone() };
        let staging = Staging::open(&root)?;
        let marks = Marks::open(&root, layout.clone())?;
        Ok(Self { shared: Arc::new(Shared { root, layout, staging, marks }), durability: Durability::Full })
    }

    /// The same store, whose writers are durable as said. A new store's are [`Durability::Full`].
    pub fn with_durability(&self, durability: Durability) -> Self {
        Self { shared: Arc::clone(&self.shared), durability }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.shared.root
    }

    /// Where a blob is, or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.shared.layout.path(digest)
    }

    /// The length of a blob in bytes, if it is there.
    pub fn size_of(&self, digest: &Digest) -> Result<Option<u64>> {
        let path = self.path(digest);
        match rustix::fs::stat(&path) {
            Ok(found) => Ok(Some(found.st_size.unsigned_abs())),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(error).doing("examine", path),
        }
    }

    /// A blob's file, for reading. [`StoreError::BlobMissing`] where there is none.
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        let path = self.path(digest);
        match File::open(&path) {
            Ok(file) => Ok(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(self.missing(digest)),
            Err(error) => Err(error).doing("open", path),
        }
    }

    /// A blob's bytes, checked against its digest. One longer than `limit` is refused.
    pub fn read(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let path = self.path(digest);
        let file = self.open_blob(digest)?;
        let size = file.metadata().doing("examine", &path)?.len();
        if size > limit {
            return Err(StoreError::TooLarge { digest: *digest, size, limit });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        file.take(limit).read_to_end(&mut bytes).doing("read", &path)?;
        match Digest::of(&bytes) {
            found if found == *digest => Ok(bytes),
            found => Err(StoreError::Damaged { path, found }),
        }
    }

    /// Hashes a blob again; its length if it is whole.
    pub fn verify(&self, digest: &Digest) -> Result<u64> {
        let path = self.path(digest);
        match hash(&path)? {
            Some((found, size)) if found == *digest => Ok(size),
            Some((found, _)) => Err(StoreError::Damaged { path, found }),
            None => Err(self.missing(digest)),
        }
    }

    /// Keeps `bytes`, in place of a damaged blob if there is one.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if !self.has(&digest, bytes.len() as u64)? || !self.holds(&digest, bytes) {
            let mut staged = self.stage()?;
            io::Write::write_all(&mut staged.file, bytes).doing("write", self.path(&digest))?;
            self.publish(staged, digest)?;
        }
        Ok(digest)
    }

    /// A writer of a blob whose digest is not known yet.
    pub fn writer(&self) -> BlobWriter {
        BlobWriter::new(self.clone())
    }

    /// Removes a blob; says whether it was there. Whoever is reading it reads on undisturbed.
    pub fn remove(&self, digest: &Digest) -> Result<bool> {
        folder::remove_file(&self.path(digest))
    }

    /// The digests of all blobs, in ascending order.
    pub fn digests(&self) -> Result<Vec<Digest>> {
        let mut digests = Vec::new();
        for shard in folder::names(&self.shared.layout.folder)? {
            let names = folder::names(&self.shared.layout.folder.join(shard))?;
            digests.extend(names.iter().filter_map(|name| Digest::from_hex(name).ok()));
        }
        digests.sort_unstable();
        Ok(digests)
    }

    /// Returns once those of the blobs that are in the store are on disk, whoever wrote them.
    pub fn sync<'a>(&self, digests: impl IntoIterator<Item = &'a Digest>) -> Result<()> {
        self.shared.marks.settle(digests, Vec::new())
    }

    /// The same, together with other files.
    pub(crate) fn sync_with(&self, digests: &[Digest], others: Vec<Open>) -> Result<()> {
        self.shared.marks.settle(digests, others)
    }

    pub(crate) fn missing(&self, digest: &Digest) -> StoreError {
        StoreError::BlobMissing { digest: *digest, root: self.shared.root.clone() }
    }

    pub(crate) fn stage(&self) -> Result<Staged> {
        self.shared.staging.begin()
    }

    pub(crate) fn staging(&self) -> &Staging {
        &self.shared.staging
    }

    /// Whether there is nothing left to do for a blob about to be committed.
    pub(crate) fn has(&self, digest: &Digest, size: u64) -> Result<bool> {
        if self.size_of(digest)? != Some(size) {
            return Ok(false);
        }
        if self.durability == Durability::Full {
            self.sync([digest])?;
        }
        Ok(true)
    }

    /// Whether the file of a blob has these bytes, which are its own.
    pub(crate) fn holds(&self, digest: &Digest, bytes: &[u8]) -> bool {
        std::fs::read(self.path(digest)).is_ok_and(|found| found == bytes)
    }

    /// Gives a written file its name. Its bytes must have this digest.
    pub(crate) fn publish(&self, staged: Staged, digest: Digest) -> Result<()> {
        let Shared { marks, .. } = &*self.shared;
        let path = self.path(&digest);
        let deferred = self.durability == Durability::Deferred && marks.are_kept();
        if !marks.are_kept() {
            staged.sync(&path)?;
        }
        marks.set(&digest)?;
        match self.size_of(&digest)? {
            // A file that is there may be damaged, and is mended by this.
            Some(_) => staged.replace(&path)?,
            // Another file, if one is there by now, may not be on disk yet; what follows sees to that.
            None => staged.place(&path)?,
        }
        if deferred {
            return marks.settle_soon(digest);
        }
        if marks.are_kept() {
            marks.settle([&digest], Vec::new())
        } else {
            self.shared.layout.folders(&digest).iter().try_for_each(|folder| folder::sync(folder))
        }
    }
}
