//! Airflow's API (`/api/v2`), as its OpenAPI document describes it. Nothing runs: tests say what Airflow has read, and what becomes of
//! runs.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};

use super::trouble::unknown_field;
use crate::Serving;

const USERNAME: &str = "me";
const PASSWORD: &str = "hunter2";

/// The API, for the user `me` with the password `hunter2`.
#[derive(Debug)]
pub struct AirflowApi {
    shared: Arc<Shared>,
    serving: Serving,
}

#[derive(Debug, Default)]
struct Shared {
    things: Mutex<Things>,
}

#[derive(Debug, Default)]
struct Things {
    /// The tokens that were given.
    tokens: usize,
    /// The documentation of DAGs that were read, by their names.
    read: BTreeMap<String, String>,
    /// What could not be imported.
    import_errors: Vec<Value>,
    /// Runs by their names.
    runs: BTreeMap<String, Value>,
    /// Their tasks.
    tasks: BTreeMap<String, Vec<Value>>,
    /// What tries of tasks have printed.
    logs: BTreeMap<(String, String), Vec<Value>>,
}

type Shares = State<Arc<Shared>>;

impl AirflowApi {
    /// Starts it.
    pub fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let judging = Arc::clone(&shared);
        let api = Router::new()
            .route("/api/v2/dags/{dag}/details", get(details))
            .route("/api/v2/importErrors", get(import_errors))
            .route("/api/v2/dags/{dag}/dagRuns", post(begin))
            .route("/api/v2/dags/{dag}/dagRuns/{run}", get(read).patch(change))
            .route("/api/v2/dags/{dag}/dagRuns/{run}/taskInstances", get(tasks))
            .route("/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}/logs/{number}", get(log))
            .layer(middleware::from_fn(move |headers: HeaderMap, request, next: middleware::Next| {
                let expected = format!("Bearer token-{}", judging.things().tokens);
                async move {
                    let sent = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
                    if sent == Some(expected.as_str()) {
                        next.run(request).await
                    } else {
                        refusal(StatusCode::UNAUTHORIZED, "Not authenticated")
                    }
                }
            }));
        let router = api.route("/auth/token", post(token)).with_state(Arc::clone(&shared));
        Ok(Self { shared, serving: Serving::router(router)? })
    }

    /// Where it is, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.serving.address())
    }

    /// Tokens that were given before are not accepted any more.
    pub fn forget_tokens(&self) {
        self.shared.things().tokens += 1;
    }

    /// Airflow reads the file of a DAG.
    pub fn read(&self, dag: &str, documentation: &str) {
        self.shared.things().read.insert(dag.to_owned(), documentation.to_owned());
    }

    /// Airflow fails to import a file.
    pub fn fail_to_import(&self, file: &str, when: &str, stack_trace: &str) {
        self.shared.things().import_errors.push(json!({
            "import_error_id": 1, "timestamp": when, "filename": file, "bundle_name": "dags-folder",
            "stack_trace": stack_trace,
        }));
    }

    /// The runs, by their names.
    pub fn runs(&self) -> BTreeMap<String, Value> {
        self.shared.things().runs.clone()
    }

    /// Says what has become of a run: its state, and its tasks.
    pub fn become_of(&self, run: &str, state: &str, tasks: &[Value]) {
        let mut things = self.shared.things();
        if let Some(run) = things.runs.get_mut(run) {
            run["state"] = json!(state);
        }
        things.tasks.insert(run.to_owned(), tasks.to_vec());
    }

    /// A try of a task prints a line.
    pub fn print(&self, task: &str, number: u32, line: &str) {
        let message = json!({ "timestamp": "2026-01-02T03:04:05Z", "event": line, "level": "info" });
        self.shared.things().logs.entry((task.to_owned(), number.to_string())).or_default().push(message);
    }
}

