//! Vertex AI's pipeline jobs and schedules, and the log entries of Cloud Logging, as Google's API reference describes them.
//! Nothing runs: tests say what becomes of a job.

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
use serde_json::{Value, json};

use super::trouble::{Trouble, Troubles, refused, unknown_field};
use crate::Serving;

/// The project's number, which names have in place of its ID.
const NUMBER: &str = "123456789";
/// The fields of a job that a client sets.
const JOB: [&str; 9] = [
    "displayName",
    "pipelineSpec",
    "labels",
    "runtimeConfig",
    "encryptionSpec",
    "serviceAccount",
    "network",
    "reservedIpRanges",
    "preflightValidations",
];
/// The fields of a schedule that a client sets.
const SCHEDULE: [&str; 8] = [
    "displayName",
    "cron",
    "startTime",
    "endTime",
    "maxRunCount",
    "maxConcurrentRunCount",
    "allowQueueing",
    "createPipelineJobRequest",
];

/// The APIs, on one address.
#[derive(Debug)]
pub struct VertexApi {
    shared: Arc<Shared>,
    serving: Serving,
}

#[derive(Debug, Default)]
struct Shared {
    things: Mutex<Things>,
    troubles: Arc<Troubles>,
}

#[derive(Debug, Default)]
struct Things {
    /// By their names without the project.
    jobs: BTreeMap<String, Value>,
    schedules: BTreeMap<String, Value>,
    /// By the ID of the custom job that printed them.
    entries: BTreeMap<String, Vec<Value>>,
}

type Shares = State<Arc<Shared>>;

