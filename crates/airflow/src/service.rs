//! Airflow, by the place that it reads its DAG files from.

use futures::{FutureExt as _, future::BoxFuture};
use longshore_orchestrator::{
    Document, Follow, Phase, RunState, Service, ServiceError, Submission, Workflow,
};

use crate::{Config, Error, Place, Plan, dag};

/// Airflow, by the place that it reads its DAG files from.
#[derive(Debug)]
pub struct Airflow {
    config: Config,
    place: Place,
}

impl Airflow {
    /// Airflow as a configuration names it. The place is the configuration's `dags`.
    pub const fn new(config: Config, place: Place) -> Self {
        Self { config, place }
    }

    async fn submit(&self, workflow: &Workflow) -> Result<Submission, Error> {
        let plan = Plan::new(workflow, &self.config)?;
        let name = plan.file_name();
        let what = format!("put pipeline {} into {}", workflow.pipeline, self.place.named(&name));
        self.place.put(&what, &name, &plan.file).await?;
        Ok(Submission { run: plan.dag, artifacts: None, url: None })
    }

    /// What is known from here: whether Airflow still has the file.
    async fn status(&self, dag: &str) -> Result<RunState, Error> {
        let name = dag::file_name(dag);
        let file = self.place.named(&name);
        if !self.place.has(&format!("look for {file}"), &name).await? {
            return Err(Error::NoFile { dag: dag.to_owned(), file });
        }
        let reason = format!("Airflow runs {file} by its own rules; its page shows how far the runs are");
        Ok(RunState { phase: Phase::Running, reason: Some(reason), steps: Vec::new() })
    }

    /// Takes the file away: Airflow begins no further run. Those that have begun are its own to end.
    async fn cancel(&self, dag: &str) -> Result<(), Error> {
        let name = dag::file_name(dag);
        let what = format!("take {} away", self.place.named(&name));
        self.place.remove(&what, &name).await
    }
}

impl Service for Airflow {
    fn documents(&self, workflow: &Workflow) -> Result<Vec<Document>, ServiceError> {
        Ok(Plan::new(workflow, &self.config)?.documents())
    }

    fn submit<'a>(&'a self, workflow: &'a Workflow) -> BoxFuture<'a, Result<Submission, ServiceError>> {
        async move { Ok(self.submit(workflow).await?) }.boxed()
    }

    fn status<'a>(&'a self, run: &'a str) -> BoxFuture<'a, Result<RunState, ServiceError>> {
        async move { Ok(self.status(run).await?) }.boxed()
    }

    fn logs<'a>(
        &'a self,
        run: &'a str,
        _step: &'a str,
        _from: usize,
        _follow: Follow,
        _line: &'a (dyn Fn(&str) + Send + Sync),
    ) -> BoxFuture<'a, Result<usize, ServiceError>> {
        let error = Error::NoLog { dag: run.to_owned() };
        async move { Err(error.into()) }.boxed()
    }

    fn cancel<'a>(&'a self, run: &'a str) -> BoxFuture<'a, Result<(), ServiceError>> {
        async move { Ok(self.cancel(run).await?) }.boxed()
    }
}
