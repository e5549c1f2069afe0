//! What is done with runs: `longshore run list`, `describe`, `graph`, `logs`, `cancel`, `wait`.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, IsTerminal},
    path::Path,
    sync::Arc,
    time::Duration,
};

use longshore_orchestrator::{Follow, Service, StepState};
use longshore_stack::{
    ArtifactStore, ComponentKind, Elsewhere, Orchestrator, Run, RunId, RunStatus, State, StepRun,
};
use serde::Serialize;

use super::elsewhere;
use crate::{
    args::{
        OutputFormat,
        run::{GraphFormat, RunCommand},
    },
    context::Context,
    failure::Failure,
    output::{
        self,
        facts::Facts,
        graph, quantity,
        table::{Align, Table},
    },
    runtime,
    services::{self, ConnectedStore},
};

/// How much of a run's identity is listed for people.
pub(super) const SHORT: usize = 16;

/// Does what a subcommand says.
pub(super) fn command(context: &Context, command: RunCommand) -> Result<(), Failure> {
    let state = context.state()?;
    match command {
        RunCommand::List { number, output } => list(&state, number, output),
        RunCommand::Describe { run, output } => describe(context, &state, &run, output),
        RunCommand::Graph { run, format } => {
            let run = state.run_named(&run)?;
            let drawn = match format {
                GraphFormat::Text => graph::noted(&run.graph, |step| how_far(&run, step)),
                GraphFormat::Mermaid => graph::mermaid(&run.graph),
                GraphFormat::Svg => graph::svg(&run.graph),
            };
            Ok(output::line(drawn.trim_end())?)
        }
        RunCommand::Logs { run, step, follow } => {
            logs(context, &state, &run, step.as_deref(), if follow { Follow::Yes } else { Follow::No })
        }
        RunCommand::Cancel { run } => cancel(context, &state, &run),
        RunCommand::Wait { run, result } => wait(context, state, &run, result.as_deref()),
    }
}

/// The orchestrator that has a run.
pub(super) fn service(
    context: &Context,
    state: &State,
    run: &Run,
    elsewhere: &Elsewhere,
) -> Result<Box<dyn Service>, Failure> {
    let component = state.component(ComponentKind::Orchestrator, &elsewhere.orchestrator)?;
    match component.orchestrator() {
        Some(Orchestrator::Remote(orchestrator)) => {
            services::service(context, state, &orchestrator, store_of(context, state, run), None)
        }
        _ => Err(Failure::Usage(format!(
            "orchestrator `{}` runs steps on this machine",
            elsewhere.orchestrator
        ))),
    }
}

/// The artifact store of a run, if its stack has it still and it is connected to a connector.
fn store_of(context: &Context, state: &State, run: &Run) -> Option<Arc<ConnectedStore>> {
    let ArtifactStore::Remote(store) = state.stack(&run.stack).ok()?.artifact_store else { return None };
    let artifacts = run.elsewhere.as_ref()?.artifacts.as_deref()?;
    // A stack may have been given another one since.
    if !artifacts.starts_with(&format!("{}/", store.uri)) {
        return None;
    }
    // One that cannot be used renews nothing; of the run is told all the same.
    ConnectedStore::open(context, state, &store).ok().flatten().map(Arc::new)
}

fn list(state: &State, number: u32, format: OutputFormat) -> Result<(), Failure> {
    let runs = state.runs(number)?;
    if let Some(format) = format.data() {
        return Ok(output::data(format, &runs)?);
    }
    let headings = ["RUN", "PIPELINE", "STACK", "STATUS", "STARTED", "TOOK"];
    // The beginning of a run names it, and neither a status nor a time is one without its middle.
    let mut table = Table::new(headings.map(|name| (name, Align::Left))).whole(&[0, 3, 4]);
    for run in runs {
        let took = run.finished.and_then(|finished| finished.duration_since(run.started).try_into().ok());
        table.row([
            // Its time and the first of its random digits: enough to name it.
            run.id.chars().take(SHORT).collect(),
            run.pipeline,
            run.stack,
            run.status.as_str().to_owned(),
            run.started.strftime("%Y-%m-%d %H:%M").to_string(),
            took.map_or_else(|| "-".to_owned(), quantity::duration),
        ]);
    }
    Ok(table.print_fitted()?)
}

/// A run as programs read it: what is remembered, with what its orchestrator says.
#[derive(Serialize)]
struct View {
    #[serde(flatten)]
    run: Run,
    reasons: Vec<Reason>,
}

/// Why a step, or the run, is as far as it is.
#[derive(Serialize)]
struct Reason {
    step: Option<String>,
    reason: String,
}

