//! What is installed of Python's packages: `*.dist-info/METADATA` (core metadata specification).

use std::{
    collections::BTreeSet,
    io::{self, BufRead},
};

use longshore_python::PackageName;

use crate::{Package, PackageKind, survey::LONGEST};

/// How much of a file is read: what is looked for stands at its beginning, before the description.
const LARGEST_HEAD: u64 = 1 << 20;

/// The package of a metadata file; `None` if it does not name one.
pub(crate) fn package(file: impl BufRead, path: &str) -> io::Result<Option<Package>> {
    let mut file = file.take(LARGEST_HEAD);
    let (mut name, mut version, mut line) = (None, None, Vec::new());
    loop {
        line.clear();
        file.read_until(b'\n', &mut line)?;
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        if text.is_empty() || (name.is_some() && version.is_some()) {
            break;
        }
        let Some((field, value)) = text.split_once(':') else { continue };
        let slot = match field.to_ascii_lowercase().as_str() {
            "name" => &mut name,
            "version" => &mut version,
            _ => continue,
        };
        slot.get_or_insert_with(|| value.trim().to_owned());
    }
    let (Some(name), Some(version)) = (name, version) else { return Ok(None) };
    let Ok(name) = name.parse::<PackageName>() else { return Ok(None) };
    let is_one = !version.is_empty() && version.len() <= LONGEST && name.to_string().len() <= LONGEST;
    Ok(is_one.then(|| Package {
        kind: PackageKind::Python,
        name: name.to_string(),
        version,
        digest: None,
        origin: None,
        locations: BTreeSet::from([format!("/{}", path.trim_end_matches("/METADATA"))]),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_name_is_normalised() {
        let text = "Metadata-Version: 2.1\nName: Typing_Extensions\nversion: 4.12.2+x\n\nName: other\n";
        let found = package(text.as_bytes(), "lib/a.dist-info/METADATA").unwrap().unwrap();
        assert_eq!((found.name.as_str(), found.version.as_str()), ("typing-extensions", "4.12.2+x"));
        assert!(found.locations.contains("/lib/a.dist-info"));
        assert_eq!(package(&b"Name: a\n\nVersion: 1\n"[..], "x").unwrap(), None);
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes: Vec<u8>) {
            let _ = package(&bytes[..], "x");
        }
    }
}
