//! What checks found, as a person sees it.

use longshore_preflight::{Finding, Level};

use super::quantity::count;

/// The width that text is wrapped to.
const WIDTH: usize = 80;
/// The width of what stands before a message: the level and the check.
const MARGIN: usize = 22;

/// One line or more for each finding, and one that counts them.
pub(crate) fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        text.push_str(&entry(finding));
    }
    let of = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (errors, warnings) = (of(Level::Error), of(Level::Warning));
    text.push_str(&format!("{}: ", count(findings.len(), "check")));
    text.push_str(&match (errors, warnings) {
        (0, 0) => "all is well".to_owned(),
        _ => format!("{}, {}", count(errors, "error"), count(warnings, "warning")),
    });
    text.push('\n');
    text
}

/// A finding: what, on which object, why; and below it what to do.
pub(crate) fn entry(finding: &Finding) -> String {
    let (style, level) = match finding.level {
        Level::Ok => (anstyle::AnsiColor::Green.on_default(), "ok"),
        Level::Warning => (anstyle::AnsiColor::Yellow.on_default().bold(), "warning"),
        Level::Error => (anstyle::AnsiColor::Red.on_default().bold(), "error"),
    };
    let check = finding.check.to_string();
    let mut lines = wrap(&format!("{}: {}", finding.object, finding.message), WIDTH - MARGIN).into_iter();
    let first = lines.next().unwrap_or_default();
    let mut text = format!("{style}{level:<7}{style:#} {check:<13} {first}\n");
    for line in lines {
        text.push_str(&format!("{:MARGIN$}{line}\n", ""));
    }
    if let Some(remedy) = &finding.remedy {
        for (position, line) in wrap(remedy, WIDTH - MARGIN - 2).into_iter().enumerate() {
            let arrow = if position == 0 { "→" } else { " " };
            text.push_str(&format!("{:MARGIN$}{arrow} {line}\n", ""));
        }
    }
    text
}

/// Words in lines of at most `width` characters; a longer word has a line of its own: it may be a name that is copied.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use longshore_preflight::Check;

    use super::*;

    #[test]
    fn findings_fit_80_columns_and_say_what_to_do() {
        let remedy =
            "grant the account the role roles/artifactregistry.writer on the repository, then run it again";
        let findings = [
            Finding::ok(Check::Reach, "us-central1-docker.pkg.dev", "answers"),
            Finding::error(
                Check::Push,
                "us-central1-docker.pkg.dev/my-project/my-repo/training",
                "the credentials of service connector gcp_connector may not push",
                Some(remedy.to_owned()),
            ),
        ];
        let plain = anstream::adapter::strip_str(&text(&findings)).to_string();
        assert!(plain.lines().all(|line| line.chars().count() <= 80), "{plain}");
        insta::assert_snapshot!(plain);
    }
}
