//! Makes zip archives byte by byte, right or wrong in any field.

use std::io::Write;

use flate2::{Compression, write::DeflateEncoder};

/// What stands in a header, local or central.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    pub(crate) signature: [u8; 4],
    pub(crate) name: Vec<u8>,
    pub(crate) flags: u16,
    pub(crate) method: u16,
    pub(crate) crc32: u32,
    pub(crate) compressed_size: u32,
    pub(crate) uncompressed_size: u32,
    pub(crate) extra: Vec<u8>,
}

/// One entry.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) local: Header,
    pub(crate) central: Header,
    /// What stands between the local header and the next entry.
    pub(crate) data: Vec<u8>,
    pub(crate) after: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) comment: Vec<u8>,
    pub(crate) disk: u16,
    /// Instead of where the local header is.
    pub(crate) offset: Option<u32>,
}

/// The end of an archive.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) disk: u16,
    pub(crate) entries_here: u16,
    pub(crate) entries: u16,
    pub(crate) size: u32,
    pub(crate) offset: u32,
    pub(crate) comment: Vec<u8>,
    pub(crate) trailing: Vec<u8>,
    /// A zip64 end record, with its locator.
    pub(crate) zip64: Option<End64>,
}

#[derive(Clone, Debug)]
pub(crate) struct End64 {
    pub(crate) record_size: u64,
    pub(crate) entries: u64,
    pub(crate) size: u64,
    pub(crate) offset: u64,
    pub(crate) disks: u32,
    /// Added to the place where the record is.
    pub(crate) locator_shift: i64,
}

pub(crate) fn deflate(content: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::new(6));
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

impl Item {
    fn new(name: &str, content: &[u8], method: u16, data: Vec<u8>) -> Self {
        let header = Header {
            signature: *b"PK\x03\x04",
            name: name.as_bytes().to_vec(),
            flags: if name.is_ascii() { 0 } else { 1 << 11 },
            method,
            crc32: crc32fast::hash(content),
            compressed_size: data.len().try_into().unwrap(),
            uncompressed_size: content.len().try_into().unwrap(),
            extra: Vec::new(),
        };
        let central = Header { signature: *b"PK\x01\x02", ..header.clone() };
        let mode = if name.ends_with('/') { 0o040_755 } else { 0o100_644 };
        Self {
            local: header,
            central,
            data,
            after: Vec::new(),
            mode,
            comment: Vec::new(),
            disk: 0,
            offset: None,
        }
    }

    pub(crate) fn deflated(name: &str, content: &[u8]) -> Self {
        Self::new(name, content, 8, deflate(content))
    }

    pub(crate) fn stored(name: &str, content: &[u8]) -> Self {
        Self::new(name, content, 0, content.to_vec())
    }

    pub(crate) fn directory(name: &str) -> Self {
        Self::stored(name, b"")
    }

    /// Changes both headers.
    pub(crate) fn both(mut self, change: impl Fn(&mut Header)) -> Self {
        change(&mut self.local);
        change(&mut self.central);
        self
    }

    pub(crate) fn local(mut self, change: impl Fn(&mut Header)) -> Self {
        change(&mut self.local);
        self
    }

    pub(crate) fn central(mut self, change: impl Fn(&mut Header)) -> Self {
        change(&mut self.central);
        self
    }

