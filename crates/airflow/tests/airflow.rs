//! DAG files: what stands in them, and how they come into their folder.
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _};

use futures::executor::block_on;
use longshore_airflow::{Airflow, Config, Plan};
use longshore_auth::Secret;
use longshore_oci::Reference;
use longshore_orchestrator::{Service as _, Supervision, Target, Workflow};
use longshore_pipeline::PipelineSpec;
use serde_json::{Value, json};

fn spec() -> Value {
    json!({
        "version": 2, "source_root": "/src", "sdk_version": "0.1.0",
        "pipeline": { "name": "digits_pipeline", "schedule": { "cron": "30 3 * * *", "timezone": "Europe/Zurich" } },
        "python": { "executable": "/usr/bin/python3", "version": "3.11.2" },
        "steps": [
            { "name": "load_data", "source": { "module": "m", "attribute": "load" }, "outputs": ["output"] },
            { "name": "train", "source": { "module": "m", "attribute": "train" }, "outputs": [], "retries": 2, "timeout": 90,
              "inputs": { "data": { "step": "load_data", "output": "output" } },
              "settings": { "resources": { "cpu": 1.5, "memory": "1GiB", "gpu": 1 } } },
        ],
    })
}

fn workflow_with(spec: &Value, secrets: &[&str]) -> Workflow {
    let spec = PipelineSpec::from_json(spec.to_string().as_bytes()).unwrap();
    let target = Target {
        flavor: "airflow",
        store: "s3://bucket/runs".parse().unwrap(),
        environment: BTreeMap::from([("REGION".to_owned(), "eu".to_owned())]),
        secrets: secrets.iter().map(|name| ((*name).to_owned(), Secret::new("hush"))).collect(),
        supervision: Supervision::Orchestrator,
    };
    let image = format!("ghcr.io/team/digits@sha256:{}", "0".repeat(64)).parse::<Reference>().unwrap();
    Workflow::new(&spec, &target, |_| image.clone())
}

fn config(values: &[(&str, &str)]) -> Config {
    let given = [("dags", "/dags")];
    let values = given.iter().chain(values).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::new(&values.collect()).unwrap()
}

fn dag(values: &[(&str, &str)]) -> String {
    Plan::new(&workflow_with(&spec(), &[]), &config(values)).unwrap().file
}

#[test]
fn a_pod_has_what_its_step_has() {
    let file = dag(&[("namespace", "ml"), ("connection", "cluster")]);
    for part in [
        "dag_id=\"digits_pipeline\"",
        "schedule=\"30 3 * * *\"",
        "start_date=pendulum.datetime(2024, 1, 1, tz=\"Europe/Zurich\")",
        "catchup=False",
        "tasks[\"train\"] = KubernetesPodOperator(",
        &format!("image=\"ghcr.io/team/digits@sha256:{}\"", "0".repeat(64)),
        "cmds=[\"/opt/venv/bin/python\", \"-m\", \"longshore.entrypoint\"]",
        "arguments=[\"--run\", \"{{ run_folder(dag_run) }}\", \"--step\", ",
        "env_vars={\"REGION\": \"eu\"}",
        "namespace=\"ml\"",
        "kubernetes_conn_id=\"cluster\"",
        "requests={\"cpu\": \"1500m\", \"memory\": \"1073741824\", \"nvidia.com/gpu\": \"1\"}",
        "retries=2",
        "execution_timeout=timedelta(seconds=90)",
        "[tasks[\"load_data\"]] >> tasks[\"train\"]",
    ] {
        assert!(file.contains(part), "{part}: {file}");
    }
    assert_eq!(file, dag(&[("namespace", "ml"), ("connection", "cluster")]), "the same each time");
}

