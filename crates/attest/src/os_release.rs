//! Which distribution an image is of (os-release(5)).

use serde::{Deserialize, Serialize};

/// A distribution and its release.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OsRelease {
    /// `debian`, `ubuntu`: lower case.
    pub id: String,
    /// `12`, `24.04`; rolling releases have none.
    pub version: Option<String>,
    /// `bookworm`.
    pub codename: Option<String>,
}

impl OsRelease {
    /// Reads the file; what it does not say stays empty.
    pub fn parse(text: &str) -> Self {
        let value = |wanted: &str| {
            let mut lines = text.lines().filter_map(|line| line.trim().split_once('='));
            let (_, value) = lines.find(|(name, _)| *name == wanted)?;
            let value = value.trim_matches(['"', '\'']);
            (!value.is_empty()).then(|| value.to_owned())
        };
        Self {
            id: value("ID").unwrap_or_default().to_ascii_lowercase(),
            version: value("VERSION_ID"),
            codename: value("VERSION_CODENAME"),
        }
    }

    /// The `distro` of a package URL: `debian-12`.
    pub fn distro(&self) -> Option<String> {
        let release = self.version.as_ref().or(self.codename.as_ref())?;
        (!self.id.is_empty()).then(|| format!("{}-{release}", self.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_read_from_its_file() {
        let text = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\nID=debian\n";
        let release = OsRelease::parse(text);
        assert_eq!(release.distro().as_deref(), Some("debian-12"));
        let rolling = OsRelease::parse("ID=debian\nVERSION_CODENAME=sid\n# VERSION_ID=1\n");
        assert_eq!(rolling.distro().as_deref(), Some("debian-sid"));
        assert_eq!(OsRelease::parse("nothing\nID=\n").distro(), None);
    }
}
