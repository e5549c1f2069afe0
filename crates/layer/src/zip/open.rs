//! From the end record to checked entries.

use std::io::{BufReader, Read, Seek, SeekFrom};

use super::{
    Method, ZipEntry, ZipFault, ZipKind, ZipLimits, layout, read_at,
    record::{Central, End, End64, Extra, Fields, Locator},
};
use crate::{EntryPath, Error, PathFault, Result, path::shown};

/// Flags that change nothing about how an entry is read: the compressor's effort (1, 2), a data descriptor (3),
/// a UTF-8 name (11).
const HARMLESS_FLAGS: u16 = 0b1000_0000_1110;
const UTF8_NAME: u16 = 1 << 11;
/// Encryption: of the content (0), strong (6), of the central directory (13).
const ENCRYPTION: u16 = 1 | 1 << 6 | 1 << 13;
/// DEFLATE packs a run of 258 bytes into two bits at best: nothing honest is packed more than 1032 to 1.
const DEFLATE_LIMIT: u64 = 1032;
const FILE_TYPE: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const SYMLINK: u32 = 0o120_000;

const fn whole(fault: ZipFault) -> Error {
    Error::Zip { fault }
}

/// Where the central directory is.
struct Directory {
    offset: u64,
    size: u64,
    entries: u64,
}

/// Reads and checks everything but the contents.
pub(super) fn entries(input: &mut (impl Read + Seek), limits: &ZipLimits) -> Result<Vec<ZipEntry>> {
    let length = input.seek(SeekFrom::End(0)).map_err(Error::reading)?;
    let directory = directory(input, length)?;
    if directory.entries > limits.entries {
        return Err(whole(ZipFault::TooManyEntries { entries: directory.entries, limit: limits.entries }));
    }
    let mut entries = central_directory(input, &directory)?;
    check_sizes(&entries, length, limits)?;
    layout::check_names(&entries)?;
    layout::check_places(input, &mut entries, directory.offset)?;
    Ok(entries)
}

/// Finds the end record at the very end of the input and follows it.
fn directory(input: &mut (impl Read + Seek), length: u64) -> Result<Directory> {
    let Some(end_offset) = length.checked_sub(End::SIZE as u64) else { return Err(whole(ZipFault::NoEnd)) };
    let mut bytes = [0; End::SIZE];
    read_at(input, end_offset, &mut bytes)?;
    let Some(end) = End::parse(&bytes).filter(|end| end.comment_length == 0) else {
        return Err(whole(why_no_end(input, length)?));
    };

    let mut locator = None;
    let mut bytes = [0; Locator::SIZE];
    if let Some(offset) = end_offset.checked_sub(Locator::SIZE as u64) {
        read_at(input, offset, &mut bytes)?;
        locator = Locator::parse(&bytes).map(|locator| (offset, locator));
    }
    let plain = Directory {
        offset: end.directory_offset.into(),
        size: end.directory_size.into(),
        entries: end.entries.into(),
    };
    // The locator's signature can also be the end of the last entry's extra fields: then the directory, by the end
    // record alone, reaches up to the end record.
    let reaches_end = plain.offset + plain.size == end_offset;
    let (directory, directory_end) = match locator {
        Some((offset, locator)) if !reaches_end => directory64(input, &end, &locator, offset)?,
        _ => {
            if end.disk != 0 || end.directory_disk != 0 || end.entries_here != end.entries {
                return Err(whole(ZipFault::MultiDisk));
            }
            (plain, end_offset)
        }
    };
    if directory.offset.checked_add(directory.size) != Some(directory_end) {
        return Err(whole(ZipFault::DirectoryPlace));
    }
    if directory.entries > directory.size / Central::SIZE as u64 {
        return Err(whole(ZipFault::EntryCount { said: directory.entries }));
    }
    Ok(directory)
}

