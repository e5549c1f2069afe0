//! What things in a registry are called.

use std::{fmt, str::FromStr};

use longshore_oci::{Digest, Repository, Tag};

use crate::StoreError;

/// The path of a repository within a registry, e.g. `me/app` (distribution specification, `<name>`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryPath(String);

impl RepositoryPath {
    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RepositoryPath {
    type Err = StoreError;

    fn from_str(path: &str) -> Result<Self, StoreError> {
        // One grammar for both: a path is what may follow a host. The host counts toward the greatest length.
        match format!("localhost/{path}").parse::<Repository>() {
            Ok(repository) if repository.path() == path => Ok(Self(path.to_owned())),
            _ => Err(StoreError::Name(path.to_owned())),
        }
    }
}

impl From<&Repository> for RepositoryPath {
    fn from(repository: &Repository) -> Self {
        Self(repository.path().to_owned())
    }
}

impl fmt::Display for RepositoryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What names a manifest within a repository (distribution specification, `<reference>`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TagOrDigest {
    /// A tag, which may move.
    Tag(Tag),
    /// A digest, which never does.
    Digest(Digest),
}

impl fmt::Display for TagOrDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl From<Tag> for TagOrDigest {
    fn from(tag: Tag) -> Self {
        Self::Tag(tag)
    }
}

impl From<&Tag> for TagOrDigest {
    fn from(tag: &Tag) -> Self {
        Self::Tag(tag.clone())
    }
}

impl From<Digest> for TagOrDigest {
    fn from(digest: Digest) -> Self {
        Self::Digest(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_follow_the_specification() {
        for good in
            ["a", "library/python", "a.b/c__d/e---f", "docker.io/a", "localhost/a", "tags", "manifests/tags"]
        {
            assert_eq!(good.parse::<RepositoryPath>().unwrap().as_str(), good);
        }
        for bad in
            ["", "/", "a/", "/a", "a//b", "A", "_tags", "a/_tags", "..", "a/../b", "a:1", "a b", "a\0b"]
        {
            assert!(bad.parse::<RepositoryPath>().is_err(), "{bad:?} should be refused");
        }
        assert!("a".repeat(246).parse::<RepositoryPath>().is_err());
    }

    proptest! {
        /// What the folder names of the registry rely on.
        #[test]
        fn no_path_leaves_its_folder_or_meets_a_reserved_name(text in "[a-z0-9._/-]{0,20}|\\PC*") {
            if let Ok(path) = text.parse::<RepositoryPath>() {
                prop_assert!(path.as_str().split('/').all(|part| part.starts_with(|c: char| c.is_ascii_alphanumeric())));
            }
        }
    }
}
