//! What a workflow becomes for Kubeflow.
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

mod kit;

use std::collections::BTreeMap;

use kit::{config, spec, workflow, workflow_with};
use longshore_kubeflow::{Plan, containers, steps};
use serde_json::{Value, json};

fn plan(spec: &Value) -> Plan {
    Plan::new(&workflow(spec), &config(&[])).unwrap()
}

fn executor<'a>(plan: &'a Plan, task: &str) -> &'a Value {
    let platform = plan.platform.as_ref().unwrap();
    &platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"][format!("exec-{task}")]
}

#[test]
fn steps_are_tasks_in_the_pipelines_order() {
    let pipeline = plan(&spec()).pipeline;
    let tasks = &pipeline["root"]["dag"]["tasks"];
    assert_eq!(
        pipeline["pipelineInfo"],
        json!({ "name": "digits-pipeline", "displayName": "digits_pipeline" })
    );
    assert_eq!(tasks["load-data"].get("dependentTasks"), None);
    assert_eq!(tasks["train"]["dependentTasks"], json!(["load-data"]));
    assert_eq!(tasks["evaluate"]["dependentTasks"], json!(["load-data", "train"]));
    let expected = BTreeMap::from(
        [("evaluate", "evaluate"), ("load-data", "load_data"), ("train", "train")]
            .map(|(task, step)| (task.to_owned(), step.to_owned())),
    );
    assert_eq!(steps(&pipeline), expected);
}

#[test]
fn a_task_is_a_container_with_its_resources_and_retries() {
    let pipeline = plan(&spec()).pipeline;
    let container = &pipeline["deploymentSpec"]["executors"]["exec-train"]["container"];
    let resources = json!({
        "cpuLimit": 1.5, "resourceCpuLimit": "1.5", "memoryLimit": 1.610_612_736, "resourceMemoryLimit": "1536Mi",
        "accelerator": { "type": "nvidia.com/gpu", "resourceType": "nvidia.com/gpu", "count": "1", "resourceCount": "1" },
    });
    assert_eq!(container["resources"], resources);
    assert_eq!(container["env"], json!([{ "name": "AWS_REGION", "value": "eu-central-1" }]));
    let arguments = container["args"].as_array().unwrap();
    assert_eq!(arguments[..2], [json!("--run"), json!("{{$.inputs.parameters['run']}}")]);
    let task = &pipeline["root"]["dag"]["tasks"]["train"];
    assert_eq!(task["inputs"]["parameters"]["run"]["runtimeValue"]["constant"], "{{$.pipeline_job_uuid}}");
    assert_eq!(task["retryPolicy"]["maxRetryCount"], 2);
    assert_eq!(task["cachingOptions"], json!({}));
}

#[test]
fn what_only_kubernetes_knows_is_in_the_platform_spec() {
    let plan = plan(&spec());
    let constant = |text: &str| json!({ "runtimeValue": { "constant": text } });
    let expected = json!({
        "nodeSelector": { "labels": { "pool": "cpu", "cloud.google.com/gke-accelerator": "nvidia-tesla-t4" } },
        "tolerations": [{ "key": "gpu", "operator": "Exists", "effect": "NoSchedule" }],
        "podMetadata": { "labels": { "team": "ml" }, "annotations": { "note": "n" } },
        "imagePullSecret": [{ "secretName": "regcred", "secretNameParameter": constant("regcred") }],
        "imagePullPolicy": "IfNotPresent",
        "secretAsEnv": [{
            "secretName": "huggingface", "secretNameParameter": constant("huggingface"), "optional": false,
            "keyToEnv": [{ "envVar": "HF_TOKEN", "secretKey": "token" }],
        }],
        "secretAsVolume": [{
            "secretName": "keys", "secretNameParameter": constant("keys"), "mountPath": "/etc/keys", "optional": false,
        }],
        "pvcMount": [{ "mountPath": "/data", "constant": "datasets", "pvcNameParameter": constant("datasets") }],
        "activeDeadlineSeconds": "3600",
        "securityContext": { "runAsUser": "1000" },
    });
    // A step's own node selector would take the place of the pipeline's; it has none.
    assert_eq!(executor(&plan, "train"), &expected);
    assert_eq!(executor(&plan, "evaluate"), &json!({ "nodeSelector": { "labels": { "pool": "cpu" } } }));
}

#[test]
fn a_pipeline_that_needs_nothing_of_kubernetes_has_one_document() {
    let mut spec = spec();
    spec["settings"] = json!({});
    spec["steps"][1]["settings"] = json!({});
    spec["steps"][1]["timeout"] = Value::Null;
    let plan = plan(&spec);
    assert_eq!(plan.platform, None);
    assert_eq!(plan.document(), plan.pipeline);
    assert_eq!(plan.documents().len(), 1);
}

