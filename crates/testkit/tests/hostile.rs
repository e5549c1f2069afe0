//! The hostile registry: a good registry until told otherwise, and then as bad as told.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test may panic")]

use std::{
    io::{BufRead, BufReader},
    process::{Command, Output, Stdio},
    time::Duration,
};

use longshore_oci::Digest;
use longshore_testkit::{
    Chance, Fault, HostileConfig, HostileRegistry, Mounts, Operation, RangeLie, Referrers, Seeded, Side,
    TokenAuth, TokenConfig, TokenServer, User, WrongLocation,
};
use reqwest::{Client, Method, Response, StatusCode, header};

fn start() -> HostileRegistry {
    HostileRegistry::start(HostileConfig::default()).unwrap()
}

fn client() -> Client {
    let none = reqwest::redirect::Policy::none();
    Client::builder().no_proxy().redirect(none).timeout(Duration::from_secs(20)).build().unwrap()
}

async fn send(
    registry: &HostileRegistry,
    method: Method,
    path: &str,
    body: &[u8],
) -> reqwest::Result<Response> {
    let url =
        if path.starts_with("http") { path.to_owned() } else { format!("http://{}{path}", registry.host()) };
    client()
        .request(method, url)
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .body(body.to_vec())
        .send()
        .await
}

fn location(response: &Response) -> String {
    response.headers()[header::LOCATION].to_str().unwrap().to_owned()
}

async fn begin(registry: &HostileRegistry) -> String {
    let begun = send(registry, Method::POST, "/v2/a/blobs/uploads/", b"").await.unwrap();
    assert_eq!(begun.status(), StatusCode::ACCEPTED);
    location(&begun)
}

fn skopeo(arguments: &[&str]) -> Output {
    Command::new("skopeo").arg("--insecure-policy").args(arguments).output().unwrap()
}

