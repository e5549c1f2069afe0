//! Layers of other people, honest and not.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read, Write},
    process::Command,
};

use flate2::write::GzEncoder;
use longshore_layer::{
    Entry, Error, Kind, LayerWriter, PathFault, Result,
    read::{Change, Compression, LayerReader, ReadFault, ReadLimits, ReadSummary},
};
use longshore_oci::{Digest, MediaType};
use proptest::prelude::*;
use tar::{EntryType, Header};

use crate::{
    tar_factory::{archive, file, pax, raw},
    tree::{path, read_back, run, write},
};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ::zstd::encode_all(bytes, 3).unwrap()
}

/// What a layer does, with the contents of its files.
type Contents = Vec<(Change, Vec<u8>)>;

fn read(input: impl Read, compression: Compression, limits: ReadLimits) -> Result<(Contents, ReadSummary)> {
    let mut reader = LayerReader::within(input, compression, limits)?;
    let mut changes = Vec::new();
    while let Some(mut entry) = reader.next_entry()? {
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(|error| match error.downcast::<Error>() {
            Ok(error) => error,
            Err(error) => panic!("{error}"),
        })?;
        changes.push((entry.into_change(), content));
    }
    Ok((changes, reader.finish()?))
}

fn changes(bytes: &[u8]) -> Vec<Change> {
    let (changes, summary) = read(bytes, Compression::None, ReadLimits::default()).unwrap();
    assert_eq!(summary.diff_id, Digest::of(bytes));
    assert_eq!(summary.uncompressed_size, bytes.len() as u64);
    changes.into_iter().map(|(change, _)| change).collect()
}

/// The refusal of a layer: the entry, if it is for one, and the fault.
fn refusal(bytes: &[u8]) -> (Option<String>, ReadFault) {
    refusal_of(bytes, Compression::None, ReadLimits::default())
}

fn refusal_of(bytes: &[u8], compression: Compression, limits: ReadLimits) -> (Option<String>, ReadFault) {
    match read(bytes, compression, limits) {
        Err(Error::Layer { fault }) => (None, fault),
        Err(Error::LayerEntry { entry, fault }) => (Some(entry), fault),
        Err(other) => panic!("{other}"),
        Ok((changes, _)) => panic!("the layer is accepted: {changes:?}"),
    }
}

#[test]
fn compression_follows_from_the_media_type() {
    assert_eq!(Compression::of(&MediaType::LayerTar), Some(Compression::None));
    assert_eq!(Compression::of(&MediaType::DockerLayerGzip), Some(Compression::Gzip));
    assert_eq!(Compression::of(&MediaType::LayerZstd), Some(Compression::Zstd));
    assert_eq!(Compression::of(&MediaType::Config), None);
}

#[test]
fn all_compressions_and_many_members_read_the_same() {
    let plain = archive(&[file("a"), raw(b"d/", b'5', b"", b""), file("d/b")]);
    let (first, second) = plain.split_at(700);
    let members = [gzip(first), gzip(b""), gzip(second)].concat();
    let frames = [zstd(first), zstd(second)].concat();
    let expected = read(&plain[..], Compression::None, ReadLimits::default()).unwrap();
    for (bytes, compression) in [
        (gzip(&plain), Compression::Gzip),
        (members, Compression::Gzip),
        (zstd(&plain), Compression::Zstd),
        (frames, Compression::Zstd),
    ] {
        assert_eq!(read(&bytes[..], compression, ReadLimits::default()).unwrap(), expected);
    }
}

#[test]
fn the_digest_covers_what_follows_the_archive() {
    let mut plain = archive(&[file("a")]);
    plain.extend_from_slice(&[0; 8192]);
    plain.extend_from_slice(b"whatever stands here");
    assert_eq!(changes(&plain).len(), 1);
    let summary = LayerReader::new(&gzip(&plain)[..], Compression::Gzip).unwrap().finish().unwrap();
    assert_eq!(summary.diff_id, Digest::of(&plain));
    assert_eq!(summary.entries, 1);
}

#[test]
fn names_are_read_as_unpackers_read_them() {
    let names: Vec<_> = changes(&archive(&[
        raw(b"./", b'5', b"", b""),
        raw(b"./usr/", b'5', b"", b""),
        file("/usr/bin/./env"),
        raw(b"old-directory/", 0, b"", b""),
        file("a\\b"),
    ]))
    .into_iter()
    .map(|change| match change {
        Change::Put(entry) => (entry.path.to_string(), entry.kind == Kind::Directory),
        other => panic!("{other:?}"),
    })
    .collect();
    let expected = [("usr", true), ("usr/bin/env", false), ("old-directory", true), ("a\\b", false)];
    assert_eq!(names, expected.map(|(name, directory)| (name.to_owned(), directory)));
}

