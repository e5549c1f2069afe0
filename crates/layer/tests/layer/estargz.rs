//! eStargz layers, read by the specification (stargz-snapshotter, `docs/estargz.md`) and by those who do not know it.

use std::{collections::BTreeMap, fs, io::Read, process::Command};

use base64::{Engine, engine::general_purpose::STANDARD};
use flate2::{bufread::GzDecoder, read::MultiGzDecoder};
use longshore_layer::{
    Entry, Error, Format, Kind, LayerSummary, LayerWriter, WriteFault, estargz::ESTARGZ_VERSION,
    read::Compression, zip::Archive,
};
use longshore_oci::Digest;
use proptest::prelude::*;
use serde_json::Value;

use crate::{
    tree::{self, Tree, path, read_back, run, with_parents},
    write::{noise, sampler},
    zip_factory::{Item, archive},
};

const LANDMARK: &str = ".no.prefetch.landmark";
const TOC: &str = "stargz.index.json";

fn write(tree: &Tree) -> (Vec<u8>, LayerSummary) {
    let mut writer = LayerWriter::with_format(Vec::new(), Format::Estargz).unwrap();
    for (entry, content) in tree.values() {
        match entry.kind {
            Kind::File => writer.file(entry, content).unwrap(),
            _ => writer.add(entry).unwrap(),
        }
    }
    writer.finish().unwrap()
}

/// The gzip members of a layer: where each begins, and what it contains.
fn members(layer: &[u8]) -> BTreeMap<usize, Vec<u8>> {
    let mut members = BTreeMap::new();
    let mut rest = layer;
    while !rest.is_empty() {
        let offset = layer.len() - rest.len();
        let mut decoder = GzDecoder::new(rest);
        let mut plain = Vec::new();
        decoder.read_to_end(&mut plain).unwrap();
        rest = decoder.into_inner();
        members.insert(offset, plain);
    }
    members
}

/// The table of contents: found by the footer, checked by its digest.
fn table(layer: &[u8], summary: &LayerSummary) -> (usize, Vec<Value>) {
    let footer = &layer[layer.len() - 51..];
    assert_eq!(&footer[..4], [0x1f, 0x8b, 8, 4], "gzip with an extra field");
    assert_eq!(&footer[10..16], [26, 0, b'S', b'G', 22, 0]);
    assert_eq!(&footer[32..38], b"STARGZ");
    assert_eq!(&footer[38..], [1, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]);
    let offset = usize::from_str_radix(std::str::from_utf8(&footer[16..32]).unwrap(), 16).unwrap();

    let members = members(layer);
    assert_eq!(members.keys().nth_back(1), Some(&offset), "the table's member is the last but the footer");
    let mut archive = tar::Archive::new(&members[&offset][..]);
    let mut entries = archive.entries().unwrap();
    let mut entry = entries.next().unwrap().unwrap();
    assert_eq!(entry.path_bytes(), TOC.as_bytes());
    let mut json = Vec::new();
    entry.read_to_end(&mut json).unwrap();
    assert!(entries.next().is_none(), "the table is the last entry");
    assert_eq!(Some(Digest::of(&json)), summary.toc);
    let json: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["version"], 1);
    (offset, json["entries"].as_array().unwrap().clone())
}

/// The tree that the table describes, each content taken from its member alone.
fn read_by_table(layer: &[u8], summary: &LayerSummary) -> Tree {
    let (_, rows) = table(layer, summary);
    assert_eq!(rows.len() as u64 + 1, summary.entries);
    let mut tree = Tree::new();
    for row in rows {
        let text = |field: &str| row[field].as_str().unwrap().to_owned();
        let number = |field: &str| row[field].as_u64();
        let name = text("name");
        let kind = match row["type"].as_str().unwrap() {
            "reg" => Kind::File,
            "dir" => Kind::Directory,
            "symlink" => Kind::Symlink { target: text("linkName") },
            "hardlink" => Kind::HardLink { target: path(&text("linkName")) },
            other => panic!("{other}"),
        };
        assert_eq!(name.ends_with('/'), kind == Kind::Directory);
        let mut entry =
            Entry::new(path(name.trim_end_matches('/')), kind, number("mode").unwrap().try_into().unwrap());
        entry.uid = number("uid").unwrap().try_into().unwrap();
        entry.gid = number("gid").unwrap().try_into().unwrap();
        if row.get("modtime").is_some() {
            let time: jiff::Timestamp = text("modtime").parse().unwrap();
            assert!(text("modtime").ends_with('Z'));
            entry.mtime = time.as_second().try_into().unwrap();
        }
        for (name, value) in row["xattrs"].as_object().into_iter().flatten() {
            entry.xattrs.insert(name.clone(), STANDARD.decode(value.as_str().unwrap()).unwrap());
        }
        let mut content = Vec::new();
        if let Some(offset) = number("offset") {
            let member = &layer[usize::try_from(offset).unwrap()..];
            GzDecoder::new(member).read_to_end(&mut content).unwrap();
            assert_eq!(text("digest"), Digest::of(&content).to_string());
            assert_eq!(text("chunkDigest"), text("digest"));
        }
        assert_eq!(number("size").unwrap_or(0), content.len() as u64, "{name}");
        assert!(row.get("chunkSize").is_none() && row.get("chunkOffset").is_none());
        let twice = tree.insert(entry.path.clone(), (entry, content));
        assert!(twice.is_none());
    }
    tree
}

