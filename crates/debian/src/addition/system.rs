//! The file system of an image, as its layers say: every path with its owner and mode, and the content of the few files that
//! say what is installed and where more comes from.
//!
//! It is read from the layers and not from a folder that they were unpacked into: an ordinary user cannot give files away, so
//! a folder does not say whose they are.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    path::Path,
};

use longshore_layer::{
    Entry, EntryPath, Kind,
    read::{Change, Compression, LayerReader},
};

use crate::Error;

/// The files whose content is kept.
const FILES: [&str; 8] = [
    "etc/ld.so.cache",
    "etc/ld.so.conf",
    "etc/os-release",
    "usr/lib/os-release",
    "var/lib/dpkg/diversions",
    "var/lib/dpkg/statoverride",
    "var/lib/dpkg/status",
    "etc/dpkg/dpkg.cfg",
];
/// The folders below which all content is kept.
const FOLDERS: [&str; 6] = [
    "etc/apt/",
    "etc/dpkg/dpkg.cfg.d/",
    "etc/ld.so.conf.d/",
    "usr/share/keyrings/",
    "var/lib/dpkg/status.d/",
    "var/lib/dpkg/triggers/",
];
/// The longest file whose content is kept; the status of a desktop has 10 MiB.
const LARGEST_FILE: u64 = 64 << 20;
/// So many links are followed one after another, as on Linux.
const MOST_LINKS: usize = 40;

/// A file, directory or link.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: u64,
    content: Option<Vec<u8>>,
    layer: usize,
}

/// The file system of an image.
#[derive(Clone, Debug, Default)]
pub struct System {
    nodes: BTreeMap<EntryPath, Node>,
    layers: usize,
}

impl System {
    /// Puts one more layer on top.
    pub fn add_layer(&mut self, layer: impl Read, compression: Compression) -> Result<(), Error> {
        let number = self.layers;
        self.layers += 1;
        let mut reader = LayerReader::new(layer, compression)?;
        while let Some(mut entry) = reader.next_entry()? {
            let content = match entry.change() {
                Change::Put(Entry { path, kind: Kind::File, .. }) if is_kept(path.as_str()) => {
                    let mut content = Vec::new();
                    let path = path.clone();
                    let read = (&mut entry).take(LARGEST_FILE + 1).read_to_end(&mut content);
                    read.map_err(crate::error::io("read", Path::new(path.as_str())))?;
                    if content.len() as u64 > LARGEST_FILE {
                        return Err(Error::Index {
                            what: format!("`{path}` of the parent"),
                            why: format!("it is longer than {LARGEST_FILE} bytes"),
                        });
                    }
                    Some(content)
                }
                _ => None,
            };
            match entry.into_change() {
                Change::Put(entry) => self.put(entry, content, number),
                Change::Whiteout(path) => {
                    self.hide(&path, number);
                    if self.nodes.get(&path).is_some_and(|node| node.layer < number) {
                        self.nodes.remove(&path);
                    }
                }
                Change::Opaque(Some(path)) => self.hide(&path, number),
                Change::Opaque(None) => self.nodes.retain(|_, node| node.layer >= number),
            }
        }
        reader.finish()?;
        Ok(())
    }

    fn put(&mut self, entry: Entry, content: Option<Vec<u8>>, layer: usize) {
        let Entry { path, kind, mode, uid, gid, mtime, .. } = entry;
        let node = match &kind {
            Kind::HardLink { target } => {
                let Some(file) = self.nodes.get(target) else { return };
                Node { layer, ..file.clone() }
            }
            _ => Node { kind, mode, uid, gid, mtime, content, layer },
        };
        if node.kind != Kind::Directory && self.nodes.get(&path).is_some_and(|it| it.kind == Kind::Directory)
        {
            self.hide(&path, layer + 1);
        }
        self.nodes.insert(path, node);
    }

    /// Removes what layers before `layer` have below a path.
    fn hide(&mut self, path: &EntryPath, layer: usize) {
        let gone: Vec<EntryPath> =
            self.below(path).filter(|(_, node)| node.layer < layer).map(|(path, _)| path.clone()).collect();
        for path in gone {
            self.nodes.remove(&path);
        }
    }