#[test]
fn paths_and_links_that_escape_are_refused() {
    let path_fault = |bytes: Vec<u8>| match refusal(&archive(&[bytes])) {
        (Some(_), ReadFault::Path { what, fault, .. }) => (what, fault),
        other => panic!("{other:?}"),
    };
    assert_eq!(path_fault(file("../evil")), ("path", PathFault::DotDot));
    assert_eq!(path_fault(file("a/../../evil")), ("path", PathFault::DotDot));
    assert_eq!(path_fault(raw(b"\xff", b'0', b"", b"")), ("path", PathFault::NotUtf8));
    assert_eq!(path_fault([pax(&[("path", b"../x")]), file("a")].concat()), ("path", PathFault::DotDot));
    assert_eq!(path_fault([pax(&[("path", b"a\0b")]), file("a")].concat()), ("path", PathFault::Nul));
    assert_eq!(
        path_fault([raw(b"L", b'L', b"", b"../x\0"), file("a")].concat()),
        ("path", PathFault::DotDot)
    );
    let part = "p".repeat(256);
    assert_eq!(
        path_fault([pax(&[("path", part.as_bytes())]), file("a")].concat()),
        ("path", PathFault::PartTooLong)
    );
    let long = "p/".repeat(2999) + "p";
    assert_eq!(
        path_fault([pax(&[("path", long.as_bytes())]), file("a")].concat()),
        ("path", PathFault::TooLong)
    );
    assert_eq!(
        path_fault(raw(b"l", b'1', b"../../etc/shadow", b"")),
        ("hard link target", PathFault::DotDot)
    );
    assert_eq!(path_fault(raw(b"l", b'1', b"", b"")), ("hard link target", PathFault::Empty));
    assert_eq!(path_fault(raw(b"/", b'2', b"x", b"")), ("path", PathFault::Empty));
    assert!(matches!(refusal(&archive(&[raw(b"l", b'1', b"/", b"")])).1, ReadFault::LinkTarget));
    assert!(matches!(refusal(&archive(&[raw(b"l", b'2', b"", b"")])).1, ReadFault::LinkTarget));
    // A symbolic link may point anywhere: it is resolved inside the image.
    let link = changes(&archive(&[raw(b"l", b'2', b"/../../x", b"")]));
    assert_eq!(
        link,
        [Change::Put(Entry::new(path("l"), Kind::Symlink { target: "/../../x".into() }, 0o644))]
    );
}

#[test]
fn whiteouts_are_values() {
    let read = changes(&archive(&[
        file("a/.wh.gone"),
        file(".wh.top"),
        file("b/.wh..wh..opq"),
        raw(b".wh..wh..opq", b'1', b".wh..wh.aufs", b""),
        raw(b".wh..wh.plnk/", b'5', b"", b""),
        file(".wh..wh.plnk/12.34"),
        file("a/not.wh.this"),
    ]));
    assert_eq!(read[0], Change::Whiteout(path("a/gone")));
    assert_eq!(read[1], Change::Whiteout(path("top")));
    assert_eq!(read[2], Change::Opaque(Some(path("b"))));
    assert_eq!(read[3], Change::Opaque(None));
    assert!(matches!(&read[4], Change::Put(entry) if entry.path == path("a/not.wh.this")));
    assert_eq!(read.len(), 5);
    for wrong in ["a/.wh.", "a/.wh..", "a/.wh...", "a/.wh.x/b"] {
        let (entry, fault) = refusal(&archive(&[file(wrong)]));
        assert!(matches!(fault, ReadFault::Whiteout), "{wrong}: {fault}");
        assert_eq!(entry.as_deref(), Some(wrong));
    }
}

