//! What is in an image: the one value that documents are made from.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use longshore_oci::{Digest, ImageConfig, Repository};
use longshore_python::lock::Lock;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{OsRelease, purl};

/// An image and its packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory {
    /// The image.
    pub image: Image,
    /// Its distribution, if it has one.
    pub os: Option<OsRelease>,
    /// Its packages.
    pub packages: Vec<Package>,
    /// How it was built, if longshore did.
    pub build: Option<BuildFacts>,
}

/// An image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Where it is.
    pub repository: Repository,
    /// The digest of its manifest.
    pub digest: Digest,
    /// When it was made, as its configuration says.
    pub created: Option<String>,
}

impl Image {
    /// An identifier of a document about it: no random one, the same image has the same document.
    pub(crate) fn uuid(&self, format: &str) -> uuid::Uuid {
        let digest = Digest::of(format!("{format} {}", self.digest));
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest.as_bytes()[..16]);
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    }

    /// When it was made; 1970 if it does not say.
    pub(crate) fn time(&self) -> Timestamp {
        let time = self.created.as_deref().and_then(|text| text.parse::<Timestamp>().ok());
        // Whole seconds: SPDX has no others.
        let seconds = time.map_or(0, Timestamp::as_second);
        Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// A package of an image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Package {
    /// What sort of package it is.
    pub kind: PackageKind,
    /// Its name; of a Python package the normalised one.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The digest of the file that it was installed from.
    pub digest: Option<Digest>,
    /// Where that file came from, without credentials.
    pub origin: Option<Url>,
    /// Where it is in the image, or the file there that says so.
    pub locations: BTreeSet<String>,
}

/// The sorts of package.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PackageKind {
    /// A Debian package.
    Debian {
        /// `amd64`, `all`, ….
        architecture: String,
        /// What it was built from.
        source: DebianSource,
    },
    /// A Python interpreter.
    Interpreter,
    /// A Python package.
    Python,
}

/// A source package: what Debian's security notices are about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DebianSource {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// What determines an image that longshore built: the same give the same digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildFacts {
    /// The version of longshore.
    pub longshore: String,
    /// By name, e.g. `parent:digest`.
    pub inputs: BTreeMap<String, String>,
}

impl Inventory {
    /// The packages by their URL, each once, with all its places.
    pub(crate) fn by_purl(&self) -> BTreeMap<String, Package> {
        let mut found: BTreeMap<String, Package> = BTreeMap::new();
        for package in &self.packages {
            let known =
                found.entry(purl::of_package(package, self.os.as_ref())).or_insert_with(|| package.clone());
            known.locations.extend(package.locations.iter().cloned());
            if known.digest.is_none() {
                known.digest = package.digest;
                known.origin.clone_from(&package.origin);
            }
        }
        found
    }
}

/// The packages of a lock, as they are installed in an environment at `location`.
pub fn wheels_of(lock: &Lock, location: &str) -> Vec<Package> {
    let package = |package: &longshore_python::lock::LockedPackage| Package {
        kind: PackageKind::Python,
        name: package.name.to_string(),
        version: package.version.to_string(),
        digest: Some(package.wheel.digest),
        origin: shown(&package.wheel.url),
        locations: BTreeSet::from([location.to_owned()]),
    };
    lock.packages.iter().map(package).collect()
}

/// What of a URL may be published: no credentials, and neither a query nor a fragment, in which some places put theirs.
/// Where a file lay on the machine that built the image is nobody's business.
fn shown(url: &Url) -> Option<Url> {
    if !matches!(url.scheme(), "http" | "https") {
        return None;
    }
    let mut url = url.clone();
    url.set_username("").and_then(|()| url.set_password(None)).ok()?;
    url.set_query(None);
    url.set_fragment(None);
    Some(url)
}

/// The interpreter of an image whose configuration names it, as Docker's official images do.
pub fn python_of(config: &ImageConfig) -> Option<Package> {
    let version = config.config.env("PYTHON_VERSION")?;
    version.starts_with(|c: char| c.is_ascii_digit()).then(|| Package {
        kind: PackageKind::Interpreter,
        name: "python".to_owned(),
        version: version.to_owned(),
        digest: None,
        origin: None,
        locations: BTreeSet::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_secrets() {
        let shown = |text: &str| shown(&text.parse().unwrap()).map(String::from);
        assert_eq!(
            shown("https://me:s3cret@wheels.test/a/b-1-py3-none-any.whl?X-Signature=s3cret#sha256=0")
                .as_deref(),
            Some("https://wheels.test/a/b-1-py3-none-any.whl")
        );
        assert_eq!(shown("file:///home/me/b-1-py3-none-any.whl"), None);
    }
}
