//! The image that is built on: one from the registry, or one made from Debian packages.

use std::{io::BufReader, path::PathBuf};

use longshore_layer::read::{Compression, LayerReader};
use longshore_oci::{Arch, Digest, ImageConfig, Index, Manifest, Platform, Reference, Repository};
use longshore_python::{
    distribution::{self, Distribution, Metadata, Part, Place},
    target::{Glibc, PythonVersion},
};
use longshore_sandbox::{Container, Process, Sandbox, Streams};
use longshore_store::{BlobStore, Registry, RepositoryPath, StoreError, TagOrDigest};
use serde::{Deserialize, Serialize};

use crate::{
    BuildError, Builder, Observer,
    container::Images,
    debian::DebianParent,
    examine::{Examination, Known},
    stored::remove_damaged,
};

/// The row of the table that says what Python an image has, and what that has installed, by the image's digest.
pub(crate) const PYTHON: &str = "image-python";
/// The version of what is found out: with another, it is found out again.
const FACTS: u32 = 2;
/// The row of the table that has a manifest or a configuration, by its digest.
pub(crate) const DOCUMENT: &str = "document";
/// The row of the table that says what a parent's tag stood for in the last build.
pub(crate) const TAG_SEEN: &str = "parent-tag";
/// The largest image configuration that is read.
pub(crate) const LARGEST_CONFIG: u64 = 4 << 20;
/// What is presumed of an image that was not looked into: Debian 12's.
const PRESUMED_GLIBC: Glibc = Glibc { major: 2, minor: 36 };
/// What is asked of an image's Python. One line of JSON on standard output, in the fields of [`Answer`]. The folders are those that an
/// environment of it has, the environment's own first.
const QUESTION: &str = include_str!("question.py");

/// A parent image, complete in the registry.
#[derive(Clone, Debug)]
pub struct Parent {
    /// Its name, for the annotations of images built on it.
    pub(crate) name: String,
    /// What it is, for people.
    pub(crate) title: String,
    /// Its digest.
    pub(crate) digest: Digest,
    /// Its manifest.
    pub(crate) manifest: Manifest,
    /// Its configuration.
    pub(crate) config: ImageConfig,
    /// Its Python.
    pub(crate) python: PythonFacts,
    /// What that has installed.
    pub(crate) distributions: Vec<Distribution>,
    /// Whether that was found out.
    pub(crate) facts: Facts,
    /// The repository of another registry that it came from. It has the layers too.
    pub(crate) source: Option<Repository>,
    /// The name that it was asked for by, and what that stood for.
    pub(crate) tag: Option<(Reference, Digest)>,
    /// What it is made of, if it is one of ours: it can be made again where its layers are lost.
    pub(crate) debian: Option<Box<DebianParent>>,
}

/// How what is said of a parent is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Facts {
    /// It was found out.
    Known,
    /// It is presumed: to find it out, the layers must be read.
    Presumed,
}

/// What may be read to find out what a parent has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Manifest and configuration: what they do not say is presumed.
    Manifests,
    /// Layers too.
    Layers,
}

/// The Python of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PythonFacts {
    /// Its version.
    pub(crate) version: PythonVersion,
    /// The interpreter, links resolved.
    pub(crate) executable: String,
    /// The C library.
    pub(crate) glibc: Glibc,
}

/// What is found out of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ParentFacts {
    /// Its Python.
    pub(crate) python: PythonFacts,
    /// What that has installed, by name.
    pub(crate) distributions: Vec<Distribution>,
}

#[derive(Serialize)]
struct FactsKey {
    facts: u32,
    image: Digest,
}

impl Parent {
    /// The bytes of its layers.
    pub(crate) fn size(&self) -> u64 {
        self.manifest.total_size()
    }

    /// The repositories that may have its layers, for an image that goes into that one.
    pub(crate) fn sources(&self, destination: &Repository) -> Vec<Repository> {
        self.source.iter().chain([destination]).cloned().collect()
    }
}

