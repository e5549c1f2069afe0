//! `longshore image run`: a command in a container of an image, with this terminal.

use std::path::Path;

use longshore_sandbox::{Access, Container, Process, Sandbox, Streams};

use crate::{
    args::ContainerArguments,
    commands::image,
    context::{Context, URI},
    failure::Failure,
};

/// Runs the command and ends with its exit code.
pub(crate) fn run(context: &Context, arguments: &ContainerArguments) -> Result<(), Failure> {
    let registry = context.registry()?;
    let named = image::meant(&context.state()?, &arguments.image)?;
    let found = image::find(&registry, URI, &named)?;
    let images = context.images(&registry)?;
    let layers = images.unpack(&found.manifest, &found.config)?;
    let mut process = Process::of_image(&found.config.config, &arguments.command);
    for variable in &arguments.env {
        let Some((name, value)) = variable.split_once('=') else {
            return Err(Failure::Usage(format!("--env {variable} is not of the form NAME=VALUE")));
        };
        process.set_env(name, value);
    }
    let mut container = Container::new(process);
    for volume in &arguments.volumes {
        let (source, target, access) = parse_volume(volume)?;
        container = container.mount(source, target, access);
    }
    let sandbox = Sandbox { layers, scratch: images.scratch().to_owned(), container };
    let exit = sandbox.spawn(Streams::inherit())?.wait()?;
    if exit.success() { Ok(()) } else { Err(Failure::Exit(exit.code())) }
}

/// `HOST:CONTAINER[:rw|:ro]`
fn parse_volume(volume: &str) -> Result<(std::path::PathBuf, &str, Access), Failure> {
    let wrong = || {
        Failure::Usage(format!(
            "--volume {volume} is not of the form HOST:CONTAINER, optionally with :rw or :ro"
        ))
    };
    let (source, target, access) = match *volume.split(':').collect::<Vec<_>>() {
        [source, target] | [source, target, "ro"] => (source, target, Access::ReadOnly),
        [source, target, "rw"] => (source, target, Access::ReadWrite),
        _ => return Err(wrong()),
    };
    let cannot = |error| Failure::Usage(format!("--volume {volume}: {source}: {error}"));
    Ok((Path::new(source).canonicalize().map_err(cannot)?, target, access))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_read_only_unless_said_otherwise() {
        assert_eq!(parse_volume("/:/host").unwrap().2, Access::ReadOnly);
        assert_eq!(parse_volume("/:/host:rw").unwrap().2, Access::ReadWrite);
        for wrong in ["/", "/:/a:exec", "/does/not/exist:/a"] {
            assert!(matches!(parse_volume(wrong), Err(Failure::Usage(_))), "{wrong}");
        }
    }
}
