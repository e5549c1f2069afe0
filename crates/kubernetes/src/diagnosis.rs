//! What the state of a Job and its pods means, in sentences.

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{ContainerState, ContainerStatus, Event, Pod},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use longshore_orchestrator::Phase;

/// What is known of a Job.
#[derive(Clone, Debug, Default)]
pub struct Observed<'a> {
    /// It.
    pub job: Option<&'a Job>,
    /// Its pods, one for each attempt.
    pub pods: Vec<&'a Pod>,
    /// What the cluster reported of it and of its pods.
    pub events: &'a [Event],
}

/// What the state of a Job and its pods means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How far it is.
    pub phase: Phase,
    /// Why, with the remedy.
    pub reason: Option<String>,
    /// When its first attempt began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub finished: Option<Timestamp>,
}

/// A time as the rest of the program has it.
pub(crate) fn timestamp(time: &Time) -> Timestamp {
    Timestamp::from_nanosecond(time.0.as_nanosecond()).unwrap_or_default()
}

impl Observed<'_> {
    /// What it means. `container` is the name of the container that does the work.
    pub fn finding(&self, container: &str) -> Finding {
        let mut pods = self.pods.clone();
        pods.sort_by_key(|pod| (created(pod), pod.metadata.name.clone()));
        let latest = pods.last().copied();
        let begun = pods.iter().filter_map(|pod| started(pod, container)).min();
        // What is told of a Job may come before what is told of its pods.
        let of_job = || {
            let job = self.job?;
            let started = job.status.as_ref().and_then(|status| status.start_time.as_ref());
            started.or(job.metadata.creation_timestamp.as_ref()).map(timestamp)
        };
        let finding = |phase: Phase, reason, finished| {
            let started = if phase.is_final() { begun.or_else(of_job) } else { begun };
            Finding { phase, reason, started, finished }
        };
        let condition = |kinds: &[&str]| {
            let conditions = self.job?.status.as_ref()?.conditions.as_ref()?;
            conditions.iter().find(|one| kinds.contains(&one.type_.as_str()) && one.status == "True")
        };
        if let Some(done) = condition(&["Complete", "SuccessCriteriaMet"]) {
            let ended = self.job.and_then(|job| job.status.as_ref()?.completion_time.as_ref());
            let ended = ended.or(done.last_transition_time.as_ref()).map(timestamp);
            return finding(Phase::Succeeded, None, ended);
        }
        if let Some(failed) = condition(&["Failed", "FailureTarget"]) {
            let said = failed.message.clone().or_else(|| failed.reason.clone()).unwrap_or_default();
            let attempts = pods.iter().filter(|pod| phase(pod) == "Failed").count();
            let last = pods.iter().rev().find_map(|pod| failure(pod, container));
            let mut reason = last.unwrap_or_else(|| format!("its Job failed: {}", sentence(&said)));
            if attempts > 1 {
                reason = format!("after {attempts} attempts: {reason}");
            }
            return finding(Phase::Failed, Some(reason), failed.last_transition_time.as_ref().map(timestamp));
        }
        let Some(pod) = latest else {
            return finding(Phase::Pending, self.not_created(), None);
        };
        match phase(pod) {
            "Running" => finding(Phase::Running, self.waiting(pod), None),
            // Between two attempts, or before the Job's own status says so.
            "Succeeded" => finding(Phase::Running, None, None),
            "Failed" => {
                let reason = failure(pod, container).map(|why| format!("an attempt failed: {why}"));
                finding(Phase::Running, reason.or_else(|| self.not_created()), None)
            }
            _ => {
                let reason = unschedulable(pod).or_else(|| self.waiting(pod)).or_else(|| self.mounts(pod));
                finding(if pods.len() > 1 { Phase::Running } else { Phase::Pending }, reason, None)
            }
        }
    }

    /// Why a container of a pod does not begin.
    fn waiting(&self, pod: &Pod) -> Option<String> {
        let status = pod.status.as_ref()?;
        let statuses =
            status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
        statuses.into_iter().find_map(|container| {
            let waiting = container.state.as_ref()?.waiting.as_ref()?;
            let reason = waiting.reason.as_deref()?;
            let message = waiting.message.as_deref().unwrap_or_default();
            match reason {
                "ErrImagePull" | "ImagePullBackOff" | "RegistryUnavailable" => {
                    // What the registry said is often only in an event.
                    let pull = |event: &&Event| {
                        event.reason.as_deref() == Some("Failed")
                            && event.involved_object.name == pod.metadata.name
                            && event.message.as_deref().is_some_and(|text| text.contains("pull image"))
                    };
                    let reported = self.events.iter().rfind(pull);
                    let reported = reported.and_then(|event| event.message.as_deref());
                    let said = match reported {
                        Some(text) if !message.contains("rpc error") => text,
                        _ => message,
                    };
                    Some(not_pulled(container, said))
                }
                "InvalidImageName" | "ErrImageNeverPull" | "ImageInspectError" => {
                    Some(format!("the image {} cannot be used: {}", container.image, sentence(message)))
                }
                "CreateContainerConfigError" => Some(format!(
                    "the container cannot be configured: {}; what env, volumes or secrets refer to has to exist in the namespace",
                    sentence(message)
                )),
                "CreateContainerError" | "RunContainerError" => {
                    Some(format!("the container cannot be started: {}", sentence(message)))
                }
                "CrashLoopBackOff" => {
                    let last = container.last_state.as_ref().and_then(|state| terminated(container, state, pod));
                    let last = last.unwrap_or_else(|| sentence(message).to_owned());
                    Some(format!("the container {} ends again and again: {last}", container.name))
                }
                _ => None,
            }
        })
    }

    /// Why a scheduled pod has no container yet: a volume that is not there.
    fn mounts(&self, pod: &Pod) -> Option<String> {
        let of_pod = |event: &&Event| {
            matches!(
                event.reason.as_deref(),
                Some("FailedMount" | "FailedAttachVolume" | "FailedCreatePodSandBox")
            ) && event.involved_object.name == pod.metadata.name
        };
        let message = self.events.iter().rfind(of_pod)?.message.as_deref()?;
        Some(format!("the pod cannot be set up: {}", sentence(message)))
    }

    /// Why a Job has no pod.
    fn not_created(&self) -> Option<String> {
        let name = self.job?.metadata.name.as_ref();
        let of_job = |event: &&Event| {
            event.reason.as_deref() == Some("FailedCreate") && event.involved_object.name.as_ref() == name
        };
        let message = self.events.iter().rfind(of_job)?.message.as_deref()?;
        let said = sentence(message);
        Some(if message.contains("exceeded quota") {
            format!(
                "a quota of the namespace leaves no room for its pod: {said}; wait until other work ends, ask for less with \
                 ResourceSettings, or have the ResourceQuota raised"
            )
        } else if message.contains("must specify") && message.contains("failed quota") {
            format!(
                "a quota of the namespace wants every pod to say what it needs: {said}; set cpu and memory in ResourceSettings"
            )
        } else if let Some((_, violated)) = said.split_once("violates PodSecurity ") {
            let remedy = if violated.contains("runAsNonRoot") {
                "give its image a user other than root, by number: DockerSettings(user=\"1000\")"
            } else {
                "change KubernetesSettings so that it complies"
            };
            format!("the namespace's Pod Security Standard does not admit its pod: {violated}; {remedy}")
        } else if message.contains("error looking up service account") {
            format!(
                "its pod is not made: {said}; create the service account, or name another in KubernetesSettings"
            )
        } else {
            format!(
                "the cluster refuses its pod: {said}; change KubernetesSettings so that it complies with the cluster's rules"
            )
        })
    }
}

