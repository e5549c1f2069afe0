//! `SageMaker`'s API, version 2017-07-24.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use longshore_auth::{
    aws::{AmazonApi, AmazonCall, AmazonRefusal},
    connector::Connector,
};
use longshore_endpoint::{Pauses, Stage, Tries};
use longshore_orchestrator::{Document, Follow, RunState, Service, ServiceError, Submission, Workflow};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    Config, Error, Plan,
    execution::{Step, explained, phase},
    log::Lines,
};

/// How often a log is asked for while it grows.
const PAUSE: Duration = Duration::from_secs(5);
/// Pages that a listing may have: 100 steps each, or 1 MB of a log.
const MOST_PAGES: usize = 10_000;

/// `SageMaker` in a region.
#[derive(Debug)]
pub struct SageMaker {
    config: Config,
    connector: Arc<Connector>,
    pauses: Pauses,
    pause: Duration,
}

impl SageMaker {
    /// `SageMaker` as a configuration names it, with the credentials of a connector of type aws.
    pub fn new(config: Config, connector: Arc<Connector>) -> Self {
        Self { config, connector, pauses: Pauses::default(), pause: PAUSE }
    }

    /// The same with other pauses: between tries, and between questions for a log that grows.
    pub fn with_pauses(mut self, pauses: Pauses, pause: Duration) -> Self {
        self.pauses = pauses;
        self.pause = pause;
        self
    }

