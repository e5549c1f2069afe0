//! Images wherever they are: read, and put there.

use std::{
    collections::HashMap,
    io::{self, Read, Seek as _, SeekFrom},
    sync::Arc,
};

use longshore_client::{BlobSource, ImageSource, Observer as Listener};
use longshore_oci::{
    Descriptor, Digest, ImageConfig, Index, Manifest, MediaType, Platform, Reference, Repository,
};
use longshore_store::{RepositoryPath, StoreError, TagOrDigest};
use tokio::runtime::Handle;

use super::{EditError, Parts};
use crate::{BuildError, Builder, parent::LARGEST_CONFIG};

/// The largest manifest that is read.
const LARGEST_MANIFEST: u64 = 8 << 20;

/// What a name stands for.
#[derive(Clone, Debug)]
pub struct Found {
    /// The name.
    pub image: Reference,
    /// The digest of the index, or of the one manifest.
    pub digest: Digest,
    /// The index, of an image for several platforms.
    pub index: Option<Index>,
    /// The images: one, or those that the index has for machines.
    pub images: Vec<FoundImage>,
}

/// An image for one platform.
#[derive(Clone, Debug)]
pub struct FoundImage {
    /// Where it is.
    pub repository: Repository,
    /// The digest of its manifest.
    pub digest: Digest,
    /// Its documents.
    pub parts: Parts,
}

/// What was put into a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its name, with its digest.
    pub image: Reference,
    /// The bytes that were sent there.
    pub bytes: u64,
    /// How many blobs the registry took from another of its repositories.
    pub mounted: usize,
}

impl Found {
    /// The image for a platform.
    pub fn for_platform(&self, platform: &Platform) -> Option<&FoundImage> {
        self.images.iter().find(|image| image.parts.config.platform.serves(platform))
    }

    /// The one image that there is.
    pub fn only(&self) -> Result<&FoundImage, EditError> {
        match (&self.index, &self.images[..]) {
            (None, [only]) => Ok(only),
            _ => Err(EditError::Several(Box::new(self.image.clone()))),
        }
    }
}

impl Builder {
    /// Finds an image and reads its documents. What this machine has is not asked for elsewhere, except what a tag means now.
    pub async fn find(&self, image: &Reference) -> Result<Found, BuildError> {
        let wrong = |source| BuildError::Manifest { image: image.to_string(), source };
        let (digest, media_type, bytes) = self.document(image).await?;
        if !media_type.is_index() {
            let only = self.found(image, digest, &bytes).await?;
            return Ok(Found { image: image.clone(), digest, index: None, images: vec![only] });
        }
        let index = Index::parse(&bytes).map_err(wrong)?;
        let mut images = Vec::new();
        // What else an index lists (attestations, say) is for no machine.
        let of_machines =
            |listed: &&Descriptor| listed.platform.as_ref().is_some_and(|platform| platform.os != "unknown");
        for listed in index.manifests.iter().filter(of_machines) {
            let (digest, _, bytes) = self.document(&image.at(listed.digest)).await?;
            images.push(self.found(image, digest, &bytes).await?);
        }
        Ok(Found { image: image.clone(), digest, index: Some(index), images })
    }

