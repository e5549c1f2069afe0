//! The two documents that an image is.

use longshore_oci::{Descriptor, Digest, ImageConfig, Manifest, MediaType};

/// An image for one platform: its manifest and its configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Parts {
    /// The manifest.
    pub manifest: Manifest,
    /// The configuration.
    pub config: ImageConfig,
}

impl Parts {
    /// The same image, whose manifest names its configuration as that is now.
    pub(crate) fn sealed(mut self) -> Self {
        self.manifest.config = Descriptor::of(MediaType::Config, &self.config.to_bytes());
        self
    }

    /// The digest of the manifest.
    pub fn digest(&self) -> Digest {
        Digest::of(self.manifest.to_bytes())
    }

    /// The lines of history that made layers, without those that made none; `None` for a layer that has no line.
    pub fn made_by(&self) -> Vec<Option<&str>> {
        let lines = self.config.history.iter().filter(|line| !line.empty_layer);
        let mut lines: Vec<_> = lines.map(|line| line.created_by.as_deref()).collect();
        lines.resize(self.manifest.layers.len(), None);
        lines
    }

    /// The image of the lowest layers alone: what it was built on, as far as that matters for its files.
    pub(crate) fn lowest(&self, layers: usize) -> Self {
        let mut lowest = self.clone();
        lowest.manifest.layers.truncate(layers);
        lowest.config.rootfs.diff_ids.truncate(layers);
        lowest.sealed()
    }
}
