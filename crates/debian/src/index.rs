//! Package indexes: what `Packages` files say, kept small.

use std::{
    cmp::Ordering,
    collections::{BTreeSet, HashMap},
    io::{self, BufRead},
};

use longshore_oci::{Arch, Digest};

use crate::{
    relation::{Relation, groups},
    version::compare,
};

/// The fields that resolution, fetching and reporting need. Of the 45 MB of Debian's main index a third remains.
const KEPT: [&[u8]; 16] = [
    b"Package",
    b"Version",
    b"Architecture",
    b"Multi-Arch",
    b"Priority",
    b"Essential",
    b"Source",
    b"Installed-Size",
    b"Pre-Depends",
    b"Depends",
    b"Conflicts",
    b"Breaks",
    b"Provides",
    b"Filename",
    b"Size",
    b"SHA256",
];

/// The longest line that is read; Debian's longest (a `Provides`) has 40 kB.
const LONGEST_LINE: usize = 1 << 20;
/// The most that the kept lines of an index may come to.
const LARGEST_INDEX: usize = 256 << 20;

/// The packages of one index, by name.
#[derive(Clone, Debug, Default)]
pub struct Index {
    /// The kept lines of all packages, one after another.
    text: String,
    /// Where each package's lines begin and end.
    records: Vec<(usize, usize)>,
    by_name: HashMap<Box<str>, Vec<usize>>,
    /// The packages that provide other names: a tenth of all.
    providing: Vec<usize>,
    /// The packages that others need not name.
    essential: Vec<Box<str>>,
}

/// A package as an index describes it.
#[derive(Clone, Copy, Debug)]
pub struct Package<'a> {
    text: &'a str,
    /// The name.
    pub name: &'a str,
    /// The version.
    pub version: &'a str,
}

impl<'a> Package<'a> {
    fn new(text: &'a str) -> Option<Self> {
        Some(Self { text, name: field(text, "Package")?, version: field(text, "Version")? })
    }

    /// The value of one of the kept fields.
    pub fn field(&self, name: &str) -> Option<&'a str> {
        field(self.text, name)
    }

    /// `amd64`, `all`, …
    pub fn architecture(&self) -> &'a str {
        self.field("Architecture").unwrap_or_default()
    }

    /// How important the distribution takes it to be: 0 for `required`, rising.
    pub fn priority(&self) -> usize {
        const PRIORITIES: [&str; 4] = ["required", "important", "standard", "optional"];
        let priority = self.field("Priority").unwrap_or_default();
        PRIORITIES.iter().position(|it| *it == priority).unwrap_or(PRIORITIES.len())
    }

    /// Whether other packages count on it without saying so (policy §3.8).
    pub fn is_essential(&self) -> bool {
        self.field("Essential") == Some("yes")
    }

    /// The name of the source package.
    pub fn source(&self) -> &'a str {
        let source = self.field("Source").unwrap_or(self.name);
        source.split_once(' ').map_or(source, |(name, _)| name)
    }

    /// The SHA-256 of the `.deb`; `None` if the index does not give one.
    pub fn sha256(&self) -> Option<Digest> {
        self.field("SHA256").and_then(|hex| Digest::from_hex(hex).ok())
    }

    /// The size of the `.deb`.
    pub fn size(&self) -> Option<u64> {
        self.field("Size").and_then(|size| size.parse().ok())
    }

    /// Whether this package meets a relation, by its own name or by a name that it provides.
    pub fn meets(&self, relation: &Relation<'_>, arch: Arch) -> bool {
        let own = self.name == relation.name && relation.admits(self.version);
        (own || self.provides(relation, arch)) && self.qualifies(relation.qualifier, arch)
    }

    /// Whether this package provides what a relation asks for. A constraint on the version is met by a
    /// versioned `Provides` only (policy §7.5).
    fn provides(&self, relation: &Relation<'_>, arch: Arch) -> bool {
        let Some(provided) = self.field("Provides").filter(|text| text.contains(relation.name)) else {
            return false;
        };
        groups(provided, arch.as_str()).unwrap_or_default().iter().flatten().any(|virtual_| {
            virtual_.name == relation.name
                && match virtual_.constraint {
                    Some((_, version)) => relation.admits(version),
                    None => relation.constraint.is_none(),
                }
        })
    }

    /// Whether a package of one architecture meets the qualifier. `:any` asks for `Multi-Arch: allowed`; in an image
    /// of one architecture a package of that architecture serves as well, as it does for `apt`.
    fn qualifies(&self, qualifier: Option<&str>, arch: Arch) -> bool {
        match qualifier {
            None | Some("any" | "native") => true,
            Some(wanted) => wanted == arch.as_str() || self.architecture() == wanted,
        }
    }
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

