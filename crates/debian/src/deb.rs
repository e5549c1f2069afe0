//! Reading a `.deb` (deb(5)): an `ar` archive of two tar archives, control information and files.
//!
//! A `.deb` is what its index said it is, byte for byte, before it comes here; it is still treated as hostile, because a
//! signature says who made an archive and not that it is well made.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
};

use longshore_layer::{EntryPath, Kind};

use crate::Error;

/// More entries than any package has (the largest of Debian have some 60 000).
const MOST_ENTRIES: usize = 400_000;
/// The most that a package may unpack to: 16 GiB; Debian's largest come to 4.
const MOST_CONTENT: u64 = 16 << 30;
/// The most that the control information may come to.
const MOST_CONTROL: u64 = 64 << 20;
/// The memory that a decoder may ask for; `xz -9` needs 65 MiB.
const MOST_DECODER_MEMORY: u64 = 128 << 20;
const LARGEST_ZSTD_WINDOW_LOG: u32 = 27;

/// A package's control information and files.
#[derive(Debug)]
pub struct Deb {
    /// `control`, `postinst`, `md5sums`, … by name.
    pub control: BTreeMap<String, Vec<u8>>,
    /// The files, in the archive's order.
    pub entries: Vec<DebEntry>,
    /// The paths of all entries as `dpkg` lists them, also of those whose content was not kept: `/.`, `/bin`, ….
    pub list: Vec<String>,
}

/// One file of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebEntry {
    /// Where it goes.
    pub path: EntryPath,
    /// What it is. A hard link leads to a file that comes earlier.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// When it was changed, in seconds since 1970.
    pub mtime: u64,
    /// Where a file's content lies in the spool.
    pub content: Extent,
}

/// A stretch of a spool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// The number of the spool.
    pub spool: usize,
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub size: u64,
}

/// Where the contents of files are put, one after another, until they are written to layers: an unnamed temporary
/// file, so that memory does not grow with the packages.
#[derive(Debug)]
pub struct Spool {
    number: usize,
    file: File,
    length: u64,
}

impl Spool {
    /// An empty spool, whose extents bear `number`.
    pub fn new(number: usize) -> io::Result<Self> {
        Ok(Self { number, file: tempfile::tempfile()?, length: 0 })
    }

    /// Appends what `content` has, at most `limit` bytes.
    fn append(&mut self, content: &mut impl Read, limit: u64) -> io::Result<Extent> {
        let offset = self.length;
        let size = io::copy(&mut content.take(limit), &mut Disk(&self.file))?;
        self.length += size;
        Ok(Extent { spool: self.number, offset, size })
    }

    /// Reads a stretch.
    pub fn read(&self, extent: Extent) -> io::Result<Vec<u8>> {
        let mut content = Vec::with_capacity(usize::try_from(extent.size).unwrap_or(0));
        self.reader(extent).read_to_end(&mut content)?;
        Ok(content)
    }

    /// A reader of a stretch. Any number of them may read at once.
    pub const fn reader(&self, extent: Extent) -> SpoolReader<'_> {
        SpoolReader { file: &self.file, extent }
    }
}

/// The spool's file. Its errors say so, because they are not the package's fault.
struct Disk<'a>(&'a File);

/// An error of the disk.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct DiskError(io::Error);

impl Write for Disk<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(|error| io::Error::other(DiskError(error)))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a stretch of a spool.
#[derive(Debug)]
pub struct SpoolReader<'a> {
    file: &'a File,
    extent: Extent,
}

impl Read for SpoolReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.extent.size).unwrap_or(usize::MAX));
        let read = std::os::unix::fs::FileExt::read_at(self.file, &mut buffer[..most], self.extent.offset)?;
        self.extent.offset += read as u64;
        self.extent.size -= read as u64;
        Ok(read)
    }
}

