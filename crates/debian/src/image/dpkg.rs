//! dpkg's database: the packages are there as if dpkg had installed them, for `dpkg -l`, for scanners, and for an
//! `apt-get install` on top.

use std::collections::{BTreeMap, BTreeSet};

use longshore_layer::{EntryPath, Kind};
use md5::{Digest as _, Md5};

use super::{lines, tree::Tree};
use crate::{
    Error,
    control::{Stanza, stanzas},
    deb::{Deb, Spool},
};

/// A package's control stanza, read.
pub(crate) fn control_of(name: &str, deb: &Deb) -> Result<Stanza, Error> {
    let broken = |why: String| Error::Deb { deb: name.to_owned(), why };
    let text = deb
        .control
        .get("control")
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .unwrap_or_default();
    let mut found = stanzas(&text).map_err(|error| broken(format!("its control file: {error}")))?;
    let stanza = found
        .pop()
        .filter(|_| found.is_empty())
        .ok_or_else(|| broken("its control file is empty".to_owned()))?;
    if stanza.get("Package") != Some(name) {
        return Err(broken(format!("it is the package `{}`", stanza.get("Package").unwrap_or_default())));
    }
    Ok(stanza)
}

/// A package's control stanza, if it can be read.
pub(crate) fn stanza(deb: &Deb) -> Option<Stanza> {
    let text = String::from_utf8_lossy(deb.control.get("control")?).into_owned();
    stanzas(&text).ok()?.pop()
}

/// The name by which dpkg keeps a package's files: with its architecture if several may be installed.
fn instance(name: &str, control: &Stanza) -> String {
    match (control.get("Multi-Arch"), control.get("Architecture")) {
        (Some("same"), Some(arch)) => format!("{name}:{arch}"),
        _ => name.to_owned(),
    }
}

/// Adds the database.
pub(crate) fn add(tree: &mut Tree, packages: &[(&str, Stanza, &Deb)], spools: &[Spool]) -> Result<(), Error> {
    let mut status = String::new();
    let mut triggers = Triggers::default();
    for (position, package) in packages.iter().enumerate() {
        let (name, control, deb) = package;
        status.push_str(&add_package(tree, position, package, spools)?.to_text());
        status.push('\n');
        triggers.read(deb, &instance(name, control));
    }
    tree.file("var/lib/dpkg/status", 0o644, status)?;
    tree.file("var/lib/dpkg/info/format", 0o644, "1\n")?;
    tree.file("var/lib/dpkg/available", 0o644, "")?;
    for directory in ["alternatives", "parts", "triggers", "updates"] {
        tree.directory(&format!("var/lib/dpkg/{directory}"), 0o755, 0)?;
    }
    triggers.add(tree)
}

/// Adds what dpkg keeps of one package, and returns its entry in the status file.
pub(crate) fn add_package(
    tree: &mut Tree,
    position: usize,
    (name, control, deb): &super::Unpacked<'_>,
    spools: &[Spool],
) -> Result<Stanza, Error> {
    let instance = instance(name, control);
    let info = |extension: &str| format!("var/lib/dpkg/info/{instance}.{extension}");
    for (file, content) in deb.control.iter().filter(|(file, _)| *file != "control") {
        let script = matches!(file.as_str(), "preinst" | "postinst" | "prerm" | "postrm" | "config");
        tree.file_of(position, &info(file), if script { 0o755 } else { 0o644 }, content.clone())?;
    }
    let list = lines(&deb.list);
    tree.file_of(position, &info("list"), 0o644, list)?;
    let mut entry = control.clone();
    entry.insert_after("Package", "Status", "install ok installed");
    let conffiles = conffiles(deb, spools)?;
    if !conffiles.is_empty() {
        entry.insert_after("Version", "Conffiles", conffiles);
    }
    Ok(entry)
}

/// The `Conffiles` field: each configuration file with the MD5 of its content as packaged.
fn conffiles(deb: &Deb, spools: &[Spool]) -> Result<String, Error> {
    let Some(list) = deb.control.get("conffiles") else { return Ok(String::new()) };
    let mut field = Vec::new();
    for line in String::from_utf8_lossy(list).lines() {
        let path = line.trim();
        let entry = deb.entries.iter().find(|entry| path.strip_prefix('/') == Some(entry.path.as_str()));
        let Some(entry) = entry.filter(|it| it.kind == Kind::File) else { continue };
        let content = spools[entry.content.spool]
            .read(entry.content)
            .map_err(crate::error::io("read", path.as_ref()))?;
        field.push(format!("\n{path} {:x}", Md5::digest(&content)));
    }
    Ok(field.concat())
}

