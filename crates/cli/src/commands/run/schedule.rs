//! `longshore schedule`: pipelines that run by themselves.

use std::collections::BTreeMap;

use futures::future::join_all;
use jiff::Timestamp;
use longshore_orchestrator::{Phase, Service};
use longshore_stack::{Elsewhere, Run, RunStatus, State};
use serde::Serialize;

use super::record::{SHORT, service};
use crate::{
    args::schedule::ScheduleCommand,
    context::Context,
    failure::Failure,
    output::{
        self,
        table::{Align, Table},
    },
    runtime,
};

/// Does what a subcommand says.
pub(crate) fn schedules(context: &Context, command: ScheduleCommand) -> Result<(), Failure> {
    let state = context.state()?;
    match command {
        ScheduleCommand::List { output } => {
            let schedules = asked(context, &state)?;
            match output.data() {
                Some(format) => Ok(output::data(format, &schedules)?),
                None => print(schedules),
            }
        }
        ScheduleCommand::Delete { schedule } => delete(context, &state, &schedule),
    }
}

/// A schedule as programs read it.
#[derive(Serialize)]
struct View {
    run: String,
    pipeline: String,
    stack: String,
    orchestrator: String,
    /// What the orchestrator calls it.
    name: String,
    made: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// How far it is, unless the orchestrator does not say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<Phase>,
    /// What the orchestrator says of it, or why it says nothing.
    says: String,
}

/// Why there is nothing that could be asked, in a line.
fn reason(failure: Failure) -> String {
    match failure {
        Failure::Usage(reason) => reason,
        Failure::Failed(error) => error.to_string(),
        Failure::Said | Failure::Interrupted | Failure::Exit(_) => "it cannot be asked".to_owned(),
    }
}

/// The schedules, with what their orchestrators say of them, all of which are asked at once.
fn asked(context: &Context, state: &State) -> Result<Vec<View>, Failure> {
    let runs: Vec<(Run, Elsewhere)> =
        state.schedules()?.into_iter().filter_map(|run| Some((run.clone(), run.elsewhere?))).collect();
    let mut services: BTreeMap<&str, Result<Box<dyn Service>, String>> = BTreeMap::new();
    for (run, elsewhere) in &runs {
        services
            .entry(&elsewhere.orchestrator)
            .or_insert_with(|| service(context, state, run, elsewhere).map_err(reason));
    }
    let view = async |(run, elsewhere): &(Run, Elsewhere)| {
        let said = match services.get(elsewhere.orchestrator.as_str()) {
            Some(Ok(service)) => service.status(&elsewhere.run).await.map_err(|error| error.to_string()),
            Some(Err(error)) => Err(error.clone()),
            None => Err(String::new()),
        };
        let (phase, says) = match said {
            Ok(found) => (Some(found.phase), found.reason.unwrap_or_default()),
            Err(error) => (None, error),
        };
        View {
            run: run.id.clone(),
            pipeline: run.pipeline.clone(),
            stack: run.stack.clone(),
            orchestrator: elsewhere.orchestrator.clone(),
            name: elsewhere.run.clone(),
            made: run.started,
            url: elsewhere.url.clone(),
            phase,
            says,
        }
    };
    runtime::block_on(async { Ok(join_all(runs.iter().map(view)).await) })
}

/// What each one says has a line of its own: sentences fit in no column.
fn print(schedules: Vec<View>) -> Result<(), Failure> {
    let mut table = Table::new(["RUN", "PIPELINE", "ORCHESTRATOR", "MADE"].map(|name| (name, Align::Left)));
    let mut said = Vec::new();
    for View { run, pipeline, orchestrator, made, says, .. } in schedules {
        let short: String = run.chars().take(SHORT).collect();
        said.push(format!("{short}: {says}"));
        table.row([short, pipeline, orchestrator, made.strftime("%Y-%m-%d %H:%M").to_string()]);
    }
    table.print_fitted()?;
    if !said.is_empty() {
        output::line("")?;
    }
    said.iter().try_for_each(|line| output::line(line))?;
    Ok(())
}

/// The schedule of that name: of the only one of a pipeline, or by how its run begins.
fn named(state: &State, name: &str) -> Result<Run, Failure> {
    let schedules = state.schedules()?;
    let mut of_pipeline = schedules.iter().filter(|run| run.pipeline == name);
    match (of_pipeline.next(), of_pipeline.next()) {
        (Some(one), None) => Ok(one.clone()),
        (Some(_), Some(_)) => Err(Failure::Usage(format!(
            "pipeline {name} has several schedules; give one of these runs: {}",
            schedules
                .iter()
                .filter(|run| run.pipeline == name)
                .map(|run| run.id.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        ))),
        _ => Ok(state.run_named(name)?),
    }
}

fn delete(context: &Context, state: &State, name: &str) -> Result<(), Failure> {
    let run = named(state, name)?;
    let Some(elsewhere) = run.elsewhere.as_ref().filter(|_| run.status == RunStatus::Scheduled) else {
        return Err(Failure::Usage(format!(
            "run {} is no schedule, or it was deleted; `longshore schedule list` lists them",
            run.id
        )));
    };
    let service = service(context, state, &run, elsewhere)?;
    runtime::block_on(async { Ok(service.cancel(&elsewhere.run).await?) })?;
    state.end_schedule(elsewhere)?;
    Ok(output::line(&format!("deleted the schedule of pipeline {}: {}", run.pipeline, elsewhere.run))?)
}
