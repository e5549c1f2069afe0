//! Layers spliced from zip archives.

use std::{
    fs,
    io::{self, Cursor, Write},
    process::Command,
};

use longshore_layer::{
    Entry, Error, Format, LayerSummary, LayerWriter, Result, WriteFault,
    read::Compression,
    zip::{Archive, ZipFault, ZipKind},
};
use proptest::prelude::*;

use crate::{
    tree::{self, Tree, path, read_back, run},
    zip_factory::{Item, archive, archive_with, deflate, end64},
};

/// The layer of everything in a zip archive.
fn splice(bytes: &[u8]) -> Result<(Vec<u8>, LayerSummary)> {
    let mut archive = Archive::open(Cursor::new(bytes))?;
    let mut order: Vec<_> = archive.entries().iter().cloned().enumerate().collect();
    order.sort_by(|(_, left), (_, right)| left.path.cmp(&right.path));
    let mut writer = LayerWriter::new(Vec::new());
    for (index, entry) in order {
        match entry.kind {
            ZipKind::Directory => writer.add(&Entry::directory(entry.path))?,
            ZipKind::File => writer.splice(&Entry::file(entry.path, 0o644), &mut archive, index)?,
        }
    }
    writer.finish()
}

/// The files of a layer.
fn files(layer: &[u8]) -> Vec<(String, Vec<u8>)> {
    let (tree, _) = read_back(layer, Compression::Gzip);
    let files = tree.into_values().filter(|(entry, _)| entry.kind == longshore_layer::Kind::File);
    files.map(|(entry, content)| (entry.path.to_string(), content)).collect()
}

fn fault(bytes: &[u8]) -> ZipFault {
    match splice(bytes) {
        Err(Error::ZipEntry { fault, .. } | Error::Zip { fault }) => fault,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("a layer was made"),
    }
}

#[test]
fn the_very_bytes_of_the_zip_stand_in_the_layer() {
    let content = b"def f():\n    return 1\n".repeat(100);
    let (layer, _) = splice(&archive(&[Item::deflated("m.py", &content)])).unwrap();
    let stream = deflate(&content);
    let mut member = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    member.extend_from_slice(&stream);
    member.extend_from_slice(&crc32fast::hash(&content).to_le_bytes());
    member.extend_from_slice(&u32::try_from(content.len()).unwrap().to_le_bytes());
    assert!(layer.windows(member.len()).any(|window| window == member));
}

#[test]
fn all_shapes_of_archive_give_the_same_layer() {
    let text = b"some text, some more text".repeat(10);
    let expected = splice(&archive(&[Item::deflated("a", &text), Item::deflated("b", b"")])).unwrap().0;
    let described = archive(&[Item::deflated("a", &text).described(true, 4), Item::deflated("b", b"")]);
    assert_eq!(splice(&described).unwrap().0, expected);
    let unordered = archive(&[Item::deflated("b", b""), Item::deflated("a", &text).described(false, 8)]);
    assert_eq!(splice(&unordered).unwrap().0, expected);
    let zip64 = archive_with(b"", &[Item::deflated("a", &text), Item::stored("b", b"")], |end| {
        end.zip64 = Some(end64(end));
    });
    assert_eq!(splice(&zip64).unwrap().0, expected);
}

#[test]
fn stored_content_gives_the_layer_that_the_same_content_gives_otherwise() {
    for content in [b"text ".repeat(30_000), (0..=255).collect(), Vec::new()] {
        let (spliced, _) = splice(&archive(&[Item::stored("a", &content)])).unwrap();
        let mut writer = LayerWriter::new(Vec::new());
        writer.file(&Entry::file(path("a"), 0o644), &content).unwrap();
        assert_eq!(spliced, writer.finish().unwrap().0);
    }
}

/// An output that has the archive's file.
struct Holder {
    archive: Vec<u8>,
    layer: Vec<u8>,
    copied: usize,
}

