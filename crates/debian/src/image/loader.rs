//! The dynamic loader's cache, `/etc/ld.so.cache`, as `ldconfig` would make it.
//!
//! The loader finds libraries in the standard folders without it, but those in `/usr/local/lib` not, and Python's
//! `ctypes.util.find_library` asks the cache only. It is made here and not by running `ldconfig`, so that an image for arm64 can be
//! made on amd64.

use std::{cmp::Ordering, collections::BTreeMap};

use longshore_layer::{EntryPath, Kind};
use longshore_oci::Arch;

use super::{
    extension,
    tree::{Node, Tree},
};
use crate::{Error, deb::Spool};

/// The folders that `ldconfig` looks into even if no configuration names them.
const STANDARD: [&str; 2] = ["lib", "usr/lib"];

/// A library: its soname and where it is.
pub(crate) type Libraries = Vec<(String, String)>;

/// Makes `/etc/ld.so.cache`, if the tree has an `/etc/ld.so.conf`.
pub(crate) fn add(tree: &mut Tree, arch: Arch, spools: &[Spool]) -> Result<(), Error> {
    let Some(conf) = tree.read("etc/ld.so.conf", spools)? else { return Ok(()) };
    let paths: Vec<String> = tree
        .below("etc/ld.so.conf.d")
        .map(|node| node.entry.path.to_string())
        .filter(|path| extension(path) == Some("conf"))
        .collect();
    let mut fragments = Vec::new();
    for path in paths {
        let text = tree.read(&path, spools)?.unwrap_or_default();
        fragments.push(String::from_utf8_lossy(&text).into_owned());
    }
    let folders = folders(&String::from_utf8_lossy(&conf), &fragments);
    let libraries = libraries(tree, &folders, arch, spools)?;
    tree.file("etc/ld.so.cache", 0o644, cache(&entries(libraries, arch)))
}

/// The folders that `ldconfig` looks into, by the texts of `/etc/ld.so.conf` and of its fragments, in order.
pub(crate) fn folders(conf: &str, fragments: &[String]) -> Vec<String> {
    let mut folders = Vec::new();
    for line in conf.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        match line.strip_prefix("include ") {
            // The one pattern in use: all fragments.
            Some("/etc/ld.so.conf.d/*.conf") => {
                let lines = fragments.iter().flat_map(|text| text.lines());
                folders.extend(lines.map(|line| line.trim().to_owned()));
            }
            Some(_) => {}
            None => folders.push(line.to_owned()),
        }
    }
    folders.retain(|line| line.starts_with('/'));
    folders.extend(STANDARD.map(|folder| format!("/{folder}")));
    folders
}

/// The libraries of a tree in those folders.
pub(crate) fn libraries(
    tree: &Tree,
    folders: &[String],
    arch: Arch,
    spools: &[Spool],
) -> Result<Libraries, Error> {
    let mut seen = Vec::new();
    let mut libraries = Vec::new();
    for folder in folders {
        let real = real_folder(folder);
        if !seen.contains(&real) {
            libraries.extend(libraries_in(tree, folder, &real, arch, spools)?);
            seen.push(real);
        }
    }
    Ok(libraries)
}

/// A folder without the links of the merged `/usr`.
fn real_folder(folder: &str) -> String {
    let folder = folder.trim_matches('/');
    let top = folder.split('/').next().unwrap_or_default();
    if matches!(top, "lib" | "lib32" | "lib64" | "libx32") {
        format!("usr/{folder}")
    } else {
        folder.to_owned()
    }
}

