//! Pipelines on Vertex AI: what is planned, and how the API, as a stand-in serves it, is talked to.
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use longshore_auth::{
    Environment, Secret,
    connector::{self, Connector, ConnectorType},
};
use longshore_endpoint::{Hosts, Pauses, ProxySource, Web, WebConfig};
use longshore_oci::Reference;
use longshore_orchestrator::{Follow, Phase, Service, Supervision, Target, Workflow};
use longshore_pipeline::PipelineSpec;
use longshore_testkit::cloud::{GoogleCloud, Trouble, VertexApi};
use longshore_vertex::{Config, Plan, Vertex};
use serde_json::{Value, json};

fn spec() -> Value {
    json!({
        "version": 2, "pipeline": { "name": "digits_pipeline" }, "source_root": "/src", "sdk_version": "0.1.0",
        "python": { "executable": "/usr/bin/python3", "version": "3.11.2" },
        "steps": [
            { "name": "load_data", "source": { "module": "m", "attribute": "load" }, "outputs": ["output"] },
            { "name": "train", "source": { "module": "m", "attribute": "train" }, "outputs": [],
              "inputs": { "data": { "step": "load_data", "output": "output" } }, "retries": 2,
              "settings": { "resources": { "cpu": 4, "memory": "16GB", "gpu": 2, "gpu_type": "nvidia-l4" } } },
        ],
    })
}

fn workflow_in(spec: &Value, store: &str) -> Workflow {
    let spec = PipelineSpec::from_json(spec.to_string().as_bytes()).unwrap();
    let target = Target {
        flavor: "vertex",
        store: store.parse().unwrap(),
        environment: BTreeMap::new(),
        secrets: BTreeMap::new(),
        supervision: Supervision::Orchestrator,
    };
    let image = format!("us-docker.pkg.dev/p/r/i@sha256:{}", "0".repeat(64)).parse::<Reference>().unwrap();
    Workflow::new(&spec, &target, |_| image.clone())
}

fn workflow(spec: &Value) -> Workflow {
    workflow_in(spec, "gs://bucket/runs")
}

fn config(values: &[(&str, &str)]) -> Config {
    let given = [("project", "test-project"), ("location", "us-central1")];
    let values = given.iter().chain(values).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::new(&values.collect()).unwrap()
}

fn plan(spec: &Value, values: &[(&str, &str)]) -> Plan {
    Plan::new(&workflow(spec), &config(values)).unwrap()
}

fn refused(spec: &Value) -> String {
    Plan::new(&workflow(spec), &config(&[])).unwrap_err().to_string()
}

#[test]
fn a_job_has_the_pipeline_spec_and_what_the_configuration_says() {
    let values = [
        ("service_account", "trainer@test-project.iam.gserviceaccount.com"),
        ("network", "projects/1/global/networks/n"),
        ("encryption_key", "projects/p/locations/us-central1/keyRings/r/cryptoKeys/k"),
        ("labels", "team=ml"),
    ];
    let job = plan(&spec(), &values).job;
    assert_eq!(job["displayName"], "digits_pipeline");
    assert_eq!(job["runtimeConfig"], json!({ "gcsOutputDirectory": "gs://bucket/runs/vertex" }));
    assert_eq!(job["serviceAccount"], values[0].1);
    assert_eq!(job["network"], values[1].1);
    assert_eq!(job["encryptionSpec"], json!({ "kmsKeyName": values[2].1 }));
    assert_eq!(job["labels"], json!({ "team": "ml" }));
    let spec = &job["pipelineSpec"];
    let accelerator =
        &spec["deploymentSpec"]["executors"]["exec-train"]["container"]["resources"]["accelerator"];
    assert_eq!((&accelerator["type"], &accelerator["count"]), (&json!("NVIDIA_L4"), &json!("2")));
    let task = &spec["root"]["dag"]["tasks"]["train"];
    assert_eq!(task["inputs"]["parameters"]["run"]["runtimeValue"]["constant"], "{{$.pipeline_job_name}}");
    assert_eq!(task["retryPolicy"]["backoffMaxDuration"], "3600s");
}

