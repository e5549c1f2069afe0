//! The docker configuration: what `docker login`, `podman login`, `gcloud auth configure-docker` and their like leave.

mod file;
mod helper;
mod key;

use std::path::{Path, PathBuf};

use futures::{FutureExt, future::BoxFuture};
use jiff::{SignedDuration, Timestamp};

use file::{Change, File, Place};
pub use helper::Helper;
pub(crate) use key::canonical_host;

use crate::{
    AuthError, Credential, CredentialSource, Environment, Found, Lease, Renewal, Target,
    cache::{Cache, Expires},
    token::written_expiry,
};

/// How long a helper's answer is used again. Helpers of clouds give tokens whose end they do not tell.
const HELPER_ANSWER: SignedDuration = SignedDuration::from_mins(5);

/// The docker configuration, and podman's.
///
/// Files, in this order; the first that has a credential for the target is used, and no other:
/// 1. the file that `REGISTRY_AUTH_FILE` names,
/// 2. `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`,
/// 3. unless there is the first: `$XDG_RUNTIME_DIR/containers/auth.json` (`/run/containers/$UID/auth.json`), then
///    `$XDG_CONFIG_HOME/containers/auth.json` (`~/.config/containers/auth.json`).
///
/// Within a file: the helper that `credHelpers` names for the host; the entry of `auths` with the longest key
/// (`host/namespace/repository`, `host/namespace`, `host`) that has a credential; the helper that `credsStore` names.
/// docker empties the entries of what it gives to a helper, so one that is not empty is meant.
///
/// A helper that is not installed is an error where a file says that it has the credential: for the hosts in
/// `credHelpers`, and for those that have an empty entry in `auths`. A `credsStore` alone says nothing about a host.
///
/// The files are read anew for each answer; a helper's answer is used again for five minutes.
#[derive(Debug)]
pub struct DockerConfig {
    environment: Environment,
    files: Vec<PathBuf>,
    /// The one that `REGISTRY_AUTH_FILE` names.
    named: Option<PathBuf>,
    /// The one that is written: docker's own. podman and skopeo read it too.
    written: Option<PathBuf>,
    /// By the helper's name and the server.
    answers: Cache<Answer, (String, String)>,
}

/// A helper's answer, and until when it is used.
#[derive(Clone, Debug)]
struct Answer {
    credential: Option<Credential>,
    until: Timestamp,
}

impl Expires for Answer {
    fn expires(&self) -> Option<Timestamp> {
        Some(self.until)
    }
}

/// Where a credential was put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// In this file, as text that everyone who may read the file can read.
    File(PathBuf),
    /// With this helper.
    Helper(String),
}

impl DockerConfig {
    /// The files that the environment names. Those that are there must be readable and valid.
    pub fn discover(environment: &Environment) -> Result<Self, AuthError> {
        let home = environment.home();
        let docker = environment
            .path("DOCKER_CONFIG")
            .or_else(|| home.as_ref().map(|home| home.join(".docker")))
            .map(|folder| folder.join("config.json"));
        let mut files = Vec::new();
        let named = environment.path("REGISTRY_AUTH_FILE");
        files.extend(named.clone());
        files.extend(docker.clone());
        if named.is_none() {
            let running = match environment.path("XDG_RUNTIME_DIR") {
                Some(folder) => folder.join("containers"),
                None => PathBuf::from(format!("/run/containers/{}", rustix::process::getuid().as_raw())),
            };
            let settings = environment
                .path("XDG_CONFIG_HOME")
                .or_else(|| home.as_ref().map(|home| home.join(".config")))
                .map(|folder| folder.join("containers"));
            files.extend(
                [Some(running), settings].into_iter().flatten().map(|folder| folder.join("auth.json")),
            );
        }
        for path in &files {
            File::load(path)?;
        }
        let environment = environment.clone();
        Ok(Self { environment, files, named, written: docker, answers: Cache::default() })
    }

