//! Parents from other registries than the embedded one: planned from manifest and configuration, pulled when something
//! must be read, compiled or run.

use std::{collections::BTreeSet, future::Future, sync::Arc, time::Instant};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use longshore_client::{BlobOutcome, ClientError, Event as Moving};
use longshore_oci::{
    Arch, Descriptor, Digest, ImageConfig, Index, Manifest, Platform, Reference, Repository,
};
use longshore_store::Table;
use tokio::sync::mpsc;

use crate::{
    BuildError, Builder, Built, Event, Observer,
    parent::{DOCUMENT, FoundParent, LARGEST_CONFIG, Parent, Reading, TAG_SEEN},
    stored::BlobSink,
    wheels::Meter,
};

/// A manifest or configuration that was seen before: its bytes have that digest, whoever kept them.
pub(crate) fn document(table: &Table, digest: &Digest) -> Option<String> {
    let text: String = table.get(DOCUMENT, digest)?;
    if Digest::of(&text) == *digest {
        return Some(text);
    }
    table.disown(DOCUMENT, digest);
    None
}

/// Remembers a manifest or configuration.
pub(crate) fn remember(table: &Table, digest: &Digest, bytes: &[u8]) -> Result<(), BuildError> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        table.put(DOCUMENT, digest, &text)?;
    }
    Ok(())
}

impl Builder {
    /// Whether a repository is in the embedded registry.
    pub(crate) fn is_embedded(&self, repository: &Repository) -> bool {
        repository.host() == self.uri
    }

    /// A parent from another registry. Its layers stay there, unless they must be read to examine it.
    pub(crate) async fn parent_elsewhere(
        &self,
        image: Reference,
        arch: Arch,
        reading: Reading,
        observer: Observer<'_>,
    ) -> Result<Parent, BuildError> {
        // Tags move, so the registry is asked each time; what it answers is remembered by digest.
        let top = match image.digest {
            Some(digest) => digest,
            None => self.client.resolve(&image).await?.digest,
        };
        self.notice(&image, top, observer);
        let (digest, manifest, config) = self.described(&image, top, &Platform::linux(arch)).await?;
        let source = Some(image.repository.clone());
        let found = FoundParent { image, top, digest, manifest, config, source };
        self.examine(found, arch, reading, observer).await
    }

    /// Says so if a tag stood for something else in an earlier build.
    pub(crate) fn notice(&self, image: &Reference, now: Digest, observer: Observer<'_>) {
        let before = self.table.get::<Digest>(TAG_SEEN, &image.to_string());
        if let Some(before) = before.filter(|before| image.digest.is_none() && *before != now) {
            observer(Event::ParentMoved { image: image.to_string(), from: before, to: now });
        }
    }

    /// The manifest and the configuration of an image for a platform, from what is remembered or from its registry.
    async fn described(
        &self,
        image: &Reference,
        top: Digest,
        platform: &Platform,
    ) -> Result<(Digest, Manifest, ImageConfig), BuildError> {
        let wrong = |source| BuildError::Manifest { image: image.to_string(), source };
        let manifest = |digest| async move { Ok(self.client.manifest(&image.at(digest)).await?.bytes) };
        let mut digest = top;
        let mut text = self.document_or(digest, manifest(digest)).await?;
        if is_index(&text) {
            let index = Index::parse(&text).map_err(wrong)?;
            let chosen = index.for_platform(platform).ok_or_else(|| {
                let platforms = index.manifests.iter().filter_map(|manifest| manifest.platform.as_ref());
                BuildError::ParentPlatform {
                    image: Box::new(image.clone()),
                    found: platforms.map(ToString::to_string).collect::<Vec<_>>().join(", "),
                    wanted: platform.to_string(),
                }
            })?;
            digest = chosen.digest;
            text = self.document_or(digest, manifest(digest)).await?;
        }
        let manifest = Manifest::parse(&text).map_err(wrong)?;
        let config =
            async { Ok(self.client.blob(&image.repository, &manifest.config, LARGEST_CONFIG).await?) };
        let config = self.document_or(manifest.config.digest, config).await?;
        let config = ImageConfig::parse(&config).map_err(wrong)?;
        if manifest.layers.len() == config.rootfs.diff_ids.len() {
            return Ok((digest, manifest, config));
        }
        let reason = "it has not as many layers as its configuration says".to_owned();
        Err(BuildError::ParentPython { image: Box::new(image.clone()), reason })
    }

