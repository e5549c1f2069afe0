//! The user's code: which files of the source root go into the image.
//!
//! ```text
//! walk (.dockerignore, or .gitignore) ──▶ index (what has not changed is not read) ──▶ read (digest, secrets)
//! ```

mod dockerignore;
mod error;
mod index;
mod link;
mod read;
mod secret;
mod walk;

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    time::SystemTime,
};

use longshore_oci::{Digest, Digester};
use longshore_store::Table;
use serde::Serialize;

pub use self::{
    dockerignore::PatternError,
    error::{LinkProblem, SecretFile, SourceError},
    secret::{Secret, SecretKind},
};
use self::{
    index::{Index, Row},
    read::Known,
    walk::FoundKind,
};

/// The most that a code layer may hold, in bytes. Data belongs into the artifact store or a volume, not into code.
const LARGEST_TREE: u64 = 2 << 30;
/// The most files that a code layer may hold.
const MOST_FILES: usize = 200_000;

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
/// Left out are hidden files and folders (`.git`, `.env`, `.venv`, …), compiled bytecode, and virtual environments; and
/// what `.dockerignore` at the root names, or where there is none, what `.gitignore` and `.ignore` files name.
#[derive(Clone, Debug)]
pub struct SourceTree {
    /// The source root.
    pub root: PathBuf,
    /// The entries.
    pub entries: Vec<SourceEntry>,
    /// The files that hold secrets and are in the image because they were allowed to be.
    pub allowed: Vec<SecretFile>,
}

