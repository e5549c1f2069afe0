//! The user's code: which files of the source root go into the image.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use ignore::WalkBuilder;
use longshore_oci::{Digest, Digester};
use serde::Serialize;

/// The most that a code layer may hold, in bytes. Data belongs into the artifact store or a volume, not into code.
const LARGEST_TREE: u64 = 2 << 30;
/// The most files that a code layer may hold.
const MOST_FILES: usize = 200_000;

/// Why the source root cannot be packed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// A file or folder cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The walk failed, in a way that has no single file.
    #[error("cannot walk the source folder: {0}")]
    Walk(#[from] ignore::Error),
    /// A file's name is not UTF-8.
    #[error("the name of {0} is not UTF-8; rename the file or name it in .gitignore")]
    Name(PathBuf),
    /// A symbolic link that leaves the source root: it would dangle in the image, or show what it should not.
    #[error(
        "the symbolic link {path} points outside of the source folder, to {target}; replace it by a copy, or name it in .gitignore"
    )]
    LinkOutside {
        /// The link.
        path: PathBuf,
        /// Where it points.
        target: PathBuf,
    },
    /// Neither a file, a folder nor a link.
    #[error("{0} is neither a file, a folder nor a symbolic link; name it in .gitignore")]
    Special(PathBuf),
    /// More than a code layer should hold.
    #[error(
        "the source folder {root} holds more than {limit}; the folder of the script is what goes into the image: \
         move the script to a folder of its own, or name what is not code in .gitignore"
    )]
    TooLarge {
        /// The source root.
        root: PathBuf,
        /// The limit that was passed.
        limit: &'static str,
    },
    /// A file changed between hashing and packing.
    #[error("{0} changed while it was being packed; run again")]
    Changed(PathBuf),
}

/// A file, link or folder of the source tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourceEntry {
    /// The path below the source root, parts separated by `/`.
    pub path: String,
    /// What it is.
    #[serde(flatten)]
    pub kind: SourceKind,
}

/// What a source entry is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum SourceKind {
    /// A regular file.
    File {
        /// Whether its owner may execute it. No other bit of the mode reaches the image, so that the image does not
        /// depend on the umask of a checkout.
        executable: bool,
        /// Its length in bytes.
        size: u64,
        /// The digest of its content.
        digest: Digest,
    },
    /// A symbolic link within the tree.
    Symlink {
        /// Its target, as written.
        target: String,
    },
    /// A folder. Named so that empty ones exist in the image too.
    Directory,
}

/// The code: every entry of the source root that goes into the image, sorted by path.
///
/// Left out are hidden files and folders (`.git`, `.env`, `.venv`, …), what `.gitignore` and `.ignore` files name,
/// compiled bytecode, and virtual environments.
#[derive(Clone, Debug)]
pub struct SourceTree {
    /// The source root.
    pub root: PathBuf,
    /// The entries.
    pub entries: Vec<SourceEntry>,
}

impl SourceTree {
    /// Reads the tree below `root`, hashing each file.
    pub fn scan(root: &Path) -> Result<Self, SourceError> {
        let read = |path: &Path| {
            let path = path.to_owned();
            move |source| SourceError::Read { path, source }
        };
        let root = fs::canonicalize(root).map_err(read(root))?;
        let too_large = |limit| SourceError::TooLarge { root: root.clone(), limit };
        let walk = WalkBuilder::new(&root)
            .require_git(false)
            .git_global(false)
            .git_exclude(false)
            .parents(false)
            .filter_entry(|entry| !is_derived(entry.path()))
            .build();
        let mut entries = Vec::new();
        let mut total = 0_u64;
        for item in walk {
            let item = item?;
            let path = item.path();
            // The walk stays below the root, so what has no such prefix, or an empty rest, is the root itself.
            let Some(relative) = path.strip_prefix(&root).ok().filter(|rest| *rest != Path::new("")) else {
                continue;
            };
            let name = relative.to_str().ok_or_else(|| SourceError::Name(path.to_owned()))?.to_owned();
            let kind = match item.file_type() {
                Some(kind) if kind.is_dir() => SourceKind::Directory,
                Some(kind) if kind.is_file() => {
                    let file = File::open(path).map_err(read(path))?;
                    let mode = file.metadata().map_err(read(path))?.permissions().mode();
                    let (digest, size) = hash(file).map_err(read(path))?;
                    total += size;
                    SourceKind::File { executable: mode & 0o100 != 0, size, digest }
                }
                Some(kind) if kind.is_symlink() => SourceKind::Symlink { target: inner_target(&root, path)? },
                _ => return Err(SourceError::Special(path.to_owned())),
            };
            entries.push(SourceEntry { path: name, kind });
            if entries.len() > MOST_FILES {
                return Err(too_large("200,000 files"));
            }
            if total > LARGEST_TREE {
                return Err(too_large("2 GiB"));
            }
        }
        entries.sort_by(|a, b| a.path.split('/').cmp(b.path.split('/')));
        Ok(Self { root, entries })
    }

    /// How many files and links there are.
    pub fn files(&self) -> usize {
        self.entries.iter().filter(|entry| entry.kind != SourceKind::Directory).count()
    }

    /// The bytes of all files.
    pub fn bytes(&self) -> u64 {
        let size = |entry: &SourceEntry| match entry.kind {
            SourceKind::File { size, .. } => size,
            _ => 0,
        };
        self.entries.iter().map(size).sum()
    }

    /// The digest of everything that the code layer is made of.
    pub fn digest(&self) -> Digest {
        // Strings, numbers and digests always serialise.
        Digest::of(serde_json::to_vec(&self.entries).unwrap_or_default())
    }

