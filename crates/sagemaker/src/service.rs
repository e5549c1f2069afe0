//! `SageMaker`'s API, version 2017-07-24.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use http::Method;
use longshore_auth::{
    aws::{AmazonApi, AmazonCall, AmazonRefusal, AmazonRequest, AmazonRest},
    connector::Connector,
};
use longshore_endpoint::{Pauses, Stage, Tries};
use longshore_orchestrator::{Document, Follow, RunState, Service, ServiceError, Submission, Workflow};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    Config, Error, Plan, Schedule,
    error::Asked,
    execution::{Step, explained, phase},
    graph::{Planned, states},
    log::Lines,
    schedule,
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
    /// The steps of runs that were asked for: a run's definition does not change.
    planned: Mutex<BTreeMap<String, Arc<[Planned]>>>,
}

/// A pipeline that was made, or given a new definition.
struct Made {
    /// Its ARN.
    arn: Option<String>,
    /// Which version it is, where `SageMaker` says so.
    version: Option<Value>,
}

impl SageMaker {
    /// `SageMaker` as a configuration names it, with the credentials of a connector of type aws.
    pub fn new(config: Config, connector: Arc<Connector>) -> Self {
        let (pauses, planned) = (Pauses::default(), Mutex::default());
        Self { config, connector, pauses, pause: PAUSE, planned }
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
                    let error = Error::refused(what, (api.into(), action), refusal.clone(), &self.config);
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
        answer.map_err(|refusal| Error::refused(what, (api.into(), action), refusal, &self.config))
    }

    /// Asks the scheduler for an action on a schedule, until there is an answer that will not be another one later.
    async fn ask_scheduler(
        &self,
        what: &str,
        (action, method): (&str, Method),
        path: &str,
        input: Option<&Value>,
    ) -> Result<Result<Value, AmazonRefusal>, Error> {
        let body = input.map(Value::to_string).unwrap_or_default();
        let request = AmazonRequest {
            what,
            api: AmazonRest::Scheduler,
            region: Some(&self.config.region),
            method: &method,
            path,
            headers: &[("content-type", "application/json")],
            body: body.as_bytes(),
        };
        let answer = self.connector.send_to_amazon(&request).await?;
        tracing::debug!(action, status = %answer.status, "asked the scheduler");
        match answer.refusal {
            Some(refusal) => Ok(Err(refusal)),
            None => Ok(Ok(serde_json::from_str(&answer.text).unwrap_or(Value::Null))),
        }
    }

    fn refused_by_scheduler(&self, what: &str, action: &str, refusal: AmazonRefusal) -> Error {
        Error::refused(what, (Asked::Scheduler, action), refusal, &self.config)
    }

