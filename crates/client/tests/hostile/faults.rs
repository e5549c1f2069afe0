//! One thing goes wrong at a time, and what comes of it.

use std::time::Duration;

use longshore_client::ClientError;
use longshore_endpoint::Fault as Unreachable;
use longshore_oci::{Descriptor, Digest, Manifest, MediaType};
use longshore_testkit::{
    Fault, HostileConfig, MissingBlobs, Operation, RangeLie, Referrers, Rule, Seeded, Seen, WrongLocation,
};

use crate::{
    desk::{Desk, Entrance},
    image::{Image, Sink},
};

/// An image with one layer of this length.
fn image(length: usize) -> Image {
    Image::of(&mut Seeded::new(1), &[length])
}

/// A registry whose only defence against an incomplete image is the client.
fn trusting(entrance: Entrance) -> Desk {
    Desk::with(HostileConfig { missing_blobs: MissingBlobs::Taken, ..HostileConfig::default() }, entrance)
}

/// A push while this goes wrong.
async fn push(length: usize, rules: impl IntoIterator<Item = Rule>) -> (Desk, Result<(), ClientError>) {
    let (desk, image) = (trusting(Entrance::Tokens), image(length));
    rules.into_iter().for_each(|rule| desk.registry.plan(rule));
    let outcome = desk.push(&image, "team/app:1").await;
    assert!(desk.registry.broken_tags().is_empty(), "{:?}", desk.registry.broken_tags());
    assert!(desk.leaks().is_empty(), "{:?}", desk.leaks());
    assert!(desk.faults() > 0, "nothing went wrong: {}", desk.story());
    if outcome.is_ok() {
        assert_eq!(image.missing_in(&desk.registry, "team/app", "1"), [""; 0], "{}", desk.story());
    }
    (desk, outcome.map(drop))
}

/// A pull while this goes wrong.
async fn pull(length: usize, rules: impl IntoIterator<Item = Rule>) -> (Desk, Result<(), ClientError>) {
    let (desk, image, sink) = (trusting(Entrance::Tokens), image(length), Sink::default());
    image.store(&desk.registry, "team/app", "1");
    rules.into_iter().for_each(|rule| desk.registry.plan(rule));
    let outcome = desk.pull(&sink, "team/app:1").await;
    assert!(desk.leaks().is_empty(), "{:?}", desk.leaks());
    assert!(desk.faults() > 0, "nothing went wrong: {}", desk.story());
    let kept = sink.kept();
    assert!(kept.wrong.is_empty(), "{:?}", kept.wrong);
    match &outcome {
        Ok(_) => assert!(kept.blobs == image.blobs && kept.manifests == image.manifests),
        Err(_) => assert!(kept.manifests.is_empty(), "no part of an image is an image"),
    }
    drop(kept);
    (desk, outcome.map(drop))
}

async fn pushes(length: usize, rules: impl IntoIterator<Item = Rule>) -> Desk {
    let (desk, outcome) = push(length, rules).await;
    outcome.unwrap_or_else(|error| panic!("{error}\n{}", desk.story()));
    desk
}

async fn pulls(length: usize, rules: impl IntoIterator<Item = Rule>) -> Desk {
    let (desk, outcome) = pull(length, rules).await;
    outcome.unwrap_or_else(|error| panic!("{error}\n{}", desk.story()));
    desk
}

fn requests(desk: &Desk, operation: Operation) -> Vec<Seen> {
    desk.registry.seen().into_iter().filter(|seen| seen.operation == Some(operation)).collect()
}

/// Matches an outcome, and shows it otherwise.
macro_rules! fails {
    ($outcome:expr, $pattern:pat $(if $guard:expr)?) => {
        let (desk, outcome) = $outcome;
        assert!(matches!(&outcome, Err($pattern) $(if $guard)?), "{outcome:?}\n{}", desk.story());
    };
}

mod connections {
    use super::*;

    #[tokio::test]
    async fn a_reset_before_anything_was_done() {
        for operation in [
            Operation::ManifestHead,
            Operation::BlobHead,
            Operation::UploadBegin,
            Operation::UploadPut,
            Operation::ManifestPut,
        ] {
            pushes(1000, [Fault::ResetAtOnce.times_on(operation, 3)]).await;
        }
        for operation in [Operation::ManifestGet, Operation::BlobGet] {
            pulls(1000, [Fault::ResetAtOnce.times_on(operation, 3)]).await;
        }
    }

