//! Where a layer goes: its compressed bytes, and the hashes of the plain ones.

use std::io::{self, BufWriter, Write};

use longshore_oci::{Digest, Digester};

/// Members are small; what receives them may make a system call of every write.
const BUFFER: usize = 256 * 1024;

/// Takes bytes that stand in an archive's file as well, given from which place on: an output that keeps that file need not
/// keep them twice.
pub type CopyFrom<W> = fn(&mut W, u64, &[u8]) -> io::Result<()>;

/// The compressed bytes, counted.
pub(crate) struct Output<W: Write> {
    out: BufWriter<W>,
    position: u64,
    copy: Option<CopyFrom<W>>,
}

impl<W: Write> Output<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out: BufWriter::with_capacity(BUFFER, out), position: 0, copy: None }
    }

    /// From here on, copied bytes are given to `copy`.
    pub(crate) fn copying(&mut self, copy: CopyFrom<W>) {
        self.copy = Some(copy);
    }

    /// Writes bytes that stand in the archive's file from `offset` on.
    pub(crate) fn copy(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let Some(copy) = self.copy else { return self.write_all(bytes) };
        self.out.flush()?;
        copy(self.out.get_mut(), offset, bytes)?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// How many bytes were written.
    pub(crate) const fn position(&self) -> u64 {
        self.position
    }

    pub(crate) fn into_inner(self) -> io::Result<W> {
        self.out.into_inner().map_err(io::IntoInnerError::into_error)
    }
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.position += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The plain bytes, hashed: the whole archive, and by itself the content of a file where that is asked for.
pub(crate) struct Plain {
    archive: Digester,
    file: Option<Digester>,
}

impl Plain {
    pub(crate) fn new() -> Self {
        Self { archive: Digester::new(), file: None }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.archive.update(bytes);
        if let Some(file) = &mut self.file {
            file.update(bytes);
        }
    }

    /// From here on it is the content of a file.
    pub(crate) fn begin_file(&mut self) {
        self.file = Some(Digester::new());
    }

    /// The file's digest, if one was begun.
    pub(crate) fn end_file(&mut self) -> Option<Digest> {
        self.file.take().map(Digester::finish)
    }

    /// The archive's digest and length.
    pub(crate) fn finish(self) -> (Digest, u64) {
        let length = self.archive.length();
        (self.archive.finish(), length)
    }
}
