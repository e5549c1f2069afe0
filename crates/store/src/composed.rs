//! Blobs whose bytes stand in another file: a folder with a recipe, and the source under a name of its own.
//!
//! The source is a hard link, so that the blob is whole whatever becomes of the other names of the file. Both files get
//! their place at once, with their folder; without its recipe a folder is no blob.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Mode, OFlags},
    io::Errno,
};

use crate::{
    Result, StoreError,
    error::Context,
    recipe::{FOOTER, Footer, Place, RecipeFault, Segment},
};

/// The names in the folder.
pub(crate) const RECIPE: &str = "recipe";
pub(crate) const SOURCE: &str = "source";

/// A composed blob's files, found to fit together.
#[derive(Debug)]
pub(crate) struct Composed {
    recipe: File,
    source: File,
    footer: Footer,
    path: PathBuf,
}

impl Composed {
    /// The composed blob in a folder; none where there is no folder, or no recipe in it.
    pub(crate) fn open(folder: &Path) -> Result<Option<Self>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let path = folder.join(RECIPE);
        // By the open folder: two files of one folder, even if another takes its place in between.
        let folder = match rustix::fs::open(folder, flags | OFlags::DIRECTORY, Mode::empty()) {
            Ok(folder) => folder,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(error).doing("open", folder),
        };
        let open = |name| rustix::fs::openat(&folder, name, flags, Mode::empty()).map(File::from);
        let recipe = match open(RECIPE) {
            Ok(recipe) => recipe,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error).doing("open", path),
        };
        match open(SOURCE) {
            Ok(source) => Self::of((recipe, source), &path).map(Some),
            Err(Errno::NOENT) => Err(StoreError::Recipe { path, fault: RecipeFault::SourceMissing }),
            Err(error) => Err(error).doing("open", path.with_file_name(SOURCE)),
        }
    }

    /// A recipe and the source, if they fit together. `path` is the recipe's.
    pub(crate) fn of((recipe, source): (File, File), path: &Path) -> Result<Self> {
        let refuse = |fault| StoreError::Recipe { path: path.to_owned(), fault };
        let length = recipe.metadata().doing("examine", path)?.len();
        let at = length.checked_sub(FOOTER as u64);
        let at = at.ok_or_else(|| refuse(RecipeFault::Format("its recipe is too short")))?;
        let mut footer = [0; FOOTER];
        recipe.read_exact_at(&mut footer, at).doing("read", path)?;
        let footer = Footer::parse(&footer, length).map_err(refuse)?;
        let found = source.metadata().doing("examine", path.with_file_name(SOURCE))?.len();
        if found != footer.source {
            return Err(refuse(RecipeFault::SourceLength { expected: footer.source, found }));
        }
        Ok(Self { recipe, source, footer, path: path.to_owned() })
    }

    /// The length of the blob.
    pub(crate) const fn size(&self) -> u64 {
        self.footer.size
    }

    /// The blob, for reading.
    pub(crate) fn reader(self) -> Result<Segments> {
        let Self { recipe, source, footer, path } = self;
        let (at, length) = footer.table();
        let mut table = vec![0; length];
        recipe.read_exact_at(&mut table, at).doing("read", &path)?;
        let parts = footer.segments(&table).map_err(|fault| StoreError::Recipe { path, fault })?;
        Ok(Segments { recipe, source, parts, size: footer.size, position: 0 })
    }
}

/// Removes the folder of a composed blob; says whether there was a blob in it. Whoever is reading it reads on.
pub(crate) fn remove(path: &Path) -> Result<bool> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECTORY;
    let folder = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(folder) => folder,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(false),
        Err(error) => return Err(error).doing("open", path),
    };
    let mut was_there = false;
    // The recipe first: without it, what an interruption leaves is no blob.
    for name in [RECIPE, SOURCE] {
        match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
            Ok(()) => was_there = true,
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error).doing("remove", path.join(name)),
        }
    }
    match rustix::fs::rmdir(path) {
        // Another blob may have its place already.
        Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => Ok(was_there),
        Err(error) => Err(error).doing("remove", path),
    }
}

/// The bytes of a composed blob.
#[derive(Debug)]
pub(crate) struct Segments {
    recipe: File,
    source: File,
    parts: Vec<Segment>,
    size: u64,
    position: u64,
}

impl Segments {
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    pub(crate) const fn position(&self) -> u64 {
        self.position
    }

    pub(crate) const fn seek_to(&mut self, position: u64) {
        self.position = position;
    }

    /// Fills the buffer, over as many segments as that takes, unless the blob ends.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        let mut index = self.parts.partition_point(|segment| segment.end <= self.position);
        while filled < buffer.len()
            && let Some(segment) = self.parts.get(index)
        {
            let within = self.position - segment.start;
            let left = usize::try_from(segment.end - self.position).unwrap_or(usize::MAX);
            let room = left.min(buffer.len() - filled);
            let (file, from) = match segment.place {
                Place::Recipe(from) => (&self.recipe, from),
                Place::Source(from) => (&self.source, from),
            };
            match file.read_at(&mut buffer[filled..filled + room], from + within) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // What was read is handed over; the next call meets it again.
                Ok(0) | Err(_) if filled > 0 => break,
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    filled += read;
                    self.position += read as u64;
                    index += usize::from(self.position == segment.end);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}
