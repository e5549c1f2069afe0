//! `longshore run`: builds what a pipeline needs and runs it, and looks at runs.

mod elsewhere;
mod given;
mod images;
mod record;
mod schedule;

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, Read, Write},
    num::NonZeroU32,
    path::Path,
    sync::Arc,
};

use longshore_build::Built;
use longshore_oci::{Digest, MediaType, Reference};
use longshore_orchestrator::{
    ArtifactView, Capacity, Event, Interrupt, RunPlan, capacity,
    local::{self, Source},
    local_container::{self, Runner, StepImage},
};
use longshore_pipeline::{Overrides, PipelineSpec};
use longshore_sandbox::engine::{Engine as ContainerEngine, EngineKind};
use longshore_stack::{NewRun, Orchestrator, RunId, RunStatus, Stack};
use longshore_store::{ArchiveFormat, RepositoryPath, StoredManifest};
use serde_json::json;

use self::images::Needed;
pub(crate) use self::schedule::schedules;
use crate::{
    args::{
        Engine,
        run::{RunArguments, RunCommandLine},
    },
    commands::cache,
    context::Context,
    failure::Failure,
    output::{self, steps::Steps},
    project, runtime,
};

/// A pipeline specification is a few kilobytes; what is larger is something else.
const LARGEST_SPEC: u64 = 64 << 20;

/// `longshore run`
pub(crate) fn run(context: &Context, line: RunCommandLine) -> Result<(), Failure> {
    match (line.command, &line.arguments.spec) {
        (Some(command), _) => record::command(context, command),
        (None, Some(spec)) => pipeline(context, &line.arguments, spec),
        (None, None) => Err(Failure::Usage(
            "give --spec FILE, or one of: list, describe, graph, logs, cancel, wait; see `longshore run --help`".to_owned(),
        )),
    }
}

/// Runs the pipeline, or says what would be built and run.
fn pipeline(context: &Context, arguments: &RunArguments, spec: &Path) -> Result<(), Failure> {
    let mut spec = read_spec(spec)?;
    let file = project::settings(arguments.config.config.as_deref(), &spec.source_root)?;
    let given = Overrides::parse(&arguments.set, &env::current_dir()?);
    let given = given.map_err(|error| Failure::Usage(error.to_string()))?;
    spec.settle(file.as_ref(), &given).map_err(|error| Failure::Usage(error.to_string()))?;
    let state = context.state()?;
    let stack = match &arguments.stack {
        Some(name) => state.stack(name)?,
        None => state.active_stack()?,
    };
    drop(state);
    if let Some(schedule) = &spec.schedule
        && !matches!(stack.orchestrator, Orchestrator::Remote(_))
    {
        return Err(Failure::Usage(format!(
            "pipeline {} has the schedule \"{}\", and stack `{}` runs steps on this machine, where nothing runs by itself; \
             take a stack with an orchestrator elsewhere, or a timer of this machine that starts the script",
            spec.name, schedule.cron, stack.name
        )));
    }
    if let (true, Some(file)) = (arguments.dry_run, &arguments.result) {
        // There is no run: nothing has an output.
        let outputs: BTreeMap<_, _> = spec.steps.iter().map(|step| (&step.name, json!({}))).collect();
        let planned =
            json!({"version": 2, "run_id": "", "status": "planned", "image": null, "outputs": outputs});
        fs::write(file, serde_json::to_vec(&planned)?)?;
    }
    let said = arguments.max_parallelism;
    match &stack.orchestrator {
        Orchestrator::Remote(orchestrator) if said.is_some() => Err(Failure::Usage(format!(
            "--max-parallelism (LONGSHORE_MAX_PARALLELISM) is about steps on this machine, and those of stack `{}` run on {}; \
             see `longshore orchestrator update {} --help` for what can be said there",
            stack.name, orchestrator.name, orchestrator.name
        ))),
        Orchestrator::Remote(orchestrator) => elsewhere::run(context, arguments, &spec, &stack, orchestrator),
        Orchestrator::LocalContainer { max_parallelism } => {
            in_containers(context, arguments, &spec, &stack, capacity(said.or(*max_parallelism)))
        }
        Orchestrator::Local { max_parallelism } => {
            // A debugger needs the terminal, and all steps in one process.
            let most = said.or(*max_parallelism).unwrap_or(NonZeroU32::MIN);
            in_processes(context, arguments, spec, &stack, capacity(Some(most)))
        }
    }
}

fn read_spec(file: &Path) -> Result<PipelineSpec, Failure> {
    let mut bytes = Vec::new();
    let read = |reader: &mut dyn Read, bytes: &mut Vec<u8>| reader.take(LARGEST_SPEC).read_to_end(bytes);
    let outcome = if file == Path::new("-") {
        read(&mut io::stdin().lock(), &mut bytes)
    } else {
        fs::File::open(file).and_then(|mut file| read(&mut file, &mut bytes))
    };
    outcome.map_err(|error| Failure::Usage(format!("the specification {}: {error}", file.display())))?;
    PipelineSpec::from_json(&bytes).map_err(|error| Failure::Usage(error.to_string()))
}

