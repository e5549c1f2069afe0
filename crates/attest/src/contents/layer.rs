//! What one layer holds.

use std::io::{self, BufRead, Read};

use longshore_layer::{
    Kind,
    read::{Change, Compression, LayerReader},
};
use longshore_oci::{Descriptor, Digest, Digester};
use serde::{Deserialize, Serialize};

use super::{coding, elf};
use crate::{AttestError, dpkg};

/// The most entries of a layer that are kept: ten times those of the largest wheels.
const MOST_ITEMS: usize = 1_000_000;
/// The most bytes of names that are kept of a layer.
const MOST_NAMES: usize = 96 << 20;
/// The most bytes that are read of lists of files.
const MOST_LISTED: u64 = 64 << 20;

/// What a layer does to an image, and what its packages call theirs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerContents {
    /// The digest of its uncompressed bytes.
    pub diff_id: Digest,
    /// How many they are.
    pub uncompressed_size: u64,
    /// Its entries, as they stand in it.
    #[serde(with = "coding")]
    pub items: Vec<Item>,
    /// The lists of packages' files that it has.
    pub claims: Vec<Claim>,
    /// The versions of the Debian packages that it lists: the file that says so, name and version.
    pub debian: Vec<(String, String, String)>,
}

/// An entry of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its path below the root; empty for the root itself.
    pub path: String,
    /// What it is.
    pub content: Content,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A regular file.
    File {
        /// Its length in bytes.
        size: u64,
        /// The first half of the SHA-256 of its content: enough to tell which files are the same.
        hash: u128,
        /// What sort of file it is.
        nature: Nature,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Link {
        /// Where it points.
        target: String,
    },
    /// Another name for a file.
    HardLink {
        /// The file.
        target: String,
    },
    /// A device or a pipe.
    Special,
    /// Removes what lower layers have at the path.
    Whiteout,
    /// Removes what lower layers have in the directory.
    Opaque,
}

/// What can be said of a file by its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    /// Nothing.
    Plain,
    /// A program or a library.
    Elf {
        /// The bytes of symbols and debug information, which nothing loads.
        unloaded: u64,
    },
    /// A static library: for linking programs, not for running them.
    Archive,
}

/// The files that a package calls its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The file that says so: `RECORD` of a wheel, or a list of dpkg's. While that is visible, the package is there.
    pub list: String,
    /// The package, as the file is called after it: `numpy-2.1.3`, `libc6:amd64`.
    pub package: String,
    /// Directories whose files are the package's, in `site-packages`.
    pub directories: Vec<String>,
    /// Single files.
    pub files: Vec<String>,
}

/// A file that is looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum List {
    Record,
    DpkgFiles,
    DpkgSums,
    DpkgStatus,
}

impl List {
    fn of(path: &str) -> Option<Self> {
        let extension = super::extension(path);
        if path.ends_with(".dist-info/RECORD") {
            Some(Self::Record)
        } else if path == "var/lib/dpkg/status" {
            Some(Self::DpkgStatus)
        } else if path.starts_with("var/lib/dpkg/info/") {
            (extension == Some("list")).then_some(Self::DpkgFiles)
        } else if path.starts_with("var/lib/dpkg/status.d/") {
            Some(if extension == Some("md5sums") { Self::DpkgSums } else { Self::DpkgStatus })
        } else {
            None
        }
    }
}

