//! Why a layer is made or not: a plan beside the last build of the same repository.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use longshore_layer::Format;
use longshore_oci::{Arch, Digest, Repository};
use longshore_python::{plan::Slot, target::PythonVersion};
use longshore_store::Table;
use serde::{Deserialize, Serialize};

use crate::{
    BuildError, Builder, LayerRecord,
    plan::{LayerSlot, Plan, PlannedLayer},
    source::SourceTree,
};

/// The row of the table that says what the last image of a repository consisted of.
const LAST_BUILD: &str = "last-build";
/// The row of the table that has the files of a code layer, by the code's digest.
const CODE_FILES: &str = "code-files";
/// So many files are named.
const NAMED: usize = 3;

/// Whose last build is meant.
#[derive(Serialize)]
struct LastKey {
    repository: String,
    arch: Arch,
}

/// What an image consists of, as far as it explains another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastBuild {
    python: PythonVersion,
    format: String,
    layouts: BTreeMap<String, u32>,
    code: Digest,
    /// The packages that the parent had, with their versions.
    #[serde(default)]
    present: Vec<String>,
    layers: Vec<LastLayer>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct LastLayer {
    slot: LayerSlot,
    packages: BTreeMap<String, LastPackage>,
    /// The layer, once it is made.
    digest: Option<Digest>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct LastPackage {
    version: String,
    wheel: Digest,
}

/// The files of the code: a digest of each entry, by path.
type Files = BTreeMap<String, Digest>;

/// Why a layer is reused, or made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// It is in the last image of the repository.
    LastBuild,
    /// It was made here for another image, or an earlier one.
    MadeBefore,
    /// The registry that the image goes to has it.
    InRegistry,
    /// The repository has no image that was built here.
    First,
    /// The parent has another Python.
    Python {
        /// Which.
        now: PythonVersion,
        /// Which it was.
        before: PythonVersion,
    },
    /// Layers are compressed otherwise.
    Format {
        /// How: `gzip`, `eStargz`, `zstd`.
        now: &'static str,
    },
    /// Packages of the layer are others.
    Packages {
        /// Which layer.
        slot: Slot,
        /// What became of which.
        changes: Vec<PackageChange>,
    },
    /// Files of the code are others.
    Code {
        /// Those that have another content or mode.
        changed: Vec<String>,
        /// Those that were not there.
        added: Vec<String>,
        /// Those that are gone.
        removed: Vec<String>,
    },
    /// This version of longshore lays it out otherwise.
    Layout,
    /// Of the packages that the image needs, its parent has others.
    ParentPackages,
    /// The Debian packages that are added, or what they are added to, are others.
    Debian,
    /// It is what it was, and was not kept.
    NotKept,
}

/// What became of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PackageChange {
    /// The image did not have it.
    Added {
        /// Its name and version.
        package: String,
    },
    /// The image had it in another layer.
    Moved {
        /// Its name and version.
        package: String,
    },
    /// The layer does not have it any more.
    Removed {
        /// Its name and version.
        package: String,
    },
    /// It is of another version.
    Version {
        /// Its name and version.
        package: String,
        /// Its version in the last build.
        before: String,
    },
    /// It is another wheel of the same version.
    Wheel {
        /// Its name and version.
        package: String,
    },
}

/// What a layer's format is called.
pub(crate) const fn format_name(format: Format) -> &'static str {
    match format {
        Format::Plain => "gzip",
        Format::Estargz => "eStargz",
        Format::Zstd => "zstd",
    }
}

impl LastBuild {
    /// What a plan will have been, once `record` knows the layers.
    fn of(plan: &Plan, record: impl Fn(usize) -> Option<LayerRecord>) -> Self {
        let packages: BTreeMap<Digest, _> =
            plan.lock.packages.iter().map(|package| (package.wheel.digest, package)).collect();
        let layers = plan.layers.iter().enumerate().map(|(position, layer)| {
            let wheels = layer.all_wheels().iter().filter_map(|wheel| packages.get(&wheel.digest));
            LastLayer {
                slot: layer.slot(),
                packages: wheels
                    .map(|package| {
                        let last =
                            LastPackage { version: package.version.to_string(), wheel: package.wheel.digest };
                        (package.name.to_string(), last)
                    })
                    .collect(),
                digest: record(position).map(|record| record.digest),
            }
        });
        Self {
            python: plan.parent.python().version,
            format: format_name(plan.format).to_owned(),
            layouts: crate::sbom::layouts().into_iter().map(|(name, is)| (name.to_owned(), is)).collect(),
            code: plan.code.digest(),
            present: plan.present(),
            layers: layers.collect(),
        }
    }

