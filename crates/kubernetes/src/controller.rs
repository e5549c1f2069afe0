//! What looks after a run from within the cluster.
//!
//! All that it knows it sees: the Jobs of the run, their pods, and its own Job; and all that it decides it writes down
//! ([`Record`]). Names are deterministic, so one that is started again finds what the one before it made and goes on there.

use std::{collections::BTreeMap, env, fs, path::Path, pin::pin, time::Duration};

use futures::{StreamExt as _, future::join_all, stream};
use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{ConfigMap, Pod, Secret},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Resource, ResourceExt as _,
    api::ListParams,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use longshore_orchestrator::Phase;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::Instant,
};

use crate::{
    Access, Cluster, Config, Error, Plan, PlannedStep, Record, Run,
    diagnosis::Observed,
    label,
    manifests::{NAMESPACE_VARIABLE, RUN_VARIABLE},
    name,
    plan::CONTAINER,
    record::Observations,
};

/// The key of the record in its ConfigMap.
pub(crate) const RECORD_KEY: &str = "state.json";
/// How long until something that the cluster refused for now is tried again.
const PAUSE: Duration = Duration::from_secs(10);
/// How long to wait for Jobs to go, before their end is left to the cluster.
const PATIENCE: Duration = Duration::from_mins(2);
/// How many Jobs are made at the same time.
const AT_A_TIME: usize = 8;
/// How many refusals in a row to watch are borne. A cluster that is away is waited for, however long that takes.
const REFUSALS: u32 = 8;
/// The most of a reason that is written down: many steps have to fit into one ConfigMap.
const LONGEST_REASON: usize = 1500;

/// Looks after a run.
#[derive(Debug)]
pub struct Controller {
    cluster: Cluster,
    run: Run,
    plan: Plan,
    record: Record,
    /// What of it is in the cluster.
    written: Option<Record>,
    jobs: Known<Job>,
    pods: Known<Pod>,
    own: Known<Job>,
}

/// How a controller ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With its run, which ended so.
    Run(Phase),
    /// Somebody told the process to end, or deleted its Job: the run is another's, or nobody's.
    Told,
}

/// Objects of a kind, as far as they were told.
#[derive(Debug)]
struct Known<K> {
    objects: BTreeMap<String, K>,
    /// Those of a list that is being read.
    incoming: BTreeMap<String, K>,
    is_complete: bool,
}

enum Seen {
    Job(watcher::Result<Event<Job>>),
    Pod(watcher::Result<Event<Pod>>),
    Own(watcher::Result<Event<Job>>),
}

impl<K> Default for Known<K> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), incoming: BTreeMap::new(), is_complete: false }
    }
}

impl<K: Resource> Known<K> {
    fn take(&mut self, event: Event<K>) {
        match event {
            Event::Apply(object) => {
                self.objects.insert(object.name_any(), object);
            }
            Event::Delete(object) => {
                self.objects.remove(&object.name_any());
            }
            Event::Init => self.incoming.clear(),
            Event::InitApply(object) => {
                self.incoming.insert(object.name_any(), object);
            }
            Event::InitDone => {
                self.objects = std::mem::take(&mut self.incoming);
                self.is_complete = true;
            }
        }
    }
}

/// Looks after the run that the environment names, to its end.
pub async fn run_in_cluster(plan: &Path) -> Result<Ended, Error> {
    let missing = |what: String| Error::Access {
        reason: what,
        remedy: "this command is for the pod that longshore submits with a run".to_owned(),
    };
    let variable = |name: &str| env::var(name).map_err(|_| missing(format!("{name} is not set")));
    let (run, namespace) = (variable(RUN_VARIABLE)?, variable(NAMESPACE_VARIABLE)?);
    let bytes = fs::read(plan).map_err(|error| missing(format!("{}: {error}", plan.display())))?;
    let plan = Plan::from_bytes(&bytes)?;
    let config = Config { access: Access::InCluster, namespace: Some(namespace), ..Config::default() };
    let controller = Controller::new(Cluster::connect(&config).await?, &run, plan).await?;
    // As the first process of a container it would ignore the signal otherwise.
    let mut told = signal(SignalKind::terminate()).map_err(|error| missing(error.to_string()))?;
    tokio::select! {
        ended = controller.run() => ended,
        _ = told.recv() => Ok(Ended::Told),
    }
}

