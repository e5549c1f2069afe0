//! Runs from their submission to their end, in a cluster where things go wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by it")]

mod support;

use longshore_auth::storage::Lifetime;
use longshore_kubernetes::{Config, Ended, Scheduled, label};
use longshore_orchestrator::{Follow, Phase, Service as _, Workflow};
use longshore_testkit::kubernetes::Attempt;
use serde_json::{Value, json};
use std::{num::NonZeroU32, sync::Mutex};
use support::{Step, World, phases, term, workflow};

const DIAMOND: [Step<'static>; 4] = [
    ("load_data", &[], Value::Null),
    ("left", &["load_data"], Value::Null),
    ("right", &["load_data"], Value::Null),
    ("join", &["left", "right"], Value::Null),
];

#[tokio::test]
async fn a_run_goes_on_without_the_client_in_the_order_of_its_steps() {
    let world = World::new();
    for step in ["left", "right"] {
        world.server.script(label::STEP, step, [Attempt::Runs]);
    }
    let run = world.submit(&workflow(&DIAMOND, &Value::Null)).await;
    assert_eq!(world.state(&run).await.phase, Phase::Pending);
    let controller = world.control(&run).await;
    // Both branches at a time, and nothing after them.
    world.until("both branches run", |_| world.running() == ["left", "right"]).await;
    assert_eq!(world.made(), 3);
    let state = world.state(&run).await;
    assert_eq!(phases(&state)[..2], [("load_data", Phase::Succeeded), ("left", Phase::Running)]);
    world.server.end_pods(label::STEP, "left", 0);
    world.server.end_pods(label::STEP, "right", 0);
    assert_eq!(controller.await.unwrap().unwrap(), Ended::Run(Phase::Succeeded));
    world.server.end_pods(label::ROLE, label::CONTROLLER, 0);
    let state = world.state(&run).await;
    assert_eq!((state.phase, state.reason), (Phase::Succeeded, None));
    assert!(state.steps.iter().all(|step| step.phase == Phase::Succeeded && step.started.is_some()));
    // What is secret goes with the run.
    assert_eq!(world.server.objects("secrets"), Vec::<Value>::new());
    world.server.remove("jobs", &run);
    for resource in ["jobs", "pods", "secrets", "configmaps", "serviceaccounts", "roles", "rolebindings"] {
        assert_eq!(world.server.objects(resource), Vec::<Value>::new(), "{resource}");
    }
}

#[tokio::test]
async fn after_a_failure_nothing_further_begins() {
    let world = World::new();
    let lines = ["Traceback (most recent call last):", "ValueError: no rows"].map(str::to_owned).to_vec();
    world.server.script(label::STEP, "left", [Attempt::Fails(1, lines)]);
    let steps = [
        ("load_data", &[][..], Value::Null),
        ("left", &["load_data"], json!({"retries": 1})),
        ("join", &["left"], Value::Null),
    ];
    let run = world.submit(&workflow(&steps, &Value::Null)).await;
    assert_eq!(world.carry_out(&run).await, Phase::Failed);
    let state = world.state(&run).await;
    assert_eq!(
        phases(&state),
        [("load_data", Phase::Succeeded), ("left", Phase::Failed), ("join", Phase::Skipped)]
    );
    assert_eq!(state.reason.as_deref(), Some("step left failed"));
    let reason = state.steps[1].reason.as_deref();
    assert_eq!(reason, Some("after 2 attempts: it ended with exit code 1: ValueError: no rows"));
    // The controller's Job says the same, and is not tried again.
    world
        .until("the controller's Job has failed", |server| {
            let jobs = server.objects("jobs");
            let own = jobs.iter().find(|job| job["metadata"]["name"] == run.as_str()).unwrap();
            own["status"]["conditions"][0]["reason"] == "PodFailurePolicy"
        })
        .await;
}

#[tokio::test]
async fn a_second_attempt_may_succeed() {
    let world = World::new();
    world.server.script(label::STEP, "flaky", [Attempt::OutOfMemory, Attempt::Succeeds(vec![])]);
    let run = world.submit(&workflow(&[("flaky", &[], json!({"retries": 2}))], &Value::Null)).await;
    assert_eq!(world.carry_out(&run).await, Phase::Succeeded);
    assert_eq!(world.state(&run).await.steps[0].reason, None);
}