    fn layer(&self, slot: &LayerSlot) -> Option<&LastLayer> {
        self.layers.iter().find(|layer| layer.slot == *slot)
    }

    /// A package, in whatever layer it is.
    fn package(&self, name: &str) -> Option<&LastPackage> {
        self.layers.iter().find_map(|layer| layer.packages.get(name))
    }
}

fn key(repository: &Repository, arch: Arch) -> LastKey {
    LastKey { repository: repository.to_string(), arch }
}

fn files(code: &SourceTree) -> Files {
    // Strings, numbers and digests always serialise.
    let digest = |kind| Digest::of(serde_json::to_vec(kind).unwrap_or_default());
    code.entries.iter().map(|entry| (entry.path.clone(), digest(&entry.kind))).collect()
}

/// Remembers what was built.
pub(crate) fn remember(table: &Table, plan: &Plan, layers: &[LayerRecord]) -> Result<(), BuildError> {
    let now = LastBuild::of(plan, |position| layers.get(position).copied());
    let key = key(&plan.request.repository, plan.arch);
    let last = table.get::<LastBuild>(LAST_BUILD, &key);
    if last.as_ref() == Some(&now) {
        return Ok(());
    }
    if last.is_none_or(|last| last.code != now.code) {
        table.put(CODE_FILES, &now.code, &files(&plan.code))?;
    }
    Ok(table.put(LAST_BUILD, &key, &now)?)
}

impl Builder {
    /// Why each layer of a plan is reused or made.
    pub fn explain(&self, plan: &Plan) -> Vec<Why> {
        explain(&self.table, plan, |record| self.has(&record.descriptor()).unwrap_or(false))
    }
}

fn explain(table: &Table, plan: &Plan, is_here: impl Fn(&LayerRecord) -> bool) -> Vec<Why> {
    let now = LastBuild::of(plan, |_| None);
    let last = table.get::<LastBuild>(LAST_BUILD, &key(&plan.request.repository, plan.arch));
    let before = |last: &LastBuild| {
        (last.code != now.code).then(|| table.get::<Files>(CODE_FILES, &last.code)).flatten()
    };
    let before = last.as_ref().and_then(before);
    let explain = |layer: &PlannedLayer| match (&last, layer.known) {
        (Some(last), Some(record)) if last.layers.iter().any(|last| last.digest == Some(record.digest)) => {
            Why::LastBuild
        }
        (_, Some(record)) if !is_here(&record) => Why::InRegistry,
        (_, Some(_)) => Why::MadeBefore,
        (None, None) => Why::First,
        (Some(last), None) => {
            let files = before.as_ref().map(|before| (before, files(&plan.code)));
            why(&layer.slot(), &now, last, files.as_ref().map(|(before, now)| (*before, now)))
        }
    };
    plan.layers.iter().map(explain).collect()
}

/// Why a layer that is not known is not what it was; `code` has the files before and now.
fn why(slot: &LayerSlot, now: &LastBuild, last: &LastBuild, code: Option<(&Files, &Files)>) -> Why {
    let minor = |python: PythonVersion| (python.major, python.minor);
    let other_python = match slot {
        LayerSlot::Apt | LayerSlot::Code => false,
        LayerSlot::Wheels(_) | LayerSlot::Sdk => minor(now.python) != minor(last.python),
        LayerSlot::Venv | LayerSlot::Bytecode(_) | LayerSlot::SdkBytecode => now.python != last.python,
    };
    if other_python {
        return Why::Python { now: now.python, before: last.python };
    }
    if now.format != last.format {
        return Why::Format {
            now: [Format::Estargz, Format::Zstd]
                .map(format_name)
                .into_iter()
                .find(|name| *name == now.format)
                .unwrap_or(format_name(Format::Plain)),
        };
    }
    if let LayerSlot::Wheels(which) | LayerSlot::Bytecode(which) = slot {
        let changes = changes(slot, now, last);
        if !changes.is_empty() {
            return Why::Packages { slot: which.clone(), changes };
        }
    }
    if *slot == LayerSlot::Code && now.code != last.code {
        let (before, now) = code.unwrap_or_else(|| {
            static NONE: Files = Files::new();
            (&NONE, &NONE)
        });
        let only = |here: &Files, there: &Files| {
            here.keys().filter(|path| !there.contains_key(*path)).cloned().collect()
        };
        let changed = |(path, digest): (&String, &Digest)| {
            before.get(path).is_some_and(|before| before != digest).then(|| path.clone())
        };
        return Why::Code {
            changed: now.iter().filter_map(changed).collect(),
            added: only(now, before),
            removed: only(before, now),
        };
    }
    if *slot == LayerSlot::Apt {
        return Why::Debian;
    }
    if *slot == LayerSlot::Venv && now.present != last.present {
        return Why::ParentPackages;
    }
    if now.layouts == last.layouts { Why::NotKept } else { Why::Layout }
}

