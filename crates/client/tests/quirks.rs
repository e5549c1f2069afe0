//! One test for each row of the table of quirks, by its name.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test may panic")]

mod support;

use std::sync::Arc;

use axum::{
    http::{Method, StatusCode, header},
    response::IntoResponse,
};
use longshore_client::{BlobPushed, Client, ClientConfig, ClientError, QUIRKS, push};
use longshore_oci::{Descriptor, Digest, MediaType};
use longshore_testkit::{
    Fault, HostileConfig, HostileRegistry, Mounts, Operation, Referrers, Seen, WrongLocation,
};
use support::{client, config, memory::Memory, nobody, reference, repository, scripted::Scripted};

#[test]
fn every_row_has_its_test() {
    let tests = [include_str!("quirks.rs"), include_str!("../src/location.rs")].concat();
    for quirk in QUIRKS {
        assert_eq!(tests.matches(&format!("fn {}()", quirk.name)).count(), 1, "{}", quirk.name);
    }
}

fn hostile() -> HostileRegistry {
    HostileRegistry::start(HostileConfig::default()).unwrap()
}

async fn push_layer(
    client: &Client,
    registry: &HostileRegistry,
    image: &Memory,
) -> Result<BlobPushed, ClientError> {
    let app = repository(&registry.host(), "app");
    client.push_blob(&app, &image.layer(), Arc::new(image.clone()), &[], &nobody()).await
}

fn has_layer(registry: &HostileRegistry, image: &Memory) -> bool {
    let layer = image.layer().digest;
    registry.blob("app", &layer).is_some_and(|bytes| bytes == image.content[&layer])
}

fn of(registry: &HostileRegistry, operation: Operation) -> Vec<Seen> {
    registry.seen().into_iter().filter(|seen| seen.operation == Some(operation)).collect()
}

#[tokio::test]
async fn patch_over_4_mib_is_refused() {
    let (registry, image) = (hostile(), Memory::image(1, &[9 << 20]));
    // The first upload is cut, and its rest is more than a PATCH may have.
    registry.plan(Fault::ResetWhileReading { after: 1 << 20 }.once_on(Operation::UploadPut));
    registry.plan(Fault::ChunkCap { most: 4 << 20 }.always_on(Operation::UploadPatch));
    push_layer(&client(), &registry, &image).await.unwrap();
    assert!(has_layer(&registry, &image));
    let lengths: Vec<_> =
        of(&registry, Operation::UploadPatch).iter().map(|seen| seen.length.unwrap()).collect();
    assert_eq!(lengths.len(), 3, "one too large, and two chunks: {lengths:?}");
    assert!(lengths[0] > 4 << 20 && lengths[1..].iter().all(|length| *length <= 4 << 20), "{lengths:?}");
    assert_eq!(lengths[0], lengths[1] + lengths[2], "what had come was not sent again");
}

#[tokio::test]
async fn chunked_upload_is_unsupported() {
    let (registry, image) = (hostile(), Memory::image(2, &[3 << 20]));
    registry.plan(Fault::Refused { status: 405 }.always_on(Operation::UploadPatch));
    registry.plan(Fault::ResetWhileReading { after: 1 << 20 }.times_on(Operation::UploadPut, 2));
    push_layer(&client(), &registry, &image).await.unwrap();
    assert!(has_layer(&registry, &image));
    assert_eq!(registry.count(Operation::UploadPatch), 1, "chunks are tried once, after a cut");
    assert_eq!(registry.count(Operation::UploadPut), 3);

    // What was remembered of a registry is no longer so.
    let registry = hostile();
    registry.plan(Fault::BodyCap { most: 1000 }.once_on(Operation::UploadPut));
    let client = client();
    push_layer(&client, &registry, &Memory::image(20, &[2000])).await.unwrap();
    registry.plan(Fault::Refused { status: 405 }.always_on(Operation::UploadPatch));
    push_layer(&client, &registry, &image).await.unwrap();
    assert!(has_layer(&registry, &image));
}

