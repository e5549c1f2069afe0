//! Reading and removing blobs.

use std::{
    io::{self, Read, Seek, SeekFrom},
    sync::Arc,
};

use axum::body::Body;
use bytes::Bytes;
use futures::{Stream, stream};
use http::{StatusCode, header, request::Parts};
use longshore_oci::Digest;
use longshore_store::{Blob, RepositoryPath, Result, StoreError};

use crate::{
    api::{Answer, Api, CONTENT_DIGEST, blocking, text},
    error::{ApiError, ApiResult},
    range::Asked,
};

/// How much is read at once; with 4 KiB a server spends its time on hand-overs.
const PIECE: u64 = 512 << 10;

pub(crate) async fn get(
    api: &Arc<Api>,
    repository: RepositoryPath,
    digest: Digest,
    request: &Parts,
) -> ApiResult {
    let (mut blob, size) = blocking(api, move |api| open(api, &repository, &digest)).await?;
    let answer = |status| {
        Answer::new(status)
            .header(CONTENT_DIGEST, &digest)
            .header(header::ETAG, &format!("\"{digest}\""))
            .header(header::ACCEPT_RANGES, &"bytes")
            .header(header::CONTENT_TYPE, &"application/octet-stream")
            // What a digest names never changes.
            .header(header::CACHE_CONTROL, &"max-age=31536000, immutable")
    };
    let known = text(&request.headers, header::IF_NONE_MATCH);
    if known.is_some_and(|known| known.contains(&digest.to_string())) {
        return Ok(answer(StatusCode::NOT_MODIFIED).body(Body::empty()));
    }
    let (status, range) = match Asked::parse(text(&request.headers, header::RANGE), size) {
        Asked::Whole => (StatusCode::OK, 0..size),
        Asked::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Asked::Nothing => {
            let message = format!("the blob has {size} bytes; the range lies behind them");
            let error = ApiError::new(StatusCode::RANGE_NOT_SATISFIABLE, "SIZE_INVALID", message);
            return Err(error.with(header::CONTENT_RANGE, &format!("bytes */{size}")));
        }
    };
    let mut answer = answer(status).header(header::CONTENT_LENGTH, &(range.end - range.start));
    if status == StatusCode::PARTIAL_CONTENT {
        let bytes = format!("bytes {}-{}/{size}", range.start, range.end - 1);
        answer = answer.header(header::CONTENT_RANGE, &bytes);
    }
    if request.method == http::Method::HEAD {
        return Ok(answer.body(Body::empty()));
    }
    if range.start > 0 && blob.seek(SeekFrom::Start(range.start)).is_err() {
        return Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", "the blob cannot be read"));
    }
    Ok(answer.body(Body::from_stream(pieces(blob, range.end - range.start))))
}

fn open(api: &Api, repository: &RepositoryPath, digest: &Digest) -> Result<(Blob, u64)> {
    let missing = || StoreError::BlobMissing { digest: *digest, root: repository.as_str().into() };
    let size = api.registry.blob_size(repository, digest)?.ok_or_else(missing)?;
    Ok((api.registry.blobs().open_blob(digest)?, size))
}

/// The next `left` bytes of a blob. While one piece is sent the next is read.
fn pieces(blob: Blob, left: u64) -> impl Stream<Item = io::Result<Bytes>> {
    let read = |mut blob: Blob, left: u64| {
        tokio::task::spawn_blocking(move || {
            let mut piece = Vec::with_capacity(usize::try_from(left.min(PIECE)).unwrap_or_default());
            match (&mut blob).take(left.min(PIECE)).read_to_end(&mut piece)? {
                0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
                _ => Ok((blob, piece)),
            }
        })
    };
    let first = (left > 0).then(|| (read(blob, left), left));
    stream::try_unfold(first, move |state| async move {
        let Some((reading, left)) = state else { return Ok(None) };
        let (blob, piece) = reading.await.map_err(io::Error::other)??;
        let left = left - piece.len() as u64;
        let next = (left > 0).then(|| (read(blob, left), left));
        Ok(Some((Bytes::from(piece), next)))
    })
}

pub(crate) async fn delete(api: &Arc<Api>, repository: RepositoryPath, digest: Digest) -> ApiResult {
    let root = repository.as_str().into();
    if blocking(api, move |api| api.registry.unlink_blob(&repository, &digest)).await? {
        Ok(Answer::new(StatusCode::ACCEPTED).empty())
    } else {
        Err(StoreError::BlobMissing { digest, root }.into())
    }
}
