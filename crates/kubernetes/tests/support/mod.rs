//! Workflows, a cluster, and the controller in it.
#![allow(dead_code, reason = "each test uses some of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by it")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use futures::{FutureExt as _, future::BoxFuture};
use k8s_openapi::api::core::v1::ConfigMap;
use longshore_auth::{
    AuthError, Credential, CredentialSource, Found, Lease, Renewal, Secret, Sources, Target as For,
    storage::Lifetime,
};
use longshore_kubernetes::{
    Access, Cluster, Config, Controller, Ended, Error, Kubernetes, Plan, RUN_FAILED, label,
};
use longshore_oci::Reference;
use longshore_orchestrator::{GrantSource, Phase, Purpose, RunState, Service as _, Target, Term, Workflow};
use longshore_pipeline::PipelineSpec;
use longshore_stack::StoreGrant;
use longshore_testkit::kubernetes::{Attempt, FakeKubernetes};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// A step of a test's pipeline: its name, what it runs after, and further fields.
pub(crate) type Step<'a> = (&'a str, &'a [&'a str], Value);

pub(crate) fn image(name: &str) -> Reference {
    format!("gcr.io/p/{name}@sha256:{}", "0".repeat(64)).parse().unwrap()
}

/// A workflow of these steps, with settings of Kubernetes for all.
pub(crate) fn workflow(steps: &[Step<'_>], pipeline: &Value) -> Workflow {
    let steps: Vec<Value> = steps
        .iter()
        .map(|(name, after, more)| {
            let mut step = json!({"name": name, "source": {"module": "m", "attribute": name}, "outputs": [],
                "after": after});
            step.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
            step
        })
        .collect();
    let mut spec = json!({"version": 2, "pipeline": {"name": "training_pipeline"}, "source_root": "/src",
        "sdk_version": "0.1.0", "python": {"executable": "/usr/bin/python3", "version": "3.11.2"}, "steps": steps});
    for (key, value) in pipeline.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    let spec = PipelineSpec::from_json(spec.to_string().as_bytes()).unwrap();
    let target = Target {
        flavor: "kubernetes",
        store: "s3://bucket/runs".parse().unwrap(),
        environment: BTreeMap::from([("AWS_REGION".to_owned(), "eu-west-1".to_owned())]),
        supervision: longshore_orchestrator::Supervision::Orchestrator,
        secrets: BTreeMap::from([("AWS_SECRET_ACCESS_KEY".to_owned(), Secret::new("hunter2"))]),
    };
    Workflow::new(&spec, &target, |_| image("train"))
}

/// Credentials for every registry.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    /// When they expire.
    pub(crate) expires: Mutex<Option<jiff::Timestamp>>,
    /// The password, a new one each time they are forgotten.
    pub(crate) number: Mutex<u32>,
}

impl CredentialSource for Registry {
    fn credential<'a>(&'a self, _: For<'a>) -> BoxFuture<'a, Result<Found, AuthError>> {
        let number = *self.number.lock().unwrap();
        let lease = Lease {
            credential: Credential::Basic {
                username: "puller".to_owned(),
                password: Secret::new(format!("password-{number}")),
            },
            expires: *self.expires.lock().unwrap(),
            renewal: Renewal::Automatic,
            origin: "service connector test".to_owned(),
        };
        async move { Ok(Found::Lease(lease)) }.boxed()
    }

    fn forget(&self, _: For<'_>) {
        *self.number.lock().unwrap() += 1;
        *self.expires.lock().unwrap() = Some(jiff::Timestamp::now() + jiff::SignedDuration::from_hours(12));
    }
}

/// An artifact store's connector, which gives a new session each time that it is asked.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<u32>);

impl GrantSource for Sessions {
    fn grant(&self) -> BoxFuture<'_, Result<StoreGrant, AuthError>> {
        let mut number = self.0.lock().unwrap();
        *number += 1;
        let name = "AWS_SECRET_ACCESS_KEY".to_owned();
        let grant = StoreGrant {
            environment: BTreeMap::new(),
            secrets: BTreeMap::from([(name, Secret::new(format!("session-{number}")))]),
            lifetime: Lifetime::Until(jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1)),
            origin: "service connector sessions".to_owned(),
        };
        async move { Ok(grant) }.boxed()
    }
}

/// How long what steps reach their artifact store with is good.
pub(crate) fn term(lifetime: Lifetime) -> Term {
    Term {
        object: "s3://bucket/runs".to_owned(),
        origin: "service connector sessions".to_owned(),
        lifetime,
        purpose: Purpose::Artifacts,
    }
}

