//! Vertex AI's API, version 1.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use longshore_auth::connector::Connector;
use longshore_endpoint::{Fault, Hosts, Pauses, Web};
use longshore_kubeflow::exchange::{Answer, Api, Repeat, Request};
use longshore_orchestrator::{
    Document, Follow, Phase, RunState, Service, ServiceError, Submission, Workflow,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{Config, Error, Plan, error::GoogleApi, job::Job, logging::Lines};

/// Where logs are.
const LOGGING: &str = "logging.googleapis.com";
/// What the name of a schedule begins with, to tell it from that of a run.
const SCHEDULE: &str = "schedules/";
/// How often a log is asked for while it grows: Cloud Logging takes 60 questions a minute.
const PAUSE: Duration = Duration::from_secs(5);

/// Vertex AI in a project and location.
#[derive(Debug)]
pub struct Vertex {
    config: Config,
    connector: Arc<Connector>,
    api: Api,
    logging: Api,
    pause: Duration,
}

impl Vertex {
    /// Vertex AI as a configuration names it, with the credentials of a connector of type gcp.
    pub fn new(config: Config, connector: Arc<Connector>, web: Web, hosts: &Hosts) -> Self {
        let api = Api::new(web.clone(), hosts.registry(&config.host()).server);
        let logging = Api::new(web, hosts.registry(LOGGING).server);
        Self { config, connector, api, logging, pause: PAUSE }
    }

    /// The same with other pauses: between tries, and between questions for a log that grows.
    pub fn with_pauses(mut self, pauses: Pauses, pause: Duration) -> Self {
        self.api = self.api.with_pauses(pauses);
        self.logging = self.logging.with_pauses(pauses);
        self.pause = pause;
        self
    }

    /// Asks, with a token; a second time with a new one, if the first is not accepted. `what` follows "cannot".
    async fn send(&self, what: &str, google: GoogleApi, request: Request) -> Result<Answer, Error> {
        let (api, host) = match google {
            GoogleApi::Vertex => (&self.api, self.config.host()),
            GoogleApi::Logging => (&self.logging, LOGGING.to_owned()),
        };
        let Request { method, path, body, repeat, .. } = request;
        let mut renewed = false;
        loop {
            let token = self
                .connector
                .google_access_token(&host)
                .await
                .map_err(|source| Error::Credential { what: what.to_owned(), source })?;
            let mut headers = HeaderMap::new();
            if let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {}", token.expose())) {
                value.set_sensitive(true);
                headers.insert(header::AUTHORIZATION, value);
            }
            let request =
                Request { method: method.clone(), path: path.clone(), headers, body: body.clone(), repeat };
            let answer = match api.send(&request).await {
                Ok(answer) => answer,
                Err(source) if matches!(source.fault, Fault::Dns { .. }) && google == GoogleApi::Vertex => {
                    return Err(Error::Location {
                        what: what.to_owned(),
                        location: self.config.location.clone(),
                        host,
                    });
                }
                Err(source) => return Err(Error::NoAnswer { what: what.to_owned(), source }),
            };
            if answer.status == StatusCode::UNAUTHORIZED && !renewed {
                self.connector.forget_google_access_token();
                renewed = true;
                continue;
            }
            return Ok(answer);
        }
    }

    /// The same, refusing what is not an answer of the API.
    async fn ask(&self, what: &str, google: GoogleApi, request: Request) -> Result<Value, Error> {
        let answer = self.send(what, google, request).await?;
        if !answer.status.is_success() {
            return Err(Error::refused(what, &answer, google, &self.config));
        }
        let json = answer.json();
        if json.is_object() { Ok(json) } else { Err(self.unexpected(what)) }
    }

    fn unexpected(&self, what: &str) -> Error {
        Error::Unexpected { what: what.to_owned(), host: self.api.host() }
    }

    fn path(&self, rest: &str) -> String {
        format!("v1/{}/{rest}", self.config.parent())
    }

    async fn submit(&self, workflow: &Workflow) -> Result<Submission, Error> {
        let plan = Plan::new(workflow, &self.config)?;
        if let Some(schedule) = plan.schedule {
            return self.submit_schedule(workflow, schedule).await;
        }
        let what = format!("submit pipeline {}", workflow.pipeline);
        let random = Uuid::now_v7().simple().to_string();
        let unique = random.get(24..).unwrap_or(&random);
        let id = format!("{}-{}-{unique}", plan.name, Timestamp::now().strftime("%Y%m%d%H%M%S"));
        let path = self.path(&format!("pipelineJobs?pipelineJobId={id}"));
        let request = Request::post(path, Some(plan.job), Repeat::Safe);
        let answer = self.send(&what, GoogleApi::Vertex, request).await?;
        // That there is one of this name already means that an answer was lost: nobody else takes it.
        if !answer.status.is_success() && answer.status != StatusCode::CONFLICT {
            return Err(Error::refused(&what, &answer, GoogleApi::Vertex, &self.config));
        }
        Ok(Submission {
            artifacts: Some(workflow.store.run(&id)),
            url: Some(format!(
                "https://console.cloud.google.com/vertex-ai/locations/{}/pipelines/runs/{id}?project={}",
                self.config.location, self.config.project
            )),
            run: id,
        })
    }

    async fn submit_schedule(&self, workflow: &Workflow, mut schedule: Value) -> Result<Submission, Error> {
        let what = format!("submit the schedule of pipeline {}", workflow.pipeline);
        // What it is found by when the answer is lost.
        let random = Uuid::now_v7().simple().to_string();
        let name = format!("{} {}", workflow.pipeline, random.get(20..).unwrap_or(&random));
        schedule["displayName"] = json!(name);
        let request = || Request::post(self.path("schedules"), Some(schedule.clone()), Repeat::Unsafe);
        let made = match self.ask(&what, GoogleApi::Vertex, request()).await {
            Err(Error::NoAnswer { source, .. }) if !source.perhaps_received => {
                return Err(Error::NoAnswer { what, source });
            }
            Err(error) if error.is_retryable() => {
                let filter = format!("display_name%3D%22{}%22", name.replace(' ', "%20"));
                let listed = Request::get(self.path(&format!("schedules?filter={filter}")));
                let found = self.ask(&what, GoogleApi::Vertex, listed).await?;
                let found = found.get("schedules").and_then(Value::as_array).into_iter().flatten();
                match found.into_iter().find(|schedule| schedule["displayName"] == name) {
                    Some(made) => made.clone(),
                    None => self.ask(&what, GoogleApi::Vertex, request()).await?,
                }
            }
            made => made?,
        };
        let id = made.get("name").and_then(Value::as_str).and_then(|name| name.rsplit('/').next());
        let id = id.ok_or_else(|| self.unexpected(&what))?;
        Ok(Submission {
            run: format!("{SCHEDULE}{id}"),
            artifacts: None,
            url: Some(format!(
                "https://console.cloud.google.com/vertex-ai/pipelines/schedules?project={}",
                self.config.project
            )),
        })
    }

    async fn job(&self, run: &str) -> Result<Job, Error> {
        let what = format!("read the status of run {run}");
        let request = Request::get(self.path(&format!("pipelineJobs/{}", segment(run))));
        let answer = self.ask(&what, GoogleApi::Vertex, request).await?;
        serde_json::from_value(answer).map_err(|_| self.unexpected(&what))
    }

    async fn status(&self, run: &str) -> Result<RunState, Error> {
        let Some(schedule) = run.strip_prefix(SCHEDULE) else { return Ok(self.job(run).await?.state()) };
        let what = format!("read the status of the schedule {schedule}");
        let request = Request::get(self.path(&format!("schedules/{}", segment(schedule))));
        let answer = self.ask(&what, GoogleApi::Vertex, request).await?;
        let text = |field: &str| answer.get(field).and_then(Value::as_str).unwrap_or_default();
        let (phase, reason) = match text("state") {
            "PAUSED" => (Phase::Cancelled, "the schedule is paused".to_owned()),
            "COMPLETED" => (Phase::Succeeded, "the schedule has ended".to_owned()),
            _ => (Phase::Running, format!("runs begin at {}", text("cron"))),
        };
        Ok(RunState { phase, reason: Some(reason), steps: Vec::new() })
    }

    async fn cancel(&self, run: &str) -> Result<(), Error> {
        let request = |path: &str| Request::post(self.path(path), Some(json!({})), Repeat::Safe);
        if let Some(schedule) = run.strip_prefix(SCHEDULE) {
            let what = format!("delete the schedule {schedule}");
            let request = Request::delete(self.path(&format!("schedules/{}", segment(schedule))));
            let answer = self.send(&what, GoogleApi::Vertex, request).await?;
            // Somebody else may have deleted it.
            if answer.status.is_success() || answer.status == StatusCode::NOT_FOUND {
                return Ok(());
            }
            return Err(Error::refused(&what, &answer, GoogleApi::Vertex, &self.config));
        }
        if self.job(run).await?.phase().is_final() {
            return Ok(());
        }
        let what = format!("cancel run {run}");
        let request = request(&format!("pipelineJobs/{}:cancel", segment(run)));
        match self.ask(&what, GoogleApi::Vertex, request).await {
            Ok(_) => Ok(()),
            // It may have ended just now.
            Err(error) => match self.job(run).await {
                Ok(now) if now.phase().is_final() => Ok(()),
                _ => Err(error),
            },
        }
    }

    async fn logs(
        &self,
        run: &str,
        step: &str,
        from: usize,
        follow: Follow,
        line: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<usize, Error> {
        if run.starts_with(SCHEDULE) {
            return Err(Error::ScheduleHasNoLog(run.to_owned()));
        }
        let what = format!("read the log of step {step}");
        let mut lines = Lines::default();
        loop {
            let job = self.job(run).await?;
            let steps = job.steps();
            let Some((task, _)) = steps.iter().find(|(_, name)| *name == step) else {
                let steps = steps.into_values().collect();
                return Err(Error::NoStep { run: run.to_owned(), step: step.to_owned(), steps });
            };
            let ended = job.state().steps.iter().any(|state| state.name == step && state.phase.is_final());
            let custom_jobs = job.custom_jobs(task, step);
            let mut page = None;
            while !custom_jobs.is_empty() {
                let body = lines.request(&self.config.project, &custom_jobs, page.as_deref());
                let request = Request::post("v2/entries:list", Some(body), Repeat::Safe);
                let answer = self.ask(&what, GoogleApi::Logging, request).await?;
                page = lines.take(&answer, from, line);
                if page.is_none() {
                    break;
                }
            }
            if ended || follow == Follow::No {
                return Ok(lines.count().max(from));
            }
            tokio::time::sleep(self.pause).await;
        }
    }
}

/// A name as a segment of a path. IDs have letters, digits and dashes; whatever else somebody types is escaped.
fn segment(name: &str) -> String {
    url::form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>().replace('+', "%20")
}

impl Service for Vertex {
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
