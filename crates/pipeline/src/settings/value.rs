//! The values of settings that are more than text.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use longshore_oci::{Arch, Platform};
use serde::{Deserialize, Serialize};
use url::Url;

use super::field::{Kind, Setting};

/// What to install with `pip`'s syntax: the requirements themselves, or the path of a file of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a list of requirements, or the path of a file of them")]
pub enum Requirements {
    /// Requirement strings, e.g. `pandas==2.2.3`.
    List(Vec<String>),
    /// The path of a requirements file, relative to the source root.
    File(String),
}

impl Default for Requirements {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl Setting for Requirements {
    const KIND: Kind = Kind::ListOrPath;

    fn below(&mut self, folder: &Path) {
        if let Self::File(file) = self {
            // Both parts were text, so the whole is.
            *file = folder.join(&*file).to_string_lossy().into_owned();
        }
    }
}

/// Which builder makes the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BuildStrategy {
    /// longshore itself, on this machine.
    #[default]
    Local,
}

impl Setting for BuildStrategy {
    const KIND: Kind = Kind::Word(&["local"]);
}

/// How an image's layers can be fetched by what runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lazy {
    /// File by file while the container already runs, by containerd's stargz-snapshotter and what else knows eStargz; whole
    /// by everybody else.
    Estargz,
}

impl Setting for Lazy {
    const KIND: Kind = Kind::Word(&["estargz"]);
}

/// How layers are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// As every registry and runtime knows it; what wheels hold is taken as it is.
    #[default]
    Gzip,
    /// Smaller and faster to unpack, for runtimes that know it.
    Zstd,
}

impl Setting for Compression {
    const KIND: Kind = Kind::Word(&["gzip", "zstd"]);
}

/// The platforms that an image is for: at least one, none twice.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "Written", try_from = "Written")]
pub struct Platforms(Vec<Arch>);

/// Platforms as they are written.
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a platform such as linux/amd64, or a list of them")]
enum Written {
    One(String),
    Several(Vec<String>),
}

/// Why something is not a list of platforms.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlatformsError {
    /// One that images are not built for.
    #[error("images are built for linux/amd64 and linux/arm64, not for `{0}`")]
    Unknown(String),
    /// One that is there twice.
    #[error("{0} is there twice")]
    Twice(Platform),
    /// An empty list.
    #[error("the list of platforms is empty; leave it out to build for this machine's")]
    Empty,
}

impl Platforms {
    /// Platforms from their names.
    pub fn new<T: AsRef<str>>(names: &[T]) -> Result<Self, PlatformsError> {
        let mut found = Vec::new();
        for name in names.iter().map(AsRef::as_ref) {
            let platform = name.parse::<Platform>().ok();
            let arch = [Arch::Amd64, Arch::Arm64].into_iter().find(|&arch| {
                platform.as_ref().is_some_and(|platform| platform.serves(&Platform::linux(arch)))
            });
            let arch = arch.ok_or_else(|| PlatformsError::Unknown(name.to_owned()))?;
            if found.contains(&arch) {
                return Err(PlatformsError::Twice(Platform::linux(arch)));
            }
            found.push(arch);
        }
        if found.is_empty() { Err(PlatformsError::Empty) } else { Ok(Self(found)) }
    }

    /// Their processors; all are of Linux.
    pub fn archs(&self) -> &[Arch] {
        &self.0
    }
}

impl TryFrom<Written> for Platforms {
    type Error = PlatformsError;

    fn try_from(written: Written) -> Result<Self, PlatformsError> {
        match written {
            Written::One(name) => Self::new(&[name]),
            Written::Several(names) => Self::new(&names),
        }
    }
}

impl From<Platforms> for Written {
    fn from(platforms: Platforms) -> Self {
        let mut names: Vec<_> = platforms.0.iter().map(|&arch| Platform::linux(arch).to_string()).collect();
        match names.len() {
            1 => Self::One(names.remove(0)),
            _ => Self::Several(names),
        }
    }
}

impl Setting for Platforms {
    const KIND: Kind = Kind::TextOrList;
}

/// The URL of a package index. It has no credentials in it: they are a secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct IndexUrl(Url);

