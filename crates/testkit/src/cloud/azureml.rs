//! Azure Machine Learning's environments, components, jobs and schedules, as the REST API of Resource Manager describes them, the
//! history of runs of a region, and the storage with what they print. Nothing runs: tests say what becomes of a job.

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
    routing::{get, post, put},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::trouble::{Trouble, Troubles, unknown_field};
use crate::Serving;

/// What a workspace's paths begin with.
const WORKSPACE: &str = "/subscriptions/{subscription}/resourceGroups/{group}/providers/\
                         Microsoft.MachineLearningServices/workspaces/{workspace}";
/// The fields of a pipeline job that a client sets.
const JOB: [&str; 10] = [
    "jobType",
    "displayName",
    "experimentName",
    "description",
    "jobs",
    "inputs",
    "outputs",
    "settings",
    "tags",
    "properties",
];
/// The fields of a schedule that a client sets.
const SCHEDULE: [&str; 7] =
    ["displayName", "description", "isEnabled", "trigger", "action", "tags", "properties"];
/// What signs the address of a log.
const SIGNATURE: &str = "signature";

/// The APIs, on one address, with one workspace: `w`, in West Europe.
#[derive(Debug)]
pub struct AzureMlApi {
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
    /// Environments and components by their IDs.
    assets: BTreeMap<String, Value>,
    /// By their names.
    jobs: BTreeMap<String, Value>,
    /// The runs of a job's nodes, by the job's name.
    runs: BTreeMap<String, Vec<Value>>,
    /// By their names.
    schedules: BTreeMap<String, Value>,
    /// What runs of nodes have printed, by their IDs.
    logs: BTreeMap<String, String>,
}

type Shares = State<Arc<Shared>>;
type Names = Path<HashMap<String, String>>;

impl AzureMlApi {
    /// Starts it. It takes the tokens that [`super::MicrosoftCloud`] gives.
    pub fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let troubles = Arc::clone(&shared.troubles);
        let at = |rest: &str| format!("{WORKSPACE}{rest}");
        let managed = Router::new()
            .route(&at(""), get(workspace))
            .route(&at("/{kind}/{name}/versions/{version}"), put(make_asset))
            .route(&at("/jobs/{name}"), get(read).put(submit))
            .route(&at("/jobs/{name}/cancel"), post(cancel))
            .route(&at("/schedules/{name}"), get(read_schedule).put(schedule).delete(unschedule))
            .layer(middleware::from_fn(|headers: HeaderMap, request, next: middleware::Next| async move {
                match audience(&headers, header::AUTHORIZATION.as_str()).as_deref() {
                    Some("https://management.azure.com") => next.run(request).await,
                    _ => unauthorized(),
                }
            }));
        let history = Router::new()
            .route(&format!("/history/v1.0{WORKSPACE}/runs/{{name}}/children"), get(children))
            .route(&format!("/history/v1.0{WORKSPACE}/runs/{{name}}/details"), get(details))
            .layer(middleware::from_fn(|headers: HeaderMap, request, next: middleware::Next| async move {
                match audience(&headers, header::AUTHORIZATION.as_str()).as_deref() {
                    Some("https://ml.azure.com") => next.run(request).await,
                    _ => unauthorized(),
                }
            }));
        let router = managed
            .merge(history)
            .route("/azureml/ExperimentRun/{name}/user_logs/std_log.txt", get(log))
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

    /// The environments and components, by their IDs.
    pub fn assets(&self) -> BTreeMap<String, Value> {
        self.shared.things().assets.clone()
    }

    /// The jobs, by their names.
    pub fn jobs(&self) -> BTreeMap<String, Value> {
        self.shared.things().jobs.clone()
    }

    /// The schedules, by their names.
    pub fn schedules(&self) -> BTreeMap<String, Value> {
        self.shared.things().schedules.clone()
    }

    /// The run of a node prints something.
    pub fn print(&self, run: &str, text: &str) {
        self.shared.things().logs.entry(run.to_owned()).or_default().push_str(text);
    }

    /// Says what has become of a job: its status, and the runs of its nodes.
    pub fn become_of(&self, job: &str, status: &str, runs: &[Value]) {
        let mut things = self.shared.things();
        if let Some(job) = things.jobs.get_mut(job) {
            job["properties"]["status"] = json!(status);
        }
        things.runs.insert(job.to_owned(), runs.to_vec());
    }
}

impl Shared {
    fn things(&self) -> MutexGuard<'_, Things> {
        self.things.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a token in a header is for.
fn audience(headers: &HeaderMap, name: &str) -> Option<String> {
    let sent = headers.get(name)?.to_str().ok()?;
    let claims = sent.strip_prefix("Bearer ").unwrap_or(sent).split('.').nth(1)?;
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    claims["aud"].as_str().map(str::to_owned)
}

fn refusal(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({ "error": { "code": code, "message": message } }))).into_response()
}

fn unauthorized() -> Response {
    let message = "The access token is from the wrong issuer, or for something else.";
    refusal(StatusCode::UNAUTHORIZED, "InvalidAuthenticationToken", message)
}

