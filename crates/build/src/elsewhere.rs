//! Parents from, and images to, other registries than the embedded one.

use std::{cell::Cell, collections::BTreeSet, future::Future, sync::Arc, time::Instant};

use longshore_client::{BlobOutcome, BlobPushed, Event as Moving, Selection};
use longshore_oci::{
    Arch, Descriptor, Digest, ImageConfig, Manifest, MediaType, Platform, Reference, Repository, Tag,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::{
    BuildError, Builder, Event, Observer,
    parent::{FoundParent, LARGEST_CONFIG, Parent},
    stored::{BlobSink, StoredImage},
    wheels::Meter,
};

/// The row of the table that says which image an index has for a platform.
const CHOSEN: &str = "index-image";
/// The row of the table that says which repository of a registry a layer was last pushed to.
const PUSHED: &str = "pushed-layer";
/// The largest manifest that is read back.
const LARGEST_MANIFEST: u64 = 8 << 20;

/// An index, or an image, and a platform.
#[derive(Serialize)]
struct ChosenKey {
    index: Digest,
    platform: String,
}

/// The image for it.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct ChosenRow {
    manifest: Digest,
}

/// A layer in a registry.
#[derive(Serialize)]
struct PushedKey<'a> {
    host: &'a str,
    layer: Digest,
}

/// Where it is.
#[derive(Serialize, Deserialize)]
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

impl Builder {
    /// Whether a repository is in the embedded registry.
    pub(crate) fn is_embedded(&self, repository: &Repository) -> bool {
        repository.host() == self.uri
    }

    /// A parent from another registry: pulled unless all of it is here, and examined.
    pub(crate) async fn parent_elsewhere(
        &self,
        image: Reference,
        arch: Arch,
        observer: Observer<'_>,
    ) -> Result<Parent, BuildError> {
        let platform = Platform::linux(arch);
        // Tags move, so the registry is asked each time; what it answers is remembered by digest.
        let resolved = self.client.resolve(&image).await?;
        let key = ChosenKey { index: resolved.digest, platform: platform.to_string() };
        let known = self.table.get::<ChosenRow>(CHOSEN, &key);
        let held = known.map(|ChosenRow { manifest }| self.held(manifest)).transpose()?.flatten();
        let (digest, manifest, config) = if let Some(held) = held {
            held
        } else {
            let digest = self.pull(&image.at(resolved.digest), &platform, observer).await?;
            self.table.put(CHOSEN, &key, &ChosenRow { manifest: digest })?;
            self.held(digest)?.ok_or(BuildError::Lost("pulling the parent"))?
        };
        let source = Some(image.repository.clone());
        let found = FoundParent { image, digest, manifest, config, source };
        let builder = self.clone();
        let examine = move || found.examine(&builder.table, &builder.images, arch);
        tokio::task::spawn_blocking(examine).await.map_err(|_| BuildError::Lost("the parent"))?
    }

