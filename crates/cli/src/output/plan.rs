//! What `--explain` and `--dry-run` print: the layers of an image and why they are made or not, and what would be moved.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{self, Write as _},
};

use longshore_build::{AptReport, AptWay, BytePlan, Movement, Plan, PlannedParent, Way, Why};
use longshore_oci::Platform;
use serde_json::{Value, json};

use super::{
    quantity::{count, size},
    table::shorten,
};
use crate::args::OutputFormat;

/// The width of a terminal that everything fits.
const TERMINAL: usize = 80;
/// The width of a layer's title.
const TITLE: usize = 30;
/// Where the reasons begin.
const REASON: usize = TITLE + 12;
/// So many pieces that go the same way are named.
const NAMED: usize = 8;

/// A plan, why its layers are what they are, and what it would move, if that was asked for.
#[derive(Debug)]
pub(crate) struct Planned {
    /// The plan of one platform.
    pub(crate) plan: Plan,
    /// Why each of its layers is made or not.
    pub(crate) why: Vec<Why>,
}

/// Prints the plans of an image, one for each platform.
pub(crate) fn print(planned: &[Planned], moves: Option<&BytePlan>, format: OutputFormat) -> io::Result<()> {
    if let Some(format) = format.data() {
        return super::data(format, &value(planned, moves));
    }
    let mut out = io::stdout().lock();
    for (position, Planned { plan, why }) in planned.iter().enumerate() {
        if planned.len() > 1 {
            let gap = if position == 0 { "" } else { "\n" };
            writeln!(out, "{gap}{}", Platform::linux(plan.arch))?;
        }
        write!(out, "{}", layers(plan, why))?;
    }
    match moves {
        Some(moves) => write!(out, "\n{}", movements(moves)),
        None => Ok(()),
    }
}

fn value(planned: &[Planned], moves: Option<&BytePlan>) -> Value {
    let images = planned.iter().map(|Planned { plan, why }| {
        let layers = plan.layers.iter().zip(why).map(|(layer, why)| {
            json!({
                "title": layer.title.title, "slot": layer.slot(), "known": layer.known,
                "reused": why.is_reused(), "why": why.to_string(),
            })
        });
        json!({
            "platform": Platform::linux(plan.arch).to_string(),
            "parent": {"title": plan.parent.title(), "digest": plan.parent.digest(), "has": plan.present()},
            "apt": plan.apt().map(|apt| json!({"packages": apt.packages, "upgraded": apt.upgraded, "way": apt.way})),
            "lock": plan.lock, "layers": layers.collect::<Vec<_>>(),
        })
    });
    let mut value = json!({"images": images.collect::<Vec<_>>()});
    if let (Some(moves), Value::Object(fields)) = (moves, &mut value) {
        fields.insert("movements".to_owned(), json!(moves.movements));
        for way in [Way::Fetch, Way::Push, Way::Mount] {
            fields.insert(way.to_string(), json!(moves.bytes(way)));
        }
        fields.insert("moved".to_owned(), json!(moves.moved()));
        fields.insert("estimated".to_owned(), json!(moves.is_estimated()));
    }
    value
}

/// The layers of a plan, a line or more for each.
fn layers(plan: &Plan, why: &[Why]) -> String {
    let mut text = row("LAYER", "SIZE", "WHY");
    let (bytes, reason) = match &plan.parent {
        PlannedParent::Debian(debian) => {
            (size(debian.download_size()), format!("new: made from {} packages", debian.packages()))
        }
        PlannedParent::Ready(_) => (String::new(), "parent: already there".to_owned()),
    };
    text.push_str(&row(plan.parent.title(), &bytes, &reason));
    for line in plan.apt().iter().flat_map(apt_lines) {
        for line in wrapped(&format!("apt: {}", line.trim_start()), TERMINAL) {
            let _ = writeln!(text, "{line}");
        }
    }
    let has = plan.present();
    if !has.is_empty() {
        for line in wrapped(&format!("parent: {}", present(&has, has.len())), TERMINAL) {
            let _ = writeln!(text, "{line}");
        }
    }
    for (layer, why) in plan.layers.iter().zip(why) {
        let bytes = layer.known.map(|record| size(record.size)).unwrap_or_default();
        text.push_str(&row(&layer.title.title, &bytes, &why.to_string()));
    }
    text
}

/// A title, a size, and a reason that goes on below itself.
fn row(title: &str, bytes: &str, reason: &str) -> String {
    let mut lines = wrapped(reason, TERMINAL - REASON).into_iter();
    let first = lines.next().unwrap_or_default();
    let mut text =
        format!("{:<TITLE$}  {bytes:>8}  {first}", shorten(title, TITLE)).trim_end().to_owned() + "\n";
    for line in lines {
        let _ = writeln!(text, "{:REASON$}{line}", "");
    }
    text
}

/// Words in lines of at most `width` characters. A longer word loses its middle.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let word = shorten(word, width);
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(&word);
            }
            _ => lines.push(word),
        }
    }
    lines
}

