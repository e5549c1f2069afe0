//! `longshore build`: an image from a folder of code and requirements.

use std::{env, fs::File, io::Read as _, path::PathBuf};

use longshore_build::{Builder, Built, BytePlan, Plan, Request, Upgrade};
use longshore_oci::{Reference, Repository, Tag};
use longshore_pipeline::SettingsFile;
use longshore_stack::{Build, ComponentKind, ContainerRegistry, RemoteRegistry, State};
use serde_json::json;

use crate::{
    args::{build::BuildArguments, bytes::ByteCount},
    commands::{cache, lock::with_lock, preflight},
    context::{Context, URI},
    failure::Failure,
    output::{self, plan::Planned, progress::Progress},
    project, runtime,
};

/// Builds the image, or says what would be built.
pub(crate) fn build(context: &Context, arguments: &BuildArguments) -> Result<(), Failure> {
    let progress = Progress::new();
    cache::limit()?;
    let state = context.state()?;
    let mut requests = with_lock(vec![request(arguments)?], arguments.locked.as_deref())?;
    let Some(request) = requests.pop() else { return Ok(()) };
    let remote = registered(&state, &request.repository)?;
    let registries = context.registries(&state, remote.as_deref().map(|registry| &registry.name))?;
    let builder = context.builder(registries.client.clone())?.with_sbom(arguments.sbom.into());
    // An image that is used as it is has no plan: what becomes of it is that it is found.
    let has_plan = request.settings.skip_build != Some(true);
    let asks = has_plan && (arguments.dry_run || arguments.explain);
    let limit = arguments.fail_if_moved.filter(|_| has_plan);
    let observer = |event| progress.observe(event);
    // Who only asks changes nothing, so nothing is tried and no repository is made.
    if !asks && limit.is_none() {
        preflight::before(&registries, remote.as_deref(), std::slice::from_ref(&request), &progress)?;
    }
    if asks || limit.is_some() {
        let plans = runtime::block_on(async { Ok(builder.plan(request.clone(), &observer).await?) });
        let planned = planned(&builder, plans?);
        let wants_bytes = arguments.dry_run || limit.is_some();
        let moves = wants_bytes.then(|| byte_plan(&builder, &planned)).transpose()?;
        progress.clear();
        if asks {
            let shown = moves.as_ref().filter(|_| arguments.dry_run);
            output::plan::print(&planned, shown, arguments.output)?;
        }
        within(&planned, moves.as_ref(), limit)?;
        if asks {
            return Ok(());
        }
        preflight::before(&registries, remote.as_deref(), std::slice::from_ref(&request), &progress)?;
    }
    let built = runtime::block_on(async { Ok(builder.build(request, &observer).await?) });
    progress.clear();
    let built = built?;
    let Built { image, digest, inputs, .. } = built.clone();
    // What an image was made from is known as long as the machine is: it can be patched, and made again.
    state.add_build(&Build {
        created: jiff::Timestamp::now(),
        pipeline: image.repository.path().to_owned(),
        image: Reference { digest: Some(digest), ..image.clone() },
        inputs,
    })?;
    let reference = json!({"image": image, "digest": digest, "reference": image.at(digest)});
    if let Some(format) = arguments.output.data() {
        output::data(format, &reference)?;
    }
    cache::after_builds(context, &[built]);
    Ok(())
}

/// Plans, each with why its layers are what they are.
pub(crate) fn planned(builder: &Builder, plans: Vec<Plan>) -> Vec<Planned> {
    plans.into_iter().map(|plan| Planned { why: builder.explain(&plan), plan }).collect()
}

/// What making the images would move.
pub(crate) fn byte_plan(builder: &Builder, planned: &[Planned]) -> Result<BytePlan, Failure> {
    runtime::block_on(async {
        let mut moves = BytePlan::default();
        for Planned { plan, .. } in planned {
            moves = moves.and(builder.byte_plan(plan).await?);
        }
        Ok(moves)
    })
}