    /// Asks until there is an answer that will not be another one later: Amazon says with 400 that it is busy, too. Each action
    /// may be asked for twice: those that make something have a token.
    async fn call(
        &self,
        what: &str,
        api: AmazonApi,
        action: &str,
        input: &Value,
    ) -> Result<Result<Value, AmazonRefusal>, Error> {
        let call = AmazonCall { what, api, region: &self.config.region, action, input };
        let mut tries = Tries::new(self.pauses);
        loop {
            match self.connector.call_amazon(&call).await? {
                Ok(answer) => return Ok(Ok(answer)),
                Err(refusal) => {
                    let error = Error::refused(what, (api, action), refusal.clone(), &self.config);
                    let pause = error.is_retryable().then(|| tries.failed(Stage::Connected, None)).flatten();
                    let Some(pause) = pause else { return Ok(Err(refusal)) };
                    tracing::debug!(code = %refusal.code, ?pause, "trying again");
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    async fn ask(&self, what: &str, action: &str, input: &Value) -> Result<Value, Error> {
        let api = AmazonApi::SageMaker;
        let answer = self.call(what, api, action, input).await?;
        answer.map_err(|refusal| Error::refused(what, (api, action), refusal, &self.config))
    }

    async fn submit(&self, workflow: &Workflow) -> Result<Submission, Error> {
        let plan = Plan::new(workflow, &self.config)?;
        let what = format!("submit pipeline {}", workflow.pipeline);
        let version = self.put(&what, &plan).await?;
        let mut input = json!({ "PipelineName": plan.name, "ClientRequestToken": token() });
        // Somebody may put another definition in its place before this one starts.
        if let Some(version) = version {
            input["PipelineVersionId"] = version;
        }
        let started = self.ask(&what, "StartPipelineExecution", &input).await?;
        let arn = started.get("PipelineExecutionArn").and_then(Value::as_str);
        let arn = arn.ok_or(Error::Unexpected { what, field: "PipelineExecutionArn" })?;
        let region = &self.config.region;
        Ok(Submission {
            artifacts: arn.rsplit('/').next().map(|execution| workflow.store.run(execution)),
            url: Some(format!(
                "https://{region}.console.aws.amazon.com/sagemaker/home?region={region}#/pipelines/{}",
                plan.name
            )),
            run: arn.to_owned(),
        })
    }

    /// Makes the pipeline, or gives one that is there the new definition. Which version it is, where `SageMaker` says so.
    async fn put(&self, what: &str, plan: &Plan) -> Result<Option<Value>, Error> {
        let mut input = plan.request.clone();
        input["ClientRequestToken"] = json!(token());
        let api = AmazonApi::SageMaker;
        let action = "CreatePipeline";
        match self.call(what, api, action, &input).await? {
            Ok(_) => Ok(None),
            Err(refusal) if exists(&refusal) => {
                let mut input = plan.request.clone();
                if let Some(input) = input.as_object_mut() {
                    input.remove("Tags");
                }
                let updated = self.ask(what, "UpdatePipeline", &input).await?;
                Ok(updated.get("PipelineVersionId").cloned())
            }
            Err(refusal) => Err(Error::refused(what, (api, action), refusal, &self.config)),
        }
    }

    async fn describe(&self, run: &str) -> Result<Value, Error> {
        let what = format!("read the status of run {run}");
        self.ask(&what, "DescribePipelineExecution", &json!({ "PipelineExecutionArn": run })).await
    }

    async fn steps(&self, run: &str) -> Result<Vec<Step>, Error> {
        let what = format!("list the steps of run {run}");
        let (mut steps, mut next) = (Vec::new(), None::<String>);
        for _ in 0..MOST_PAGES {
            let mut input =
                json!({ "PipelineExecutionArn": run, "MaxResults": 100, "SortOrder": "Ascending" });
            if let Some(token) = &next {
                input["NextToken"] = json!(token);
            }
            let mut page = self.ask(&what, "ListPipelineExecutionSteps", &input).await?;
            let listed = page.get_mut("PipelineExecutionSteps").map(Value::take).unwrap_or(json!([]));
            let listed: Vec<Step> = serde_json::from_value(listed)
                .map_err(|_| Error::Unexpected { what: what.clone(), field: "PipelineExecutionSteps" })?;
            steps.extend(listed);
            next = page.get("NextToken").and_then(Value::as_str).map(str::to_owned);
            if next.is_none() {
                break;
            }
        }
        Ok(steps)
    }

    async fn status(&self, run: &str) -> Result<RunState, Error> {
        let execution = self.describe(run).await?;
        let text = |field: &str| execution.get(field).and_then(Value::as_str).unwrap_or_default();
        let steps = self.steps(run).await?;
        let reason = Some(text("FailureReason")).filter(|reason| !reason.is_empty());
        Ok(RunState {
            phase: phase(text("PipelineExecutionStatus")),
            reason: reason.map(explained),
            steps: steps.iter().map(Step::state).collect(),
        })
    }

    async fn cancel(&self, run: &str) -> Result<(), Error> {
        let ended = async || {
            let execution = self.describe(run).await?;
            let status = execution.get("PipelineExecutionStatus").and_then(Value::as_str).unwrap_or_default();
            Ok::<_, Error>(phase(status).is_final() || status == "Stopping")
        };
        if ended().await? {
            return Ok(());
        }
        let what = format!("cancel run {run}");
        let input = json!({ "PipelineExecutionArn": run, "ClientRequestToken": token() });
        match self.ask(&what, "StopPipelineExecution", &input).await {
            Ok(_) => Ok(()),
            // It may have ended just now.
            Err(error) => match ended().await {
                Ok(true) => Ok(()),
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
        let mut lines = Lines::default();
        loop {
            let over = phase_of(&self.describe(run).await?).is_final();
            let steps = self.steps(run).await?;
            let found = steps.iter().find(|found| found.name() == step);
            if found.is_none() && (over || follow == Follow::No) {
                let steps = steps.iter().map(|step| step.name().to_owned()).collect();
                return Err(Error::NoStep { run: run.to_owned(), step: step.to_owned(), steps });
            }
            let ended = over || found.is_some_and(|found| found.state().phase.is_final());
            if let Some(job) = found.and_then(Step::job) {
                self.read_log(step, &job, &mut lines, from, line).await?;
            }
            if ended || follow == Follow::No {
                return Ok(lines.count().max(from));
            }
            tokio::time::sleep(self.pause).await;
        }
    }

    /// Reads what came since.
    async fn read_log(
        &self,
        step: &str,
        job: &crate::execution::Job,
        lines: &mut Lines,
        from: usize,
        line: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<(), Error> {
        let what = format!("read the log of step {step}");
        let (api, action) = (AmazonApi::Logs, "FilterLogEvents");
        let mut page = None;
        for _ in 0..MOST_PAGES {
            match self.call(&what, api, action, &lines.input(job, page.as_deref())).await? {
                Ok(answer) => page = lines.take(&answer, from, line),
                // There is no log group before the account's first job has printed something.
                Err(refusal) if refusal.code == "ResourceNotFoundException" => break,
                Err(refusal) => return Err(Error::refused(&what, (api, action), refusal, &self.config)),
            }
            if page.is_none() {
                break;
            }
        }
        lines.forget();
        Ok(())
    }
}

fn phase_of(execution: &Value) -> longshore_orchestrator::Phase {
    phase(execution.get("PipelineExecutionStatus").and_then(Value::as_str).unwrap_or_default())
}

/// Whether a pipeline of the name is there already.
fn exists(refusal: &AmazonRefusal) -> bool {
    refusal.code == "ConflictException" || refusal.message.contains("already exists")
}

/// A token that makes a request that is sent twice do what it does once: at least 32 characters.
fn token() -> String {
    Uuid::now_v7().simple().to_string()
}

impl Service for SageMaker {
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
