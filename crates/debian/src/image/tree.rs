//! The files of all packages and those that longshore makes, merged into one tree.

use std::collections::BTreeMap;

use longshore_layer::{Entry, EntryPath, Kind};

use crate::{
    Error,
    deb::{DebEntry, Extent, Spool},
};

/// Directories that are links into others: the merged `/usr` of every current Debian and Ubuntu, and those that
/// base-files' scripts turn into links. Packages still bring files by the old names.
const ALIASES: [(&str, &str, &str); 8] = [
    ("bin", "usr/bin", "usr/bin"),
    ("lib", "usr/lib", "usr/lib"),
    ("lib32", "usr/lib32", "usr/lib32"),
    ("lib64", "usr/lib64", "usr/lib64"),
    ("libx32", "usr/libx32", "usr/libx32"),
    ("sbin", "usr/sbin", "usr/sbin"),
    ("var/lock", "run/lock", "/run/lock"),
    ("var/run", "run", "/run"),
];

/// Who a file is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    /// The package at this position of the plan.
    Package(usize),
    /// Made here.
    System,
}

/// A file's content.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// In a spool.
    Spooled(Extent),
    /// Here.
    Bytes(Vec<u8>),
}

/// A file of the tree.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) entry: Entry,
    pub(crate) content: Content,
    pub(crate) owner: Owner,
}

/// The whole file system.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    nodes: BTreeMap<EntryPath, Node>,
}

/// Says which of two packages may replace the other's files, if any.
pub(crate) trait Precedence {
    /// The name of the package at a position.
    fn name(&self, package: usize) -> &str;
    /// Whether the first package declares that it replaces files of the second.
    fn replaces(&self, package: usize, other: usize) -> bool;
}

/// A path as it is in the merged tree, and whether it is itself one of the links.
pub(crate) fn merged(path: &EntryPath) -> (EntryPath, bool) {
    let text = path.as_str();
    for (alias, target, _) in ALIASES {
        if text == alias {
            return (EntryPath::new(target).unwrap_or_else(|_| path.clone()), true);
        }
        if let Some(below) = text.strip_prefix(alias).and_then(|rest| rest.strip_prefix('/'))
            && let Ok(path) = EntryPath::new(&format!("{target}/{below}"))
        {
            return (path, false);
        }
    }
    (path.clone(), false)
}

impl Tree {
    /// Adds a file of the package at position `package`.
    pub(crate) fn add(
        &mut self,
        package: usize,
        entry: &DebEntry,
        precedence: &impl Precedence,
    ) -> Result<(), Error> {
        let (path, alias) = merged(&entry.path);
        if alias && matches!(entry.kind, Kind::Symlink { .. }) {
            return Ok(());
        }
        let kind = match &entry.kind {
            Kind::HardLink { target } => Kind::HardLink { target: merged(target).0 },
            other => other.clone(),
        };
        let node = Node {
            entry: Entry::new(path.clone(), kind, entry.mode)
                .owned_by(entry.uid, entry.gid)
                .changed_at(entry.mtime),
            content: Content::Spooled(entry.content),
            owner: Owner::Package(package),
        };
        let Some(old) = self.nodes.get(&path) else {
            self.nodes.insert(path, node);
            return Ok(());
        };
        if old.entry.kind == Kind::Directory && node.entry.kind == Kind::Directory {
            return Ok(());
        }
        let Owner::Package(other) = old.owner else { return Ok(()) };
        let same_link = matches!(node.entry.kind, Kind::Symlink { .. }) && old.entry.kind == node.entry.kind;
        if same_link || precedence.replaces(other, package) {
            return Ok(());
        }
        if precedence.replaces(package, other) {
            self.nodes.insert(path, node);
            return Ok(());
        }
        Err(Error::Overlap {
            path: path.to_string(),
            one: precedence.name(other).to_owned(),
            other: precedence.name(package).to_owned(),
            why: "neither says that it replaces the other's files".to_owned(),
        })
    }

    /// The links that stand for merged directories. `/lib32` and the like are made where something is in them.
    pub(crate) fn add_aliases(&mut self) -> Result<(), Error> {
        for (alias, target, link) in ALIASES {
            let always = ["bin", "lib", "sbin", "var/lock", "var/run"].contains(&alias);
            if always || self.nodes.contains_key(&generated_path(target)?) {
                self.link(alias, link)?;
            }
        }
        Ok(())
    }

    /// Adds a file that is made here, in place of any other.
    pub(crate) fn file(&mut self, path: &str, mode: u32, content: impl Into<Vec<u8>>) -> Result<(), Error> {
        self.make(Owner::System, Entry::file(generated_path(path)?, mode), content.into());
        Ok(())
    }

