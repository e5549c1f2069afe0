//! Layers in Zstandard: the archive of the ordinary layer, in frames that `zstd` reads.

use std::{io::Cursor, process::Command};

use longshore_layer::{
    Entry, Error, Format, Kind, LayerSummary, LayerWriter,
    read::Compression,
    zip::Archive,
    zstd::{ZSTD_VERSION, library},
};
use longshore_oci::Digest;
use proptest::prelude::*;

use crate::{
    tree::{self, Tree, path, read_back, run, with_parents},
    write::{noise, sampler},
    zip_factory::{Item, archive},
};

fn write(tree: &Tree) -> (Vec<u8>, LayerSummary) {
    let mut writer = LayerWriter::with_format(Vec::new(), Format::Zstd).unwrap();
    for (entry, content) in tree.values() {
        match entry.kind {
            Kind::File => writer.file(entry, content).unwrap(),
            _ => writer.add(entry).unwrap(),
        }
    }
    writer.finish().unwrap()
}

/// The frames of a layer: the decompressed size that each states, and whether it has a checksum (RFC 8878 §3.1.1).
fn frames(mut layer: &[u8]) -> Vec<(u64, bool)> {
    let mut frames = Vec::new();
    while !layer.is_empty() {
        assert_eq!(layer[..4], [0x28, 0xb5, 0x2f, 0xfd]);
        let size = zstd::zstd_safe::get_frame_content_size(layer).unwrap().unwrap();
        frames.push((size, layer[4] & 4 != 0));
        layer = &layer[zstd::zstd_safe::find_frame_compressed_size(layer).unwrap()..];
    }
    frames
}

/// Frozen, like the ordinary layout. The library is part of it: a new one that gives other bytes is known by its
/// version, which is part of what layers are remembered under.
#[test]
fn the_layout_is_frozen() {
    let (layer, summary) = write(&sampler());
    assert_eq!((ZSTD_VERSION, library()), (1, 10_507));
    let digest = "sha256:7ca99da91c37c41f07fd05b0ae8bcae3a519b9fe93be39601287e241255e8f01";
    assert_eq!(Digest::of(&layer).to_string(), digest);
    assert_eq!(summary.diff_id, tree::write(&sampler()).1.diff_id);
}

#[test]
fn a_large_layer_is_cut_into_frames_that_do_not_depend_on_how_it_was_read() {
    let content: Vec<u8> = noise(3_000_000).repeat(4);
    let layer_of = |reads: usize| {
        let mut writer = LayerWriter::with_format(Vec::new(), Format::Zstd).unwrap();
        let content =
            content.chunks(reads).fold(Box::new(std::io::empty()) as Box<dyn std::io::Read>, |all, piece| {
                Box::new(std::io::Read::chain(all, piece))
            });
        writer.file_from(&Entry::file(path("large"), 0o644), 12_000_000, content).unwrap();
        writer.finish().unwrap()
    };
    let (layer, summary) = layer_of(1_000_000);
    assert_eq!(layer, layer_of(777_777).0);
    let (piece, whole) = (4 << 20, summary.uncompressed_size);
    assert_eq!(frames(&layer), [(piece, true), (piece, true), (whole - 2 * piece, true)]);
    let (tree, diff_id) = read_back(&layer, Compression::Zstd);
    assert_eq!(tree[&path("large")].1, content);
    assert_eq!(diff_id, summary.diff_id);
}

#[test]
fn wheels_streams_are_inflated_and_checked() {
    let zip = archive(&[Item::deflated("large.bin", &noise(300_000)), Item::stored("stored", b"text")]);
    let splice = |format, zip: &[u8]| {
        let mut archive = Archive::open(Cursor::new(zip.to_vec())).unwrap();
        let mut writer = LayerWriter::with_format(Vec::new(), format).unwrap();
        for (index, name) in ["large.bin", "stored"].into_iter().enumerate() {
            writer.splice(&Entry::file(path(name), 0o644), &mut archive, index)?;
        }
        writer.finish()
    };
    let (layer, summary) = splice(Format::Zstd, &zip).unwrap();
    assert_eq!(summary, splice(Format::Plain, &zip).unwrap().1);
    assert_eq!(read_back(&layer, Compression::Zstd).0[&path("large.bin")].1, noise(300_000));
    let mut damaged = zip.clone();
    damaged[150_000] ^= 1;
    assert!(matches!(splice(Format::Zstd, &damaged), Err(Error::ZipEntry { .. })));
}

#[test]
fn content_of_another_size_is_refused() {
    for size in [2, 4] {
        let mut writer = LayerWriter::with_format(Vec::new(), Format::Zstd).unwrap();
        assert!(writer.file_from(&Entry::file(path("f"), 0o644), size, &b"abc"[..]).is_err(), "{size}");
    }
}

#[test]
fn zstd_and_tar_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let (layer, summary) = write(&sampler());
    let file = folder.path().join("layer.tar.zst");
    std::fs::write(&file, &layer).unwrap();
    let plain = run(Command::new("zstd").arg("-dc"), &layer);
    assert_eq!(Digest::of(&plain), summary.diff_id);
    let options = ["--zstd", "-xp", "--no-same-owner", "--warning=no-timestamp", "-f"];
    run(Command::new("tar").args(options).arg(&file).arg("-C").arg(folder.path()), b"");
    assert_eq!(std::fs::read(folder.path().join("opt/venv/large-noise")).unwrap(), noise(200_000));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn what_is_written_is_read(tree in tree::tree()) {
        let (layer, summary) = write(&tree);
        let (read, diff_id) = read_back(&layer, Compression::Zstd);
        prop_assert!(read == with_parents(&tree));
        prop_assert_eq!(diff_id, summary.diff_id);
    }
}
