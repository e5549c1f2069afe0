//! The docker configuration, shared with real programs: a credential helper, skopeo, a registry.
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

mod kit;

use std::{
    fs,
    io::Write as _,
    process::{Command, Output, Stdio},
};

use kit::{lease, parts, target};
use longshore_auth::{
    Credential, CredentialSource, DockerConfig, Environment, Found, Helper, Lease, Renewal, Secret, Stored,
};
use longshore_testkit::{DockerRegistry, Flow, Login, TokenConfig, TokenServer, User};
use serde_json::{Value, json};

/// A home folder, and what is set in it.
struct Home {
    folder: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

impl Home {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap().to_owned();
        let variables = vec![("PATH".to_owned(), std::env::var("PATH").unwrap()), ("HOME".to_owned(), home)];
        let mut made = Self { folder, variables };
        // Without it, podman's own place is one for the whole machine.
        made.set("XDG_RUNTIME_DIR", "run");
        fs::create_dir(made.folder.path().join("run")).unwrap();
        made
    }

    /// Sets a variable to a path in it.
    fn set(&mut self, name: &str, path: &str) {
        let value = self.folder.path().join(path);
        self.variables.push((name.to_owned(), value.to_str().unwrap().to_owned()));
    }

    fn environment(&self) -> Environment {
        self.variables.iter().cloned().collect()
    }

    fn config(&self) -> DockerConfig {
        DockerConfig::discover(&self.environment()).unwrap()
    }

    fn write(&self, path: &str, content: &Value) {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content.to_string()).unwrap();
    }

    fn read(&self, path: &str) -> Value {
        serde_json::from_str(&fs::read_to_string(self.folder.path().join(path)).unwrap()).unwrap()
    }

    fn run(&self, program: &str, arguments: &[&str], input: &str) -> Output {
        let mut child = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(self.variables.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        // A program that wants none may have ended already.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// An image without anything in it, as skopeo names it after `oci:`.
    fn image(&self) -> String {
        let layout = self.folder.path().join("image");
        self.must("umoci", &["init", "--layout", layout.to_str().unwrap()], "");
        let image = format!("{}:t", layout.display());
        self.must("umoci", &["new", "--image", &image], "");
        image
    }

    fn must(&self, program: &str, arguments: &[&str], input: &str) -> String {
        let output = self.run(program, arguments, input);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }
}

fn password(username: &str, password: &str) -> Lease {
    let credential = Credential::Basic { username: username.to_owned(), password: Secret::new(password) };
    Lease { credential, expires: None, renewal: Renewal::ByHand, origin: "test".to_owned() }
}

/// Ends the agent that gpg starts for a home of its own.
struct Agent<'a>(&'a Home);

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        self.0.run("gpgconf", &["--kill", "gpg-agent"], "");
    }
}