/// What the format adds to a tree, but for the table.
fn with_landmark(mut tree: Tree) -> Tree {
    tree.insert(path(LANDMARK), (Entry::file(path(LANDMARK), 0o644), vec![0x0f]));
    tree
}

/// The layout is frozen, as the ordinary one is: if this fails, count up `ESTARGZ_VERSION` and pin the new digests.
#[test]
fn the_layout_is_frozen() {
    let (layer, summary) = write(&sampler());
    assert_eq!(ESTARGZ_VERSION, 1);
    let digests =
        [summary.diff_id, summary.toc.unwrap(), Digest::of(&layer)].map(|digest| digest.to_string());
    let pinned = [
        "sha256:a5097a4b232cb8644184589845f5772f0b2595aceb9a3983f68ec975b3f99d4a",
        "sha256:8aad42cbe0f1861a6d47a9a0e7ed6a989e59def0286ce69cc6ef8c5bc658619e",
        "sha256:bd53b6134fc3378a3c403c263aea95a75859ffe5d16de9c50a999fb115183d2f",
    ];
    assert_eq!(digests, pinned);
}

#[test]
fn the_table_describes_every_entry() {
    let tree = sampler();
    let (layer, summary) = write(&tree);
    assert!(read_by_table(&layer, &summary) == with_landmark(with_parents(&tree)));
}

#[test]
fn a_layer_of_nothing_has_a_table() {
    let (layer, summary) = write(&Tree::new());
    assert!(read_by_table(&layer, &summary) == with_landmark(Tree::new()));
    assert_eq!(summary.entries, 2);
}

/// A chunk of a spliced file is the zip's DEFLATE stream, and nothing is compressed otherwise than in an ordinary layer.
#[test]
fn nothing_is_compressed_again() {
    let zip = archive(&[Item::deflated("large.bin", &noise(300_000)), Item::stored("stored", b"text")]);
    let splice = |format| {
        let mut archive = Archive::open(std::io::Cursor::new(&zip)).unwrap();
        let mut writer = LayerWriter::with_format(Vec::new(), format).unwrap();
        for (index, name) in ["large.bin", "stored"].into_iter().enumerate() {
            writer.splice(&Entry::file(path(name), 0o644), &mut archive, index).unwrap();
        }
        writer.finish().unwrap()
    };
    let (plain, ordinary) = splice(Format::Plain);
    let (layer, summary) = splice(Format::Estargz);
    assert_eq!((ordinary.toc, ordinary.entries), (None, 2));
    assert_eq!(read_by_table(&layer, &summary)[&path("large.bin")].1, noise(300_000));
    let (_, rows) = table(&layer, &summary);
    for name in ["large.bin", "stored"] {
        let row = rows.iter().find(|row| row["name"] == name).unwrap();
        let begin = usize::try_from(row["offset"].as_u64().unwrap()).unwrap();
        let end = *members(&layer).keys().find(|offset| **offset > begin).unwrap();
        let member = &layer[begin..end];
        assert!(plain.windows(member.len()).any(|window| window == member), "{name}");
    }
}

