//! Airflow, by the place that it reads its DAG files from, and by its API where that is known.

use std::time::Duration;

use futures::{FutureExt as _, future::BoxFuture};
use longshore_endpoint::{Hosts, Pauses, Web};
use longshore_orchestrator::{
    Document, Follow, Phase, RunState, Service, ServiceError, Submission, Workflow,
};
use uuid::Uuid;

use crate::{Config, Error, Place, Plan, dag, run::folder, server::Server};

/// How often Airflow is asked whether it has read a file, and for a log that grows.
const PAUSE: Duration = Duration::from_secs(5);
/// How often it is asked whether it has read a file. By its own default it looks for new ones every five minutes, and a bucket
/// takes a while to come to it.
const MOST_QUESTIONS: u32 = 180;

/// Airflow, by the place that it reads its DAG files from, and by its API where that is known.
#[derive(Debug)]
pub struct Airflow {
    config: Config,
    place: Place,
    server: Option<Server>,
    pause: Duration,
}

/// A run that was begun at the API: `digits_pipeline/longshore-0123…`.
#[derive(Clone, Copy, Debug)]
struct Begun<'a> {
    server: &'a Server,
    dag: &'a str,
    run: &'a str,
}

impl Airflow {
    /// Airflow as a configuration names it. The place is the configuration's `dags`.
    pub fn new(config: Config, place: Place, web: Web, hosts: &Hosts) -> Self {
        let server = config.server.clone().map(|server| Server::new(server, web, hosts));
        Self { config, place, server, pause: PAUSE }
    }

    /// The same with other pauses: between tries, and between questions for a file that is to be read, or a log that grows.
    pub fn with_pauses(self, pauses: Pauses, pause: Duration) -> Self {
        let server = self.server.map(|server| server.with_pauses(pauses));
        Self { place: self.place.with_pauses(pauses), server, pause, ..self }
    }

    async fn submit(&self, workflow: &Workflow) -> Result<Submission, Error> {
        let plan = Plan::new(workflow, &self.config)?;
        let name = plan.file_name();
        let what = format!("put pipeline {} into {}", workflow.pipeline, self.place.named(&name));
        let server = self.server.as_ref().filter(|_| workflow.schedule.is_none());
        // What could not be imported before says nothing of the new file. It is asked for first, so that nothing is put where
        // nothing can be begun.
        let before = match server {
            Some(server) => server.import_error(&what, &name).await?,
            None => None,
        };
        self.place.put(&what, &name, &plan.file).await?;
        let Some(server) = server else {
            return Ok(Submission { run: plan.dag, artifacts: None, url: None });
        };
        let what = format!("begin a run of {}", plan.dag);
        self.wait_until_read(server, &what, &plan, before.as_ref()).await?;
        let run = format!("longshore-{}", Uuid::now_v7().simple());
        server.begin(&what, &plan.dag, &run).await?;
        Ok(Submission {
            artifacts: Some(workflow.store.run(&folder(&plan.dag, &run))),
            url: Some(server.page(&plan.dag, &run)),
            run: format!("{}/{run}", plan.dag),
        })
    }

    /// Waits until Airflow runs what the file says, and not what it said before.
    async fn wait_until_read(
        &self,
        server: &Server,
        what: &str,
        plan: &Plan,
        before: Option<&crate::server::ImportError>,
    ) -> Result<(), Error> {
        let name = plan.file_name();
        for _ in 0..MOST_QUESTIONS {
            let read = server.documentation(what, &plan.dag).await?;
            if read.is_some_and(|documentation| documentation.contains(&plan.version)) {
                return Ok(());
            }
            if let Some(error) = server.import_error(what, &name).await?
                && Some(&error) != before
            {
                let (what, file) = (what.to_owned(), self.place.named(&name));
                return Err(Error::Import { what, file, reason: error.reason });
            }
            tracing::debug!(dag = %plan.dag, "Airflow has not read the file yet");
            tokio::time::sleep(self.pause).await;
        }
        let minutes = (self.pause * MOST_QUESTIONS).as_secs() / 60;
        Err(Error::NotRead { what: what.to_owned(), file: self.place.named(&name), minutes })
    }

    /// The run that was begun at the API, if it is one; otherwise it is a DAG.
    fn begun<'a>(&'a self, run: &'a str) -> Result<Option<Begun<'a>>, Error> {
        let Some((dag, own)) = run.split_once('/') else { return Ok(None) };
        match &self.server {
            Some(server) => Ok(Some(Begun { server, dag, run: own })),
            None => Err(Error::NoServer { run: run.to_owned() }),
        }
    }

    async fn status(&self, run: &str) -> Result<RunState, Error> {
        if let Some(Begun { server, dag, run: own }) = self.begun(run)? {
            let what = format!("read the status of run {run}");
            let found = server.run(&what, dag, own).await?;
            return Ok(found.state(&server.tasks(&what, dag, own).await?));
        }
        // What is known from here: whether Airflow still has the file.
        let name = dag::file_name(run);
        let file = self.place.named(&name);
        if !self.place.has(&format!("look for {file}"), &name).await? {
            return Err(Error::NoFile { dag: run.to_owned(), file });
        }
        let reason = format!("Airflow runs {file} by its own rules; its page shows how far the runs are");
        Ok(RunState { phase: Phase::Running, reason: Some(reason), steps: Vec::new() })
    }

    async fn cancel(&self, run: &str) -> Result<(), Error> {
        if let Some(Begun { server, dag, run: own }) = self.begun(run)? {
            let what = format!("cancel run {run}");
            if server.run(&what, dag, own).await?.phase().is_final() {
                return Ok(());
            }
            return server.end(&what, dag, own).await;
        }
        // Without its file, Airflow begins no further run. Those that have begun are its own to end.
        let name = dag::file_name(run);
        let what = format!("take {} away", self.place.named(&name));
        self.place.remove(&what, &name).await
    }

    /// What each try of a step has printed, and Airflow of it.
    async fn logs(
        &self,
        run: &str,
        step: &str,
        from: usize,
        follow: Follow,
        line: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<usize, Error> {
        let Some(Begun { server, dag, run: own }) = self.begun(run)? else {
            return Err(Error::NoLog { dag: run.to_owned() });
        };
        let what = format!("read the log of step {step}");
        let mut seen = from;
        loop {
            let phase = server.run(&what, dag, own).await?.phase();
            let tasks = server.tasks(&what, dag, own).await?;
            let Some(task) = tasks.iter().find(|task| task.name() == step) else {
                let steps = tasks.iter().map(|task| task.name().to_owned()).collect();
                return Err(Error::NoStep { run: run.to_owned(), step: step.to_owned(), steps });
            };
            let mut count = 0;
            for number in 1..=task.try_number {
                for text in server.log(&what, (dag, own), &task.task_id, number).await? {
                    if count >= seen {
                        line(&text);
                    }
                    count += 1;
                }
            }
            seen = seen.max(count);
            if task.phase(phase).is_final() || phase.is_final() || follow == Follow::No {
                return Ok(seen);
            }
            tokio::time::sleep(self.pause).await;
        }
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
        step: &'a str,
        from: usize,
        follow: Follow,
        line: &'a (dyn Fn(&str) + Send + Sync),
    ) -> BoxFuture<'a, Result<usize, ServiceError>> {
        async move { Ok(self.logs(run, step, from, follow, line).await?) }.boxed()
    }

    fn cancel<'a>(&'a self, run: &'a str) -> BoxFuture<'a, Result<(), ServiceError>> {
        async move { Ok(self.cancel(run).await?) }.boxed()
    }
}
