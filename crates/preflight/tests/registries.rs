//! Checks against Debian's `docker-registry`, with and without leave to push.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test may panic")]

use std::{sync::Arc, time::Duration};

use futures::future::{BoxFuture, FutureExt as _};
use jiff::{SignedDuration, Timestamp};
use longshore_auth::{
    AuthError, Credential, CredentialSource, Found, Lease, Renewal, Secret, Sources, Target,
};
use longshore_client::{Client, ClientConfig};
use longshore_endpoint::{Hosts, Pauses};
use longshore_oci::{Descriptor, Manifest, MediaType, Repository};
use longshore_preflight::{
    Check, Finding, Level,
    registry::{Means, MissingRepository, Need, check},
    worst,
};
use longshore_testkit::{
    DockerRegistry, HostileConfig, HostileRegistry, Login, TokenConfig, TokenServer, User,
};

/// One name and password, for every host.
#[derive(Debug)]
struct Person {
    name: &'static str,
    expires: Option<Timestamp>,
}

impl CredentialSource for Person {
    fn credential<'a>(&'a self, _: Target<'a>) -> BoxFuture<'a, Result<Found, AuthError>> {
        let credential =
            Credential::Basic { username: self.name.to_owned(), password: Secret::new("secret-of-theirs") };
        let origin = "service connector theirs".to_owned();
        let lease = Lease { credential, expires: self.expires, renewal: Renewal::ByHand, origin };
        async { Ok(Found::Lease(lease)) }.boxed()
    }

    fn forget(&self, _: Target<'_>) {}
}

async fn found(person: impl Into<Option<Person>>, need: Need) -> Vec<Finding> {
    let credentials = Sources(person.into().into_iter().map(|person| Arc::new(person) as _).collect());
    let pauses = Pauses { first: Duration::from_millis(1), longest: Duration::from_millis(5), attempts: 2 };
    let client = Client::new(ClientConfig { credentials, pauses, ..ClientConfig::default() });
    check(Means { client: &client, expected: Duration::from_mins(30) }, &[need]).await
}

fn person(name: &'static str) -> Person {
    Person { name, expires: None }
}

fn push(host: &str) -> Need {
    let repository: Repository = format!("{host}/team/app").parse().unwrap();
    Need::Push { repository, missing: MissingRepository::LeftToRegistry }
}

fn pull(host: &str) -> Need {
    Need::Pull(format!("{host}/team/app:1").parse().unwrap())
}

fn registry() -> (TokenServer, DockerRegistry) {
    let users = vec![
        // Cancelling an upload is deleting, to distribution.
        User::new("writer", "secret-of-theirs", "pull,push,delete"),
        User::new("reader", "secret-of-theirs", "pull"),
    ];
    let tokens = TokenServer::start(TokenConfig { users, ..TokenConfig::default() }).unwrap();
    let registry = DockerRegistry::start(Login::Tokens(&tokens)).unwrap();
    (tokens, registry)
}

fn error(findings: &[Finding]) -> &Finding {
    let mut errors = findings.iter().filter(|finding| finding.level == Level::Error);
    let error = errors.next().unwrap_or_else(|| panic!("{findings:?}"));
    assert!(errors.next().is_none(), "one cause is one error: {findings:?}");
    assert!(!error.to_string().contains("secret-of-theirs"), "{error}");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_is_tried_and_leaves_nothing() {
    let (_tokens, registry) = registry();
    let findings = found(person("writer"), push(&registry.host())).await;
    assert_eq!(worst(&findings), Level::Ok, "{findings:?}");
    let checks: Vec<_> = findings.iter().map(|finding| finding.check).collect();
    assert_eq!(checks, [Check::Reach, Check::Clock, Check::Authenticate, Check::Push]);
    let mut left = walk(registry.storage());
    left.retain(|path| path.ends_with("data"));
    assert_eq!(left, Vec::<String>::new(), "the upload was cancelled");
}

fn walk(folder: std::path::PathBuf) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries
        .flat_map(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(path) } else { vec![path.display().to_string()] }
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_only_read_is_told_before_anything_is_built() {
    let (_tokens, registry) = registry();
    let findings = found(person("reader"), push(&registry.host())).await;
    let error = error(&findings);
    assert_eq!(
        (error.check, error.object.as_str()),
        (Check::Push, format!("{}/team/app", registry.host()).as_str())
    );
    assert!(error.message.contains("service connector theirs"), "{error}");
    assert!(error.remedy.as_deref().unwrap().contains("for leave to push"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_told_to_log_in() {
    let (_tokens, registry) = registry();
    let wrong = found(person("nobody"), push(&registry.host())).await;
    let unknown = error(&wrong);
    assert_eq!(unknown.check, Check::Authenticate);
    assert!(unknown.remedy.as_deref().unwrap().contains("service-connector verify theirs"), "{unknown}");
    let nobody = found(None, push(&registry.host())).await;
    assert!(error(&nobody).remedy.as_deref().unwrap().contains("docker login"), "{nobody:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_not_there_is_named() {
    let (_tokens, registry) = registry();
    let findings = found(person("reader"), pull(&registry.host())).await;
    let error = error(&findings);
    assert_eq!(error.check, Check::Pull);
    assert_eq!(error.message, "there is no such image");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_one_finding() {
    let findings = found(None, push("127.0.0.1:1")).await;
    let error = error(&findings);
    assert_eq!((error.check, findings.len()), (Check::Reach, 1));
    assert!(error.message.contains("Connection refused"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_is_enough_to_pull_and_not_to_push() {
    let mirror = HostileRegistry::start(HostileConfig::default()).unwrap();
    let config = mirror.put_blob("team/app", "{}");
    let manifest = Manifest::image(Descriptor::new(MediaType::Config, config, 2), Vec::new());
    mirror.put_manifest("team/app", &MediaType::Manifest, manifest.to_bytes(), Some("1"));
    let text = format!(
        "[\"registry.invalid\"]\nserver = \"http://127.0.0.1:1\"\nmirrors = [{{ url = \"http://{}\" }}]\n",
        mirror.host()
    );
    let hosts = Hosts::parse(&text).unwrap();
    let client = Client::new(ClientConfig { hosts, ..ClientConfig::default() });
    let means = Means { client: &client, expected: Duration::from_mins(30) };
    let pulled = check(means, &[pull("registry.invalid")]).await;
    assert_eq!(worst(&pulled), Level::Warning, "{pulled:?}");
    assert!(pulled.iter().any(|finding| finding.check == Check::Pull && finding.level == Level::Ok));
    let pushed = check(means, &[push("registry.invalid")]).await;
    assert_eq!(error(&pushed).check, Check::Reach);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_will_not_last_is_warned_of() {
    let (_tokens, registry) = registry();
    let expires = |minutes| {
        let expires = Timestamp::now() + SignedDuration::from_mins(minutes);
        Person { name: "writer", expires: Some(expires) }
    };
    let level = async |minutes| {
        let findings = found(expires(minutes), push(&registry.host())).await;
        findings.iter().find(|finding| finding.check == Check::Expiry).unwrap().level
    };
    assert_eq!(level(120).await, Level::Ok);
    assert_eq!(level(5).await, Level::Warning);
    assert_eq!(level(-5).await, Level::Error);
}
