//! The crate as its users see it, against archives made byte by byte and the programs that everybody has.
#![expect(clippy::unwrap_used, reason = "a test")]

mod estargz;
mod read;
mod splice;
mod tar_factory;
mod tree;
mod write;
mod zip;
mod zip_factory;
mod zstd;