    /// A file's content, to be checked against what [`scan`](Self::scan) saw once it is read.
    pub fn open(&self, entry: &SourceEntry) -> Result<SourceFile, SourceError> {
        let path = self.root.join(&entry.path);
        let SourceKind::File { size, digest, .. } = entry.kind else {
            return Err(SourceError::Changed(path));
        };
        let file = File::open(&path).map_err(|source| SourceError::Read { path: path.clone(), source })?;
        Ok(SourceFile { path, file, size, digest, read: Digester::new(), end: End::Ahead })
    }
}

/// A file of the tree being read.
#[derive(Debug)]
pub struct SourceFile {
    path: PathBuf,
    file: File,
    size: u64,
    digest: Digest,
    read: Digester,
    end: End,
}

/// Whether a file's end has been seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Ahead,
    Seen,
}

impl SourceFile {
    /// Says so if what has been read is not what was hashed before.
    pub fn check(&self) -> Result<(), SourceError> {
        let grown = self.read.length() > self.size;
        let whole = self.read.length() == self.size || self.end == End::Seen;
        if grown || (whole && self.read.clone().finish() != self.digest) {
            return Err(SourceError::Changed(self.path.clone()));
        }
        Ok(())
    }
}

impl Read for SourceFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        if count == 0 && !buffer.is_empty() {
            self.end = End::Seen;
        }
        self.read.update(&buffer[..count]);
        Ok(count)
    }
}

/// Whether a path is made from the code by some tool, and so has no place in the image.
fn is_derived(path: &Path) -> bool {
    let bytecode = path.extension().is_some_and(|extension| extension == "pyc" || extension == "pyo");
    bytecode || path.ends_with("__pycache__") || path.join("pyvenv.cfg").exists()
}

fn hash(mut file: File) -> io::Result<(Digest, u64)> {
    let mut digester = Digester::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((digester.clone().finish(), digester.length())),
            count => digester.update(&buffer[..count]),
        }
    }
}

/// The target of a link, if it stays in the tree.
fn inner_target(root: &Path, link: &Path) -> Result<String, SourceError> {
    let target = fs::read_link(link).map_err(|source| SourceError::Read { path: link.to_owned(), source })?;
    let inside = target.is_relative()
        && fs::canonicalize(link)
            .map_or_else(|_| stays_inside(root, link, &target), |end| end.starts_with(root));
    match target.to_str() {
        Some(text) if inside => Ok(text.to_owned()),
        _ => Err(SourceError::LinkOutside { path: link.to_owned(), target }),
    }
}

/// Whether a dangling link's target is lexically below the root.
fn stays_inside(root: &Path, link: &Path, target: &Path) -> bool {
    let mut path = link.parent().unwrap_or(root).to_owned();
    for part in target.components() {
        match part {
            std::path::Component::ParentDir => drop(path.pop()),
            other => path.push(other),
        }
        if !path.starts_with(root) {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    fn paths(tree: &SourceTree) -> Vec<&str> {
        tree.entries.iter().map(|entry| entry.path.as_str()).collect()
    }

    #[test]
    fn code_is_taken_and_what_is_not_code_is_left() {
        let root = tree(&[
            ("train.py", "1"),
            ("pkg/__init__.py", ""),
            ("pkg/__pycache__/x.cpython-311.pyc", ""),
            (".env", "SECRET=1"),
            (".git/HEAD", ""),
            ("venv/pyvenv.cfg", ""),
            ("venv/lib/x.py", ""),
            (".gitignore", "*.csv\n"),
            ("data.csv", ""),
        ]);
        let tree = SourceTree::scan(root.path()).unwrap();
        assert_eq!(paths(&tree), ["pkg", "pkg/__init__.py", "train.py"]);
        assert_eq!((tree.files(), tree.bytes()), (2, 1));
    }

    #[test]
    fn the_digest_follows_content_and_not_place_or_time() {
        let (one, two) = (tree(&[("a.py", "x"), ("b/c.py", "y")]), tree(&[("b/c.py", "y"), ("a.py", "x")]));
        let digest = |root: &tempfile::TempDir| SourceTree::scan(root.path()).unwrap().digest();
        assert_eq!(digest(&one), digest(&two));
        fs::write(two.path().join("a.py"), "z").unwrap();
        assert_ne!(digest(&one), digest(&two));
    }

    #[test]
    fn entries_are_in_the_order_of_a_layer() {
        let root = tree(&[("a/z.py", ""), ("a.py", ""), ("a-b/c.py", "")]);
        let tree = SourceTree::scan(root.path()).unwrap();
        assert_eq!(paths(&tree), ["a", "a/z.py", "a-b", "a-b/c.py", "a.py"]);
    }

    #[test]
    fn links_stay_inside() {
        let root = tree(&[("a.py", "")]);
        symlink("a.py", root.path().join("b.py")).unwrap();
        assert_eq!(paths(&SourceTree::scan(root.path()).unwrap()), ["a.py", "b.py"]);
        for outside in ["/etc/passwd", "../x", "sub/../../x"] {
            let link = root.path().join("out");
            symlink(outside, &link).unwrap();
            assert!(
                matches!(SourceTree::scan(root.path()), Err(SourceError::LinkOutside { .. })),
                "{outside}"
            );
            fs::remove_file(link).unwrap();
        }
    }

    #[test]
    fn a_file_that_changes_is_noticed() {
        let root = tree(&[("a.py", "x")]);
        let tree = SourceTree::scan(root.path()).unwrap();
        let read = || {
            let mut file = tree.open(&tree.entries[0]).unwrap();
            io::copy(&mut file, &mut io::sink()).unwrap();
            file.check()
        };
        read().unwrap();
        for content in ["y", "", "xx"] {
            fs::write(root.path().join("a.py"), content).unwrap();
            assert!(matches!(read(), Err(SourceError::Changed(_))), "{content}");
        }
    }
}