#[test]
fn schedules_keep_their_time_zone() {
    let mut spec = spec();
    spec["pipeline"]["schedule"] = json!({ "cron": "30 3 * * *", "timezone": "Europe/Zurich" });
    let plan = plan(&spec, &[]);
    let schedule = plan.schedule.as_ref().unwrap();
    assert_eq!(schedule["cron"], "TZ=Europe/Zurich 30 3 * * *");
    assert_eq!(schedule["createPipelineJobRequest"]["parent"], "projects/test-project/locations/us-central1");
    assert_eq!(schedule["createPipelineJobRequest"]["pipelineJob"], plan.job);
    assert_eq!(plan.documents()[0].name, "schedule.json");
}

#[test]
fn the_settings_own_accelerators_win() {
    let mut spec = spec();
    spec["steps"][1]["settings"]["vertex"] =
        json!({ "accelerator_type": "NVIDIA_TESLA_T4", "accelerator_count": 1 });
    let job = plan(&spec, &[]).job;
    let resources =
        &job["pipelineSpec"]["deploymentSpec"]["executors"]["exec-train"]["container"]["resources"];
    assert_eq!(resources["accelerator"]["resourceType"], "NVIDIA_TESLA_T4");
    assert_eq!(resources["accelerator"]["resourceCount"], "1");
}

#[test]
fn a_step_that_names_its_machine_runs_in_a_custom_job() {
    let mut spec = spec();
    spec["steps"][1]["settings"]["vertex"] = json!({ "machine_type": "g2-standard-24" });
    let job = plan(&spec, &[("network", "projects/1/global/networks/n"), ("labels", "team=ml")]).job;
    let spec = &job["pipelineSpec"];
    let executors = &spec["deploymentSpec"]["executors"];
    let own = &executors["exec-load-data"]["container"];
    assert!(own["image"].as_str().unwrap().contains("/i@sha256:"), "{own}");
    let container = &executors["exec-train"]["container"];
    assert_eq!(container.get("resources"), None);
    let payload: Value = serde_json::from_str(container["args"][3].as_str().unwrap()).unwrap();
    let pool = &payload["job_spec"]["worker_pool_specs"][0];
    let machine =
        json!({ "machine_type": "g2-standard-24", "accelerator_type": "NVIDIA_L4", "accelerator_count": 2 });
    assert_eq!(pool["machine_spec"], machine);
    assert_eq!(pool["container_spec"]["image_uri"], own["image"]);
    assert_eq!(pool["container_spec"]["args"][1], "{{$.inputs.parameters['run']}}");
    assert_eq!(payload["job_spec"]["service_account"], "{{$.inputs.parameters['service_account']}}");
    assert_eq!(
        (&payload["job_spec"]["network"], &payload["labels"]["team"]),
        (&json!("projects/1/global/networks/n"), &json!("ml"))
    );
    let task = &spec["root"]["dag"]["tasks"]["train"];
    assert_eq!(task["retryPolicy"]["maxRetryCount"], 2);
    // Every parameter that is used is given and declared.
    for name in ["run", "project", "location", "service_account"] {
        assert!(task["inputs"]["parameters"][name]["runtimeValue"]["constant"].is_string(), "{name}");
        assert_eq!(
            spec["components"]["comp-train"]["inputDefinitions"]["parameters"][name]["parameterType"],
            "STRING"
        );
    }
    assert_eq!(spec["components"]["comp-load-data"].get("outputDefinitions"), None);
}

#[test]
fn what_cannot_be_said_is_refused() {
    let with = |change: fn(&mut Value)| {
        let mut spec = spec();
        change(&mut spec["steps"][1]);
        refused(&spec)
    };
    let timeout = with(|step| step["timeout"] = json!(60));
    assert!(timeout.starts_with("step train has a timeout (60 s)"), "{timeout}");
    let none = with(|step| step["settings"] = json!({ "resources": { "gpu": 1 } }));
    assert!(none.contains("does not say which"), "{none}");
    let unknown = with(|step| step["settings"]["resources"]["gpu_type"] = json!("nvidia-tesla-t5"));
    assert!(unknown.contains("`nvidia-tesla-t5`; did you mean `NVIDIA_TESLA_"), "{unknown}");
    let field = with(|step| step["settings"]["vertex"] = json!({ "disk": "pd-ssd" }));
    let expected = "in the settings of step train: VertexSettings has no field `disk`; it has machine_type, accelerator_type, \
                    accelerator_count";
    assert_eq!(field, expected);
    let machine = with(|step| step["settings"]["vertex"] = json!({ "machine_type": "N1 standard" }));
    assert!(machine.contains("`N1 standard` is no type of a machine"), "{machine}");
    let mut workflow = workflow(&spec());
    workflow.steps[0].secrets.insert("TOKEN".to_owned(), Secret::new("hunter2"));
    let secret = Plan::new(&workflow, &config(&[])).unwrap_err().to_string();
    assert!(secret.starts_with("step load_data needs TOKEN") && !secret.contains("hunter2"), "{secret}");
    let elsewhere = workflow_in(&spec(), "s3://bucket/runs");
    let error = Plan::new(&elsewhere, &config(&[])).unwrap_err().to_string();
    assert!(error.contains("--pipeline_root=gs://"), "{error}");
    assert!(Plan::new(&elsewhere, &config(&[("pipeline_root", "gs://b/f")])).is_ok());
}