/// Refuses to go on if more would be moved than may be.
pub(crate) fn within(
    planned: &[Planned],
    moves: Option<&BytePlan>,
    limit: Option<ByteCount>,
) -> Result<(), Failure> {
    match (moves, limit) {
        (Some(moves), Some(ByteCount(limit))) if moves.moved() > limit => {
            Err(Failure::Failed(output::plan::too_much(planned, moves, limit).into()))
        }
        _ => Ok(()),
    }
}

/// The registered container registry that a repository is in: the one with the longest URI.
fn registered(state: &State, repository: &Repository) -> Result<Option<Box<RemoteRegistry>>, Failure> {
    let mut found: Option<Box<RemoteRegistry>> = None;
    for component in state.components(ComponentKind::ContainerRegistry)? {
        let Some(ContainerRegistry::Remote(registry)) = component.container_registry()? else { continue };
        let longer = found.as_ref().is_none_or(|found| registry.uri.namespace() > found.uri.namespace());
        if registry.uri.contains(repository) && longer {
            found = Some(registry);
        }
    }
    Ok(found)
}

/// The name of an image as the command line has it. Docker's rule for the first part of a name tells hosts from
/// folders; a name without a host is in the embedded registry, not in Docker Hub.
pub(crate) fn image_name(name: &str) -> Result<Reference, Failure> {
    let has_host =
        name.split_once('/').is_some_and(|(first, _)| first.contains(['.', ':']) || first == "localhost");
    let image = if has_host { name.parse() } else { format!("{URI}/{name}").parse() };
    Ok(image?)
}

fn request(arguments: &BuildArguments) -> Result<Request, Failure> {
    let source_root = arguments.source.canonicalize().map_err(|error| {
        Failure::Usage(format!("the folder of code {}: {error}", arguments.source.display()))
    })?;
    if !source_root.is_dir() {
        let file = arguments.source.display();
        return Err(Failure::Usage(format!("{file} is a file; name the folder of code that it is in")));
    }
    let file = project::settings(arguments.config.config.as_deref(), &source_root)?;
    let of_file = file.map(|SettingsFile { docker, .. }| docker).unwrap_or_default();
    let settings = arguments.settings.settings(&env::current_dir()?).over(&of_file);
    settings.check().map_err(|error| Failure::Usage(error.to_string()))?;
    let image = match (&arguments.tag, &settings.target_repository) {
        (Some(name), _) | (None, Some(name)) => image_name(name)?,
        (None, None) => {
            return Err(Failure::Usage(
                "the image has no name: give it one with --tag NAME[:TAG], or target_repository in the settings"
                    .to_owned(),
            ));
        }
    };
    if image.digest.is_some() {
        return Err(Failure::Usage(format!("{image} has a digest; the digest of a build is its result")));
    }
    let tag = match (image.tag, &settings.image_tag) {
        (Some(tag), _) => tag,
        (None, Some(tag)) => tag.parse()?,
        (None, None) => now()?,
    };
    Ok(Request {
        repository: image.repository,
        tag,
        source_root,
        settings,
        drivers: Vec::new(),
        host_python: python_here(),
        upgrade: if arguments.upgrade { Upgrade::Yes } else { Upgrade::No },
    })
}

/// A Python of this machine: without one, uv asks every one that it finds for its version, which takes seconds where there
/// are many. Scripts in its place (version managers' shims) are slow to start, so it is a program.
pub(crate) fn python_here() -> Option<PathBuf> {
    let is_program = |path: &PathBuf| {
        let mut magic = [0; 4];
        File::open(path).is_ok_and(|mut file| file.read_exact(&mut magic).is_ok() && magic == *b"\x7fELF")
    };
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join("python3")).find(is_program)
}

/// The tag of an image that is given none: the UTC time.
pub(crate) fn now() -> Result<Tag, Failure> {
    Ok(jiff::Timestamp::now().strftime("%Y-%m-%d-%H-%M-%S").to_string().parse()?)
}