    async fn document(&self, image: &Reference) -> Result<(Digest, MediaType, Vec<u8>), BuildError> {
        if self.is_embedded(&image.repository) {
            let path = RepositoryPath::from(&image.repository);
            match self.registry.manifest(&path, TagOrDigest::from(image)) {
                Ok(stored) => return Ok((stored.digest, stored.media_type, stored.bytes)),
                // What came from elsewhere is among the blobs, in no repository.
                Err(StoreError::ManifestUnknown { .. } | StoreError::RepositoryUnknown(_))
                    if image.digest.is_some() => {}
                Err(StoreError::ManifestUnknown { .. } | StoreError::RepositoryUnknown(_)) => {
                    return Err(BuildError::NoImage(Box::new(image.clone())));
                }
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(digest) = image.digest
            && let Ok(bytes) = self.registry.blobs().read(&digest, LARGEST_MANIFEST)
        {
            let media_type = match Manifest::parse(&bytes) {
                Ok(manifest) => manifest.media_type.unwrap_or(MediaType::Manifest),
                Err(_) => MediaType::Index,
            };
            return Ok((digest, media_type, bytes));
        }
        if self.is_embedded(&image.repository) {
            return Err(BuildError::NoImage(Box::new(image.clone())));
        }
        let fetched = self.client.manifest(image).await?;
        Ok((fetched.digest, fetched.media_type, fetched.bytes.to_vec()))
    }

    async fn found(&self, image: &Reference, digest: Digest, bytes: &[u8]) -> Result<FoundImage, BuildError> {
        let wrong = |source| BuildError::Manifest { image: image.to_string(), source };
        let manifest = Manifest::parse(bytes).map_err(wrong)?;
        let held = self.registry.blobs().read(&manifest.config.digest, LARGEST_CONFIG);
        let config = match held {
            Ok(config) => config,
            Err(StoreError::BlobMissing { .. } | StoreError::Damaged { .. })
                if !self.is_embedded(&image.repository) =>
            {
                self.client.blob(&image.repository, &manifest.config, LARGEST_CONFIG).await?.to_vec()
            }
            Err(error) => return Err(error.into()),
        };
        let config = ImageConfig::parse(&config).map_err(wrong)?;
        Ok(FoundImage { repository: image.repository.clone(), digest, parts: Parts { manifest, config } })
    }

    /// Sees to it that layers are on this machine.
    pub(crate) async fn bring_layers(
        &self,
        layers: &[Descriptor],
        sources: &[Repository],
    ) -> Result<(), BuildError> {
        for layer in layers {
            if self.registry.blobs().size_of(&layer.digest)? != Some(layer.size) {
                self.pull_into(self.registry.blobs(), layer, sources).await?;
            }
        }
        Ok(())
    }

    /// Puts images into a repository under a name, with `index` if they are for several platforms. Their layers are there,
    /// here, or in one of `sources`; no more is moved than the repository lacks.
    pub(crate) async fn publish(
        &self,
        name: &Reference,
        images: &[Parts],
        index: Option<&Index>,
        sources: &[Repository],
    ) -> Result<Published, BuildError> {
        let blobs = self.registry.blobs();
        let mut manifests = HashMap::new();
        let mut root = None;
        for image in images {
            let (config, manifest) = (image.config.to_bytes(), image.manifest.to_bytes());
            blobs.put(&config)?;
            blobs.put(&manifest)?;
            let descriptor = Descriptor::of(MediaType::Manifest, &manifest);
            manifests.insert(descriptor.digest, manifest);
            root = Some(descriptor);
        }
        if let Some(index) = index {
            let bytes = index.to_bytes();
            let descriptor = Descriptor::of(MediaType::Index, &bytes);
            manifests.insert(descriptor.digest, bytes);
            root = Some(descriptor);
        }
        let root = root.ok_or(BuildError::Lost("an edit without an image"))?;
        let image = Reference { digest: Some(root.digest), ..name.clone() };
        let Some(tag) = &name.tag else { return Err(EditError::NoTag(Box::new(name.clone())).into()) };
        if self.is_embedded(&name.repository) {
            let path = RepositoryPath::from(&name.repository);
            for image in images {
                self.bring_layers(&image.manifest.layers, sources).await?;
                let bytes = image.manifest.to_bytes();
                let tag = Some(tag).filter(|_| index.is_none());
                self.registry.put_manifest(&path, &bytes, &MediaType::Manifest, tag)?;
            }
            if let Some(index) = index {
                self.registry.put_manifest(&path, &index.to_bytes(), &MediaType::Index, Some(tag))?;
            }
            return Ok(Published { image, bytes: 0, mounted: 0 });
        }
        let source = Source {
            builder: self.clone(),
            root,
            manifests,
            sources: sources.to_vec(),
            runtime: Handle::current(),
        };
        let destination = [Reference::tagged(name.repository.clone(), tag.clone())];
        let mount_from: Vec<Repository> = sources
            .iter()
            .filter(|source| source.host() == name.repository.host() && **source != name.repository)
            .cloned()
            .collect();
        let listener: Arc<Listener> = Arc::new(longshore_client::ignore);
        let pushed =
            longshore_client::push(&self.client, Arc::new(source), &destination, &mount_from, &listener)
                .await?;
        let bytes = pushed.repositories.iter().map(|pushed| pushed.bytes).sum();
        let mounted = pushed.repositories.iter().map(|pushed| pushed.mounted).sum();
        Ok(Published { image, bytes, mounted })
    }
}

/// An image whose new documents are here and whose layers may be elsewhere: such a layer is downloaded when a registry
/// that lacks it asks for it.
struct Source {
    builder: Builder,
    root: Descriptor,
    manifests: HashMap<Digest, Vec<u8>>,
    sources: Vec<Repository>,
    runtime: Handle,
}

impl BlobSource for Source {
    fn open(&self, blob: &Descriptor, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let blobs = self.builder.registry.blobs();
        if blobs.size_of(&blob.digest).map_err(io::Error::other)? != Some(blob.size) {
            // The client calls this where it may block.
            let bring = self.builder.pull_into(blobs, blob, &self.sources);
            self.runtime.block_on(bring).map_err(io::Error::other)?;
        }
        let mut file = blobs.open_blob(&blob.digest).map_err(io::Error::other)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(file))
    }
}

impl ImageSource for Source {
    fn root(&self) -> Descriptor {
        self.root.clone()
    }

    fn manifest(&self, descriptor: &Descriptor) -> io::Result<Vec<u8>> {
        self.manifests.get(&descriptor.digest).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}
