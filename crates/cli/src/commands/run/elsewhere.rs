//! Runs on orchestrators elsewhere: built and pushed from here, run there, watched from here.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal, Write},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use jiff::Timestamp;
use longshore_oci::Reference;
use longshore_orchestrator::{
    Content, Document, Event, Follow, Phase, RunState, Service, StepState, Stream, Supervision, Target,
    Workflow,
};
use longshore_pipeline::{PipelineSpec, StepSpec};
use longshore_stack::{
    ArtifactStore, Elsewhere, GraphStep, NewRun, OrchestratorFlavor, RemoteOrchestrator, RemoteStore, Run,
    RunId, RunStatus, Stack, State, StepRun,
};
use serde_json::json;

use super::{
    given::{self, Given},
    images::{self, Images, Needed},
};
use crate::{
    args::{OutputFormat, run::RunArguments},
    commands::cache,
    context::Context,
    failure::Failure,
    output::{self, steps::Steps},
    runtime, services,
};

/// How often a run is asked for.
const PAUSE: Duration = Duration::from_secs(1);
/// How often in a row an orchestrator may be out of reach while a run is watched.
const LOST: u32 = 60;

/// Runs the pipeline there, or prints what would be submitted.
pub(super) fn run(
    context: &Context,
    arguments: &RunArguments,
    spec: &PipelineSpec,
    stack: &Stack,
    orchestrator: &RemoteOrchestrator,
) -> Result<(), Failure> {
    let ArtifactStore::Remote(store) = &stack.artifact_store else {
        return Err(Failure::Usage(format!(
            "stack `{}` keeps outputs in a folder of this machine, which {} cannot reach; give it another with `longshore \
             stack update {} --artifact-store …`",
            stack.name, orchestrator.name, stack.name
        )));
    };
    let state = context.state()?;
    if arguments.dry_run && arguments.output.data().is_none() {
        images::plan(context, arguments, spec, stack)?;
        return Ok(output::line(output::graph::text(&graph(spec)).trim_end())?);
    }
    let given = given::to_steps(context, arguments, &state, orchestrator, store)?;
    if !arguments.dry_run && spec.schedule.is_some() {
        // Before anything is built.
        longshore_kubernetes::refuse_expiring(&given.term)?;
    }
    let driver = store.uri.scheme().driver();
    let images = if arguments.dry_run {
        images::foreseen(context, arguments, spec, stack, driver)?
    } else {
        images::build(context, arguments, spec, stack, driver, Needed::There)?
    };
    if arguments.build_only {
        return images::finish(arguments, spec, &images);
    }
    let workflow = workflow(spec, orchestrator, store, &given, &images)?;
    let controller = match orchestrator.flavor {
        OrchestratorFlavor::Kubernetes if arguments.dry_run => {
            images::foreseen_controller(context, arguments, stack)?
        }
        OrchestratorFlavor::Kubernetes => Some(images::controller(context, arguments, stack)?),
        _ => None,
    };
    let service = services::service(context, &state, orchestrator, given.renewal.clone(), controller)?;
    if arguments.dry_run {
        return print(&service.documents(&workflow)?, arguments.output);
    }
    let first = images.first();
    let submission = runtime::block_on(async {
        let terms = service.terms(&workflow).await?;
        for notice in terms.iter().filter_map(|term| term.notice(&workflow, Timestamp::now())) {
            anstream::eprintln!("note     {notice}");
        }
        Ok(service.submit(&workflow).await?)
    })?;
    let elsewhere = Elsewhere {
        orchestrator: orchestrator.name.to_string(),
        run: submission.run,
        artifacts: submission.artifacts,
        url: submission.url,
    };
    cache::after_builds(context, &images.built);
    let id = RunId::new();
    // Airflow that is known by its files alone has that of the DAG, and starts it by its own rules: there is no run yet.
    let is_left = spec.schedule.is_some()
        || (orchestrator.flavor == OrchestratorFlavor::Airflow && elsewhere.artifacts.is_none());
    let status = if is_left { RunStatus::Scheduled } else { RunStatus::Running };
    let graph = graph(spec);
    // A schedule of the same name is in the place of the one before.
    state.end_schedule(&elsewhere)?;
    state.begin_run(NewRun {
        id,
        pipeline: &spec.name,
        stack: stack.name.as_str(),
        image: first,
        graph: &graph,
        elsewhere: Some(&elsewhere),
        status,
    })?;
    told(id, status, orchestrator, &elsewhere);
    let run = state.run_named(&id.to_string())?;
    if status == RunStatus::Scheduled || arguments.detach {
        return write_result(arguments.result.as_deref(), &run, first);
    }
    // The connections of the one that submitted ended with the runtime that they were made in.
    let service = services::service(context, &state, orchestrator, given.renewal, None)?;
    let run = watch(service, state, &run)?;
    finish(arguments.result.as_deref(), &run)
}