#[tokio::test]
async fn no_more_steps_run_at_a_time_than_allowed() {
    let mut world = World::new();
    world.config = Config { max_parallelism: NonZeroU32::new(2), ..world.config };
    let steps = ["a", "b", "c", "d", "e"].map(|name| (name, &[][..], Value::Null));
    for (name, ..) in &steps {
        world.server.script(label::STEP, name, [Attempt::Runs]);
    }
    let run = world.submit(&workflow(&steps, &Value::Null)).await;
    let controller = world.control(&run).await;
    for next in 2..=5 {
        world.until("two run", |_| world.running().len() == 2 || world.made() == 5).await;
        assert!(world.made() <= next, "{} Jobs were made", world.made());
        let first = world.running()[0].clone();
        world.server.end_pods(label::STEP, &first, 0);
        world.until("it has ended", |_| !world.running().contains(&first)).await;
    }
    world.until("the last runs", |_| world.running().len() == 1).await;
    world.server.end_pods(label::STEP, &world.running()[0], 0);
    assert_eq!(controller.await.unwrap().unwrap(), Ended::Run(Phase::Succeeded));
}

#[tokio::test]
async fn broken_and_expired_watches_are_taken_up_again() {
    let world = World::new();
    for step in ["load-data", "left", "right"] {
        world.server.script(label::STEP, step, [Attempt::Runs]);
    }
    let run = world.submit(&workflow(&DIAMOND, &Value::Null)).await;
    let controller = world.control(&run).await;
    world.until("the first step runs", |_| world.running() == ["load-data"]).await;
    world.server.disconnect();
    world.server.end_pods(label::STEP, "load-data", 0);
    world.until("both branches run", |_| world.running() == ["left", "right"]).await;
    // What happened in between is not told any more: 410 Gone.
    world.server.end_pods(label::STEP, "left", 0);
    world.server.end_pods(label::STEP, "right", 0);
    world.server.compact();
    world.server.disconnect();
    assert_eq!(controller.await.unwrap().unwrap(), Ended::Run(Phase::Succeeded));
}

#[tokio::test]
async fn a_controller_that_is_started_again_goes_on_where_it_was() {
    let world = World::new();
    for step in ["left", "right"] {
        world.server.script(label::STEP, step, [Attempt::Runs]);
    }
    let run = world.submit(&workflow(&DIAMOND, &Value::Null)).await;
    let first = world.control(&run).await;
    world.until("both branches run", |_| world.running() == ["left", "right"]).await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    world.server.end_pods(label::STEP, "left", 0);
    let second = world.control(&run).await;
    // Two at the same time do no harm either.
    let third = world.control(&run).await;
    world.server.end_pods(label::STEP, "right", 0);
    assert_eq!(second.await.unwrap().unwrap(), Ended::Run(Phase::Succeeded));
    assert_eq!(third.await.unwrap().unwrap(), Ended::Run(Phase::Succeeded));
    assert_eq!(world.made(), 4);
    assert_eq!(world.server.objects("pods").len(), 5, "one attempt for each step, and the controller");
    // One that is started after the end ends at once.
    assert_eq!(world.carry_out(&run).await, Phase::Succeeded);
}

#[tokio::test]
async fn a_cancelled_run_leaves_nothing_running() {
    let world = World::new();
    world.server.script(label::STEP, "left", [Attempt::Runs]);
    let run = world.submit(&workflow(&DIAMOND, &Value::Null)).await;
    let controller = world.control(&run).await;
    world.until("a branch runs", |_| world.running() == ["left"] && world.made() == 3).await;
    world.client().cancel(&run).await.unwrap();
    let ended = controller.await.unwrap().unwrap();
    assert!(matches!(ended, Ended::Run(Phase::Cancelled) | Ended::Told), "{ended:?}");
    assert_eq!(world.running(), Vec::<String>::new());
    let state = world.state(&run).await;
    assert_eq!(state.phase, Phase::Cancelled);
    assert_eq!(phases(&state)[3], ("join", Phase::Skipped));
    assert_eq!(phases(&state)[1], ("left", Phase::Cancelled));
    // Again, it stays as it is.
    world.client().cancel(&run).await.unwrap();
}

