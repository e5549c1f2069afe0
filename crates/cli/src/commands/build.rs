//! `longshore build`: an image from a folder of code and requirements.

use std::{env, fs::File, io::Read as _, path::PathBuf};

use longshore_build::{Built, Request, Upgrade};
use longshore_oci::{Reference, Tag};
use longshore_pipeline::{DockerSettings, Requirements};
use serde_json::json;

use crate::{
    args::BuildArguments,
    context::{Context, URI},
    failure::Failure,
    output::{self, progress::Progress},
    runtime,
};

/// Builds the image, or says what would be built.
pub(crate) fn build(context: &Context, arguments: &BuildArguments) -> Result<(), Failure> {
    let progress = Progress::new();
    let builder = context.builder()?;
    let request = request(arguments)?;
    let built = runtime::block_on(async {
        if arguments.dry_run {
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

fn request(arguments: &BuildArguments) -> Result<Request, Failure> {
    let name = match arguments.tag.strip_prefix(URI).and_then(|rest| rest.strip_prefix('/')) {
        Some(rest) => rest,
        None => &arguments.tag,
    };
    let image: Reference = format!("{URI}/{name}").parse()?;
    if image.digest.is_some() {
        return Err(Failure::Usage(format!("{image} has a digest; the digest of a build is its result")));
    }
    let source_root = arguments.source.canonicalize().map_err(|error| {
        Failure::Usage(format!("the folder of code {}: {error}", arguments.source.display()))
    })?;
    let requirements = match &arguments.requirements {
        Some(file) => Requirements::File(file.clone()),
        None => Requirements::List(arguments.requirement.clone()),
    };
    Ok(Request {
        repository: image.repository,
        tag: image.tag.map_or_else(now, Ok)?,
        source_root,
        settings: DockerSettings {
            parent_image: arguments.parent.clone(),
            requirements: Some(requirements),
            apt_packages: (!arguments.apt_packages.is_empty()).then(|| arguments.apt_packages.clone()),
            compile_bytecode: Some(!arguments.no_bytecode),
            ..DockerSettings::default()
        },
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
