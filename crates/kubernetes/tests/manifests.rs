//! What is submitted: by its documents, by `kubectl`, and by what is in the cluster then.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by it")]

mod support;

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use longshore_kubernetes::{Config, Kubernetes, Pull};
use longshore_orchestrator::{Content, Document, Service as _, Workflow};
use longshore_testkit::kubernetes::FakeKubernetes;
use serde_json::{Value, json};
use support::{World, image, workflow};

/// A pipeline that uses all there is.
fn full() -> Workflow {
    let settings = json!({"kubernetes": {
        "service_account": "trainer", "node_selector": {"pool": "gpu"}, "priority_class": "high",
        "tolerations": [{"key": "spot", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a", "b"]}]}]}}},
        "labels": {"team": "ml", "longshore.dev/step": "mine"}, "annotations": {"note": "text"},
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "datasets"}}],
        "volume_mounts": [{"name": "data", "mountPath": "/data"}],
        "env": {"PRICE": "$(HOME) costs $5"}, "image_pull_secrets": ["regcred"],
        "security_context": {"runAsNonRoot": true},
    }});
    let mut train = settings;
    train["resources"] = json!({"cpu": 1.5, "memory": "6GiB", "gpu": 1, "gpu_type": "nvidia-l4"});
    let steps = [
        ("load_data", &[][..], Value::Null),
        ("train", &["load_data"], json!({"retries": 2, "timeout": 3600, "settings": train})),
    ];
    workflow(&steps, &Value::Null)
}

fn offline(config: Config) -> Kubernetes {
    let config = Config { namespace: Some("ml".to_owned()), ..config };
    Kubernetes::new(config, longshore_auth::Sources::default(), Some(image("controller")))
}

fn data(document: &Document) -> &Value {
    let Content::Data(data) = &document.content else { panic!("{} is no data", document.name) };
    data
}

fn named<'a>(documents: &'a [Document], name: &str) -> &'a Value {
    let found = documents.iter().find(|document| document.name == name);
    data(found.unwrap_or_else(|| {
        panic!("no {name} in {:?}", documents.iter().map(|one| &one.name).collect::<Vec<_>>())
    }))
}

#[test]
fn the_manifests_of_a_run_are_these() {
    let documents = offline(Config::default()).documents(&full()).unwrap();
    let names: Vec<_> = documents.iter().map(|document| document.name.as_str()).collect();
    let run = "training-pipeline-000000";
    let expected = [
        format!("job-{run}.yaml"),
        format!("serviceaccount-{run}-controller.yaml"),
        format!("role-{run}-controller.yaml"),
        format!("rolebinding-{run}-controller.yaml"),
        format!("configmap-{run}-plan.yaml"),
        format!("secret-{run}-env.yaml"),
        format!("secret-{run}-pull.yaml"),
        format!("job-{run}-load-data.yaml"),
        format!("job-{run}-train.yaml"),
    ];
    assert_eq!(names, expected);
    assert!(!format!("{documents:?}").contains("hunter2"));
    let mut train = named(&documents, &expected[8]).clone();
    let arguments =
        train.pointer_mut("/spec/template/spec/containers/0/args").unwrap().as_array_mut().unwrap();
    assert_eq!(arguments[1], run);
    // The step's document is the orchestrator crate's.
    arguments.truncate(3);
    insta::assert_json_snapshot!("train", train);
    insta::assert_json_snapshot!("controller", named(&documents, &expected[0]));
    insta::assert_json_snapshot!("role", named(&documents, &expected[2])["rules"]);
}