/// The steps and what they wait for.
pub(super) fn graph(spec: &PipelineSpec) -> Vec<GraphStep> {
    let step = |step: &StepSpec| GraphStep {
        name: step.name.clone(),
        upstream: step.upstream().into_iter().map(str::to_owned).collect(),
        outputs: step.outputs.clone(),
    };
    spec.steps.iter().map(step).collect()
}

fn workflow(
    spec: &PipelineSpec,
    orchestrator: &RemoteOrchestrator,
    store: &RemoteStore,
    given: &Given,
    images: &Images,
) -> Result<Workflow, Failure> {
    let target = Target {
        flavor: orchestrator.flavor.as_str(),
        store: store.uri.clone(),
        environment: store.environment.clone().into_iter().chain(given.environment.clone()).collect(),
        secrets: given.secrets.clone(),
        supervision: match orchestrator.flavor {
            OrchestratorFlavor::Sagemaker | OrchestratorFlavor::Azureml => Supervision::Entrypoint,
            _ => Supervision::Orchestrator,
        },
    };
    let image = |step: &StepSpec| images.of(&step.name).cloned();
    if let Some(step) = spec.steps.iter().find(|step| image(step).is_none()) {
        return Err(Failure::Usage(format!("step {} has no image", step.name)));
    }
    let fallback = images.first().cloned();
    let image = |step: &StepSpec| image(step).or_else(|| fallback.clone()).unwrap_or_else(none);
    Ok(Workflow { term: given.term.clone(), ..Workflow::new(spec, &target, image) })
}

/// Every step has an image: that was looked at just before.
#[expect(clippy::unreachable, reason = "the caller returns if a step has no image")]
fn none() -> Reference {
    unreachable!("a step without an image")
}

/// Prints documents: data as one stream of YAML or one list of JSON, text as it is.
fn print(documents: &[Document], format: OutputFormat) -> Result<(), Failure> {
    let mut values = Vec::new();
    for Document { name, content } in documents {
        match content {
            Content::Data(value) => values.push(value),
            Content::Text(text) => {
                anstream::eprintln!("# {name}");
                output::line(text.trim_end())?;
            }
        }
    }
    match (values.as_slice(), format) {
        ([], _) => Ok(()),
        ([one], OutputFormat::Json) => Ok(output::json(one)?),
        (_, OutputFormat::Json) => Ok(output::json(&values)?),
        _ => {
            for (position, value) in values.into_iter().enumerate() {
                if position > 0 {
                    output::line("---")?;
                }
                output::line(serde_saphyr::to_string(value).map_err(io::Error::other)?.trim_end())?;
            }
            Ok(())
        }
    }
}

fn told(id: RunId, status: RunStatus, orchestrator: &RemoteOrchestrator, elsewhere: &Elsewhere) {
    let verb = if status == RunStatus::Scheduled { "scheduled on" } else { "submitted to" };
    anstream::eprintln!("run      {id}");
    anstream::eprintln!(
        "         {verb} {} ({}) as {}",
        orchestrator.name,
        orchestrator.flavor.as_str(),
        elsewhere.run
    );
    if let Some(url) = &elsewhere.url {
        anstream::eprintln!("         {url}");
    }
}

/// What the user wants after Ctrl-C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Cancel,
    Detach,
    GoOn,
}

