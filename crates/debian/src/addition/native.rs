//! A layer of packages, of which nothing is run.

use std::{collections::BTreeMap, io::Write};

use longshore_layer::{Entry, EntryPath, Kind, LayerSummary, LayerWriter};
use longshore_store::BlobStore;

use super::{
    Addition, OsRelease,
    filters::Filters,
    installed::{Database, Installed, STATUS, STATUS_FOLDER},
    system::System,
};
use crate::{
    Error, Progress,
    image::{
        self, Packages, dpkg, loader,
        tree::{Node, Tree},
    },
};

/// Writes the layer of an addition whose way is [`Way::Native`](super::Way::Native): the packages' files, what dpkg knows of
/// them, and the loader's cache. The packages must be in `debs`. Blocks.
///
/// The same image and packages give the same bytes, on every machine.
pub fn write_native<W: Write>(
    system: &System,
    addition: &Addition,
    debs: &BlobStore,
    mut writer: LayerWriter<W>,
    progress: &Progress<'_>,
) -> Result<(W, LayerSummary), Error> {
    let os = OsRelease::of(system)?;
    let installed = Installed::of(system, addition.arch, &os)?;
    let filters = Filters::of(system);
    let wanted = |path: &EntryPath, kind: &Kind| filters.wants(path, kind);
    let unpacked = image::unpack(&addition.packages, debs, wanted, progress)?;
    let (debs, spools) = (&unpacked.debs, &unpacked.spools);
    let mut packages = Vec::new();
    for (package, deb) in addition.packages.iter().zip(debs) {
        packages.push((package.name.as_str(), dpkg::control_of(&package.name, deb)?, deb));
    }
    let precedence = Packages::new(&addition.packages, addition.arch, &packages);
    let mut tree = Tree::default();
    for (position, deb) in debs.iter().enumerate() {
        for entry in &deb.entries {
            tree.add(position, entry, &precedence)?;
        }
    }
    tree.settle(&precedence)?;
    libraries(&mut tree, system, addition, &packages, spools)?;
    let mut added = String::new();
    for (position, package) in packages.iter().enumerate() {
        let (name, control, deb) = package;
        match installed.database {
            Database::Status => {
                added.push('\n');
                added += &dpkg::add_package(&mut tree, position, package, spools)?.to_text();
            }
            Database::Folder => {
                tree.file(&format!("{STATUS_FOLDER}/{name}"), 0o644, control.to_text())?;
                if let Some(sums) = deb.control.get("md5sums") {
                    tree.file(&format!("{STATUS_FOLDER}/{name}.md5sums"), 0o644, sums.clone())?;
                }
            }
        }
    }
    if installed.database == Database::Status {
        let status = system.text(STATUS).unwrap_or_default();
        tree.file(STATUS, 0o644, format!("{}\n{added}", status.trim_end_matches('\n')))?;
    }
    for (entry, node) in members(&tree, system).into_values() {
        match node {
            Some(node) => image::write_node(&mut writer, node, spools)?,
            None => writer.add(&entry)?,
        }
    }
    Ok(writer.finish()?)
}

/// Adds the new libraries to the loader's cache, if packages ask for that and the image has somebody who would do it.
fn libraries(
    tree: &mut Tree,
    system: &System,
    addition: &Addition,
    packages: &[image::Unpacked<'_>],
    spools: &[crate::deb::Spool],
) -> Result<(), Error> {
    let asks = |(_, _, deb): &image::Unpacked<'_>| {
        let triggers = deb.control.get("triggers").map(|it| String::from_utf8_lossy(it).into_owned());
        triggers.is_some_and(|text| text.split_ascii_whitespace().any(|word| word == "ldconfig"))
    };
    if !packages.iter().any(asks) || !system.has("var/lib/dpkg/triggers/ldconfig") {
        return Ok(());
    }
    let Some(cache) = system.read("etc/ld.so.cache") else { return Ok(()) };
    let conf = system.text("etc/ld.so.conf").unwrap_or_default();
    let mut fragments = system.files_in("etc/ld.so.conf.d");
    fragments.retain(|(name, _)| image::extension(name) == Some("conf"));
    let fragments = fragments.into_iter().map(|(_, text)| String::from_utf8_lossy(text).into_owned());
    let folders = loader::folders(&conf, &fragments.collect::<Vec<_>>());
    let new = loader::libraries(tree, &folders, addition.arch, spools)?;
    if let Some(cache) = loader::extended(cache, new, addition.arch) {
        tree.file("etc/ld.so.cache", 0o644, cache)?;
    }
    Ok(())
}

/// What goes into the layer, in its order. A directory that the image has stays as it is there, and stands in the layer where
/// something lies in it.
fn members<'a>(tree: &'a Tree, system: &System) -> BTreeMap<EntryPath, (Entry, Option<&'a Node>)> {
    let mut members = BTreeMap::new();
    let existing = |path: &EntryPath| system.get(path).filter(|node| node.kind == Kind::Directory);
    for node in tree.nodes() {
        let path = &node.entry.path;
        if node.entry.kind == Kind::Directory && existing(path).is_some() {
            continue;
        }
        members.insert(path.clone(), (node.entry.clone(), Some(node)));
        for parent in std::iter::successors(path.parent(), EntryPath::parent) {
            if members.contains_key(&parent) {
                break;
            }
            if let Some(there) = existing(&parent) {
                let entry = Entry::new(parent.clone(), Kind::Directory, there.mode)
                    .owned_by(there.uid, there.gid)
                    .changed_at(there.mtime);
                members.insert(parent, (entry, None));
            } else if let Some(node) = tree.get(&parent) {
                members.insert(parent, (node.entry.clone(), Some(node)));
            }
        }
    }
    members
}