/// Reads an image of the registry: of one for several platforms, the image for this one.
pub fn read(
    registry: &Registry,
    repository: &RepositoryPath,
    image: &Reference,
    platform: &Platform,
) -> Result<(Digest, Manifest, ImageConfig), BuildError> {
    let wrong = |source| BuildError::Manifest { image: image.to_string(), source };
    let mut stored = registry.manifest(repository, TagOrDigest::from(image))?;
    if stored.media_type.is_index() {
        let index = Index::parse(&stored.bytes).map_err(wrong)?;
        let chosen = index.for_platform(platform).ok_or_else(|| {
            let platforms = index.manifests.iter().filter_map(|manifest| manifest.platform.as_ref());
            BuildError::ParentPlatform {
                image: Box::new(image.clone()),
                found: platforms.map(ToString::to_string).collect::<Vec<_>>().join(", "),
                wanted: platform.to_string(),
            }
        })?;
        stored = registry.manifest(repository, TagOrDigest::Digest(chosen.digest))?;
    }
    let manifest = Manifest::parse(&stored.bytes).map_err(wrong)?;
    let config = registry.blobs().read(&manifest.config.digest, LARGEST_CONFIG)?;
    Ok((stored.digest, manifest, ImageConfig::parse(&config).map_err(wrong)?))
}

/// An image as the embedded registry, or the store of what came from others, has it.
#[derive(Clone, Debug)]
pub(crate) struct FoundParent {
    /// Its name, as the settings have it.
    pub(crate) image: Reference,
    /// What that stands for: an index, or the image itself.
    pub(crate) top: Digest,
    pub(crate) digest: Digest,
    pub(crate) manifest: Manifest,
    pub(crate) config: ImageConfig,
    pub(crate) source: Option<Repository>,
}

impl Builder {
    /// Finds out what Python an image has: remembered, or read from its layers, or else by running it.
    pub(crate) async fn examine(
        &self,
        found: FoundParent,
        arch: Arch,
        reading: Reading,
        observer: Observer<'_>,
    ) -> Result<Parent, BuildError> {
        let wanted = Platform::linux(arch);
        if !found.config.platform.serves(&wanted) {
            let platform = found.config.platform.to_string();
            return Err(BuildError::ParentPlatform {
                image: Box::new(found.image),
                found: platform,
                wanted: wanted.to_string(),
            });
        }
        let key = FactsKey { facts: FACTS, image: found.digest };
        let (ParentFacts { python, distributions }, facts) = if let Some(known) = self.table.get(PYTHON, &key)
        {
            (known, Facts::Known)
        } else if reading == Reading::Manifests && found.source.is_some() {
            (ParentFacts { python: presumed(&found)?, distributions: Vec::new() }, Facts::Presumed)
        } else {
            let from: Vec<Repository> = found.source.iter().cloned().collect();
            self.pull(&found.manifest, &from, observer).await?;
            let (images, blobs, image) = (self.images.clone(), self.registry.blobs().clone(), found.clone());
            let read = move || match examined(&blobs, &image)? {
                Known::Facts(facts) => Ok(facts),
                Known::Unusable(reason) => {
                    Err(BuildError::ParentPython { image: Box::new(image.image.clone()), reason })
                }
                Known::Open if Arch::host() == Some(arch) => {
                    ask(&images, &image.image, &image.manifest, &image.config)
                }
                Known::Open => {
                    let reason = format!(
                        "its layers do not say which it is, and an image for {wanted} cannot be run on this machine"
                    );
                    Err(BuildError::ParentPython { image: Box::new(image.image.clone()), reason })
                }
            };
            let known = tokio::task::spawn_blocking(read).await;
            let known = known.map_err(|_| BuildError::Lost("reading the parent"))??;
            self.table.put(PYTHON, &key, &known)?;
            (known, Facts::Known)
        };
        let presumed = if facts == Facts::Presumed { " (presumed)" } else { "" };
        let FoundParent { image, top, digest, manifest, config, source } = found;
        let title = format!("{image}, Python {}{presumed}", python.version);
        let tag = image.digest.is_none().then(|| (image.clone(), top));
        let name = image.to_string();
        Ok(Parent {
            name,
            title,
            digest,
            manifest,
            config,
            python,
            distributions,
            facts,
            source,
            tag,
            debian: None,
        })
    }
}

/// What the layers of an image on this machine say.
fn examined(blobs: &BlobStore, image: &FoundParent) -> Result<Known, BuildError> {
    let mut examination = Examination::default();
    for layer in &image.manifest.layers {
        let Some(compression) = Compression::of(&layer.media_type) else { return Ok(Known::Open) };
        let file = BufReader::new(blobs.open_blob(&layer.digest)?);
        let read = LayerReader::new(file, compression).map_err(BuildError::from);
        match read.and_then(|reader| examination.layer(reader)) {
            Err(_) if remove_damaged(blobs, &layer.digest)? => {
                return Err(BuildError::DamagedLayer(layer.digest));
            }
            read => read.map_err(|source| BuildError::ParentLayer {
                image: Box::new(image.image.clone()),
                layer: layer.digest,
                source: Box::new(source),
            })?,
        }
    }
    Ok(examination.finish(&image.config))
}

