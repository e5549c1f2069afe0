//! Whether packages can be installed without running anything of them.
//!
//! What dpkg does with a new package is unpack it, write it down, and run its scripts. The first two are done here; so is the
//! work of the one trigger that libraries need, `ldconfig`. Of scripts only those count as done of which every line is known to
//! do nothing in a new installation. Whatever else there is (another script, a trigger that somebody waits for, a file in
//! the place of another, a diversion, an upgrade) is for dpkg itself.

use std::collections::BTreeMap;

use longshore_layer::{EntryPath, Kind};
use longshore_store::BlobStore;

use super::{
    Addition, OsRelease, Reason, Tool, Way,
    filters::Filters,
    installed::{Database, Installed},
    system::System,
};
use crate::{
    Error, LockedPackage, Progress,
    deb::{Deb, DebEntry},
    image::{self, loader},
    relation::groups,
};

/// Users and groups below this number are the same in every Debian and Ubuntu (policy §9.2.2).
const FIRST_LOCAL_ID: u32 = 100;
/// The links of the merged `/usr`.
const MERGED: [(&str, &str); 3] = [("bin", "usr/bin"), ("lib", "usr/lib"), ("sbin", "usr/sbin")];
/// Links that the image may have where packages have directories.
const ALIASES: [&str; 8] = ["bin", "lib", "lib32", "lib64", "libx32", "sbin", "var/lock", "var/run"];

/// Chooses how the packages of an addition, which must be in `debs`, are installed. Blocks.
pub fn choose_way(
    system: &System,
    addition: &Addition,
    debs: &BlobStore,
    progress: &Progress<'_>,
) -> Result<Way, Error> {
    let os = OsRelease::of(system)?;
    let installed = Installed::of(system, addition.arch, &os)?;
    let unpacked = image::unpack(&addition.packages, debs, |_, _| true, progress)?;
    let judge = Judge::new(system, addition, &installed);
    let found = addition.packages.iter().zip(&unpacked.debs).filter_map(|(package, deb)| {
        let why = judge.against(package, deb)?;
        Some(Reason { package: package.name.clone(), why })
    });
    let reasons: Vec<Reason> = found.collect();
    if reasons.is_empty() {
        return Ok(Way::Native);
    }
    let has =
        |program: &str| ["usr/bin", "bin"].iter().any(|folder| system.has(&format!("{folder}/{program}")));
    let tool = if has("apt-get") {
        Tool::AptGet
    } else if has("dpkg") && has("sh") && installed.database == Database::Status {
        Tool::Dpkg
    } else {
        let reasons = reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        return Err(Error::NoDpkg { system: os.title, reasons });
    };
    Ok(Way::Sandbox { tool, reasons })
}

/// The contents of those files of an addition's packages, which must be in `debs`, that are wanted. Blocks.
pub fn contents(
    addition: &Addition,
    debs: &BlobStore,
    wanted: impl Fn(&EntryPath) -> bool + Sync,
    progress: &Progress<'_>,
) -> Result<BTreeMap<EntryPath, Vec<u8>>, Error> {
    let is_wanted = |path: &EntryPath, kind: &Kind| *kind == Kind::File && wanted(path);
    let unpacked = image::unpack(&addition.packages, debs, is_wanted, progress)?;
    let mut contents = BTreeMap::new();
    for entry in unpacked.debs.iter().flat_map(|deb| &deb.entries) {
        let content = unpacked.spools[entry.content.spool].read(entry.content);
        let content = content.map_err(crate::error::io("read", &std::env::temp_dir()))?;
        contents.insert(entry.path.clone(), content);
    }
    Ok(contents)
}

struct Judge<'a> {
    system: &'a System,
    addition: &'a Addition,
    installed: &'a Installed,
    filters: Filters,
    /// The paths of which installed packages want to be told: path and package.
    interests: Vec<(String, String)>,
    /// Paths that are diverted or have an owner of their own.
    special: Vec<String>,
}

impl<'a> Judge<'a> {
    fn new(system: &'a System, addition: &'a Addition, installed: &'a Installed) -> Self {
        let lines = |path: &str| {
            let text = system.text(path).unwrap_or_default();
            text.lines().map(ToOwned::to_owned).collect::<Vec<_>>()
        };
        let interests = lines("var/lib/dpkg/triggers/File").into_iter().filter_map(|line| {
            let (path, package) = line.trim().rsplit_once(' ')?;
            Some((path.trim().to_owned(), package.split('/').next()?.to_owned()))
        });
        let mut special = lines("var/lib/dpkg/diversions");
        let overrides = lines("var/lib/dpkg/statoverride");
        special.extend(overrides.iter().filter_map(|line| line.rsplit(' ').next().map(ToOwned::to_owned)));
        Self {
            interests: interests.collect(),
            special,
            system,
            addition,
            installed,
            filters: Filters::of(system),
        }
    }

