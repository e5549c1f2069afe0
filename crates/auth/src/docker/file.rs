//! Files of credentials: docker's `config.json` and podman's `auth.json`, which has the same form.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::key::{candidates, canonical, canonical_host, written};
use crate::{AuthError, Credential, Secret, credential::basic};

/// What a file says about credentials.
#[derive(Debug, Default, Deserialize)]
pub(super) struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
    #[serde(rename = "credHelpers", default)]
    helpers: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
struct Entry {
    auth: Option<Secret>,
    username: Option<String>,
    password: Option<Secret>,
    identitytoken: Option<Secret>,
    registrytoken: Option<Secret>,
}

/// Where a file says that a credential is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In the file itself, under this key.
    Here { key: String, credential: Credential },
    /// With the helper for this registry.
    Helper(String),
    /// With the helper for every registry.
    Store {
        name: String,
        /// Whether the file says that the helper was given something: docker leaves an empty entry then.
        marked: bool,
    },
    /// Nowhere.
    Nowhere,
}

impl File {
    /// Reads a file; one that is missing or empty says nothing.
    pub(super) fn load(path: &Path) -> Result<Self, AuthError> {
        let unusable = |reason: String| {
            AuthError::unusable(
                path.display().to_string(),
                reason,
                "correct or remove the file, and log in again",
            )
        };
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if is_missing(&error) => return Ok(Self::default()),
            Err(error) => return Err(unusable(format!("it cannot be read: {error}"))),
        };
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        // The parser's message can show a value.
        serde_json::from_str(&text).map_err(|error| {
            unusable(format!(
                "it is not a valid docker configuration (line {}, column {})",
                error.line(),
                error.column()
            ))
        })
    }

    /// The helper that is named for a host.
    pub(super) fn helper_of(&self, host: &str) -> Option<&str> {
        let host = canonical_host(host);
        self.helpers.iter().find(|(key, _)| canonical(key) == host).map(|(_, name)| name.as_str())
    }

    /// The helper for every host.
    pub(super) fn store(&self) -> Option<&str> {
        self.store.as_deref().filter(|name| !name.is_empty())
    }

    /// Whether it says anything about a registry as a whole.
    pub(super) fn has(&self, host: &str) -> bool {
        let host = canonical_host(host);
        self.auths.keys().chain(self.helpers.keys()).any(|key| canonical(key) == host)
    }

    /// Where the credential for a target is, and whether it can be read.
    pub(super) fn find(&self, host: &str, repository: Option<&str>) -> Result<Place, String> {
        if let Some(name) = self.helper_of(host) {
            return Ok(Place::Helper(name.to_owned()));
        }
        let mut marked = false;
        for candidate in candidates(host, repository) {
            for (key, entry) in self.auths.iter().filter(|(key, _)| canonical(key) == candidate) {
                match entry.credential().map_err(|reason| format!("the entry \"{key}\" of auths {reason}"))? {
                    Some(credential) => return Ok(Place::Here { key: key.clone(), credential }),
                    None => marked = true,
                }
            }
        }
        Ok(match self.store() {
            Some(name) => Place::Store { name: name.to_owned(), marked },
            None => Place::Nowhere,
        })
    }
}

/// A folder on the way may be a file, or not be ours to look into.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

impl Entry {
    fn credential(&self) -> Result<Option<Credential>, &'static str> {
        let given = |secret: &Option<Secret>| secret.clone().filter(|secret| !secret.expose().is_empty());
        let (username, password) = match given(&self.auth) {
            Some(auth) => decode(&auth).ok_or("has an auth that is not base64 of name:password")?,
            None => (self.username.clone().unwrap_or_default(), given(&self.password)),
        };
        if let Some(token) = given(&self.identitytoken) {
            return Ok(Some(Credential::IdentityToken { username, token }));
        }
        if let Some(token) = given(&self.registrytoken) {
            return Ok(Some(Credential::RegistryToken(token)));
        }
        Ok(password.map(|password| Credential::Basic { username, password }))
    }
}

