//! Pipelines on `SageMaker`: what is planned, and how the API is talked to: `moto`, and a stand-in for what `moto` does not have.
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use longshore_auth::{
    Environment, Secret,
    connector::{self, Connector, ConnectorType},
};
use longshore_endpoint::{Hosts, Pauses, ProxySource, Web, WebConfig};
use longshore_oci::Reference;
use longshore_orchestrator::{Follow, Phase, Service as _, Supervision, Target, Workflow};
use longshore_pipeline::PipelineSpec;
use longshore_sagemaker::{Config, Plan, SageMaker};
use longshore_testkit::cloud::Moto;
use serde_json::{Value, json};

const ROLE: &str = "arn:aws:iam::123456789012:role/SageMakerExecution";
const RUN: &str = "arn:aws:sagemaker:eu-central-1:123456789012:pipeline/digits-pipeline/execution/abc123";

fn spec() -> Value {
    json!({
        "version": 2, "pipeline": { "name": "digits_pipeline" }, "source_root": "/src", "sdk_version": "0.1.0",
        "python": { "executable": "/usr/bin/python3", "version": "3.11.2" },
        "steps": [
            { "name": "load_data", "source": { "module": "m", "attribute": "load" }, "outputs": ["output"] },
            { "name": "train", "source": { "module": "m", "attribute": "train" }, "outputs": [], "retries": 2, "timeout": 90,
              "inputs": { "data": { "step": "load_data", "output": "output" } },
              "settings": { "resources": { "cpu": 4, "memory": "16GiB", "gpu": 1, "gpu_type": "nvidia-tesla-t4" },
                            "sagemaker": { "step_type": "training", "tags": { "cost": "42" } } } },
        ],
    })
}

fn workflow_of(spec: &Value, store: &str, secrets: &[&str]) -> Workflow {
    let spec = PipelineSpec::from_json(spec.to_string().as_bytes()).unwrap();
    let target = Target {
        flavor: "sagemaker",
        store: store.parse().unwrap(),
        environment: BTreeMap::from([("AWS_REGION".to_owned(), "eu-central-1".to_owned())]),
        secrets: secrets.iter().map(|name| ((*name).to_owned(), Secret::new("hush"))).collect(),
        supervision: Supervision::Entrypoint,
    };
    let image = format!("123456789012.dkr.ecr.eu-central-1.amazonaws.com/digits@sha256:{}", "0".repeat(64));
    let image = image.parse::<Reference>().unwrap();
    Workflow::new(&spec, &target, |_| image.clone())
}

fn workflow(spec: &Value) -> Workflow {
    workflow_of(spec, "s3://bucket/runs", &[])
}

fn config(values: &[(&str, &str)]) -> Config {
    let given = [("role", ROLE), ("region", "eu-central-1")];
    let values = given.iter().chain(values).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::new(&values.collect()).unwrap()
}

fn steps(spec: &Value, values: &[(&str, &str)]) -> Vec<Value> {
    let plan = Plan::new(&workflow(spec), &config(values)).unwrap();
    plan.definition["Steps"].as_array().unwrap().clone()
}

fn refused(spec: &Value) -> String {
    Plan::new(&workflow(spec), &config(&[])).unwrap_err().to_string()
}

