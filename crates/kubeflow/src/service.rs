//! Kubeflow Pipelines' API, version 2beta1.

use std::time::Duration;

use futures::{FutureExt, future::BoxFuture};
use http::{HeaderMap, StatusCode, header};
use longshore_endpoint::{Endpoint, Hosts, Pauses, Web};
use longshore_orchestrator::{
    Document, Follow, Phase, RunState, Service, ServiceError, Submission, Workflow,
};
use serde_json::{Map, Value, json};
use url::form_urlencoded::byte_serialize;
use uuid::Uuid;

use crate::{
    Config, Error, Plan,
    exchange::{Answer, Api, Repeat, Request},
    log,
    run::Run,
};

/// What the name of a schedule begins with, to tell it from that of a run.
const SCHEDULE: &str = "recurringruns/";
/// How often a log is asked for while it grows: Kubeflow's API does not stream it.
const PAUSE: Duration = Duration::from_secs(3);

/// Kubeflow Pipelines.
#[derive(Debug)]
pub struct Kubeflow {
    config: Config,
    api: Api,
    pause: Duration,
}

impl Kubeflow {
    /// The installation that a configuration names.
    pub fn new(config: Config, web: Web, hosts: &Hosts) -> Self {
        let own = Endpoint { url: config.host.clone(), authorities: None };
        let mapped = hosts.registry(&own.name()).server;
        // `hosts.toml` may say where an HTTPS host is really served; a URL with another scheme says so itself.
        let url = if config.host.scheme() == "https" {
            mapped.at(config.host.path().trim_start_matches('/')).unwrap_or_else(|_| config.host.clone())
        } else {
            config.host.clone()
        };
        let api = Api::new(web, Endpoint { url, authorities: mapped.authorities });
        Self { config, api, pause: PAUSE }
    }

    /// The same with other pauses: between tries, and between questions for a log that grows.
    pub fn with_pauses(mut self, pauses: Pauses, pause: Duration) -> Self {
        self.api = self.api.with_pauses(pauses);
        self.pause = pause;
        self
    }

    fn headers(&self) -> Result<HeaderMap, Error> {
        let mut headers = HeaderMap::new();
        if let Some(token) = &self.config.token {
            headers.insert(header::AUTHORIZATION, token.header("token", "Bearer ")?);
        }
        if let Some(cookies) = &self.config.cookies {
            headers.insert(header::COOKIE, cookies.header("cookies", "")?);
        }
        Ok(headers)
    }

    /// Asks, and refuses what is not an answer of the API. `what` follows "cannot".
    async fn ask(&self, what: &str, request: Request) -> Result<Answer, Error> {
        let request = request.with_headers(self.headers()?);
        let answer = self
            .api
            .send(&request)
            .await
            .map_err(|source| Error::NoAnswer { what: what.to_owned(), source })?;
        if answer.status.is_success() && !answer.is_page() {
            Ok(answer)
        } else {
            Err(self.refusal(what, &answer))
        }
    }

    fn refusal(&self, what: &str, answer: &Answer) -> Error {
        let (what, host, reason) = (what.to_owned(), self.api.host(), answer.reason());
        match answer.status {
            status if status.is_redirection() || (status.is_success() && answer.is_page()) => {
                Error::Login { what, host }
            }
            StatusCode::UNAUTHORIZED => {
                let remedy = match (&self.config.token, &self.config.cookies) {
                    (None, None) => "give a token (--token=env:NAME) or cookies (--cookies=env:NAME)",
                    (Some(_), _) => "get a new token: they expire",
                    (None, Some(_)) => "log in again and give the new session's cookies: sessions expire",
                };
                Error::Unauthenticated { what, host, reason, remedy }
            }
            StatusCode::FORBIDDEN => {
                let remedy = match &self.config.namespace {
                    Some(namespace) => format!(
                        "ask for the role kubeflow-edit in the namespace {namespace}, or give the --namespace that is yours"
                    ),
                    None => {
                        "where Kubeflow has several users, give the --namespace of your profile".to_owned()
                    }
                };
                Error::Forbidden { what, host, reason, remedy }
            }
            StatusCode::NOT_FOUND => {
                let remedy =
                    "check the name, and that --host is where Kubeflow Pipelines 2 or newer is served";
                Error::NotFound { what, host, reason, remedy }
            }
            status => Error::Refused { what, host, status, reason },
        }
    }

    fn unexpected(&self, what: &str) -> Error {
        Error::Unexpected { what: what.to_owned(), host: self.api.host() }
    }

    /// The text of a field of an answer.
    fn text(&self, what: &str, document: &Value, field: &str) -> Result<String, Error> {
        let text = document.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
        text.map(str::to_owned).ok_or_else(|| self.unexpected(what))
    }

