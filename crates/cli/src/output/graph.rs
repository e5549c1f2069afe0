//! A pipeline's steps and what they wait for, as a drawing.

use std::{collections::BTreeMap, fmt::Write as _};

use longshore_stack::GraphStep;

/// A drawing for the terminal: a line for each step, in an order in which they can run, with rails from each step to those
/// that wait for it.
pub(crate) fn text(steps: &[GraphStep]) -> String {
    noted(steps, |_| None)
}

/// The same with a note beside steps.
pub(crate) fn noted(steps: &[GraphStep], beside: impl Fn(&str) -> Option<String>) -> String {
    // Which steps still need the output of the one that a rail comes from.
    let mut rails: Vec<Option<&str>> = Vec::new();
    let mut out = String::new();
    for (position, step) in steps.iter().enumerate() {
        let later = &steps[position + 1..];
        let needed = |name: &str| later.iter().any(|later| later.upstream.iter().any(|up| up == name));
        let inputs: Vec<usize> = rails
            .iter()
            .enumerate()
            .filter(|(_, rail)| rail.is_some_and(|rail| step.upstream.iter().any(|up| up == rail)))
            .map(|(column, _)| column)
            .collect();
        let ends: Vec<usize> = inputs
            .iter()
            .copied()
            .filter(|&column| rails[column].is_some_and(|rail| !needed(rail)))
            .collect();
        let node = ends.first().copied().unwrap_or_else(|| {
            // Right of what it comes from, so that rails do not cross it.
            let first = inputs.last().map_or(0, |last| last + 1);
            rails
                .iter()
                .skip(first)
                .position(Option::is_none)
                .map_or(rails.len().max(first), |free| free + first)
        });
        if inputs.iter().any(|&column| column != node) {
            let line = junction(&rails, &inputs, &ends, node);
            let _ = writeln!(out, "{}", line.trim_end());
        }
        for &column in &ends {
            rails[column] = None;
        }
        if rails.len() <= node {
            rails.resize(node + 1, None);
        }
        rails[node] = Some(&step.name);
        let line: String = rails
            .iter()
            .enumerate()
            .map(|(column, rail)| match rail {
                _ if column == node => "● ",
                Some(_) => "│ ",
                None => "  ",
            })
            .collect();
        let beside = beside(&step.name).map_or_else(String::new, |text| format!("  {text}"));
        let _ = writeln!(out, "{} {}{beside}", line.trim_end(), step.name);
        if !needed(&step.name) {
            rails[node] = None;
        }
        while rails.last().is_some_and(Option::is_none) {
            rails.pop();
        }
    }
    out
}

/// The line above a step that several rails come to, or one that goes on.
fn junction(rails: &[Option<&str>], inputs: &[usize], ends: &[usize], node: usize) -> String {
    let left = inputs.iter().copied().chain([node]).min().unwrap_or(node);
    let right = inputs.iter().copied().chain([node]).max().unwrap_or(node);
    let mut line = String::new();
    for column in 0..rails.len().max(right + 1) {
        let is_rail = rails.get(column).is_some_and(Option::is_some);
        let within = (left..=right).contains(&column);
        let mark = if column == node && is_rail {
            // The rail goes on into the step, and others join it.
            match (column == left, column == right) {
                (true, _) => '├',
                (_, true) => '┤',
                _ => '┼',
            }
        } else if column == node {
            match (column == left, column == right) {
                (true, _) => '╭',
                (_, true) => '╮',
                _ => '┬',
            }
        } else if inputs.contains(&column) {
            match (ends.contains(&column), column == left, column == right) {
                (true, true, _) => '╰',
                (true, _, true) => '╯',
                (true, ..) => '┴',
                (false, true, _) => '├',
                (false, _, true) => '┤',
                (false, ..) => '┼',
            }
        } else if within {
            if is_rail { '┼' } else { '─' }
        } else if is_rail {
            '│'
        } else {
            ' '
        };
        line.push(mark);
        line.push(if (left..right).contains(&column) { '─' } else { ' ' });
    }
    line
}

/// A diagram of Mermaid.
pub(crate) fn mermaid(steps: &[GraphStep]) -> String {
    let mut out = "flowchart TD\n".to_owned();
    let ids: BTreeMap<&str, usize> =
        steps.iter().enumerate().map(|(id, step)| (step.name.as_str(), id)).collect();
    for (id, step) in steps.iter().enumerate() {
        let _ = writeln!(out, "    s{id}[\"{}\"]", step.name);
    }
    for (id, step) in steps.iter().enumerate() {
        for from in step.upstream.iter().filter_map(|name| ids.get(name.as_str())) {
            let _ = writeln!(out, "    s{from} --> s{id}");
        }
    }
    out
}

const STEP_HEIGHT: usize = 36;
const ROW: usize = 84;
const GAP: usize = 28;
/// The width of a character in the font of the drawing.
const CHARACTER: usize = 8;

