//! What an interpreter has installed: the distributions in its folders, by their metadata (core metadata, and the `egg-info` of
//! before).

use std::{
    cmp::Ordering,
    fmt,
    io::{self, BufRead},
};

use pep508_rs::{PackageName, pep440_rs::Version};
use serde::{Deserialize, Serialize};

use crate::{
    entry_points::{self, Script},
    install::Venv,
    target::PythonVersion,
};

/// How much of a metadata file is read: what is looked for stands at its beginning, before the description.
const LARGEST_HEAD: u64 = 1 << 20;

/// A distribution that an interpreter has installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distribution {
    /// The name, normalised.
    pub name: PackageName,
    /// The version.
    pub version: Version,
    /// The folder that has it, below the root of the image: `usr/lib/python3/dist-packages`.
    pub folder: String,
    /// Its scripts, as far as they are made of entry points.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scripts: Vec<Script>,
}

/// A file that says something of an installed distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// The folder with the distribution.
    pub folder: &'a str,
    /// The name of the distribution's own folder in it, or of its file.
    pub entry: &'a str,
    /// What the file says.
    pub part: Part,
}

/// The files that say something of a distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `METADATA`, `PKG-INFO`: its name and version.
    Metadata,
    /// `entry_points.txt`.
    EntryPoints,
}

/// What a metadata file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// The name, normalised.
    pub name: PackageName,
    /// The version, as it is written.
    pub version: String,
}

/// Who made an interpreter: it decides in which folders it looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// Debian, or Ubuntu.
    Debian,
    /// Anybody else.
    Other,
}

impl<'a> Place<'a> {
    /// What a path is of a distribution, if it is anything.
    pub fn of(path: &'a str) -> Option<Self> {
        let (above, name) = path.rsplit_once('/')?;
        // As setuptools and distutils wrote it before there were folders for it.
        if name.ends_with(".egg-info") {
            return Some(Self { folder: above, entry: name, part: Part::Metadata });
        }
        let (folder, entry) = above.rsplit_once('/')?;
        let part = match (name, entry.ends_with(".dist-info"), entry.ends_with(".egg-info")) {
            ("METADATA", true, _) | ("PKG-INFO", _, true) => Part::Metadata,
            ("entry_points.txt", true, _) | ("entry_points.txt", _, true) => Part::EntryPoints,
            _ => return None,
        };
        Some(Self { folder, entry, part })
    }

    /// The name and the version in the name of the distribution's folder; of the version, old ones say nothing.
    pub fn named(&self) -> Option<(PackageName, Option<Version>)> {
        let stem = self.entry.strip_suffix(".dist-info").or_else(|| self.entry.strip_suffix(".egg-info"))?;
        let mut parts = stem.split('-');
        let name = parts.next()?.parse().ok()?;
        Some((name, parts.next().and_then(|version| version.parse().ok())))
    }
}

