//! Image layers: writing them from zip archives without recompression, and reading anybody's.
//!
//! Pure: bytes in, bytes and digests out. Nothing here opens a file or knows what a wheel is.
#![forbid(unsafe_code)]

mod content;
mod deflate;
mod entry;
mod error;
mod gzip;
mod inflate;
mod path;
pub mod read;
mod tar;
mod writer;
pub mod zip;

pub use content::Level;
pub use entry::{Entry, Kind};
pub use error::{Error, Result, WriteFault};
pub use path::{EntryPath, PathFault};
pub use writer::{LayerSummary, LayerWriter};

/// The version of the layout.
pub const LAYOUT_VERSION: u32 = 1;
