//! Package URLs (package-url specification, "Rules for each purl component", and the types `deb`, `generic`, `oci`, `pypi`).

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::{Image, OsRelease, Package, PackageKind};

/// What stands for itself; the colon does too, everywhere.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_').remove(b'~').remove(b':');
/// In the value of a qualifier, slashes stand for themselves too.
const IN_QUALIFIER: &AsciiSet = &ESCAPED.remove(b'/');

fn escaped(text: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(text, ESCAPED)
}

/// The URL of a package of an image of that distribution.
pub(crate) fn of_package(package: &Package, os: Option<&OsRelease>) -> String {
    let (name, version) = (escaped(&package.name), escaped(&package.version));
    match &package.kind {
        PackageKind::Python => format!("pkg:pypi/{name}@{version}"),
        PackageKind::Interpreter => format!("pkg:generic/{name}@{version}"),
        PackageKind::Debian { architecture, .. } => {
            let vendor = os.map(|os| os.id.as_str()).filter(|id| !id.is_empty()).unwrap_or("debian");
            let mut purl =
                format!("pkg:deb/{}/{name}@{version}?arch={}", escaped(vendor), escaped(architecture));
            if let Some(distro) = os.and_then(OsRelease::distro) {
                let _ = write!(purl, "&distro={}", escaped(&distro));
            }
            purl
        }
    }
}

/// The URL of an image, by digest.
pub(crate) fn of_image(image: &Image) -> String {
    let repository = image.repository.to_string();
    let name = repository.rsplit('/').next().unwrap_or_default();
    let (version, repository) = (image.digest.to_string(), utf8_percent_encode(&repository, IN_QUALIFIER));
    format!("pkg:oci/{}@{}?repository_url={repository}", escaped(name), escaped(&version))
}