#[test]
fn skopeo_copies_in_and_out_of_it_with_tokens() {
    let config =
        TokenConfig { users: vec![User::new("me", "pw", "pull,push,delete")], ..TokenConfig::default() };
    let tokens = TokenServer::start(config).unwrap();
    let config = HostileConfig { tokens: Some(TokenAuth::of(&tokens)), ..HostileConfig::default() };
    let registry = HostileRegistry::start(config).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let layout = format!("{}:1", folder.path().join("image").display());
    let file = folder.path().join("file");
    std::fs::write(&file, Seeded::new(1).bytes(300_000)).unwrap();
    let (path, file) = (layout.strip_suffix(":1").unwrap(), file.display().to_string());
    for arguments in [
        &["init", "--layout", path][..],
        &["new", "--image", &layout],
        &["insert", "--rootless", "--image", &layout, &file, "/data"],
    ] {
        assert!(Command::new("umoci").args(arguments).output().unwrap().status.success());
    }
    let auth = folder.path().join("auth.json");
    // Base 64 of `me:pw`.
    let text = serde_json::json!({ "auths": { registry.host(): { "auth": "bWU6cHc=" } } });
    std::fs::write(&auth, text.to_string()).unwrap();
    let auth = format!("--authfile={}", auth.display());
    let remote = format!("docker://{}/team/app:1", registry.host());
    let out = format!("oci:{}:1", folder.path().join("out").display());
    for arguments in [
        ["copy", "--dest-tls-verify=false", &auth, &format!("oci:{layout}"), &remote],
        ["copy", "--src-tls-verify=false", &auth, &remote, &out],
    ] {
        let output = skopeo(&arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let digest = |image: &str| skopeo(&["inspect", "--format", "{{.Digest}}", image]).stdout;
    assert_eq!(digest(&out), digest(&format!("oci:{layout}")));
    assert!(registry.broken_tags().is_empty());
    assert_eq!(registry.tags("team/app"), ["1"]);
    assert!(!skopeo(&["inspect", "--tls-verify=false", &remote]).status.success(), "nobody may pull");
}

#[tokio::test]
async fn it_is_strict() {
    let registry = start();
    let bytes = b"some bytes";
    let digest = Digest::of(bytes);

    let at = begin(&registry).await;
    let wrong =
        send(&registry, Method::PUT, &format!("{at}&digest={}", Digest::of(b"else")), bytes).await.unwrap();
    assert_eq!(wrong.status(), StatusCode::BAD_REQUEST, "another digest");

    let at = begin(&registry).await;
    let (bare, _) = at.split_once('?').unwrap();
    let wrong = send(&registry, Method::PUT, &format!("{bare}?digest={digest}"), bytes).await.unwrap();
    assert_eq!(wrong.status(), StatusCode::BAD_REQUEST, "the location without its query");
    let url = format!("http://{}{at}", registry.host());
    for (range, status) in [("5-9", 416), ("0-8", 416), ("0-9", 202)] {
        let patch = client().patch(&url).header(header::CONTENT_RANGE, range).body(bytes.to_vec()).send();
        assert_eq!(patch.await.unwrap().status().as_u16(), status, "{range}");
    }
    let status = send(&registry, Method::GET, &at, b"").await.unwrap();
    assert_eq!(
        (status.status().as_u16(), &status.headers()[header::RANGE]),
        (204, &header::HeaderValue::from_static("0-9"))
    );
    let done = send(&registry, Method::PUT, &format!("{at}&digest={digest}"), b"").await.unwrap();
    assert_eq!(done.status(), StatusCode::CREATED);
    assert_eq!(registry.blob("a", &digest).unwrap(), &bytes[..]);

    let manifest =
        serde_json::json!({ "schemaVersion": 2, "layers": [{ "digest": Digest::of(b"else").to_string() }] });
    let put =
        send(&registry, Method::PUT, "/v2/a/manifests/1", manifest.to_string().as_bytes()).await.unwrap();
    assert_eq!(put.status(), StatusCode::BAD_REQUEST, "a layer is missing");
    assert!(registry.tags("a").is_empty());
}

#[tokio::test]
async fn connections_and_bodies_break() {
    let registry = start();
    let digest = registry.put_blob("a", Seeded::new(1).bytes(100_000));
    let path = format!("/v2/a/blobs/{digest}");
    for fault in [
        Fault::ResetAtOnce,
        Fault::ResetAfterCommit,
        Fault::ResetWhileAnswering { after: 10 },
        Fault::Truncated { after: 99_999 },
    ] {
        registry.plan(fault.clone().once_on(Operation::BlobGet));
        let read = async { send(&registry, Method::GET, &path, b"").await?.bytes().await };
        assert!(read.await.is_err(), "{fault:?}");
    }
    registry.plan(Fault::WrongBytes.once_on(Operation::BlobGet));
    let wrong = send(&registry, Method::GET, &path, b"").await.unwrap().bytes().await.unwrap();
    assert_eq!(wrong.len(), 100_000);
    assert_ne!(Digest::of(&wrong), digest);
    registry.plan(Fault::Trickle { pause: Duration::from_millis(1) }.once_on(Operation::BlobGet));
    let slow = send(&registry, Method::GET, &path, b"").await.unwrap().bytes().await.unwrap();
    assert_eq!(Digest::of(&slow), digest);

    // What was read before a reset is kept; what is done before one is done.
    let at = begin(&registry).await;
    registry.plan(Fault::ResetWhileReading { after: 7 }.once_on(Operation::UploadPatch));
    assert!(send(&registry, Method::PATCH, &at, b"0123456789").await.is_err());
    let status = send(&registry, Method::GET, &at, b"").await.unwrap();
    assert_eq!(status.headers()[header::RANGE], "0-6");
    registry.plan(Fault::ResetAfterCommit.once_on(Operation::UploadPut));
    let digest = Digest::of(b"0123456789");
    assert!(send(&registry, Method::PUT, &format!("{at}&digest={digest}"), b"789").await.is_err());
    assert!(registry.blob("a", &digest).is_some());
}

#[tokio::test]
async fn answers_are_wrong() {
    let registry = start();
    let digest = registry.put_blob("a", Seeded::new(1).bytes(1000));
    let blob = format!("/v2/a/blobs/{digest}");
    let get = async |fault: Fault, operation, path: &str| {
        registry.plan(fault.once_on(operation));
        send(&registry, Method::GET, path, b"").await.unwrap()
    };
    let late = get(Fault::TooManyRequests { retry_after: Some(7) }, Operation::BlobGet, &blob).await;
    assert_eq!((late.status().as_u16(), &late.headers()[header::RETRY_AFTER].to_str().unwrap()), (429, &"7"));
    let page = get(Fault::Html, Operation::BlobGet, &blob).await;
    assert!(page.status().is_success() && page.text().await.unwrap().contains("<html>"));
    let lie = get(Fault::WrongDigestHeader, Operation::BlobGet, &blob).await;
    assert_ne!(lie.headers()["docker-content-digest"], digest.to_string().as_str());
    let looping = get(Fault::PagingLoop, Operation::Tags, "/v2/a/tags/list?n=5").await;
    assert_eq!(looping.headers()[header::LINK], "</v2/a/tags/list?n=5>; rel=\"next\"");
    let there = get(Fault::Redirect, Operation::BlobGet, &blob).await;
    assert_eq!(there.status().as_u16(), 307);
    let elsewhere =
        send(&registry, Method::GET, &location(&there), b"").await.unwrap().bytes().await.unwrap();
    assert_eq!(Digest::of(&elsewhere), digest);
    assert_eq!(registry.seen().last().unwrap().side, Side::Elsewhere);

    registry.plan(Fault::NoLength.once_on(Operation::BlobHead));
    let head = send(&registry, Method::HEAD, &blob, b"").await.unwrap();
    assert!(head.status().is_success() && !head.headers().contains_key(header::CONTENT_LENGTH));
    for (lie, status, length) in
        [(RangeLie::Ignored, 200, 1000), (RangeLie::Shifted, 206, 100), (RangeLie::Silent, 206, 100)]
    {
        registry.plan(Fault::RangeLie(lie).once_on(Operation::BlobGet));
        let url = format!("http://{}{blob}", registry.host());
        let part = client().get(url).header(header::RANGE, "bytes=900-").send().await.unwrap();
        assert_eq!(part.status().as_u16(), status, "{lie:?}");
        let says = part.headers().get(header::CONTENT_RANGE).map(|says| says.to_str().unwrap().to_owned());
        assert_eq!(says.as_deref() == Some("bytes 900-999/1000"), lie == RangeLie::Silent, "{lie:?}");
        assert_eq!(part.bytes().await.unwrap().len(), length);
    }
}

#[tokio::test]
async fn uploads_are_refused_and_lost() {
    let registry = start();
    registry.plan(Fault::Location(WrongLocation::Elsewhere).once_on(Operation::UploadBegin));
    assert!(begin(&registry).await.starts_with("http://127.0.0.1:"));
    let at = begin(&registry).await;
    registry.plan(Fault::ChunkCap { most: 5 }.times_on(Operation::UploadPatch, 2));
    assert_eq!(send(&registry, Method::PATCH, &at, b"0123456789").await.unwrap().status().as_u16(), 416);
    assert_eq!(send(&registry, Method::PATCH, &at, b"01234").await.unwrap().status().as_u16(), 202);
    registry.plan(Fault::CreatedToPatch.once_on(Operation::UploadPatch));
    assert_eq!(send(&registry, Method::PATCH, &at, b"56789").await.unwrap().status().as_u16(), 201);
    registry.plan(Fault::LastChunkOnly.once_on(Operation::UploadPut));
    let digest = Digest::of(b"0123456789");
    let put = send(&registry, Method::PUT, &format!("{at}&digest={digest}"), b"").await.unwrap();
    assert_eq!(put.status(), StatusCode::CREATED);
    assert_eq!(registry.blob("a", &digest).unwrap(), &b"56789"[..]);
    // Nothing but the client keeps a tag from naming this.
    let manifest = serde_json::json!({ "schemaVersion": 2, "layers": [{ "digest": digest.to_string() }] });
    send(&registry, Method::PUT, "/v2/a/manifests/1", manifest.to_string().as_bytes()).await.unwrap();
    assert!(registry.broken_tags()[0].contains("has other bytes (5)"), "{:?}", registry.broken_tags());

    registry.put_blob("b", &b"to mount"[..]);
    let path = format!("/v2/a/blobs/uploads/?mount={}&from=b", Digest::of(b"to mount"));
    registry.plan(Fault::MountRefused.once_on(Operation::Mount));
    for status in [202, 201] {
        assert_eq!(send(&registry, Method::POST, &path, b"").await.unwrap().status().as_u16(), status);
    }
}

#[tokio::test]
async fn tokens_expire_when_told() {
    let config = TokenConfig { users: vec![User::new("me", "pw", "pull,push")], ..TokenConfig::default() };
    let tokens = TokenServer::start(config).unwrap();
    let config = HostileConfig { tokens: Some(TokenAuth::of(&tokens)), ..HostileConfig::default() };
    let registry = HostileRegistry::start(config).unwrap();
    let url = format!("http://{}/v2/a/blobs/uploads/", registry.host());
    let scopes = ["repository:a:pull,push".parse().unwrap()];
    let issue = || tokens.authority().issue("me", &scopes, Duration::from_mins(1)).unwrap();
    let token = issue();
    let post = async |token: &str| client().post(&url).bearer_auth(token).send().await.unwrap();
    assert_eq!(post(&token).await.status().as_u16(), 202);
    registry.plan(Fault::TokensExpire.once_on(Operation::UploadBegin));
    for _ in 0..2 {
        let refused = post(&token).await;
        let challenge = refused.headers()[header::WWW_AUTHENTICATE].to_str().unwrap();
        assert_eq!(refused.status().as_u16(), 401);
        assert!(
            challenge.ends_with("scope=\"repository:a:pull,push\",error=\"invalid_token\""),
            "{challenge}"
        );
    }
    assert_eq!(post(&issue()).await.status().as_u16(), 202);
}

#[tokio::test]
async fn registries_differ() {
    let config = HostileConfig {
        mounts: Mounts::Anonymous,
        referrers: Referrers::Missing,
        ..HostileConfig::default()
    };
    let registry = HostileRegistry::start(config).unwrap();
    let digest = registry.put_blob("b", &b"to mount"[..]);
    let mount =
        send(&registry, Method::POST, &format!("/v2/a/blobs/uploads/?mount={digest}"), b"").await.unwrap();
    assert_eq!(mount.status(), StatusCode::CREATED);
    let referrers = send(&registry, Method::GET, &format!("/v2/a/referrers/{digest}"), b"").await.unwrap();
    assert_eq!(referrers.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn chance_ends() {
    let registry = start();
    let faults = vec![Fault::Refused { status: 503 }];
    registry.leave_to_chance(Chance { seed: 3, one_in: 2, most: 4, faults });
    let mut refused = 0;
    for _ in 0..40 {
        let status = send(&registry, Method::GET, "/v2/", b"").await.unwrap().status();
        refused += usize::from(status == StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(refused, 4);
    registry.behave();
    assert!(send(&registry, Method::GET, "/v2/", b"").await.unwrap().status().is_success());
}

#[tokio::test]
async fn the_program_does_what_its_configuration_says() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.json");
    let text = r#"{ "referrers": "missing", "rules": [
        { "operation": "base", "skip": 1, "times": 1, "fault": { "refused": { "status": 503 } } },
        { "operation": "tags", "fault": { "truncated": { "after": 0 } } },
        { "operation": "upload-begin", "fault": { "location": "missing" } }
    ] }"#;
    std::fs::write(&config, text).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_longshore-testkit"))
        .args(["hostile-registry", "--config"])
        .arg(&config)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let printed: serde_json::Value = serde_json::from_str(&line).unwrap();
    let base = format!("http://{}/v2/", printed["host"].as_str().unwrap());
    for status in [200, 503, 200] {
        assert_eq!(client().get(&base).send().await.unwrap().status().as_u16(), status);
    }
    let begun = client().post(format!("{base}a/blobs/uploads/")).send().await.unwrap();
    assert!(!begun.headers().contains_key(header::LOCATION));
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}