#[test]
fn whiteouts_are_in_the_table() {
    let mut writer = LayerWriter::with_format(Vec::new(), Format::Estargz).unwrap();
    writer.whiteout(&path("a/gone")).unwrap();
    writer.opaque(Some(&path("b"))).unwrap();
    let (layer, summary) = writer.finish().unwrap();
    let names: Vec<_> = table(&layer, &summary).1.iter().map(|row| row["name"].clone()).collect();
    assert_eq!(names, [LANDMARK, "a/", "a/.wh.gone", "b/", "b/.wh..wh..opq"]);
}

#[test]
fn what_estargz_cannot_say_is_refused() {
    let fault = |add: &dyn Fn(&mut LayerWriter<Vec<u8>>) -> longshore_layer::Result<()>| {
        let mut writer = LayerWriter::with_format(Vec::new(), Format::Estargz).unwrap();
        match add(&mut writer) {
            Err(Error::Write { fault, .. }) => fault,
            other => panic!("{other:?}"),
        }
    };
    for name in [TOC, LANDMARK, ".prefetch.landmark"] {
        let refused = fault(&|writer| writer.file(&Entry::file(path(name), 0o644), b""));
        assert_eq!(refused, WriteFault::EstargzName, "{name}");
        // Elsewhere, and in ordinary layers, they are names like others.
        let inner = Entry::file(path(&format!("app/{name}")), 0o644);
        LayerWriter::with_format(Vec::new(), Format::Estargz).unwrap().file(&inner, b"").unwrap();
        LayerWriter::new(Vec::new()).file(&Entry::file(path(name), 0o644), b"").unwrap();
    }
    let link = Entry::hard_link(path("b"), path("a"), 0o644);
    let elsewhere = fault(&|writer| writer.add(&link));
    assert_eq!(elsewhere, WriteFault::HardLinkElsewhere { target: path("a") });
}

/// GNU gzip and tar, Python's `gzip` and `tarfile`, and our reader see an ordinary layer with two files more.
#[test]
fn everybody_else_reads_an_ordinary_layer() {
    let tree = sampler();
    let (layer, summary) = write(&tree);
    let mut plain = Vec::new();
    MultiGzDecoder::new(&layer[..]).read_to_end(&mut plain).unwrap();
    assert_eq!((Digest::of(&plain), plain.len() as u64), (summary.diff_id, summary.uncompressed_size));
    assert_eq!(run(Command::new("gzip").arg("-dc"), &layer), plain);

    let (mut read, diff_id) = read_back(&layer, Compression::Gzip);
    assert_eq!(diff_id, summary.diff_id);
    let (toc, json) = read.remove(&path(TOC)).unwrap();
    assert_eq!((toc.mode, Some(Digest::of(&json))), (0o644, summary.toc));
    assert!(read == with_landmark(with_parents(&tree)));

    let folder = tempfile::tempdir().unwrap();
    let options = ["-xzp", "--no-same-owner", "--warning=no-timestamp", "-C"];
    run(Command::new("tar").args(options).arg(folder.path()), &layer);
    assert_eq!(fs::read(folder.path().join(TOC)).unwrap(), json);
    assert_eq!(fs::read(folder.path().join("opt/venv/large-noise")).unwrap(), noise(200_000));

    let script = "
import gzip, hashlib, io, sys, tarfile
data = sys.stdin.buffer.read()
print(hashlib.sha256(gzip.decompress(data)).hexdigest())
for m in tarfile.open(fileobj=io.BytesIO(data), mode='r:gz'):
    print(m.name)
";
    let printed = String::from_utf8(run(Command::new("python3").args(["-c", script]), &layer)).unwrap();
    let mut lines = printed.lines();
    assert_eq!(format!("sha256:{}", lines.next().unwrap()), summary.diff_id.to_string());
    let mut expected = vec![LANDMARK.to_owned()];
    expected.extend(with_parents(&tree).keys().map(ToString::to_string));
    expected.push(TOC.to_owned());
    assert_eq!(lines.collect::<Vec<_>>(), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_table_is_right_whatever_is_written(tree in tree::tree()) {
        let (layer, summary) = write(&tree);
        prop_assert!(read_by_table(&layer, &summary) == with_landmark(with_parents(&tree)));
        let (mut read, diff_id) = read_back(&layer, Compression::Gzip);
        prop_assert_eq!(diff_id, summary.diff_id);
        prop_assert!(read.remove(&path(TOC)).is_some());
        prop_assert!(read == with_landmark(with_parents(&tree)));
        prop_assert_eq!(write(&tree).0, layer);
    }
}
