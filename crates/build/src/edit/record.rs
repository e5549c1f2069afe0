//! The record of a build: what determined an image.

use std::collections::BTreeMap;

use longshore_debian::addition::Addition;
use longshore_oci::{Digest, Reference};
use longshore_pipeline::DockerSettings;
use longshore_python::{
    lock::{Lock, PinnedWheel},
    target::Glibc,
};
use serde::Deserialize;
use serde_json::Value;

use super::EditError;
use crate::parent::PythonFacts;

/// What a build's inputs were, as [`Built::inputs`](crate::Built::inputs) has them.
#[derive(Clone, Debug, Deserialize)]
pub struct Record {
    pub(crate) parent: RecordedParent,
    pub(crate) python: PythonFacts,
    /// The Debian packages that were added to the parent.
    #[serde(default)]
    pub(crate) apt: Option<Addition>,
    pub(crate) lock: Lock,
    pub(crate) code: Digest,
    pub(crate) settings: DockerSettings,
    pub(crate) created: String,
    #[serde(default)]
    pub(crate) longshore: String,
    #[serde(default)]
    pub(crate) layouts: BTreeMap<String, u32>,
}

/// The image that was built on.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct RecordedParent {
    pub(crate) name: String,
    pub(crate) digest: Digest,
}

impl Record {
    /// Reads a record.
    pub fn read(image: &Reference, inputs: &Value) -> Result<Self, EditError> {
        Self::deserialize(inputs)
            .map_err(|error| EditError::Record { image: image.to_string(), why: error.to_string() })
    }

    /// The oldest glibc that all wheels of the image run with, by their names (PEP 600); `None` if one does not say.
    pub(crate) fn needed_libc(&self) -> Option<Glibc> {
        let of_tag = |tag: &str| {
            let minor = match tag {
                it if it.starts_with("manylinux1_") => 5,
                it if it.starts_with("manylinux2010_") => 12,
                it if it.starts_with("manylinux2014_") => 17,
                it => it.strip_prefix("manylinux_2_")?.split('_').next()?.parse().ok()?,
            };
            Some(Glibc { major: 2, minor })
        };
        // A wheel with several tags runs with the oldest of them.
        let of_wheel = |wheel: &PinnedWheel| wheel.filename.platform_tags().filter_map(of_tag).min();
        let native = self.lock.packages.iter().map(|package| &package.wheel).filter(|wheel| !is_pure(wheel));
        let needed: Option<Vec<Glibc>> = native.map(of_wheel).collect();
        needed?.into_iter().max()
    }

    /// Whether no wheel of the image has anything to do with a C library.
    pub(crate) fn is_pure(&self) -> bool {
        self.lock.packages.iter().all(|package| is_pure(&package.wheel))
    }

    /// The packages that the image got, with their versions.
    pub fn packages(&self) -> impl Iterator<Item = String> {
        self.lock.packages.iter().map(|package| format!("{} {}", package.name, package.version))
    }
}

fn is_pure(wheel: &PinnedWheel) -> bool {
    wheel.filename.platform_tags().any(|tag| tag == "any")
}