    /// The first reason why a package cannot be installed natively.
    fn against(&self, package: &LockedPackage, deb: &Deb) -> Option<String> {
        if let Some(line) = &self.filters.other {
            return Some(format!("the parent's dpkg has a setting that only it understands: {line}"));
        }
        if self.addition.upgraded.contains(&package.name) {
            return Some("the parent has an older version".to_owned());
        }
        if self.installed.all.iter().any(|stanza| stanza.get("Package") == Some(&package.name)) {
            return Some("the parent has files of an earlier installation of it".to_owned());
        }
        Self::scripts(deb)
            .or_else(|| self.triggers(deb))
            .or_else(|| self.relations(deb))
            .or_else(|| self.files(deb))
    }

    fn scripts(deb: &Deb) -> Option<String> {
        for name in ["config", "preinst", "postinst"] {
            let Some(script) = deb.control.get(name) else { continue };
            if let Some(line) = line_that_counts(&String::from_utf8_lossy(script)) {
                return Some(format!("its {name} has work to do: {}", shortened(&line)));
            }
        }
        None
    }

    fn triggers(&self, deb: &Deb) -> Option<String> {
        let text = deb.control.get("triggers").map(|it| String::from_utf8_lossy(it).into_owned());
        for line in text.iter().flat_map(|text| text.lines()) {
            let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
            let (Some(kind), Some(name)) = (words.next(), words.next()) else { continue };
            if kind.starts_with("interest") {
                return Some(format!("it wants to be told of changes to {name}"));
            }
            if !self.system.has(&format!("var/lib/dpkg/triggers/{name}")) {
                continue;
            }
            if name != "ldconfig" {
                return Some(format!("it triggers {name}"));
            }
            let cache = self.system.read("etc/ld.so.cache");
            if cache.is_none_or(|cache| loader::extended(cache, Vec::new(), self.addition.arch).is_none()) {
                return Some("the parent's ld.so.cache has a form that only its ldconfig writes".to_owned());
            }
            if deb.entries.iter().any(|it| it.path.as_str().starts_with("etc/ld.so.conf.d/")) {
                return Some("it brings folders for ldconfig".to_owned());
            }
        }
        for path in &deb.list {
            let told = self.interests.iter().find(|(folder, _)| {
                path.strip_prefix(folder.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            });
            if let Some((_, package)) = told.filter(|_| path != "/.") {
                return Some(format!("{package} wants to be told of {path}"));
            }
        }
        None
    }

    /// Whether it takes files over from what is installed.
    fn relations(&self, deb: &Deb) -> Option<String> {
        let control = image::dpkg::stanza(deb)?;
        let replaces = control.get("Replaces").unwrap_or_default().to_owned();
        let named = groups(&replaces, self.addition.arch.as_str()).unwrap_or_default();
        let installed = named.iter().flatten().find(|relation| {
            let version = self.installed.index.version(relation.name);
            version.is_some_and(|version| relation.admits(version))
        })?;
        Some(format!("it replaces files of {}", installed.name))
    }

    fn files(&self, deb: &Deb) -> Option<String> {
        for entry in &deb.entries {
            if let Some(why) = self.entry(entry) {
                return Some(why);
            }
        }
        None
    }

    fn entry(&self, entry: &DebEntry) -> Option<String> {
        let path = &entry.path;
        if entry.uid >= FIRST_LOCAL_ID || entry.gid >= FIRST_LOCAL_ID {
            return Some(format!("`/{path}` belongs to a user whose number is the parent's to choose"));
        }
        if self.special.iter().any(|special| special.strip_prefix('/') == Some(path.as_str())) {
            return Some(format!("`/{path}` is diverted or has another owner in the parent"));
        }
        for ancestor in std::iter::successors(Some(path.clone()), EntryPath::parent) {
            let Some((alias, target)) = MERGED.iter().find(|(alias, _)| ancestor.as_str() == *alias) else {
                continue;
            };
            if !self.system.is_link(alias, target) {
                return Some(format!("the parent's /{alias} is not merged into /{target}"));
            }
        }
        for ancestor in std::iter::successors(path.parent(), EntryPath::parent) {
            if ALIASES.contains(&ancestor.as_str()) {
                continue;
            }
            if let Some(node) = self.system.get(&image::tree::merged(&ancestor).0)
                && node.kind != Kind::Directory
            {
                return Some(format!("`/{ancestor}` is no directory in the parent"));
            }
        }
        let (place, alias) = image::tree::merged(path);
        if alias || !self.filters.wants(path, &entry.kind) {
            return None;
        }
        match (&entry.kind, self.system.get(&place).map(|node| &node.kind)) {
            (_, None) | (Kind::Directory, Some(Kind::Directory)) => None,
            _ => Some(format!("the parent has something at `/{path}`")),
        }
    }
}

/// The first line of a shell script that may do something in a new installation.
fn line_that_counts(script: &str) -> Option<String> {
    let mut lines = script.lines();
    let first = lines.next().unwrap_or_default();
    let shell = first.strip_prefix("#!").map(str::trim).unwrap_or_default();
    if !matches!(shell, "/bin/sh" | "/bin/sh -e" | "/bin/bash" | "/bin/bash -e") {
        return Some(first.to_owned());
    }
    lines.map(str::trim).find(|line| !does_nothing(line)).map(ToOwned::to_owned)
}

/// Whether a line of a script is known to do nothing in a new installation: the skeleton of a script, as `dh_make` gives it,
/// and the helpers that move and remove what an earlier version had (dpkg-maintscript-helper(1): without an earlier version,
/// nothing).
fn does_nothing(line: &str) -> bool {
    let plain = |text: &str| !text.contains(['$', '`', '(', ')', '<', '>', '|', '&', ';', '\\']);
    let helper = || {
        let (kind, rest) = line.strip_prefix("dpkg-maintscript-helper ")?.split_once(' ')?;
        let known = matches!(kind, "rm_conffile" | "mv_conffile" | "symlink_to_dir" | "dir_to_symlink");
        // Versions are written with `\~`, which is `~`.
        Some(known && plain(&rest.strip_suffix("-- \"$@\"")?.replace("\\~", "~")))
    };
    let label = || {
        let names = line.trim_end_matches(";;").trim_end().strip_suffix(')')?;
        Some(
            names == "*"
                || !names.is_empty() && names.bytes().all(|b| b.is_ascii_lowercase() || b"-| ".contains(&b)),
        )
    };
    let complaint = || {
        let rest = line.strip_prefix("echo \"")?;
        let (text, rest) = rest.rsplit_once('"')?;
        let about = ["postinst", "preinst", "config"].iter().find_map(|script| text.strip_prefix(script))?;
        let about = about.strip_prefix(" called with unknown argument")?;
        Some(
            matches!(about, " \\`$1'" | " '$1'" | " \\`$1\\`" | ": $1" | " $1")
                && matches!(rest.replace(' ', "").as_str(), ">&2" | "1>&2"),
        )
    };
    line.is_empty()
        || line.starts_with('#')
        || matches!(line, "set -e" | "set -eu" | "exit 0" | "exit 1" | ":" | "true" | ";;" | "esac")
        || matches!(line, "case \"$1\" in" | "case $1 in")
        || helper().unwrap_or(false)
        || label().unwrap_or(false)
        || complaint().unwrap_or(false)
}

fn shortened(line: &str) -> String {
    const LONGEST: usize = 60;
    if line.chars().count() <= LONGEST {
        return format!("`{line}`");
    }
    let start: String = line.chars().take(LONGEST).collect();
    format!("`{start}…`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SKELETON: &str = "#!/bin/sh\n# postinst script for x\nset -e\n\ncase \"$1\" in\n    configure)\n    ;;\n\n\
        abort-upgrade|abort-remove|abort-deconfigure)\n    ;;\n\n    *)\n        \
        echo \"postinst called with unknown argument \\`$1'\" >&2\n        exit 1\n    ;;\nesac\n\n#DEBHELPER#\n\nexit 0\n";