fn created(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.creation_timestamp.as_ref().map(timestamp)
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

fn status<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.iter().find(|status| status.name == container)
}

fn started(pod: &Pod, container: &str) -> Option<Timestamp> {
    let state = status(pod, container)?.state.as_ref()?;
    let running = state.running.as_ref().and_then(|running| running.started_at.as_ref());
    let ended = state.terminated.as_ref().and_then(|ended| ended.started_at.as_ref());
    running.or(ended).map(timestamp)
}

/// Why a pod failed.
fn failure(pod: &Pod, container: &str) -> Option<String> {
    let of_pod = pod.status.as_ref()?;
    let message = sentence(of_pod.message.as_deref().unwrap_or_default());
    match of_pod.reason.as_deref() {
        Some("DeadlineExceeded") => {
            let limit = pod.spec.as_ref().and_then(|spec| spec.active_deadline_seconds);
            let limit = limit.map_or_else(String::new, |seconds| format!(" of {seconds} s"));
            return Some(format!(
                "it took longer than its timeout{limit}; give it a longer one, or less to do"
            ));
        }
        Some("Evicted") => {
            return Some(format!(
                "its pod was evicted from the node: {message}; ask for what it uses with ResourceSettings(memory=…), and keep \
                 large files on a volume"
            ));
        }
        Some(reason) if status(pod, container).is_none_or(|status| ended(status).is_none()) => {
            return Some(format!("its pod ended: {reason}: {message}"));
        }
        _ => {}
    }
    let disrupted = of_pod.conditions.iter().flatten();
    let disrupted = disrupted.into_iter().find(|one| one.type_ == "DisruptionTarget" && one.status == "True");
    if let Some(condition) = disrupted {
        let said = condition.message.as_deref().or(condition.reason.as_deref()).unwrap_or_default();
        return Some(format!("its pod had to go: {}", sentence(said)));
    }
    // A container beside the step's, put there by the cluster, may be the one that failed.
    let main = status(pod, container).into_iter();
    let others = of_pod.init_container_statuses.iter().chain(&of_pod.container_statuses).flatten();
    main.chain(others).find_map(|status| terminated(status, status.state.as_ref()?, pod))
}

