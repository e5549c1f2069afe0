//! `longshore container-registry`, `orchestrator`, `image-builder` and `artifact-store`.

use std::{cell::RefCell, io};

use jiff::Timestamp;
use longshore_auth::connector::Config;
use longshore_stack::{
    Component, ComponentKind, Configuration, ContainerRegistry, Name, Need, NewComponent, Origin,
    Registrable, State, Values,
};
use serde::Serialize;

use crate::{
    args::{
        OutputFormat,
        component::{
            ComponentCommand, ConnectedComponentCommand, FlavorCommand, Kind, PlainComponentCommand,
            RegisterComponent, RegisterConnected,
        },
    },
    connection::{self, Asked, Connections, Verdict},
    context::Context,
    failure::Failure,
    input,
    output::{
        self,
        facts::{self, Facts},
        table::{Align, Table},
    },
    runtime,
};

/// The commands of the kinds that may be connected to a service connector.
pub(crate) fn connected<K: Kind>(
    context: &Context,
    command: ConnectedComponentCommand<K>,
) -> Result<(), Failure> {
    match command {
        ConnectedComponentCommand::Register(arguments) => register_connected(context, arguments),
        ConnectedComponentCommand::Component(command) => component(context, command),
        ConnectedComponentCommand::Connect { name, connector, no_verify } => {
            let verification = Verification::new(context, Trial::unless(no_verify));
            let connected =
                context.state()?.connect_component(K::KIND, &name, connector, |component, config| {
                    verification.verify(component, config)
                })?;
            say::<K>("connected", &connected, &verification)
        }
        ConnectedComponentCommand::Disconnect { name } => {
            let before = context.state()?.disconnect_component(K::KIND, &name)?;
            Ok(output::line(&match before {
                Some(connector) => format!("disconnected {} `{name}` from `{connector}`", K::KIND),
                None => format!("{} `{name}` is connected to nothing", K::KIND),
            })?)
        }
    }
}

/// The commands of the kinds that are not connected to anything.
pub(crate) fn plain<K: Kind>(context: &Context, command: PlainComponentCommand<K>) -> Result<(), Failure> {
    match command {
        PlainComponentCommand::Register(arguments) => {
            let registered =
                context.state()?.register_component(new(arguments, None)?, |_, _| Ok::<_, Failure>(()))?;
            Ok(output::line(&format!("registered {} `{}`", registered.kind(), registered.name))?)
        }
        PlainComponentCommand::Component(command) => component(context, command),
    }
}

fn register_connected<K: Kind>(context: &Context, arguments: RegisterConnected<K>) -> Result<(), Failure> {
    let verification = Verification::new(context, Trial::unless(arguments.no_verify));
    let new = new(arguments.component, arguments.connector)?;
    let registered = context
        .state()?
        .register_component(new, |component, config| verification.verify(component, config))?;
    say::<K>("registered", &registered, &verification)
}

fn new<K: Kind>(arguments: RegisterComponent<K>, connector: Option<Name>) -> Result<NewComponent, Failure> {
    let configuration = Configuration::new(arguments.flavor, &input::values(arguments.values.values())?)?;
    Ok(NewComponent { name: arguments.name, configuration, connector })
}

/// Whether the credentials of a component are tried before it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trial {
    /// They are.
    Required,
    /// The user said not to.
    Skipped,
}

impl Trial {
    const fn unless(no_verify: bool) -> Self {
        if no_verify { Self::Skipped } else { Self::Required }
    }
}

/// How it is found out that the credentials of a component are good.
struct Verification<'a> {
    context: &'a Context,
    trial: Trial,
    /// What was found, as a sentence's end.
    found: RefCell<Vec<String>>,
}

impl<'a> Verification<'a> {
    const fn new(context: &'a Context, trial: Trial) -> Self {
        Self { context, trial, found: RefCell::new(Vec::new()) }
    }

