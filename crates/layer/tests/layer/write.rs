//! Layers that we write, as others read them.

use std::{fmt::Write as _, io::Read, process::Command};

use flate2::read::MultiGzDecoder;
use longshore_layer::{
    Entry, Error, Kind, LAYOUT_VERSION, LayerWriter, Level, WriteFault, read::Compression,
};
use longshore_oci::Digest;
use proptest::prelude::*;

use crate::tree::{self, Tree, path, read_back, read_by_tar_crate, run, with_parents, write};

fn unpacked(layer: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    MultiGzDecoder::new(layer).read_to_end(&mut plain).unwrap();
    plain
}

/// Numbers as they come, the same everywhere: what no compressor makes smaller.
pub(crate) fn noise(size: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(size).collect()
}

/// Every kind of entry, every kind of header, every way to store content.
pub(crate) fn sampler() -> Tree {
    let long = "directory/".repeat(12);
    let mut tree = Tree::new();
    let mut put = |entry: Entry, content: Vec<u8>| tree.insert(entry.path.clone(), (entry, content));
    put(Entry::directory(path("opt/venv")), Vec::new());
    put(Entry::file(path("opt/venv/a.py"), 0o644), b"import this\n".repeat(40));
    put(Entry::file(path("opt/venv/empty"), 0o600), Vec::new());
    put(Entry::file(path("opt/venv/noise"), 0o755).changed_at(1_700_000_000), noise(1000));
    put(Entry::file(path("opt/venv/large-noise"), 0o644), noise(200_000));
    put(Entry::file(path("opt/venv/large-text"), 0o644), b"the same again, ".repeat(20_000));
    put(Entry::file(path(&format!("opt/{long}split")), 0o644), b"x".to_vec());
    put(Entry::file(path(&format!("opt/{}", "f".repeat(150))), 0o644), b"y".to_vec());
    put(Entry::file(path("opt/ünïcode"), 0o4755).owned_by(1000, u32::MAX), b"z".to_vec());
    put(Entry::symlink(path("opt/link"), "/usr/bin/python3"), Vec::new());
    put(Entry::symlink(path("opt/long-link"), "../".repeat(50)), Vec::new());
    put(Entry::hard_link(path("opt/venv/b.py"), path("opt/venv/a.py"), 0o644), Vec::new());
    let mut capable = Entry::file(path("usr/bin/ping"), 0o755).changed_at(1 << 35);
    capable.xattrs.insert("security.capability".to_owned(), b"\x01\0\0\x02\n\x20\0\0".to_vec());
    put(capable, b"elf".to_vec());
    for number in 0..200 {
        put(Entry::directory(path(&format!("var/{number}"))), Vec::new());
    }
    tree
}

/// The layout is frozen. If this fails, the bytes of layers changed: either undo that, or count up `LAYOUT_VERSION`
/// and pin the new digests, knowing that every layer that anybody has made will be made and stored anew.
#[test]
fn the_layout_is_frozen() {
    let digests = |level| {
        let mut writer = LayerWriter::with_level(Vec::new(), level);
        for (entry, content) in sampler().values() {
            match entry.kind {
                Kind::File => writer.file(entry, content).unwrap(),
                _ => writer.add(entry).unwrap(),
            }
        }
        writer.whiteout(&path("yesterday/file")).unwrap();
        writer.opaque(Some(&path("z"))).unwrap();
        let (layer, summary) = writer.finish().unwrap();
        (summary.diff_id.to_string(), Digest::of(&layer).to_string(), summary.entries)
    };
    assert_eq!(LAYOUT_VERSION, 1);
    let diff_id = "sha256:7b659d13cd936787753149f28e300fa6838a3014de2f33a23e18e7057caf6809";
    for (level, digest) in [
        (Level::Fast, "sha256:91378302159c226c919e5a8c3a577e77fb15ed79302782c4cb5aab4e2c2e3ec0"),
        (Level::Normal, "sha256:7d2f59e156a8aaf62e18ff89baf06f50a16719059f21971d8d0fc7092747c08e"),
        (Level::Small, "sha256:a807e5a4e5a1f0b330343caf7661cf8ac21814bc41d3c533754e09c757f230d4"),
    ] {
        assert_eq!(digests(level), (diff_id.to_owned(), digest.to_owned(), 233), "{level:?}");
    }
}

#[test]
fn a_layer_of_nothing_is_the_empty_archive() {
    let (layer, summary) = LayerWriter::new(Vec::new()).finish().unwrap();
    assert_eq!(unpacked(&layer), [0; 1024]);
    // Every image with an empty layer has this one.
    let well_known = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";
    assert_eq!(summary.diff_id.to_string(), well_known);
    assert_eq!((summary.uncompressed_size, summary.entries), (1024, 0));
}

