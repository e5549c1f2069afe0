//! Taking blobs in: at once, in a stream, in chunks, or from another repository.

use std::sync::Arc;

use axum::{body::Body, response::Response};
use futures::StreamExt;
use http::{HeaderMap, StatusCode, header, request::Parts};
use longshore_oci::Digest;
use longshore_store::{Pump, RepositoryPath, Sink, StoreError, Upload, UploadId};

use crate::{
    api::{Answer, Api, UPLOAD_UUID, blocking, query, text},
    error::{ApiError, ApiResult},
    range::chunk,
};

/// `POST`: begins an upload, unless the blob comes along or is taken from another repository.
pub(crate) async fn begin(
    api: &Arc<Api>,
    repository: RepositoryPath,
    request: &Parts,
    body: Body,
) -> ApiResult {
    if let Some(digest) = digest_of(request)? {
        let name = repository.clone();
        let writer = fill(api.registry.blobs().writer(), body).await.map_err(Interrupted::into_error)?;
        blocking(api, move |api| {
            writer.commit_as(&digest, None)?;
            api.registry.link_blob(&repository, &digest)
        })
        .await?;
        return Ok(Answer::created(&name, "blobs", &digest).empty());
    }
    if let Some(mount) = query(request, "mount") {
        let digest: Digest = mount.parse().map_err(|error| ApiError::digest_invalid(&error))?;
        let from = query(request, "from").map(|from| from.parse::<RepositoryPath>()).transpose()?;
        let name = repository.clone();
        let mounted = blocking(api, move |api| {
            let size = match &from {
                Some(from) => api.registry.blob_size(from, &digest)?,
                // From wherever it is: nobody is authenticated here, so all can be pulled by whoever asks.
                None => api.registry.blobs().size_of(&digest)?,
            };
            if size.is_some() {
                api.registry.link_blob(&name, &digest)?;
            }
            Ok(size.is_some())
        })
        .await?;
        if mounted {
            return Ok(Answer::created(&repository, "blobs", &digest).empty());
        }
    }
    let name = repository.clone();
    let upload = blocking(api, move |api| api.registry.uploads().begin(&name)).await?;
    let answer = progress(StatusCode::ACCEPTED, &repository, upload.id(), 0);
    api.sessions.keep(upload);
    Ok(answer)
}

/// `GET`: how far an upload has got.
pub(crate) async fn status(api: &Arc<Api>, repository: RepositoryPath, id: UploadId) -> ApiResult {
    let name = repository.clone();
    let length = blocking(api, move |api| api.registry.uploads().length(&name, id)).await?;
    Ok(progress(StatusCode::NO_CONTENT, &repository, id, length))
}

/// `PATCH`: adds a chunk, or a stream of unknown length.
pub(crate) async fn append(
    api: &Arc<Api>,
    repository: RepositoryPath,
    id: UploadId,
    headers: &HeaderMap,
    body: Body,
) -> ApiResult {
    let upload = take(api, &repository, id, headers).await?;
    let upload = receive(api, upload, body).await?;
    let answer = progress(StatusCode::ACCEPTED, &repository, id, upload.length());
    api.sessions.keep(upload);
    Ok(answer)
}

/// `PUT`: ends an upload, perhaps with a last chunk.
pub(crate) async fn finish(
    api: &Arc<Api>,
    repository: RepositoryPath,
    id: UploadId,
    request: &Parts,
    body: Body,
) -> ApiResult {
    let Some(digest) = digest_of(request)? else {
        return Err(ApiError::bad_request(
            "DIGEST_INVALID",
            "the query has no digest to end the upload with",
        ));
    };
    let upload = match take(api, &repository, id, &request.headers).await {
        Err(error) if error.status == StatusCode::NOT_FOUND => {
            // A client whose first PUT succeeded, but who never read the answer, sends it again.
            let name = repository.clone();
            return match blocking(api, move |api| api.registry.blob_size(&name, &digest)).await? {
                Some(_) => Ok(Answer::created(&repository, "blobs", &digest).empty()),
                None => Err(error),
            };
        }
        upload => upload?,
    };
    let upload = receive(api, upload, body).await?;
    blocking(api, move |api| api.registry.commit_upload(upload, &digest)).await?;
    Ok(Answer::created(&repository, "blobs", &digest).empty())
}