#[test]
fn written_whiteouts_are_read() {
    let mut writer = LayerWriter::new(Vec::new());
    writer.opaque(None).unwrap();
    writer.whiteout(&path("a")).unwrap();
    writer.whiteout(&path("b/c/d")).unwrap();
    writer.file(&Entry::file(path("b/c/e"), 0o644), b"e").unwrap();
    writer.opaque(Some(&path("f"))).unwrap();
    let (layer, summary) = writer.finish().unwrap();
    let (read, read_summary) = read(&layer[..], Compression::Gzip, ReadLimits::default()).unwrap();
    assert_eq!(read_summary.diff_id, summary.diff_id);
    let read: Vec<_> = read.into_iter().map(|(change, _)| change).collect();
    let directory = |text| Change::Put(Entry::directory(path(text)));
    let expected = [
        Change::Opaque(None),
        Change::Whiteout(path("a")),
        directory("b"),
        directory("b/c"),
        Change::Whiteout(path("b/c/d")),
        Change::Put(Entry::file(path("b/c/e"), 0o644)),
        directory("f"),
        Change::Opaque(Some(path("f"))),
    ];
    assert_eq!(read, expected);
}

#[test]
fn devices_and_extended_attributes_are_read() {
    let device = |name: &str, kind| {
        let mut header = Header::new_ustar();
        header.set_path(name).unwrap();
        header.set_entry_type(kind);
        header.set_mode(0o666);
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(9);
        header.set_size(0);
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    let capability = b"\x01\0\0\x02\n\x20\0\0\n";
    let read = changes(&archive(&[
        device("dev/null", EntryType::Char),
        device("dev/sda", EntryType::Block),
        raw(b"pipe", b'6', b"", b""),
        pax(&[
            ("SCHILY.xattr.security.capability", capability),
            ("gid", b"4000000000"),
            ("mtime", b"17.5"),
            ("path", "bin/p\u{ef}ng".as_bytes()),
            ("uid", b"3000000"),
        ]),
        file("ping"),
        raw(b"git", b'g', b"", b"52 comment=0123456789012345678901234567890123456789\n"),
        file("after"),
    ]));
    let kind = Kind::CharacterDevice { major: 1, minor: 3 };
    assert_eq!(read[0], Change::Put(Entry::new(path("dev/null"), kind, 0o666).owned_by(7, 8).changed_at(9)));
    assert!(matches!(&read[1], Change::Put(entry) if entry.kind == Kind::BlockDevice { major: 1, minor: 3 }));
    assert!(matches!(&read[2], Change::Put(entry) if entry.kind == Kind::Fifo));
    let mut ping =
        Entry::file(path("bin/p\u{ef}ng"), 0o644).owned_by(3_000_000, 4_000_000_000).changed_at(17);
    ping.xattrs = BTreeMap::from([("security.capability".to_owned(), capability.to_vec())]);
    assert_eq!(read[3], Change::Put(ping));
    assert!(matches!(&read[4], Change::Put(entry) if entry.path == path("after") && entry.xattrs.is_empty()));
}

#[test]
fn what_readers_take_differently_is_refused() {
    let fault = |entries: &[Vec<u8>]| refusal(&archive(entries)).1;
    for flag in [b'1', b'2', b'3', b'4', b'5', b'6'] {
        assert!(matches!(fault(&[raw(b"a", flag, b"b", &[7; 512])]), ReadFault::Content), "{flag}");
    }
    assert!(matches!(fault(&[raw(b"a/", b'0', b"", b"x")]), ReadFault::Content));
    assert!(matches!(fault(&[raw(b"a", b'S', b"", b"")]), ReadFault::Sparse));
    assert!(matches!(fault(&[raw(b"a", b'S', b"", b"x")]), ReadFault::Sparse));
    assert!(matches!(fault(&[pax(&[("GNU.sparse.major", b"1")]), file("a")]), ReadFault::Sparse));
    assert!(matches!(fault(&[raw(b"a", b'V', b"", b"")]), ReadFault::Type(b'V')));
    let twice = pax(&[("path", b"a"), ("path", b"b")]);
    assert!(matches!(fault(&[twice, file("c")]), ReadFault::Pax("a key stands twice")));
    let kinds = [pax(&[("path", b"a")]), raw(b"L", b'L', b"", b"b\0"), file("c")];
    assert!(matches!(fault(&kinds), ReadFault::Pax(_)));
    let two = "two extended headers of one kind";
    let same = [pax(&[("path", b"a")]), pax(&[("path", b"b")]), file("c")];
    assert!(matches!(fault(&same), ReadFault::Header { why, .. } if why == two));
    let nothing = "an extended header is followed by nothing";
    assert!(matches!(fault(&[pax(&[("path", b"a")])]), ReadFault::Header { why, .. } if why == nothing));
}

#[test]
fn a_pax_size_holds() {
    // The header says 7 bytes, the record 600; the file is what the record says.
    let mut entry = raw(b"a", b'0', b"", b"content");
    entry.truncate(512);
    entry.extend_from_slice(&[b'x'; 1024]);
    let bytes = archive(&[pax(&[("size", b"1024")]), entry, file("b")]);
    let (read, _) = read(&bytes[..], Compression::None, ReadLimits::default()).unwrap();
    assert_eq!((read.len(), read[0].1.len(), &read[1].1[..]), (2, 1024, &b"content"[..]));
}

#[test]
fn long_names_of_gnu_tar_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let name = format!("{}/{}", "d".repeat(120), "n".repeat(200));
    fs::create_dir_all(folder.path().join("t").join("d".repeat(120))).unwrap();
    fs::write(folder.path().join("t").join(&name), "hello").unwrap();
    std::os::unix::fs::symlink("l".repeat(300), folder.path().join("t/link")).unwrap();
    fs::hard_link(folder.path().join("t").join(&name), folder.path().join("t/z-hard")).unwrap();
    for format in ["gnu", "posix"] {
        let mut command = Command::new("tar");
        command.arg("-C").arg(folder.path()).arg(format!("--format={format}"));
        let plain = run(command.args(["--sort=name", "-cf", "-", "./t"]), b"");
        let (tree, digest) = read_back(&plain, Compression::None);
        assert_eq!(digest, Digest::of(&plain));
        let (entry, content) = &tree[&path(&format!("t/{name}"))];
        assert_eq!((&content[..], &entry.kind), (&b"hello"[..], &Kind::File), "{format}");
        assert_eq!(tree[&path("t/link")].0.kind, Kind::Symlink { target: "l".repeat(300) });
        assert_eq!(tree[&path("t/z-hard")].0.kind, Kind::HardLink { target: path(&format!("t/{name}")) });
    }
}

