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

use crate::{Result, durability::Open, error::Context};

/// Makes a folder and those above it. That they exist is not on disk yet: see [`with_ancestors`].
pub(crate) fn create(path: &Path) -> Result<(), Errno> {
    let attempt = || rustix::fs::mkdirat(CWD, path, Mode::from_raw_mode(0o755));
    let made = match (attempt(), path.parent()) {
        (Err(Errno::NOENT), Some(parent)) => {
            create(parent)?;
            attempt()
        }
        (made, _) => made,
    };
    match made {
        // Whatever the reason given: a read-only parent refuses before it looks whether the folder is there.
        Err(_) if path.is_dir() => Ok(()),
        made => made,
    }
}

/// A folder, those above it up to `top`, and the one above that: what must be written to disk for the folder to exist
/// there, if all of these were made just now.
pub(crate) fn with_ancestors<'a>(path: &'a Path, top: &'a Path) -> impl Iterator<Item = &'a Path> {
    path.ancestors().take_while(move |folder| folder.starts_with(top)).chain(top.parent())
}

/// A folder, to be written to disk.
pub(crate) fn open(path: &Path) -> Result<Open> {
    Ok((File::open(path).doing("open", path)?, path.to_owned()))
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