    fn verify(&self, component: &Component, config: Option<&Config>) -> Result<(), Failure> {
        let (Some(config), Some(connector), Some(asked)) =
            (config, &component.connector, connection::asked(component)?)
        else {
            return Ok(());
        };
        if self.trial == Trial::Skipped {
            self.found.borrow_mut().push("not verified".to_owned());
            return Ok(());
        }
        let connections = Connections::new(self.context)?;
        match asked {
            Asked::Registry(host) => {
                let verdicts = runtime::block_on(connections.verify(connector.as_str(), config, &[host]))?;
                self.found.borrow_mut().extend(verdicts.iter().map(Verdict::sentence));
            }
            Asked::Store(store) => {
                let found = connections.verify_store(connector.as_str(), config, &store);
                self.found.borrow_mut().push(runtime::block_on(found)?);
            }
        }
        Ok(())
    }
}

/// Says what was done to a component.
fn say<K: Kind>(done: &str, component: &Component, verification: &Verification<'_>) -> Result<(), Failure> {
    let uri = component.values().get("uri").map_or_else(String::new, |uri| format!(" ({uri})"));
    let credentials = match &component.connector {
        Some(connector) => format!(" with service connector `{connector}`"),
        None if K::KIND == ComponentKind::ContainerRegistry => {
            "; its credentials come from the docker configuration".to_owned()
        }
        None => String::new(),
    };
    let mut said = vec![format!("{done} {} `{}`{uri}{credentials}", component.kind(), component.name)];
    said.extend(verification.found.borrow().iter().cloned());
    Ok(output::line(&said.join("; "))?)
}

/// What all kinds of components have in common.
fn component<K: Kind>(context: &Context, command: ComponentCommand<K>) -> Result<(), Failure> {
    let state = context.state()?;
    match command {
        ComponentCommand::List { output } => list(&state, K::KIND, output),
        ComponentCommand::Describe { name, output } => describe(&state, K::KIND, &name, output),
        ComponentCommand::Update { name, values } => {
            let changes = input::values(values.values())?;
            if changes.is_empty() {
                return Err(Failure::Usage(format!(
                    "nothing to update: give the values that are to change, see `longshore {} update --help`",
                    K::KIND.as_str()
                )));
            }
            let verification = Verification::new(context, Trial::Required);
            state.update_component(K::KIND, &name, &changes, |component, config| {
                verification.verify(component, config)
            })?;
            let said: Vec<_> = verification.found.borrow().iter().map(|found| format!("; {found}")).collect();
            Ok(output::line(&format!("updated {} `{name}`{}", K::KIND, said.concat()))?)
        }
        ComponentCommand::Rename { name, new_name } => {
            state.rename_component(K::KIND, &name, &new_name)?;
            Ok(output::line(&format!("renamed {} `{name}` to `{new_name}`", K::KIND))?)
        }
        ComponentCommand::Delete { name } => {
            state.delete_component(K::KIND, &name)?;
            Ok(output::line(&format!("deleted {} `{name}`", K::KIND))?)
        }
        ComponentCommand::Flavor(FlavorCommand::List { output }) => Ok(flavors(K::KIND, output)?),
    }
}

/// A component as programs read it.
#[derive(Serialize)]
struct View {
    name: Name,
    kind: ComponentKind,
    flavor: &'static str,
    configuration: Values,
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connector: Option<Name>,
    stacks: Vec<Name>,
    origin: Origin,
    created: Option<Timestamp>,
    updated: Option<Timestamp>,
}

impl View {
    fn new(state: &State, component: &Component) -> Result<Self, Failure> {
        let registered = |time| (component.origin == Origin::Registered).then_some(time);
        Ok(Self {
            name: component.name.clone(),
            kind: component.kind(),
            flavor: component.flavor().as_str(),
            configuration: component.values().clone(),
            uri: component.container_registry()?.as_ref().map(ContainerRegistry::uri),
            connector: component.connector.clone(),
            stacks: state.stacks_with(component.kind(), component.name.as_str())?,
            origin: component.origin,
            created: registered(component.created),
            updated: registered(component.updated),
        })
    }
}

