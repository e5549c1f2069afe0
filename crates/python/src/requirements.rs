//! What the user asked for: a list of requirements, or a requirements file.
//!
//! uv reads requirements. Here they are read only for what uv does not do: to know when the same
//! question is asked again (the contents of every included file), to hold wheels to the hashes that
//! the lines state (`uv pip compile` does not), and to know which versions are pinned.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use longshore_oci::{Digest, Digester};
use pep508_rs::{
    PackageName,
    pep440_rs::{Operator, Version, VersionSpecifiers},
};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{error::Error, lock::Selection, marker::Markers};

/// What the user asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Requirements {
    /// Lines as in a requirements file.
    List(Vec<String>),
    /// A requirements file, relative to the request's folder.
    File(PathBuf),
}

/// Requirements with the files that they include, read.
#[derive(Clone, Debug)]
pub struct RequirementSet {
    digest: Digest,
    hashes: BTreeMap<PackageName, BTreeSet<Digest>>,
    pins: BTreeMap<PackageName, Version>,
    indexes: Vec<Url>,
    stated: Vec<Stated>,
}

/// A line that can be held against a lock.
#[derive(Clone, Debug)]
struct Stated {
    line: String,
    name: PackageName,
    /// None of a line that names a URL.
    versions: Option<VersionSpecifiers>,
    marker: Option<String>,
}

/// The size at which a requirements file is taken for something else.
const FILE_LIMIT: u64 = 16 << 20;

impl Requirements {
    /// Reads the requirements and the files that they include.
    pub fn read(&self, folder: &Path) -> Result<RequirementSet, Error> {
        let mut reader = Reader { digester: Digester::new(), set: RequirementSet::empty(), open: Vec::new() };
        match self {
            Self::List(lines) => reader.text(&lines.join("\n"), folder)?,
            Self::File(path) => reader.file(&folder.join(path))?,
        }
        Ok(RequirementSet { digest: reader.digester.finish(), ..reader.set })
    }
}

impl RequirementSet {
    fn empty() -> Self {
        Self {
            digest: Digest::of([]),
            hashes: BTreeMap::new(),
            pins: BTreeMap::new(),
            indexes: Vec::new(),
            stated: Vec::new(),
        }
    }

    /// The digest of everything that was read, in order.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// The hashes that the lines allow for a package; `None` where they state none.
    pub fn hashes(&self, package: &PackageName) -> Option<&BTreeSet<Digest>> {
        self.hashes.get(package)
    }

    /// Whether a line pins the package to exactly this version.
    pub fn pins(&self, package: &PackageName, version: &Version) -> bool {
        self.pins.get(package) == Some(version)
    }

    /// The indexes that the lines name, with their credentials.
    pub fn indexes(&self) -> &[Url] {
        &self.indexes
    }

    /// What of the lines a lock does not satisfy, in words.
    pub fn unsatisfied(&self, lock: &Selection, markers: &Markers) -> Vec<String> {
        let differs = |stated: &&Stated| {
            // A marker that cannot be read is uv's to complain about.
            stated.marker.as_ref().is_none_or(|marker| markers.hold(marker).unwrap_or(false))
        };
        let difference = |stated: &Stated| {
            let Some(package) = lock.get(&stated.name) else {
                return Some(format!("`{}` is required, and the lock has no {}", stated.line, stated.name));
            };
            let (versions, version) = (stated.versions.as_ref()?, package.version.as_ref()?);
            (!versions.contains(version))
                .then(|| format!("`{}` is required, and the lock has {} {version}", stated.line, stated.name))
        };
        self.stated.iter().filter(differs).filter_map(difference).collect()
    }
}

struct Reader {
    digester: Digester,
    set: RequirementSet,
    /// The files being read, outermost first: a circle is an error.
    open: Vec<PathBuf>,
}

impl Reader {
    fn file(&mut self, path: &Path) -> Result<(), Error> {
        let failed = |source| Error::RequirementsFile { path: path.to_owned(), source };
        if self.open.iter().any(|open| open == path) || self.open.len() > 32 {
            return Err(Error::RequirementsCircle { path: path.to_owned() });
        }
        if fs::metadata(path).map_err(failed)?.len() > FILE_LIMIT {
            return Err(failed(std::io::Error::other("it is larger than 16 MiB")));
        }
        let text = fs::read_to_string(path).map_err(failed)?;
        self.open.push(path.to_owned());
        self.text(&text, path.parent().unwrap_or(Path::new("")))?;
        self.open.pop();
        Ok(())
    }

