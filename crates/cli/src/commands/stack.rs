//! `longshore stack`

use longshore_stack::Stack;
use serde_json::Value;

use crate::{
    args::OutputFormat,
    failure::Failure,
    output::{
        self,
        table::{Align, Table},
    },
};

/// `longshore stack list`
pub(crate) fn list(format: OutputFormat) -> Result<(), Failure> {
    let stacks = Stack::all();
    if format == OutputFormat::Json {
        return Ok(output::json(&stacks)?);
    }
    let mut table = Table::new([
        ("NAME", Align::Left),
        ("ORCHESTRATOR", Align::Left),
        ("CONTAINER REGISTRY", Align::Left),
        ("IMAGE BUILDER", Align::Left),
        ("ARTIFACT STORE", Align::Left),
    ]);
    for stack in stacks {
        table.row([
            stack.name.to_owned(),
            flavor(&stack.orchestrator)?,
            flavor(&stack.container_registry)?,
            flavor(&stack.image_builder)?,
            flavor(&stack.artifact_store)?,
        ]);
    }
    Ok(table.print()?)
}

/// A flavor as JSON spells it; `-` for none.
fn flavor(component: &impl serde::Serialize) -> Result<String, Failure> {
    match serde_json::to_value(component)? {
        Value::String(name) => Ok(name),
        _ => Ok("-".to_owned()),
    }
}
