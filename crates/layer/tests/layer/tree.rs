//! Trees of entries, and what four readers make of a layer of them.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    process::{Command, Stdio},
};

use longshore_layer::{
    Entry, EntryPath, Kind, LayerSummary, LayerWriter,
    read::{Change, Compression, LayerReader},
};
use longshore_oci::Digest;
use proptest::prelude::*;

/// What is at each path.
pub(crate) type Tree = BTreeMap<EntryPath, (Entry, Vec<u8>)>;

pub(crate) fn path(text: &str) -> EntryPath {
    EntryPath::new(text).unwrap()
}

/// Writes a tree, with the directories that it lacks left to the writer.
pub(crate) fn write(tree: &Tree) -> (Vec<u8>, LayerSummary) {
    let mut writer = LayerWriter::new(Vec::new());
    for (entry, content) in tree.values() {
        match entry.kind {
            Kind::File => writer.file(entry, content).unwrap(),
            _ => writer.add(entry).unwrap(),
        }
    }
    writer.finish().unwrap()
}

/// The tree with the directories that the writer adds.
pub(crate) fn with_parents(tree: &Tree) -> Tree {
    let mut whole = tree.clone();
    for (entry, _) in tree.values() {
        let mut above = entry.path.parent();
        while let Some(directory) = above {
            above = directory.parent();
            let entry = Entry::directory(directory.clone()).changed_at(entry.mtime);
            whole.entry(directory).or_insert((entry, Vec::new()));
        }
    }
    whole
}

/// A layer as our reader sees it.
pub(crate) fn read_back(layer: &[u8], compression: Compression) -> (Tree, Digest) {
    let mut tree = Tree::new();
    let mut reader = LayerReader::new(layer, compression).unwrap();
    while let Some(mut entry) = reader.next_entry().unwrap() {
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        assert_eq!(content.len() as u64, entry.size());
        match entry.into_change() {
            Change::Put(entry) => {
                let twice = tree.insert(entry.path.clone(), (entry, content));
                assert!(twice.is_none());
            }
            other => panic!("{other:?}"),
        }
    }
    (tree, reader.finish().unwrap().diff_id)
}

/// A layer as the `tar` crate sees it.
pub(crate) fn read_by_tar_crate(layer: &[u8]) -> Tree {
    let mut archive = tar::Archive::new(flate2::read::MultiGzDecoder::new(layer));
    let mut tree = Tree::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        let link = entry.link_name_bytes().map(|link| String::from_utf8(link.into_owned()).unwrap());
        let header = entry.header().clone();
        let kind = match header.entry_type() {
            tar::EntryType::Regular => Kind::File,
            tar::EntryType::Directory => Kind::Directory,
            tar::EntryType::Symlink => Kind::Symlink { target: link.unwrap() },
            tar::EntryType::Link => Kind::HardLink { target: path(&link.unwrap()) },
            other => panic!("{other:?}"),
        };
        let mut ours = Entry::new(path(name.trim_end_matches('/')), kind, header.mode().unwrap())
            .owned_by(header.uid().unwrap().try_into().unwrap(), header.gid().unwrap().try_into().unwrap())
            .changed_at(header.mtime().unwrap());
        for extension in entry.pax_extensions().unwrap().into_iter().flatten() {
            let extension = extension.unwrap();
            let key = extension.key().unwrap();
            if key == "mtime" {
                ours.mtime = extension.value().unwrap().parse().unwrap();
            }
            if let Some(name) = key.strip_prefix("SCHILY.xattr.") {
                ours.xattrs.insert(name.to_owned(), extension.value_bytes().to_vec());
            }
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        tree.insert(ours.path.clone(), (ours, content));
    }
    tree
}

/// Runs a program with `input`; what it prints. It must succeed and have nothing to complain about.
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Vec<u8> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} is needed by this test: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{command:?}");
    output.stdout
}

fn part() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => "[a-c]{1,2}",
        2 => "[a-c][a-cäß\\\\ .!-]{0,8}x",
        1 => "[a-z]{60,130}",
        1 => "é{40,100}",
    ]
}

fn entry_path() -> impl Strategy<Value = EntryPath> {
    prop::collection::vec(part(), 1..5).prop_map(|parts| path(&parts.join("/")))
}

pub(crate) fn content() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        2 => Just(Vec::new()),
        4 => prop::collection::vec(any::<u8>(), 0..2000),
        2 => ("[a-z ]{1,30}", 1..900_usize).prop_map(|(text, times)| text.repeat(times).into_bytes()),
        // Larger than the sample: of one nature or the other to its end, or changing in the middle.
        1 => (any::<u32>(), any::<bool>(), any::<bool>(), 100_000..300_000_usize).prop_map(|(seed, first, second, size)| {
            let mut state = u64::from(seed) | 1;
            let mut noise = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                state.to_be_bytes()[0]
            };
            let mut byte = |noisy| if noisy { noise() } else { b'a' };
            (0..size).map(|at| byte(if at < 131_070 { first } else { second })).collect()
        }),
    ]
}

fn kind() -> impl Strategy<Value = (Kind, Vec<u8>)> {
    prop_oneof![
        5 => content().prop_map(|content| (Kind::File, content)),
        2 => Just((Kind::Directory, Vec::new())),
        1 => "[a-z./é]{1,150}".prop_map(|target| (Kind::Symlink { target }, Vec::new())),
        1 => Just((Kind::HardLink { target: path("!first") }, Vec::new())),
    ]
}

fn number(limit: u64) -> impl Strategy<Value = u64> {
    prop_oneof![3 => Just(0), 1 => 0..=limit]
}

/// Trees in which no path leads through a file.
pub(crate) fn tree() -> impl Strategy<Value = Tree> {
    let xattrs = prop::collection::btree_map(
        "(user|security)\\.[a-z]{1,9}",
        prop::collection::vec(any::<u8>(), 0..40),
        0..3,
    );
    let entry = (
        entry_path(),
        kind(),
        0..=0o7777_u32,
        number(u32::MAX.into()),
        number(1 << 36),
        prop::option::weighted(0.1, xattrs),
    );
    prop::collection::vec(entry, 0..25).prop_map(|entries| {
        let first = Entry::file(path("!first"), 0o644);
        let mut tree = Tree::from([(first.path.clone(), (first, b"first".to_vec()))]);
        for (path, (kind, content), mode, owner, mtime, xattrs) in entries {
            let mut above = path.parent();
            let mut through_file = false;
            while let Some(directory) = above {
                through_file |= tree.get(&directory).is_some_and(|(entry, _)| entry.kind != Kind::Directory);
                above = directory.parent();
            }
            let has_below = tree.keys().any(|other| other.is_below(&path));
            if through_file || has_below && kind != Kind::Directory {
                continue;
            }
            let id = owner.try_into().unwrap();
            let mut entry = Entry::new(path.clone(), kind, mode).owned_by(id, id / 2).changed_at(mtime);
            entry.xattrs = xattrs.unwrap_or_default();
            tree.insert(path, (entry, content));
        }
        tree
    })
}
