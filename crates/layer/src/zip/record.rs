//! The records of a zip archive, byte by byte (APPNOTE §4.3).

use super::ZipFault;

/// Takes little-endian numbers from the front of some bytes.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(front)
    }

    /// A number of `count` ≤ 8 bytes; 0 once the bytes have run out, which callers with records of fixed size rule out.
    fn number(&mut self, count: usize) -> u64 {
        let bytes = self.take(count).unwrap_or_default();
        bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
    }

    #[expect(clippy::cast_possible_truncation, reason = "a number of two bytes")]
    pub(super) fn u16(&mut self) -> u16 {
        self.number(2) as u16
    }

    #[expect(clippy::cast_possible_truncation, reason = "a number of four bytes")]
    pub(super) fn u32(&mut self) -> u32 {
        self.number(4) as u32
    }

    pub(super) fn u64(&mut self) -> u64 {
        self.number(8)
    }

    fn skip(&mut self, count: usize) {
        self.take(count);
    }
}

/// End of central directory record (§4.3.16).
pub(super) struct End {
    pub(super) disk: u16,
    pub(super) directory_disk: u16,
    pub(super) entries_here: u16,
    pub(super) entries: u16,
    pub(super) directory_size: u32,
    pub(super) directory_offset: u32,
    pub(super) comment_length: u16,
}

impl End {
    pub(super) const SIGNATURE: [u8; 4] = *b"PK\x05\x06";
    pub(super) const SIZE: usize = 22;

    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes.strip_prefix(&Self::SIGNATURE)?);
        (bytes.len() >= Self::SIZE).then(|| Self {
            disk: fields.u16(),
            directory_disk: fields.u16(),
            entries_here: fields.u16(),
            entries: fields.u16(),
            directory_size: fields.u32(),
            directory_offset: fields.u32(),
            comment_length: fields.u16(),
        })
    }
}

/// Zip64 end of central directory locator (§4.3.15).
pub(super) struct Locator {
    pub(super) end_disk: u32,
    pub(super) end_offset: u64,
    pub(super) disks: u32,
}

impl Locator {
    pub(super) const SIZE: usize = 20;

    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes.strip_prefix(b"PK\x06\x07")?);
        Some(Self { end_disk: fields.u32(), end_offset: fields.u64(), disks: fields.u32() })
    }
}

/// Zip64 end of central directory record, version 1 (§4.3.14).
pub(super) struct End64 {
    pub(super) record_size: u64,
    pub(super) disk: u32,
    pub(super) directory_disk: u32,
    pub(super) entries_here: u64,
    pub(super) entries: u64,
    pub(super) directory_size: u64,
    pub(super) directory_offset: u64,
}

impl End64 {
    pub(super) const SIZE: usize = 56;

    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes.strip_prefix(b"PK\x06\x06")?);
        let record_size = fields.u64();
        fields.skip(4); // versions
        Some(Self {
            record_size,
            disk: fields.u32(),
            directory_disk: fields.u32(),
            entries_here: fields.u64(),
            entries: fields.u64(),
            directory_size: fields.u64(),
            directory_offset: fields.u64(),
        })
    }
}

/// Central directory header (§4.3.12), without name, extra fields and comment.
pub(super) struct Central {
    pub(super) host_system: u8,
    pub(super) flags: u16,
    pub(super) method: u16,
    pub(super) crc32: u32,
    pub(super) compressed_size: u32,
    pub(super) uncompressed_size: u32,
    pub(super) name_length: u16,
    pub(super) extra_length: u16,
    pub(super) comment_length: u16,
    pub(super) disk: u16,
    pub(super) external_attributes: u32,
    pub(super) local_offset: u32,
}

impl Central {
    pub(super) const SIZE: usize = 46;

    pub(super) fn parse(bytes: &[u8; Self::SIZE]) -> Option<Self> {
        let mut fields = Fields(bytes.strip_prefix(b"PK\x01\x02")?);
        let [_, host_system] = fields.u16().to_le_bytes();
        fields.skip(2); // version needed
        let (flags, method) = (fields.u16(), fields.u16());
        fields.skip(4); // time and date
        let (crc32, compressed_size, uncompressed_size) = (fields.u32(), fields.u32(), fields.u32());
        let (name_length, extra_length, comment_length) = (fields.u16(), fields.u16(), fields.u16());
        let disk = fields.u16();
        fields.skip(2); // internal attributes
        Some(Self {
            host_system,
            flags,
            method,
            crc32,
            compressed_size,
            uncompressed_size,
            name_length,
            extra_length,
            comment_length,
            disk,
            external_attributes: fields.u32(),
            local_offset: fields.u32(),
        })
    }
}

/// Local file header (§4.3.7), without name and extra fields.
pub(super) struct Local {
    pub(super) flags: u16,
    pub(super) method: u16,
    pub(super) crc32: u32,
    pub(super) compressed_size: u32,
    pub(super) uncompressed_size: u32,
    pub(super) name_length: u16,
    pub(super) extra_length: u16,
}

impl Local {
    pub(super) const SIZE: usize = 30;

    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes.strip_prefix(b"PK\x03\x04")?);
        fields.skip(2); // version needed
        let (flags, method) = (fields.u16(), fields.u16());
        fields.skip(4); // time and date
        Some(Self {
            flags,
            method,
            crc32: fields.u32(),
            compressed_size: fields.u32(),
            uncompressed_size: fields.u32(),
            name_length: fields.u16(),
            extra_length: fields.u16(),
        })
    }
}

/// The extra fields that mean something here (§4.5).
#[derive(Default)]
pub(super) struct Extra<'a> {
    /// Zip64 extended information (0x0001).
    pub(super) zip64: Option<&'a [u8]>,
    /// Info-ZIP's Unicode path (0x7075): version, CRC-32 of the name, name.
    pub(super) unicode_path: Option<&'a [u8]>,
}

impl<'a> Extra<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, ZipFault> {
        let mut extra = Self::default();
        let mut fields = Fields(bytes);
        while !fields.0.is_empty() {
            if fields.0.len() < 4 {
                return Err(ZipFault::Extra("a field is cut off"));
            }
            let (id, length) = (fields.u16(), fields.u16());
            let value = fields.take(length.into()).ok_or(ZipFault::Extra("a field is cut off"))?;
            let known = match id {
                0x0001 => &mut extra.zip64,
                0x7075 => &mut extra.unicode_path,
                _ => continue,
            };
            if known.replace(value).is_some() {
                return Err(ZipFault::Extra("a field stands twice"));
            }
        }
        Ok(extra)
    }

    /// Refuses another name than `name` in the Unicode path field.
    pub(super) fn check_name(&self, name: &[u8]) -> Result<(), ZipFault> {
        match self.unicode_path {
            Some(field) if field.get(5..) != Some(name) => Err(ZipFault::Conflict { field: "the name" }),
            _ => Ok(()),
        }
    }
}