impl Deb {
    /// Reads the package `name` from `input`. Contents of files go to `spool`; entries for which `wanted` says no are
    /// listed but not kept.
    pub fn read(
        input: impl Read,
        name: &str,
        spool: &mut Spool,
        wanted: impl Fn(&EntryPath, &Kind) -> bool,
    ) -> Result<Self, Error> {
        let broken = |why: String| Error::Deb { deb: name.to_owned(), why };
        let mut members = Members::new(BufReader::with_capacity(256 << 10, input))
            .map_err(|error| broken(error.to_string()))?;
        let mut deb = Self { control: BTreeMap::new(), entries: Vec::new(), list: Vec::new() };
        let mut seen = (false, false);
        for expected in ["debian-binary", "control.tar", "data.tar"] {
            let found = members.next(expected).map_err(|error| broken(error.to_string()))?;
            match expected {
                "debian-binary" => {
                    let mut version = String::new();
                    let read = members.member().take(64).read_to_string(&mut version);
                    if read.is_err() || !version.starts_with("2.") {
                        return Err(broken("its format is not 2.x".to_owned()));
                    }
                }
                "control.tar" => {
                    seen.0 = true;
                    let member =
                        decoder(&found, members.member()).map_err(|error| broken(error.to_string()))?;
                    deb.control = control(member).map_err(|error| broken(format!("control.tar: {error}")))?;
                }
                _ => {
                    seen.1 = true;
                    let member =
                        decoder(&found, members.member()).map_err(|error| broken(error.to_string()))?;
                    deb.data(member, spool, &wanted).map_err(|error| {
                        match error.downcast::<DiskError>() {
                            Ok(DiskError(source)) => crate::error::io("write", &std::env::temp_dir())(source),
                            Err(error) => broken(format!("data.tar: {error}")),
                        }
                    })?;
                }
            }
            members.finish().map_err(|error| broken(error.to_string()))?;
        }
        if seen != (true, true) || !deb.control.contains_key("control") {
            return Err(broken("it has no control information".to_owned()));
        }
        Ok(deb)
    }

    fn data(
        &mut self,
        input: impl Read,
        spool: &mut Spool,
        wanted: &impl Fn(&EntryPath, &Kind) -> bool,
    ) -> io::Result<()> {
        let mut seen: HashMap<EntryPath, Kind> = HashMap::new();
        let mut room = MOST_CONTENT;
        let mut archive = tar::Archive::new(input);
        for entry in archive.entries()? {
            let mut entry = entry?;
            let Some(path) = path(&entry.path_bytes())? else {
                self.list.push("/.".to_owned());
                continue;
            };
            if seen.len() >= MOST_ENTRIES {
                return Err(invalid(format!("it has more than {MOST_ENTRIES} entries")));
            }
            let kind = kind(&entry)?;
            for parent in std::iter::successors(path.parent(), EntryPath::parent) {
                if seen.get(&parent).is_some_and(|kind| *kind != Kind::Directory) {
                    return Err(invalid(format!("`{path}` lies below `{parent}`, which is not a directory")));
                }
            }
            if let Kind::HardLink { target } = &kind
                && seen.get(target) != Some(&Kind::File)
            {
                return Err(invalid(format!(
                    "`{path}` is a hard link to `{target}`, which is no file before it"
                )));
            }
            if seen.insert(path.clone(), kind.clone()).is_some() {
                return Err(invalid(format!("`{path}` occurs twice")));
            }
            self.list.push(format!("/{path}"));
            let size = entry.size();
            if size > 0 && kind != Kind::File {
                return Err(invalid(format!("`{path}` is no file and has content")));
            }
            room = room
                .checked_sub(size)
                .ok_or_else(|| invalid(format!("it unpacks to more than {MOST_CONTENT} bytes")))?;
            if !wanted(&path, &kind) {
                continue;
            }
            let content = if size > 0 {
                spool.append(&mut entry, size)?
            } else {
                Extent { spool: spool.number, ..Extent::default() }
            };
            if content.size != size {
                return Err(invalid(format!("`{path}` ends early")));
            }
            let header = entry.header();
            self.entries.push(DebEntry {
                path,
                kind,
                mode: header.mode()? & 0o7777,
                uid: id(header.uid()?)?,
                gid: id(header.gid()?)?,
                mtime: header.mtime()?,
                content,
            });
        }
        // The decoder checks its trailer only when it is read to its end.
        io::copy(&mut archive.into_inner(), &mut io::sink()).map(drop)
    }
}