/// The packages that are not installed because the parent has them; of many, the first few.
pub(crate) fn present(packages: &[String], most: usize) -> String {
    let shown = packages.iter().take(most).cloned().collect::<Vec<_>>().join(", ");
    match packages.len().saturating_sub(most) {
        0 => format!("has {shown}: not installed again"),
        more => format!("has {shown} and {more} more: not installed again"),
    }
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

/// Sizes that are guesses say so.
fn about(bytes: u64, estimated: bool) -> String {
    let about = if estimated { "about " } else { "" };
    format!("{about}{}", size(bytes))
}

/// What is moved, by where from and where to, and the sums.
fn movements(moves: &BytePlan) -> String {
    let mut routes: BTreeMap<(Way, &str, &str), Vec<&Movement>> = BTreeMap::new();
    for movement in &moves.movements {
        routes.entry((movement.way, &movement.from, &movement.to)).or_default().push(movement);
    }
    let mut text = String::new();
    for ((way, from, to), mut pieces) in routes {
        let estimated = pieces.iter().any(|piece| piece.estimated);
        let bytes = about(pieces.iter().map(|piece| piece.bytes).sum(), estimated);
        let head = format!("{way:<6} {bytes}");
        let place = shorten(&format!("{from} → {to}"), TERMINAL - head.chars().count() - 2);
        let _ = writeln!(text, "{head}  {place}");
        pieces.sort_by_key(|piece| std::cmp::Reverse(piece.bytes));
        for piece in pieces.iter().take(NAMED) {
            let bytes = about(piece.bytes, piece.estimated);
            let _ = writeln!(text, "       {:<54}  {bytes:>14}", shorten(&piece.what, 54));
        }
        if let Some(more) = pieces.len().checked_sub(NAMED).filter(|more| *more > 0) {
            let _ = writeln!(text, "       and {more} more");
        }
    }
    text.push_str(&sums(moves));
    text.push('\n');
    text
}

/// `to fetch: 13.1 MB, to push: about 2.1 kB, to mount: 6 layers of 90.2 MB`
fn sums(moves: &BytePlan) -> String {
    if moves.movements.is_empty() {
        return "nothing is to be moved".to_owned();
    }
    let of = |way| {
        let estimated = moves.movements.iter().any(|movement| movement.way == way && movement.estimated);
        about(moves.bytes(way), estimated)
    };
    let mut text = format!("to fetch: {}, to push: {}", of(Way::Fetch), of(Way::Push));
    let mounted = moves.movements.iter().filter(|movement| movement.way == Way::Mount).count();
    if mounted > 0 {
        let _ = write!(text, ", to mount: {} of {}", count(mounted, "layer"), of(Way::Mount));
    }
    text
}

/// Why a build is not begun that would move more than it may.
pub(crate) fn too_much(planned: &[Planned], moves: &BytePlan, limit: u64) -> String {
    let mut pieces: Vec<&Movement> =
        moves.movements.iter().filter(|movement| movement.way != Way::Mount).collect();
    pieces.sort_by_key(|piece| std::cmp::Reverse(piece.bytes));
    let named =
        |piece: &&Movement| format!("{} {} ({})", piece.way, piece.what, about(piece.bytes, piece.estimated));
    let mut what: Vec<String> = pieces.iter().take(3).map(named).collect();
    if let Some(more) = pieces.len().checked_sub(3).filter(|more| *more > 0) {
        what.push(format!("{more} more"));
    }
    let mut why: Vec<String> = Vec::new();
    for reason in planned.iter().flat_map(|planned| &planned.why).filter(|why| !why.is_reused()) {
        let reason = reason.to_string().trim_start_matches("new: ").to_owned();
        if !why.contains(&reason) {
            why.push(reason);
        }
    }
    why.truncate(3);
    if why.is_empty() {
        why.push("all layers are here, but not all are where the image goes".to_owned());
    }
    format!(
        "the build would move {}, and --fail-if-moved allows {}: {}. Why: {}. Nothing was moved",
        about(moves.moved(), moves.is_estimated()),
        size(limit),
        what.join(", "),
        why.join("; "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_fits_80_columns() {
        let text = row(
            &"x".repeat(100),
            "999 MB",
            "new: bin 4: idna 3.10 was 3.9 in the last build, +requests 2.32.3, -a-package-of-a-very-long-name-indeed 1",
        );
        assert!(text.lines().count() > 2, "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= TERMINAL), "{text}");
        assert_eq!(row("code", "", ""), "code\n");
    }

    #[test]
    fn many_packages_of_the_parent_are_counted() {
        let packages = ["numpy 2.1.3", "six 1.16.0", "torch 2.4.0"].map(str::to_owned);
        assert_eq!(present(&packages[..1], 2), "has numpy 2.1.3: not installed again");
        let said = present(&packages, 2);
        assert_eq!(said, "has numpy 2.1.3, six 1.16.0 and 1 more: not installed again");
    }

    #[test]
    fn words_stay_whole_where_they_can() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("abcdefghij", 7), ["abcd…ij"]);
        assert!(wrapped("", 7).is_empty());
    }
}
