//! The arguments of a step's operator.

use longshore_kubeflow::settings::Toleration;
use longshore_orchestrator::WorkflowStep;
use serde_json::{Map, Value, json};

use crate::{
    AirflowSettings, Config, Error, Operator,
    python::{literal, rendered_to, text},
    settings,
};

/// How long a pod may take to start where nothing is said: images of a few GB are pulled within it.
const STARTUP: u32 = 600;
const NVIDIA: &str = "nvidia.com/gpu";
const GKE_ACCELERATOR: &str = "cloud.google.com/gke-accelerator";

/// The arguments of a task's operator, each a line: `image="…"`.
pub(crate) fn arguments(
    step: &WorkflowStep,
    task: &str,
    run: &str,
    config: &Config,
) -> Result<Vec<String>, Error> {
    let named = |source| Error::Settings { step: step.name.clone(), source };
    let settings = AirflowSettings::from_json(&step.settings).map_err(named)?;
    if let Some(field) = settings::of_the_other(&step.settings, config.operator) {
        return Err(Error::OtherOperator { step: step.name.clone(), field, operator: config.operator });
    }
    let mut lines =
        vec![format!("task_id={}", text(task)), format!("image={}", text(&step.image.to_string()))];
    if task != step.name {
        lines.push(format!("task_display_name={}", text(&step.name)));
    }
    let command = json!(step.command());
    let given = json!(step.arguments(run));
    match config.operator {
        Operator::Kubernetes => {
            lines.extend([format!("cmds={}", literal(&command)), format!("arguments={}", literal(&given))]);
            pod(&mut lines, step, &settings, config)?;
        }
        Operator::Docker => {
            lines.extend([
                format!("entrypoint={}", literal(&command)),
                format!("command={}", literal(&given)),
            ]);
            container(&mut lines, step, &settings, config)?;
        }
    }
    if step.retries > 0 {
        lines.push(format!("retries={}", step.retries));
        let delay = settings.retry_delay.unwrap_or(10);
        lines.push(format!("retry_delay=timedelta(seconds={delay})"));
    }
    if let Some(timeout) = step.timeout {
        lines.push(format!("execution_timeout=timedelta(seconds={})", timeout.as_secs()));
    }
    lines.extend(settings.pool.map(|pool| format!("pool={}", text(&pool))));
    lines.extend(settings.queue.map(|queue| format!("queue={}", text(&queue))));
    lines.extend(settings.priority_weight.map(|weight| format!("priority_weight={weight}")));
    Ok(lines)
}

/// Environment variables that may be seen.
fn environment(step: &WorkflowStep) -> Value {
    step.environment.iter().map(|(name, value)| (name.clone(), Value::from(rendered_to(value)))).collect()
}

/// Texts that are templates, as what is rendered to them.
fn texts<'a>(map: impl IntoIterator<Item = (&'a String, &'a String)>) -> Map<String, Value> {
    map.into_iter().map(|(name, value)| (name.clone(), Value::from(rendered_to(value)))).collect()
}