/// Who is to be told of what (deb-triggers(5)), so that an `apt-get install` on top runs `ldconfig`.
#[derive(Default)]
struct Triggers {
    by_path: BTreeSet<String>,
    by_name: BTreeMap<String, BTreeSet<String>>,
}

impl Triggers {
    fn read(&mut self, deb: &Deb, instance: &str) {
        let text = deb
            .control
            .get("triggers")
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            .unwrap_or_default();
        for line in text.lines() {
            let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
            let (Some(kind), Some(name)) = (words.next(), words.next()) else { continue };
            let suffix = match kind {
                "interest" | "interest-await" => "",
                "interest-noawait" => "/noawait",
                _ => continue,
            };
            if name.starts_with('/') {
                self.by_path.insert(format!("{name} {instance}{suffix}\n"));
            } else if EntryPath::new(name).is_ok() {
                self.by_name.entry(name.to_owned()).or_default().insert(format!("{instance}{suffix}\n"));
            }
        }
    }

    fn add(self, tree: &mut Tree) -> Result<(), Error> {
        let folder = "var/lib/dpkg/triggers";
        for (name, lines) in self.by_name {
            tree.file(&format!("{folder}/{name}"), 0o644, lines.into_iter().collect::<String>())?;
        }
        tree.file(&format!("{folder}/File"), 0o644, self.by_path.into_iter().collect::<String>())?;
        tree.file(&format!("{folder}/Unincorp"), 0o644, "")
    }
}

/// `update-alternatives --install link name path priority`, for the programs that packages of a parent offer by a common
/// name: (name, link, path, priority, names that go with it).
type Alternative =
    (&'static str, &'static str, &'static str, u32, &'static [(&'static str, &'static str, &'static str)]);
const ALTERNATIVES: [Alternative; 7] = [
    ("awk", "usr/bin/awk", "usr/bin/gawk", 10, &[("nawk", "usr/bin/nawk", "usr/bin/gawk")]),
    ("awk", "usr/bin/awk", "usr/bin/mawk", 5, &[("nawk", "usr/bin/nawk", "usr/bin/mawk")]),
    ("pager", "usr/bin/pager", "usr/bin/less", 77, &[]),
    ("pager", "usr/bin/pager", "usr/bin/more", 50, &[]),
    ("rmt", "usr/sbin/rmt", "usr/sbin/rmt-tar", 50, &[]),
    ("which", "usr/bin/which", "usr/bin/which.debianutils", 0, &[]),
    ("editor", "usr/bin/editor", "usr/bin/nano", 40, &[]),
];

/// Makes the alternatives that matter, with the database of `update-alternatives`.
pub(crate) fn add_alternatives(tree: &mut Tree) -> Result<(), Error> {
    let mut by_name: BTreeMap<&str, Vec<&Alternative>> = BTreeMap::new();
    for alternative in &ALTERNATIVES {
        if tree.has(alternative.2) {
            by_name.entry(alternative.0).or_default().push(alternative);
        }
    }
    for (name, choices) in by_name {
        let Some((_, link, best, _, slaves)) = choices.iter().max_by_key(|it| it.3) else { continue };
        tree.link(link, &format!("/etc/alternatives/{name}"))?;
        tree.link(&format!("etc/alternatives/{name}"), &format!("/{best}"))?;
        let mut record = format!("auto\n/{link}\n");
        for (slave, slave_link, target) in *slaves {
            tree.link(slave_link, &format!("/etc/alternatives/{slave}"))?;
            tree.link(&format!("etc/alternatives/{slave}"), &format!("/{target}"))?;
            record += &lines(&[slave.to_string(), format!("/{slave_link}")]);
        }
        record.push('\n');
        for (_, _, path, priority, slaves) in choices {
            record += &lines(&[format!("/{path}"), priority.to_string()]);
            for (_, _, target) in *slaves {
                record += &lines(&[format!("/{target}")]);
            }
        }
        record.push('\n');
        tree.file(&format!("var/lib/dpkg/alternatives/{name}"), 0o644, record)?;
    }
    Ok(())
}
