//! Image layers: written deterministically, from zip archives without compressing anything again; and read, whoever made
//! them.
//!
//! Pure: bytes in, bytes and digests out. Nothing here opens a file, knows what a wheel is or what time it is.
//!
//! # The layout
//!
//! A layer that [`LayerWriter`] writes is a function of its entries, their contents and the [`Level`]; where content comes
//! from a zip archive, of its DEFLATE stream. The layout is frozen: the same input gives the same bytes, on every
//! machine and with every version, as long as [`LAYOUT_VERSION`] is the same. The layout, version 1, is this.
//!
//! **The archive** (what the diff_id is the digest of) is a tar archive.
//! - Entries stand in ascending order of their paths, compared part by part as bytes. Each path stands once. Directories
//!   on the way to an entry that were not added stand before it, with mode 0755, of root's, with the entry's time.
//! - An entry is a ustar header, its content, and zeros up to the next multiple of 512. Numbers are octal, zero-padded to
//!   the field's width less one, with a NUL; the checksum is six digits, a NUL and a blank. Names of owner and group
//!   and device numbers are left NUL. A directory's name ends in `/`.
//! - A name of at most 100 ASCII characters stands in `name`; a longer one is split at the first `/` that leaves at most
//!   100 after it, if then at most 155 stand before it in `prefix`.
//! - What does not fit so stands in a PAX extended header before the entry: records in ascending order of their keys,
//!   `SCHILY.xattr.*`, `gid`, `linkpath`, `mtime`, `path`, `size`, `uid`, each only if needed. Its own header has the name
//!   `PaxHeader`, mode, owner and time 0. In the entry's header, a field that is overruled is 0 or empty, and
//!   `name` is `PaxHeader`.
//! - Whiteouts are empty files of mode 0600. Two blocks of zeros are the end; no further padding follows.
//!
//! **The file** is a sequence of gzip members (RFC 1952 §2.2), each with flags 0, time 0, extra flags 0, system 255. One
//! after the other they hold the archive:
//! - The content of every file that is not empty is a member of its own, nothing else with it (as eStargz asks for).
//! - All between two contents is a member: the zeros after the first, then headers. It ends early when, after the headers
//!   of an entry, it has come to 32 KiB or more; so does a run of entries without content. The last holds the end.
//! - Members of headers are one DEFLATE block with fixed codes, by our own encoder: at each place, the longer of the run
//!   at distance 1 and the match at the last place with the same hash of three bytes, the run if they are equal; a match
//!   of three bytes only within 4096; a literal otherwise. So no version of a compression library shows in them.
//! - Content of a zip entry with method 8 is its DEFLATE stream, byte by byte.
//! - Other content is compressed by zlib-rs at the writer's [`Level`], if the first 131,070 bytes of it (all, if
//!   there are fewer), compressed alone, become smaller than in stored blocks; otherwise it is stored, in
//!   blocks of 65,535 bytes. Here the bytes depend on zlib-rs, whose version is pinned: a test pins the digests.
//!
//! A layer of [`Format::Estargz`] differs as [`estargz`] says, one of [`Format::Zstd`] as [`zstd`] says.
//!
//! # Reading
//!
//! [`zip`] reads wheels, [`read`] reads layers. Both take what comes from outside as hostile: whatever two programs could
//! understand in two ways, leads out of the root, or unpacks without end, is refused with the entry and the reason.
#![forbid(unsafe_code)]

mod content;
mod deflate;
mod entry;
mod error;
pub mod estargz;
mod gzip;
mod inflate;
mod output;
mod path;
pub mod read;
mod tar;
mod writer;
pub mod zip;
pub mod zstd;

pub use content::Level;
pub use entry::{Entry, Kind};
pub use error::{Error, Result, WriteFault};
pub use output::CopyFrom;
pub use path::{EntryPath, PathFault};
pub use writer::{Format, LayerSummary, LayerWriter};

/// The version of the layout that the [crate] documents. Whoever remembers layers by their inputs remembers it with them.
pub const LAYOUT_VERSION: u32 = 1;
