//! Whether the entries of an archive get along: their places and their names.

use std::{
    borrow::Cow,
    io::{Read, Seek},
};

use icu_normalizer::ComposingNormalizerBorrowed;

use super::{
    ZipEntry, ZipFault, ZipKind, read_at,
    record::{Extra, Fields, Local},
};
use crate::{Error, Result, path::compare};

/// The flag that announces a data descriptor.
const DESCRIPTOR: u16 = 1 << 3;

/// Checks that the entries fill the archive from its first byte to the central directory without gap or overlap, that
/// their local headers and data descriptors say what the central directory says, and notes where their data begins.
pub(super) fn check_places(
    input: &mut (impl Read + Seek),
    entries: &mut [ZipEntry],
    directory_offset: u64,
) -> Result<()> {
    let mut order: Vec<usize> = (0..entries.len()).collect();
    order.sort_by_key(|&index| entries[index].local_offset);
    let first = order.first().map_or(directory_offset, |&index| entries[index].local_offset);
    if first != 0 {
        return Err(Error::Zip { fault: ZipFault::PrependedData { bytes: first } });
    }
    let mut header = Vec::new();
    for (position, &index) in order.iter().enumerate() {
        let next = order.get(position + 1).map(|&next| &entries[next]);
        let end = next.map_or(directory_offset, |next| next.local_offset);
        let overlap = |entry: &ZipEntry| {
            let other = next.map_or_else(|| "the central directory".to_owned(), |next| next.path.to_string());
            Err(entry.refuse(ZipFault::Overlap { other }))
        };
        let entry = &entries[index];
        let Some(room) = end.checked_sub(entry.local_offset) else { return overlap(entry) };
        let data = check_local_header(input, entry, &mut header)
            .and_then(|checked| checked.map_err(|fault| entry.refuse(fault)))?;
        let Some(rest) = room.checked_sub(data).and_then(|room| room.checked_sub(entry.compressed_size))
        else {
            return overlap(entry);
        };
        let data_offset = entry.local_offset + data;
        if entry.flags & DESCRIPTOR == 0 {
            if rest > 0 {
                return Err(entry.refuse(ZipFault::Gap { bytes: rest }));
            }
        } else {
            check_descriptor(input, entry, data_offset + entry.compressed_size, rest)?;
        }
        entries[index].data_offset = data_offset;
    }
    Ok(())
}

/// Compares the local header with the central directory; gives the header's whole length.
fn check_local_header(
    input: &mut (impl Read + Seek),
    entry: &ZipEntry,
    buffer: &mut Vec<u8>,
) -> Result<Result<u64, ZipFault>> {
    let is_directory = usize::from(entry.kind == ZipKind::Directory);
    let name_length = entry.path.as_str().len() + is_directory;
    buffer.resize(Local::SIZE + name_length, 0);
    if !read_at(input, entry.local_offset, buffer)? {
        return Ok(Err(ZipFault::Truncated));
    }
    let Some(local) = Local::parse(buffer) else {
        return Ok(Err(ZipFault::Signature("the header before its content")));
    };
    let extra_length = usize::from(local.extra_length);
    if usize::from(local.name_length) != name_length {
        return Ok(Err(ZipFault::Conflict { field: "the name" }));
    }
    buffer.resize(Local::SIZE + name_length + extra_length, 0);
    let extra_offset = entry.local_offset + (Local::SIZE + name_length) as u64;
    if extra_length > 0 && !read_at(input, extra_offset, &mut buffer[Local::SIZE + name_length..])? {
        return Ok(Err(ZipFault::Truncated));
    }
    let (name, extra) = buffer[Local::SIZE..].split_at(name_length);
    Ok(compare_headers(entry, &local, name, extra).map(|()| buffer.len() as u64))
}

