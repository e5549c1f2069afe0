//! Headers of tar entries: ustar (POSIX.1-1988), with a PAX extended header (POSIX.1-2001, "pax Interchange
//! Format") before it where ustar cannot say it. The bytes follow from the entry alone.

use crate::{Entry, EntryPath, Error, Kind, Result, WriteFault};

/// Everything in a tar archive comes in blocks of this size.
pub(crate) const BLOCK: usize = 512;
/// The end of an archive: two blocks of zeros.
pub(crate) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];
/// The largest size that eleven octal digits express.
const LARGEST_SIZE: u64 = 0o777_7777_7777;
/// The largest owner that seven octal digits express.
const LARGEST_ID: u32 = 0o777_7777;
/// The name of every PAX header; readers ignore it.
const PAX_NAME: &str = "PaxHeader";

/// How many zeros follow `size` bytes of content up to the next block.
#[expect(clippy::cast_possible_truncation, reason = "less than 512")]
pub(crate) const fn padding(size: u64) -> usize {
    (size.wrapping_neg() % BLOCK as u64) as usize
}

/// Appends the header blocks of `entry`, whose content has `size` bytes, to `out`.
pub(crate) fn append_header(out: &mut Vec<u8>, entry: &Entry, size: u64) -> Result<()> {
    let refuse = |fault| Error::Write { path: entry.path.clone(), fault };
    if entry.mode > 0o7777 {
        return Err(refuse(WriteFault::Mode { mode: entry.mode }));
    }
    let (flag, link) = match &entry.kind {
        Kind::File => (b'0', ""),
        Kind::HardLink { target } if target >= &entry.path => {
            return Err(refuse(WriteFault::HardLinkOrder { target: target.clone() }));
        }
        Kind::HardLink { target } => (b'1', target.as_str()),
        Kind::Symlink { target } => {
            if target.is_empty() || target.len() > EntryPath::LONGEST || target.contains('\0') {
                return Err(refuse(WriteFault::SymlinkTarget));
            }
            (b'2', target.as_str())
        }
        Kind::Directory => (b'5', ""),
        Kind::CharacterDevice { .. } | Kind::BlockDevice { .. } | Kind::Fifo => {
            let fault =
                WriteFault::Content { is: "a device or a pipe", needs: "layers are written without these" };
            return Err(refuse(fault));
        }
    };
    let mut name = entry.path.as_str().to_owned();
    if entry.kind == Kind::Directory {
        name.push('/');
    }

    // Records in ascending order of their keys (as bytes, capitals first), each only where ustar has no room.
    let mut pax = Vec::new();
    for (name, value) in &entry.xattrs {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(refuse(WriteFault::Xattr { name: name.clone() }));
        }
        append_record(&mut pax, &format!("SCHILY.xattr.{name}"), value);
    }
    if entry.gid > LARGEST_ID {
        append_record(&mut pax, "gid", entry.gid.to_string().as_bytes());
    }
    if !link.is_ascii() || link.len() > 100 {
        append_record(&mut pax, "linkpath", link.as_bytes());
    }
    if entry.mtime > LARGEST_SIZE {
        append_record(&mut pax, "mtime", entry.mtime.to_string().as_bytes());
    }
    let split = split(&name);
    if split.is_none() {
        append_record(&mut pax, "path", name.as_bytes());
    }
    if size > LARGEST_SIZE {
        append_record(&mut pax, "size", size.to_string().as_bytes());
    }
    if entry.uid > LARGEST_ID {
        append_record(&mut pax, "uid", entry.uid.to_string().as_bytes());
    }
    if !pax.is_empty() {
        let header = Fields { name: PAX_NAME, size: pax.len() as u64, flag: b'x', ..Fields::default() };
        header.append(out);
        out.extend_from_slice(&pax);
        out.resize(out.len() + padding(pax.len() as u64), 0);
    }

    // Where a PAX record overrules the field, the field is left as short as it can be.
    let (prefix, name) = split.unwrap_or(("", PAX_NAME));
    let fits = |value: u64, largest: u64| if value > largest { 0 } else { value };
    let header = Fields {
        prefix,
        name,
        mode: entry.mode,
        uid: fits(entry.uid.into(), LARGEST_ID.into()),
        gid: fits(entry.gid.into(), LARGEST_ID.into()),
        size: fits(size, LARGEST_SIZE),
        mtime: fits(entry.mtime, LARGEST_SIZE),
        flag,
        link: if link.is_ascii() && link.len() <= 100 { link } else { "" },
    };
    header.append(out);
    Ok(())
}

/// A name as ustar's prefix and name: the whole in the name if it has room, else split at the first slash that leaves
/// at most 100 bytes after it. `None` where there is no such slash, or the name is not ASCII.
fn split(name: &str) -> Option<(&str, &str)> {
    if !name.is_ascii() {
        return None;
    }
    if name.len() <= 100 {
        return Some(("", name));
    }
    let from = name.len() - 101;
    let at = from + name[from..].find('/')?;
    let (prefix, rest) = (&name[..at], &name[at + 1..]);
    (!rest.is_empty() && (1..=155).contains(&prefix.len())).then_some((prefix, rest))
}

/// `<length> <key>=<value>\n`, where the length counts its own digits.
fn append_record(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let digits = |number: usize| number.to_string().len();
    let mut length = rest + digits(rest);
    if digits(length) > digits(rest) {
        length = rest + digits(length);
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key.as_bytes());
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

#[derive(Default)]
struct Fields<'a> {
    prefix: &'a str,
    name: &'a str,
    mode: u32,
    uid: u64,
    gid: u64,
    size: u64,
    mtime: u64,
    flag: u8,
    link: &'a str,
}

impl Fields<'_> {
    /// Owner's and group's name and the device numbers stay empty: unpackers of images go by number.
    fn append(&self, out: &mut Vec<u8>) {
        let octal = |field: &mut [u8], mut value: u64| {
            for digit in field.iter_mut().rev() {
                *digit = b'0' + (value & 7) as u8;
                value >>= 3;
            }
        };
        let mut block = [0; BLOCK];
        block[..self.name.len()].copy_from_slice(self.name.as_bytes());
        octal(&mut block[100..107], self.mode.into());
        octal(&mut block[108..115], self.uid);
        octal(&mut block[116..123], self.gid);
        octal(&mut block[124..135], self.size);
        octal(&mut block[136..147], self.mtime);
        block[148..156].fill(b' ');
        block[156] = self.flag;
        block[157..157 + self.link.len()].copy_from_slice(self.link.as_bytes());
        block[257..265].copy_from_slice(b"ustar\x0000");
        block[345..345 + self.prefix.len()].copy_from_slice(self.prefix.as_bytes());
        let sum = block.iter().map(|&byte| u64::from(byte)).sum();
        octal(&mut block[148..154], sum);
        block[154] = 0;
        out.extend_from_slice(&block);
    }
}
