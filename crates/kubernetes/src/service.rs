//! Kubernetes as an orchestrator.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::{
    FutureExt as _,
    future::{BoxFuture, try_join_all},
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    batch::v1::{CronJob, Job},
    core::v1::{ConfigMap, Pod, Secret},
};
use kube::{ResourceExt, api::ListParams, config::Kubeconfig};
use longshore_auth::{Sources, Target, storage::Lifetime};
use longshore_oci::Reference;
use longshore_orchestrator::{
    Document, Follow, GrantSource, Phase, RunState, Service, ServiceError, Submission, Term, Workflow,
};
use serde_json::json;
use tokio::sync::OnceCell;

use crate::{
    Access, Cluster, Config, Error, Inputs, Manifests, OwnerManifest, Plan, Pull, PullCredential, Record,
    Right, Run,
    controller::{observations, read_record, record_map},
    diagnosis::{Finding, Observed, timestamp},
    events::Events,
    image, label,
    logs::{self, Lines},
    manifests::PLAN_KEY,
    name,
    secret::{Meta, SecretManifest, key_of},
    submission::{refuse_expiring, submit_all, sweep},
};

/// How long before they expire the credentials of a run that is watched are renewed.
const EARLY: SignedDuration = SignedDuration::from_mins(15);
/// How often it is asked whether the controller has ended, once a second, before its Jobs are deleted regardless.
const PATIENCE: u32 = 60;

/// Kubernetes as an orchestrator.
#[derive(Debug)]
pub struct Kubernetes {
    config: Config,
    credentials: Sources,
    controller: Option<Reference>,
    grants: Option<Arc<dyn GrantSource>>,
    cluster: OnceCell<Cluster>,
}

impl Kubernetes {
    /// A cluster that was not asked yet. `credentials` are those for the registries that images are pulled from; `controller` is the
    /// controller's image by digest ([`crate::image`]), which nothing but submitting needs.
    pub fn new(config: Config, credentials: Sources, controller: Option<Reference>) -> Self {
        Self { config, credentials, controller, grants: None, cluster: OnceCell::new() }
    }

    /// The same with a cluster that a client is there for already.
    pub fn on(config: Config, credentials: Sources, controller: Option<Reference>, cluster: Cluster) -> Self {
        Self { config, credentials, controller, grants: None, cluster: OnceCell::new_with(Some(cluster)) }
    }

    /// The same, which renews what steps reach their artifact store with while somebody watches a run.
    pub fn with_grants(self, grants: Arc<dyn GrantSource>) -> Self {
        Self { grants: Some(grants), ..self }
    }

    async fn cluster(&self) -> Result<&Cluster, Error> {
        self.cluster.get_or_try_init(|| Cluster::connect(&self.config)).await
    }

    /// Fails with all rights that are missing for submitting workflows.
    pub async fn check(&self, scheduled: Scheduled) -> Result<(), Error> {
        self.cluster().await?.check(&self.rights(scheduled)).await
    }

    /// What longshore needs to be allowed here.
    fn rights(&self, scheduled: Scheduled) -> Vec<Right> {
        let right = |group, resource| move |verb| Right { group, resource, verb };
        let mut rights: Vec<Right> = Vec::new();
        rights.extend(["create", "delete", "get", "list", "patch"].map(right("batch", "jobs")));
        rights.extend(["create", "get", "patch"].map(right("", "configmaps")));
        rights.extend(["get", "list"].map(right("", "pods")));
        rights.push(right("", "pods/log")("get"));
        rights.push(right("", "events")("list"));
        rights.extend(["create", "delete", "patch"].map(right("", "secrets")));
        if scheduled == Scheduled::Yes {
            rights.extend(["create", "delete", "get", "list", "patch"].map(right("batch", "cronjobs")));
        }
        if self.config.service_account.is_none() {
            // The controller's role gives nothing that its maker does not have.
            rights.push(right("batch", "jobs")("watch"));
            rights.push(right("", "pods")("watch"));
            rights.push(right("", "serviceaccounts")("create"));
            rights.push(right("rbac.authorization.k8s.io", "roles")("create"));
            rights.push(right("rbac.authorization.k8s.io", "rolebindings")("create"));
        }
        rights
    }