fn list(state: &State, kind: ComponentKind, format: OutputFormat) -> Result<(), Failure> {
    let views: Vec<_> = state
        .components(kind)?
        .iter()
        .map(|component| View::new(state, component))
        .collect::<Result<_, _>>()?;
    if let Some(format) = format.data() {
        return Ok(output::data(format, &views)?);
    }
    if kind == ComponentKind::ContainerRegistry {
        let mut table =
            Table::new(["NAME", "FLAVOR", "URI", "CONNECTOR", "STACKS"].map(|name| (name, Align::Left)));
        for view in views {
            table.row([
                view.name.to_string(),
                view.flavor.to_owned(),
                view.uri.unwrap_or_default(),
                view.connector.map_or_else(|| "-".to_owned(), |name| name.to_string()),
                facts::names(&view.stacks),
            ]);
        }
        return Ok(table.print_fitted()?);
    }
    let mut table = Table::new(["NAME", "FLAVOR", "STACKS"].map(|name| (name, Align::Left)));
    for view in views {
        table.row([view.name.to_string(), view.flavor.to_owned(), facts::names(&view.stacks)]);
    }
    Ok(table.print_fitted()?)
}

fn describe(state: &State, kind: ComponentKind, name: &str, format: OutputFormat) -> Result<(), Failure> {
    let component = state.component(kind, name)?;
    let view = View::new(state, &component)?;
    if let Some(format) = format.data() {
        return Ok(output::data(format, &view)?);
    }
    let mut shown = Facts::new();
    shown.add("name", view.name);
    shown.add("kind", kind);
    shown.add("flavor", view.flavor);
    for field in component.flavor().fields() {
        match (view.configuration.get(field.name), field.default) {
            (Some(value), _) => shown.add(field.name, value),
            (None, Some(default)) => shown.add(field.name, format!("{default} (default)")),
            (None, None) => {}
        }
    }
    if component.flavor().fields().is_empty() {
        shown.add_some("uri", view.uri);
    }
    if !component.flavor().connectors().is_empty() {
        let none = || match kind {
            ComponentKind::ContainerRegistry => {
                "none: credentials come from the docker configuration".to_owned()
            }
            _ => "-".to_owned(),
        };
        shown.add("connector", view.connector.map_or_else(none, |name| name.to_string()));
    }
    shown.add("stacks", facts::names(&view.stacks));
    shown.add_times(view.created, view.updated);
    Ok(shown.print()?)
}

/// A flavor as programs read it.
#[derive(Serialize)]
struct FlavorView {
    name: &'static str,
    summary: &'static str,
    built_in: bool,
    fields: Vec<FieldView>,
    connectors: Vec<&'static str>,
}

#[derive(Serialize)]
struct FieldView {
    name: &'static str,
    help: &'static str,
    required: bool,
    default: Option<&'static str>,
}

fn flavors(kind: ComponentKind, format: OutputFormat) -> io::Result<()> {
    let views: Vec<_> = kind
        .flavors()
        .map(|flavor| FlavorView {
            name: flavor.as_str(),
            summary: flavor.summary(),
            built_in: flavor.registrable() == Registrable::BuiltIn,
            fields: flavor
                .fields()
                .iter()
                .map(|field| FieldView {
                    name: field.name,
                    help: field.help,
                    required: field.need == Need::Required,
                    default: field.default,
                })
                .collect(),
            connectors: flavor.connectors().iter().map(|connector| connector.name()).collect(),
        })
        .collect();
    if let Some(format) = format.data() {
        return output::data(format, &views);
    }
    if !kind.takes_connectors() {
        let mut table = Table::new(["FLAVOR", "WHAT IT IS"].map(|name| (name, Align::Left)));
        for view in views {
            table.row([view.name, view.summary].map(str::to_owned));
        }
        return table.print_fitted();
    }
    let mut table = Table::new(["FLAVOR", "WHAT IT IS", "CONNECTORS"].map(|name| (name, Align::Left)));
    for view in views {
        let connectors = if view.connectors.is_empty() { "-".to_owned() } else { view.connectors.join(", ") };
        table.row([view.name.to_owned(), view.summary.to_owned(), connectors]);
    }
    table.print_fitted()
}