#[test]
fn a_container_has_what_its_step_has() {
    let file = dag(&[("operator", "docker")]);
    for part in [
        "tasks[\"train\"] = DockerOperator(",
        "entrypoint=[\"/opt/venv/bin/python\", \"-m\", \"longshore.entrypoint\"]",
        "command=[\"--run\", ",
        "environment={\"REGION\": \"eu\"}",
        "cpus=1.5",
        "mem_limit=1073741824",
        "device_requests=[DeviceRequest(count=1, capabilities=[[\"gpu\"]])]",
    ] {
        assert!(file.contains(part), "{part}: {file}");
    }
    assert!(!file.contains("kubernetes"));
}

#[test]
fn secrets_are_not_in_the_file() {
    let plan = |spec: &Value, values: &[(&str, &str)]| {
        Plan::new(&workflow_with(spec, &["AWS_SECRET_ACCESS_KEY"]), &config(values))
    };
    let error = plan(&spec(), &[]).unwrap_err().to_string();
    assert!(error.contains("secret_environment={\"AWS_SECRET_ACCESS_KEY\": \"secret/key\"}"), "{error}");
    let error = plan(&spec(), &[("operator", "docker")]).unwrap_err().to_string();
    assert!(error.contains("no safe place"), "{error}");
    let mut kept = spec();
    kept["settings"] =
        json!({ "airflow": { "secret_environment": { "AWS_SECRET_ACCESS_KEY": "aws/secret" } } });
    let file = plan(&kept, &[]).unwrap().file;
    assert!(file.contains("Secret(\"env\", \"AWS_SECRET_ACCESS_KEY\", \"aws\", \"secret\")"), "{file}");
    assert!(!file.contains("hush"));
}

#[test]
fn wrong_settings_name_the_step() {
    let mut spec = spec();
    spec["steps"][0]["settings"] = json!({ "airflow": { "network_mode": "host" } });
    let error = Plan::new(&workflow_with(&spec, &[]), &config(&[])).unwrap_err().to_string();
    assert!(
        error.contains("step load_data: `network_mode` means nothing to the operator kubernetes"),
        "{error}"
    );
    spec["steps"][0]["settings"] = json!({ "airflow": { "pools": "p" } });
    let error = Plan::new(&workflow_with(&spec, &[]), &config(&[])).unwrap_err().to_string();
    assert!(
        error.contains("step load_data: AirflowSettings has no field `pools`; did you mean `pool`?"),
        "{error}"
    );
}

#[test]
fn files_are_whole_and_those_of_others_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let airflow = Airflow::new(config(&[("dags", folder.path().to_str().unwrap())]));
    let workflow = workflow_with(&spec(), &[]);
    for _ in 0..2 {
        assert_eq!(block_on(airflow.submit(&workflow)).unwrap().run, "digits_pipeline");
    }
    let file = folder.path().join("digits_pipeline.py");
    assert_eq!(fs::read_to_string(&file).unwrap(), dag(&[]));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    fs::write(&file, "import airflow\n").unwrap();
    let error = block_on(airflow.submit(&workflow)).unwrap_err().to_string();
    assert!(error.contains("longshore has not written it"), "{error}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "import airflow\n");
    drop(folder);
    let error = block_on(airflow.submit(&workflow)).unwrap_err().to_string();
    assert!(error.contains("there is no such folder"), "{error}");
}

#[test]
fn five_hundred_steps_are_planned() {
    let mut spec = spec();
    let steps: Vec<Value> = (0..500)
        .map(|n| {
            let inputs = if n == 0 { json!({}) } else { json!({ "x": { "step": format!("s{}", n - 1), "output": "output" } }) };
            json!({ "name": format!("s{n}"), "source": { "module": "m", "attribute": "f" }, "outputs": ["output"], "inputs": inputs })
        })
        .collect();
    spec["steps"] = json!(steps);
    let file = Plan::new(&workflow_with(&spec, &[]), &config(&[])).unwrap().file;
    assert_eq!(file.matches(" = KubernetesPodOperator(").count(), 500);
    assert_eq!(file.matches(" >> ").count(), 499);
}