fn compare_headers(entry: &ZipEntry, local: &Local, name: &[u8], extra: &[u8]) -> Result<(), ZipFault> {
    let conflict = |field| Err(ZipFault::Conflict { field });
    let without_slash = if entry.kind == ZipKind::Directory { name.strip_suffix(b"/") } else { Some(name) };
    if without_slash != Some(entry.path.as_str().as_bytes()) {
        return conflict("the name");
    }
    let extra = Extra::parse(extra)?;
    extra.check_name(name)?;
    if local.method != entry.method.number() {
        return conflict("the compression method");
    }
    if local.flags != entry.flags {
        return conflict("the flags");
    }
    // §4.5.3: in a local header the zip64 field has both sizes.
    let wide = match extra.zip64 {
        Some(field) if field.len() == 16 => {
            let mut fields = Fields(field);
            Some((fields.u64(), fields.u64()))
        }
        Some(_) => return Err(ZipFault::Extra("the zip64 field of a local header has not just both sizes")),
        None => None,
    };
    // Before a data descriptor, CRC-32 and sizes may be zero (§4.4.4).
    let unknown = entry.flags & DESCRIPTOR != 0;
    let agree = |short: u32, wide: Option<u64>, central: u64| {
        let short_agrees = u64::from(short) == central || unknown && short == 0;
        match wide {
            None => short_agrees,
            Some(wide) => (short == u32::MAX || short_agrees) && (wide == central || unknown && wide == 0),
        }
    };
    if !agree(local.crc32, None, entry.crc32.into()) {
        return conflict("the CRC-32");
    }
    if !agree(local.uncompressed_size, wide.map(|(uncompressed, _)| uncompressed), entry.uncompressed_size) {
        return conflict("the uncompressed size");
    }
    if !agree(local.compressed_size, wide.map(|(_, compressed)| compressed), entry.compressed_size) {
        return conflict("the compressed size");
    }
    Ok(())
}

/// A data descriptor (§4.3.9) with or without its signature, with sizes of four or eight bytes, that fills `length` bytes.
fn check_descriptor(
    input: &mut (impl Read + Seek),
    entry: &ZipEntry,
    offset: u64,
    length: u64,
) -> Result<()> {
    let mut bytes = [0; 24];
    let bytes = match length {
        12 | 16 | 20 | 24 => &mut bytes[..usize::try_from(length).unwrap_or(0)],
        25.. => return Err(entry.refuse(ZipFault::Gap { bytes: length })),
        _ => return Err(entry.refuse(ZipFault::Descriptor)),
    };
    if !read_at(input, offset, bytes)? {
        return Err(entry.refuse(ZipFault::Truncated));
    }
    let mut fields = Fields(bytes);
    let signed = matches!(length, 16 | 24);
    if signed && fields.take(4) != Some(b"PK\x07\x08") {
        return Err(entry.refuse(ZipFault::Descriptor));
    }
    let crc32 = fields.u32();
    let mut size = || if length >= 20 { fields.u64() } else { fields.u32().into() };
    let (compressed, uncompressed) = (size(), size());
    if (crc32, compressed, uncompressed) == (entry.crc32, entry.compressed_size, entry.uncompressed_size) {
        Ok(())
    } else {
        Err(entry.refuse(ZipFault::Descriptor))
    }
}

/// Checks that no two entries have one name, also where letter case or Unicode normalisation is ignored, and that no file
/// is used as a directory.
pub(super) fn check_names(entries: &[ZipEntry]) -> Result<()> {
    let normalizer = ComposingNormalizerBorrowed::new_nfc();
    let mut names: Vec<(Cow<'_, str>, &ZipEntry)> = entries
        .iter()
        .map(|entry| {
            let name = entry.path.as_str();
            let folded = if name.is_ascii() {
                name.bytes().any(|byte| byte.is_ascii_uppercase()).then(|| name.to_ascii_lowercase())
            } else {
                Some(normalizer.normalize(&normalizer.normalize(name).to_lowercase()).into_owned())
            };
            (folded.map_or(Cow::Borrowed(name), Cow::Owned), entry)
        })
        .collect();
    names.sort_by(|(left, _), (right, _)| compare(left, right));
    for pair in names.windows(2) {
        let [(name, entry), (next_name, next)] = pair else { continue };
        if name == next_name {
            return Err(next.refuse(ZipFault::Duplicate { other: entry.path.to_string() }));
        }
        let below = next_name.strip_prefix(&**name).is_some_and(|rest| rest.starts_with('/'));
        if below && entry.kind == ZipKind::File {
            return Err(entry.refuse(ZipFault::FileAsDirectory { other: next.path.to_string() }));
        }
    }
    Ok(())
}
