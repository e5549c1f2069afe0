//! Image references: `[host[:port]/]path[:tag][@digest]`, with Docker's rules for short names.
//!
//! Grammar: the distribution project's `reference` package, to which the OCI distribution specification's
//! `<name>` and `<reference>` patterns agree. Short names: `python:3.9-slim` is
//! `docker.io/library/python:3.9-slim`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Digest, DigestError};

/// Docker Hub's name in references. Its other names, `index.docker.io` and `registry-1.docker.io`, read as this one.
const DOCKER_HUB: &str = "docker.io";
/// The longest repository name, host included, that the distribution project accepts.
const LONGEST_NAME: usize = 255;
/// The longest tag (distribution specification, "Pulling manifests").
const LONGEST_TAG: usize = 128;

/// Why a string is not an image reference.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReferenceError {
    /// Nothing at all.
    #[error("an image reference is empty; write e.g. python:3.12-slim")]
    Empty,
    /// A URL where a reference is meant.
    #[error("image reference `{0}` begins with a scheme; leave out everything before and including `://`")]
    Scheme(String),
    /// The host or its port is malformed.
    #[error("`{host}` in image reference `{reference}` is not a host name with an optional :port")]
    Host {
        /// The reference.
        reference: String,
        /// Its first part.
        host: String,
    },
    /// The path has characters or separators that registries refuse.
    #[error(
        "`{path}` in image reference `{reference}` is not a repository path: lower-case letters and digits, \
         separated by single `.`, one or two `_`, or dashes, in parts separated by `/`"
    )]
    Path {
        /// The reference.
        reference: String,
        /// The offending path.
        path: String,
    },
    /// Host and path together are too long.
    #[error("the name in image reference `{0}` is longer than 255 characters")]
    TooLong(String),
    /// The tag is malformed.
    #[error(
        "`{0}` is not a tag: up to 128 letters, digits, `_`, `.` and `-`, beginning with a letter, a digit or `_`"
    )]
    Tag(String),
    /// The digest is malformed.
    #[error("in image reference `{reference}`: {source}")]
    Digest {
        /// The reference.
        reference: String,
        /// What is wrong with the digest.
        source: DigestError,
    },
}

/// A tag: a name for a manifest that can change its mind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(String);

impl Tag {
    /// The tag that stands where none is written.
    pub fn latest() -> Self {
        Self("latest".to_owned())
    }

    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Tag {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let valid = text.len() <= LONGEST_TAG
            && text.starts_with(word)
            && text.chars().all(|c| word(c) || matches!(c, '.' | '-'));
        if valid { Ok(Self(text.to_owned())) } else { Err(ReferenceError::Tag(text.to_owned())) }
    }
}

/// A repository: a host and a path in it, e.g. `ghcr.io/me/app`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    host: String,
    path: String,
}

impl Repository {
    /// The registry's host, with its port if one is written. Docker Hub is `docker.io`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The path within the registry, e.g. `library/python`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The same repository with `name` appended to its path.
    pub fn join(&self, name: &str) -> Result<Self, ReferenceError> {
        let whole = format!("{}/{}/{name}", self.host, self.path);
        check_path(&whole, name)?;
        check_length(&whole)?;
        Ok(Self { host: self.host.clone(), path: format!("{}/{name}", self.path) })
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.path)
    }
}

impl FromStr for Repository {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if text.contains("://") {
            return Err(ReferenceError::Scheme(text.to_owned()));
        }
        let (host, path) = match text.split_once('/') {
            Some((first, rest)) if is_host(first) => (first, rest.to_owned()),
            _ => (DOCKER_HUB, text.to_owned()),
        };
        let (host, path) = match host.to_ascii_lowercase().as_str() {
            DOCKER_HUB | "index.docker.io" | "registry-1.docker.io" if !path.contains('/') => {
                (DOCKER_HUB.to_owned(), format!("library/{path}"))
            }
            DOCKER_HUB | "index.docker.io" | "registry-1.docker.io" => (DOCKER_HUB.to_owned(), path),
            other => (other.to_owned(), path),
        };
        check_host(text, &host)?;
        check_path(text, &path)?;
        check_length(&format!("{host}/{path}"))?;
        Ok(Self { host, path })
    }
}

/// Whether the first part of a name is a host, not the beginning of a path: Docker's rule is that it has a dot or
/// a colon, is `localhost`, or has upper-case letters (which no path may).
fn is_host(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.contains(|c: char| c.is_ascii_uppercase())
}

fn check_host(reference: &str, host: &str) -> Result<(), ReferenceError> {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, "")) => (address, None),
        Some((address, port)) => (address, port.strip_prefix(':').or(Some(""))),
        None => host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port))),
    };
    let name_is_valid = if host.starts_with('[') {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_hexdigit() || c == ':')
    } else {
        name.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        })
    };
    let port_is_valid =
        port.is_none_or(|port| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok());
    if name_is_valid && port_is_valid {
        Ok(())
    } else {
        Err(ReferenceError::Host { reference: reference.to_owned(), host: host.to_owned() })
    }
}

