//! Registries that say no, or not now.

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
    fails!(pull(10, [Fault::Html.always_on(Operation::ManifestGet)]).await, ClientError::NotRegistry { .. });
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

#[tokio::test]
async fn a_token_service_that_does_not_work_now() {
    for (times, status) in [(4, 503), (4, 500), (4, 429)] {
        let (desk, image) = (trusting(Entrance::Tokens), image(1000));
        desk.tokens.as_ref().unwrap().fail(times, status);
        let outcome = desk.push(&image, "team/app:1").await;
        assert!(outcome.is_ok(), "{status}: {outcome:?}\n{}", desk.story());
    }
    let (desk, image) = (trusting(Entrance::Tokens), image(1000));
    desk.tokens.as_ref().unwrap().fail(1000, 401);
    let outcome = desk.push(&image, "team/app:1").await;
    assert!(matches!(outcome, Err(ClientError::Unauthorized { .. })), "{outcome:?}");
    desk.behave();
    assert!(desk.push(&image, "team/app:1").await.is_ok(), "the same client, later");
}