impl Shared {
    fn things(&self) -> MutexGuard<'_, Things> {
        self.things.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A refusal, as FastAPI writes it.
fn refusal(status: StatusCode, detail: &str) -> Response {
    (status, Json(json!({ "detail": detail }))).into_response()
}

async fn token(State(shared): Shares, Json(given): Json<Value>) -> Response {
    if given != json!({ "username": USERNAME, "password": PASSWORD }) {
        return refusal(StatusCode::UNAUTHORIZED, "Invalid credentials");
    }
    let mut things = shared.things();
    things.tokens += 1;
    let token = format!("token-{}", things.tokens);
    (StatusCode::CREATED, Json(json!({ "access_token": token }))).into_response()
}

async fn details(State(shared): Shares, Path(dag): Path<String>) -> Response {
    match shared.things().read.get(&dag) {
        Some(text) => Json(json!({ "dag_id": dag, "is_paused": false, "doc_md": text })).into_response(),
        None => refusal(StatusCode::NOT_FOUND, &format!("Dag with ID {dag} was not found")),
    }
}

async fn import_errors(State(shared): Shares) -> Response {
    let errors = shared.things().import_errors.clone();
    Json(json!({ "total_entries": errors.len(), "import_errors": errors })).into_response()
}

async fn begin(State(shared): Shares, Path(dag): Path<String>, Json(given): Json<Value>) -> Response {
    let known = [
        "dag_run_id",
        "data_interval_start",
        "data_interval_end",
        "logical_date",
        "run_after",
        "conf",
        "note",
    ];
    if unknown_field(&given, &known).is_some() || given.get("logical_date").is_none() {
        return refusal(
            StatusCode::UNPROCESSABLE_ENTITY,
            "Field required, or extra inputs are not permitted",
        );
    }
    let mut things = shared.things();
    if !things.read.contains_key(&dag) {
        return refusal(StatusCode::NOT_FOUND, &format!("Dag with dag_id: '{dag}' not found"));
    }
    let id = given["dag_run_id"].as_str().unwrap_or_default().to_owned();
    if things.runs.contains_key(&id) {
        return refusal(StatusCode::CONFLICT, "Unique constraint violation");
    }
    let run = json!({ "dag_run_id": id, "dag_id": dag, "logical_date": null, "state": "queued", "run_type": "manual" });
    things.runs.insert(id, run.clone());
    Json(run).into_response()
}

fn no_run(run: &str) -> Response {
    refusal(StatusCode::NOT_FOUND, &format!("The DagRun with run_id: `{run}` was not found"))
}

async fn read(State(shared): Shares, Path((_, run)): Path<(String, String)>) -> Response {
    match shared.things().runs.get(&run) {
        Some(run) => Json(run.clone()).into_response(),
        None => no_run(&run),
    }
}

async fn change(
    State(shared): Shares,
    Path((_, run)): Path<(String, String)>,
    Json(given): Json<Value>,
) -> Response {
    if unknown_field(&given, &["state", "note"]).is_some() {
        return refusal(StatusCode::UNPROCESSABLE_ENTITY, "Extra inputs are not permitted");
    }
    match shared.things().runs.get_mut(&run) {
        Some(run) => {
            run["state"] = given["state"].clone();
            Json(run.clone()).into_response()
        }
        None => no_run(&run),
    }
}

async fn tasks(State(shared): Shares, Path((_, run)): Path<(String, String)>) -> Response {
    let things = shared.things();
    let tasks = things.tasks.get(&run).cloned().unwrap_or_default();
    Json(json!({ "total_entries": tasks.len(), "task_instances": tasks })).into_response()
}

async fn log(
    State(shared): Shares,
    Path((_, _, task, number)): Path<(String, String, String, String)>,
) -> Response {
    match shared.things().logs.get(&(task, number)) {
        Some(messages) => Json(json!({ "content": messages, "continuation_token": null })).into_response(),
        None => refusal(StatusCode::NOT_FOUND, "TaskInstance not found"),
    }
}