fn bad(message: &str) -> Response {
    refusal(StatusCode::BAD_REQUEST, "UserError", message)
}

fn workspace_id(names: &HashMap<String, String>) -> String {
    let name = |name: &str| names.get(name).map_or("", String::as_str);
    format!(
        "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.MachineLearningServices/workspaces/{}",
        name("subscription"),
        name("group"),
        name("workspace")
    )
}

/// Refuses another workspace than the one that there is.
fn missing(names: &HashMap<String, String>) -> Option<Response> {
    let workspace = names.get("workspace").map_or("", String::as_str);
    (workspace != "w").then(|| {
        let message = format!(
            "The Resource 'Microsoft.MachineLearningServices/workspaces/{workspace}' under resource group 'g' was not found."
        );
        refusal(StatusCode::NOT_FOUND, "ResourceNotFound", &message)
    })
}

async fn workspace(Path(names): Names) -> Response {
    missing(&names).unwrap_or_else(|| {
        Json(json!({ "id": workspace_id(&names), "location": "westeurope", "properties": {
            "discoveryUrl": "https://westeurope.api.azureml.ms/discovery" } }))
        .into_response()
    })
}

async fn make_asset(State(shared): Shares, Path(names): Names, Json(asset): Json<Value>) -> Response {
    if let Some(missing) = missing(&names) {
        return missing;
    }
    let name = |name: &str| names.get(name).map_or("", String::as_str);
    let id =
        format!("{}/{}/{}/versions/{}", workspace_id(&names), name("kind"), name("name"), name("version"));
    let properties = &asset["properties"];
    let mut things = shared.things();
    let wrong = match name("kind") {
        "environments" => {
            (!properties["image"].is_string()).then(|| "An environment needs an image.".to_owned())
        }
        "components" => {
            let environment = properties["componentSpec"]["environment"].as_str().unwrap_or_default();
            let known = environment
                .strip_prefix("azureml:")
                .is_some_and(|environment| things.assets.contains_key(environment));
            (!known).then(|| format!("There is no environment {environment}."))
        }
        kind => Some(format!("There are no {kind}.")),
    };
    if let Some(wrong) = wrong {
        return bad(&wrong);
    }
    if things.assets.get(&id).is_some_and(|made| made["properties"] != asset["properties"]) {
        return bad("The asset is there, and is not the same.");
    }
    things.assets.insert(id, asset.clone());
    (StatusCode::CREATED, Json(asset)).into_response()
}

/// What is wrong with a job.
fn wrong_with(job: &Value, assets: &BTreeMap<String, Value>) -> Option<String> {
    if let Some(field) = unknown_field(&job["properties"], &JOB) {
        return Some(format!("Unknown field {field}."));
    }
    let nodes = job["properties"]["jobs"].as_object()?;
    nodes.iter().find_map(|(name, node)| {
        if !assets.contains_key(node["componentId"].as_str().unwrap_or_default()) {
            return Some(format!("The component of {name} was not found."));
        }
        node["inputs"].as_object().into_iter().flatten().find_map(|(input, bound)| {
            let value = bound["value"].as_str().unwrap_or_default();
            let from = value
                .strip_prefix("${{parent.jobs.")
                .and_then(|rest| rest.strip_suffix(".outputs.done}}"))
                .and_then(|from| nodes.get(from));
            match from {
                Some(from) if from["outputs"]["done"].is_object() => None,
                _ => Some(format!("The input {input} of {name} is bound to nothing.")),
            }
        })
    })
}

async fn submit(
    State(shared): Shares,
    Path(names): Names,
    headers: HeaderMap,
    Json(mut job): Json<Value>,
) -> Response {
    if let Some(missing) = missing(&names) {
        return missing;
    }
    if audience(&headers, "x-azureml-token").as_deref() != Some("https://ml.azure.com") {
        return bad("A pipeline job needs a token of Azure Machine Learning.");
    }
    let name = names.get("name").cloned().unwrap_or_default();
    let mut things = shared.things();
    if let Some(wrong) = wrong_with(&job, &things.assets) {
        return bad(&wrong);
    }
    if things.jobs.contains_key(&name) {
        return bad("A job with this name already exists, and cannot be changed.");
    }
    job["id"] = json!(format!("{}/jobs/{name}", workspace_id(&names)));
    job["properties"]["status"] = json!("NotStarted");
    let studio = format!("https://ml.azure.com/runs/{name}?wsid={}&tid=t", workspace_id(&names));
    job["properties"]["services"] = json!({ "Studio": { "endpoint": studio } });
    things.jobs.insert(name, job.clone());
    (StatusCode::CREATED, Json(job)).into_response()
}

fn no_run(names: &HashMap<String, String>) -> Response {
    let name = names.get("name").map_or("", String::as_str);
    refusal(StatusCode::NOT_FOUND, "UserError", &format!("Run {name} was not found."))
}

async fn read(State(shared): Shares, Path(names): Names) -> Response {
    let things = shared.things();
    match names.get("name").and_then(|name| things.jobs.get(name)) {
        Some(job) => Json(job.clone()).into_response(),
        None => no_run(&names),
    }
}