impl Write for Holder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.layer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn copied_streams_are_given_with_their_place_and_the_layer_is_the_same() {
    let noise: Vec<u8> = (0..300_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
    let items = [
        Item::deflated("a", &noise),
        Item::deflated("b", b""),
        Item::stored("c", b"stored"),
        Item::deflated("d", b"described").described(true, 4),
    ];
    let bytes = archive(&items);
    let streams: usize = [0, 3].map(|index| items[index].data.len()).iter().sum();
    for format in [Format::Plain, Format::Estargz, Format::Zstd] {
        let layer = |copying| {
            let holder = Holder { archive: bytes.clone(), layer: Vec::new(), copied: 0 };
            let mut writer = LayerWriter::with_format(holder, format).unwrap();
            if copying {
                writer = writer.copying(|holder, offset, bytes| {
                    let from = usize::try_from(offset).unwrap();
                    assert_eq!(&holder.archive[from..from + bytes.len()], bytes);
                    holder.copied += bytes.len();
                    holder.write_all(bytes)
                });
            }
            let mut archive = Archive::open(Cursor::new(&bytes)).unwrap();
            for (index, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
                writer.splice(&Entry::file(path(name), 0o644), &mut archive, index).unwrap();
            }
            writer.finish().unwrap()
        };
        let ((copying, summary), (plain, expected)) = (layer(true), layer(false));
        assert!(copying.layer == plain.layer && summary == expected, "{format:?}");
        let taken_over = if format == Format::Zstd { 0 } else { streams };
        assert_eq!((copying.copied, plain.copied), (taken_over, 0), "{format:?}");
    }
}

/// Larger than every buffer, with matches over the whole window, in one stream and in stored blocks.
#[test]
fn large_content_is_spliced_whole() {
    let mut content = Vec::new();
    for number in 0..400_000_u32 {
        content.extend_from_slice(&(number.wrapping_mul(2_654_435_761) >> (number % 29)).to_le_bytes());
    }
    for item in [Item::deflated("a", &content), Item::stored("a", &content)] {
        let (layer, _) = splice(&archive(&[item])).unwrap();
        assert_eq!(files(&layer), [("a".to_owned(), content.clone())]);
    }
}

#[test]
fn a_zip_that_lies_gives_an_error_and_no_layer() {
    let text = b"print('hello, hello, hello')";
    let honest = || Item::deflated("a", text);
    assert_eq!(fault(&archive(&[honest().both(|header| header.crc32 ^= 1)])), ZipFault::Crc);
    assert_eq!(fault(&archive(&[Item::stored("a", text).both(|header| header.crc32 ^= 1)])), ZipFault::Crc);
    assert_eq!(fault(&archive(&[Item::stored("a", b"").both(|header| header.crc32 = 1)])), ZipFault::Crc);
    assert_eq!(fault(&archive(&[Item::deflated("a", b"").both(|header| header.crc32 = 1)])), ZipFault::Crc);
    for change in [1, u32::MAX] {
        let resized =
            honest().both(|header| header.uncompressed_size = header.uncompressed_size.wrapping_add(change));
        assert_eq!(fault(&archive(&[resized])), ZipFault::UncompressedSize);
    }
    let data = |change: fn(&mut Vec<u8>)| {
        let mut item = honest();
        change(&mut item.data);
        let size = item.data.len().try_into().unwrap();
        fault(&archive(&[item.both(|header| header.compressed_size = size)]))
    };
    assert_eq!(data(|data| data.extend_from_slice(b"more")), ZipFault::StreamEndsEarly);
    assert_eq!(data(|data| data.truncate(data.len() - 2)), ZipFault::StreamEndsLate);
    assert_eq!(data(Vec::clear), ZipFault::Bomb { packed: 0, unpacked: 28 });
    assert_eq!(data(|data| data[0] |= 0b110), ZipFault::Stream);
    // More than a buffer of bytes after the end of the stream.
    assert_eq!(data(|data| data.resize(200_000, 0)), ZipFault::StreamEndsEarly);
    for method in [1, 9, 12, 14, 93, 95, 99] {
        assert_eq!(
            fault(&archive(&[honest().both(|header| header.method = method)])),
            ZipFault::Method { method }
        );
    }
    // Content that is not empty for a file that says it is.
    let hidden = honest().both(|header| (header.uncompressed_size, header.crc32) = (0, 0));
    assert_eq!(fault(&archive(&[hidden])), ZipFault::UncompressedSize);
}

#[test]
fn after_a_lie_the_layer_is_broken() {
    let bytes =
        archive(&[Item::deflated("a", b"hello").both(|header| header.crc32 ^= 1), Item::stored("b", b"")]);
    let mut zip = Archive::open(Cursor::new(&bytes)).unwrap();
    let mut writer = LayerWriter::new(Vec::new());
    assert!(writer.splice(&Entry::file(path("a"), 0o644), &mut zip, 0).is_err());
    assert!(matches!(writer.splice(&Entry::file(path("b"), 0o644), &mut zip, 1), Err(Error::Broken)));
    assert!(matches!(writer.finish(), Err(Error::Broken)));
}

#[test]
fn an_archive_that_shrinks_while_it_is_read_is_an_error() {
    for item in [Item::stored("a", &[7; 1000]), Item::deflated("a", &[7; 1000])] {
        let bytes = archive(&[item]);
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("wheel");
        fs::write(&at, &bytes).unwrap();
        let mut zip = Archive::open(fs::File::open(&at).unwrap()).unwrap();
        fs::OpenOptions::new().write(true).open(&at).unwrap().set_len(40).unwrap();
        let mut writer = LayerWriter::new(Vec::new());
        match writer.splice(&Entry::file(path("a"), 0o644), &mut zip, 0).unwrap_err() {
            Error::ZipEntry { entry, fault: ZipFault::Truncated } => assert_eq!(entry, "a"),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn only_files_can_be_spliced() {
    let bytes = archive(&[Item::deflated("a", b"x")]);
    let mut zip = Archive::open(Cursor::new(&bytes)).unwrap();
    let mut writer = LayerWriter::new(Vec::new());
    let refused = writer.splice(&Entry::directory(path("a")), &mut zip, 0).unwrap_err();
    assert!(matches!(refused, Error::Write { fault: WriteFault::Content { is: "a directory", .. }, .. }));
    assert_eq!(
        refused.to_string(),
        "cannot add `a` to the layer: it is a directory, and only files have content"
    );
}

/// Archives as Python's own `zipfile` writes them: to a file, to a pipe (data descriptors), with zip64 forced.
#[test]
fn archives_of_pythons_zipfile_are_spliced() {
    let folder = tempfile::tempdir().unwrap();
    let script = "
import io, os, sys, zipfile
class Pipe(io.RawIOBase):
    def __init__(self, path): self.f = open(path, 'wb')
    def writable(self): return True
    def write(self, b): return self.f.write(b)
os.chdir(sys.argv[1])
for name in ['file', 'pipe', 'zip64', 'pipe64']:
    target = Pipe(name) if name.startswith('pipe') else name
    with zipfile.ZipFile(target, 'w') as z:
        for i, method in enumerate([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED] * 3):
            info = zipfile.ZipInfo(f'pkg/m\\u00f6dule{i}.py')
            info.compress_type = method
            info.external_attr = 0o100755 << 16
            with z.open(info, 'w', force_zip64=name.endswith('64')) as f:
                f.write(b'x = 1\\n' * i * 1000)
        z.mkdir('pkg/empty') if hasattr(z, 'mkdir') else z.writestr('pkg/empty/', b'')
    if name.startswith('pipe'): target.f.close()
";
    run(Command::new("python3").args(["-c", script]).arg(folder.path()), b"");
    for name in ["file", "pipe", "zip64", "pipe64"] {
        let bytes = fs::read(folder.path().join(name)).unwrap();
        let (layer, _) = splice(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        let expected: Vec<_> =
            (0..6).map(|i| (format!("pkg/m\u{f6}dule{i}.py"), b"x = 1\n".repeat(i * 1000))).collect();
        assert_eq!(files(&layer), expected, "{name}");
    }
}

/// A random tree's files as entries of a zip, some stored, some with descriptors.
fn items() -> impl Strategy<Value = (Tree, Vec<Item>)> {
    (tree::tree(), any::<u64>()).prop_map(|(tree, choices)| {
        let mut files: Tree = tree;
        files.retain(|_, (entry, _)| entry.kind == longshore_layer::Kind::File);
        // Zips know neither backslashes nor names that differ in case or normalisation.
        files.retain(|path, _| path.as_str().is_ascii() && !path.as_str().contains('\\'));
        let mut items = Vec::new();
        for (index, (path, (_, content))) in files.iter().enumerate() {
            let item = match choices >> (index % 32 * 2) & 3 {
                0 => Item::stored(path.as_str(), content),
                1 => Item::deflated(path.as_str(), content),
                2 => Item::deflated(path.as_str(), content).described(true, 4),
                _ => Item::stored(path.as_str(), content).described(false, 8),
            };
            items.push(item);
        }
        (files, items)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_was_zipped_is_in_the_layer((tree, items) in items()) {
        let (layer, summary) = splice(&archive(&items)).unwrap();
        let expected: Vec<_> = tree.values().map(|(entry, content)| (entry.path.to_string(), content.clone())).collect();
        prop_assert_eq!(files(&layer), expected);
        prop_assert_eq!(read_back(&layer, Compression::Gzip).1, summary.diff_id);
    }

    /// Whatever is done to a byte of a zip: an error, or the same contents.
    #[test]
    fn a_damaged_zip_gives_an_error_or_the_same_content(
        damage in prop::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 1..4),
        cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        let text = b"import os\nimport sys\n".repeat(5);
        let mut bytes = archive(&[
            Item::directory("pkg/"),
            Item::deflated("pkg/a.py", &text),
            Item::stored("pkg/b.py", b"stored"),
            Item::deflated("pkg/c.py", &text).described(true, 4),
        ]);
        let honest = files(&splice(&bytes).unwrap().0);
        for (at, mask) in &damage {
            let at = at.index(bytes.len());
            bytes[at] ^= mask;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok((layer, _)) = splice(&bytes) {
            prop_assert_eq!(files(&layer), honest);
        }
    }

    #[test]
    fn any_bytes_are_no_zip_or_a_checked_one(bytes: Vec<u8>, end in any::<[u8; 18]>()) {
        let mut bytes = bytes;
        let _ = splice(&bytes);
        bytes.extend_from_slice(b"PK\x05\x06");
        bytes.extend_from_slice(&end);
        let _ = splice(&bytes);
    }
}

/// One bit at a time, all of them.
#[test]
fn every_single_bit_of_a_zip_matters_or_changes_nothing() {
    let text = b"import os\nimport sys\n".repeat(3);
    let whole = archive(&[Item::deflated("a.py", &text), Item::stored("b", b"stored").described(true, 4)]);
    let honest = files(&splice(&whole).unwrap().0);
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok((layer, _)) = splice(&bytes) {
            assert_eq!(files(&layer), honest, "bit {bit}");
        }
    }
}
