//! From packages to layers.

mod certificates;
pub(crate) mod dpkg;
mod excludes;
pub(crate) mod loader;
mod system;
pub(crate) mod tree;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read, Write},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use longshore_layer::{EntryPath, Format, Kind, LayerSummary, LayerWriter};
use longshore_oci::{Arch, Digest, Digester, ImageConfig};
use longshore_store::{Blob, BlobStore};
use serde::{Deserialize, Serialize};

use self::tree::{Content, Node, Owner, Precedence, Tree};
use crate::{
    Error, Event, Group, LockedPackage, ParentPlan, Progress, Python,
    control::Stanza,
    deb::{Deb, Spool},
    relation::groups,
};

/// A parent image: its layers are in the blob store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parent {
    /// The layers, lowest first.
    pub layers: Vec<ParentLayer>,
    /// The configuration: platform, layers, `PATH`, `LANG`, a shell as the command.
    pub config: ImageConfig,
    /// The Python interpreter, if there is one.
    pub python: Option<Python>,
    /// The modules of Python's standard library and of the packages, for which bytecode is to be made: Debian makes it
    /// when it installs, and without it every start compiles what it imports.
    pub python_sources: Vec<PythonSource>,
    /// Packages with an installation script whose work longshore does not do. No script was run.
    pub scripts_not_run: Vec<String>,
}

/// A layer of a parent image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParentLayer {
    /// What is in it.
    pub group: Group,
    /// The digest of the compressed layer.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The digest of the uncompressed layer.
    pub diff_id: Digest,
    /// The size of the uncompressed layer in bytes.
    pub uncompressed_size: u64,
    /// How many entries it has.
    pub entries: u64,
    /// The digest of its table of contents, if it is an eStargz layer.
    pub toc: Option<Digest>,
}

/// A Python module of the image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PythonSource {
    /// Its path below the root.
    pub path: String,
    /// The digest of its text.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// Makes the layers of a parent from the packages of `plan`, which must be in `debs` (see [`fetch`](crate::fetch)), and puts
/// them into `blobs`, in that format. Blocks; packages are unpacked and layers written on all processors.
///
/// The same plan and format give the same bytes, on every machine.
pub fn assemble(
    plan: &ParentPlan,
    format: Format,
    debs: &BlobStore,
    blobs: &BlobStore,
    progress: &Progress<'_>,
) -> Result<Parent, Error> {
    let UnpackedAll { debs, spools } = &unpack(&plan.packages, debs, excludes::is_wanted, progress)?;
    let mut packages = Vec::new();
    for (package, deb) in plan.packages.iter().zip(debs) {
        packages.push((package.name.as_str(), dpkg::control_of(&package.name, deb)?, deb));
    }
    let precedence = Packages::new(&plan.packages, plan.arch, &packages);
    let mut tree = Tree::default();
    // base-files says what the directories are like that many packages have.
    let first = plan.packages.iter().position(|package| package.name == "base-files");
    for position in first.into_iter().chain((0..debs.len()).filter(|position| Some(*position) != first)) {
        for entry in &debs[position].entries {
            tree.add(position, entry, &precedence)?;
        }
    }
    tree.settle(&precedence)?;
    tree.add_aliases()?;
    system::add(&mut tree, spools)?;
    certificates::add(&mut tree, spools)?;
    dpkg::add_alternatives(&mut tree)?;
    loader::add(&mut tree, plan.arch, spools)?;
    dpkg::add(&mut tree, &packages, spools)?;
    tree.settle(&precedence)?;

    let layers = layers(plan, format, &tree, spools, blobs, progress)?;
    let mut config = ImageConfig::linux(plan.arch);
    config.config.set_env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    config.config.set_env("LANG", "C.UTF-8");
    config.config.cmd = Some(vec!["bash".to_owned()]);
    for layer in &layers {
        config.push_layer(layer.diff_id, format!("longshore: {} of {}", layer.group, plan.distribution));
    }
    let has_script = |(_, _, deb): &&Unpacked<'_>| deb.control.contains_key("postinst");
    let scripts_not_run = packages.iter().filter(has_script).map(|(name, ..)| (*name).to_owned());
    Ok(Parent {
        layers,
        config,
        python: plan.python.clone(),
        python_sources: python_sources(&tree, spools)?,
        scripts_not_run: scripts_not_run.filter(|name| !system::script_is_done(name)).collect(),
    })
}

