//! Against Debian's `docker-registry`, with `skopeo` on the other side.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test may panic")]

mod support;

use std::{path::Path, process::Command, sync::Arc};

use longshore_client::{
    BlobPushed, Client, ClientConfig, ClientError, Event, ImageSink, ImageSource, Selection, copy, pull, push,
};
use longshore_endpoint::Hosts;
use longshore_oci::{Descriptor, Digest, Manifest, MediaType, Reference, Tag};
use longshore_testkit::{DockerRegistry, Login, TokenConfig, TokenServer, User};
use support::{
    Wallet, client, client_with, config,
    layout::Layout,
    memory::{Kept, Memory},
    nobody, recorder, reference,
    relay::Relay,
    repository,
};

fn skopeo(arguments: &[&str]) -> String {
    let output = Command::new("skopeo").args(arguments).output().expect("skopeo runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "skopeo {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Pushes an image, reads it with skopeo, lets skopeo push it back, pulls it and compares.
async fn round_trip(client: &Client, host: &str, login: &[&str]) {
    let image = Memory::image(1, &[3 << 20, 700_000, 10, 0]);
    let source: Arc<dyn ImageSource> = Arc::new(image.clone());
    let destination = reference(host, "team/app:1");
    let pushed = push(client, source, &[destination], &[], &nobody()).await.unwrap();
    assert_eq!(pushed.digest, image.root.digest);
    assert_eq!(pushed.repositories[0].uploaded, 5);

    let theirs = format!("docker://{host}/team/app:1");
    let inspect = ["inspect", "--tls-verify=false", "--raw"];
    let arguments: Vec<_> = inspect.iter().chain(login).copied().chain([theirs.as_str()]).collect();
    assert_eq!(Digest::of(skopeo(&arguments)), image.root.digest);

    let folder = tempfile::tempdir().unwrap();
    let local = format!("oci:{}:x", folder.path().join("theirs").display());
    let credentials = |side: &str| match login {
        ["--creds", pair] => vec![format!("--{side}-creds={pair}")],
        _ => Vec::new(),
    };
    let mut out = vec!["copy".to_owned(), "-q".to_owned(), "--src-tls-verify=false".to_owned()];
    out.extend(credentials("src"));
    out.extend([theirs, local.clone()]);
    skopeo(&out.iter().map(String::as_str).collect::<Vec<_>>());
    let mut back = vec!["copy".to_owned(), "-q".to_owned(), "--dest-tls-verify=false".to_owned()];
    back.extend(credentials("dest"));
    back.extend([local, format!("docker://{host}/team/back:2")]);
    skopeo(&back.iter().map(String::as_str).collect::<Vec<_>>());

    pull_and_compare(client, &reference(host, "team/back:2"), &image, &folder.path().join("ours")).await;
}

async fn pull_and_compare(client: &Client, from: &Reference, image: &Memory, folder: &Path) {
    let sink: Arc<dyn ImageSink> = Arc::new(Layout::create(folder).unwrap());
    let pulled = pull(client, from, &Selection::Everything, &sink, &nobody()).await.unwrap();
    assert_eq!(pulled.root.digest, image.root.digest);
    for (digest, bytes) in &image.content {
        let found = std::fs::read(folder.join("blobs/sha256").join(digest.hex())).unwrap();
        assert!(found == *bytes, "{digest}");
    }
    let again = pull(client, from, &Selection::Everything, &sink, &nobody()).await.unwrap();
    assert_eq!((again.downloaded, again.existed), (0, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_login() {
    let registry = DockerRegistry::start(Login::None).unwrap();
    round_trip(&client(), &registry.host(), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_password() {
    let registry = DockerRegistry::start(Login::Basic { username: "me", password: "a b:c%" }).unwrap();
    let host = registry.host();
    let wallet = Wallet::basic(&host, "me", "a b:c%");
    round_trip(&client_with(&wallet), &host, &["--creds", "me:a b:c%"]).await;

    let wrong = Wallet::basic(&host, "me", "wrong");
    let error = client_with(&wrong).ping(&host).await.unwrap_err();
    assert!(matches!(error, ClientError::Unauthorized { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("the credentials from the test's wallet") && text.contains("log in anew"),
        "{text}"
    );
    let error = client().ping(&host).await.unwrap_err().to_string();
    assert!(
        error.contains("without credentials") && error.contains(&format!("docker login {host}")),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn with_tokens() {
    let users = vec![User::new("me", "secret", "pull,push"), User::new("reader", "secret", "pull")];
    let tokens = TokenServer::start(TokenConfig { users, ..TokenConfig::default() }).unwrap();
    let registry = DockerRegistry::start(Login::Tokens(&tokens)).unwrap();
    let host = registry.host();
    let wallet = Wallet::basic(&host, "me", "secret");
    let client = client_with(&wallet);
    round_trip(&client, &host, &["--creds", "me:secret"]).await;
    // One token to push one repository, one to pull the other; skopeo asks for its own.
    let ours = tokens.requests().iter().filter(|request| request.account.as_deref() == Some("me")).count();
    assert!(ours < 12, "{:?}", tokens.requests());

    client.probe_push(&repository(&host, "team/app")).await.unwrap();
    let reader = client_with(&Wallet::basic(&host, "reader", "secret"));
    assert!(reader.resolve(&reference(&host, "team/app:1")).await.is_ok());
    let error = reader.probe_push(&repository(&host, "team/app")).await.unwrap_err();
    assert!(matches!(error, ClientError::Unauthorized { .. } | ClientError::Denied { .. }), "{error}");
    let nobody = support::client();
    let error = nobody.resolve(&reference(&host, "team/app:1")).await.unwrap_err();
    assert!(error.to_string().contains("log in"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_are_mounted_across_repositories() {
    let users = vec![User::new("me", "secret", "pull,push")];
    let tokens = TokenServer::start(TokenConfig { users, ..TokenConfig::default() }).unwrap();
    let registry = DockerRegistry::start(Login::Tokens(&tokens)).unwrap();
    let host = registry.host();
    let client = client_with(&Wallet::basic(&host, "me", "secret"));
    let image = Memory::image(2, &[100_000, 200_000]);
    let from = reference(&host, "one:1");
    push(&client, Arc::new(image.clone()), std::slice::from_ref(&from), &[], &nobody()).await.unwrap();

    let known = [repository(&host, "one")];
    let to = [reference(&host, "two:1"), reference(&host, "two:latest")];
    let pushed = push(&client, Arc::new(image.clone()), &to, &known, &nobody()).await.unwrap();
    assert_eq!((pushed.repositories[0].mounted, pushed.repositories[0].uploaded), (3, 0));

    let destinations = [reference(&host, "four:1"), reference(&host, "five:1")];
    let known = [repository(&host, "none"), repository(&host, "two")];
    let pushed = push(&client, Arc::new(image.clone()), &destinations, &known, &nobody()).await.unwrap();
    assert_eq!(pushed.repositories.iter().map(|pushed| pushed.mounted).collect::<Vec<_>>(), [3, 3]);

    let to = [reference(&host, "three:1")];
    let copied = copy(&client, &from, &Selection::Everything, &to, &nobody()).await.unwrap();
    assert_eq!((copied.digest, copied.repositories[0].mounted), (image.root.digest, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_copied_between_registries() {
    let (one, other) =
        (DockerRegistry::start(Login::None).unwrap(), DockerRegistry::start(Login::None).unwrap());
    let image = Memory::index(&[
        ("linux/amd64", Memory::image(3, &[2_000_000])),
        ("linux/arm64", Memory::image(4, &[1_000_000])),
    ]);
    let client = client();
    let from = reference(&one.host(), "app:1");
    push(&client, Arc::new(image.clone()), std::slice::from_ref(&from), &[], &nobody()).await.unwrap();
    let to = [reference(&other.host(), "app:1")];
    let copied = copy(&client, &from, &Selection::Everything, &to, &nobody()).await.unwrap();
    assert_eq!((copied.digest, copied.repositories[0].uploaded), (image.root.digest, 4));
    let sink = Arc::new(Kept::default());
    let kept: Arc<dyn ImageSink> = sink.clone();
    pull(&client, &to[0], &Selection::Everything, &kept, &nobody()).await.unwrap();
    assert_eq!(sink.manifests.lock().unwrap().last().unwrap().0.digest, image.root.digest);
    assert_eq!(sink.manifests.lock().unwrap().len(), 3);

    let arm = Selection::Platform("linux/arm64".parse().unwrap());
    let one_platform = [reference(&other.host(), "arm:1")];
    let copied = copy(&client, &from, &arm, &one_platform, &nobody()).await.unwrap();
    assert_ne!(copied.digest, image.root.digest);
    let none = Selection::Platform("linux/s390x".parse().unwrap());
    let error = pull(&client, &from, &none, &kept, &nobody()).await.unwrap_err();
    assert!(
        error.to_string().ends_with("no image for linux/s390x, only for linux/amd64, linux/arm64"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_deleted_that_the_registry_lets_one_delete() {
    let registry = DockerRegistry::start(Login::None).unwrap();
    let (client, host) = (client(), registry.host());
    let skew = client.ping(&host).await.unwrap().date.unwrap().duration_since(jiff::Timestamp::now());
    assert!(skew.abs().as_secs() < 60, "{skew}");
    let (image, app) = (Memory::image(5, &[1000]), repository(&host, "app"));
    let tags = ["app:1", "app:2"].map(|name| reference(&host, name));
    push(&client, Arc::new(image.clone()), &tags, &[], &nobody()).await.unwrap();
    let names = |tags: Vec<Tag>| tags.iter().map(Tag::to_string).collect::<Vec<_>>();
    let mut listed = names(client.tags(&app).await.unwrap());
    listed.sort();
    assert_eq!(listed, ["1", "2"]);
    assert_eq!(client.catalog(&host).await.unwrap(), ["app"]);
    assert_eq!(client.has_blob(&app, &image.layer().digest).await.unwrap(), Some(1000));

    let error = client.delete_tag(&app, &"1".parse().unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("delete the tag"), "{error}");
    client.delete_manifest(&app, &image.root.digest).await.unwrap();
    assert!(client.resolve(&tags[0]).await.unwrap_err().is_not_found());
    assert_eq!(client.tags(&app).await.unwrap(), []);
    client.delete_blob(&app, &image.layer().digest).await.unwrap();
    assert_eq!(client.has_blob(&app, &image.layer().digest).await.unwrap(), None);
    let error = client.delete_blob(&app, &image.layer().digest).await.unwrap_err();
    assert!(error.is_not_found(), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn referrers_are_kept_in_the_index_that_stands_in() {
    let registry = DockerRegistry::start(Login::None).unwrap();
    let (client, host) = (client(), registry.host());
    let (image, app) = (Memory::image(6, &[1000]), repository(&host, "app"));
    push(&client, Arc::new(image.clone()), &[reference(&host, "app:1")], &[], &nobody()).await.unwrap();
    assert_eq!(client.referrers(&app, &image.root.digest, None).await.unwrap().manifests, []);

    let empty = Memory { root: image.root.clone(), content: [(Digest::of("{}"), b"{}".to_vec())].into() };
    let config = Descriptor::of(MediaType::Empty, b"{}");
    let how = client.push_blob(&app, &config, Arc::new(empty.clone()), &[], &nobody()).await.unwrap();
    assert_eq!(how, BlobPushed::Uploaded);
    let mut written = Vec::new();
    for kind in ["application/vnd.a", "application/vnd.b"] {
        let mut manifest = Manifest::image(config.clone(), vec![config.clone()]);
        manifest.artifact_type = Some(kind.to_owned());
        manifest.subject = Some(image.root.clone());
        let bytes = manifest.to_bytes();
        written.push(client.put_manifest(&app, &bytes, &MediaType::Manifest, &[]).await.unwrap());
    }
    let listed = client.referrers(&app, &image.root.digest, None).await.unwrap().manifests;
    assert_eq!(listed.iter().map(|manifest| manifest.digest).collect::<Vec<_>>(), written);
    let filtered = client.referrers(&app, &image.root.digest, Some("application/vnd.b")).await.unwrap();
    assert_eq!(filtered.manifests.iter().map(|manifest| manifest.digest).collect::<Vec<_>>(), written[1..]);
    client.delete_manifest(&app, &written[0]).await.unwrap();
    let left = client.referrers(&app, &image.root.digest, None).await.unwrap().manifests;
    assert_eq!(left.iter().map(|manifest| manifest.digest).collect::<Vec<_>>(), written[1..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_through_a_connection_that_is_cut() {
    let registry = DockerRegistry::start(Login::None).unwrap();
    let relay = Relay::cutting(registry.address(), 2 << 20);
    let image = Memory::image(7, &[6 << 20]);
    let (observer, seen) = recorder();
    let to = [reference(&relay.host(), "app:1")];
    push(&client(), Arc::new(image.clone()), &to, &[], &observer).await.unwrap();
    assert!(seen.lock().unwrap().iter().any(|event| matches!(event, Event::Retry { .. })));
    let folder = tempfile::tempdir().unwrap();
    let sink: Arc<dyn ImageSink> = Arc::new(Layout::create(folder.path()).unwrap());
    let from = reference(&registry.host(), "app:1");
    let pulled = pull(&client(), &from, &Selection::Everything, &sink, &nobody()).await.unwrap();
    assert_eq!((pulled.root.digest, pulled.downloaded), (image.root.digest, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_behind_a_proxy_that_does_tls() {
    let registry = DockerRegistry::start(Login::None).unwrap();
    let relay = Relay::tls(registry.address());
    let (host, folder) = (relay.host(), tempfile::tempdir().unwrap());
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, relay.authority.as_ref().unwrap()).unwrap();
    let with = |ca: &str| {
        let text = format!("[\"r.test\"]\nserver = \"https://{host}\"\n{ca}");
        Client::new(ClientConfig { hosts: Hosts::parse(&text).unwrap(), ..config() })
    };
    let error = with("").ping("r.test").await.unwrap_err();
    assert!(error.to_string().contains("an authority that this machine does not trust"), "{error}");
    let error = client().ping(&host).await.unwrap_err();
    assert!(error.to_string().contains("speaks HTTPS and was asked over plain HTTP"), "{error}");

    // The registry calls itself by plain HTTP in its `Location`.
    let (image, trusting) = (Memory::image(8, &[100_000]), with(&format!("ca = {ca:?}")));
    push(&trusting, Arc::new(image.clone()), &[reference("r.test", "app:1")], &[], &nobody()).await.unwrap();
    let found = client().resolve(&reference(&registry.host(), "app:1")).await.unwrap();
    assert_eq!(found.digest, image.root.digest);
}