impl VertexApi {
    /// Starts it. It takes the tokens that [`super::GoogleCloud`] gives.
    pub fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let troubles = Arc::clone(&shared.troubles);
        let router = Router::new()
            .route("/v1/projects/{project}/locations/{location}/{things}", get(list).post(create))
            .route(
                "/v1/projects/{project}/locations/{location}/{things}/{call}",
                get(read).post(act).delete(delete),
            )
            .route("/v2/entries:list", post(entries))
            .layer(middleware::from_fn(|headers: HeaderMap, request, next: middleware::Next| async move {
                let sent = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
                if sent.is_some_and(|sent| sent.starts_with("Bearer ya29.")) {
                    next.run(request).await
                } else {
                    let message = "Request is missing required authentication credential.";
                    refused(StatusCode::UNAUTHORIZED, message)
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

    /// Lets something go wrong with the next request, after what goes wrong already.
    pub fn trouble(&self, trouble: Trouble) {
        self.shared.troubles.add(0, trouble);
    }

    /// The same, after so many further requests that go well.
    pub fn trouble_after(&self, requests: usize, trouble: Trouble) {
        self.shared.troubles.add(requests, trouble);
    }

    /// The jobs, by their IDs.
    pub fn jobs(&self) -> BTreeMap<String, Value> {
        self.shared.things().jobs.clone()
    }

    /// The schedules, by their IDs.
    pub fn schedules(&self) -> BTreeMap<String, Value> {
        self.shared.things().schedules.clone()
    }

    /// Says what has become of a job: its state, and what is told of its tasks.
    pub fn become_of(&self, job: &str, state: &str, tasks: &Value) {
        if let Some(job) = self.shared.things().jobs.get_mut(job) {
            job["state"] = json!(state);
            job["jobDetail"] = json!({ "taskDetails": tasks });
        }
    }

    /// A custom job printed a line at a time of the day.
    pub fn print(&self, custom_job: &str, time: &str, line: &str) {
        let mut things = self.shared.things();
        let entries = things.entries.entry(custom_job.to_owned()).or_default();
        let id = format!("{custom_job}-{}", entries.len());
        entries.push(json!({
            "insertId": id, "timestamp": format!("2026-01-02T{time}Z"), "severity": "INFO",
            "resource": { "type": "ml_job", "labels": { "job_id": custom_job, "task_name": "workerpool0-0" } },
            "jsonPayload": { "message": format!("{line}\n") },
        }));
    }
}

impl Shared {
    fn things(&self) -> MutexGuard<'_, Things> {
        self.things.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Things {
    fn named(&mut self, name: &str) -> Option<&mut BTreeMap<String, Value>> {
        match name {
            "pipelineJobs" => Some(&mut self.jobs),
            "schedules" => Some(&mut self.schedules),
            _ => None,
        }
    }
}

fn no_such_method() -> Response {
    refused(StatusCode::NOT_FOUND, "Method not found.")
}

/// What is wrong with a job.
fn wrong_with(job: &Value) -> Option<String> {
    if let Some(field) = unknown_field(job, &JOB) {
        return Some(format!("Unknown name \"{field}\" at 'pipeline_job': Cannot find field."));
    }
    let spec = &job["pipelineSpec"];
    let root = job.pointer("/runtimeConfig/gcsOutputDirectory").and_then(Value::as_str).unwrap_or_default();
    if !root.starts_with("gs://") {
        return Some("The gcs_output_directory is not a path of Cloud Storage.".to_owned());
    }
    if spec["schemaVersion"] != "2.1.0" || !spec["sdkVersion"].is_string() {
        return Some("The pipeline spec has no schema version or no SDK version.".to_owned());
    }
    let name = spec["pipelineInfo"]["name"].as_str().unwrap_or_default();
    let valid = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    (!valid(name)).then(|| format!("The name of the pipeline is not valid: {name:?}"))
}

async fn create(
    State(shared): Shares,
    Path((project, location, name)): Path<(String, String, String)>,
    Query(query): Query<HashMap<String, String>>,
    Json(mut document): Json<Value>,
) -> Response {
    let mut things = shared.things();
    let (job, wrong) = match name.as_str() {
        "pipelineJobs" => (&document, None),
        "schedules" => {
            let parent = format!("projects/{project}/locations/{location}");
            let request = &document["createPipelineJobRequest"];
            let wrong = unknown_field(&document, &SCHEDULE)
                .map(|field| format!("Unknown name \"{field}\" at 'schedule': Cannot find field."))
                .or_else(|| (request["parent"] != parent).then(|| "The parent is another one.".to_owned()))
                .or_else(|| {
                    document["maxConcurrentRunCount"]
                        .as_str()
                        .is_none()
                        .then(|| "max_concurrent_run_count is required".to_owned())
                });
            (&request["pipelineJob"], wrong)
        }
        _ => return no_such_method(),
    };
    if let Some(wrong) = wrong.or_else(|| wrong_with(job)) {
        return refused(StatusCode::BAD_REQUEST, &wrong);
    }
    let Some(collection) = things.named(&name) else { return no_such_method() };
    let id = match query.get("pipelineJobId") {
        Some(id) => id.clone(),
        None => format!("{}", 7_000_000_000_000 + collection.len()),
    };
    if collection.contains_key(&id) {
        let message = format!("{name} {id} already exists.");
        return refused(StatusCode::CONFLICT, &message);
    }
    document["name"] = json!(format!("projects/{NUMBER}/locations/{location}/{name}/{id}"));
    document["createTime"] = json!("2026-01-02T03:04:05Z");
    document["state"] = json!(if name == "schedules" { "ACTIVE" } else { "PIPELINE_STATE_PENDING" });
    collection.insert(id, document.clone());
    Json(document).into_response()
}

/// All of them: the filter is left to who asks.
async fn list(State(shared): Shares, Path((_, _, name)): Path<(String, String, String)>) -> Response {
    let mut things = shared.things();
    match things.named(&name) {
        Some(collection) => Json(json!({ &name: collection.values().collect::<Vec<_>>() })).into_response(),
        None => no_such_method(),
    }
}

async fn read(
    State(shared): Shares,
    Path((project, location, name, id)): Path<(String, String, String, String)>,
) -> Response {
    let mut things = shared.things();
    let Some(collection) = things.named(&name) else { return no_such_method() };
    if let Some(thing) = collection.get(&id) {
        return Json(thing.clone()).into_response();
    }
    let message = format!("The resource projects/{project}/locations/{location}/{name}/{id} is not found.");
    refused(StatusCode::NOT_FOUND, &message)
}

async fn act(
    State(shared): Shares,
    Path((_, _, name, call)): Path<(String, String, String, String)>,
) -> Response {
    let mut things = shared.things();
    let (id, verb) = call.split_once(':').unwrap_or((&call, ""));
    let Some(thing) = things.named(&name).and_then(|collection| collection.get_mut(id)) else {
        return refused(StatusCode::NOT_FOUND, &format!("{name} {id} is not found."));
    };
    match (name.as_str(), verb) {
        ("pipelineJobs", "cancel") => {
            let state = thing["state"].as_str().unwrap_or_default();
            if ["PIPELINE_STATE_SUCCEEDED", "PIPELINE_STATE_FAILED", "PIPELINE_STATE_CANCELLED"]
                .contains(&state)
            {
                return refused(
                    StatusCode::BAD_REQUEST,
                    "The job is in a final state and cannot be cancelled.",
                );
            }
            thing["state"] = json!("PIPELINE_STATE_CANCELLING");
        }
        _ => return no_such_method(),
    }
    Json(json!({})).into_response()
}

/// Deletes a schedule: a long-running operation that has ended.
async fn delete(
    State(shared): Shares,
    Path((project, location, name, id)): Path<(String, String, String, String)>,
) -> Response {
    let mut things = shared.things();
    if name != "schedules" {
        return no_such_method();
    }
    if things.schedules.remove(&id).is_none() {
        return refused(StatusCode::NOT_FOUND, &format!("The Schedule {id} does not exist."));
    }
    let operation = format!("projects/{project}/locations/{location}/operations/1");
    Json(json!({ "name": operation, "done": true, "response": {} })).into_response()
}

/// Two entries a page. Of the filter, only the job is looked at.
async fn entries(State(shared): Shares, Json(body): Json<Value>) -> Response {
    let known = ["resourceNames", "filter", "orderBy", "pageSize", "pageToken"];
    if let Some(field) = unknown_field(&body, &known) {
        return refused(StatusCode::BAD_REQUEST, &format!("Unknown name \"{field}\": Cannot find field."));
    }
    let things = shared.things();
    let filter = body["filter"].as_str().unwrap_or_default();
    let of_job = |job: &String| filter.contains(&format!("resource.labels.job_id=\"{job}\""));
    let found: Vec<&Value> =
        things.entries.iter().filter(|(job, _)| of_job(job)).flat_map(|(_, entries)| entries).collect();
    let from: usize = body["pageToken"].as_str().and_then(|token| token.parse().ok()).unwrap_or(0);
    let page: Vec<&Value> = found.iter().skip(from).take(2).copied().collect();
    let mut answer = json!({ "entries": page });
    if from + 2 < found.len() {
        answer["nextPageToken"] = json!((from + 2).to_string());
    }
    Json(answer).into_response()
}
