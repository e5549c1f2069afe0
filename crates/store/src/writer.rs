//! Writing a blob.

use std::{
    fmt,
    fs::File,
    io::{self, Write},
    os::unix::fs::FileExt as _,
};

use longshore_oci::{Digest, Digester};

use crate::{
    Blob, BlobStore, Result, StoreError, composed::Composed, error::Context, recipe::Draft, staging::Staged,
};

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
    /// What is not written, if the blob is composed. Buffer and file have the rest.
    composition: Option<Composition>,
    /// Whether a write failed, so that the file lacks bytes that were hashed.
    failed: bool,
}

/// What of a blob stands in another file.
struct Composition {
    source: File,
    draft: Draft,
    /// Bytes of the source, for comparison.
    there: Vec<u8>,
}

impl Composition {
    /// Whether these bytes need not be written: they are those of the source from `offset` on, and it is worth it.
    fn takes(&mut self, offset: u64, bytes: &[u8]) -> bool {
        if !self.draft.would_refer(offset, bytes.len() as u64) {
            return false;
        }
        self.there.resize(bytes.len(), 0);
        // What cannot be read there is written.
        let is_there = self.source.read_exact_at(&mut self.there, offset).is_ok() && self.there == bytes;
        if is_there {
            self.draft.refer(offset, bytes.len() as u64);
        }
        is_there
    }
}

impl BlobWriter {
    pub(crate) fn new(store: BlobStore) -> Self {
        Self {
            store,
            digester: Digester::new(),
            buffer: Vec::new(),
            staged: None,
            composition: None,
            failed: false,
        }
    }

    pub(crate) fn composing(store: BlobStore, source: File) -> Self {
        let composition = Composition { source, draft: Draft::default(), there: Vec::new() };
        Self { composition: Some(composition), ..Self::new(store) }
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
        self.digester.update(bytes);
        if let Some(composition) = &mut self.composition {
            composition.draft.literal(bytes.len() as u64);
        }
        let done = self.keep(bytes);
        self.failed = done.is_err();
        done
    }

    /// Takes the next bytes, which stand in the source of a [composing](BlobStore::composing_writer) writer from `offset`
    /// on, and need not be written where they do. Another writer takes them as [`append`](Self::append) does.
    pub fn copy(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let is_there = !self.failed
            && self.composition.as_mut().is_some_and(|composition| composition.takes(offset, bytes));
        if !is_there {
            return self.append(bytes).map_err(StoreError::into_io);
        }
        self.digester.update(bytes);
        Ok(())
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<()> {
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
        let composition = self.composition.take().filter(|composition| !composition.draft.is_literal());
        // What is there under its name may be damaged, which this then mends.
        if self.store.has(&digest, size)? {
            let seen = match self.staged {
                None if self.store.holds(&digest, &self.buffer) => Ok(size),
                _ => self.store.verify(&digest),
            };
            match seen {
                Ok(_) => return Ok((digest, size)),
                Err(error) if error.is_damage() && composition.is_some() => {
                    self.store.remove(&digest)?;
                }
                // It is replaced; or it has just gone, and comes again.
                Err(_) => {}
            }
        }
        if let Some(Composition { source, draft, .. }) = &composition {
            let length = source.metadata().doing("examine the source of a blob in", self.store.root())?.len();
            self.keep(&draft.finish(length))?;
        }
        self.empty_buffer()?;
        match (composition, self.staged.take()) {
            (Some(Composition { source, .. }), Some(recipe)) => {
                self.compose(recipe, &source, digest, size)?;
            }
            (None, Some(staged)) => self.store.publish(staged, digest)?,
            // Emptying the buffer has made the file.
            (_, None) => {}
        }
        Ok((digest, size))
    }

    /// Keeps a composed blob; as a whole, where its source cannot be kept with it.
    fn compose(&self, recipe: Staged, source: &File, digest: Digest, size: u64) -> Result<()> {
        if let Some(folder) = self.store.stage_composed(source)? {
            return self.store.publish_composed(&folder, recipe, digest, size);
        }
        let (root, doing) = (self.store.root(), "write a blob in");
        let copies = (recipe.file.try_clone().doing(doing, root)?, source.try_clone().doing(doing, root)?);
        let mut blob = Blob::composed(Composed::of(copies, root)?.reader()?);
        let mut whole = Self::new(self.store.clone());
        io::copy(&mut blob, &mut whole).doing(doing, root)?;
        whole.commit_as(&digest, Some(size)).map(drop)
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