impl Controller {
    /// Reads how far the run is.
    pub async fn new(cluster: Cluster, run: &str, plan: Plan) -> Result<Self, Error> {
        let namespace = cluster.namespace().to_owned();
        let own: Option<Job> = cluster.get(run).await?;
        let own = own.ok_or_else(|| Error::NoRun { run: run.to_owned(), namespace: namespace.clone() })?;
        let run = Run { name: run.to_owned(), namespace, uid: own.metadata.uid.clone().unwrap_or_default() };
        let map: Option<ConfigMap> = cluster.get(&name::of_run(&run.name, "state")).await?;
        // Of an earlier run of that name, its owner's deletion has not reached it yet.
        let map = map.filter(|map| map.owner_references().iter().any(|owner| owner.uid == run.uid));
        let written = map.as_ref().and_then(read_record);
        let record = written.clone().unwrap_or_else(|| Record::new(&plan));
        let (jobs, pods, own) = (Known::default(), Known::default(), Known::default());
        Ok(Self { cluster, run, plan, record, written, jobs, pods, own })
    }

    /// Looks after the run to its end.
    pub async fn run(mut self) -> Result<Ended, Error> {
        if self.record.phase.is_final() {
            return self.end().await;
        }
        let of_run = format!("{}={},{}={}", label::RUN, self.run.name, label::ROLE, label::STEP_ROLE);
        let steps = watcher::Config::default().labels(&of_run);
        let this = watcher::Config::default().fields(&format!("metadata.name={}", self.run.name));
        // They take up a broken connection where it broke, and list anew where that is too long ago (410 Gone).
        let jobs = watcher(self.cluster.api::<Job>(), steps.clone()).default_backoff().map(Seen::Job);
        let pods = watcher(self.cluster.api::<Pod>(), steps).default_backoff().map(Seen::Pod);
        let own = watcher(self.cluster.api::<Job>(), this).default_backoff().map(Seen::Own);
        let mut seen = pin!(stream::select(stream::select(jobs, pods), own).ready_chunks(256));
        let mut refusals = 0;
        let mut again: Option<Instant> = None;
        let mut patience: Option<Instant> = None;
        loop {
            let wake = [again, patience].into_iter().flatten().min();
            let batch = tokio::select! {
                batch = seen.next() => batch.unwrap_or_default(),
                () = until(wake) => Vec::new(),
            };
            for one in batch {
                match self.take(one) {
                    Ok(()) => refusals = 0,
                    Err(error) => {
                        tracing::debug!(%error, refusals, "watching failed");
                        let error = self.explain(&error);
                        refusals += u32::from(!error.is_retryable());
                        if refusals >= REFUSALS {
                            return Err(error);
                        }
                    }
                }
            }
            if !(self.jobs.is_complete && self.pods.is_complete && self.own.is_complete) {
                continue;
            }
            again = None;
            let own = self.own.objects.get(&self.run.name).filter(|own| {
                own.metadata.uid.as_deref() == Some(&*self.run.uid)
                    && own.metadata.deletion_timestamp.is_none()
            });
            // What its Job owns goes with it.
            let Some(own) = own else { return Ok(Ended::Told) };
            if own.annotations().contains_key(label::CANCELLED) {
                if patience.is_none() {
                    self.observe();
                }
                let until = *patience.get_or_insert_with(|| Instant::now() + PATIENCE);
                let none = later(self.delete_jobs().await)?;
                if none == Some(true) || Instant::now() >= until {
                    self.record.cancel();
                    return self.end().await;
                }
                again = none.is_none().then(|| Instant::now() + PAUSE);
                continue;
            }
            let made = later(self.advance().await)?;
            if self.record.phase.is_final() {
                return self.end().await;
            }
            let written = later(self.write().await)?;
            if made != Some(true) || written.is_none() {
                again = Some(Instant::now() + PAUSE);
            }
        }
    }