/// The directory by the zip64 end record, which must stand between directory and locator and agree with the end record
/// in all that the end record has room for.
fn directory64(
    input: &mut (impl Read + Seek),
    end: &End,
    locator: &Locator,
    locator_offset: u64,
) -> Result<(Directory, u64)> {
    let refuse = |why| whole(ZipFault::Zip64End(why));
    if locator.end_disk != 0 || locator.disks != 1 {
        return Err(whole(ZipFault::MultiDisk));
    }
    if locator.end_offset.checked_add(End64::SIZE as u64) != Some(locator_offset) {
        return Err(refuse("the locator does not point at the record before it"));
    }
    let mut bytes = [0; End64::SIZE];
    read_at(input, locator.end_offset, &mut bytes)?;
    let end64 = End64::parse(&bytes).ok_or_else(|| refuse("there is none where the locator points"))?;
    if end64.record_size != End64::SIZE as u64 - 12 {
        return Err(refuse("its size"));
    }
    if end64.disk != 0 || end64.directory_disk != 0 || end64.entries_here != end64.entries {
        return Err(whole(ZipFault::MultiDisk));
    }
    let agree16 = |short: u16, long: u64| short == u16::MAX || u64::from(short) == long;
    let agree32 = |short: u32, long: u64| short == u32::MAX || u64::from(short) == long;
    let agree = agree16(end.disk, 0)
        && agree16(end.directory_disk, 0)
        && agree16(end.entries_here, end64.entries)
        && agree16(end.entries, end64.entries)
        && agree32(end.directory_size, end64.directory_size)
        && agree32(end.directory_offset, end64.directory_offset);
    if !agree {
        return Err(refuse("it disagrees with the end record"));
    }
    let directory =
        Directory { offset: end64.directory_offset, size: end64.directory_size, entries: end64.entries };
    Ok((directory, locator.end_offset))
}

/// Why the last bytes of the input are no end record: looks for one further up.
fn why_no_end(input: &mut (impl Read + Seek), length: u64) -> Result<ZipFault> {
    let window = length.min(End::SIZE as u64 + u64::from(u16::MAX));
    let start = length - window;
    let mut bytes = Vec::new();
    input.seek(SeekFrom::Start(start)).map_err(Error::reading)?;
    input.take(window).read_to_end(&mut bytes).map_err(Error::reading)?;
    let found = (0..bytes.len()).rev().find_map(|at| Some((at, End::parse(&bytes[at..])?)));
    Ok(match found {
        None => ZipFault::NoEnd,
        Some((at, end)) => {
            let after = (bytes.len() - at - End::SIZE) as u64;
            if after == u64::from(end.comment_length) {
                ZipFault::ArchiveComment
            } else {
                ZipFault::TrailingData { bytes: after }
            }
        }
    })
}

fn central_directory(input: &mut (impl Read + Seek), directory: &Directory) -> Result<Vec<ZipEntry>> {
    input.seek(SeekFrom::Start(directory.offset)).map_err(Error::reading)?;
    let mut input = BufReader::with_capacity(64 * 1024, input.take(directory.size));
    let mut read = |buffer: &mut [u8]| {
        let filled = crate::content::read_full(&mut input, buffer).map_err(Error::reading)?;
        if filled == buffer.len() {
            Ok(())
        } else {
            Err(whole(ZipFault::EntryCount { said: directory.entries }))
        }
    };
    let mut entries = Vec::with_capacity(usize::try_from(directory.entries).unwrap_or(0).min(1 << 16));
    let (mut used, mut tail) = (0, Vec::new());
    for _ in 0..directory.entries {
        let mut header = [0; Central::SIZE];
        read(&mut header)?;
        let header = Central::parse(&header)
            .ok_or_else(|| whole(ZipFault::Signature("the header of an entry in the central directory")))?;
        let name_length = usize::from(header.name_length);
        tail.resize(name_length + usize::from(header.extra_length) + usize::from(header.comment_length), 0);
        read(&mut tail)?;
        used += (Central::SIZE + tail.len()) as u64;
        let (name, rest) = tail.split_at(name_length);
        let entry = entry(&header, name, &rest[..usize::from(header.extra_length)])
            .map_err(|fault| Error::ZipEntry { entry: shown(name), fault })?;
        entries.push(entry);
    }
    if used == directory.size {
        Ok(entries)
    } else {
        Err(whole(ZipFault::EntryCount { said: directory.entries }))
    }
}