    /// The namespace that manifests are shown with.
    fn shown_namespace(&self) -> String {
        let of_context = || {
            let Access::Kubeconfig { file, context } = &self.config.access else { return None };
            let read = file
                .as_deref()
                .map_or_else(Kubeconfig::read, |file: &Path| Kubeconfig::read_from(file))
                .ok()?;
            let context = context.clone().or(read.current_context)?;
            read.contexts.into_iter().find(|known| known.name == context)?.context?.namespace
        };
        let known =
            self.config.namespace.clone().or_else(|| Some(self.cluster.get()?.namespace().to_owned()));
        known.or_else(of_context).unwrap_or_else(|| "default".to_owned())
    }

    /// The manifests as they are shown.
    fn shown(&self, workflow: &Workflow) -> Result<Manifests, Error> {
        // Before it is built it has no digest.
        let unbuilt = || {
            let host = workflow.steps.first().map_or("registry", |step| step.image.repository.host());
            format!("{host}/{}:{}", image::REPOSITORY, env!("CARGO_PKG_VERSION")).parse().ok()
        };
        let controller = self.controller.clone().or_else(unbuilt).ok_or(Error::NoController)?;
        Manifests::new(
            workflow,
            &Inputs {
                config: &self.config,
                namespace: &self.shown_namespace(),
                controller: &controller,
                name: &format!("{}-000000", name::pipeline_part(&workflow.pipeline)),
                credentials: None,
            },
        )
    }

    async fn submit_workflow(&self, workflow: &Workflow) -> Result<Submission, Error> {
        let controller = self.controller.as_ref().ok_or(Error::NoController)?;
        // What is wrong with the workflow is told before the cluster is asked.
        self.shown(workflow)?;
        let cluster = self.cluster().await?;
        let scheduled = if workflow.schedule.is_some() { Scheduled::Yes } else { Scheduled::No };
        let images = workflow.steps.iter().map(|step| &step.image).chain([controller]);
        let rights = self.rights(scheduled);
        let (credentials, ()) =
            futures::try_join!(self.pull_credentials(images, Renew::No), cluster.check(&rights))?;
        if scheduled == Scheduled::Yes {
            let of_images: Vec<_> = credentials.iter().filter_map(PullCredential::term).collect();
            refuse_expiring(workflow.term.iter().chain(&of_images))?;
        }
        sweep::<Job>(cluster).await;
        if scheduled == Scheduled::Yes {
            sweep::<CronJob>(cluster).await;
        }
        let name = name::run_name(&workflow.pipeline);
        let inputs = Inputs {
            config: &self.config,
            namespace: cluster.namespace(),
            controller,
            name: &name,
            credentials: Some(&credentials),
        };
        let manifests = Manifests::new(workflow, &inputs)?;
        match &manifests.owner {
            OwnerManifest::Job(job) => {
                let mut job = job.as_ref().clone();
                if let Some(spec) = &mut job.spec {
                    spec.suspend = Some(true);
                }
                if let Some(expires) = crate::secret::expiry(&credentials) {
                    job.annotations_mut().insert(label::EXPIRES.to_owned(), expires.to_string());
                }
                if let Some(Lifetime::Until(expires)) = workflow.term.as_ref().map(|term| term.lifetime) {
                    job.annotations_mut().insert(label::STORE_EXPIRES.to_owned(), expires.to_string());
                }
                Box::pin(submit_all(cluster, &manifests, job)).await?;
            }
            OwnerManifest::CronJob(job) => {
                let mut job = job.as_ref().clone();
                if let Some(spec) = &mut job.spec {
                    spec.suspend = Some(true);
                }
                Box::pin(submit_all(cluster, &manifests, job)).await?;
            }
        }
        let artifacts = (scheduled == Scheduled::No).then(|| workflow.store.run(&name));
        Ok(Submission { run: name, artifacts, url: None })
    }

