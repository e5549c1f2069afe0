//! Layers as pure functions of their inputs (DESIGN §2.2): what was made once is remembered and not made again.

use std::{
    num::NonZeroUsize,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use longshore_layer::{
    Format, LayerSummary, LayerWriter,
    estargz::{self, ESTARGZ_VERSION},
    zstd::{self, ZSTD_VERSION},
};
use longshore_oci::{Descriptor, Digest, MediaType};
use longshore_pipeline::{Compression, DockerSettings, Lazy};
use longshore_store::{Blob, BlobStore, BlobWriter, Table};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::{BuildError, claim::Claims, event::Origin};

/// The row of the table that has the layer of some inputs.
pub(crate) const LAYER: &str = "layer";

/// A layer that exists: everything that an image says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// The digest of the compressed layer.
    pub digest: Digest,
    /// The size of the compressed layer in bytes.
    pub size: u64,
    /// The digest of the uncompressed layer.
    pub diff_id: Digest,
    /// The size of the uncompressed layer in bytes.
    pub uncompressed_size: u64,
    /// The digest of its table of contents, if it is an eStargz layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub toc: Option<Digest>,
    /// How it is compressed.
    #[serde(default, skip_serializing_if = "Packing::is_gzip")]
    pub packing: Packing,
}

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Packing {
    /// gzip.
    #[default]
    Gzip,
    /// Zstandard.
    Zstd,
}

impl Packing {
    /// How layers of a format are compressed.
    pub(crate) const fn of(format: Format) -> Self {
        match format {
            Format::Plain | Format::Estargz => Self::Gzip,
            Format::Zstd => Self::Zstd,
        }
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
    const fn is_gzip(&self) -> bool {
        matches!(self, Self::Gzip)
    }

    const fn media_type(self) -> MediaType {
        match self {
            Self::Gzip => MediaType::LayerGzip,
            Self::Zstd => MediaType::LayerZstd,
        }
    }
}

impl LayerRecord {
    /// The layer as an image's manifest has it.
    pub(crate) fn descriptor(&self) -> Descriptor {
        let mut descriptor = Descriptor::new(self.packing.media_type(), self.digest, self.size);
        if let Some(toc) = self.toc {
            let size = self.uncompressed_size.to_string();
            descriptor.annotations.insert(estargz::TOC_DIGEST.to_owned(), toc.to_string());
            descriptor.annotations.insert(estargz::UNCOMPRESSED_SIZE.to_owned(), size);
        }
        descriptor
    }
}

/// The format of the layers of an image with these settings.
pub(crate) const fn format_of(settings: &DockerSettings) -> Result<Format, BuildError> {
    Ok(match (settings.lazy, settings.compression) {
        (None, None | Some(Compression::Gzip)) => Format::Plain,
        (None, Some(Compression::Zstd)) => Format::Zstd,
        (Some(Lazy::Estargz), None | Some(Compression::Gzip)) => Format::Estargz,
        (Some(Lazy::Estargz), Some(Compression::Zstd)) => return Err(BuildError::LazyZstd),
    })
}

/// The inputs of an eStargz layer: those of the ordinary one, and the layout.
#[derive(Serialize)]
struct EstargzKey<'a, K> {
    estargz: u32,
    of: &'a K,
}

/// The inputs of a layer in Zstandard: those of the ordinary one, the layout, and the library that compresses.
#[derive(Serialize)]
struct ZstdKey<'a, K> {
    zstd: u32,
    library: u32,
    of: &'a K,
}

impl<'a, K> ZstdKey<'a, K> {
    fn of(key: &'a K) -> Self {
        Self { zstd: ZSTD_VERSION, library: zstd::library(), of: key }
    }
}

/// What a layer waits for before it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// A processor: writing it is work for one.
    Splice,
    /// The interpreters, which all layers of bytecode share.
    Compile,
}

/// From this length on, in bytes, a wheel's layer refers to the wheel's file, which then stays as long as the layer. Below
/// it, what that saves is less than what a recipe, a link and a folder cost.
const COMPOSED_FROM: u64 = 8 << 20;

/// So many layers of bytecode are written at once: while one waits for the interpreters' last files, another keeps them
/// busy. Each holds some megabytes.
const COMPILED_AT_ONCE: usize = 4;

/// How many processors there are.
pub(crate) fn processors() -> NonZeroUsize {
    thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// A layer that was just looked up or made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Made {
    pub(crate) record: LayerRecord,
    pub(crate) origin: Origin,
    /// How long the making took, without the wait for a processor.
    pub(crate) took: Duration,
}

/// The layers that there are, and the means to make others.
#[derive(Clone, Debug)]
pub(crate) struct Layers {
    blobs: BlobStore,
    table: Table,
    splicing: Arc<Semaphore>,
    compiling: Arc<Semaphore>,
    /// What is being fetched and made just now, for several images at once.
    pub(crate) claims: Claims,
    format: Format,
    place: Place,
}

/// Where a layer must be to count as known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// On this machine.
    Here,
    /// Wherever it is: whether the registry has it is asked when the image is put together.
    Anywhere,
}

impl Layers {
    pub(crate) fn new(blobs: BlobStore, table: Table) -> Self {
        Self {
            blobs,
            table,
            splicing: Arc::new(Semaphore::new(processors().get())),
            compiling: Arc::new(Semaphore::new(COMPILED_AT_ONCE)),
            claims: Claims::default(),
            format: Format::Plain,
            place: Place::Here,
        }
    }

    /// The same layers, remembered in another table.
    pub(crate) fn remembered_in(&self, table: Table) -> Self {
        Self { table, ..self.clone() }
    }

