//! A step's document as arguments of a command: zlib (RFC 1950), then base64 for URLs (RFC 4648 §5) without padding, cut into
//! pieces. Services limit the length of one argument (`SageMaker`: 256 characters), and some give quotes and braces a meaning.

use std::io::Write;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use flate2::{Compression, write::ZlibEncoder};

use crate::plan::Job;

/// The characters of a piece, one less than the limit: see the dash below.
const PIECE: usize = 255;

/// A job in pieces.
pub(crate) fn pieces(job: &Job) -> Vec<String> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    // Writing to memory does not fail, and a job has nothing that JSON cannot hold.
    let written =
        serde_json::to_vec(job).map_err(std::io::Error::from).and_then(|json| encoder.write_all(&json));
    let bytes = written.and_then(|()| encoder.finish()).unwrap_or_default();
    let text = URL_SAFE_NO_PAD.encode(bytes);
    let mut pieces = Vec::with_capacity(text.len().div_ceil(PIECE));
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (piece, tail) = rest.split_at(rest.len().min(PIECE));
        pieces.push(piece.to_owned());
        rest = tail;
    }
    // A piece that begins with a dash would be taken for an option.
    for piece in &mut pieces {
        if piece.starts_with('-') {
            piece.insert(0, '.');
        }
    }
    pieces
}

/// The JSON in pieces, as the entrypoint reads it.
#[cfg(test)]
pub(crate) fn read(pieces: &[String]) -> Vec<u8> {
    use std::io::Read as _;
    let text: String = pieces.iter().map(|piece| piece.trim_start_matches('.')).collect();
    let bytes = URL_SAFE_NO_PAD.decode(text).unwrap();
    let mut json = Vec::new();
    flate2::read::ZlibDecoder::new(bytes.as_slice()).read_to_end(&mut json).unwrap();
    json
}
