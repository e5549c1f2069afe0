//! The Job controller, and a kubelet that plays pods by a script.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    Shared,
    store::{Store, text},
};

/// How an attempt of a Job goes: what becomes of its pod.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Attempt {
    /// It prints lines and ends well.
    Succeeds(Vec<String>),
    /// It prints lines and ends with a code; the last line is its termination message.
    Fails(i32, Vec<String>),
    /// It needs more memory than it may have.
    OutOfMemory,
    /// It runs until it is ended.
    Runs,
    /// Its container waits for something that never comes: reason and message.
    Waits(String, String),
    /// No node takes it: the scheduler's message.
    Unschedulable(String),
    /// Its pod fails as a whole: reason and message.
    PodFails(String, String),
}

#[derive(Debug)]
pub(super) struct Script {
    label: String,
    value: String,
    attempts: Vec<Attempt>,
}

impl Script {
    pub(super) fn new(label: &str, value: &str, attempts: impl IntoIterator<Item = Attempt>) -> Self {
        Self { label: label.to_owned(), value: value.to_owned(), attempts: attempts.into_iter().collect() }
    }
}

fn now() -> Value {
    json!(Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// Moves Jobs and pods on, one phase at a time, whenever something has changed.
pub(super) async fn carry_out(shared: Arc<Shared>) {
    let mut changed = shared.changed.subscribe();
    loop {
        let moved = {
            let mut state = shared.lock();
            let state = &mut *state;
            let before = state.store.version();
            step(&mut state.store, &state.scripts);
            let version = state.store.version();
            (version != before).then_some(version)
        };
        if let Some(version) = moved {
            shared.changed.send_replace(version);
            changed.mark_unchanged();
            // Who watches sees each phase.
            tokio::task::yield_now().await;
            continue;
        }
        // A deadline passes without a change.
        let wait = tokio::time::timeout(std::time::Duration::from_millis(200), changed.changed());
        if matches!(wait.await, Ok(Err(_))) {
            return;
        }
    }
}

fn step(store: &mut Store, scripts: &[Script]) {
    let jobs: Vec<Value> = store.of("jobs").cloned().collect();
    for mut job in jobs {
        let name = text(&job, "/metadata/name");
        if job["spec"]["suspend"] == true || is_finished(&job) {
            continue;
        }
        if job["status"]["startTime"].is_null() {
            job["status"]["startTime"] = now();
        }
        let pods: Vec<Value> = store
            .of("pods")
            .filter(|pod| pod["metadata"]["labels"]["job-name"] == name.as_str())
            .cloned()
            .collect();
        let is_over = |pod: &&Value| matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        let failed = pods.iter().filter(|pod| pod["status"]["phase"] == "Failed").count() as u64;
        let succeeded = pods.iter().any(|pod| pod["status"]["phase"] == "Succeeded");
        let active: Vec<&Value> = pods.iter().filter(|pod| !is_over(pod)).collect();
        job["status"]["active"] = json!(active.len());
        job["status"]["failed"] = json!(failed);
        if is_late(&job) {
            for pod in &active {
                store.delete("pods", &text(pod, "/metadata/name"));
            }
            finish(&mut job, "Failed", "DeadlineExceeded", "Job was active longer than specified deadline");
        } else if succeeded {
            job["status"]["succeeded"] = json!(1);
            job["status"]["completionTime"] = now();
            finish(&mut job, "Complete", "CompletionsReached", "Reached expected number of succeeded pods");
        } else if pods.iter().any(|pod| fails_job(&job, pod)) {
            finish(
                &mut job,
                "Failed",
                "PodFailurePolicy",
                "Container failed with an exit code that fails the Job",
            );
        } else if failed > job["spec"]["backoffLimit"].as_u64().unwrap_or(6) {
            finish(&mut job, "Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit");
        } else if active.is_empty() {
            let pod = new_pod(&job, &name, pods.len());
            store.put("pods", pod);
            job["status"]["active"] = json!(1);
        }
        store.put("jobs", job.clone());
        if is_finished(&job) {
            continue;
        }
        let script =
            scripts.iter().find(|script| job["metadata"]["labels"][&script.label] == script.value.as_str());
        for (index, pod) in pods.iter().enumerate().filter(|(_, pod)| !is_over(pod)) {
            let attempts = script.map(|script| script.attempts.as_slice()).unwrap_or_default();
            let attempt = attempts.get(index).or(attempts.last());
            play(store, pod.clone(), attempt.unwrap_or(&Attempt::Succeeds(Vec::new())));
        }
    }
}

fn is_finished(job: &Value) -> bool {
    job["status"]["conditions"].as_array().is_some_and(|conditions| !conditions.is_empty())
}

fn is_late(job: &Value) -> bool {
    let start = job["status"]["startTime"].as_str().and_then(|time| time.parse::<Timestamp>().ok());
    let limit = job["spec"]["activeDeadlineSeconds"].as_i64();
    match (start, limit) {
        (Some(start), Some(limit)) => {
            Timestamp::now().duration_since(start) >= SignedDuration::from_secs(limit)
        }
        _ => false,
    }
}

/// Whether the Job's policy wants it to fail with this pod.
fn fails_job(job: &Value, pod: &Value) -> bool {
    let code = &pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"];
    let rules = job["spec"]["podFailurePolicy"]["rules"].as_array();
    pod["status"]["phase"] == "Failed"
        && rules.into_iter().flatten().any(|rule| {
            rule["action"] == "FailJob"
                && rule["onExitCodes"]["values"].as_array().is_some_and(|values| values.contains(code))
        })
}

fn finish(job: &mut Value, kind: &str, reason: &str, message: &str) {
    job["status"]["active"] = json!(0);
    job["status"]["conditions"] = json!([{"type": kind, "status": "True", "reason": reason, "message": message,
        "lastTransitionTime": now()}]);
}

fn new_pod(job: &Value, name: &str, number: usize) -> Value {
    let template = &job["spec"]["template"];
    let mut metadata = template["metadata"].clone();
    metadata["name"] = json!(format!("{name}-{number:05}"));
    metadata["namespace"] = job["metadata"]["namespace"].clone();
    metadata["labels"]["job-name"] = json!(name);
    metadata["labels"]["batch.kubernetes.io/job-name"] = json!(name);
    metadata["ownerReferences"] = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": name,
        "uid": job["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true}]);
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"],
        "status": {"phase": "Pending"}})
}

/// Moves a pod on by one phase.
fn play(store: &mut Store, mut pod: Value, attempt: &Attempt) {
    let container = pod["spec"]["containers"][0].clone();
    let state = |state: Value| {
        json!([{"name": container["name"], "image": container["image"], "imageID": "", "ready": false,
            "restartCount": 0, "state": state}])
    };
    let name = text(&pod, "/metadata/name");
    match attempt {
        Attempt::Waits(reason, message) => {
            pod["status"] = json!({"phase": "Pending",
                "containerStatuses": state(json!({"waiting": {"reason": reason, "message": message}}))});
        }
        Attempt::Unschedulable(message) => {
            pod["status"] = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
                "reason": "Unschedulable", "message": message}]});
        }
        Attempt::PodFails(reason, message) => {
            pod["status"] = json!({"phase": "Failed", "reason": reason, "message": message});
        }
        _ if pod["status"]["phase"] == "Pending" => {
            pod["status"] = json!({"phase": "Running", "containerStatuses": state(json!({"running": {"startedAt": now()}}))});
        }
        Attempt::Runs => return,
        Attempt::Succeeds(lines) => {
            store.print_to(&name, lines);
            end(&mut pod, 0, None);
        }
        Attempt::Fails(code, lines) => {
            store.print_to(&name, lines);
            end(&mut pod, *code, lines.last().map(String::as_str));
        }
        Attempt::OutOfMemory => {
            end(&mut pod, 137, None);
            pod["status"]["containerStatuses"][0]["state"]["terminated"]["reason"] = json!("OOMKilled");
        }
    }
    store.put("pods", pod);
}

fn end(pod: &mut Value, code: i32, message: Option<&str>) {
    let started = pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"].clone();
    pod["status"]["phase"] = json!(if code == 0 { "Succeeded" } else { "Failed" });
    pod["status"]["containerStatuses"][0]["state"] = json!({"terminated": {"exitCode": code, "startedAt": started,
        "finishedAt": now(), "reason": if code == 0 { "Completed" } else { "Error" }, "message": message}});
}

pub(super) fn end_pods(store: &mut Store, label: &str, value: &str, code: i32) {
    let pods: Vec<Value> = store
        .of("pods")
        .filter(|pod| pod["metadata"]["labels"][label] == value && pod["status"]["phase"] == "Running")
        .cloned()
        .collect();
    for mut pod in pods {
        end(&mut pod, code, None);
        store.put("pods", pod);
    }
}
