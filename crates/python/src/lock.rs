//! The lock: one wheel for every package, with its digest (PEP 751).

use std::collections::BTreeMap;
use std::path::Path;

use longshore_oci::Digest;
use pep508_rs::{PackageName, pep440_rs::Version};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{
    error::Error, filename::WheelFilename, requirements::RequirementSet, tags::Tags, target::Target,
};

/// The packages of an environment, by name, each pinned to one wheel.
///
/// It is what is kept between builds: while the [key](crate::uv::LockKey) of a request is the same, the
/// lock that was stored under it is the answer, and uv is neither started nor needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// The packages, in order of their names.
    pub packages: Vec<LockedPackage>,
}

/// A package at a version, as one wheel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedPackage {
    /// The name, normalised.
    pub name: PackageName,
    /// The version.
    pub version: Version,
    /// The wheel for the target that was asked for.
    pub wheel: PinnedWheel,
}

/// One file, by digest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PinnedWheel {
    /// Its name.
    pub filename: WheelFilename,
    /// Where it is to be had: `https:`, `http:`, or `file:` for one on this machine. Without credentials;
    /// [`Indexes::authorize`](crate::uv::Indexes::authorize) puts them in.
    pub url: Url,
    /// Its length in bytes, where the index says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Its digest.
    pub digest: Digest,
    /// How it was asked for.
    pub origin: Origin,
}

/// Where a wheel comes from. It decides about `direct_url.json` (PEP 610).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// An index was asked for the package.
    Index,
    /// The requirement named the file.
    Direct,
}

impl Lock {
    /// Reads uv's `pylock.toml`.
    ///
    /// Where it lists several wheels of a package (uv lists every one that runs on the target), the one is
    /// taken that uv would install: of those with an allowed hash the best by tags, then by build tag.
    /// Relative paths are relative to `folder`.
    pub fn parse(
        text: &str,
        target: &Target,
        requirements: &RequirementSet,
        folder: &Path,
    ) -> Result<Self, Error> {
        let wrong = |reason: String| Error::Lock { reason };
        let document: Pylock = toml::from_str(text).map_err(|error| wrong(error.message().to_owned()))?;
        if document.lock_version.split('.').next() != Some("1") {
            return Err(wrong(format!(
                "its lock-version is {}, and longshore reads version 1 (PEP 751)",
                document.lock_version
            )));
        }
        let chooser = Chooser { tags: Tags::of(target), target, requirements, folder };
        let mut packages = BTreeMap::new();
        for package in document.packages {
            let locked = chooser.choose(package)?;
            if let Some(twice) = packages.insert(locked.name.clone(), locked) {
                return Err(wrong(format!("it has {} twice", twice.name)));
            }
        }
        Ok(Self { packages: packages.into_values().collect() })
    }

    /// The package of this name.
    pub fn get(&self, name: &PackageName) -> Option<&LockedPackage> {
        self.packages
            .binary_search_by(|package| package.name.cmp(name))
            .ok()
            .map(|index| &self.packages[index])
    }

