//! `longshore stack`

use longshore_stack::{Name, State};
use serde_json::json;

use crate::{
    args::OutputFormat,
    failure::Failure,
    output::{
        self,
        table::{Align, Table},
    },
};

/// `longshore stack list`
pub(crate) fn list(state: &State, format: OutputFormat) -> Result<(), Failure> {
    let stacks = state.stacks()?;
    if format == OutputFormat::Json {
        let stacks: Vec<_> = stacks.iter().map(|stack| json!({"name": stack.name})).collect();
        return Ok(output::json(&stacks)?);
    }
    let mut table = Table::new([
        ("NAME", Align::Left),
        ("ORCHESTRATOR", Align::Left),
        ("CONTAINER REGISTRY", Align::Left),
        ("IMAGE BUILDER", Align::Left),
        ("ARTIFACT STORE", Align::Left),
    ]);
    let shown = |name: Option<&Name>| name.map_or("-", Name::as_str).to_owned();
    for stack in stacks {
        let parts = &stack.parts;
        table.row([
            stack.name.to_string(),
            parts.orchestrator.to_string(),
            shown(parts.container_registry.as_ref()),
            shown(parts.image_builder.as_ref()),
            parts.artifact_store.to_string(),
        ]);
    }
    Ok(table.print()?)
}