#[tokio::test]
async fn a_run_whose_controller_never_came_is_cancelled_too() {
    let world = World::new();
    let waits = Attempt::Waits(
        "ImagePullBackOff".to_owned(),
        "Back-off: ErrImagePull: rpc error: 403 Forbidden".to_owned(),
    );
    world.server.script(label::ROLE, label::CONTROLLER, [waits]);
    let run = world.submit(&workflow(&DIAMOND, &Value::Null)).await;
    let state = world.until_state(&run, "it says what it waits for", |state| state.reason.is_some()).await;
    let reason = state.reason.unwrap();
    assert!(
        reason.starts_with("what looks after the run waits: the image gcr.io/p/controller@sha256"),
        "{reason}"
    );
    assert!(reason.contains("403 Forbidden; the cluster's credentials for the registry"), "{reason}");
    world.client().cancel(&run).await.unwrap();
    let state = world.state(&run).await;
    assert_eq!(state.phase, Phase::Cancelled);
    assert!(state.steps.iter().all(|step| step.phase == Phase::Skipped));
    world
        .until("the controller's Job has ended, so its time to live runs", |server| {
            let jobs = server.objects("jobs");
            jobs.len() == 1 && jobs[0]["status"]["conditions"][0]["reason"] == "DeadlineExceeded"
        })
        .await;
}

#[tokio::test]
async fn what_a_step_waits_for_is_told() {
    let world = World::new();
    let waits =
        Attempt::Waits("ImagePullBackOff".to_owned(), "Back-off pulling image \"gcr.io/p/train\"".to_owned());
    world.server.script(label::STEP, "pulls", [waits]);
    world.server.script(
        label::STEP,
        "fits",
        [Attempt::Unschedulable("0/2 nodes are available: 2 Insufficient cpu.".to_owned())],
    );
    let steps = [("pulls", &[][..], Value::Null), ("fits", &[], Value::Null)];
    let run = world.submit(&workflow(&steps, &Value::Null)).await;
    let controller = world.control(&run).await;
    world.server.put(
        "events",
        json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e1"}, "reason": "Failed",
            "involvedObject": {"kind": "Pod", "name": format!("{run}-pulls-00000")},
            "message": "Failed to pull image \"gcr.io/p/train\": rpc error: code = Unknown desc = 401 Unauthorized"}),
    );
    let state = world
        .until_state(&run, "both have reasons", |state| state.steps.iter().all(|step| step.reason.is_some()))
        .await;
    assert_eq!(state.phase, Phase::Running);
    assert!(
        state.steps[0].reason.as_deref().unwrap().contains("401 Unauthorized; the cluster's credentials")
    );
    let reason = state.steps[1].reason.as_deref().unwrap();
    assert!(
        reason.starts_with("no node takes its pod: 0/2 nodes are available: 2 Insufficient cpu; "),
        "{reason}"
    );
    controller.abort();
}

#[tokio::test]
async fn a_deleted_job_and_a_refused_one_are_failures() {
    let world = World::new();
    world.server.script(label::STEP, "runs", [Attempt::Runs]);
    let run = world.submit(&workflow(&[("runs", &[], Value::Null)], &Value::Null)).await;
    let controller = world.control(&run).await;
    world.until("it runs", |_| world.running() == ["runs"]).await;
    world.server.remove("jobs", &format!("{run}-runs"));
    assert_eq!(controller.await.unwrap().unwrap(), Ended::Run(Phase::Failed));
    assert_eq!(world.state(&run).await.steps[0].reason.as_deref(), Some("its Job was deleted"));

    let world = World::new();
    let run =
        world.submit(&workflow(&[("a", &[], Value::Null), ("b", &["a"], Value::Null)], &Value::Null)).await;
    world.server.refuse(
        "create",
        "jobs",
        400,
        "admission webhook \"p.example.com\" denied the request: no owner",
    );
    assert_eq!(world.carry_out(&run).await, Phase::Failed);
    let state = world.state(&run).await;
    assert!(state.steps[0].reason.as_deref().unwrap().contains("a rule of the cluster refuses it"));
    assert_eq!(state.steps[1].phase, Phase::Skipped);
}

#[tokio::test]
async fn a_submission_that_fails_half_way_leaves_nothing() {
    let world = World::new();
    world.server.refuse("create", "rolebindings", 422, "rolebindings is invalid");
    let error = world.client().submit(&workflow(&DIAMOND, &Value::Null)).await.unwrap_err().to_string();
    assert!(error.starts_with("cannot create RoleBinding training-pipeline-"), "{error}");
    for resource in ["jobs", "secrets", "configmaps", "serviceaccounts", "roles", "rolebindings"] {
        assert_eq!(world.server.objects(resource), Vec::<Value>::new(), "{resource}");
    }
    // What may pass is tried again.
    world.server.refuse("create", "configmaps", 500, "etcdserver: leader changed");
    world.server.refuse("create", "secrets", 429, "too many requests");
    world.submit(&workflow(&DIAMOND, &Value::Null)).await;
}