fn libraries_in(
    tree: &Tree,
    folder: &str,
    real: &str,
    arch: Arch,
    spools: &[Spool],
) -> Result<Libraries, Error> {
    let mut found = BTreeMap::new();
    for node in tree.below(real) {
        let name = node.entry.path.name();
        let here = node.entry.path.as_str().len() == real.len() + 1 + name.len();
        let like_a_library = (name.starts_with("lib") || name.starts_with("ld-")) && name.contains(".so");
        let Some(file) = Some(node).filter(|_| here && like_a_library).and_then(|node| follow(tree, node))
        else {
            continue;
        };
        let Some(Elf { soname }) = elf(&file.read(spools)?, arch) else { continue };
        let soname = soname.unwrap_or_else(|| name.to_owned());
        // The link that has the soname's name is what programs are to load; packages bring it.
        if soname == name {
            found.insert(soname, name.to_owned());
        } else {
            found.entry(soname).or_insert_with(|| name.to_owned());
        }
    }
    Ok(found
        .into_iter()
        .map(|(soname, name)| (soname, format!("{}/{name}", folder.trim_end_matches('/'))))
        .collect())
}

/// The file that a node is or, within its folder, leads to.
fn follow<'a>(tree: &'a Tree, node: &'a Node) -> Option<&'a Node> {
    let mut node = node;
    for _ in 0..8 {
        match &node.entry.kind {
            Kind::File | Kind::HardLink { .. } => return Some(node),
            Kind::Symlink { target } if !target.contains('/') => {
                node = tree.get(&node.entry.path.parent()?.join(target).ok()?)?;
            }
            Kind::Symlink { target } => node = tree.get(&EntryPath::new(&real_folder(target)).ok()?)?,
            _ => return None,
        }
    }
    None
}

/// A shared library, as far as the cache is concerned.
#[derive(Debug, PartialEq, Eq)]
struct Elf {
    soname: Option<String>,
}

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const DT_STRTAB: u64 = 5;
const DT_SONAME: u64 = 14;
const SHARED_OBJECT: u16 = 3;

/// The machine number of an ELF header.
pub(crate) const fn elf_machine(arch: Arch) -> u16 {
    match arch {
        Arch::Amd64 => 62,
        Arch::Arm64 => 183,
    }
}

/// Reads a 64-bit little-endian shared object (elf(5)); `None` if it is none for `arch`.
fn elf(bytes: &[u8], arch: Arch) -> Option<Elf> {
    let u16_at = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?));
    let u32_at = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?));
    let u64_at = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?));
    let offset_at = |at: usize| usize::try_from(u64_at(at)?).ok();
    if bytes.get(..6)? != b"\x7fELF\x02\x01"
        || u16_at(16)? != SHARED_OBJECT
        || u16_at(18)? != elf_machine(arch)
    {
        return None;
    }
    let (table, size, count) = (offset_at(32)?, usize::from(u16_at(54)?), usize::from(u16_at(56)?));
    let mut dynamic = None;
    let mut loads = Vec::new();
    for index in 0..count {
        let at = table.checked_add(index.checked_mul(size)?)?;
        let (offset, address, length) = (u64_at(at + 8)?, u64_at(at + 16)?, u64_at(at + 32)?);
        match u32_at(at)? {
            PT_LOAD => loads.push((offset, address, length)),
            PT_DYNAMIC => dynamic = Some((usize::try_from(offset).ok()?, usize::try_from(length).ok()?)),
            _ => {}
        }
    }
    let (start, length) = dynamic?;
    let mut strings = None;
    let mut soname = None;
    for at in (start..start.checked_add(length)?.min(bytes.len())).step_by(16) {
        match u64_at(at)? {
            0 => break,
            DT_STRTAB => strings = u64_at(at + 8),
            DT_SONAME => soname = u64_at(at + 8),
            _ => {}
        }
    }
    let Some(soname) = soname else { return Some(Elf { soname: None }) };
    let address = strings?;
    let (offset, base, _) = loads
        .into_iter()
        .find(|(_, base, length)| address.checked_sub(*base).is_some_and(|inside| inside < *length))?;
    let at = usize::try_from(address.checked_sub(base)?.checked_add(offset)?.checked_add(soname)?).ok()?;
    let text = bytes.get(at..)?;
    let end = text.iter().take(256).position(|byte| *byte == 0)?;
    let soname = std::str::from_utf8(&text[..end]).ok()?;
    (!soname.is_empty() && !soname.contains('/')).then(|| Elf { soname: Some(soname.to_owned()) })
}