/// `DELETE`: gives an upload up.
pub(crate) async fn cancel(api: &Arc<Api>, repository: RepositoryPath, id: UploadId) -> ApiResult {
    blocking(api, move |api| {
        api.registry.uploads().cancel(&repository, id)?;
        api.sessions.forget(id);
        Ok(())
    })
    .await?;
    Ok(Answer::new(StatusCode::NO_CONTENT).body(Body::empty()))
}

/// The digest that a query names.
fn digest_of(request: &Parts) -> ApiResult<Option<Digest>> {
    let digest = query(request, "digest").map(|digest| digest.parse());
    digest.transpose().map_err(|error| ApiError::digest_invalid(&error))
}

/// Takes an upload to write a chunk to it, which must begin where the upload ends.
async fn take(
    api: &Arc<Api>,
    repository: &RepositoryPath,
    id: UploadId,
    headers: &HeaderMap,
) -> ApiResult<Upload> {
    let name = repository.clone();
    let upload = blocking(api, move |api| api.sessions.take(&api.registry, &name, id)).await?;
    let Some(given) = text(headers, header::CONTENT_RANGE) else { return Ok(upload) };
    let length = upload.length();
    let announced = text(headers, header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    let fits = chunk(given).is_some_and(|(first, last)| {
        first == length && announced.is_none_or(|announced| announced == last - first + 1)
    });
    if fits {
        return Ok(upload);
    }
    api.sessions.keep(upload);
    let message = format!("chunk {given} does not follow on the {length} bytes that are there");
    let error = ApiError::new(StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID", message);
    Err(error.with(header::LOCATION, &location(repository, id)).with(header::RANGE, &extent(length)))
}

/// Writes a body to an upload. What arrived of a body that breaks off is kept, so that the client can go on from there.
async fn receive(api: &Arc<Api>, upload: Upload, body: Body) -> ApiResult<Upload> {
    fill(upload, body).await.map_err(|interrupted| match interrupted {
        Interrupted::Body(upload, message) => {
            api.sessions.keep(upload);
            Interrupted::<Upload>::broken(&message)
        }
        Interrupted::Store(error) => error.into(),
    })
}

/// Why a body was not written whole.
enum Interrupted<S> {
    /// The body broke off; what came before is in the sink.
    Body(S, String),
    /// The store failed.
    Store(StoreError),
}

impl<S> Interrupted<S> {
    fn into_error(self) -> ApiError {
        match self {
            Self::Body(_, message) => Self::broken(&message),
            Self::Store(error) => error.into(),
        }
    }

    fn broken(message: &str) -> ApiError {
        ApiError::bad_request("BLOB_UPLOAD_INVALID", format!("the blob did not arrive whole: {message}"))
    }
}

async fn fill<S: Sink>(sink: S, body: Body) -> Result<S, Interrupted<S>> {
    let mut pump = Pump::new(sink);
    let mut body = body.into_data_stream();
    while let Some(bytes) = body.next().await {
        match bytes {
            Ok(bytes) => pump.push(bytes).await.map_err(Interrupted::Store)?,
            Err(error) => {
                let sink = pump.finish().await.map_err(Interrupted::Store)?;
                return Err(Interrupted::Body(sink, error.to_string()));
            }
        }
    }
    pump.finish().await.map_err(Interrupted::Store)
}

fn location(repository: &RepositoryPath, id: UploadId) -> String {
    format!("/v2/{repository}/blobs/uploads/{id}")
}

/// The bytes that are there, first to last; `0-0` when there are none, as the distribution project writes it.
fn extent(length: u64) -> String {
    format!("0-{}", length.saturating_sub(1))
}

fn progress(status: StatusCode, repository: &RepositoryPath, id: UploadId, length: u64) -> Response {
    let answer = Answer::new(status)
        .header(header::LOCATION, &location(repository, id))
        .header(header::RANGE, &extent(length))
        .header(UPLOAD_UUID, &id);
    if status == StatusCode::NO_CONTENT { answer.body(Body::empty()) } else { answer.empty() }
}