#[test]
fn cut_off_layers_are_refused_wherever_they_are_cut() {
    let plain = archive(&[file("a"), raw(b"d/", b'5', b"", b""), file("d/b")]);
    // Of the two blocks at the end, one is enough, as it is for others.
    for cut in 0..plain.len() - 512 {
        assert!(matches!(refusal(&plain[..cut]), (None, ReadFault::Truncated)), "{cut}");
    }
    for (bytes, compression) in [(gzip(&plain), Compression::Gzip), (zstd(&plain), Compression::Zstd)] {
        for cut in 1..bytes.len() {
            let (_, fault) = refusal_of(&bytes[..cut], compression, ReadLimits::default());
            assert!(matches!(fault, ReadFault::Compression { .. }), "{compression:?} {cut}: {fault}");
        }
    }
    let (_, fault) = refusal_of(b"", Compression::Gzip, ReadLimits::default());
    assert!(matches!(fault, ReadFault::Compression { .. }));
    // Compression says where the end is: archives without their end blocks are in use, and without the padding of the last
    // file; but not without a part of its content.
    let bare = &plain[..plain.len() - 1024];
    let unpadded = &bare[..=bare.iter().rposition(|byte| *byte != 0).unwrap()];
    for whole in [bare, unpadded] {
        let read = read(&gzip(whole)[..], Compression::Gzip, ReadLimits::default()).unwrap();
        assert_eq!((read.0.len(), read.1.diff_id), (3, Digest::of(whole)));
    }
    let (_, fault) =
        refusal_of(&gzip(&unpadded[..unpadded.len() - 1]), Compression::Gzip, ReadLimits::default());
    assert!(matches!(fault, ReadFault::Truncated), "{fault}");
}

#[test]
fn garbage_after_the_compressed_layer_is_refused() {
    let plain = archive(&[file("a")]);
    for (bytes, compression) in [(gzip(&plain), Compression::Gzip), (zstd(&plain), Compression::Zstd)] {
        for garbage in [
            &b"x"[..],
            &[0],
            &[0; 512],
            b"\x1f\x8b",
            b"\x28\xb5\x2f\xfd",
            &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0, 1],
        ] {
            let bytes = [&bytes[..], garbage].concat();
            let (_, fault) = refusal_of(&bytes, compression, ReadLimits::default());
            assert!(matches!(fault, ReadFault::Compression { .. }), "{compression:?} {garbage:?}: {fault}");
        }
    }
}

