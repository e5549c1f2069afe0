//! Why somebody's layer is refused.

use std::io;

use crate::PathFault;

/// Why a layer or an entry of it is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadFault {
    /// The compressed stream is damaged, cut off, or has something after it.
    #[error(
        "its compressed stream is damaged, cut off or followed by something else, after {offset} bytes unpacked: {source}"
    )]
    Compression {
        /// How many bytes were unpacked until then.
        offset: u64,
        /// What the decompressor says.
        source: io::Error,
    },
    /// The tar archive ends in the middle of something, or without its end blocks.
    #[error("it is cut off")]
    Truncated,
    /// A header is not a tar header.
    #[error("at byte {offset} of the unpacked archive there is no valid tar header: {why}")]
    Header {
        /// Where.
        offset: u64,
        /// Why not.
        why: &'static str,
    },
    /// A PAX extended header cannot be understood.
    #[error("its PAX header is malformed: {0}")]
    Pax(&'static str),
    /// The path, or the target of a hard link, is not that of an entry.
    #[error("its {what} `{text}` is not a path below the root: {fault}")]
    Path {
        /// `path` or `hard link target`.
        what: &'static str,
        /// The text as far as it is readable.
        text: String,
        /// Why not.
        fault: PathFault,
    },
    /// A hard link to the root or a symbolic link to nothing.
    #[error("it is a link without a usable target")]
    LinkTarget,
    /// A whiteout that removes nothing.
    #[error("it is a whiteout of nothing, or lies below one")]
    Whiteout,
    /// A kind of entry that images do not have.
    #[error("it is of type `{}`, which image layers do not have", char::from(*.0).escape_default())]
    Type(u8),
    /// A sparse file.
    #[error("it is a sparse file in a format of GNU tar, which image layers do not have")]
    Sparse,
    /// A directory, link or device that has content: readers disagree on where the next entry begins.
    #[error("it has content, but is no file")]
    Content,
    /// More entries than the limit.
    #[error("it has more than the limit of {limit} entries")]
    TooManyEntries {
        /// The limit.
        limit: u64,
    },
    /// A file is larger than the limit.
    #[error("it has {size} bytes, more than the limit of {limit}")]
    EntryTooLarge {
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// The layer is larger than the limit.
    #[error("it unpacks to more than the limit of {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// The headers of one entry are larger than any honest ones.
    #[error("its extended headers are longer than {limit} bytes")]
    HeadersTooLarge {
        /// The limit.
        limit: u64,
    },
}