    fn text(&mut self, text: &str, folder: &Path) -> Result<(), Error> {
        // Framed by lengths, so that two lists never look alike because of where their lines break.
        self.digester.update(&(text.len() as u64).to_be_bytes());
        self.digester.update(text.as_bytes());
        for line in logical_lines(text) {
            if let Some(path) = option(&line, &["-r", "--requirement", "-c", "--constraint"]) {
                // A requirements file on a server is uv's to read; its contents are not part of the key.
                if !path.contains("://") {
                    self.file(&folder.join(path))?;
                }
            } else if let Some(url) = option(&line, &["-i", "--index-url", "--extra-index-url"]) {
                self.set.indexes.extend(Url::parse(url));
            } else if let Some(path) = option(&line, &["-e", "--editable"]) {
                self.project(folder, path);
            } else if !line.starts_with('-') {
                self.requirement(&line, folder);
            }
        }
        Ok(())
    }

    /// Notes what a project on this machine depends on: what it requires counts as if the lines stated it. (Its code does
    /// not: that decides about its wheel, not about the lock.)
    fn project(&mut self, folder: &Path, place: &str) {
        let Some(path) = path_of(folder, place) else { return };
        for name in ["pyproject.toml", "setup.cfg", "setup.py"] {
            if let Ok(bytes) = fs::read(path.join(name)) {
                self.digester.update(&(bytes.len() as u64).to_be_bytes());
                self.digester.update(&bytes);
            }
        }
    }

    /// Notes what a line states. One that cannot be read is left for uv to complain about.
    fn requirement(&mut self, line: &str, folder: &Path) {
        let mut words = line.split_whitespace().peekable();
        let mut specifier = Vec::new();
        let mut hashes = Vec::new();
        while let Some(word) = words.next() {
            match word.strip_prefix("--hash") {
                Some("") => hashes.extend(words.next()),
                Some(rest) => hashes.extend(rest.strip_prefix('=')),
                None => specifier.push(word),
            }
        }
        let specifier = specifier.join(" ");
        let place = specifier.split_once('@').map_or(specifier.as_str(), |(_, place)| place.trim());
        if specifier.starts_with(['.', '/']) || place.starts_with("file:") {
            self.project(folder, place);
        }
        let Some((name, specifiers)) = name_and_versions(&specifier) else { return };
        let marker = specifier.split_once(';').map(|(_, marker)| marker.trim().to_owned());
        if specifiers.starts_with('@') {
            let line = specifier.split_once('@').map_or(specifier.as_str(), |(name, _)| name.trim());
            let stated = Stated { line: line.to_owned(), name: name.clone(), versions: None, marker };
            self.set.stated.push(stated);
        } else if let Ok(versions) = specifiers.parse() {
            let versions = Some(versions);
            self.set.stated.push(Stated { line: specifier.clone(), name: name.clone(), versions, marker });
        }
        if let Ok(specifiers) = specifiers.parse::<VersionSpecifiers>()
            && let [only] = &specifiers[..]
            && matches!(only.operator(), Operator::Equal | Operator::ExactEqual)
        {
            self.set.pins.insert(name.clone(), only.version().clone());
        }
        if !hashes.is_empty() {
            // A hash of another algorithm allows no file: only sha256 is looked at, and an index gives it always.
            let digests = hashes.iter().filter_map(|hash| hash.to_ascii_lowercase().parse::<Digest>().ok());
            self.set.hashes.entry(name).or_default().extend(digests);
        }
    }
}

/// The path that a requirement names, if it does.
fn path_of(folder: &Path, place: &str) -> Option<PathBuf> {
    let place = place.split([';', '#']).next().unwrap_or_default();
    let place = place.split_once('[').map_or(place, |(path, _)| path).trim();
    if let Ok(url) = Url::parse(place) {
        return url.to_file_path().ok();
    }
    Some(folder.join(place))
}

/// `numpy` and `==2.1.0` of `numpy[extra]==2.1.0 ; marker`. (The parser of pep508_rs 0.9 panics on some names that
/// are not valid.)
fn name_and_versions(specifier: &str) -> Option<(PackageName, &str)> {
    let end = specifier
        .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')))
        .unwrap_or(specifier.len());
    let (name, mut rest) = specifier.split_at(end);
    rest = rest.trim_start();
    if let Some(extras) = rest.strip_prefix('[') {
        rest = extras.split_once(']')?.1;
    }
    let versions = rest.split(';').next().unwrap_or_default().trim();
    let versions = versions.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')).unwrap_or(versions);
    Some((name.parse().ok().filter(|_| !name.is_empty())?, versions))
}

