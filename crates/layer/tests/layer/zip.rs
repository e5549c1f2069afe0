//! Every way in which a zip archive is refused, and what is accepted.

use std::io::Cursor;

use crate::zip_factory::{self, Item, archive, archive_with, end64, extra};
use longshore_layer::{
    Error, PathFault,
    zip::{Archive, Method, ZipFault, ZipLimits},
};

/// Why the archive, or an entry of it, is refused: the entry and the fault.
fn refusal(bytes: &[u8]) -> (Option<String>, ZipFault) {
    refusal_within(bytes, &ZipLimits::default())
}

fn refusal_within(bytes: &[u8], limits: &ZipLimits) -> (Option<String>, ZipFault) {
    match Archive::open_within(Cursor::new(bytes), limits).map(drop) {
        Err(Error::Zip { fault }) => (None, fault),
        Err(Error::ZipEntry { entry, fault }) => (Some(entry), fault),
        Err(other) => panic!("{other}"),
        Ok(()) => panic!("the archive is accepted"),
    }
}

/// The refusal of an archive with `item` between two honest entries, which must be for `item`.
fn item_refusal(item: Item) -> ZipFault {
    let name = String::from_utf8_lossy(&item.central.name).trim_end_matches('/').to_owned();
    let bytes = archive(&[Item::deflated("1", b"first"), item, Item::stored("z", b"last")]);
    let (entry, fault) = refusal(&bytes);
    assert_eq!(entry.unwrap().trim_end_matches('/'), name);
    fault
}

fn file() -> Item {
    Item::deflated("pkg/file.py", b"print('hello, hello, hello')")
}

fn contents(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = Archive::open(Cursor::new(bytes)).unwrap();
    let names: Vec<_> = archive.entries().iter().map(|entry| entry.path.to_string()).collect();
    names.into_iter().enumerate().map(|(index, name)| (name, archive.read(index, 1 << 20).unwrap())).collect()
}

#[test]
fn honest_archives_are_read() {
    let bytes = archive(&[
        Item::directory("pkg/"),
        file(),
        Item::stored("pkg/ä.bin", &[0, 1, 2]),
        Item::deflated("pkg/empty", b""),
        Item::stored("PKG.txt", b""),
    ]);
    let archive = Archive::open(Cursor::new(&bytes)).unwrap();
    let entries = archive.entries();
    assert_eq!(entries.len(), 5);
    assert!(entries[0].is_dir() && !entries[1].is_dir());
    assert_eq!((entries[1].method, entries[2].method), (Method::Deflate, Method::Stored));
    assert_eq!((entries[0].unix_mode, entries[1].unix_mode), (Some(0o040_755), Some(0o100_644)));
    assert_eq!(entries[1].host_system, 3);
    assert_eq!(archive.find("pkg/ä.bin"), Some(2));
    assert_eq!(archive.find("pkg/"), None);
    assert_eq!(contents(&bytes)[1].1, b"print('hello, hello, hello')");
    assert_eq!(contents(&bytes)[2].1, [0, 1, 2]);
    assert!(contents(&zip_factory::archive(&[])).is_empty());
}

#[test]
fn data_descriptors_that_agree_are_accepted_in_all_four_shapes() {
    for (signed, width) in [(true, 4), (false, 4), (true, 8), (false, 8)] {
        let bytes = archive(&[file().described(signed, width), Item::stored("z", b"last")]);
        assert_eq!(contents(&bytes)[0].1, b"print('hello, hello, hello')");
        assert_eq!(contents(&bytes)[1].1, b"last");
    }
}

