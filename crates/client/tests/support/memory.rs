//! Images in memory.

use std::{
    collections::BTreeMap,
    io::{self, Cursor, Read},
    sync::Mutex,
};

use longshore_client::{BlobSource, BlobWriter, CommitError, ImageSink, ImageSource};
use longshore_oci::{Descriptor, Digest, Index, Manifest, MediaType};
use longshore_testkit::Seeded;

/// An image, or several under an index.
#[derive(Clone)]
pub(crate) struct Memory {
    pub(crate) root: Descriptor,
    pub(crate) content: BTreeMap<Digest, Vec<u8>>,
}

impl Memory {
    /// An image with layers of these sizes.
    pub(crate) fn image(seed: u64, sizes: &[usize]) -> Self {
        let mut content = BTreeMap::new();
        let mut keep = |media_type: MediaType, bytes: Vec<u8>| {
            let descriptor = Descriptor::of(media_type, &bytes);
            content.insert(descriptor.digest, bytes);
            descriptor
        };
        let layers = sizes
            .iter()
            .enumerate()
            .map(|(at, size)| keep(MediaType::LayerTar, Seeded::of(seed, at).bytes(*size)));
        let layers: Vec<_> = layers.collect();
        let diff_ids: Vec<_> = layers.iter().map(|layer| layer.digest.to_string()).collect();
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "config": {}, "seed": seed,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = keep(MediaType::Config, config.to_string().into_bytes());
        let root = keep(MediaType::Manifest, Manifest::image(config, layers).to_bytes());
        Self { root, content }
    }

    /// Several images under one index, each for the platform beside it.
    pub(crate) fn index(images: &[(&str, Self)]) -> Self {
        let mut content = BTreeMap::new();
        let mut manifests = Vec::new();
        for (platform, image) in images {
            content.extend(image.content.clone());
            let mut root = image.root.clone();
            root.platform = Some(platform.parse().unwrap());
            manifests.push(root);
        }
        let bytes = Index::new(manifests).to_bytes();
        let root = Descriptor::of(MediaType::Index, &bytes);
        content.insert(root.digest, bytes);
        Self { root, content }
    }

    /// The manifest of an image.
    pub(crate) fn manifest(&self) -> Manifest {
        Manifest::parse(&self.content[&self.root.digest]).unwrap()
    }

    /// The first layer.
    pub(crate) fn layer(&self) -> Descriptor {
        self.manifest().layers[0].clone()
    }
}

impl BlobSource for Memory {
    fn open(&self, blob: &Descriptor, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let bytes = self.content.get(&blob.digest).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(Cursor::new(bytes[usize::try_from(offset).unwrap()..].to_vec())))
    }
}

impl ImageSource for Memory {
    fn root(&self) -> Descriptor {
        self.root.clone()
    }

    fn manifest(&self, descriptor: &Descriptor) -> io::Result<Vec<u8>> {
        Ok(self.content.get(&descriptor.digest).ok_or(io::ErrorKind::NotFound)?.clone())
    }
}

/// Keeps what it is given.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) blobs: std::sync::Arc<Mutex<BTreeMap<Digest, Vec<u8>>>>,
    pub(crate) manifests: Mutex<Vec<(Descriptor, Vec<u8>)>>,
}

impl ImageSink for Kept {
    fn has(&self, blob: &Descriptor) -> io::Result<bool> {
        Ok(self.blobs.lock().unwrap().contains_key(&blob.digest))
    }

    fn writer(&self, _: &Descriptor) -> io::Result<Box<dyn BlobWriter>> {
        Ok(Box::new(Writer { blobs: self.blobs.clone(), bytes: Vec::new() }))
    }

    fn manifest(&self, descriptor: &Descriptor, bytes: &[u8]) -> io::Result<()> {
        self.manifests.lock().unwrap().push((descriptor.clone(), bytes.to_vec()));
        Ok(())
    }
}

struct Writer {
    blobs: std::sync::Arc<Mutex<BTreeMap<Digest, Vec<u8>>>>,
    bytes: Vec<u8>,
}

impl BlobWriter for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn commit(self: Box<Self>, digest: &Digest) -> Result<(), CommitError> {
        self.blobs.lock().unwrap().insert(*digest, self.bytes.clone());
        Ok(())
    }
}
