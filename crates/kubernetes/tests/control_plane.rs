//! On a control plane of others', where there is one: `LONGSHORE_TEST_KUBECONFIG` names its kubeconfig. No node is needed; where
//! there are none, this plays the kubelet.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by it")]

mod support;

use std::{env, num::NonZeroU32, path::PathBuf, time::Duration};

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, Pod},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use longshore_kubernetes::{Access, Cluster, Config, Controller, Ended, Kubernetes, Plan, Pull, label};
use longshore_orchestrator::{Phase, Service as _};
use serde_json::{Value, json};
use support::{image, phases, workflow};

async fn client(file: &PathBuf) -> Client {
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(Kubeconfig::read_from(file).unwrap(), &options).await;
    Client::try_from(config.unwrap()).unwrap()
}

/// Lets pods run and end well, as long as somebody makes some.
async fn kubelet(client: Client) {
    let pods: Api<Pod> = Api::default_namespaced(client);
    loop {
        for pod in pods.list(&ListParams::default().labels(label::STEP)).await.unwrap() {
            if pod.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Pending") {
                continue;
            }
            let status = json!({"status": {"phase": "Succeeded", "containerStatuses": [{"name": "step", "image": "i",
                "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": 0,
                "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:01Z"}}}]}});
            let patch = Patch::Strategic(status);
            // One that was deleted in between ends by that.
            let _ = pods.patch_status(&pod.name_any(), &PatchParams::default(), &patch).await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn a_control_plane_takes_a_run_from_its_submission_to_its_end() {
    let Some(file) = env::var_os("LONGSHORE_TEST_KUBECONFIG").map(PathBuf::from) else {
        eprintln!("skipped: LONGSHORE_TEST_KUBECONFIG names no kubeconfig");
        return;
    };
    let config = Config {
        access: Access::Kubeconfig { file: Some(file.clone()), context: None },
        pull: Pull::Nodes,
        max_parallelism: NonZeroU32::new(3),
        ..Config::default()
    };
    let longshore =
        Kubernetes::new(config.clone(), longshore_auth::Sources::default(), Some(image("controller")));
    let settings = json!({"resources": {"cpu": 0.1, "memory": "64MiB", "gpu_type": "l4"}, "kubernetes": {
        "node_selector": {"pool": "a"}, "tolerations": [{"key": "spot", "operator": "Exists"}],
        "volumes": [{"name": "data", "emptyDir": {}}], "volume_mounts": [{"name": "data", "mountPath": "/data"}],
        "security_context": {"runAsNonRoot": true}}});
    let steps = [
        ("load_data", &[][..], json!({"settings": settings, "retries": 1, "timeout": 60})),
        ("train", &["load_data"], Value::Null),
        ("test", &["load_data"], Value::Null),
        ("report", &["train", "test"], Value::Null),
    ];
    let cluster = Cluster::connect(&config).await.unwrap();
    let api = client(&file).await;
    let kubelet = tokio::spawn(kubelet(api.clone()));

    let run = longshore.submit(&workflow(&steps, &Value::Null)).await.unwrap().run;
    let maps: Api<ConfigMap> = Api::default_namespaced(api.clone());
    let plan = maps.get(&format!("{run}-plan")).await.unwrap();
    let plan = Plan::from_bytes(&plan.binary_data.unwrap()["plan.json.gz"].0).unwrap();
    let controller = Controller::new(cluster.clone(), &run, plan.clone()).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_mins(3), controller.run()).await.expect("it ends");
    assert_eq!(ended.unwrap(), Ended::Run(Phase::Succeeded));
    let state = longshore.status(&run).await.unwrap();
    assert_eq!(state.phase, Phase::Succeeded, "{state:?}");
    assert!(phases(&state).iter().all(|(_, phase)| *phase == Phase::Succeeded));

    let run = longshore.submit(&workflow(&steps, &Value::Null)).await.unwrap().run;
    longshore.cancel(&run).await.unwrap();
    assert_eq!(longshore.status(&run).await.unwrap().phase, Phase::Cancelled);

    let nightly = json!({"pipeline": {"name": "nightly", "schedule": {"cron": "0 3 * * *", "timezone": "Europe/Berlin"}}});
    let schedule = longshore.submit(&workflow(&steps, &nightly)).await.unwrap().run;
    assert_eq!(longshore.status(&schedule).await.unwrap().phase, Phase::Pending);
    longshore.cancel(&schedule).await.unwrap();
    kubelet.abort();
    let jobs: Api<Job> = Api::default_namespaced(api);
    let _ = jobs.delete(&run, &kube::api::DeleteParams::foreground()).await;
}