#[test]
fn data_descriptors_that_disagree_are_refused() {
    for (signed, width) in [(true, 4), (false, 4), (true, 8), (false, 8)] {
        for at in 0..12 {
            let item = file().described(signed, width).with(|item| item.after[at] ^= 1);
            assert_eq!(item_refusal(item), ZipFault::Descriptor, "{signed} {width} {at}");
        }
    }
    let cut = file().described(true, 4).with(|item| item.after.truncate(15));
    assert_eq!(item_refusal(cut), ZipFault::Descriptor);
    let long = file().described(true, 8).with(|item| item.after.push(0));
    assert_eq!(item_refusal(long), ZipFault::Gap { bytes: 25 });
    let lies = file().described(true, 4).local(|header| header.crc32 = 7);
    assert_eq!(item_refusal(lies), ZipFault::Conflict { field: "the CRC-32" });
}

#[test]
fn zip64_is_read() {
    // Sizes and offset in the extra field of an entry.
    let item = file();
    let sizes = [item.central.uncompressed_size, item.central.compressed_size].map(u64::from);
    let both = sizes.map(u64::to_le_bytes).concat();
    let item = item.both(|header| {
        (header.compressed_size, header.uncompressed_size) = (u32::MAX, u32::MAX);
        header.extra = extra(1, &both);
    });
    assert_eq!(contents(&archive(std::slice::from_ref(&item)))[0].1, b"print('hello, hello, hello')");
    let offset = item.clone().with(|item| {
        item.offset = Some(u32::MAX);
        item.disk = u16::MAX;
        item.central.extra = extra(1, &[&both[..], &[0; 12]].concat());
    });
    assert_eq!(contents(&archive(&[offset]))[0].1, b"print('hello, hello, hello')");

    // The end record, with and without room in the short one.
    let long = archive_with(b"", &[file()], |end| end.zip64 = Some(end64(end)));
    assert_eq!(contents(&long).len(), 1);
    let long = archive_with(b"", &[file()], |end| {
        end.zip64 = Some(end64(end));
        (end.entries, end.entries_here, end.size, end.offset) = (u16::MAX, u16::MAX, u32::MAX, u32::MAX);
    });
    assert_eq!(contents(&long).len(), 1);
}

#[test]
fn zip64_that_disagrees_is_refused() {
    let with_end = |change: fn(&mut zip_factory::End64)| {
        let bytes = archive_with(b"", &[file()], |end| {
            let mut long = end64(end);
            change(&mut long);
            end.zip64 = Some(long);
        });
        refusal(&bytes).1
    };
    let disagrees = ZipFault::Zip64End("it disagrees with the end record");
    assert_eq!(with_end(|end| end.entries = 2), disagrees);
    assert_eq!(with_end(|end| end.size += 1), disagrees);
    assert_eq!(with_end(|end| end.offset -= 1), disagrees);
    assert_eq!(with_end(|end| end.record_size = 45), ZipFault::Zip64End("its size"));
    assert_eq!(with_end(|end| end.disks = 2), ZipFault::MultiDisk);
    for shift in [-1, 1] {
        let bytes = archive_with(b"", &[file()], |end| {
            end.zip64 = Some(zip_factory::End64 { locator_shift: shift, ..end64(end) });
        });
        let fault = ZipFault::Zip64End("the locator does not point at the record before it");
        assert_eq!(refusal(&bytes).1, fault);
    }
    // Fields that are not there, not needed, or not what the header says.
    let wide = |field: &'static [u8]| {
        move |header: &mut zip_factory::Header| {
            header.uncompressed_size = u32::MAX;
            header.extra = extra(1, field);
        }
    };
    let missing = ZipFault::Extra("a zip64 size or offset is missing");
    assert_eq!(item_refusal(file().both(wide(&[0; 7]))), missing);
    let more = ZipFault::Extra("the zip64 field has more than it needs");
    assert_eq!(item_refusal(file().both(wide(&[0; 16]))), more);
    let unneeded = file().both(|header| header.extra = extra(1, &[0; 8]));
    assert_eq!(item_refusal(unneeded), more);
    let local = file().local(|header| header.extra = extra(1, &[0; 8]));
    let short = ZipFault::Extra("the zip64 field of a local header has not just both sizes");
    assert_eq!(item_refusal(local), short);
    let local = file().local(|header| header.extra = extra(1, &[1; 16]));
    assert_eq!(item_refusal(local), ZipFault::Conflict { field: "the uncompressed size" });
}

