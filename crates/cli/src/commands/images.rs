//! The images of a run: what each consists of, and building them at once.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};
use longshore_build::{Builder, Built, BytePlan, Request, Upgrade};
use longshore_oci::{Arch, Platform, Reference, Repository, Tag};
use longshore_pipeline::{ImagePlan, PipelineSpec, repository_component};
use longshore_stack::RemoteRegistry;

use crate::{
    args::{OutputFormat, run::RunArguments},
    commands::build::{byte_plan, planned, within},
    context::URI,
    failure::Failure,
    output::{self, progress::Progress},
    runtime,
};

/// So many images are built at once: each has interpreters of its own for its bytecode.
const AT_ONCE: usize = 4;

/// Where an image's layers are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needed {
    /// On this machine, where it is run.
    Here,
    /// In its registry only.
    There,
}

/// What is wanted of each image of a run.
pub(crate) fn requests(
    spec: &PipelineSpec,
    images: &[ImagePlan],
    remote: Option<&RemoteRegistry>,
    tag: &Tag,
    upgrade: Upgrade,
) -> Result<Vec<Request>, Failure> {
    let requests = images.iter().map(|image| request(spec, image, images.len(), remote, tag, upgrade));
    let mut requests = requests.collect::<Result<Vec<_>, _>>()?;
    // Of images that would have the same name, those of steps with settings of their own are told apart by their tags.
    let mut names: BTreeMap<(Repository, Tag), usize> = BTreeMap::new();
    for request in &requests {
        *names.entry((request.repository.clone(), request.tag.clone())).or_default() += 1;
    }
    for (request, image) in requests.iter_mut().zip(images) {
        if names[&(request.repository.clone(), request.tag.clone())] > 1 && image.docker != spec.docker {
            request.tag = format!("{}-{}", request.tag, image.steps[0]).parse()?;
        }
    }
    Ok(requests)
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

/// What is being made, in a line.
fn heading(spec: &PipelineSpec, request: &Request) -> String {
    match &request.settings.parent_image {
        Some(parent) if request.settings.skip_build == Some(true) => format!("{} uses {parent}", spec.name),
        _ => {
            let name = Reference::tagged(request.repository.clone(), request.tag.clone());
            format!("{} → {name}", spec.name)
        }
    }
}

/// Builds the images, all at once. What several of them need is fetched and made once. The first that fails stops the others.
pub(crate) fn build(
    builder: &Builder,
    spec: &PipelineSpec,
    images: &[ImagePlan],
    requests: Vec<Request>,
    needed: Needed,
    progress: &Progress,
) -> Result<Vec<Built>, Failure> {
    let names: Vec<String> = images.iter().map(name).collect();
    let views: Vec<Progress> = match names.as_slice() {
        [_] => vec![progress.clone()],
        several => progress.of_images(several),
    };
    let several = views.len() > 1;
    let builds = requests.into_iter().zip(&views).map(|(request, view)| async move {
        view.heading(&heading(spec, &request));
        let observer = |event| view.observe(event);
        let built = match (builder.build(request, &observer).await, needed) {
            (Ok(built), Needed::Here) => builder.bring_here(&built, &observer).await.map(|()| built),
            (built, _) => built,
        };
        if built.is_err() && several {
            view.line("failed", "");
        }
        Ok::<_, Failure>(built?)
    });
    let result = runtime::block_on(stream::iter(builds).buffered(AT_ONCE).try_collect());
    for view in &views {
        view.clear();
    }
    progress.clear();
    result
}

/// What an image is called on the terminal: by its steps.
fn name(image: &ImagePlan) -> String {
    match image.steps.as_slice() {
        [step] => step.clone(),
        [first, others @ ..] => format!("{first} +{}", others.len()),
        [] => String::new(),
    }
}

/// The images by the digests that builds would give them; nothing for those of which something is left to make. Changes
/// nothing.
pub(crate) fn digests(
    builder: &Builder,
    requests: Vec<Request>,
    progress: &Progress,
) -> Result<Vec<Option<Reference>>, Failure> {
    let found = runtime::block_on(async {
        let mut found = Vec::with_capacity(requests.len());
        for request in requests {
            if request.settings.skip_build == Some(true) {
                let used = builder.build(request, &|_| {}).await?;
                found.push(Some(used.image.at(used.digest)));
                continue;
            }
            let name = Reference::tagged(request.repository.clone(), request.tag.clone());
            let plans = builder.plan(request, &|event| progress.observe(event)).await?;
            found.push(builder.digest(&plans).map(|digest| name.at(digest)));
        }
        Ok(found)
    });
    progress.clear();
    found
}

/// Says what the builds would do and move, or fails if that is more than it may be. Changes nothing.
pub(crate) fn foresee(
    arguments: &RunArguments,
    builder: &Builder,
    spec: &PipelineSpec,
    requests: &[Request],
    progress: &Progress,
) -> Result<(), Failure> {
    let mut all = Vec::new();
    let mut moves = BytePlan::default();
    for request in requests {
        progress.heading(&heading(spec, request));
        let observer = |event| progress.observe(event);
        // An image that is used as it is has no plan: what becomes of it is that it is found.
        if request.settings.skip_build == Some(true) {
            runtime::block_on(async { Ok(builder.build(request.clone(), &observer).await?) })?;
            continue;
        }
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
pub(crate) fn run_here(requests: &[Request]) -> Result<(), Failure> {
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
