//! The token service with the programs that such services are made for: the distribution project's registry and skopeo.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test may panic")]

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use longshore_testkit::{DockerRegistry, Flow, Login, Scope, TokenConfig, TokenServer, User};

/// Credentials and images of one test.
struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let desk = Self { folder };
        let layout = desk.path("image").display().to_string();
        for arguments in [&["init", "--layout", &layout], &["new", "--image", &format!("{layout}:1")]] {
            assert!(Command::new("umoci").args(arguments).status().unwrap().success());
        }
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn skopeo(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = Command::new("skopeo")
            .arg("--insecure-policy")
            .args(arguments)
            .env("REGISTRY_AUTH_FILE", self.path("auth.json"))
            .env("DOCKER_CONFIG", self.path("docker"))
            .env("HOME", self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A program that wants none may have ended already.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    fn login(&self, host: &str, user: &str, password: &str) -> Output {
        self.skopeo(&["login", "--tls-verify=false", "--username", user, "--password-stdin", host], password)
    }

    fn push(&self, host: &str, repository: &str) -> Output {
        let from = format!("oci:{}:1", self.path("image").display());
        self.skopeo(
            &["copy", "--dest-tls-verify=false", &from, &format!("docker://{host}/{repository}:1")],
            "",
        )
    }

    fn inspect(&self, host: &str, repository: &str) -> Output {
        self.skopeo(&["inspect", "--tls-verify=false", &format!("docker://{host}/{repository}:1")], "")
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn accounts() -> TokenConfig {
    let mut reader = User::new("reader", "seen", "pull");
    reader.grants.push("repository:reader/*:pull,push".parse().unwrap());
    TokenConfig {
        users: vec![User::new("writer", "hunter2", "pull,push"), reader],
        anonymous: vec![Scope::repository("public/*", "pull")],
        ..TokenConfig::default()
    }
}

#[test]
fn the_registry_takes_our_tokens_and_skopeo_gets_them() {
    let tokens = TokenServer::start(accounts()).unwrap();
    let registry = DockerRegistry::start(Login::Tokens(&tokens)).unwrap();
    let (host, desk) = (registry.host(), Desk::new());

    let wrong = desk.login(&host, "writer", "hunter3");
    assert!(!wrong.status.success() && said(&wrong).contains("invalid username/password"), "{wrong:?}");
    let right = desk.login(&host, "writer", "hunter2");
    assert!(right.status.success(), "{}", said(&right));
    for repository in ["public/app", "private/app"] {
        let pushed = desk.push(&host, repository);
        assert!(pushed.status.success(), "{}", said(&pushed));
        assert!(desk.inspect(&host, repository).status.success());
    }
    let last = tokens.requests().pop().unwrap();
    assert_eq!((last.flow, last.account.as_deref(), last.status), (Flow::Get, Some("writer"), 200));
    assert_eq!(last.scopes, [Scope::repository("private/app", "pull")]);

    let reader = Desk::new();
    assert!(reader.login(&host, "reader", "seen").status.success());
    assert!(reader.inspect(&host, "private/app").status.success());
    assert!(reader.push(&host, "reader/app").status.success());
    let refused = reader.push(&host, "private/app");
    assert!(!refused.status.success() && said(&refused).contains("denied"), "{}", said(&refused));

    let nobody = Desk::new();
    assert!(nobody.inspect(&host, "public/app").status.success());
    for refused in [nobody.inspect(&host, "private/app"), nobody.push(&host, "public/app")] {
        assert!(!refused.status.success() && said(&refused).contains("denied"), "{}", said(&refused));
    }
}

#[test]
fn an_identity_token_is_good_until_it_is_revoked() {
    let tokens = TokenServer::start(accounts()).unwrap();
    let registry = DockerRegistry::start(Login::Tokens(&tokens)).unwrap();
    let (host, desk) = (registry.host(), Desk::new());
    let text = serde_json::json!({ "auths": { &host: {
        // What `docker login` writes beside an identity token: base 64 of `writer:`.
        "auth": "d3JpdGVyOg==",
        "identitytoken": tokens.refresh_token("writer").unwrap(),
    } } });
    std::fs::write(desk.path("auth.json"), text.to_string()).unwrap();
    let pushed = desk.push(&host, "private/app");
    assert!(pushed.status.success(), "{}", said(&pushed));
    let last = tokens.requests().pop().unwrap();
    assert_eq!((last.flow, last.account.as_deref(), last.status), (Flow::RefreshToken, Some("writer"), 200));
    tokens.revoke_refresh_tokens();
    assert!(!desk.push(&host, "private/app").status.success());
    assert_eq!(tokens.requests().pop().unwrap().status, 400);
}

#[test]
fn the_registry_asks_for_a_password() {
    let registry = DockerRegistry::start(Login::Basic { username: "writer", password: "hunter2" }).unwrap();
    let (host, desk) = (registry.host(), Desk::new());
    assert!(!desk.push(&host, "app").status.success());
    assert!(!desk.login(&host, "writer", "hunter3").status.success());
    assert!(desk.login(&host, "writer", "hunter2").status.success());
    let pushed = desk.push(&host, "app");
    assert!(pushed.status.success(), "{}", said(&pushed));
}

#[test]
fn the_program_serves_until_its_input_ends() {
    let folder = tempfile::tempdir().unwrap();
    let config: &Path = &folder.path().join("config.json");
    let text = r#"{ "users": [{ "name": "me", "password": "pw", "grants": ["repository:*:pull"] }] }"#;
    std::fs::write(config, text).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_longshore-testkit"))
        .args(["token-server", "--config"])
        .arg(config)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let printed: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert!(printed["realm"].as_str().unwrap().starts_with("http://127.0.0.1:"), "{printed}");
    assert!(printed["certificate"].as_str().unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}