fn check_path(reference: &str, path: &str) -> Result<(), ReferenceError> {
    if path.split('/').all(is_path_component) {
        Ok(())
    } else {
        Err(ReferenceError::Path { reference: reference.to_owned(), path: path.to_owned() })
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(component: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    component.starts_with(alphanumeric)
        && component.ends_with(alphanumeric)
        && component.split(alphanumeric).all(|separator| {
            matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-')
        })
}

fn check_length(name: &str) -> Result<(), ReferenceError> {
    if name.len() > LONGEST_NAME { Err(ReferenceError::TooLong(name.to_owned())) } else { Ok(()) }
}

/// An image: a repository, and a tag, a digest or both. With both, the digest decides.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// Where.
    pub repository: Repository,
    /// The tag, if one is written.
    pub tag: Option<Tag>,
    /// The digest, if one is written.
    pub digest: Option<Digest>,
}

impl Reference {
    /// A reference by tag.
    pub const fn tagged(repository: Repository, tag: Tag) -> Self {
        Self { repository, tag: Some(tag), digest: None }
    }

    /// The same repository by digest alone: what everything downstream of a push uses.
    pub fn at(&self, digest: Digest) -> Self {
        Self { repository: self.repository.clone(), tag: None, digest: Some(digest) }
    }

    /// The tag, or `latest` where neither tag nor digest is written.
    pub fn tag_or_latest(&self) -> Option<Tag> {
        self.tag.clone().or_else(|| self.digest.is_none().then(Tag::latest))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest
                    .parse()
                    .map_err(|source| ReferenceError::Digest { reference: text.to_owned(), source })?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        // A colon after the last slash begins a tag; one before it, a port.
        let name_start = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[name_start..].split_once(':') {
            Some((last, tag)) if !rest.contains("://") => {
                (&rest[..name_start + last.len()], Some(tag.parse()?))
            }
            _ => (rest, None),
        };
        Ok(Self { repository: name.parse()?, tag, digest })
    }
}

/// Serialises a type as the text that it prints and parses.
macro_rules! serde_as_text {
    ($($type:ty),*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
serde_as_text!(Reference, Repository, Tag);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn short_names_follow_docker() {
        let cases = [
            ("python:3.9-slim", "docker.io/library/python:3.9-slim"),
            ("python", "docker.io/library/python"),
            ("me/app", "docker.io/me/app"),
            ("docker.io/python", "docker.io/library/python"),
            ("index.docker.io/me/app:1", "docker.io/me/app:1"),
            ("registry-1.docker.io/library/a", "docker.io/library/a"),
            ("localhost/a", "localhost/a"),
            ("localhost:5000/a/b:t", "localhost:5000/a/b:t"),
            ("ghcr.io/me/app", "ghcr.io/me/app"),
            ("GHCR.io/me/app", "ghcr.io/me/app"),
            ("[::1]:5000/a", "[::1]:5000/a"),
            ("a__b/c.d-e--f", "docker.io/a__b/c.d-e--f"),
        ];
        for (short, full) in cases {
            assert_eq!(short.parse::<Reference>().unwrap().to_string(), full, "{short}");
        }
    }

    #[test]
    fn tag_and_digest_may_stand_together() {
        let digest = Digest::of([]);
        let reference: Reference = format!("a:1@{digest}").parse().unwrap();
        assert_eq!(reference.tag.as_ref().unwrap().as_str(), "1");
        assert_eq!(reference.digest, Some(digest));
        assert_eq!(reference.at(digest).to_string(), format!("docker.io/library/a@{digest}"));
        assert_eq!("a".parse::<Reference>().unwrap().tag_or_latest(), Some(Tag::latest()));
    }

    #[test]
    fn what_no_registry_accepts_is_refused() {
        for bad in [
            "",
            ":",
            "a:",
            "/a",
            "a/",
            "a//b",
            "A",
            "me/App",
            "a..b",
            "a___b",
            "-a",
            "a-",
            "a b",
            "a:b c",
            "https://ghcr.io/a",
            "host.:80/a",
            "h.io:port/a",
            "h.io:99999/a",
            "-h.io/a",
            "a@sha256:00",
            "a:.b",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad:?} should be refused");
        }
        assert!("a".repeat(300).parse::<Reference>().is_err());
        assert!("x".repeat(129).parse::<Tag>().is_err());
    }

    #[test]
    fn a_scheme_is_named_as_the_mistake() {
        let error = "https://gcr.io/p/i:1".parse::<Reference>().unwrap_err();
        assert!(matches!(error, ReferenceError::Scheme(_)), "{error}");
    }

    /// Names of all shapes, with and without a host and a tag.
    const TEXT: &str = "([a-z][a-z0-9]{0,8}\\.[a-z]{2,4}(:[1-9][0-9]{1,3})?/)?[a-z0-9]{1,6}((\\.|_|__|-)[a-z0-9]{1,4})?(/[a-z0-9]{1,6}){0,2}(:[A-Za-z0-9_][A-Za-z0-9._-]{0,10})?";

    proptest! {
        #[test]
        fn parse_is_the_inverse_of_print(text in TEXT) {
            let reference: Reference = text.parse().unwrap();
            prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
        }

        #[test]
        fn an_independent_parser_agrees(text in TEXT) {
            let ours: Reference = text.parse().unwrap();
            let theirs: oci_spec::distribution::Reference = text.parse().unwrap();
            prop_assert_eq!(ours.repository.host(), theirs.registry());
            prop_assert_eq!(ours.repository.path(), theirs.repository());
            prop_assert_eq!(ours.tag_or_latest().map(|t| t.to_string()), theirs.tag().map(str::to_owned));
        }

        #[test]
        fn parsing_never_panics(text: String) {
            let _ = text.parse::<Reference>();
        }
    }
}