fn in_processes(
    context: &Context,
    arguments: &RunArguments,
    spec: PipelineSpec,
    stack: &Stack,
    capacity: Capacity,
) -> Result<(), Failure> {
    let plan = RunPlan::new(&spec, RunId::new(), &context.home.artifacts(), ArtifactView::Host, |_| None);
    if arguments.dry_run {
        return Ok(output::json(&plan.job(&plan.steps))?);
    }
    if arguments.build_only {
        return Err(Failure::Usage(format!(
            "stack `{}` runs steps without an image: there is nothing to build",
            stack.name
        )));
    }
    let state = context.state()?;
    let graph = elsewhere::graph(&spec);
    state.begin_run(NewRun { graph: &graph, ..NewRun::here(plan.id, &spec.name, stack.name.as_str()) })?;
    let interrupt = Interrupt::new();
    // One process has the terminal for itself.
    let steps = (capacity.steps.get() > 1).then(|| Arc::new(Steps::new(names(&spec))));
    let (asked, shown, of_steps) = (interrupt.clone(), steps.clone(), plan.clone());
    let work = move || {
        let source = Source { python: &spec.python, root: &spec.source_root };
        let observer = |event: &Event<'_>| shown.iter().for_each(|steps| steps.observe(event));
        let status = local::run(&of_steps, source, &capacity, &state, &asked, &observer);
        state.end_run(of_steps.id, *status.as_ref().unwrap_or(&RunStatus::Failed))?;
        Ok(status?)
    };
    let status = runtime::block_on_thread(work, || interrupt.stop())?;
    if let Some(steps) = steps {
        steps.finish(status, &plan.artifacts);
    }
    finish(arguments, &plan, None, status)
}

fn in_containers(
    context: &Context,
    arguments: &RunArguments,
    spec: &PipelineSpec,
    stack: &Stack,
    capacity: Capacity,
) -> Result<(), Failure> {
    if arguments.dry_run {
        images::plan(context, arguments, spec, stack)?;
        return Ok(output::line(output::graph::text(&elsewhere::graph(spec)).trim_end())?);
    }
    let images = images::build(context, arguments, spec, stack, None, Needed::Here)?;
    if arguments.build_only {
        return images::finish(arguments, spec, &images);
    }
    let runners = runners(context, arguments.engine, &images.built)?;
    let image_of = |step: &longshore_pipeline::StepSpec| images.of(&step.name).cloned();
    let plan = RunPlan::new(spec, RunId::new(), &context.home.artifacts(), ArtifactView::Container, image_of);
    let state = context.state()?;
    let graph = elsewhere::graph(spec);
    state.begin_run(NewRun {
        image: images.first(),
        graph: &graph,
        ..NewRun::here(plan.id, &spec.name, stack.name.as_str())
    })?;

    let interrupt = Interrupt::new();
    let steps = Arc::new(Steps::new(names(spec)));
    let (asked, shown, of_steps) = (interrupt.clone(), Arc::clone(&steps), plan.clone());
    let work = move || {
        let observer = |event: &Event<'_>| shown.observe(event);
        let status = local_container::run(&of_steps, &runners, &capacity, &state, &asked, &observer);
        state.end_run(of_steps.id, *status.as_ref().unwrap_or(&RunStatus::Failed))?;
        Ok(status?)
    };
    let status = runtime::block_on_thread(work, || interrupt.stop())?;
    steps.finish(status, &plan.artifacts);
    cache::after_builds(context, &images.built);
    finish(arguments, &plan, images.first(), status)
}

/// The names of the steps.
fn names(spec: &PipelineSpec) -> impl Iterator<Item = &str> {
    spec.steps.iter().map(|step| step.name.as_str())
}

/// What runs each image.
fn runners(
    context: &Context,
    engine: Engine,
    built: &[Built],
) -> Result<BTreeMap<Reference, StepImage>, Failure> {
    let registry = context.registry()?;
    let images = context.images(&registry)?;
    let kind = match engine {
        Engine::Native => None,
        Engine::Docker => Some(EngineKind::Docker),
        Engine::Podman => Some(EngineKind::Podman),
    };
    let mut runners = BTreeMap::new();
    for Built { image, digest, manifest, config, .. } in built {
        let runner = match kind {
            None => Runner::Sandbox {
                layers: images.unpack(manifest, config)?,
                scratch: images.scratch().to_owned(),
            },
            Some(kind) => {
                let engine = ContainerEngine::find(kind, images.scratch())?;
                let archive = tempfile::NamedTempFile::new()?;
                let repository = RepositoryPath::from(&image.repository);
                let (bytes, media_type) = (manifest.to_bytes(), MediaType::Manifest);
                let stored = StoredManifest { digest: Digest::of(&bytes), media_type, bytes };
                registry.export(&repository, image, &stored, ArchiveFormat::Docker, archive.as_file())?;
                let name = engine.load(archive.path())?;
                Runner::Engine { engine, image: name }
            }
        };
        runners.insert(image.at(*digest), StepImage { process: config.config.clone(), runner });
    }
    Ok(runners)
}

fn finish(
    arguments: &RunArguments,
    plan: &RunPlan,
    image: Option<&Reference>,
    status: RunStatus,
) -> Result<(), Failure> {
    match status {
        RunStatus::Succeeded => {}
        RunStatus::Interrupted => return Err(Failure::Interrupted),
        RunStatus::Failed | RunStatus::Running | RunStatus::Scheduled => return Err(Failure::Said),
    }
    if let Some(file) = &arguments.result {
        let result = json!({
            "version": 2, "run_id": plan.id.to_string(), "status": status, "image": image, "outputs": plan.outputs(),
        });
        let mut out = fs::File::create(file)?;
        serde_json::to_writer(&mut out, &result)?;
        out.flush()?;
    }
    Ok(())
}
