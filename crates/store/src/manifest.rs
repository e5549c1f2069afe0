//! What a manifest refers to.

use longshore_oci::{Descriptor, Digest, Index, Manifest, MediaType};
use serde::{Deserialize, de::IgnoredAny};

use crate::{Result, StoreError};

/// The longest manifest that is taken: 4 MiB (distribution specification, "Pushing Manifests").
pub const MANIFEST_LIMIT: u64 = 4 << 20;

/// A manifest as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredManifest {
    /// The digest of its bytes.
    pub digest: Digest,
    /// The type that it was put with.
    pub media_type: MediaType,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// What is known of a stored manifest without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestInfo {
    /// The digest of its bytes.
    pub digest: Digest,
    /// The type that it was put with.
    pub media_type: MediaType,
    /// Its length in bytes.
    pub size: u64,
}

/// What a manifest needs to be there.
#[derive(Debug)]
pub(crate) enum References {
    /// Configuration and layers.
    Blobs(Vec<Descriptor>),
    /// Other manifests.
    Manifests(Vec<Descriptor>),
}

/// The fields that tell a manifest from an index.
#[derive(Deserialize)]
struct Shape {
    manifests: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
    config: Option<IgnoredAny>,
}

impl References {
    /// Reads a manifest of the given type.
    ///
    /// A document that could also be read as the other kind is refused: two clients would see two images
    /// under one digest (CVE-2021-41190).
    pub(crate) fn of(bytes: &[u8], media_type: &MediaType) -> Result<Self> {
        if bytes.len() as u64 > MANIFEST_LIMIT {
            return Err(StoreError::ManifestTooLarge { size: bytes.len() as u64, limit: MANIFEST_LIMIT });
        }
        let ambiguous =
            |says: &str| StoreError::ManifestAmbiguous { given: media_type.clone(), says: says.to_owned() };
        let (says, references) = if media_type.is_manifest() {
            let manifest = Manifest::parse(bytes)?;
            let blobs = std::iter::once(manifest.config).chain(manifest.layers);
            (manifest.media_type, Self::Blobs(blobs.filter(is_distributed).collect()))
        } else if media_type.is_index() {
            let index = Index::parse(bytes)?;
            (index.media_type, Self::Manifests(index.manifests))
        } else {
            return Err(StoreError::ManifestUnsupported(media_type.clone()));
        };
        if let Some(says) = says.filter(|says| says != media_type) {
            return Err(ambiguous(says.as_str()));
        }
        let shape: Shape = serde_json::from_slice(bytes)
            .map_err(|source| longshore_oci::ManifestError::Json { what: "manifest", source })?;
        match &references {
            Self::Blobs(_) if shape.manifests.is_some() => Err(ambiguous("`manifests`, as an index does")),
            Self::Manifests(_) if shape.layers.is_some() || shape.config.is_some() => {
                Err(ambiguous("`layers` or `config`, as an image does"))
            }
            _ => Ok(references),
        }
    }

    pub(crate) fn descriptors(&self) -> &[Descriptor] {
        match self {
            Self::Blobs(descriptors) | Self::Manifests(descriptors) => descriptors,
        }
    }
}

/// Whether a registry is expected to have a layer: not where its licence forbids that (image specification,
/// "Non-Distributable Layers").
fn is_distributed(layer: &Descriptor) -> bool {
    let name = layer.media_type.as_str();
    !name.contains(".nondistributable.") && !name.contains(".rootfs.foreign.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn references(text: &str, media_type: &MediaType) -> Result<References> {
        References::of(text.as_bytes(), media_type)
    }

    #[test]
    fn a_document_that_is_two_things_is_refused() {
        let config = format!(r#"{{"mediaType":"x","digest":"{}","size":0}}"#, Digest::of([]));
        let both = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[],"manifests":[]}}"#);
        assert!(matches!(references(&both, &MediaType::Manifest), Err(StoreError::ManifestAmbiguous { .. })));
        assert!(matches!(references(&both, &MediaType::Index), Err(StoreError::ManifestAmbiguous { .. })));
        let says_index = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{config},"layers":[]}}"#,
            MediaType::Index
        );
        let error = references(&says_index, &MediaType::Manifest).unwrap_err();
        assert!(error.to_string().contains("but says it is application/vnd.oci.image.index"), "{error}");
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        assert!(matches!(
            references("{}", &MediaType::LayerGzip),
            Err(StoreError::ManifestUnsupported(MediaType::LayerGzip))
        ));
        for text in
            ["", "null", "[]", "{}", r#"{"schemaVersion":1}"#, r#"{"schemaVersion":2,"manifests":[{}]}"#]
        {
            assert!(references(text, &MediaType::Manifest).is_err(), "{text}");
            assert!(references(text, &MediaType::Index).is_err(), "{text}");
        }
        let long = " ".repeat(usize::try_from(MANIFEST_LIMIT).unwrap() + 1);
        assert!(matches!(references(&long, &MediaType::Index), Err(StoreError::ManifestTooLarge { .. })));
    }

    #[test]
    fn layers_that_may_not_be_distributed_are_not_asked_for() {
        let layer = |name: &str| Descriptor::of(MediaType::from(name), name.as_bytes());
        let manifest = Manifest::image(
            layer("application/vnd.oci.image.config.v1+json"),
            vec![
                layer("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
                layer("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"),
                layer("application/vnd.oci.image.layer.v1.tar+gzip"),
            ],
        );
        let references = References::of(&manifest.to_bytes(), &MediaType::Manifest).unwrap();
        assert_eq!(references.descriptors().len(), 2);
    }
}