/// Shows a run until it ends, and remembers how.
pub(super) fn watch(service: Box<dyn Service>, state: State, run: &Run) -> Result<Run, Failure> {
    let service: Arc<dyn Service> = Arc::from(service);
    let steps = Arc::new(Steps::new(run.graph.iter().map(|step| step.name.as_str())));
    let id = run.id.clone();
    let name = run.elsewhere.as_ref().map(|elsewhere| elsewhere.run.clone()).unwrap_or_default();
    let state = Mutex::new(state);
    let ended = runtime::serve(async |mut stop| {
        let mut watched = Watched {
            service: Arc::clone(&service),
            steps: Arc::clone(&steps),
            logs: BTreeMap::new(),
            told: BTreeSet::new(),
        };
        let mut failures = 0;
        loop {
            let asked = tokio::select! {
                asked = service.status(&name) => Some(asked),
                () = &mut stop => None,
            };
            match asked {
                Some(Ok(found)) => {
                    failures = 0;
                    watched.show(&name, &found);
                    record(&state.lock().unwrap_or_else(PoisonError::into_inner), &id, &found)?;
                    if found.phase.is_final() {
                        watched.finish().await;
                        if let Some(reason) = &found.reason {
                            anstream::eprintln!("{reason}");
                        }
                        return Ok(());
                    }
                }
                Some(Err(error)) if error.is_retryable() && failures < LOST => {
                    if failures == 0 {
                        anstream::eprintln!("waiting  {error}");
                    }
                    failures += 1;
                }
                Some(Err(error)) => return Err(error.into()),
                None => match ask() {
                    Wish::Cancel => {
                        service.cancel(&name).await?;
                        anstream::eprintln!("cancelled");
                        stop = runtime::stop()?;
                    }
                    Wish::Detach => {
                        anstream::eprintln!(
                            "detached: the run goes on; `longshore run wait {id}` follows it, `longshore run cancel {id}` ends it"
                        );
                        return Err(Failure::Said);
                    }
                    Wish::GoOn => stop = runtime::stop()?,
                },
            }
            tokio::time::sleep(PAUSE).await;
        }
    });
    ended?;
    let state = state.into_inner().unwrap_or_else(PoisonError::into_inner);
    let run = state.run_named(&run.id)?;
    steps.finish_elsewhere(
        run.status,
        run.elsewhere.as_ref().and_then(|elsewhere| elsewhere.artifacts.as_deref()),
    );
    Ok(run)
}

/// Where somebody can answer. A script hands over its pipeline by standard input, and the terminal is there all the same.
fn terminal() -> Option<Box<dyn BufRead>> {
    if io::stdin().is_terminal() {
        return Some(Box::new(io::stdin().lock()));
    }
    let terminal = File::open("/dev/tty").ok()?;
    Some(Box::new(BufReader::new(terminal)))
}

/// Asks what Ctrl-C means. Where nobody can answer, the run goes on without this process.
fn ask() -> Wish {
    let Some(mut terminal) = io::stderr().is_terminal().then(terminal).flatten() else {
        return Wish::Detach;
    };
    anstream::eprint!("\nThe run goes on elsewhere. [c]ancel it, [d]etach from it, or go on watching? [d] ");
    let _ = io::stderr().flush();
    let mut answer = String::new();
    match terminal.read_line(&mut answer) {
        Ok(_) => match answer.trim().to_ascii_lowercase().as_str() {
            "c" | "cancel" => Wish::Cancel,
            "" | "d" | "detach" => Wish::Detach,
            _ => Wish::GoOn,
        },
        Err(_) => Wish::Detach,
    }
}

/// What has been shown of a run.
struct Watched {
    service: Arc<dyn Service>,
    steps: Arc<Steps>,
    /// What passes on the lines of each step that has begun.
    logs: BTreeMap<String, tokio::task::JoinHandle<()>>,
    /// What has been said of steps.
    told: BTreeSet<(String, String)>,
}

impl Watched {
    fn show(&mut self, run: &str, found: &RunState) {
        for step in &found.steps {
            let is_begun = matches!(step.phase, Phase::Running | Phase::Succeeded | Phase::Failed);
            if is_begun && !self.logs.contains_key(&step.name) {
                let handle = self.follow(run.to_owned(), step.name.clone());
                self.logs.insert(step.name.clone(), handle);
            }
            if let Some(reason) = step.reason.as_ref().filter(|_| step.phase != Phase::Skipped)
                && self.told.insert((step.name.clone(), reason.clone()))
            {
                self.steps.observe(&Event::Line { step: &step.name, stream: Stream::Error, line: reason });
            }
            if step.phase.is_final() && self.told.insert((step.name.clone(), String::new())) {
                self.steps.observe(&match step.phase {
                    Phase::Skipped => Event::StepSkipped { step: &step.name },
                    phase => Event::StepDone { step: &step.name, status: status_of(phase), took: took(step) },
                });
            }
        }
    }