fn ended(status: &ContainerStatus) -> Option<i32> {
    Some(status.state.as_ref()?.terminated.as_ref()?.exit_code)
}

/// Why a container ended, if it did not end well.
fn terminated(status: &ContainerStatus, state: &ContainerState, pod: &Pod) -> Option<String> {
    let ended = state.terminated.as_ref()?;
    match (ended.reason.as_deref(), ended.exit_code) {
        (Some("OOMKilled"), _) => {
            let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
            let limit = containers
                .filter(|container| container.name == status.name)
                .find_map(|container| container.resources.as_ref()?.limits.as_ref()?.get("memory"));
            Some(match limit {
                Some(limit) => format!(
                    "it was killed since it used more than its {} of memory; give it more with ResourceSettings(memory=…)",
                    limit.0
                ),
                None => "it was killed since its node ran out of memory; ask for what it needs with ResourceSettings(memory=…)"
                    .to_owned(),
            })
        }
        (_, 0) => None,
        (reason, code) => {
            let said = ended.message.as_deref().and_then(last_line);
            let how = match code {
                137 => "was killed (exit code 137)".to_owned(),
                139 => "crashed (exit code 139, SIGSEGV)".to_owned(),
                143 => "was told to end (exit code 143)".to_owned(),
                code => format!("ended with exit code {code}"),
            };
            Some(match (said, reason) {
                (Some(line), _) => format!("it {how}: {line}"),
                (None, Some(reason)) if !matches!(reason, "Error" | "Completed") => {
                    format!("it {how}: {reason}")
                }
                (None, _) => format!("it {how}; its logs say more"),
            })
        }
    }
}

/// The last line that says something: of a Python traceback, the exception.
fn last_line(text: &str) -> Option<&str> {
    text.lines().rev().map(str::trim).find(|line| !line.is_empty())
}

fn not_pulled(container: &ContainerStatus, said: &str) -> String {
    let image = &container.image;
    let text = said.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let remedy = if has(&[
        "unauthorized",
        "forbidden",
        "denied",
        "401",
        "403",
        "authentication required",
        "no basic auth",
    ]) {
        "the cluster's credentials for the registry are missing, expired or lack the right to pull: check the service connector, \
         or the orchestrator's image_pull_secrets"
    } else if has(&["not found", "manifest unknown", "404", "name unknown"]) {
        "it is not in the registry that the cluster reaches: build and push it again"
    } else if has(&["x509", "certificate"]) {
        "the nodes do not trust the registry's certificate: add its authority to them"
    } else if has(&["no such host", "connection refused", "i/o timeout", "dial tcp", "server misbehaving"]) {
        "the nodes do not reach the registry: check its address from within the cluster"
    } else if has(&["no match for platform", "exec format"]) {
        "it is not made for the nodes' processors: build it for their platform"
    } else if has(&["toomanyrequests", "too many requests", "429", "rate limit"]) {
        "the registry limits how often it is asked: give the cluster credentials, or a mirror"
    } else if has(&["no space left"]) {
        "the node's disk is full"
    } else {
        "check that the nodes reach the registry, and their credentials for it"
    };
    format!("the image {image} cannot be pulled: {}; {remedy}", sentence(said))
}

