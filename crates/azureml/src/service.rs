//! Azure Machine Learning's API: Resource Manager for what there is in a workspace, and the history of its region for what
//! runs of nodes have come to.

use std::{sync::Arc, time::Duration};

use futures::{
    FutureExt,
    future::{BoxFuture, try_join_all},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use jiff::Timestamp;
use longshore_auth::{AzureApi, connector::Connector};
use longshore_endpoint::{Endpoint, Hosts, Pauses, Web};
use longshore_kubeflow::exchange::{Answer, Api, Body, Repeat, Request};
use longshore_orchestrator::{Document, Follow, RunState, Service, ServiceError, Submission, Workflow};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use url::Url;
use uuid::Uuid;

use crate::{
    Asset, Config, Error, Plan, Schedule,
    job::{Job, NodeRun},
    log::{Lines, Unread, address},
    schedule::{SCHEDULE, state},
};

/// The version of Resource Manager's API (`Microsoft.MachineLearningServices`).
const VERSION: &str = "api-version=2024-04-01";
/// Resource Manager of the public cloud, for what no token will be had for anyway.
const PUBLIC: &str = "https://management.azure.com";
/// A token for Azure Machine Learning, which pipeline jobs are submitted with besides that for Resource Manager.
const MACHINE_LEARNING_TOKEN: &str = "x-azureml-token";
/// How many components are made at once.
const AT_ONCE: usize = 8;
/// Pages that a listing may have; a service that never ends would be asked for ever.
const MOST_PAGES: usize = 1000;
/// How often a log that grows, and a schedule that is being made, are asked for.
const PAUSE: Duration = Duration::from_secs(5);
/// How often a schedule is asked for until it is made.
const MOST_QUESTIONS: u32 = 60;

/// Azure Machine Learning, in a workspace.
#[derive(Debug)]
pub struct AzureMl {
    config: Config,
    connector: Arc<Connector>,
    manager: Api,
    /// The history of runs, in the workspace's region.
    history: OnceCell<Api>,
    web: Web,
    hosts: Hosts,
    pauses: Pauses,
    pause: Duration,
}

impl AzureMl {
    /// Azure Machine Learning as a configuration names it, with the credentials of a connector of type azure.
    pub fn new(config: Config, connector: Arc<Connector>, web: Web, hosts: &Hosts) -> Self {
        let url = connector.azure_resource_manager().and_then(|url| Url::parse(url).ok());
        let endpoint = match url {
            Some(url) if url.scheme() == "https" && url.path() == "/" => {
                let name = Endpoint { url, authorities: None }.name();
                hosts.registry(&name).server
            }
            Some(url) => Endpoint { url, authorities: None },
            None => hosts.registry(PUBLIC.trim_start_matches("https://")).server,
        };
        let manager = Api::new(web.clone(), endpoint);
        let (hosts, pauses) = (hosts.clone(), Pauses::default());
        let history = OnceCell::new();
        Self { config, connector, manager, history, web, hosts, pauses, pause: PAUSE }
    }

    /// The same with other pauses: between tries, and between questions for what grows or is being made.
    pub fn with_pauses(mut self, pauses: Pauses, pause: Duration) -> Self {
        self.manager = self.manager.with_pauses(pauses);
        self.pauses = pauses;
        self.pause = pause;
        self
    }

    async fn token(&self, what: &str, api: AzureApi) -> Result<String, Error> {
        let token = self.connector.azure_access_token(api).await;
        let token = token.map_err(|source| Error::Credential { what: what.to_owned(), source })?;
        Ok(token.expose().to_owned())
    }

    /// Asks, with a token; a second time with a new one, if the first is not accepted. `what` follows "cannot".
    async fn send(
        &self,
        what: &str,
        api: &Api,
        audience: AzureApi,
        request: Request,
    ) -> Result<Answer, Error> {
        let Request { method, path, body, repeat, .. } = request;
        let mut renewed = false;
        loop {
            let mut headers = HeaderMap::new();
            let secret = |text: &str| {
                HeaderValue::from_str(text).ok().map(|mut value| {
                    value.set_sensitive(true);
                    value
                })
            };
            if let Some(value) = secret(&format!("Bearer {}", self.token(what, audience).await?)) {
                headers.insert(header::AUTHORIZATION, value);
            }
            if method == Method::PUT
                && let Some(value) = secret(&self.token(what, AzureApi::MachineLearning).await?)
            {
                headers.insert(MACHINE_LEARNING_TOKEN, value);
            }
            let request =
                Request { method: method.clone(), path: path.clone(), headers, body: body.clone(), repeat };
            let answer = api
                .send(&request)
                .await
                .map_err(|source| Error::NoAnswer { what: what.to_owned(), source })?;
            if answer.status == StatusCode::UNAUTHORIZED && !renewed {
                self.connector.forget_azure_access_tokens();
                renewed = true;
                continue;
            }
            return Ok(answer);
        }
    }

    /// Asks Resource Manager for something below the workspace.
    async fn manage(
        &self,
        what: &str,
        method: Method,
        rest: &str,
        body: Option<Value>,
    ) -> Result<Answer, Error> {
        let workspace = self.config.workspace_id();
        let path = format!("{}{rest}?{VERSION}", workspace.trim_start_matches('/'));
        // All that is made has its name before: made twice, it is there once.
        let (headers, body) = (HeaderMap::new(), body.map(Body::Json));
        let request = Request { method, path, headers, body, repeat: Repeat::Safe };
        let answer = self.send(what, &self.manager, AzureApi::ResourceManager, request).await?;
        if answer.status.is_success() { Ok(answer) } else { Err(Error::refused(what, &answer, &self.config)) }
    }

    fn unexpected(what: &str, api: &Api) -> Error {
        Error::Unexpected { what: what.to_owned(), host: api.host() }
    }

    /// Makes an environment or a component, which is named after what it holds.
    async fn make(&self, what: &str, asset: &Asset) -> Result<(), Error> {
        let rest = asset.id.strip_prefix(&self.config.workspace_id()).unwrap_or(&asset.id);
        match self.manage(what, Method::PUT, rest, Some(asset.body.clone())).await {
            // Another submission has made the same.
            Err(Error::Refused { status: StatusCode::CONFLICT, .. }) | Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn submit(&self, workflow: &Workflow) -> Result<Submission, Error> {
        let plan = Plan::new(workflow, &self.config)?;
        let what = format!("submit pipeline {}", workflow.pipeline);
        let random = Uuid::now_v7().simple().to_string();
        let unique = random.get(24..).unwrap_or(&random);
        let run = format!("{}-{}-{unique}", plan.name, Timestamp::now().strftime("%Y%m%d%H%M%S"));
        // Neither of them runs. The job comes last, whole or not at all.
        for assets in [&plan.environments, &plan.components] {
            for some in assets.chunks(AT_ONCE) {
                let making: Vec<_> = some.iter().map(|asset| self.make(&what, asset)).collect();
                try_join_all(making).await?;
            }
        }
        if let Some(schedule) = plan.schedule {
            return self.submit_schedule(workflow, schedule).await;
        }
        let made = self.manage(&what, Method::PUT, &format!("/jobs/{run}"), Some(plan.job)).await;
        let url = match made {
            Ok(answer) => serde_json::from_value::<Job>(answer.json()).ok().and_then(|job| job.studio()),
            // An answer may have been lost, and what came after it refused: nobody else has a job of this name.
            Err(error) => match self.job(&run).await {
                Ok(job) => job.studio(),
                Err(Error::Refused { status: StatusCode::NOT_FOUND, .. }) => return Err(error),
                Err(_) => {
                    // Nobody knows of it: it must not run, if it does.
                    let _ = self.manage(&what, Method::POST, &format!("/jobs/{run}/cancel"), None).await;
                    return Err(error);
                }
            },
        };
        let url = url.unwrap_or_else(|| self.studio(&run));
        Ok(Submission { artifacts: Some(workflow.store.run(&run)), url: Some(url), run })
    }

    /// Makes the schedule of a pipeline, or changes the one that it has.
    async fn submit_schedule(&self, workflow: &Workflow, schedule: Schedule) -> Result<Submission, Error> {
        let Schedule { name, body } = schedule;
        let what = format!("submit the schedule of pipeline {}", workflow.pipeline);
        self.manage(&what, Method::PUT, &format!("/{SCHEDULE}{name}"), Some(body)).await?;
        self.made(&what, &name).await?;
        let url = self.studio(&format!("schedules/{name}"));
        Ok(Submission { run: format!("{SCHEDULE}{name}"), artifacts: None, url: Some(url) })
    }

    async fn schedule(&self, what: &str, name: &str) -> Result<Value, Error> {
        let answer = self.manage(what, Method::GET, &format!("/{SCHEDULE}{}", segment(name)), None).await?;
        Ok(answer.json())
    }

    /// Waits until what was asked of a schedule is done.
    async fn made(&self, what: &str, name: &str) -> Result<(), Error> {
        for _ in 0..MOST_QUESTIONS {
            let schedule = self.schedule(what, name).await?;
            let found = schedule.pointer("/properties/provisioningState").and_then(Value::as_str);
            match found {
                Some("Succeeded") => return Ok(()),
                Some(state @ ("Failed" | "Canceled")) => {
                    let url = self.studio(&format!("schedules/{name}"));
                    return Err(Error::NotMade { what: what.to_owned(), state: state.to_owned(), url });
                }
                _ => tokio::time::sleep(self.pause).await,
            }
        }
        Err(Self::unexpected(what, &self.manager))
    }

    /// Deletes a schedule, which must be switched off before. One that is gone is deleted.
    async fn delete_schedule(&self, name: &str) -> Result<(), Error> {
        let what = format!("delete the schedule {name}");
        let mut schedule = match self.schedule(&what, name).await {
            Err(Error::Refused { status: StatusCode::NOT_FOUND, .. }) => return Ok(()),
            found => found?,
        };
        let rest = format!("/{SCHEDULE}{}", segment(name));
        if schedule["properties"]["isEnabled"] != false {
            let mut properties = schedule["properties"].take();
            if let Some(properties) = properties.as_object_mut() {
                properties.remove("provisioningState");
                properties.insert("isEnabled".to_owned(), json!(false));
            }
            self.manage(&what, Method::PUT, &rest, Some(json!({ "properties": properties }))).await?;
            self.made(&what, name).await?;
        }
        self.manage(&what, Method::DELETE, &rest, None).await.map(drop)
    }

    /// Where a run or a schedule is shown, if the job does not say it.
    fn studio(&self, run: &str) -> String {
        let studio = match self.connector.azure_resource_manager() {
            Some("https://management.chinacloudapi.cn") => "https://studio.ml.azure.cn",
            Some("https://management.usgovcloudapi.net") => "https://ml.azure.us",
            _ => "https://ml.azure.com",
        };
        let page = if run.starts_with(SCHEDULE) { "schedules".to_owned() } else { format!("runs/{run}") };
        format!("{studio}/{page}?wsid={}", self.config.workspace_id())
    }

    async fn job(&self, run: &str) -> Result<Job, Error> {
        let what = format!("read the status of run {run}");
        let answer = self.manage(&what, Method::GET, &format!("/jobs/{}", segment(run)), None).await?;
        serde_json::from_value(answer.json()).map_err(|_| Self::unexpected(&what, &self.manager))
    }

    /// The API of the workspace's region. The workspace says where it is; tokens go there only if the name is one of Azure's.
    async fn history(&self, what: &str) -> Result<&Api, Error> {
        let find = || async {
            let workspace = self.manage(what, Method::GET, "", None).await?.json();
            let url = workspace.pointer("/properties/discoveryUrl").and_then(Value::as_str);
            let url = url.and_then(|url| Url::parse(url).ok());
            let host = url.as_ref().and_then(Url::host_str).unwrap_or_default();
            let is_plain = url.as_ref().is_some_and(|url| url.scheme() == "https" && url.port().is_none());
            if !is_plain || !self.connector.serves_azure_machine_learning(host) {
                return Err(Error::Region { what: what.to_owned(), host: host.to_owned() });
            }
            Ok(Api::new(self.web.clone(), self.hosts.registry(host).server).with_pauses(self.pauses))
        };
        self.history.get_or_try_init(find).await
    }

    async fn node_runs(&self, run: &str) -> Result<Vec<NodeRun>, Error> {
        let what = format!("read the status of the steps of run {run}");
        let api = self.history(&what).await?;
        let path =
            format!("history/v1.0{}/runs/{}/children?$top=500", self.config.workspace_id(), segment(run));
        let (mut runs, mut next) = (Vec::new(), Some(path.clone()));
        for _ in 0..MOST_PAGES {
            let Some(path_of_page) = next.take() else { break };
            let request = Request::get(path_of_page);
            let answer = self.send(&what, api, AzureApi::MachineLearning, request).await?;
            if !answer.status.is_success() {
                return Err(Error::refused(&what, &answer, &self.config));
            }
            let mut page = answer.json();
            let page_runs = serde_json::from_value::<Vec<NodeRun>>(page["value"].take())
                .map_err(|_| Self::unexpected(&what, api))?;
            runs.extend(page_runs);
            let token = page["continuationToken"].as_str().filter(|token| !token.is_empty());
            next = token.map(|token| format!("{path}&$continuationtoken={}", segment(token)));
        }
        Ok(runs)
    }

    async fn status(&self, run: &str) -> Result<RunState, Error> {
        if let Some(name) = run.strip_prefix(SCHEDULE) {
            return Ok(state(
                &self.schedule(&format!("read the status of the schedule {name}"), name).await?,
            ));
        }
        let job = self.job(run).await?;
        Ok(job.state(&self.node_runs(run).await?))
    }

    async fn cancel(&self, run: &str) -> Result<(), Error> {
        if let Some(name) = run.strip_prefix(SCHEDULE) {
            return self.delete_schedule(name).await;
        }
        if self.job(run).await?.phase().is_final() {
            return Ok(());
        }
        let what = format!("cancel run {run}");
        let rest = format!("/jobs/{}/cancel", segment(run));
        match self.manage(&what, Method::POST, &rest, None).await {
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
        let mut lines = Lines::default();
        loop {
            let job = self.job(run).await?;
            let steps: Vec<String> = job.steps().into_values().collect();
            if !steps.iter().any(|name| name == step) {
                return Err(Error::NoStep { run: run.to_owned(), step: step.to_owned(), steps });
            }
            let runs = self.node_runs(run).await?;
            let found = job.run_of(step, &runs);
            let ended = job.phase().is_final() || found.is_some_and(|found| found.phase().is_final());
            if let Some(id) = found.and_then(NodeRun::id) {
                let url = || job.studio().unwrap_or_else(|| self.studio(run));
                self.read_log((step, id), &mut lines, from, line, url).await?;
            }
            if ended || follow == Follow::No {
                lines.finish(from, line);
                return Ok(lines.count().max(from));
            }
            tokio::time::sleep(self.pause).await;
        }
    }

    /// Reads what the run of a step has printed since.
    async fn read_log(
        &self,
        (step, id): (&str, &str),
        lines: &mut Lines,
        from: usize,
        line: &(dyn Fn(&str) + Send + Sync),
        url: impl Fn() -> String,
    ) -> Result<(), Error> {
        let what = format!("read the log of step {step}");
        let api = self.history(&what).await?;
        let path = format!("history/v1.0{}/runs/{}/details", self.config.workspace_id(), segment(id));
        let answer = self.send(&what, api, AzureApi::MachineLearning, Request::get(path)).await?;
        if !answer.status.is_success() {
            return Err(Error::refused(&what, &answer, &self.config));
        }
        let Some(address) = address(&answer.json()) else { return Ok(()) };
        match lines.read((&self.web, &self.hosts, self.pauses), &address, from, line).await {
            Ok(()) => Ok(()),
            Err(Unread::Address) => Err(Self::unexpected(&what, api)),
            Err(Unread::NoAnswer(source)) => Err(Error::NoAnswer { what, source }),
            Err(Unread::Refused(status)) => Err(Error::Log { step: step.to_owned(), status, url: url() }),
        }
    }
}

/// A name as a segment of a path, or a value of a query. IDs have letters, digits and dashes; whatever else somebody types is
/// escaped.
fn segment(name: &str) -> String {
    url::form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>().replace('+', "%20")
}

impl Service for AzureMl {
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