    async fn document_or(
        &self,
        digest: Digest,
        fetched: impl Future<Output = Result<Bytes, BuildError>>,
    ) -> Result<Vec<u8>, BuildError> {
        if let Some(text) = document(&self.table, &digest) {
            return Ok(text.into_bytes());
        }
        let bytes = fetched.await?;
        remember(&self.table, &digest, &bytes)?;
        Ok(bytes.to_vec())
    }

    /// Whether this machine has a blob.
    pub(crate) fn has(&self, blob: &Descriptor) -> Result<bool, BuildError> {
        Ok(self.registry.blobs().size_of(&blob.digest)? == Some(blob.size))
    }

    /// Sees to it that this machine has all layers of an image that was built, so that it can be run here.
    pub async fn bring_here(&self, built: &Built, observer: Observer<'_>) -> Result<(), BuildError> {
        self.pull(&built.manifest, std::slice::from_ref(&built.image.repository), observer).await
    }

    /// Pulls those layers of an image that are not here, each from the first of some repositories that has it.
    pub(crate) async fn pull(
        &self,
        manifest: &Manifest,
        from: &[Repository],
        observer: Observer<'_>,
    ) -> Result<(), BuildError> {
        let mut missing = Vec::new();
        let mut seen = BTreeSet::new();
        for layer in &manifest.layers {
            if seen.insert(layer.digest) && !self.has(layer)? {
                missing.push(layer.clone());
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let started = Instant::now();
        let bytes = missing.iter().map(|layer| layer.size).sum();
        observer(Event::FetchStarted { bytes });
        let meter = Meter::new(observer);
        let sink: Arc<dyn longshore_client::ImageSink> = Arc::new(BlobSink(self.registry.blobs().clone()));
        let work = |observer: Arc<longshore_client::Observer>| async move {
            let layers = stream::iter(&missing).map(|layer| self.pull_layer(layer, from, &sink, &observer));
            layers.buffer_unordered(self.client.config().parallel.max(1)).try_collect::<Vec<()>>().await
        };
        told(work, |event| match event {
            Moving::Moved { digest, bytes, .. } => meter.at(&digest.to_string(), bytes),
            Moving::Blob { digest, outcome: BlobOutcome::Existed, size } => {
                meter.at(&digest.to_string(), size);
            }
            _ => {}
        })
        .await?;
        let what = from.first().map_or_else(String::new, ToString::to_string);
        observer(Event::FetchDone { what, bytes, took: started.elapsed() });
        Ok(())
    }

    async fn pull_layer(
        &self,
        layer: &Descriptor,
        from: &[Repository],
        sink: &Arc<dyn longshore_client::ImageSink>,
        observer: &Arc<longshore_client::Observer>,
    ) -> Result<(), BuildError> {
        let mut last = None;
        for repository in from.iter().filter(|repository| !self.is_embedded(repository)) {
            match self.client.pull_blob(repository, layer, sink, observer).await {
                Ok(()) => return Ok(()),
                Err(error @ ClientError::NotFound { .. }) => last = Some(error),
                Err(error) => return Err(error.into()),
            }
        }
        Err(last.map_or(BuildError::Nowhere(layer.digest), BuildError::from))
    }
}

fn is_index(text: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Outline {
        manifests: Option<serde::de::IgnoredAny>,
    }
    serde_json::from_slice::<Outline>(text).is_ok_and(|outline| outline.manifests.is_some())
}

/// Does work whose observer must live as long as its tasks, and passes on what it is told as it comes.
pub(crate) async fn told<T, W: Future<Output = T>>(
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