    fn take(&mut self, seen: Seen) -> watcher::Result<()> {
        match seen {
            Seen::Job(event) => self.jobs.take(event?),
            Seen::Pod(event) => self.pods.take(event?),
            Seen::Own(event) => self.own.take(event?),
        }
        Ok(())
    }

    fn explain(&self, error: &watcher::Error) -> Error {
        let what = format!("watch the Jobs of run {}", self.run.name);
        match error {
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => self.cluster.explain(&what, error),
            other => Error::Refused { what, cluster: "the cluster".to_owned(), reason: other.to_string() },
        }
    }

    /// Takes note of what is seen and makes the Jobs whose time has come. Whether all of them were made.
    async fn advance(&mut self) -> Result<bool, Error> {
        // A list can be older than a Job that was made while it was read: one that is missing is asked for once more.
        for (step, record) in self.plan.steps.iter().zip(&self.record.steps) {
            let name = step.job_name(&self.run.name);
            let is_missing =
                record.made && !record.phase.is_final() && !self.jobs.objects.contains_key(&name);
            if is_missing
                && let Some(job) = self.cluster.get::<Job>(&name).await?.filter(|job| is_of(job, &self.run))
            {
                self.jobs.objects.insert(name, job);
            }
        }
        self.see_last_words().await?;
        self.observe();
        let ready = self.record.decide(&self.plan);
        let (cluster, run) = (&self.cluster, &self.run);
        let mut made = Vec::new();
        for some in ready.chunks(AT_A_TIME) {
            let mut making = Vec::new();
            for step in some {
                making.push(make(cluster, run, step));
            }
            made.extend(some.iter().copied().zip(join_all(making).await));
        }
        let mut all = true;
        for (step, job) in made {
            match job {
                Ok(job) => {
                    self.jobs.objects.insert(job.name_any(), job);
                    self.record.made(&step.name);
                }
                Err(error) if error.is_retryable() => {
                    tracing::warn!(%error, step = step.name, "trying again later");
                    let waiting = self.record.steps.iter_mut().find(|record| record.name == step.name);
                    if let Some(record) = waiting {
                        record.reason = Some(error.to_string());
                    }
                    all = false;
                }
                Err(error) => {
                    self.record.refused(&step.name, &error.to_string());
                    // What follows from it is decided at once: no event need come.
                    all = false;
                }
            }
        }
        // With nothing left to run, this is the end.
        self.record.decide(&self.plan);
        Ok(all)
    }

    /// Asks for the pods of Jobs that have failed: what is told of Jobs can be ahead of what is told of pods, where the reason is.
    async fn see_last_words(&mut self) -> Result<(), Error> {
        for (step, _) in
            self.plan.steps.iter().zip(&self.record.steps).filter(|(_, record)| !record.phase.is_final())
        {
            let name = step.job_name(&self.run.name);
            let job = self.jobs.objects.get(&name);
            let finding = Observed { job, ..Observed::default() }.finding(CONTAINER);
            if finding.phase == Phase::Failed {
                let of_job = ListParams::default().labels(&format!("job-name={name}"));
                let pods: Vec<Pod> = self.cluster.list(&of_job).await?;
                self.pods.objects.extend(pods.into_iter().map(|pod| (pod.name_any(), pod)));
            }
        }
        Ok(())
    }

    fn observe(&mut self) {
        let pods = self.pods.objects.values();
        self.record.observe(&observations(&self.plan, &self.run.name, &self.jobs.objects, pods));
    }

    /// Deletes the Jobs that have not ended; those that have keep their logs. Whether there were none.
    async fn delete_jobs(&self) -> Result<bool, Error> {
        let mut none = true;
        for (step, _) in
            self.plan.steps.iter().zip(&self.record.steps).filter(|(_, record)| !record.phase.is_final())
        {
            let Some((name, job)) = self.jobs.objects.get_key_value(&step.job_name(&self.run.name)) else {
                continue;
            };
            none = false;
            if job.metadata.deletion_timestamp.is_none() {
                self.cluster.delete::<Job>(name).await?;
            }
        }
        Ok(none)
    }

