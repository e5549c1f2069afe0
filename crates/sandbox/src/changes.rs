//! What a container changed: the upper directory of its overlay, written as an image layer.
//!
//! Written by the supervisor, in the user namespace in which the container ran: only there do files have the owners that
//! they had inside, and only there can all of them be read.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs, io,
    os::unix::{
        ffi::OsStringExt as _,
        fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use longshore_layer::{Entry, EntryPath, Kind, LayerWriter, Level};

use crate::{Failure, Stage, error::At, tree};

/// The attribute that holds a program's capabilities; the only one that packages set.
const CAPABILITIES: &str = "security.capability";
/// Larger than any value of it.
const LARGEST_VALUE: usize = 256;

/// Writes everything in `upper` to `out`, as a layer in the image format. Named pipes, sockets and devices are left out.
pub(crate) fn write(upper: &Path, out: fs::File) -> Result<(), Failure> {
    let out = io::BufWriter::with_capacity(256 << 10, out);
    let mut walk = Walk { upper, writer: LayerWriter::with_level(out, Level::Fast), links: HashMap::new() };
    walk.directory(None).at(Stage::Changes, "the changed files")?;
    let (mut out, _) =
        walk.writer.finish().map_err(io::Error::other).at(Stage::Changes, "the changed files")?;
    io::Write::flush(&mut out).at(Stage::Changes, "the changed files")
}

struct Walk<'a, W: io::Write> {
    upper: &'a Path,
    writer: LayerWriter<W>,
    links: HashMap<u64, EntryPath>,
}

impl<W: io::Write> Walk<'_, W> {
    fn at(&self, path: Option<&EntryPath>) -> PathBuf {
        path.map_or_else(|| self.upper.to_owned(), |path| self.upper.join(path.as_str()))
    }

    /// Everything in a directory, in the order of a layer: whiteouts sort by the names that they have there.
    fn directory(&mut self, path: Option<&EntryPath>) -> io::Result<()> {
        let folder = self.at(path);
        let mut names = Vec::new();
        for entry in fs::read_dir(&folder)? {
            let name = String::from_utf8(OsString::into_vec(entry?.file_name()))
                .map_err(|name| invalid(format!("{:?} is not UTF-8", name.into_bytes())))?;
            let place = match path {
                Some(path) => path.join(&name),
                None => EntryPath::new(&name),
            };
            let place = place.map_err(|error| invalid(error.to_string()))?;
            let metadata = fs::symlink_metadata(self.at(Some(&place)))?;
            let gone = tree::is_whiteout(&metadata);
            names.push((if gone { format!(".wh.{name}") } else { name }, place, metadata));
        }
        names.sort_by(|(a, ..), (b, ..)| a.as_bytes().cmp(b.as_bytes()));
        let mut opaque = path.is_some() && tree::is_opaque(&folder);
        for (name, place, metadata) in names {
            if opaque && name.as_bytes() > b".wh..wh..opq" {
                self.writer.opaque(path).map_err(io::Error::other)?;
                opaque = false;
            }
            self.put(&place, &metadata)?;
        }
        if opaque {
            self.writer.opaque(path).map_err(io::Error::other)?;
        }
        Ok(())
    }

    fn put(&mut self, path: &EntryPath, metadata: &fs::Metadata) -> io::Result<()> {
        if tree::is_whiteout(metadata) {
            return self.writer.whiteout(path).map_err(io::Error::other);
        }
        let place = self.at(Some(path));
        let entry = |kind| {
            Entry::new(path.clone(), kind, metadata.mode() & 0o7777)
                .owned_by(metadata.uid(), metadata.gid())
                .changed_at(u64::try_from(metadata.mtime()).unwrap_or(0))
        };
        let kind = metadata.file_type();
        if kind.is_dir() {
            self.writer.add(&entry(Kind::Directory)).map_err(io::Error::other)?;
            return self.directory(Some(path));
        }
        if metadata.nlink() > 1 && kind.is_file() {
            if let Some(first) = self.links.get(&metadata.ino()) {
                let link = entry(Kind::HardLink { target: first.clone() });
                return self.writer.add(&link).map_err(io::Error::other);
            }
            self.links.insert(metadata.ino(), path.clone());
        }
        if kind.is_symlink() {
            let target = fs::read_link(&place)?.into_os_string().into_string();
            let target =
                target.map_err(|_| invalid(format!("the target of the link {path} is not UTF-8")))?;
            self.writer.add(&entry(Kind::Symlink { target })).map_err(io::Error::other)?;
        } else if kind.is_file() {
            let mut entry = entry(Kind::File);
            let mut value = [0; LARGEST_VALUE];
            if let Ok(length) = rustix::fs::lgetxattr(&place, CAPABILITIES, &mut value[..]) {
                entry.xattrs.insert(CAPABILITIES.to_owned(), value[..length].to_vec());
            }
            // Nothing of the container runs any more; that no link is followed is certain all the same.
            let flags = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
            let file = fs::File::options().read(true).custom_flags(flags).open(&place)?;
            self.writer.file_from(&entry, metadata.len(), file).map_err(io::Error::other)?;
        }
        Ok(())
    }
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
