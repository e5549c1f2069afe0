//! Where images come from and go to, other than registries.

use std::io::{self, Read};

use longshore_oci::{Descriptor, Digest};

/// Has blobs, each readable as often as need be. The methods may block; they are called where that is allowed.
pub trait BlobSource: Send + Sync + 'static {
    /// A blob's bytes from `offset` on.
    fn open(&self, blob: &Descriptor, offset: u64) -> io::Result<Box<dyn Read + Send>>;
}

/// Has an image.
pub trait ImageSource: BlobSource {
    /// The image's manifest, or its index, which stands for several.
    fn root(&self) -> Descriptor;

    /// The bytes of the root, and of the manifests that an index lists.
    fn manifest(&self, descriptor: &Descriptor) -> io::Result<Vec<u8>>;
}

/// Keeps an image. The methods may block; they are called where that is allowed.
pub trait ImageSink: Send + Sync + 'static {
    /// Whether it has a blob already, of that digest and size.
    fn has(&self, blob: &Descriptor) -> io::Result<bool>;

    /// Begins to write a blob. A writer that is dropped leaves nothing.
    fn writer(&self, blob: &Descriptor) -> io::Result<Box<dyn BlobWriter>>;

    /// Keeps a manifest, whose digest was compared. Those that an index lists come before it, and everything that a
    /// manifest names before the manifest.
    fn manifest(&self, descriptor: &Descriptor, bytes: &[u8]) -> io::Result<()>;
}

/// A blob that is being written.
pub trait BlobWriter: Send + 'static {
    /// Takes the next bytes.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Keeps the blob under its digest.
    fn commit(self: Box<Self>, digest: &Digest) -> Result<(), CommitError>;

    /// Who compares the digest before a blob is kept. Content-addressed stores that hash what they write say
    /// [`Verification::Writer`], so that nothing is hashed twice.
    fn verification(&self) -> Verification {
        Verification::Client
    }
}

/// Who compares the digest of received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verification {
    /// The client does: `commit` is called for the right bytes only.
    Client,
    /// The writer does: `commit` fails for the wrong bytes.
    Writer,
}

/// Why a blob was not kept.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// It has another digest.
    #[error("its digest is {0}")]
    WrongDigest(Digest),
    /// It cannot be kept.
    #[error(transparent)]
    Io(#[from] io::Error),
}