/// Vertex AI and the token service, both of them stand-ins.
struct Cloud {
    google: GoogleCloud,
    api: VertexApi,
}

impl Cloud {
    fn start() -> Self {
        Self { google: GoogleCloud::start().unwrap(), api: VertexApi::start().unwrap() }
    }

    fn vertex(&self) -> Vertex {
        let web = Web::new(WebConfig { proxy: ProxySource::Direct, ..WebConfig::default() });
        let url = self.api.url();
        let hosts = format!(
            "[\"us-central1-aiplatform.googleapis.com\"]\nserver = \"{url}\"\n[\"logging.googleapis.com\"]\nserver = \"{url}\"\n"
        );
        let hosts = Hosts::parse(&hosts).unwrap();
        let values =
            BTreeMap::from([("service_account_json".to_owned(), self.google.service_account_json())]);
        let values = values.into_iter().collect();
        let method = connector::Config::new(ConnectorType::Gcp, "service-account", values).unwrap();
        let environment = Environment::from_iter([] as [(&str, &str); 0]);
        let connector =
            Connector::in_environment("gcp".to_owned(), method, web.clone(), hosts.clone(), environment)
                .unwrap();
        let pauses = Pauses { first: Duration::from_millis(1), ..Pauses::default() };
        Vertex::new(config(&[]), Arc::new(connector), web, &hosts)
            .with_pauses(pauses, Duration::from_millis(5))
    }
}