fn describe(context: &Context, state: &State, run: &str, format: OutputFormat) -> Result<(), Failure> {
    let mut run = state.run_named(run)?;
    let mut reasons = Vec::new();
    if let Some(found) = &run.elsewhere {
        let service = service(context, state, &run, found)?;
        let asked = runtime::block_on(async { Ok(service.status(&found.run).await?) })?;
        elsewhere::record(state, &run.id, &asked)?;
        reasons.extend(asked.reason.map(|reason| Reason { step: None, reason }));
        let of_step = |StepState { name, reason, .. }: StepState| {
            reason.map(|reason| Reason { step: Some(name), reason })
        };
        reasons.extend(asked.steps.into_iter().filter_map(of_step));
        run = state.run_named(&run.id)?;
    }
    if let Some(format) = format.data() {
        return Ok(output::data(format, &View { run, reasons })?);
    }
    let mut facts = Facts::new();
    facts.add("run", &run.id);
    facts.add("pipeline", &run.pipeline);
    facts.add("stack", &run.stack);
    facts.add_some("image", run.image.as_ref());
    facts.add("status", run.status.as_str());
    facts.add("started", run.started);
    facts.add_some("finished", run.finished);
    if let Some(elsewhere) = &run.elsewhere {
        facts.add("orchestrator", format!("{}, which calls it {}", elsewhere.orchestrator, elsewhere.run));
        facts.add_some("outputs", elsewhere.artifacts.as_ref());
        facts.add_some("page", elsewhere.url.as_ref());
    }
    facts.print()?;
    if !run.graph.is_empty() {
        output::line("")?;
        output::line(graph::text(&run.graph).trim_end())?;
    }
    if !run.steps.is_empty() {
        output::line("")?;
        let mut table = Table::new(["STEP", "STATUS", "TOOK"].map(|name| (name, Align::Left)));
        for step in &run.steps {
            let took = took(step).map_or_else(|| "-".to_owned(), quantity::duration);
            table.row([step.name.clone(), step.status.as_str().to_owned(), took]);
        }
        // Those that have not begun come last, in the pipeline's order.
        let begun: BTreeSet<&str> = run.steps.iter().map(|step| step.name.as_str()).collect();
        for step in run.graph.iter().filter(|step| !begun.contains(step.name.as_str())) {
            table.row([step.name.clone(), not_begun(&run).to_owned(), "-".to_owned()]);
        }
        table.print_fitted()?;
    }
    for Reason { step, reason } in reasons {
        output::line(&step.map_or_else(|| reason.clone(), |step| format!("{step}: {reason}")))?;
    }
    Ok(())
}

/// How long a step took that has ended.
fn took(step: &StepRun) -> Option<Duration> {
    step.finished?.duration_since(step.started).try_into().ok()
}

/// What is said of the steps of a run that have not begun.
const fn not_begun(run: &Run) -> &'static str {
    if run.finished.is_some() { "not run" } else { "waiting" }
}

/// How far a step of a run is, beside its name in the drawing. Nothing, before the first has begun.
fn how_far(run: &Run, step: &str) -> Option<String> {
    let found = run.steps.iter().find(|found| found.name == step);
    match found {
        Some(step) => {
            let took = took(step).map_or_else(String::new, |took| format!(", {}", quantity::duration(took)));
            Some(format!("{}{took}", step.status.as_str()))
        }
        None => (!run.steps.is_empty()).then(|| not_begun(run).to_owned()),
    }
}

fn logs(
    context: &Context,
    state: &State,
    run: &str,
    step: Option<&str>,
    follow: Follow,
) -> Result<(), Failure> {
    let run = state.run_named(run)?;
    let known: Vec<&str> = run.graph.iter().map(|step| step.name.as_str()).collect();
    if let Some(step) = step.filter(|step| !known.contains(step)) {
        return Err(Failure::Usage(format!(
            "run {} has no step `{step}`; it has: {}",
            run.id,
            known.join(", ")
        )));
    }
    let steps = step.map_or(known, |step| vec![step]);
    let several = steps.len() > 1;
    let width = steps.iter().map(|step| step.chars().count()).max().unwrap_or(0);
    for step in steps {
        let print = |line: &str| {
            let text = if several { format!("{step:<width$} | {line}") } else { line.to_owned() };
            // Whoever reads our output may have stopped to.
            let _ = output::line(&text);
        };
        match &run.elsewhere {
            Some(elsewhere) => {
                let service = service(context, state, &run, elsewhere)?;
                let work = async { Ok(service.logs(&elsewhere.run, step, 0, follow, &print).await?) };
                runtime::block_on(work)?;
            }
            None => local_log(&context.home.artifacts().join(&run.id), step, print)?,
        }
    }
    Ok(())
}

/// What a step printed that ran on this machine.
fn local_log(folder: &Path, step: &str, print: impl Fn(&str)) -> Result<(), Failure> {
    let path = longshore_orchestrator::log_file(folder, step);
    let file = match fs::File::open(&path) {
        Ok(file) => file,
        // It has not begun, or ran in this terminal's own process.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for line in BufReader::new(file).lines() {
        print(&line?);
    }
    Ok(())
}

fn cancel(context: &Context, state: &State, run: &str) -> Result<(), Failure> {
    let run = state.run_named(run)?;
    let Some(elsewhere) = &run.elsewhere else {
        return Err(Failure::Usage(format!("run {} is on this machine; press Ctrl-C where it runs", run.id)));
    };
    if !matches!(run.status, RunStatus::Running | RunStatus::Scheduled) {
        return Ok(output::line(&format!("run {} has ended already: {}", run.id, run.status.as_str()))?);
    }
    let service = service(context, state, &run, elsewhere)?;
    runtime::block_on(async { Ok(service.cancel(&elsewhere.run).await?) })?;
    if run.status == RunStatus::Scheduled {
        state.end_schedule(elsewhere)?;
    } else if let Some(id) = RunId::parse(&run.id) {
        state.end_run(id, RunStatus::Interrupted)?;
    }
    Ok(output::line(&format!("cancelled run {}", run.id))?)
}

fn wait(context: &Context, state: State, run: &str, result: Option<&Path>) -> Result<(), Failure> {
    let run = state.run_named(run)?;
    let Some(found) = &run.elsewhere else { return elsewhere::finish(result, &run) };
    if run.status == RunStatus::Scheduled {
        return Err(Failure::Usage(format!(
            "run {} is a schedule, which has no end; `longshore schedule list` says when its runs begin",
            run.id
        )));
    }
    let service = service(context, &state, &run, found)?;
    if std::io::stderr().is_terminal() {
        anstream::eprintln!("run      {}, on {} as {}", run.id, found.orchestrator, found.run);
    }
    let run = elsewhere::watch(service, state, &run)?;
    elsewhere::finish(result, &run)
}
