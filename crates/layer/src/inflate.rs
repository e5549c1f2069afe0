//! Inflating the streams of zip entries, checked against what the zip says of them.

use std::io::Read;

use flate2::{Decompress, FlushDecompress, Status};

use crate::{
    Error, Result,
    content::read_full,
    zip::{ZipEntry, ZipFault},
};

/// Compressed bytes are read in pieces of this size.
const INPUT: usize = 64 * 1024;
/// Inflated bytes are handed on in pieces of this size; they are still in the processor's cache when they are hashed.
const OUTPUT: usize = 128 * 1024;

/// What receives a stream while it is checked. Until the check is over, nothing that it received is to be trusted.
pub(crate) trait Sink {
    /// The next bytes of the stream.
    fn compressed(&mut self, bytes: &[u8]) -> Result<()>;
    /// The next bytes that were inflated.
    fn plain(&mut self, bytes: &[u8]) -> Result<()>;
}

/// Inflates one stream after the other with the same memory.
pub(crate) struct Inflater {
    state: Decompress,
    input: Box<[u8]>,
    output: Box<[u8]>,
}

impl Inflater {
    pub(crate) fn new() -> Self {
        Self {
            state: Decompress::new(false),
            input: vec![0; INPUT].into_boxed_slice(),
            output: vec![0; OUTPUT].into_boxed_slice(),
        }
    }

    /// Inflates the stream of `entry`, which `data` begins with. It is an error if it does not have exactly the CRC-32 and
    /// sizes that `entry` says.
    pub(crate) fn inflate(
        &mut self,
        entry: &ZipEntry,
        mut data: impl Read,
        sink: &mut impl Sink,
    ) -> Result<()> {
        let refuse = |fault| Err(entry.refuse(fault));
        self.state.reset(false);
        let mut crc = crc32fast::Hasher::new();
        let (mut left, mut inflated) = (entry.compressed_size, 0_u64);
        let mut ended = false;
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(INPUT).min(INPUT);
            if read_full(&mut data, &mut self.input[..wanted]).map_err(Error::reading)? < wanted {
                return refuse(ZipFault::Truncated);
            }
            left -= wanted as u64;
            let mut input = &self.input[..wanted];
            sink.compressed(input)?;
            loop {
                if ended && !(input.is_empty() && left == 0) {
                    return refuse(ZipFault::StreamEndsEarly);
                }
                if ended {
                    break;
                }
                let (in_before, out_before) = (self.state.total_in(), self.state.total_out());
                let Ok(status) = self.state.decompress(input, &mut self.output, FlushDecompress::None) else {
                    return refuse(ZipFault::Stream);
                };
                let used = usize::try_from(self.state.total_in() - in_before).unwrap_or(usize::MAX);
                let filled = usize::try_from(self.state.total_out() - out_before).unwrap_or(usize::MAX);
                input = &input[used..];
                let plain = &self.output[..filled];
                inflated += filled as u64;
                if inflated > entry.uncompressed_size {
                    return refuse(ZipFault::UncompressedSize);
                }
                crc.update(plain);
                sink.plain(plain)?;
                ended = status == Status::StreamEnd;
                if !ended && input.is_empty() && filled < self.output.len() {
                    break;
                }
                if !ended && used == 0 && filled == 0 {
                    return refuse(ZipFault::Stream);
                }
            }
        }
        if !ended {
            return refuse(ZipFault::StreamEndsLate);
        }
        if inflated != entry.uncompressed_size {
            return refuse(ZipFault::UncompressedSize);
        }
        if crc.finalize() != entry.crc32 {
            return refuse(ZipFault::Crc);
        }
        Ok(())
    }
}
