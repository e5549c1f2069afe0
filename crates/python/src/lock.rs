//! The lock: one wheel for every package, with its digest (PEP 751).

use std::path::PathBuf;

use longshore_oci::Digest;
use pep508_rs::{PackageName, pep440_rs::Version};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::filename::WheelFilename;

/// The packages of an environment, by name, each pinned to one wheel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// What the wheel was built of, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}

/// One file, by digest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PinnedWheel {
    /// Its name.
    pub filename: WheelFilename,
    /// Where it is to be had: `https:`, `http:`, or `file:` for one on this machine; of one that was built, where its
    /// source is. Without credentials.
    pub url: Url,
    /// Its length in bytes, where the index says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Its digest.
    pub digest: Digest,
    /// How it was asked for.
    pub origin: Origin,
}

/// Where a file comes from. It decides about `direct_url.json` (PEP 610).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// An index was asked for the package.
    Index,
    /// The requirement named the file.
    Direct,
}

/// What a resolution gives: for every package a wheel, or the source that one is to be built of.
///
/// It is what is kept between builds: while the [key](crate::uv::LockKey) of a request is the same, the
/// selection that was stored under it is the answer, and uv is neither started nor needed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// The packages, in order of their names.
    pub packages: Vec<Selected>,
}

/// A package of a [`Selection`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selected {
    /// The name, normalised.
    pub name: PackageName,
    /// The version, unless only building tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// What there is of it.
    pub artifact: Artifact,
}

/// What there is of a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Artifact {
    /// A wheel.
    Wheel(PinnedWheel),
    /// The source of one.
    Source(Source),
}

/// What a wheel is built of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Source {
    /// What it is.
    pub form: SourceForm,
    /// The folder in it that has the project, if it is not the uppermost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subdirectory: Option<String>,
    /// The wheel that a lock of longshore's says was built of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built: Option<BuiltWheel>,
}

/// The forms of source.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceForm {
    /// A source distribution.
    Archive {
        /// Where it is. Without credentials.
        url: Url,
        /// Its name.
        filename: String,
        /// Its digest.
        digest: Digest,
        /// Its length in bytes, where the index says.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<u64>,
        /// How it was asked for.
        origin: Origin,
    },
    /// A commit of a git repository.
    Git {
        /// The repository.
        url: String,
        /// The commit's hash.
        commit: String,
    },
    /// A folder of this machine.
    Folder {
        /// Which, absolute.
        path: PathBuf,
    },
}

/// A wheel that was built.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BuiltWheel {
    /// Its name.
    pub filename: WheelFilename,
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

impl Lock {
    /// The package of this name.
    pub fn get(&self, name: &PackageName) -> Option<&LockedPackage> {
        self.packages
            .binary_search_by(|package| package.name.cmp(name))
            .ok()
            .map(|index| &self.packages[index])
    }
}

impl Selection {
    /// The package of this name.
    pub fn get(&self, name: &PackageName) -> Option<&Selected> {
        self.packages
            .binary_search_by(|package| package.name.cmp(name))
            .ok()
            .map(|index| &self.packages[index])
    }

    /// The lock, if every package is a wheel.
    pub fn of_wheels(&self) -> Option<Lock> {
        let packages = self.packages.iter().map(|package| match (&package.version, &package.artifact) {
            (Some(version), Artifact::Wheel(wheel)) => Some(LockedPackage {
                name: package.name.clone(),
                version: version.clone(),
                wheel: wheel.clone(),
                source: None,
            }),
            _ => None,
        });
        Some(Lock { packages: packages.collect::<Option<_>>()? })
    }

    /// A `pylock.toml` with names and versions alone: what uv takes as its preferences.
    pub(crate) fn preferences(&self) -> String {
        use std::fmt::Write as _;
        let mut text = "lock-version = \"1.0\"\ncreated-by = \"longshore\"\n".to_owned();
        for package in &self.packages {
            let Some(version) = &package.version else { continue };
            // Normalised names and versions have no character that TOML would escape.
            let _ = write!(text, "\n[[packages]]\nname = \"{}\"\nversion = \"{version}\"\n", package.name);
        }
        text
    }
}

impl Source {
    /// What it is, for people.
    pub fn describe(&self) -> String {
        match &self.form {
            SourceForm::Archive { filename, .. } => filename.clone(),
            SourceForm::Git { url, commit } => format!("{url} at {}", commit.get(..12).unwrap_or(commit)),
            SourceForm::Folder { path } => path.display().to_string(),
        }
    }
}
