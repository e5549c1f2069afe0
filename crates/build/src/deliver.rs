//! Images to other registries than the embedded one: what a registry lacks of an image, from wherever it is.

use std::{
    io::{self, Cursor, Read, Seek as _, SeekFrom},
    sync::Arc,
};

use longshore_client::{BlobOutcome, BlobPushed, BlobSource, ClientError, Event as Moving, RemoteBlobs};
use longshore_oci::{Descriptor, Digest, Manifest, MediaType, Repository, Tag};
use serde::{Deserialize, Serialize};

use crate::{BuildError, Builder, elsewhere::told, stored::StoredImage, wheels::Meter};

/// The row of the table that says which repository of a registry a layer was last pushed to.
const PUSHED: &str = "pushed-layer";

/// A layer in a registry.
#[derive(Serialize)]
struct PushedKey<'a> {
    host: &'a str,
    layer: Digest,
}

/// Where it is.
#[derive(PartialEq, Serialize, Deserialize)]
struct PushedRow {
    repository: String,
}

/// What became of an image that was pushed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Delivered {
    /// How many layers were moved.
    pub(crate) layers: usize,
    /// The bytes that were moved, of layers and configuration.
    pub(crate) bytes: u64,
    /// How many the registry took from another of its repositories.
    pub(crate) mounted: usize,
}

/// Where a layer is that a repository may lack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whence<'a> {
    pub(crate) layer: &'a Descriptor,
    /// A repository that has it, perhaps of another registry.
    pub(crate) source: Option<&'a Repository>,
}

impl Builder {
    /// Whether a repository of another registry has a blob, as far as we are told.
    pub(crate) async fn is_there(
        &self,
        repository: &Repository,
        blob: &Descriptor,
    ) -> Result<bool, BuildError> {
        match self.client.has_blob(repository, &blob.digest).await {
            Ok(size) => Ok(size == Some(blob.size)),
            // Some registries say so of repositories that do not exist yet.
            Err(
                ClientError::Denied { .. } | ClientError::Unauthorized { .. } | ClientError::NotFound { .. },
            ) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Sees to it that a repository has a layer: it is there, or the registry takes it from another of its repositories, or it
    /// is sent from this machine, or passed on from the registry that has it. `None` if it is nowhere.
    pub(crate) async fn bring(
        &self,
        repository: &Repository,
        whence: Whence<'_>,
        meter: &Meter<'_>,
    ) -> Result<Option<Delivered>, BuildError> {
        let Whence { layer, source } = whence;
        let content: Arc<dyn BlobSource> = if self.has(layer)? {
            Arc::new(StoredImage::new(self.registry.blobs().clone(), layer.clone()))
        } else if self.is_there(repository, layer).await? {
            meter.at(&layer.digest.to_string(), layer.size);
            return Ok(Some(Delivered::default()));
        } else {
            match source.filter(|source| *source != repository && !self.is_embedded(source)) {
                None => return Ok(None),
                Some(source) => Arc::new(RemoteBlobs::new(self.client.clone(), source.clone())),
            }
        };
        let key = PushedKey { host: repository.host(), layer: layer.digest };
        let before: Option<PushedRow> = self.table.get(PUSHED, &key);
        let mount_from = self.neighbours(repository, whence);
        let work = |observer| {
            let mount_from = &mount_from;
            async move { self.client.push_blob(repository, layer, content, mount_from, &observer).await }
        };
        let pushed = told(work, |event| match event {
            Moving::Moved { digest, bytes, .. } => meter.at(&digest.to_string(), bytes),
            Moving::Blob { digest, outcome: BlobOutcome::Existed | BlobOutcome::Mounted, size } => {
                meter.at(&digest.to_string(), size);
            }
            _ => {}
        })
        .await?;
        let row = PushedRow { repository: repository.path().to_owned() };
        if before.as_ref() != Some(&row) {
            self.table.put(PUSHED, &key, &row)?;
        }
        Ok(Some(match pushed {
            BlobPushed::Existed => Delivered::default(),
            BlobPushed::Mounted => Delivered { mounted: 1, ..Delivered::default() },
            BlobPushed::Uploaded => Delivered { layers: 1, bytes: layer.size, mounted: 0 },
        }))
    }

    /// The other repositories of the same registry that have a layer, as far as is known.
    pub(crate) fn neighbours(&self, repository: &Repository, whence: Whence<'_>) -> Vec<Repository> {
        let host = repository.host();
        let row: Option<PushedRow> = self.table.get(PUSHED, &PushedKey { host, layer: whence.layer.digest });
        let last = row.and_then(|row| format!("{host}/{}", row.repository).parse().ok());
        let mut found: Vec<Repository> = whence.source.into_iter().cloned().chain(last).collect();
        found.retain(|other| other.host() == host && other != repository);
        found.dedup();
        found
    }

    /// Pushes an image whose layers are all there: its configuration, then its manifest, then its tag.
    pub(crate) async fn deliver(
        &self,
        repository: &Repository,
        tag: Option<&Tag>,
        manifest: &Manifest,
        config: &[u8],
    ) -> Result<Delivered, BuildError> {
        let observer: Arc<longshore_client::Observer> = Arc::new(longshore_client::ignore);
        let content = Arc::new(InMemory(config.to_vec()));
        let pushed = self.client.push_blob(repository, &manifest.config, content, &[], &observer).await?;
        let bytes = if pushed == BlobPushed::Uploaded { manifest.config.size } else { 0 };
        let document = manifest.to_bytes();
        let tags = tag.map_or(&[][..], std::slice::from_ref);
        longshore_client::push_manifest(&self.client, repository, &document, &MediaType::Manifest, tags)
            .await?;
        Ok(Delivered { bytes, ..Delivered::default() })
    }
}

impl std::ops::AddAssign for Delivered {
    fn add_assign(&mut self, other: Self) {
        self.layers += other.layers;
        self.bytes += other.bytes;
        self.mounted += other.mounted;
    }
}

/// A small blob to send.
#[derive(Debug)]
pub(crate) struct InMemory(pub(crate) Vec<u8>);

impl BlobSource for InMemory {
    fn open(&self, _: &Descriptor, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let mut bytes = Cursor::new(self.0.clone());
        bytes.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(bytes))
    }
}