#[test]
fn a_step_is_a_job() {
    let values = [("subnets", "subnet-1"), ("security_groups", "sg-1"), ("tags", "team=ml")];
    let [load_data, train] = &steps(&spec(), &values)[..] else { panic!("two steps") };
    assert_eq!((&load_data["Type"], &train["Type"]), (&json!("Processing"), &json!("Training")));
    assert_eq!((load_data.get("DependsOn"), &train["DependsOn"]), (None, &json!(["load_data"])));
    let job = &load_data["Arguments"];
    let container = &job["AppSpecification"];
    assert_eq!(
        container["ContainerEntrypoint"],
        json!(["/opt/venv/bin/python", "-m", "longshore.entrypoint"])
    );
    let arguments = container["ContainerArguments"].as_array().unwrap();
    assert_eq!(
        arguments[..3],
        [json!("--run"), json!({"Get": "Execution.PipelineExecutionId"}), json!("--step")]
    );
    assert_eq!(job["ProcessingResources"]["ClusterConfig"]["InstanceType"], "ml.m5.large");
    assert_eq!(
        job["NetworkConfig"]["VpcConfig"],
        json!({"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]})
    );
    assert_eq!(job["RoleArn"], ROLE);
    assert_eq!(
        job["Environment"],
        json!({"AWS_DEFAULT_REGION": "eu-central-1", "AWS_REGION": "eu-central-1"})
    );
    let job = &train["Arguments"];
    assert_eq!(job["ResourceConfig"]["InstanceType"], "ml.g4dn.xlarge");
    assert_eq!(job["VpcConfig"]["SecurityGroupIds"], json!(["sg-1"]));
    assert_eq!(job["Tags"], json!([{"Key": "cost", "Value": "42"}, {"Key": "team", "Value": "ml"}]));
    // Three tries of 90 seconds, and what is between them.
    assert_eq!(job["StoppingCondition"]["MaxRuntimeInSeconds"], 3 * 90 + 600);
}

fn scheduled(cron: &str) -> Value {
    let mut spec = spec();
    spec["pipeline"]["schedule"] = json!({ "cron": cron, "timezone": "Europe/Zurich" });
    spec
}

#[test]
fn a_schedule_starts_the_pipeline() {
    let plan = |values: &[(&str, &str)]| {
        Plan::new(&workflow(&scheduled("*/30 3 * * 1-5")), &config(values)).unwrap()
    };
    let schedule = plan(&[]).schedule.unwrap();
    assert_eq!(schedule.name, "digits-pipeline");
    assert_eq!(schedule.request["ScheduleExpression"], "cron(0,30 3 ? * MON,TUE,WED,THU,FRI *)");
    assert_eq!(schedule.request["ScheduleExpressionTimezone"], "Europe/Zurich");
    let pipeline = "arn:aws:sagemaker:eu-central-1:123456789012:pipeline/digits-pipeline";
    assert_eq!(schedule.request["Target"], json!({ "Arn": pipeline, "RoleArn": ROLE }));
    let role = "arn:aws:iam::123456789012:role/StartPipelines";
    let plan = plan(&[("scheduler_role", role)]);
    assert_eq!(plan.schedule.as_ref().unwrap().request["Target"]["RoleArn"], role);
    assert_eq!(
        plan.documents().iter().map(|document| document.name.as_str()).collect::<Vec<_>>(),
        ["pipeline.json", "schedule.json"]
    );
}

#[test]
fn instances_have_what_steps_want() {
    for (resources, expected) in [
        (json!({"cpu": 2}), "ml.m5.large"),
        (json!({"cpu": 3}), "ml.c5.xlarge"),
        (json!({"memory": "100GiB"}), "ml.r5.4xlarge"),
        (json!({"cpu": 40, "memory": "100GB"}), "ml.m5.12xlarge"),
        (json!({"gpu": 1}), "ml.g4dn.xlarge"),
        (json!({"gpu": 4, "gpu_type": "A10G"}), "ml.g5.12xlarge"),
    ] {
        let mut spec = spec();
        spec["steps"][0]["settings"] = json!({ "resources": resources });
        let job = &steps(&spec, &[("instance_type", "ml.m5.24xlarge")])[0]["Arguments"];
        assert_eq!(job["ProcessingResources"]["ClusterConfig"]["InstanceType"], expected);
    }
    let job = &steps(&spec(), &[("instance_type", "ml.t3.large"), ("volume_size", "50")])[0]["Arguments"];
    let cluster = json!({"InstanceCount": 1, "InstanceType": "ml.t3.large", "VolumeSizeInGB": 50});
    assert_eq!(job["ProcessingResources"]["ClusterConfig"], cluster);
}

#[test]
fn what_cannot_be_said_is_refused() {
    let with = |change: fn(&mut Value)| {
        let mut spec = spec();
        change(&mut spec["steps"][0]);
        refused(&spec)
    };
    let schedule = |cron: &str| refused(&scheduled(cron));
    let days = schedule("0 3 13 * FRI");
    assert!(days.contains("`0 3 13 * FRI`") && days.contains("leave one of them `*`"), "{days}");
    let hour = schedule("0 24 * * *");
    assert!(hour.starts_with("pipeline digits_pipeline: `24` in the schedule"), "{hour}");
    let much = with(|step| step["settings"] = json!({ "resources": { "memory": "2TiB" } }));
    assert!(much.starts_with("step load_data: no instance"), "{much}");
    let long = with(|step| step["timeout"] = json!(777_600));
    assert!(long.contains("shorten its timeout"), "{long}");
    let field = with(|step| step["settings"] = json!({ "sagemaker": { "instance": "ml.m5.large" } }));
    assert!(
        field.contains("SagemakerSettings has no field `instance`; did you mean `instance_type`?"),
        "{field}"
    );
    let odd = with(|step| step["settings"] = json!({ "sagemaker": { "instance_type": "m5.large" } }));
    assert!(odd.contains("`instance_type` is m5.large"), "{odd}");
    let large = with(|step| {
        let text: String = (0..20_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_string()).collect();
        step["parameters"] = json!({ "text": text });
    });
    assert!(large.contains("100 arguments of 256 characters"), "{large}");
    let secret =
        Plan::new(&workflow_of(&spec(), "s3://b/r", &["TOKEN"]), &config(&[])).unwrap_err().to_string();
    assert!(secret.contains("needs TOKEN") && secret.contains(ROLE) && !secret.contains("hush"), "{secret}");
    let elsewhere = Plan::new(&workflow_of(&spec(), "gs://b/r", &[]), &config(&[])).unwrap_err().to_string();
    assert!(elsewhere.contains("s3://"), "{elsewhere}");
}

#[test]
fn five_hundred_steps_are_planned() {
    let mut spec = spec();
    let steps: Vec<Value> = (0..500)
        .map(|n| json!({ "name": format!("s{n}"), "source": { "module": "m", "attribute": "f" }, "outputs": [] }))
        .collect();
    spec["steps"] = json!(steps);
    let plan = Plan::new(&workflow(&spec), &config(&[])).unwrap();
    assert_eq!(plan.definition["Steps"].as_array().unwrap().len(), 500);
}

/// What an action is answered with, in turn: statuses and bodies.
type Answers = VecDeque<(u16, Value)>;

/// An API that answers each action with what it was told to, and remembers what it was asked.
#[derive(Clone, Debug, Default)]
struct Api {
    answers: Arc<Mutex<HashMap<String, Answers>>>,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Api {
    /// The last answer to an action is given again and again.
    fn answers(self, action: &str, status: u16, answer: Value) -> Self {
        self.answers.lock().unwrap().entry(action.to_owned()).or_default().push_back((status, answer));
        self
    }

    async fn start(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}")
    }

    fn asked(&self, action: &str) -> Vec<Value> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|(asked, _)| asked == action).map(|(_, input)| input.clone()).collect()
    }
}

