//! What these tests have in common.
#![allow(dead_code, reason = "each test program uses a part")]

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use longshore_auth::{
    AuthError, Credential, CredentialSource, Environment, Found, Lease, Target,
    connector::{Config, Connector, ConnectorType},
};
use longshore_endpoint::{Hosts, ProxySource, Web, WebConfig};
use serde_json::Value;

pub(crate) fn web() -> Web {
    Web::new(WebConfig { proxy: ProxySource::Direct, ..WebConfig::default() })
}

pub(crate) fn environment<const N: usize>(variables: [(&str, &str); N]) -> Environment {
    variables.into_iter().collect()
}

/// A registry that is served elsewhere.
pub(crate) fn hosts(host: &str, url: &str) -> Hosts {
    Hosts::parse(&format!("[\"{host}\"]\nserver = \"{url}\"\n")).unwrap()
}

pub(crate) fn config(kind: ConnectorType, method: &str, values: &[(&str, &str)]) -> Config {
    let values = values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Config::new(kind, method, values).unwrap()
}

pub(crate) fn connector(config: Config, hosts: Hosts, environment: Environment) -> Connector {
    Connector::in_environment("test".to_owned(), config, web(), hosts, environment).unwrap()
}

pub(crate) const fn target(host: &str) -> Target<'_> {
    Target { host, repository: None }
}

pub(crate) async fn lease(source: &dyn CredentialSource, host: &str) -> Result<Lease, AuthError> {
    match source.credential(target(host)).await? {
        Found::Lease(lease) => Ok(lease),
        Found::Nothing => panic!("nothing for {host}"),
    }
}

/// Name and secret of a lease.
pub(crate) fn parts(lease: &Lease) -> (String, String) {
    match &lease.credential {
        Credential::Basic { username, password } => (username.clone(), password.expose().to_owned()),
        Credential::IdentityToken { username, token } => (username.clone(), token.expose().to_owned()),
        other => panic!("neither password nor token: {other:?}"),
    }
}

/// Runs a script with the SDKs, gives it a JSON document, and reads its answer.
pub(crate) fn python(script: &str, variables: &[(&str, &str)], input: &Value) -> Value {
    let path = format!("{}/tests/sdk/{script}", env!("CARGO_MANIFEST_DIR"));
    let home = tempfile::tempdir().unwrap();
    let mut child = Command::new("python3")
        .arg(&path)
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap())
        .env("HOME", home.path())
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}
