//! DEFLATE streams for content that does not come with one.

use std::io::{self, ErrorKind, Read, Write};

use flate2::{Compress, Compression, FlushCompress, Status};

use crate::output::Plain;

/// How hard content is compressed. Part of a layer's bytes: another level, another digest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Level {
    /// zlib's level 1: some 300 MB/s.
    Fast,
    /// zlib's level 6: some 80 MB/s.
    #[default]
    Normal,
    /// zlib's level 9: for what is made once and kept for long.
    Small,
}

impl Level {
    const fn zlib(self) -> Compression {
        Compression::new(match self {
            Self::Fast => 1,
            Self::Normal => 6,
            Self::Small => 9,
        })
    }
}

/// The longest stored block (RFC 1951 §3.2.4).
const LONGEST_BLOCK: usize = 65_535;
/// The piece by which it is decided whether content is compressed: two full stored blocks.
const SAMPLE: usize = 2 * LONGEST_BLOCK;
/// Room for the compressed sample: DEFLATE grows nothing by as much as this.
const SAMPLE_ROOM: usize = SAMPLE + SAMPLE / 16 + 64;

/// Makes DEFLATE streams, one after the other with the same memory.
pub(crate) struct Compressor {
    deflate: Compress,
    input: Vec<u8>,
    output: Vec<u8>,
}

/// What came out of the input.
pub(crate) enum Outcome {
    /// All of it, with this CRC-32.
    Whole { crc32: u32 },
    /// The input ended before the announced size.
    Short,
    /// The input goes on beyond the announced size.
    Long,
}

/// Why it failed.
pub(crate) enum Side {
    /// Reading the content.
    Input(io::Error),
    /// Writing the stream.
    Output(io::Error),
}

impl Compressor {
    pub(crate) fn new(level: Level) -> Self {
        Self {
            deflate: Compress::new(level.zlib(), false),
            input: vec![0; SAMPLE],
            output: Vec::with_capacity(SAMPLE_ROOM),
        }
    }

    /// Writes the `size` bytes of `input` to `out` as one DEFLATE stream (none at all if `size` is 0), and to `plain` as
    /// they are.
    ///
    /// The rule: the first 131,070 bytes (all, if there are fewer) are compressed alone. If that is smaller than the
    /// same bytes in stored blocks, the whole content is compressed; otherwise the whole is stored.
    pub(crate) fn write(
        &mut self,
        size: u64,
        mut input: impl Read,
        out: &mut impl Write,
        plain: &mut Plain,
    ) -> Result<Outcome, Side> {
        if size == 0 {
            return Self::end(&mut input, 0);
        }
        let mut crc = crc32fast::Hasher::new();
        let mut left = size;
        let first = self.fill(left, &mut input).map_err(Side::Input)?;
        if first as u64 != left.min(SAMPLE as u64) {
            return Ok(Outcome::Short);
        }
        self.deflate.reset();
        self.output.clear();
        let sampled =
            self.deflate.compress_vec(&self.input[..first], &mut self.output, FlushCompress::Finish);
        let smaller = matches!(sampled, Ok(Status::StreamEnd)) && self.output.len() < stored_size(first);
        let whole = first as u64 == size;
        if smaller && !whole {
            self.deflate.reset();
        }

        let mut filled = first;
        loop {
            plain.update(&self.input[..filled]);
            crc.update(&self.input[..filled]);
            left -= filled as u64;
            match (smaller, whole) {
                (true, true) => out.write_all(&self.output),
                (true, false) => self.compress(filled, left == 0, out),
                (false, _) => store(&self.input[..filled], left == 0, out),
            }
            .map_err(Side::Output)?;
            if left == 0 {
                break;
            }
            filled = self.fill(left, &mut input).map_err(Side::Input)?;
            if filled as u64 != left.min(SAMPLE as u64) {
                return Ok(Outcome::Short);
            }
        }
        Self::end(&mut input, crc.finalize())
    }

    /// Content that goes on beyond its size is not the content that was announced.
    fn end(input: &mut impl Read, crc32: u32) -> Result<Outcome, Side> {
        let more = read_full(input, &mut [0]).map_err(Side::Input)?;
        Ok(if more == 0 { Outcome::Whole { crc32 } } else { Outcome::Long })
    }

    fn fill(&mut self, left: u64, input: &mut impl Read) -> io::Result<usize> {
        let wanted = usize::try_from(left).unwrap_or(SAMPLE).min(SAMPLE);
        read_full(input, &mut self.input[..wanted])
    }

    /// Compresses the next `filled` bytes. The input always comes in full samples, so that the stream does not depend
    /// on how the content was read.
    fn compress(&mut self, filled: usize, last: bool, out: &mut impl Write) -> io::Result<()> {
        let flush = if last { FlushCompress::Finish } else { FlushCompress::None };
        let mut used = 0;
        loop {
            self.output.clear();
            let before = self.deflate.total_in();
            let status = self
                .deflate
                .compress_vec(&self.input[used..filled], &mut self.output, flush)
                .map_err(io::Error::other)?;
            used += usize::try_from(self.deflate.total_in() - before).unwrap_or(usize::MAX);
            out.write_all(&self.output)?;
            let room_left = self.output.len() < self.output.capacity();
            if status == Status::StreamEnd || !last && used == filled && room_left {
                return Ok(());
            }
        }
    }
}

/// Hands the `size` bytes of `input` to `take` as they are.
pub(crate) fn copy(
    size: u64,
    mut input: impl Read,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<Outcome, Side> {
    let mut buffer = vec![0; usize::try_from(size).unwrap_or(SAMPLE).min(SAMPLE)];
    let mut crc = crc32fast::Hasher::new();
    let mut left = size;
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(SAMPLE).min(SAMPLE);
        if read_full(&mut input, &mut buffer[..wanted]).map_err(Side::Input)? < wanted {
            return Ok(Outcome::Short);
        }
        crc.update(&buffer[..wanted]);
        take(&buffer[..wanted]).map_err(Side::Output)?;
        left -= wanted as u64;
    }
    Compressor::end(&mut input, crc.finalize())
}

/// The size of `size` bytes in stored blocks, each with its five bytes of header.
const fn stored_size(size: usize) -> usize {
    size + 5 * size.div_ceil(LONGEST_BLOCK)
}

/// Writes stored blocks, full ones up to the last (RFC 1951 §3.2.4).
fn store(bytes: &[u8], last: bool, out: &mut impl Write) -> io::Result<()> {
    let mut blocks = bytes.chunks(LONGEST_BLOCK).peekable();
    while let Some(block) = blocks.next() {
        let [low, high, ..] = block.len().to_le_bytes();
        let final_block = u8::from(last && blocks.peek().is_none());
        out.write_all(&[final_block, low, high, !low, !high])?;
        out.write_all(block)?;
    }
    Ok(())
}

/// Reads until `buffer` is full or the input ends.
pub(crate) fn read_full(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
