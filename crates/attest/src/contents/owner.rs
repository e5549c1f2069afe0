//! Whose a file is.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::layer::Claim;

/// The sorts of owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OwnerKind {
    /// A wheel that was installed.
    Python,
    /// A Debian package.
    Debian,
    /// The code of the image's author.
    Code,
    /// Nobody who says so.
    Other,
}

/// What a package contributes to an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PackageShare {
    /// What it is.
    pub kind: OwnerKind,
    /// Its name.
    pub name: String,
    /// Its version, if it has one.
    pub version: Option<String>,
    /// The bytes of its files that show.
    pub size: u64,
    /// How many of them are compiled bytecode.
    pub bytecode: u64,
    /// How many files those are.
    pub files: usize,
    /// The layers that they are in, counted from 0.
    pub layers: Vec<usize>,
}

impl PackageShare {
    fn none(kind: OwnerKind, name: &str, version: Option<String>) -> Self {
        Self { kind, name: name.to_owned(), version, size: 0, bytecode: 0, files: 0, layers: Vec::new() }
    }

    pub(super) fn code() -> Self {
        Self::none(OwnerKind::Code, "code", None)
    }

    pub(super) fn rest() -> Self {
        Self::none(OwnerKind::Other, "other files", None)
    }

    fn of(claim: &Claim, versions: &HashMap<&str, &str>) -> Self {
        if claim.list.ends_with(".dist-info/RECORD") {
            let (name, version) = claim.package.split_once('-').unwrap_or((&claim.package, ""));
            return Self::none(OwnerKind::Python, &normalised(name), Some(version.to_owned()));
        }
        let name = claim.package.split(':').next().unwrap_or_default();
        let version = versions.get(name).map(|version| (*version).to_owned());
        Self::none(OwnerKind::Debian, name, version)
    }
}

/// A name in the one spelling that it has in an index (PEP 503).
fn normalised(name: &str) -> String {
    let parts = name.split(['-', '_', '.']).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("-").to_lowercase()
}

/// Finds the owner of a file.
#[derive(Clone, Debug, Default)]
pub(super) struct Owners {
    packages: Vec<PackageShare>,
    files: HashMap<String, usize>,
    directories: HashMap<String, usize>,
    versions: HashMap<String, String>,
}

/// Directories that are links into `/usr` where `/usr` is merged; dpkg's lists still have the old names.
const MERGED: [&str; 6] = ["bin/", "sbin/", "lib/", "lib32/", "lib64/", "libx32/"];

impl Owners {
    pub(super) fn new<'a>(claims: impl Iterator<Item = &'a Claim>, versions: &HashMap<&str, &str>) -> Self {
        let mut owners = Self {
            versions: versions.iter().map(|(name, it)| ((*name).to_owned(), (*it).to_owned())).collect(),
            ..Self::default()
        };
        let mut claims: Vec<&Claim> = claims.collect();
        // Of what several claim, it is the first one's, whatever the order of the layers.
        claims.sort_by(|a, b| a.package.cmp(&b.package));
        for claim in claims {
            let owner = owners.packages.len();
            owners.packages.push(PackageShare::of(claim, versions));
            for directory in &claim.directories {
                owners.directories.entry(directory.clone()).or_insert(owner);
            }
            for file in claim.files.iter().chain([&claim.list]) {
                owners.files.entry(file.clone()).or_insert(owner);
                if MERGED.iter().any(|folder| file.starts_with(folder)) {
                    owners.files.entry(format!("usr/{file}")).or_insert(owner);
                }
            }
        }
        owners
    }

    pub(super) fn package(&self, owner: usize) -> &PackageShare {
        &self.packages[owner]
    }

    pub(super) fn debian_version(&self, name: &str) -> Option<&str> {
        self.versions.get(name).map(String::as_str)
    }

    pub(super) fn owner(&self, path: &str) -> Option<usize> {
        if let Some(owner) = self.files.get(path) {
            return Some(*owner);
        }
        let (directory, name) = path.rsplit_once('/')?;
        let Some(folder) = directory.strip_suffix("__pycache__") else {
            return self.directories.get(directory).copied();
        };
        // Bytecode is whose the source is.
        let module = name.split('.').next().unwrap_or_default();
        let source = self.files.get(&format!("{folder}{module}.py"));
        source.or_else(|| self.directories.get(folder.trim_end_matches('/'))).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised() {
        assert_eq!(normalised("Typing_Extensions"), "typing-extensions");
        assert_eq!(normalised("ruamel.yaml._x"), "ruamel-yaml-x");
    }

    #[test]
    fn dpkg_knows_files_by_their_names_before_usr_was_merged() {
        let claim = Claim {
            list: "var/lib/dpkg/info/libc6:amd64.list".to_owned(),
            package: "libc6:amd64".to_owned(),
            directories: Vec::new(),
            files: vec!["lib/x86_64-linux-gnu/libc.so.6".to_owned(), "usr/lib/python3/a.py".to_owned()],
        };
        let owners = Owners::new([&claim].into_iter(), &HashMap::from([("libc6", "2.36-9")]));
        assert_eq!(owners.owner("usr/lib/x86_64-linux-gnu/libc.so.6"), Some(0));
        assert_eq!(owners.owner("usr/lib/python3/__pycache__/a.cpython-311.pyc"), Some(0));
        assert_eq!(owners.owner("usr/lib/python3/b.py"), None);
        assert_eq!(owners.package(0).version.as_deref(), Some("2.36-9"));
        assert_eq!(owners.package(0).name, "libc6");
    }
}