    /// The experiment that runs belong to, made if there is none.
    async fn experiment(&self) -> Result<String, Error> {
        let name = &self.config.experiment;
        let what = format!("find the experiment {name}");
        let mut path = format!("apis/v2beta1/experiments?filter={}", named(name));
        if let Some(namespace) = &self.config.namespace {
            path.extend(["&namespace=", &encoded(namespace)]);
        }
        let found = self.ask(&what, Request::get(path.as_str())).await?.json();
        if !found.is_object() {
            return Err(self.unexpected(&what));
        }
        if let Some(experiment) = found.pointer("/experiments/0") {
            return self.text(&what, experiment, "experiment_id");
        }
        let what = format!("make the experiment {name}");
        let mut body = Map::from_iter([("display_name".to_owned(), json!(name))]);
        if let Some(namespace) = &self.config.namespace {
            body.insert("namespace".to_owned(), json!(namespace));
        }
        // An experiment of that name is refused the second time.
        let request = Request::post("apis/v2beta1/experiments", Some(Value::Object(body)), Repeat::Safe);
        let made = match self.ask(&what, request).await {
            Err(Error::Refused { status: StatusCode::CONFLICT, .. }) => {
                let found = self.ask(&what, Request::get(path)).await?.json();
                found.pointer("/experiments/0").cloned().unwrap_or_default()
            }
            answer => answer?.json(),
        };
        self.text(&what, &made, "experiment_id")
    }

    async fn submit(&self, workflow: &Workflow) -> Result<Submission, Error> {
        let plan = Plan::new(workflow, &self.config)?;
        let experiment = self.experiment().await?;
        // What it is found by when the answer is lost.
        let random = Uuid::now_v7().simple().to_string();
        let unique = random.get(20..).unwrap_or(&random);
        let name = format!("{} {unique}", workflow.pipeline);
        let mut body = Map::from_iter([
            ("display_name".to_owned(), json!(name)),
            ("experiment_id".to_owned(), json!(experiment)),
            ("pipeline_spec".to_owned(), plan.document()),
        ]);
        if let Some(account) = &self.config.service_account {
            body.insert("service_account".to_owned(), json!(account));
        }
        match &plan.cron {
            None => {
                let what = format!("submit pipeline {}", workflow.pipeline);
                let run = self.create(&what, Kind::Run, &experiment, &name, Value::Object(body)).await?;
                Ok(Submission {
                    artifacts: Some(workflow.store.run(&run)),
                    url: Some(self.page(&format!("runs/details/{run}"))),
                    run,
                })
            }
            Some(cron) => {
                let what = format!("submit the schedule of pipeline {}", workflow.pipeline);
                let fields = [
                    ("trigger", json!({ "cron_schedule": { "cron": cron } })),
                    ("mode", json!("ENABLE")),
                    // Protobuf's JSON has integers of 64 bits as text.
                    ("max_concurrency", json!("1")),
                    ("no_catchup", json!(true)),
                ];
                body.extend(fields.map(|(field, value)| (field.to_owned(), value)));
                let id = self.create(&what, Kind::Schedule, &experiment, &name, Value::Object(body)).await?;
                Ok(Submission {
                    run: format!("{SCHEDULE}{id}"),
                    artifacts: None,
                    url: Some(self.page(&format!("recurringrun/details/{id}"))),
                })
            }
        }
    }

    /// Makes a run or a schedule, once: after a lost answer it is looked for by its name.
    async fn create(
        &self,
        what: &str,
        kind: Kind,
        experiment: &str,
        name: &str,
        body: Value,
    ) -> Result<String, Error> {
        let (path, items, id) = kind.words();
        let request = || Request::post(format!("apis/v2beta1/{path}"), Some(body.clone()), Repeat::Unsafe);
        let lost = match self.ask(what, request()).await {
            Ok(answer) => return self.text(what, &answer.json(), id),
            Err(Error::NoAnswer { source, .. }) if !source.perhaps_received => {
                return Err(Error::NoAnswer { what: what.to_owned(), source });
            }
            Err(error) if error.is_retryable() => error,
            Err(error) => return Err(error),
        };
        tracing::debug!(error = %lost, "looking whether it was made nevertheless");
        let query =
            format!("apis/v2beta1/{path}?experiment_id={}&filter={}", encoded(experiment), named(name));
        let found = self.ask(what, Request::get(query)).await?.json();
        match found.get(items).and_then(|found| found.get(0)) {
            Some(made) => self.text(what, made, id),
            None => self.text(what, &self.ask(what, request()).await?.json(), id),
        }
    }

    async fn run(&self, run: &str) -> Result<Run, Error> {
        let what = format!("read the status of run {run}");
        let answer = self.ask(&what, Request::get(format!("apis/v2beta1/runs/{}", encoded(run)))).await?;
        let run: Run = serde_json::from_str(&answer.text).map_err(|_| self.unexpected(&what))?;
        tracing::debug!(run = %run.id, name = run.name(), phase = ?run.phase(), "status");
        Ok(run)
    }