/// An entry of the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
struct CacheEntry {
    flags: u32,
    soname: String,
    path: String,
    system_version: u32,
}

const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const HEADER: usize = 48;
const ENTRY: usize = 24;

fn entries(libraries: Libraries, arch: Arch) -> Vec<CacheEntry> {
    let flags: u32 = match arch {
        Arch::Amd64 => 0x0303,
        Arch::Arm64 => 0x0a03,
    };
    let entry = |(soname, path)| CacheEntry { flags, soname, path, system_version: 0 };
    libraries.into_iter().map(entry).collect()
}

/// A cache with more libraries; `None` if it has a form that is not written here: that of an old release, or with libraries
/// for particular processors.
pub(crate) fn extended(old: &[u8], new: Libraries, arch: Arch) -> Option<Vec<u8>> {
    let mut all = read(old)?;
    for entry in entries(new, arch) {
        if !all.iter().any(|it| (&it.soname, &it.path) == (&entry.soname, &entry.path)) {
            all.push(entry);
        }
    }
    Some(cache(&all))
}

/// The entries of a cache.
fn read(cache: &[u8]) -> Option<Vec<CacheEntry>> {
    if !cache.starts_with(MAGIC) {
        return None;
    }
    let number = |at: usize| Some(u32::from_le_bytes(cache.get(at..at.checked_add(4)?)?.try_into().ok()?));
    let text = |at: u32| {
        let rest = cache.get(usize::try_from(at).ok()?..)?;
        let end = rest.iter().take(4096).position(|byte| *byte == 0)?;
        std::str::from_utf8(&rest[..end]).ok().map(ToOwned::to_owned)
    };
    let count = usize::try_from(number(20)?).ok()?;
    let mut entries = Vec::new();
    for position in 0..count {
        let at = position.checked_mul(ENTRY)?.checked_add(HEADER)?;
        if cache.get(at + 16..at + 24)? != [0; 8] {
            return None;
        }
        entries.push(CacheEntry {
            flags: number(at)?,
            soname: text(number(at + 4)?)?,
            path: text(number(at + 8)?)?,
            system_version: number(at + 12)?,
        });
    }
    Some(entries)
}

/// The cache in glibc's format 1.1 (`dl-cache.h`): a header, entries in descending order, strings.
fn cache(entries: &[CacheEntry]) -> Vec<u8> {
    const LITTLE_ENDIAN: u8 = 2;
    let mut sorted: Vec<&CacheEntry> = entries.iter().collect();
    sorted.sort_by(|a, b| compare(b.soname.as_bytes(), a.soname.as_bytes()));
    let mut strings = Vec::new();
    let mut table = Vec::new();
    let base = HEADER + sorted.len() * ENTRY;
    let mut place = |text: &str| {
        let at = u32::try_from(base + strings.len()).unwrap_or(u32::MAX);
        strings.extend_from_slice(text.as_bytes());
        strings.push(0);
        at.to_le_bytes()
    };
    for entry in &sorted {
        table.extend_from_slice(&entry.flags.to_le_bytes());
        table.extend_from_slice(&place(&entry.soname));
        table.extend_from_slice(&place(&entry.path));
        table.extend_from_slice(&entry.system_version.to_le_bytes());
        table.extend_from_slice(&[0; 8]);
    }
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
    let mut cache = MAGIC.to_vec();
    cache.extend_from_slice(&count(sorted.len()));
    cache.extend_from_slice(&count(strings.len()));
    cache.extend_from_slice(&[LITTLE_ENDIAN, 0, 0, 0]);
    cache.extend_from_slice(&[0; 16]);
    cache.extend(table);
    cache.extend(strings);
    cache
}

