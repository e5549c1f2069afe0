//! What would make an image smaller: only what its files show to be so.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;

use super::{
    anatomy::{Anatomy, Shown},
    layer::Nature,
    owner::OwnerKind,
};

/// Files smaller than this are not worth a word when they are there twice.
const SMALLEST_COPY: u64 = 4096;
/// How many examples are named.
const EXAMPLES: usize = 3;

/// A kind of saving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SavingKind {
    /// Files that a lower layer has and an upper one removes or replaces.
    Hidden,
    /// apt's package lists and archives.
    AptCache,
    /// What pip, uv and others keep for the next installation.
    InstallerCache,
    /// The tests of Python packages, with their bytecode.
    PackageTests,
    /// Wheels of CUDA libraries.
    Cuda,
    /// Static libraries.
    StaticLibraries,
    /// Manuals.
    Manuals,
    /// The same file several times.
    Copies,
    /// Symbols and debug information in programs and libraries.
    DebugInformation,
}

impl SavingKind {
    /// What it is.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Hidden => "files that upper layers remove or replace",
            Self::AptCache => "apt's package lists and archives",
            Self::InstallerCache => "caches of installers",
            Self::PackageTests => "tests of Python packages",
            Self::Cuda => "CUDA libraries from wheels",
            Self::StaticLibraries => "static libraries",
            Self::Manuals => "manuals",
            Self::Copies => "copies of the same file",
            Self::DebugInformation => "symbols and debug information",
        }
    }

    /// What to do about it.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Hidden => "remove a file in the layer that adds it, or do not add it",
            Self::AptCache => "rm -rf /var/lib/apt/lists /var/cache/apt, in the step that fills them",
            Self::InstallerCache => "install with --no-cache-dir, or mount a cache",
            Self::PackageTests => "nothing imports them when the packages are used",
            Self::Cuda => "only machines with an NVIDIA GPU load them; CPU builds of the packages do without",
            Self::StaticLibraries => "needed to link programs only, not to run them",
            Self::Manuals => "nobody reads them in a container",
            Self::Copies => "hard links, or one of the packages less",
            Self::DebugInformation => "strip --strip-unneeded takes away what nothing loads",
        }
    }
}

/// Something that need not be in the image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Saving {
    /// What.
    pub kind: SavingKind,
    /// Its bytes, unpacked.
    pub size: u64,
    /// How many files it is about.
    pub files: usize,
    /// The packages or places with most of it, and their bytes.
    pub largest: Vec<(String, u64)>,
}

/// Savings of one kind while they are gathered: files and bytes by package or place.
#[derive(Default)]
struct Gathered {
    files: usize,
    places: BTreeMap<String, u64>,
}

impl Anatomy {
    /// What would make the image smaller, the largest first. No byte is counted twice.
    pub fn savings(&self) -> Vec<Saving> {
        let mut gathered: HashMap<SavingKind, Gathered> = HashMap::new();
        let mut note = |kind, place: String, files, size| {
            let of_kind = gathered.entry(kind).or_default();
            of_kind.files += files;
            *of_kind.places.entry(place).or_default() += size;
        };
        for hidden in &self.hidden {
            note(SavingKind::Hidden, format!("/{}", hidden.largest), hidden.files, hidden.size);
        }
        let mut seen: HashSet<(u128, u64)> = HashSet::new();
        for (path, file) in self.files.iter().filter(|(_, file)| file.regular && file.size > 0) {
            let place = || self.place(path);
            if let Some(kind) = self.superfluous(path, file) {
                note(kind, place(), 1, file.size);
            } else if file.size >= SMALLEST_COPY && !seen.insert((file.hash, file.size)) {
                note(SavingKind::Copies, format!("/{path}"), 1, file.size);
            } else if let Nature::Elf { unloaded } = file.nature
                && unloaded >= SMALLEST_COPY
            {
                note(SavingKind::DebugInformation, place(), 1, unloaded);
            }
        }
        let mut savings: Vec<Saving> = gathered
            .into_iter()
            .map(|(kind, Gathered { files, places })| {
                let size = places.values().sum();
                let mut largest: Vec<_> = places.into_iter().collect();
                largest.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
                largest.truncate(EXAMPLES);
                Saving { kind, size, files, largest }
            })
            .filter(|saving| saving.size > 0)
            .collect();
        savings.sort_by_key(|saving| (std::cmp::Reverse(saving.size), saving.kind));
        savings
    }

