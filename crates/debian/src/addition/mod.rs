//! Packages on top of an image that somebody else made: from the image's own suites, onto what its dpkg says is installed.
//!
//! [`plan`] reads the signed indexes of the archives that the image names and chooses what is missing; [`choose_way`] looks at
//! the packages themselves and says how they can be installed: [`Way::Native`], if none of them has a script that does
//! anything which is not done here, and then [`write_native`] makes a layer of them; or [`Way::Sandbox`], by the image's own
//! `apt-get` or `dpkg`, and then [`write_recorded`] makes a layer of what that changed.
//!
//! What is trusted: the keyrings in the image, for the archives that the image names. Where the archive is reached is another
//! matter: a mirror of this machine's apt may stand in for it, for what it serves must be signed by the image's keys.

mod archives;
mod filters;
mod installed;
mod judge;
mod native;
mod recorded;
mod system;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use jiff::Timestamp;
use longshore_fetch::{FetchError, Fetcher};
use longshore_oci::Arch;
use longshore_store::{BlobStore, Table};
use serde::{Deserialize, Serialize};

pub use archives::OsRelease;
pub use judge::{choose_way, contents};
pub use native::write_native;
pub use recorded::{Owners, write_recorded};
pub use system::System;

use crate::{
    Distribution, Error, Event, Group, LockedPackage, LockedSuite, ParentRequest, Progress, Sources,
    index::{Candidate, Universe},
    planner,
    relation::groups,
    resolve::resolve_onto,
};

/// The version of the ways in which packages are added. It is part of what is remembered: other bytes from the same packages
/// need another version.
pub const LAYOUT_VERSION: u32 = 1;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The image's file system.
    pub system: &'a System,
    /// Its architecture.
    pub arch: Arch,
    /// The packages, written like dependencies: `libgl1`, `git (>= 1:2.30)`.
    pub packages: &'a [String],
    /// What this machine's apt is configured with, if it has one.
    pub machine: Option<&'a Sources>,
    /// The time at which signatures and dates are judged.
    pub now: Timestamp,
    /// For how long a `Release` that was checked is taken as current without asking the mirror again.
    pub freshness: Duration,
}

/// What is added to an image: a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Addition {
    /// The way in which layers are made: [`LAYOUT_VERSION`].
    pub layout: u32,
    /// The architecture.
    pub arch: Arch,
    /// The distribution of the image.
    pub distribution: Distribution,
    /// The suites that were looked into.
    pub suites: Vec<LockedSuite>,
    /// The packages that the image lacks, in order of name. None if it has all that is asked for.
    pub packages: Vec<LockedPackage>,
    /// Those of them that the image has in an older version, which something needs newer.
    pub upgraded: Vec<String>,
    /// The essential packages that the image lacks and that are not added. Scripts count on them (policy §3.8).
    pub lacking: Vec<String>,
    /// For each package the round in which it can be unpacked: after all that it needs configured before
    /// (`Pre-Depends`).
    pub rounds: Vec<usize>,
}

impl Addition {
    /// How many bytes all its packages have.
    pub fn download_size(&self) -> u64 {
        self.packages.iter().map(|package| package.size).sum()
    }

    /// The positions of the packages, round by round.
    pub fn rounds(&self) -> Vec<Vec<usize>> {
        let mut rounds: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for position in 0..self.packages.len() {
            rounds.entry(self.rounds.get(position).copied().unwrap_or(0)).or_default().push(position);
        }
        rounds.into_values().collect()
    }
}

/// How packages are installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// Their files are put into a layer, and nothing is run.
    Native,
    /// By the image's own program, in a container.
    Sandbox {
        /// Which.
        tool: Tool,
        /// Why: of each package that cannot be installed natively, the first reason.
        reasons: Vec<Reason>,
    },
}

/// The program that installs packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tool {
    /// `apt-get`.
    AptGet,
    /// `dpkg`, in an image that has no apt.
    Dpkg,
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AptGet => "apt-get",
            Self::Dpkg => "dpkg",
        })
    }
}

/// Why a package cannot be installed natively.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// The package.
    pub package: String,
    /// `its postinst runs update-alternatives`: a part of a sentence.
    pub why: String,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.package, self.why)
    }
}

/// Chooses the packages that an image lacks.
///
/// What is installed stays as it is, unless something that is asked for depends on a newer version; nothing is removed.
pub async fn plan(
    request: &Request<'_>,
    fetcher: &Fetcher,
    blobs: &BlobStore,
    table: &Table,
    progress: &Progress<'_>,
) -> Result<Addition, Error> {
    let os = OsRelease::of(request.system)?;
    let installed = installed::Installed::of(request.system, request.arch, &os)?;
    // The folder has the image's keyrings, which are read when signatures are checked.
    let archives = archives::Archives::of(request.system, &os, request.machine)?;
    let parent = ParentRequest {
        arch: request.arch,
        roots: Vec::new(),
        sources: archives.sources.clone(),
        now: request.now,
        freshness: request.freshness,
    };
    let suites =
        planner::suites_for(&parent, fetcher, blobs, table, progress).await.map_err(|error| match error {
            Error::Fetch(source @ (FetchError::NotFound { .. } | FetchError::Local { .. })) => {
                Error::SuiteGone { distribution: os.title.clone(), source: Box::new(source) }
            }
            other => other,
        })?;
    let (indexes, owners) = planner::read_indexes(&suites, request.arch, fetcher, blobs, progress).await?;
    let (packages, arch) = (request.packages.to_vec(), request.arch);
    let work = move || {
        let old = installed.index.clone();
        let universe = Universe::onto(installed.index, indexes, arch);
        let mut chosen = Vec::new();
        let mut upgraded = Vec::new();
        let candidates = resolve_onto(&universe, &packages)?;
        for candidate in &candidates {
            let Some(index) = candidate.index else { continue };
            if old.has(candidate.package.name) {
                upgraded.push(candidate.package.name.to_owned());
            }
            chosen.push(planner::lock(candidate, owners[index], Group::Packages)?);
        }
        let there = |name: &str| old.has(name) || candidates.iter().any(|it| it.package.name == name);
        let lacking = universe.essential().into_iter().filter(|name| !there(name)).map(ToOwned::to_owned);
        Ok::<_, Error>((chosen, upgraded, lacking.collect(), rounds(&candidates, arch)))
    };
    let (packages, upgraded, lacking, rounds) =
        tokio::task::spawn_blocking(work).await.unwrap_or(Err(Error::Unfinished))?;
    let addition = Addition {
        layout: LAYOUT_VERSION,
        arch,
        distribution: os.distribution(),
        suites: suites.iter().map(planner::locked_suite).collect(),
        packages,
        upgraded,
        lacking,
        rounds,
    };
    progress(Event::Planned { packages: addition.packages.len(), bytes: addition.download_size() });
    Ok(addition)
}