/// Lines of text, each with its end.
fn lines(lines: &[String]) -> String {
    let ends = lines.iter().map(|line| line.len() + 1).sum();
    lines.iter().fold(String::with_capacity(ends), |text, line| text + line + "\n")
}

/// What follows the last dot of a path.
pub(crate) fn extension(path: &str) -> Option<&str> {
    path.rsplit_once('.').map(|(_, extension)| extension)
}

/// A package that was read: its name, its control stanza, and the rest.
pub(crate) type Unpacked<'a> = (&'a str, Stanza, &'a Deb);

/// Packages that were read, in the order of their plan, with the spools that have their files.
pub(crate) struct UnpackedAll {
    pub(crate) debs: Vec<Deb>,
    pub(crate) spools: Vec<Spool>,
}

/// Reads all packages, several at once; of their entries those that are wanted.
pub(crate) fn unpack(
    packages: &[LockedPackage],
    blobs: &BlobStore,
    wanted: impl Fn(&EntryPath, &Kind) -> bool + Sync,
    progress: &Progress<'_>,
) -> Result<UnpackedAll, Error> {
    let mut results: Vec<Option<Deb>> = (0..packages.len()).map(|_| None).collect();
    // The largest first, so that no processor is left with one at the end.
    let mut order: Vec<usize> = (0..packages.len()).collect();
    order.sort_by_key(|position| std::cmp::Reverse(packages[*position].size));
    let next = AtomicUsize::new(0);
    let done = in_parallel(processors().min(order.len().max(1)), |number| {
        let mut spool =
            Spool::new(number).map_err(crate::error::io("create", std::env::temp_dir().as_path()))?;
        let mut read = Vec::new();
        while let Some(position) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            let package = &packages[*position];
            read.push((*position, read_deb(package, blobs, &mut spool, &wanted)?));
            progress(Event::Unpacked { package: package.name.clone(), total: packages.len() });
        }
        Ok((spool, read))
    })?;
    let mut spools = Vec::new();
    for (spool, read) in done {
        spools.push(spool);
        for (position, deb) in read {
            results[position] = Some(deb);
        }
    }
    let debs: Vec<Deb> = results.into_iter().flatten().collect();
    Ok(UnpackedAll { debs, spools })
}

fn processors() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Runs `work(0)` … `work(count - 1)` at the same time; the first error counts.
fn in_parallel<T: Send>(
    count: usize,
    work: impl Fn(usize) -> Result<T, Error> + Sync,
) -> Result<Vec<T>, Error> {
    let results: Mutex<Vec<(usize, Result<T, Error>)>> = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for number in 0..count {
            let (work, results) = (&work, &results);
            scope.spawn(move || {
                let result = work(number);
                results.lock().unwrap_or_else(PoisonError::into_inner).push((number, result));
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Reads a package and checks that it is the one of the plan, byte for byte.
fn read_deb(
    package: &LockedPackage,
    blobs: &BlobStore,
    spool: &mut Spool,
    wanted: &impl Fn(&EntryPath, &Kind) -> bool,
) -> Result<Deb, Error> {
    let name = package.file_name();
    let mut input = Hashing { blob: blobs.open_blob(&package.sha256)?, digester: Digester::new() };
    let deb = Deb::read(&mut input, &name, spool, wanted)?;
    io::copy(&mut input, &mut io::sink()).map_err(crate::error::io("read", &blobs.path(&package.sha256)))?;
    if input.digester.finish() != package.sha256 {
        return Err(Error::Deb {
            deb: name,
            why: "its bytes in the store are not those of the plan".to_owned(),
        });
    }
    Ok(deb)
}

struct Hashing {
    blob: Blob,
    digester: Digester,
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.blob.read(buffer)?;
        self.digester.update(&buffer[..read]);
        Ok(read)
    }
}

/// Which package replaces files of which other.
pub(crate) struct Packages<'a> {
    packages: &'a [LockedPackage],
    replaced: Vec<BTreeSet<usize>>,
}

impl<'a> Packages<'a> {
    pub(crate) fn new(packages: &'a [LockedPackage], arch: Arch, unpacked: &[Unpacked<'_>]) -> Self {
        let replaced = unpacked.iter().map(|(_, control, _)| {
            let relations =
                groups(control.get("Replaces").unwrap_or_default(), arch.as_str()).unwrap_or_default();
            let named = |other: &LockedPackage| {
                relations
                    .iter()
                    .flatten()
                    .any(|it| it.name == other.name && it.admits(other.version.as_str()))
            };
            let all = packages.iter().enumerate();
            all.filter(|(_, other)| named(other)).map(|(position, _)| position).collect()
        });
        Self { packages, replaced: replaced.collect() }
    }
}

impl Precedence for Packages<'_> {
    fn name(&self, package: usize) -> &str {
        &self.packages[package].name
    }

    fn replaces(&self, package: usize, other: usize) -> bool {
        self.replaced[package].contains(&other)
    }
}