    #[tokio::test]
    async fn a_reset_while_a_blob_is_sent() {
        let desk =
            pushes(200_000, [Fault::ResetWhileReading { after: 50_000 }.times_on(Operation::UploadPut, 2)]);
        let desk = desk.await;
        let resumed = requests(&desk, Operation::UploadPatch);
        let starts: Vec<_> = resumed.iter().filter_map(|seen| seen.content_range.as_deref()).collect();
        assert!(starts.contains(&"50000-199999"), "it goes on where it was cut: {}", desk.story());
    }

    #[tokio::test]
    async fn a_reset_after_a_blob_was_kept() {
        let desk = pushes(200_000, [Fault::ResetAfterCommit.times_on(Operation::UploadPut, 2)]).await;
        assert_eq!(desk.registry.count(Operation::UploadPut), 2, "each is sent once: {}", desk.story());
    }

    #[tokio::test]
    async fn a_reset_after_a_manifest_was_kept() {
        pushes(10, [Fault::ResetAfterCommit.times_on(Operation::ManifestPut, 2)]).await;
    }

    #[tokio::test]
    async fn resets_without_end() {
        fails!(
            push(10, [Fault::ResetAtOnce.always_on(Operation::UploadBegin)]).await,
            ClientError::Unreachable { fault: Unreachable::Broken { .. }, .. }
        );
    }

    #[tokio::test]
    async fn a_blob_that_breaks_off() {
        for fault in [Fault::ResetWhileAnswering { after: 100_000 }, Fault::Truncated { after: 100_000 }] {
            let desk = pulls(300_000, [fault.clone().times_on(Operation::BlobGet, 3)]).await;
            let ranges: Vec<_> =
                requests(&desk, Operation::BlobGet).into_iter().filter_map(|seen| seen.range).collect();
            assert!(!ranges.is_empty(), "{fault:?}: it goes on where it broke off: {}", desk.story());
        }
    }

    #[tokio::test]
    async fn a_blob_that_always_breaks_off_arrives_as_long_as_it_makes_headway() {
        let desk =
            pulls(300_000, [Fault::Truncated { after: 20_000 }.times_on(Operation::BlobGet, 14)]).await;
        assert!(desk.registry.count(Operation::BlobGet) > 14);
    }

    #[tokio::test]
    async fn a_manifest_that_breaks_off() {
        pulls(10, [Fault::Truncated { after: 60 }.times_on(Operation::ManifestGet, 3)]).await;
        pulls(10, [Fault::ResetWhileAnswering { after: 60 }.times_on(Operation::ManifestGet, 3)]).await;
    }

    #[tokio::test]
    async fn silence() {
        let stall = Fault::Stall { after: 20 };
        pulls(10, [stall.clone().once_on(Operation::ManifestGet)]).await;
        pulls(300_000, [Fault::Stall { after: 100_000 }.once_on(Operation::BlobGet)]).await;
        pushes(10, [stall.clone().once_on(Operation::UploadPut)]).await;
        fails!(
            pull(10, [stall.always_on(Operation::ManifestGet)]).await,
            ClientError::Unreachable { fault: Unreachable::Silence { .. }, .. }
        );
    }

    #[tokio::test]
    async fn a_registry_that_stops_reading() {
        for after in [0, 100_000] {
            pushes(9 << 20, [Fault::StallWhileReading { after }.once_on(Operation::UploadPut)]).await;
        }
    }

    #[tokio::test]
    async fn a_slow_answer() {
        let slow = Fault::Trickle { pause: Duration::from_millis(2) };
        pulls(1000, [slow.clone().always_on(Operation::BlobGet), slow.always_on(Operation::ManifestGet)])
            .await;
    }
}

mod refusals {
    use super::*;

    #[tokio::test]
    async fn too_many_requests() {
        for retry_after in [None, Some(0), Some(3600)] {
            let fault = Fault::TooManyRequests { retry_after };
            pushes(10, [fault.clone().times_on(Operation::UploadPut, 2)]).await;
            pulls(10, [fault.clone().times_on(Operation::ManifestGet, 2)]).await;
            fails!(
                pull(10, [fault.always_on(Operation::BlobGet)]).await,
                error @ ClientError::RateLimited { .. } if error.is_retryable()
            );
        }
    }

