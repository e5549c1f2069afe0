//! Reading files: their digests, and whether they hold secrets.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use longshore_oci::{Digest, Digester};

use super::{
    SourceError,
    index::{Index, Row, Status},
    secret::{self, Secret},
    walk::{Found, FoundKind},
};
use crate::layer::processors;

/// What is known of a file.
pub(super) enum Known<'a> {
    /// Remembered.
    Before(&'a Row),
    /// Read just now.
    Read(Row),
}

impl Known<'_> {
    pub(super) fn row(&self) -> &Row {
        match self {
            Self::Before(row) => row,
            Self::Read(row) => row,
        }
    }
}

/// What is known of each entry that is a file, reading those that the index does not have on all processors.
pub(super) fn files<'a>(
    root: &Path,
    found: &[Found],
    index: &'a Index,
) -> Result<Vec<Option<Known<'a>>>, SourceError> {
    let mut known: Vec<Option<Known<'a>>> = Vec::with_capacity(found.len());
    let mut unread = Vec::new();
    for (place, entry) in found.iter().enumerate() {
        let FoundKind::File(status) = entry.kind else {
            known.push(None);
            continue;
        };
        let row = index.get(&entry.path, status);
        if row.is_none() {
            unread.push(place);
        }
        known.push(row.map(Known::Before));
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut rows = Vec::new();
        while let Some(&place) = unread.get(next.fetch_add(1, Ordering::Relaxed)) {
            rows.push((place, read(root, &found[place].path)));
        }
        rows
    };
    let threads = processors().get().min(unread.len());
    let mut rows = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut rows = work();
        for other in others {
            match other.join() {
                Ok(more) => rows.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        rows
    });
    // Of several errors the first by path is told, the same each time.
    rows.sort_unstable_by_key(|(place, _)| *place);
    for (place, row) in rows {
        known[place] = Some(Known::Read(row?));
    }
    Ok(known)
}

/// Reads a file. What was seen is of one moment: a file that another program writes meanwhile is an error.
fn read(root: &Path, name: &str) -> Result<Row, SourceError> {
    let path = root.join(name);
    let failed = |source: io::Error| SourceError::of_reading(&path, source);
    let mut file = File::open(&path).map_err(failed)?;
    let before = Status::of(&file.metadata().map_err(failed)?);
    let (digest, size, secret) = digest(&mut file, name, before.size).map_err(failed)?;
    let after = Status::of(&file.metadata().map_err(failed)?);
    if before != after || size != before.size {
        return Err(SourceError::Changed(path));
    }
    Ok(Row { path: name.to_owned(), status: before, digest, secret })
}

/// The digest of a file, its length, and the first secret in it.
///
/// Of a file that grows meanwhile one byte more is read than its `size` was, which is enough to notice.
fn digest(file: &mut File, name: &str, size: u64) -> io::Result<(Digest, u64, Option<Secret>)> {
    if size <= secret::LONGEST {
        let mut content = Vec::new();
        file.take(size + 1).read_to_end(&mut content)?;
        return Ok((Digest::of(&content), content.len() as u64, secret::find(name, &content)));
    }
    let mut file = file.take(size + 1);
    let secret = secret::of_name(name).map(|kind| Secret { kind, line: None });
    let mut digester = Digester::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((digester.clone().finish(), digester.length(), secret)),
            count => digester.update(&buffer[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_that_is_not_what_its_status_says_changed_while_it_was_read() {
        // Files of the kernel have a length of 0 and yet content: as a file that grew between two looks.
        let error = read(Path::new("/proc/self"), "status").unwrap_err();
        assert_eq!(error.to_string(), "/proc/self/status changed while it was being packed; run again");
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(read(folder.path(), "gone.py"), Err(SourceError::Changed(_))));
    }

    #[test]
    fn long_files_are_judged_by_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let content = "x".repeat(usize::try_from(secret::LONGEST).unwrap() + 1);
        for (name, kind) in [("a.txt", None), ("a.p12", Some(secret::SecretKind::KeyFile))] {
            fs::write(folder.path().join(name), &content).unwrap();
            let row = read(folder.path(), name).unwrap();
            assert_eq!((row.digest, row.status.size), (Digest::of(&content), content.len() as u64));
            assert_eq!(row.secret.map(|secret| secret.kind), kind);
        }
    }
}
