//! In which pods a step printed.
//!
//! Kubeflow tells which Argo nodes a task has, not which pods. Argo makes a pod's name of the workflow's, the template's, and
//! the FNV-1a hash (32 bits) of the node's name, and a node's name of those of the tasks that it is in: `<workflow>.root.<task>
//! .executor`, with `(n)` for each try of a task that is tried again.

use serde_json::Value;

use crate::ir;

/// The template of the pods in which steps run.
const TEMPLATE: &str = "system-container-impl";

/// The pods of the tries of a step, in their order. Each pod by the names that it may have: newer and older versions of Kubeflow
/// and Argo differ.
pub(crate) fn pods(spec: &Value, task: &str, child: &str) -> Vec<Vec<String>> {
    let (pipeline, platform) = match spec.get("pipeline_spec") {
        Some(pipeline) => (pipeline, spec.get("platform_spec").unwrap_or(&Value::Null)),
        None => (spec, &Value::Null),
    };
    let Some((workflow, hash)) = child.rsplit_once('-') else { return vec![vec![child.to_owned()]] };
    let at = |document: &Value, pointer: &str| document.pointer(pointer).cloned().unwrap_or_default();
    let retries = at(pipeline, &format!("/root/dag/tasks/{task}/retryPolicy/maxRetryCount")).as_f64();
    let template = if retries.is_some() { format!("retry-{TEMPLATE}") } else { TEMPLATE.to_owned() };
    let executors = "/platforms/kubernetes/deploymentSpec/executors";
    let metadata = at(platform, &format!("{executors}/{}/podMetadata", ir::executor(task)));
    let count = |field: &str| metadata.get(field).and_then(Value::as_object).map_or(0, serde_json::Map::len);
    let mut templates = vec![template.clone()];
    if metadata.is_object() {
        templates.insert(0, format!("metadata-{}-{}-{template}", count("annotations"), count("labels")));
    }
    let named = |hash: &str| {
        let mut names: Vec<String> =
            templates.iter().map(|template| format!("{workflow}-{template}-{hash}")).collect();
        names.push(format!("{workflow}-{hash}"));
        names
    };
    // Where Kubeflow names the pod after all.
    if child.contains(TEMPLATE) {
        return vec![vec![child.to_owned()]];
    }
    let node = format!("{workflow}.root.{task}.executor");
    match retries {
        // No more than what protobuf's 32 bits hold, and no more than anybody waits for.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 1000")]
        Some(retries) if fnv(&node).to_string() == hash => (0..=retries.clamp(0.0, 1000.0) as u32)
            .map(|attempt| named(&fnv(&format!("{node}({attempt})")).to_string()))
            .collect(),
        _ => vec![named(hash)],
    }
}

/// FNV-1a, 32 bits.
fn fnv(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_hash_is_fnv_1a() {
        // The published test vectors.
        assert_eq!((fnv(""), fnv("a"), fnv("foobar")), (0x811c_9dc5, 0xe40c_292c, 0xbf9c_f968));
    }

    #[test]
    fn a_step_that_is_tried_once_has_one_pod() {
        let spec = json!({ "root": { "dag": { "tasks": { "train": {} } } } });
        let names = pods(&spec, "train", "p-x7k2p-1234567");
        assert_eq!(names, [["p-x7k2p-system-container-impl-1234567", "p-x7k2p-1234567"]]);
    }

    #[test]
    fn each_try_has_a_pod_of_its_own() {
        let spec = json!({
            "pipeline_spec": { "root": { "dag": { "tasks": { "train": { "retryPolicy": { "maxRetryCount": 1 } } } } } },
            "platform_spec": { "platforms": { "kubernetes": { "deploymentSpec": { "executors": {
                "exec-train": { "podMetadata": { "labels": { "a": "b", "c": "d" } } } } } } } },
        });
        let child = format!("p-x7k2p-{}", fnv("p-x7k2p.root.train.executor"));
        let names = pods(&spec, "train", &child);
        let expected = |attempt: u32| {
            let hash = fnv(&format!("p-x7k2p.root.train.executor({attempt})"));
            format!("p-x7k2p-metadata-0-2-retry-system-container-impl-{hash}")
        };
        assert_eq!(
            names.iter().map(|names| names[0].clone()).collect::<Vec<_>>(),
            [expected(0), expected(1)]
        );
        assert_eq!(names[0].len(), 3, "{names:?}");
    }
}