impl Metadata {
    /// Reads a metadata file; `None` if it does not name a distribution.
    pub fn read(file: impl BufRead) -> io::Result<Option<Self>> {
        let mut file = file.take(LARGEST_HEAD);
        let (mut name, mut version, mut line) = (None, None, Vec::new());
        loop {
            line.clear();
            file.read_until(b'\n', &mut line)?;
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end();
            if text.is_empty() || (name.is_some() && version.is_some()) {
                break;
            }
            let Some((field, value)) = text.split_once(':') else { continue };
            let slot = match field.to_ascii_lowercase().as_str() {
                "name" => &mut name,
                "version" => &mut version,
                _ => continue,
            };
            slot.get_or_insert_with(|| value.trim().to_owned());
        }
        let (Some(name), Some(version)) = (name, version) else { return Ok(None) };
        let Ok(name) = name.parse::<PackageName>() else { return Ok(None) };
        Ok((!version.is_empty()).then_some(Self { name, version }))
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

impl Distribution {
    /// The distribution at a place; `None` if its files do not agree, as those of one that was half removed.
    pub fn at(place: Place<'_>, metadata: &Metadata, entry_points: Option<&str>, minor: u8) -> Option<Self> {
        let Metadata { name, version } = metadata;
        let version: Version = version.parse().ok()?;
        let (called, its_version) = place.named()?;
        if called != *name || its_version.is_some_and(|its| its != version) {
            return None;
        }
        // What cannot be read is no reason to do without the distribution; its own scripts are where they are.
        let scripts = entry_points.and_then(|text| entry_points::scripts(text, minor).ok());
        Some(Self {
            name: name.clone(),
            version,
            folder: place.folder.to_owned(),
            scripts: scripts.unwrap_or_default(),
        })
    }

    /// Whether it is what a lock wants that has this version.
    pub fn is_version(&self, wanted: &Version) -> bool {
        is_version(&self.version, wanted)
    }
}

/// Whether what is installed in one version is what is wanted in another. A build of one's own counts as what it is a build of:
/// `2.4.0+cu121` is `2.4.0` (version specifiers specification, local version identifiers), but no other `2.4.0+…`.
pub(crate) fn is_version(installed: &Version, wanted: &Version) -> bool {
    installed == wanted || (!wanted.is_local() && installed.clone().without_local() == *wanted)
}

/// The folders in which an interpreter of an image looks, as an environment in it that sees the system's packages has them, in order.
pub fn folders(interpreter: &str, python: PythonVersion, maker: Maker) -> Vec<String> {
    let venv = Venv::in_image(python);
    let mut folders = vec![format!("{}/{}", venv.prefix(), venv.site_packages())];
    let prefix = interpreter.rsplit_once("/bin/").map_or("", |(prefix, _)| prefix);
    let prefix = prefix.trim_start_matches('/');
    let below = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
    let short = python.short();
    match maker {
        Maker::Debian => folders.extend([
            format!("{below}local/lib/python{short}/dist-packages"),
            format!("{below}lib/python3/dist-packages"),
            format!("{below}lib/python{short}/dist-packages"),
        ]),
        Maker::Other => folders.extend([
            // Where the libraries for 64 bits are apart (`sys.platlibdir`), so are packages.
            format!("{below}lib64/python{short}/site-packages"),
            format!("{below}lib/python{short}/site-packages"),
        ]),
    }
    folders
}

/// What is imported of the distributions that were found, by name: those in the folders, of two at one name the one in the
/// earlier folder. One that is in a folder twice, in two versions, is left out: which it is, nobody can say.
pub fn imported(found: Vec<Distribution>, folders: &[String]) -> Vec<Distribution> {
    let place = |distribution: &Distribution| folders.iter().position(|it| *it == distribution.folder);
    let mut found: Vec<(usize, Distribution)> =
        found.into_iter().filter_map(|it| Some((place(&it)?, it))).collect();
    found.sort_by(|(a, one), (b, other)| match one.name.cmp(&other.name).then(a.cmp(b)) {
        Ordering::Equal => one.version.cmp(&other.version),
        order => order,
    });
    let mut imported: Vec<Distribution> = Vec::new();
    for group in found.chunk_by(|(_, one), (_, other)| one.name == other.name) {
        let first = group[0].0;
        let mut there = group.iter().filter(|(at, _)| *at == first).map(|(_, it)| it);
        if let Some(one) = there.next()
            && there.all(|other| other.version == one.version)
        {
            imported.push(one.clone());
        }
    }
    imported
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(path: &str, name: &str, version: &str) -> Option<Distribution> {
        let metadata = Metadata { name: name.parse().unwrap(), version: version.to_owned() };
        Distribution::at(Place::of(path).unwrap(), &metadata, None, 11)
    }

    #[test]
    fn the_name_is_normalised() {
        let text = "Metadata-Version: 2.1\nName: Typing_Extensions\nversion: 4.12.2+x\n\nName: other\n";
        let found = Metadata::read(text.as_bytes()).unwrap().unwrap();
        assert_eq!(
            (found.name.to_string().as_str(), found.version.as_str()),
            ("typing-extensions", "4.12.2+x")
        );
        assert_eq!(Metadata::read(&b"Name: a\n\nVersion: 1\n"[..]).unwrap(), None);
    }

    #[test]
    fn places_are_told_from_other_files() {
        let of = |path| Place::of(path).map(|it| (it.folder, it.entry, it.part));
        let there = |entry, part| Some(("a/lib", entry, part));
        assert_eq!(of("a/lib/x-1.dist-info/METADATA"), there("x-1.dist-info", Part::Metadata));
        assert_eq!(of("a/lib/x-1.egg-info/PKG-INFO"), there("x-1.egg-info", Part::Metadata));
        assert_eq!(of("a/lib/x-1-py3.11.egg-info"), there("x-1-py3.11.egg-info", Part::Metadata));
        assert_eq!(of("a/lib/x-1.dist-info/entry_points.txt"), there("x-1.dist-info", Part::EntryPoints));
        for other in ["a/lib/x/METADATA", "a/x-1.dist-info/RECORD", "METADATA", "a/x-1.dist-info/PKG-INFO"] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn what_its_files_do_not_agree_on_is_no_distribution() {
        assert!(at("l/Foo_Bar-1.0.dist-info/METADATA", "foo-bar", "1.0").is_some());
        assert!(at("l/foo_bar-1.0.post1-py3.11.egg-info", "foo-bar", "1.0.post1").is_some());
        assert!(at("l/foo_bar.egg-info/PKG-INFO", "foo-bar", "1.0").is_some());
        assert!(at("l/~umpy-1.0.dist-info/METADATA", "numpy", "1.0").is_none(), "pip was interrupted");
        assert!(at("l/numpy-1.1.dist-info/METADATA", "numpy", "1.0").is_none());
        assert!(at("l/numpy-1.0.dist-info/METADATA", "numpy", "unknown").is_none());
    }

    #[test]
    fn a_build_of_a_version_is_that_version() {
        let torch = at("l/torch-2.4.0+cu121.dist-info/METADATA", "torch", "2.4.0+cu121").unwrap();
        for (wanted, is) in
            [("2.4.0", true), ("2.4", true), ("2.4.0+cu121", true), ("2.4.0+cpu", false), ("2.4.1", false)]
        {
            assert_eq!(torch.is_version(&wanted.parse().unwrap()), is, "{wanted}");
        }
        let plain = at("l/torch-2.4.0.dist-info/METADATA", "torch", "2.4.0").unwrap();
        assert!(!plain.is_version(&"2.4.0+cpu".parse().unwrap()));
    }

    #[test]
    fn the_first_folder_wins_and_two_versions_in_one_do_not() {
        let python = PythonVersion::new(3, 11, 2);
        let folders = folders("/usr/bin/python3.11", python, Maker::Debian);
        assert_eq!(
            folders,
            [
                "opt/venv/lib/python3.11/site-packages",
                "usr/local/lib/python3.11/dist-packages",
                "usr/lib/python3/dist-packages",
                "usr/lib/python3.11/dist-packages"
            ]
        );
        let one = |folder: &str, name: &str, version: &str| {
            at(&format!("{folder}/{name}-{version}.dist-info/METADATA"), name, version).unwrap()
        };
        let found = vec![
            one(&folders[2], "six", "1.15.0"),
            one(&folders[1], "six", "1.16.0"),
            one(&folders[2], "two", "1"),
            one(&folders[2], "two", "2"),
            one("usr/local/lib/python3.12/site-packages", "other", "1"),
            one(&folders[3], "last", "1"),
        ];
        let found = imported(found, &folders);
        let found: Vec<_> = found.iter().map(|it| format!("{} {}", it.name, it.version)).collect();
        assert_eq!(found, ["last 1", "six 1.16.0"]);
        let other = super::folders("/usr/local/bin/python3.12", PythonVersion::new(3, 12, 1), Maker::Other);
        assert!(other.contains(&"usr/local/lib/python3.12/site-packages".to_owned()), "{other:?}");
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes: Vec<u8>, path in "\\PC{0,40}(\\.egg-info|\\.dist-info/METADATA)?") {
            if let (Ok(Some(metadata)), Some(place)) = (Metadata::read(&bytes[..]), Place::of(&path)) {
                let _ = Distribution::at(place, &metadata, Some(&path), 11);
            }
        }
    }
}
