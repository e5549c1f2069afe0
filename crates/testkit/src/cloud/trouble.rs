//! What goes wrong with the next requests.

use std::{
    collections::VecDeque,
    io, iter,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    body::Body,
    extract::Request,
    http::{StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures::stream;
use serde_json::{Value, json};

/// What goes wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It is refused with this status and message; nothing is done.
    Refused(u16, String),
    /// It is done, and the connection breaks before the answer has arrived.
    AnswerLost,
}

/// What goes wrong next; then nothing does.
#[derive(Debug, Default)]
pub(super) struct Troubles(Mutex<VecDeque<Option<Trouble>>>);

impl Troubles {
    /// After so many requests with which nothing goes wrong.
    pub(super) fn add(&self, requests: usize, trouble: Trouble) {
        let mut troubles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        troubles.extend(iter::repeat_n(None, requests).chain([Some(trouble)]));
    }

    pub(super) async fn meet(troubles: Arc<Self>, request: Request, next: Next) -> Response {
        let trouble = troubles.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front().flatten();
        match trouble {
            None => next.run(request).await,
            Some(Trouble::Refused(status, message)) => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                ([(header::RETRY_AFTER, "0")], refused(status, &message)).into_response()
            }
            Some(Trouble::AnswerLost) => {
                next.run(request).await;
                Response::new(Body::from_stream(stream::iter([
                    Ok("{"),
                    Err(io::Error::other("the connection breaks here")),
                ])))
            }
        }
    }
}

/// A refusal, as APIs of `google.rpc` write them: with the error on its own, and below `error`.
pub(super) fn refused(status: StatusCode, message: &str) -> Response {
    let name = match status.as_u16() {
        400 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        409 => "ALREADY_EXISTS",
        429 => "RESOURCE_EXHAUSTED",
        503 => "UNAVAILABLE",
        _ => "INTERNAL",
    };
    let error = json!({ "code": status.as_u16(), "message": message, "status": name });
    (status, axum::Json(json!({ "code": status.as_u16(), "message": message, "error": error })))
        .into_response()
}

/// The first field of a document that is none of these.
pub(super) fn unknown_field(document: &Value, known: &[&str]) -> Option<String> {
    document.as_object()?.keys().find(|field| !known.contains(&field.as_str())).cloned()
}