fn entry(header: &Central, name: &[u8], extra: &[u8]) -> Result<ZipEntry, ZipFault> {
    if header.flags & ENCRYPTION != 0 {
        return Err(ZipFault::Encrypted);
    }
    if header.flags & !HARMLESS_FLAGS != 0 {
        return Err(ZipFault::Flags { flags: header.flags });
    }
    if header.comment_length != 0 {
        return Err(ZipFault::EntryComment);
    }
    let extra = Extra::parse(extra)?;
    extra.check_name(name)?;
    let (path, kind) = name_of(name, header.flags)?;

    // §4.5.3: the fields that have no room in the header, in this order, and no others.
    let mut fields = Fields(extra.zip64.unwrap_or_default());
    let mut wide = |short: u32| -> Result<u64, ZipFault> {
        if short != u32::MAX {
            return Ok(short.into());
        }
        fields
            .take(8)
            .map(|bytes| Fields(bytes).u64())
            .ok_or(ZipFault::Extra("a zip64 size or offset is missing"))
    };
    let uncompressed_size = wide(header.uncompressed_size)?;
    let compressed_size = wide(header.compressed_size)?;
    let local_offset = wide(header.local_offset)?;
    let disk = match header.disk {
        u16::MAX => fields.take(4).map(|bytes| Fields(bytes).u32()).ok_or(ZipFault::MultiDisk)?,
        disk => disk.into(),
    };
    if disk != 0 {
        return Err(ZipFault::MultiDisk);
    }
    if !fields.0.is_empty() {
        return Err(ZipFault::Extra("the zip64 field has more than it needs"));
    }

    let method = match header.method {
        0 => Method::Stored,
        8 => Method::Deflate,
        other => Method::Other(other),
    };
    if method == Method::Stored && compressed_size != uncompressed_size {
        return Err(ZipFault::StoredSize);
    }
    let mode = header.external_attributes >> 16;
    match (mode & FILE_TYPE, kind) {
        (SYMLINK, _) => return Err(ZipFault::Symlink),
        (0, _) | (REGULAR, ZipKind::File) | (DIRECTORY, ZipKind::Directory) => {}
        _ => return Err(ZipFault::Special { mode }),
    }
    // Some programs write an empty DEFLATE stream, two bytes, for a directory.
    if kind == ZipKind::Directory && (uncompressed_size != 0 || compressed_size > 2 || header.crc32 != 0) {
        return Err(ZipFault::DirectoryContent);
    }
    Ok(ZipEntry {
        path,
        kind,
        method,
        crc32: header.crc32,
        compressed_size,
        uncompressed_size,
        unix_mode: (mode != 0).then_some(mode),
        host_system: header.host_system,
        flags: header.flags,
        local_offset,
        data_offset: 0,
    })
}

fn name_of(name: &[u8], flags: u16) -> Result<(EntryPath, ZipKind), ZipFault> {
    if flags & UTF8_NAME == 0 && !name.is_ascii() {
        return Err(ZipFault::NameEncoding);
    }
    let text = str::from_utf8(name).map_err(|_| ZipFault::Path(PathFault::NotUtf8))?;
    if text.contains('\\') {
        return Err(ZipFault::Backslash);
    }
    if let [letter, b':', ..] = name
        && letter.is_ascii_alphabetic()
    {
        return Err(ZipFault::DriveLetter);
    }
    let (text, kind) = match text.strip_suffix('/') {
        Some(text) => (text, ZipKind::Directory),
        None => (text, ZipKind::File),
    };
    match EntryPath::new(text) {
        Ok(path) => Ok((path, kind)),
        Err(Error::Path { fault, .. }) => Err(ZipFault::Path(fault)),
        Err(_) => Err(ZipFault::Path(PathFault::Empty)),
    }
}

fn check_sizes(entries: &[ZipEntry], length: u64, limits: &ZipLimits) -> Result<()> {
    let mut total = 0_u64;
    for entry in entries {
        let size = entry.uncompressed_size;
        if size > limits.entry_size {
            return Err(entry.refuse(ZipFault::EntryTooLarge { size, limit: limits.entry_size }));
        }
        if entry.method == Method::Deflate && size > entry.compressed_size.saturating_mul(DEFLATE_LIMIT) {
            return Err(entry.refuse(ZipFault::Bomb { packed: entry.compressed_size, unpacked: size }));
        }
        total = total.saturating_add(size);
    }
    if total > limits.total_size {
        return Err(whole(ZipFault::TotalTooLarge { limit: limits.total_size }));
    }
    if total > limits.free_size && total > length.saturating_mul(limits.ratio) {
        return Err(whole(ZipFault::Bomb { packed: length, unpacked: total }));
    }
    Ok(())
}
