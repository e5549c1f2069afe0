//! The images of a run.

use std::{fs, path::Path};

use longshore_build::{Built, Request, Upgrade};
use longshore_oci::{Reference, Repository, Tag};
use longshore_pipeline::{ImagePlan, PipelineSpec, repository_component};
use longshore_stack::{Build, ContainerRegistry, RemoteRegistry, Stack};
use serde_json::json;

use crate::{
    args::{OutputFormat, run::RunArguments},
    commands::{build::now, preflight},
    context::{Context, URI},
    failure::Failure,
    output::{self, progress::Progress},
    runtime,
};

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

/// The images by the names that they would get, nothing built.
pub(super) fn named(spec: &PipelineSpec, stack: &Stack) -> Result<Images, Failure> {
    let plans = spec.images();
    let tag = now()?;
    let images = plans.iter().map(|plan| {
        let request = request(spec, plan, plans.len(), remote(stack), &tag, Upgrade::No)?;
        Ok((Reference::tagged(request.repository, request.tag), plan.steps.clone()))
    });
    Ok(Images { built: Vec::new(), images: images.collect::<Result<_, Failure>>()? })
}

/// Prints what would be built.
pub(super) fn plan(
    context: &Context,
    arguments: &RunArguments,
    spec: &PipelineSpec,
    stack: &Stack,
) -> Result<(), Failure> {
    make(context, arguments, spec, stack, None).map(drop)
}

/// Builds and pushes the images, and remembers them. `driver` is a Python package that they need besides what the settings
/// say.
pub(super) fn build(
    context: &Context,
    arguments: &RunArguments,
    spec: &PipelineSpec,
    stack: &Stack,
    driver: Option<&str>,
) -> Result<Images, Failure> {
    let built = make(context, arguments, spec, stack, driver)?;
    let state = context.state()?;
    for image in &built {
        state.add_build(&Build {
            created: jiff::Timestamp::now(),
            pipeline: spec.name.clone(),
            image: Reference { digest: Some(image.digest), ..image.image.clone() },
            inputs: image.inputs.clone(),
        })?;
    }
    let steps = spec.images().into_iter().map(|plan| plan.steps);
    let images = built.iter().map(|built| built.image.at(built.digest)).zip(steps).collect();
    Ok(Images { built, images })
}

fn remote(stack: &Stack) -> Option<&RemoteRegistry> {
    match &stack.container_registry {
        Some(ContainerRegistry::Remote(registry)) => Some(registry),
        _ => None,
    }
}

fn make(
    context: &Context,
    arguments: &RunArguments,
    spec: &PipelineSpec,
    stack: &Stack,
    driver: Option<&str>,
) -> Result<Vec<Built>, Failure> {
    let state = context.state()?;
    let remote = remote(stack);
    let registries = context.registries(&state, remote.map(|registry| &registry.name))?;
    drop(state);
    let builder = context
        .builder(registries.client.clone())?
        .with_uv_beside(&spec.python.executable)
        .with_sbom(arguments.sbom.into());
    let upgrade = if arguments.upgrade { Upgrade::Yes } else { Upgrade::No };
    let images = spec.images();
    let tag = now()?;
    let requests = images.iter().map(|image| {
        let mut request = request(spec, image, images.len(), remote, &tag, upgrade)?;
        request.drivers.extend(driver.map(str::to_owned));
        Ok::<_, Failure>(request)
    });
    let requests = requests.collect::<Result<Vec<_>, _>>()?;
    let progress = Progress::new();
    preflight::before(&registries, remote, &requests, &progress)?;
    let mut built = Vec::new();
    for request in requests {
        let name = Reference::tagged(request.repository.clone(), request.tag.clone());
        progress.heading(&format!("{} → {name}", spec.name));
        let work = async {
            if arguments.dry_run {
                let plan = builder.plan(request, &|event| progress.observe(event)).await?;
                progress.clear();
                output::plan::print(&plan, OutputFormat::Table)?;
                return Ok(None);
            }
            Ok(Some(builder.build(request, &|event| progress.observe(event)).await?))
        };
        let result = runtime::block_on(work);
        progress.clear();
        built.extend(result?);
    }
    Ok(built)
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
        drivers: Vec::new(),
        host_python: Some(spec.python.executable.clone()),
        upgrade,
    })
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