async fn cancel(State(shared): Shares, Path(names): Names) -> Response {
    let mut things = shared.things();
    let Some(job) = names.get("name").and_then(|name| things.jobs.get_mut(name)) else {
        return no_run(&names);
    };
    let status = &mut job["properties"]["status"];
    if ["Completed", "Failed", "Canceled"].contains(&status.as_str().unwrap_or_default()) {
        return bad("A job that has ended cannot be cancelled.");
    }
    *status = json!("CancelRequested");
    StatusCode::ACCEPTED.into_response()
}

/// A schedule is made, or changed: it is not ready before it has been asked for once.
async fn schedule(State(shared): Shares, Path(names): Names, Json(mut schedule): Json<Value>) -> Response {
    if let Some(missing) = missing(&names) {
        return missing;
    }
    let mut things = shared.things();
    let properties = &mut schedule["properties"];
    if let Some(field) = unknown_field(properties, &SCHEDULE) {
        return bad(&format!("Unknown field {field}."));
    }
    let action = &properties["action"];
    let job = json!({ "properties": action["jobDefinition"] });
    let trigger = &properties["trigger"];
    let is_timed = match trigger["triggerType"].as_str() {
        Some("Cron") => trigger["expression"].is_string(),
        Some("Recurrence") => trigger["frequency"].is_string() && trigger["interval"].is_u64(),
        _ => false,
    };
    if action["actionType"] != "CreateJob" || !is_timed {
        return bad("A schedule needs an action and a trigger.");
    }
    if let Some(wrong) = wrong_with(&job, &things.assets) {
        return bad(&wrong);
    }
    properties["provisioningState"] = json!("Creating");
    things.schedules.insert(names.get("name").cloned().unwrap_or_default(), schedule.clone());
    (StatusCode::CREATED, Json(schedule)).into_response()
}

async fn read_schedule(State(shared): Shares, Path(names): Names) -> Response {
    let mut things = shared.things();
    match names.get("name").and_then(|name| things.schedules.get_mut(name)) {
        Some(schedule) => {
            let answer = Json(schedule.clone()).into_response();
            schedule["properties"]["provisioningState"] = json!("Succeeded");
            answer
        }
        None => refusal(StatusCode::NOT_FOUND, "UserError", "The schedule was not found."),
    }
}

async fn unschedule(State(shared): Shares, Path(names): Names) -> Response {
    let mut things = shared.things();
    let name = names.get("name").map_or("", String::as_str);
    match things.schedules.get(name) {
        Some(schedule) if schedule["properties"]["isEnabled"] == true => {
            bad("A schedule that is enabled cannot be deleted.")
        }
        Some(_) => {
            things.schedules.remove(name);
            StatusCode::ACCEPTED.into_response()
        }
        None => StatusCode::NO_CONTENT.into_response(),
    }
}

async fn details(State(shared): Shares, Path(names): Names) -> Response {
    let things = shared.things();
    let name = names.get("name").cloned().unwrap_or_default();
    let mut files =
        json!({ "system_logs/lifecycler/lifecycler.log": "https://account.blob.core.windows.net/x" });
    if things.logs.contains_key(&name) {
        let path = format!("azureml/ExperimentRun/{name}/user_logs/std_log.txt");
        files["user_logs/std_log.txt"] =
            json!(format!("https://account.blob.core.windows.net/{path}?sv=2019-07-07&sig={SIGNATURE}"));
    }
    Json(json!({ "runId": name, "logFiles": files })).into_response()
}

/// The bytes of a range, at a signed address and without a token.
async fn log(
    State(shared): Shares,
    Path(names): Names,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    if query.get("sig").is_none_or(|signature| signature != SIGNATURE)
        || headers.contains_key(header::AUTHORIZATION)
    {
        return StatusCode::FORBIDDEN.into_response();
    }
    let things = shared.things();
    let text = names.get("name").and_then(|name| things.logs.get(name)).map_or("", String::as_str);
    let range = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let range = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let bounds = range.and_then(|(from, to)| Some((from.parse::<usize>().ok()?, to.parse::<usize>().ok()?)));
    let Some((from, to)) = bounds else { return StatusCode::BAD_REQUEST.into_response() };
    match text.as_bytes().get(from..text.len().min(to + 1)) {
        Some(part) if !part.is_empty() => (StatusCode::PARTIAL_CONTENT, part.to_vec()).into_response(),
        _ => StatusCode::RANGE_NOT_SATISFIABLE.into_response(),
    }
}

/// One run a page.
async fn children(
    State(shared): Shares,
    Path(names): Names,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let things = shared.things();
    let runs = names.get("name").and_then(|name| things.runs.get(name));
    let runs = runs.map(Vec::as_slice).unwrap_or_default();
    let from: usize = query.get("$continuationtoken").and_then(|token| token.parse().ok()).unwrap_or(0);
    let mut page =
        json!({ "value": runs.get(from..).unwrap_or_default().iter().take(1).collect::<Vec<_>>() });
    if from + 1 < runs.len() {
        page["continuationToken"] = json!((from + 1).to_string());
    }
    Json(page).into_response()
}