    #[tokio::test]
    async fn a_server_error_before_anything_was_done() {
        for status in [500, 502, 503, 504] {
            let fault = Fault::Refused { status };
            for operation in
                [Operation::BlobHead, Operation::UploadBegin, Operation::UploadPut, Operation::ManifestPut]
            {
                pushes(10, [fault.clone().times_on(operation, 2)]).await;
            }
            pulls(10, [fault.clone().times_on(Operation::BlobGet, 2)]).await;
            fails!(
                push(10, [fault.always_on(Operation::ManifestPut)]).await,
                error @ ClientError::Refused { status: found, .. }
                    if found.as_u16() == status && error.is_retryable()
            );
        }
    }

    #[tokio::test]
    async fn a_server_error_after_everything_was_done() {
        for status in [500, 502, 503, 504] {
            let fault = Fault::RefusedAfterCommit { status };
            let desk = pushes(200_000, [fault.clone().times_on(Operation::UploadPut, 2)]).await;
            assert_eq!(desk.registry.count(Operation::UploadPut), 2, "{}", desk.story());
            pushes(10, [fault.times_on(Operation::ManifestPut, 2)]).await;
        }
    }

    #[tokio::test]
    async fn a_page_for_people() {
        fails!(
            pull(10, [Fault::Html.always_on(Operation::ManifestGet)]).await,
            ClientError::NotRegistry { .. }
        );
        fails!(
            pull(10, [Fault::Html.always_on(Operation::BlobGet)]).await,
            ClientError::WrongSize { .. } | ClientError::NotRegistry { .. } | ClientError::WrongDigest { .. }
        );
        for operation in [Operation::UploadBegin, Operation::UploadPut, Operation::ManifestPut] {
            let (desk, outcome) = push(10, [Fault::Html.always_on(operation)]).await;
            assert!(outcome.is_err(), "{operation:?}: {}", desk.story());
        }
        // Once, as when a proxy hiccups.
        for operation in [Operation::UploadPut, Operation::ManifestHead, Operation::BlobHead] {
            pushes(10, [Fault::Html.once_on(operation)]).await;
        }
    }

    #[tokio::test]
    async fn a_token_that_expires_in_the_middle() {
        for operation in [Operation::UploadPut, Operation::ManifestPut] {
            pushes(200_000, [Fault::TokensExpire.once_on(operation)]).await;
        }
        pulls(200_000, [Fault::TokensExpire.once_on(Operation::BlobGet)]).await;
        pushes(
            5 << 20,
            [
                Fault::BodyCap { most: 4 << 20 }.always_on(Operation::UploadPut),
                Fault::TokensExpire.once_on(Operation::UploadPatch).after(1),
            ],
        )
        .await;
    }

    #[tokio::test]
    async fn a_challenge_that_nothing_meets() {
        for operation in [Operation::UploadBegin, Operation::UploadPut, Operation::ManifestPut] {
            fails!(
                push(10, [Fault::NeverAuthorized.always_on(operation)]).await,
                ClientError::Unauthorized { .. } | ClientError::Denied { .. }
            );
        }
    }
}

mod bytes {
    use super::*;

    #[tokio::test]
    async fn wrong_bytes() {
        for operation in [Operation::BlobGet, Operation::ManifestGet] {
            fails!(
                pull(1000, [Fault::WrongBytes.always_on(operation)]).await,
                ClientError::WrongDigest { .. }
            );
        }
    }

    #[tokio::test]
    async fn more_bytes_than_there_should_be() {
        fails!(
            pull(1000, [Fault::LongerBytes.always_on(Operation::BlobGet)]).await,
            ClientError::WrongSize { .. } | ClientError::WrongDigest { .. }
        );
    }

    #[tokio::test]
    async fn a_header_with_another_digest() {
        // What counts is the digest of the bytes.
        for operation in
            [Operation::ManifestHead, Operation::BlobHead, Operation::UploadPut, Operation::ManifestPut]
        {
            let (desk, outcome) = push(1000, [Fault::WrongDigestHeader.always_on(operation)]).await;
            assert!(outcome.is_ok(), "{operation:?}: {outcome:?}\n{}", desk.story());
        }
        pulls(1000, [Fault::WrongDigestHeader.always_on(Operation::BlobGet)]).await;
        fails!(
            pull(1000, [Fault::WrongDigestHeader.always_on(Operation::ManifestGet)]).await,
            ClientError::WrongDigest { .. }
        );
    }

