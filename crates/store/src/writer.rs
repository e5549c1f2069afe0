//! Writing a blob.

use std::{
    fmt,
    io::{self, Write},
};

use longshore_oci::{Digest, Digester};

use crate::{BlobStore, Result, StoreError, error::Context, staging::Staged};

/// How much is gathered before it goes to the file.
const BUFFER: usize = 256 << 10;

/// Takes the bytes of a blob, hashes them on the way, and gives the blob its name at the end.
///
/// Until `commit` nothing is visible, and dropping the writer leaves nothing. A blob that fits into the buffer and is
/// in the store already never touches the disk. One that does not takes the place of the file that is there, which may be
/// damaged.
pub struct BlobWriter {
    store: BlobStore,
    digester: Digester,
    buffer: Vec<u8>,
    staged: Option<Staged>,
    /// Whether a write failed, so that the file lacks bytes that were hashed.
    failed: bool,
}

impl BlobWriter {
    pub(crate) fn new(store: BlobStore) -> Self {
        Self { store, digester: Digester::new(), buffer: Vec::new(), staged: None, failed: false }
    }

    /// How many bytes have been written.
    pub const fn length(&self) -> u64 {
        self.digester.length()
    }

    /// Takes the next bytes. After an error there is nothing to commit any more.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if self.failed {
            return Err(StoreError::Unfinished);
        }
        let done = self.take(bytes);
        self.failed = done.is_err();
        done
    }

    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        self.digester.update(bytes);
        if self.buffer.len() + bytes.len() > BUFFER {
            self.empty_buffer()?;
        }
        if bytes.len() < BUFFER {
            self.buffer.extend_from_slice(bytes);
            return Ok(());
        }
        let written = self.staged()?.file.write_all(bytes);
        written.doing("write a blob in", self.store.root())
    }

    fn empty_buffer(&mut self) -> Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        let written = self.staged()?.file.write_all(&buffer);
        self.buffer = buffer;
        self.buffer.clear();
        written.doing("write a blob in", self.store.root())
    }

    fn staged(&mut self) -> Result<&mut Staged> {
        Ok(match &mut self.staged {
            Some(staged) => staged,
            none => none.insert(self.store.stage()?),
        })
    }

    /// Keeps the blob under the digest of what was written, and says which and how long that is.
    pub fn commit(self) -> Result<(Digest, u64)> {
        self.finish(None, None)
    }

    /// Keeps the blob if it is the one announced: has this digest and, where one is given, this length. Keeps nothing
    /// otherwise.
    pub fn commit_as(self, digest: &Digest, size: Option<u64>) -> Result<u64> {
        self.finish(Some(digest), size).map(|(_, size)| size)
    }

    fn finish(mut self, expected: Option<&Digest>, expected_size: Option<u64>) -> Result<(Digest, u64)> {
        if self.failed {
            return Err(StoreError::Unfinished);
        }
        let size = self.digester.length();
        if let (Some(digest), Some(expected)) = (expected, expected_size)
            && size != expected
        {
            return Err(StoreError::SizeMismatch { digest: *digest, expected, found: size });
        }
        let digest = std::mem::take(&mut self.digester).finish();
        if let Some(expected) = expected
            && digest != *expected
        {
            return Err(StoreError::DigestMismatch { expected: *expected, found: digest });
        }
        let has_same = || self.staged.is_none() && self.store.holds(&digest, &self.buffer);
        if !self.store.has(&digest, size)? || !has_same() {
            self.empty_buffer()?;
            if let Some(staged) = self.staged.take() {
                self.store.publish(staged, digest)?;
            }
        }
        Ok((digest, size))
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes).map_err(StoreError::into_io)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for BlobWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobWriter").field("length", &self.length()).finish_non_exhaustive()
    }
}
