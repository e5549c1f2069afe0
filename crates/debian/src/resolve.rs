//! Which packages are installed: the roots and all that they depend on.
//!
//! `Pre-Depends` and `Depends` are followed, `Recommends` are not. Of a group of alternatives the first that can
//! be had is taken, unless a later one is selected already, as `apt` does; where a choice leads to a conflict, the
//! next is tried. The result depends on the indexes and the roots alone.

use std::collections::BTreeMap;

use crate::{
    index::{Candidate, Package, Universe},
    relation::{Relation, RelationError, groups, spell},
    version::compare,
};

/// Why there is no set of packages.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResolveError {
    /// A relation in a request or an index cannot be read.
    #[error("{of}: {source}")]
    Relation {
        /// Whose relation it is.
        of: String,
        /// What is wrong.
        source: RelationError,
    },
    /// Nothing meets what is asked for.
    #[error("{chain} needs `{wanted}`, {why}")]
    Unmet {
        /// The packages that lead there, root first.
        chain: String,
        /// The relation.
        wanted: String,
        /// Why it is not met.
        why: String,
    },
    /// Two packages exclude each other.
    #[error(
        "{one} and {other} cannot be installed together: {one} {field} `{relation}`, and {other} is needed by {chain}"
    )]
    Conflict {
        /// The package that states the conflict.
        one: String,
        /// The package that it excludes.
        other: String,
        /// `conflicts with` or `breaks`.
        field: &'static str,
        /// As it is stated.
        relation: String,
        /// What needs the other.
        chain: String,
    },
    /// A package would have to be upgraded, and another that is installed needs it as it is.
    #[error(
        "{wanted} {version} is needed by {chain}, but {dependent}, which is installed, needs `{relation}` and has no newer version"
    )]
    Held {
        /// The package that is needed.
        wanted: String,
        /// In which version.
        version: String,
        /// What needs it.
        chain: String,
        /// The installed package that it does not go with.
        dependent: String,
        /// What that depends on.
        relation: String,
    },
    /// Too many choices were tried.
    #[error(
        "no set of packages was found among {0} choices; ask for fewer packages, or name the alternatives that you want"
    )]
    TooHard(usize),
}

/// After this many choices the search is given up; real requests need a few dozen.
const MOST_CHOICES: usize = 20_000;

/// The packages selected so far, each with the one that asked for it first.
#[derive(Clone, Default)]
struct Selection<'a> {
    packages: BTreeMap<&'a str, (Candidate<'a>, Option<&'a str>)>,
}

/// A group of alternatives that someone asks for.
#[derive(Clone)]
struct Wanted<'a> {
    by: Option<&'a str>,
    group: Vec<Relation<'a>>,
}

/// The packages that `roots` need, in order of name. A root is written like a dependency: `python3 (>= 3.10)`,
/// `mawk | gawk`.
pub fn resolve<'a>(universe: &'a Universe, roots: &'a [String]) -> Result<Vec<Candidate<'a>>, ResolveError> {
    let mut wanted = Vec::new();
    for root in roots {
        let groups = read(root, "the list of packages", universe)?;
        wanted.extend(groups.into_iter().map(|group| Wanted { by: None, group }));
    }
    let mut search = Search { universe, choices: 0 };
    let selection = search.extend(Selection::default(), wanted)?;
    Ok(selection.packages.into_values().map(|(candidate, _)| candidate).collect())
}

/// The packages that must be added for `roots` to be there, beside what is installed, in order of name; with those that are
/// installed and must be upgraded, because something depends on it. Nothing is removed, and nothing else is upgraded.
pub fn resolve_onto<'a>(
    universe: &'a Universe,
    roots: &'a [String],
) -> Result<Vec<Candidate<'a>>, ResolveError> {
    let mut wanted = Vec::new();
    for root in roots {
        let groups = read(root, "the list of packages", universe)?;
        wanted.extend(groups.into_iter().map(|group| Wanted { by: None, group }));
    }
    let installed = universe.all_installed().map(|it| (it.package.name, (it, None)));
    let base = Selection { packages: installed.collect() };
    let selection = Search { universe, choices: 0 }.extend(base, wanted)?;
    let chosen = selection.packages.into_values().map(|(candidate, _)| candidate);
    Ok(chosen.filter(|candidate| candidate.index.is_some()).collect())
}

