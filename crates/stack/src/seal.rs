//! Secrets at rest: AES-256-GCM with a key from a file beside the database.
//!
//! A sealed value is `version (1 byte) | key's identity (8) | nonce (12) | ciphertext and tag`. What it belongs to is
//! authenticated with it (NIST SP 800-38D "additional authenticated data"), so that it cannot be moved to another
//! row. The nonce is random; a key seals far fewer than the 2^32 values for which that is safe.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey},
    digest,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use longshore_auth::Secret;
use zeroize::Zeroizing;

const VERSION: u8 = 1;
const KEY_LENGTH: usize = 32;
const IDENTITY_LENGTH: usize = 8;
const NONCE_LENGTH: usize = 12;
const HEADER: usize = 1 + IDENTITY_LENGTH + NONCE_LENGTH;

/// Why a secret cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The key is not there, and secrets are sealed with it.
    #[error(
        "the key {path}, which secrets in the database are sealed with, is missing; restore it from a backup, or \
         delete the service connectors and register them again"
    )]
    MissingKey {
        /// The key file.
        path: PathBuf,
    },
    /// The key file cannot be read or made.
    #[error("cannot {what} the key {path}: {source}")]
    KeyFile {
        /// `read` or `create`.
        what: &'static str,
        /// The key file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others than its owner can read the key file.
    #[error("the key {path} can be read by others than its owner (mode {mode:03o}); run: chmod 600 {path}")]
    OpenToOthers {
        /// The key file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The key file has something else.
    #[error("{path} is not a key; restore it from a backup")]
    NotAKey {
        /// The key file.
        path: PathBuf,
    },
    /// The value was sealed with another key.
    #[error(
        "{what} is sealed with another key than the one in {path}; restore that key from a backup, or give the value \
         anew with `longshore service-connector update`"
    )]
    OtherKey {
        /// What the value is.
        what: String,
        /// The key file.
        path: PathBuf,
    },
    /// The value was changed, or belongs to another row.
    #[error(
        "{what} was changed outside longshore and cannot be opened; give it anew with `longshore service-connector \
         update`"
    )]
    Tampered {
        /// What the value is.
        what: String,
    },
    /// The cryptography library failed: no randomness, no memory.
    #[error("the system gave no randomness to seal {what}")]
    NoRandomness {
        /// What the value is.
        what: String,
    },
}

/// What a sealed value belongs to: a field of a connector.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// The connector's row.
    pub(crate) row: &'a str,
    /// The connector's name, for messages.
    pub(crate) name: &'a str,
    /// The field.
    pub(crate) field: &'a str,
}

impl Place<'_> {
    fn authenticated(self) -> Aad<String> {
        Aad::from(format!("longshore secret\0connector\0{}\0{}", self.row, self.field))
    }

    fn what(self) -> String {
        format!("`{}` of service connector `{}`", self.field, self.name)
    }
}

/// Whether a key may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absent {
    /// Nothing is sealed yet: make one.
    Create,
    /// Something is: another key would not open it.
    Refuse,
}

/// The key, read.
pub(crate) struct SealingKey {
    path: PathBuf,
    key: RandomizedNonceKey,
    identity: [u8; IDENTITY_LENGTH],
}

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealingKey").field("path", &self.path).finish_non_exhaustive()
    }
}

impl SealingKey {
    /// Reads the key at `path`, or makes it.
    pub(crate) fn open(path: &Path, absent: Absent) -> Result<Self, SealError> {
        match (read(path)?, absent) {
            (Some(key), _) => Ok(key),
            (None, Absent::Refuse) => Err(SealError::MissingKey { path: path.to_owned() }),
            (None, Absent::Create) => {
                create(path).map_err(|source| SealError::KeyFile {
                    what: "create",
                    path: path.to_owned(),
                    source,
                })?;
                read(path)?.ok_or_else(|| SealError::MissingKey { path: path.to_owned() })
            }
        }
    }

    /// Seals a value.
    pub(crate) fn seal(&self, place: Place<'_>, secret: &Secret) -> Result<Vec<u8>, SealError> {
        // Encrypted in place: the plain text is in no other buffer.
        let mut bytes = Zeroizing::new(secret.expose().as_bytes().to_vec());
        let nonce = self
            .key
            .seal_in_place_append_tag(place.authenticated(), &mut *bytes)
            .map_err(|_| SealError::NoRandomness { what: place.what() })?;
        let mut sealed = vec![VERSION];
        sealed.extend_from_slice(&self.identity);
        sealed.extend_from_slice(nonce.as_ref());
        sealed.extend_from_slice(&bytes);
        Ok(sealed)
    }

    /// Opens a value.
    pub(crate) fn open_value(&self, place: Place<'_>, sealed: &[u8]) -> Result<Secret, SealError> {
        let tampered = || SealError::Tampered { what: place.what() };
        if sealed.len() < HEADER || sealed[0] != VERSION {
            return Err(tampered());
        }
        let (header, ciphertext) = sealed.split_at(HEADER);
        let (identity, nonce) = header[1..].split_at(IDENTITY_LENGTH);
        if identity != self.identity {
            return Err(SealError::OtherKey { what: place.what(), path: self.path.clone() });
        }
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| tampered())?;
        let mut bytes = Zeroizing::new(ciphertext.to_vec());
        let plain =
            self.key.open_in_place(nonce, place.authenticated(), &mut bytes).map_err(|_| tampered())?;
        Ok(Secret::new(std::str::from_utf8(plain).map_err(|_| tampered())?))
    }
}