    /// Passes on what a step prints, until it ends, over lost connections too.
    fn follow(&self, run: String, step: String) -> tokio::task::JoinHandle<()> {
        let (service, steps) = (Arc::clone(&self.service), Arc::clone(&self.steps));
        tokio::spawn(async move {
            let seen = Mutex::new(0_usize);
            for _ in 0..LOST {
                let from = *seen.lock().unwrap_or_else(PoisonError::into_inner);
                let line = |line: &str| {
                    *seen.lock().unwrap_or_else(PoisonError::into_inner) += 1;
                    steps.observe(&Event::Line { step: &step, stream: Stream::Output, line });
                };
                match service.logs(&run, &step, from, Follow::Yes, &line).await {
                    Ok(_) => return,
                    Err(error) if error.is_retryable() => tokio::time::sleep(PAUSE).await,
                    Err(error) => {
                        steps.observe(&Event::Line {
                            step: &step,
                            stream: Stream::Error,
                            line: &error.to_string(),
                        });
                        return;
                    }
                }
            }
        })
    }

    /// Waits a while for the last lines.
    async fn finish(&mut self) {
        let logs = std::mem::take(&mut self.logs);
        let all = join_all(logs.into_values());
        let _ = tokio::time::timeout(Duration::from_secs(10), all).await;
    }
}

fn took(step: &StepState) -> Duration {
    match (step.started, step.finished) {
        (Some(started), Some(finished)) => finished.duration_since(started).try_into().unwrap_or_default(),
        _ => Duration::ZERO,
    }
}

/// How a phase is remembered.
pub(super) const fn status_of(phase: Phase) -> RunStatus {
    match phase {
        Phase::Pending | Phase::Running => RunStatus::Running,
        Phase::Succeeded | Phase::Skipped => RunStatus::Succeeded,
        Phase::Failed => RunStatus::Failed,
        Phase::Cancelled => RunStatus::Interrupted,
    }
}

/// Remembers what an orchestrator says of a run.
pub(super) fn record(state: &State, id: &str, found: &RunState) -> Result<(), Failure> {
    let Some(id) = RunId::parse(id) else { return Ok(()) };
    for step in found.steps.iter().filter(|step| step.phase != Phase::Skipped) {
        let Some(started) = step.started else { continue };
        let status = status_of(step.phase);
        state.record_step(
            id,
            &StepRun { name: step.name.clone(), started, finished: step.finished, status },
        )?;
    }
    if found.phase.is_final() {
        state.end_run(id, status_of(found.phase))?;
    }
    Ok(())
}

/// Ends the command as the run ended.
pub(super) fn finish(result: Option<&Path>, run: &Run) -> Result<(), Failure> {
    match run.status {
        RunStatus::Succeeded | RunStatus::Scheduled => {}
        RunStatus::Interrupted => return Err(Failure::Interrupted),
        RunStatus::Failed | RunStatus::Running => return Err(Failure::Said),
    }
    let image = run.image.as_ref().and_then(|image| image.parse().ok());
    write_result(result, run, image.as_ref())
}

fn write_result(file: Option<&Path>, run: &Run, image: Option<&Reference>) -> Result<(), Failure> {
    let Some(file) = file else { return Ok(()) };
    let folder = run.elsewhere.as_ref().and_then(|elsewhere| elsewhere.artifacts.clone());
    let outputs: BTreeMap<_, _> = run
        .graph
        .iter()
        .map(|step| {
            let places = folder.iter().flat_map(|folder| {
                step.outputs.iter().map(move |output| {
                    (output.clone(), json!({"uri": format!("{folder}/{}/{output}", step.name)}))
                })
            });
            (step.name.clone(), places.collect::<BTreeMap<_, _>>())
        })
        .collect();
    let result = json!({
        "version": 2, "run_id": run.id, "status": run.status, "image": image, "outputs": outputs,
    });
    Ok(std::fs::write(file, serde_json::to_vec(&result)?)?)
}