    #[test]
    fn skeletons_and_helpers_do_nothing() {
        assert_eq!(line_that_counts(SKELETON), None);
        let helper = "#!/bin/sh\nset -e\n# Automatically added by dh_installdeb/13.11.4\n\
            dpkg-maintscript-helper rm_conffile /etc/bash_completion.d/git 1:1.8.0-1\\~ -- \"$@\"\n# End automatically added section\n";
        assert_eq!(line_that_counts(helper), None);
    }

    #[test]
    fn anything_else_counts() {
        for line in [
            "ldconfig",
            "update-alternatives --install /usr/bin/x x /usr/bin/y 1",
            "dpkg-maintscript-helper rm_conffile /etc/x $(touch /x) -- \"$@\"",
            "dpkg-maintscript-helper rm_conffile /etc/x; touch /x -- \"$@\"",
            "dpkg-maintscript-helper supports rm_conffile",
            "echo \"postinst called with unknown argument $(touch /x)\" >&2",
            "echo \"hello\" >&2",
            "configure) touch /x ;;",
            "f() {",
            "set -x; y",
            ". /usr/share/debconf/confmodule",
        ] {
            assert_eq!(line_that_counts(&format!("#!/bin/sh\nset -e\n{line}\n")).as_deref(), Some(line));
        }
        assert!(line_that_counts("#!/usr/bin/perl\nexit 0\n").is_some() && line_that_counts("").is_some());
    }

    proptest! {
        #[test]
        fn a_line_with_something_in_a_subshell_counts(before in "[a-z \"]{0,12}", after in "[a-z \"]{0,12}") {
            let line = format!("{before}$(x){after}");
            prop_assert!(!does_nothing(line.trim()) || line.trim().starts_with('#'));
        }
    }
}