#[tokio::test]
async fn patch_is_answered_201() {
    let (registry, image) = (hostile(), Memory::image(3, &[9 << 20]));
    registry.plan(Fault::BodyCap { most: 5 << 20 }.always_on(Operation::UploadPut));
    registry.plan(Fault::CreatedToPatch.always_on(Operation::UploadPatch));
    push_layer(&client(), &registry, &image).await.unwrap();
    assert!(has_layer(&registry, &image));
    assert_eq!(registry.count(Operation::UploadPatch), 3);
}

#[tokio::test]
async fn only_the_last_chunk_is_kept() {
    let (registry, image) = (hostile(), Memory::image(4, &[9 << 20]));
    registry.plan(Fault::BodyCap { most: 5 << 20 }.once_on(Operation::UploadPut));
    registry.plan(Fault::LastChunkOnly.always_on(Operation::UploadPut));
    let error = push_layer(&client(), &registry, &image).await.unwrap_err();
    assert!(!has_layer(&registry, &image));
    assert!(error.to_string().ends_with("has 1048576 bytes of it instead of 9437184"), "{error}");

    // An upload that is only resumed is sent whole then.
    let (registry, image) = (hostile(), Memory::image(4, &[3 << 20]));
    registry.plan(Fault::ResetWhileReading { after: 1 << 20 }.once_on(Operation::UploadPut));
    registry.plan(Fault::LastChunkOnly.once_on(Operation::UploadPut));
    push_layer(&client(), &registry, &image).await.unwrap();
    assert!(has_layer(&registry, &image));
}

#[tokio::test]
async fn mount_without_from_is_refused() {
    let (registry, image) = (hostile(), Memory::image(5, &[1000]));
    let (client, host) = (client(), registry.host());
    push_layer(&client, &registry, &image).await.unwrap();
    let (other, known) = (repository(&host, "other"), [repository(&host, "app")]);
    let source = Arc::new(image.clone());
    let how = client.push_blob(&other, &image.layer(), source.clone(), &known, &nobody()).await.unwrap();
    assert_eq!(how, BlobPushed::Mounted);
    // Nobody is known to have it: nothing is asked for.
    let third = repository(&host, "third");
    client.push_blob(&third, &image.layer(), source, std::slice::from_ref(&third), &nobody()).await.unwrap();
    let mounts = of(&registry, Operation::Mount);
    assert_eq!(mounts.len(), 1);
    assert!(mounts[0].query.as_deref().unwrap().contains("from=app"), "{:?}", mounts[0].query);
}

#[tokio::test]
async fn mount_is_answered_with_an_error() {
    let (registry, image) = (hostile(), Memory::image(6, &[1000, 2000]));
    let (host, folder) = (registry.host(), tempfile::tempdir().unwrap());
    let capabilities = Some(folder.path().join("capabilities.json"));
    let client = || Client::new(ClientConfig { capabilities: capabilities.clone(), parallel: 1, ..config() });
    push_layer(&client(), &registry, &image).await.unwrap();
    registry.plan(Fault::Refused { status: 405 }.always_on(Operation::Mount));
    for to in ["b:1", "c:1"] {
        let to = [reference(&host, to)];
        let known = [repository(&host, "app")];
        let pushed = push(&client(), Arc::new(image.clone()), &to, &known, &nobody()).await.unwrap();
        assert_eq!(pushed.repositories[0].uploaded, 3);
    }
    assert_eq!(registry.count(Operation::Mount), 1, "remembered from one client to the next");
}

