//! The media types of manifests, configurations and layers.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The type of a blob or manifest. Docker's older names stand beside OCI's: their contents agree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum MediaType {
    /// An OCI image manifest.
    Manifest,
    /// An OCI image index.
    Index,
    /// An OCI image configuration.
    Config,
    /// A layer: tar.
    LayerTar,
    /// A layer: tar, gzip.
    LayerGzip,
    /// A layer: tar, zstd.
    LayerZstd,
    /// The empty JSON object `{}`, the configuration of artifacts that need none.
    Empty,
    /// Docker's image manifest, schema 2.
    DockerManifest,
    /// Docker's manifest list.
    DockerManifestList,
    /// Docker's image configuration.
    DockerConfig,
    /// Docker's layer: tar, gzip.
    DockerLayerGzip,
    /// Docker's uncompressed layer.
    DockerLayerTar,
    /// Anything else, spelt as found.
    Other(String),
}

const NAMES: [(MediaType, &str); 12] = [
    (MediaType::Manifest, "application/vnd.oci.image.manifest.v1+json"),
    (MediaType::Index, "application/vnd.oci.image.index.v1+json"),
    (MediaType::Config, "application/vnd.oci.image.config.v1+json"),
    (MediaType::LayerTar, "application/vnd.oci.image.layer.v1.tar"),
    (MediaType::LayerGzip, "application/vnd.oci.image.layer.v1.tar+gzip"),
    (MediaType::LayerZstd, "application/vnd.oci.image.layer.v1.tar+zstd"),
    (MediaType::Empty, "application/vnd.oci.empty.v1+json"),
    (MediaType::DockerManifest, "application/vnd.docker.distribution.manifest.v2+json"),
    (MediaType::DockerManifestList, "application/vnd.docker.distribution.manifest.list.v2+json"),
    (MediaType::DockerConfig, "application/vnd.docker.container.image.v1+json"),
    (MediaType::DockerLayerGzip, "application/vnd.docker.image.rootfs.diff.tar.gzip"),
    (MediaType::DockerLayerTar, "application/vnd.docker.image.rootfs.diff.tar"),
];

impl MediaType {
    /// The registered name.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Other(name) => name,
            known => NAMES.iter().find(|(this, _)| this == known).map_or("", |(_, name)| name),
        }
    }

    /// Whether this is a manifest of one image, in OCI's or Docker's spelling.
    pub const fn is_manifest(&self) -> bool {
        matches!(self, Self::Manifest | Self::DockerManifest)
    }

    /// OCI's name for the same bytes, where this is Docker's.
    pub fn to_oci(&self) -> Self {
        match self {
            Self::DockerManifest => Self::Manifest,
            Self::DockerManifestList => Self::Index,
            Self::DockerConfig => Self::Config,
            Self::DockerLayerGzip => Self::LayerGzip,
            Self::DockerLayerTar => Self::LayerTar,
            other => other.clone(),
        }
    }

    /// Whether this lists manifests of several platforms, in OCI's or Docker's spelling.
    pub const fn is_index(&self) -> bool {
        matches!(self, Self::Index | Self::DockerManifestList)
    }
}

impl From<&str> for MediaType {
    fn from(name: &str) -> Self {
        NAMES
            .iter()
            .find(|(_, known)| *known == name)
            .map_or_else(|| Self::Other(name.to_owned()), |(this, _)| this.clone())
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for MediaType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for MediaType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from(String::deserialize(deserializer)?.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_known_name_round_trips() {
        for (media_type, name) in NAMES {
            assert_eq!(media_type.as_str(), name);
            assert_eq!(MediaType::from(name), media_type);
        }
    }

    #[test]
    fn nothing_stays_dockers() {
        assert!(NAMES.iter().all(|(media_type, _)| media_type.to_oci().as_str().contains("vnd.oci.")));
    }

    proptest! {
        #[test]
        fn any_name_is_kept(name: String) {
            let media_type = MediaType::from(name.as_str());
            prop_assert_eq!(media_type.as_str(), name);
        }
    }
}
