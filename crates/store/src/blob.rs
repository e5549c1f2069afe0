//! Blobs by digest.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use longshore_oci::Digest;

use crate::{
    Blob, BlobWriter, Durability, Result, StoreError,
    composed::{self, RECIPE, SOURCE},
    durability::{Marks, Open, hash},
    error::Context,
    folder,
    layout::Layout,
    staging::{Staged, StagedFolder, Staging},
};

/// Blobs in a folder, each in a file `sha256/<first two digits>/<all 64 digits>`.
///
/// One whose bytes stand in another file for the most part may be *composed*
/// ([`composing_writer`](Self::composing_writer)): a folder `<all 64 digits>.composed` has the rest and a recipe, and the
/// other file under a name of its own.
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

impl BlobStore {
    /// The blobs in `root`, which is made when something is first written. What dead processes left half-written is
    /// cleared, and blobs that a power cut may have damaged are checked.
    pub fn open(root: impl AsRef<Path>) -> Result<Self> {
        let root = std::path::absolute(root.as_ref()).doing("find", root.as_ref())?;
        let layout = Layout::new(&root);
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

    /// Where a blob is that has a file of its own, or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.shared.layout.path(digest)
    }

    /// The files that a blob is in: its own; or a recipe and the file that it refers to, which may have other names too.
    pub fn files(&self, digest: &Digest) -> Vec<PathBuf> {
        self.shared.layout.files(digest)
    }

    /// The length of a blob in bytes, if it is there.
    pub fn size_of(&self, digest: &Digest) -> Result<Option<u64>> {
        self.shared.layout.size_of(digest)
    }

    /// A blob, for reading. [`StoreError::BlobMissing`] where there is none.
    pub fn open_blob(&self, digest: &Digest) -> Result<Blob> {
        self.shared.layout.open(digest)?.ok_or_else(|| self.missing(digest))
    }

    /// A blob's bytes, checked against its digest. One longer than `limit` is refused.
    pub fn read(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let path = self.path(digest);
        let blob = self.open_blob(digest)?;
        let size = blob.size().doing("examine", &path)?;
        if size > limit {
            return Err(StoreError::TooLarge { digest: *digest, size, limit });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        blob.take(limit).read_to_end(&mut bytes).doing("read", &path)?;
        match Digest::of(&bytes) {
            found if found == *digest => Ok(bytes),
            found => Err(StoreError::Damaged { path, found }),
        }
    }

    /// Hashes a blob again; its length if it is whole.
    pub fn verify(&self, digest: &Digest) -> Result<u64> {
        match hash(&self.shared.layout, digest)? {
            Some((found, size)) if found == *digest => Ok(size),
            Some((found, _)) => {
                let path = self.files(digest).into_iter().next().unwrap_or_else(|| self.path(digest));
                Err(StoreError::Damaged { path, found })
            }
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

    /// A writer of a blob of which the greater part may stand in `source`: a file whose content never changes, in this
    /// store or another. What [`BlobWriter::copy`] says to be there is not written again; the store keeps the file by a
    /// hard link. Where that cannot be, as on another file system, the blob is written like any other.
    pub fn composing_writer(&self, source: &Blob) -> BlobWriter {
        let Some(file) = source.file().filter(|file| self.is_beside(file)) else { return self.writer() };
        match file.try_clone() {
            Ok(file) => BlobWriter::composing(self.clone(), file),
            // Written as a whole, it is as good.
            Err(_) => self.writer(),
        }
    }

    /// Whether a file is on the store's file system, as far as that can be told.
    fn is_beside(&self, file: &File) -> bool {
        // The store's folder may have to be made.
        let store = self.root().ancestors().find_map(|folder| fs::metadata(folder).ok());
        let file = file.metadata().ok();
        store.zip(file).is_some_and(|(store, file)| store.dev() == file.dev())
    }

    /// Removes a blob; says whether it was there. Whoever is reading it reads on undisturbed.
    pub fn remove(&self, digest: &Digest) -> Result<bool> {
        self.shared.layout.remove(digest)
    }

    /// The digests of all blobs, in ascending order.
    pub fn digests(&self) -> Result<Vec<Digest>> {
        self.shared.layout.digests()
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

    /// A folder for the recipe of a blob that has `source` in it already; none where it cannot.
    pub(crate) fn stage_composed(&self, source: &File) -> Result<Option<StagedFolder>> {
        self.shared.staging.begin_folder(source, SOURCE)
    }

    /// Whether what is there of a blob has these bytes, which are its own.
    pub(crate) fn holds(&self, digest: &Digest, bytes: &[u8]) -> bool {
        let mut found = Vec::new();
        self.open_blob(digest).is_ok_and(|blob| {
            blob.take(bytes.len() as u64 + 1).read_to_end(&mut found).is_ok() && found == bytes
        })
    }

    /// Gives a written file its name. Its bytes must have this digest.
    pub(crate) fn publish(&self, staged: Staged, digest: Digest) -> Result<()> {
        let Shared { marks, layout, .. } = &*self.shared;
        let path = self.path(&digest);
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
        let composed = layout.composed(&digest);
        if composed.exists() {
            // Damaged, or of another writer, which may have taken its mark for this file's and removed it.
            marks.set(&digest)?;
            composed::remove(&composed)?;
        }
        self.settle(digest)
    }

    /// Gives a recipe its name, beside its source. What they say must have this digest and length.
    pub(crate) fn publish_composed(
        &self,
        folder: &StagedFolder,
        recipe: Staged,
        digest: Digest,
        size: u64,
    ) -> Result<()> {
        let Shared { marks, layout, .. } = &*self.shared;
        let path = folder.path().join(RECIPE);
        recipe.place(&path)?;
        if !marks.are_kept() {
            for path in [path, folder.path().join(SOURCE)] {
                File::open(&path).and_then(|file| file.sync_all()).doing("write to disk", path)?;
            }
            folder.sync()?;
        }
        marks.set(&digest)?;
        let whole = self.path(&digest);
        if fs::metadata(&whole).is_ok_and(|found| found.len() != size) {
            // It is damaged, and would hide this.
            folder::remove_file(&whole)?;
        }
        let path = layout.composed(&digest);
        if !folder.place(&path)? && self.size_of(&digest)? != Some(size) {
            // What is there is damaged.
            composed::remove(&path)?;
            folder.place(&path)?;
        }
        self.settle(digest)
    }

    /// Sees to it that a blob that has just got its name is on disk when it has to be.
    fn settle(&self, digest: Digest) -> Result<()> {
        let Shared { marks, layout, .. } = &*self.shared;
        match (marks.are_kept(), self.durability) {
            (true, Durability::Deferred) => marks.settle_soon(digest),
            (true, Durability::Full) => marks.settle([&digest], Vec::new()),
            (false, _) => layout.to_sync(&digest)?.1.iter().try_for_each(|folder| folder::sync(folder)),
        }
    }
}