    async fn status(&self, run: &str) -> Result<RunState, Error> {
        let Some(schedule) = run.strip_prefix(SCHEDULE) else { return Ok(self.run(run).await?.state()) };
        let what = format!("read the status of the schedule {schedule}");
        let path = format!("apis/v2beta1/recurringruns/{}", encoded(schedule));
        let answer = self.ask(&what, Request::get(path)).await?.json();
        let status = self.text(&what, &answer, "status")?;
        let cron = answer.pointer("/trigger/cron_schedule/cron").and_then(Value::as_str).unwrap_or_default();
        let (phase, reason) = if status == "DISABLED" {
            (Phase::Cancelled, "the schedule is switched off".to_owned())
        } else {
            // The first field are the seconds.
            let cron = cron.split_once(' ').map_or(cron, |(_, cron)| cron);
            (Phase::Running, format!("runs begin at {cron}, {}", self.config.timezone))
        };
        Ok(RunState { phase, reason: Some(reason), steps: Vec::new() })
    }

    async fn cancel(&self, run: &str) -> Result<(), Error> {
        let request = |path: String| Request::post(path, None, Repeat::Safe);
        if let Some(schedule) = run.strip_prefix(SCHEDULE) {
            let what = format!("delete the schedule {schedule}");
            let path = format!("apis/v2beta1/recurringruns/{}", encoded(schedule));
            return match self.ask(&what, Request::delete(path)).await {
                // Somebody else has deleted it.
                Ok(_) | Err(Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(error),
            };
        }
        if self.run(run).await?.phase().is_final() {
            return Ok(());
        }
        let what = format!("cancel run {run}");
        let ended = self.ask(&what, request(format!("apis/v2beta1/runs/{}:terminate", encoded(run)))).await;
        match ended {
            Ok(_) => Ok(()),
            // It may have ended just now.
            Err(error) => match self.run(run).await {
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
        let mut told = from;
        loop {
            let now = self.run(run).await?;
            let steps = now.steps();
            let Some((task, _)) = steps.iter().find(|(_, name)| *name == step) else {
                let steps = steps.into_values().collect();
                return Err(Error::NoStep { run: run.to_owned(), step: step.to_owned(), steps });
            };
            let ended = now.state().steps.iter().any(|state| state.name == step && state.phase.is_final());
            let text = match now.child(task, step) {
                Some(child) => self.text_of(run, step, &log::pods(&now.pipeline_spec, task, child)).await,
                None => Ok(String::new()),
            };
            // A pod that is being made has no log yet.
            let text = match text {
                Err(Error::NoLog { .. }) if !ended => String::new(),
                text => text?,
            };
            // What has no end of line yet is the beginning of a line.
            let whole =
                if ended { text.as_str() } else { text.rsplit_once('\n').map_or("", |(whole, _)| whole) };
            for new in whole.lines().skip(told) {
                line(new);
                told += 1;
            }
            if ended || follow == Follow::No {
                return Ok(told);
            }
            tokio::time::sleep(self.pause).await;
        }
    }

    /// What the pods of a step printed, one after the other.
    async fn text_of(&self, run: &str, step: &str, pods: &[Vec<String>]) -> Result<String, Error> {
        let what = format!("read the log of step {step}");
        let (mut text, mut found, mut last) = (String::new(), false, String::new());
        'pods: for names in pods {
            for name in names {
                let path = format!("apis/v1alpha1/runs/{}/nodes/{}/log", encoded(run), encoded(name));
                match self.ask(&what, Request::get(path)).await {
                    // An error comes with the status 200, too: the header is written before the pod is asked.
                    Ok(answer) if answer.json().get("error_message").is_some() => last = answer.reason(),
                    Ok(answer) => {
                        text.push_str(&answer.text);
                        found = true;
                        continue 'pods;
                    }
                    Err(Error::Refused { reason, .. } | Error::NotFound { reason, .. }) => last = reason,
                    Err(error) => return Err(error),
                }
            }
            // There are no further tries.
            break;
        }
        if found {
            return Ok(text);
        }
        let url = self.page(&format!("runs/details/{run}"));
        Err(Error::NoLog { step: step.to_owned(), reason: last, url })
    }

    /// A page of the user interface.
    fn page(&self, path: &str) -> String {
        format!("{}/#/{path}", self.config.host.as_str().trim_end_matches('/'))
    }
}

/// What is made.
#[derive(Clone, Copy)]
enum Kind {
    Run,
    Schedule,
}

impl Kind {
    /// The collection, the field of a list of them, and the field with the ID.
    const fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Run => ("runs", "runs", "run_id"),
            Self::Schedule => ("recurringruns", "recurringRuns", "recurring_run_id"),
        }
    }
}

/// A filter for the things of a name (`backend/api/v2beta1/filter.proto`).
fn named(name: &str) -> String {
    let predicate = json!({ "operation": "EQUALS", "key": "display_name", "string_value": name });
    encoded(&json!({ "predicates": [predicate] }).to_string())
}

fn encoded(text: &str) -> String {
    // In queries `+` stands for a space, in paths it does not.
    byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

impl Service for Kubeflow {
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
