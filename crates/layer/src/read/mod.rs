//! Reading layers that anybody may have made.
//!
//! A layer from outside is hostile until proven otherwise: paths are checked to stay below the root, sizes and numbers
//! are limited, headers that different programs would read differently are refused. The tar headers' fields are decoded
//! by the `tar` crate; walking the archive is done here, because that crate reads extended headers of any size into
//! memory, splits PAX records at newlines and lets links have content.

mod fault;
mod header;
mod pax;
mod stream;

use std::io::{self, BufRead, Read};

use longshore_oci::Digest;

pub use fault::ReadFault;
use header::Step;
pub use stream::Compression;
use stream::Stream;

use crate::{Entry, EntryPath, Error, Result};

/// How much a layer may hold. The defaults leave room for the largest images that are in use.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimits {
    /// Entries.
    pub entries: u64,
    /// Bytes of one file.
    pub entry_size: u64,
    /// Bytes of the uncompressed archive.
    pub total_size: u64,
}

impl Default for ReadLimits {
    fn default() -> Self {
        Self { entries: 4_000_000, entry_size: 128 << 30, total_size: 256 << 30 }
    }
}

/// What an entry does to the file system below its layer (OCI image specification, "Change Types").
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Adds the entry, or replaces what was there.
    Put(Entry),
    /// Removes this path and all below it, as far as lower layers have it: a whiteout.
    Whiteout(EntryPath),
    /// Hides all that lower layers have in this directory (`None`: in the root): an opaque whiteout. It may come before or
    /// after the directory's own entries, which it leaves alone.
    Opaque(Option<EntryPath>),
}

/// What was read of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadSummary {
    /// The digest of the uncompressed bytes, all of them.
    pub diff_id: Digest,
    /// How many they are.
    pub uncompressed_size: u64,
    /// How many entries were read.
    pub entries: u64,
}

/// Reads a layer entry by entry.
///
/// ```
/// # use longshore_layer::{Entry, EntryPath, LayerWriter, read::{Change, Compression, LayerReader}};
/// # use std::io::Read;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut writer = LayerWriter::new(Vec::new());
/// writer.file(&Entry::file(EntryPath::new("app/main.py")?, 0o644), b"print()")?;
/// let (layer, written) = writer.finish()?;
///
/// let mut reader = LayerReader::new(&layer[..], Compression::Gzip)?;
/// while let Some(mut entry) = reader.next_entry()? {
///     if let Change::Put(file) = entry.change() {
///         println!("{} {} bytes", file.path, entry.size());
///     }
///     let mut content = Vec::new();
///     entry.read_to_end(&mut content)?;
/// }
/// assert_eq!(reader.finish()?.diff_id, written.diff_id);
/// # Ok(())
/// # }
/// ```
///
/// Entries come as they stand in the layer. A path may come twice; the later entry holds. An entry for the root itself
/// (`./`) is passed over, and so are the entries that AUFS kept for itself below `.wh..wh.`.
pub struct LayerReader<R: Read> {
    stream: Stream<R>,
    limits: ReadLimits,
    entries: u64,
    /// Bytes of the current entry's content that were not read, and its padding.
    content: u64,
    padding: u64,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Entries,
    Ended,
    Failed,
}

/// An entry of a layer, and its content by [`Read`] and [`BufRead`]. What is not read is passed over.
pub struct LayerEntry<'a, R: Read> {
    reader: &'a mut LayerReader<R>,
    change: Change,
    size: u64,
}

impl<R: Read> LayerReader<R> {
    /// Begins to read a layer.
    pub fn new(input: R, compression: Compression) -> Result<Self> {
        Self::within(input, compression, ReadLimits::default())
    }

    /// Begins to read a layer with other limits.
    pub fn within(input: R, compression: Compression, limits: ReadLimits) -> Result<Self> {
        let stream = Stream::new(input, compression, limits.total_size)?;
        Ok(Self { stream, limits, entries: 0, content: 0, padding: 0, state: State::Entries })
    }

    /// The next entry; `None` at the end of the archive.
    pub fn next_entry(&mut self) -> Result<Option<LayerEntry<'_, R>>> {
        match self.state {
            State::Entries => {}
            State::Ended => return Ok(None),
            State::Failed => return Err(failed_before()),
        }
        self.state = State::Failed;
        let step = self.advance()?;
        let Some((change, size)) = step else {
            self.state = State::Ended;
            return Ok(None);
        };
        self.state = State::Entries;
        Ok(Some(LayerEntry { reader: self, change, size }))
    }

    /// Passes over all that was not read, to the end of the input, and gives the digest of the uncompressed bytes.
    pub fn finish(mut self) -> Result<ReadSummary> {
        while self.next_entry()?.is_some() {}
        let (diff_id, uncompressed_size) = self.stream.finish()?;
        Ok(ReadSummary { diff_id, uncompressed_size, entries: self.entries })
    }

    fn advance(&mut self) -> Result<Option<(Change, u64)>> {
        loop {
            self.stream.skip(self.content)?;
            self.stream.skip_padding(self.padding)?;
            (self.content, self.padding) = (0, 0);
            let Some((step, size)) = header::next(&mut self.stream)? else { return Ok(None) };
            self.entries += 1;
            if self.entries > self.limits.entries {
                let fault = ReadFault::TooManyEntries { limit: self.limits.entries };
                return Err(Error::Layer { fault });
            }
            if size > self.limits.entry_size {
                let fault = ReadFault::EntryTooLarge { size, limit: self.limits.entry_size };
                return Err(Error::LayerEntry { entry: step.name(), fault });
            }
            self.content = size;
            self.padding = crate::tar::padding(size) as u64;
            if let Step::Change(change) = step {
                return Ok(Some((change, size)));
            }
        }
    }
}

/// Once something was wrong, nothing that follows has a meaning.
fn failed_before() -> Error {
    Error::Layer { fault: ReadFault::Truncated }
}

impl<R: Read> LayerEntry<'_, R> {
    /// What the entry does.
    pub const fn change(&self) -> &Change {
        &self.change
    }

    /// What the entry does, by value.
    pub fn into_change(self) -> Change {
        self.change
    }

    /// The size of its content in bytes.
    pub const fn size(&self) -> u64 {
        self.size
    }
}

impl<R: Read> Read for LayerEntry<'_, R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let next = self.fill_buf()?;
        let count = next.len().min(bytes.len());
        bytes[..count].copy_from_slice(&next[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl<R: Read> BufRead for LayerEntry<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let left = self.reader.content;
        if left == 0 {
            return Ok(&[]);
        }
        if self.reader.state == State::Failed {
            return Err(io::Error::other(failed_before()));
        }
        self.reader.state = State::Failed;
        let next = self.reader.stream.fill().map_err(io::Error::other)?;
        if next.is_empty() {
            return Err(io::Error::other(Error::Layer { fault: ReadFault::Truncated }));
        }
        self.reader.state = State::Entries;
        let count = usize::try_from(left).unwrap_or(next.len()).min(next.len());
        Ok(&next[..count])
    }

    fn consume(&mut self, count: usize) {
        self.reader.stream.consume(count);
        self.reader.content -= count as u64;
    }
}