fn changes(slot: &LayerSlot, now: &LastBuild, last: &LastBuild) -> Vec<PackageChange> {
    let none = BTreeMap::new();
    let here = now.layer(slot).map_or(&none, |layer| &layer.packages);
    let there = last.layer(slot).map_or(&none, |layer| &layer.packages);
    let names: BTreeSet<&String> = here.keys().chain(there.keys()).collect();
    let change = |name: &String| match (here.get(name), there.get(name).or_else(|| last.package(name))) {
        (Some(now), before) => {
            let package = format!("{name} {}", now.version);
            match before {
                None => Some(PackageChange::Added { package }),
                Some(before) if before.version != now.version => {
                    Some(PackageChange::Version { package, before: before.version.clone() })
                }
                Some(before) if before.wheel != now.wheel => Some(PackageChange::Wheel { package }),
                Some(_) if !there.contains_key(name) => Some(PackageChange::Moved { package }),
                Some(_) => None,
            }
        }
        (None, before) => {
            before.map(|before| PackageChange::Removed { package: format!("{name} {}", before.version) })
        }
    };
    names.into_iter().filter_map(change).collect()
}

impl Why {
    /// Whether the layer need not be made.
    pub const fn is_reused(&self) -> bool {
        matches!(self, Self::LastBuild | Self::MadeBefore | Self::InRegistry)
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LastBuild => f.write_str("reused: as in the last build"),
            Self::MadeBefore => f.write_str("reused: made here before"),
            Self::InRegistry => f.write_str("reused: in the registry"),
            Self::First => f.write_str("new: the repository's first build here"),
            Self::Python { now, before } => write!(f, "new: the parent's Python is now {now}, was {before}"),
            Self::Format { now } => write!(f, "new: layers are in {now} now"),
            Self::Packages { slot, changes } => {
                f.write_str("new: ")?;
                let in_bin = matches!(slot, Slot::Bin(_));
                if let Slot::Bin(number) = slot {
                    write!(f, "bin {number}: ")?;
                }
                for (position, change) in changes.iter().enumerate() {
                    let comma = if position == 0 { "" } else { ", " };
                    let plus = if in_bin { "+" } else { "" };
                    match change {
                        PackageChange::Added { package } if in_bin => write!(f, "{comma}{plus}{package}")?,
                        PackageChange::Added { package } => write!(f, "{comma}{package} was not there")?,
                        PackageChange::Moved { package } => write!(f, "{comma}{package} shared another")?,
                        PackageChange::Removed { package } => write!(f, "{comma}-{package}")?,
                        PackageChange::Version { package, before } => {
                            write!(f, "{comma}{package} was {before} in the last build")?;
                        }
                        PackageChange::Wheel { package } => write!(f, "{comma}{package} is another wheel")?,
                    }
                }
                Ok(())
            }
            Self::Code { changed, added, removed } => {
                let listed = |f: &mut fmt::Formatter<'_>, sign: &str, paths: &[String], first: &mut bool| {
                    for path in paths.iter().take(NAMED) {
                        f.write_str(if std::mem::take(first) { "" } else { ", " })?;
                        write!(f, "{sign}{path}")?;
                    }
                    match paths.len().saturating_sub(NAMED) {
                        0 => Ok(()),
                        more => write!(f, " and {more} more"),
                    }
                };
                f.write_str("new: code: ")?;
                let mut first = true;
                listed(f, "", changed, &mut first)?;
                if !changed.is_empty() {
                    f.write_str(" changed")?;
                }
                listed(f, "+", added, &mut first)?;
                listed(f, "-", removed, &mut first)?;
                if first { f.write_str("changed") } else { Ok(()) }
            }
            Self::Layout => f.write_str("new: this version of longshore lays it out otherwise"),
            Self::ParentPackages => f.write_str("new: the packages that the parent has are others"),
            Self::Debian => f.write_str("new: the Debian packages, or the parent below them, are others"),
            Self::NotKept => f.write_str("new: it is as it was, and was not kept"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(layers: &[(LayerSlot, &[(&str, &str)])]) -> LastBuild {
        let layers = layers.iter().map(|(slot, packages)| LastLayer {
            slot: slot.clone(),
            packages: packages
                .iter()
                .map(|(name, version)| {
                    let wheel = Digest::of(format!("{name} {version}"));
                    ((*name).to_owned(), LastPackage { version: (*version).to_owned(), wheel })
                })
                .collect(),
            digest: None,
        });
        LastBuild {
            python: PythonVersion::new(3, 11, 2),
            format: "gzip".to_owned(),
            layouts: BTreeMap::from([("layer".to_owned(), 1)]),
            code: Digest::of("code"),
            present: Vec::new(),
            layers: layers.collect(),
        }
    }

    fn alone(name: &str) -> LayerSlot {
        LayerSlot::Wheels(Slot::Alone(name.to_owned()))
    }

    const BIN: LayerSlot = LayerSlot::Wheels(Slot::Bin(4));

    fn said(slot: &LayerSlot, now: &LastBuild, last: &LastBuild) -> String {
        why(slot, now, last, None).to_string()
    }

    #[test]
    fn packages_are_named() {
        let last =
            build(&[(alone("pandas"), &[("pandas", "2.2.2")]), (BIN, &[("idna", "3.9"), ("six", "1.16")])]);
        let now = build(&[
            (alone("pandas"), &[("pandas", "2.2.3")]),
            (alone("torch"), &[("torch", "2.5")]),
            (BIN, &[("idna", "3.10"), ("requests", "2.32.3")]),
        ]);
        assert_eq!(said(&alone("pandas"), &now, &last), "new: pandas 2.2.3 was 2.2.2 in the last build");
        assert_eq!(said(&alone("torch"), &now, &last), "new: torch 2.5 was not there");
        assert_eq!(
            said(&BIN, &now, &last),
            "new: bin 4: idna 3.10 was 3.9 in the last build, +requests 2.32.3, -six 1.16"
        );
        let moved = build(&[(BIN, &[("idna", "3.9"), ("pandas", "2.2.2"), ("six", "1.16")])]);
        assert_eq!(said(&BIN, &moved, &last), "new: bin 4: pandas 2.2.2 shared another");
        let mut rebuilt = last.clone();
        rebuilt.layers[0].packages.get_mut("pandas").unwrap().wheel = Digest::of("another");
        assert_eq!(said(&alone("pandas"), &rebuilt, &last), "new: pandas 2.2.2 is another wheel");
    }

    #[test]
    fn what_concerns_all_comes_first() {
        let last = build(&[(BIN, &[("idna", "3.9")])]);
        let mut now = last.clone();
        now.python = PythonVersion::new(3, 11, 9);
        let bytecode = LayerSlot::Bytecode(Slot::Bin(4));
        assert_eq!(said(&bytecode, &now, &last), "new: the parent's Python is now 3.11.9, was 3.11.2");
        assert_eq!(said(&BIN, &now, &last), "new: it is as it was, and was not kept");
        now.python = PythonVersion::new(3, 12, 4);
        assert_eq!(said(&BIN, &now, &last), "new: the parent's Python is now 3.12.4, was 3.11.2");
        now = LastBuild { present: vec!["torch 2.4.0".to_owned()], ..last.clone() };
        assert_eq!(said(&LayerSlot::Venv, &now, &last), "new: the packages that the parent has are others");
        now = LastBuild { format: "zstd".to_owned(), ..last.clone() };
        assert_eq!(said(&BIN, &now, &last), "new: layers are in zstd now");
        now = LastBuild { layouts: BTreeMap::new(), ..last.clone() };
        assert_eq!(said(&BIN, &now, &last), "new: this version of longshore lays it out otherwise");
    }

    #[test]
    fn files_are_named_up_to_a_number() {
        let files = |paths: &[(&str, &str)]| {
            paths.iter().map(|(path, content)| ((*path).to_owned(), Digest::of(content))).collect::<Files>()
        };
        let (last, mut now) = (build(&[]), build(&[]));
        now.code = Digest::of("other code");
        let said = |before, after| {
            why(&LayerSlot::Code, &now, &last, Some((&files(before), &files(after)))).to_string()
        };
        assert_eq!(said(&[("train.py", "1")], &[("train.py", "2")]), "new: code: train.py changed");
        assert_eq!(
            said(&[("a", "1"), ("gone", "")], &[("a", "2"), ("b", "")]),
            "new: code: a changed, +b, -gone"
        );
        let many: Vec<_> = ["a", "b", "c", "d", "e"].into_iter().map(|path| (path, "")).collect();
        assert_eq!(said(&[], &many), "new: code: +a, +b, +c and 2 more");
        assert_eq!(why(&LayerSlot::Code, &now, &last, None).to_string(), "new: code: changed");
    }
}