    fn below<'a>(&'a self, path: &'a EntryPath) -> impl Iterator<Item = (&'a EntryPath, &'a Node)> {
        let after = (std::ops::Bound::Excluded(path), std::ops::Bound::Unbounded);
        self.nodes.range::<EntryPath, _>(after).take_while(move |(it, _)| it.is_below(path))
    }

    /// What is at a path, no link followed.
    pub(crate) fn get(&self, path: &EntryPath) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// Whether something is at a path, links followed.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.resolve(path).is_some()
    }

    /// What a path leads to. Links stay inside, as they would for a process in the image.
    pub(crate) fn resolve(&self, path: &str) -> Option<(EntryPath, &Node)> {
        let mut left: Vec<String> = path.rsplit('/').map(ToOwned::to_owned).collect();
        let mut reached: Option<EntryPath> = None;
        let mut links = 0;
        while let Some(part) = left.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    reached = reached.and_then(|path| path.parent());
                    continue;
                }
                _ => {}
            }
            let next = match &reached {
                Some(path) => path.join(&part).ok()?,
                None => EntryPath::new(&part).ok()?,
            };
            match self.nodes.get(&next).map(|node| &node.kind) {
                Some(Kind::Symlink { target }) => {
                    links += 1;
                    if links > MOST_LINKS {
                        return None;
                    }
                    if target.starts_with('/') {
                        reached = None;
                    }
                    left.extend(target.rsplit('/').map(ToOwned::to_owned));
                }
                // Layers need not have entries for the directories on the way.
                Some(_) | None => reached = Some(next),
            }
        }
        let path = reached?;
        let node = self.nodes.get(&path)?;
        Some((path, node))
    }

    /// The content of a file that is kept.
    pub(crate) fn read(&self, path: &str) -> Option<&[u8]> {
        self.resolve(path)?.1.content.as_deref()
    }

    /// The same as text.
    pub(crate) fn text(&self, path: &str) -> Option<String> {
        self.read(path).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    /// The files in a folder whose content is kept, in order of their names.
    pub(crate) fn files_in(&self, folder: &str) -> Vec<(String, &[u8])> {
        let Some((folder, _)) = self.resolve(folder) else { return Vec::new() };
        self.below(&folder)
            .filter(|(path, _)| path.parent().as_ref() == Some(&folder))
            .filter_map(|(path, _)| Some((path.name().to_owned(), self.read(path.as_str())?)))
            .collect()
    }

    /// Whether `alias` is a link to `target`.
    pub(crate) fn is_link(&self, alias: &str, target: &str) -> bool {
        let Ok(path) = EntryPath::new(alias) else { return false };
        matches!(self.get(&path).map(|node| &node.kind), Some(Kind::Symlink { target: found })
            if found.trim_matches('/') == target)
    }

    /// Writes the files of a folder whose content is kept below `root`, where other code reads them as from a system.
    pub(crate) fn export(&self, folder: &str, root: &Path) -> Result<(), Error> {
        let Ok(folder) = EntryPath::new(folder) else { return Ok(()) };
        for (path, _) in self.below(&folder) {
            let Some(content) = self.read(path.as_str()) else { continue };
            write_below(root, path.as_str(), content)?;
        }
        Ok(())
    }
}

/// Writes a file below `root`, with the folders on its way.
pub(crate) fn write_below(root: &Path, path: &str, content: &[u8]) -> Result<(), Error> {
    let path = root.join(path);
    let write = || -> io::Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&path, content)
    };
    write().map_err(crate::error::io("write", &path))
}

fn is_kept(path: &str) -> bool {
    FILES.contains(&path) || FOLDERS.iter().any(|folder| path.starts_with(folder))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use longshore_layer::LayerWriter;

    /// A layer of files (`path`, content), directories (`path/`) and links (`path`, `-> target`).
    pub(crate) fn layer(entries: &[(&str, &str)]) -> Vec<u8> {
        let mut entries = entries.to_vec();
        entries.sort_by_key(|(path, _)| EntryPath::new(path.trim_end_matches('/')).unwrap());
        let mut writer = LayerWriter::new(Vec::new());
        for (path, content) in entries {
            let place = EntryPath::new(path.trim_end_matches('/')).unwrap();
            if path.ends_with('/') {
                writer.add(&Entry::new(place, Kind::Directory, 0o750).owned_by(1, 2)).unwrap();
            } else if let Some(target) = content.strip_prefix("-> ") {
                writer.add(&Entry::symlink(place, target)).unwrap();
            } else if content == "gone" {
                writer.whiteout(&place).unwrap();
            } else {
                writer.file(&Entry::file(place, 0o644), content.as_bytes()).unwrap();
            }
        }
        writer.finish().unwrap().0
    }

    pub(crate) fn system(layers: &[&[(&str, &str)]]) -> System {
        let mut system = System::default();
        for entries in layers {
            system.add_layer(&layer(entries)[..], Compression::Gzip).unwrap();
        }
        system
    }

    #[test]
    fn layers_lie_over_one_another() {
        let system = system(&[
            &[
                ("etc/os-release", "-> ../usr/lib/os-release"),
                ("usr/lib/os-release", "ID=old"),
                ("usr/share/keyrings/", ""),
                ("usr/share/keyrings/a.gpg", "a"),
                ("usr/share/keyrings/b.gpg", "b"),
                ("lib", "-> usr/lib"),
                ("loop", "-> loop"),
                ("srv/", ""),
            ],
            &[("usr/lib/os-release", "ID=new"), ("usr/share/keyrings/a.gpg", "gone")],
        ]);
        assert_eq!(system.text("etc/os-release").as_deref(), Some("ID=new"));
        assert_eq!(system.text("/lib/os-release").as_deref(), Some("ID=new"));
        let keyrings: Vec<_> =
            system.files_in("usr/share/keyrings").into_iter().map(|(name, _)| name).collect();
        assert_eq!(keyrings, ["b.gpg"]);
        let folder = system.get(&EntryPath::new("srv").unwrap()).unwrap();
        assert_eq!((folder.mode, folder.uid, folder.gid), (0o750, 1, 2));
        assert!(system.is_link("lib", "usr/lib") && !system.is_link("bin", "usr/bin"));
        assert!(!system.has("loop") && !system.has("../../x"));
    }

    #[test]
    fn a_directory_that_becomes_a_file_has_nothing_below() {
        let system =
            system(&[&[("etc/apt/", ""), ("etc/apt/sources.list", "deb x")], &[("etc/apt", "file")]]);
        assert!(system.read("etc/apt/sources.list").is_none());
    }
}