impl Index {
    /// Reads a `Packages` file, line by line, keeping the packages that can be installed on `arch`.
    pub fn read(mut input: impl BufRead, arch: Arch) -> io::Result<Self> {
        let mut index = Self::default();
        let mut line = Vec::new();
        let mut start = 0;
        let mut keep = false;
        loop {
            line.clear();
            let length = io::Read::take(&mut input, LONGEST_LINE as u64).read_until(b'\n', &mut line)?;
            if length == LONGEST_LINE || index.text.len() > LARGEST_INDEX {
                return Err(invalid("a line or the whole is larger than any index of packages"));
            }
            let content = line.trim_ascii_end();
            if content.is_empty() {
                index.end_of_stanza(start, arch)?;
                start = index.text.len();
                keep = false;
                if length == 0 {
                    return Ok(index);
                }
                continue;
            }
            if content[0] == b' ' || content[0] == b'\t' {
                if keep {
                    index.text.pop();
                    index.push(b" ", content.trim_ascii_start())?;
                }
                continue;
            }
            let colon = content.iter().position(|byte| *byte == b':').unwrap_or(0);
            let (name, value) = content.split_at(colon);
            keep = KEPT.contains(&name);
            if keep {
                index.push(name, b": ")?;
                index.text.pop();
                index.push(b"", value[1..].trim_ascii())?;
            }
        }
    }

    fn push(&mut self, before: &[u8], content: &[u8]) -> io::Result<()> {
        for part in [before, content] {
            self.text.push_str(std::str::from_utf8(part).map_err(|_| invalid("a field is not UTF-8"))?);
        }
        self.text.push('\n');
        Ok(())
    }

    fn end_of_stanza(&mut self, start: usize, arch: Arch) -> io::Result<()> {
        let text = &self.text[start..];
        if text.is_empty() {
            return Ok(());
        }
        let package = Package::new(text).ok_or_else(|| invalid("a stanza names no package or version"))?;
        if matches!(package.architecture(), "all") || package.architecture() == arch.as_str() {
            let number = self.records.len();
            if package.is_essential() {
                self.essential.push(package.name.into());
            }
            if package.field("Provides").is_some() {
                self.providing.push(number);
            }
            self.by_name.entry(package.name.into()).or_default().push(number);
            self.records.push((start, self.text.len()));
        } else {
            self.text.truncate(start);
        }
        Ok(())
    }

    fn package(&self, number: usize) -> Option<Package<'_>> {
        let (start, end) = *self.records.get(number)?;
        Package::new(&self.text[start..end])
    }

    /// Whether it has a package of this name.
    pub fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// The version of the first package of this name.
    pub fn version(&self, name: &str) -> Option<&str> {
        self.named(name).next().map(|package| package.version)
    }

    fn named(&self, name: &str) -> impl Iterator<Item = Package<'_>> {
        self.by_name.get(name).into_iter().flatten().filter_map(|number| self.package(*number))
    }

    /// The packages that provide other names.
    fn providing(&self) -> impl Iterator<Item = Package<'_>> {
        self.providing.iter().filter_map(|number| self.package(*number))
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

/// All indexes together. Of every name there is one candidate: what is installed, else its highest version, from the first
/// index that has it.
#[derive(Debug)]
pub struct Universe {
    installed: Index,
    indexes: Vec<Index>,
    arch: Arch,
}

/// A package and the index it comes from.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The package.
    pub package: Package<'a>,
    /// The position of its index; `None` if this is what is installed.
    pub index: Option<usize>,
}

impl Universe {
    /// The union of `indexes`, with nothing installed.
    pub fn new(indexes: Vec<Index>, arch: Arch) -> Self {
        Self::onto(Index::default(), indexes, arch)
    }

    /// The union of `indexes`, for a system that has the packages of `installed`.
    pub const fn onto(installed: Index, indexes: Vec<Index>, arch: Arch) -> Self {
        Self { installed, indexes, arch }
    }

    /// The architecture that the packages are for.
    pub const fn arch(&self) -> Arch {
        self.arch
    }

