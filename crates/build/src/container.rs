//! Images of the registry as folders that a sandbox can run in.

use std::path::{Path, PathBuf};

use longshore_oci::{ImageConfig, Manifest};
use longshore_sandbox::Snapshots;
use longshore_store::{BlobStore, StoreError};

use crate::{BuildError, stored::remove_damaged};

/// Unpacks layers of the registry, each once.
#[derive(Clone, Debug)]
pub struct Images {
    blobs: BlobStore,
    snapshots: Snapshots,
    scratch: PathBuf,
}

impl Images {
    /// Layers come from `blobs` and are unpacked into `snapshots`; what containers write goes below `scratch`.
    pub fn new(blobs: BlobStore, snapshots: Snapshots, scratch: PathBuf) -> Self {
        Self { blobs, snapshots, scratch }
    }

    /// Where containers put what they write.
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// The folders of an image's layers, lowest first. Those that are not unpacked yet are, side by side.
    pub fn unpack(&self, manifest: &Manifest, config: &ImageConfig) -> Result<Vec<PathBuf>, BuildError> {
        let layers = manifest.layers.iter().zip(&config.rootfs.diff_ids);
        std::thread::scope(|scope| {
            let unpacking: Vec<_> = layers
                .map(|(layer, diff_id)| {
                    scope.spawn(move || -> Result<PathBuf, BuildError> {
                        if let Some(folder) = self.snapshots.get(diff_id) {
                            return Ok(folder);
                        }
                        let blob = match self.blobs.open_blob(&layer.digest) {
                            Err(StoreError::BlobMissing { digest, .. }) => {
                                return Err(BuildError::Nowhere(digest));
                            }
                            blob => blob?,
                        };
                        match self.snapshots.unpack(diff_id, &layer.media_type, blob) {
                            Err(_) if remove_damaged(&self.blobs, &layer.digest)? => {
                                Err(BuildError::DamagedLayer(layer.digest))
                            }
                            Err(longshore_sandbox::Error::WrongLayer { wanted, found }) => {
                                Err(BuildError::WrongDiffId { layer: layer.digest, wanted, found })
                            }
                            unpacked => Ok(unpacked?),
                        }
                    })
                })
                .collect();
            unpacking
                .into_iter()
                .map(|layer| layer.join().unwrap_or(Err(BuildError::Lost("unpacking a layer"))))
                .collect()
        })
    }
}
