//! The blobs of this machine as where images are pushed from and pulled to.

use std::io::{self, Read, Seek as _, SeekFrom};

use longshore_client::{BlobSource, BlobWriter, CommitError, ImageSink, ImageSource, Verification};
use longshore_oci::{Descriptor, Digest};
use longshore_store::{BlobStore, Registry, RepositoryPath, StoreError};

/// The largest manifest that is read back.
const LARGEST_MANIFEST: u64 = 8 << 20;

/// An image whose blobs, its manifests among them, are in a store.
#[derive(Clone, Debug)]
pub struct StoredImage {
    blobs: BlobStore,
    root: Descriptor,
}

impl StoredImage {
    /// The image with that manifest or index.
    pub fn new(blobs: BlobStore, root: Descriptor) -> Self {
        Self { blobs, root }
    }
}

impl BlobSource for StoredImage {
    fn open(&self, blob: &Descriptor, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let mut file = self.blobs.open_blob(&blob.digest).map_err(io::Error::other)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(file))
    }
}

impl ImageSource for StoredImage {
    fn root(&self) -> Descriptor {
        self.root.clone()
    }

    fn manifest(&self, descriptor: &Descriptor) -> io::Result<Vec<u8>> {
        self.blobs.read(&descriptor.digest, LARGEST_MANIFEST).map_err(io::Error::other)
    }
}

/// Removes a blob that is not what its name says, which nobody has a use for; says whether it was so. Where it is missing it
/// is made or fetched again.
pub(crate) fn remove_damaged(blobs: &BlobStore, digest: &Digest) -> Result<bool, StoreError> {
    match blobs.verify(digest) {
        Err(StoreError::Damaged { path, found }) => {
            tracing::warn!(path = %path.display(), %found, "a damaged file is removed");
            blobs.remove(digest)
        }
        Ok(_) | Err(StoreError::BlobMissing { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Keeps pulled images as blobs, their manifests among them.
#[derive(Clone, Debug)]
pub struct BlobSink(pub BlobStore);

impl ImageSink for BlobSink {
    fn has(&self, blob: &Descriptor) -> io::Result<bool> {
        Ok(self.0.size_of(&blob.digest).map_err(io::Error::other)? == Some(blob.size))
    }

    fn writer(&self, _: &Descriptor) -> io::Result<Box<dyn BlobWriter>> {
        Ok(Box::new(Writer(self.0.writer())))
    }

    fn manifest(&self, _: &Descriptor, bytes: &[u8]) -> io::Result<()> {
        self.0.put(bytes).map(drop).map_err(io::Error::other)
    }
}

/// Keeps pulled images in a repository of the embedded registry.
#[derive(Clone, Debug)]
pub struct RegistrySink {
    blobs: BlobSink,
    registry: Registry,
    repository: RepositoryPath,
}

impl RegistrySink {
    /// The manifests go into that repository, without a tag.
    pub fn new(registry: Registry, repository: RepositoryPath) -> Self {
        Self { blobs: BlobSink(registry.blobs().clone()), registry, repository }
    }
}

impl ImageSink for RegistrySink {
    fn has(&self, blob: &Descriptor) -> io::Result<bool> {
        self.blobs.has(blob)
    }

    fn writer(&self, blob: &Descriptor) -> io::Result<Box<dyn BlobWriter>> {
        self.blobs.writer(blob)
    }

    fn manifest(&self, descriptor: &Descriptor, bytes: &[u8]) -> io::Result<()> {
        let put = self.registry.put_manifest(&self.repository, bytes, &descriptor.media_type, None);
        put.map(drop).map_err(io::Error::other)
    }
}

/// A blob on its way into the store, which hashes what it takes.
struct Writer(longshore_store::BlobWriter);

impl BlobWriter for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.append(bytes).map_err(io::Error::other)
    }

    fn commit(self: Box<Self>, digest: &Digest) -> Result<(), CommitError> {
        match self.0.commit_as(digest, None) {
            Ok(_) => Ok(()),
            Err(StoreError::DigestMismatch { found, .. }) => Err(CommitError::WrongDigest(found)),
            Err(other) => Err(CommitError::Io(io::Error::other(other))),
        }
    }

    fn verification(&self) -> Verification {
        Verification::Writer
    }
}
