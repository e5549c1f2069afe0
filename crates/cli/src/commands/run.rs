//! `longshore run`: builds what a pipeline needs and runs it.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, Read, Write},
    path::Path,
    sync::Arc,
};

use longshore_build::{Built, Upgrade};
use longshore_oci::{MediaType, Reference};
use longshore_orchestrator::{
    ArtifactView, Event, Interrupt, RunPlan, local,
    local_container::{self, Runner, StepImage},
};
use longshore_pipeline::{Overrides, PipelineSpec};
use longshore_sandbox::engine::{Engine as ContainerEngine, EngineKind};
use longshore_stack::{Build, ContainerRegistry, Orchestrator, RunId, RunStatus, Stack};
use longshore_store::{ArchiveFormat, RepositoryPath, StoredManifest};
use serde_json::json;

use crate::{
    args::{Engine, RunArguments},
    commands::{build::now, images, preflight},
    context::Context,
    failure::Failure,
    output::{self, progress::Progress, steps::Steps},
    project, runtime,
};

/// A pipeline specification is a few kilobytes; what is larger is something else.
const LARGEST_SPEC: u64 = 64 << 20;

/// Runs the pipeline, or says what would be built and run.
pub(crate) fn run(context: &Context, arguments: &RunArguments) -> Result<(), Failure> {
    let mut spec = read_spec(&arguments.spec)?;
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
    match stack.orchestrator {
        Orchestrator::LocalContainer => in_containers(context, arguments, &spec, &stack),
        Orchestrator::Local => in_process(context, arguments, spec, &stack),
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

fn in_process(
    context: &Context,
    arguments: &RunArguments,
    spec: PipelineSpec,
    stack: &Stack,
) -> Result<(), Failure> {
    let plan = RunPlan::new(&spec, RunId::new(), &context.home.artifacts(), ArtifactView::Host, |_| None);
    if arguments.dry_run {
        return Ok(output::json(&plan.job(&plan.steps))?);
    }
    let state = context.state()?;
    state.begin_run(plan.id, &spec.name, stack.name.as_str(), None)?;
    let interrupt = Interrupt::new();
    let (asked, of_steps, id) = (interrupt.clone(), plan.clone(), plan.id);
    let work = move || {
        let status = local::run(&of_steps, &spec.python, &spec.source_root, &state, &asked, &|_| {});
        state.end_run(id, *status.as_ref().unwrap_or(&RunStatus::Failed))?;
        Ok(status?)
    };
    let status = runtime::block_on_thread(work, || interrupt.stop())?;
    finish(arguments, &plan, None, status)
}

fn in_containers(
    context: &Context,
    arguments: &RunArguments,
    spec: &PipelineSpec,
    stack: &Stack,
) -> Result<(), Failure> {
    let state = context.state()?;
    let remote = match &stack.container_registry {
        Some(ContainerRegistry::Remote(registry)) => Some(&**registry),
        _ => None,
    };
    let registries = context.registries(&state, remote.map(|registry| &registry.name))?;
    let builder = context
        .builder(registries.client.clone())?
        .with_uv_beside(&spec.python.executable)
        .with_sbom(arguments.sbom.into());
    let upgrade = if arguments.upgrade { Upgrade::Yes } else { Upgrade::No };
    let images = spec.images();
    let requests = images::requests(spec, &images, remote, &now()?, upgrade)?;
    let progress = Progress::new();
    preflight::before(&registries, remote, &requests, &progress)?;
    if arguments.dry_run {
        return images::foresee(&builder, spec, requests, &progress);
    }
    let built = images::build(&builder, spec, &images, requests, &progress)?;
    for image in &built {
        state.add_build(&Build {
            created: jiff::Timestamp::now(),
            pipeline: spec.name.clone(),
            image: Reference { digest: Some(image.digest), ..image.image.clone() },
            inputs: image.inputs.clone(),
        })?;
    }
    let runners = runners(context, arguments.engine, &built)?;
    let image_of = |step: &longshore_pipeline::StepSpec| {
        let position = images.iter().position(|image| image.steps.contains(&step.name))?;
        built.get(position).map(|image| image.image.at(image.digest))
    };
    let plan = RunPlan::new(spec, RunId::new(), &context.home.artifacts(), ArtifactView::Container, image_of);
    let first = built.first().map(|image| image.image.at(image.digest));
    state.begin_run(plan.id, &spec.name, stack.name.as_str(), first.as_ref())?;

    let interrupt = Interrupt::new();
    let steps = Arc::new(Steps::new(spec.steps.iter().map(|step| step.name.as_str())));
    let (asked, shown, of_steps) = (interrupt.clone(), Arc::clone(&steps), plan.clone());
    let work = move || {
        let observer = |event: &Event<'_>| shown.observe(event);
        let status = local_container::run(&of_steps, &runners, &state, &asked, &observer);
        state.end_run(of_steps.id, *status.as_ref().unwrap_or(&RunStatus::Failed))?;
        Ok(status?)
    };
    let status = runtime::block_on_thread(work, || interrupt.stop())?;
    steps.finish(status, &plan.artifacts);
    finish(arguments, &plan, first.as_ref(), status)
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
                let stored = StoredManifest { digest: *digest, media_type, bytes };
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
        RunStatus::Failed | RunStatus::Running => return Err(Failure::Said),
    }
    if let Some(file) = &arguments.result {
        let result = json!({
            "version": 1, "run_id": plan.id.to_string(), "status": status, "image": image, "outputs": plan.outputs(),
        });
        let mut out = fs::File::create(file)?;
        serde_json::to_writer(&mut out, &result)?;
        out.flush()?;
    }
    Ok(())
}