    /// Writes down how the run ended, and takes away what no one needs any more.
    async fn end(mut self) -> Result<Ended, Error> {
        self.write().await?;
        for secret in &self.plan.temporary_secrets {
            // It is gone with its owner at the latest.
            if let Err(error) = self.cluster.delete::<Secret>(secret).await {
                tracing::warn!(%error, secret, "the Secret stays until the run's objects go");
            }
        }
        Ok(Ended::Run(self.record.phase))
    }

    /// Writes the record, if it is not written yet.
    async fn write(&mut self) -> Result<(), Error> {
        for step in &mut self.record.steps {
            step.reason.as_mut().map(shorten);
        }
        if self.written.as_ref() == Some(&self.record) {
            return Ok(());
        }
        self.cluster.apply(&record_map(&self.run, &self.plan, &self.record)?).await?;
        self.written = Some(self.record.clone());
        Ok(())
    }
}

/// Nothing, where the same again may succeed later.
fn later<T>(outcome: Result<T, Error>) -> Result<Option<T>, Error> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_retryable() => {
            tracing::warn!(%error, "trying again later");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Makes the Job of a step, or finds the one that was made before.
async fn make(cluster: &Cluster, run: &Run, step: &PlannedStep) -> Result<Job, Error> {
    let job = step.job(run);
    if let Some(made) = cluster.create(&job).await? {
        return Ok(made);
    }
    let name = step.job_name(&run.name);
    let foreign = || Error::Foreign { run: run.name.clone(), object: format!("Job {name}") };
    let found: Option<Job> = cluster.get(&name).await?;
    found.filter(|job| is_of(job, run)).ok_or_else(foreign)
}

fn is_of(job: &Job, run: &Run) -> bool {
    job.owner_references().iter().any(|owner| owner.uid == run.uid)
}

/// What is seen of each step. A pod is that of the Job that its label names.
pub(crate) fn observations<'a>(
    plan: &'a Plan,
    run: &str,
    jobs: &'a BTreeMap<String, Job>,
    pods: impl Iterator<Item = &'a Pod>,
) -> Observations<'a> {
    let mut by_part: BTreeMap<&str, Vec<&Pod>> = BTreeMap::new();
    for pod in pods {
        if let Some(part) = pod.metadata.labels.as_ref().and_then(|labels| labels.get(label::STEP)) {
            by_part.entry(part).or_default().push(pod);
        }
    }
    let observed = plan.steps.iter().map(|step| {
        let pods = by_part.remove(step.part.as_str()).unwrap_or_default();
        let job = jobs.get(&step.job_name(run));
        (step.name.as_str(), Observed { job, pods, events: &[] })
    });
    observed.collect()
}

/// The record in its ConfigMap.
pub(crate) fn read_record(map: &ConfigMap) -> Option<Record> {
    serde_json::from_str(map.data.as_ref()?.get(RECORD_KEY)?).ok()
}

/// The ConfigMap of a record.
pub(crate) fn record_map(run: &Run, plan: &Plan, record: &Record) -> Result<ConfigMap, Error> {
    let text = serde_json::to_string(record).map_err(|error| Error::Plan(error.to_string()))?;
    let mut labels = label::labels(label::CONTROLLER, &name::pipeline_part(&plan.pipeline));
    labels.insert(label::RUN.to_owned(), run.name.clone());
    Ok(ConfigMap {
        metadata: ObjectMeta {
            name: Some(name::of_run(&run.name, "state")),
            namespace: Some(run.namespace.clone()),
            labels: Some(labels),
            owner_references: Some(vec![run.owner()]),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(RECORD_KEY.to_owned(), text)])),
        ..ConfigMap::default()
    })
}

fn shorten(reason: &mut String) {
    if reason.len() > LONGEST_REASON {
        let end = (0..=LONGEST_REASON).rev().find(|index| reason.is_char_boundary(*index)).unwrap_or(0);
        reason.truncate(end);
        reason.push('…');
    }
}
