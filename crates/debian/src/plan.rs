//! What a parent image consists of: a value that can be kept, compared and fetched again.

use std::{fmt, time::Duration};

use jiff::Timestamp;
use longshore_oci::{Arch, Digest};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{sources::Sources, version::Version};

/// The version of the way in which layers are made of packages. It is part of a plan's key: other bytes from the same
/// packages need another version.
pub const LAYOUT_VERSION: u32 = 1;

/// What a Python parent consists of, besides all that these depend on: an interpreter with its whole standard library, what
/// manylinux wheels expect of the system (glibc, libstdc++, libgcc, zlib), a shell and the tools that scripts count on,
/// certificates, time zones, and the names of protocols and media types.
pub const PYTHON_ROOTS: [&str; 17] = [
    "base-files",
    "base-passwd",
    "bash",
    "ca-certificates",
    "coreutils",
    "dash",
    "findutils",
    "grep",
    "gzip",
    "libc-bin",
    "libstdc++6",
    "media-types",
    "netbase",
    "python3",
    "sed",
    "tzdata",
    "zlib1g",
];

/// What is asked for.
#[derive(Clone, Debug)]
pub struct ParentRequest {
    /// The architecture of the image.
    pub arch: Arch,
    /// The packages of the parent itself.
    pub roots: Vec<String>,
    /// Where packages come from.
    pub sources: Sources,
    /// The time at which signatures and dates are judged.
    pub now: Timestamp,
    /// For how long a `Release` that was checked is taken as current without asking the mirror again.
    pub freshness: Duration,
}

impl ParentRequest {
    /// A Python parent for `arch`, judged now. Mirrors are asked at most every four hours: Debian's archive is updated every
    /// six.
    pub fn python(arch: Arch, sources: Sources) -> Self {
        Self {
            arch,
            roots: PYTHON_ROOTS.map(ToOwned::to_owned).to_vec(),
            sources,
            now: Timestamp::now(),
            freshness: Duration::from_hours(4),
        }
    }
}

/// Everything that a parent image is made of: a lock. With it, the same image can be made without asking any index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ParentPlan {
    /// The way in which layers are made: [`LAYOUT_VERSION`].
    pub layout: u32,
    /// The architecture.
    pub arch: Arch,
    /// The distribution.
    pub distribution: Distribution,
    /// The Python interpreter, if the packages have one.
    pub python: Option<Python>,
    /// The suites that were looked into.
    pub suites: Vec<LockedSuite>,
    /// The packages, in order of name.
    pub packages: Vec<LockedPackage>,
}

/// A distribution and its release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Distribution {
    /// `Debian`, `Ubuntu`.
    pub name: String,
    /// `bookworm`.
    pub codename: String,
    /// `12.15`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        self.version.iter().try_for_each(|version| write!(f, " {version}"))?;
        write!(f, " ({})", self.codename)
    }
}

/// A Python interpreter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Python {
    /// `3.11`.
    pub minor: String,
    /// `3.11.2`.
    pub version: String,
    /// `/usr/bin/python3.11`.
    pub interpreter: String,
}

/// A suite whose indexes were used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LockedSuite {
    /// The archive's root.
    pub url: Url,
    /// The suite.
    pub suite: String,
    /// The digest of its `InRelease`.
    pub release: Digest,
    /// When that was made.
    pub date: Timestamp,
    /// The fingerprint of the key that signed it; absent if the configuration says that it needs no signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<String>,
}

/// A package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LockedPackage {
    /// The name.
    pub name: String,
    /// The version.
    pub version: Version,
    /// `amd64`, `all`, ….
    pub architecture: String,
    /// The source package.
    pub source: String,
    /// The position of its suite in the plan.
    pub suite: usize,
    /// Where it lies below the archive's root.
    pub path: String,
    /// The digest of the `.deb`.
    pub sha256: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The layer that it goes into.
    pub group: Group,
}

/// The layers of a parent, lowest first. What changes together lies together: a security update of one package changes its
/// layer and the small topmost one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Group {
    /// glibc, shell, tools, libraries.
    Base,
    /// The Python interpreter and its standard library.
    Python,
    /// Packages for all architectures: certificates, time zones, names.
    Data,
    /// What is added to a parent.
    Packages,
    /// What scripts would have made: accounts, dpkg's status, certificate bundle, alternatives, loader cache.
    System,
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Base => "base system",
            Self::Python => "Python",
            Self::Data => "data files",
            Self::Packages => "further packages",
            Self::System => "system configuration",
        })
    }
}

impl LockedPackage {
    /// `libc6_2.36-9_amd64.deb`, for messages.
    pub fn file_name(&self) -> String {
        format!("{}_{}_{}.deb", self.name, self.version, self.architecture)
    }
}

impl ParentPlan {
    /// What determines the image's bytes, and nothing else: the same packages from another mirror have the same key.
    pub fn key(&self) -> Digest {
        #[derive(Serialize)]
        struct Key<'a> {
            layout: u32,
            arch: Arch,
            distribution: &'a Distribution,
            packages: Vec<(&'a str, Digest, Group)>,
        }
        let packages =
            self.packages.iter().map(|package| (package.name.as_str(), package.sha256, package.group));
        let key = Key {
            layout: self.layout,
            arch: self.arch,
            distribution: &self.distribution,
            packages: packages.collect(),
        };
        // A structure of strings and numbers always serialises.
        Digest::of(serde_json::to_vec(&key).unwrap_or_default())
    }

    /// How many bytes all its packages have.
    pub fn download_size(&self) -> u64 {
        self.packages.iter().map(|package| package.size).sum()
    }
}