    #[tokio::test]
    async fn a_range_that_is_another_one() {
        let broken = || Fault::Truncated { after: 100_000 }.once_on(Operation::BlobGet);
        pulls(300_000, [broken(), Fault::RangeLie(RangeLie::Ignored).always_on(Operation::BlobGet)]).await;
        for lie in [RangeLie::Shifted, RangeLie::Silent] {
            pulls(300_000, [broken(), Fault::RangeLie(lie).once_on(Operation::BlobGet)]).await;
        }
    }

    #[tokio::test]
    async fn a_head_without_a_length() {
        let (desk, image) = (Desk::new(), image(1000));
        assert!(desk.push(&image, "team/app:1").await.is_ok());
        for operation in [Operation::ManifestHead, Operation::BlobHead] {
            desk.registry.plan(Fault::NoLength.always_on(operation));
        }
        let begun = desk.registry.count(Operation::UploadBegin);
        assert!(desk.push(&image, "team/app:2").await.is_ok(), "{}", desk.story());
        assert_eq!(desk.registry.count(Operation::UploadBegin), begun, "nothing is sent again");
        assert_eq!(desk.registry.tags("team/app"), ["1", "2"]);
    }
}

mod uploads {
    use super::*;

    #[tokio::test]
    async fn a_location_that_leads_nowhere() {
        for wrong in [WrongLocation::Unknown, WrongLocation::Nobody] {
            pushes(10, [Fault::Location(wrong).once_on(Operation::UploadBegin)]).await;
        }
        for wrong in [WrongLocation::Missing, WrongLocation::Garbage] {
            fails!(
                push(10, [Fault::Location(wrong).always_on(Operation::UploadBegin)]).await,
                ClientError::Protocol { .. } | ClientError::Elsewhere { .. }
            );
        }
    }

    #[tokio::test]
    async fn a_location_on_another_host_is_sent_no_credentials() {
        let desk =
            pushes(200_000, [Fault::Location(WrongLocation::Elsewhere).always_on(Operation::UploadBegin)])
                .await;
        let puts = requests(&desk, Operation::UploadPut);
        assert!(puts.iter().all(|seen| seen.authorization.is_none()), "{}", desk.story());
    }

    #[tokio::test]
    async fn chunks_where_a_whole_blob_is_refused() {
        let desk = pushes(
            9 << 20,
            [
                Fault::BodyCap { most: 4 << 20 }.always_on(Operation::UploadPut),
                Fault::ChunkCap { most: 4 << 20 }.always_on(Operation::UploadPatch),
                Fault::CreatedToPatch.always_on(Operation::UploadPatch),
            ],
        )
        .await;
        let chunks = requests(&desk, Operation::UploadPatch);
        assert!(chunks.iter().all(|seen| seen.length.is_some_and(|length| length <= 4 << 20)));
    }

    #[tokio::test]
    async fn chunks_answered_with_created() {
        pushes(
            9 << 20,
            [
                Fault::BodyCap { most: 4 << 20 }.always_on(Operation::UploadPut),
                Fault::CreatedToPatch.always_on(Operation::UploadPatch),
            ],
        )
        .await;
    }

    #[tokio::test]
    async fn a_registry_that_takes_neither() {
        let (_, outcome) = push(
            9 << 20,
            [
                Fault::BodyCap { most: 100 }.always_on(Operation::UploadPut),
                Fault::BodyCap { most: 100 }.always_on(Operation::UploadPatch),
            ],
        )
        .await;
        assert!(outcome.is_err());
    }

    #[tokio::test]
    async fn only_the_last_chunk_is_kept() {
        let cap = || Fault::BodyCap { most: 4 << 20 }.always_on(Operation::UploadPut);
        let lost = || Fault::LastChunkOnly.always_on(Operation::UploadPut);
        // Also when nobody says how long the blob is.
        let unsaid = || Fault::NoLength.always_on(Operation::BlobHead);
        for rules in [vec![cap(), lost()], vec![cap(), lost(), unsaid()]] {
            let (desk, outcome) = push(9 << 20, rules).await;
            assert!(outcome.is_err() && desk.registry.tags("team/app").is_empty(), "{}", desk.story());
        }
        // A blob that came in parts because it was cut can be sent whole.
        let cut = || Fault::ResetWhileReading { after: 50_000 }.once_on(Operation::UploadPut);
        for rules in [vec![cut(), lost()], vec![cut(), lost(), unsaid()]] {
            pushes(200_000, rules).await;
        }
    }

