//! Kubeflow Pipelines' API, version 2beta1, as its protobuf definitions describe it (`backend/api/v2beta1` of the Kubeflow
//! Pipelines project), and the log of a pod, which is in none of them. Nothing runs: tests say what becomes of a run.

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
    routing::get,
};
use serde_json::{Value, json};

use super::trouble::{Trouble, Troubles, refused, unknown_field};
use crate::Serving;

/// The fields of a run that a client sets (`V2beta1Run`).
const RUN: [&str; 9] = [
    "experiment_id",
    "display_name",
    "description",
    "pipeline_version_id",
    "pipeline_spec",
    "pipeline_version_reference",
    "runtime_config",
    "service_account",
    "storage_state",
];
/// Those of a recurring run, besides.
const RECURRING: [&str; 5] = ["max_concurrency", "trigger", "mode", "no_catchup", "namespace"];

/// The API, on one address.
#[derive(Debug)]
pub struct KubeflowApi {
    shared: Arc<Shared>,
    serving: Serving,
}

#[derive(Debug, Default)]
struct Shared {
    token: Option<String>,
    state: Mutex<Things>,
    troubles: Arc<Troubles>,
}

#[derive(Debug, Default)]
struct Things {
    experiments: BTreeMap<String, Value>,
    runs: BTreeMap<String, Value>,
    recurring: BTreeMap<String, Value>,
    logs: HashMap<String, String>,
}

type Shares = State<Arc<Shared>>;