#[tokio::test]
async fn mount_is_answered_with_an_upload() {
    let registry =
        HostileRegistry::start(HostileConfig { mounts: Mounts::Never, ..HostileConfig::default() }).unwrap();
    let (client, image, host) = (client(), Memory::image(7, &[1000]), registry.host());
    let known = [repository(&host, "app")];
    for to in ["b", "c"] {
        let how = client
            .push_blob(&repository(&host, to), &image.layer(), Arc::new(image.clone()), &known, &nobody())
            .await;
        assert_eq!(how.unwrap(), BlobPushed::Uploaded);
    }
    assert_eq!((registry.count(Operation::Mount), registry.count(Operation::UploadBegin)), (2, 0));
}

#[tokio::test]
async fn manifest_put_without_location() {
    let image = Memory::image(8, &[]);
    let registry = Scripted::start(|_, method, _| match *method {
        Method::PUT => StatusCode::CREATED.into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    });
    let bytes = &image.content[&image.root.digest];
    let app = repository(&registry.host(), "app");
    let tags = ["1".parse().unwrap()];
    let digest = client().put_manifest(&app, bytes, &MediaType::Manifest, &tags).await.unwrap();
    assert_eq!(digest, image.root.digest);
    assert_eq!(
        registry.asked(),
        [format!("PUT /v2/app/manifests/{digest}"), "PUT /v2/app/manifests/1".to_owned()]
    );
}

#[tokio::test]
async fn large_bodies_are_refused() {
    let (registry, folder) = (hostile(), tempfile::tempdir().unwrap());
    registry.plan(Fault::BodyCap { most: 5 << 20 }.always_on(Operation::UploadPut));
    registry.plan(Fault::BodyCap { most: 5 << 20 }.always_on(Operation::UploadPatch));
    let capabilities = Some(folder.path().join("capabilities.json"));
    for seed in [9, 10] {
        let image = Memory::image(seed, &[9 << 20]);
        let client = Client::new(ClientConfig { capabilities: capabilities.clone(), ..config() });
        push_layer(&client, &registry, &image).await.unwrap();
        assert!(has_layer(&registry, &image));
    }
    let refused = registry.seen().iter().filter(|seen| seen.status == Some(413)).count();
    assert_eq!(refused, 1, "remembered from one client to the next");
}

#[tokio::test]
async fn post_with_digest_is_only_a_start() {
    let (registry, image) = (hostile(), Memory::image(11, &[10]));
    push_layer(&client(), &registry, &image).await.unwrap();
    assert!(has_layer(&registry, &image));
    let begun = of(&registry, Operation::UploadBegin);
    assert_eq!((begun.len(), begun[0].length, begun[0].query.as_deref()), (1, Some(0), None));
}