impl LayerContents {
    /// Reads a layer to its end, and compares it with its diff_id. Of the files' contents nothing is kept but what
    /// [`Content`] and [`Claim`] say.
    pub fn read(layer: &Descriptor, diff_id: &Digest, bytes: impl Read) -> Result<Self, AttestError> {
        let media_type = &layer.media_type;
        let compression = Compression::of(media_type).ok_or_else(|| AttestError::LayerType {
            layer: layer.digest,
            media_type: media_type.to_string(),
        })?;
        let wrong = |source| AttestError::Layer { layer: layer.digest, source };
        let beyond = |why: &'static str| AttestError::TooMuch { layer: layer.digest, why };
        let mut reader = LayerReader::new(bytes, compression).map_err(wrong)?;
        let mut contents = Self {
            diff_id: *diff_id,
            uncompressed_size: 0,
            items: Vec::new(),
            claims: Vec::new(),
            debian: Vec::new(),
        };
        let (mut names, mut listed) = (0, 0);
        while let Some(mut entry) = reader.next_entry().map_err(wrong)? {
            let size = entry.size();
            let (path, content) = match entry.change().clone() {
                Change::Whiteout(path) => (path.as_str().to_owned(), Content::Whiteout),
                Change::Opaque(path) => {
                    (path.map(|path| path.as_str().to_owned()).unwrap_or_default(), Content::Opaque)
                }
                Change::Put(put) => {
                    let path = put.path.as_str().to_owned();
                    let content = match put.kind {
                        Kind::Directory => Content::Directory,
                        Kind::Symlink { target } => Content::Link { target },
                        Kind::HardLink { target } => Content::HardLink { target: target.as_str().to_owned() },
                        Kind::File => {
                            let list = List::of(&path);
                            if list.is_some() {
                                listed += size;
                            }
                            if listed > MOST_LISTED {
                                return Err(beyond("it lists more files of packages than can be looked at"));
                            }
                            let failed = |error: io::Error| AttestError::File {
                                path: format!("/{path}"),
                                why: error.to_string(),
                            };
                            let (content, text) = file(&mut entry, size, list.is_some()).map_err(failed)?;
                            if let Some(list) = list {
                                contents.list(list, &path, &text).map_err(failed)?;
                            }
                            content
                        }
                        _ => Content::Special,
                    };
                    (path, content)
                }
            };
            names += path.len();
            if let Content::Link { target } | Content::HardLink { target } = &content {
                names += target.len();
            }
            if contents.items.len() == MOST_ITEMS || names > MOST_NAMES {
                return Err(beyond("it has more files than can be looked at one by one"));
            }
            contents.items.push(Item { path, content });
        }
        let summary = reader.finish().map_err(wrong)?;
        if summary.diff_id != *diff_id {
            let (expected, found) = (*diff_id, summary.diff_id);
            return Err(AttestError::DiffId { layer: layer.digest, expected, found });
        }
        contents.uncompressed_size = summary.uncompressed_size;
        Ok(contents)
    }

    fn list(&mut self, list: List, path: &str, text: &[u8]) -> io::Result<()> {
        let lossy = String::from_utf8_lossy(text);
        let name = path.rsplit('/').next().unwrap_or_default();
        match list {
            List::DpkgStatus => {
                let packages = dpkg::packages(text, path)?.into_iter();
                self.debian.extend(packages.map(|package| (path.to_owned(), package.name, package.version)));
            }
            List::DpkgFiles | List::DpkgSums => {
                let files = lossy.lines().filter_map(|line| match list {
                    List::DpkgSums => line.split_once("  ").map(|(_, path)| path),
                    _ => Some(line),
                });
                let files = files.map(|file| file.trim_start_matches('/').to_owned());
                self.claims.push(Claim {
                    list: path.to_owned(),
                    package: name.trim_end_matches(".list").trim_end_matches(".md5sums").to_owned(),
                    directories: Vec::new(),
                    files: files.filter(|file| !file.is_empty() && file != ".").collect(),
                });
            }
            List::Record => self.claims.extend(record(path, &lossy)),
        }
        Ok(())
    }
}

/// Hashes a file, looks what it is, and keeps its text if that is wanted.
fn file(entry: &mut impl BufRead, size: u64, keep: bool) -> io::Result<(Content, Vec<u8>)> {
    let (mut digester, mut scan, mut text) = (Digester::new(), elf::Scan::default(), Vec::new());
    loop {
        let bytes = entry.fill_buf()?;
        let length = bytes.len();
        if length == 0 {
            break;
        }
        digester.update(bytes);
        scan.take(bytes);
        if keep {
            text.extend_from_slice(bytes);
        }
        entry.consume(length);
    }
    let mut half = [0; 16];
    half.copy_from_slice(&digester.finish().as_bytes()[..16]);
    let nature = match scan.unloaded() {
        Some(unloaded) => Nature::Elf { unloaded },
        None if scan.head().starts_with(b"!<arch>\n") || scan.head().starts_with(b"!<thin>\n") => {
            Nature::Archive
        }
        None => Nature::Plain,
    };
    Ok((Content::File { size, hash: u128::from_be_bytes(half), nature }, text))
}

