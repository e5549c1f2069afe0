//! Bytes on their way: cut, damaged, too many, too slow.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test may panic")]

mod support;

use std::{num::NonZeroU32, sync::Arc, time::Instant};

use longshore_client::{
    Client, ClientConfig, ClientError, Event, ImageSink, Pace, Selection, copy, pull, push,
};
use longshore_oci::{Digest, MediaType, Tag};
use longshore_testkit::{
    Fault, HostileConfig, HostileRegistry, MissingBlobs, Operation, RangeLie, Serving, Side, TokenAuth,
    TokenConfig, TokenServer, User, WrongLocation,
};
use support::{
    Wallet, client, client_with, config,
    memory::{Kept, Memory},
    nobody, recorder, reference, repository,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A registry with an image under the tag `1`.
fn filled(image: &Memory) -> HostileRegistry {
    let registry = HostileRegistry::start(HostileConfig::default()).unwrap();
    for (digest, bytes) in &image.content {
        if *digest == image.root.digest {
            registry.put_manifest("app", &MediaType::Manifest, bytes.clone(), Some("1"));
        } else {
            registry.put_blob("app", bytes.clone());
        }
    }
    registry
}

async fn pull_layer(registry: &HostileRegistry, image: &Memory) -> Result<Arc<Kept>, ClientError> {
    let kept = Arc::new(Kept::default());
    let sink: Arc<dyn ImageSink> = kept.clone();
    let app = repository(&registry.host(), "app");
    client().pull_blob(&app, &image.layer(), &sink, &nobody()).await?;
    assert_eq!(kept.blobs.lock().unwrap()[&image.layer().digest], image.content[&image.layer().digest]);
    Ok(kept)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_is_cut_goes_on_where_it_was() {
    let image = Memory::image(1, &[3_000_000]);
    for fault in [
        Fault::ResetWhileAnswering { after: 1_000_000 },
        Fault::Truncated { after: 1_000_000 },
        Fault::Stall { after: 1_000_000 },
    ] {
        let registry = filled(&image);
        registry.plan(fault.times_on(Operation::BlobGet, 2));
        pull_layer(&registry, &image).await.unwrap();
        let statuses: Vec<_> = registry.seen().iter().map(|seen| seen.status.unwrap_or_default()).collect();
        assert_eq!(statuses.len(), 3);
        assert_eq!(statuses[2], 206, "{statuses:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_the_rest_is_not_taken_for_it() {
    let image = Memory::image(2, &[3_000_000]);
    for lie in [RangeLie::Ignored, RangeLie::Shifted, RangeLie::Silent] {
        let registry = filled(&image);
        registry.plan(Fault::Truncated { after: 1_000_000 }.once_on(Operation::BlobGet));
        registry.plan(Fault::RangeLie(lie).once_on(Operation::BlobGet));
        pull_layer(&registry, &image).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_bytes_are_got_again_once_and_never_kept() {
    let image = Memory::image(3, &[300_000]);
    let registry = filled(&image);
    registry.plan(Fault::WrongBytes.once_on(Operation::BlobGet));
    pull_layer(&registry, &image).await.unwrap();
    for fault in [Fault::WrongBytes, Fault::LongerBytes] {
        let registry = filled(&image);
        registry.plan(fault.always_on(Operation::BlobGet));
        let error = pull_layer(&registry, &image).await.map(drop).unwrap_err();
        assert!(matches!(error, ClientError::WrongDigest { .. } | ClientError::WrongSize { .. }), "{error}");
        assert_eq!(registry.count(Operation::BlobGet), 2);
    }
    let registry = filled(&image);
    registry.plan(Fault::WrongBytes.always_on(Operation::ManifestGet));
    let (sink, image) = (Arc::new(Kept::default()), reference(&registry.host(), "app:1"));
    let kept: Arc<dyn ImageSink> = sink.clone();
    let error = pull(&client(), &image, &Selection::Everything, &kept, &nobody()).await.unwrap_err();
    assert!(matches!(error, ClientError::WrongDigest { .. }), "{error}");
    assert!(sink.blobs.lock().unwrap().is_empty() && sink.manifests.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_cut_goes_on_where_it_was() {
    let (registry, image) = (filled(&Memory::image(4, &[])), Memory::image(5, &[3_000_000]));
    registry.plan(Fault::ResetWhileReading { after: 1_000_000 }.once_on(Operation::UploadPut));
    let (observer, seen) = recorder();
    let app = repository(&registry.host(), "app");
    client().push_blob(&app, &image.layer(), Arc::new(image.clone()), &[], &observer).await.unwrap();
    assert_eq!(registry.blob("app", &image.layer().digest).unwrap(), image.content[&image.layer().digest]);
    let patched: Vec<_> =
        registry.seen().into_iter().filter(|seen| seen.operation == Some(Operation::UploadPatch)).collect();
    assert_eq!(patched.len(), 1);
    assert!(patched[0].length.unwrap() <= 2_000_000, "{:?}", patched[0].length);
    let retries = seen.lock().unwrap().iter().filter(|event| matches!(event, Event::Retry { .. })).count();
    assert_eq!(retries, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_answer_is_lost_is_not_made_again() {
    for fault in [Fault::RefusedAfterCommit { status: 500 }, Fault::ResetAfterCommit] {
        let (registry, image) = (filled(&Memory::image(6, &[])), Memory::image(7, &[100_000]));
        registry.plan(fault.once_on(Operation::UploadPut));
        let app = repository(&registry.host(), "app");
        client().push_blob(&app, &image.layer(), Arc::new(image), &[], &nobody()).await.unwrap();
        assert_eq!(registry.count(Operation::UploadPut), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_accepts_what_was_not_sent_is_not_believed() {
    let image = Memory::image(13, &[64 << 20]);
    let serving = Serving::start(|listener| async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            // One request a connection; the body is not read.
            let mut head = vec![0; 2048];
            let length = stream.read(&mut head).await.unwrap_or_default();
            let answer = match head[..length].split(|byte| *byte == b' ').next() {
                Some(b"POST") => {
                    "HTTP/1.1 202 Accepted\r\nLocation: /v2/app/blobs/uploads/x\r\nContent-Length: 0\r\n\r\n"
                }
                Some(b"PUT") => "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
                _ => "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            };
            let _ = stream.write_all(answer.as_bytes()).await;
            if answer.contains("201") {
                kept.push(stream);
            }
        }
    });
    let serving = serving.unwrap();
    let app = repository(&serving.address().to_string(), "app");
    assert!(client().push_blob(&app, &image.layer(), Arc::new(image.clone()), &[], &nobody()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_appears_whole_or_not_at_all() {
    let image = Memory::image(8, &[1000, 2000, 3000]);
    let lenient = HostileConfig { missing_blobs: MissingBlobs::Taken, ..HostileConfig::default() };
    let registry = HostileRegistry::start(lenient).unwrap();
    let to = [reference(&registry.host(), "app:1")];
    registry.plan(Fault::Refused { status: 403 }.once_on(Operation::UploadPut).after(2));
    let error = push(&client(), Arc::new(image.clone()), &to, &[], &nobody()).await.unwrap_err();
    assert!(matches!(error, ClientError::Denied { .. }), "{error}");
    assert_eq!((registry.tags("app"), registry.count(Operation::ManifestPut)), (vec![], 0));

    // What is read is not what its descriptor says.
    let mut changed = image.clone();
    changed.content.get_mut(&image.layer().digest).unwrap()[0] ^= 1;
    let other = [reference(&registry.host(), "other:1")];
    let error = push(&client(), Arc::new(changed), &other, &[], &nobody()).await.unwrap_err();
    assert!(matches!(error, ClientError::Changed { .. }), "{error}");
    let mut shortened = image.clone();
    shortened.content.get_mut(&image.layer().digest).unwrap().pop();
    let third = [reference(&registry.host(), "third:1")];
    let error = push(&client(), Arc::new(shortened), &third, &[], &nobody()).await.unwrap_err();
    assert!(error.to_string().contains("it ends after 999 of 1000 bytes"), "{error}");
    for repository in ["app", "other", "third"] {
        assert_eq!(registry.tags(repository), Vec::<String>::new());
    }

    push(&client(), Arc::new(image), &to, &[], &nobody()).await.unwrap();
    assert_eq!((registry.tags("app"), registry.broken_tags()), (vec!["1".to_owned()], vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_elsewhere_is_sent_no_credentials() {
    let users = vec![User::new("me", "secret", "pull,push")];
    let tokens = TokenServer::start(TokenConfig { users, ..TokenConfig::default() }).unwrap();
    let config = HostileConfig { tokens: Some(TokenAuth::of(&tokens)), ..HostileConfig::default() };
    let registry = HostileRegistry::start(config).unwrap();
    let host = registry.host();
    let client = client_with(&Wallet::basic(&host, "me", "secret"));
    let (image, app) = (Memory::image(9, &[100_000]), repository(&host, "app"));
    registry.plan(Fault::Location(WrongLocation::Elsewhere).always_on(Operation::UploadBegin));
    client.push_blob(&app, &image.layer(), Arc::new(image.clone()), &[], &nobody()).await.unwrap();
    assert!(registry.blob("app", &image.layer().digest).is_some());
    let elsewhere: Vec<_> = registry.seen().into_iter().filter(|seen| seen.side == Side::Elsewhere).collect();
    assert!(
        !elsewhere.is_empty() && elsewhere.iter().all(|seen| seen.authorization.is_none()),
        "{elsewhere:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_survives_a_source_that_is_cut() {
    let image = Memory::image(12, &[3_000_000, 1000]);
    for lie in [None, Some(RangeLie::Ignored), Some(RangeLie::Silent)] {
        let (from, to) = (filled(&image), HostileRegistry::start(HostileConfig::default()).unwrap());
        from.plan(Fault::Truncated { after: 1_000_000 }.once_on(Operation::BlobGet));
        if let Some(lie) = lie {
            from.plan(Fault::RangeLie(lie).once_on(Operation::BlobGet));
        }
        let (source, destination) = (reference(&from.host(), "app:1"), [reference(&to.host(), "app:1")]);
        let config = ClientConfig { parallel: 1, ..config() };
        let copied =
            copy(&Client::new(config), &source, &Selection::Everything, &destination, &nobody()).await;
        if lie == Some(RangeLie::Silent) {
            // What is uploaded is compared, and what was sent cannot be taken back.
            let error = copied.unwrap_err();
            assert!(matches!(error, ClientError::Changed { .. }), "{error}");
            assert_eq!(to.tags("app"), Vec::<String>::new());
        } else {
            assert_eq!(copied.unwrap().digest, image.root.digest);
            assert_eq!((to.tags("app"), to.broken_tags()), (vec!["1".to_owned()], vec![]));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_tags_are_resolved_no_faster_than_is_allowed() {
    let image = Memory::image(10, &[]);
    let registry = filled(&image);
    let tags: Vec<Tag> = (0..1000).map(|tag| format!("t{tag}").parse().unwrap()).collect();
    for tag in &tags {
        let bytes = image.content[&image.root.digest].clone();
        registry.put_manifest("app", &MediaType::Manifest, bytes, Some(tag.as_str()));
    }
    let pace = Some(Pace::per_second(NonZeroU32::new(2000).unwrap()));
    let client = Client::new(ClientConfig { pace, parallel: 16, ..config() });
    let app = repository(&registry.host(), "app");
    assert_eq!(client.tags(&app).await.unwrap().len(), 1001);
    let start = Instant::now();
    let resolved = client.resolve_all(&app, tags.clone()).await;
    assert!(start.elapsed().as_secs_f64() >= 999.0 / 2000.0, "{:?}", start.elapsed());
    assert_eq!(resolved.iter().map(|(tag, _)| tag.clone()).collect::<Vec<_>>(), tags);
    assert!(resolved.iter().all(|(_, found)| found.as_ref().unwrap().digest == image.root.digest));
    assert_eq!(registry.count(Operation::ManifestHead), 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_is_taken_only_if_it_is_one() {
    let registry = filled(&Memory::image(11, &[]));
    let host = registry.host();
    let odd = b"{\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"manifests\":[]}".to_vec();
    registry.put_manifest("app", &MediaType::Manifest, odd, Some("odd"));
    let error = client().manifest(&reference(&host, "app:odd")).await.unwrap_err();
    assert!(error.to_string().contains("sent a manifest of type application/vnd.oci.image.index"), "{error}");
    registry.put_manifest("app", &MediaType::Manifest, vec![b' '; (8 << 20) + 1], Some("large"));
    let error = client().manifest(&reference(&host, "app:large")).await.unwrap_err();
    assert!(matches!(error, ClientError::TooLarge { .. }), "{error}");
    let large = vec![b' '; (4 << 20) + 1];
    let app = repository(&host, "app");
    let error = client().put_manifest(&app, &large, &MediaType::Manifest, &[]).await.unwrap_err();
    assert!(matches!(error, ClientError::TooLarge { .. }), "{error}");
    let missing = Digest::of("missing");
    let error = client().manifest(&reference(&host, &format!("app@{missing}"))).await.unwrap_err();
    assert!(error.is_not_found() && error.to_string().ends_with("; check the name"), "{error}");
}