    /// The credentials with which images are pulled, one for each registry.
    async fn pull_credentials<'a>(
        &self,
        images: impl Iterator<Item = &'a Reference>,
        renew: Renew,
    ) -> Result<Vec<PullCredential>, Error> {
        if self.config.pull != Pull::Credentials {
            return Ok(Vec::new());
        }
        let hosts: BTreeMap<&str, &str> =
            images.map(|image| (image.repository.host(), image.repository.path())).collect();
        let leases = hosts.into_iter().map(|(host, path)| async move {
            let target = Target { host, repository: Some(path) };
            if renew == Renew::Yes {
                self.credentials.forget(target);
            }
            let lease = self.credentials.lease(target).await?;
            Ok::<_, Error>(PullCredential { host: host.to_owned(), lease })
        });
        try_join_all(leases).await
    }

    async fn state_of(&self, run: &str) -> Result<RunState, Error> {
        let cluster = self.cluster().await?;
        if let Some(job) = cluster.get::<Job>(run).await? {
            return self.state_of_run(cluster, &job).await;
        }
        match cluster.get::<CronJob>(run).await? {
            Some(job) => Ok(state_of_schedule(&job)),
            None => Err(no_run(cluster, run)),
        }
    }

    async fn state_of_run(&self, cluster: &Cluster, own: &Job) -> Result<RunState, Error> {
        let run = own.name_any();
        let state = name::of_run(&run, "state");
        let (map, plan) = futures::try_join!(cluster.get::<ConfigMap>(&state), plan_of(cluster, own))?;
        let mut record = map.as_ref().and_then(read_record).unwrap_or_else(|| Record::new(&plan));
        if own.annotations().contains_key(label::CANCELLED) {
            record.cancel();
        }
        if record.phase.is_final() {
            return Ok(record.state());
        }
        self.renew(cluster, own, &plan).await;
        let of_run = ListParams::default().labels(&format!("{}={run}", label::RUN));
        let of_controller = ListParams::default().labels(&format!("job-name={run}"));
        let (jobs, pods, controllers) = futures::try_join!(
            cluster.list::<Job>(&of_run),
            cluster.list::<Pod>(&of_run),
            cluster.list::<Pod>(&of_controller),
        )?;
        let jobs = jobs.into_iter().map(|job| (job.name_any(), job)).collect();
        let events = Events::of(cluster, own, &controllers, &plan, &run, &jobs, &pods).await;
        let mut observed = observations(&plan, &run, &jobs, pods.iter());
        for (step, observed) in &mut observed {
            observed.events = events.0.get(*step).map(Vec::as_slice).unwrap_or_default();
        }
        record.observe(&observed);
        let controller = Observed {
            job: Some(own),
            pods: controllers.iter().collect(),
            events: events.0.get("").map(Vec::as_slice).unwrap_or_default(),
        };
        let Finding { phase, reason, .. } = controller.finding(label::CONTROLLER);
        match (phase, reason) {
            (Phase::Failed, reason) => {
                record.phase = Phase::Failed;
                let reason = reason.unwrap_or_else(|| "it ended before the run did".to_owned());
                record.reason = Some(format!("what looks after the run failed: {reason}"));
            }
            (_, Some(reason)) => record.reason = Some(format!("what looks after the run waits: {reason}")),
            _ => {}
        }
        Ok(record.state())
    }

    /// Renews the credentials of a run before they expire. Where that fails, what was pulled before still runs, and what has begun
    /// goes on.
    async fn renew(&self, cluster: &Cluster, own: &Job, plan: &Plan) {
        let run = own.name_any();
        let is_due = |annotation: &str| {
            let expires = own.annotations().get(annotation).and_then(|text| text.parse::<Timestamp>().ok());
            expires.is_some_and(|expires| expires.duration_since(Timestamp::now()) <= EARLY)
        };
        let pull = name::of_run(&run, "pull");
        if is_due(label::EXPIRES)
            && plan.temporary_secrets.contains(&pull)
            && let Err(error) = self.renew_pull(cluster, own, plan, &pull).await
        {
            tracing::warn!(%error, run, "the credentials with which the run pulls its images are not renewed");
        }
        if is_due(label::STORE_EXPIRES) {
            const KEPT: &str = "the credentials with which steps reach their artifact store are not renewed";
            if let Some(grants) = &self.grants {
                if let Err(error) = renew_grant(cluster, &run, grants.as_ref()).await {
                    tracing::warn!(%error, run, "{KEPT}");
                }
            } else {
                tracing::warn!(run, "{KEPT}: the run's stack has no connector for it any more");
            }
        }
    }

    async fn renew_pull(&self, cluster: &Cluster, own: &Job, plan: &Plan, secret: &str) -> Result<(), Error> {
        let pods = plan.steps.iter().filter_map(crate::PlannedStep::image);
        let controller = own
            .spec
            .iter()
            .filter_map(|spec| spec.template.spec.as_ref()?.containers.first()?.image.as_deref());
        let images: BTreeSet<Reference> =
            pods.chain(controller).filter_map(|image| image.parse().ok()).collect();
        let credentials = self.pull_credentials(images.iter(), Renew::Yes).await?;
        let meta = Meta {
            name: secret.to_owned(),
            labels: label::labels(label::CONTROLLER, &name::pipeline_part(&plan.pipeline)),
            annotations: BTreeMap::new(),
        };
        let labels = meta.labels.clone();
        let Some(manifest) = SecretManifest::of_pull(meta, &credentials) else { return Ok(()) };
        let run = run_of(cluster, own);
        let metadata = kube::core::ObjectMeta {
            name: Some(secret.to_owned()),
            namespace: Some(run.namespace.clone()),
            labels: Some(labels),
            owner_references: Some(vec![run.owner()]),
            ..kube::core::ObjectMeta::default()
        };
        cluster.apply(&manifest.object(metadata)).await?;
        let expires = crate::secret::expiry(&credentials).map(|expires| expires.to_string());
        let change = json!({"metadata": {"annotations": {label::EXPIRES: expires}}});
        cluster.change::<Job>(&run.name, &change).await?;
        Ok(())
    }

    async fn lines_of(
        &self,
        run: &str,
        step: &str,
        from: usize,
        follow: Follow,
        line: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<usize, Error> {
        let cluster = self.cluster().await?;
        let own: Option<Job> = cluster.get(run).await?;
        let own = own.ok_or_else(|| no_run(cluster, run))?;
        let plan = plan_of(cluster, &own).await?;
        let job = plan.step(step).ok_or_else(|| Error::NoStep {
            run: run.to_owned(),
            step: step.to_owned(),
            steps: plan.steps.iter().map(|step| step.name.clone()).collect(),
        })?;
        let job = job.job_name(run);
        let mut lines = Lines { from, count: 0, line };
        if follow == Follow::Yes && !self.wait_for_job(cluster, run, step, &job).await? {
            return Ok(from);
        }
        logs::pass(cluster, &job, follow, &mut lines).await?;
        Ok(lines.count.max(from))
    }

    /// Waits for the Job of a step to be made. Whether it was: a step may be skipped.
    async fn wait_for_job(&self, cluster: &Cluster, run: &str, step: &str, job: &str) -> Result<bool, Error> {
        loop {
            if cluster.get::<Job>(job).await?.is_some() {
                return Ok(true);
            }
            let state = self.state_of(run).await?;
            let of_step = state.steps.iter().find(|state| state.name == step);
            if state.phase.is_final() || of_step.is_none_or(|state| state.phase.is_final()) {
                return Ok(false);
            }
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
    }

    async fn cancel_run(&self, run: &str) -> Result<(), Error> {
        let cluster = self.cluster().await?;
        let Some(own) = cluster.get::<Job>(run).await? else {
            return match cluster.get::<CronJob>(run).await? {
                Some(_) => cluster.delete::<CronJob>(run).await,
                None => Err(no_run(cluster, run)),
            };
        };
        if own.labels().contains_key(label::SUBMITTING) {
            return cluster.delete::<Job>(run).await;
        }
        let plan = plan_of(cluster, &own).await?;
        let map: Option<ConfigMap> = cluster.get(&name::of_run(run, "state")).await?;
        let record = map.as_ref().and_then(read_record).unwrap_or_else(|| Record::new(&plan));
        if record.phase.is_final() {
            return Ok(());
        }
        // A controller that runs sees the first and ends the run itself. For one that does not, because its image is not
        // pulled or it has failed, a deadline that has passed ends the Job.
        let now = Timestamp::now().to_string();
        let change = json!({"metadata": {"annotations": {label::CANCELLED: now}}, "spec": {"activeDeadlineSeconds": 1}});
        cluster.change::<Job>(run, &change).await?;
        let of_controller = ListParams::default().labels(&format!("job-name={run}"));
        for _ in 0..PATIENCE {
            let pods = cluster.list::<Pod>(&of_controller).await?;
            let ended = |pod: &Pod| {
                let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
                matches!(phase, Some("Succeeded" | "Failed"))
            };
            if pods.iter().all(ended) {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
        let map: Option<ConfigMap> = cluster.get(&name::of_run(run, "state")).await?;
        let mut record = map.as_ref().and_then(read_record).unwrap_or(record);
        if record.phase.is_final() {
            return Ok(());
        }
        let of_run = ListParams::default().labels(&format!("{}={run}", label::RUN));
        let jobs = cluster.list::<Job>(&of_run).await?;
        let jobs: BTreeMap<_, _> = jobs.into_iter().map(|job| (job.name_any(), job)).collect();
        let pods = cluster.list::<Pod>(&of_run).await?;
        record.observe(&observations(&plan, run, &jobs, pods.iter()));
        // Those that have ended keep their logs.
        let ended = |job: &str| {
            let step = plan.steps.iter().zip(&record.steps).find(|(step, _)| step.job_name(run) == job);
            step.is_some_and(|(_, record)| record.phase.is_final())
        };
        try_join_all(jobs.keys().filter(|job| !ended(job)).map(|job| cluster.delete::<Job>(job))).await?;
        for secret in &plan.temporary_secrets {
            cluster.delete::<Secret>(secret).await?;
        }
        record.cancel();
        cluster.apply(&record_map(&run_of(cluster, &own), &plan, &record)?).await?;
        Ok(())
    }
}

/// Gives the steps that begin from now on new credentials for their artifact store.
async fn renew_grant(cluster: &Cluster, run: &str, grants: &dyn GrantSource) -> Result<(), Error> {
    let grant = grants.grant().await?;
    let data: BTreeMap<_, _> = grant
        .secrets
        .iter()
        .map(|(variable, secret)| (key_of(variable), STANDARD.encode(secret.expose())))
        .collect();
    cluster.change::<Secret>(&name::of_run(run, "env"), &json!({ "data": data })).await?;
    let expires = match grant.lifetime {
        Lifetime::Until(expires) => Some(expires.to_string()),
        Lifetime::Unlimited | Lifetime::Unknown => None,
    };
    let change = json!({"metadata": {"annotations": {label::STORE_EXPIRES: expires}}});
    cluster.change::<Job>(run, &change).await?;
    Ok(())
}

/// Whether runs begin by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheduled {
    /// One begins now.
    No,
    /// They begin when a schedule says so.
    Yes,
}

/// Whether credentials must not come from memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Renew {
    No,
    Yes,
}

fn no_run(cluster: &Cluster, run: &str) -> Error {
    Error::NoRun { run: run.to_owned(), namespace: cluster.namespace().to_owned() }
}

fn run_of(cluster: &Cluster, own: &Job) -> Run {
    Run {
        name: own.name_any(),
        namespace: cluster.namespace().to_owned(),
        uid: own.metadata.uid.clone().unwrap_or_default(),
    }
}

/// The plan of a run: in the ConfigMap that its controller mounts.
async fn plan_of(cluster: &Cluster, own: &Job) -> Result<Plan, Error> {
    let volumes = own.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()?.volumes.as_ref());
    let map = volumes.into_iter().flatten().find_map(|volume| volume.config_map.as_ref());
    let missing = || Error::NoRun { run: own.name_any(), namespace: cluster.namespace().to_owned() };
    let map: Option<ConfigMap> = cluster.get(&map.ok_or_else(missing)?.name).await?;
    let bytes = map.as_ref().and_then(|map| map.binary_data.as_ref()?.get(PLAN_KEY));
    Plan::from_bytes(&bytes.ok_or_else(missing)?.0)
}

