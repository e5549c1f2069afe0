//! Manifests.

use std::sync::Arc;

use axum::body::Body;
use http::{HeaderMap, HeaderName, StatusCode, header};
use longshore_oci::{Digest, MediaType};
use longshore_store::{MANIFEST_LIMIT, RepositoryPath, StoreError, TagOrDigest, subject_of};
use serde::Deserialize;

use crate::{
    api::{Answer, Api, CONTENT_DIGEST, blocking, text},
    error::{ApiError, ApiResult},
};

/// A manifest as it was put, with the type that it was put with: there is nothing to negotiate about, since a
/// conversion would have another digest.
pub(crate) async fn get(api: &Arc<Api>, repository: RepositoryPath, reference: TagOrDigest) -> ApiResult {
    let manifest = blocking(api, move |api| api.registry.manifest(&repository, reference)).await?;
    Ok(Answer::new(StatusCode::OK)
        .header(header::CONTENT_TYPE, &manifest.media_type)
        .header(header::CONTENT_LENGTH, &manifest.bytes.len())
        .header(header::ETAG, &format!("\"{}\"", manifest.digest))
        .header(CONTENT_DIGEST, &manifest.digest)
        .body(Body::from(manifest.bytes)))
}

pub(crate) async fn put(
    api: &Arc<Api>,
    repository: RepositoryPath,
    reference: TagOrDigest,
    headers: &HeaderMap,
    body: Body,
) -> ApiResult {
    let limit = usize::try_from(MANIFEST_LIMIT).unwrap_or(usize::MAX);
    let announced = text(headers, header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    let too_large = |size| ApiError::from(StoreError::ManifestTooLarge { size, limit: MANIFEST_LIMIT });
    if let Some(size) = announced.filter(|size| *size > MANIFEST_LIMIT) {
        return Err(too_large(size));
    }
    let Ok(bytes) = axum::body::to_bytes(body, limit).await else {
        return Err(match announced {
            Some(_) => ApiError::bad_request("MANIFEST_INVALID", "the manifest did not arrive whole"),
            None => too_large(MANIFEST_LIMIT + 1),
        });
    };
    let media_type = media_type(headers, &bytes)?;
    let name = repository.clone();
    let subject = subject_of(&bytes);
    let digest = blocking(api, move |api| {
        let tag = match &reference {
            TagOrDigest::Tag(tag) => Some(tag),
            TagOrDigest::Digest(expected) => match Digest::of(&bytes) {
                found if found == *expected => None,
                found => return Err(StoreError::DigestMismatch { expected: *expected, found }),
            },
        };
        api.registry.put_foreign_manifest(&repository, &bytes, &media_type, tag)
    })
    .await?;
    let answer = Answer::created(&name, "manifests", &digest);
    Ok(match subject {
        // The client need not keep a list of its own ("Pushing Manifests with Subject").
        Some(subject) => answer.header(HeaderName::from_static("oci-subject"), &subject).empty(),
        None => answer.empty(),
    })
}

/// The type that a manifest is put with: the header's, else the one in the manifest.
fn media_type(headers: &HeaderMap, bytes: &[u8]) -> ApiResult<MediaType> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Typed {
        media_type: MediaType,
    }
    if let Some(given) = text(headers, header::CONTENT_TYPE) {
        let (name, _) = given.split_once(';').unwrap_or((given, ""));
        return Ok(MediaType::from(name.trim()));
    }
    serde_json::from_slice::<Typed>(bytes).map(|typed| typed.media_type).map_err(|_| {
        ApiError::bad_request(
            "MANIFEST_INVALID",
            "the manifest has a media type neither as Content-Type nor inside",
        )
    })
}

pub(crate) async fn delete(api: &Arc<Api>, repository: RepositoryPath, reference: TagOrDigest) -> ApiResult {
    blocking(api, move |api| {
        let was_there = match &reference {
            TagOrDigest::Tag(tag) => api.registry.delete_tag(&repository, tag)?,
            TagOrDigest::Digest(digest) => api.registry.delete_manifest(&repository, digest)?,
        };
        if was_there { Ok(()) } else { Err(StoreError::ManifestUnknown { repository, reference }) }
    })
    .await?;
    Ok(Answer::new(StatusCode::ACCEPTED).empty())
}
