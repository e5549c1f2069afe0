//! Credential helpers: `docker-credential-NAME`, by the protocol of the docker-credential-helpers project. What is asked
//! for goes to its standard input, so that nothing is in a list of processes.

use std::{collections::BTreeMap, path::PathBuf, process::Stdio, time::Duration};

use rustix::fs::{Access, access};
use serde::Deserialize;
use serde_json::json;
use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::{AuthError, Credential, Environment, Secret};

/// How long a helper may take: somebody may be typing a passphrase.
const TIMEOUT: Duration = Duration::from_mins(2);

/// The user name of what is an identity token.
const TOKEN_USERNAME: &str = "<token>";

/// What every helper says when it has nothing, after the library that they are made with.
const NOT_FOUND: &str = "credentials not found";

/// A helper.
#[derive(Clone, Debug)]
pub struct Helper {
    name: String,
    environment: Environment,
    timeout: Duration,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Given {
    #[serde(default)]
    username: String,
    secret: Secret,
}

impl Helper {
    /// The helper `docker-credential-NAME`.
    pub fn new(name: &str, environment: &Environment) -> Self {
        Self { name: name.to_owned(), environment: environment.clone(), timeout: TIMEOUT }
    }

    /// The program's name.
    pub fn program(&self) -> String {
        format!("docker-credential-{}", self.name)
    }

    /// Where the program is, if it is installed.
    pub fn path(&self) -> Option<PathBuf> {
        // A name with a slash would be a path, and run something else.
        if self.name.is_empty() || self.name.contains('/') {
            return None;
        }
        let program = self.program();
        let folders = std::env::split_paths(self.environment.get("PATH")?).collect::<Vec<_>>();
        folders
            .into_iter()
            .map(|folder| folder.join(&program))
            .find(|path| path.is_file() && access(path, Access::EXEC_OK).is_ok())
    }

    /// The credential for a server; none if it has none.
    pub async fn get(&self, server: &str) -> Result<Option<Credential>, AuthError> {
        let Some(output) = self.run("get", server).await? else { return Ok(None) };
        let given: Given = self.parse(&output)?;
        if given.secret.expose().is_empty() {
            return Ok(None);
        }
        Ok(Some(if given.username == TOKEN_USERNAME {
            Credential::IdentityToken { username: given.username, token: given.secret }
        } else {
            Credential::Basic { username: given.username, password: given.secret }
        }))
    }

    /// Gives it a credential to keep.
    pub async fn store(&self, server: &str, credential: &Credential) -> Result<(), AuthError> {
        let (username, secret) = match credential {
            Credential::Basic { username, password } => (username.as_str(), password),
            Credential::IdentityToken { token, .. } => (TOKEN_USERNAME, token),
            Credential::Anonymous | Credential::RegistryToken(_) => {
                return Err(AuthError::unusable(
                    self.origin(),
                    format!(
                        "the credential for {server} is not one that helpers keep: they keep passwords and identity tokens"
                    ),
                    "log in with another connector",
                ));
            }
        };
        let input = json!({ "ServerURL": server, "Username": username, "Secret": secret.expose() });
        self.run("store", &input.to_string()).await.map(drop)
    }

    /// Makes it forget what it keeps for a server.
    pub async fn erase(&self, server: &str) -> Result<(), AuthError> {
        self.run("erase", server).await.map(drop)
    }

    /// The servers that it keeps something for, and the user names.
    pub async fn list(&self) -> Result<BTreeMap<String, String>, AuthError> {
        match self.run("list", "").await? {
            Some(output) => self.parse(&output),
            None => Ok(BTreeMap::new()),
        }
    }

    fn origin(&self) -> String {
        format!("credential helper {}", self.program())
    }

    fn failed(&self, what: impl Into<String>) -> AuthError {
        AuthError::unusable(
            self.origin(),
            what,
            format!("run `echo HOST | {} get` by hand to see why", self.program()),
        )
    }

    fn parse<T: for<'a> Deserialize<'a>>(&self, output: &[u8]) -> Result<T, AuthError> {
        // The parser's message could show a part of the secret.
        serde_json::from_slice(output)
            .map_err(|_| self.failed("its answer is not in the form of credential helpers"))
    }

