//! The images of a run.

use std::{env, fs, path::Path};

use longshore_build::{Builder, Built, Request, Upgrade};
use longshore_oci::Reference;
use longshore_pipeline::{DockerSettings, ImagePlan, PipelineSpec};
use longshore_stack::{Build, ContainerRegistry, RemoteRegistry, Stack};
use serde_json::json;

use crate::{
    args::run::RunArguments,
    commands::{build::now, cache, images, lock::with_lock, preflight},
    context::{Context, Registries, URI},
    failure::Failure,
    output::progress::Progress,
    runtime,
};

pub(super) use crate::commands::images::Needed;

/// Which image each step runs in.
#[derive(Debug)]
pub(super) struct Images {
    /// What was built, each with the steps that it is for; none if nothing was.
    pub(super) built: Vec<Built>,
    /// The images, with the steps that they are for.
    images: Vec<(Reference, Vec<String>)>,
}

impl Images {
    /// The image of a step, by digest if it was built.
    pub(super) fn of(&self, step: &str) -> Option<&Reference> {
        let has = |(_, steps): &&(Reference, Vec<String>)| steps.iter().any(|name| name == step);
        self.images.iter().find(has).map(|(image, _)| image)
    }

    /// The first of them.
    pub(super) fn first(&self) -> Option<&Reference> {
        self.images.first().map(|(image, _)| image)
    }
}

/// The images by the digests that builds would give them, where nothing is left to make; otherwise all by the names that
/// they would get, which is said. Nothing is built.
pub(super) fn foreseen(
    context: &Context,
    arguments: &RunArguments,
    spec: &PipelineSpec,
    stack: &Stack,
    driver: Option<&str>,
) -> Result<Images, Failure> {
    let Prepared { builder, plans, requests, progress } =
        prepare(context, arguments, spec, stack, driver, Needed::There)?;
    let names: Vec<Reference> = requests
        .iter()
        .map(|request| Reference::tagged(request.repository.clone(), request.tag.clone()))
        .collect();
    let known = known("images are", images::digests(&builder, requests, &progress))?;
    let images = known.unwrap_or(names).into_iter().zip(plans.into_iter().map(|plan| plan.steps));
    Ok(Images { built: Vec::new(), images: images.collect() })
}

/// What was found of images that were not built now. If anything is left to make, says why `what` named by tag.
fn known(
    what: &str,
    found: Result<Vec<Option<Reference>>, Failure>,
) -> Result<Option<Vec<Reference>>, Failure> {
    let reason = match found {
        Ok(found) => match found.into_iter().collect() {
            Some(known) => return Ok(Some(known)),
            None => "not built yet".to_owned(),
        },
        Err(Failure::Failed(error)) => format!("what is in them cannot be found out: {error}"),
        Err(other) => return Err(other),
    };
    anstream::eprintln!("{what} named by tag: {reason}");
    Ok(None)
}

/// Prints what would be built.
pub(super) fn plan(
    context: &Context,
    arguments: &RunArguments,
    spec: &PipelineSpec,
    stack: &Stack,
) -> Result<(), Failure> {
    let Prepared { builder, requests, progress, .. } =
        prepare(context, arguments, spec, stack, None, Needed::There)?;
    images::foresee(arguments, &builder, spec, &requests, &progress)
}

/// Builds and pushes the images, and remembers them. `driver` is a Python package that they need besides what the settings
/// say.
pub(super) fn build(
    context: &Context,
    arguments: &RunArguments,
    spec: &PipelineSpec,
    stack: &Stack,
    driver: Option<&str>,
    needed: Needed,
) -> Result<Images, Failure> {
    let Prepared { builder, plans, requests, progress } =
        prepare(context, arguments, spec, stack, driver, needed)?;
    let built = images::build(&builder, spec, &plans, requests, needed, &progress)?;
    let state = context.state()?;
    for image in &built {
        state.add_build(&Build {
            created: jiff::Timestamp::now(),
            pipeline: spec.name.clone(),
            image: Reference { digest: Some(image.digest), ..image.image.clone() },
            inputs: image.inputs.clone(),
        })?;
    }
    let steps = plans.into_iter().map(|plan| plan.steps);
    let images = built.iter().map(|built| built.image.at(built.digest)).zip(steps).collect();
    Ok(Images { built, images })
}

fn remote(stack: &Stack) -> Option<&RemoteRegistry> {
    match &stack.container_registry {
        Some(ContainerRegistry::Remote(registry)) => Some(registry),
        _ => None,
    }
}

/// What is wanted, checked with the registries that it needs, and what makes it.
struct Prepared {
    builder: Builder,
    plans: Vec<ImagePlan>,
    requests: Vec<Request>,
    progress: Progress,
}

