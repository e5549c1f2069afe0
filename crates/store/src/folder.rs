//! Folders that outlive a power cut.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use rustix::{
    fs::{CWD, Mode},
    io::Errno,
};

use crate::{Result, error::Context};

/// Makes a folder and those above it. Each new one is written into the one above before this returns.
pub(crate) fn create(path: &Path) -> Result<(), Errno> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let attempt = || rustix::fs::mkdirat(CWD, path, Mode::from_raw_mode(0o755));
    let made = match (attempt(), parent) {
        (Err(Errno::NOENT), Some(parent)) => {
            create(parent)?;
            attempt()
        }
        (made, _) => made,
    };
    match made {
        Ok(()) => parent
            .map_or(Ok(()), |parent| rustix::fs::fsync(File::open(parent).map_err(|error| errno(&error))?)),
        // Whatever the reason given: a read-only parent refuses before it looks whether the folder is there.
        Err(_) if path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// The system's number for an error; every error of an open has one.
fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// Writes the names in a folder to disk.
pub(crate) fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|folder| folder.sync_all()).doing("write to disk the folder", path)
}

/// The names in a folder that are UTF-8 (all of ours are), in no order; none where there is no folder.
pub(crate) fn names(path: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error).doing("list", path),
    };
    let mut names = Vec::new();
    for entry in entries {
        if let Ok(name) = entry.doing("list", path)?.file_name().into_string() {
            names.push(name);
        }
    }
    Ok(names)
}

/// Removes a file; says whether it was there.
pub(crate) fn remove_file(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(false)
        }
        Err(error) => Err(error).doing("remove", path),
    }
}