fn unschedulable(pod: &Pod) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let scheduled = conditions.iter().find(|one| one.type_ == "PodScheduled" && one.status == "False")?;
    let said = scheduled.message.as_deref().unwrap_or_default();
    match scheduled.reason.as_deref() {
        Some("Unschedulable") => {}
        Some("SchedulingGated") => return Some(format!("its pod is held back: {}", sentence(said))),
        _ => return None,
    }
    let mut remedies = Vec::new();
    if said.contains("Insufficient nvidia.com/gpu") {
        remedies.push("no node has a free accelerator: ask for fewer, or add nodes that have them");
    }
    if said.contains("Insufficient cpu")
        || said.contains("Insufficient memory")
        || said.contains("Insufficient ephemeral")
    {
        remedies.push("no node has so much free: ask for less with ResourceSettings, or add nodes");
    }
    if said.contains("untolerated taint") || said.contains("didn't tolerate") {
        remedies.push("nodes are tainted: add what fits to KubernetesSettings(tolerations=…)");
    }
    if said.contains("didn't match Pod's node affinity") || said.contains("didn't match node selector") {
        remedies.push("no node has the labels asked for: check node_selector, affinity and gpu_type");
    }
    if said.contains("persistentvolumeclaim") || said.contains("PersistentVolume") {
        remedies.push("a volume claim is missing or not bound");
    }
    let remedies = if remedies.is_empty() { String::new() } else { format!("; {}", remedies.join("; ")) };
    // What follows is about preemption and about claims of devices, which the user did not ask for.
    let about_others = [" preemption:", " no new claims to deallocate"];
    let end = about_others.iter().filter_map(|words| said.find(words)).min();
    let said = said[..end.unwrap_or(said.len())].trim_end_matches(',');
    Some(format!("no node takes its pod: {}{remedies}", sentence(said)))
}