    /// What it answers; none if it says that it has nothing.
    async fn run(&self, verb: &str, input: &str) -> Result<Option<Vec<u8>>, AuthError> {
        let Some(path) = self.path() else {
            return Err(AuthError::unusable(
                self.origin(),
                "it is not installed, and the docker configuration names it".to_owned(),
                format!("install {} on the PATH, or take it out of the docker configuration", self.program()),
            ));
        };
        let running = async {
            let mut child = Command::new(path)
                .arg(verb)
                .env_clear()
                .envs(self.environment.variables())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .kill_on_drop(true)
                .spawn()?;
            if let Some(mut stdin) = child.stdin.take() {
                // One that does not read what it is given has said why by the time it ends.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
            child.wait_with_output().await
        };
        let output = tokio::time::timeout(self.timeout, running)
            .await
            .map_err(|_| self.failed(format!("it took longer than {} seconds", self.timeout.as_secs())))?
            .map_err(|error| self.failed(format!("it cannot be run: {error}")))?;
        if output.status.success() {
            return Ok(Some(output.stdout));
        }
        // Helpers say what is wrong on their standard output; neither has a secret then.
        let said =
            [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).trim().to_owned());
        if said.iter().any(|said| said.contains(NOT_FOUND)) {
            return Ok(None);
        }
        let said = said.into_iter().find(|said| !said.is_empty());
        let said = said.unwrap_or_else(|| output.status.to_string());
        Err(self.failed(format!("it failed: {}", said.lines().next().unwrap_or_default())))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    /// A helper that is this script.
    fn helper(script: &str) -> (tempfile::TempDir, Helper) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker-credential-test");
        // Made by another process: a program that this one had open for writing cannot be run by it, as long as any
        // child that was started meanwhile has it open too.
        let status = std::process::Command::new("sh")
            .args(["-c", "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$2\"", "sh", script])
            .arg(&path)
            .status()
            .unwrap();
        assert!(status.success());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let search = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
        let environment = Environment::from_iter([("PATH", search)]);
        (folder, Helper::new("test", &environment))
    }

    #[tokio::test]
    async fn what_is_asked_for_is_on_standard_input_and_nowhere_else() {
        let (_folder, helper) = helper(
            r#"read server; printf '{"ServerURL":"%s","Username":"%s %s","Secret":"%s"}' "$server" "$1" "$#" "$server""#,
        );
        let credential = helper.get("ghcr.io").await.unwrap().unwrap();
        assert_eq!(
            credential,
            Credential::Basic { username: "get 1".to_owned(), password: Secret::new("ghcr.io") }
        );
    }

    #[tokio::test]
    async fn a_token_is_an_identity_token() {
        let (_folder, helper) = helper(r#"echo '{"Username":"<token>","Secret":"t"}'"#);
        let credential = helper.get("a").await.unwrap().unwrap();
        let token = Credential::IdentityToken { username: "<token>".to_owned(), token: Secret::new("t") };
        assert_eq!(credential, token);
    }

    #[tokio::test]
    async fn nothing_found_is_nothing_and_other_failures_are_errors() {
        let (_folder, nothing) = helper("echo 'credentials not found in native keychain'; exit 1");
        assert_eq!(nothing.get("a").await.unwrap(), None);
        let (_folder, locked) = helper("echo 'the keyring is locked'; exit 1");
        let error = locked.get("a").await.unwrap_err().to_string();
        assert!(
            error.contains("docker-credential-test") && error.contains("the keyring is locked"),
            "{error}"
        );
        let (_folder, odd) = helper("echo hunter2");
        let error = odd.get("a").await.unwrap_err().to_string();
        assert!(error.contains("not in the form") && !error.contains("hunter2"), "{error}");
        let error = Helper::new("absent", &Environment::process()).get("a").await.unwrap_err().to_string();
        assert!(error.contains("docker-credential-absent: it is not installed"), "{error}");
    }

    #[tokio::test]
    async fn one_that_hangs_is_given_up() {
        let (_folder, mut helper) = helper("exec sleep 600");
        helper.timeout = Duration::from_millis(50);
        let error = helper.get("a").await.unwrap_err().to_string();
        assert!(error.contains("took longer"), "{error}");
    }
}
