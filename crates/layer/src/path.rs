//! Paths of entries in a layer.

use std::{cmp::Ordering, fmt, str::FromStr};

use crate::{Error, Result};

/// The path of an entry in a layer: relative, `/`-separated, UTF-8, without empty, `.` or `..` parts and without
/// NUL; so it can only name something below the root. The root itself has no `EntryPath`.
///
/// Paths are ordered by their parts: everything below a directory follows the directory at once, and nothing
/// else stands between. `a`, `a/b`, `a.c` is the order, although `.` sorts before `/` as a byte.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EntryPath(Box<str>);

/// Why a text is not an [`EntryPath`].
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathFault {
    /// Nothing at all, or nothing but what names the root.
    #[error("it is empty")]
    Empty,
    /// It begins with `/`.
    #[error("it is absolute")]
    Absolute,
    /// Two slashes in a row or one at the end.
    #[error("it has an empty part")]
    EmptyPart,
    /// A part is `.`.
    #[error("it has a part `.`")]
    Dot,
    /// A part is `..`.
    #[error("it has a part `..`, which could lead out of the image")]
    DotDot,
    /// A NUL, which no file system can store.
    #[error("it contains NUL")]
    Nul,
    /// The bytes are not UTF-8.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// Longer than Linux can open (`PATH_MAX`).
    #[error("it is longer than {} bytes", EntryPath::LONGEST)]
    TooLong,
    /// A part is longer than file systems allow (`NAME_MAX`).
    #[error("a part of it is longer than {} bytes", EntryPath::LONGEST_PART)]
    PartTooLong,
}

impl EntryPath {
    /// The longest path: Linux's `PATH_MAX` less the final NUL.
    pub const LONGEST: usize = 4095;
    /// The longest part: `NAME_MAX`.
    pub const LONGEST_PART: usize = 255;

    /// Checks that `text` is a path already in its one spelling.
    pub fn new(text: &str) -> Result<Self> {
        check(text)
            .map(|()| Self(text.into()))
            .map_err(|fault| Error::Path { path: shown(text.as_bytes()), fault })
    }

    /// The path that tools which unpack layers would take `bytes` to mean: leading `/` and `./`, empty and `.` parts and
    /// a slash at the end are dropped, `..` is refused. `None` is the root.
    pub(crate) fn clean(bytes: &[u8]) -> Result<Option<Self>> {
        let refuse = |fault| Error::Path { path: shown(bytes), fault };
        let text = str::from_utf8(bytes).map_err(|_| refuse(PathFault::NotUtf8))?;
        if check(text).is_ok() {
            return Ok(Some(Self(text.into())));
        }
        let mut clean = String::with_capacity(text.len());
        for part in text.split('/').filter(|part| !matches!(*part, "" | ".")) {
            if !clean.is_empty() {
                clean.push('/');
            }
            clean.push_str(part);
        }
        match check(&clean) {
            Ok(()) => Ok(Some(Self(clean.into()))),
            Err(PathFault::Empty) if !text.is_empty() => Ok(None),
            Err(fault) => Err(refuse(fault)),
        }
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The parts between the slashes.
    pub fn parts(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// The last part.
    pub fn name(&self) -> &str {
        self.0.rsplit_once('/').map_or(&self.0, |(_, name)| name)
    }

    /// The directory that contains it; `None` if that is the root.
    pub fn parent(&self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(parent, _)| Self(parent.into()))
    }

    /// The path of `relative`, one or more parts, below this one.
    pub fn join(&self, relative: &str) -> Result<Self> {
        Self::new(&format!("{}/{relative}", self.0))
    }

    /// Whether it lies below `directory`, at any depth. A path does not lie below itself.
    pub fn is_below(&self, directory: &Self) -> bool {
        self.0.strip_prefix(&*directory.0).is_some_and(|rest| rest.starts_with('/'))
    }

    /// The directories above it, from the top.
    pub(crate) fn ancestors(&self) -> impl Iterator<Item = Self> {
        self.0.match_indices('/').map(|(at, _)| Self(self.0[..at].into()))
    }
}

fn check(text: &str) -> Result<(), PathFault> {
    if text.is_empty() {
        return Err(PathFault::Empty);
    }
    if text.starts_with('/') {
        return Err(PathFault::Absolute);
    }
    if text.len() > EntryPath::LONGEST {
        return Err(PathFault::TooLong);
    }
    if text.contains('\0') {
        return Err(PathFault::Nul);
    }
    for part in text.split('/') {
        match part {
            "" => return Err(PathFault::EmptyPart),
            "." => return Err(PathFault::Dot),
            ".." => return Err(PathFault::DotDot),
            _ if part.len() > EntryPath::LONGEST_PART => return Err(PathFault::PartTooLong),
            _ => {}
        }
    }
    Ok(())
}

/// A name for a message: as far as it is readable, and not at any length.
pub(crate) fn shown(name: &[u8]) -> String {
    const LONGEST: usize = 300;
    match name.get(..LONGEST) {
        Some(front) if name.len() > LONGEST => String::from_utf8_lossy(front).into_owned() + "…",
        _ => String::from_utf8_lossy(name).into_owned(),
    }
}

/// Compares by parts: `/` ranks below every byte that a part can have.
pub(crate) fn compare(left: &str, right: &str) -> Ordering {
    let same = left.bytes().zip(right.bytes()).take_while(|(l, r)| l == r).count();
    let rank = |text: &str| text.as_bytes().get(same).map(|&byte| if byte == b'/' { 0 } else { byte });
    rank(left).cmp(&rank(right))
}

impl Ord for EntryPath {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.0, &other.0)
    }
}

