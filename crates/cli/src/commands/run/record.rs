//! What is done with runs: `longshore run list`, `describe`, `graph`, `logs`, `cancel`, `wait`.

use std::{
    fs,
    io::{BufRead, BufReader, IsTerminal},
    path::Path,
};

use longshore_orchestrator::{Follow, Service, StepState};
use longshore_stack::{ComponentKind, Elsewhere, Orchestrator, Run, RunId, RunStatus, State};
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
    runtime, services,
};

/// How much of a run's identity is listed for people.
const SHORT: usize = 16;

/// Does what a subcommand says.
pub(super) fn command(context: &Context, command: RunCommand) -> Result<(), Failure> {
    let state = context.state()?;
    match command {
        RunCommand::List { number, output } => list(&state, number, output),
        RunCommand::Describe { run, output } => describe(context, &state, &run, output),
        RunCommand::Graph { run, format } => {
            let run = state.run_named(&run)?;
            let drawn = match format {
                GraphFormat::Text => graph::text(&run.graph),
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
fn service(context: &Context, state: &State, elsewhere: &Elsewhere) -> Result<Box<dyn Service>, Failure> {
    let component = state.component(ComponentKind::Orchestrator, &elsewhere.orchestrator)?;
    match component.orchestrator() {
        Some(Orchestrator::Remote(orchestrator)) => services::service(context, state, &orchestrator, None),
        _ => Err(Failure::Usage(format!(
            "orchestrator `{}` runs steps on this machine",
            elsewhere.orchestrator
        ))),
    }
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
        let service = service(context, state, found)?;
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
            let took =
                step.finished.and_then(|finished| finished.duration_since(step.started).try_into().ok());
            table.row([
                step.name.clone(),
                step.status.as_str().to_owned(),
                took.map_or_else(|| "-".to_owned(), quantity::duration),
            ]);
        }
        table.print_fitted()?;
    }
    for Reason { step, reason } in reasons {
        output::line(&step.map_or_else(|| reason.clone(), |step| format!("{step}: {reason}")))?;
    }
    Ok(())
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
                let service = service(context, state, elsewhere)?;
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
    let service = service(context, state, elsewhere)?;
    runtime::block_on(async { Ok(service.cancel(&elsewhere.run).await?) })?;
    if let Some(id) = RunId::parse(&run.id) {
        state.end_run(id, RunStatus::Interrupted)?;
    }
    Ok(output::line(&format!("cancelled run {}", run.id))?)
}

fn wait(context: &Context, state: State, run: &str, result: Option<&Path>) -> Result<(), Failure> {
    let run = state.run_named(run)?;
    let Some(found) = &run.elsewhere else { return elsewhere::finish(result, &run) };
    let service = service(context, &state, found)?;
    if std::io::stderr().is_terminal() {
        anstream::eprintln!("run      {}, on {} as {}", run.id, found.orchestrator, found.run);
    }
    let run = elsewhere::watch(service, state, &run)?;
    elsewhere::finish(result, &run)
}
