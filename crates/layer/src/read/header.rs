//! From one entry of a tar archive to the next.

use std::io::Read;

use tar::Header;

use super::{Change, ReadFault, pax::Pax, stream::Stream};
use crate::{
    Entry, EntryPath, Error, Kind, Result,
    path::shown,
    tar::{BLOCK, padding},
    writer::{OPAQUE, WHITEOUT},
};

/// The most that the extended headers of one entry may have: paths of 4 KiB and the 64 KiB that Linux allows for
/// extended attributes, many times over.
const LARGEST_HEADERS: u64 = 1 << 20;
/// What AUFS's own entries begin with.
const AUFS: &str = ".wh..wh.";

/// An entry, or something to pass over.
pub(super) enum Step {
    Change(Change),
    Nothing,
}

impl Step {
    pub(super) fn name(&self) -> String {
        match self {
            Self::Change(Change::Put(Entry { path, .. }) | Change::Whiteout(path)) => path.to_string(),
            Self::Change(Change::Opaque(_)) => OPAQUE.to_owned(),
            Self::Nothing => ".".to_owned(),
        }
    }
}

/// What extended headers say of the entry that follows them.
#[derive(Default)]
struct Extended {
    pax: Option<Pax>,
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    bytes: u64,
}

impl Extended {
    const fn is_empty(&self) -> bool {
        self.pax.is_none() && self.long_path.is_none() && self.long_link.is_none()
    }
}

/// Reads up to the next entry's content; gives the entry and the size of its content. `None` at the end of the archive.
pub(super) fn next<R: Read>(stream: &mut Stream<R>) -> Result<Option<(Step, u64)>> {
    let mut extended = Extended::default();
    loop {
        let offset = stream.position();
        let wrong = |why| Error::Layer { fault: ReadFault::Header { offset, why } };
        let mut header = Header::new_old();
        let read = stream.read_full(header.as_mut_bytes())?;
        // Without compression around it, nothing but the end blocks tells a whole archive from one that was cut off
        // between two entries.
        let may_end = read == 0 && stream.is_framed();
        if may_end || read == BLOCK && header.as_bytes().iter().all(|&byte| byte == 0) {
            return if extended.is_empty() {
                Ok(None)
            } else {
                Err(wrong("an extended header is followed by nothing"))
            };
        }
        if read < BLOCK {
            return Err(Error::Layer { fault: ReadFault::Truncated });
        }
        if !has_its_checksum(&header) {
            return Err(wrong("its checksum is wrong"));
        }
        let size = header.entry_size().map_err(|_| wrong("its size is not a number"))?;
        match header.as_old().linkflag[0] {
            b'x' => {
                let pax = Pax::parse(&extension(stream, &mut extended, size)?)
                    .map_err(|fault| Error::LayerEntry { entry: name_of(&header), fault })?;
                set(&mut extended.pax, pax).map_err(wrong)?;
            }
            b'L' => {
                let path = without_nul(extension(stream, &mut extended, size)?);
                set(&mut extended.long_path, path).map_err(wrong)?;
            }
            b'K' => {
                let link = without_nul(extension(stream, &mut extended, size)?);
                set(&mut extended.long_link, link).map_err(wrong)?;
            }
            // A global header has no say over entries here, as in the tools that unpack images; git puts a comment there.
            b'g' => drop(extension(stream, &mut extended, size)?),
            flag => {
                let size = extended.pax.as_ref().and_then(|pax| pax.size).unwrap_or(size);
                let path = path_of(&header, &extended);
                let step = step(&header, flag, &path, size, extended)
                    .map_err(|fault| Error::LayerEntry { entry: shown(&path), fault })?;
                return Ok(Some((step, size)));
            }
        }
    }
}

/// The unsigned sum that every tar since 1979 writes, or the signed one that some once did.
fn has_its_checksum(header: &Header) -> bool {
    let bytes = header.as_bytes();
    let others = bytes[..148].iter().chain(&bytes[156..]);
    let unsigned = others.clone().map(|&byte| u32::from(byte)).sum::<u32>() + 8 * 32;
    let signed = others.map(|&byte| i32::from(byte.cast_signed())).sum::<i32>() + 8 * 32;
    header.cksum().is_ok_and(|sum| sum == unsigned || i32::try_from(sum) == Ok(signed))
}

fn set<T>(slot: &mut Option<T>, value: T) -> Result<(), &'static str> {
    if slot.replace(value).is_some() { Err("two extended headers of one kind") } else { Ok(()) }
}

/// The content of an extended header.
fn extension<R: Read>(stream: &mut Stream<R>, extended: &mut Extended, size: u64) -> Result<Vec<u8>> {
    extended.bytes = extended.bytes.saturating_add(size).saturating_add(BLOCK as u64);
    if extended.bytes > LARGEST_HEADERS {
        return Err(Error::Layer { fault: ReadFault::HeadersTooLarge { limit: LARGEST_HEADERS } });
    }
    let mut content = vec![0; usize::try_from(size).unwrap_or(0)];
    if stream.read_full(&mut content)? < content.len() {
        return Err(Error::Layer { fault: ReadFault::Truncated });
    }
    stream.skip(padding(size) as u64)?;
    Ok(content)
}

/// GNU's long names end in a NUL.
fn without_nul(mut name: Vec<u8>) -> Vec<u8> {
    if name.last() == Some(&0) {
        name.pop();
    }
    name
}

