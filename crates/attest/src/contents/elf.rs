//! What of an ELF file nothing loads: symbols and debug information, by the section headers alone ("ELF-64 Object File
//! Format", version 1.5).

/// The length of the file header.
const HEADER: usize = 64;
/// The length of a section header.
const SECTION: usize = 64;
/// More sections than any program or library has.
const MOST_SECTIONS: usize = 1 << 14;
/// `SHF_ALLOC`: the section is in memory when the file is loaded.
const ALLOCATED: u64 = 2;
const PROGBITS: u32 = 1;
const SYMTAB: u32 = 2;
const STRTAB: u32 = 3;

/// Takes the bytes of a file as they come, and keeps of them the headers.
#[derive(Debug, Default)]
pub(super) struct Scan {
    at: u64,
    header: Vec<u8>,
    /// Where the section headers are: offset and length.
    table: Option<(u64, usize)>,
    sections: Vec<u8>,
}

impl Scan {
    /// Takes the next bytes.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        if self.header.len() < HEADER {
            let missing = (HEADER - self.header.len()).min(bytes.len());
            self.header.extend_from_slice(&bytes[..missing]);
            if self.header.len() == HEADER {
                self.table = table(&self.header);
            }
        }
        if let Some((start, length)) = self.table {
            let wanted = start + self.sections.len() as u64;
            let end = self.at + bytes.len() as u64;
            if self.sections.len() < length && wanted >= self.at && wanted < end {
                let from = usize::try_from(wanted - self.at).unwrap_or(bytes.len());
                let until = (from + length - self.sections.len()).min(bytes.len());
                self.sections.extend_from_slice(&bytes[from..until]);
            }
        }
        self.at += bytes.len() as u64;
    }

    /// The first bytes of the file.
    pub(super) fn head(&self) -> &[u8] {
        &self.header
    }

    /// The bytes of the sections that nothing loads and `strip` removes; `None` if this is no ELF file that is understood.
    pub(super) fn unloaded(&self) -> Option<u64> {
        let (_, length) = self.table?;
        if self.sections.len() != length {
            return None;
        }
        let names = usize::from(u16::from_le_bytes([self.header[62], self.header[63]]));
        let mut unloaded = 0_u64;
        for (index, section) in self.sections.chunks_exact(SECTION).enumerate() {
            let kind = number(section, 4, 4);
            let (flags, size) = (number(section, 8, 8), number(section, 32, 8));
            let strippable = [PROGBITS, SYMTAB, STRTAB].map(u64::from).contains(&kind);
            if strippable && flags & ALLOCATED == 0 && index != names {
                unloaded = unloaded.saturating_add(size);
            }
        }
        // A header can claim anything; what is not in the file takes no room.
        Some(unloaded.min(self.at))
    }
}

/// Where the section headers of a 64-bit little-endian ELF file are, by its header.
fn table(header: &[u8]) -> Option<(u64, usize)> {
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (offset, size, count) = (number(header, 40, 8), number(header, 58, 2), number(header, 60, 2));
    let count = usize::try_from(count).ok()?;
    (size == SECTION as u64 && count > 0 && count <= MOST_SECTIONS && offset >= HEADER as u64)
        .then_some((offset, count * SECTION))
}

/// A little-endian number of at most eight bytes.
fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes[at..at + length].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn section(kind: u32, flags: u64, size: u64) -> Vec<u8> {
        let mut bytes = vec![0; SECTION];
        bytes[4..8].copy_from_slice(&kind.to_le_bytes());
        bytes[8..16].copy_from_slice(&flags.to_le_bytes());
        bytes[32..40].copy_from_slice(&size.to_le_bytes());
        bytes
    }

    /// A file of 1000 bytes between the header and the sections.
    fn file() -> Vec<u8> {
        let mut file = vec![0; HEADER + 1000];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[40..48].copy_from_slice(&(HEADER as u64 + 1000).to_le_bytes());
        file[58..60].copy_from_slice(&64_u16.to_le_bytes());
        file[60..62].copy_from_slice(&5_u16.to_le_bytes());
        file[62..64].copy_from_slice(&4_u16.to_le_bytes());
        for (kind, flags, size) in
            [(0, 0, 0), (PROGBITS, ALLOCATED, 500), (PROGBITS, 0, 300), (SYMTAB, 0, 100), (STRTAB, 0, 50)]
        {
            file.extend(section(kind, flags, size));
        }
        file
    }

    fn unloaded(file: &[u8], piece: usize) -> Option<u64> {
        let mut scan = Scan::default();
        file.chunks(piece).for_each(|piece| scan.take(piece));
        scan.unloaded()
    }

    #[test]
    fn symbols_and_debug_information_count_however_the_bytes_come() {
        for piece in [1, 7, 64, 1000, 10_000] {
            // The names of the sections stay when a file is stripped.
            assert_eq!(unloaded(&file(), piece), Some(400), "{piece}");
        }
        assert_eq!(unloaded(&file()[..1300], 100), None, "cut off");
        assert_eq!(unloaded(b"#!/bin/sh\n", 3), None);
    }

    #[test]
    fn this_program_has_symbols_or_none_but_no_more_than_its_size() {
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let found = unloaded(&program, 100_000).unwrap();
        assert!(found <= program.len() as u64);
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(mut bytes: Vec<u8>, offset: u64, count: u16) {
            let mut file = file();
            file[40..48].copy_from_slice(&offset.to_le_bytes());
            file[60..62].copy_from_slice(&count.to_le_bytes());
            file.append(&mut bytes);
            unloaded(&file, 33);
        }
    }
}