#[tokio::test]
async fn a_real_helper_keeps_and_gives() {
    let mut home = Home::new();
    let keys = home.folder.path().join("gnupg");
    fs::create_dir(&keys).unwrap();
    home.set("GNUPGHOME", "gnupg");
    home.set("PASSWORD_STORE_DIR", "store");
    let _agent = Agent(&home);
    fs::set_permissions(&keys, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let make =
        ["--batch", "--passphrase", "", "--quick-gen-key", "test@example.com", "default", "default", "never"];
    home.must("gpg", &make, "");
    home.must("pass", &["init", "test@example.com"], "");
    home.write(".docker/config.json", &json!({ "credsStore": "pass", "HttpHeaders": { "X": "y" } }));

    let config = home.config();
    assert_eq!(config.credential(target("ghcr.io")).await.unwrap(), Found::Nothing);
    let token = Credential::IdentityToken { username: "<token>".to_owned(), token: Secret::new("refresh") };
    for (host, lease) in [
        ("ghcr.io", password("me", "hunter2 \"ü\"")),
        ("docker.io", password("hub", "hub-password")),
        (
            "my.azurecr.io",
            Lease { credential: token, expires: None, renewal: Renewal::ByHand, origin: "test".to_owned() },
        ),
    ] {
        let stored = config.store(host, &lease).await.unwrap();
        assert_eq!(stored, Stored::Helper("docker-credential-pass".to_owned()));
        let found = kit::lease(&config, host).await.unwrap();
        assert_eq!(found.credential, lease.credential);
        assert!(found.origin.contains("credential helper docker-credential-pass"), "{}", found.origin);
    }
    let written = home.read(".docker/config.json");
    let marks = json!({ "ghcr.io": {}, "https://index.docker.io/v1/": {}, "my.azurecr.io": {} });
    assert_eq!(written, json!({ "credsStore": "pass", "HttpHeaders": { "X": "y" }, "auths": marks }));
    // As docker itself would ask.
    let given: Value =
        serde_json::from_str(&home.must("docker-credential-pass", &["get"], "ghcr.io")).unwrap();
    assert_eq!(given, json!({ "ServerURL": "ghcr.io", "Username": "me", "Secret": "hunter2 \"ü\"" }));
    let helper = Helper::new("pass", &home.environment());
    let list = helper.list().await.unwrap();
    assert_eq!(list.len(), 3);
    assert_eq!(list["https://index.docker.io/v1/"], "hub");

    assert!(config.erase("ghcr.io").await.unwrap());
    assert_eq!(config.credential(target("ghcr.io")).await.unwrap(), Found::Nothing);
    assert_eq!(helper.get("ghcr.io").await.unwrap(), None);
    assert!(!config.erase("ghcr.io").await.unwrap(), "what is not there is not an error");
}

#[tokio::test]
async fn what_we_write_skopeo_uses() {
    let registry = DockerRegistry::start(Login::Basic { username: "me", password: "hunter2" }).unwrap();
    let (home, host) = (Home::new(), registry.host());
    let at = format!("docker://{host}/team/app:1");
    let image = home.image();
    let push = ["--insecure-policy", "copy", "--dest-tls-verify=false", &format!("oci:{image}"), &at];
    assert!(!home.run("skopeo", &push, "").status.success(), "the registry wants a password");
    let config = home.config();
    let stored = config.store(&host, &password("me", "hunter2")).await.unwrap();
    assert_eq!(stored, Stored::File(home.folder.path().join(".docker/config.json")));
    assert_eq!(home.must("skopeo", &["login", "--get-login", &host], "").trim(), "me");
    home.must("skopeo", &push, "");
    config.erase(&host).await.unwrap();
    let inspect = ["inspect", "--tls-verify=false", &at];
    assert!(!home.run("skopeo", &inspect, "").status.success(), "what is erased is not used");
}

#[tokio::test]
async fn an_identity_token_that_we_write_skopeo_uses() {
    let users = vec![User::new("me", "hunter2", "pull,push")];
    let server = TokenServer::start(TokenConfig { users, ..TokenConfig::default() }).unwrap();
    let registry = DockerRegistry::start(Login::Tokens(&server)).unwrap();
    let (home, host) = (Home::new(), registry.host());
    let token = Secret::new(server.refresh_token("me").unwrap());
    // As a registry of Azure's gives it.
    let username = "00000000-0000-0000-0000-000000000000".to_owned();
    let credential = Credential::IdentityToken { username, token };
    let lease = Lease { credential, expires: None, renewal: Renewal::ByHand, origin: "test".to_owned() };
    home.config().store(&host, &lease).await.unwrap();
    let image = home.image();
    let at = format!("docker://{host}/team/app:1");
    home.must(
        "skopeo",
        &["--insecure-policy", "copy", "--dest-tls-verify=false", &format!("oci:{image}"), &at],
        "",
    );
    let requests = server.requests();
    assert!(
        requests.iter().all(|request| request.flow == Flow::RefreshToken && request.status == 200),
        "{requests:?}"
    );
    assert_eq!(kit::lease(&home.config(), &host).await.unwrap().credential, lease.credential);
}

#[tokio::test]
async fn what_skopeo_writes_we_use() {
    let registry = DockerRegistry::start(Login::Basic { username: "me", password: "hunter2" }).unwrap();
    let host = registry.host();
    let login = |home: &Home| {
        home.must(
            "skopeo",
            &["login", "--tls-verify=false", "-u", "me", "--password-stdin", &host],
            "hunter2\n",
        );
    };
    let mut named = Home::new();
    named.set("REGISTRY_AUTH_FILE", "named.json");
    for (home, file) in [(&named, "named.json"), (&Home::new(), "run/containers/auth.json")] {
        assert_eq!(home.config().credential(target(&host)).await.unwrap(), Found::Nothing);
        login(home);
        let lease = lease(&home.config(), &host).await.unwrap();
        assert_eq!(parts(&lease), ("me".to_owned(), "hunter2".to_owned()));
        assert!(lease.origin.contains(file), "{}", lease.origin);
    }
}

#[tokio::test]
async fn what_is_kept_replaces_what_other_programs_kept() {
    let registry = DockerRegistry::start(Login::Basic { username: "me", password: "hunter2" }).unwrap();
    let host = registry.host();
    let mut named = Home::new();
    named.set("REGISTRY_AUTH_FILE", "named.json");
    let running = Home::new();
    running.must(
        "skopeo",
        &["login", "--tls-verify=false", "-u", "me", "--password-stdin", &host],
        "hunter2\n",
    );
    for (home, file) in [(&named, "named.json"), (&running, "run/containers/auth.json")] {
        let config = home.config();
        config.store(&host, &password("other", "pw")).await.unwrap();
        assert_eq!(parts(&lease(&config, &host).await.unwrap()).0, "other");
        assert_eq!(home.must("skopeo", &["login", "--get-login", &host], "").trim(), "other");
        for path in [file, ".docker/config.json"] {
            assert!(home.read(path)["auths"][&host]["auth"].is_string(), "{path}");
        }
        assert!(config.erase(&host).await.unwrap());
        assert_eq!(config.credential(target(&host)).await.unwrap(), Found::Nothing);
        assert!(!home.run("skopeo", &["login", "--get-login", &host], "").status.success());
    }
}

#[tokio::test]
async fn files_are_asked_in_their_order() {
    let mut home = Home::new();
    let auths = |username: &str| json!({ "auths": { "ghcr.io": { "username": username, "password": "p" } } });
    let who = async |home: &Home| match home.config().credential(target("ghcr.io")).await.unwrap() {
        Found::Lease(lease) => parts(&lease).0,
        Found::Nothing => "nobody".to_owned(),
    };
    assert_eq!(who(&home).await, "nobody");
    home.write(".config/containers/auth.json", &auths("settings"));
    assert_eq!(who(&home).await, "settings");
    home.write("run/containers/auth.json", &auths("runtime"));
    assert_eq!(who(&home).await, "runtime");
    home.write(".docker/config.json", &auths("docker"));
    assert_eq!(who(&home).await, "docker");
    home.set("DOCKER_CONFIG", "elsewhere");
    assert_eq!(who(&home).await, "runtime");
    home.write("elsewhere/config.json", &auths("elsewhere"));
    assert_eq!(who(&home).await, "elsewhere");
    home.set("REGISTRY_AUTH_FILE", "named.json");
    home.write("named.json", &auths("named"));
    assert_eq!(who(&home).await, "named");
    home.write("named.json", &json!({}));
    fs::remove_file(home.folder.path().join("elsewhere/config.json")).unwrap();
    assert_eq!(who(&home).await, "nobody", "podman's other files are not read when one is named");
}

#[tokio::test]
async fn a_helper_that_is_missing_matters_only_where_it_is_needed() {
    let home = Home::new();
    home.write(
        ".docker/config.json",
        &json!({ "credsStore": "absent", "credHelpers": { "gcr.io": "gone" }, "auths": { "ghcr.io": {},
                 "quay.io": { "auth": "bWU6cHc=" } } }),
    );
    let config = home.config();
    assert_eq!(config.credential(target("docker.io")).await.unwrap(), Found::Nothing);
    assert_eq!(parts(&lease(&config, "quay.io").await.unwrap()).0, "me");
    for (host, helper) in [("ghcr.io", "docker-credential-absent"), ("gcr.io", "docker-credential-gone")] {
        let error = config.credential(target(host)).await.unwrap_err().to_string();
        assert!(error.contains(helper) && error.contains("not installed"), "{error}");
    }
    let error = config.store("quay.io", &password("a", "hunter2")).await.unwrap_err().to_string();
    assert!(error.contains("docker-credential-absent") && !error.contains("hunter2"), "{error}");
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_named() {
    let home = Home::new();
    home.write(".docker/config.json", &json!([1]));
    let error = DockerConfig::discover(&home.environment()).unwrap_err().to_string();
    assert!(error.contains(".docker/config.json") && error.contains("log in again"), "{error}");
}
