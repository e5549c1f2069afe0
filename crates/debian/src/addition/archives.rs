//! What distribution an image is, and where its packages come from.

use std::path::Path;

use super::system::{System, write_below};
use crate::{
    Distribution, Error, Sources,
    sources::{Archive, KeySource, Trust},
};

/// What `etc/os-release` says (os-release(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OsRelease {
    /// `debian`, `ubuntu`, `alpine`.
    pub id: String,
    /// `Debian GNU/Linux 12 (bookworm)`.
    pub title: String,
    name: String,
    version: Option<String>,
    codename: Option<String>,
}

impl OsRelease {
    /// Reads it; an image that is not based on Debian or Ubuntu is an error that says what it is.
    pub fn of(system: &System) -> Result<Self, Error> {
        let text = system.text("etc/os-release").or_else(|| system.text("usr/lib/os-release"));
        let Some(text) = text else {
            return Err(Error::NotDebian(
                "a system that does not say what it is (no /etc/os-release)".to_owned(),
            ));
        };
        let get = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
            let value = value.trim().trim_matches(['"', '\'']);
            (!value.is_empty()).then(|| value.to_owned())
        };
        let id = get("ID").unwrap_or_else(|| "linux".to_owned());
        let name = get("NAME").unwrap_or_else(|| id.clone());
        let title = get("PRETTY_NAME").unwrap_or_else(|| name.clone());
        let like = get("ID_LIKE").unwrap_or_default();
        let of_debian = |word: &str| matches!(word, "debian" | "ubuntu");
        if !of_debian(&id) && !like.split_ascii_whitespace().any(of_debian) {
            return Err(Error::NotDebian(title));
        }
        Ok(Self { id, title, name, version: get("VERSION_ID"), codename: get("VERSION_CODENAME") })
    }

    pub(super) fn distribution(&self) -> Distribution {
        let name = match self.id.as_str() {
            "debian" => "Debian",
            "ubuntu" => "Ubuntu",
            _ => &self.name,
        };
        Distribution {
            name: name.to_owned(),
            codename: self.codename.clone().unwrap_or_else(|| "unnamed".to_owned()),
            version: self.version.clone(),
        }
    }
}

/// The archives of an image.
pub(super) struct Archives {
    pub(super) sources: Sources,
    /// The folder that has the image's keyrings.
    _root: tempfile::TempDir,
}

impl Archives {
    /// The archives that the image's own configuration names, reached as this machine can.
    ///
    /// - For each, a mirror of this machine's apt stands in if it has the same suite of an archive of the same name (the last
    ///   part of the address: `debian`, `debian-security`, `ubuntu`). The image's keyrings stay what its signature is
    ///   checked against.
    /// - An image without sources, as longshore's own are, takes those of this machine, if that is of the same release; with
    ///   the image's keyrings if it has any, else the machine's.
    /// - An archive that needs no signature (`Trusted: yes`) is not used.
    pub(super) fn of(system: &System, os: &OsRelease, machine: Option<&Sources>) -> Result<Self, Error> {
        let folder = std::env::temp_dir();
        let root = tempfile::tempdir().map_err(crate::error::io("make a folder in", &folder))?;
        system.export("etc/apt", root.path())?;
        system.export("usr/share/keyrings", root.path())?;
        if let Some(text) = system.read("etc/os-release") {
            write_below(root.path(), "etc/os-release", text)?;
        }
        let mut sources = match Sources::from_root(root.path()) {
            Ok(own) => mirrored(own, root.path(), machine),
            Err(Error::NoApt) => of_machine(root.path(), os, machine)?,
            Err(other) => return Err(other),
        };
        sources.archives.retain(|archive| archive.trust != Trust::Unsigned);
        if sources.archives.is_empty() {
            return Err(Error::NoSources(os.title.clone()));
        }
        if !matches!(os.id.as_str(), "debian" | "ubuntu") {
            // A derivative publishes under its own name.
            sources.origins.clear();
        }
        if let Some(machine) = machine {
            sources.network = machine.network.clone();
        }
        Ok(Self { sources, _root: root })
    }
}

/// The image's own archives, with mirrors of the machine where it has some.
fn mirrored(mut own: Sources, root: &Path, machine: Option<&Sources>) -> Sources {
    for archive in &mut own.archives {
        if let Some(rest) = archive.place.strip_prefix(&*root.to_string_lossy()) {
            archive.place = format!("{rest} of the parent");
        }
        let same = |other: &&Archive| other.suite == archive.suite && name(other) == name(archive);
        if let Some(mirror) = machine.and_then(|machine| machine.archives.iter().find(same)) {
            archive.url = mirror.url.clone();
        }
    }
    own
}

/// The last part of an archive's address.
fn name(archive: &Archive) -> Option<&str> {
    archive.url.path().trim_end_matches('/').rsplit('/').next()
}