#[tokio::test]
async fn missing_rights_are_told_at_once_and_all_together() {
    let world = World::new();
    world.server.deny("create", "jobs");
    world.server.deny("get", "pods/log");
    let error = world.client().submit(&workflow(&DIAMOND, &Value::Null)).await.unwrap_err().to_string();
    assert!(
        error.starts_with("longshore lacks rights in namespace ml: create jobs.batch, get pods/log; "),
        "{error}"
    );
    assert!(
        error.contains("kubectl create role longshore --namespace=ml --verb=create --resource=jobs.batch"),
        "{error}"
    );
    assert_eq!(world.server.objects("jobs"), Vec::<Value>::new());
    world.client().check(Scheduled::No).await.unwrap_err();

    let world = World::new();
    world.server.deny("list", "pods");
    let run = "nothing-000000";
    let error = world.client().status(run).await.unwrap_err().to_string();
    assert!(error.contains("there is no run or schedule nothing-000000 in namespace ml"), "{error}");
}

#[tokio::test]
async fn a_namespace_that_does_not_exist_is_named() {
    let mut world = World::new();
    world.config.namespace = Some("nowhere".to_owned());
    let error = world.client().submit(&workflow(&DIAMOND, &Value::Null)).await.unwrap_err().to_string();
    assert!(
        error.contains("namespace nowhere does not exist; create it (kubectl create namespace nowhere)"),
        "{error}"
    );
}

#[tokio::test]
async fn lines_come_once_over_a_bad_line() {
    let world = World::new();
    world.server.script(label::STEP, "talks", [Attempt::Runs]);
    let run = world.submit(&workflow(&[("talks", &[], Value::Null)], &Value::Null)).await;
    let controller = world.control(&run).await;
    world.until("it runs", |_| world.running() == ["talks"]).await;
    world.server.break_logs_after([3, 5, 9]);
    let expected: Vec<String> = (0..10).map(|number| format!("line {number}")).collect();
    let text: Vec<&str> = expected.iter().map(String::as_str).collect();
    world.server.print(label::STEP, "talks", &text[..7]);
    let seen = Mutex::new(Vec::new());
    let note = |line: &str| seen.lock().unwrap().push(line.to_owned());
    let client = world.client();
    let follow = client.logs(&run, "talks", 0, Follow::Yes, &note);
    let end = async {
        world.until("seven lines came", |_| seen.lock().unwrap().len() == 7).await;
        world.server.print(label::STEP, "talks", &text[7..]);
        world.until("all lines came", |_| seen.lock().unwrap().len() == 10).await;
        world.server.end_pods(label::STEP, "talks", 0);
    };
    let (count, ()) = tokio::join!(follow, end);
    assert_eq!(count.unwrap(), 10);
    assert_eq!(*seen.lock().unwrap(), expected);
    controller.await.unwrap().unwrap();
    // Whoever knows some of them is told the others.
    seen.lock().unwrap().clear();
    assert_eq!(world.client().logs(&run, "talks", 8, Follow::No, &note).await.unwrap(), 10);
    assert_eq!(*seen.lock().unwrap(), expected[8..]);
    let error = world.client().logs(&run, "walks", 0, Follow::No, &note).await.unwrap_err();
    assert_eq!(error.to_string(), format!("run {run} has no step walks; it has talks"));
}

#[tokio::test]
async fn pull_credentials_are_renewed_while_somebody_watches() {
    let world = World::new();
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(5);
    *world.registry.expires.lock().unwrap() = Some(soon);
    let run = world.submit(&workflow(&DIAMOND, &Value::Null)).await;
    let config = |world: &World| world.secret(&run, "pull", ".dockerconfigjson").unwrap();
    assert!(config(&world).contains("\"password\":\"password-0\""));
    world.state(&run).await;
    assert!(config(&world).contains("\"password\":\"password-1\""), "{}", config(&world));
    world.state(&run).await;
    assert!(config(&world).contains("\"password\":\"password-1\""), "not before it is time again");
}

#[tokio::test]
async fn what_steps_reach_their_store_with_is_renewed_for_those_that_begin_later() {
    let world = World::new();
    world.server.script(label::STEP, "left", [Attempt::Runs]);
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(5);
    let workflow = Workflow { term: Some(term(Lifetime::Until(soon))), ..workflow(&DIAMOND, &Value::Null) };
    let run = world.submit(&workflow).await;
    let key = |world: &World| world.secret(&run, "env", "AWS_SECRET_ACCESS_KEY");
    assert_eq!(key(&world).as_deref(), Some("hunter2"));
    let controller = world.control(&run).await;
    world.until("a branch runs", |_| world.running() == ["left"]).await;
    assert_eq!(key(&world).as_deref(), Some("hunter2"), "nobody watches");
    world.state(&run).await;
    assert_eq!(key(&world).as_deref(), Some("session-1"));
    world.state(&run).await;
    assert_eq!(key(&world).as_deref(), Some("session-1"), "not before it is time again");
    world.server.end_pods(label::STEP, "left", 0);
    assert_eq!(controller.await.unwrap().unwrap(), Ended::Run(Phase::Succeeded));
    assert_eq!(key(&world), None, "it goes with the run");
    world.state(&run).await;
    assert_eq!(key(&world), None);
}

