//! What is remembered of a scan: which digest a file had when its status was what it is now.

use std::{
    borrow::Borrow,
    fs::Metadata,
    hash::{Hash, Hasher},
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use longshore_oci::Digest;
use longshore_store::Table;
use rustc_hash::FxHashSet;
use serde::Serialize;

use super::secret::{self, Secret};

/// The kind of row that holds an index.
const SCAN: &str = "scan";
/// How far apart two writes must be to surely differ in a file's times: the coarsest that file systems count in.
const COARSEST_CLOCK: Duration = Duration::from_secs(2);

/// What tells that a file is still the one that was hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) size: u64,
    /// Nanoseconds since 1970, as is `changed`.
    modified: i128,
    changed: i128,
    inode: u64,
    /// Whether the owner may execute it.
    pub(super) executable: bool,
}

impl Status {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Self {
            size: metadata.size(),
            modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
            executable: metadata.mode() & 0o100 != 0,
        }
    }

    /// Whether a write after `scan` began is sure to show in the status. A file that was written just before may be
    /// written again with the same length within one tick of the file system's clock.
    fn is_settled(&self, scan: SystemTime) -> bool {
        let limit = scan.checked_sub(COARSEST_CLOCK).and_then(|limit| limit.duration_since(UNIX_EPOCH).ok());
        let limit = limit.and_then(|limit| i128::try_from(limit.as_nanos()).ok());
        limit.is_some_and(|limit| self.modified.max(self.changed) < limit)
    }
}

/// A file that was read.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) path: String,
    pub(super) status: Status,
    pub(super) digest: Digest,
    pub(super) secret: Option<Secret>,
}

impl Hash for Row {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.path.hash(state);
    }
}

impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for Row {}

impl Borrow<str> for Row {
    fn borrow(&self) -> &str {
        &self.path
    }
}

/// The files of one source root that need not be read again.
#[derive(Debug, Default)]
pub(super) struct Index {
    rows: FxHashSet<Row>,
}

/// Everything that an index depends on beside the files.
#[derive(Serialize)]
struct Key<'a> {
    root: &'a str,
    rules: u32,
}

impl Index {
    /// The index of this root. One that is not there, or damaged, is empty.
    pub(super) fn load(table: &Table, root: &Path) -> Self {
        Self::read(table, root).unwrap_or_default()
    }

    fn read(table: &Table, root: &Path) -> Option<Self> {
        // The rows are one text, which is read many times faster than as many JSON values.
        let text: String = table.get(SCAN, &Key { root: root.to_str()?, rules: secret::RULES })?;
        let mut rows = FxHashSet::default();
        rows.reserve(text.len() / 150);
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (row, after) = Row::parse(rest)?;
            rows.insert(row);
            rest = after;
        }
        Some(Self { rows })
    }

    /// Remembers the files that a scan which began at `scan` saw. A scan is as good without, so that a full or
    /// read-only disk is no reason to fail.
    pub(super) fn store<'a>(
        table: &Table,
        root: &Path,
        scan: SystemTime,
        rows: impl Iterator<Item = &'a Row>,
    ) {
        let Some(root) = root.to_str() else { return };
        let mut text = String::new();
        for row in rows.filter(|row| row.status.is_settled(scan)) {
            row.write(&mut text);
        }
        if let Err(error) = table.put(SCAN, &Key { root, rules: secret::RULES }, &text) {
            tracing::debug!(%error, "the scan is not remembered");
        }
    }

    /// What is known of a file whose status this is.
    pub(super) fn get(&self, path: &str, status: Status) -> Option<&Row> {
        self.rows.get(path).filter(|row| row.status == status)
    }
}

impl Row {
    /// Appends the row: its fields with blanks between, the path last, after its length.
    fn write(&self, text: &mut String) {
        use std::fmt::Write;
        let Status { size, modified, changed, inode, executable } = self.status;
        let executable = u8::from(executable);
        let secret = self.secret.and_then(|secret| serde_json::to_string(&secret).ok());
        let (secret, length, path) = (secret.as_deref().unwrap_or("-"), self.path.len(), &self.path);
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "{size} {modified} {changed} {inode} {executable} {} {secret} {length} {path}",
            self.digest.hex()
        );
    }

    /// The first row of a text, and what follows it.
    fn parse(text: &str) -> Option<(Self, &str)> {
        let mut parts = text.splitn(9, ' ');
        let status = Status {
            size: parts.next()?.parse().ok()?,
            modified: parts.next()?.parse().ok()?,
            changed: parts.next()?.parse().ok()?,
            inode: parts.next()?.parse().ok()?,
            executable: parts.next()? == "1",
        };
        let digest = Digest::from_hex(parts.next()?).ok()?;
        let secret = match parts.next()? {
            "-" => None,
            secret => Some(serde_json::from_str(secret).ok()?),
        };
        let length = parts.next()?.parse().ok()?;
        let (path, rest) = parts.next()?.split_at_checked(length)?;
        Some((Self { path: path.to_owned(), status, digest, secret }, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_are_read_as_they_were_written(
            paths in prop::collection::hash_set(".{1,20}", 0..8), size in any::<u64>(), inode in any::<u64>(),
            line in prop::option::of(any::<u32>()), modified in any::<i64>(),
        ) {
            let home = tempfile::tempdir().unwrap();
            let table = Table::open(home.path()).unwrap();
            let status = Status { size, modified: i128::from(modified.min(0)), changed: 5, inode, executable: line.is_some() };
            let secret = line.map(|line| Secret { kind: super::super::SecretKind::GithubToken, line: Some(line) });
            let row = |path: &String| Row { path: path.clone(), status, digest: Digest::of(path), secret };
            let rows: Vec<Row> = paths.iter().map(row).collect();
            Index::store(&table, home.path(), SystemTime::now(), rows.iter());
            let index = Index::load(&table, home.path());
            prop_assert_eq!(index.rows.len(), rows.len());
            for row in &rows {
                let found = index.get(&row.path, status).unwrap();
                prop_assert_eq!((found.digest, found.secret), (row.digest, secret));
                let other = Status { size: size ^ 1, ..status };
                prop_assert!(index.get(&row.path, other).is_none());
            }
        }
    }

    #[test]
    fn a_file_that_was_just_written_is_not_remembered() {
        let now = SystemTime::now();
        let nanoseconds = i128::try_from(now.duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap();
        let at = |modified, changed| {
            Status { size: 1, modified, changed, inode: 1, executable: false }.is_settled(now)
        };
        let long_ago = nanoseconds - 3_000_000_000;
        assert!(at(long_ago, long_ago));
        assert!(!at(nanoseconds - 1_000_000_000, long_ago));
        assert!(!at(long_ago, nanoseconds), "the modification time was set back");
        assert!(!at(nanoseconds + 9_000_000_000, long_ago), "a clock that is ahead");
    }
}
