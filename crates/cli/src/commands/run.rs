//! `longshore run`: builds what a pipeline needs and runs it.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read, Write},
    path::Path,
    sync::Arc,
};

use longshore_build::{Builder, Built, BytePlan, Request, Reuse, Upgrade};
use longshore_oci::{Arch, Digest, MediaType, Platform, Reference, Repository, Tag};
use longshore_orchestrator::{
    ArtifactView, Event, Interrupt, RunPlan, local,
    local_container::{self, Runner, StepImage},
};
use longshore_pipeline::{ImagePlan, PipelineSpec, repository_component};
use longshore_sandbox::engine::{Engine as ContainerEngine, EngineKind};
use longshore_stack::{Build, ContainerRegistry, Orchestrator, RemoteRegistry, RunId, RunStatus, Stack};
use longshore_store::{ArchiveFormat, RepositoryPath, StoredManifest};
use serde_json::json;

use crate::{
    args::{Engine, OutputFormat, RunArguments},
    commands::{
        build::{byte_plan, now, planned, within},
        cache, preflight,
    },
    context::{Context, URI},
    failure::Failure,
    output::{self, progress::Progress, steps::Steps},
    runtime,
};

/// A pipeline specification is a few kilobytes; what is larger is something else.
const LARGEST_SPEC: u64 = 64 << 20;

/// Runs the pipeline, or says what would be built and run.
pub(crate) fn run(context: &Context, arguments: &RunArguments) -> Result<(), Failure> {
    let spec = read_spec(&arguments.spec)?;
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
    cache::limit()?;
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
    let tag = now()?;
    let requests = images.iter().map(|image| request(spec, image, images.len(), remote, &tag, upgrade));
    let requests = requests.collect::<Result<Vec<_>, _>>()?;
    let progress = Progress::new();
    if arguments.dry_run || arguments.fail_if_moved.is_some() {
        foresee(arguments, &spec.name, &builder, &requests, &progress)?;
    }
    if arguments.dry_run {
        return Ok(());
    }
    runs_here(&requests)?;
    preflight::before(&registries, remote, &requests, &progress)?;
    let mut built = Vec::new();
    for request in requests {
        let name = Reference::tagged(request.repository.clone(), request.tag.clone());
        progress.heading(&format!("{} → {name}", spec.name));
        let work = async {
            let observer = |event| progress.observe(event);
            let built = builder.build(request, &observer).await?;
            // It is run here, so all of it must be here.
            builder.bring_here(&built, &observer).await?;
            Ok(built)
        };
        let result = runtime::block_on(work);
        progress.clear();
        built.push(result?);
    }
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
    cache::after_builds(context, &built);
    finish(arguments, &plan, first.as_ref(), status)
}

/// Says what the builds would do and move, or fails if that is more than it may be. Changes nothing.
fn foresee(
    arguments: &RunArguments,
    pipeline: &str,
    builder: &Builder,
    requests: &[Request],
    progress: &Progress,
) -> Result<(), Failure> {
    let mut all = Vec::new();
    let mut moves = BytePlan::default();
    for request in requests {
        let name = Reference::tagged(request.repository.clone(), request.tag.clone());
        progress.heading(&format!("{pipeline} → {name}"));
        let observer = |event| progress.observe(event);
        let plans = runtime::block_on(async { Ok(builder.plan(request.clone(), &observer).await?) });
        let planned = planned(builder, plans?);
        let of_image = byte_plan(builder, &planned)?;
        progress.clear();
        if arguments.dry_run {
            output::plan::print(&planned, Some(&of_image), OutputFormat::Table)?;
        }
        moves = moves.and(of_image);
        all.extend(planned);
    }
    within(&all, Some(&moves), arguments.fail_if_moved)
}

/// Refuses images that this machine cannot run the steps of.
fn runs_here(requests: &[Request]) -> Result<(), Failure> {
    let here = Arch::host();
    for request in requests {
        let Some(platforms) = &request.settings.platform else { continue };
        if !platforms.archs().iter().any(|arch| Some(*arch) == here) {
            let here = here.map_or_else(|| "another".to_owned(), |arch| Platform::linux(arch).to_string());
            let wanted = platforms.archs().iter().map(|arch| Platform::linux(*arch).to_string());
            return Err(Failure::Usage(format!(
                "the steps of this stack run on this machine, which is {here}, and their image is for {} only: \
                 add {here} to `platform`",
                wanted.collect::<Vec<_>>().join(", "),
            )));
        }
    }
    Ok(())
}

fn request(
    spec: &PipelineSpec,
    image: &ImagePlan,
    images: usize,
    remote: Option<&RemoteRegistry>,
    tag: &Tag,
    upgrade: Upgrade,
) -> Result<Request, Failure> {
    let default = remote.and_then(|registry| registry.default_repository.clone());
    let base = default.unwrap_or_else(|| repository_component(&spec.name));
    let name = match &image.docker.target_repository {
        Some(repository) => repository.clone(),
        // Where steps have settings of their own, so has the image's name.
        None if images > 1 && image.docker != spec.docker => {
            format!("{base}-{}", repository_component(&image.steps[0]))
        }
        None => base,
    };
    let repository: Repository = match remote {
        Some(registry) => registry.uri.repository(&name)?,
        None => format!("{URI}/{name}").parse()?,
    };
    Ok(Request {
        repository,
        tag: image.docker.image_tag.as_deref().map_or(Ok(tag.clone()), str::parse)?,
        source_root: spec.source_root.clone(),
        settings: image.docker.clone(),
        host_python: Some(spec.python.executable.clone()),
        upgrade,
        reuse: Reuse::Allowed,
    })
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
