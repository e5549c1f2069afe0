//! Objects of Google Cloud Storage, as its JSON API (version 1) describes them: reading, conditional writing and deleting.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::json;

use super::trouble::{Trouble, Troubles, refused};
use crate::Serving;

/// The API, with one bucket: `bucket`.
#[derive(Debug)]
pub struct CloudStorageApi {
    shared: Arc<Shared>,
    serving: Serving,
}

#[derive(Debug, Default)]
struct Shared {
    objects: Mutex<Objects>,
    troubles: Arc<Troubles>,
}

/// The objects, by their names: of which generation each is, and what it holds.
type Objects = BTreeMap<String, (u64, String)>;
type Shares = State<Arc<Shared>>;
type Asked = Query<HashMap<String, String>>;

impl CloudStorageApi {
    /// Starts it. It takes the tokens that [`super::GoogleCloud`] gives.
    pub fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let troubles = Arc::clone(&shared.troubles);
        let router = Router::new()
            .route("/storage/v1/b/{bucket}/o/{object}", get(read).delete(delete))
            .route("/upload/storage/v1/b/{bucket}/o", post(write))
            .layer(middleware::from_fn(|headers: HeaderMap, request, next: middleware::Next| async move {
                let sent = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
                if sent.is_some_and(|sent| sent.starts_with("Bearer ya29.")) {
                    next.run(request).await
                } else {
                    refused(
                        StatusCode::UNAUTHORIZED,
                        "Anonymous caller does not have storage.objects.get access.",
                    )
                }
            }))
            .layer(middleware::from_fn(move |request, next| {
                Troubles::meet(Arc::clone(&troubles), request, next)
            }))
            .with_state(Arc::clone(&shared));
        Ok(Self { shared, serving: Serving::router(router)? })
    }

    /// Where it is, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.serving.address())
    }

    /// Lets something go wrong with the request after so many that go well.
    pub fn trouble_after(&self, requests: usize, trouble: Trouble) {
        self.shared.troubles.add(requests, trouble);
    }

    /// The objects, by their names.
    pub fn objects(&self) -> BTreeMap<String, String> {
        self.shared.objects().iter().map(|(name, (_, text))| (name.clone(), text.clone())).collect()
    }

    /// Puts an object there.
    pub fn put(&self, name: &str, text: &str) {
        put(&mut self.shared.objects(), name, text);
    }
}

impl Shared {
    fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn put(objects: &mut Objects, name: &str, text: &str) {
    let generation = objects.values().map(|(generation, _)| *generation).max().unwrap_or(1_700_000_000) + 1;
    objects.insert(name.to_owned(), (generation, text.to_owned()));
}

/// What is wrong with a request before its object is looked at: another bucket, or another generation than the one that it is for.
fn wrong(objects: &Objects, bucket: &str, name: &str, asked: &HashMap<String, String>) -> Option<Response> {
    if bucket != "bucket" {
        return Some(refused(StatusCode::NOT_FOUND, "The specified bucket does not exist."));
    }
    let wanted: u64 = asked.get("ifGenerationMatch")?.parse().ok()?;
    let found = objects.get(name).map_or(0, |(generation, _)| *generation);
    (wanted != found).then(|| {
        let message = "At least one of the pre-conditions you specified did not hold.";
        refused(StatusCode::PRECONDITION_FAILED, message)
    })
}

fn no_object(name: &str) -> Response {
    (StatusCode::NOT_FOUND, format!("No such object: bucket/{name}")).into_response()
}

/// The bytes of a range from the beginning, `bytes=0-99`.
async fn read(
    State(shared): Shares,
    Path((bucket, name)): Path<(String, String)>,
    Query(asked): Asked,
    headers: HeaderMap,
) -> Response {
    let objects = shared.objects();
    if let Some(wrong) = wrong(&objects, &bucket, &name, &asked) {
        return wrong;
    }
    let Some((generation, text)) = objects.get(&name) else { return no_object(&name) };
    let range = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let last: usize =
        range.and_then(|range| range.strip_prefix("bytes=0-")?.parse().ok()).unwrap_or(usize::MAX - 1);
    if text.is_empty() {
        return StatusCode::RANGE_NOT_SATISFIABLE.into_response();
    }
    let part = text.as_bytes().get(..text.len().min(last + 1)).unwrap_or_default().to_vec();
    (StatusCode::PARTIAL_CONTENT, [("x-goog-generation", generation.to_string())], part).into_response()
}

async fn write(
    State(shared): Shares,
    Path(bucket): Path<String>,
    Query(asked): Asked,
    text: String,
) -> Response {
    let mut objects = shared.objects();
    let name = asked.get("name").cloned().unwrap_or_default();
    if asked.get("uploadType").is_none_or(|kind| kind != "media") || name.is_empty() {
        return refused(StatusCode::BAD_REQUEST, "Required parameter: name, uploadType");
    }
    if let Some(wrong) = wrong(&objects, &bucket, &name, &asked) {
        return wrong;
    }
    put(&mut objects, &name, &text);
    Json(json!({ "kind": "storage#object", "name": name, "bucket": bucket })).into_response()
}

async fn delete(
    State(shared): Shares,
    Path((bucket, name)): Path<(String, String)>,
    Query(asked): Asked,
) -> Response {
    let mut objects = shared.objects();
    if let Some(wrong) = wrong(&objects, &bucket, &name, &asked) {
        return wrong;
    }
    match objects.remove(&name) {
        Some(_) => StatusCode::NO_CONTENT.into_response(),
        None => no_object(&name),
    }
}