/// What an image's configuration leads to expect of its Python, for a plan that is not carried out: that of the official
/// images of Python.
fn presumed(found: &FoundParent) -> Result<PythonFacts, BuildError> {
    let version = found.config.config.env("PYTHON_VERSION").and_then(|version| version.parse().ok());
    let version: PythonVersion = version.ok_or_else(|| BuildError::ParentPython {
        image: Box::new(found.image.clone()),
        reason:
            "which one it has is not known before its layers have been read once, and --dry-run moves none"
                .to_owned(),
    })?;
    let executable = format!("/usr/local/bin/python{}", version.short());
    Ok(PythonFacts { version, executable, glibc: PRESUMED_GLIBC })
}

/// Runs the image's Python to learn what it is.
fn ask(
    images: &Images,
    image: &Reference,
    manifest: &Manifest,
    config: &ImageConfig,
) -> Result<ParentFacts, BuildError> {
    let unusable = |reason: String| BuildError::ParentPython { image: Box::new(image.clone()), reason };
    let mut process = Process::of_image(&config.config, &[]);
    process.argv = ["python3", "-c", QUESTION].map(str::to_owned).to_vec();
    let layers: Vec<PathBuf> = images.unpack(manifest, config)?;
    let sandbox =
        Sandbox { layers, scratch: images.scratch().to_owned(), container: Container::new(process) };
    let output = match sandbox.spawn(Streams::captured()).and_then(longshore_sandbox::Running::output) {
        Err(error) if error.exit_code() == Some(127) => {
            return Err(unusable("there is no python3 on its PATH".to_owned()));
        }
        Err(error) if error.exit_code().is_some() => {
            return Err(unusable("its python3 cannot be executed".to_owned()));
        }
        output => output?,
    };
    if !output.exit.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(unusable(said.trim().lines().last().unwrap_or("python3 cannot be run in it").to_owned()));
    }
    let answer: Answer = serde_json::from_slice(&output.stdout)
        .map_err(|_| unusable("its python3 did not say which version it is".to_owned()))?;
    let version: PythonVersion = answer
        .version
        .parse()
        .map_err(|_| unusable(format!("its python3 says it is version {}", answer.version)))?;
    if (version.major, version.minor) < (3, 9) {
        return Err(unusable(format!("its python3 is version {version}")));
    }
    let glibc = answer.libc.as_deref().and_then(glibc_version).ok_or_else(|| {
        unusable("its C library is not glibc, which the wheels of most packages need".to_owned())
    })?;
    let found = answer.installed.iter().filter_map(|one| one.distribution(version.minor)).collect();
    let distributions = distribution::imported(found, &answer.folders);
    Ok(ParentFacts { python: PythonFacts { version, executable: answer.executable, glibc }, distributions })
}

/// What an image's Python says of itself.
#[derive(Deserialize)]
struct Answer {
    version: String,
    executable: String,
    libc: Option<String>,
    /// Where it looks for packages, without the first slash.
    folders: Vec<String>,
    installed: Vec<Installed>,
}

/// A distribution as its files say.
#[derive(Deserialize)]
struct Installed {
    folder: String,
    entry: String,
    metadata: String,
    entry_points: Option<String>,
}

impl Installed {
    fn distribution(&self, minor: u8) -> Option<Distribution> {
        let place = Place { folder: &self.folder, entry: &self.entry, part: Part::Metadata };
        let metadata = Metadata::read(self.metadata.as_bytes()).ok()??;
        Distribution::at(place, &metadata, self.entry_points.as_deref(), minor)
    }
}

/// The version in `glibc 2.36`.
pub(crate) fn glibc_version(text: &str) -> Option<Glibc> {
    let (major, minor) = text.trim_start_matches("glibc").trim().split_once('.')?;
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
    Some(Glibc { major: major.parse().ok()?, minor: digits(minor)? })
}

/// Whether the registry lacks this image, or part of it, or has it damaged.
pub(crate) fn is_missing(error: &BuildError) -> bool {
    matches!(
        error,
        BuildError::Store(
            StoreError::ManifestUnknown { .. }
                | StoreError::RepositoryUnknown(_)
                | StoreError::BlobMissing { .. }
                | StoreError::Damaged { .. }
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_c_library_is_read_from_what_it_calls_itself() {
        assert_eq!(glibc_version("glibc 2.36"), Some(Glibc { major: 2, minor: 36 }));
        assert_eq!(glibc_version("2.36-9+deb12u13"), Some(Glibc { major: 2, minor: 36 }));
        assert_eq!(glibc_version("musl"), None);
    }
}
