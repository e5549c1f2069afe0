//! What `--dry-run` prints: the plan of an image, and what of it would be fetched and made.

use std::{collections::BTreeMap, io};

use longshore_build::{Plan, PlannedLayer, PlannedParent};
use serde_json::json;

use super::{
    quantity::size,
    table::{Align, Table},
};
use crate::args::OutputFormat;

/// Prints a plan.
pub(crate) fn print(plan: &Plan, format: OutputFormat) -> io::Result<()> {
    let to_fetch = to_fetch(plan);
    if let Some(format) = format.data() {
        let layers: Vec<_> = plan
            .layers
            .iter()
            .map(|layer| json!({"title": layer.title.title, "known": layer.known}))
            .collect();
        return super::data(
            format,
            &json!({
                "parent": {"title": plan.parent.title(), "digest": plan.parent.digest()},
                "lock": plan.lock, "layers": layers, "fetch": to_fetch,
            }),
        );
    }
    let mut table = Table::new([("LAYER", Align::Left), ("SIZE", Align::Right), ("", Align::Left)]);
    let (parent, todo) = match &plan.parent {
        PlannedParent::Debian(debian) => {
            (size(debian.download_size()), format!("to make from {} packages", debian.packages()))
        }
        PlannedParent::Ready(_) => (String::new(), "already there".to_owned()),
    };
    table.row([plan.parent.title().to_owned(), parent, todo]);
    for layer in &plan.layers {
        let title: String = layer.title.title.chars().take(44).collect();
        match layer.known {
            Some(record) => table.row([title, size(record.size), "already there".to_owned()]),
            None => table.row([title, String::new(), format!("to be {}", layer.title.verb)]),
        }
    }
    table.print()?;
    super::line(&format!("\nto fetch: {}", size(to_fetch)))
}

/// The bytes of the wheels that new layers need. Some may have been fetched for other layers.
fn to_fetch(plan: &Plan) -> u64 {
    let wheels = plan.layers.iter().flat_map(PlannedLayer::wheels);
    wheels.map(|wheel| (wheel.digest, wheel.size.unwrap_or(0))).collect::<BTreeMap<_, _>>().values().sum()
}
