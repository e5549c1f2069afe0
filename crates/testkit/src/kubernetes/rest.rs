//! Requests for resources.

use std::{collections::HashMap, sync::Arc};

use axum::{
    body::Bytes,
    extract::{Query, State as Extract},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, Method, StatusCode, Uri, header};
use k8s_openapi::api::{batch::v1 as batch, core::v1 as core, rbac::v1 as rbac};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{Asked, Shared, State, log, store::text, watch};

/// A resource: its group and version, kind, and the check of its published type.
struct Resource {
    plural: &'static str,
    group: &'static str,
    kind: &'static str,
    check: fn(&Value) -> Result<(), String>,
}

const RESOURCES: [Resource; 9] = [
    Resource { plural: "jobs", group: "batch", kind: "Job", check: typed::<batch::Job> },
    Resource { plural: "cronjobs", group: "batch", kind: "CronJob", check: typed::<batch::CronJob> },
    Resource { plural: "pods", group: "", kind: "Pod", check: typed::<core::Pod> },
    Resource { plural: "secrets", group: "", kind: "Secret", check: typed::<core::Secret> },
    Resource { plural: "configmaps", group: "", kind: "ConfigMap", check: typed::<core::ConfigMap> },
    Resource { plural: "events", group: "", kind: "Event", check: typed::<core::Event> },
    Resource {
        plural: "serviceaccounts",
        group: "",
        kind: "ServiceAccount",
        check: typed::<core::ServiceAccount>,
    },
    Resource {
        plural: "roles",
        group: "rbac.authorization.k8s.io",
        kind: "Role",
        check: typed::<rbac::Role>,
    },
    Resource {
        plural: "rolebindings",
        group: "rbac.authorization.k8s.io",
        kind: "RoleBinding",
        check: typed::<rbac::RoleBinding>,
    },
];

/// Fails unless a value is of a type, with all its fields.
fn typed<T: DeserializeOwned + Serialize>(value: &Value) -> Result<(), String> {
    let read = T::deserialize(value).map_err(|error| error.to_string())?;
    let read = serde_json::to_value(&read).map_err(|error| error.to_string())?;
    lost(value, &read, "")
        .map_or(Ok(()), |path| Err(format!("strict decoding error: unknown field \"{path}\"")))
}

fn lost(written: &Value, read: &Value, path: &str) -> Option<String> {
    match (written, read) {
        (Value::Object(written), Value::Object(read)) => written.iter().find_map(|(key, value)| {
            let path = format!("{path}.{key}");
            match read.get(key) {
                Some(read) => lost(value, read, &path),
                None => (!value.is_null()).then_some(path),
            }
        }),
        (Value::Array(written), Value::Array(read)) => {
            written.iter().zip(read).find_map(|(written, read)| lost(written, read, path))
        }
        _ => None,
    }
}

/// What a list or watch is limited to.
#[derive(Clone, Debug, Default)]
pub(super) struct Selector {
    labels: Vec<(String, Option<String>)>,
    fields: Vec<(String, String)>,
}

impl Selector {
    fn of(query: &HashMap<String, String>) -> Self {
        let parts = |key: &str| {
            let text = query.get(key).cloned().unwrap_or_default();
            text.split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect::<Vec<_>>()
        };
        let labels = parts("labelSelector").into_iter().map(|part| match part.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.trim_start_matches('=').to_owned())),
            None => (part, None),
        });
        let fields = parts("fieldSelector").into_iter().filter_map(|part| {
            let (key, value) = part.split_once('=')?;
            Some((format!("/{}", key.replace('.', "/")), value.trim_start_matches('=').to_owned()))
        });
        Self { labels: labels.collect(), fields: fields.collect() }
    }

    pub(super) fn has(&self, object: &Value) -> bool {
        let label = |(key, value): &(String, Option<String>)| {
            let found = object["metadata"]["labels"][key].as_str();
            value.as_deref().map_or(found.is_some(), |value| found == Some(value))
        };
        self.labels.iter().all(label)
            && self.fields.iter().all(|(field, value)| text(object, field) == *value)
    }
}

/// What there is, as `kubectl` asks for it.
fn discovery(path: &str) -> Option<Value> {
    let group = |group: &str| {
        let version = json!({"groupVersion": format!("{group}/v1"), "version": "v1"});
        json!({"name": group, "versions": [version], "preferredVersion": version})
    };
    let resources = |group: &str| {
        let of_group = RESOURCES.iter().filter(|resource| resource.group == group);
        let resources: Vec<_> = of_group
            .map(|resource| {
                json!({"name": resource.plural, "singularName": "", "namespaced": true, "kind": resource.kind,
                    "verbs": ["create", "delete", "get", "list", "patch", "watch"]})
            })
            .collect();
        let version = if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") };
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources})
    };
    match path.trim_end_matches('/') {
        "/api" => Some(json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})),
        "/apis" => Some(json!({"kind": "APIGroupList", "apiVersion": "v1",
            "groups": [group("batch"), group("rbac.authorization.k8s.io")]})),
        "/api/v1" => Some(resources("")),
        "/apis/batch/v1" => Some(resources("batch")),
        "/apis/rbac.authorization.k8s.io/v1" => Some(resources("rbac.authorization.k8s.io")),
        _ => None,
    }
}

