//! Airflow's own API (Airflow 3, `/api/v2`): runs that are begun from here, how far they are, and what they print.

use std::sync::{Mutex, PoisonError};

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use longshore_auth::Secret;
use longshore_endpoint::{Endpoint, Hosts, Pauses, Web};
use longshore_kubeflow::{
    Unreadable,
    exchange::{Answer, Api, Body, Repeat, Request},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use url::Url;

use crate::{
    Error,
    config::{Credentials, ServerConfig},
    run::{DagRun, TaskInstance, lines},
};

/// Tasks of a page.
const PAGE: usize = 100;
/// Pages that a listing may have.
const MOST_PAGES: usize = 1000;

/// Airflow's API server.
#[derive(Debug)]
pub(crate) struct Server {
    config: ServerConfig,
    api: Api,
    /// The token that name and password were exchanged for.
    token: Mutex<Option<Secret>>,
}

/// That a file could not be imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImportError {
    /// When it was tried.
    when: String,
    /// The last line of what Python said.
    pub(crate) reason: String,
}

impl Server {
    pub(crate) fn new(config: ServerConfig, web: Web, hosts: &Hosts) -> Self {
        let own = Endpoint { url: config.url.clone(), authorities: None };
        let mapped = hosts.registry(&own.name()).server;
        // `hosts.toml` may say where an HTTPS host is really served; a URL with another scheme says so itself.
        let url = if config.url.scheme() == "https" {
            mapped.at(config.url.path().trim_start_matches('/')).unwrap_or_else(|_| config.url.clone())
        } else {
            config.url.clone()
        };
        let api = Api::new(web, Endpoint { url, authorities: mapped.authorities });
        Self { config, api, token: Mutex::default() }
    }

    pub(crate) fn with_pauses(mut self, pauses: Pauses) -> Self {
        self.api = self.api.with_pauses(pauses);
        self
    }

    /// Where a run is shown.
    pub(crate) fn page(&self, dag: &str, run: &str) -> String {
        let url: &Url = &self.config.url;
        format!("{}/dags/{}/runs/{}", url.as_str().trim_end_matches('/'), encoded(dag), encoded(run))
    }

