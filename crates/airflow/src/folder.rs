//! A folder of this machine.

use std::{
    fs::{self, File, Permissions},
    io::{self, Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use crate::{
    Error,
    place::{BEGINNING, Found, Wrote},
};

/// A folder of this machine.
#[derive(Clone, Debug)]
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn read(&self, what: &str, name: &str) -> Result<Option<Found>, Error> {
        if !self.0.is_dir() {
            return Err(Error::NoFolder { what: what.to_owned(), folder: self.0.clone() });
        }
        let mut beginning = Vec::new();
        let read = |file: File| file.take(BEGINNING).read_to_end(&mut beginning);
        match File::open(self.0.join(name)).and_then(read) {
            Ok(_) => Ok(Some(Found { beginning, version: String::new() })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(self.failed(what, source)),
        }
    }

    pub(crate) fn write(&self, what: &str, name: &str, text: &str) -> Result<Wrote, Error> {
        write(&self.0, name, text).map(|()| Wrote::Done).map_err(|source| self.failed(what, source))
    }

    pub(crate) fn remove(&self, what: &str, name: &str) -> Result<(), Error> {
        match fs::remove_file(self.0.join(name)) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(self.failed(what, source)),
            _ => Ok(()),
        }
    }

    fn failed(&self, what: &str, source: io::Error) -> Error {
        Error::Io { what: what.to_owned(), folder: self.0.clone(), source }
    }
}

/// Writes a file so that Airflow reads all of it or nothing. The scheduler may be another user.
fn write(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    let mut new = tempfile::Builder::new()
        .prefix(".longshore-")
        .suffix(".tmp")
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(folder)?;
    new.write_all(text.as_bytes())?;
    new.as_file().set_permissions(Permissions::from_mode(0o644))?;
    new.as_file().sync_all()?;
    new.persist(folder.join(name)).map_err(|error| error.error)?;
    // The file has its name for good when the folder is on the disk.
    File::open(folder)?.sync_all()
}
