//! `longshore build`: an image from a folder of code and requirements.

use std::{env, fs::File, io::Read as _, path::PathBuf};

use longshore_build::{Built, Request, Upgrade};
use longshore_oci::{Reference, Repository, Tag};
use longshore_pipeline::SettingsFile;
use longshore_stack::{ComponentKind, ContainerRegistry, RemoteRegistry, State};
use serde_json::json;

use crate::{
    args::build::BuildArguments,
    commands::preflight,
    context::{Context, URI},
    failure::Failure,
    output::{self, progress::Progress},
    project, runtime,
};

/// Builds the image, or says what would be built.
pub(crate) fn build(context: &Context, arguments: &BuildArguments) -> Result<(), Failure> {
    let progress = Progress::new();
    let state = context.state()?;
    let request = request(arguments)?;
    let remote = registered(&state, &request.repository)?;
    let registries = context.registries(&state, remote.as_deref().map(|registry| &registry.name))?;
    let builder = context.builder(registries.client.clone())?.with_sbom(arguments.sbom.into());
    preflight::before(&registries, remote.as_deref(), std::slice::from_ref(&request), &progress)?;
    let built = runtime::block_on(async {
        // An image that is used as it is has no plan: what becomes of it is that it is found.
        if arguments.dry_run && request.settings.skip_build != Some(true) {
            let plan = builder.plan(request, &|event| progress.observe(event)).await?;
            progress.clear();
            output::plan::print(&plan, arguments.output)?;
            return Ok(None);
        }
        Ok(Some(builder.build(request, &|event| progress.observe(event)).await?))
    });
    progress.clear();
    let Some(Built { image, digest, .. }) = built? else { return Ok(()) };
    let reference = json!({"image": image, "digest": digest, "reference": image.at(digest)});
    match arguments.output.data() {
        Some(format) => Ok(output::data(format, &reference)?),
        None => Ok(()),
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
        host_python: python_here(),
        upgrade: if arguments.upgrade { Upgrade::Yes } else { Upgrade::No },
    })
}

/// A Python of this machine: without one, uv asks every one that it finds for its version, which takes seconds where there
/// are many. Scripts in its place (version managers' shims) are slow to start, so it is a program.
fn python_here() -> Option<PathBuf> {
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
