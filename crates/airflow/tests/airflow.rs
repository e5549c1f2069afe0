//! DAG files: what stands in them, and how they come into their folder.
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _, sync::Arc, time::Duration};

use axum::{
    Router,
    http::{HeaderMap, Method, StatusCode},
    response::{IntoResponse as _, Response},
};
use futures::executor::block_on;
use longshore_airflow::{Airflow, Config, Place, Plan};
use longshore_auth::{
    Environment, Secret,
    aws::{AmazonAnswer, AmazonRequest, AmazonRest},
    connector::{self, Connector, ConnectorType},
};
use longshore_endpoint::{Hosts, Pauses, ProxySource, Web, WebConfig};
use longshore_oci::Reference;
use longshore_orchestrator::{Follow, Phase, Service as _, Supervision, Target, Workflow};
use longshore_pipeline::PipelineSpec;
use longshore_testkit::{
    Serving,
    cloud::{AirflowApi, CloudStorageApi, GoogleCloud, Moto, Trouble},
};
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
    let values = [("dags", folder.path().to_str().unwrap())];
    let airflow =
        Airflow::new(config(&values), Place::folder(folder.path().to_owned()), web(), &Hosts::default());
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
    let error = block_on(airflow.cancel("digits_pipeline")).unwrap_err().to_string();
    assert!(error.contains("longshore has not written it"), "{error}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "import airflow\n");
    drop(folder);
    let error = block_on(airflow.submit(&workflow)).unwrap_err().to_string();
    assert!(error.contains("there is no folder"), "{error}");
}

