//! The way from a request to its answer.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts};
use longshore_oci::Digest;
use longshore_store::{Registry, RepositoryPath};

use crate::{
    blobs,
    error::{ApiError, ApiResult},
    listing, manifests, referrers,
    route::Route,
    sessions::Sessions,
    uploads,
};

/// What all requests share.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) registry: Registry,
    pub(crate) sessions: Sessions,
}

/// The digest of what an answer is about.
pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// The name of an upload.
pub(crate) const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// The distribution API over a registry, to be served or tested.
pub fn router(registry: Registry) -> Router {
    let api = Arc::new(Api { registry, sessions: Sessions::default() });
    Router::new().fallback(answer).with_state(api)
}

async fn answer(State(api): State<Arc<Api>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let result = match Route::parse(parts.uri.path()) {
        Ok(route) => dispatch(api, route, &parts, body).await,
        Err(error) => Err(error),
    };
    let mut response = result.unwrap_or_else(IntoResponse::into_response);
    let version = HeaderName::from_static("docker-distribution-api-version");
    response.headers_mut().insert(version, HeaderValue::from_static("registry/2.0"));
    tracing::debug!(method = %parts.method, path = parts.uri.path(), status = response.status().as_u16());
    if parts.method == Method::HEAD {
        // The headers say what the body would be.
        *response.body_mut() = Body::empty();
    }
    response
}

async fn dispatch(api: Arc<Api>, route: Route, request: &Parts, body: Body) -> ApiResult {
    let reads = matches!(request.method, Method::GET | Method::HEAD);
    match (route, &request.method) {
        (Route::Base, _) if reads => Ok(Answer::new(StatusCode::OK).json("{}")),
        (Route::Catalog, &Method::GET) => listing::repositories(&api, request).await,
        (Route::Tags(repository), &Method::GET) => listing::tags(&api, repository, request).await,
        (Route::Manifest(repository, reference), _) if reads => {
            manifests::get(&api, repository, reference).await
        }
        (Route::Manifest(repository, reference), &Method::PUT) => {
            manifests::put(&api, repository, reference, &request.headers, body).await
        }
        (Route::Manifest(repository, reference), &Method::DELETE) => {
            manifests::delete(&api, repository, reference).await
        }
        (Route::Referrers(repository, subject), &Method::GET) => {
            referrers::list(&api, repository, subject, request).await
        }
        (Route::Blob(repository, digest), _) if reads => blobs::get(&api, repository, digest, request).await,
        (Route::Blob(repository, digest), &Method::DELETE) => blobs::delete(&api, repository, digest).await,
        (Route::Uploads(repository), &Method::POST) => uploads::begin(&api, repository, request, body).await,
        (Route::Upload(repository, id), &Method::GET) => uploads::status(&api, repository, id).await,
        (Route::Upload(repository, id), &Method::PATCH) => {
            uploads::append(&api, repository, id, &request.headers, body).await
        }
        (Route::Upload(repository, id), &Method::PUT) => {
            uploads::finish(&api, repository, id, request, body).await
        }
        (Route::Upload(repository, id), &Method::DELETE) => uploads::cancel(&api, repository, id).await,
        _ => Err(ApiError::method_not_allowed()),
    }
}

/// Runs something that may wait for the disk where waiting harms nobody.
pub(crate) async fn blocking<T: Send + 'static>(
    api: &Arc<Api>,
    work: impl FnOnce(&Api) -> longshore_store::Result<T> + Send + 'static,
) -> ApiResult<T> {
    let api = Arc::clone(api);
    match tokio::task::spawn_blocking(move || work(&api)).await {
        Ok(result) => Ok(result?),
        Err(error) => {
            tracing::error!(%error, "a request failed");
            Err(ApiError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "UNKNOWN",
                "the registry failed; its log says why",
            ))
        }
    }
}

/// Puts an answer together.
pub(crate) struct Answer(http::response::Parts);

impl Answer {
    pub(crate) fn new(status: StatusCode) -> Self {
        let (mut parts, ()) = Response::new(()).into_parts();
        parts.status = status;
        Self(parts)
    }

    pub(crate) fn header(mut self, name: HeaderName, value: &impl ToString) -> Self {
        // All values are ours or were checked: names, digests, numbers.
        if let Ok(value) = HeaderValue::try_from(value.to_string()) {
            self.0.headers.insert(name, value);
        }
        self
    }

    /// Where the thing is, and its digest.
    pub(crate) fn created(repository: &RepositoryPath, kind: &str, digest: &Digest) -> Self {
        Self::new(StatusCode::CREATED)
            .header(header::LOCATION, &format!("/v2/{repository}/{kind}/{digest}"))
            .header(CONTENT_DIGEST, digest)
    }

    pub(crate) fn body(self, body: Body) -> Response {
        Response::from_parts(self.0, body)
    }

    pub(crate) fn empty(self) -> Response {
        self.header(header::CONTENT_LENGTH, &0).body(Body::empty())
    }

    pub(crate) fn json(self, text: impl Into<String>) -> Response {
        let text = text.into();
        self.header(header::CONTENT_TYPE, &"application/json")
            .header(header::CONTENT_LENGTH, &text.len())
            .body(Body::from(text))
    }
}

/// A header as text.
pub(crate) fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// The values of a query, decoded.
pub(crate) fn query<'a>(request: &'a Parts, name: &str) -> Option<std::borrow::Cow<'a, str>> {
    let query = request.uri.query()?;
    let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    percent_encoding::percent_decode_str(value).decode_utf8().ok()
}