/// The control information, by file name.
fn control(input: impl Read) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let mut archive = tar::Archive::new(input.take(MOST_CONTROL));
    for entry in archive.entries()? {
        let mut entry = entry?;
        let Some(path) = path(&entry.path_bytes())? else { continue };
        let plain = path.parts().count() == 1
            && path.name().bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.+".contains(&b));
        if !plain || kind(&entry)? != Kind::File {
            return Err(invalid(format!("`{path}` is no plain file")));
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        if content.len() as u64 != entry.size() || files.insert(path.name().to_owned(), content).is_some() {
            return Err(invalid(format!("`{path}` ends early or occurs twice")));
        }
    }
    Ok(files)
}

/// A path of an archive as ours; `None` for the root.
fn path(bytes: &[u8]) -> io::Result<Option<EntryPath>> {
    let text = std::str::from_utf8(bytes).map_err(|_| invalid("a path is not UTF-8".to_owned()))?;
    let text = text.strip_prefix("./").unwrap_or(text);
    let text = text.strip_suffix('/').unwrap_or(text);
    if text.is_empty() || text == "." {
        return Ok(None);
    }
    EntryPath::new(text).map(Some).map_err(|error| invalid(error.to_string()))
}

fn kind(entry: &tar::Entry<'_, impl Read>) -> io::Result<Kind> {
    let target = || -> io::Result<Vec<u8>> {
        let target = entry.link_name_bytes().ok_or_else(|| invalid("a link leads nowhere".to_owned()))?;
        Ok(target.into_owned())
    };
    match entry.header().entry_type() {
        tar::EntryType::Regular | tar::EntryType::Continuous => Ok(Kind::File),
        tar::EntryType::Directory => Ok(Kind::Directory),
        tar::EntryType::Symlink => {
            let target = String::from_utf8(target()?)
                .map_err(|_| invalid("a link's target is not UTF-8".to_owned()))?;
            if target.is_empty() || target.contains('\0') {
                return Err(invalid("a link's target is empty or has a NUL".to_owned()));
            }
            Ok(Kind::Symlink { target })
        }
        tar::EntryType::Link => {
            let target =
                path(&target()?)?.ok_or_else(|| invalid("a hard link leads to the root".to_owned()))?;
            Ok(Kind::HardLink { target })
        }
        other => Err(invalid(format!("it has an entry of type {other:?}, which no package needs"))),
    }
}

fn id(id: u64) -> io::Result<u32> {
    u32::try_from(id).map_err(|_| invalid(format!("{id} is no user or group")))
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// The decoder for a member or file, by the end of its name.
pub(crate) fn decoder<'a>(name: &str, input: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    Ok(match extension {
        "xz" => {
            let stream = liblzma::stream::Stream::new_stream_decoder(
                MOST_DECODER_MEMORY,
                liblzma::stream::CONCATENATED,
            )?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(input, stream))
        }
        "gz" => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        "zst" => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
            decoder.window_log_max(LARGEST_ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
        "tar" | "Packages" | "" => Box::new(input),
        _ => return Err(invalid(format!("`{name}` is compressed in a way that longshore does not read"))),
    })
}

/// The members of an `ar` archive, one after another.
struct Members<R: Read> {
    input: R,
    /// What is left of the current member, and its padding.
    left: u64,
    padding: u64,
}

