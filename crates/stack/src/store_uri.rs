//! Where the steps' outputs are kept.

use std::{fmt, path::Path, str::FromStr};

use url::Url;

/// The root of an artifact store: a folder, or a prefix in a bucket or container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreUri {
    scheme: StoreScheme,
    /// Without a slash at its end.
    text: String,
}

/// What holds an artifact store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreScheme {
    /// A folder, seen at the same path by all steps.
    File,
    /// Amazon S3, and what speaks its protocol: `s3://bucket/prefix`.
    S3,
    /// Google Cloud Storage: `gs://bucket/prefix`.
    Gcs,
    /// Azure Blob Storage: `az://container/prefix`. The account is in the environment.
    Azure,
}

impl StoreScheme {
    const ALL: [Self; 4] = [Self::File, Self::S3, Self::Gcs, Self::Azure];

    /// The scheme as URIs begin with it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::S3 => "s3",
            Self::Gcs => "gs",
            Self::Azure => "az",
        }
    }

    /// The service, in a sentence.
    pub const fn name(self) -> &'static str {
        match self {
            Self::File => "folders",
            Self::S3 => "Amazon S3",
            Self::Gcs => "Google Cloud Storage",
            Self::Azure => "Azure Blob Storage",
        }
    }

    /// What URIs begin with.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::File => "file://",
            Self::S3 => "s3://",
            Self::Gcs => "gs://",
            Self::Azure => "az://",
        }
    }

    /// The Python package by which the container reads and writes there, with `fsspec`.
    pub const fn driver(self) -> Option<&'static str> {
        match self {
            Self::File => None,
            Self::S3 => Some("s3fs"),
            Self::Gcs => Some("gcsfs"),
            Self::Azure => Some("adlfs"),
        }
    }
}

/// Text that is not the URI of an artifact store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` {reason}; an artifact store is file:///folder, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"
)]
pub struct StoreUriError {
    text: String,
    reason: &'static str,
}

impl StoreUriError {
    /// What is wrong, as the end of a sentence.
    pub const fn reason(&self) -> &'static str {
        self.reason
    }
}

impl StoreUri {
    /// The store in a folder, by its absolute path.
    pub fn of_folder(folder: &Path) -> Self {
        // Only a relative path has no URI.
        let text = Url::from_file_path(folder).map_or_else(|()| folder.display().to_string(), String::from);
        Self { scheme: StoreScheme::File, text: text.trim_end_matches('/').to_owned() }
    }

    /// What holds it.
    pub const fn scheme(&self) -> StoreScheme {
        self.scheme
    }

    /// The bucket or container; empty for a folder.
    pub fn bucket(&self) -> &str {
        let rest = self.text.split_once("://").map_or("", |(_, rest)| rest);
        rest.split('/').next().unwrap_or_default()
    }

    /// What names in the bucket or container begin with, without a slash at its end; empty for all of it, and for a folder.
    pub fn prefix(&self) -> &str {
        let rest = self.text.split_once("://").map_or("", |(_, rest)| rest);
        match rest.split_once('/') {
            Some((bucket, prefix)) if !bucket.is_empty() => prefix,
            _ => "",
        }
    }

    /// The URI of the folder of a run.
    pub fn run(&self, run: &str) -> String {
        format!("{}/{run}", self.text)
    }

    /// The URI of an output.
    pub fn artifact(&self, run: &str, step: &str, output: &str) -> String {
        format!("{}/{run}/{step}/{output}", self.text)
    }

    /// The URI.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for StoreUri {
    type Err = StoreUriError;

    fn from_str(text: &str) -> Result<Self, StoreUriError> {
        let wrong = |reason| StoreUriError { text: text.to_owned(), reason };
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("has no scheme"))?;
        let scheme = StoreScheme::ALL.into_iter().find(|known| known.as_str() == scheme);
        let scheme = scheme.ok_or_else(|| wrong("has another scheme"))?;
        let rest = rest.trim_end_matches('/');
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._~/%+=@".contains(c);
        if let Some(path) = rest.strip_prefix('/') {
            if scheme != StoreScheme::File || path.is_empty() {
                return Err(wrong("names no bucket"));
            }
        } else if scheme == StoreScheme::File || rest.is_empty() {
            return Err(wrong("names nothing"));
        }
        if !rest.chars().all(plain) || rest.split('/').skip(1).any(|part| matches!(part, "" | "." | "..")) {
            return Err(wrong("has characters that a path should not have"));
        }
        Ok(Self { scheme, text: format!("{}://{rest}", scheme.as_str()) })
    }
}

impl fmt::Display for StoreUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_are_named_by_their_uris() {
        let store: StoreUri = "s3://bucket/team/runs/".parse().unwrap();
        assert_eq!((store.scheme(), store.bucket()), (StoreScheme::S3, "bucket"));
        assert_eq!(store.prefix(), "team/runs");
        assert_eq!("gs://bucket".parse::<StoreUri>().unwrap().prefix(), "");
        assert_eq!("file:///data/runs".parse::<StoreUri>().unwrap().prefix(), "");
        assert_eq!(store.run("r"), "s3://bucket/team/runs/r");
        assert_eq!("file:///data/runs".parse::<StoreUri>().unwrap().bucket(), "");
        assert_eq!("gs://bucket".parse::<StoreUri>().unwrap().artifact("r", "s", "o"), "gs://bucket/r/s/o");
    }

    #[test]
    fn what_is_no_store_is_refused() {
        for text in [
            "bucket",
            "ftp://x/y",
            "s3://",
            "s3:///x",
            "file://host/x",
            "file:///",
            "s3://b/../c",
            "s3://b/{run}",
        ] {
            assert!(text.parse::<StoreUri>().is_err(), "{text}");
        }
    }
}
