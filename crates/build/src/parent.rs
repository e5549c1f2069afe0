//! The image that is built on: one from the registry, or one made from Debian packages.

use std::path::PathBuf;

use longshore_oci::{Arch, Digest, ImageConfig, Index, Manifest, Platform, Reference, Repository};
use longshore_python::target::{Glibc, PythonVersion};
use longshore_sandbox::{Container, Process, Sandbox, Streams};
use longshore_store::{Registry, RepositoryPath, StoreError, Table, TagOrDigest};
use serde::{Deserialize, Serialize};

use crate::{BuildError, container::Images};

/// The row of the table that says what Python an image has, by the image's digest.
const PYTHON: &str = "image-python";
/// The largest image configuration that is read.
pub(crate) const LARGEST_CONFIG: u64 = 4 << 20;
/// What is asked of an image's Python. One line of JSON on standard output, in the fields of [`PythonFacts`].
const QUESTION: &str = "\
import json, os, sys
libc = os.confstr('CS_GNU_LIBC_VERSION') if 'CS_GNU_LIBC_VERSION' in os.confstr_names else None
print(json.dumps({'version': '%d.%d.%d' % sys.version_info[:3], 'executable': os.path.realpath(sys.executable), 'libc': libc}))
";

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
    /// The repository of another registry that it came from. It has the layers too.
    pub(crate) source: Option<Repository>,
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

impl Parent {
    /// The bytes of its layers.
    pub(crate) fn size(&self) -> u64 {
        self.manifest.total_size()
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
    pub(crate) digest: Digest,
    pub(crate) manifest: Manifest,
    pub(crate) config: ImageConfig,
    pub(crate) source: Option<Repository>,
}

impl FoundParent {
    /// Finds out what Python it has, and whether this machine can run it.
    pub(crate) fn examine(self, table: &Table, images: &Images, arch: Arch) -> Result<Parent, BuildError> {
        let Self { image, digest, manifest, config, source } = self;
        let wanted = Platform::linux(arch);
        if !config.platform.serves(&wanted) {
            let found = config.platform.to_string();
            return Err(BuildError::ParentPlatform {
                image: Box::new(image),
                found,
                wanted: wanted.to_string(),
            });
        }
        let python = if let Some(known) = table.get(PYTHON, &digest) {
            known
        } else {
            let found = ask(images, &image, &manifest, &config)?;
            table.put(PYTHON, &digest, &found)?;
            found
        };
        let title = format!("{image}, Python {}", python.version);
        Ok(Parent { name: image.to_string(), title, digest, manifest, config, python, source })
    }
}

/// Runs the image's Python to learn what it is.
fn ask(
    images: &Images,
    image: &Reference,
    manifest: &Manifest,
    config: &ImageConfig,
) -> Result<PythonFacts, BuildError> {
    let unusable = |reason: String| BuildError::ParentPython { image: Box::new(image.clone()), reason };
    let mut process = Process::of_image(&config.config, &[]);
    process.argv = ["python3", "-c", QUESTION].map(str::to_owned).to_vec();
    let layers: Vec<PathBuf> = images.unpack(manifest, config)?;
    let sandbox =
        Sandbox { layers, scratch: images.scratch().to_owned(), container: Container::new(process) };
    let output = sandbox.spawn(Streams::captured())?.output()?;
    if !output.exit.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(unusable(said.trim().lines().last().unwrap_or("python3 cannot be run in it").to_owned()));
    }
    #[derive(Deserialize)]
    struct Answer {
        version: String,
        executable: String,
        libc: Option<String>,
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
    Ok(PythonFacts { version, executable: answer.executable, glibc })
}

/// The version in `glibc 2.36`.
pub(crate) fn glibc_version(text: &str) -> Option<Glibc> {
    let (major, minor) = text.trim_start_matches("glibc").trim().split_once('.')?;
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
    Some(Glibc { major: major.parse().ok()?, minor: digits(minor)? })
}

/// Whether the registry lacks this image, or part of it.
pub(crate) fn is_missing(error: &BuildError) -> bool {
    matches!(
        error,
        BuildError::Store(
            StoreError::ManifestUnknown { .. }
                | StoreError::RepositoryUnknown(_)
                | StoreError::BlobMissing { .. }
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