impl<R: BufRead> Members<R> {
    fn new(mut input: R) -> io::Result<Self> {
        let mut magic = [0; 8];
        input.read_exact(&mut magic).map_err(|_| invalid("it is no ar archive".to_owned()))?;
        if magic != *b"!<arch>\n" {
            return Err(invalid("it is no ar archive".to_owned()));
        }
        Ok(Self { input, left: 0, padding: 0 })
    }

    /// Goes to the next member, whose name must be `expected` or begin with it and a dot. Members whose names begin with
    /// `_` are skipped, as deb(5) asks.
    fn next(&mut self, expected: &str) -> io::Result<String> {
        loop {
            let mut header = [0; 60];
            self.input
                .read_exact(&mut header)
                .map_err(|_| invalid(format!("it ends before its member `{expected}`")))?;
            let text = |range: std::ops::Range<usize>| {
                std::str::from_utf8(&header[range]).unwrap_or_default().trim_end()
            };
            let size: Option<u64> = Some(text(48..58))
                .filter(|it| it.bytes().all(|b| b.is_ascii_digit()))
                .and_then(|it| it.parse().ok());
            let name = text(0..16).trim_end_matches('/').to_owned();
            let Some(size) = size.filter(|_| header[58..] == *b"`\n") else {
                return Err(invalid("an ar header is damaged".to_owned()));
            };
            (self.left, self.padding) = (size, size % 2);
            if name.starts_with('_') {
                self.finish()?;
                continue;
            }
            let is_it =
                name == expected || name.strip_prefix(expected).is_some_and(|rest| rest.starts_with('.'));
            return if is_it {
                Ok(name)
            } else {
                Err(invalid(format!("its member `{name}` stands where `{expected}` should")))
            };
        }
    }

    fn member(&mut self) -> BufReader<Member<'_, R>> {
        BufReader::with_capacity(64 << 10, Member(self))
    }

    /// Passes over what is left of the current member.
    fn finish(&mut self) -> io::Result<()> {
        let rest = self.left + std::mem::take(&mut self.padding);
        self.left = 0;
        let passed = io::copy(&mut self.input.by_ref().take(rest), &mut io::sink())?;
        // The last member's padding is often left out.
        if passed + 1 < rest { Err(invalid("it ends within a member".to_owned())) } else { Ok(()) }
    }
}

struct Member<'a, R: Read>(&'a mut Members<R>);

impl<R: Read> Read for Member<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.0.left).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        let read = self.0.input.read(&mut buffer[..most])?;
        if read == 0 {
            return Err(invalid("it ends within a member".to_owned()));
        }
        self.0.left -= read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Result<Deb, Error> {
        Deb::read(bytes, "x.deb", &mut Spool::new(0).unwrap(), |_, _| true)
    }

    #[test]
    fn a_full_disk_is_not_blamed_on_the_package() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut spool = Spool { number: 0, file: full, length: 0 };
        let error = spool.append(&mut &b"content"[..], 7).unwrap_err();
        let DiskError(error) = error.downcast::<DiskError>().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes: Vec<u8>, size in 0..200_u32, name in "debian-binary|control.tar|_x|data.tar.xz") {
            prop_assert!(read(&bytes).is_err());
            let header = format!("!<arch>\n{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n", 0, 0, 0, 0);
            prop_assert!(read(&[header.as_bytes(), &bytes].concat()).is_err());
        }

        #[test]
        fn hostile_tars_do_no_harm(mut bytes in proptest::collection::vec(any::<u8>(), 512..1600)) {
            bytes[257..263].copy_from_slice(b"ustar\0");
            let mut sum = 0_u32;
            bytes[148..156].fill(b' ');
            bytes[..512].iter().for_each(|byte| sum += u32::from(*byte));
            bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            let mut deb = Deb { control: BTreeMap::new(), entries: Vec::new(), list: Vec::new() };
            let _ = deb.data(&bytes[..], &mut Spool::new(0).unwrap(), &|_, _| true);
            let _ = control(&bytes[..]);
        }
    }
}
