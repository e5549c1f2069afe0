//! From compressed bytes to uncompressed ones, hashed and counted.

use std::io::{self, BufReader, ErrorKind, Read};

use flate2::bufread::MultiGzDecoder;
use longshore_oci::{Digest, Digester, MediaType};

use super::ReadFault;
use crate::{Error, Result};

const INPUT: usize = 128 * 1024;
const OUTPUT: usize = 128 * 1024;

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, of one or many members.
    Gzip,
    /// Zstandard, of one or many frames.
    Zstd,
}

impl Compression {
    /// How a layer of this media type is compressed; `None` if it is not the media type of a layer.
    pub const fn of(media_type: &MediaType) -> Option<Self> {
        Some(match media_type {
            MediaType::LayerTar | MediaType::DockerLayerTar => Self::None,
            MediaType::LayerGzip | MediaType::DockerLayerGzip => Self::Gzip,
            MediaType::LayerZstd => Self::Zstd,
            _ => return None,
        })
    }
}

enum Decoder<R: Read> {
    None(R),
    /// Boxed: its state is ten times as large as the others'.
    Gzip(Box<MultiGzDecoder<BufReader<R>>>),
    Zstd(::zstd::Decoder<'static, BufReader<R>>),
}

/// The uncompressed bytes of a layer.
pub(super) struct Stream<R: Read> {
    decoder: Decoder<R>,
    buffer: Box<[u8]>,
    /// The part of the buffer that was filled and not yet taken.
    start: usize,
    end: usize,
    digester: Digester,
    limit: u64,
}

impl<R: Read> Stream<R> {
    pub(super) fn new(input: R, compression: Compression, limit: u64) -> Result<Self> {
        let buffered = |input| BufReader::with_capacity(INPUT, input);
        let decoder = match compression {
            Compression::None => Decoder::None(input),
            Compression::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(buffered(input)))),
            Compression::Zstd => {
                Decoder::Zstd(::zstd::Decoder::with_buffer(buffered(input)).map_err(Error::reading)?)
            }
        };
        let buffer = vec![0; OUTPUT].into_boxed_slice();
        Ok(Self { decoder, buffer, start: 0, end: 0, digester: Digester::new(), limit })
    }

    /// Whether the end of the uncompressed bytes says that they are complete.
    pub(super) const fn is_framed(&self) -> bool {
        !matches!(self.decoder, Decoder::None(_))
    }

    /// How many bytes were taken.
    pub(super) fn position(&self) -> u64 {
        self.digester.length() - (self.end - self.start) as u64
    }

    /// The next bytes, at least one; none at the end of the layer.
    pub(super) fn fill(&mut self) -> Result<&[u8]> {
        if self.start == self.end {
            let count = self.decode_into_buffer()?;
            (self.start, self.end) = (0, count);
            self.digester.update(&self.buffer[..count]);
            if self.digester.length() > self.limit {
                return Err(Error::Layer { fault: ReadFault::TooLarge { limit: self.limit } });
            }
        }
        Ok(&self.buffer[self.start..self.end])
    }

    /// Takes the first `count` bytes of what [`fill`](Self::fill) gave.
    pub(super) fn consume(&mut self, count: usize) {
        self.start += count;
    }

    fn decode_into_buffer(&mut self) -> Result<usize> {
        let offset = self.digester.length();
        loop {
            let (read, is_input): (io::Result<usize>, bool) = match &mut self.decoder {
                Decoder::None(input) => (input.read(&mut self.buffer), true),
                Decoder::Gzip(gzip) => (gzip.read(&mut self.buffer), false),
                Decoder::Zstd(zstd) => (zstd.read(&mut self.buffer), false),
            };
            return match read {
                Ok(count) => Ok(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if is_input => Err(Error::reading(error)),
                Err(source) => Err(Error::Layer { fault: ReadFault::Compression { offset, source } }),
            };
        }
    }

    /// Fills `bytes`; how much there was.
    pub(super) fn read_full(&mut self, bytes: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < bytes.len() {
            let next = self.fill()?;
            if next.is_empty() {
                break;
            }
            let count = next.len().min(bytes.len() - filled);
            bytes[filled..filled + count].copy_from_slice(&next[..count]);
            self.consume(count);
            filled += count;
        }
        Ok(filled)
    }

    /// Takes the bytes that fill a file's last block. Of an archive that was never closed, as umoci's `insert` leaves it, the
    /// last file's may be missing; that it is whole, the compression around it says.
    pub(super) fn skip_padding(&mut self, count: u64) -> Result<()> {
        if self.is_framed() && self.fill()?.is_empty() {
            return Ok(());
        }
        self.skip(count)
    }

    /// Takes `count` bytes without looking at them.
    pub(super) fn skip(&mut self, mut count: u64) -> Result<()> {
        while count > 0 {
            let next = self.fill()?.len();
            if next == 0 {
                return Err(Error::Layer { fault: ReadFault::Truncated });
            }
            let step = usize::try_from(count).unwrap_or(next).min(next);
            self.consume(step);
            count -= step as u64;
        }
        Ok(())
    }

    /// Reads on to the end; the digest and the number of all bytes.
    pub(super) fn finish(mut self) -> Result<(Digest, u64)> {
        loop {
            let rest = self.fill()?.len();
            if rest == 0 {
                break;
            }
            self.consume(rest);
        }
        let length = self.digester.length();
        Ok((self.digester.finish(), length))
    }
}
