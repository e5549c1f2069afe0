//! A strict reader of zip archives (PKWARE APPNOTE 6.3.10), for wheels.
//!
//! A zip archive says everything twice, and programs that believe different halves see different archives. So this
//! reader accepts an archive only if there is one way to read it: local headers and central directory agree, entries
//! lie one after the other from the first byte of the file to the central directory, and the end record is the end of
//! the file. What honest wheels do not have is refused: comments, encryption, several disks, symbolic links, names that
//! are absolute, lead upwards or collide.

mod fault;
mod layout;
mod open;
mod record;

use std::io::{Read, Seek, SeekFrom, Take};

pub use fault::ZipFault;

use crate::{
    EntryPath, Error, Result,
    content::read_full,
    inflate::{Inflater, Sink},
};

/// How an entry's content is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// As it is: method 0.
    Stored,
    /// A DEFLATE stream: method 8.
    Deflate,
    /// Something else, whose content cannot be read here.
    Other(u16),
}

/// What an entry is. The name decides: directories end in `/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZipKind {
    /// A file.
    File,
    /// A directory.
    Directory,
}

/// One entry of a zip archive. Sizes and CRC-32 are what the archive says; whoever reads the content checks it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ZipEntry {
    /// The name, without the slash that marks a directory.
    pub path: EntryPath,
    /// What it is.
    pub kind: ZipKind,
    /// How it is stored.
    pub method: Method,
    /// The CRC-32 of its content.
    pub crc32: u32,
    /// The size of its content in the archive, in bytes.
    pub compressed_size: u64,
    /// The size of its content, in bytes.
    pub uncompressed_size: u64,
    /// The Unix mode, file type included, if the archive has one: the upper half of the external attributes,
    /// whatever system the archive says it comes from, as pip takes it.
    pub unix_mode: Option<u32>,
    /// The system that the entry says it was made on: 3 is Unix (APPNOTE §4.4.2).
    pub host_system: u8,
    flags: u16,
    local_offset: u64,
    /// Where its content begins in the archive's file.
    pub(crate) data_offset: u64,
}

impl ZipEntry {
    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == ZipKind::Directory
    }

    pub(crate) fn refuse(&self, fault: ZipFault) -> Error {
        Error::ZipEntry { entry: self.path.to_string(), fault }
    }
}

/// How much a zip archive may hold. The defaults leave room for the largest wheels that exist.
#[derive(Clone, Copy, Debug)]
pub struct ZipLimits {
    /// Entries.
    pub entries: u64,
    /// Bytes of one entry, unpacked.
    pub entry_size: u64,
    /// Bytes of all entries together, unpacked.
    pub total_size: u64,
    /// How many times as large as the archive all its entries together may be; see `free_size`.
    pub ratio: u64,
    /// Bytes of all entries together, unpacked, up to which `ratio` does not matter.
    pub free_size: u64,
}

impl Default for ZipLimits {
    fn default() -> Self {
        Self {
            entries: 200_000,
            entry_size: 16 << 30,
            total_size: 64 << 30,
            ratio: 100,
            free_size: 256 << 20,
        }
    }
}

/// A zip archive that was found to be unambiguous, opened for reading.
pub struct Archive<R> {
    input: R,
    entries: Vec<ZipEntry>,
    inflater: Option<Inflater>,
}

impl<R: Read + Seek> Archive<R> {
    /// Reads the central directory and all local headers, and refuses the archive unless they are as the
    /// [module](self) says. Content is checked when it is read.
    pub fn open(input: R) -> Result<Self> {
        Self::open_within(input, &ZipLimits::default())
    }

    /// Opens an archive with other limits.
    pub fn open_within(mut input: R, limits: &ZipLimits) -> Result<Self> {
        let entries = open::entries(&mut input, limits)?;
        Ok(Self { input, entries, inflater: None })
    }

    /// The entries, in the order of the central directory.
    pub fn entries(&self) -> &[ZipEntry] {
        &self.entries
    }

    /// The index of the entry with this path.
    pub fn find(&self, path: &str) -> Option<usize> {
        self.entries.iter().position(|entry| entry.path.as_str() == path)
    }

    /// The content of the entry at `index`, checked against the archive's CRC-32 and sizes. It is an error if it has more
    /// than `limit` bytes.
    ///
    /// # Panics
    /// If there is no such entry.
    pub fn read(&mut self, index: usize, limit: u64) -> Result<Vec<u8>> {
        let mut inflater = self.inflater.take();
        let (entry, mut data) = self.data(index)?;
        if entry.uncompressed_size > limit {
            return Err(entry.refuse(ZipFault::EntryTooLarge { size: entry.uncompressed_size, limit }));
        }
        // The size is what the archive says: memory is taken as content comes.
        let mut content =
            Vec::with_capacity(usize::try_from(entry.uncompressed_size).unwrap_or(0).min(1 << 20));
        match entry.method {
            Method::Stored => {
                data.read_to_end(&mut content).map_err(Error::reading)?;
                if content.len() as u64 != entry.uncompressed_size {
                    return Err(entry.refuse(ZipFault::Truncated));
                }
                if crc32fast::hash(&content) != entry.crc32 {
                    return Err(entry.refuse(ZipFault::Crc));
                }
            }
            Method::Deflate => {
                let inflater = inflater.get_or_insert_with(Inflater::new);
                inflater.inflate(entry, data, &mut Collect(&mut content))?;
            }
            Method::Other(method) => return Err(entry.refuse(ZipFault::Method { method })),
        }
        self.inflater = inflater;
        Ok(content)
    }

    /// The entry at `index` and its content as it is stored.
    pub(crate) fn data(&mut self, index: usize) -> Result<(&ZipEntry, Take<&mut R>)> {
        let entry = &self.entries[index];
        self.input.seek(SeekFrom::Start(entry.data_offset)).map_err(Error::reading)?;
        Ok((entry, (&mut self.input).take(entry.compressed_size)))
    }
}

struct Collect<'a>(&'a mut Vec<u8>);

impl Sink for Collect<'_> {
    fn compressed(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn plain(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// Reads exactly as many bytes as `buffer` holds, from `offset`; `false` if the input ends before.
fn read_at(input: &mut (impl Read + Seek), offset: u64, buffer: &mut [u8]) -> Result<bool> {
    input.seek(SeekFrom::Start(offset)).map_err(Error::reading)?;
    Ok(read_full(input, buffer).map_err(Error::reading)? == buffer.len())
}

impl Method {
    const fn number(self) -> u16 {
        match self {
            Self::Stored => 0,
            Self::Deflate => 8,
            Self::Other(number) => number,
        }
    }
}
