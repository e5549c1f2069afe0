//! Pipelines on Azure Machine Learning: what is planned, and how the API, as a stand-in serves it, is talked to.
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use std::{
    collections::BTreeMap,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use longshore_auth::{
    Environment, Secret,
    connector::{self, Connector, ConnectorType},
};
use longshore_azureml::{AzureMl, Config, Plan};
use longshore_endpoint::{Hosts, Pauses, ProxySource, Web, WebConfig};
use longshore_oci::Reference;
use longshore_orchestrator::{Follow, Phase, Service, Supervision, Target, Workflow};
use longshore_pipeline::PipelineSpec;
use longshore_testkit::cloud::{AzureMlApi, MicrosoftCloud, Trouble};
use serde_json::{Value, json};

const WORKSPACE: &str =
    "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w";

fn spec() -> Value {
    json!({
        "version": 2, "pipeline": { "name": "digits_pipeline" }, "source_root": "/src", "sdk_version": "0.1.0",
        "python": { "executable": "/usr/bin/python3", "version": "3.11.2" },
        "steps": [
            { "name": "load-data", "source": { "module": "m", "attribute": "load" }, "outputs": ["output"] },
            { "name": "train", "source": { "module": "m", "attribute": "train" }, "outputs": [],
              "inputs": { "data": { "step": "load-data", "output": "output" } }, "retries": 2, "timeout": 60,
              "settings": { "resources": { "cpu": 4, "memory": "16GB", "gpu": 1, "gpu_type": "nvidia-tesla-t4" } } },
        ],
    })
}

fn workflow(spec: &Value) -> Workflow {
    let spec = PipelineSpec::from_json(spec.to_string().as_bytes()).unwrap();
    let target = Target {
        flavor: "azureml",
        store: "az://container/runs".parse().unwrap(),
        environment: BTreeMap::from([("AZURE_STORAGE_ACCOUNT".to_owned(), "it's mine".to_owned())]),
        secrets: BTreeMap::new(),
        supervision: Supervision::Entrypoint,
    };
    let image = format!("r.azurecr.io/digits@sha256:{}", "0".repeat(64)).parse::<Reference>().unwrap();
    Workflow::new(&spec, &target, |_| image.clone())
}

fn config(values: &[(&str, &str)]) -> Config {
    let given = [("subscription_id", "s"), ("resource_group", "g"), ("workspace", "w")];
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
fn a_job_has_a_node_for_each_step_bound_to_those_that_it_waits_for() {
    let plan = plan(&spec(), &[]);
    let [environment] = &plan.environments[..] else { panic!("one image, one environment") };
    assert!(
        environment.id.starts_with(&format!("{WORKSPACE}/environments/longshore-digits-pipeline/versions/"))
    );
    assert!(environment.body["properties"]["image"].as_str().unwrap().contains("@sha256:"));
    let properties = &plan.job["properties"];
    assert_eq!(properties["jobType"], "Pipeline");
    let (load, train) = (&properties["jobs"]["load_data"], &properties["jobs"]["train"]);
    assert_eq!(load["display_name"], "load-data");
    assert_eq!(load["outputs"], json!({ "done": { "job_output_type": "uri_folder" } }));
    assert_eq!(
        train["inputs"],
        json!({ "after_load_data": { "job_input_type": "literal", "mode": "Direct",
                                     "value": "${{parent.jobs.load_data.outputs.done}}" } })
    );
    assert_eq!((load.get("inputs"), train.get("outputs")), (None, None));
    assert_eq!(train["resources"], json!({ "instance_count": 1, "instance_type": "Standard_NC4as_T4_v3" }));
    assert_eq!(load.get("resources"), None);
    // Three tries of a minute each, and a quarter of an hour.
    assert_eq!(train["limits"]["timeout"], "PT1080S");
    assert_eq!(plan.components[1].body["properties"]["componentSpec"]["is_deterministic"], false);
    let again = self::plan(&spec(), &[]);
    assert_eq!(plan, again, "the same each time");
    let documents: Vec<String> = plan.documents().into_iter().map(|document| document.name).collect();
    assert_eq!(documents[1..], ["component_load_data.json", "component_train.json", "pipeline_job.json"]);
}

#[test]
fn the_command_is_what_the_workflow_says_to_a_shell() {
    let workflow = workflow(&spec());
    let containers = Plan::new(&workflow, &config(&[])).unwrap().containers();
    let container = &containers["load-data"];
    assert_eq!(container.environment["AZURE_STORAGE_ACCOUNT"], "it's mine");
    assert_eq!(container.image, workflow.steps[0].image.to_string());
    assert!(container.command.starts_with(
        "cd /app && /opt/venv/bin/python -m longshore.entrypoint --run \"$AZUREML_ROOT_RUN_ID\""
    ));
    assert!(container.command.ends_with(" && : > \"${{outputs.done}}/done\""), "{}", container.command);
    assert!(!containers["train"].command.contains("${{"));
    // What a shell makes of it, with something that prints its arguments in place of the interpreter.
    let line = containers["train"].command.replace("cd /app && /opt/venv/bin/python", r"printf '%s\n'");
    let output = Command::new("sh").args(["-c", &line]).env("AZUREML_ROOT_RUN_ID", "run 1").output().unwrap();
    let step = &workflow.steps[1];
    let expected: Vec<String> = step.command().into_iter().skip(1).chain(step.arguments("run 1")).collect();
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().collect::<Vec<_>>(), expected);
}

#[test]
fn compute_is_the_steps_own_else_the_orchestrators() {
    let mut spec = spec();
    let node =
        |spec: &Value, values: &[(&str, &str)]| plan(spec, values).job["properties"]["jobs"]["train"].clone();
    let values = [("compute", "cluster"), ("instance_type", "Standard_DS4_v2"), ("identity", "abc")];
    let train = node(&spec, &values);
    assert_eq!(train["computeId"], format!("{WORKSPACE}/computes/cluster"));
    assert_eq!(train.get("resources"), None, "the compute has its machines");
    assert_eq!(train["identity"], json!({ "identity_type": "Managed", "client_id": "abc" }));
    spec["steps"][1]["settings"]["azureml"] = json!({ "compute": "serverless", "shm_size": "2g" });
    let train = node(&spec, &values);
    assert_eq!(train.get("computeId"), None);
    let resources = json!({ "instance_count": 1, "instance_type": "Standard_DS4_v2", "shm_size": "2g" });
    assert_eq!(train["resources"], resources);
    spec["steps"][1]["settings"]["azureml"] = json!({ "compute": "k8s", "instance_type": "gpu.large" });
    let train = node(&spec, &values);
    assert_eq!(train["computeId"], format!("{WORKSPACE}/computes/k8s"));
    assert_eq!(train["resources"]["instance_type"], "gpu.large");
}

#[test]
fn what_cannot_be_said_is_refused() {
    let with = |change: fn(&mut Value)| {
        let mut spec = spec();
        change(&mut spec);
        refused(&spec)
    };
    let schedule = with(|spec| spec["pipeline"]["schedule"] = json!({ "cron": "30 3 * 6 *" }));
    assert!(schedule.contains("`30 3 * 6 *`") && schedule.contains("nor for some months"), "{schedule}");
    let size = with(|spec| spec["steps"][1]["settings"]["resources"]["gpu"] = json!(16));
    assert!(
        size.starts_with("step train wants 4 processors, ") && size.contains("`instance_type`"),
        "{size}"
    );
    let field = with(|spec| spec["steps"][1]["settings"]["azureml"] = json!({ "instance_typ": "x" }));
    assert!(
        field.contains("AzureMLSettings has no field `instance_typ`; did you mean `instance_type`?"),
        "{field}"
    );
    let shm = with(|spec| spec["steps"][1]["settings"]["azureml"] = json!({ "shm_size": "2 GB" }));
    assert!(shm.contains("`2 GB` is no `shm_size`"), "{shm}");
    let text: String = (0..40_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_string()).collect();
    let mut large = spec();
    large["steps"][0]["parameters"] = json!({ "text": text });
    let large = refused(&large);
    assert!(large.starts_with("step load-data: its parameters are too large"), "{large}");
    let mut workflow = workflow(&spec());
    workflow.steps[0].secrets.insert("TOKEN".to_owned(), Secret::new("hunter2"));
    let secret = Plan::new(&workflow, &config(&[])).unwrap_err().to_string();
    assert!(secret.starts_with("step load-data needs TOKEN") && !secret.contains("hunter2"), "{secret}");
}

#[test]
fn hundreds_of_steps_are_planned() {
    let mut spec = spec();
    let steps = (0..500).map(|n| {
        let inputs = if n == 0 { json!({}) } else { json!({ "x": { "step": format!("s{}", n - 1), "output": "o" } }) };
        json!({ "name": format!("s{n}"), "source": { "module": "m", "attribute": "f" }, "outputs": ["o"], "inputs": inputs })
    });
    spec["steps"] = steps.collect();
    let plan = plan(&spec, &[]);
    assert_eq!((plan.environments.len(), plan.components.len()), (1, 500));
    assert_eq!(plan.containers().len(), 500);
}

/// Azure Machine Learning and the token service, both of them stand-ins.
struct Cloud {
    microsoft: MicrosoftCloud,
    api: AzureMlApi,
}

impl Cloud {
    fn start() -> Self {
        let microsoft = MicrosoftCloud::start("r.azurecr.io").unwrap();
        Self { microsoft, api: AzureMlApi::start().unwrap() }
    }

    fn azureml(&self) -> AzureMl {
        self.with(config(&[]))
    }

    fn with(&self, config: Config) -> AzureMl {
        let web = Web::new(WebConfig { proxy: ProxySource::Direct, ..WebConfig::default() });
        let url = self.api.url();
        let hosts = format!(
            "[\"management.azure.com\"]\nserver = \"{url}\"\n[\"westeurope.api.azureml.ms\"]\nserver = \"{url}\"\n\
             [\"account.blob.core.windows.net\"]\nserver = \"{url}\"\n"
        );
        let hosts = Hosts::parse(&hosts).unwrap();
        let secrets = self.microsoft.secrets();
        let values = [
            ("tenant_id", secrets.tenant),
            ("client_id", secrets.client),
            ("client_secret", secrets.secret),
            ("authority", &self.microsoft.url()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let method =
            connector::Config::new(ConnectorType::Azure, "service-principal", values.into_iter().collect())
                .unwrap();
        let environment = Environment::from_iter([] as [(&str, &str); 0]);
        let connector =
            Connector::in_environment("azure".to_owned(), method, web.clone(), hosts.clone(), environment)
                .unwrap();
        let pauses = Pauses { first: Duration::from_millis(1), ..Pauses::default() };
        AzureMl::new(config, Arc::new(connector), web, &hosts).with_pauses(pauses, Duration::from_millis(1))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_submitted_told_of_and_cancelled() {
    let cloud = Cloud::start();
    let azureml = cloud.azureml();
    let submission = Service::submit(&azureml, &workflow(&spec())).await.unwrap();
    let run = &submission.run;
    assert!(run.starts_with("digits-pipeline-2"), "{submission:?}");
    assert_eq!(submission.artifacts, Some(format!("az://container/runs/{run}")));
    assert_eq!(submission.url, Some(format!("https://ml.azure.com/runs/{run}?wsid={WORKSPACE}&tid=t")));
    assert_eq!(cloud.api.assets().len(), 3);
    let state = Service::status(&azureml, run).await.unwrap();
    assert_eq!((state.phase, state.steps.len()), (Phase::Pending, 2));
    let runs = [
        json!({ "runId": "1", "displayName": "load-data", "status": "Completed",
                "startTimeUtc": "2026-01-02T03:04:05.123456+00:00", "endTimeUtc": "2026-01-02T03:05:05+00:00" }),
        json!({ "runId": "2", "displayName": "train", "status": "Failed", "error": { "error": {
            "code": "UserError", "message": "Execution failed. User process exited with code 137" } } }),
    ];
    cloud.api.become_of(run, "Failed", &runs);
    let state = Service::status(&azureml, run).await.unwrap();
    assert_eq!((state.steps[0].phase, state.steps[1].phase), (Phase::Succeeded, Phase::Failed));
    assert!(state.steps[0].finished.unwrap() > state.steps[0].started.unwrap());
    assert!(state.steps[1].reason.as_ref().unwrap().contains("more memory"));
    // One that has ended stays as it is.
    Service::cancel(&azureml, run).await.unwrap();
    assert_eq!(cloud.api.jobs()[run]["properties"]["status"], "Failed");
    let second = Service::submit(&azureml, &workflow(&spec())).await.unwrap().run;
    assert_eq!(cloud.api.assets().len(), 3, "made once");
    Service::cancel(&azureml, &second).await.unwrap();
    let state = Service::status(&azureml, &second).await.unwrap();
    assert_eq!(state.reason.as_deref(), Some("the run is being cancelled"));
    cloud.api.become_of(&second, "Canceled", &[]);
    let state = Service::status(&azureml, &second).await.unwrap();
    assert!(state.steps.iter().all(|step| step.phase == Phase::Cancelled));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_followed_to_its_end() {
    let cloud = Cloud::start();
    let azureml = cloud.azureml();
    let run = Service::submit(&azureml, &workflow(&spec())).await.unwrap().run;
    let running = json!({ "runId": "node-1", "displayName": "load-data", "status": "Running" });
    cloud.api.become_of(&run, "Running", &[running]);
    let printed = Mutex::new(Vec::new());
    let line = |line: &str| {
        let mut printed = printed.lock().unwrap();
        printed.push(line.to_owned());
        if line == "half a line" {
            cloud.api.print("node-1", "the end");
            let ended = json!({ "runId": "node-1", "displayName": "load-data", "status": "Completed" });
            cloud.api.become_of(&run, "Running", &[ended]);
        } else if printed.len() == 1 {
            cloud.api.print("node-1", "f a line\n");
        }
    };
    assert_eq!(Service::logs(&azureml, &run, "load-data", 7, Follow::No, &line).await.unwrap(), 7);
    cloud.api.print("node-1", "one\r\ntwo é\nhal");
    let count = Service::logs(&azureml, &run, "load-data", 1, Follow::Yes, &line).await.unwrap();
    assert_eq!(
        (count, &*printed.lock().unwrap()),
        (4, &["two é", "half a line", "the end"].map(str::to_owned).to_vec())
    );
    // More than is read at once.
    let long = "0123456789abcdé\n".repeat(200_000);
    cloud.api.print("node-1", &format!("\n{long}"));
    let whole = Mutex::new(0);
    let count = |line: &str| {
        if line == "0123456789abcdé" {
            *whole.lock().unwrap() += 1;
        }
    };
    Service::logs(&azureml, &run, "load-data", 0, Follow::No, &count).await.unwrap();
    assert_eq!(*whole.lock().unwrap(), 200_000);
    let error = Service::logs(&azureml, &run, "nothing", 0, Follow::No, &count).await.unwrap_err();
    assert!(error.to_string().contains("has no step nothing; it has load-data, train"), "{error}");
    // The job, two pages, the workspace is known, and the details come before the file.
    cloud.api.trouble_after(3, Trouble::Refused(403, "AuthorizationFailure".to_owned()));
    let error =
        Service::logs(&azureml, &run, "load-data", 0, Follow::No, &count).await.unwrap_err().to_string();
    assert!(error.contains("storage account's firewall") && error.contains("/runs/"), "{error}");
    assert!(!error.contains("sig"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_is_made_changed_and_deleted() {
    let cloud = Cloud::start();
    let azureml = cloud.azureml();
    let scheduled = |cron: &str| {
        let mut spec = spec();
        spec["pipeline"]["schedule"] = json!({ "cron": cron, "timezone": "Europe/Zurich" });
        workflow(&spec)
    };
    let first = Service::submit(&azureml, &scheduled("30 3 * * MON-FRI")).await.unwrap();
    let second = Service::submit(&azureml, &scheduled("0 4 1 * *")).await.unwrap();
    assert_eq!(first, second, "a pipeline has one schedule");
    assert_eq!(first.url, Some(format!("https://ml.azure.com/schedules?wsid={WORKSPACE}")));
    let name = first.run.strip_prefix("schedules/").unwrap();
    assert!(name.starts_with("digits-pipeline-"), "{name}");
    let made = cloud.api.schedules()[name].clone();
    assert_eq!(made["properties"]["trigger"]["timeZone"], "W. Europe Standard Time");
    let plan = Plan::new(&scheduled("0 4 1 * *"), &config(&[])).unwrap();
    assert_eq!(made["properties"]["action"]["jobDefinition"], plan.job["properties"]);
    assert_eq!(plan.documents().last().unwrap().name, "schedule.json");
    assert!(cloud.api.jobs().is_empty(), "nothing runs now");
    let state = Service::status(&azureml, &first.run).await.unwrap();
    assert_eq!(state.phase, Phase::Running);
    let reason = "runs begin on the days [1] of every month, hours [4], minutes [0], W. Europe Standard Time";
    assert_eq!(state.reason.as_deref(), Some(reason));
    let log = Service::logs(&azureml, &first.run, "train", 0, Follow::No, &|_| ()).await.unwrap_err();
    assert!(log.to_string().contains("is a schedule"), "{log}");
    // What is deleted already is deleted.
    for _ in 0..2 {
        Service::cancel(&azureml, &first.run).await.unwrap();
    }
    assert!(cloud.api.schedules().is_empty());
    let gone = Service::status(&azureml, &first.run).await.unwrap_err().to_string();
    assert!(gone.contains("The schedule was not found"), "{gone}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_old_tokens_and_a_busy_service_make_no_second_job() {
    let cloud = Cloud::start();
    let azureml = cloud.azureml();
    for trouble in [
        Trouble::Refused(429, "Too many requests".to_owned()),
        Trouble::Refused(401, "The access token expired.".to_owned()),
        Trouble::Refused(503, "Unavailable".to_owned()),
    ] {
        cloud.api.trouble(trouble);
    }
    let first = Service::submit(&azureml, &workflow(&spec())).await.unwrap().run;
    assert_eq!(cloud.microsoft.tokens_given(), 4, "two for each of the APIs");
    // One environment and two components come before the job.
    cloud.api.trouble_after(3, Trouble::AnswerLost);
    let second = Service::submit(&azureml, &workflow(&spec())).await.unwrap().run;
    let mut runs = [first, second];
    runs.sort();
    assert_eq!(cloud.api.jobs().into_keys().collect::<Vec<_>>(), runs);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_that_fails_leaves_nothing_that_runs() {
    let cloud = Cloud::start();
    let azureml = cloud.azureml();
    for before in 0..4 {
        cloud.api.trouble_after(before, Trouble::Refused(400, "No.".to_owned()));
        let error = Service::submit(&azureml, &workflow(&spec())).await.unwrap_err();
        assert_eq!(error.to_string(), "cannot submit pipeline digits_pipeline: No");
        assert!(cloud.api.jobs().is_empty());
    }
    // The job is made, its answer lost, and nothing more is heard until it is cancelled.
    cloud.api.trouble_after(3, Trouble::AnswerLost);
    for _ in 0..9 {
        cloud.api.trouble(Trouble::Refused(500, "Broken.".to_owned()));
    }
    Service::submit(&azureml, &workflow(&spec())).await.unwrap_err();
    let jobs: Vec<_> = cloud.api.jobs().into_values().collect();
    let [job] = &jobs[..] else { panic!("it was made once: {jobs:?}") };
    assert_eq!(job["properties"]["status"], "CancelRequested");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_what_to_do() {
    let cloud = Cloud::start();
    let azureml = cloud.azureml();
    for (status, reason, part) in [
        (
            403,
            "The client 'c' with object id 'o-1' does not have authorization to perform action \
             'Microsoft.MachineLearningServices/workspaces/jobs/write' over scope '/subscriptions/s/resourceGroups/g' or \
             the scope is invalid.",
            "az role assignment create --assignee o-1 --role \"AzureML Data Scientist\" --scope \
             /subscriptions/s/resourceGroups/g",
        ),
        (400, "Not enough quota: the subscription has 0 cores of the family.", "ask for more quota"),
        (400, "Unknown compute target 'cluster'.", "az ml compute list --workspace-name w"),
        (404, "SubscriptionNotFound: the subscription 's' could not be found.", "check --subscription_id"),
    ] {
        cloud.api.trouble(Trouble::Refused(status, reason.to_owned()));
        let error = Service::submit(&azureml, &workflow(&spec())).await.unwrap_err();
        assert!(error.to_string().contains(part) && !error.is_retryable(), "{error}");
    }
    for _ in 0..5 {
        cloud.api.trouble(Trouble::Refused(429, "Slower.".to_owned()));
    }
    let error = Service::submit(&azureml, &workflow(&spec())).await.unwrap_err();
    assert!(error.to_string().contains("try again later") && error.is_retryable(), "{error}");
    let mut elsewhere = config(&[]);
    elsewhere.workspace = "other".to_owned();
    let error = Service::submit(&cloud.with(elsewhere), &workflow(&spec())).await.unwrap_err().to_string();
    assert!(error.contains("check --workspace: az ml workspace list --resource-group g"), "{error}");
    let error = Service::status(&azureml, "no-such-run").await.unwrap_err().to_string();
    assert!(error.contains("Run no-such-run was not found"), "{error}");
    assert!(cloud.api.jobs().is_empty());
}
