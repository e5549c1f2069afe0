//! Connections that break, and answers that do not come.

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
    let desk = pulls(300_000, [Fault::Truncated { after: 20_000 }.times_on(Operation::BlobGet, 14)]).await;
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
        // The configuration, which is shorter than that, may come first and go through.
        pushes(9 << 20, [Fault::StallWhileReading { after }.times_on(Operation::UploadPut, 2)]).await;
    }
}

#[tokio::test]
async fn a_slow_answer() {
    let slow = Fault::Trickle { pause: Duration::from_millis(2) };
    pulls(1000, [slow.clone().always_on(Operation::BlobGet), slow.always_on(Operation::ManifestGet)]).await;
}