    fn superfluous(&self, path: &str, file: &Shown) -> Option<SavingKind> {
        let package = self.owners.owner(path).map(|owner| self.owners.package(owner));
        let is_python = package.is_some_and(|package| package.kind == OwnerKind::Python);
        if path.starts_with("var/lib/apt/lists/") || path.starts_with("var/cache/apt/") {
            Some(SavingKind::AptCache)
        } else if ["/.cache/pip/", "/.cache/uv/", "/.cache/pypoetry/", "/.npm/_cacache/", "/conda/pkgs/"]
            .iter()
            .any(|cache| path.contains(cache))
        {
            Some(SavingKind::InstallerCache)
        } else if is_python && path.split('/').rev().skip(1).any(|part| part == "tests") {
            Some(SavingKind::PackageTests)
        } else if is_python && package.is_some_and(|package| package.name.starts_with("nvidia-")) {
            Some(SavingKind::Cuda)
        } else if file.nature == Nature::Archive && super::extension(path) == Some("a") {
            Some(SavingKind::StaticLibraries)
        } else if ["usr/share/doc/", "usr/share/man/", "usr/share/info/"]
            .iter()
            .any(|it| path.starts_with(it))
            && !path.ends_with("/copyright")
        {
            Some(SavingKind::Manuals)
        } else {
            None
        }
    }

    /// The package of a file, else the directory that it is in.
    fn place(&self, path: &str) -> String {
        match self.owners.owner(path) {
            Some(owner) => self.owners.package(owner).name.clone(),
            None => format!("/{}", path.rsplit_once('/').map_or("", |(directory, _)| directory)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        anatomy::tests::{file, layer},
        layer::{Claim, Content, Item},
    };
    use super::*;

    #[test]
    fn each_byte_is_saved_once_and_only_what_is_shown_counts() {
        let site = "opt/venv/lib/python3.11/site-packages";
        let claim = Claim {
            list: format!("{site}/pandas-2.2.3.dist-info/RECORD"),
            package: "pandas-2.2.3".to_owned(),
            directories: ["", "/tests", "/core"].map(|it| format!("{site}/pandas{it}")).into(),
            files: Vec::new(),
        };
        let with = |path: &str, size, hash, nature| Item {
            path: path.to_owned(),
            content: Content::File { size, hash, nature },
        };
        let lower = layer(
            vec![
                file(&format!("{site}/pandas-2.2.3.dist-info/RECORD"), 1),
                file(&format!("{site}/pandas/tests/a.py"), 10_000),
                file(&format!("{site}/pandas/tests/__pycache__/a.cpython-311.pyc"), 5000),
                with(&format!("{site}/pandas/core/x.so"), 90_000, 1, Nature::Elf { unloaded: 30_000 }),
                with(&format!("{site}/pandas/core/y.so"), 90_000, 1, Nature::Elf { unloaded: 30_000 }),
                // The tests of the image's own code are its author's business.
                file("app/tests/b.py", 20_000),
                file("var/lib/apt/lists/x_Packages", 700),
                with("usr/lib/libx.a", 400, 9, Nature::Archive),
                file("usr/share/doc/x/copyright", 60_000),
                file("etc/replaced", 33),
            ],
            vec![claim],
        );
        let upper = layer(vec![file("etc/replaced", 34)], vec![]);
        let savings = Anatomy::of([&lower, &upper]).savings();
        let found: Vec<_> = savings.iter().map(|saving| (saving.kind, saving.size)).collect();
        assert_eq!(
            found,
            [
                (SavingKind::Copies, 90_000),
                (SavingKind::DebugInformation, 30_000),
                (SavingKind::PackageTests, 15_000),
                (SavingKind::AptCache, 700),
                (SavingKind::StaticLibraries, 400),
                (SavingKind::Hidden, 33),
            ]
        );
        assert_eq!(savings[2].largest, [("pandas".to_owned(), 15_000)]);
    }
}