#[test]
fn the_end_must_be_the_end() {
    let whole = archive(&[file()]);
    assert_eq!(refusal(b"").1, ZipFault::NoEnd);
    assert_eq!(refusal(&vec![7; 100_000]).1, ZipFault::NoEnd);
    for cut in 1..whole.len() {
        let (_, fault) = refusal(&whole[..cut]);
        assert_eq!(fault, ZipFault::NoEnd, "cut at {cut}");
    }
    let trailing = archive_with(b"", &[file()], |end| end.trailing = b"\0\0\0".to_vec());
    assert_eq!(refusal(&trailing).1, ZipFault::TrailingData { bytes: 3 });
    let comment = archive_with(b"", &[file()], |end| end.comment = b"hello".to_vec());
    assert_eq!(refusal(&comment).1, ZipFault::ArchiveComment);
    // A whole second archive in the comment of the first.
    let hidden = archive_with(b"", &[file()], |end| end.comment = archive(&[Item::stored("x", b"y")]));
    assert!(matches!(refusal(&hidden), (None, ZipFault::DirectoryPlace)));
    let two = [whole.clone(), whole.clone()].concat();
    assert!(matches!(refusal(&two), (None, ZipFault::DirectoryPlace)));
}

#[test]
fn the_end_record_must_be_right() {
    let with_end = |change: fn(&mut zip_factory::End)| {
        refusal(&archive_with(b"", &[file(), Item::stored("z", b"")], change)).1
    };
    assert_eq!(with_end(|end| end.disk = 1), ZipFault::MultiDisk);
    assert_eq!(with_end(|end| end.entries_here = 1), ZipFault::MultiDisk);
    assert_eq!(with_end(|end| end.offset += 1), ZipFault::DirectoryPlace);
    assert_eq!(with_end(|end| end.size -= 1), ZipFault::DirectoryPlace);
    let count =
        |entries| move |end: &mut zip_factory::End| (end.entries, end.entries_here) = (entries, entries);
    for entries in [0, 1, 3, 60_000] {
        let bytes = archive_with(b"", &[file(), Item::stored("z", b"")], count(entries));
        let fault = refusal(&bytes).1;
        let wrong_count = ZipFault::EntryCount { said: entries.into() };
        assert_eq!(fault, wrong_count);
    }
}

#[test]
fn entries_must_fill_the_archive() {
    let prepended = archive_with(b"#!/bin/sh\n", &[file()], |_| {});
    assert_eq!(refusal(&prepended), (None, ZipFault::PrependedData { bytes: 10 }));
    let only = archive_with(b"junk", &[], |_| {});
    assert_eq!(refusal(&only), (None, ZipFault::PrependedData { bytes: 4 }));
    let gap = file().with(|item| item.after = b"hidden".to_vec());
    assert_eq!(item_refusal(gap), ZipFault::Gap { bytes: 6 });

    // Two entries over the same bytes.
    let twin = Item::stored("twin", b"xx");
    let same = archive(&[file().with(|item| item.offset = Some(0)), twin.with(|item| item.offset = Some(0))]);
    assert!(matches!(refusal(&same).1, ZipFault::Overlap { .. }));
    // One that claims the bytes of the next, and one that claims the central directory's.
    let claim = |header: &mut zip_factory::Header| {
        header.compressed_size += 5;
        header.uncompressed_size += 5;
    };
    let greedy = Item::stored("greedy", b"content").both(claim);
    assert_eq!(item_refusal(greedy.clone()), ZipFault::Overlap { other: "z".into() });
    let fault = refusal(&archive(&[greedy])).1;
    assert_eq!(fault, ZipFault::Overlap { other: "the central directory".into() });
    // A local header where there is none: in the content, and behind the end.
    let inside = file().with(|item| item.offset = Some(40));
    assert!(matches!(
        refusal(&archive(&[Item::stored("a", &[0; 90]), inside])).1,
        ZipFault::Overlap { .. } | ZipFault::Signature(_)
    ));
    let beyond = file().with(|item| item.offset = Some(1 << 30));
    assert!(matches!(
        refusal(&archive(&[Item::stored("a", b""), beyond])).1,
        ZipFault::Overlap { .. } | ZipFault::Gap { .. }
    ));
}