fn of_machine(root: &Path, os: &OsRelease, machine: Option<&Sources>) -> Result<Sources, Error> {
    let same = machine.filter(|it| it.codename.is_some() && it.codename == os.codename);
    let mut sources = same.cloned().ok_or_else(|| Error::NoSources(os.title.clone()))?;
    let keyring = root.join(format!("usr/share/keyrings/{}-archive-keyring.gpg", os.id));
    if keyring.exists() {
        for archive in &mut sources.archives {
            archive.trust = Trust::Keys(vec![KeySource::File(keyring.clone())]);
        }
    }
    Ok(sources)
}

#[cfg(test)]
mod tests {
    use super::{super::system::tests::system, *};

    const OS: &str = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\nID=debian\n";
    const UBUNTU: &str = "PRETTY_NAME=\"Ubuntu 24.04.1 LTS\"\nNAME=Ubuntu\nVERSION_ID=\"24.04\"\nVERSION_CODENAME=noble\nID=ubuntu\nID_LIKE=debian\n";

    fn machine(lines: &str, os: &str) -> Sources {
        let root = tempfile::tempdir().unwrap();
        write_below(root.path(), "etc/os-release", os.as_bytes()).unwrap();
        write_below(root.path(), "etc/apt/sources.list", lines.as_bytes()).unwrap();
        Sources::from_root(root.path()).unwrap()
    }

    fn urls(archives: &Archives) -> Vec<String> {
        archives.sources.archives.iter().map(|it| format!("{} {}", it.url, it.suite)).collect()
    }

    #[test]
    fn a_mirror_stands_in_and_the_keys_stay_the_image_s() {
        let image = system(&[&[
            ("etc/os-release", OS),
            (
                "etc/apt/sources.list.d/debian.sources",
                "Types: deb\nURIs: http://far/debian\nSuites: bookworm bookworm-updates\nComponents: main\n\
                 Signed-By: /usr/share/keyrings/own.gpg\n\nTypes: deb\nURIs: http://snapshot/debian/20250101T000000Z\n\
                 Suites: bookworm\nComponents: main\n\nTypes: deb\nURIs: http://odd/debian\nSuites: bookworm\nComponents: main\nTrusted: yes\n",
            ),
            ("usr/share/keyrings/own.gpg", "key"),
        ]]);
        let os = OsRelease::of(&image).unwrap();
        let near = machine("deb [signed-by=/x.gpg] http://near/pub/debian/ bookworm main", OS);
        let archives = Archives::of(&image, &os, Some(&near)).unwrap();
        let expected = [
            "http://near/pub/debian/ bookworm",
            "http://far/debian bookworm-updates",
            "http://snapshot/debian/20250101T000000Z bookworm",
        ];
        assert_eq!(urls(&archives), expected);
        let Trust::Keys(keys) = &archives.sources.archives[0].trust else { panic!() };
        let [KeySource::File(file)] = &keys[..] else { panic!() };
        assert_eq!(std::fs::read(file).unwrap(), b"key");
        assert_eq!(os.distribution().to_string(), "Debian 12 (bookworm)");
    }

    #[test]
    fn an_image_without_sources_takes_those_of_a_machine_of_the_same_release() {
        let image = system(&[&[("etc/os-release", OS)]]);
        let os = OsRelease::of(&image).unwrap();
        let same = machine("deb [signed-by=/x.gpg] http://near/debian bookworm main", OS);
        assert_eq!(urls(&Archives::of(&image, &os, Some(&same)).unwrap()), ["http://near/debian bookworm"]);
        let other = machine("deb http://near/ubuntu noble main", UBUNTU);
        for machine in [None, Some(&other)] {
            let Err(error) = Archives::of(&image, &os, machine) else { panic!() };
            assert!(error.to_string().contains("Debian GNU/Linux 12 (bookworm)"), "{error}");
        }
    }

    #[test]
    fn ubuntu_is_read_and_others_are_named() {
        let image = system(&[&[
            ("etc/os-release", UBUNTU),
            (
                "etc/apt/sources.list",
                "deb http://far/ubuntu noble main universe\ndeb http://far/ubuntu noble-security main\n",
            ),
            ("etc/apt/trusted.gpg.d/ubuntu-keyring.gpg", "key"),
        ]]);
        let os = OsRelease::of(&image).unwrap();
        assert_eq!(urls(&Archives::of(&image, &os, None).unwrap()).len(), 2);
        let alpine = system(&[&[("etc/os-release", "ID=alpine\nPRETTY_NAME=\"Alpine Linux v3.20\"\n")]]);
        let error = OsRelease::of(&alpine).unwrap_err().to_string();
        assert!(error.contains("is Alpine Linux v3.20"), "{error}");
        assert!(
            OsRelease::of(&System::default()).unwrap_err().to_string().contains("does not say what it is")
        );
    }
}