    /// Keeps a credential, so that docker, podman and skopeo use it: with the helper that is configured for the host,
    /// else in docker's own file, which is replaced whole, keeps what else it has, and is readable for its owner only.
    ///
    /// The same goes into podman's file if `REGISTRY_AUTH_FILE` names it, since podman and skopeo then read no other, and
    /// into each further file that has something for the host, which would be used in its place.
    pub async fn store(&self, host: &str, lease: &Lease) -> Result<Stored, AuthError> {
        let docker = self.written()?;
        self.forget(Target { host, repository: None });
        let stored = self.store_in(docker, host, &lease.credential).await?;
        for path in self.files.iter().filter(|path| *path != docker) {
            if self.named.as_ref() == Some(path) || File::load(path)?.has(host) {
                self.store_in(path, host, &lease.credential).await?;
            }
        }
        Ok(stored)
    }

    async fn store_in(&self, path: &Path, host: &str, credential: &Credential) -> Result<Stored, AuthError> {
        let (helper, mark) = self.helper(path, host)?;
        let Some(helper) = helper else {
            file::change(path, host, &Change::Credential(credential))?;
            return Ok(Stored::File(path.to_owned()));
        };
        helper.store(&key::written(host), credential).await?;
        if mark {
            file::change(path, host, &Change::Mark)?;
        }
        Ok(Stored::Helper(helper.program()))
    }

    /// Removes what is kept for a host from every file and its helper; whether a file had something.
    pub async fn erase(&self, host: &str) -> Result<bool, AuthError> {
        self.forget(Target { host, repository: None });
        let mut existed = false;
        for path in &self.files {
            if let (Some(helper), _) = self.helper(path, host)? {
                let server = key::written(host);
                // Some helpers fail when there is nothing to erase.
                if helper.get(&server).await?.is_some() {
                    helper.erase(&server).await?;
                }
            }
            existed |= file::change(path, host, &Change::Remove)?;
        }
        Ok(existed)
    }

    fn written(&self) -> Result<&Path, AuthError> {
        self.written.as_deref().ok_or_else(|| {
            AuthError::unusable(
                "the docker configuration",
                "there is no home folder to keep it in",
                "set DOCKER_CONFIG",
            )
        })
    }

    /// The helper of a host, and whether it is the one for every host, whose entries in `auths` are marks.
    fn helper(&self, path: &Path, host: &str) -> Result<(Option<Helper>, bool), AuthError> {
        let file = File::load(path)?;
        Ok(match (file.helper_of(host), file.store()) {
            (Some(name), _) => (Some(Helper::new(name, &self.environment)), false),
            (None, Some(name)) => (Some(Helper::new(name, &self.environment)), true),
            (None, None) => (None, false),
        })
    }

    async fn find(&self, target: Target<'_>) -> Result<Found, AuthError> {
        for path in &self.files {
            let shown = path.display();
            let place = File::load(path)?.find(target.host, target.repository).map_err(|reason| {
                AuthError::unusable(shown.to_string(), reason, format!("log in to {} again", target.host))
            })?;
            let (name, needed) = match place {
                Place::Here { key, credential } => {
                    let origin = format!("{shown} (auths, \"{key}\")");
                    return Ok(Found::Lease(Lease {
                        expires: written_expiry(&credential),
                        credential,
                        renewal: Renewal::ByHand,
                        origin,
                    }));
                }
                Place::Helper(name) => (name, true),
                Place::Store { name, marked } => (name, marked),
                Place::Nowhere => continue,
            };
            let helper = Helper::new(&name, &self.environment);
            if helper.path().is_none() && !needed {
                tracing::debug!(helper = helper.program(), file = %shown, "not installed, and not known to be needed");
                continue;
            }
            let server = key::written(target.host);
            let answer = self.answers.get((name, server.clone()), async {
                let credential = helper.get(&server).await?;
                Ok(Answer { credential, until: Timestamp::now() + HELPER_ANSWER })
            });
            if let Some(credential) = answer.await?.credential {
                let origin = format!("{shown} (credential helper {})", helper.program());
                return Ok(Found::Lease(Lease {
                    expires: written_expiry(&credential),
                    credential,
                    renewal: Renewal::ByHand,
                    origin,
                }));
            }
        }
        Ok(Found::Nothing)
    }
}

impl CredentialSource for DockerConfig {
    fn credential<'a>(&'a self, target: Target<'a>) -> BoxFuture<'a, Result<Found, AuthError>> {
        self.find(target).boxed()
    }

    fn forget(&self, target: Target<'_>) {
        let server = key::written(target.host);
        self.answers.forget_where(|(_, asked)| *asked == server);
    }
}