async fn answer(State(api): State<Api>, headers: HeaderMap, body: String) -> (StatusCode, Json<Value>) {
    assert!(
        headers["authorization"].to_str().unwrap().starts_with("AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/")
    );
    let target = headers["x-amz-target"].to_str().unwrap();
    let action = target.split_once('.').unwrap().1.to_owned();
    let input = serde_json::from_str(&body).unwrap();
    api.asked.lock().unwrap().push((action.clone(), input));
    let mut answers = api.answers.lock().unwrap();
    let queue = answers.get_mut(&action).unwrap_or_else(|| panic!("nobody asks for {action}"));
    let (status, answer) = if queue.len() > 1 { queue.pop_front().unwrap() } else { queue[0].clone() };
    (StatusCode::from_u16(status).unwrap(), Json(answer))
}

fn sagemaker(url: &str) -> SageMaker {
    let values =
        [("aws_access_key_id", "AKIAEXAMPLE"), ("aws_secret_access_key", "secret"), ("endpoint_url", url)];
    let values = values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let values = connector::Config::new(ConnectorType::Aws, "secret-key", values).unwrap();
    let web = Web::new(WebConfig { proxy: ProxySource::Direct, ..WebConfig::default() });
    let environment: Environment = std::iter::empty::<(String, String)>().collect();
    let connector =
        Connector::in_environment("aws".to_owned(), values, web, Hosts::default(), environment).unwrap();
    let pauses = Pauses { attempts: 3, first: Duration::from_millis(1), longest: Duration::from_millis(2) };
    SageMaker::new(config(&[("tags", "team=ml")]), Arc::new(connector))
        .with_pauses(pauses, Duration::from_millis(1))
}