#[test]
fn local_and_central_headers_must_agree() {
    let conflict = |change: fn(&mut zip_factory::Header)| item_refusal(file().local(change));
    let on = |field| ZipFault::Conflict { field };
    assert_eq!(conflict(|header| header.name = b"pkg/evil.py".to_vec()), on("the name"));
    assert_eq!(conflict(|header| header.name.push(b'x')), on("the name"));
    assert_eq!(conflict(|header| header.name.push(b'/')), on("the name"));
    assert_eq!(conflict(|header| header.method = 0), on("the compression method"));
    assert_eq!(conflict(|header| header.crc32 ^= 1), on("the CRC-32"));
    assert_eq!(conflict(|header| header.crc32 = 0), on("the CRC-32"));
    assert_eq!(conflict(|header| header.compressed_size -= 1), on("the compressed size"));
    assert_eq!(conflict(|header| header.uncompressed_size += 1), on("the uncompressed size"));
    assert_eq!(conflict(|header| header.flags = 2), on("the flags"));
    assert_eq!(conflict(|header| header.flags = 8), on("the flags"));
    let signature = ZipFault::Signature("the header before its content");
    assert_eq!(conflict(|header| header.signature[3] = 5), signature);
    let central = file().central(|header| header.signature[2] = 9);
    assert!(matches!(refusal(&archive(&[central])), (None, ZipFault::Signature(_))));
    // Info-ZIP's field for a Unicode name is one more place to say another name.
    let unicode = |name: &[u8]| extra(0x7075, &[&[1, 0, 0, 0, 0], name].concat());
    let same = file().both(|header| header.extra = unicode(b"pkg/file.py"));
    assert_eq!(contents(&archive(&[same])).len(), 1);
    assert_eq!(item_refusal(file().both(|header| header.extra = unicode(b"pkg/other"))), on("the name"));
    assert_eq!(item_refusal(file().local(|header| header.extra = unicode(b"pkg/other"))), on("the name"));
}

#[test]
fn extra_fields_must_be_whole() {
    for wrong in [&[1][..], &[1, 0, 4], &[0, 0, 5, 0, 0]] {
        let cut = ZipFault::Extra("a field is cut off");
        assert_eq!(item_refusal(file().central(|header| header.extra = wrong.to_vec())), cut);
        assert_eq!(item_refusal(file().local(|header| header.extra = wrong.to_vec())), cut);
    }
    let twice = file().both(|header| header.extra = extra(1, &[]).repeat(2));
    assert_eq!(item_refusal(twice), ZipFault::Extra("a field stands twice"));
    // Times and owners (Info-ZIP) mean nothing here.
    let others = file().both(|header| header.extra = extra(0x5455, &[3, 0, 0, 0, 0]));
    assert_eq!(contents(&archive(&[others])).len(), 1);
}

#[test]
fn encryption_flags_comments_and_disks_are_refused() {
    let flags = |flags| item_refusal(file().both(|header| header.flags = flags));
    for bit in [0, 6, 13] {
        assert_eq!(flags(1 << bit), ZipFault::Encrypted);
    }
    for bit in [4, 5, 7, 8, 9, 10, 12, 14, 15] {
        assert_eq!(flags(1 << bit), ZipFault::Flags { flags: 1 << bit });
    }
    for bit in [1, 2, 11] {
        assert_eq!(contents(&archive(&[file().both(|header| header.flags = 1 << bit)])).len(), 1);
    }
    assert_eq!(item_refusal(file().with(|item| item.comment = b"hi".to_vec())), ZipFault::EntryComment);
    assert_eq!(item_refusal(file().with(|item| item.disk = 1)), ZipFault::MultiDisk);
}

