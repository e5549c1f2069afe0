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
mod runtime;
mod spelling;
mod usage;

use std::{env, io, process::ExitCode};

use clap::{CommandFactory, Parser};

use crate::{
    args::{Arguments, Command, ImageCommand, RegistryCommand},
    context::{Context, URI},
    failure::Failure,
};

fn main() -> ExitCode {
    // A container is this very program, started again; see the function.
    longshore_sandbox::enter_if_asked();
    let normalised = spelling::normalise(&Arguments::command(), env::args_os());
    let arguments = match Arguments::try_parse_from(normalised) {
        Ok(arguments) => arguments,
        Err(error) => match usage::unknown_option(&error) {
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
    let context = Context::from_env()?;
    match command {
        Command::Run(arguments) => commands::run::run(&context, &arguments),
        Command::Build(arguments) => commands::build::build(&context, &arguments),
        Command::Image(ImageCommand::List { output }) => {
            commands::image::list(&context.registry()?, URI, output)
        }
        Command::Image(ImageCommand::Inspect { image, output }) => {
            let found = commands::image::find(&context.registry()?, URI, &image)?;
            commands::image::inspect(&found, &image, output)
        }
        Command::Image(ImageCommand::Copy(arguments)) => commands::copy::copy(&context, &arguments),
        Command::Image(ImageCommand::Export { image, format, file }) => {
            let registry = context.registry()?;
            let found = commands::image::find(&registry, URI, &image)?;
            commands::image::export(&registry, &found, &image, format, &file)
        }
        Command::Image(ImageCommand::Sbom(arguments)) => commands::sbom::sbom(&context, &arguments),
        Command::Image(ImageCommand::Run(arguments)) => commands::container::run(&context, &arguments),
        Command::Registry(RegistryCommand::Serve { listen, insecure_anyone }) => {
            commands::registry::serve(context.registry()?, listen, insecure_anyone)
        }
        Command::Stack(command) => commands::stack::stack(&context, command),
        Command::ContainerRegistry(command) => commands::component::container_registry(&context, command),
        Command::ServiceConnector(command) => commands::connector::connector(&context, command),
        Command::Orchestrator(command) => commands::component::plain(&context, command),
        Command::ImageBuilder(command) => commands::component::plain(&context, command),
        Command::ArtifactStore(command) => commands::component::plain(&context, command),
        Command::Doctor(arguments) => commands::doctor::doctor(&context, &arguments),
        Command::Integration(command) => commands::integration::integration(command),
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "longshore", &mut io::stdout());
            Ok(())
        }
    }
}
