//! What can go wrong, in sentences.

use std::{io, path::PathBuf};

use longshore_oci::{Digest, ManifestError, MediaType};

use crate::{RecipeFault, RepositoryPath, TagOrDigest, UploadId};

/// Why a store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file system is full, or the user's quota is.
    #[error(
        "cannot {action} {path}: no space is left there; free some space or choose a folder on another disk"
    )]
    NoSpace {
        /// What was being done, e.g. `write`.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
    },
    /// The file system is mounted read-only.
    #[error("cannot {action} {path}: its file system is read-only; choose a folder that can be written")]
    ReadOnly {
        /// What was being done.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
    },
    /// The permissions do not allow it.
    #[error(
        "cannot {action} {path}: this user may not; give it to the user that runs longshore \
         or choose another folder"
    )]
    Permission {
        /// What was being done.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
    },
    /// Anything else that the system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A blob is not in the store.
    #[error("blob {digest} is not in {root}")]
    BlobMissing {
        /// The blob.
        digest: Digest,
        /// The store's folder.
        root: PathBuf,
    },
    /// A stored blob is not what its name says.
    #[error(
        "{path} is damaged: its bytes have digest {found}, not that of its name; delete the file, \
         then whatever made it can make it again"
    )]
    Damaged {
        /// The blob's file.
        path: PathBuf,
        /// The digest that its bytes have.
        found: Digest,
    },
    /// A stored blob that is composed of the bytes of another file cannot be put together.
    #[error("{path} is damaged: {fault}; delete its folder, then whatever made it can make it again")]
    Recipe {
        /// The blob's recipe.
        path: PathBuf,
        /// What is wrong.
        fault: RecipeFault,
    },
    /// Written bytes do not have the digest that they were announced with.
    #[error("the bytes written have digest {found}, but {expected} was announced; nothing was kept")]
    DigestMismatch {
        /// The digest announced.
        expected: Digest,
        /// The digest found.
        found: Digest,
    },
    /// Written bytes do not have the length that they were announced with.
    #[error("{found} bytes were written for {digest}, but {expected} were announced; nothing was kept")]
    SizeMismatch {
        /// The digest announced.
        digest: Digest,
        /// The length announced.
        expected: u64,
        /// The length found.
        found: u64,
    },
    /// A blob is larger than the reader is willing to hold.
    #[error("blob {digest} has {size} bytes, more than the {limit} that are read at most here")]
    TooLarge {
        /// The blob.
        digest: Digest,
        /// Its length.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// An earlier write to the same writer failed, so what it holds is not what was given to it.
    #[error("an earlier write failed, so there is nothing whole to commit; begin again")]
    Unfinished,
    /// Not a repository's path.
    #[error(
        "`{0}` is not a repository path: lower-case letters and digits, separated by single `.`, one or two `_`, \
         or dashes, in parts separated by `/`, 245 characters at most"
    )]
    Name(String),
    /// A repository has nothing in it.
    #[error("there is no repository {0}")]
    RepositoryUnknown(RepositoryPath),
    /// A tag or digest names no manifest in its repository.
    #[error("repository {repository} has no manifest {reference}")]
    ManifestUnknown {
        /// The repository.
        repository: RepositoryPath,
        /// The tag or digest.
        reference: TagOrDigest,
    },
    /// A manifest is longer than any registry accepts.
    #[error("the manifest has {size} bytes; a registry accepts {limit} at most")]
    ManifestTooLarge {
        /// Its length.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// A manifest does not parse.
    #[error("the manifest is refused: {0}")]
    ManifestInvalid(#[from] ManifestError),
    /// A manifest calls itself something else than what it is stored as.
    #[error("the manifest is refused: it is given as {given} but says it is {says}")]
    ManifestAmbiguous {
        /// The type that it was given with.
        given: MediaType,
        /// The type, or the fields of another type, that it has inside.
        says: String,
    },
    /// A media type that is no manifest's.
    #[error(
        "the manifest is refused: media type {0} is not an image manifest or index of OCI or Docker (schema 2)"
    )]
    ManifestUnsupported(MediaType),
    /// A manifest refers to something that is not there.
    #[error("the manifest is refused: it refers to {digest}, which repository {repository} does not have")]
    ReferenceMissing {
        /// The repository.
        repository: RepositoryPath,
        /// What is missing.
        digest: Digest,
    },
    /// A manifest refers to something by a wrong length.
    #[error("the manifest is refused: it says that {digest} has {expected} bytes, but it has {found}")]
    ReferenceSize {
        /// What it refers to.
        digest: Digest,
        /// The length that the manifest states.
        expected: u64,
        /// The length that it has.
        found: u64,
    },
    /// There is no such upload in this repository.
    #[error("there is no upload {id} in repository {repository}; begin a new one")]
    UploadUnknown {
        /// The repository.
        repository: RepositoryPath,
        /// The upload.
        id: UploadId,
    },
    /// Another request or process is writing to the upload.
    #[error("upload {0} is being written by someone else")]
    UploadBusy(UploadId),
    /// A key or value of a table that is not JSON.
    #[error("cannot store a row of {kind}: {source}")]
    Row {
        /// The kind of row.
        kind: String,
        /// What the serialiser said.
        source: serde_json::Error,
    },
    /// A kind of row that is not a plain folder name.
    #[error("`{0}` is not a kind of row: lower-case letters, digits and dashes")]
    Kind(String),
}

impl StoreError {
    /// Whether a stored blob is not what it was when it was stored.
    pub const fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Recipe { .. })
    }

    /// Sorts what the system said into the cases that a user can do something about.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace { action, path },
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { action, path },
            io::ErrorKind::PermissionDenied => Self::Permission { action, path },
            _ => Self::Io { action, path, source },
        }
    }

    /// The same as an `io::Error`, sentence included, for `Write` and `Read`.
    pub(crate) fn into_io(self) -> io::Error {
        let kind = match &self {
            Self::NoSpace { .. } => io::ErrorKind::StorageFull,
            Self::ReadOnly { .. } => io::ErrorKind::ReadOnlyFilesystem,
            Self::Permission { .. } => io::ErrorKind::PermissionDenied,
            Self::Io { source, .. } => source.kind(),
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, self)
    }
}

/// Names the file and the action of a failed system call.
pub(crate) trait Context<T> {
    fn doing(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T, StoreError>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn doing(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::io(action, path, source.into()))
    }
}
