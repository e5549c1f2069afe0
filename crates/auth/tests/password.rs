//! Names and passwords: whether a registry accepts them, asked of real registries.
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

mod kit;

use kit::{config, connector, environment, lease, parts, target};
use longshore_auth::{
    AuthError, CredentialSource, Found,
    connector::{Connector, ConnectorType, Identity, Proof},
};
use longshore_endpoint::Hosts;
use longshore_testkit::{DockerRegistry, Login, TokenConfig, TokenServer, User};

fn docker(password: &str, more: &[(&str, &str)]) -> Connector {
    let values = [&[("username", "me"), ("password", password)][..], more].concat();
    connector(config(ConnectorType::Docker, "password", &values), Hosts::default(), environment([]))
}

async fn verify(registry: &DockerRegistry, password: &str) -> Result<Identity, AuthError> {
    docker(password, &[]).verify(Some(target(&registry.host()))).await
}

fn refused(error: &AuthError) {
    let error = error.to_string();
    assert!(
        error.contains("cannot log in to") && error.contains("check the user name and password"),
        "{error}"
    );
    assert!(!error.contains("wr0ng"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_with_passwords_is_asked() {
    let registry = DockerRegistry::start(Login::Basic { username: "me", password: "hunter2" }).unwrap();
    let identity = verify(&registry, "hunter2").await.unwrap();
    assert_eq!((identity.account.as_str(), identity.proof), ("me", Proof::Accepted));
    refused(&verify(&registry, "wr0ng").await.unwrap_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registrys_token_service_is_asked() {
    let users = vec![User::new("me", "hunter2", "pull,push")];
    let server = TokenServer::start(TokenConfig { users, ..TokenConfig::default() }).unwrap();
    let registry = DockerRegistry::start(Login::Tokens(&server)).unwrap();
    assert_eq!(verify(&registry, "hunter2").await.unwrap().proof, Proof::Accepted);
    refused(&verify(&registry, "wr0ng").await.unwrap_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_registry_proves_nothing_and_that_is_said() {
    let registry = DockerRegistry::start(Login::None).unwrap();
    assert_eq!(verify(&registry, "wr0ng").await.unwrap().proof, Proof::OpenRegistry);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_a_registry_is_not_one() {
    let google = longshore_testkit::cloud::GoogleCloud::start().unwrap();
    let host = google.metadata_host();
    let error = docker("hunter2", &[]).verify(Some(target(&host))).await.unwrap_err().to_string();
    assert!(error.contains("404 Not Found at /v2/, which is not what a registry answers"), "{error}");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let error = docker("hunter2", &[]).verify(Some(target(&free))).await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("no connection to 127.0.0.1"), "{error}");
}

#[tokio::test]
async fn a_connector_serves_its_registry_and_no_other() {
    let hub = docker("p", &[("registry", "index.docker.io")]);
    for host in ["docker.io", "registry-1.docker.io", "index.docker.io"] {
        assert!(hub.serves(host));
        assert_eq!(parts(&lease(&hub, host).await.unwrap()), ("me".to_owned(), "p".to_owned()));
    }
    for host in ["ghcr.io", "evildocker.io", "docker.io.evil.com", "a.docker.io"] {
        assert_eq!(hub.credential(target(host)).await.unwrap(), Found::Nothing, "{host}");
    }
    let free = docker("p", &[]);
    assert!(!free.serves("ghcr.io"));
    assert_eq!(free.verify(None).await.unwrap().proof, Proof::NoRegistryYet);
    let bound = free.bound_to("ghcr.io");
    assert!(bound.serves("ghcr.io") && !bound.serves("docker.io"));
    assert_eq!(bound.resources().await.unwrap()[0].registry, "ghcr.io");
    let fixed = docker("p", &[("registry", "ghcr.io")]).bound_to("docker.io");
    assert!(fixed.serves("ghcr.io") && !fixed.serves("docker.io"));
    let error = fixed.verify(Some(target("docker.io"))).await.unwrap_err().to_string();
    assert!(error.contains("no credentials for docker.io: docker connectors are for ghcr.io"), "{error}");
}
