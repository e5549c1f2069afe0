//! Uploads that are refused, lost or led astray.

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
        pushes(200_000, [Fault::Location(WrongLocation::Elsewhere).always_on(Operation::UploadBegin)]).await;
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