/// A `Status`.
pub(super) fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "code": code, "reason": reason,
        "message": message})
}

fn failure(code: u16, reason: &str, message: &str) -> Response {
    answer_json(code, &status(code, reason, message))
}

fn answer_json(code: u16, value: &Value) -> Response {
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (code, [(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

/// Where a request goes.
struct Path<'a> {
    namespace: &'a str,
    resource: &'a str,
    name: &'a str,
    subresource: &'a str,
}

impl<'a> Path<'a> {
    fn read(path: &'a str) -> Option<Self> {
        let mut parts = path.trim_matches('/').split('/');
        // `/api/v1/…` or `/apis/GROUP/v1/…`
        if parts.next()? == "apis" {
            parts.next()?;
        }
        parts.next()?;
        let rest: Vec<_> = parts.collect();
        let (namespace, rest) = match &rest[..] {
            ["namespaces", namespace, rest @ ..] => (*namespace, rest),
            rest => ("", rest),
        };
        let part = |index: usize| rest.get(index).copied().unwrap_or_default();
        Some(Self { namespace, resource: part(0), name: part(1), subresource: part(2) })
    }
}

pub(super) async fn answer(
    Extract(shared): Extract<Arc<Shared>>,
    method: Method,
    uri: Uri,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Some(document) = discovery(uri.path()) {
        return answer_json(200, &document);
    }
    let Some(path) = Path::read(uri.path()) else { return failure(404, "NotFound", "no such path") };
    let is_watch = query.get("watch").is_some_and(|value| value == "true" || value == "1");
    let verb = match (&method, path.name.is_empty(), is_watch) {
        (&Method::GET, true, true) => "watch",
        (&Method::GET, true, false) => "list",
        (&Method::GET, false, _) => "get",
        (&Method::POST, ..) => "create",
        (&Method::PATCH, ..) => "patch",
        (&Method::DELETE, ..) => "delete",
        _ => return failure(405, "MethodNotAllowed", "this server does not know the method"),
    };
    if path.resource == "selfsubjectaccessreviews" {
        return review(&shared, &body);
    }
    let Some(resource) = RESOURCES.iter().find(|resource| resource.plural == path.resource) else {
        return failure(404, "NotFound", "the server could not find the requested resource");
    };
    if let Some(refused) = refused(&shared, verb, resource, &path) {
        return refused;
    }
    match verb {
        "watch" => {
            let version = query.get("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or(0);
            let kind = json!({"apiVersion": resource.api_version(), "kind": resource.kind});
            let body = watch::body(Arc::clone(&shared), resource.plural, Selector::of(&query), version, kind);
            Response::new(body)
        }
        "list" => {
            let (selector, state) = (Selector::of(&query), shared.lock());
            let items: Vec<_> =
                state.store.of(resource.plural).filter(|object| selector.has(object)).collect();
            answer_json(
                200,
                &json!({"apiVersion": resource.api_version(), "kind": format!("{}List", resource.kind),
                    "metadata": {"resourceVersion": state.store.version().to_string()}, "items": items}),
            )
        }
        "get" if path.subresource == "log" => read_log(&shared, &path, &query),
        "get" => {
            let state = shared.lock();
            let found = state.store.get(resource.plural, path.name);
            found.map_or_else(|| missing(resource, path.name), |object| answer_json(200, object))
        }
        "create" => create(&shared, resource, &path, &body),
        "patch" => {
            let is_apply = headers
                .get(header::CONTENT_TYPE)
                .is_some_and(|kind| kind.as_bytes().starts_with(b"application/apply-patch"));
            patch(&shared, resource, &path, &body, is_apply)
        }
        _ => {
            let deleted = shared.change(|state| state.store.delete(resource.plural, path.name));
            deleted.map_or_else(|| missing(resource, path.name), |object| answer_json(200, &object))
        }
    }
}

impl Resource {
    fn api_version(&self) -> String {
        if self.group.is_empty() { "v1".to_owned() } else { format!("{}/v1", self.group) }
    }

    /// As messages name it: `jobs.batch`.
    fn named(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }
}

fn missing(resource: &Resource, name: &str) -> Response {
    failure(404, "NotFound", &format!("{} \"{name}\" not found", resource.named()))
}

fn refused(shared: &Shared, verb: &'static str, resource: &Resource, path: &Path<'_>) -> Option<Response> {
    let mut state = shared.lock();
    let asked = if path.subresource.is_empty() {
        path.resource.to_owned()
    } else {
        format!("{}/{}", path.resource, path.subresource)
    };
    state.asked.push(Asked { verb, resource: asked.clone(), name: path.name.to_owned() });
    if !matches!(path.namespace, "default" | "ml") {
        return Some(failure(404, "NotFound", &format!("namespaces \"{}\" not found", path.namespace)));
    }
    if state.is_denied(verb, &asked) {
        let message = format!(
            "{} is forbidden: User \"eve\" cannot {verb} resource \"{asked}\" in API group \"{}\" in the namespace \"{}\"",
            resource.named(),
            resource.group,
            path.namespace
        );
        return Some(failure(403, "Forbidden", &message));
    }
    let index = state.refusals.iter().position(|one| one.verb == verb && one.resource == asked)?;
    let refusal = state.refusals.remove(index)?;
    Some(failure(refusal.status, "Refused", &refusal.message))
}

impl State {
    fn is_denied(&self, verb: &str, resource: &str) -> bool {
        self.denied.iter().any(|(denied, of)| denied == verb && of == resource)
    }
}

fn review(shared: &Shared, body: &Bytes) -> Response {
    let mut review: Value = serde_json::from_slice(body).unwrap_or_default();
    let asked = &review["spec"]["resourceAttributes"];
    let (verb, mut resource) = (text(asked, "/verb"), text(asked, "/resource"));
    if let Some(subresource) = asked["subresource"].as_str() {
        resource = format!("{resource}/{subresource}");
    }
    let allowed = !shared.lock().is_denied(&verb, &resource);
    review["status"] = json!({"allowed": allowed});
    answer_json(201, &review)
}

fn read_log(shared: &Arc<Shared>, path: &Path<'_>, query: &HashMap<String, String>) -> Response {
    let state = shared.lock();
    let Some(pod) = state.store.get("pods", path.name) else {
        return failure(404, "NotFound", &format!("pods \"{}\" not found", path.name));
    };
    if pod["status"]["containerStatuses"][0]["state"].get("waiting").is_some()
        || pod["status"]["phase"] == "Pending"
    {
        let message = format!("container in pod \"{}\" is waiting to start: ContainerCreating", path.name);
        return failure(400, "BadRequest", &message);
    }
    drop(state);
    let is = |key: &str| query.get(key).is_some_and(|value| value == "true");
    let since = query.get("sinceTime").and_then(|time| time.parse().ok());
    Response::new(log::body(Arc::clone(shared), path.name, since, is("follow"), is("timestamps")))
}

fn create(shared: &Shared, resource: &Resource, path: &Path<'_>, body: &Bytes) -> Response {
    let mut object: Value = match serde_json::from_slice(body) {
        Ok(object) => object,
        Err(error) => return failure(400, "BadRequest", &error.to_string()),
    };
    if let Err(message) = (resource.check)(&object) {
        return failure(400, "BadRequest", &message);
    }
    let name = text(&object, "/metadata/name");
    if name.is_empty() {
        return failure(422, "Invalid", "metadata.name: Required value");
    }
    object["metadata"]["namespace"] = path.namespace.into();
    object["apiVersion"] = resource.api_version().into();
    object["kind"] = resource.kind.into();
    shared.change(|state| {
        if state.store.get(resource.plural, &name).is_some() {
            let message = format!("{} \"{name}\" already exists", resource.named());
            return failure(409, "AlreadyExists", &message);
        }
        answer_json(201, &state.store.put(resource.plural, object))
    })
}

/// Server-side apply makes what is not there, and otherwise changes what it is given, as a merge does where nobody else
/// owns fields.
fn patch(shared: &Shared, resource: &Resource, path: &Path<'_>, body: &Bytes, is_apply: bool) -> Response {
    let changes: Value = match serde_json::from_slice(body) {
        Ok(changes) => changes,
        Err(error) => return failure(400, "BadRequest", &error.to_string()),
    };
    if is_apply
        && (changes["apiVersion"] != resource.api_version().as_str() || changes["kind"] != resource.kind)
    {
        return failure(400, "BadRequest", "an apply names its apiVersion and kind");
    }
    shared.change(|state| {
        let known = state.store.get(resource.plural, path.name).cloned();
        let mut object = match known {
            Some(known) => known,
            None if is_apply => json!({"metadata": {"name": path.name, "namespace": path.namespace}}),
            None => return missing(resource, path.name),
        };
        merge(&mut object, &changes);
        if let Err(message) = (resource.check)(&object) {
            return failure(422, "Invalid", &message);
        }
        answer_json(200, &state.store.put(resource.plural, object))
    })
}

/// RFC 7386.
fn merge(object: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            if let Some(fields) = object.as_object_mut() {
                fields.remove(key);
            }
        } else {
            merge(&mut object[key], value);
        }
    }
}