#[test]
fn secret_variables_come_from_a_secret_of_the_cluster_and_nowhere_else() {
    let mut spec = spec();
    spec["settings"] = json!({});
    let workflow = workflow_with(&spec, &[("AWS_SECRET_ACCESS_KEY", "hunter2"), ("HF_TOKEN", "hunter3")]);
    let error = Plan::new(&workflow, &config(&[("namespace", "team-a")])).unwrap_err().to_string();
    assert!(error.contains("--namespace=team-a") && error.contains("AWS_SECRET_ACCESS_KEY"), "{error}");
    let plan = Plan::new(&workflow, &config(&[("secret", "store")])).unwrap();
    let [store] = executor(&plan, "load-data")["secretAsEnv"].as_array().unwrap().as_slice() else {
        panic!()
    };
    assert_eq!(store["secretName"], "store");
    let keys = json!([
        { "envVar": "AWS_SECRET_ACCESS_KEY", "secretKey": "AWS_SECRET_ACCESS_KEY" },
        { "envVar": "HF_TOKEN", "secretKey": "HF_TOKEN" },
    ]);
    assert_eq!(store["keyToEnv"], keys);
    // A step that has one of them from elsewhere keeps it.
    let [huggingface, store] = executor(&plan, "train")["secretAsEnv"].as_array().unwrap().as_slice() else {
        panic!()
    };
    assert_eq!(huggingface["secretName"], "huggingface");
    assert_eq!(store["keyToEnv"].as_array().unwrap().len(), 1);
    assert!(!plan.document().to_string().contains("hunter"));
}

#[test]
fn schedules_have_seconds_and_the_installations_time_zone() {
    let mut spec = spec();
    spec["pipeline"]["schedule"] = json!({ "cron": "30 3 * * MON" });
    assert_eq!(plan(&spec).cron.as_deref(), Some("0 30 3 * * MON"));
    spec["pipeline"]["schedule"]["timezone"] = json!("Europe/Zurich");
    let error = Plan::new(&workflow(&spec), &config(&[])).unwrap_err().to_string();
    assert!(error.starts_with("the schedule is in the time zone Europe/Zurich"), "{error}");
    assert!(Plan::new(&workflow(&spec), &config(&[("timezone", "Europe/Zurich")])).is_ok());
}

#[test]
fn wrong_settings_name_the_step() {
    let mut spec = spec();
    spec["steps"][0]["settings"] = json!({ "kubeflow": { "node_selektor": {} } });
    let error = Plan::new(&workflow(&spec), &config(&[])).unwrap_err().to_string();
    assert_eq!(
        error,
        "in the settings of step load_data: KubeflowSettings has no field `node_selektor`; did you mean `node_selector`?"
    );
}

#[test]
fn values_that_would_be_replaced_are_kept_or_refused() {
    let mut workflow = workflow(&spec());
    workflow.steps[0].environment.insert("PRICE".to_owned(), "$(5) and $$(5)".to_owned());
    let pipeline = Plan::new(&workflow, &config(&[])).unwrap().pipeline;
    let env = &pipeline["deploymentSpec"]["executors"]["exec-load-data"]["container"]["env"];
    assert_eq!(env[1]["value"], "$$(5) and $$$(5)");
    workflow.steps[0].environment.insert("TEMPLATE".to_owned(), "{{ name }}".to_owned());
    let error = Plan::new(&workflow, &config(&[])).unwrap_err().to_string();
    assert!(error.starts_with("step load_data: the environment variable TEMPLATE has `{{`"), "{error}");
}

#[test]
fn a_steps_container_can_be_read_back() {
    let workflow = workflow(&spec());
    let pipeline = Plan::new(&workflow, &config(&[])).unwrap().pipeline;
    let containers = containers(&pipeline, "r1");
    assert_eq!(containers.len(), 3);
    for step in &workflow.steps {
        let container = containers.iter().find(|container| container.step == step.name).unwrap();
        let command: Vec<String> = step.command().into_iter().chain(step.arguments("r1")).collect();
        assert_eq!(container.command, command);
        assert_eq!(container.image, step.image.to_string());
        assert_eq!(container.environment, step.environment);
    }
}

#[test]
fn five_hundred_steps_are_planned() {
    let step = |number: usize| {
        let name = format!("step_{number}");
        let inputs = match number {
            0 => json!({}),
            _ => json!({ "data": { "step": format!("step_{}", number / 2), "output": "output" } }),
        };
        json!({ "name": name, "source": { "module": "m", "attribute": "f" }, "outputs": ["output"], "inputs": inputs })
    };
    let mut spec = spec();
    spec["steps"] = (0..500).map(step).collect();
    let plan = plan(&spec);
    assert_eq!(steps(&plan.pipeline).len(), 500);
}
