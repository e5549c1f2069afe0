//! Bytes, digests, lengths and ranges that are wrong.

use super::*;

#[tokio::test]
async fn wrong_bytes() {
    for operation in [Operation::BlobGet, Operation::ManifestGet] {
        fails!(pull(1000, [Fault::WrongBytes.always_on(operation)]).await, ClientError::WrongDigest { .. });
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
