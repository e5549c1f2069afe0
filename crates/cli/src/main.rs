//! The program `longshore`: it reads the command line, lets the crates below do the work, and prints.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod connection;
mod context;
mod failure;
mod input;
mod log;
mod output;
mod project;
mod runtime;
mod services;
mod spelling;
mod usage;

use std::{env, io, process::ExitCode};

use clap::{CommandFactory, Parser};

use crate::{
    args::{Arguments, ClusterCommand, Command, ImageCommand, RegistryCommand},
    context::{Context, URI},
    failure::Failure,
};

fn main() -> ExitCode {
    // A container is this very program, started again; see the function.
    longshore_sandbox::enter_if_asked();
    let normalised = spelling::normalise(&Arguments::command(), env::args_os());
    let arguments = match Arguments::try_parse_from(normalised) {
        Ok(arguments) => arguments,
        Err(error) => match usage::unknown_option(&error).or_else(|| usage::wrong_value(&error)) {
            Some(said) => return Failure::Usage(said).report(),
            None => error.exit(),
        },
    };
    if let Err(failure) = log::start(arguments.verbose) {
        return failure.report();
    }
    match dispatch(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn dispatch(command: Command) -> Result<(), Failure> {
    // A pod may have no home folder.
    if let Command::Cluster(ClusterCommand::Run { plan }) = &command {
        return commands::cluster::run(plan);
    }
    let context = Context::from_env()?;
    match command {
        Command::Run(line) => commands::run::run(&context, line),
        Command::Schedule(command) => commands::run::schedules(&context, command),
        Command::Build(arguments) => commands::build::build(&context, &arguments),
        Command::Image(ImageCommand::List { output }) => {
            commands::image::list(&context.registry()?, URI, output)
        }
        Command::Image(ImageCommand::Inspect(arguments)) => {
            commands::image::inspect::inspect(&context, &arguments)
        }
        Command::Image(ImageCommand::Rebase(arguments)) => {
            commands::image::edit::rebase(&context, &arguments)
        }
        Command::Image(ImageCommand::Patch(arguments)) => commands::image::edit::patch(&context, &arguments),
        Command::Image(ImageCommand::Rebuild(arguments)) => {
            commands::image::rebuild::rebuild(&context, &arguments)
        }
        Command::Image(ImageCommand::Lock { image }) => {
            let state = context.state()?;
            commands::lock::print(&state, &commands::image::meant(&state, &image)?)
        }
        Command::Image(ImageCommand::Copy(arguments)) => commands::copy::copy(&context, &arguments),
        Command::Image(ImageCommand::Export { image, format, file }) => {
            let image = commands::image::meant(&context.state()?, &image)?;
            let registry = context.registry()?;
            let found = commands::image::find(&registry, URI, &image)?;
            commands::image::export::export(&registry, &found, &image, format, &file)
        }
        Command::Image(ImageCommand::Sbom(arguments)) => commands::sbom::sbom(&context, &arguments),
        Command::Image(ImageCommand::Run(arguments)) => commands::container::run(&context, &arguments),
        Command::Registry(RegistryCommand::Serve { listen, insecure_anyone }) => {
            commands::registry::serve(&context, listen, insecure_anyone)
        }
        Command::Stack(command) => commands::stack::stack(&context, command),
        Command::ContainerRegistry(command) => commands::component::connected(&context, command),
        Command::ServiceConnector(command) => commands::connector::connector(&context, command),
        Command::Orchestrator(command) => commands::component::connected(&context, command),
        Command::ImageBuilder(command) => commands::component::plain(&context, command),
        Command::ArtifactStore(command) => commands::component::connected(&context, command),
        Command::Cache(command) => commands::cache::cache(&context, command),
        Command::Doctor(arguments) => commands::doctor::doctor(&context, &arguments),
        Command::Integration(command) => commands::integration::integration(command),
        Command::Cluster(ClusterCommand::Run { plan }) => commands::cluster::run(&plan),
        Command::Settings { form } => commands::settings::print(form),
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "longshore", &mut io::stdout());
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsString, fs, path::Path};

    use super::*;

    /// The commands in the pages below `docs`, and in README.md: lines of code that begin with `longshore`, with those that
    /// they go on in, without comments.
    fn documented() -> Vec<(String, String)> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
        let pages = docs.chain([root.join("README.md")]).filter(|path| path.extension().is_some());
        let mut commands = Vec::new();
        for page in pages {
            let text = fs::read_to_string(&page).unwrap().replace("\\\n", " ");
            let mut is_code = false;
            for line in text.lines() {
                if line.starts_with("```") {
                    is_code = line.starts_with("```sh");
                }
                let line = line.strip_prefix("    ").or(is_code.then_some(line)).unwrap_or_default();
                if line.starts_with("longshore ") {
                    // Without the shell's own: a comment, and where the output goes.
                    let command = line.split(" #").next().unwrap_or_default();
                    let command = command.split(" > ").next().unwrap_or_default().trim().to_owned();
                    commands.push((page.display().to_string(), command));
                }
            }
        }
        commands
    }

    #[test]
    fn every_documented_command_is_one() {
        let documented = documented();
        assert!(documented.len() > 20, "{documented:?}");
        for (page, command) in documented {
            let words = command.split_whitespace().map(|word| OsString::from(word.replace('\'', "")));
            let words = spelling::normalise(&Arguments::command(), words);
            if let Err(error) = Arguments::try_parse_from(words) {
                panic!("{page}: {command}\n{error}");
            }
        }
    }
}
