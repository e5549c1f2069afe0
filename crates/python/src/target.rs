//! What wheels are chosen for: a Python, a processor, a C library.

use std::{fmt, str::FromStr};

use longshore_oci::Arch;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The version of a CPython, e.g. `3.11.2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PythonVersion {
    /// `3`.
    pub major: u8,
    /// `11` in `3.11.2`.
    pub minor: u8,
    /// `2` in `3.11.2`.
    pub patch: u8,
}

/// Why a string is not a Python version.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a Python version of the form 3.11.2")]
pub struct PythonVersionError(String);

impl PythonVersion {
    /// A version from its three numbers.
    pub const fn new(major: u8, minor: u8, patch: u8) -> Self {
        Self { major, minor, patch }
    }

    /// The part that names folders and tags: `3.11`.
    pub fn short(self) -> String {
        format!("{}.{}", self.major, self.minor)
    }
}

impl fmt::Display for PythonVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for PythonVersion {
    type Err = PythonVersionError;

    fn from_str(text: &str) -> Result<Self, PythonVersionError> {
        let mut numbers = text.split('.').map(str::parse);
        match (numbers.next(), numbers.next(), numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch)), None) => Ok(Self { major, minor, patch }),
            _ => Err(PythonVersionError(text.to_owned())),
        }
    }
}

impl Serialize for PythonVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PythonVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The version of the GNU C library in the image: it decides which `manylinux` wheels run there (PEP 600).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Glibc {
    /// `2`.
    pub major: u16,
    /// `36` in `2.36`.
    pub minor: u16,
}

impl fmt::Display for Glibc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What wheels are chosen for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Target {
    /// The interpreter in the image.
    pub python: PythonVersion,
    /// The processor.
    pub arch: Arch,
    /// The C library in the image.
    pub glibc: Glibc,
}

/// The `manylinux_2_N` platforms that uv can be asked for, newest first.
const MANYLINUX: [u16; 12] = [40, 39, 38, 37, 36, 35, 34, 33, 32, 31, 28, 17];

impl Target {
    /// The newest `manylinux_2_N` that both the image and uv know, as N. `None` for a C library
    /// older than 2.17, for which hardly a wheel is made any more.
    pub fn manylinux(&self) -> Option<u16> {
        match self.glibc.major {
            2 => MANYLINUX.into_iter().find(|minor| *minor <= self.glibc.minor),
            _ => None,
        }
    }

    /// What `uv --python-platform` calls it, e.g. `x86_64-manylinux_2_36`.
    pub fn uv_platform(&self) -> Option<String> {
        Some(format!("{}-manylinux_2_{}", self.arch.machine(), self.manylinux()?))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Python {} on {} with glibc {}", self.python, self.arch, self.glibc)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_three_numbers() {
        assert_eq!("3.11.2".parse(), Ok(PythonVersion::new(3, 11, 2)));
        for wrong in ["3.11", "3.11.2.1", "3.11.2rc1", "", "3..2"] {
            assert!(wrong.parse::<PythonVersion>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_platform_is_the_newest_that_uv_knows_and_the_image_has() {
        let target = |minor| Target {
            python: PythonVersion::new(3, 11, 2),
            arch: Arch::Amd64,
            glibc: Glibc { major: 2, minor },
        };
        assert_eq!(target(36).uv_platform().as_deref(), Some("x86_64-manylinux_2_36"));
        assert_eq!(target(41).uv_platform().as_deref(), Some("x86_64-manylinux_2_40"));
        assert_eq!(target(27).uv_platform().as_deref(), Some("x86_64-manylinux_2_17"));
        assert_eq!(target(12).uv_platform(), None);
    }
}