fn pod(
    lines: &mut Vec<String>,
    step: &WorkflowStep,
    settings: &AirflowSettings,
    config: &Config,
) -> Result<(), Error> {
    let missing = step.secrets.keys().find(|name| !settings.secret_environment.contains_key(*name));
    if let Some(variable) = missing {
        return Err(Error::SecretOfPod { step: step.name.clone(), variable: variable.clone() });
    }
    let mut say = |name: &str, value: &Value| lines.push(format!("{name}={}", literal(value)));
    say("env_vars", &environment(step));
    let mut node_selector = texts(&settings.node_selector);
    let mut own = |name: &str, value: Option<&String>| {
        if let Some(value) = value {
            say(name, &json!(rendered_to(value)));
        }
    };
    own("namespace", settings.namespace.as_ref().or(config.namespace.as_ref()));
    own("service_account_name", settings.service_account.as_ref().or(config.service_account.as_ref()));
    own("kubernetes_conn_id", config.connection.as_ref());
    say("startup_timeout_seconds", &json!(settings.startup_timeout.unwrap_or(STARTUP)));
    for (name, map) in [("labels", &settings.labels), ("annotations", &settings.annotations)] {
        if !map.is_empty() {
            say(name, &Value::Object(texts(map)));
        }
    }
    let resources = &step.resources;
    if let Some(kind) = resources.gpu_type.as_deref().filter(|kind| !kind.contains('/')) {
        node_selector.entry(GKE_ACCELERATOR).or_insert_with(|| json!(rendered_to(kind)));
    }
    if !node_selector.is_empty() {
        say("node_selector", &Value::Object(node_selector));
    }
    let mut amounts = Map::new();
    amounts.extend(resources.cpu.map(|cpu| ("cpu".to_owned(), json!(format!("{}m", cpu.millis())))));
    amounts.extend(resources.memory.map(|memory| ("memory".to_owned(), json!(memory.bytes().to_string()))));
    if let Some(count) = resources.gpu.or(resources.gpu_type.is_some().then_some(1)) {
        let kind = resources.gpu_type.as_deref().filter(|kind| kind.contains('/')).unwrap_or(NVIDIA);
        amounts.insert(kind.to_owned(), json!(count.to_string()));
    }
    if !amounts.is_empty() {
        let amounts = literal(&Value::Object(amounts));
        lines.push(format!(
            "container_resources=k8s.V1ResourceRequirements(requests={amounts}, limits={amounts})"
        ));
    }
    let tolerations: Vec<String> = settings.tolerations.iter().map(toleration).collect();
    list(lines, "tolerations", &tolerations);
    let pulled: Vec<String> = settings
        .image_pull_secrets
        .iter()
        .map(|name| format!("k8s.V1LocalObjectReference(name={})", text(name)))
        .collect();
    list(lines, "image_pull_secrets", &pulled);
    let secrets: Vec<String> = settings
        .secret_environment
        .iter()
        .map(|(variable, from)| {
            format!("Secret(\"env\", {}, {}, {})", text(variable), text(&from.secret), text(&from.key))
        })
        .collect();
    list(lines, "secrets", &secrets);
    Ok(())
}

fn list(lines: &mut Vec<String>, name: &str, items: &[String]) {
    if !items.is_empty() {
        lines.push(format!("{name}=[{}]", items.join(", ")));
    }
}

fn toleration(toleration: &Toleration) -> String {
    let fields = [
        ("key", json!(toleration.key)),
        ("operator", json!(toleration.operator.as_str())),
        ("value", json!(toleration.value)),
        ("effect", json!(toleration.effect.map(longshore_kubeflow::settings::TaintEffect::as_str))),
        ("toleration_seconds", json!(toleration.toleration_seconds)),
    ];
    let given = fields.iter().filter(|(_, value)| !value.is_null());
    let given = given.map(|(name, value)| format!("{name}={}", literal(value)));
    format!("k8s.V1Toleration({})", given.collect::<Vec<_>>().join(", "))
}

fn container(
    lines: &mut Vec<String>,
    step: &WorkflowStep,
    settings: &AirflowSettings,
    config: &Config,
) -> Result<(), Error> {
    if let Some(variable) = step.secrets.keys().next() {
        return Err(Error::SecretOfContainer { step: step.name.clone(), variable: variable.clone() });
    }
    lines.push(format!("environment={}", literal(&environment(step))));
    // Its folder for temporary files would have to be on the daemon's machine.
    lines.extend(["mount_tmp_dir=False".to_owned(), "auto_remove=\"force\"".to_owned()]);
    lines.extend(config.connection.as_ref().map(|name| format!("docker_conn_id={}", text(name))));
    lines.extend(settings.network_mode.as_ref().map(|mode| format!("network_mode={}", text(mode))));
    let resources = &step.resources;
    lines.extend(resources.cpu.map(|cpu| format!("cpus={cpu}")));
    lines.extend(resources.memory.map(|memory| format!("mem_limit={}", memory.bytes())));
    if let Some(count) = resources.gpu.or(resources.gpu_type.is_some().then_some(1)) {
        lines.push(format!("device_requests=[DeviceRequest(count={count}, capabilities=[[\"gpu\"]])]"));
    }
    Ok(())
}
