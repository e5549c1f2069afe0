//! What can go wrong, for those who run the server and for those who ask it.

use std::{io, net::SocketAddr};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use longshore_oci::{DigestError, ReferenceError};
use longshore_store::StoreError;
use serde_json::json;

/// Why a server could not be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// Others could reach the address, and anybody who can reach the server may push and delete.
    #[error(
        "not listening on {0}: whoever can reach that address could push and delete, since the registry does not \
         authenticate anybody; listen on a loopback address such as 127.0.0.1, or allow it explicitly"
    )]
    Exposed(SocketAddr),
    /// The address cannot be had.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The server stopped.
    #[error("the registry stopped: {0}")]
    Serve(io::Error),
    /// The folder cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An answer that says what went wrong (distribution specification, "Error Codes").
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    code: &'static str,
    message: String,
    headers: Vec<(header::HeaderName, HeaderValue)>,
}

pub(crate) type ApiResult<T = Response> = Result<T, ApiError>;

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), headers: Vec::new() }
    }

    pub(crate) fn no_such_page() -> Self {
        Self::new(StatusCode::NOT_FOUND, "UNSUPPORTED", "the registry has no such end point")
    }

    pub(crate) fn method_not_allowed() -> Self {
        let message = "this end point does not know the method";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", message)
    }

    pub(crate) fn digest_invalid(error: &DigestError) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", error.to_string())
    }

    /// Nothing can have such a tag.
    pub(crate) fn tag_invalid(error: &ReferenceError) -> Self {
        Self::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", error.to_string())
    }

    pub(crate) fn upload_unknown(id: &str) -> Self {
        let message = format!("there is no upload {id}; begin a new one");
        Self::new(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", message)
    }

    pub(crate) fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(crate) fn with(mut self, name: header::HeaderName, value: &str) -> Self {
        self.headers.extend(HeaderValue::try_from(value).map(|value| (name, value)));
        self
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let (status, code) = match &error {
            StoreError::BlobMissing { .. } => (StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
            StoreError::RepositoryUnknown(_) => (StatusCode::NOT_FOUND, "NAME_UNKNOWN"),
            StoreError::ManifestUnknown { .. } => (StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"),
            StoreError::UploadUnknown { .. } => (StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN"),
            StoreError::UploadBusy(_) => (StatusCode::CONFLICT, "BLOB_UPLOAD_INVALID"),
            StoreError::Name(_) => (StatusCode::BAD_REQUEST, "NAME_INVALID"),
            StoreError::DigestMismatch { .. } => (StatusCode::BAD_REQUEST, "DIGEST_INVALID"),
            StoreError::SizeMismatch { .. } => (StatusCode::BAD_REQUEST, "SIZE_INVALID"),
            StoreError::ManifestTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "MANIFEST_INVALID"),
            StoreError::ManifestInvalid(_)
            | StoreError::ManifestAmbiguous { .. }
            | StoreError::ManifestUnsupported(_)
            | StoreError::ReferenceSize { .. } => (StatusCode::BAD_REQUEST, "MANIFEST_INVALID"),
            // The specification's table says 404 as well; 400 is what the distribution project answers.
            StoreError::ReferenceMissing { .. } => (StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN"),
            StoreError::NoSpace { .. } => (StatusCode::INSUFFICIENT_STORAGE, "UNKNOWN"),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN"),
        };
        if status.is_server_error() {
            // Which folder has which trouble is the operator's business.
            tracing::error!(%error, "the store failed");
            let message = match status {
                StatusCode::INSUFFICIENT_STORAGE => "the registry's disk is full",
                _ => "the registry cannot use its storage; its log says why",
            };
            return Self::new(status, code, message);
        }
        Self::new(status, code, error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({ "errors": [{ "code": self.code, "message": self.message, "detail": null }] });
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = self.status;
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response.headers_mut().extend(self.headers);
        response
    }
}