fn decode(auth: &Secret) -> Option<(String, Option<Secret>)> {
    let text = String::from_utf8(STANDARD.decode(auth.expose().trim()).ok()?).ok()?;
    let (username, password) = text.split_once(':')?;
    // Old versions of docker padded it.
    let password = password.trim_end_matches('\0');
    Some((username.to_owned(), (!password.is_empty()).then(|| Secret::new(password))))
}

/// What an entry of `auths` becomes.
pub(super) enum Change<'a> {
    /// This credential.
    Credential(&'a Credential),
    /// The mark that a helper has it.
    Mark,
    /// Nothing.
    Remove,
}

/// Changes the entry of a host, and keeps all else; whether there was one. The file appears whole or not at all, and
/// nobody else may read it.
pub(super) fn change(path: &Path, host: &str, change: &Change<'_>) -> Result<bool, AuthError> {
    let unusable = |reason: String| {
        AuthError::unusable(
            path.display().to_string(),
            reason,
            "correct or remove the file, and log in again",
        )
    };
    let mut root: Map<String, Value> = match fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() => Map::new(),
        Ok(text) => serde_json::from_str(&text)
            .map_err(|error| unusable(format!("it is not a JSON object (line {})", error.line())))?,
        Err(error) if is_missing(&error) => Map::new(),
        Err(error) => return Err(unusable(format!("it cannot be read: {error}"))),
    };
    let auths = root.entry("auths").or_insert_with(|| json!({}));
    let Value::Object(auths) = auths else { return Err(unusable("its auths are not an object".to_owned())) };
    let meant = canonical_host(host);
    let before = auths.len();
    auths.retain(|key, _| canonical(key) != meant);
    let existed = auths.len() != before;
    let entry = match change {
        Change::Remove => None,
        Change::Mark => Some(json!({})),
        Change::Credential(Credential::Basic { username, password }) => {
            Some(json!({ "auth": basic(username, password).expose() }))
        }
        Change::Credential(Credential::IdentityToken { username, token }) => Some(json!({
            "auth": basic(username, &Secret::new("")).expose(),
            "identitytoken": token.expose(),
        })),
        Change::Credential(Credential::RegistryToken(token)) => {
            Some(json!({ "registrytoken": token.expose() }))
        }
        Change::Credential(Credential::Anonymous) => {
            return Err(unusable(format!("there is no credential for {host} to write")));
        }
    };
    if let Some(entry) = entry {
        auths.insert(written(host), entry);
    } else if !existed {
        return Ok(false);
    }
    let text = serde_json::to_string_pretty(&root).map_err(|error| unusable(error.to_string()))?;
    replace(path, &text).map_err(|error| unusable(format!("it cannot be written: {error}")))?;
    Ok(existed)
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    // Through a link, so that it stays one: people keep this file in version control.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = path.parent().map_or_else(|| PathBuf::from("."), Path::to_owned);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    let mut file = tempfile::Builder::new().prefix(".config.json").tempfile_in(&folder)?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.as_file().sync_all()?;
    file.persist(&path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(text: &str) -> File {
        serde_json::from_str(text).unwrap()
    }

    fn basic_of(username: &str, password: &str) -> Credential {
        Credential::Basic { username: username.to_owned(), password: Secret::new(password) }
    }

    #[test]
    fn entries_have_every_form() {
        // me:pw, and me:pw padded with NUL.
        for entry in [
            r#"{"auth":"bWU6cHc="}"#,
            r#"{"username":"me","password":"pw"}"#,
            r#"{"auth":"bWU6cHcAAA==","email":"x"}"#,
        ] {
            let file = file(&format!(r#"{{"auths":{{"ghcr.io":{entry}}}}}"#));
            let place = file.find("ghcr.io", None).unwrap();
            assert_eq!(
                place,
                Place::Here { key: "ghcr.io".to_owned(), credential: basic_of("me", "pw") },
                "{entry}"
            );
        }
        let tokens = file(r#"{"auths":{"a":{"auth":"bWU6","identitytoken":"t"},"b":{"registrytoken":"t"}}}"#);
        let identity = Credential::IdentityToken { username: "me".to_owned(), token: Secret::new("t") };
        assert!(
            matches!(tokens.find("a", None).unwrap(), Place::Here { credential, .. } if credential == identity)
        );
        let token = Credential::RegistryToken(Secret::new("t"));
        assert!(
            matches!(tokens.find("b", None).unwrap(), Place::Here { credential, .. } if credential == token)
        );
    }

    #[test]
    fn the_order_is_helper_entry_store() {
        let file = file(
            r#"{"credsStore":"desktop","credHelpers":{"gcr.io":"gcloud"},
                "auths":{"gcr.io":{"auth":"bWU6cHc="},"quay.io/a":{"auth":"YTpwdw=="},"quay.io":{"auth":"bWU6cHc="},
                         "ghcr.io":{}}}"#,
        );
        assert_eq!(file.find("gcr.io", None).unwrap(), Place::Helper("gcloud".to_owned()));
        let at = |repository| match file.find("quay.io", repository).unwrap() {
            Place::Here { key, .. } => key,
            other => panic!("{other:?}"),
        };
        assert_eq!(at(Some("a/b")), "quay.io/a");
        assert_eq!(at(Some("ab")), "quay.io");
        assert_eq!(at(None), "quay.io");
        let store = |marked| Place::Store { name: "desktop".to_owned(), marked };
        assert_eq!(file.find("ghcr.io", None).unwrap(), store(true));
        assert_eq!(file.find("evilghcr.io", None).unwrap(), store(false));
    }

    #[test]
    fn what_cannot_be_read_is_said_without_showing_it() {
        let error = file(r#"{"auths":{"a":{"auth":"hunter2"}}}"#).find("a", None).unwrap_err();
        assert!(error.contains("not base64") && !error.contains("hunter2"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        fs::write(&path, r#"{"auths":{"a":{"auth":hunter2}}}"#).unwrap();
        let error = File::load(&path).unwrap_err().to_string();
        assert!(error.contains("config.json") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn changes_keep_what_they_do_not_know() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/config.json");
        fs::create_dir(path.parent().unwrap()).unwrap();
        let text = r#"{"HttpHeaders":{"A":"b"},"auths":{"docker.io":{"auth":"eDp5"},"quay.io/a":{"auth":"eDp5","email":"e"}}}"#;
        fs::write(&path, text).unwrap();
        assert!(change(&path, "index.docker.io", &Change::Credential(&basic_of("me", "pw"))).unwrap());
        let made: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(
            made,
            json!({"HttpHeaders":{"A":"b"},"auths":{
                "https://index.docker.io/v1/":{"auth":"bWU6cHc="},"quay.io/a":{"auth":"eDp5","email":"e"}}})
        );
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(
            !change(&path, "quay.io", &Change::Remove).unwrap(),
            "a part of a registry is not the registry"
        );
        assert!(change(&path, "docker.io", &Change::Remove).unwrap());
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn a_link_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real.json"), folder.path().join("config.json"));
        fs::write(&real, "").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        change(&link, "ghcr.io", &Change::Credential(&basic_of("me", "pw"))).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(matches!(File::load(&real).unwrap().find("ghcr.io", None).unwrap(), Place::Here { .. }));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            host in "[a-z]{1,8}\\.[a-z]{2,3}(:[0-9]{2,4})?", name in "[ -9;-~]{1,20}", password in "[ -~]{1,40}"
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("config.json");
            let credential = basic_of(&name, &password);
            change(&path, &host, &Change::Credential(&credential)).unwrap();
            match File::load(&path).unwrap().find(&host, Some("a/b")).unwrap() {
                Place::Here { credential: read, .. } => prop_assert_eq!(read, credential),
                other => prop_assert!(false, "{:?}", other),
            }
        }

        #[test]
        fn no_file_makes_it_panic(text in "\\PC{0,200}") {
            if let Ok(file) = serde_json::from_str::<File>(&text) {
                let _ = file.find("a", Some("b"));
            }
        }
    }
}