/// A picture: steps in rows, each below all that it waits for.
pub(crate) fn svg(steps: &[GraphStep]) -> String {
    let mut row_of: BTreeMap<&str, usize> = BTreeMap::new();
    let mut rows: Vec<Vec<&GraphStep>> = Vec::new();
    for step in steps {
        let above = step.upstream.iter().filter_map(|name| row_of.get(name.as_str()));
        let row = above.max().map_or(0, |row| row + 1);
        row_of.insert(&step.name, row);
        if rows.len() <= row {
            rows.push(Vec::new());
        }
        rows[row].push(step);
    }
    let width_of = |step: &GraphStep| step.name.chars().count() * CHARACTER + 32;
    let row_width = |row: &[&GraphStep]| row.iter().map(|step| width_of(step) + GAP).sum::<usize>() + GAP;
    let width = rows.iter().map(|row| row_width(row)).max().unwrap_or(GAP);
    let height = rows.len() * ROW + GAP;
    // The middle of a step's upper edge.
    let mut places: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let mut boxes = String::new();
    for (number, row) in rows.iter().enumerate() {
        let mut x = (width - row_width(row)) / 2 + GAP;
        let y = number * ROW + GAP;
        for step in row {
            let wide = width_of(step);
            places.insert(&step.name, (x + wide / 2, y));
            let _ = writeln!(
                boxes,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{wide}\" height=\"{STEP_HEIGHT}\" rx=\"8\"/>\
                 <text x=\"{}\" y=\"{}\">{}</text>",
                x + wide / 2,
                y + STEP_HEIGHT / 2 + 5,
                step.name
            );
            x += wide + GAP;
        }
    }
    let mut edges = String::new();
    for step in steps {
        let Some(&(x, y)) = places.get(step.name.as_str()) else { continue };
        for &(from_x, from_y) in step.upstream.iter().filter_map(|name| places.get(name.as_str())) {
            let start = from_y + STEP_HEIGHT;
            let middle = usize::midpoint(start, y);
            let _ = writeln!(
                edges,
                "<path d=\"M{from_x} {start} C{from_x} {middle} {x} {middle} {x} {y}\" marker-end=\"url(#arrow)\"/>"
            );
        }
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\">\n\
         <style>rect{{fill:#eef3fb;stroke:#33527a}}path{{fill:none;stroke:#6b7f99}}marker path{{fill:#6b7f99;stroke:none}}\
         text{{font:13px ui-monospace,monospace;text-anchor:middle;fill:#13243a}}</style>\n\
         <defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" \
         orient=\"auto\"><path d=\"M0 0L8 4L0 8z\"/></marker></defs>\n{edges}{boxes}</svg>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(list: &[(&str, &[&str])]) -> Vec<GraphStep> {
        let step = |(name, upstream): &(&str, &[&str])| GraphStep {
            name: (*name).to_owned(),
            upstream: upstream.iter().map(|name| (*name).to_owned()).collect(),
            outputs: Vec::new(),
        };
        list.iter().map(step).collect()
    }

    fn diamond() -> Vec<GraphStep> {
        steps(&[("load", &[]), ("left", &["load"]), ("right", &["load"]), ("join", &["left", "right"])])
    }

    #[test]
    fn a_chain_is_a_line() {
        let chain = steps(&[("a", &[]), ("b", &["a"]), ("c", &["b"])]);
        assert_eq!(text(&chain), "● a\n● b\n● c\n");
    }

    #[test]
    fn rails_fan_out_and_in() {
        assert_eq!(text(&diamond()), "● load\n├─╮\n│ ● left\n● │ right\n├─╯\n● join\n");
    }

    #[test]
    fn steps_have_notes() {
        let note = |step: &str| (step != "b").then(|| format!("after {step}"));
        assert_eq!(noted(&steps(&[("a", &[]), ("b", &["a"])]), note), "● a  after a\n● b\n");
    }

    #[test]
    fn a_rail_that_passes_a_step_by() {
        let graph = steps(&[
            ("load", &[]),
            ("train", &["load"]),
            ("stats", &["load"]),
            ("evaluate", &["load", "train"]),
            ("publish", &["evaluate", "stats"]),
        ]);
        let expected =
            "● load\n├─╮\n│ ● train\n├─┼─╮\n│ │ ● stats\n├─╯ │\n●   │ evaluate\n├───╯\n● publish\n";
        assert_eq!(text(&graph), expected);
    }

    #[test]
    fn steps_that_need_nothing_stand_alone() {
        assert_eq!(text(&steps(&[("a", &[]), ("b", &[])])), "● a\n● b\n");
        let graph = steps(&[("a", &[]), ("b", &[]), ("c", &["a", "b"])]);
        assert_eq!(text(&graph), "● a\n│ ● b\n├─╯\n● c\n");
    }

    #[test]
    fn mermaid_and_svg_have_every_step_and_edge() {
        let mermaid = mermaid(&diamond());
        assert_eq!(mermaid.matches("-->").count(), 4);
        assert!(mermaid.starts_with("flowchart TD\n    s0[\"load\"]\n"));
        let svg = svg(&diamond());
        assert_eq!((svg.matches("<rect").count(), svg.matches("marker-end").count()), (4, 4));
    }

    #[test]
    fn every_graph_is_drawn() {
        // Each step waits for some of those before it, by the bits of a counter.
        for seed in 0..512_usize {
            let list: Vec<GraphStep> = (0..7)
                .map(|step: usize| GraphStep {
                    name: format!("s{step}"),
                    upstream: (0..step)
                        .filter(|from| (seed * 7 + step * 13 + from * 29) % 5 < 2)
                        .map(|from| format!("s{from}"))
                        .collect(),
                    outputs: Vec::new(),
                })
                .collect();
            let drawn = text(&list);
            assert_eq!(drawn.matches('●').count(), 7, "{drawn}");
            assert!(drawn.lines().all(|line| line.chars().count() <= 40), "{drawn}");
        }
    }
}