/// The round of each of some packages: one more than the latest of those that must be configured before it is unpacked. Those
/// are its `Pre-Depends` and all that these depend on; and the essential packages, first of all those that need nothing else.
fn rounds(chosen: &[Candidate<'_>], arch: Arch) -> Vec<usize> {
    let needs = |position: usize, fields: &[&str]| -> BTreeSet<usize> {
        let package = &chosen[position].package;
        let texts = fields.iter().filter_map(|field| package.field(field));
        let relations = texts.flat_map(|text| groups(text, arch.as_str()).unwrap_or_default()).flatten();
        let meeting = relations.flat_map(|relation| {
            let all = chosen.iter().enumerate();
            all.filter(move |(_, other)| other.package.meets(&relation, arch)).map(|(position, _)| position)
        });
        meeting.filter(|other| *other != position).collect()
    };
    let follow = |mut all: BTreeSet<usize>| -> BTreeSet<usize> {
        let mut open: Vec<usize> = all.iter().copied().collect();
        while let Some(next) = open.pop() {
            open.extend(needs(next, &["Pre-Depends", "Depends"]).into_iter().filter(|it| all.insert(*it)));
        }
        all
    };
    let essential: BTreeSet<usize> =
        (0..chosen.len()).filter(|position| chosen[*position].package.is_essential()).collect();
    let first: BTreeSet<usize> = essential
        .iter()
        .copied()
        .filter(|position| follow(BTreeSet::from([*position])).is_subset(&essential))
        .collect();
    let all_essential = follow(essential);
    let before = (0..chosen.len()).map(|position| {
        let mut before = follow(needs(position, &["Pre-Depends"]));
        if !first.contains(&position) {
            before.extend(&first);
        }
        if !all_essential.contains(&position) {
            before.extend(&all_essential);
        }
        before.remove(&position);
        before
    });
    let before: Vec<BTreeSet<usize>> = before.collect();
    let mut rounds = vec![0; chosen.len()];
    // As often as the longest chain can be long; a circle, which policy forbids, ends there too.
    for _ in 0..chosen.len() {
        for position in 0..chosen.len() {
            let latest = before[position].iter().map(|other| rounds[*other] + 1).max().unwrap_or(0);
            rounds[position] = latest.min(chosen.len());
        }
    }
    rounds
}

/// Fetches the packages of an addition into `blobs`, several at once; those that are there are not asked for.
pub async fn fetch(
    addition: &Addition,
    fetcher: &Fetcher,
    blobs: &BlobStore,
    progress: &Progress<'_>,
) -> Result<(), Error> {
    planner::fetch_packages(&addition.suites, &addition.packages, fetcher, blobs, progress).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Index;

    #[test]
    fn what_must_be_configured_before_comes_in_an_earlier_round() {
        let text = "Package: a\nVersion: 1\nArchitecture: all\nPre-Depends: b\nDepends: e\n\n\
            Package: b\nVersion: 1\nArchitecture: all\nDepends: c | x\n\nPackage: c\nVersion: 1\nArchitecture: all\n\n\
            Package: d\nVersion: 1\nArchitecture: all\nPre-Depends: a\n\nPackage: e\nVersion: 1\nArchitecture: all\nDepends: a\n";
        let universe = Universe::new(vec![Index::read(text.as_bytes(), Arch::Amd64).unwrap()], Arch::Amd64);
        let chosen: Vec<_> = ["a", "b", "c", "d", "e"].map(|name| universe.newest(name).unwrap()).into();
        assert_eq!(rounds(&chosen, Arch::Amd64), [1, 0, 0, 2, 0]);
    }

    #[test]
    fn essential_packages_come_first() {
        let text = "Package: login\nVersion: 1\nArchitecture: all\nEssential: yes\nPre-Depends: pam\n\n\
            Package: pam\nVersion: 1\nArchitecture: all\n\nPackage: perl\nVersion: 1\nArchitecture: all\nEssential: yes\n\n\
            Package: tool\nVersion: 1\nArchitecture: all\n";
        let universe = Universe::new(vec![Index::read(text.as_bytes(), Arch::Amd64).unwrap()], Arch::Amd64);
        let chosen: Vec<_> =
            ["login", "pam", "perl", "tool"].map(|name| universe.newest(name).unwrap()).into();
        assert_eq!(rounds(&chosen, Arch::Amd64), [2, 1, 0, 3]);
        assert_eq!(universe.essential().into_iter().collect::<Vec<_>>(), ["login", "perl"]);
    }
}
