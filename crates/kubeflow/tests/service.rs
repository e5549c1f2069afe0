//! Kubeflow's API, as a stand-in serves it.
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

mod kit;

use std::{sync::Mutex, time::Duration};

use kit::{config, spec, workflow};
use longshore_endpoint::{Hosts, Pauses, ProxySource, Web, WebConfig};
use longshore_kubeflow::Kubeflow;
use longshore_orchestrator::{Follow, Phase, Service};
use longshore_testkit::cloud::{KubeflowApi, Trouble};
use serde_json::{Value, json};

fn kubeflow(api: &KubeflowApi, values: &[(&str, &str)]) -> Kubeflow {
    let url = api.url();
    let values: Vec<(&str, &str)> = values.iter().copied().chain([("host", url.as_str())]).collect();
    let web = Web::new(WebConfig { proxy: ProxySource::Direct, ..WebConfig::default() });
    let pauses = Pauses { first: Duration::from_millis(1), ..Pauses::default() };
    Kubeflow::new(config(&values), web, &Hosts::default()).with_pauses(pauses, Duration::from_millis(5))
}

/// A token in a file.
fn token(folder: &tempfile::TempDir, token: &str) -> String {
    let path = folder.path().join("token");
    std::fs::write(&path, format!("{token}\n")).unwrap();
    format!("file:{}", path.display())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_submitted_and_told_of() {
    let api = KubeflowApi::start(None).unwrap();
    let kubeflow = kubeflow(&api, &[("service_account", "trainer"), ("experiment", "digits")]);
    let submission = Service::submit(&kubeflow, &workflow(&spec())).await.unwrap();
    let [run] = &api.runs()[..] else { panic!("one run") };
    assert_eq!(run["service_account"], "trainer");
    assert!(run["display_name"].as_str().unwrap().starts_with("digits_pipeline "));
    assert!(run["pipeline_spec"]["platform_spec"].is_object());
    assert_eq!(submission.artifacts, Some(format!("s3://bucket/runs/{}", submission.run)));
    assert_eq!(submission.url, Some(format!("{}/#/runs/details/{}", api.url(), submission.run)));
    let state = Service::status(&kubeflow, &submission.run).await.unwrap();
    assert_eq!((state.phase, state.steps.len()), (Phase::Pending, 3));

    let tasks = json!([
        { "display_name": "load-data", "state": "SUCCEEDED" },
        { "display_name": "train", "state": "FAILED", "error": { "message": "exit code 1" } },
    ]);
    api.become_of(&submission.run, "FAILED", &tasks);
    let state = Service::status(&kubeflow, &submission.run).await.unwrap();
    let told: Vec<_> =
        state.steps.iter().map(|step| (step.name.as_str(), step.phase, step.reason.as_deref())).collect();
    let expected = [
        ("evaluate", Phase::Skipped, None),
        ("load_data", Phase::Succeeded, None),
        ("train", Phase::Failed, Some("exit code 1")),
    ];
    assert_eq!((state.phase, &told[..]), (Phase::Failed, &expected[..]));
    // The experiment is made once.
    Service::submit(&kubeflow, &workflow(&spec())).await.unwrap();
    assert_eq!((api.experiments(), api.runs().len()), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_service_and_lost_answers_make_no_second_run() {
    let api = KubeflowApi::start(None).unwrap();
    let kubeflow = kubeflow(&api, &[]);
    let busy = || Trouble::Refused(429, "slow down".to_owned());
    for trouble in [busy(), Trouble::Refused(503, "starting".to_owned())] {
        api.trouble(trouble);
    }
    Service::submit(&kubeflow, &workflow(&spec())).await.unwrap();
    assert_eq!((api.experiments(), api.runs().len()), (1, 1));
    // The experiment is found; the run is made, and the answer is lost.
    api.trouble_after(1, Trouble::AnswerLost);
    let submission = Service::submit(&kubeflow, &workflow(&spec())).await.unwrap();
    assert_eq!(api.runs().len(), 2, "no third run");
    assert!(api.runs().iter().any(|run| run["run_id"] == submission.run));
    // An answer that is lost while watching is asked for again.
    api.trouble(Trouble::AnswerLost);
    assert_eq!(Service::status(&kubeflow, &submission.run).await.unwrap().phase, Phase::Pending);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_experiment_whose_answer_was_lost_is_found() {
    let api = KubeflowApi::start(None).unwrap();
    // It is not found; it is made, and the answer is lost; it is made again, and exists.
    api.trouble_after(1, Trouble::AnswerLost);
    Service::submit(&kubeflow(&api, &[]), &workflow(&spec())).await.unwrap();
    assert_eq!((api.experiments(), api.runs().len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_cancelled_once_and_ended_ones_stay() {
    let api = KubeflowApi::start(None).unwrap();
    let kubeflow = kubeflow(&api, &[]);
    let run = Service::submit(&kubeflow, &workflow(&spec())).await.unwrap().run;
    Service::cancel(&kubeflow, &run).await.unwrap();
    let state = Service::status(&kubeflow, &run).await.unwrap();
    assert_eq!((state.phase, state.reason.unwrap().as_str()), (Phase::Running, "the run is being cancelled"));
    api.become_of(&run, "CANCELED", &json!([{ "display_name": "train", "state": "RUNNING" }]));
    Service::cancel(&kubeflow, &run).await.unwrap();
    let state = Service::status(&kubeflow, &run).await.unwrap();
    assert!(state.phase == Phase::Cancelled && state.steps.iter().all(|step| step.phase == Phase::Cancelled));
}

#[tokio::test(flavor = "multi_thread")]
async fn schedules_are_recurring_runs() {
    let api = KubeflowApi::start(None).unwrap();
    let kubeflow = kubeflow(&api, &[]);
    let mut spec = spec();
    spec["pipeline"]["schedule"] = json!({ "cron": "30 3 * * *" });
    let submission = Service::submit(&kubeflow, &workflow(&spec)).await.unwrap();
    let [recurring] = &api.recurring_runs()[..] else { panic!("one recurring run") };
    assert_eq!(recurring["trigger"]["cron_schedule"]["cron"], "0 30 3 * * *");
    assert_eq!(submission.artifacts, None);
    let state = Service::status(&kubeflow, &submission.run).await.unwrap();
    assert_eq!(
        (state.phase, state.reason.unwrap().as_str()),
        (Phase::Running, "runs begin at 30 3 * * *, UTC")
    );
    // What is deleted already is deleted.
    for _ in 0..2 {
        Service::cancel(&kubeflow, &submission.run).await.unwrap();
        assert!(api.recurring_runs().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_followed_over_a_lost_connection() {
    let api = KubeflowApi::start(None).unwrap();
    let kubeflow = kubeflow(&api, &[]);
    let run = Service::submit(&kubeflow, &workflow(&spec())).await.unwrap().run;
    let task = |state: &str| json!([{ "display_name": "load-data", "state": state, "child_tasks": [{ "pod_name": "d-x7k2p-42" }] }]);
    let lines = Mutex::new(Vec::new());
    let line = |text: &str| lines.lock().unwrap().push(text.to_owned());
    // Nothing yet, and then a pod whose log does not exist yet.
    assert_eq!(Service::logs(&kubeflow, &run, "load_data", 0, Follow::No, &line).await.unwrap(), 0);
    api.become_of(&run, "RUNNING", &task("RUNNING"));
    assert_eq!(Service::logs(&kubeflow, &run, "load_data", 0, Follow::No, &line).await.unwrap(), 0);
    let pod = "d-x7k2p-system-container-impl-42";
    api.print(pod, "one\ntwo\nthr");
    assert_eq!(Service::logs(&kubeflow, &run, "load_data", 0, Follow::No, &line).await.unwrap(), 2);
    let follow = Service::logs(&kubeflow, &run, "load_data", 2, Follow::Yes, &line);
    let happen = async {
        api.trouble(Trouble::AnswerLost);
        tokio::time::sleep(Duration::from_millis(20)).await;
        api.print(pod, "one\ntwo\nthree\nfour");
        api.become_of(&run, "RUNNING", &task("SUCCEEDED"));
    };
    assert_eq!(tokio::join!(follow, happen).0.unwrap(), 4);
    assert_eq!(*lines.lock().unwrap(), ["one", "two", "three", "four"]);
    let error = Service::logs(&kubeflow, &run, "lode_data", 0, Follow::No, &line).await.unwrap_err();
    assert!(error.to_string().contains("it has evaluate, load_data, train"), "{error}");
    api.become_of(
        &run,
        "FAILED",
        &json!([{ "display_name": "train", "state": "FAILED", "child_tasks": [{ "pod_name": "d-x7k2p-7" }] }]),
    );
    let error = Service::logs(&kubeflow, &run, "train", 0, Follow::Yes, &line).await.unwrap_err().to_string();
    assert!(error.contains("#/runs/details/") && error.contains("not found"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_what_to_do() {
    let api = KubeflowApi::start(Some("hunter2")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (good, bad) = (token(&folder, "hunter2"), "env:LONGSHORE_NO_SUCH_TOKEN");
    let told = async |values: &[(&str, &str)]| {
        Service::submit(&kubeflow(&api, values), &workflow(&spec())).await.unwrap_err().to_string()
    };
    assert!(told(&[]).await.contains("give a token (--token=env:NAME)"));
    assert!(told(&[("token", bad)]).await.contains("environment variable LONGSHORE_NO_SUCH_TOKEN"));
    for (status, part) in [
        (403, "give the --namespace of your profile"),
        (404, "check the name, and that --host"),
        (400, "answered 400 Bad Request: no way"),
        (302, "wants a login in a browser"),
    ] {
        api.trouble(Trouble::Refused(status, "no way".to_owned()));
        let error = told(&[("token", &good)]).await;
        assert!(error.contains(part) && !error.contains("hunter2"), "{error}");
    }
    let other = kubeflow(&api, &[("token", &good)]);
    let error = Service::status(&other, "nothing").await.unwrap_err();
    assert!(
        !error.is_retryable() && error.to_string().contains("cannot read the status of run nothing"),
        "{error}"
    );
    for _ in 0..5 {
        api.trouble(Trouble::Refused(503, "starting".to_owned()));
    }
    assert!(Service::status(&other, "nothing").await.unwrap_err().is_retryable());
    Service::submit(&other, &workflow(&spec())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_when_the_plan_is_wrong() {
    let api = KubeflowApi::start(None).unwrap();
    let mut spec = spec();
    spec["steps"][0]["settings"] = json!({ "kubeflow": { "labels": [] } });
    let error = Service::submit(&kubeflow(&api, &[]), &workflow(&spec)).await.unwrap_err().to_string();
    assert!(error.starts_with("in the settings of step load_data: KubeflowSettings: "), "{error}");
    assert_eq!((api.experiments(), api.runs()), (0, Vec::<Value>::new()));
}