pub(crate) struct World {
    pub(crate) server: FakeKubernetes,
    pub(crate) registry: Arc<Registry>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) config: Config,
    _folder: TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        let server = FakeKubernetes::start().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kubeconfig");
        std::fs::write(&file, server.kubeconfig()).unwrap();
        let access = Access::Kubeconfig { file: Some(file), context: None };
        server.script(label::ROLE, label::CONTROLLER, [Attempt::Runs]);
        let config = Config { access, ..Config::default() };
        Self { server, registry: Arc::default(), sessions: Arc::default(), config, _folder: folder }
    }

    /// longshore on some machine.
    pub(crate) fn client(&self) -> Kubernetes {
        let sources = Sources(vec![Arc::clone(&self.registry) as _]);
        let client = Kubernetes::new(self.config.clone(), sources, Some(image("controller")));
        client.with_grants(Arc::clone(&self.sessions) as _)
    }

    /// What a key of a Secret of a run is, if there is such a Secret.
    pub(crate) fn secret(&self, run: &str, part: &str, key: &str) -> Option<String> {
        let name = format!("{run}-{part}");
        let secrets = self.server.objects("secrets");
        let secret = secrets.into_iter().find(|secret| secret["metadata"]["name"] == name.as_str())?;
        let secret: k8s_openapi::api::core::v1::Secret = serde_json::from_value(secret).unwrap();
        Some(String::from_utf8(secret.data?[key].0.clone()).unwrap())
    }

    pub(crate) async fn submit(&self, workflow: &Workflow) -> String {
        self.client().submit(workflow).await.unwrap().run
    }

    pub(crate) async fn controller(&self, run: &str) -> Controller {
        let cluster = Cluster::connect(&self.config).await.unwrap();
        let maps = self.server.objects("configmaps");
        let map = maps.iter().find(|map| map["metadata"]["name"] == format!("{run}-plan")).unwrap();
        let map: ConfigMap = serde_json::from_value(map.clone()).unwrap();
        let plan = Plan::from_bytes(&map.binary_data.unwrap()["plan.json.gz"].0).unwrap();
        Controller::new(cluster, run, plan).await.unwrap()
    }

    /// Lets the controller of a run do its work; when it ends, so does its pod.
    pub(crate) async fn control(&self, run: &str) -> JoinHandle<Result<Ended, Error>> {
        tokio::spawn(self.controller(run).await.run())
    }

    /// Lets the controller of a run do its work to the end.
    pub(crate) async fn carry_out(&self, run: &str) -> Phase {
        let ended = self.control(run).await.await.unwrap().unwrap();
        let Ended::Run(phase) = ended else { panic!("{ended:?}") };
        let code = if phase == Phase::Succeeded { 0 } else { i32::from(RUN_FAILED) };
        self.server.end_pods(label::ROLE, label::CONTROLLER, code);
        phase
    }

    pub(crate) async fn state(&self, run: &str) -> RunState {
        self.client().status(run).await.unwrap()
    }

    /// Waits until something holds; a test that waits in vain fails.
    pub(crate) async fn until(&self, what: &str, mut holds: impl FnMut(&FakeKubernetes) -> bool) {
        for _ in 0..3000 {
            if holds(&self.server) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("never: {what}; {:#?}", self.server.objects("jobs"));
    }

    /// The same of the state of a run.
    pub(crate) async fn until_state(
        &self,
        run: &str,
        what: &str,
        mut holds: impl FnMut(&RunState) -> bool,
    ) -> RunState {
        let mut state = self.state(run).await;
        for _ in 0..1000 {
            if holds(&state) {
                return state;
            }
            tokio::time::sleep(std::time::Duration::from_millis(30)).await;
            state = self.state(run).await;
        }
        panic!("never: {what}; {state:#?}");
    }

    /// The steps whose pods run.
    pub(crate) fn running(&self) -> Vec<String> {
        let pods = self.server.objects("pods");
        let running = pods.iter().filter(|pod| pod["status"]["phase"] == "Running");
        let step = |pod: &Value| pod["metadata"]["labels"][label::STEP].as_str().map(str::to_owned);
        running.filter_map(step).collect()
    }

    /// How often the Job of each step was made.
    pub(crate) fn made(&self) -> usize {
        let jobs = self.server.objects("jobs");
        jobs.iter().filter(|job| !job["metadata"]["labels"][label::STEP].is_null()).count()
    }
}

pub(crate) fn phases(state: &RunState) -> Vec<(&str, Phase)> {
    state.steps.iter().map(|step| (step.name.as_str(), step.phase)).collect()
}
