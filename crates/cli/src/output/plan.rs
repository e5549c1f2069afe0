//! What `--dry-run` prints: the plan of an image, and what of it would be fetched and made.

use std::{collections::BTreeMap, io};

use longshore_build::{AptReport, AptWay, Plan, PlannedLayer, PlannedParent};
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
                "apt": plan.apt().map(|apt| json!({"packages": apt.packages, "upgraded": apt.upgraded, "way": apt.way})),
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
    for line in plan.apt().iter().flat_map(apt_lines) {
        super::line(&format!("apt: {}", line.trim_start()))?;
    }
    super::line(&format!("\nto fetch: {}", size(to_fetch)))
}

/// What `apt_packages` add to the parent, and how; of what forces the parent's own program, the first few reasons.
pub(crate) fn apt_lines(apt: &AptReport) -> Vec<String> {
    const REASONS: usize = 3;
    let packages = match apt.packages.len() {
        1 => "1 package".to_owned(),
        several => format!("{several} packages"),
    };
    let mut lines = vec![match &apt.way {
        AptWay::Native => format!("{packages}, {}: none needs a script to be run", size(apt.bytes)),
        AptWay::Sandbox { tool, .. } => {
            format!("{packages}, {}: by the parent's {tool} in a sandbox", size(apt.bytes))
        }
    }];
    if let AptWay::Sandbox { reasons, .. } = &apt.way {
        lines.extend(reasons.iter().take(REASONS).map(|reason| format!("  {reason}")));
        if let Some(more) = reasons.len().checked_sub(REASONS).filter(|more| *more > 0) {
            lines.push(format!("  and {more} more"));
        }
    }
    if !apt.upgraded.is_empty() {
        lines.push(format!("  upgraded, for others depend on it: {}", apt.upgraded.join(", ")));
    }
    lines
}

/// The bytes of the wheels that new layers need. Some may have been fetched for other layers.
fn to_fetch(plan: &Plan) -> u64 {
    let wheels = plan.layers.iter().flat_map(PlannedLayer::wheels);
    wheels.map(|wheel| (wheel.digest, wheel.size.unwrap_or(0))).collect::<BTreeMap<_, _>>().values().sum()
}