#[tokio::test]
async fn status_of_an_empty_upload_is_0_0() {
    let image = Memory::image(12, &[50_000]);
    let blob = image.layer();
    let digest = blob.digest.to_string();
    let registry = Scripted::start(move |earlier, method, path| {
        let puts = earlier.iter().filter(|asked| asked.starts_with("PUT")).count();
        let headers = |range| [(header::LOCATION, "/v2/app/blobs/uploads/x"), (header::RANGE, range)];
        match *method {
            Method::HEAD => StatusCode::NOT_FOUND.into_response(),
            Method::POST => (StatusCode::ACCEPTED, headers("0-0")).into_response(),
            Method::GET => (StatusCode::NO_CONTENT, headers("0-0")).into_response(),
            Method::PUT if puts == 0 => StatusCode::SERVICE_UNAVAILABLE.into_response(),
            Method::PUT if path.contains(&digest.replace(':', "%3A")) => StatusCode::CREATED.into_response(),
            _ => StatusCode::BAD_REQUEST.into_response(),
        }
    });
    let app = repository(&registry.host(), "app");
    client().push_blob(&app, &blob, Arc::new(image), &[], &nobody()).await.unwrap();
    let methods: Vec<_> =
        registry.asked().iter().map(|asked| asked.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(methods, ["HEAD", "POST", "PUT", "HEAD", "GET", "PUT"], "the same upload, from its beginning");
}

#[tokio::test]
async fn referrers_are_unknown() {
    let config = HostileConfig { referrers: Referrers::Missing, ..HostileConfig::default() };
    let registry = HostileRegistry::start(config).unwrap();
    let (client, host, subject) = (client(), registry.host(), Digest::of("subject"));
    let app = repository(&host, "app");
    assert_eq!(client.referrers(&app, &subject, None).await.unwrap().manifests, []);
    let referrer = Descriptor::of(MediaType::Manifest, b"referrer");
    let index = longshore_oci::Index::new(vec![referrer.clone()]).to_bytes();
    registry.put_manifest("app", &MediaType::Index, index, Some(&format!("sha256-{}", subject.hex())));
    assert_eq!(client.referrers(&app, &subject, None).await.unwrap().manifests, [referrer]);
    // That it cannot be listed is not that there is nothing.
    registry.plan(Fault::Refused { status: 403 }.always_on(Operation::ManifestGet));
    assert!(client.referrers(&app, &subject, None).await.is_err());
}

#[tokio::test]
async fn more_than_1000_tags_are_refused() {
    let registry = Scripted::start(|_, _, path| {
        let wanted = path.split(['?', '&']).find_map(|part| part.strip_prefix("n=")?.parse::<usize>().ok());
        match wanted {
            Some(n) if n <= 1000 => "{\"name\":\"app\",\"tags\":[\"1\"]}".into_response(),
            _ => StatusCode::BAD_REQUEST.into_response(),
        }
    });
    assert_eq!(client().tags(&repository(&registry.host(), "app")).await.unwrap().len(), 1);
}

#[tokio::test]
async fn no_tags_are_null() {
    let registry = Scripted::start(|_, _, _| "{\"name\":\"app\",\"tags\":null}".into_response());
    assert_eq!(client().tags(&repository(&registry.host(), "app")).await.unwrap(), []);
}

#[tokio::test]
async fn pages_follow_each_other_in_circles() {
    let registry = hostile();
    let (client, image) = (client(), Memory::image(13, &[]));
    registry.put_manifest("app", &MediaType::Manifest, image.content[&image.root.digest].clone(), Some("1"));
    registry.plan(Fault::PagingLoop.always_on(Operation::Tags));
    let error = client.tags(&repository(&registry.host(), "app")).await.unwrap_err();
    assert!(error.to_string().ends_with("links its pages in a circle"), "{error}");
    assert_eq!(registry.count(Operation::Tags), 1);
}

#[tokio::test]
async fn immutable_tag_of_the_same_image() {
    let (registry, client) = (hostile(), client());
    let images = [Memory::image(14, &[10]), Memory::image(15, &[10])];
    let app = repository(&registry.host(), "app");
    let to = [reference(&registry.host(), "app:1")];
    push(&client, Arc::new(images[0].clone()), &to, &[], &nobody()).await.unwrap();
    push(&client, Arc::new(images[1].clone()), &[reference(&registry.host(), "app:2")], &[], &nobody())
        .await
        .unwrap();
    // By digest it may be put, by tag not.
    let outcomes = images.iter().map(|image| async {
        registry.behave();
        registry.plan(Fault::Refused { status: 400 }.always_on(Operation::ManifestPut).after(1));
        let bytes = &image.content[&image.root.digest];
        client.put_manifest(&app, bytes, &MediaType::Manifest, &["1".parse().unwrap()]).await.is_ok()
    });
    let mut taken = Vec::new();
    for outcome in outcomes {
        taken.push(outcome.await);
    }
    assert_eq!(taken, [true, false]);
}

#[tokio::test]
async fn head_is_not_supported() {
    let image = Memory::image(16, &[10]);
    for fault in [Fault::Refused { status: 405 }, Fault::NoLength] {
        let registry = hostile();
        let bytes = image.content[&image.root.digest].clone();
        registry.put_manifest("app", &MediaType::Manifest, bytes, Some("1"));
        registry.plan(fault.always_on(Operation::ManifestHead));
        let resolved = client().resolve(&reference(&registry.host(), "app:1")).await.unwrap();
        assert_eq!((resolved.digest, resolved.size), (image.root.digest, image.root.size));
        assert_eq!(registry.count(Operation::ManifestGet), 1);
    }
}

#[tokio::test]
async fn cancelling_an_upload_is_deleting() {
    let registry = hostile();
    let app = repository(&registry.host(), "app");
    client().probe_push(&app).await.unwrap();
    assert_eq!(registry.unfinished_uploads(), 0);
    registry.plan(Fault::NeverAuthorized.always_on(Operation::UploadCancel));
    client().probe_push(&app).await.unwrap();
    assert_eq!(registry.unfinished_uploads(), 1);
}

#[tokio::test]
async fn empty_answers_are_html() {
    let image = Memory::image(18, &[10]);
    let app = |registry: &Scripted| repository(&registry.host(), "app");
    let html = |status, text: &'static str| {
        let headers = [
            (header::LOCATION, "/v2/app/blobs/uploads/x"),
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        ];
        (status, headers, text).into_response()
    };
    let registry = Scripted::start(move |_, method, _| match *method {
        Method::POST => html(StatusCode::ACCEPTED, ""),
        Method::PUT => html(StatusCode::CREATED, ""),
        _ => StatusCode::NOT_FOUND.into_response(),
    });
    client()
        .push_blob(&app(&registry), &image.layer(), Arc::new(image.clone()), &[], &nobody())
        .await
        .unwrap();
    let login = Scripted::start(move |_, method, _| match *method {
        Method::HEAD => StatusCode::NOT_FOUND.into_response(),
        _ => html(StatusCode::ACCEPTED, "<html>log in"),
    });
    let error =
        client().push_blob(&app(&login), &image.layer(), Arc::new(image.clone()), &[], &nobody()).await;
    assert!(matches!(error, Err(ClientError::NotRegistry { .. })));
}