    /// The same layers, for those that are nobody else's business.
    pub(crate) fn apart(&self) -> Self {
        self.remembered_in(self.table.apart())
    }

    /// The same layers, of which only those on this machine count as known.
    fn here(&self) -> Self {
        Self { place: Place::Here, ..self.clone() }
    }

    /// The same layers for an image that goes to another registry, which may have those that this machine lacks.
    pub(crate) fn anywhere(&self) -> Self {
        Self { place: Place::Anywhere, ..self.clone() }
    }

    /// The same layers in another format: looked up and made apart from the others.
    pub(crate) fn in_format(&self, format: Format) -> Self {
        Self { format, ..self.clone() }
    }

    /// Where they are.
    pub(crate) const fn blobs(&self) -> &BlobStore {
        &self.blobs
    }

    /// Keeps a small blob beside the layers; says how many bytes of it are new.
    pub(crate) fn put(&self, bytes: &[u8]) -> Result<u64, BuildError> {
        let known = self.blobs.size_of(&Digest::of(bytes))?.is_some();
        self.blobs.put(bytes)?;
        Ok(if known { 0 } else { bytes.len() as u64 })
    }

    /// The layer of these inputs, if it was made before; stored here still, unless it may be [anywhere](Self::anywhere).
    pub(crate) fn known(&self, key: &impl Serialize) -> Result<Option<LayerRecord>, BuildError> {
        let record = match self.format {
            Format::Plain => self.table.get::<LayerRecord>(LAYER, key),
            Format::Estargz => self.table.get(LAYER, &EstargzKey { estargz: ESTARGZ_VERSION, of: key }),
            Format::Zstd => self.table.get(LAYER, &ZstdKey::of(key)),
        };
        let Some(record) = record else { return Ok(None) };
        let is_known =
            self.place == Place::Anywhere || self.blobs.size_of(&record.digest)? == Some(record.size);
        Ok(is_known.then_some(record))
    }

    /// Makes the layer of these inputs with `write`, on a thread of its own, and remembers it; unless another image has just
    /// made it.
    pub(crate) async fn make<F>(&self, key: &impl Serialize, lane: Lane, write: F) -> Result<Made, BuildError>
    where
        F: FnOnce(LayerWriter<BlobWriter>) -> Result<(BlobWriter, LayerSummary), BuildError> + Send + 'static,
    {
        self.make_into(self.blobs.writer(), key, lane, write).await
    }

    /// The same for the layer of one wheel. A large wheel's streams stay where they are, and are not written again.
    pub(crate) async fn make_of<F>(
        &self,
        wheel: &Blob,
        key: &impl Serialize,
        write: F,
    ) -> Result<Made, BuildError>
    where
        F: FnOnce(LayerWriter<BlobWriter>) -> Result<(BlobWriter, LayerSummary), BuildError> + Send + 'static,
    {
        // Zstandard takes no stream over.
        let is_composed = self.format != Format::Zstd && wheel.size().is_ok_and(|size| size >= COMPOSED_FROM);
        let writer = if is_composed { self.blobs.composing_writer(wheel) } else { self.blobs.writer() };
        self.make_into(writer, key, Lane::Splice, write).await
    }

    async fn make_into<F>(
        &self,
        writer: BlobWriter,
        key: &impl Serialize,
        lane: Lane,
        write: F,
    ) -> Result<Made, BuildError>
    where
        F: FnOnce(LayerWriter<BlobWriter>) -> Result<(BlobWriter, LayerSummary), BuildError> + Send + 'static,
    {
        let _claim = self.claims.take(LAYER, &(format!("{:?}", self.format), key)).await;
        // One that was known and is made again is neither here nor where the image goes.
        if let Some(record) = self.here().known(key)? {
            return Ok(Made { record, origin: Origin::Reused, took: Duration::ZERO });
        }
        // The semaphore is never closed; if it were, one layer too many would be written at once.
        let lane = match lane {
            Lane::Splice => &self.splicing,
            Lane::Compile => &self.compiling,
        };
        let place = Arc::clone(lane).acquire_owned().await.ok();
        let format = self.format;
        let written = tokio::task::spawn_blocking(move || {
            let started = Instant::now();
            let layer = LayerWriter::with_format(writer, format)?.copying(BlobWriter::copy);
            let (writer, summary) = write(layer)?;
            let (digest, size) = writer.commit()?;
            drop(place);
            let LayerSummary { diff_id, uncompressed_size, toc, .. } = summary;
            let packing = Packing::of(format);
            let record = LayerRecord { digest, size, diff_id, uncompressed_size, toc, packing };
            Ok::<_, BuildError>((record, started.elapsed()))
        });
        let (record, took) = written.await.map_err(|_| BuildError::Lost("writing a layer"))??;
        match self.format {
            Format::Plain => self.table.put(LAYER, key, &record)?,
            Format::Estargz => {
                self.table.put(LAYER, &EstargzKey { estargz: ESTARGZ_VERSION, of: key }, &record)?;
            }
            Format::Zstd => self.table.put(LAYER, &ZstdKey::of(key), &record)?,
        }
        Ok(Made { record, origin: Origin::New, took })
    }

    /// The layer of these inputs: looked up, or else made.
    pub(crate) async fn get<F>(&self, key: &impl Serialize, lane: Lane, write: F) -> Result<Made, BuildError>
    where
        F: FnOnce(LayerWriter<BlobWriter>) -> Result<(BlobWriter, LayerSummary), BuildError> + Send + 'static,
    {
        match self.known(key)? {
            Some(record) => Ok(Made { record, origin: Origin::Reused, took: Duration::ZERO }),
            None => self.make(key, lane, write).await,
        }
    }
}