/// The loader's order of sonames: runs of digits by value, digits after anything else (`_dl_cache_libcmp`).
fn compare(mut a: &[u8], mut b: &[u8]) -> Ordering {
    loop {
        let digit = |text: &[u8]| text.first().is_some_and(u8::is_ascii_digit);
        match (a.first(), b.first()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            _ if digit(a) && digit(b) => {
                let (left, right) = (number(&mut a), number(&mut b));
                if left != right {
                    return left.cmp(&right);
                }
            }
            _ if digit(a) => return Ordering::Greater,
            _ if digit(b) => return Ordering::Less,
            (Some(left), Some(right)) if left != right => return left.cmp(right),
            _ => (a, b) = (&a[1..], &b[1..]),
        }
    }
}

/// Takes the leading digits off; their value wraps in the loader too.
fn number(text: &mut &[u8]) -> u32 {
    let mut value = 0_u32;
    while let Some((digit, rest)) = text.split_first().filter(|(digit, _)| digit.is_ascii_digit()) {
        value = value.wrapping_mul(10).wrapping_add(u32::from(digit - b'0'));
        *text = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_soname_of_a_library_is_read() {
        let arch = Arch::host().unwrap();
        let folder = format!("/lib/{}-linux-gnu", arch.machine());
        let libc = std::fs::read(format!("{folder}/libc.so.6")).unwrap();
        assert_eq!(elf(&libc, arch), Some(Elf { soname: Some("libc.so.6".to_owned()) }));
        let other = if arch == Arch::Amd64 { Arch::Arm64 } else { Arch::Amd64 };
        assert_eq!(elf(&libc, other), None, "of another machine");
    }

    #[test]
    fn a_cache_is_extended_in_its_order() {
        let of = |names: &[&str]| -> Libraries {
            names.iter().map(|name| ((*name).to_owned(), format!("/lib/{name}"))).collect()
        };
        let old = cache(&entries(of(&["liba.so.2", "libc.so.6"]), Arch::Amd64));
        let new = extended(&old, of(&["libb.so.1", "libc.so.6"]), Arch::Amd64).unwrap();
        assert_eq!(new, cache(&entries(of(&["libc.so.6", "libb.so.1", "liba.so.2"]), Arch::Amd64)));
        assert_eq!(extended(&old, Vec::new(), Arch::Amd64).unwrap(), old);
        assert_eq!(extended(b"ld.so-1.7.0", Vec::new(), Arch::Amd64), None);
        let mut special = old;
        special[HEADER + 16] = 1;
        assert_eq!(extended(&special, Vec::new(), Arch::Amd64), None, "for particular processors");
    }

    #[test]
    fn the_cache_of_this_machine_can_be_read() {
        let cache = std::fs::read("/etc/ld.so.cache").unwrap();
        let output = std::process::Command::new("/sbin/ldconfig").arg("-p").output().unwrap();
        let count = String::from_utf8(output.stdout).unwrap().lines().filter(|it| it.contains("=>")).count();
        if let Some(entries) = read(&cache) {
            assert_eq!(entries.len(), count);
        }
    }

    #[test]
    fn sonames_are_in_the_loader_s_order() {
        let ascending = ["liba.so", "liba.so.1", "liba.so.2", "liba.so.10", "libb.so"];
        for pair in ascending.windows(2) {
            assert_eq!(compare(pair[0].as_bytes(), pair[1].as_bytes()), Ordering::Less, "{pair:?}");
        }
        assert_eq!(compare(b"lib2", b"liba"), Ordering::Greater, "a digit comes after a letter");
    }

    proptest! {
        #[test]
        fn hostile_caches_do_no_harm(rest in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&[MAGIC, &rest].concat());
        }

        #[test]
        fn hostile_objects_do_no_harm(mut bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let head = b"\x7fELF\x02\x01";
            if bytes.len() > 70 {
                bytes[..6].copy_from_slice(head);
                bytes[16..20].copy_from_slice(&[3, 0, 62, 0]);
                bytes[32..40].copy_from_slice(&64_u64.to_le_bytes());
                bytes[54..58].copy_from_slice(&[56, 0, 4, 0]);
            }
            let _ = elf(&bytes, Arch::Amd64);
        }
    }
}