#[tokio::test(flavor = "multi_thread")]
async fn moto_takes_a_pipeline_and_another_in_its_place() {
    let moto = Moto::start().unwrap();
    let sagemaker = sagemaker(moto.url());
    let workflow = workflow(&spec());
    let first = sagemaker.submit(&workflow).await.unwrap();
    let second = sagemaker.submit(&workflow).await.unwrap();
    assert_ne!(first.run, second.run);
    let execution = first.run.rsplit('/').next().unwrap();
    assert_eq!(first.artifacts, Some(format!("s3://bucket/runs/{execution}")));
    assert!(
        first.run.contains(":sagemaker:eu-central-1:")
            && first.run.contains(":pipeline/digits-pipeline/execution/")
    );
    // It has ended at once, in moto.
    sagemaker.cancel(&second.run).await.unwrap();
    let error = sagemaker.cancel(&format!("{}x", first.run)).await.unwrap_err().to_string();
    assert!(error.starts_with("cannot read the status of run arn:aws:sagemaker"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn moto_takes_a_schedule_and_changes_and_deletes_it() {
    let moto = Moto::start().unwrap();
    let sagemaker = sagemaker(moto.url());
    let first = sagemaker.submit(&workflow(&scheduled("30 3 * * *"))).await.unwrap();
    let second = sagemaker.submit(&workflow(&scheduled("0 4 * * SUN"))).await.unwrap();
    assert_eq!(first, second, "a pipeline has one schedule");
    assert!(first.run.ends_with(":schedule/default/digits-pipeline"), "{}", first.run);
    assert_eq!(first.artifacts, None);
    let state = sagemaker.status(&first.run).await.unwrap();
    assert_eq!((state.phase, state.steps.len()), (Phase::Running, 0));
    assert_eq!(state.reason.as_deref(), Some("runs begin at cron(0 4 ? * SUN *), Europe/Zurich"));
    let log = sagemaker.logs(&first.run, "train", 0, Follow::No, &|_| {}).await.unwrap_err().to_string();
    assert!(log.contains("is a schedule"), "{log}");
    // What is deleted already is deleted.
    for _ in 0..2 {
        sagemaker.cancel(&first.run).await.unwrap();
    }
    let gone = sagemaker.status(&first.run).await.unwrap_err().to_string();
    assert!(gone.starts_with("cannot read the status of the schedule digits-pipeline"), "{gone}");
    assert!(gone.contains("ResourceNotFoundException"), "{gone}");
}

/// What the definition of a run says of its steps.
fn definition(steps: &[&str]) -> Value {
    let steps: Vec<Value> = steps.iter().map(|step| json!({ "Name": step, "DisplayName": step })).collect();
    json!({ "PipelineDefinition": json!({ "Version": "2020-12-01", "Steps": steps }).to_string() })
}

fn step(name: &str, status: &str, kind: &str) -> Value {
    json!({
        "StepName": name, "StepDisplayName": name, "StepStatus": status, "StartTime": 1_700_000_000.0,
        "Metadata": { kind: { "Arn": format!("arn:aws:sagemaker:eu-central-1:1:job/pipelines-abc-{name}-x") } },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_is_read_from_all_pages() {
    let train = json!({
        "StepName": "train", "StepStatus": "Failed", "StartTime": 1_700_000_000.0, "EndTime": 1_700_000_060.0,
        "FailureReason": "ClientError: ResourceLimitExceeded: The account-level service limit is 0 Instances.",
    });
    let api = Api::default()
        .answers("DescribePipelineExecution", 400, json!({"__type": "ThrottlingException", "message": "Rate exceeded"}))
        .answers("DescribePipelineExecution", 200, json!({"PipelineExecutionStatus": "Failed", "FailureReason": "Step failure: One or multiple steps failed."}))
        .answers("ListPipelineExecutionSteps", 200, json!({"PipelineExecutionSteps": [step("load_data", "Succeeded", "ProcessingJob")], "NextToken": "more"}))
        .answers("ListPipelineExecutionSteps", 200, json!({"PipelineExecutionSteps": [train]}))
        .answers("DescribePipelineDefinitionForExecution", 200, definition(&["load_data", "train", "evaluate"]));
    let sagemaker = sagemaker(&api.start().await);
    let state = sagemaker.status(RUN).await.unwrap();
    assert_eq!(state.phase, Phase::Failed);
    let steps: Vec<_> = state.steps.iter().map(|step| (step.name.as_str(), step.phase)).collect();
    let expected = [("load_data", Phase::Succeeded), ("train", Phase::Failed), ("evaluate", Phase::Skipped)];
    assert_eq!(steps, expected);
    assert!(state.steps[1].reason.as_ref().unwrap().contains("Service Quotas"));
    assert_eq!(api.asked("ListPipelineExecutionSteps")[1]["NextToken"], "more");
    sagemaker.status(RUN).await.unwrap();
    let definitions = api.asked("DescribePipelineDefinitionForExecution");
    assert_eq!(definitions, [json!({"PipelineExecutionArn": RUN})], "asked for once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_followed_to_its_end() {
    let event = |n: i64| json!({"timestamp": 1_700_000_000_000_i64 + n, "eventId": n.to_string(), "message": format!("line {n}")});
    let listed =
        |status: &str| json!({"PipelineExecutionSteps": [step("load_data", status, "ProcessingJob")]});
    let api = Api::default()
        .answers("DescribePipelineExecution", 200, json!({"PipelineExecutionStatus": "Executing"}))
        .answers("ListPipelineExecutionSteps", 200, json!({"PipelineExecutionSteps": []}))
        .answers("ListPipelineExecutionSteps", 200, listed("Executing"))
        .answers("ListPipelineExecutionSteps", 200, listed("Executing"))
        .answers("ListPipelineExecutionSteps", 200, listed("Succeeded"))
        .answers(
            "FilterLogEvents",
            400,
            json!({"__type": "ResourceNotFoundException", "message": "no group"}),
        )
        .answers("FilterLogEvents", 200, json!({"events": [event(1)], "nextToken": "p2"}))
        .answers("FilterLogEvents", 200, json!({"events": [event(2)]}))
        .answers("FilterLogEvents", 200, json!({"events": [event(2), event(3)]}));
    let printed = Mutex::new(Vec::new());
    let line = |line: &str| printed.lock().unwrap().push(line.to_owned());
    let sagemaker = sagemaker(&api.start().await);
    let count = sagemaker.logs(RUN, "load_data", 1, Follow::Yes, &line).await.unwrap();
    assert_eq!(count, 3);
    assert_eq!(*printed.lock().unwrap(), ["line 2", "line 3"]);
    let asked = api.asked("FilterLogEvents");
    assert_eq!(asked[0]["logGroupName"], "/aws/sagemaker/ProcessingJobs");
    assert_eq!(asked[0]["logStreamNamePrefix"], "pipelines-abc-load_data-x/");
    assert_eq!(asked[2]["nextToken"], "p2");
    assert_eq!(asked[3]["startTime"], 1_700_000_000_002_i64 - 60_000);
    let error = sagemaker.logs(RUN, "nothing", 0, Follow::No, &line).await.unwrap_err().to_string();
    assert!(error.contains("has no step nothing that has begun; those that have: load_data"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_stopped_once() {
    let api = Api::default()
        .answers("DescribePipelineExecution", 200, json!({"PipelineExecutionStatus": "Executing"}))
        .answers("DescribePipelineExecution", 200, json!({"PipelineExecutionStatus": "Stopping"}))
        .answers("StopPipelineExecution", 200, json!({"PipelineExecutionArn": RUN}));
    let sagemaker = sagemaker(&api.start().await);
    sagemaker.cancel(RUN).await.unwrap();
    sagemaker.cancel(RUN).await.unwrap();
    let stopped = api.asked("StopPipelineExecution");
    assert_eq!(stopped.len(), 1);
    assert_eq!(stopped[0]["PipelineExecutionArn"], RUN);
    assert!(stopped[0]["ClientRequestToken"].as_str().unwrap().len() >= 32);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_definition_is_the_one_that_starts() {
    let exists = json!({"__type": "ValidationException", "message": "Pipeline names must be unique: it already exists."});
    let api = Api::default()
        .answers("CreatePipeline", 400, exists)
        .answers("UpdatePipeline", 200, json!({"PipelineArn": "arn", "PipelineVersionId": 7}))
        .answers("StartPipelineExecution", 200, json!({"PipelineExecutionArn": RUN}));
    let submission = sagemaker(&api.start().await).submit(&workflow(&spec())).await.unwrap();
    assert_eq!(submission.artifacts.as_deref(), Some("s3://bucket/runs/abc123"));
    assert_eq!(api.asked("StartPipelineExecution")[0]["PipelineVersionId"], 7);
    assert_eq!(api.asked("CreatePipeline")[0]["Tags"], json!([{"Key": "team", "Value": "ml"}]));
    assert_eq!(api.asked("UpdatePipeline")[0].get("Tags"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_what_to_do() {
    for (code, message, part) in [
        (
            "AccessDeniedException",
            "User: me is not authorized to perform: sagemaker:CreatePipeline",
            "allow sagemaker:CreatePipeline",
        ),
        (
            "AccessDeniedException",
            "not authorized to perform: iam:PassRole on resource",
            "allow iam:PassRole on arn:aws:iam",
        ),
        ("ResourceLimitExceeded", "The account-level service limit is 200 pipelines", "Service Quotas"),
        (
            "ValidationException",
            "Could not assume role arn:aws:iam::1:role/x",
            "trusts sagemaker.amazonaws.com",
        ),
        (
            "UnrecognizedClientException",
            "The security token included in the request is invalid",
            "access key",
        ),
    ] {
        let api = Api::default().answers("CreatePipeline", 400, json!({"__type": code, "message": message}));
        let error = sagemaker(&api.start().await).submit(&workflow(&spec())).await.unwrap_err();
        assert!(!error.is_retryable());
        let error = error.to_string();
        assert!(error.contains("cannot submit pipeline digits_pipeline") && error.contains(part), "{error}");
    }
}
