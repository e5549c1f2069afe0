//! A small DEFLATE encoder (RFC 1951) for tar headers.
//!
//! Headers are short (512 to a few thousand bytes), many, and mostly runs and repeated digits. One block with the
//! fixed Huffman codes suits them, needs no tables in the output, and its bytes depend on nothing but this file:
//! no version of a compression library can change the digest of a layer.

/// Matches are found through the positions where three bytes were last seen, by this many bits of their hash.
const HASH_BITS: u32 = 12;
/// The furthest back that a match reaches (RFC 1951 §2).
const WINDOW: usize = 32 * 1024;
/// The longest match.
const LONGEST: usize = 258;
/// Beyond this distance a match of three bytes can cost more than three literals.
const FAR: usize = 4096;
/// Positions inside longer matches are not entered: they are runs of zeros.
const ENTERED: usize = 64;

/// Reused from member to member; what it gives does not depend on what it was used for before.
pub(crate) struct Encoder {
    /// The last position of each hash, counted from the first input of all, plus one.
    heads: Box<[u32]>,
    /// The position of the current input's first byte.
    base: u32,
}

impl Encoder {
    pub(crate) fn new() -> Self {
        Self { heads: vec![0; 1 << HASH_BITS].into_boxed_slice(), base: 0 }
    }

    /// Appends `input` to `out` as one final block. `input` has at most 2³⁰ bytes.
    pub(crate) fn encode(&mut self, input: &[u8], out: &mut Vec<u8>) {
        if self.base >= 1 << 30 {
            self.heads.fill(0);
            self.base = 0;
        }
        let mut bits = BitWriter { out, held: 0, count: 0 };
        bits.put(0b011, 3); // BFINAL = 1, BTYPE = 01: fixed codes
        let mut at = 0;
        while at < input.len() {
            let (length, distance) = self.longest_match(input, at);
            if length == 0 {
                bits.literal(input[at]);
                self.enter(input, at);
                at += 1;
            } else {
                bits.length(length);
                bits.distance(distance);
                for position in at..at + length.min(ENTERED) {
                    self.enter(input, position);
                }
                at += length;
            }
        }
        bits.symbol(256); // end of block
        bits.finish();
        self.base += u32::try_from(input.len()).unwrap_or(u32::MAX) + 1;
    }

    /// The longer of the run at distance 1 and the last place with the same three bytes; (0, 0) for none.
    fn longest_match(&self, input: &[u8], at: usize) -> (usize, usize) {
        let Some(slot) = slot(input, at) else { return (0, 0) };
        let limit = (input.len() - at).min(LONGEST);
        let length = |distance: usize| {
            let (before, here) = (&input[at - distance..], &input[at..at + limit]);
            here.iter().zip(before).take_while(|(l, r)| l == r).count()
        };
        let run = if at > 0 { length(1) } else { 0 };
        if run == limit {
            return (run, 1);
        }
        let head = self.heads[slot].saturating_sub(self.base) as usize;
        let distance = if head > 0 { at + 1 - head } else { 0 };
        let other = if (1..=WINDOW).contains(&distance) { length(distance) } else { 0 };
        if run >= 3 && run >= other {
            (run, 1)
        } else if other > 3 || other == 3 && distance <= FAR {
            (other, distance)
        } else {
            (0, 0)
        }
    }

    fn enter(&mut self, input: &[u8], at: usize) {
        if let Some(slot) = slot(input, at) {
            self.heads[slot] = self.base + u32::try_from(at).unwrap_or(0) + 1;
        }
    }
}

/// The hash of the three bytes at `at`.
fn slot(input: &[u8], at: usize) -> Option<usize> {
    let bytes = input.get(at..at + 3)?;
    let word = u32::from(bytes[0]) | u32::from(bytes[1]) << 8 | u32::from(bytes[2]) << 16;
    Some((word.wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS)) as usize)
}

/// Bits into bytes, least significant first (RFC 1951 §3.1.1).
struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    held: u64,
    count: u32,
}