/// The lines of a requirements file: continued ones joined, comments and empty ones left out.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut pending = String::new();
    for line in text.lines() {
        let line = match line.find('#') {
            Some(0) => "",
            Some(_) => {
                line.split_once(" #").or_else(|| line.split_once("\t#")).map_or(line, |(before, _)| before)
            }
            None => line,
        };
        if let Some(continued) = line.trim_end().strip_suffix('\\') {
            pending.push_str(continued);
            pending.push(' ');
        } else {
            pending.push_str(line);
            lines.push(std::mem::take(&mut pending).trim().to_owned());
        }
    }
    lines.push(pending.trim().to_owned());
    lines.retain(|line| !line.is_empty());
    lines
}

/// The value, when the line is one of these options: `-r x`, `-rx`, `--requirement x`, `--requirement=x`.
fn option<'a>(line: &'a str, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| {
        let rest = line.strip_prefix(name)?;
        let value = match rest.chars().next()? {
            '=' => &rest[1..],
            c if c.is_whitespace() => rest,
            _ if name.starts_with("--") => return None,
            _ => rest,
        };
        Some(value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(folder: &Path) -> Result<RequirementSet, Error> {
        Requirements::File("requirements.txt".into()).read(folder)
    }

    #[test]
    fn hashes_pins_and_indexes_are_noted_through_includes_and_continuations() {
        let folder = tempfile::tempdir().unwrap();
        let hash = "a".repeat(64);
        let other = "b".repeat(64);
        fs::write(
            folder.path().join("requirements.txt"),
            format!(
                "# comment\n--index-url https://user:pw@index.invalid/simple\n-r sub/more.txt # why\nNumPy==2.1.0 ; python_version > '3' \\\n    --hash=sha256:{hash} \\\n    --hash sha256:{other}\nrequests[socks]>=2,<3\n"
            ),
        )
        .unwrap();
        fs::create_dir(folder.path().join("sub")).unwrap();
        fs::write(folder.path().join("sub/more.txt"), "-cpins.txt\nidna\n").unwrap();
        fs::write(folder.path().join("sub/pins.txt"), "idna==3.10\n").unwrap();
        let set = read(folder.path()).unwrap();
        let name = |text: &str| text.parse::<PackageName>().unwrap();
        assert_eq!(set.hashes(&name("numpy")).unwrap().len(), 2);
        assert!(set.hashes(&name("idna")).is_none());
        assert!(set.pins(&name("numpy"), &"2.1.0".parse().unwrap()));
        assert!(set.pins(&name("idna"), &"3.10".parse().unwrap()));
        assert!(!set.pins(&name("requests"), &"2".parse().unwrap()));
        assert_eq!(set.indexes()[0].password(), Some("pw"));

        let before = set.digest();
        fs::write(folder.path().join("sub/pins.txt"), "idna==3.9\n").unwrap();
        assert_ne!(read(folder.path()).unwrap().digest(), before, "an included file counts");
    }

    #[test]
    fn a_circle_and_a_missing_file_are_errors_that_name_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("requirements.txt"), "-r requirements.txt\n").unwrap();
        assert!(matches!(read(folder.path()), Err(Error::RequirementsCircle { .. })));
        fs::write(folder.path().join("requirements.txt"), "--requirement=gone.txt\n").unwrap();
        assert!(read(folder.path()).unwrap_err().to_string().contains("gone.txt"));
    }

    #[test]
    fn a_hash_of_another_algorithm_allows_nothing() {
        let set = Requirements::List(vec!["six==1.16.0 --hash=md5:00".into()]).read(Path::new("")).unwrap();
        assert!(set.hashes(&"six".parse().unwrap()).unwrap().is_empty());
    }

    #[test]
    fn lists_that_break_elsewhere_differ() {
        let digest = |lines: &[&str]| {
            Requirements::List(lines.iter().map(ToString::to_string).collect())
                .read(Path::new(""))
                .unwrap()
                .digest()
        };
        assert_eq!(digest(&["a", "b"]), digest(&["a", "b"]));
        assert_ne!(digest(&["a", "b"]), digest(&["ab"]));
    }

    proptest! {
        #[test]
        fn reading_never_panics(lines in proptest::collection::vec("[ -~]{0,30}", 0..6)) {
            let lines = lines.into_iter().filter(|line| !line.trim_start().starts_with(['-'])).collect();
            prop_assert!(Requirements::List(lines).read(Path::new("/nowhere")).is_ok());
        }
    }
}
