//! What is installed in an image, as its dpkg says.

use longshore_oci::Arch;

use super::{OsRelease, system::System};
use crate::{
    Error,
    control::{Stanza, stanzas},
    index::Index,
};

/// Where dpkg has its status.
pub(super) const STATUS: &str = "var/lib/dpkg/status";
/// Where images without dpkg have a file for each package instead.
pub(super) const STATUS_FOLDER: &str = "var/lib/dpkg/status.d";

/// The packages of an image.
pub(super) struct Installed {
    /// Those whose files are there.
    pub(super) index: Index,
    /// All stanzas, of removed packages too.
    pub(super) all: Vec<Stanza>,
    /// How they are written down.
    pub(super) database: Database,
}

/// How an image says what is installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Database {
    /// In dpkg's own file.
    Status,
    /// In a folder with a file for each package, as images without dpkg have it.
    Folder,
}

impl Installed {
    pub(super) fn of(system: &System, arch: Arch, os: &OsRelease) -> Result<Self, Error> {
        let broken = |why: String| Error::Index { what: format!("dpkg's status in {}", os.title), why };
        let (text, database) = if let Some(text) = system.text(STATUS).filter(|text| !text.trim().is_empty())
        {
            (text, Database::Status)
        } else {
            let files = system.files_in(STATUS_FOLDER).into_iter();
            let files = files.filter(|(name, _)| !name.ends_with(".md5sums"));
            let texts: Vec<String> =
                files.map(|(_, text)| String::from_utf8_lossy(text).trim_end().to_owned()).collect();
            if texts.is_empty() {
                return Err(Error::NoStatus(os.title.clone()));
            }
            (texts.join("\n\n"), Database::Folder)
        };
        let all = stanzas(&text).map_err(|error| broken(error.to_string()))?;
        let mut there = String::new();
        for stanza in all.iter().filter(|stanza| is_installed(stanza)) {
            there += &stanza.to_text();
            there.push('\n');
        }
        let index = Index::read(there.as_bytes(), arch).map_err(|error| broken(error.to_string()))?;
        Ok(Self { index, all, database })
    }
}

/// Whether the files of a package are there. A file in `status.d` does not say so: it is there because they are.
fn is_installed(stanza: &Stanza) -> bool {
    stanza.words("Status").nth(2).is_none_or(|state| state == "installed")
}

#[cfg(test)]
mod tests {
    use super::{super::system::tests::system, *};

    #[test]
    fn both_databases_are_read() {
        let os = |system: &System| OsRelease::of(system).unwrap();
        let release = ("etc/os-release", "ID=debian\n");
        let status = "Package: a\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\nProvides: v\n\n\
                      Package: b\nStatus: deinstall ok config-files\nArchitecture: all\nVersion: 2\n";
        let with_dpkg = system(&[&[release, (STATUS, status)]]);
        let found = Installed::of(&with_dpkg, Arch::Amd64, &os(&with_dpkg)).unwrap();
        assert!(found.index.has("a") && !found.index.has("b"));
        assert_eq!((found.all.len(), found.database), (2, Database::Status));
        let folder = system(&[&[
            release,
            ("var/lib/dpkg/status.d/a", "Package: a\nArchitecture: amd64\nVersion: 1\n"),
            ("var/lib/dpkg/status.d/a.md5sums", "x"),
            ("var/lib/dpkg/status.d/c", "Package: c\nArchitecture: all\nVersion: 1\n"),
        ]]);
        let found = Installed::of(&folder, Arch::Amd64, &os(&folder)).unwrap();
        assert!(found.index.has("a") && found.index.has("c"));
        assert_eq!(found.database, Database::Folder);
        let none = system(&[&[release]]);
        let Err(error) = Installed::of(&none, Arch::Amd64, &os(&none)) else { panic!() };
        assert!(error.to_string().contains("no list of its packages"), "{error}");
    }
}