    /// Adds a file that is made here and belongs to a package.
    pub(crate) fn file_of(
        &mut self,
        package: usize,
        path: &str,
        mode: u32,
        content: impl Into<Vec<u8>>,
    ) -> Result<(), Error> {
        self.make(Owner::Package(package), Entry::file(generated_path(path)?, mode), content.into());
        Ok(())
    }

    /// Adds an entry that is made here, in place of any other.
    pub(crate) fn make(&mut self, owner: Owner, entry: Entry, content: Vec<u8>) {
        self.nodes.insert(entry.path.clone(), Node { entry, content: Content::Bytes(content), owner });
    }

    /// Adds a link that is made here.
    pub(crate) fn link(&mut self, path: &str, target: &str) -> Result<(), Error> {
        self.make(Owner::System, Entry::symlink(generated_path(path)?, target), Vec::new());
        Ok(())
    }

    /// Adds a directory that is made here, unless it is there.
    pub(crate) fn directory(&mut self, path: &str, mode: u32, gid: u32) -> Result<(), Error> {
        let path = generated_path(path)?;
        if !self.nodes.contains_key(&path) {
            self.make(Owner::System, Entry::new(path, Kind::Directory, mode).owned_by(0, gid), Vec::new());
        }
        Ok(())
    }

    /// Whether something is at `path`.
    pub(crate) fn has(&self, path: &str) -> bool {
        EntryPath::new(path).is_ok_and(|path| self.nodes.contains_key(&path))
    }

    /// The node at `path`.
    pub(crate) fn get(&self, path: &EntryPath) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// All nodes in order of their paths.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// The nodes below a directory, in order.
    pub(crate) fn below<'a>(&'a self, directory: &'a str) -> impl Iterator<Item = &'a Node> {
        let inside = move |path: &EntryPath| {
            path.as_str().strip_prefix(directory).is_some_and(|it| it.starts_with('/'))
        };
        self.nodes.iter().filter(move |(path, _)| inside(path)).map(|(_, node)| node)
    }

    /// The content of the file at `path`.
    pub(crate) fn read(&self, path: &str, spools: &[Spool]) -> Result<Option<Vec<u8>>, Error> {
        let node = EntryPath::new(path).ok().and_then(|path| self.nodes.get(&path));
        node.filter(|node| node.entry.kind == Kind::File).map(|node| node.read(spools)).transpose()
    }

    /// Checks that everything lies in a directory, and puts the content of hard-linked files at the first of their
    /// names: a layer's entries are in order, and a link must come after its file.
    pub(crate) fn settle(&mut self, precedence: &impl Precedence) -> Result<(), Error> {
        let mut links: BTreeMap<EntryPath, Vec<EntryPath>> = BTreeMap::new();
        for (path, node) in &self.nodes {
            for parent in std::iter::successors(path.parent(), EntryPath::parent) {
                let Some(above) = self.nodes.get(&parent).filter(|above| above.entry.kind != Kind::Directory)
                else {
                    continue;
                };
                let name = |owner| match owner {
                    Owner::Package(package) => precedence.name(package).to_owned(),
                    Owner::System => "longshore".to_owned(),
                };
                return Err(Error::Overlap {
                    path: parent.to_string(),
                    one: name(above.owner),
                    other: name(node.owner),
                    why: format!(
                        "the first has it as something other than a directory, the second has `{path}`"
                    ),
                });
            }
            if let Kind::HardLink { target } = &node.entry.kind {
                links.entry(target.clone()).or_default().push(path.clone());
            }
        }
        for (target, mut names) in links {
            let Some(file) = self.nodes.get(&target).cloned() else {
                return Err(Error::Deb {
                    deb: target.to_string(),
                    why: "a hard link leads to it, and it was left out".to_owned(),
                });
            };
            names.push(target);
            names.sort();
            for (index, name) in names.iter().enumerate() {
                let Some(node) = self.nodes.get_mut(name) else { continue };
                node.entry.kind =
                    if index == 0 { Kind::File } else { Kind::HardLink { target: names[0].clone() } };
                node.content = file.content.clone();
            }
        }
        Ok(())
    }
}

impl Node {
    /// How long its content is.
    pub(crate) fn size(&self) -> u64 {
        match &self.content {
            Content::Spooled(extent) => extent.size,
            Content::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// Its content.
    pub(crate) fn read(&self, spools: &[Spool]) -> Result<Vec<u8>, Error> {
        match &self.content {
            Content::Spooled(extent) => spools[extent.spool]
                .read(*extent)
                .map_err(crate::error::io("read", self.entry.path.as_str().as_ref())),
            Content::Bytes(bytes) => Ok(bytes.clone()),
        }
    }
}

/// A path that is made here. Names that come from packages have been checked, so a failure names a defect of ours.
pub(crate) fn generated_path(path: &str) -> Result<EntryPath, Error> {
    EntryPath::new(path).map_err(|error| Error::Index { what: path.to_owned(), why: error.to_string() })
}