fn name_of(header: &Header) -> String {
    shown(&header.path_bytes())
}

fn path_of(header: &Header, extended: &Extended) -> Vec<u8> {
    let pax = extended.pax.as_ref().and_then(|pax| pax.path.clone());
    pax.or_else(|| extended.long_path.clone()).unwrap_or_else(|| header.path_bytes().into_owned())
}

fn step(header: &Header, flag: u8, path: &[u8], size: u64, extended: Extended) -> Result<Step, ReadFault> {
    let wrong = |what: &'static str| move |_| ReadFault::Pax(what);
    let pax = extended.pax.unwrap_or_default();
    if pax.path.is_some() && extended.long_path.is_some()
        || pax.link.is_some() && extended.long_link.is_some()
    {
        return Err(ReadFault::Pax("it and a header of GNU tar both name the entry"));
    }
    let link = pax.link.or(extended.long_link).or_else(|| header.link_name_bytes().map(Into::into));
    let is_file = match flag {
        // Before POSIX, a directory was a file with a slash at its end.
        0 | b'0' | b'7' => !path.ends_with(b"/"),
        _ => false,
    };
    if !is_file && size > 0 {
        return Err(if flag == b'S' { ReadFault::Sparse } else { ReadFault::Content });
    }
    let Some(path) = checked("path", path)? else {
        return match flag {
            b'5' | 0 | b'0' => Ok(Step::Nothing),
            _ => Err(ReadFault::Path { what: "path", text: shown(path), fault: crate::PathFault::Empty }),
        };
    };
    if let Some(marker) = marker(&path)? {
        return Ok(marker);
    }
    let kind = match flag {
        _ if is_file => Kind::File,
        0 | b'0' | b'5' | b'7' => Kind::Directory,
        b'1' => Kind::HardLink {
            target: checked("hard link target", &link.unwrap_or_default())?.ok_or(ReadFault::LinkTarget)?,
        },
        b'2' => Kind::Symlink { target: symlink_target(link)? },
        b'3' | b'4' => {
            let number = |number: std::io::Result<Option<u32>>| {
                number.map_err(wrong("a device number is malformed")).map(Option::unwrap_or_default)
            };
            let (major, minor) = (number(header.device_major())?, number(header.device_minor())?);
            if flag == b'3' {
                Kind::CharacterDevice { major, minor }
            } else {
                Kind::BlockDevice { major, minor }
            }
        }
        b'6' => Kind::Fifo,
        b'S' => return Err(ReadFault::Sparse),
        other => return Err(ReadFault::Type(other)),
    };
    let owner = |field: std::io::Result<u64>| {
        field
            .ok()
            .and_then(|id| u32::try_from(id).ok())
            .ok_or(ReadFault::Pax("its owner or group is malformed"))
    };
    let mut entry = Entry::new(path, kind, header.mode().map_err(wrong("its mode is malformed"))? & 0o7777);
    entry.uid = pax.uid.map_or_else(|| owner(header.uid()), Ok)?;
    entry.gid = pax.gid.map_or_else(|| owner(header.gid()), Ok)?;
    // Times before 1970 or beyond all reason read as 1970.
    entry.mtime =
        pax.mtime.unwrap_or_else(|| header.mtime().ok().filter(|&time| time < 1 << 40).unwrap_or(0));
    entry.xattrs = pax.xattrs;
    Ok(Step::Change(Change::Put(entry)))
}

fn checked(what: &'static str, bytes: &[u8]) -> Result<Option<EntryPath>, ReadFault> {
    EntryPath::clean(bytes).map_err(|error| {
        let text = shown(bytes);
        match error {
            Error::Path { fault, .. } => ReadFault::Path { what, text, fault },
            _ => ReadFault::LinkTarget,
        }
    })
}

fn symlink_target(link: Option<Vec<u8>>) -> Result<String, ReadFault> {
    link.filter(|link| !link.is_empty() && link.len() <= EntryPath::LONGEST && !link.contains(&0))
        .and_then(|link| String::from_utf8(link).ok())
        .ok_or(ReadFault::LinkTarget)
}

/// What a name with a meaning of its own means. AUFS made whiteouts as hard links, so their kind does not matter.
fn marker(path: &EntryPath) -> Result<Option<Step>, ReadFault> {
    if !path.parts().any(|part| part.starts_with(WHITEOUT)) {
        return Ok(None);
    }
    let (parent, name) = (path.parent(), path.name());
    if path.parts().next().is_some_and(|first| first.starts_with(AUFS) && path.as_str() != OPAQUE) {
        return Ok(Some(Step::Nothing));
    }
    if parent.as_ref().is_some_and(|parent| parent.parts().any(|part| part.starts_with(WHITEOUT))) {
        return Err(ReadFault::Whiteout);
    }
    if name == OPAQUE {
        return Ok(Some(Step::Change(Change::Opaque(parent))));
    }
    let removed = name.strip_prefix(WHITEOUT).ok_or(ReadFault::Whiteout)?;
    let removed = match parent {
        Some(parent) => parent.join(removed),
        None => EntryPath::new(removed),
    };
    removed.map(|path| Some(Step::Change(Change::Whiteout(path)))).map_err(|_| ReadFault::Whiteout)
}