    #[tokio::test]
    async fn less_was_received_than_was_sent() {
        pushes(
            9 << 20,
            [
                Fault::BodyCap { most: 4 << 20 }.always_on(Operation::UploadPut),
                Fault::UploadRangeLie.once_on(Operation::UploadPatch),
            ],
        )
        .await;
    }

    #[tokio::test]
    async fn a_mount_that_is_refused() {
        for fault in [Fault::MountRefused, Fault::Refused { status: 405 }, Fault::Refused { status: 403 }] {
            let (desk, image) = (Desk::new(), image(1000));
            image.store(&desk.registry, "team/base", "1");
            desk.registry.plan(fault.clone().always_on(Operation::Mount));
            let outcome = desk.push_from(&image, "team/app:1", &[desk.repository("team/base")]).await;
            let outcome = outcome.unwrap_or_else(|error| panic!("{fault:?}: {error}\n{}", desk.story()));
            assert_eq!((outcome.repositories[0].mounted, outcome.repositories[0].uploaded), (0, 2));
            assert_eq!(image.missing_in(&desk.registry, "team/app", "1"), [""; 0]);
        }
    }
}

mod places {
    use super::*;

    #[tokio::test]
    async fn a_blob_that_is_elsewhere() {
        pulls(200_000, [Fault::Redirect.always_on(Operation::BlobGet).after(1)]).await;
        // There it breaks off, too.
        pulls(
            300_000,
            [
                Fault::Redirect.once_on(Operation::BlobGet),
                Fault::Truncated { after: 100_000 }.times_on(Operation::BlobGet, 2),
            ],
        )
        .await;
    }

    #[tokio::test]
    async fn a_redirect_to_itself() {
        let (_, outcome) = pull(10, [Fault::RedirectLoop.always_on(Operation::BlobGet)]).await;
        assert!(outcome.is_err());
        let (_, outcome) = pull(10, [Fault::RedirectLoop.always_on(Operation::ManifestGet)]).await;
        assert!(outcome.is_err());
    }

    #[tokio::test]
    async fn pages_that_lead_back() {
        let desk = Desk::new();
        image(10).store(&desk.registry, "team/app", "1");
        for (operation, is_catalog) in [(Operation::Tags, false), (Operation::Catalog, true)] {
            desk.registry.plan(Fault::PagingLoop.always_on(operation));
            let listed = if is_catalog {
                desk.client.catalog(&desk.registry.host()).await.map(drop)
            } else {
                desk.client.tags(&desk.repository("team/app")).await.map(drop)
            };
            assert!(matches!(listed, Err(ClientError::Protocol { .. })), "{listed:?}");
            assert!(desk.registry.count(operation) < 4);
        }
    }

    #[tokio::test]
    async fn no_referrers_api() {
        let config = HostileConfig { referrers: Referrers::Missing, ..HostileConfig::default() };
        let (desk, image) = (Desk::with(config, Entrance::Open), image(10));
        image.store(&desk.registry, "team/app", "1");
        let repository = desk.repository("team/app");
        let config = Descriptor::of(MediaType::Empty, b"{}");
        desk.registry.put_blob("team/app", &b"{}"[..]);
        let mut said = Vec::new();
        for kind in ["application/vnd.a", "application/vnd.b"] {
            let mut manifest = Manifest::image(config.clone(), vec![]);
            manifest.subject = Some(image.root.clone());
            manifest.artifact_type = Some(kind.to_owned());
            // The list is kept under a tag, and kept when a request of it fails.
            desk.registry.plan(Fault::ResetAtOnce.once_on(Operation::ManifestGet));
            let bytes = manifest.to_bytes();
            let put = desk.client.put_manifest(&repository, &bytes, &MediaType::Manifest, &[]).await;
            said.push(put.unwrap());
        }
        let found = desk.client.referrers(&repository, &image.root.digest, None).await.unwrap();
        let mut found: Vec<Digest> = found.manifests.iter().map(|found| found.digest).collect();
        found.sort_unstable();
        said.sort_unstable();
        assert_eq!(found, said);
        let tag = format!("sha256-{}", image.root.digest.hex());
        assert!(desk.registry.tags("team/app").contains(&tag));
    }
}