    /// A `pylock.toml` with names and versions alone: what uv takes as its preferences.
    pub(crate) fn preferences(&self) -> String {
        use std::fmt::Write as _;
        let mut text = "lock-version = \"1.0\"\ncreated-by = \"longshore\"\n".to_owned();
        for package in &self.packages {
            // Normalised names and versions have no character that TOML would escape.
            let _ = write!(
                text,
                "\n[[packages]]\nname = \"{}\"\nversion = \"{}\"\n",
                package.name, package.version
            );
        }
        text
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Pylock {
    lock_version: String,
    #[serde(default)]
    packages: Vec<PylockPackage>,
}

#[derive(Deserialize)]
struct PylockPackage {
    name: PackageName,
    version: Option<Version>,
    #[serde(default)]
    wheels: Vec<PylockFile>,
    archive: Option<PylockFile>,
    sdist: Option<toml::Table>,
    vcs: Option<toml::Table>,
    directory: Option<toml::Table>,
}

#[derive(Deserialize)]
struct PylockFile {
    name: Option<String>,
    url: Option<Url>,
    path: Option<String>,
    size: Option<u64>,
    #[serde(default)]
    hashes: BTreeMap<String, String>,
}

struct Chooser<'a> {
    tags: Tags,
    target: &'a Target,
    requirements: &'a RequirementSet,
    folder: &'a Path,
}

impl Chooser<'_> {
    fn choose(&self, package: PylockPackage) -> Result<LockedPackage, Error> {
        let name = package.name;
        if package.vcs.is_some() {
            return Err(Error::NotAWheel { package: name, form: "a repository" });
        }
        if package.directory.is_some() {
            return Err(Error::NotAWheel { package: name, form: "a folder" });
        }
        let (files, origin) = match package.archive {
            Some(archive) => (vec![archive], Origin::Direct),
            None => (package.wheels, Origin::Index),
        };
        if files.is_empty() {
            let form =
                if package.sdist.is_some() { "a source distribution" } else { "something without a file" };
            return Err(Error::NotAWheel { package: name, form });
        }
        let wheels = files
            .into_iter()
            .map(|file| self.pin(&name, file, origin))
            .collect::<Result<Vec<PinnedWheel>, Error>>()?;
        let version = package.version.unwrap_or_else(|| wheels[0].filename.version().clone());
        let allowed = self.requirements.hashes(&name);
        let suitable = wheels.into_iter().filter_map(|wheel| {
            // A wheel that was named is taken at its word, as uv does after its own check of the tags.
            let rank = if origin == Origin::Direct { Some(0) } else { self.tags.rank(&wheel.filename) };
            Some((rank?, wheel))
        });
        let mut suitable: Vec<_> = suitable.collect();
        if suitable.is_empty() {
            return Err(Error::Lock {
                reason: format!(
                    "none of the wheels that it lists for {name} {version} runs on {}",
                    self.target
                ),
            });
        }
        suitable.retain(|(_, wheel)| allowed.is_none_or(|allowed| allowed.contains(&wheel.digest)));
        // Ties are broken by the file name, so that the order of the lock's lines decides nothing.
        let best = suitable.into_iter().min_by(|(a_rank, a), (b_rank, b)| {
            (a_rank, b.filename.build(), a.filename.as_str()).cmp(&(
                b_rank,
                a.filename.build(),
                b.filename.as_str(),
            ))
        });
        match best {
            Some((_, wheel)) => Ok(LockedPackage { name, version, wheel }),
            None => Err(Error::Hash { package: name, version: version.to_string(), target: *self.target }),
        }
    }

    fn pin(&self, package: &PackageName, file: PylockFile, origin: Origin) -> Result<PinnedWheel, Error> {
        let wrong = |what: &str| Error::Lock { reason: format!("a file of {package} has {what}") };
        let url = match (file.url, file.path) {
            (Some(url), _) => url,
            (None, Some(path)) => Url::from_file_path(self.folder.join(path))
                .map_err(|()| wrong("a path that is not absolute"))?,
            (None, None) => return Err(wrong("neither a URL nor a path")),
        };
        let last = url.path_segments().and_then(|mut segments| segments.next_back()).unwrap_or_default();
        let name = file.name.unwrap_or_else(|| percent_decoded(last));
        let filename = name.parse::<WheelFilename>().map_err(|error| {
            if Path::new(&name).extension().is_some_and(|extension| extension == "whl") {
                Error::Lock { reason: error.to_string() }
            } else {
                Error::NotAWheel { package: package.clone(), form: "a source distribution" }
            }
        })?;
        let sha256 = file.hashes.get("sha256").ok_or_else(|| wrong("no sha256 hash"))?;
        let digest = Digest::from_hex(sha256).map_err(|error| wrong(&error.to_string()))?;
        Ok(PinnedWheel { filename, url, size: file.size, digest, origin })
    }
}

/// A URL's path segment as text: file names of wheels with a local version have a `+`, which is often escaped.
fn percent_decoded(segment: &str) -> String {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match (first, tail) {
            (b'%', [high, low, ..]) => std::str::from_utf8(&[*high, *low])
                .ok()
                .and_then(|digits| u8::from_str_radix(digits, 16).ok()),
            _ => None,
        };
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| segment.to_owned())
}