fn read<'a>(text: &'a str, of: &str, universe: &Universe) -> Result<Vec<Vec<Relation<'a>>>, ResolveError> {
    groups(text, universe.arch().as_str())
        .map_err(|source| ResolveError::Relation { of: of.to_owned(), source })
}

struct Search<'a> {
    universe: &'a Universe,
    choices: usize,
}

impl<'a> Search<'a> {
    /// Selects what is `wanted` and all that follows from it. Groups without a choice come first, so that they
    /// decide those with one.
    fn extend(
        &mut self,
        mut selection: Selection<'a>,
        mut wanted: Vec<Wanted<'a>>,
    ) -> Result<Selection<'a>, ResolveError> {
        let mut open: Vec<Wanted<'a>> = Vec::new();
        wanted.reverse();
        loop {
            while let Some(next) = wanted.pop() {
                if self.is_met(&selection, &next.group) {
                    continue;
                }
                let mut options = self.options(&selection, &next)?;
                if options.len() > 1 {
                    open.push(next);
                } else if let Some(only) = options.pop() {
                    self.select(&mut selection, &mut wanted, only, next.by)?;
                }
            }
            if open.is_empty() {
                return Ok(selection);
            }
            let next = open.remove(0);
            if self.is_met(&selection, &next.group) {
                continue;
            }
            let mut failure = None;
            for option in self.options(&selection, &next)? {
                self.choices += 1;
                if self.choices > MOST_CHOICES {
                    return Err(ResolveError::TooHard(MOST_CHOICES));
                }
                let mut attempt = selection.clone();
                let mut follow = open.clone();
                follow.reverse();
                let outcome = self.select(&mut attempt, &mut follow, option, next.by).and_then(|()| {
                    follow.reverse();
                    self.extend(attempt, follow)
                });
                match outcome {
                    Ok(complete) => return Ok(complete),
                    Err(too_hard @ ResolveError::TooHard(_)) => return Err(too_hard),
                    Err(why) => failure = failure.or(Some(why)),
                }
            }
            return Err(failure.unwrap_or(ResolveError::TooHard(self.choices)));
        }
    }

    fn is_met(&self, selection: &Selection<'a>, group: &[Relation<'_>]) -> bool {
        let arch = self.universe.arch();
        group.iter().any(|relation| {
            selection.packages.get(relation.name).is_some_and(|(it, _)| it.package.meets(relation, arch))
                || selection.packages.values().any(|(it, _)| it.package.meets(relation, arch))
        })
    }

    /// The candidates that would meet a group, in order of preference; never empty.
    fn options(
        &self,
        selection: &Selection<'a>,
        wanted: &Wanted<'a>,
    ) -> Result<Vec<Candidate<'a>>, ResolveError> {
        let mut options: Vec<Candidate<'a>> = Vec::new();
        for candidate in wanted.group.iter().flat_map(|relation| self.universe.meeting(relation)) {
            if !options.iter().any(|it| it.package.name == candidate.package.name) {
                options.push(candidate);
            }
        }
        if options.is_empty() {
            return Err(ResolveError::Unmet {
                chain: selection.chain(wanted.by),
                wanted: spell(&wanted.group),
                why: self.why_unmet(&wanted.group),
            });
        }
        Ok(options)
    }

    fn why_unmet(&self, group: &[Relation<'_>]) -> String {
        let found = group.iter().find_map(|relation| self.universe.candidate(relation.name));
        match found {
            Some(it) => format!("and the configured suites have {} {}", it.package.name, it.package.version),
            None => format!(
                "which no configured suite has for {}; check the name, or add the suite or component that has it",
                self.universe.arch()
            ),
        }
    }

    /// Adds a package and asks for what it depends on.
    fn select(
        &self,
        selection: &mut Selection<'a>,
        wanted: &mut Vec<Wanted<'a>>,
        candidate: Candidate<'a>,
        by: Option<&'a str>,
    ) -> Result<(), ResolveError> {
        let package = candidate.package;
        let replaced = selection.packages.insert(package.name, (candidate, by)).map(|(old, _)| old);
        if replaced.is_some_and(|old| old.index.is_some() && old.package.version != package.version) {
            return Err(ResolveError::Unmet {
                chain: selection.chain(by),
                wanted: format!("{} {}", package.name, package.version),
                why: "and something else needs another version of it".to_owned(),
            });
        }
        let others: Vec<Candidate<'a>> = selection.packages.values().map(|(other, _)| *other).collect();
        for other in others {
            let checked = self
                .check(selection, &package, &other.package)
                .and_then(|()| self.check(selection, &other.package, &package));
            let Err(conflict) = checked else { continue };
            // What is installed may go with it in a newer version.
            match self.newer(&other).filter(|_| other.index.is_none()) {
                Some(newer) => self.select(selection, wanted, newer, Some(package.name))?,
                None => return Err(conflict),
            }
        }
        if let Some(old) = replaced.filter(|old| old.index.is_none()) {
            self.follow_upgrade(selection, wanted, &old, &candidate)?;
        }
        let mut asked = Vec::new();
        for field in ["Pre-Depends", "Depends"] {
            for group in read(package.field(field).unwrap_or_default(), package.name, self.universe)? {
                asked.push(Wanted { by: Some(package.name), group });
            }
        }
        wanted.extend(asked.into_iter().rev());
        Ok(())
    }

    /// The version of an installed package that the indexes have, if it is a newer one.
    fn newer(&self, installed: &Candidate<'a>) -> Option<Candidate<'a>> {
        let newest = self.universe.newest(installed.package.name)?;
        compare(newest.package.version, installed.package.version).is_gt().then_some(newest)
    }

    /// Upgrades what is installed and needs `old` as it was.
    fn follow_upgrade(
        &self,
        selection: &mut Selection<'a>,
        wanted: &mut Vec<Wanted<'a>>,
        old: &Candidate<'a>,
        new: &Candidate<'a>,
    ) -> Result<(), ResolveError> {
        let arch = self.universe.arch();
        let dependents: Vec<Candidate<'a>> = selection
            .packages
            .values()
            .map(|(candidate, _)| *candidate)
            .filter(|candidate| candidate.index.is_none())
            .collect();
        for dependent in dependents {
            for field in ["Pre-Depends", "Depends"] {
                let text = dependent.package.field(field).unwrap_or_default();
                for group in read(text, dependent.package.name, self.universe)? {
                    let was = group.iter().any(|relation| old.package.meets(relation, arch));
                    if !was || self.is_met(selection, &group) {
                        continue;
                    }
                    let Some(newer) = self.newer(&dependent) else {
                        return Err(ResolveError::Held {
                            wanted: new.package.name.to_owned(),
                            version: new.package.version.to_owned(),
                            chain: selection
                                .chain(selection.packages.get(new.package.name).and_then(|it| it.1)),
                            dependent: format!("{} {}", dependent.package.name, dependent.package.version),
                            relation: spell(&group),
                        });
                    };
                    let there = selection.packages.get(dependent.package.name);
                    if there.is_some_and(|(it, _)| it.index.is_none()) {
                        self.select(selection, wanted, newer, Some(new.package.name))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether `one` excludes `other`. A package never excludes itself, not even by a name that it provides.
    fn check(
        &self,
        selection: &Selection<'a>,
        one: &Package<'a>,
        other: &Package<'a>,
    ) -> Result<(), ResolveError> {
        if one.name == other.name {
            return Ok(());
        }
        for (field, spelt) in [("Conflicts", "conflicts with"), ("Breaks", "breaks")] {
            for relation in
                read(one.field(field).unwrap_or_default(), one.name, self.universe)?.iter().flatten()
            {
                if other.meets(relation, self.universe.arch()) {
                    return Err(ResolveError::Conflict {
                        one: one.name.to_owned(),
                        other: format!("{} {}", other.name, other.version),
                        field: spelt,
                        relation: relation.to_string(),
                        chain: selection.chain(selection.packages.get(other.name).and_then(|(_, by)| *by)),
                    });
                }
            }
        }
        Ok(())
    }
}

impl Selection<'_> {
    /// `python3 → python3.11 → libc6`: how the packages that lead to `name` hang together, root first.
    fn chain(&self, name: Option<&str>) -> String {
        let mut names = Vec::new();
        let mut next = name;
        while let Some(name) = next.filter(|_| names.len() < 32) {
            names.push(name);
            next = self.packages.get(name).and_then(|(_, by)| *by);
        }
        names.reverse();
        if names.is_empty() { "the list of packages".to_owned() } else { names.join(" → ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Index;
    use longshore_oci::Arch;
    use proptest::prelude::*;

    fn index(lines: &str) -> Index {
        let stanzas: Vec<String> = lines
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| {
                let mut parts = line.trim().splitn(3, ' ');
                let (name, version) = (parts.next().unwrap(), parts.next().unwrap());
                let fields = parts.next().unwrap_or_default().replace("; ", "\n");
                format!("Package: {name}\nVersion: {version}\nArchitecture: amd64\n{fields}\n\n")
            })
            .collect();
        Index::read(stanzas.concat().as_bytes(), Arch::Amd64).unwrap()
    }

    fn universe(lines: &str) -> Universe {
        Universe::new(vec![index(lines)], Arch::Amd64)
    }

    fn names(lines: &str, roots: &[&str]) -> Result<String, String> {
        let roots: Vec<String> = roots.iter().map(|&root| root.to_owned()).collect();
        let universe = universe(lines);
        let found = resolve(&universe, &roots).map_err(|error| error.to_string())?;
        Ok(found.iter().map(|it| it.package.name).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn dependencies_are_followed_and_cycles_end() {
        let lines = "a 1 Pre-Depends: b (>= 1); Depends: c\nb 1 Depends: a\nc 1 Recommends: d\nd 1";
        assert_eq!(names(lines, &["a"]).unwrap(), "a b c");
    }

    #[test]
    fn the_first_alternative_is_taken_unless_another_is_there() {
        let lines = "a 1 Depends: x | y\nx 1\ny 1\nb 1 Depends: y";
        assert_eq!(names(lines, &["a"]).unwrap(), "a x");
        assert_eq!(names(lines, &["a", "b"]).unwrap(), "a b y");
    }

    #[test]
    fn a_name_can_be_provided() {
        let lines = "a 1 Depends: awk, v (>= 2)\nmawk 1 Provides: awk\ngawk 1 Provides: awk\np 1 Provides: v (= 1)\nq 1 Provides: v (= 2)";
        assert_eq!(names(lines, &["a"]).unwrap(), "a gawk q");
        let usual = lines.replace("Provides: awk\ngawk", "Provides: awk; Priority: required\ngawk");
        assert_eq!(names(&usual, &["a"]).unwrap(), "a mawk q");
        assert_eq!(names(lines, &["a", "mawk"]).unwrap(), "a mawk q");
    }

    #[test]
    fn another_choice_is_tried_after_a_conflict() {
        let lines = "a 1 Depends: x | y, z\nx 1 Conflicts: z\ny 1\nz 1";
        assert_eq!(names(lines, &["a"]).unwrap(), "a y z");
        let late = "a 1 Depends: x | y, p | q\nx 1\ny 1\np 1 Breaks: x, y\nq 1 Breaks: x (<< 2)";
        assert_eq!(names(late, &["a"]).unwrap(), "a q y");
    }

    #[test]
    fn a_package_does_not_exclude_itself() {
        assert_eq!(names("a 1 Provides: mta; Conflicts: mta", &["a"]).unwrap(), "a");
    }

    fn added(installed: &str, lines: &str, roots: &[&str]) -> Result<String, String> {
        let roots: Vec<String> = roots.iter().map(|&root| root.to_owned()).collect();
        let universe = Universe::onto(index(installed), vec![index(lines)], Arch::Amd64);
        let found = resolve_onto(&universe, &roots).map_err(|error| error.to_string())?;
        let spelt = found.iter().map(|it| format!("{}={}", it.package.name, it.package.version));
        Ok(spelt.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn what_is_installed_stays_unless_something_depends_on_more() {
        let installed = "libc 1\nperl 5";
        let lines = "libc 2\nperl 6\na 1 Depends: libc, perl\nb 1 Depends: libc (>= 2)";
        assert_eq!(added(installed, lines, &["a"]).unwrap(), "a=1");
        assert_eq!(added(installed, lines, &["b"]).unwrap(), "b=1 libc=2");
        assert_eq!(added(installed, lines, &["libc", "perl (>= 5)"]).unwrap(), "");
        assert_eq!(
            added("x 1 Provides: v", "a 1 Depends: v\ny 2 Provides: v; Priority: required", &["a"]).unwrap(),
            "a=1"
        );
    }

    #[test]
    fn an_upgrade_takes_with_it_what_needs_the_old_version() {
        let installed = "libc 1\nlibc-bin 1 Depends: libc (= 1)\nother 1 Depends: libc";
        let lines =
            "libc 2\nlibc-bin 2 Depends: libc (= 2), more\nmore 1\ndev 2 Depends: libc (= 2)\nother 2";
        assert_eq!(added(installed, lines, &["dev"]).unwrap(), "dev=2 libc=2 libc-bin=2 more=1");
        let held = added(installed, "libc 2\ndev 2 Depends: libc (= 2)", &["dev"]).unwrap_err();
        assert_eq!(
            held,
            "libc 2 is needed by dev, but libc-bin 1, which is installed, needs `libc (= 1)` and has no newer version"
        );
    }

    #[test]
    fn a_conflict_with_what_is_installed_is_an_upgrade_or_a_sentence() {
        let lines = "new 1 Breaks: old (<< 2)\nold 2\nbad 1 Conflicts: old";
        assert_eq!(added("old 1", lines, &["new"]).unwrap(), "new=1 old=2");
        let conflict = added("old 1", lines, &["bad"]).unwrap_err();
        assert!(conflict.starts_with("bad and old 2 cannot be installed together"), "{conflict}");
        let alone = added("old 3", lines, &["bad"]).unwrap_err();
        assert!(alone.contains("bad conflicts with `old`"), "{alone}");
    }

    #[test]
    fn failures_are_sentences() {
        let error = |lines, roots: &[&str]| names(lines, roots).unwrap_err();
        assert_eq!(
            error("a 1 Depends: b\nb 1 Depends: nothing | c (>= 2)\nc 1", &["a"]),
            "a → b needs `nothing | c (>= 2)`, and the configured suites have c 1"
        );
        assert_eq!(
            error("a 1 Depends: b\nb 1\nc 1 Breaks: b (<< 2)", &["a", "c"]),
            "c and b 1 cannot be installed together: c breaks `b (<< 2)`, and b 1 is needed by a"
        );
        let unknown = error("a 1", &["pyhton3"]);
        assert!(
            unknown
                .starts_with("the list of packages needs `pyhton3`, which no configured suite has for amd64"),
            "{unknown}"
        );
        assert!(error("a 1", &["a b"]).contains("is not a relation"));
    }

    #[test]
    fn qualifiers_are_honoured() {
        let lines = "a 1 Depends: p:any (>= 1), q:amd64\np 1\nq 1\nb 1 Depends: q:armhf";
        assert_eq!(names(lines, &["a"]).unwrap(), "a p q");
        assert!(names(lines, &["b"]).is_err());
    }

    proptest! {
        /// Whatever the graph: the answer is closed under dependencies and free of conflicts, or there is an error.
        #[test]
        fn an_answer_is_consistent(edges in proptest::collection::vec((0..6u8, 0..6u8, 0..6u8, 0..5u8), 0..14)) {
            let mut fields: Vec<[Vec<String>; 2]> = (0..6).map(|_| [vec![], vec![]]).collect();
            for (from, to, or, kind) in edges {
                let conflict = usize::from(kind == 4);
                let text = if conflict == 1 { format!("p{to}") } else { format!("p{to} | p{or}") };
                fields[usize::from(from)][conflict].push(text);
            }
            let lines: Vec<String> = fields.iter().enumerate().map(|(n, [depends, conflicts])| {
                format!("p{n} 1 Depends: {}; Conflicts: {}\n", depends.join(", "), conflicts.join(", "))
            }).collect();
            if let Ok(found) = names(&lines.concat(), &["p0"]) {
                let found: Vec<&str> = found.split(' ').collect();
                for name in &found {
                    let [depends, conflicts] = &fields[name[1..].parse::<usize>().unwrap()];
                    for group in depends {
                        prop_assert!(group.split(" | ").any(|it| found.contains(&it)), "{name} lacks {group}");
                    }
                    prop_assert!(!conflicts.iter().any(|it| it != name && found.contains(&it.as_str())));
                }
            }
        }
    }
}
