//! Descriptors, image manifests and image indexes (OCI image specification 1.1).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Digest, MediaType, Platform};

/// The annotation keys that longshore reads or writes.
pub mod annotation {
    /// When the image was made, RFC 3339.
    pub const CREATED: &str = "org.opencontainers.image.created";
    /// The name of the image that this one is built on.
    pub const BASE_NAME: &str = "org.opencontainers.image.base.name";
    /// The digest of the image that this one is built on.
    pub const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";
    /// The tag that a manifest has in an image layout's index.
    pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
    /// A person's name for the thing.
    pub const TITLE: &str = "org.opencontainers.image.title";
}

/// A reference to content by digest: its type, digest and size in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content is.
    pub media_type: MediaType,
    /// The digest of the content.
    pub digest: Digest,
    /// The length of the content in bytes.
    pub size: u64,
    /// The type of the artifact that a manifest describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The platform of the image that a manifest describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Further facts about the content.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// A descriptor with neither platform nor annotations.
    pub const fn new(media_type: MediaType, digest: Digest, size: u64) -> Self {
        Self { media_type, digest, size, artifact_type: None, platform: None, annotations: BTreeMap::new() }
    }

    /// The descriptor of `bytes`.
    pub fn of(media_type: MediaType, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }
}

/// An image manifest: one configuration and the layers, lowest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// The manifest's own type; older tools leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// The type of artifact, where this is not an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The image configuration.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// The manifest that this one says something about (a referrer).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Further facts about the image.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Why some bytes are not a manifest or index that longshore reads.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Not JSON of the expected shape.
    #[error("not a valid {what}: {source}")]
    Json {
        /// What was expected.
        what: &'static str,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// A schema version other than 2.
    #[error("{what} has schema version {version}; only version 2 is in use today")]
    SchemaVersion {
        /// What was read.
        what: &'static str,
        /// The version found.
        version: u32,
    },
}

impl Manifest {
    /// An OCI image manifest.
    pub const fn image(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(MediaType::Manifest),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Reads a manifest.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        const WHAT: &str = "image manifest";
        let manifest: Self =
            serde_json::from_slice(bytes).map_err(|source| ManifestError::Json { what: WHAT, source })?;
        match manifest.schema_version {
            2 => Ok(manifest),
            version => Err(ManifestError::SchemaVersion { what: WHAT, version }),
        }
    }

    /// The bytes to store and hash: JSON without blanks, maps sorted.
    pub fn to_bytes(&self) -> Vec<u8> {
        json(self)
    }

    /// The bytes that an image of this manifest takes in a registry, manifest aside.
    pub fn total_size(&self) -> u64 {
        self.config.size + self.layers.iter().map(|layer| layer.size).sum::<u64>()
    }
}

/// An image index: the manifests of one image for several platforms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// The index's own type; older tools leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// The manifests.
    pub manifests: Vec<Descriptor>,
    /// Further facts about the index.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Index {
    /// An OCI image index.
    pub const fn new(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(MediaType::Index),
            manifests,
            annotations: BTreeMap::new(),
        }
    }

    /// Reads an index.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        const WHAT: &str = "image index";
        let index: Self =
            serde_json::from_slice(bytes).map_err(|source| ManifestError::Json { what: WHAT, source })?;
        match index.schema_version {
            2 => Ok(index),
            version => Err(ManifestError::SchemaVersion { what: WHAT, version }),
        }
    }

    /// The bytes to store and hash: JSON without blanks, maps sorted.
    pub fn to_bytes(&self) -> Vec<u8> {
        json(self)
    }

    /// The first manifest that serves `platform`.
    pub fn for_platform(&self, platform: &Platform) -> Option<&Descriptor> {
        self.manifests.iter().find(|manifest| manifest.platform.as_ref().is_some_and(|p| p.serves(platform)))
    }
}

/// JSON of one of this crate's types, in its one canonical spelling.
pub(crate) fn json(value: &impl Serialize) -> Vec<u8> {
    #[expect(clippy::expect_used, reason = "every map in these types has string keys and no Serialize fails")]
    serde_json::to_vec(value).expect("plain data serialises")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Arch;

    fn descriptor(size: u64) -> Descriptor {
        Descriptor::new(MediaType::LayerGzip, Digest::of(size.to_string()), size)
    }

    #[test]
    fn an_independent_reader_agrees() {
        let mut manifest =
            Manifest::image(Descriptor::of(MediaType::Config, b"{}"), vec![descriptor(1), descriptor(2)]);
        manifest.annotations.insert(annotation::TITLE.to_owned(), "a".to_owned());
        manifest.subject = Some(descriptor(3));
        let bytes = manifest.to_bytes();
        let theirs: oci_spec::image::ImageManifest = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(theirs.layers().len(), 2);
        assert_eq!(theirs.layers()[1].digest().to_string(), descriptor(2).digest.to_string());
        let ours: Manifest = serde_json::from_slice(&serde_json::to_vec(&theirs).unwrap()).unwrap();
        assert_eq!(ours, manifest);
    }

    #[test]
    fn an_index_finds_its_platform() {
        let mut arm = descriptor(1);
        arm.platform = Some("linux/arm64/v8".parse().unwrap());
        let mut amd = descriptor(2);
        amd.platform = Some(Platform::linux(Arch::Amd64));
        let index = Index::new(vec![arm.clone(), amd]);
        assert_eq!(index.for_platform(&Platform::linux(Arch::Arm64)), Some(&arm));
        assert_eq!(index.for_platform(&"windows/amd64".parse().unwrap()), None);
        let theirs: oci_spec::image::ImageIndex = serde_json::from_slice(&index.to_bytes()).unwrap();
        assert_eq!(theirs.manifests().len(), 2);
    }

    #[test]
    fn schema_1_is_refused_in_a_sentence() {
        let bytes = Manifest::image(descriptor(0), vec![]).to_bytes();
        let old = String::from_utf8(bytes).unwrap().replace("\"schemaVersion\":2", "\"schemaVersion\":1");
        let error = Manifest::parse(old.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "image manifest has schema version 1; only version 2 is in use today");
    }
}
