//! What is installed of Python's packages, by its metadata.

use std::{
    collections::BTreeSet,
    io::{self, BufRead},
};

use longshore_python::distribution::{Metadata, Place};

use crate::{Package, PackageKind, survey::LONGEST};

/// The package of a metadata file; `None` if it does not name one.
pub(crate) fn package(file: impl BufRead, path: &str) -> io::Result<Option<Package>> {
    let Some(Metadata { name, version }) = Metadata::read(file)? else { return Ok(None) };
    let name = name.to_string();
    let place = Place::of(path).map(|place| format!("/{}/{}", place.folder, place.entry));
    let is_one = version.len() <= LONGEST && name.len() <= LONGEST;
    Ok(is_one.then(|| Package {
        kind: PackageKind::Python,
        name,
        version,
        digest: None,
        origin: None,
        locations: BTreeSet::from([place.unwrap_or_else(|| format!("/{path}"))]),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_located_by_the_folder_of_its_metadata() {
        for (path, location) in [
            ("lib/a-1.dist-info/METADATA", "/lib/a-1.dist-info"),
            ("lib/a-1.egg-info/PKG-INFO", "/lib/a-1.egg-info"),
            ("lib/a-1.egg-info", "/lib/a-1.egg-info"),
        ] {
            let found = package(&b"Name: A\nVersion: 1\n"[..], path).unwrap().unwrap();
            assert_eq!((found.name.as_str(), found.version.as_str()), ("a", "1"));
            assert!(found.locations.contains(location), "{found:?}");
        }
        let long = format!("Name: a\nVersion: {}\n", "1".repeat(LONGEST + 1));
        assert_eq!(package(long.as_bytes(), "lib/a-1.dist-info/METADATA").unwrap(), None);
    }
}
