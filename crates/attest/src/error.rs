//! What can go wrong.

use longshore_client::ClientError;
use longshore_oci::Digest;
use longshore_store::StoreError;

/// Why an image's bill of materials could not be made, attached or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttestError {
    /// A layer cannot be read.
    #[error("layer {layer}: {source}")]
    Layer {
        /// The layer.
        layer: Digest,
        /// What is wrong with it.
        source: longshore_layer::Error,
    },
    /// A layer is not what the image says.
    #[error("layer {layer} unpacks to {found}, and the image says {expected}; the image is damaged")]
    DiffId {
        /// The layer.
        layer: Digest,
        /// What the configuration says.
        expected: Digest,
        /// What was found.
        found: Digest,
    },
    /// Something in an image is no layer.
    #[error("layer {layer} is of type {media_type}, which cannot be read")]
    LayerType {
        /// The layer.
        layer: Digest,
        /// Its media type.
        media_type: String,
    },
    /// The manifest and the configuration of an image disagree.
    #[error("the image has {layers} layers, and its configuration {diff_ids}; it is damaged")]
    LayerCount {
        /// How many the manifest has.
        layers: usize,
        /// How many the configuration has.
        diff_ids: usize,
    },
    /// A layer holds more than is kept in memory.
    #[error("layer {layer}: {why}")]
    TooMuch {
        /// The layer.
        layer: Digest,
        /// What there is too much of.
        why: &'static str,
    },
    /// A file that lists packages cannot be understood.
    #[error("{path} in the image: {why}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// The registry of this machine refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another registry refused, or was not reached.
    #[error(transparent)]
    Client(Box<ClientError>),
    /// An SBOM that is attached cannot be used.
    #[error("the SBOM {referrer} that is attached to the image cannot be used: {why}")]
    Attached {
        /// Its manifest.
        referrer: Digest,
        /// Why not.
        why: String,
    },
}

impl From<ClientError> for AttestError {
    fn from(error: ClientError) -> Self {
        Self::Client(Box::new(error))
    }
}

impl AttestError {
    /// Whether the same may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Client(error) if error.is_retryable())
    }
}