#[test]
fn names_that_are_no_paths_are_refused() {
    let named = |name: &str| item_refusal(Item::stored(name, b"x"));
    assert_eq!(named("../evil.py"), ZipFault::Path(PathFault::DotDot));
    assert_eq!(named("pkg/../../evil.py"), ZipFault::Path(PathFault::DotDot));
    assert_eq!(named(".."), ZipFault::Path(PathFault::DotDot));
    assert_eq!(named("/etc/passwd"), ZipFault::Path(PathFault::Absolute));
    assert_eq!(named("//host/share"), ZipFault::Path(PathFault::Absolute));
    assert_eq!(named("pkg//file"), ZipFault::Path(PathFault::EmptyPart));
    assert_eq!(named("./file"), ZipFault::Path(PathFault::Dot));
    assert_eq!(named("a\0b"), ZipFault::Path(PathFault::Nul));
    assert_eq!(named(&"a".repeat(300)), ZipFault::Path(PathFault::PartTooLong));
    assert_eq!(named(""), ZipFault::Path(PathFault::Empty));
    assert_eq!(named("pkg\\file"), ZipFault::Backslash);
    assert_eq!(named("..\\evil"), ZipFault::Backslash);
    assert_eq!(named("C:evil"), ZipFault::DriveLetter);
    assert_eq!(named("c:/evil"), ZipFault::DriveLetter);
    let bytes = |flags| {
        item_refusal(Item::stored("x", b"x").both(|header| {
            header.name = b"\xff\xfe".to_vec();
            header.flags = flags;
        }))
    };
    let raw = |item: Item| refusal(&archive(&[item])).1;
    let latin = Item::stored("ä", b"").both(|header| header.flags = 0);
    assert_eq!(raw(latin), ZipFault::NameEncoding);
    assert_eq!(bytes(0), ZipFault::NameEncoding);
    assert_eq!(bytes(1 << 11), ZipFault::Path(PathFault::NotUtf8));
    // The slash that makes a directory may stand alone at the end only.
    let root = Item::directory("/");
    assert_eq!(raw(root), ZipFault::Path(PathFault::Empty));
}

#[test]
fn links_and_devices_are_refused() {
    let mode = |mode| item_refusal(file().with(|item| item.mode = mode));
    assert_eq!(mode(0o120_777), ZipFault::Symlink);
    assert_eq!(mode(0o020_644), ZipFault::Special { mode: 0o020_644 });
    assert_eq!(mode(0o010_644), ZipFault::Special { mode: 0o010_644 });
    assert_eq!(mode(0o040_755), ZipFault::Special { mode: 0o040_755 });
    let directory = Item::directory("pkg/").with(|item| item.mode = 0o100_644);
    assert_eq!(item_refusal(directory), ZipFault::Special { mode: 0o100_644 });
    let link = Item::directory("pkg/").with(|item| item.mode = 0o120_777);
    assert_eq!(item_refusal(link), ZipFault::Symlink);
    assert_eq!(item_refusal(Item::stored("pkg/", b"content")), ZipFault::DirectoryContent);
    // An empty DEFLATE stream for a directory is what some programs write.
    assert_eq!(contents(&archive(&[Item::deflated("pkg/", b"")])).len(), 1);
    // A file without a mode is a file.
    assert_eq!(contents(&archive(&[file().with(|item| item.mode = 0)])).len(), 1);
}

#[test]
fn names_that_collide_are_refused() {
    let duplicate = |first: &str, second: &str| {
        let bytes = archive(&[Item::stored(first, b"1"), Item::stored("m", b""), Item::stored(second, b"2")]);
        assert_eq!(refusal(&bytes).1, ZipFault::Duplicate { other: first.trim_end_matches('/').into() });
    };
    duplicate("pkg/a.py", "pkg/a.py");
    duplicate("pkg/a.py", "PKG/A.py");
    duplicate("pkg/\u{e4}.py", "pkg/a\u{308}.py");
    duplicate("pkg/\u{c4}.py", "pkg/a\u{308}.py");
    let both = archive(&[Item::directory("pkg/"), Item::stored("pkg", b"")]);
    assert_eq!(refusal(&both).1, ZipFault::Duplicate { other: "pkg".into() });
    let below =
        archive(&[Item::stored("pkg/a/b", b""), Item::stored("pkg/a.py", b""), Item::stored("pkg/a", b"")]);
    let fault = ZipFault::FileAsDirectory { other: "pkg/a/b".into() };
    assert_eq!(refusal(&below), (Some("pkg/a".into()), fault));
}