fn state_of_schedule(job: &CronJob) -> RunState {
    let spec = job.spec.as_ref();
    let cron = spec.map_or("", |spec| &spec.schedule);
    let zone = spec.and_then(|spec| spec.time_zone.as_deref()).unwrap_or("UTC");
    let status = job.status.as_ref();
    let active = status.and_then(|status| status.active.as_ref()).into_iter().flatten();
    let active: Vec<_> = active.filter_map(|job| job.name.clone()).collect();
    let mut reason = format!("it runs at {cron} ({zone})");
    if let Some(last) = status.and_then(|status| status.last_schedule_time.as_ref()) {
        reason = format!("{reason}, last at {}", timestamp(last));
    }
    let phase = if active.is_empty() {
        Phase::Pending
    } else {
        reason = format!("{reason}; now: {}", active.join(", "));
        Phase::Running
    };
    RunState { phase, reason: Some(reason), steps: Vec::new() }
}

impl Service for Kubernetes {
    fn documents(&self, workflow: &Workflow) -> Result<Vec<Document>, ServiceError> {
        Ok(self.shown(workflow)?.documents()?)
    }

    fn terms<'a>(&'a self, workflow: &'a Workflow) -> BoxFuture<'a, Result<Vec<Term>, ServiceError>> {
        let images = workflow.steps.iter().map(|step| &step.image).chain(&self.controller);
        async move {
            let credentials = self.pull_credentials(images, Renew::No).await?;
            let of_images = credentials.iter().filter_map(PullCredential::term);
            Ok(workflow.term.iter().cloned().chain(of_images).collect())
        }
        .boxed()
    }

    fn submit<'a>(&'a self, workflow: &'a Workflow) -> BoxFuture<'a, Result<Submission, ServiceError>> {
        async move { Ok(Box::pin(self.submit_workflow(workflow)).await?) }.boxed()
    }

    fn status<'a>(&'a self, run: &'a str) -> BoxFuture<'a, Result<RunState, ServiceError>> {
        async move { Ok(self.state_of(run).await?) }.boxed()
    }

    fn logs<'a>(
        &'a self,
        run: &'a str,
        step: &'a str,
        from: usize,
        follow: Follow,
        line: &'a (dyn Fn(&str) + Send + Sync),
    ) -> BoxFuture<'a, Result<usize, ServiceError>> {
        async move { Ok(Box::pin(self.lines_of(run, step, from, follow, line)).await?) }.boxed()
    }

    fn cancel<'a>(&'a self, run: &'a str) -> BoxFuture<'a, Result<(), ServiceError>> {
        async move { Ok(self.cancel_run(run).await?) }.boxed()
    }
}
