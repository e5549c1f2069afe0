//! Bills of materials beside their images: manifests whose subject is the image's (image specification, "Artifacts Without
//! Config"; distribution specification, "Listing Referrers").

use std::{
    io::{self, Cursor, Read, Seek as _, SeekFrom},
    sync::Arc,
};

use longshore_client::{BlobSource, Client, Observer};
use longshore_oci::{Descriptor, Digest, Manifest, MediaType, Repository, annotation};
use longshore_store::{Registry, RepositoryPath};

use crate::{AttestError, Format};

/// The content of the empty configuration.
const EMPTY: &[u8] = b"{}";
/// The largest SBOM that is read: some hundred thousand packages.
const LARGEST: u64 = 128 << 20;

/// A bill of materials that can be attached.
#[derive(Clone, Debug)]
pub struct Referrer {
    /// The manifest that says what it is about.
    pub manifest: Manifest,
    /// The document.
    pub document: Vec<u8>,
}

impl Referrer {
    /// The document about the image with that manifest.
    pub fn new(format: Format, document: Vec<u8>, subject: Descriptor, created: Option<&str>) -> Self {
        let mut layer = Descriptor::of(MediaType::Other(format.media_type().to_owned()), &document);
        // What it is called when it is pulled as a file.
        layer.annotations.insert(annotation::TITLE.to_owned(), format.file_name().to_owned());
        let mut manifest = Manifest::image(Descriptor::of(MediaType::Empty, EMPTY), vec![layer]);
        manifest.artifact_type = Some(format.media_type().to_owned());
        manifest.subject = Some(subject);
        if let Some(created) = created {
            manifest.annotations.insert(annotation::CREATED.to_owned(), created.to_owned());
        }
        Self { manifest, document }
    }

    /// Puts it into the registry of this machine, unless it is there.
    pub fn store(&self, registry: &Registry, repository: &RepositoryPath) -> Result<Digest, AttestError> {
        let bytes = self.manifest.to_bytes();
        let digest = Digest::of(&bytes);
        if registry.manifest_info(repository, digest).is_ok() {
            return Ok(digest);
        }
        registry.blobs().put(EMPTY)?;
        registry.blobs().put(&self.document)?;
        Ok(registry.put_manifest(repository, &bytes, &MediaType::Manifest, None)?)
    }

    /// Pushes it. Where a registry has no API for referrers, the client keeps the index that stands in for it.
    pub async fn push(&self, client: &Client, repository: &Repository) -> Result<Digest, AttestError> {
        let observer: Arc<Observer> = Arc::new(longshore_client::ignore);
        for (blob, bytes) in [(&self.manifest.config, EMPTY), (&self.manifest.layers[0], &self.document)] {
            let source = Arc::new(InMemory(bytes.to_vec()));
            client.push_blob(repository, blob, source, &[], &observer).await?;
        }
        let bytes = self.manifest.to_bytes();
        Ok(client.put_manifest(repository, &bytes, &MediaType::Manifest, &[]).await?)
    }
}

/// A document to send.
struct InMemory(Vec<u8>);

impl BlobSource for InMemory {
    fn open(&self, _: &Descriptor, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let mut bytes = Cursor::new(self.0.clone());
        bytes.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(bytes))
    }
}

/// The document that is attached to an image of this machine's registry.
pub fn stored(
    registry: &Registry,
    repository: &RepositoryPath,
    image: &Digest,
    format: Format,
) -> Result<Option<Vec<u8>>, AttestError> {
    let referrers = registry.referrers(repository, image)?;
    let Some(referrer) = first(&referrers, format) else { return Ok(None) };
    let manifest = registry.manifest(repository, referrer.digest)?;
    let document = document(referrer.digest, &manifest.bytes, image, format)?;
    Ok(Some(registry.blobs().read(&document.digest, LARGEST)?))
}

/// The document that is attached to an image elsewhere. The bytes have the digest that its manifest says.
pub async fn pulled(
    client: &Client,
    repository: &Repository,
    image: &Digest,
    format: Format,
) -> Result<Option<Vec<u8>>, AttestError> {
    let listed = client.referrers(repository, image, Some(format.media_type())).await?;
    let Some(referrer) = first(&listed.manifests, format) else { return Ok(None) };
    let reference =
        longshore_oci::Reference { repository: repository.clone(), tag: None, digest: Some(referrer.digest) };
    let manifest = client.manifest(&reference).await?;
    let document = document(referrer.digest, &manifest.bytes, image, format)?;
    Ok(Some(client.blob(repository, &document, LARGEST).await?.to_vec()))
}

/// Of several, the one with the smallest digest: registries list them in any order.
fn first(referrers: &[Descriptor], format: Format) -> Option<&Descriptor> {
    let wanted = |it: &&Descriptor| it.artifact_type.as_deref() == Some(format.media_type());
    referrers.iter().filter(wanted).min_by_key(|referrer| referrer.digest)
}

/// The document of a referrer, if it is about this image.
fn document(
    referrer: Digest,
    bytes: &[u8],
    image: &Digest,
    format: Format,
) -> Result<Descriptor, AttestError> {
    let wrong = |why: String| AttestError::Attached { referrer, why };
    let manifest = Manifest::parse(bytes).map_err(|error| wrong(error.to_string()))?;
    if manifest.subject.as_ref().map(|subject| subject.digest) != Some(*image) {
        return Err(wrong("it is about another image".to_owned()));
    }
    let is_document = |layer: &&Descriptor| layer.media_type.as_str() == format.media_type();
    match manifest.layers.iter().find(is_document) {
        Some(layer) => Ok(layer.clone()),
        None => Err(wrong(format!("it has no blob of type {}", format.media_type()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_found_and_is_about_the_image() {
        let root = tempfile::tempdir().unwrap();
        let registry = Registry::open(root.path()).unwrap();
        let repository: RepositoryPath = "app".parse().unwrap();
        let config = registry.blobs().put(b"{ }").unwrap();
        let image = Manifest::image(Descriptor::new(MediaType::Config, config, 3), vec![]).to_bytes();
        let digest = registry.put_manifest(&repository, &image, &MediaType::Manifest, None).unwrap();
        assert_eq!(stored(&registry, &repository, &digest, Format::Spdx).unwrap(), None);
        let subject = Descriptor::of(MediaType::Manifest, &image);
        let referrer =
            Referrer::new(Format::Spdx, b"{\"a\":1}".to_vec(), subject, Some("1970-01-01T00:00:00Z"));
        let first = referrer.store(&registry, &repository).unwrap();
        assert_eq!(referrer.store(&registry, &repository).unwrap(), first);
        assert_eq!(stored(&registry, &repository, &digest, Format::Spdx).unwrap().unwrap(), b"{\"a\":1}");
        assert_eq!(stored(&registry, &repository, &digest, Format::CycloneDx).unwrap(), None);
        let about = referrer.manifest.to_bytes();
        let other = Digest::of("another image");
        let error = document(first, &about, &other, Format::Spdx).unwrap_err();
        assert!(error.to_string().contains("about another image"), "{error}");
    }
}