#[test]
fn every_content_begins_a_member_of_its_own() {
    let mut writer = LayerWriter::new(Vec::new());
    writer.file(&Entry::file(path("a"), 0o644), b"first").unwrap();
    writer.file(&Entry::file(path("b"), 0o644), &noise(100_000)).unwrap();
    writer.file(&Entry::file(path("c"), 0o644), b"").unwrap();
    let (layer, _) = writer.finish().unwrap();
    let mut members = Vec::new();
    let mut rest = &layer[..];
    while !rest.is_empty() {
        assert_eq!(rest[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
        let mut member = Vec::new();
        let mut decoder = flate2::bufread::GzDecoder::new(rest);
        decoder.read_to_end(&mut member).unwrap();
        rest = decoder.into_inner();
        members.push(member);
    }
    let sizes: Vec<_> = members.iter().map(Vec::len).collect();
    assert_eq!(sizes, [512, 5, 507 + 512, 100_000, 352 + 512 + 1024]);
    assert_eq!((&members[1][..], &members[3][..]), (&b"first"[..], &noise(100_000)[..]));
}

#[test]
fn what_cannot_be_written_is_refused_and_breaks_the_layer() {
    type Work = fn(&mut LayerWriter<Vec<u8>>) -> longshore_layer::Result<()>;
    let fault = |work: Work| {
        let mut writer = LayerWriter::new(Vec::new());
        writer.file(&Entry::file(path("m/file"), 0o644), b"x").unwrap();
        let fault = match work(&mut writer).unwrap_err() {
            Error::Write { fault, .. } => fault,
            other => panic!("{other}"),
        };
        assert!(matches!(writer.add(&Entry::directory(path("z"))), Err(Error::Broken)));
        assert!(matches!(writer.finish(), Err(Error::Broken)));
        fault
    };
    let file = |text: &str| Entry::file(path(text), 0o644);
    assert_eq!(fault(|w| w.file(&Entry::file(path("m/file"), 0), b"")), WriteFault::Duplicate);
    let after = path("m/file");
    assert_eq!(fault(|w| w.add(&Entry::directory(path("m")))), WriteFault::Order { after: after.clone() });
    assert_eq!(fault(|w| w.add(&Entry::directory(path("l/z")))), WriteFault::Order { after: after.clone() });
    assert_eq!(fault(|w| w.add(&Entry::directory(path("m/file/x")))), WriteFault::Parent { parent: after });
    assert_eq!(fault(|w| w.file(&Entry::file(path("n/.wh.x"), 0), b"")), WriteFault::WhiteoutName);
    assert_eq!(fault(|w| w.add(&Entry::directory(path("n/.wh.x/y")))), WriteFault::WhiteoutName);
    assert!(matches!(fault(|w| w.add(&Entry::file(path("n"), 0))), WriteFault::Content { is: "a file", .. }));
    assert!(matches!(fault(|w| w.file(&Entry::directory(path("n")), b"")), WriteFault::Content { .. }));
    assert!(matches!(fault(|w| w.add(&Entry::new(path("n"), Kind::Fifo, 0))), WriteFault::Content { .. }));
    assert_eq!(
        fault(|w| w.file(&Entry::file(path("n"), 0o100_644), b"")),
        WriteFault::Mode { mode: 0o100_644 }
    );
    assert_eq!(fault(|w| w.add(&Entry::symlink(path("n"), ""))), WriteFault::SymlinkTarget);
    assert_eq!(fault(|w| w.add(&Entry::symlink(path("n"), "a\0"))), WriteFault::SymlinkTarget);
    assert_eq!(fault(|w| w.add(&Entry::symlink(path("n"), "a".repeat(4096)))), WriteFault::SymlinkTarget);
    let later = WriteFault::HardLinkOrder { target: path("o") };
    assert_eq!(fault(|w| w.add(&Entry::hard_link(path("n"), path("o"), 0))), later);
    let short = |is| WriteFault::Size { is, size: 4 };
    assert_eq!(fault(|w| w.file_from(&Entry::file(path("n"), 0), 4, &b"abc"[..])), short("less than"));
    assert_eq!(fault(|w| w.file_from(&Entry::file(path("n"), 0), 4, &b"abcde"[..])), short("more than"));
    let large = vec![0; 200_000];
    let mut writer = LayerWriter::new(Vec::new());
    assert!(writer.file_from(&file("n"), 200_001, &large[..]).is_err());
    let mut writer = LayerWriter::new(Vec::new());
    assert!(writer.file_from(&file("n"), 199_999, &large[..]).is_err());
    let mut writer = LayerWriter::new(Vec::new());
    assert!(writer.file_from(&file("n"), 0, &large[..]).is_err());
    assert_eq!(
        fault(|w| {
            let mut entry = Entry::file(path("n"), 0);
            entry.xattrs.insert("a=b".to_owned(), Vec::new());
            w.file(&entry, b"")
        }),
        WriteFault::Xattr { name: "a=b".into() }
    );
}

#[test]
fn a_failing_sink_is_an_error() {
    struct Full(usize);
    impl std::io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut writer = LayerWriter::new(Full(300_000));
    let written: Result<(), Error> =
        (0..10).try_for_each(|n| writer.file(&Entry::file(path(&n.to_string()), 0o644), &noise(100_000)));
    match written {
        Err(Error::Io { action: "writing the layer", source }) => {
            assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
        }
        other => panic!("{other:?}"),
    }
    // Also when all of it only fails at the end, out of the writer's own buffer.
    let mut writer = LayerWriter::new(Full(10));
    writer.file(&Entry::file(path("a"), 0o644), b"x").unwrap();
    assert!(matches!(writer.finish(), Err(Error::Io { .. })));
}

/// Modes, owners, times, links and sizes, as GNU tar lists them and as Python's `tarfile` reads them.
#[test]
fn everybodys_programs_read_the_layer() {
    let tree = sampler();
    let (layer, _) = write(&tree);
    run(Command::new("gzip").arg("-t"), &layer);
    assert_eq!(run(Command::new("gzip").arg("-dc"), &layer), unpacked(&layer));

    let folder = tempfile::tempdir().unwrap();
    run(
        Command::new("tar")
            .args(["-xzp", "--no-same-owner", "--warning=no-timestamp", "-C"])
            .arg(folder.path()),
        &layer,
    );
    for (entry, content) in tree.values() {
        let at = folder.path().join(entry.path.as_str());
        match &entry.kind {
            Kind::File => assert_eq!(&std::fs::read(at).unwrap(), content, "{}", entry.path),
            Kind::Directory => assert!(at.is_dir(), "{}", entry.path),
            Kind::Symlink { target } => assert_eq!(std::fs::read_link(at).unwrap().to_str(), Some(&**target)),
            Kind::HardLink { target } => {
                assert_eq!(std::fs::read(at).unwrap(), tree[target].1, "{}", entry.path);
            }
            other => panic!("{other:?}"),
        }
    }

    let script = "
import io, sys, tarfile
for m in tarfile.open(fileobj=io.BytesIO(sys.stdin.buffer.read()), mode='r:gz'):
    print(m.name, m.type.decode(), oct(m.mode)[2:], m.uid, m.gid, int(m.mtime), m.size, m.linkname, sep='|')
";
    let listed = run(Command::new("python3").args(["-c", script]), &layer);
    let mut expected = String::new();
    for (entry, content) in with_parents(&tree).values() {
        let (kind, link) = match &entry.kind {
            Kind::File => (0, ""),
            Kind::HardLink { target } => (1, target.as_str()),
            Kind::Symlink { target } => (2, &**target),
            _ => (5, ""),
        };
        let Entry { path, mode, uid, gid, mtime, .. } = entry;
        let size = content.len();
        writeln!(expected, "{path}|{kind}|{mode:o}|{uid}|{gid}|{mtime}|{size}|{link}").unwrap();
    }
    assert_eq!(String::from_utf8(listed).unwrap(), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_written_is_read(tree in tree::tree()) {
        let (layer, summary) = write(&tree);
        let plain = unpacked(&layer);
        prop_assert_eq!(Digest::of(&plain), summary.diff_id);
        prop_assert_eq!(plain.len() as u64, summary.uncompressed_size);
        let whole = with_parents(&tree);
        prop_assert_eq!(summary.entries, whole.len() as u64);
        let (read, diff_id) = read_back(&layer, Compression::Gzip);
        prop_assert_eq!(diff_id, summary.diff_id);
        prop_assert!(read == whole);
        let newlines = tree.values().any(|(entry, _)| entry.xattrs.values().any(|value| value.contains(&b'\n')));
        // The crate splits records at newlines.
        if !newlines {
            prop_assert!(read_by_tar_crate(&layer) == whole);
        }
        // The same input gives the same bytes.
        prop_assert_eq!(write(&tree).0, layer);
    }

    #[test]
    fn content_comes_back_however_it_is_read(content in tree::content(), piece in 1_usize..70_000) {
        struct Pieces<'a>(&'a [u8], usize);
        impl Read for Pieces<'_> {
            fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
                let count = self.1.min(bytes.len());
                self.0.read(&mut bytes[..count])
            }
        }
        let entry = Entry::file(path("a"), 0o644);
        let mut writer = LayerWriter::new(Vec::new());
        writer.file(&entry, &content).unwrap();
        let (whole, _) = writer.finish().unwrap();
        let mut writer = LayerWriter::new(Vec::new());
        writer.file_from(&entry, content.len() as u64, Pieces(&content, piece)).unwrap();
        let (pieces, _) = writer.finish().unwrap();
        prop_assert_eq!(&whole, &pieces);
        // Never much larger than stored.
        prop_assert!(whole.len() <= content.len() + content.len() / 1000 + 400);
        prop_assert_eq!(&read_back(&whole, Compression::Gzip).0[&path("a")].1, &content);
    }
}