/// A text of the cluster's as part of a sentence.
fn sentence(text: &str) -> &str {
    text.trim().trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(spec: &Value, status: &Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "r-train-abcde", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": spec, "status": status,
        }))
        .unwrap()
    }

    fn job(status: &Value) -> Job {
        serde_json::from_value(json!({"metadata": {"name": "r-train"}, "status": status})).unwrap()
    }

    fn spec() -> Value {
        json!({"containers": [{"name": "step", "resources": {"limits": {"memory": "2Gi"}}}]})
    }

    fn failed() -> Job {
        job(&json!({"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded",
            "message": "Job has reached the specified backoff limit", "lastTransitionTime": "2026-01-01T00:01:00Z"}]}))
    }

    fn finding(job: &Job, pods: &[Pod], events: &[Event]) -> Finding {
        Observed { job: Some(job), pods: pods.iter().collect(), events }.finding("step")
    }

    fn container(state: &Value) -> Value {
        json!({"phase": "Failed", "containerStatuses": [{"name": "step", "image": "gcr.io/p/i@sha256:00", "imageID": "",
            "ready": false, "restartCount": 0, "state": state}]})
    }

    fn event(reason: &str, object: &str, message: &str) -> Event {
        serde_json::from_value(json!({"metadata": {"name": "e"}, "reason": reason, "message": message,
            "involvedObject": {"name": object}}))
        .unwrap()
    }

    #[test]
    fn a_step_out_of_memory_is_told_its_limit() {
        let status = container(&json!({"terminated": {"exitCode": 137, "reason": "OOMKilled",
            "startedAt": "2026-01-01T00:00:05Z"}}));
        let finding = finding(&failed(), &[pod(&spec(), &status)], &[]);
        assert_eq!(finding.phase, Phase::Failed);
        assert_eq!(
            finding.reason.unwrap(),
            "it was killed since it used more than its 2Gi of memory; give it more with ResourceSettings(memory=…)"
        );
        assert_eq!(finding.started.unwrap().to_string(), "2026-01-01T00:00:05Z");
        assert_eq!(finding.finished.unwrap().to_string(), "2026-01-01T00:01:00Z");
    }

    #[test]
    fn a_step_that_failed_says_its_last_words() {
        let status = container(&json!({"terminated": {"exitCode": 1, "reason": "Error",
            "message": "Traceback (most recent call last):\n  …\nValueError: no rows\n"}}));
        let pods = [pod(&spec(), &status), pod(&spec(), &status)];
        let reason = finding(&failed(), &pods, &[]).reason.unwrap();
        assert_eq!(reason, "after 2 attempts: it ended with exit code 1: ValueError: no rows");
    }

    #[test]
    fn an_image_that_is_not_pulled_comes_with_what_the_registry_said() {
        let waiting = |message: &str| {
            let mut status =
                container(&json!({"waiting": {"reason": "ImagePullBackOff", "message": message}}));
            status["phase"] = "Pending".into();
            pod(&spec(), &status)
        };
        let job = job(&json!({"active": 1}));
        let old = waiting("Back-off pulling image \"gcr.io/p/i@sha256:00\"");
        let event = event(
            "Failed",
            "r-train-abcde",
            "Failed to pull image \"gcr.io/p/i@sha256:00\": rpc error: code = Unknown desc = 401 Unauthorized",
        );
        let found = finding(&job, &[old], &[event]);
        assert_eq!(found.phase, Phase::Pending);
        let reason = found.reason.unwrap();
        assert!(reason.contains("401 Unauthorized; the cluster's credentials"), "{reason}");
        let new = waiting(
            "Back-off pulling image \"x\": ErrImagePull: rpc error: code = NotFound desc = x: not found",
        );
        let reason = finding(&job, &[new], &[]).reason.unwrap();
        assert!(reason.ends_with(
            "not found; it is not in the registry that the cluster reaches: build and push it again"
        ));
    }

    #[test]
    fn a_pod_that_fits_nowhere_says_what_to_change() {
        let status = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "0/3 nodes are available: 1 node(s) had untolerated taint {spot: true}, \
            2 Insufficient nvidia.com/gpu. no new claims to deallocate, preemption: 0/3 nodes are available: 3 Preemption is not helpful."}]});
        let reason = finding(&job(&json!({"active": 1})), &[pod(&spec(), &status)], &[]).reason.unwrap();
        assert_eq!(
            reason,
            "no node takes its pod: 0/3 nodes are available: 1 node(s) had untolerated taint {spot: true}, 2 Insufficient \
             nvidia.com/gpu; no node has a free accelerator: ask for fewer, or add nodes that have them; nodes are tainted: add \
             what fits to KubernetesSettings(tolerations=…)"
        );
    }

    #[test]
    fn other_ends_have_sentences_too() {
        let reason =
            |status: &Value, spec: &Value| finding(&failed(), &[pod(spec, status)], &[]).reason.unwrap();
        let mut late = spec();
        late["activeDeadlineSeconds"] = 60.into();
        let text = reason(
            &json!({"phase": "Failed", "reason": "DeadlineExceeded", "message": "Pod was active"}),
            &late,
        );
        assert!(text.starts_with("it took longer than its timeout of 60 s"), "{text}");
        let text = reason(
            &json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}),
            &spec(),
        );
        assert!(
            text.starts_with("its pod was evicted from the node: The node was low on resource: memory; "),
            "{text}"
        );
    }

    #[test]
    fn a_container_that_cannot_be_configured_says_so() {
        let mut status = container(
            &json!({"waiting": {"reason": "CreateContainerConfigError", "message": "secret \"x\" not found"}}),
        );
        status["phase"] = "Pending".into();
        let reason = finding(&job(&json!({"active": 1})), &[pod(&spec(), &status)], &[]).reason.unwrap();
        assert!(
            reason.starts_with("the container cannot be configured: secret \"x\" not found; "),
            "{reason}"
        );
        let mut status =
            container(&json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}}));
        status["phase"] = "Running".into();
        status["containerStatuses"][0]["lastState"] =
            json!({"terminated": {"exitCode": 2, "message": "bad flag"}});
        let reason = finding(&job(&json!({"active": 1})), &[pod(&spec(), &status)], &[]).reason.unwrap();
        assert_eq!(reason, "the container step ends again and again: it ended with exit code 2: bad flag");
    }

    #[test]
    fn a_job_without_pods_says_why() {
        let told = |message: &str| {
            finding(&job(&json!({})), &[], &[event("FailedCreate", "r-train", message)]).reason.unwrap()
        };
        let quota = told(
            "Error creating: pods \"r\" is forbidden: exceeded quota: q, requested: cpu=4, used: cpu=8, limited: cpu=8",
        );
        assert!(
            quota.starts_with("a quota of the namespace leaves no room") && quota.contains("cpu=8; wait"),
            "{quota}"
        );
        let denied = told("Error creating: admission webhook \"p.example.com\" denied the request: no root");
        assert!(denied.starts_with("the cluster refuses its pod: "), "{denied}");
        assert_eq!(finding(&job(&json!({})), &[], &[]).reason, None);
    }

    #[test]
    fn success_has_times() {
        let done = job(&json!({"completionTime": "2026-01-01T00:02:00Z",
            "conditions": [{"type": "Complete", "status": "True"}]}));
        let status = container(&json!({"terminated": {"exitCode": 0, "startedAt": "2026-01-01T00:01:00Z"}}));
        let found = finding(&done, &[pod(&spec(), &status)], &[]);
        assert_eq!((found.phase, found.reason), (Phase::Succeeded, None));
        assert_eq!(found.finished.unwrap().to_string(), "2026-01-01T00:02:00Z");
    }
}
