//! The walk: which entries of the source root are code.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use ignore::{DirEntry, ParallelVisitor, ParallelVisitorBuilder, WalkBuilder, WalkState};

use super::{
    MOST_FILES, SourceError,
    dockerignore::{DOCKERIGNORE, Dockerignore, Verdict},
    index::Status,
};

/// An entry that goes into the image.
#[derive(Debug)]
pub(super) struct Found {
    /// The path below the root, parts separated by `/`.
    pub(super) path: String,
    pub(super) kind: FoundKind,
}

/// What the walk knows of an entry.
#[derive(Debug)]
pub(super) enum FoundKind {
    Directory,
    /// A folder that is left out itself, and in the image only if something below it is.
    DirectoryIfUsed,
    Symlink,
    File(Status),
}

/// Walks the tree on all processors. What is found comes sorted by path, part by part.
pub(super) fn walk(root: &Path) -> Result<Vec<Found>, SourceError> {
    let rules = match fs::read(root.join(DOCKERIGNORE)) {
        Ok(text) => Some(Arc::new(Judge::new(Dockerignore::parse(&String::from_utf8_lossy(&text))?))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(SourceError::Read { path: root.join(DOCKERIGNORE), source }),
    };
    let mut builder = WalkBuilder::new(root);
    // 0 is as many threads as there are processors.
    builder.threads(0).require_git(false).git_global(false).git_exclude(false).parents(false);
    if let Some(rules) = &rules {
        builder.git_ignore(false).ignore(false);
        let (rules, root) = (Arc::clone(rules), root.to_owned());
        builder.filter_entry(move |entry| !is_derived(entry) && rules.admits(&root, entry));
    } else {
        builder.filter_entry(|entry| !is_derived(entry));
    }
    let gathering =
        Gathering { root, rules: rules.as_deref(), count: AtomicUsize::new(0), gathered: Mutex::default() };
    builder.build_parallel().visit(&mut &gathering);
    let Gathered { mut found, error } =
        gathering.gathered.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = error {
        return Err(error);
    }
    found.sort_unstable_by(|a, b| parts_first(&a.path).cmp(parts_first(&b.path)));
    if rules.is_some() {
        keep_used(&mut found);
    }
    Ok(found)
}

/// The bytes of a path so that comparing them compares its parts one by one: what parts them comes before all that names hold.
fn parts_first(path: &str) -> impl Iterator<Item = u8> {
    path.bytes().map(|byte| if byte == b'/' { 0 } else { byte })
}

/// Drops the folders of a sorted list that are left out and hold nothing that is not.
fn keep_used(found: &mut Vec<Found>) {
    let mut kept: Vec<Found> = Vec::with_capacity(found.len());
    for entry in found.drain(..).rev() {
        // What is below a folder comes right after it, so just before it here.
        let holds =
            |below: &Found| below.path.strip_prefix(&entry.path).is_some_and(|rest| rest.starts_with('/'));
        if !matches!(entry.kind, FoundKind::DirectoryIfUsed) || kept.last().is_some_and(holds) {
            kept.push(entry);
        }
    }
    kept.reverse();
    *found = kept;
}

/// Whether an entry is made from the code by some tool, and so has no place in the image.
fn is_derived(entry: &DirEntry) -> bool {
    let path = entry.path();
    if entry.file_type().is_some_and(|kind| kind.is_dir()) {
        return entry.file_name() == "__pycache__" || path.join("pyvenv.cfg").exists();
    }
    path.extension().is_some_and(|extension| extension == "pyc" || extension == "pyo")
}

/// The rules of a `.dockerignore`, and what they said of each folder so far: they are inherited from folder to folder.
#[derive(Debug)]
struct Judge {
    rules: Dockerignore,
    folders: RwLock<HashMap<PathBuf, Arc<Verdict>>>,
}

impl Judge {
    fn new(rules: Dockerignore) -> Self {
        Self { rules, folders: RwLock::default() }
    }

    fn of(&self, folder: &Path) -> Option<Arc<Verdict>> {
        self.folders.read().unwrap_or_else(PoisonError::into_inner).get(folder).cloned()
    }

    /// Whether the walk goes on with this entry. Folders come before what they hold.
    fn admits(&self, root: &Path, entry: &DirEntry) -> bool {
        let Some(relative) = entry.path().strip_prefix(root).ok().filter(|rest| *rest != Path::new(""))
        else {
            return true;
        };
        // A name that is not UTF-8 is refused later, if it is not left out.
        let path = relative.to_string_lossy();
        let parent = relative.parent().and_then(|parent| self.of(parent));
        let verdict = self.rules.judge(&path, parent.as_deref());
        let left_out = verdict.left_out;
        if !entry.file_type().is_some_and(|kind| kind.is_dir()) {
            return !left_out;
        }
        self.folders
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(relative.to_owned(), Arc::new(verdict));
        !left_out || self.rules.descends_into(&path)
    }
}

/// What the threads have in common.
struct Gathering<'a> {
    root: &'a Path,
    rules: Option<&'a Judge>,
    count: AtomicUsize,
    gathered: Mutex<Gathered>,
}

