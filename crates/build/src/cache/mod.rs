//! The caches of this machine within a limit: downloads, unpacked layers, layers that no image names, what was remembered.
//!
//! ```text
//! Stock (what is there, and when it was last used) ──plan──▶ victims ──▶ removed one by one
//! ```
//!
//! Everything here can be made again, so what is removed costs time and nothing else. Who builds or runs holds the caches
//! ([`Hold`]); nothing is removed while somebody does. Each thing is removed for itself, whole or not at all, so that an
//! interruption leaves nothing half done.

mod hold;
mod images;
mod plan;
mod size;
mod stock;

use std::{path::PathBuf, time::SystemTime};

use longshore_oci::{Digest, ImageConfig, Manifest};
use longshore_sandbox::Snapshots;
use longshore_store::{BlobStore, Registry, StoreError, Table};

pub use self::{
    hold::{Hold, serving},
    plan::{Tally, bytes, tally, victims},
    size::CacheSize,
    stock::{Inode, Item, Kind, Place, Shared, Stock},
};

/// Why a cache could not be looked at or pruned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// Somebody is building or running.
    #[error(
        "another longshore is building or running and may use what would be removed; nothing was removed, try again when it has ended"
    )]
    Busy,
    /// Not a size.
    #[error("`{0}` is not a size; say 20GB, 500MB or unlimited")]
    Size(String),
    /// A store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The folder of unpacked layers refused.
    #[error(transparent)]
    Sandbox(#[from] longshore_sandbox::Error),
    /// The system refused something.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The caches of a machine.
#[derive(Clone, Debug)]
pub struct Cache {
    /// The embedded registry, whose blobs no image may name.
    pub registry: Registry,
    /// The table of pure functions.
    pub table: Table,
    /// Wheels and Debian packages.
    pub downloads: BlobStore,
    /// The folder of unpacked layers.
    pub snapshots: PathBuf,
    /// The folder of all that can be made again.
    pub folder: PathBuf,
}

/// What was removed.
#[derive(Clone, Debug, Default)]
pub struct Pruned {
    /// The things.
    pub removed: Vec<Item>,
    /// Why some could not be removed.
    pub failed: Vec<String>,
    /// The bytes that this freed.
    pub freed: u64,
    /// The bytes that are left.
    pub left: u64,
}

impl Cache {
    /// What is there.
    pub fn stock(&self) -> Result<Stock, CacheError> {
        stock::take(self)
    }

    /// Removes what was used least recently, until no more than `limit` is left. The hold must be an exclusive one.
    pub fn prune(&self, limit: CacheSize, stock: &Stock, _alone: &Hold) -> Pruned {
        let mut pruned = Pruned::default();
        for item in victims(&stock.items, limit) {
            match self.remove(item) {
                Ok(()) => pruned.removed.push(item.clone()),
                Err(error) => pruned.failed.push(error.to_string()),
            }
        }
        pruned.left = stock.without(&pruned.removed);
        pruned.freed = stock.size() - pruned.left;
        pruned
    }

    fn remove(&self, item: &Item) -> Result<(), CacheError> {
        match &item.place {
            Place::Download(digest) => drop(self.downloads.remove(digest)?),
            Place::Layer(digest) => drop(self.registry.blobs().remove(digest)?),
            Place::Snapshot(diff_id) => Snapshots::open(&self.snapshots)?.remove(diff_id)?,
            Place::Row(path) => match std::fs::remove_file(path) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(CacheError::Io { doing: "remove", path: path.clone(), source });
                }
                _ => {}
            },
        }
        Ok(())
    }

    /// Notes that an image's layers were used now, so that they are not among the first to go. What cannot be noted is left:
    /// the caches are a memory, not a record.
    pub fn touch(&self, manifest: &Manifest, config: &ImageConfig) {
        let blobs = manifest.layers.iter().chain([&manifest.config]).map(|blob| &blob.digest);
        let paths = blobs.filter_map(|digest| self.registry.blobs().files(digest).into_iter().next());
        let unpacked = config.rootfs.diff_ids.iter().map(|diff_id| self.snapshots.join(diff_id.hex()));
        for path in paths.chain(unpacked) {
            let now = std::fs::FileTimes::new().set_accessed(SystemTime::now());
            let _ = std::fs::File::open(path).and_then(|file| file.set_times(now));
        }
    }

    /// Hashes all downloads and layers again, and removes those that are damaged: nothing else can be made of them, and while
    /// they are there they are neither made nor fetched again. Says which they were. The hold must be an exclusive one.
    pub fn check(&self, stock: &Stock, _alone: &Hold) -> Result<Vec<String>, CacheError> {
        let mut said = Vec::new();
        for item in &stock.items {
            let (blobs, digest, what) = match &item.place {
                Place::Download(digest) => (&self.downloads, digest, "download"),
                Place::Layer(digest) => (self.registry.blobs(), digest, "layer"),
                Place::Snapshot(_) | Place::Row(_) => continue,
            };
            if let Some(damage) = damage(blobs.verify(digest)) {
                blobs.remove(digest)?;
                said.push(format!("{what} removed: {damage}"));
            }
        }
        for digest in &stock.named {
            if let Some(damage) = damage(self.registry.blobs().verify(digest)) {
                self.registry.blobs().remove(digest)?;
                said.push(format!("layer of an image removed: {damage}; build or copy the image again"));
            }
        }
        Ok(said)
    }
}

/// What is wrong with a blob, if it is known to be damaged.
fn damage(verified: Result<u64, StoreError>) -> Option<String> {
    match verified {
        Err(StoreError::Damaged { path, found }) => {
            Some(format!("{} had the digest {found}", path.display()))
        }
        Err(StoreError::Recipe { path, fault }) => Some(format!("{}: {fault}", path.display())),
        _ => None,
    }
}

/// A digest in the name of a file.
fn digest_of(name: &str) -> Option<Digest> {
    Digest::from_hex(name).ok()
}