#[test]
fn sizes_are_limited() {
    let limits = |change: fn(&mut ZipLimits)| {
        let mut limits = ZipLimits::default();
        change(&mut limits);
        refusal_within(&archive(&[Item::stored("a", &[1; 100]), Item::deflated("b", &[2; 100])]), &limits).1
    };
    assert_eq!(limits(|l| l.entries = 1), ZipFault::TooManyEntries { entries: 2, limit: 1 });
    assert_eq!(limits(|l| l.entry_size = 99), ZipFault::EntryTooLarge { size: 100, limit: 99 });
    assert_eq!(limits(|l| l.total_size = 199), ZipFault::TotalTooLarge { limit: 199 });
    // Honest, and still a bomb: 40 MB of zeros in 40 kB.
    let zeros = archive(&[Item::deflated("zeros", &vec![0; 40_000_000])]);
    let strict = ZipLimits { free_size: 1 << 20, ..ZipLimits::default() };
    let packed = zeros.len() as u64;
    assert_eq!(refusal_within(&zeros, &strict).1, ZipFault::Bomb { packed, unpacked: 40_000_000 });
    assert!(Archive::open(Cursor::new(&zeros)).is_ok());
    // More than DEFLATE can do.
    let impossible = file().both(|header| header.uncompressed_size = 1 << 20);
    assert!(matches!(item_refusal(impossible), ZipFault::Bomb { .. }));
    assert_eq!(
        item_refusal(Item::stored("s", b"x").both(|header| header.uncompressed_size = 2)),
        ZipFault::StoredSize
    );
}

#[test]
fn content_that_is_not_what_the_archive_says_is_refused() {
    let read = |item: Item| {
        let bytes = archive(&[item]);
        match Archive::open(Cursor::new(&bytes)).unwrap().read(0, 1 << 20).unwrap_err() {
            Error::ZipEntry { fault, .. } => fault,
            other => panic!("{other}"),
        }
    };
    let text = b"print('hello, hello, hello')";
    assert_eq!(read(file().both(|header| header.crc32 ^= 1)), ZipFault::Crc);
    assert_eq!(read(Item::stored("s", text).both(|header| header.crc32 ^= 1)), ZipFault::Crc);
    assert_eq!(read(file().both(|header| header.uncompressed_size += 1)), ZipFault::UncompressedSize);
    assert_eq!(read(file().both(|header| header.uncompressed_size -= 1)), ZipFault::UncompressedSize);
    let resized = |change: fn(&mut Vec<u8>)| {
        let mut item = file();
        change(&mut item.data);
        let length = item.data.len().try_into().unwrap();
        read(item.both(|header| header.compressed_size = length))
    };
    assert_eq!(resized(|data| data.push(0)), ZipFault::StreamEndsEarly);
    assert_eq!(resized(|data| data.truncate(data.len() - 1)), ZipFault::StreamEndsLate);
    assert_eq!(resized(|data| data[0] = 0b111), ZipFault::Stream);
    assert_eq!(read(file().both(|header| header.method = 12)), ZipFault::Method { method: 12 });
    let bytes = archive(&[file()]);
    let fault = match Archive::open(Cursor::new(&bytes)).unwrap().read(0, 10).unwrap_err() {
        Error::ZipEntry { fault, .. } => fault,
        other => panic!("{other}"),
    };
    assert_eq!(fault, ZipFault::EntryTooLarge { size: text.len() as u64, limit: 10 });
}