#[tokio::test]
async fn chunks_are_as_long_as_the_registry_wants() {
    let image = Memory::image(19, &[11 << 20]);
    let registry = Scripted::start(|earlier, method, _| {
        let location = (header::LOCATION, "/v2/app/blobs/uploads/x".to_owned());
        let patches = earlier.iter().filter(|asked| asked.starts_with("PATCH")).count();
        let is_closed = earlier.iter().filter(|asked| asked.starts_with("PUT")).count() > 0;
        match *method {
            Method::HEAD if patches > 0 => {
                ([(header::CONTENT_LENGTH, (11 << 20).to_string())], "").into_response()
            }
            Method::POST => {
                let least = (header::HeaderName::from_static("oci-chunk-min-length"), (6 << 20).to_string());
                (StatusCode::ACCEPTED, [location, least]).into_response()
            }
            Method::PUT if !is_closed => StatusCode::PAYLOAD_TOO_LARGE.into_response(),
            Method::PUT => StatusCode::CREATED.into_response(),
            Method::PATCH => (StatusCode::ACCEPTED, [location]).into_response(),
            _ => StatusCode::NOT_FOUND.into_response(),
        }
    });
    let app = repository(&registry.host(), "app");
    client().push_blob(&app, &image.layer(), Arc::new(image.clone()), &[], &nobody()).await.unwrap();
    let patches = registry.asked().iter().filter(|asked| asked.starts_with("PATCH")).count();
    assert_eq!(patches, 2, "6 MiB and the rest, not three of 4 MiB");
}

#[tokio::test]
async fn an_upload_whose_location_is_missing_is_not_guessed() {
    let (registry, image) = (hostile(), Memory::image(17, &[10]));
    registry.plan(Fault::Location(WrongLocation::Missing).always_on(Operation::UploadBegin));
    let error = push_layer(&client(), &registry, &image).await.unwrap_err();
    assert!(error.to_string().contains("without saying where (Location)"), "{error}");
}