    /// An image whose blobs are all here.
    fn held(&self, digest: Digest) -> Result<Option<(Digest, Manifest, ImageConfig)>, BuildError> {
        let blobs = self.registry.blobs();
        if blobs.size_of(&digest)?.is_none() {
            return Ok(None);
        }
        let wrong = |source| BuildError::Manifest { image: digest.to_string(), source };
        let manifest = Manifest::parse(&blobs.read(&digest, LARGEST_MANIFEST)?).map_err(wrong)?;
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            if blobs.size_of(&blob.digest)? != Some(blob.size) {
                return Ok(None);
            }
        }
        let config = blobs.read(&manifest.config.digest, LARGEST_CONFIG)?;
        Ok(Some((digest, manifest, ImageConfig::parse(&config).map_err(wrong)?)))
    }

    async fn pull(
        &self,
        image: &Reference,
        platform: &Platform,
        observer: Observer<'_>,
    ) -> Result<Digest, BuildError> {
        let started = Instant::now();
        let meter = Meter::new(observer);
        let sink: Arc<dyn longshore_client::ImageSink> = Arc::new(BlobSink(self.registry.blobs().clone()));
        let selection = Selection::Platform(platform.clone());
        let work = |observer| async move {
            longshore_client::pull(&self.client, image, &selection, &sink, &observer).await
        };
        let outcome = told(work, |event| match event {
            Moving::Planned { bytes, .. } => observer(Event::FetchStarted { bytes }),
            Moving::Moved { digest, bytes, .. } => meter.at(&digest.to_string(), bytes),
            Moving::Blob { digest, outcome: BlobOutcome::Existed, size } => {
                meter.at(&digest.to_string(), size);
            }
            _ => {}
        })
        .await?;
        let (what, bytes) = (image.repository.to_string(), outcome.bytes);
        observer(Event::FetchDone { what, bytes, took: started.elapsed() });
        Ok(outcome.root.digest)
    }

    /// Sends a layer that was just made to where its image will go, while others are still being made.
    pub(crate) async fn send(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
    ) -> Result<Delivered, BuildError> {
        let source = StoredImage::new(self.registry.blobs().clone(), descriptor.clone());
        let observer: Arc<longshore_client::Observer> = Arc::new(longshore_client::ignore);
        let pushed = self.client.push_blob(repository, descriptor, Arc::new(source), &[], &observer).await?;
        Ok(match pushed {
            BlobPushed::Existed => Delivered::default(),
            BlobPushed::Mounted => Delivered { mounted: 1, ..Delivered::default() },
            BlobPushed::Uploaded => Delivered { layers: 1, bytes: descriptor.size, mounted: 0 },
        })
    }

    /// Pushes an image that is here: what the registry lacks of it, then its manifest, then its tag.
    pub(crate) async fn deliver(
        &self,
        repository: &Repository,
        tag: Option<&Tag>,
        manifest: &Manifest,
        parent: &Parent,
        observer: Observer<'_>,
    ) -> Result<Delivered, BuildError> {
        let bytes = manifest.to_bytes();
        let root = Descriptor::of(MediaType::Manifest, &bytes);
        self.registry.blobs().put(&bytes)?;
        let image = Arc::new(StoredImage::new(self.registry.blobs().clone(), root));
        let digest = Some(Digest::of(&bytes));
        let destination = [Reference { repository: repository.clone(), tag: tag.cloned(), digest }];
        let mount_from = self.neighbours(repository, manifest, parent);
        let meter = Meter::new(observer);
        let work = |observer| async move {
            longshore_client::push(&self.client, image, &destination, &mount_from, &observer).await
        };
        let layers = Cell::new(0);
        let outcome = told(work, |event| match event {
            Moving::Planned { bytes, .. } => observer(Event::PushStarted { bytes }),
            Moving::Moved { digest, bytes, .. } => meter.at(&digest.to_string(), bytes),
            Moving::Blob { digest, outcome, size } => {
                meter.at(&digest.to_string(), size);
                let is_layer = digest != manifest.config.digest;
                layers.set(layers.get() + usize::from(outcome == BlobOutcome::Moved && is_layer));
            }
            _ => {}
        })
        .await?;
        for layer in &manifest.layers {
            let key = PushedKey { host: repository.host(), layer: layer.digest };
            let row = PushedRow { repository: repository.path().to_owned() };
            self.table.put(PUSHED, &key, &row)?;
        }
        let mut delivered = Delivered::default();
        for pushed in outcome.repositories {
            delivered += Delivered { bytes: pushed.bytes, mounted: pushed.mounted, layers: 0 };
        }
        Ok(delivered)
    }

    /// The repositories of the same registry that have layers of the image.
    pub(crate) fn neighbours(
        &self,
        repository: &Repository,
        manifest: &Manifest,
        parent: &Parent,
    ) -> Vec<Repository> {
        let host = repository.host();
        let of_parent = parent.source.iter().filter(|source| source.host() == host).cloned();
        let of_layers = manifest.layers.iter().filter_map(|layer| {
            let row: PushedRow = self.table.get(PUSHED, &PushedKey { host, layer: layer.digest })?;
            format!("{host}/{}", row.repository).parse().ok()
        });
        let found: BTreeSet<Repository> = of_parent.chain(of_layers).collect();
        found.into_iter().filter(|found| found != repository).collect()
    }
}

impl std::ops::AddAssign for Delivered {
    fn add_assign(&mut self, other: Self) {
        self.layers += other.layers;
        self.bytes += other.bytes;
        self.mounted += other.mounted;
    }
}

/// Does work whose observer must live as long as its tasks, and passes on what it is told as it comes.
async fn told<T, W: Future<Output = T>>(
    work: impl FnOnce(Arc<longshore_client::Observer>) -> W,
    tell: impl Fn(Moving),
) -> T {
    let (sender, mut events) = mpsc::unbounded_channel();
    // Nobody listens any more when the work has been given up.
    let mut work = std::pin::pin!(work(Arc::new(move |event| {
        let _ = sender.send(event);
    })));
    loop {
        tokio::select! {
            biased;
            Some(event) = events.recv() => tell(event),
            done = &mut work => {
                while let Ok(event) = events.try_recv() {
                    tell(event);
                }
                return done;
            }
        }
    }
}