impl SourceTree {
    /// Reads the tree below `root`, hashing each file that `memory` does not know unchanged.
    ///
    /// A file with a secret is an error, unless `allow_secrets` names it or a folder above it, by its path below the root.
    pub fn scan(root: &Path, allow_secrets: &[String], memory: Option<&Table>) -> Result<Self, SourceError> {
        let began = SystemTime::now();
        let root =
            fs::canonicalize(root).map_err(|source| SourceError::Read { path: root.to_owned(), source })?;
        let index = memory.map(|table| Index::load(table, &root)).unwrap_or_default();
        let found = walk::walk(&root)?;
        let size = |kind: &FoundKind| if let FoundKind::File(status) = kind { status.size } else { 0 };
        if found.iter().map(|found| size(&found.kind)).sum::<u64>() > LARGEST_TREE {
            return Err(SourceError::TooLarge { root, limit: "2 GiB" });
        }
        let read = read::files(&root, &found, &index)?;
        if let Some(table) = memory.filter(|_| read.iter().any(|file| matches!(file, Some(Known::Read(_))))) {
            Index::store(table, &root, began, read.iter().flatten().map(Known::row));
        }
        let (mut entries, mut secrets, mut allowed) =
            (Vec::with_capacity(found.len()), Vec::new(), Vec::new());
        for (found, read) in found.into_iter().zip(&read) {
            let kind = match (found.kind, read) {
                (FoundKind::Symlink, _) => {
                    SourceKind::Symlink { target: link::inner_target(&root, &root.join(&found.path))? }
                }
                (FoundKind::File(_), Some(known)) => {
                    let Row { status, digest, secret, .. } = known.row();
                    if let Some(secret) = *secret {
                        let file = SecretFile { path: found.path.clone(), secret };
                        if is_allowed(&file.path, allow_secrets) { &mut allowed } else { &mut secrets }
                            .push(file);
                    }
                    SourceKind::File { executable: status.executable, size: status.size, digest: *digest }
                }
                _ => SourceKind::Directory,
            };
            entries.push(SourceEntry { path: found.path, kind });
        }
        if secrets.is_empty() {
            Ok(Self { root, entries, allowed })
        } else {
            Err(SourceError::Secrets(secrets))
        }
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
        let file = File::open(&path).map_err(|source| SourceError::of_reading(&path, source))?;
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

/// Whether a path, or a folder above it, is in the list.
fn is_allowed(path: &str, allowed: &[String]) -> bool {
    allowed.iter().any(|allowed| {
        let allowed = allowed.trim_start_matches("./").trim_end_matches('/');
        path.strip_prefix(allowed)
            .is_some_and(|rest| !allowed.is_empty() && (rest.is_empty() || rest.starts_with('/')))
    })
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

    fn scan(root: &tempfile::TempDir) -> Result<SourceTree, SourceError> {
        SourceTree::scan(root.path(), &[], None)
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
        let tree = scan(&root).unwrap();
        assert_eq!(paths(&tree), ["pkg", "pkg/__init__.py", "train.py"]);
        assert_eq!((tree.files(), tree.bytes()), (2, 1));
    }

    #[test]
    fn the_digest_follows_content_and_not_place_or_time() {
        let (one, two) = (tree(&[("a.py", "x"), ("b/c.py", "y")]), tree(&[("b/c.py", "y"), ("a.py", "x")]));
        let digest = |root: &tempfile::TempDir| scan(root).unwrap().digest();
        assert_eq!(digest(&one), digest(&two));
        fs::write(two.path().join("a.py"), "z").unwrap();
        assert_ne!(digest(&one), digest(&two));
    }

    #[test]
    fn entries_are_in_the_order_of_a_layer() {
        let root = tree(&[("a/z.py", ""), ("a.py", ""), ("a-b/c.py", "")]);
        let tree = scan(&root).unwrap();
        assert_eq!(paths(&tree), ["a", "a/z.py", "a-b", "a-b/c.py", "a.py"]);
    }

    #[test]
    fn links_stay_inside() {
        let root = tree(&[("a.py", "")]);
        symlink("a.py", root.path().join("b.py")).unwrap();
        assert_eq!(paths(&scan(&root).unwrap()), ["a.py", "b.py"]);
        for outside in ["/etc/passwd", "../x", "sub/../../x"] {
            let link = root.path().join("out");
            symlink(outside, &link).unwrap();
            assert!(matches!(scan(&root), Err(SourceError::Link { .. })), "{outside}");
            fs::remove_file(link).unwrap();
        }
    }

    #[test]
    fn a_file_that_changes_is_noticed() {
        let root = tree(&[("a.py", "x")]);
        let tree = scan(&root).unwrap();
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

    #[test]
    fn links_that_mean_another_thing_in_the_image_are_refused() {
        let root = tree(&[("a.py", ""), ("deep/er/b.py", "")]);
        let name = root.path().file_name().unwrap().to_str().unwrap();
        symlink("deep/er", root.path().join("short")).unwrap();
        symlink("short/../er/b.py", root.path().join("b.py")).unwrap();
        symlink("short/../../a.py", root.path().join("up.py")).unwrap();
        symlink("nowhere.py", root.path().join("dangling.py")).unwrap();
        symlink("loop", root.path().join("loop")).unwrap();
        assert_eq!(scan(&root).unwrap().files(), 7);
        let link = root.path().join("out");
        for (target, problem) in [
            (root.path().join("a.py").display().to_string(), LinkProblem::Absolute),
            (format!("../{name}/a.py"), LinkProblem::Outside),
            ("deep/../..".to_owned(), LinkProblem::Outside),
        ] {
            symlink(&target, &link).unwrap();
            let error = scan(&root).unwrap_err();
            let text = error.to_string();
            assert!(matches!(error, SourceError::Link { problem: found, .. } if found == problem), "{text}");
            assert!(text.contains(link.to_str().unwrap()) && text.contains(&target), "{text}");
            fs::remove_file(&link).unwrap();
        }
    }

    #[test]
    fn a_name_that_would_remove_another_is_refused() {
        let root = tree(&[("a.py", ""), (".wh.a.py", ""), (".gitignore", "*.csv\n")]);
        assert_eq!(paths(&scan(&root).unwrap()), ["a.py"], "hidden files are left out");
        fs::write(root.path().join(".gitignore"), "!.wh.*\n").unwrap();
        assert!(matches!(scan(&root), Err(SourceError::Whiteout(path)) if path.ends_with(".wh.a.py")));
    }

    #[test]
    fn what_cannot_be_read_is_told_by_its_path() {
        let error = |kind: io::Error| {
            let inner = Box::new(ignore::Error::Io(kind));
            let placed = Box::new(ignore::Error::WithPath { path: PathBuf::from("/code/a"), err: inner });
            SourceError::from(ignore::Error::WithDepth { depth: 1, err: placed })
        };
        let denied = error(io::ErrorKind::PermissionDenied.into());
        assert!(matches!(&denied, SourceError::Permission(path) if path == Path::new("/code/a")), "{denied}");
        let gone = error(io::ErrorKind::NotFound.into());
        assert!(matches!(&gone, SourceError::Changed(path) if path == Path::new("/code/a")), "{gone}");
    }

    #[test]
    fn dockerignore_decides_alone() {
        let files = [
            (".dockerignore", "# all but\n*\n!src\n!**/README.md\nsrc/*.csv\n"),
            (".gitignore", "*.py\n"),
            ("src/a.py", ""),
            ("src/.env", ""),
            ("src/__pycache__/a.pyc", ""),
            ("src/b.csv", ""),
            ("docs/deep/README.md", ""),
            ("docs/a.md", ""),
            ("empty/a.md", ""),
        ];
        let root = tree(&files);
        let expected = ["docs", "docs/deep", "docs/deep/README.md", "src", "src/a.py"];
        assert_eq!(paths(&scan(&root).unwrap()), expected);
        fs::write(root.path().join(".dockerignore"), "a\n[").unwrap();
        let text = scan(&root).unwrap_err().to_string();
        assert!(text.starts_with("line 2 of .dockerignore: the pattern `[`"), "{text}");
    }

    #[test]
    fn the_walk_takes_what_docker_takes() {
        let table: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/data/dockerignore.json")).unwrap();
        let names: Vec<&str> =
            table["tree"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        let files: Vec<_> =
            names.iter().filter(|name| !name.ends_with('/')).map(|name| (*name, "")).collect();
        let root = tree(&files);
        for case in table["cases"].as_array().unwrap().iter().filter(|case| case.get("error").is_none()) {
            fs::write(root.path().join(".dockerignore"), case["file"].as_str().unwrap()).unwrap();
            let taken =
                names.iter().zip(case["taken"].as_str().unwrap().chars()).filter(|(_, digit)| *digit == '1');
            // Bytecode is left out whatever the file says.
            let mut expected: Vec<&str> = taken
                .map(|(name, _)| name.trim_end_matches('/'))
                .filter(|name| Path::new(name).extension() != Some("pyc".as_ref()))
                .collect();
            expected.sort_by(|a, b| a.split('/').cmp(b.split('/')));
            assert_eq!(paths(&scan(&root).unwrap()), expected, "{}", case["file"]);
        }
    }

    #[test]
    fn a_key_is_refused_unless_it_is_allowed() {
        let root = tree(&[("a.py", ""), ("keys/id_rsa", "x"), ("keys/b/id_dsa", "x"), ("keys.p12", "x")]);
        let text = scan(&root).unwrap_err().to_string();
        for part in [
            "keys/id_rsa (a file of keys",
            "keys/b/id_dsa (a file",
            "keys.p12",
            "allow_secrets",
            ".dockerignore",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let allow = |paths: &[&str]| {
            let paths: Vec<String> = paths.iter().map(ToString::to_string).collect();
            SourceTree::scan(root.path(), &paths, None)
        };
        assert!(matches!(allow(&["keys"]), Err(SourceError::Secrets(files)) if files.len() == 1));
        assert!(matches!(allow(&["", "/", "key"]), Err(SourceError::Secrets(files)) if files.len() == 3));
        let tree = allow(&["./keys/", "keys.p12"]).unwrap();
        let allowed: Vec<_> = tree.allowed.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(allowed, ["keys/b/id_dsa", "keys/id_rsa", "keys.p12"]);
    }

    #[test]
    fn what_is_remembered_is_what_would_be_read() {
        let root = tree(&[("a.py", "x"), ("b/c.py", "y"), ("id_rsa", "key")]);
        let home = tempfile::tempdir().unwrap();
        let memory = Table::open(home.path()).unwrap();
        let allow = ["id_rsa".to_owned()];
        let known = || {
            let root = fs::canonicalize(root.path()).unwrap();
            let index = Index::load(&memory, &root);
            let found = walk::walk(&root).unwrap();
            let read = read::files(&root, &found, &index).unwrap();
            read.iter().flatten().filter(|file| matches!(file, Known::Before(_))).count()
        };
        let both = || {
            let warm = SourceTree::scan(root.path(), &allow, Some(&memory)).unwrap();
            let cold = SourceTree::scan(root.path(), &allow, None).unwrap();
            assert_eq!((&warm.entries, &warm.allowed), (&cold.entries, &cold.allowed));
        };
        both();
        assert_eq!(known(), 0, "the files are too young to be trusted");
        // What makes a file old enough is its change time too, which only time sets.
        std::thread::sleep(std::time::Duration::from_millis(2100));
        both();
        assert_eq!(known(), 3);
        both();
        assert!(matches!(SourceTree::scan(root.path(), &[], Some(&memory)), Err(SourceError::Secrets(_))));
        fs::write(root.path().join("a.py"), "z").unwrap();
        assert_eq!(known(), 2);
        both();
        let row = only_row(home.path());
        let whole = fs::read(&row).unwrap();
        let digest = Digest::of("y").hex();
        let place = whole.windows(64).position(|part| part == digest.as_bytes()).unwrap();
        for flipped in [place, whole.len() - 3] {
            let mut torn = whole.clone();
            torn[flipped] = if torn[flipped] == b'1' { b'2' } else { b'1' };
            fs::write(&row, torn).unwrap();
            assert_eq!(known(), 0, "a damaged index is not used");
            both();
        }
    }

    /// The one row of a table.
    fn only_row(folder: &Path) -> PathBuf {
        let folders: Vec<PathBuf> =
            fs::read_dir(folder.join("scan")).unwrap().map(|entry| entry.unwrap().path()).collect();
        fs::read_dir(&folders[0]).unwrap().next().unwrap().unwrap().path()
    }
}