impl BitWriter<'_> {
    fn put(&mut self, bits: u32, count: u32) {
        self.held |= u64::from(bits) << self.count;
        self.count += count;
        if self.count >= 32 {
            self.out.extend_from_slice(&self.held.to_le_bytes()[..4]);
            self.held >>= 32;
            self.count -= 32;
        }
    }

    fn literal(&mut self, byte: u8) {
        self.symbol(byte.into());
    }

    /// A code of the fixed literal and length alphabet (RFC 1951 §3.2.6). Codes go out from their highest bit.
    fn symbol(&mut self, symbol: u32) {
        let (code, length) = match symbol {
            0..=143 => (0b0011_0000 + symbol, 8),
            144..=255 => (0b1_1001_0000 + symbol - 144, 9),
            256..=279 => (symbol - 256, 7),
            _ => (0b1100_0000 + symbol - 280, 8),
        };
        self.put(code.reverse_bits() >> (32 - length), length);
    }

    /// RFC 1951 §3.2.5: lengths 3 to 258 in groups of four symbols, each group with one extra bit more.
    fn length(&mut self, length: usize) {
        let value = u32::try_from(length - 3).unwrap_or(0);
        match value {
            255 => self.symbol(285),
            0..8 => self.symbol(257 + value),
            _ => {
                let extra = value.ilog2() - 2;
                self.symbol(257 + 4 * extra + (value >> extra));
                self.put(value & ((1 << extra) - 1), extra);
            }
        }
    }

    /// Distances 1 to 32768 in groups of two five-bit codes, each group with one extra bit more.
    fn distance(&mut self, distance: usize) {
        let value = u32::try_from(distance - 1).unwrap_or(0);
        let extra = value.checked_ilog2().unwrap_or(0).saturating_sub(1);
        let code = 2 * extra + (value >> extra);
        self.put(code.reverse_bits() >> 27, 5);
        self.put(value & ((1 << extra) - 1), extra);
    }

    fn finish(self) {
        let bytes = self.count.div_ceil(8) as usize;
        self.out.extend_from_slice(&self.held.to_le_bytes()[..bytes]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::DeflateDecoder;
    use proptest::prelude::*;
    use std::io::Read;

    fn inflate(bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        DeflateDecoder::new(bytes).read_to_end(&mut plain).unwrap();
        plain
    }

    fn encode(input: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Encoder::new().encode(input, &mut out);
        out
    }

    #[test]
    fn every_length_and_every_order_of_distance_is_understood() {
        for length in 0..600 {
            let input = vec![b'x'; length];
            assert_eq!(inflate(&encode(&input)), input);
        }
        // Two equal pieces with something unlike in between; the second is found at every distance up to the limit.
        let filler: Vec<u8> =
            (0..40_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
        for distance in (16..33_000).step_by(97).chain([32_767, 32_768, 32_769]) {
            let mut input = b"0123456789abcdef".to_vec();
            input.extend_from_slice(&filler[..distance - 16]);
            input.extend_from_slice(b"0123456789abcdef");
            assert_eq!(inflate(&encode(&input)), input, "distance {distance}");
        }
    }

    #[test]
    fn a_run_costs_a_few_bytes() {
        assert!(encode(&[0; 512]).len() <= 7);
    }

    #[test]
    fn the_bytes_do_not_depend_on_earlier_inputs() {
        let mut encoder = Encoder::new();
        let header =
            b"usr/lib/python3.12/site-packages/pandas/core/frame.py\0\0\0\0\0\x0000644\x000000000\x000000000";
        for round in 0..3 {
            if round == 2 {
                encoder.base = (1 << 30) + 5;
            }
            let mut out = Vec::new();
            encoder.encode(header, &mut out);
            assert_eq!(out, encode(header), "round {round}");
        }
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(pieces in prop::collection::vec((any::<[u8; 4]>(), 1_usize..200), 0..60)) {
            let input: Vec<u8> = pieces.iter().flat_map(|(piece, times)| piece[..=times % 4].repeat(*times)).collect();
            prop_assert_eq!(inflate(&encode(&input)), input);
        }

        #[test]
        fn any_bytes_come_out(input: Vec<u8>) {
            prop_assert_eq!(inflate(&encode(&input)), input);
        }
    }
}
