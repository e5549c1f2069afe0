//! Why code cannot be packed.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use super::{
    dockerignore::PatternError,
    secret::{Secret, SecretKind},
};

/// Why the source root cannot be packed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// A file or folder cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The permissions of a file or folder do not allow it.
    #[error(
        "cannot read {0}: this user may not; change its permissions, or name it in .dockerignore or .gitignore"
    )]
    Permission(PathBuf),
    /// The walk failed, in a way that has no single file.
    #[error("cannot walk the source folder: {0}")]
    Walk(ignore::Error),
    /// A pattern that Docker refuses too.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// A file's name is not UTF-8.
    #[error("the name of {0} is not UTF-8; rename the file, or name it in .dockerignore or .gitignore")]
    Name(PathBuf),
    /// A file whose name makes it a whiteout (image specification, "Whiteouts").
    #[error(
        "the name of {0} begins with `.wh.`, and in an image such a file removes another instead of being there; rename it, \
         or name it in .dockerignore or .gitignore"
    )]
    Whiteout(PathBuf),
    /// A symbolic link that leaves the source root: it would dangle in the image, or show what it should not.
    #[error(
        "the symbolic link {path} points to {target}, {problem}; replace it by a copy or by a relative link within the \
         folder, or name it in .dockerignore or .gitignore"
    )]
    Link {
        /// The link.
        path: PathBuf,
        /// Where it points.
        target: PathBuf,
        /// What is wrong with that.
        problem: LinkProblem,
    },
    /// Neither a file, a folder nor a link.
    #[error("{0} is neither a file, a folder nor a symbolic link; name it in .dockerignore or .gitignore")]
    Special(PathBuf),
    /// More than a code layer should hold.
    #[error(
        "the source folder {root} holds more than {limit}; the folder of the script is what goes into the image: \
         move the script to a folder of its own, or name what is not code in .dockerignore or .gitignore"
    )]
    TooLarge {
        /// The source root.
        root: PathBuf,
        /// The limit that was passed.
        limit: &'static str,
    },
    /// Secrets, which an image would show to all who may read it.
    #[error("the code holds what an image must not: {}; name the files in .dockerignore or .gitignore or, \
             if they are no secrets or must be in the image, in DockerSettings(allow_secrets=[…]) or after --allow-secrets", listed(.0))]
    Secrets(Vec<SecretFile>),
    /// A file changed between hashing and packing, or while it was being read.
    #[error("{0} changed while it was being packed; run again")]
    Changed(PathBuf),
}

impl SourceError {
    /// That something which was there a moment ago could not be read.
    pub(super) fn of_reading(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => Self::Changed(path),
            io::ErrorKind::PermissionDenied => Self::Permission(path),
            _ => Self::Read { path, source },
        }
    }
}

impl From<ignore::Error> for SourceError {
    fn from(error: ignore::Error) -> Self {
        let mut inner = &error;
        let mut place = None;
        while let ignore::Error::WithDepth { err, .. } | ignore::Error::WithPath { err, .. } = inner {
            if let ignore::Error::WithPath { path, .. } = inner {
                place = Some(path.clone());
            }
            inner = err;
        }
        match (place, error.is_io()) {
            (Some(path), true) => match error.into_io_error() {
                Some(source) => Self::of_reading(&path, source),
                None => Self::Changed(path),
            },
            _ => Self::Walk(error),
        }
    }
}

/// What is wrong with a symbolic link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkProblem {
    /// An absolute path, which is another one in the image.
    Absolute,
    /// A path that leaves the source folder.
    Outside,
    /// A path that is not UTF-8.
    NotText,
}

impl fmt::Display for LinkProblem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Absolute => "an absolute path, which the image does not have",
            Self::Outside => "which is outside of the source folder",
            Self::NotText => "which is not UTF-8",
        })
    }
}

/// A file that holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SecretFile {
    /// The path below the source root.
    pub path: String,
    /// What it holds.
    #[serde(flatten)]
    pub secret: Secret,
}

impl fmt::Display for SecretFile {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Secret { kind, line } = self.secret;
        let also = if kind == SecretKind::RandomValue { ", as it seems" } else { "" };
        match line {
            Some(line) => write!(out, "{} line {line} ({kind}{also})", self.path),
            None => write!(out, "{} ({kind})", self.path),
        }
    }
}

/// The first files, and how many more there are.
fn listed(files: &[SecretFile]) -> String {
    const SHOWN: usize = 8;
    let mut text: Vec<String> = files.iter().take(SHOWN).map(ToString::to_string).collect();
    if files.len() > SHOWN {
        text.push(format!("and {} more", files.len() - SHOWN));
    }
    text.join(", ")
}