    /// The token that requests are sent with, if any is needed.
    async fn token(&self, what: &str) -> Result<Option<Secret>, Error> {
        let read = |named: &'static str, read: Result<Secret, Unreadable>| {
            read.map_err(|source| Error::Unreadable { what: what.to_owned(), named, source })
        };
        let (username, password) = match &self.config.credentials {
            Credentials::None => return Ok(None),
            Credentials::Token(source) => return read("token", source.read()).map(Some),
            Credentials::Password { username, password } => (username, read("password", password.read())?),
        };
        if let Some(token) = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            return Ok(Some(token));
        }
        let given = json!({ "username": username, "password": password.expose() });
        let request = Request::post("auth/token", Some(given), Repeat::Safe);
        let answer = self.exchange(what, request).await?;
        let token = answer.json().get("access_token").and_then(Value::as_str).map(Secret::new);
        match token {
            Some(token) if answer.status.is_success() => {
                *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
                Ok(Some(token))
            }
            _ if answer.status.is_success() => Err(self.unexpected(what)),
            _ => Err(self.refused(what, &answer)),
        }
    }

    async fn exchange(&self, what: &str, request: Request) -> Result<Answer, Error> {
        let answer = self.api.send(&request).await;
        answer.map_err(|source| Error::NoAnswer { what: what.to_owned(), source })
    }

    /// Asks, with a token; a second time with a new one, if the first is not accepted.
    async fn send(
        &self,
        what: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Answer, Error> {
        let mut renewed = false;
        loop {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
            if let Some(token) = self.token(what).await?
                && let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
            {
                value.set_sensitive(true);
                headers.insert(header::AUTHORIZATION, value);
            }
            let request = Request {
                method: method.clone(),
                path: format!("api/v2/{path}"),
                headers,
                body: body.clone().map(Body::Json),
                // What is made has its name before.
                repeat: Repeat::Safe,
            };
            let answer = self.exchange(what, request).await?;
            if answer.status == StatusCode::UNAUTHORIZED && !renewed {
                *self.token.lock().unwrap_or_else(PoisonError::into_inner) = None;
                renewed = true;
                continue;
            }
            return Ok(answer);
        }
    }

    fn unexpected(&self, what: &str) -> Error {
        Error::Unexpected { what: what.to_owned(), host: self.api.host() }
    }

    fn refused(&self, what: &str, answer: &Answer) -> Error {
        // FastAPI's refusals have the reason below `detail`.
        let reason = match answer.json().get("detail").and_then(Value::as_str) {
            Some(detail) => detail.trim_end_matches('.').to_owned(),
            None => answer.reason(),
        };
        let remedy = match answer.status {
            StatusCode::UNAUTHORIZED => {
                "; check the token, or name and password, of the orchestrator: --token=env:NAME, or --username with \
                 --password=env:NAME"
                    .to_owned()
            }
            StatusCode::FORBIDDEN => "; let its user read and edit the DAG and its runs".to_owned(),
            StatusCode::NOT_FOUND => format!(
                "; check the name, and that Airflow 3 or newer is served at --api={}",
                self.config.url.as_str().trim_end_matches('/')
            ),
            _ => String::new(),
        };
        Error::Refused { what: what.to_owned(), status: answer.status, reason, remedy }
    }

    async fn read<T: DeserializeOwned>(&self, what: &str, path: &str) -> Result<T, Error> {
        let answer = self.send(what, Method::GET, path, None).await?;
        if !answer.status.is_success() {
            return Err(self.refused(what, &answer));
        }
        serde_json::from_str(&answer.text).map_err(|_| self.unexpected(what))
    }

    /// What Airflow has read of a DAG: the text that its file gives it as documentation. None if it has not read the file.
    pub(crate) async fn documentation(&self, what: &str, dag: &str) -> Result<Option<String>, Error> {
        let answer = self.send(what, Method::GET, &format!("dags/{}/details", encoded(dag)), None).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => {
                let json = answer.json();
                let text = json.get("doc_md").and_then(Value::as_str).unwrap_or_default().to_owned();
                if json.is_object() { Ok(Some(text)) } else { Err(self.unexpected(what)) }
            }
            _ => Err(self.refused(what, &answer)),
        }
    }

    /// Why a file could not be imported the last time.
    pub(crate) async fn import_error(&self, what: &str, file: &str) -> Result<Option<ImportError>, Error> {
        let path = format!("importErrors?limit=100&filename_pattern={}", encoded(&format!("%{file}")));
        let answer: Value = self.read(what, &path).await?;
        let mut errors = answer.get("import_errors").and_then(Value::as_array).into_iter().flatten();
        let of = |error: &Value| {
            let text = |field: &str| error.get(field).and_then(Value::as_str).unwrap_or_default();
            let last = text("stack_trace").lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
            let is_it = text("filename").rsplit('/').next() == Some(file);
            is_it.then(|| ImportError { when: text("timestamp").to_owned(), reason: last.trim().to_owned() })
        };
        Ok(errors.find_map(of))
    }

    /// Begins a run of that name. That there is one already means that an answer was lost.
    pub(crate) async fn begin(&self, what: &str, dag: &str, run: &str) -> Result<(), Error> {
        let path = format!("dags/{}/dagRuns", encoded(dag));
        let given = json!({ "dag_run_id": run, "logical_date": null });
        let answer = self.send(what, Method::POST, &path, Some(given)).await?;
        if answer.status.is_success() || answer.status == StatusCode::CONFLICT {
            return Ok(());
        }
        Err(self.refused(what, &answer))
    }

    pub(crate) async fn run(&self, what: &str, dag: &str, run: &str) -> Result<DagRun, Error> {
        self.read(what, &format!("dags/{}/dagRuns/{}", encoded(dag), encoded(run))).await
    }

    pub(crate) async fn tasks(&self, what: &str, dag: &str, run: &str) -> Result<Vec<TaskInstance>, Error> {
        let mut tasks = Vec::new();
        for _ in 0..MOST_PAGES {
            let path = format!(
                "dags/{}/dagRuns/{}/taskInstances?limit={PAGE}&offset={}&order_by=map_index",
                encoded(dag),
                encoded(run),
                tasks.len()
            );
            let mut page: Value = self.read(what, &path).await?;
            let listed = page.get_mut("task_instances").map(Value::take).unwrap_or_default();
            let listed: Vec<TaskInstance> =
                serde_json::from_value(listed).map_err(|_| self.unexpected(what))?;
            let is_last = listed.len() < PAGE;
            tasks.extend(listed);
            if is_last {
                break;
            }
        }
        Ok(tasks)
    }

    /// The lines of a try of a task; none before there are any.
    pub(crate) async fn log(
        &self,
        what: &str,
        (dag, run): (&str, &str),
        task: &str,
        number: u32,
    ) -> Result<Vec<String>, Error> {
        let path = format!(
            "dags/{}/dagRuns/{}/taskInstances/{}/logs/{number}?full_content=true",
            encoded(dag),
            encoded(run),
            encoded(task)
        );
        let answer = self.send(what, Method::GET, &path, None).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(Vec::new()),
            status if status.is_success() => Ok(lines(&answer.json())),
            _ => Err(self.refused(what, &answer)),
        }
    }

    /// Ends a run: what it runs is stopped, and it has failed.
    pub(crate) async fn end(&self, what: &str, dag: &str, run: &str) -> Result<(), Error> {
        let path = format!("dags/{}/dagRuns/{}", encoded(dag), encoded(run));
        let answer = self.send(what, Method::PATCH, &path, Some(json!({ "state": "failed" }))).await?;
        if answer.status.is_success() { Ok(()) } else { Err(self.refused(what, &answer)) }
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