impl PartialOrd for EntryPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl AsRef<str> for EntryPath {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for EntryPath {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fault(text: &str) -> Option<PathFault> {
        match EntryPath::new(text) {
            Ok(_) => None,
            Err(Error::Path { fault, .. }) => Some(fault),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_path_has_one_spelling() {
        assert_eq!(fault("opt/venv/lib/a b\\c"), None);
        assert_eq!(fault(""), Some(PathFault::Empty));
        assert_eq!(fault("/a"), Some(PathFault::Absolute));
        assert_eq!(fault("a//b"), Some(PathFault::EmptyPart));
        assert_eq!(fault("a/"), Some(PathFault::EmptyPart));
        assert_eq!(fault("./a"), Some(PathFault::Dot));
        assert_eq!(fault("a/../b"), Some(PathFault::DotDot));
        assert_eq!(fault("a\0"), Some(PathFault::Nul));
        assert_eq!(fault(&"a/".repeat(2048)), Some(PathFault::TooLong));
        assert_eq!(fault(&"a".repeat(256)), Some(PathFault::PartTooLong));
        assert_eq!(fault(&"a".repeat(255)), None);
    }

    #[test]
    fn foreign_spellings_are_cleaned_as_unpackers_do() {
        let clean = |text: &str| EntryPath::clean(text.as_bytes()).unwrap().map(|path| path.to_string());
        assert_eq!(clean("./usr//bin/./env/").as_deref(), Some("usr/bin/env"));
        assert_eq!(clean("/etc/passwd").as_deref(), Some("etc/passwd"));
        assert_eq!((clean("./"), clean("."), clean("/")), (None, None, None));
        assert!(matches!(EntryPath::clean(b""), Err(Error::Path { fault: PathFault::Empty, .. })));
        assert!(matches!(EntryPath::clean(b"a/../b"), Err(Error::Path { fault: PathFault::DotDot, .. })));
        assert!(matches!(EntryPath::clean(b"\xff"), Err(Error::Path { fault: PathFault::NotUtf8, .. })));
    }

    #[test]
    fn messages_do_not_repeat_endless_names() {
        let message = EntryPath::new(&"../".repeat(10_000)).unwrap_err().to_string();
        assert!(message.len() < 500, "{message}");
        assert_eq!(shown(b"a\xff"), "a\u{fffd}");
    }

    #[test]
    fn below_is_by_parts() {
        let path = |text| EntryPath::new(text).unwrap();
        assert!(path("a/b/c").is_below(&path("a")));
        assert!(!path("ab/c").is_below(&path("a")));
        assert!(!path("a").is_below(&path("a")));
        assert_eq!(path("a/b/c").ancestors().collect::<Vec<_>>(), [path("a"), path("a/b")]);
        assert_eq!((path("a/b").parent(), path("a").parent()), (Some(path("a")), None));
        assert_eq!((path("a/b").name(), path("a").name()), ("b", "a"));
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_the_parts(left in "[a./!-]{1,9}", right in "[a./!-]{1,9}") {
            if let (Ok(l), Ok(r)) = (EntryPath::new(&left), EntryPath::new(&right)) {
                prop_assert_eq!(l.cmp(&r), l.parts().cmp(r.parts()));
            }
        }

        #[test]
        fn cleaning_gives_a_path_or_an_error(bytes: Vec<u8>, text in "[a./]{0,12}") {
            for bytes in [&bytes[..], text.as_bytes()] {
                if let Ok(Some(path)) = EntryPath::clean(bytes) {
                    prop_assert_eq!(EntryPath::new(path.as_str()).unwrap(), path);
                }
            }
        }
    }
}
