//! `longshore stack`

use std::{fs, io, path::Path};

use jiff::Timestamp;
use longshore_stack::{ComponentKind, Name, Origin, RegisteredStack, StackFile, State};
use serde::Serialize;

use crate::{
    args::{DataFormat, OutputFormat, stack::StackCommand},
    context::Context,
    failure::Failure,
    output::{
        self,
        facts::Facts,
        table::{Align, Table},
    },
};

/// `longshore stack`
pub(crate) fn stack(context: &Context, command: StackCommand) -> Result<(), Failure> {
    let state = context.state()?;
    match command {
        StackCommand::Register { name, parts, set } => {
            state.register_stack(&name, &parts.selection())?;
            output::line(&format!("registered stack `{name}`"))?;
            if set { activate(&state, name.as_str()) } else { Ok(()) }
        }
        StackCommand::List { output } => list(&state, output),
        StackCommand::Describe { name, output } => {
            let name = name.map_or_else(|| state.active_stack_name().map(|name| name.to_string()), Ok)?;
            describe(&state, &name, output)
        }
        StackCommand::Update { name, parts } => {
            let selection = parts.selection();
            if selection == longshore_stack::Selection::default() {
                return Err(Failure::Usage(
                    "nothing to update: name the components that are to change, see `longshore stack update --help`"
                        .to_owned(),
                ));
            }
            state.update_stack(&name, &selection)?;
            Ok(output::line(&format!("updated stack `{name}`"))?)
        }
        StackCommand::Copy { name, new_name } => {
            state.copy_stack(&name, &new_name)?;
            Ok(output::line(&format!("copied stack `{name}` to `{new_name}`"))?)
        }
        StackCommand::Export { name, output } => {
            let name = name.map_or_else(|| state.active_stack_name().map(|name| name.to_string()), Ok)?;
            let format = output.data().unwrap_or(DataFormat::Yaml);
            Ok(output::data(format, &state.export_stack(&name)?)?)
        }
        StackCommand::Import { file, name, set } => {
            let stack = state.import_stack(&read(&file)?, name.as_ref())?;
            output::line(&format!("imported stack `{}`", stack.name))?;
            if set { activate(&state, stack.name.as_str()) } else { Ok(()) }
        }
        StackCommand::Rename { name, new_name } => {
            state.rename_stack(&name, &new_name)?;
            Ok(output::line(&format!("renamed stack `{name}` to `{new_name}`"))?)
        }
        StackCommand::Delete { name } => {
            state.delete_stack(&name)?;
            Ok(output::line(&format!("deleted stack `{name}`"))?)
        }
        StackCommand::Set { name } => activate(&state, &name),
        StackCommand::Get { output } => {
            let name = state.active_stack_name()?;
            match output.data() {
                Some(format) => {
                    Ok(output::data(format, &View::new(&state, state.registered_stack(name.as_str())?)?)?)
                }
                None => Ok(output::line(name.as_str())?),
            }
        }
    }
}

/// Reads the file of a stack. JSON is YAML too.
fn read(file: &Path) -> Result<StackFile, Failure> {
    let unreadable = |error: &dyn std::fmt::Display| {
        Failure::Usage(format!("the file of the stack {}: {error}", file.display()))
    };
    let text =
        if file == Path::new("-") { io::read_to_string(io::stdin()) } else { fs::read_to_string(file) };
    serde_saphyr::from_str(&text.map_err(|error| unreadable(&error))?).map_err(|error| unreadable(&error))
}

fn activate(state: &State, name: &str) -> Result<(), Failure> {
    state.set_active_stack(name)?;
    Ok(output::line(&format!("stack `{name}` is active"))?)
}

/// A stack as programs read it.
#[derive(Serialize)]
struct View {
    name: Name,
    active: bool,
    orchestrator: Name,
    container_registry: Option<Name>,
    image_builder: Option<Name>,
    artifact_store: Name,
    origin: Origin,
    created: Option<Timestamp>,
    updated: Option<Timestamp>,
}

impl View {
    fn new(state: &State, stack: RegisteredStack) -> Result<Self, Failure> {
        let registered = |time| (stack.origin == Origin::Registered).then_some(time);
        Ok(Self {
            active: state.active_stack_name()? == stack.name,
            created: registered(stack.created),
            updated: registered(stack.updated),
            name: stack.name,
            orchestrator: stack.parts.orchestrator,
            container_registry: stack.parts.container_registry,
            image_builder: stack.parts.image_builder,
            artifact_store: stack.parts.artifact_store,
            origin: stack.origin,
        })
    }
}

fn list(state: &State, format: OutputFormat) -> Result<(), Failure> {
    let views: Vec<_> =
        state.stacks()?.into_iter().map(|stack| View::new(state, stack)).collect::<Result<_, _>>()?;
    if let Some(format) = format.data() {
        return Ok(output::data(format, &views)?);
    }
    let headings = ["", "NAME", "ORCHESTRATOR", "CONTAINER REGISTRY", "IMAGE BUILDER", "ARTIFACT STORE"];
    let mut table = Table::new(headings.map(|name| (name, Align::Left)));
    for view in views {
        let optional = |name: Option<Name>| name.map_or_else(|| "-".to_owned(), |name| name.to_string());
        table.row([
            if view.active { "*" } else { " " }.to_owned(),
            view.name.to_string(),
            view.orchestrator.to_string(),
            optional(view.container_registry),
            optional(view.image_builder),
            view.artifact_store.to_string(),
        ]);
    }
    Ok(table.print_fitted()?)
}

fn describe(state: &State, name: &str, format: OutputFormat) -> Result<(), Failure> {
    let stack = state.registered_stack(name)?;
    let parts = stack.parts.clone();
    let view = View::new(state, stack)?;
    if let Some(format) = format.data() {
        return Ok(output::data(format, &view)?);
    }
    let mut facts = Facts::new();
    facts.add("name", &view.name);
    facts.add("active", if view.active { "yes" } else { "no" });
    for kind in ComponentKind::ALL {
        let Some(name) = parts.get(kind) else {
            facts.add(kind.as_str(), "-");
            continue;
        };
        let component = state.component(kind, name.as_str())?;
        let uri = component
            .container_registry()?
            .map_or_else(String::new, |registry| format!(", {}", registry.uri()));
        facts.add(kind.as_str(), format!("{name} ({}{uri})", component.flavor().as_str()));
    }
    facts.add_times(view.created, view.updated);
    Ok(facts.print()?)
}
