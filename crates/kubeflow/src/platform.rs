//! What only Kubernetes knows of: the second document of a pipeline for Kubeflow, `PlatformSpec` with the executors'
//! `KubernetesExecutorConfig` (`kubernetes_platform/proto/kubernetes_executor_config.proto` of the Kubeflow Pipelines project).

use std::collections::BTreeMap;

use longshore_orchestrator::{Workflow, WorkflowStep};
use serde_json::{Map, Value, json};

use crate::{Config, Error, KubeflowSettings, ir, name, settings::SecretKey};

/// The extended resource of Nvidia's device plugin.
const NVIDIA: &str = "nvidia.com/gpu";
/// The label by which nodes of GKE say which accelerators they have.
const ACCELERATOR_LABEL: &str = "cloud.google.com/gke-accelerator";

/// The settings of a step.
pub(crate) fn settings(step: &WorkflowStep) -> Result<KubeflowSettings, Error> {
    KubeflowSettings::from_json(&step.settings)
        .map_err(|source| Error::Settings { step: step.name.clone(), source })
}

/// The accelerators of a step: an extended resource by its name, `nvidia.com/gpu` or `amd.com/gpu`, or the type of GKE's nodes.
pub(crate) fn accelerator(step: &WorkflowStep) -> Option<ir::Accelerator> {
    let count = step.resources.gpu.or(step.resources.gpu_type.is_some().then_some(1))?;
    let resource = step.resources.gpu_type.as_deref().filter(|name| name.contains('/'));
    Some(ir::Accelerator { name: resource.unwrap_or(NVIDIA).to_owned(), count })
}

/// The platform spec; none if no step needs one.
pub(crate) fn spec(workflow: &Workflow, config: &Config) -> Result<Option<Value>, Error> {
    let names = name::tasks(workflow.steps.iter().map(|step| step.name.as_str()));
    let mut executors = Map::new();
    for step in &workflow.steps {
        let Some(task) = names.get(step.name.as_str()) else { continue };
        let executor = executor(step, &settings(step)?, config)?;
        if !executor.is_empty() {
            executors.insert(ir::executor(task), Value::Object(executor));
        }
    }
    Ok((!executors.is_empty())
        .then(|| json!({ "platforms": { "kubernetes": { "deploymentSpec": { "executors": executors } } } })))
}

fn executor(
    step: &WorkflowStep,
    settings: &KubeflowSettings,
    config: &Config,
) -> Result<Map<String, Value>, Error> {
    let mut executor = Map::new();
    let mut set = |field: &str, value: Value| {
        executor.insert(field.to_owned(), value);
    };
    let mut nodes = settings.node_selector.clone();
    if let Some(kind) = step.resources.gpu_type.as_ref().filter(|name| !name.contains('/')) {
        nodes.entry(ACCELERATOR_LABEL.to_owned()).or_insert_with(|| kind.clone());
    }
    if !nodes.is_empty() {
        set("nodeSelector", json!({ "labels": nodes }));
    }
    if !settings.tolerations.is_empty() {
        set("tolerations", settings.tolerations.iter().map(toleration).collect());
    }
    if !settings.labels.is_empty() || !settings.annotations.is_empty() {
        let mut metadata = Map::new();
        if !settings.labels.is_empty() {
            metadata.insert("labels".to_owned(), json!(settings.labels));
        }
        if !settings.annotations.is_empty() {
            metadata.insert("annotations".to_owned(), json!(settings.annotations));
        }
        set("podMetadata", Value::Object(metadata));
    }
    let pull: Vec<&String> = config
        .image_pull_secrets
        .iter()
        .chain(settings.image_pull_secrets.iter().filter(|name| !config.image_pull_secrets.contains(name)))
        .collect();
    if !pull.is_empty() {
        set("imagePullSecret", pull.into_iter().map(|name| secret(name)).map(Value::Object).collect());
    }
    if let Some(policy) = settings.image_pull_policy {
        set("imagePullPolicy", json!(policy.as_str()));
    }
    let variables = secret_environment(step, settings, config)?;
    if !variables.is_empty() {
        set("secretAsEnv", variables.into_iter().map(|(name, keys)| keyed(&name, &keys)).collect());
    }
    if !settings.secret_volumes.is_empty() {
        let volume = |(path, name): (&String, &String)| {
            let mut volume = secret(name);
            volume.insert("mountPath".to_owned(), json!(path));
            volume.insert("optional".to_owned(), json!(false));
            Value::Object(volume)
        };
        set("secretAsVolume", settings.secret_volumes.iter().map(volume).collect());
    }
    if !settings.volumes.is_empty() {
        // The name is there twice, as Kubeflow's own compiler writes it: older services read the first form.
        let volume = |(path, claim): (&String, &String)| json!({ "mountPath": path, "constant": claim, "pvcNameParameter": constant(claim) });
        set("pvcMount", settings.volumes.iter().map(volume).collect());
    }
    if let Some(timeout) = step.timeout {
        set("activeDeadlineSeconds", json!(timeout.as_secs().max(1).to_string()));
    }
    if settings.run_as_user.is_some() || settings.run_as_group.is_some() {
        let mut context = Map::new();
        for (field, id) in [("runAsUser", settings.run_as_user), ("runAsGroup", settings.run_as_group)] {
            if let Some(id) = id {
                context.insert(field.to_owned(), json!(id.to_string()));
            }
        }
        set("securityContext", Value::Object(context));
    }
    Ok(executor)
}