#[test]
fn other_ways_to_pull_and_other_accounts_are_taken() {
    let config = Config {
        pull: Pull::Secrets(vec!["mine".to_owned()]),
        service_account: Some("runner".to_owned()),
        ..Config::default()
    };
    let documents = offline(config).documents(&full()).unwrap();
    let kinds: Vec<_> = documents.iter().map(|one| data(one)["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["Job", "ConfigMap", "Secret", "Job", "Job"]);
    let pod = &data(&documents[0])["spec"]["template"]["spec"];
    assert_eq!(pod["serviceAccountName"], "runner");
    assert_eq!(pod["imagePullSecrets"], json!([{"name": "mine"}]));
    let pod = &data(&documents[4])["spec"]["template"]["spec"];
    assert_eq!(pod["imagePullSecrets"], json!([{"name": "mine"}, {"name": "regcred"}]));
    let documents = offline(Config { pull: Pull::Nodes, ..Config::default() }).documents(&full()).unwrap();
    assert_eq!(data(&documents[0])["spec"]["template"]["spec"].get("imagePullSecrets"), None);
}

#[test]
fn a_mistake_in_the_settings_is_the_steps() {
    let step = ("train", &[][..], json!({"settings": {"kubernetes": {"node_selektor": {}}}}));
    let error = offline(Config::default()).documents(&workflow(&[step], &Value::Null)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "in the settings of step train: KubernetesSettings has no field `node_selektor`; did you mean `node_selector`?"
    );
}

#[test]
fn five_hundred_steps_fit() {
    let names: Vec<String> = (0..500).map(|number| format!("step_{number}")).collect();
    let steps: Vec<_> = names.iter().map(|name| (name.as_str(), &[][..], Value::Null)).collect();
    let documents = offline(Config::default()).documents(&workflow(&steps, &Value::Null)).unwrap();
    assert_eq!(documents.len(), 507);
    let plan = serde_json::to_string(data(&documents[4])).unwrap();
    assert!(plan.len() < 500_000, "{} bytes", plan.len());
}

#[tokio::test]
async fn what_is_shown_is_what_is_submitted() {
    let world = World::new();
    let workflow = full();
    let run = world.submit(&workflow).await;
    // They are gone with the run.
    let secrets = world.server.objects("secrets");
    world.control(&run).await.await.unwrap().unwrap();
    let shown = world.client().documents(&workflow).unwrap();
    for document in &shown {
        let shown = data(document);
        let kind = shown["kind"].as_str().unwrap();
        let resource = format!("{}s", kind.to_lowercase());
        let name = shown["metadata"]["name"].as_str().unwrap().replace("training-pipeline-000000", &run);
        let objects = if kind == "Secret" { secrets.clone() } else { world.server.objects(&resource) };
        let found = objects.iter().find(|object| object["metadata"]["name"] == name.as_str());
        let mut found = found.unwrap_or_else(|| panic!("no {kind} {name}")).clone();
        found.as_object_mut().unwrap().remove("status");
        for key in ["uid", "resourceVersion", "creationTimestamp", "ownerReferences"] {
            found["metadata"].as_object_mut().unwrap().remove(key);
        }
        let mut shown: Value =
            serde_json::from_str(&shown.to_string().replace("training-pipeline-000000", &run)).unwrap();
        match kind {
            // Of a plan, the names in it differ; of a Secret, what is secret.
            "ConfigMap" => (found["binaryData"], shown["binaryData"]) = (Value::Null, Value::Null),
            "Secret" => {
                found.as_object_mut().unwrap().remove("data");
                shown.as_object_mut().unwrap().remove("stringData");
            }
            "Job" if name == run => {
                assert_eq!(found["spec"]["suspend"], false);
                found["spec"].as_object_mut().unwrap().remove("suspend");
            }
            _ => {}
        }
        assert_eq!(found, shown, "{kind} {name}");
    }
}

#[test]
fn kubectl_takes_every_manifest() {
    let server = FakeKubernetes::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kubeconfig");
    std::fs::write(&file, server.kubeconfig()).unwrap();
    let nightly = json!({"pipeline": {"name": "nightly", "schedule": {"cron": "0 3 * * *"}}});
    let scheduled = workflow(&[("a", &[], Value::Null)], &nightly);
    for workflow in [full(), scheduled] {
        let documents = offline(Config::default()).documents(&workflow).unwrap();
        let yaml: Vec<_> = documents.iter().map(|one| serde_saphyr::to_string(data(one)).unwrap()).collect();
        let mut kubectl = Command::new("kubectl")
            .args(["apply", "--dry-run=client", "--validate=false", "--output=name", "--filename=-"])
            .env("KUBECONFIG", &file)
            .env("HOME", folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl: apt-get install kubernetes-client");
        kubectl.stdin.take().unwrap().write_all(yaml.join("---\n").as_bytes()).unwrap();
        let done = kubectl.wait_with_output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        assert_eq!(String::from_utf8(done.stdout).unwrap().lines().count(), documents.len());
    }
    assert_eq!(server.objects("jobs"), Vec::<Value>::new());
}