    async fn submit(&self, workflow: &Workflow) -> Result<Submission, Error> {
        let plan = Plan::new(workflow, &self.config)?;
        let what = format!("submit pipeline {}", workflow.pipeline);
        let made = self.put(&what, &plan).await?;
        if let Some(schedule) = &plan.schedule {
            return self.submit_schedule(workflow, schedule, made).await;
        }
        let mut input = json!({ "PipelineName": plan.name, "ClientRequestToken": token() });
        // Somebody may put another definition in its place before this one starts.
        if let Some(version) = made.version {
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

    /// Makes the schedule of a pipeline, or changes the one that it has.
    async fn submit_schedule(
        &self,
        workflow: &Workflow,
        schedule: &Schedule,
        made: Made,
    ) -> Result<Submission, Error> {
        let what = format!("submit the schedule of pipeline {}", workflow.pipeline);
        let mut input = schedule.request.clone();
        input["ClientToken"] = json!(token());
        if let Some(arn) = made.arn {
            input["Target"]["Arn"] = json!(arn);
        }
        let path = format!("schedules/{}", schedule.name);
        let (mut action, mut method) = ("CreateSchedule", Method::POST);
        let mut answer = self.ask_scheduler(&what, (action, method), &path, Some(&input)).await?;
        if answer.as_ref().is_err_and(|refusal| refusal.code == "ConflictException") {
            (action, method) = ("UpdateSchedule", Method::PUT);
            input["ClientToken"] = json!(token());
            answer = self.ask_scheduler(&what, (action, method), &path, Some(&input)).await?;
        }
        let answer = answer.map_err(|refusal| self.refused_by_scheduler(&what, action, refusal))?;
        let arn = answer.get("ScheduleArn").and_then(Value::as_str).map(str::to_owned);
        let region = &self.config.region;
        Ok(Submission {
            run: arn.ok_or(Error::Unexpected { what, field: "ScheduleArn" })?,
            artifacts: None,
            url: Some(format!(
                "https://{region}.console.aws.amazon.com/scheduler/home?region={region}#schedules/{}/{}",
                schedule::GROUP,
                schedule.name
            )),
        })
    }

    async fn schedule_state(&self, name: &str) -> Result<RunState, Error> {
        let what = format!("read the status of the schedule {name}");
        let action = "GetSchedule";
        let answer = self.ask_scheduler(&what, (action, Method::GET), &schedule_path(name), None).await?;
        let answer = answer.map_err(|refusal| self.refused_by_scheduler(&what, action, refusal))?;
        Ok(schedule::state(&answer))
    }

    async fn delete_schedule(&self, name: &str) -> Result<(), Error> {
        let what = format!("delete the schedule {name}");
        let action = "DeleteSchedule";
        match self.ask_scheduler(&what, (action, Method::DELETE), &schedule_path(name), None).await? {
            Ok(_) => Ok(()),
            // Somebody else has deleted it.
            Err(refusal) if refusal.code == "ResourceNotFoundException" => Ok(()),
            Err(refusal) => Err(self.refused_by_scheduler(&what, action, refusal)),
        }
    }

    /// Makes the pipeline, or gives one that is there the new definition.
    async fn put(&self, what: &str, plan: &Plan) -> Result<Made, Error> {
        let mut input = plan.request.clone();
        input["ClientRequestToken"] = json!(token());
        let api = AmazonApi::SageMaker;
        let action = "CreatePipeline";
        match self.call(what, api, action, &input).await? {
            Ok(made) => Ok(Made { arn: arn_of(&made), version: None }),
            Err(refusal) if exists(&refusal) => {
                let mut input = plan.request.clone();
                if let Some(input) = input.as_object_mut() {
                    input.remove("Tags");
                }
                let updated = self.ask(what, "UpdatePipeline", &input).await?;
                Ok(Made { arn: arn_of(&updated), version: updated.get("PipelineVersionId").cloned() })
            }
            Err(refusal) => Err(Error::refused(what, (api.into(), action), refusal, &self.config)),
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

    /// The steps of a run, by its definition.
    async fn planned(&self, run: &str) -> Result<Arc<[Planned]>, Error> {
        let known = self.planned.lock().unwrap_or_else(PoisonError::into_inner).get(run).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let what = format!("read the definition of run {run}");
        let action = "DescribePipelineDefinitionForExecution";
        let answer = self.ask(&what, action, &json!({ "PipelineExecutionArn": run })).await?;
        let definition = answer.get("PipelineDefinition").and_then(Value::as_str).unwrap_or_default();
        let planned = Planned::all(definition);
        let planned: Arc<[Planned]> =
            planned.ok_or(Error::Unexpected { what, field: "PipelineDefinition" })?.into();
        let mut all = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(run.to_owned(), Arc::clone(&planned));
        Ok(planned)
    }

    async fn status(&self, run: &str) -> Result<RunState, Error> {
        if let Some(schedule) = schedule::named(run) {
            return self.schedule_state(schedule).await;
        }
        let execution = self.describe(run).await?;
        let text = |field: &str| execution.get(field).and_then(Value::as_str).unwrap_or_default();
        let steps = self.steps(run).await?;
        let reason = Some(text("FailureReason")).filter(|reason| !reason.is_empty());
        let phase = phase(text("PipelineExecutionStatus"));
        let steps = states(&self.planned(run).await?, &steps, phase);
        Ok(RunState { phase, reason: reason.map(explained), steps })
    }

    async fn cancel(&self, run: &str) -> Result<(), Error> {
        if let Some(schedule) = schedule::named(run) {
            return self.delete_schedule(schedule).await;
        }
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
        if schedule::named(run).is_some() {
            return Err(Error::ScheduleHasNoLog(run.to_owned()));
        }
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
                Err(refusal) => {
                    return Err(Error::refused(&what, (api.into(), action), refusal, &self.config));
                }
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

fn arn_of(pipeline: &Value) -> Option<String> {
    pipeline.get("PipelineArn").and_then(Value::as_str).map(str::to_owned)
}

/// Where a schedule is. Names have letters, digits, dashes, underscores and dots; whatever else somebody types is escaped.
fn schedule_path(name: &str) -> String {
    let name: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
    format!("schedules/{}?groupName={}", name.replace('+', "%20"), schedule::GROUP)
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