    pub(crate) fn with(mut self, change: impl Fn(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// With a data descriptor, sizes in `width` bytes, and nothing known in the local header.
    pub(crate) fn described(mut self, signed: bool, width: usize) -> Self {
        if signed {
            self.after.extend_from_slice(b"PK\x07\x08");
        }
        self.after.extend_from_slice(&self.central.crc32.to_le_bytes());
        for size in [self.central.compressed_size, self.central.uncompressed_size] {
            self.after.extend_from_slice(&u64::from(size).to_le_bytes()[..width]);
        }
        self.both(|header| header.flags |= 8).local(|header| {
            (header.crc32, header.compressed_size, header.uncompressed_size) = (0, 0, 0);
        })
    }
}

/// An extra field.
pub(crate) fn extra(id: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap();
    [&id.to_le_bytes()[..], &length.to_le_bytes(), value].concat()
}

fn fields(header: &Header) -> Vec<u8> {
    let mut out = header.flags.to_le_bytes().to_vec();
    out.extend_from_slice(&header.method.to_le_bytes());
    out.extend_from_slice(&[0, 0, 0x21, 0]); // 1980-01-01
    for field in [header.crc32, header.compressed_size, header.uncompressed_size] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out.extend_from_slice(&u16::try_from(header.name.len()).unwrap().to_le_bytes());
    out.extend_from_slice(&u16::try_from(header.extra.len()).unwrap().to_le_bytes());
    out
}

/// An archive of these entries.
pub(crate) fn archive(items: &[Item]) -> Vec<u8> {
    archive_with(b"", items, |_| {})
}

/// An archive with something before it and another end.
pub(crate) fn archive_with(before: &[u8], items: &[Item], change: impl Fn(&mut End)) -> Vec<u8> {
    let mut out = before.to_vec();
    let mut central = Vec::new();
    for item in items {
        let offset = item.offset.unwrap_or(out.len().try_into().unwrap());
        out.extend_from_slice(&item.local.signature);
        out.extend_from_slice(&[20, 0]);
        out.extend_from_slice(&fields(&item.local));
        for part in [&item.local.name, &item.local.extra, &item.data, &item.after] {
            out.extend_from_slice(part);
        }
        central.extend_from_slice(&item.central.signature);
        central.extend_from_slice(&[20, 3, 20, 0]); // made on Unix
        central.extend_from_slice(&fields(&item.central));
        central.extend_from_slice(&u16::try_from(item.comment.len()).unwrap().to_le_bytes());
        central.extend_from_slice(&item.disk.to_le_bytes());
        central.extend_from_slice(&[0, 0]);
        central.extend_from_slice(&(item.mode << 16).to_le_bytes());
        central.extend_from_slice(&offset.to_le_bytes());
        for part in [&item.central.name, &item.central.extra, &item.comment] {
            central.extend_from_slice(part);
        }
    }
    let mut end = End {
        disk: 0,
        entries_here: items.len().try_into().unwrap(),
        entries: items.len().try_into().unwrap(),
        size: central.len().try_into().unwrap(),
        offset: out.len().try_into().unwrap(),
        comment: Vec::new(),
        trailing: Vec::new(),
        zip64: None,
    };
    change(&mut end);
    out.extend_from_slice(&central);
    if let Some(end64) = &end.zip64 {
        let at = i64::try_from(out.len()).unwrap() + end64.locator_shift;
        out.extend_from_slice(b"PK\x06\x06");
        out.extend_from_slice(&end64.record_size.to_le_bytes());
        out.extend_from_slice(&[45, 3, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        for field in [end64.entries, end64.entries, end64.size, end64.offset] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(b"PK\x06\x07\0\0\0\0");
        out.extend_from_slice(&at.to_le_bytes());
        out.extend_from_slice(&end64.disks.to_le_bytes());
    }
    out.extend_from_slice(b"PK\x05\x06");
    for field in [end.disk, end.disk, end.entries_here, end.entries] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out.extend_from_slice(&end.size.to_le_bytes());
    out.extend_from_slice(&end.offset.to_le_bytes());
    out.extend_from_slice(&u16::try_from(end.comment.len()).unwrap().to_le_bytes());
    out.extend_from_slice(&end.comment);
    out.extend_from_slice(&end.trailing);
    out
}

/// The zip64 end record that agrees with `end`.
pub(crate) fn end64(end: &End) -> End64 {
    End64 {
        record_size: 44,
        entries: end.entries.into(),
        size: end.size.into(),
        offset: end.offset.into(),
        disks: 1,
        locator_shift: 0,
    }
}
