//! Reading a blob.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
};

use crate::composed::Segments;

/// A blob, open for reading, whether it is a file or composed of the bytes of another. It stays whole when the blob is
/// removed.
#[derive(Debug)]
pub struct Blob(Held);

#[derive(Debug)]
enum Held {
    /// In a file of its own.
    Whole(File),
    /// In a recipe and the file that it refers to.
    Composed(Segments),
}

impl Blob {
    pub(crate) const fn whole(file: File) -> Self {
        Self(Held::Whole(file))
    }

    pub(crate) const fn composed(segments: Segments) -> Self {
        Self(Held::Composed(segments))
    }

    /// Its length in bytes.
    pub fn size(&self) -> io::Result<u64> {
        match &self.0 {
            Held::Whole(file) => Ok(file.metadata()?.len()),
            Held::Composed(segments) => Ok(segments.size()),
        }
    }

    /// Its file, if it has one of its own.
    pub(crate) const fn file(&self) -> Option<&File> {
        match &self.0 {
            Held::Whole(file) => Some(file),
            Held::Composed(_) => None,
        }
    }
}

impl Read for Blob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Held::Whole(file) => file.read(buffer),
            Held::Composed(segments) => segments.read(buffer),
        }
    }
}

impl Seek for Blob {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match &mut self.0 {
            Held::Whole(file) => file.seek(to),
            Held::Composed(segments) => {
                let position = match to {
                    SeekFrom::Start(position) => Some(position),
                    SeekFrom::Current(by) => segments.position().checked_add_signed(by),
                    SeekFrom::End(by) => segments.size().checked_add_signed(by),
                };
                let position = position.ok_or(io::ErrorKind::InvalidInput)?;
                segments.seek_to(position);
                Ok(position)
            }
        }
    }
}