/// Writes one layer per group, several at once.
fn layers(
    plan: &ParentPlan,
    format: Format,
    tree: &Tree,
    spools: &[Spool],
    blobs: &BlobStore,
    progress: &Progress<'_>,
) -> Result<Vec<ParentLayer>, Error> {
    let group_of = |node: &Node| match node.owner {
        Owner::Package(position) => plan.packages[position].group,
        Owner::System => Group::System,
    };
    let mut members: BTreeMap<Group, BTreeMap<&EntryPath, &Node>> = BTreeMap::new();
    for node in tree.nodes() {
        let layer = members.entry(group_of(node)).or_default();
        layer.insert(&node.entry.path, node);
        // A directory's mode is that of the topmost layer which has it: each layer repeats those on its way.
        for parent in std::iter::successors(node.entry.path.parent(), EntryPath::parent) {
            if let Some(directory) = tree.get(&parent) {
                layer.insert(&directory.entry.path, directory);
            }
        }
    }
    let members: Vec<(Group, Vec<&Node>)> =
        members.into_iter().map(|(group, nodes)| (group, nodes.into_values().collect())).collect();
    let mut order: Vec<usize> = (0..members.len()).collect();
    let weight = |position: &usize| members[*position].1.iter().map(|node| node.size()).sum::<u64>();
    order.sort_by_key(|position| std::cmp::Reverse(weight(position)));
    let next = AtomicUsize::new(0);
    let done = in_parallel(processors().min(order.len().max(1)), |_| {
        let mut written = Vec::new();
        while let Some(position) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (group, nodes) = &members[*position];
            let layer = write_layer(*group, format, nodes, spools, blobs)?;
            progress(Event::Layer { layer: layer.clone() });
            written.push(layer);
        }
        Ok(written)
    })?;
    let mut layers: Vec<ParentLayer> = done.into_iter().flatten().collect();
    layers.sort_by_key(|layer| layer.group);
    Ok(layers)
}

fn write_layer(
    group: Group,
    format: Format,
    nodes: &[&Node],
    spools: &[Spool],
    blobs: &BlobStore,
) -> Result<ParentLayer, Error> {
    let mut writer = LayerWriter::with_format(blobs.writer(), format)?;
    for node in nodes {
        write_node(&mut writer, node, spools)?;
    }
    let (blob, LayerSummary { diff_id, uncompressed_size, entries, toc }) = writer.finish()?;
    let (digest, size) = blob.commit()?;
    Ok(ParentLayer { group, digest, size, diff_id, uncompressed_size, entries, toc })
}

/// Writes one entry of a layer.
pub(crate) fn write_node<W: Write>(
    writer: &mut LayerWriter<W>,
    node: &Node,
    spools: &[Spool],
) -> Result<(), Error> {
    match (&node.entry.kind, &node.content) {
        (Kind::File, Content::Bytes(content)) => writer.file(&node.entry, content)?,
        (Kind::File, Content::Spooled(extent)) => {
            writer.file_from(&node.entry, extent.size, spools[extent.spool].reader(*extent))?;
        }
        _ => writer.add(&node.entry)?,
    }
    Ok(())
}

fn python_sources(tree: &Tree, spools: &[Spool]) -> Result<Vec<PythonSource>, Error> {
    let mut sources = Vec::new();
    for node in tree.nodes() {
        let path = node.entry.path.as_str();
        let of_python = path.starts_with("usr/lib/python3") || path.starts_with("usr/share/python3/");
        let is_module = path.rsplit_once('.').is_some_and(|(_, extension)| extension == "py");
        if of_python && is_module && node.entry.kind == Kind::File {
            let text = node.read(spools)?;
            sources.push(PythonSource {
                path: path.to_owned(),
                digest: Digest::of(&text),
                size: text.len() as u64,
            });
        }
    }
    Ok(sources)
}
