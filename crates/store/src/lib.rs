//! Content on disk: blobs by digest, repositories with manifests and tags, unfinished uploads, and the
//! table of pure functions (DESIGN §2.2, §5 "The embedded registry").
//!
//! Every folder here may be used by many processes at once, with no lock for readers. Something appears whole
//! under its final name or not at all: it is written elsewhere first, and linked or renamed into place.
//!
//! What is durable when: [`Registry::put_manifest`] writes blobs to disk before the manifest that names them, and
//! the manifest before its tag. How a blob gets there is [`Durability`]'s subject.
#![forbid(unsafe_code)]

mod archive;
mod blob;
mod composed;
mod durability;
mod error;
mod folder;
mod layout;
mod manifest;
mod name;
#[cfg(feature = "async")]
mod pump;
mod reader;
mod recipe;
mod referrers;
mod registry;
mod staging;
mod table;
mod upload;
mod writer;

pub use archive::ArchiveFormat;
pub use blob::BlobStore;
pub use durability::Durability;
pub use error::StoreError;
pub use manifest::{MANIFEST_LIMIT, ManifestInfo, StoredManifest};
pub use name::{RepositoryPath, TagOrDigest};
#[cfg(feature = "async")]
pub use pump::{Pump, Sink};
pub use reader::Blob;
pub use recipe::RecipeFault;
pub use referrers::subject_of;
pub use registry::Registry;
pub use table::{Elsewhere, Found, Table, UsedRow};
pub use upload::{Upload, UploadId, Uploads};
pub use writer::BlobWriter;

/// What everything here returns.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;
