//! Steps on machines of a type that is named. A container task of a pipeline spec has no word for that; a custom job has, and Google's
//! own pipeline component starts one (`custom_training_job` of `google-cloud-pipeline-components`).

use longshore_kubeflow::steps;
use serde_json::{Map, Value, json};

use crate::Config;

/// The image of the component, by which Vertex AI knows what it is.
const LAUNCHER: &str = "gcr.io/ml-pipeline/google-cloud-pipeline-components:2.22.0";
/// What the component runs.
const COMMAND: [&str; 4] =
    ["python3", "-u", "-m", "google_cloud_pipeline_components.container.v1.custom_job.launcher"];
/// Parameters of a task that Vertex AI puts values in place of.
const PARAMETERS: [(&str, &str); 3] = [
    ("project", "{{$.pipeline_google_cloud_project_id}}"),
    ("location", "{{$.pipeline_google_cloud_location}}"),
    // A custom job that has none runs as another account than a container task does.
    ("service_account", "{{$.pipeline_service_account}}"),
];
/// What tells Vertex AI which job was started.
const RESOURCES: &str = "gcp_resources";

/// Whether that may be the type of a machine: `a2-highgpu-1g`.
pub(crate) fn is_machine_type(text: &str) -> bool {
    text.contains('-') && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// Lets the steps that name a machine run in custom jobs. `machine` gives a step's, by the step's name.
pub(crate) fn place<'a>(spec: &mut Value, config: &Config, machine: impl Fn(&str) -> Option<&'a str>) {
    for (task, step) in steps(spec) {
        let Some(machine) = machine(&step) else { continue };
        let task = &mut spec["root"]["dag"]["tasks"][&task];
        for (name, constant) in PARAMETERS {
            task["inputs"]["parameters"][name] = json!({ "runtimeValue": { "constant": constant } });
        }
        let component = task["componentRef"]["name"].as_str().unwrap_or_default().to_owned();
        let component = &mut spec["components"][component];
        for (name, _) in PARAMETERS {
            component["inputDefinitions"]["parameters"][name] = json!({ "parameterType": "STRING" });
        }
        component["outputDefinitions"] =
            json!({ "parameters": { RESOURCES: { "parameterType": "STRING" } } });
        let executor = component["executorLabel"].as_str().unwrap_or_default().to_owned();
        let container = &mut spec["deploymentSpec"]["executors"][executor]["container"];
        *container = launcher(&step, container, machine, config);
    }
}

/// The container that starts the custom job of a step's own.
fn launcher(step: &str, container: &Value, machine: &str, config: &Config) -> Value {
    let mut of_machine = json!({ "machine_type": machine });
    let accelerator = &container["resources"]["accelerator"];
    if let (Some(kind), Some(count)) = (accelerator["type"].as_str(), accelerator["count"].as_str()) {
        of_machine["accelerator_type"] = json!(kind);
        of_machine["accelerator_count"] = json!(count.parse::<u32>().unwrap_or(1));
    }
    let variables = container.get("env").cloned().unwrap_or_else(|| json!([]));
    let mut job = Map::from_iter([(
        "worker_pool_specs".to_owned(),
        json!([{
            "machine_spec": of_machine,
            "replica_count": 1,
            "container_spec": {
                "image_uri": container["image"], "command": container["command"], "args": container["args"],
                "env": variables,
            },
        }]),
    )]);
    job.insert("service_account".to_owned(), json!(input("service_account")));
    job.extend(config.network.as_ref().map(|network| ("network".to_owned(), json!(network))));
    let mut payload = json!({ "display_name": step, "job_spec": job });
    if !config.labels.is_empty() {
        payload["labels"] = json!(config.labels);
    }
    if let Some(key) = &config.encryption_key {
        payload["encryption_spec"] = json!({ "kms_key_name": key });
    }
    let output = format!("{{{{$.outputs.parameters['{RESOURCES}'].output_file}}}}");
    json!({
        "image": LAUNCHER,
        "command": COMMAND,
        "args": [
            "--type", "CustomJob", "--payload", payload.to_string(), "--project", input("project"),
            "--location", input("location"), "--gcp_resources", output,
        ],
    })
}

/// What Vertex AI puts the value of a parameter in place of.
fn input(parameter: &str) -> String {
    format!("{{{{$.inputs.parameters['{parameter}']}}}}")
}