fn prepare(
    context: &Context,
    arguments: &RunArguments,
    spec: &PipelineSpec,
    stack: &Stack,
    driver: Option<&str>,
    needed: Needed,
) -> Result<Prepared, Failure> {
    cache::limit()?;
    let state = context.state()?;
    let remote = remote(stack);
    let registries = context.registries(&state, remote.map(|registry| &registry.name))?;
    drop(state);
    let builder = context
        .builder(registries.client.clone())?
        .with_uv_beside(&spec.python.executable)
        .with_sbom(arguments.sbom.into());
    let upgrade = if arguments.upgrade { Upgrade::Yes } else { Upgrade::No };
    let plans = spec.images();
    let requests = images::requests(spec, &plans, remote, &now()?, upgrade)?;
    let mut requests = with_lock(requests, arguments.locked.as_deref())?;
    for request in &mut requests {
        request.drivers.extend(driver.map(str::to_owned));
    }
    let progress = Progress::new();
    // Who only asks changes nothing, so nothing is tried and no repository is made.
    if arguments.dry_run {
        return Ok(Prepared { builder, plans, requests, progress });
    }
    if arguments.fail_if_moved.is_some() {
        images::foresee(arguments, &builder, spec, &requests, &progress)?;
    }
    if needed == Needed::Here {
        images::run_here(&requests)?;
    }
    preflight::before(&registries, remote, &requests, &progress)?;
    Ok(Prepared { builder, plans, requests, progress })
}

/// Builds and pushes the image of the controller: this program, which looks after a run in a cluster.
pub(super) fn controller(
    context: &Context,
    arguments: &RunArguments,
    stack: &Stack,
) -> Result<Reference, Failure> {
    let folder = tempfile::tempdir()?;
    let Controller { registries, builder, request } =
        controller_in(context, arguments, stack, folder.path())?;
    let progress = Progress::new();
    preflight::before(&registries, remote(stack), std::slice::from_ref(&request), &progress)?;
    progress.heading("the controller of the run");
    let built =
        runtime::block_on(async { Ok(builder.build(request, &|event| progress.observe(event)).await?) });
    progress.clear();
    let built = built?;
    Ok(built.image.at(built.digest))
}

/// The image of the controller by the digest that a build would give it, if nothing of it is left to make.
pub(super) fn foreseen_controller(
    context: &Context,
    arguments: &RunArguments,
    stack: &Stack,
) -> Result<Option<Reference>, Failure> {
    let folder = tempfile::tempdir()?;
    let Controller { builder, request, .. } = controller_in(context, arguments, stack, folder.path())?;
    let found = images::digests(&builder, vec![request], &Progress::new());
    Ok(known("the image of the run's controller is", found)?.and_then(|mut known| known.pop()))
}

/// The image of the controller, and what makes it.
struct Controller {
    registries: Registries,
    builder: Builder,
    request: Request,
}

/// The image of the controller, whose code is put into `folder`.
fn controller_in(
    context: &Context,
    arguments: &RunArguments,
    stack: &Stack,
    folder: &Path,
) -> Result<Controller, Failure> {
    let state = context.state()?;
    let remote = remote(stack);
    let registries = context.registries(&state, remote.map(|registry| &registry.name))?;
    let builder = context.builder(registries.client.clone())?.with_sbom(arguments.sbom.into());
    longshore_kubernetes::image::source(&env::current_exe()?, folder)?;
    let name = longshore_kubernetes::image::REPOSITORY;
    let repository = match remote {
        Some(registry) => registry.uri.repository(name)?,
        None => format!("{URI}/{name}").parse()?,
    };
    let request = Request {
        repository,
        tag: env!("CARGO_PKG_VERSION").parse()?,
        source_root: folder.to_owned(),
        // A program has everything in it that looks like a secret.
        settings: DockerSettings {
            allow_secrets: Some(vec!["longshore".to_owned()]),
            ..DockerSettings::default()
        },
        drivers: Vec::new(),
        host_python: None,
        upgrade: Upgrade::No,
    };
    Ok(Controller { registries, builder, request })
}

/// Ends a command that builds only.
pub(super) fn finish(arguments: &RunArguments, spec: &PipelineSpec, images: &Images) -> Result<(), Failure> {
    let Some(file) = &arguments.result else { return Ok(()) };
    write(file, spec, images)
}

fn write(file: &Path, spec: &PipelineSpec, images: &Images) -> Result<(), Failure> {
    let of_steps: serde_json::Map<String, serde_json::Value> = spec
        .steps
        .iter()
        .map(|step| (step.name.clone(), json!(images.of(&step.name).map(ToString::to_string))))
        .collect();
    Ok(fs::write(file, serde_json::to_vec(&json!({"version": 2, "images": of_steps}))?)?)
}
