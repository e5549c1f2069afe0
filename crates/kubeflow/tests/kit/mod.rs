//! What these tests have in common.
#![allow(dead_code, reason = "each test program uses a part")]

use std::collections::BTreeMap;

use longshore_auth::Secret;
use longshore_kubeflow::Config;
use longshore_oci::Reference;
use longshore_orchestrator::{Supervision, Target, Workflow};
use longshore_pipeline::PipelineSpec;
use serde_json::{Value, json};

/// A pipeline with fan-out and fan-in, resources, retries, a timeout and settings.
pub(crate) fn spec() -> Value {
    json!({
        "version": 2, "pipeline": { "name": "digits_pipeline" }, "source_root": "/src", "sdk_version": "0.1.0",
        "python": { "executable": "/usr/bin/python3", "version": "3.11.2" },
        "settings": { "kubeflow": { "node_selector": { "pool": "cpu" } } },
        "steps": [
            { "name": "load_data", "source": { "module": "m", "attribute": "load" }, "outputs": ["output"],
              "parameters": { "rows": 100 } },
            { "name": "train", "source": { "module": "m", "attribute": "train" }, "outputs": ["output"],
              "inputs": { "data": { "step": "load_data", "output": "output" } }, "retries": 2, "timeout": 3600,
              "settings": {
                  "resources": { "cpu": 1.5, "memory": "1.5GiB", "gpu": 1, "gpu_type": "nvidia-tesla-t4" },
                  "kubeflow": {
                      "tolerations": [{ "key": "gpu", "operator": "Exists", "effect": "NoSchedule" }],
                      "labels": { "team": "ml" }, "annotations": { "note": "n" },
                      "image_pull_secrets": ["regcred"], "image_pull_policy": "IfNotPresent",
                      "secret_environment": { "HF_TOKEN": "huggingface/token" },
                      "secret_volumes": { "/etc/keys": "keys" }, "volumes": { "/data": "datasets" },
                      "run_as_user": 1000,
                  },
              } },
            { "name": "evaluate", "source": { "module": "m", "attribute": "evaluate" }, "outputs": [],
              "inputs": { "data": { "step": "load_data", "output": "output" },
                          "model": { "step": "train", "output": "output" } } },
        ],
    })
}

pub(crate) fn workflow(spec: &Value) -> Workflow {
    workflow_with(spec, &[])
}

pub(crate) fn workflow_with(spec: &Value, secrets: &[(&str, &str)]) -> Workflow {
    let spec = PipelineSpec::from_json(spec.to_string().as_bytes()).unwrap();
    let target = Target {
        flavor: "kubeflow",
        store: "s3://bucket/runs".parse().unwrap(),
        environment: BTreeMap::from([("AWS_REGION".to_owned(), "eu-central-1".to_owned())]),
        secrets: secrets.iter().map(|(name, value)| ((*name).to_owned(), Secret::new(*value))).collect(),
        supervision: Supervision::Orchestrator,
    };
    let image =
        format!("registry.example.com/digits@sha256:{}", "0".repeat(64)).parse::<Reference>().unwrap();
    Workflow::new(&spec, &target, |_| image.clone())
}

pub(crate) fn config(values: &[(&str, &str)]) -> Config {
    let mut values: BTreeMap<String, String> =
        values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    values.entry("host".to_owned()).or_insert_with(|| "https://kubeflow.example.com/pipeline".to_owned());
    Config::new(&values).unwrap()
}