#[test]
fn a_file_is_taken_away() {
    let folder = tempfile::tempdir().unwrap();
    let airflow =
        Airflow::new(config(&[]), Place::folder(folder.path().to_owned()), web(), &Hosts::default());
    let run = block_on(airflow.submit(&workflow_with(&spec(), &[]))).unwrap().run;
    let state = block_on(airflow.status(&run)).unwrap();
    assert_eq!(state.phase, Phase::Running);
    assert!(state.reason.unwrap().contains("digits_pipeline.py by its own rules"));
    // What is taken away already is taken away.
    for _ in 0..2 {
        block_on(airflow.cancel(&run)).unwrap();
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let error = block_on(airflow.status(&run)).unwrap_err().to_string();
    assert!(error.contains("has no file any more"), "{error}");
}

fn connector(kind: ConnectorType, method: &str, values: &[(&str, &str)], hosts: Hosts) -> Arc<Connector> {
    let values = values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let values = connector::Config::new(kind, method, values).unwrap();
    let environment: Environment = std::iter::empty::<(String, String)>().collect();
    Arc::new(Connector::in_environment("c".to_owned(), values, web(), hosts, environment).unwrap())
}

fn web() -> Web {
    Web::new(WebConfig { proxy: ProxySource::Direct, ..WebConfig::default() })
}

/// S3 as `moto` serves it, with one bucket.
struct Bucket {
    connector: Arc<Connector>,
    _moto: Moto,
}

impl Bucket {
    async fn start() -> Self {
        let moto = Moto::start().unwrap();
        let keys = [("aws_access_key_id", "AKIAEXAMPLE"), ("aws_secret_access_key", "secret")];
        let values = [keys[0], keys[1], ("endpoint_url", moto.url())];
        let connector = connector(ConnectorType::Aws, "secret-key", &values, Hosts::default());
        let bucket = Self { connector, _moto: moto };
        assert_eq!(bucket.send(&Method::PUT, "bucket", b"").await.status, 200);
        bucket
    }

    async fn send(&self, method: &Method, path: &str, body: &[u8]) -> AmazonAnswer {
        let what = "look into the bucket";
        let request =
            AmazonRequest { what, api: AmazonRest::S3, region: None, method, path, headers: &[], body };
        self.connector.send_to_amazon(&request).await.unwrap()
    }

    fn airflow(&self, dags: &str) -> Airflow {
        let place = Place::s3(dags.parse().unwrap(), Arc::clone(&self.connector));
        Airflow::new(config(&[("dags", dags)]), place, web(), &Hosts::default())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_of_amazons_is_a_folder() {
    let bucket = Bucket::start().await;
    let airflow = bucket.airflow("s3://bucket/team%20a/dags");
    let workflow = workflow_with(&spec(), &[]);
    for _ in 0..2 {
        assert_eq!(airflow.submit(&workflow).await.unwrap().run, "digits_pipeline");
    }
    let path = "bucket/team%2520a/dags/digits_pipeline.py";
    let found = bucket.send(&Method::GET, path, b"").await;
    assert_eq!((found.status.as_u16(), found.text), (200, dag(&[])));
    assert_eq!(found.headers["content-type"], "text/x-python");
    assert_eq!(airflow.status("digits_pipeline").await.unwrap().phase, Phase::Running);
    airflow.cancel("digits_pipeline").await.unwrap();
    airflow.cancel("digits_pipeline").await.unwrap();
    assert_eq!(bucket.send(&Method::GET, path, b"").await.status, 404);
    for foreign in [&b"import airflow\n"[..], b""] {
        bucket.send(&Method::PUT, path, foreign).await;
        let error = airflow.submit(&workflow).await.unwrap_err().to_string();
        assert!(error.starts_with("cannot put pipeline digits_pipeline into s3://bucket/team%20a/dags/digits_pipeline.py: a file of that name"), "{error}");
        assert_eq!(bucket.send(&Method::GET, path, b"").await.text.as_bytes(), foreign);
    }
    let error = bucket.airflow("s3://nobodys/dags").submit(&workflow).await.unwrap_err().to_string();
    assert!(error.contains("(NoSuchBucket); check --dags"), "{error}");
}

/// S3 where the bucket is in another region, and the key's owner may not read it.
async fn far_away(headers: HeaderMap) -> Response {
    let authorization = headers["authorization"].to_str().unwrap();
    let (status, code, message) = if authorization.contains("/eu-central-1/s3/aws4_request") {
        (403, "AccessDenied", "User: me is not authorized to perform: s3:ListBucket")
    } else {
        (
            301,
            "PermanentRedirect",
            "The bucket you are attempting to access must be addressed using another endpoint.",
        )
    };
    let body = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
    let status = StatusCode::from_u16(status).unwrap();
    (status, [("x-amz-bucket-region", "eu-central-1")], body).into_response()
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_are_asked_in_their_region_and_missing_permissions_are_named() {
    let serving = Serving::router(Router::new().fallback(far_away)).unwrap();
    let url = format!("http://{}", serving.address());
    let values = [
        ("aws_access_key_id", "AKIAEXAMPLE"),
        ("aws_secret_access_key", "secret"),
        ("endpoint_url", url.as_str()),
    ];
    let connector = connector(ConnectorType::Aws, "secret-key", &values, Hosts::default());
    let place = Place::s3("s3://bucket/dags".parse().unwrap(), connector);
    let airflow = Airflow::new(config(&[]), place, web(), &Hosts::default());
    let error = airflow.submit(&workflow_with(&spec(), &[])).await.unwrap_err();
    assert!(!error.is_retryable());
    let error = error.to_string();
    assert!(
        error.contains("(AccessDenied); allow s3:GetObject on arn:aws:s3:::bucket/*, and s3:ListBucket"),
        "{error}"
    );
}

/// Cloud Storage and the token service, both of them stand-ins.
struct Cloud {
    google: GoogleCloud,
    storage: CloudStorageApi,
}

impl Cloud {
    fn airflow(&self, dags: &str) -> Airflow {
        let hosts = format!("[\"storage.googleapis.com\"]\nserver = \"{}\"\n", self.storage.url());
        let hosts = Hosts::parse(&hosts).unwrap();
        let key = self.google.service_account_json();
        let values = [("service_account_json", key.as_str())];
        let connector = connector(ConnectorType::Gcp, "service-account", &values, hosts.clone());
        let pauses = Pauses { first: Duration::from_millis(1), ..Pauses::default() };
        let place = Place::gcs(dags.parse().unwrap(), connector, web(), &hosts).with_pauses(pauses);
        Airflow::new(config(&[("dags", dags)]), place, web(), &Hosts::default())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_of_googles_is_a_folder() {
    let cloud = Cloud { google: GoogleCloud::start().unwrap(), storage: CloudStorageApi::start().unwrap() };
    let airflow = cloud.airflow("gs://bucket/dags");
    let workflow = workflow_with(&spec(), &[]);
    let there = || BTreeMap::from([("dags/digits_pipeline.py".to_owned(), dag(&[]))]);
    for _ in 0..2 {
        assert_eq!(airflow.submit(&workflow).await.unwrap().run, "digits_pipeline");
        assert_eq!(cloud.storage.objects(), there());
    }
    assert_eq!(airflow.status("digits_pipeline").await.unwrap().phase, Phase::Running);
    for _ in 0..2 {
        airflow.cancel("digits_pipeline").await.unwrap();
    }
    assert!(cloud.storage.objects().is_empty());
    // The answer to the upload is lost, and the second upload is refused: it is there already.
    cloud.storage.trouble_after(1, Trouble::AnswerLost);
    airflow.submit(&workflow).await.unwrap();
    assert_eq!(cloud.storage.objects(), there());
    for foreign in ["import airflow\n", ""] {
        cloud.storage.put("dags/digits_pipeline.py", foreign);
        let error = airflow.submit(&workflow).await.unwrap_err().to_string();
        assert!(error.contains("longshore has not written it"), "{error}");
        assert_eq!(cloud.storage.objects()["dags/digits_pipeline.py"], foreign);
    }
    let error = cloud.airflow("gs://nobodys/dags").submit(&workflow).await.unwrap_err().to_string();
    assert!(error.contains("The specified bucket does not exist; check --dags"), "{error}");
    cloud
        .storage
        .trouble_after(0, Trouble::Refused(403, "c@p does not have storage.objects.get access.".to_owned()));
    let error = airflow.submit(&workflow).await.unwrap_err().to_string();
    assert!(error.contains("--role=roles/storage.objectUser"), "{error}");
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

/// A folder, and Airflow's API.
struct Server {
    folder: tempfile::TempDir,
    password: tempfile::NamedTempFile,
    api: AirflowApi,
}

impl Server {
    fn start() -> Self {
        let password = tempfile::NamedTempFile::new().unwrap();
        fs::write(password.path(), "hunter2\n").unwrap();
        Self { folder: tempfile::tempdir().unwrap(), password, api: AirflowApi::start().unwrap() }
    }

    fn airflow(&self) -> Airflow {
        let (url, password) = (self.api.url(), format!("file:{}", self.password.path().display()));
        let values = [("api", url.as_str()), ("username", "me"), ("password", &password)];
        let pauses = Pauses { first: Duration::from_millis(1), ..Pauses::default() };
        Airflow::new(config(&values), Place::folder(self.folder.path().to_owned()), web(), &Hosts::default())
            .with_pauses(pauses, Duration::from_millis(1))
    }

    /// Airflow reads what is in the folder now.
    fn read(&self) {
        let file = fs::read_to_string(self.folder.path().join("digits_pipeline.py")).unwrap();
        let line = file.lines().find_map(|line| line.trim().strip_prefix("doc_md=\"")).unwrap();
        self.api.read("digits_pipeline", line.trim_end_matches("\","));
    }
}

fn unscheduled() -> Value {
    let mut spec = spec();
    spec["pipeline"] = json!({ "name": "digits_pipeline" });
    spec
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_begun_looked_at_and_ended_at_the_api() {
    let server = Server::start();
    let airflow = server.airflow();
    let workflow = workflow_with(&unscheduled(), &[]);
    // What Airflow has read before is another version, and what it failed to import before another file.
    server.api.read("digits_pipeline", "digits_pipeline in the version 0123456789ab, written by longshore.");
    server.api.fail_to_import("digits_pipeline.py", "2026-01-01T00:00:00Z", "SyntaxError: old");
    let reads = async {
        while !server.folder.path().join("digits_pipeline.py").exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(server.api.runs().is_empty());
        server.read();
    };
    let (submission, ()) = futures::join!(airflow.submit(&workflow), reads);
    let submission = submission.unwrap();
    let (dag, run) = submission.run.split_once('/').unwrap();
    assert_eq!((dag, server.api.runs().len()), ("digits_pipeline", 1));
    assert_eq!(
        submission.url,
        Some(format!("{}/dags/digits%5Fpipeline/runs/{}", server.api.url(), run.replace('-', "%2D")))
    );
    let folder = submission.artifacts.unwrap();
    assert!(folder.starts_with(&format!("s3://bucket/runs/digits_pipeline-{run}-")), "{folder}");
    let state = airflow.status(&submission.run).await.unwrap();
    assert_eq!((state.phase, state.steps.len()), (Phase::Pending, 0));
    assert!(state.reason.unwrap().contains("paused"));
    let task = |id: &str, state: Value, number: u32| {
        json!({ "task_id": id, "task_display_name": id, "state": state, "try_number": number,
                "start_date": "2026-01-02T03:04:05Z", "end_date": null })
    };
    server.api.become_of(
        run,
        "running",
        &[task("load_data", json!("success"), 1), task("train", json!(null), 0)],
    );
    server.api.forget_tokens();
    let state = airflow.status(&submission.run).await.unwrap();
    let phases: Vec<_> = state.steps.iter().map(|step| (step.name.as_str(), step.phase)).collect();
    assert_eq!(phases, [("load_data", Phase::Succeeded), ("train", Phase::Pending)]);
    airflow.cancel(&submission.run).await.unwrap();
    assert_eq!(server.api.runs()[run]["state"], "failed");
    // One that has ended stays as it is.
    server.api.become_of(run, "success", &[]);
    airflow.cancel(&submission.run).await.unwrap();
    assert_eq!(server.api.runs()[run]["state"], "success");
    assert!(server.folder.path().join("digits_pipeline.py").exists(), "a run is not its DAG");
    let error = airflow.status("digits_pipeline/other").await.unwrap_err().to_string();
    assert!(error.contains("The DagRun with run_id: `other` was not found; check the name"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_each_try_is_followed() {
    let server = Server::start();
    let airflow = server.airflow();
    let workflow = workflow_with(&unscheduled(), &[]);
    let reads = async {
        while !server.folder.path().join("digits_pipeline.py").exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        server.read();
    };
    let (submission, ()) = futures::join!(airflow.submit(&workflow), reads);
    let run = submission.unwrap().run;
    let own = run.split_once('/').unwrap().1.to_owned();
    let task = |state: &str, number: u32| json!({ "task_id": "train", "state": state, "try_number": number });
    server.api.become_of(&own, "running", &[task("running", 1)]);
    server.api.print("train", 1, "one\ntwo");
    let printed = std::sync::Mutex::new(Vec::new());
    let line = |line: &str| {
        printed.lock().unwrap().push(line.to_owned());
        if line == "two" {
            server.api.print("train", 2, "three");
            server.api.become_of(&own, "running", &[task("success", 2)]);
        }
    };
    assert_eq!(airflow.logs(&run, "train", 1, Follow::Yes, &line).await.unwrap(), 3);
    assert_eq!(*printed.lock().unwrap(), ["two", "three"]);
    let error = airflow.logs(&run, "nothing", 0, Follow::No, &line).await.unwrap_err().to_string();
    assert!(error.contains("has no step nothing; it has train"), "{error}");
    let error = airflow.logs("digits_pipeline", "train", 0, Follow::No, &line).await.unwrap_err().to_string();
    assert!(error.contains("cannot be had from here"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_airflow_does_not_take_is_said() {
    let server = Server::start();
    let workflow = workflow_with(&unscheduled(), &[]);
    let fails = async {
        while !server.folder.path().join("digits_pipeline.py").exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let trace = "Traceback (most recent call last):\n  File \"x\"\nModuleNotFoundError: No module named 'kubernetes'\n";
        server.api.fail_to_import("dags/digits_pipeline.py", "2026-01-02T00:00:00Z", trace);
    };
    let airflow = server.airflow();
    let (error, ()) = futures::join!(airflow.submit(&workflow), fails);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("No module named 'kubernetes'; check that the operator's provider"), "{error}");
    assert!(server.api.runs().is_empty());
    fs::write(server.password.path(), "wrong").unwrap();
    let error = server.airflow().submit(&workflow).await.unwrap_err().to_string();
    assert!(error.contains("Invalid credentials; check the token, or name and password"), "{error}");
    assert!(!error.contains("wrong"), "{error}");
    fs::write(server.password.path(), " ").unwrap();
    let error = server.airflow().submit(&workflow).await.unwrap_err().to_string();
    assert!(
        error.contains("the password for Airflow: it cannot be read from") && error.ends_with("it is empty"),
        "{error}"
    );
    // A pipeline with a schedule needs no API.
    let scheduled = workflow_with(&spec(), &[]);
    assert_eq!(server.airflow().submit(&scheduled).await.unwrap().run, "digits_pipeline");
}
