//! Uploads that survive the connection, and the process, that began them.

use std::{
    fmt, fs,
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    str::FromStr,
    time::{Duration, SystemTime},
};

use longshore_oci::{Digest, Digester};
use rustix::{fs::FlockOperation, io::Errno};
use uuid::Uuid;

use crate::{BlobStore, RepositoryPath, Result, StoreError, error::Context, folder, staging::Staged};

/// The name of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UploadId(Uuid);

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for UploadId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::try_parse(text).map(Self)
    }
}

/// The unfinished uploads of a registry: `<id>/data` with the bytes so far, and `<id>/repository`.
#[derive(Clone, Debug)]
pub struct Uploads {
    folder: PathBuf,
    blobs: BlobStore,
}

impl Uploads {
    pub(crate) const fn new(folder: PathBuf, blobs: BlobStore) -> Self {
        Self { folder, blobs }
    }

    /// Begins an upload to a repository.
    pub fn begin(&self, repository: &RepositoryPath) -> Result<Upload> {
        let id = UploadId(Uuid::now_v7());
        let folder = self.folder.join(id.to_string());
        folder::create(&folder).doing("create the folder", &folder)?;
        let path = folder.join("repository");
        fs::write(&path, repository.as_str()).doing("write", &path)?;
        let path = folder.join("data");
        let file =
            File::options().append(true).read(true).create_new(true).open(&path).doing("create", &path)?;
        lock(&file, &path, id)?;
        let blobs = self.blobs.clone();
        Ok(Upload { id, repository: repository.clone(), path, file, digester: Digester::new(), blobs })
    }

    /// Takes up an upload where it stands. Its bytes so far are hashed again.
    pub fn resume(&self, repository: &RepositoryPath, id: UploadId) -> Result<Upload> {
        let path = self.find(repository, id)?;
        let mut file = match File::options().append(true).read(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::UploadUnknown { repository: repository.clone(), id });
            }
            opened => opened.doing("open", &path)?,
        };
        lock(&file, &path, id)?;
        let mut digester = Digester::new();
        let mut buffer = vec![0; 256 << 10];
        loop {
            match file.read(&mut buffer).doing("read", &path)? {
                0 => break,
                length => digester.update(&buffer[..length]),
            }
        }
        let blobs = self.blobs.clone();
        Ok(Upload { id, repository: repository.clone(), path, file, digester, blobs })
    }

    /// How many bytes an upload has so far.
    pub fn length(&self, repository: &RepositoryPath, id: UploadId) -> Result<u64> {
        let path = self.find(repository, id)?;
        Ok(fs::metadata(&path).doing("examine", &path)?.len())
    }

    /// Removes an upload and its bytes, even under the hands of who is writing it.
    pub fn cancel(&self, repository: &RepositoryPath, id: UploadId) -> Result<()> {
        let path = self.find(repository, id)?;
        remove(&path)
    }

    /// Removes the uploads that nobody is writing and nobody has written to for so long.
    pub fn remove_stale(&self, unused_for: Duration) -> Result<usize> {
        let mut removed = 0;
        for name in folder::names(&self.folder)? {
            let path = self.folder.join(name).join("data");
            let Ok(file) = File::open(&path) else { continue };
            let touched = file.metadata().and_then(|metadata| metadata.modified()).doing("examine", &path)?;
            let age = SystemTime::now().duration_since(touched).unwrap_or_default();
            if age >= unused_for && rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
            {
                remove(&path)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// The data file of an upload of this repository.
    fn find(&self, repository: &RepositoryPath, id: UploadId) -> Result<PathBuf> {
        let folder = self.folder.join(id.to_string());
        match fs::read_to_string(folder.join("repository")) {
            Ok(owner) if owner == repository.as_str() && folder.join("data").exists() => {
                Ok(folder.join("data"))
            }
            _ => Err(StoreError::UploadUnknown { repository: repository.clone(), id }),
        }
    }
}

fn lock(file: &File, path: &Path, id: UploadId) -> Result<()> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Err(StoreError::UploadBusy(id)),
        locked => locked.doing("lock", path),
    }
}

/// Removes an upload, given its data file.
fn remove(data: &Path) -> Result<()> {
    let Some(folder) = data.parent() else { return Ok(()) };
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).doing("remove", folder),
        _ => Ok(()),
    }
}

/// An upload that is being written. Nobody else can write to it; dropped, it stays on disk and can be resumed.
#[derive(Debug)]
pub struct Upload {
    id: UploadId,
    repository: RepositoryPath,
    path: PathBuf,
    file: File,
    digester: Digester,
    blobs: BlobStore,
}

impl Upload {
    /// Its name.
    pub const fn id(&self) -> UploadId {
        self.id
    }

    /// The repository that it belongs to.
    pub const fn repository(&self) -> &RepositoryPath {
        &self.repository
    }

    /// How many bytes it has so far.
    pub const fn length(&self) -> u64 {
        self.digester.length()
    }

    /// Adds bytes. After an error, drop it and [`resume`](Uploads::resume): the disk decides how far it got.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).doing("write", &self.path)?;
        self.digester.update(bytes);
        Ok(())
    }

    /// Ends the upload. The blob is kept if it has this digest; if not, nothing is.
    pub(crate) fn commit_as(self, digest: &Digest) -> Result<u64> {
        let Self { path, file, digester, blobs, .. } = self;
        let size = digester.length();
        let found = digester.finish();
        // From here on the file goes, one way or the other.
        let staged = Staged::adopt(file, path.clone());
        if found != *digest {
            drop(staged);
            remove(&path)?;
            return Err(StoreError::DigestMismatch { expected: *digest, found });
        }
        if blobs.has(digest, size)? {
            drop(staged);
        } else {
            blobs.publish(staged, *digest)?;
        }
        remove(&path)?;
        Ok(size)
    }
}