#[derive(Default)]
struct Gathered {
    found: Vec<Found>,
    /// The error to report: of several, the one whose text comes first, so that it is the same each time.
    error: Option<SourceError>,
}

/// One thread's part.
struct Gatherer<'a> {
    common: &'a Gathering<'a>,
    found: Vec<Found>,
}

impl<'a> ParallelVisitorBuilder<'a> for &'a Gathering<'a> {
    fn build(&mut self) -> Box<dyn ParallelVisitor + 'a> {
        Box::new(Gatherer { common: self, found: Vec::new() })
    }
}

impl ParallelVisitor for Gatherer<'_> {
    fn visit(&mut self, entry: Result<DirEntry, ignore::Error>) -> WalkState {
        match entry.map_err(SourceError::from).and_then(|entry| self.common.found(&entry)) {
            Ok(Some(found)) => self.found.push(found),
            Ok(None) => {}
            Err(error) => self.common.fail(error),
        }
        if self.common.count.fetch_add(1, Ordering::Relaxed) > MOST_FILES {
            let root = self.common.root.to_owned();
            self.common.fail(SourceError::TooLarge { root, limit: "200,000 files" });
            return WalkState::Quit;
        }
        WalkState::Continue
    }
}

impl Drop for Gatherer<'_> {
    fn drop(&mut self) {
        self.common.gathered.lock().unwrap_or_else(PoisonError::into_inner).found.append(&mut self.found);
    }
}

impl Gathering<'_> {
    fn fail(&self, error: SourceError) {
        let mut gathered = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
        if gathered.error.as_ref().is_none_or(|first| error.to_string() < first.to_string()) {
            gathered.error = Some(error);
        }
    }

    fn found(&self, entry: &DirEntry) -> Result<Option<Found>, SourceError> {
        let path = entry.path();
        // The walk stays below the root, so what has no such prefix, or an empty rest, is the root itself.
        let Some(relative) = path.strip_prefix(self.root).ok().filter(|rest| *rest != Path::new("")) else {
            return Ok(None);
        };
        let name = relative.to_str().ok_or_else(|| SourceError::Name(path.to_owned()))?.to_owned();
        if entry.file_name().as_encoded_bytes().starts_with(b".wh.") {
            return Err(SourceError::Whiteout(path.to_owned()));
        }
        let kind = match entry.file_type() {
            Some(kind) if kind.is_dir() => {
                let left_out =
                    self.rules.and_then(|rules| rules.of(relative)).is_some_and(|verdict| verdict.left_out);
                if left_out { FoundKind::DirectoryIfUsed } else { FoundKind::Directory }
            }
            Some(kind) if kind.is_symlink() => FoundKind::Symlink,
            Some(kind) if kind.is_file() => FoundKind::File(Status::of(&entry.metadata()?)),
            _ => return Err(SourceError::Special(path.to_owned())),
        };
        Ok(Some(Found { path: name, kind }))
    }
}
