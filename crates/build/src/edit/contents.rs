//! What images consist of: read from their layers once, and remembered by the layers' digests.

use std::{sync::Arc, time::Instant};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use longshore_attest::{
    AttestError,
    contents::{Anatomy, LayerContents},
    layers,
};
use longshore_client::{ImageSink, Observer as Listener};
use longshore_oci::{Descriptor, Digest, Repository};
use longshore_store::{Blob, BlobStore};
use serde::Serialize;

use super::{EditError, FoundImage, Parts};
use crate::{BlobSink, BuildError, Builder, Event, Observer, layer::processors};

/// The row of the table that says what a layer holds.
const CONTENTS: &str = "layer-contents";
/// The version of what is kept of a layer: with another, it is read again.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Key {
    contents: u32,
    layer: Digest,
}

impl Key {
    const fn of(diff_id: &Digest) -> Self {
        Self { contents: VERSION, layer: *diff_id }
    }
}

/// The layers of an image, lowest first.
#[derive(Clone, Debug)]
pub struct Contents(pub Vec<LayerContents>);

impl Contents {
    /// The layers over each other.
    pub fn anatomy(&self) -> Anatomy {
        Anatomy::of(&self.0)
    }
}

impl Builder {
    /// The bytes of layers that would have to be downloaded to know what the image consists of, and how many those are.
    pub fn unread(&self, image: &Parts) -> Result<(usize, u64), BuildError> {
        let (mut count, mut bytes) = (0, 0);
        for (layer, diff_id) in layers(&image.manifest, &image.config)? {
            let is_here = self.registry.blobs().size_of(&layer.digest)? == Some(layer.size);
            if !is_here && self.table.get::<LayerContents>(CONTENTS, &Key::of(&diff_id)).is_none() {
                count += 1;
                bytes += layer.size;
            }
        }
        Ok((count, bytes))
    }

    /// What the layers of an image hold, as far as it was looked for before; `None` if one was not.
    pub fn remembered(&self, image: &Parts) -> Result<Option<Contents>, BuildError> {
        let layers = layers(&image.manifest, &image.config)?;
        let known = layers.iter().map(|(_, diff_id)| self.table.get(CONTENTS, &Key::of(diff_id)));
        Ok(known.collect::<Option<Vec<_>>>().map(Contents))
    }

    /// What the layers of an image hold. Those that are not here are downloaded, read and not kept.
    pub async fn contents(&self, image: &FoundImage, observer: Observer<'_>) -> Result<Contents, BuildError> {
        let layers = layers(&image.parts.manifest, &image.parts.config)?;
        self.contents_of(&layers, std::slice::from_ref(&image.repository), observer).await
    }

    /// What some layers hold; those that are not here are in one of the repositories.
    pub(crate) async fn contents_of(
        &self,
        layers: &[(&Descriptor, Digest)],
        sources: &[Repository],
        observer: Observer<'_>,
    ) -> Result<Contents, BuildError> {
        let reading = stream::iter(layers)
            .map(|(layer, diff_id)| self.layer_contents(layer, diff_id, sources, observer));
        Ok(Contents(reading.buffered(processors().get()).try_collect().await?))
    }

    async fn layer_contents(
        &self,
        layer: &Descriptor,
        diff_id: &Digest,
        sources: &[Repository],
        observer: Observer<'_>,
    ) -> Result<LayerContents, BuildError> {
        let key = Key::of(diff_id);
        if let Some(known) = self.table.get(CONTENTS, &key) {
            return Ok(known);
        }
        let held = self.registry.blobs();
        let file = if held.size_of(&layer.digest)? == Some(layer.size) {
            held.open_blob(&layer.digest)?
        } else {
            self.download(layer, sources, observer).await?
        };
        let (layer, diff_id) = (layer.clone(), *diff_id);
        let read = tokio::task::spawn_blocking(move || LayerContents::read(&layer, &diff_id, file)).await;
        let contents = read.map_err(|_| BuildError::Lost("reading a layer"))??;
        self.table.put(CONTENTS, &key, &contents)?;
        Ok(contents)
    }

    /// A layer in a file without a name: it takes no room when it has been read.
    async fn download(
        &self,
        layer: &Descriptor,
        sources: &[Repository],
        observer: Observer<'_>,
    ) -> Result<Blob, BuildError> {
        let cannot = |source| BuildError::Io { doing: "making a folder for a layer".to_owned(), source };
        let folder = tempfile::Builder::new().prefix("longshore-layer-").tempdir().map_err(cannot)?;
        let scratch = BlobStore::open(folder.path())?;
        let started = Instant::now();
        observer(Event::FetchStarted { bytes: layer.size });
        self.pull_into(&scratch, layer, sources).await?;
        let what = format!("layer {}", layer.digest.short());
        observer(Event::FetchProgress { bytes: layer.size.cast_signed() });
        observer(Event::FetchDone { what, bytes: layer.size, took: started.elapsed() });
        Ok(scratch.open_blob(&layer.digest)?)
    }

    /// Downloads a blob from the first of the repositories that has it.
    pub(crate) async fn pull_into(
        &self,
        blobs: &BlobStore,
        blob: &Descriptor,
        sources: &[Repository],
    ) -> Result<(), BuildError> {
        let sink: Arc<dyn ImageSink> = Arc::new(BlobSink(blobs.clone()));
        let listener: Arc<Listener> = Arc::new(longshore_client::ignore);
        let mut failed = None;
        for source in sources.iter().filter(|source| !self.is_embedded(source)) {
            match self.client.pull_blob(source, blob, &sink, &listener).await {
                Ok(()) => return Ok(()),
                Err(error) => failed = Some(error),
            }
        }
        if let Some(error) = failed {
            return Err(error.into());
        }
        let image = sources.first().map(ToString::to_string).unwrap_or_default();
        Err(EditError::LayerMissing { layer: blob.digest, image }.into())
    }
}

impl From<AttestError> for BuildError {
    fn from(error: AttestError) -> Self {
        Self::Contents(Box::new(error))
    }
}

impl From<EditError> for BuildError {
    fn from(error: EditError) -> Self {
        Self::Edit(Box::new(error))
    }
}
