//! dpkg's list of what is installed: `var/lib/dpkg/status`, and where images have no dpkg, `var/lib/dpkg/status.d/*`.

use std::{
    collections::BTreeSet,
    io::{self, BufRead, Read},
};

use longshore_debian::control::{Stanza, stanzas};

use crate::{DebianSource, Package, PackageKind};

/// The longest stanza that is read; that of a package with very many configuration files has 100 KiB.
const LARGEST_STANZA: usize = 4 << 20;
/// The longest file that is read; that of a desktop has 10 MiB.
const LARGEST_FILE: u64 = 256 << 20;

/// The installed packages of a status file. One stanza at a time is in memory.
pub(crate) fn packages(file: impl BufRead, path: &str) -> io::Result<Vec<Package>> {
    let mut file = file.take(LARGEST_FILE);
    let mut packages = Vec::new();
    let (mut text, mut line) = (String::new(), Vec::new());
    loop {
        line.clear();
        // What is not UTF-8 may have become longer than it was read.
        let limit = LARGEST_STANZA.saturating_sub(text.len());
        let read = (&mut file).take(limit as u64).read_until(b'\n', &mut line)?;
        if read == limit || file.limit() == 0 {
            return Err(invalid("it is longer than any real one"));
        }
        if line.trim_ascii().is_empty() {
            for stanza in stanzas(&text).map_err(invalid)? {
                packages.extend(installed(&stanza, path));
            }
            if packages.len() > crate::survey::MOST_PACKAGES {
                return Err(invalid("it lists more packages than any real one"));
            }
            text.clear();
            if read == 0 {
                return Ok(packages);
            }
        } else {
            text += &String::from_utf8_lossy(&line);
        }
    }
}

fn invalid(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// The package of a stanza, if its files are there: the files in `status.d` do not say so, they are there because it is.
fn installed(stanza: &Stanza, path: &str) -> Option<Package> {
    if let Some(status) = stanza.get("Status")
        && matches!(status.split_ascii_whitespace().nth(2), None | Some("not-installed" | "config-files"))
    {
        return None;
    }
    let (name, version) = (stanza.get("Package")?, stanza.get("Version")?);
    if name.len().max(version.len()) > crate::survey::LONGEST {
        return None;
    }
    // `Source: glibc (2.36-9)`: the version only if it is another (deb-control(5)).
    let (source, source_version) = match stanza.get("Source").map(|source| source.split_once(' ')) {
        Some(Some((source, version))) => (source, version.trim().trim_matches(['(', ')'])),
        Some(None) => (stanza.get("Source")?, version),
        None => (name, version),
    };
    Some(Package {
        kind: PackageKind::Debian {
            architecture: stanza.get("Architecture").unwrap_or("all").to_owned(),
            source: DebianSource { name: source.to_owned(), version: source_version.to_owned() },
        },
        name: name.to_owned(),
        version: version.to_owned(),
        digest: None,
        origin: None,
        locations: BTreeSet::from([format!("/{path}")]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_installed_is_found_with_its_source() {
        let text = "Package: libc6\nStatus: install ok installed\nSource: glibc (2.36-8)\nVersion: 2.36-9\nArchitecture: amd64\n\
                    Description: x\n .\n y\n\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n\
                    Package: tzdata\nVersion: 2024a-0\nArchitecture: all";
        let found = packages(text.as_bytes(), "var/lib/dpkg/status").unwrap();
        let names: Vec<_> = found.iter().map(|package| package.name.as_str()).collect();
        assert_eq!(names, ["libc6", "tzdata"]);
        let PackageKind::Debian { architecture, source } = &found[0].kind else { panic!("{found:?}") };
        assert_eq!(
            (architecture.as_str(), source.name.as_str(), source.version.as_str()),
            ("amd64", "glibc", "2.36-8")
        );
    }

    #[test]
    fn what_is_no_status_file_is_refused() {
        assert!(packages(&b"nonsense\n"[..], "s").is_err());
        let endless = io::repeat(b'x');
        assert!(packages(io::BufReader::new(endless), "s").is_err());
        let mut not_text = b"A: 1\n ".to_vec();
        not_text.resize(LARGEST_STANZA - 8, 0xff);
        not_text.extend_from_slice(b"\n x\n");
        assert!(packages(&not_text[..], "s").is_err());
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes: Vec<u8>) {
            let _ = packages(&bytes[..], "s");
        }
    }
}