/// Why some text is not the URL of an index.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum IndexUrlError {
    /// Not a URL. It is not repeated, for it may hold a password.
    #[error("an index is an http or https URL such as https://packages.example.com/simple ({0})")]
    Url(url::ParseError),
    /// A URL of another kind.
    #[error("an index is an http or https URL, not one of `{0}:`")]
    Scheme(String),
    /// A URL that has a user or a password.
    #[error(
        "the URL of the index at {host} has credentials in it, which everyone who sees the settings would see; \
         name them in `secrets`, as in secrets={{\"NAME OF THE INDEX\": \"env:VARIABLE\"}}"
    )]
    Credentials {
        /// The index's host.
        host: String,
    },
}

impl IndexUrl {
    /// The URL.
    pub fn as_url(&self) -> &Url {
        &self.0
    }
}

impl fmt::Display for IndexUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for IndexUrl {
    type Err = IndexUrlError;

    fn from_str(text: &str) -> Result<Self, IndexUrlError> {
        let url = Url::parse(text).map_err(IndexUrlError::Url)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(IndexUrlError::Scheme(url.scheme().to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(IndexUrlError::Credentials { host: url.host_str().unwrap_or_default().to_owned() });
        }
        Ok(Self(url))
    }
}

impl TryFrom<String> for IndexUrl {
    type Error = IndexUrlError;

    fn try_from(text: String) -> Result<Self, IndexUrlError> {
        text.parse()
    }
}

impl Setting for IndexUrl {
    const KIND: Kind = Kind::Text;
}

/// Where a secret of the build is found on this machine. The secret itself is never part of settings.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum SecretSource {
    /// In an environment variable.
    Environment(String),
    /// In a file, without the line end at its end.
    File(PathBuf),
}

/// Why some text does not say where a secret is. The text is not repeated, for it may be the secret.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a secret is named by where it is, as env:NAME or file:PATH, and not written here itself")]
pub struct SecretSourceError;

impl FromStr for SecretSource {
    type Err = SecretSourceError;

    fn from_str(text: &str) -> Result<Self, SecretSourceError> {
        match text.split_once(':') {
            Some(("env", name)) if is_variable(name) => Ok(Self::Environment(name.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            _ => Err(SecretSourceError),
        }
    }
}

fn is_variable(name: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty() && name.chars().all(word) && !name.starts_with(|c: char| c.is_ascii_digit())
}

impl TryFrom<String> for SecretSource {
    type Error = SecretSourceError;

    fn try_from(text: String) -> Result<Self, SecretSourceError> {
        text.parse()
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

impl From<SecretSource> for String {
    fn from(source: SecretSource) -> Self {
        source.to_string()
    }
}

impl Setting for SecretSource {
    const KIND: Kind = Kind::Text;

    fn below(&mut self, folder: &Path) {
        if let Self::File(path) = self {
            path.below(folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_those_that_images_are_built_for() {
        let both = Platforms::new(&["linux/arm64/v8", "linux/amd64"]).unwrap();
        assert_eq!(both.archs(), [Arch::Arm64, Arch::Amd64]);
        assert_eq!(serde_json::to_value(&both).unwrap(), serde_json::json!(["linux/arm64", "linux/amd64"]));
        assert_eq!(Platforms::new::<&str>(&[]), Err(PlatformsError::Empty));
        assert_eq!(
            Platforms::new(&["linux/arm64", "linux/arm64/v8"]),
            Err(PlatformsError::Twice(Platform::linux(Arch::Arm64)))
        );
        for name in ["windows/amd64", "linux/riscv64", "linux/arm64/v9", "amd64"] {
            assert_eq!(Platforms::new(&[name]), Err(PlatformsError::Unknown(name.to_owned())));
        }
    }

    #[test]
    fn a_credential_is_refused_and_not_repeated() {
        let error =
            "https://me:hunter2@packages.example.com/simple".parse::<IndexUrl>().unwrap_err().to_string();
        assert!(error.contains("packages.example.com") && error.contains("env:"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
        let error = "hunter2".parse::<IndexUrl>().unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
        let error = "hunter2".parse::<SecretSource>().unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_secret_is_named_by_where_it_is() {
        assert_eq!("env:TOKEN".parse(), Ok(SecretSource::Environment("TOKEN".to_owned())));
        assert_eq!("file:keys/a".parse(), Ok(SecretSource::File("keys/a".into())));
        for text in ["env:", "file:", "env:A B", "env:1", "TOKEN", "vault:x"] {
            assert_eq!(text.parse::<SecretSource>(), Err(SecretSourceError), "{text}");
        }
    }
}