impl KubeflowApi {
    /// Starts it; with a token, only who has it is served.
    pub fn start(token: Option<&str>) -> io::Result<Self> {
        let shared = Arc::new(Shared { token: token.map(str::to_owned), ..Shared::default() });
        let troubles = Arc::clone(&shared.troubles);
        let checked = Arc::clone(&shared);
        let router = Router::new()
            .route("/apis/v2beta1/healthz", get(|| async { Json(json!({ "multi_user": false })) }))
            .route("/apis/v2beta1/{things}", get(list).post(create))
            .route("/apis/v2beta1/{things}/{call}", get(read).post(act).delete(delete))
            .route("/apis/v1alpha1/runs/{run}/nodes/{node}/log", get(log))
            .layer(middleware::from_fn(move |headers: HeaderMap, request, next: middleware::Next| {
                let checked = Arc::clone(&checked);
                async move {
                    if checked.admits(&headers) {
                        next.run(request).await
                    } else {
                        refused(StatusCode::UNAUTHORIZED, "the token is not valid")
                    }
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

    /// The runs, as they were asked for, with what became of them.
    pub fn runs(&self) -> Vec<Value> {
        self.shared.things().runs.values().cloned().collect()
    }

    /// The recurring runs.
    pub fn recurring_runs(&self) -> Vec<Value> {
        self.shared.things().recurring.values().cloned().collect()
    }

    /// How many experiments there are.
    pub fn experiments(&self) -> usize {
        self.shared.things().experiments.len()
    }

    /// Says what has become of a run: its state, and what is told of its tasks.
    pub fn become_of(&self, run: &str, state: &str, tasks: &Value) {
        if let Some(run) = self.shared.things().runs.get_mut(run) {
            run["state"] = json!(state);
            run["run_details"] = json!({ "task_details": tasks });
        }
    }

    /// What a pod has printed.
    pub fn print(&self, pod: &str, text: &str) {
        self.shared.things().logs.insert(pod.to_owned(), text.to_owned());
    }
}

impl Shared {
    fn things(&self) -> MutexGuard<'_, Things> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admits(&self, headers: &HeaderMap) -> bool {
        let sent = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        self.token.as_ref().is_none_or(|token| sent == Some(&format!("Bearer {token}")))
    }
}

impl Things {
    /// A collection, with the field of its items' IDs and of lists of them.
    fn named(&mut self, name: &str) -> Option<(&mut BTreeMap<String, Value>, &'static str, &'static str)> {
        match name {
            "experiments" => Some((&mut self.experiments, "experiment_id", "experiments")),
            "runs" => Some((&mut self.runs, "run_id", "runs")),
            "recurringruns" => Some((&mut self.recurring, "recurring_run_id", "recurringRuns")),
            _ => None,
        }
    }
}

fn no_such_thing() -> Response {
    refused(StatusCode::NOT_FOUND, "Not Found")
}

/// What is wrong with something that is to be made.
fn wrong_with(things: &str, document: &Value) -> Option<String> {
    let known: Vec<&str> = match things {
        "experiments" => vec!["display_name", "description", "namespace"],
        "runs" => RUN.to_vec(),
        _ => RUN.iter().chain(&RECURRING).copied().collect(),
    };
    if let Some(field) = unknown_field(document, &known) {
        return Some(format!("unknown field \"{field}\" in {things}"));
    }
    if document["display_name"].as_str().is_none_or(str::is_empty) {
        return Some("the display name is empty".to_owned());
    }
    if things == "experiments" {
        return None;
    }
    let spec = document["pipeline_spec"].get("pipeline_spec").unwrap_or(&document["pipeline_spec"]);
    if spec["schemaVersion"] != "2.1.0" {
        return Some(format!(
            "KFP only supports schema version 2.1.0, but the pipeline spec has version {}",
            spec["schemaVersion"]
        ));
    }
    if spec["pipelineInfo"]["name"].as_str().is_none_or(str::is_empty) {
        return Some("invalid v2 pipeline spec: name is empty".to_owned());
    }
    if things == "recurringruns" {
        // `cron.Parse` of robfig/cron 1: with seconds.
        let cron =
            document.pointer("/trigger/cron_schedule/cron").and_then(Value::as_str).unwrap_or_default();
        if !(5..=6).contains(&cron.split_whitespace().count()) {
            return Some(format!("Schedule cron is not a valid: {cron}"));
        }
    }
    None
}

async fn create(
    State(shared): Shares,
    Path(name): Path<String>,
    Json(mut document): Json<Value>,
) -> Response {
    let mut things = shared.things();
    if let Some(wrong) = wrong_with(&name, &document) {
        return refused(StatusCode::BAD_REQUEST, &wrong);
    }
    if name != "experiments" {
        let experiment = document["experiment_id"].as_str().unwrap_or_default();
        if !things.experiments.contains_key(experiment) {
            return refused(StatusCode::BAD_REQUEST, &format!("Experiment {experiment} not found"));
        }
    }
    let Some((collection, id_field, _)) = things.named(&name) else { return no_such_thing() };
    if name == "experiments"
        && collection.values().any(|known| known["display_name"] == document["display_name"])
    {
        return refused(StatusCode::CONFLICT, "Experiment already exists");
    }
    let id = format!("00000000-0000-4000-8000-{:012}", collection.len() + 1);
    document[id_field] = json!(id);
    document["created_at"] = json!("2026-01-02T03:04:05Z");
    match name.as_str() {
        "runs" => document["state"] = json!("PENDING"),
        "recurringruns" => {
            document["status"] = json!(if document["mode"] == "ENABLE" { "ENABLED" } else { "DISABLED" });
        }
        _ => {}
    }
    collection.insert(id, document.clone());
    Json(document).into_response()
}

async fn list(
    State(shared): Shares,
    Path(name): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let mut things = shared.things();
    let Some((collection, _, field)) = things.named(&name) else { return no_such_thing() };
    // The one filter that there is: `{"predicates": [{"operation": "EQUALS", "key": …, "string_value": …}]}`.
    let filter: Value = match query.get("filter").map(|filter| serde_json::from_str(filter)) {
        None => Value::Null,
        Some(Ok(filter)) => filter,
        Some(Err(error)) => return refused(StatusCode::BAD_REQUEST, &format!("filter: {error}")),
    };
    let predicate = &filter["predicates"][0];
    let wanted = predicate.get("string_value").or_else(|| predicate.get("stringValue"));
    let (key, experiment) = (predicate["key"].as_str().unwrap_or_default(), query.get("experiment_id"));
    let matches = |thing: &&Value| {
        wanted.is_none_or(|wanted| thing[key] == *wanted)
            && experiment.is_none_or(|experiment| thing["experiment_id"] == **experiment)
    };
    let found: Vec<&Value> = collection.values().filter(matches).collect();
    // Protobuf's JSON leaves out what is empty.
    let answer =
        if found.is_empty() { json!({}) } else { json!({ field: found, "total_size": found.len() }) };
    Json(answer).into_response()
}

async fn read(State(shared): Shares, Path((name, id)): Path<(String, String)>) -> Response {
    let mut things = shared.things();
    let Some((collection, ..)) = things.named(&name) else { return no_such_thing() };
    match collection.get(&id) {
        Some(thing) => Json(thing.clone()).into_response(),
        None => refused(StatusCode::NOT_FOUND, &format!("{name}: {id} not found")),
    }
}

async fn act(State(shared): Shares, Path((name, call)): Path<(String, String)>) -> Response {
    let mut things = shared.things();
    let (id, verb) = call.split_once(':').unwrap_or((&call, ""));
    let Some((collection, ..)) = things.named(&name) else { return no_such_thing() };
    let Some(thing) = collection.get_mut(id) else {
        return refused(StatusCode::NOT_FOUND, &format!("{name}: {id} not found"));
    };
    match (name.as_str(), verb) {
        ("runs", "terminate") => {
            let state = thing["state"].as_str().unwrap_or_default();
            if ["SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"].contains(&state) {
                let message = format!("Failed to terminate a run {id}: row not found or already finished");
                return refused(StatusCode::BAD_REQUEST, &message);
            }
            thing["state"] = json!("CANCELING");
        }
        _ => return no_such_thing(),
    }
    Json(json!({})).into_response()
}

async fn delete(State(shared): Shares, Path((name, id)): Path<(String, String)>) -> Response {
    let mut things = shared.things();
    let Some((collection, ..)) = things.named(&name) else { return no_such_thing() };
    match collection.remove(&id) {
        Some(_) => Json(json!({})).into_response(),
        None => refused(StatusCode::NOT_FOUND, &format!("{name}: {id} not found")),
    }
}

async fn log(State(shared): Shares, Path((run, node)): Path<(String, String)>) -> Response {
    let things = shared.things();
    if let Some(text) = things.logs.get(&node).filter(|_| things.runs.contains_key(&run)) {
        return text.clone().into_response();
    }
    // The header was written before the pod was asked.
    let message = format!("Failed to read logs for run {run}: pods \"{node}\" not found");
    json!({ "error_message": message, "error_details": message }).to_string().into_response()
}