#[test]
fn limits_hold() {
    let plain = archive(&[file("a"), file("b"), file("c")]);
    let limited = |change: fn(&mut ReadLimits)| {
        let mut limits = ReadLimits::default();
        change(&mut limits);
        refusal_of(&plain, Compression::None, limits)
    };
    assert!(matches!(limited(|l| l.entries = 2), (None, ReadFault::TooManyEntries { limit: 2 })));
    assert!(matches!(
        limited(|l| l.entry_size = 6),
        (Some(_), ReadFault::EntryTooLarge { size: 7, limit: 6 })
    ));
    assert!(matches!(limited(|l| l.total_size = 4095), (None, ReadFault::TooLarge { limit: 4095 })));
    let exact = ReadLimits { entries: 3, entry_size: 7, total_size: 4096 };
    assert_eq!(read(&plain[..], Compression::None, exact).unwrap().0.len(), 3);
    // Bombs: a gigabyte of zeros after the archive, and of extended header before the entry.
    let bomb = [gzip(&plain), gzip(&vec![0; 64 << 20]).repeat(16)].concat();
    let limits = ReadLimits { total_size: 100 << 20, ..ReadLimits::default() };
    assert!(matches!(refusal_of(&bomb, Compression::Gzip, limits).1, ReadFault::TooLarge { .. }));
    for flag in [b'x', b'L', b'K', b'g'] {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::new(flag));
        header.set_size(1 << 40);
        header.set_cksum();
        let endless = header.as_bytes().chain(io::repeat(0));
        match read(endless, Compression::None, ReadLimits::default()) {
            Err(Error::Layer { fault: ReadFault::HeadersTooLarge { .. } }) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_is_not_read_is_passed_over() {
    let tree = [("a", vec![1; 100_000]), ("b", vec![2; 700]), ("c", vec![])];
    let tree = tree.map(|(name, content)| (path(name), (Entry::file(path(name), 0o644), content))).into();
    let (layer, summary) = write(&tree);
    let mut reader = LayerReader::new(&layer[..], Compression::Gzip).unwrap();
    let mut some = [0; 10];
    reader.next_entry().unwrap().unwrap().read_exact(&mut some).unwrap();
    assert_eq!(some, [1; 10]);
    assert_eq!(reader.next_entry().unwrap().unwrap().size(), 700);
    let read = reader.finish().unwrap();
    assert_eq!(
        (read.diff_id, read.entries, read.uncompressed_size),
        (summary.diff_id, 3, summary.uncompressed_size)
    );
}

#[test]
fn after_an_error_there_is_nothing() {
    let bytes = archive(&[file("a"), file("../b"), file("c")]);
    let mut reader = LayerReader::new(&bytes[..], Compression::None).unwrap();
    assert!(reader.next_entry().unwrap().is_some());
    assert!(reader.next_entry().is_err());
    assert!(reader.next_entry().is_err());
    assert!(reader.finish().is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever is done to a layer of ours: an error, or the very same digest and content.
    #[test]
    fn a_damaged_layer_gives_an_error_or_another_digest(
        damage in prop::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 1..4),
        unpacked: bool,
    ) {
        let entries = [("a/b", b"hello ".repeat(50)), ("c", vec![3; 1000])];
        let tree = entries.map(|(name, content)| (path(name), (Entry::file(path(name), 0o644), content))).into();
        let (layer, summary) = write(&tree);
        let (mut bytes, compression) = if unpacked {
            let mut plain = Vec::new();
            flate2::read::MultiGzDecoder::new(&layer[..]).read_to_end(&mut plain).unwrap();
            (plain, Compression::None)
        } else {
            (layer.clone(), Compression::Gzip)
        };
        let honest = read(&bytes[..], compression, ReadLimits::default()).unwrap();
        for (at, mask) in &damage {
            let at = at.index(bytes.len());
            bytes[at] ^= mask;
        }
        if let Ok(read) = read(&bytes[..], compression, ReadLimits::default())
            && read.1.diff_id == summary.diff_id
        {
            prop_assert_eq!(read, honest);
        }
    }

    #[test]
    fn any_bytes_are_refused_or_read(bytes: Vec<u8>, blocks in prop::collection::vec(any::<u8>(), 512..2048)) {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let _ = read(&bytes[..], compression, ReadLimits::default());
        }
        let _ = read(&gzip(&blocks)[..], Compression::Gzip, ReadLimits::default());
        let mut header = Header::new_ustar();
        let length = blocks.len().min(512);
        header.as_mut_bytes()[..length].copy_from_slice(&blocks[..length]);
        header.set_size(100);
        header.set_cksum();
        let _ = read(&[header.as_bytes(), &blocks[..]].concat()[..], Compression::None, ReadLimits::default());
    }
}