/// What a wheel calls its own (binary distribution format, "The .dist-info directory"): below `site-packages` the
/// directories, and everywhere else the files.
fn record(path: &str, text: &str) -> Option<Claim> {
    let folder = path.strip_suffix("/RECORD")?;
    let (site, package) = folder.rsplit_once('/').unwrap_or(("", folder));
    let package = package.strip_suffix(".dist-info")?.to_owned();
    let mut claim = Claim { list: path.to_owned(), package, directories: Vec::new(), files: Vec::new() };
    for line in text.lines() {
        // A path is quoted only if there is a comma or a quote in it; such a file is found by its directory.
        let name = line.split(',').next().unwrap_or_default().trim_matches('"');
        let Some(file) = resolved(site, name) else { continue };
        match file.strip_prefix(site).and_then(|below| below.trim_start_matches('/').rsplit_once('/')) {
            Some((directory, _)) => {
                let directory = directory.trim_end_matches("/__pycache__");
                if directory != "__pycache__" {
                    claim.directories.push(format!("{site}/{directory}"));
                }
            }
            None => claim.files.push(file),
        }
    }
    for paths in [&mut claim.directories, &mut claim.files] {
        paths.sort_unstable();
        paths.dedup();
    }
    Some(claim)
}

/// A path of RECORD, taken from the directory that it is relative to; `None` for one that leads out of the image.
fn resolved(site: &str, name: &str) -> Option<String> {
    let mut parts: Vec<&str> = if name.starts_with('/') { Vec::new() } else { site.split('/').collect() };
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    (!name.is_empty()).then(|| parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_layer::{Entry, EntryPath, LayerWriter};
    use longshore_oci::MediaType;

    #[test]
    fn a_record_claims_directories_in_site_packages_and_files_elsewhere() {
        let text = "a/b/x.py,sha256=1,2\na/b/__pycache__/x.cpython-311.pyc,,\na/y.py,,\nsix.py,,\n\
                    ../../../bin/tool,,\n../../../../../../../etc/passwd,,\na-1.dist-info/RECORD,,\n";
        let claim = record("opt/venv/lib/python3.11/site-packages/a-1.dist-info/RECORD", text).unwrap();
        assert_eq!(claim.package, "a-1");
        let site = "opt/venv/lib/python3.11/site-packages";
        assert_eq!(claim.directories, ["a", "a-1.dist-info", "a/b"].map(|it| format!("{site}/{it}")));
        assert_eq!(claim.files, ["opt/venv/bin/tool".to_owned(), format!("{site}/six.py")]);
    }

    #[test]
    fn a_layer_is_read_and_compared() {
        let path = |text: &str| EntryPath::new(text).unwrap();
        let mut writer = LayerWriter::new(Vec::new());
        writer.whiteout(&path("etc/gone")).unwrap();
        writer.file(&Entry::file(path("lib/libx.a"), 0o644), b"!<arch>\n...").unwrap();
        let list = b"/.\n/lib\n/lib/libx.a\n";
        writer.file(&Entry::file(path("var/lib/dpkg/info/libx:amd64.list"), 0o644), list).unwrap();
        let (layer, summary) = writer.finish().unwrap();
        let descriptor = Descriptor::of(MediaType::LayerGzip, &layer);
        let read = LayerContents::read(&descriptor, &summary.diff_id, &layer[..]).unwrap();
        assert_eq!(read.uncompressed_size, summary.uncompressed_size);
        let found = |name: &str| read.items.iter().find(|item| item.path == name).unwrap().content.clone();
        assert_eq!(found("etc/gone"), Content::Whiteout);
        assert!(matches!(found("lib/libx.a"), Content::File { size: 11, nature: Nature::Archive, .. }));
        assert_eq!(read.claims[0].package, "libx:amd64");
        assert_eq!(read.claims[0].files, ["lib", "lib/libx.a"]);
        let error = LayerContents::read(&descriptor, &Digest::of("other"), &layer[..]).unwrap_err();
        assert!(matches!(error, AttestError::DiffId { .. }), "{error}");
    }
}
