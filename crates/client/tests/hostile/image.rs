//! Images in memory, to be pushed and pulled.

use std::{
    collections::BTreeMap,
    io::{self, Cursor, Read},
    sync::{Arc, Mutex},
};

use longshore_client::{BlobSource, BlobWriter, CommitError, ImageSink, ImageSource};
use longshore_oci::{Arch, Descriptor, Digest, Index, Manifest, MediaType, Platform};
use longshore_testkit::{HostileRegistry, Seeded};

/// An image, or several under an index.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) root: Descriptor,
    pub(crate) manifests: BTreeMap<Digest, Vec<u8>>,
    pub(crate) blobs: BTreeMap<Digest, Vec<u8>>,
}

impl Image {
    /// One whose layers have these lengths.
    pub(crate) fn of(dice: &mut Seeded, sizes: &[usize]) -> Self {
        let mut image = Self {
            root: Descriptor::of(MediaType::Manifest, b""),
            manifests: BTreeMap::new(),
            blobs: BTreeMap::new(),
        };
        let config = format!("{{\"architecture\":\"amd64\",\"os\":\"linux\",\"number\":{}}}", dice.next());
        let config = image.blob(MediaType::Config, config.into_bytes());
        let layers = sizes.iter().map(|size| image.blob(MediaType::LayerGzip, dice.bytes(*size))).collect();
        image.root = image.document(MediaType::Manifest, Manifest::image(config, layers).to_bytes());
        image
    }

    /// A small one of any shape; now and then one with a layer that GitHub's registry takes in no single chunk, or with
    /// an index.
    pub(crate) fn any(dice: &mut Seeded) -> Self {
        const SIZES: [usize; 6] = [0, 1, 77, 4096, 30_000, 200_000];
        let sizes: Vec<_> = (0..dice.below(5)).map(|_| SIZES[dice.below(SIZES.len())]).collect();
        match dice.below(16) {
            0 => Self::of(dice, &[sizes, vec![(4 << 20) + 12_345]].concat()),
            1 | 2 => {
                let mut both = Self::of(dice, &sizes);
                let other = Self::of(dice, &[500]);
                let mut entries = [both.root.clone(), other.root];
                entries[0].platform = Some(Platform::linux(Arch::Amd64));
                entries[1].platform = Some(Platform::linux(Arch::Arm64));
                both.manifests.extend(other.manifests);
                both.blobs.extend(other.blobs);
                both.root = both.document(MediaType::Index, Index::new(entries.to_vec()).to_bytes());
                both
            }
            _ => Self::of(dice, &sizes),
        }
    }

    fn blob(&mut self, media_type: MediaType, bytes: Vec<u8>) -> Descriptor {
        let descriptor = Descriptor::of(media_type, &bytes);
        self.blobs.insert(descriptor.digest, bytes);
        descriptor
    }

    fn document(&mut self, media_type: MediaType, bytes: Vec<u8>) -> Descriptor {
        let descriptor = Descriptor::of(media_type, &bytes);
        self.manifests.insert(descriptor.digest, bytes);
        descriptor
    }

    /// Puts it into a registry, past its API.
    pub(crate) fn store(&self, registry: &HostileRegistry, repository: &str, tag: &str) {
        for bytes in self.blobs.values() {
            registry.put_blob(repository, bytes.clone());
        }
        for (digest, bytes) in &self.manifests {
            let is_root = *digest == self.root.digest;
            let media_type = if is_root { &self.root.media_type } else { &MediaType::Manifest };
            registry.put_manifest(repository, media_type, bytes.clone(), is_root.then_some(tag));
        }
    }

    /// What a registry lacks of it.
    pub(crate) fn missing_in(&self, registry: &HostileRegistry, repository: &str, tag: &str) -> Vec<String> {
        let mut missing = Vec::new();
        for (digest, bytes) in &self.blobs {
            if registry.blob(repository, digest).is_none_or(|found| found != bytes.as_slice()) {
                missing.push(format!("blob {digest} ({} bytes)", bytes.len()));
            }
        }
        for (digest, bytes) in &self.manifests {
            let found = registry.manifest(repository, &digest.to_string());
            if found.is_none_or(|found| found != bytes.as_slice()) {
                missing.push(format!("manifest {digest}"));
            }
        }
        let tagged = registry.manifest(repository, tag);
        if tagged.is_none_or(|found| found != self.manifests[&self.root.digest].as_slice()) {
            missing.push(format!("tag {tag}"));
        }
        missing
    }

    pub(crate) fn shared(&self) -> Arc<dyn ImageSource> {
        Arc::new(self.clone())
    }
}

impl BlobSource for Image {
    fn open(&self, blob: &Descriptor, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let bytes = self.blobs.get(&blob.digest).ok_or(io::ErrorKind::NotFound)?.clone();
        let mut cursor = Cursor::new(bytes);
        cursor.set_position(offset);
        Ok(Box::new(cursor))
    }
}

impl ImageSource for Image {
    fn root(&self) -> Descriptor {
        self.root.clone()
    }

    fn manifest(&self, descriptor: &Descriptor) -> io::Result<Vec<u8>> {
        self.manifests.get(&descriptor.digest).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// Keeps an image in memory, and notes what no client may do to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sink(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) blobs: BTreeMap<Digest, Vec<u8>>,
    pub(crate) manifests: BTreeMap<Digest, Vec<u8>>,
    pub(crate) wrong: Vec<String>,
}

impl Sink {
    pub(crate) fn shared(&self) -> Arc<dyn ImageSink> {
        Arc::new(self.clone())
    }

    pub(crate) fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap()
    }
}

impl ImageSink for Sink {
    fn has(&self, blob: &Descriptor) -> io::Result<bool> {
        Ok(self.kept().blobs.contains_key(&blob.digest))
    }

    fn writer(&self, _: &Descriptor) -> io::Result<Box<dyn BlobWriter>> {
        Ok(Box::new(Writer { sink: self.clone(), bytes: Vec::new() }))
    }

    fn manifest(&self, descriptor: &Descriptor, bytes: &[u8]) -> io::Result<()> {
        let mut kept = self.kept();
        if Digest::of(bytes) != descriptor.digest {
            kept.wrong.push(format!("manifest {} has other bytes", descriptor.digest));
        }
        if descriptor.media_type.is_manifest() {
            let manifest = Manifest::parse(bytes).unwrap();
            for blob in manifest.layers.iter().chain([&manifest.config]) {
                if !kept.blobs.contains_key(&blob.digest) {
                    let lack = format!("manifest {} comes before blob {}", descriptor.digest, blob.digest);
                    kept.wrong.push(lack);
                }
            }
        }
        kept.manifests.insert(descriptor.digest, bytes.to_vec());
        Ok(())
    }
}

struct Writer {
    sink: Sink,
    bytes: Vec<u8>,
}

impl BlobWriter for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn commit(self: Box<Self>, digest: &Digest) -> Result<(), CommitError> {
        let mut kept = self.sink.kept();
        if Digest::of(&self.bytes) != *digest {
            kept.wrong.push(format!("blob {digest} was kept with other bytes ({})", self.bytes.len()));
        }
        kept.blobs.insert(*digest, self.bytes);
        Ok(())
    }
}
