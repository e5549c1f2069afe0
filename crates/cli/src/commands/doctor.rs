//! `longshore doctor`: everything that may be wrong, and what mends it.

use longshore_auth::{DockerConfig, Environment};
use longshore_oci::Repository;
use longshore_preflight::{
    Check, Finding, Level, machine,
    registry::{self, Means, MissingRepository, Need},
    worst,
};
use longshore_sandbox::Capabilities;
use longshore_stack::{ComponentKind, ContainerRegistry, RemoteRegistry, State};

use crate::{
    args::DoctorArguments,
    commands::preflight::{EXPECTED, missing},
    connection::{Connections, connected_hosts},
    context::{Context, Registries},
    failure::Failure,
    output::{self, findings},
    runtime,
};

/// The repository that is asked for where nothing has been pushed yet. Nothing is left in it.
const PROBED: &str = "longshore-doctor";

/// Checks this machine, and every registry, connector and stack that is registered; or the registries that are named.
pub(crate) fn doctor(context: &Context, arguments: &DoctorArguments) -> Result<(), Failure> {
    let found = runtime::block_on(async {
        let mut found = Vec::new();
        if arguments.registries.is_empty() {
            found.extend(this_machine(context));
        }
        let state = context.state()?;
        let registries = context.registries(&state, None)?;
        let needs = if arguments.registries.is_empty() {
            of_registered(&state)?
        } else {
            arguments.registries.iter().map(|name| need_of(name)).collect::<Result<_, _>>()?
        };
        found.extend(registry::check(means(&registries), &needs).await);
        if arguments.registries.is_empty() {
            found.extend(connectors(context, &state).await?);
            found.extend(stacks(&state)?);
        }
        Ok(found)
    })?;
    match arguments.output.data() {
        Some(format) => output::data(format, &found)?,
        None => anstream::print!("{}", findings::text(&found)),
    }
    if worst(&found) == Level::Error { Err(Failure::Said) } else { Ok(()) }
}

fn means(registries: &Registries) -> Means<'_> {
    Means { client: &registries.client, expected: EXPECTED }
}

fn this_machine(context: &Context) -> Vec<Finding> {
    let mut found =
        vec![machine::folder("data", context.home.data()), machine::folder("cache", context.home.cache())];
    found.extend(machine::private_file("the database", context.home.database()));
    found.extend(machine::private_file("the key of stored secrets", context.home.key_file()));
    found.push(containers(context));
    if let Err(error) = DockerConfig::discover(&Environment::process()) {
        found.push(Finding::error(Check::Machine, error.origin, error.problem.to_string(), None));
    }
    found
}

/// Whether containers can be run here without root and without a daemon.
fn containers(context: &Context) -> Finding {
    let object = "containers";
    match Capabilities::probe(&context.home.sandboxes()) {
        Ok(_) => Finding::ok(Check::Machine, object, "can be run on this machine"),
        Err(error) => Finding::error(Check::Machine, object, error.to_string(), None),
    }
}

/// A registry or repository that the user named.
fn need_of(name: &str) -> Result<Need, Failure> {
    if !name.contains('/') {
        return Ok(Need::Answer(name.to_owned()));
    }
    Ok(Need::Push { repository: name.parse()?, missing: MissingRepository::LeftToRegistry })
}

/// What pipelines want of the container registries that are registered.
fn of_registered(state: &State) -> Result<Vec<Need>, Failure> {
    let mut needs = Vec::new();
    for component in state.components(ComponentKind::ContainerRegistry)? {
        let Some(ContainerRegistry::Remote(registry)) = component.container_registry()? else { continue };
        let repository = probed(state, &registry)?;
        let missing = missing(Some(&registry), &repository);
        needs.push(Need::Push { repository, missing });
    }
    Ok(needs)
}

/// The repository to ask for: the one that the last build went to, if there was one.
fn probed(state: &State, registry: &RemoteRegistry) -> Result<Repository, Failure> {
    let builds = state.builds(None)?;
    let last =
        builds.into_iter().map(|build| build.image.repository).find(|built| registry.uri.contains(built));
    match last {
        Some(repository) => Ok(repository),
        None => Ok(registry.uri.repository(registry.default_repository.as_deref().unwrap_or(PROBED))?),
    }
}

async fn connectors(context: &Context, state: &State) -> Result<Vec<Finding>, Failure> {
    let connections = Connections::new(context)?;
    let mut found = Vec::new();
    for connector in state.connectors()? {
        let name = connector.name.as_str();
        let object = format!("service connector {name}");
        let verified = match state.connector(name) {
            Ok(config) => connections.verify(name, &config, &connected_hosts(state, name)?).await,
            Err(error) => Err(error.into()),
        };
        match verified {
            Ok(verdicts) => {
                let sentences: Vec<_> = verdicts.iter().map(|verdict| verdict.sentence()).collect();
                found.push(Finding::ok(Check::Connector, object, sentences.join("; ")));
            }
            Err(Failure::Failed(error)) => {
                let message = error.to_string();
                let message = message.strip_prefix(&format!("{object}: ")).unwrap_or(&message).to_owned();
                found.push(Finding::error(Check::Connector, object, message, None));
            }
            Err(other) => return Err(other),
        }
    }
    Ok(found)
}

fn stacks(state: &State) -> Result<Vec<Finding>, Failure> {
    let active = state.active_stack_name()?;
    let check = |stack: longshore_stack::RegisteredStack| {
        let name = stack.name.as_str();
        let object = format!("stack {name}");
        match state.stack(name) {
            Ok(_) if stack.name == active => Finding::ok(Check::Stack, object, "is complete, and active"),
            Ok(_) => Finding::ok(Check::Stack, object, "is complete"),
            Err(error) => Finding::error(Check::Stack, object, error.to_string(), None),
        }
    };
    Ok(state.stacks()?.into_iter().map(check).collect())
}