fn task(name: &str, state: &str, custom_job: &str) -> Value {
    json!({ "taskName": name, "state": state, "executorDetail": { "containerDetail": {
        "mainJob": format!("projects/123456789/locations/us-central1/customJobs/{custom_job}") } } })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_submitted_told_of_and_cancelled() {
    let cloud = Cloud::start();
    let vertex = cloud.vertex();
    let submission = Service::submit(&vertex, &workflow(&spec())).await.unwrap();
    assert!(submission.run.starts_with("digits-pipeline-2"), "{submission:?}");
    assert_eq!(submission.artifacts, Some(format!("gs://bucket/runs/{}", submission.run)));
    let state = Service::status(&vertex, &submission.run).await.unwrap();
    assert_eq!((state.phase, state.steps.len()), (Phase::Pending, 2));
    let mut failed = task("train", "FAILED", "2");
    failed["error"] = json!({ "code": 8, "message": "The replica workerpool0-0 ran out-of-memory." });
    let tasks = json!([task("load-data", "SUCCEEDED", "1"), failed]);
    cloud.api.become_of(&submission.run, "PIPELINE_STATE_FAILED", &tasks);
    let state = Service::status(&vertex, &submission.run).await.unwrap();
    assert_eq!((state.steps[0].phase, state.steps[1].phase), (Phase::Succeeded, Phase::Failed));
    assert!(state.steps[1].reason.as_ref().unwrap().contains("set `memory`"));
    // One that has ended stays as it is.
    Service::cancel(&vertex, &submission.run).await.unwrap();
    let second = Service::submit(&vertex, &workflow(&spec())).await.unwrap().run;
    Service::cancel(&vertex, &second).await.unwrap();
    assert_eq!(cloud.api.jobs()[&second]["state"], "PIPELINE_STATE_CANCELLING");
    cloud.api.become_of(&second, "PIPELINE_STATE_CANCELLED", &json!([]));
    let state = Service::status(&vertex, &second).await.unwrap();
    assert!(state.steps.iter().all(|step| step.phase == Phase::Cancelled));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_and_a_busy_service_make_no_second_job() {
    let cloud = Cloud::start();
    let vertex = cloud.vertex();
    for trouble in [
        Trouble::Refused(429, "Quota exceeded for quota metric 'Requests'".to_owned()),
        Trouble::Refused(401, "Request had invalid authentication credentials.".to_owned()),
        Trouble::AnswerLost,
    ] {
        cloud.api.trouble(trouble);
    }
    let run = Service::submit(&vertex, &workflow(&spec())).await.unwrap().run;
    assert_eq!(cloud.api.jobs().into_keys().collect::<Vec<_>>(), [run]);
    assert_eq!(cloud.google.tokens_given(), 2, "a token that is refused is not used again");
    let mut spec = spec();
    spec["pipeline"]["schedule"] = json!({ "cron": "30 3 * * *" });
    cloud.api.trouble(Trouble::AnswerLost);
    let schedule = Service::submit(&vertex, &workflow(&spec)).await.unwrap().run;
    assert_eq!(cloud.api.schedules().len(), 1);
    let state = Service::status(&vertex, &schedule).await.unwrap();
    let reason = "runs begin at TZ=UTC 30 3 * * *";
    assert_eq!((state.phase, state.reason.as_deref()), (Phase::Running, Some(reason)));
    // What is deleted already is deleted.
    for _ in 0..2 {
        Service::cancel(&vertex, &schedule).await.unwrap();
        assert!(cloud.api.schedules().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_followed_over_a_lost_connection() {
    let cloud = Cloud::start();
    let vertex = cloud.vertex();
    let run = Service::submit(&vertex, &workflow(&spec())).await.unwrap().run;
    let lines = Mutex::new(Vec::new());
    let line = |text: &str| lines.lock().unwrap().push(text.to_owned());
    assert_eq!(Service::logs(&vertex, &run, "train", 0, Follow::No, &line).await.unwrap(), 0);
    cloud.api.become_of(&run, "PIPELINE_STATE_RUNNING", &json!([task("train", "RUNNING", "7")]));
    for (time, text) in [("03:00:01", "one"), ("03:00:02", "two"), ("03:00:03", "three")] {
        cloud.api.print("7", time, text);
    }
    cloud.api.print("8", "03:00:02", "another step's");
    assert_eq!(Service::logs(&vertex, &run, "train", 0, Follow::No, &line).await.unwrap(), 3);
    let follow = Service::logs(&vertex, &run, "train", 3, Follow::Yes, &line);
    let happen = async {
        cloud.api.trouble(Trouble::AnswerLost);
        tokio::time::sleep(Duration::from_millis(20)).await;
        cloud.api.print("7", "03:00:04", "four\nfive");
        cloud.api.become_of(&run, "PIPELINE_STATE_RUNNING", &json!([task("train", "SUCCEEDED", "7")]));
    };
    assert_eq!(tokio::join!(follow, happen).0.unwrap(), 5);
    assert_eq!(*lines.lock().unwrap(), ["one", "two", "three", "four", "five"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_what_to_do() {
    let cloud = Cloud::start();
    let vertex = cloud.vertex();
    for (status, reason, part) in [
        (
            403,
            "Permission 'aiplatform.pipelineJobs.create' denied on resource",
            "grant the connector's account roles/aiplatform.user in the project test-project",
        ),
        (
            403,
            "Vertex AI API has not been used in project 1 before or it is disabled.",
            "gcloud services enable aiplatform.googleapis.com --project=test-project",
        ),
        (
            403,
            "You do not have permission to act as service account: iam.serviceAccounts.actAs",
            "roles/iam.serviceAccountUser",
        ),
        (
            400,
            "The pipeline spec is wrong.",
            "cannot submit pipeline digits_pipeline: The pipeline spec is wrong",
        ),
    ] {
        cloud.api.trouble(Trouble::Refused(status, reason.to_owned()));
        let error = Service::submit(&vertex, &workflow(&spec())).await.unwrap_err();
        assert!(error.to_string().contains(part) && !error.is_retryable(), "{error}");
    }
    for _ in 0..5 {
        cloud.api.trouble(Trouble::Refused(429, "Quota exceeded.".to_owned()));
    }
    let error = Service::submit(&vertex, &workflow(&spec())).await.unwrap_err();
    assert!(error.to_string().contains("ask for more quota") && error.is_retryable(), "{error}");
    let error = Service::status(&vertex, "no-such-run").await.unwrap_err().to_string();
    assert!(error.contains("the location us-central1 are right"), "{error}");
    assert!(cloud.api.jobs().is_empty());
}
