//! What of a parent image its children's packages depend on: its Python and its C library.

use std::fmt;

use longshore_attest::contents::Anatomy;
use longshore_python::target::Glibc;

use crate::parent::glibc_version;

/// The C library of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Libc {
    /// GNU's, of this version.
    Glibc(Glibc),
    /// musl.
    Musl,
    /// One that is not known, or none.
    Unknown,
}

impl fmt::Display for Libc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Glibc(version) => write!(f, "glibc {version}"),
            Self::Musl => f.write_str("musl"),
            Self::Unknown => f.write_str("a C library whose version cannot be told"),
        }
    }
}

impl Libc {
    /// The C library of an image: by dpkg's status, else by the names of its files.
    pub fn of(anatomy: &Anatomy) -> Self {
        if let Some(version) = anatomy.debian_version("libc6").and_then(glibc_version) {
            return Self::Glibc(version);
        }
        if ["lib/ld-musl-", "usr/lib/ld-musl-"].iter().any(|it| anatomy.beginning_with(it).next().is_some()) {
            return Self::Musl;
        }
        // Until 2.33 the library's own file had its version in its name.
        let folders = ["lib64/", "usr/lib64/", "lib/x86_64-linux-gnu/", "usr/lib/x86_64-linux-gnu/"];
        let arm = ["lib/aarch64-linux-gnu/", "usr/lib/aarch64-linux-gnu/"];
        folders
            .iter()
            .chain(&arm)
            .find_map(|folder| {
                let name = format!("{folder}libc-2.");
                let file = anatomy.beginning_with(&name).next()?;
                glibc_version(file.strip_prefix(&format!("{folder}libc-"))?)
            })
            .map_or(Self::Unknown, Self::Glibc)
    }

    /// Whether programs for `self` run with `other`.
    pub fn runs_with(self, other: Self) -> bool {
        match (self, other) {
            (Self::Glibc(needed), Self::Glibc(found)) => needed <= found,
            (Self::Musl, Self::Musl) => true,
            _ => false,
        }
    }
}

/// The interpreters of an image by their paths, e.g. `/usr/bin/python3.11`.
pub fn interpreters(anatomy: &Anatomy) -> Vec<String> {
    let mut found = Vec::new();
    for folder in ["usr/bin/python3.", "usr/local/bin/python3.", "bin/python3.", "opt/venv/bin/python3."] {
        let names = anatomy.beginning_with(folder);
        let numbered = names.filter(|path| path[folder.len()..].chars().all(|it| it.is_ascii_digit()));
        found.extend(numbered.map(|path| format!("/{path}")));
    }
    found
}

/// The version in the name of an interpreter: `3.11` of `/usr/bin/python3.11`.
pub(crate) fn short_version(executable: &str) -> Option<&str> {
    let version = executable.rsplit('/').next()?.strip_prefix("python")?;
    version.starts_with("3.").then_some(version)
}