    /// The one package of this name that is considered first.
    pub fn candidate(&self, name: &str) -> Option<Candidate<'_>> {
        self.installed(name).or_else(|| self.newest(name))
    }

    /// The installed package of this name.
    pub fn installed(&self, name: &str) -> Option<Candidate<'_>> {
        self.installed.named(name).next().map(|package| Candidate { package, index: None })
    }

    /// All that is installed.
    pub fn all_installed(&self) -> impl Iterator<Item = Candidate<'_>> {
        let numbers = 0..self.installed.records.len();
        numbers.filter_map(|number| Some(Candidate { package: self.installed.package(number)?, index: None }))
    }

    /// The names of the essential packages that the indexes have, in order.
    pub fn essential(&self) -> BTreeSet<&str> {
        let all = self.indexes.iter().flat_map(|index| &index.essential);
        all.map(AsRef::as_ref).collect()
    }

    /// The highest version of this name that the indexes have.
    pub fn newest(&self, name: &str) -> Option<Candidate<'_>> {
        let all = self.indexes.iter().enumerate();
        let all = all.flat_map(|(index, packages)| {
            packages.named(name).map(move |package| Candidate { package, index: Some(index) })
        });
        all.reduce(|best, next| match compare(next.package.version, best.package.version) {
            Ordering::Greater => next,
            _ => best,
        })
    }

    /// The candidates that meet a relation: the package of that name, else those that provide it, the most important first,
    /// then by name.
    pub fn meeting(&self, relation: &Relation<'_>) -> Vec<Candidate<'_>> {
        let mut real = self.installed(relation.name).into_iter().chain(self.newest(relation.name));
        let real = real.find(|it| it.package.meets(relation, self.arch));
        real.map_or_else(|| self.providers(relation), |real| vec![real])
    }

    fn providers(&self, relation: &Relation<'_>) -> Vec<Candidate<'_>> {
        let mut names: Vec<&str> = std::iter::once(&self.installed)
            .chain(&self.indexes)
            .flat_map(Index::providing)
            .filter(|package| package.provides(relation, self.arch))
            .map(|package| package.name)
            .collect();
        names.sort_unstable();
        names.dedup();
        let candidates = names.into_iter().filter_map(|name| self.candidate(name));
        let mut providers: Vec<_> = candidates.filter(|it| it.package.meets(relation, self.arch)).collect();
        providers.sort_by_key(|it| it.package.priority());
        providers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "Package: a\nVersion: 1.0\nArchitecture: amd64\nDescription: x\n long\nDepends: b,\n c\nSize: 7\n\n\
        Package: b\nVersion: 2\nArchitecture: all\nProvides: v (= 3), w\n\nPackage: c\nVersion: 1\nArchitecture: armhf\n";

    fn universe(texts: &[&str]) -> Universe {
        Universe::new(
            texts.iter().map(|text| Index::read(text.as_bytes(), Arch::Amd64).unwrap()).collect(),
            Arch::Amd64,
        )
    }

    #[test]
    fn an_index_keeps_what_is_needed() {
        let universe = universe(&[TEXT]);
        let a = universe.candidate("a").unwrap().package;
        assert_eq!((a.field("Depends"), a.size(), a.field("Description")), (Some("b, c"), Some(7), None));
        assert!(universe.candidate("c").is_none(), "of another architecture");
    }

    #[test]
    fn the_highest_version_of_all_indexes_is_the_candidate() {
        let newer = "Package: a\nVersion: 1.0+deb12u1\nArchitecture: amd64\n";
        let same = "Package: a\nVersion: 1.0-0\nArchitecture: amd64\n";
        assert_eq!(universe(&[TEXT, newer]).candidate("a").unwrap().index, Some(1));
        assert_eq!(universe(&[TEXT, same]).candidate("a").unwrap().index, Some(0));
    }

    #[test]
    fn versioned_provides_meet_versioned_relations_only() {
        let universe = universe(&[TEXT]);
        let met = |text: &'static str| universe.meeting(&groups(text, "amd64").unwrap()[0][0]).len();
        assert_eq!((met("v"), met("v (>= 3)"), met("v (>= 4)"), met("w"), met("w (>= 1)")), (1, 1, 0, 1, 0));
    }

    #[test]
    fn what_is_no_index_is_refused() {
        assert!(Index::read(&b"Package: a\n\n"[..], Arch::Amd64).is_err());
        assert!(Index::read(&b"Package: \xff\nVersion: 1\n"[..], Arch::Amd64).is_err());
        let long = [&b"Package: "[..], &vec![b'a'; LONGEST_LINE]].concat();
        assert!(Index::read(&long[..], Arch::Amd64).is_err());
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes: Vec<u8>, text in "(Package: a\n|Version: 1\n|Depends:|\n| |:|Provides: x\n){0,12}") {
            let _ = Index::read(&bytes[..], Arch::Amd64);
            let _ = Index::read(text.as_bytes(), Arch::Amd64);
        }
    }
}