/// The environment variables from Secrets: by the Secret, each with its key.
fn secret_environment(
    step: &WorkflowStep,
    settings: &KubeflowSettings,
    config: &Config,
) -> Result<BTreeMap<String, BTreeMap<String, String>>, Error> {
    let mut secrets: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for (variable, SecretKey { secret, key }) in &settings.secret_environment {
        secrets.entry(secret.clone()).or_default().insert(variable.clone(), key.clone());
    }
    let missing: Vec<&String> =
        step.secrets.keys().filter(|name| !settings.secret_environment.contains_key(*name)).collect();
    if missing.is_empty() {
        return Ok(secrets);
    }
    let Some(secret) = &config.secret else {
        return Err(Error::NoSecret {
            step: step.name.clone(),
            variables: missing.iter().map(|name| (*name).clone()).collect(),
            namespace: config.namespace.clone().unwrap_or_else(|| "kubeflow".to_owned()),
        });
    };
    let keys = secrets.entry(secret.clone()).or_default();
    keys.extend(missing.into_iter().map(|name| (name.clone(), name.clone())));
    Ok(secrets)
}

fn keyed(name: &str, keys: &BTreeMap<String, String>) -> Value {
    let mut from = secret(name);
    let keys: Vec<Value> =
        keys.iter().map(|(variable, key)| json!({ "envVar": variable, "secretKey": key })).collect();
    from.insert("keyToEnv".to_owned(), json!(keys));
    from.insert("optional".to_owned(), json!(false));
    Value::Object(from)
}

fn secret(name: &str) -> Map<String, Value> {
    Map::from_iter([
        ("secretName".to_owned(), json!(name)),
        ("secretNameParameter".to_owned(), constant(name)),
    ])
}

fn constant(text: &str) -> Value {
    json!({ "runtimeValue": { "constant": text } })
}

fn toleration(toleration: &crate::settings::Toleration) -> Value {
    let mut document = Map::from_iter([("operator".to_owned(), json!(toleration.operator.as_str()))]);
    let fields = [
        ("key", toleration.key.as_ref().map(|key| json!(key))),
        ("value", toleration.value.as_ref().map(|value| json!(value))),
        ("effect", toleration.effect.map(|effect| json!(effect.as_str()))),
        ("tolerationSeconds", toleration.toleration_seconds.map(|seconds| json!(seconds.to_string()))),
    ];
    for (field, value) in fields {
        if let Some(value) = value {
            document.insert(field.to_owned(), value);
        }
    }
    Value::Object(document)
}