#[tokio::test]
async fn it_is_told_how_long_what_a_run_is_given_is_good() {
    let world = World::new();
    let then = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    *world.registry.expires.lock().unwrap() = Some(then);
    let workflow = Workflow { term: Some(term(Lifetime::Unlimited)), ..workflow(&DIAMOND, &Value::Null) };
    let told = world.client().terms(&workflow).await.unwrap();
    let told: Vec<_> = told.iter().map(|term| (term.object.as_str(), term.lifetime)).collect();
    assert_eq!(told, [("s3://bucket/runs", Lifetime::Unlimited), ("gcr.io", Lifetime::Until(then))]);
    assert_eq!(world.server.asked(), [], "nothing is submitted by that");
}

#[tokio::test]
async fn a_schedule_is_a_cron_job_of_the_controller() {
    let world = World::new();
    let pipeline = json!({"pipeline": {"name": "nightly", "schedule": {"cron": "0 3 * * *", "timezone": "Europe/Berlin"}}});
    let workflow = workflow(&DIAMOND, &pipeline);
    *world.registry.expires.lock().unwrap() = Some(jiff::Timestamp::now());
    let error = world.client().submit(&workflow).await.unwrap_err().to_string();
    assert!(error.starts_with("the credentials for gcr.io (service connector test) expire at"), "{error}");
    *world.registry.expires.lock().unwrap() = None;
    for (lifetime, when) in [
        (Lifetime::Unknown, "expire, so scheduled runs"),
        (
            Lifetime::Until("2030-01-01T00:00:00Z".parse().unwrap()),
            "expire at 2030-01-01T00:00:00Z, so scheduled runs",
        ),
    ] {
        let workflow = Workflow { term: Some(term(lifetime)), ..workflow.clone() };
        let error = world.client().submit(&workflow).await.unwrap_err().to_string();
        let expected = "the credentials for s3://bucket/runs (service connector sessions) ";
        assert!(error.starts_with(&format!("{expected}{when}")), "{error}");
    }
    assert_eq!(world.server.objects("cronjobs"), Vec::<Value>::new());
    let workflow = Workflow { term: Some(term(Lifetime::Unlimited)), ..workflow };
    let submission = world.client().submit(&workflow).await.unwrap();
    assert_eq!(submission.artifacts, None);
    let jobs = world.server.objects("cronjobs");
    assert_eq!(jobs[0]["spec"]["schedule"], "0 3 * * *");
    assert_eq!(jobs[0]["spec"]["timeZone"], "Europe/Berlin");
    assert_eq!(jobs[0]["spec"]["suspend"], false);
    let state = world.state(&submission.run).await;
    assert_eq!(state.reason.as_deref(), Some("it runs at 0 3 * * * (Europe/Berlin)"));
    // As the controller of CronJobs does it.
    let run = format!("{}-29123456", submission.run);
    let mut job = jobs[0]["spec"]["jobTemplate"].clone();
    job["metadata"]["name"] = run.clone().into();
    world.server.put("jobs", job);
    let plan = world.server.objects("configmaps")[0].clone();
    let plan: k8s_openapi::api::core::v1::ConfigMap = serde_json::from_value(plan).unwrap();
    let plan = longshore_kubernetes::Plan::from_bytes(&plan.binary_data.unwrap()["plan.json.gz"].0).unwrap();
    let cluster = longshore_kubernetes::Cluster::connect(&world.config).await.unwrap();
    let controller = longshore_kubernetes::Controller::new(cluster, &run, plan).await.unwrap();
    assert_eq!(controller.run().await.unwrap(), Ended::Run(Phase::Succeeded));
    assert_eq!(world.state(&run).await.phase, Phase::Succeeded);
    assert_eq!(world.server.objects("secrets").len(), 2, "the next run pulls with the same");
    world.client().cancel(&submission.run).await.unwrap();
    assert_eq!(world.server.objects("cronjobs"), Vec::<Value>::new());
    assert_eq!(world.server.objects("secrets"), Vec::<Value>::new());
}