/// The key at `path`, if there is a file.
fn read(path: &Path) -> Result<Option<SealingKey>, SealError> {
    let fault = |source| SealError::KeyFile { what: "read", path: path.to_owned(), source };
    let not_a_key = || SealError::NotAKey { path: path.to_owned() };
    let text = match fs::read_to_string(path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(not_a_key()),
        Err(source) => return Err(fault(source)),
    };
    let mode = fs::metadata(path).map_err(fault)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(SealError::OpenToOthers { path: path.to_owned(), mode });
    }
    let bytes = Zeroizing::new(STANDARD.decode(text.trim_end()).map_err(|_| not_a_key())?);
    if bytes.len() != KEY_LENGTH {
        return Err(not_a_key());
    }
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"longshore key identity\0");
    context.update(&bytes);
    let mut identity = [0; IDENTITY_LENGTH];
    identity.copy_from_slice(&context.finish().as_ref()[..IDENTITY_LENGTH]);
    let key = RandomizedNonceKey::new(&AES_256_GCM, &bytes).map_err(|_| not_a_key())?;
    Ok(Some(SealingKey { path: path.to_owned(), key, identity }))
}

/// Makes a key, whole and readable by its owner only, unless another process was first.
fn create(path: &Path) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut bytes = Zeroizing::new([0; KEY_LENGTH]);
    aws_lc_rs::rand::fill(&mut *bytes).map_err(|_| io::Error::other("the system gave no randomness"))?;
    let mut file = tempfile::Builder::new()
        .prefix(".secrets-key-")
        .permissions(fs::Permissions::from_mode(0o600))
        .tempfile_in(folder)?;
    file.write_all(Zeroizing::new(STANDARD.encode(*bytes)).as_bytes())?;
    file.write_all(b"\n")?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => {}
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error.error),
    }
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place<'_> = Place { row: "1", name: "hub", field: "password" };

    fn new_key() -> (tempfile::TempDir, SealingKey) {
        let folder = tempfile::tempdir().unwrap();
        let key = SealingKey::open(&folder.path().join("secrets.key"), Absent::Create).unwrap();
        (folder, key)
    }

    #[test]
    fn what_is_sealed_opens_where_it_belongs_and_nowhere_else() {
        let (_folder, key) = new_key();
        let secret = Secret::new("hunter2");
        let sealed = key.seal(PLACE, &secret).unwrap();
        assert!(!sealed.windows(7).any(|window| window == b"hunter2"));
        assert_eq!(key.open_value(PLACE, &sealed).unwrap(), secret);
        for other in [Place { row: "2", ..PLACE }, Place { field: "username", ..PLACE }] {
            assert!(matches!(key.open_value(other, &sealed), Err(SealError::Tampered { .. })));
        }
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let (_folder, key) = new_key();
        let sealed = key.seal(PLACE, &Secret::new("hunter2")).unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(key.open_value(PLACE, &changed).is_err(), "byte {at}");
        }
        for length in 0..sealed.len() {
            assert!(key.open_value(PLACE, &sealed[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn the_same_secret_is_never_sealed_alike() {
        let (_folder, key) = new_key();
        let secret = Secret::new("x");
        assert_ne!(key.seal(PLACE, &secret).unwrap(), key.seal(PLACE, &secret).unwrap());
    }

    #[test]
    fn another_key_is_said_to_be_another() {
        let (_one, first) = new_key();
        let (_two, second) = new_key();
        let sealed = first.seal(PLACE, &Secret::new("x")).unwrap();
        let error = second.open_value(PLACE, &sealed).unwrap_err();
        assert!(
            error.to_string().starts_with("`password` of service connector `hub` is sealed with another key"),
            "{error}"
        );
    }

    #[test]
    fn a_missing_key_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets.key");
        assert!(matches!(SealingKey::open(&path, Absent::Refuse), Err(SealError::MissingKey { .. })));
        assert!(!path.exists());
    }

    #[test]
    fn only_the_owner_can_read_the_key() {
        let (folder, _key) = new_key();
        let path = folder.path().join("secrets.key");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = SealingKey::open(&path, Absent::Refuse).unwrap_err();
        assert!(error.to_string().contains("(mode 640); run: chmod 600 "), "{error}");
    }

    #[test]
    fn what_is_not_a_key_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets.key");
        for text in ["", "short", "AAAA", "\u{fffd}"] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            assert!(
                matches!(SealingKey::open(&path, Absent::Create), Err(SealError::NotAKey { .. })),
                "{text}"
            );
        }
    }

    #[test]
    fn many_make_the_key_at_once_and_get_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets.key");
        let identities: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| SealingKey::open(&path, Absent::Create).unwrap().identity))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(identities.iter().all(|identity| *identity == identities[0]));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
