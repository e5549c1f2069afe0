//! uv's messages, understood. The texts are those of uv 0.9 to 0.13; one that is not known is passed on as it is.

use crate::{error::Resolution, target::Target, uv::environment::without_credentials};

/// What uv's standard error says, as a typed error.
pub(super) fn explain(stderr: &str, target: Target) -> Resolution {
    let text = without_credentials(stderr);
    let message = Message::parse(&text);
    let whole = message.sentence();
    let head = message.head.as_str();

    if let Some(resolution) = syntax(head, &message) {
        return resolution;
    }
    if whole.contains("No interpreter found") {
        return Resolution::NoPython;
    }
    if whole.contains("HTTP status server error") {
        return Resolution::Broken { explanation: message.cause() };
    }
    let denied = ["401 Unauthorized", "403 Forbidden", "407 Proxy"];
    if denied.iter().any(|status| whole.contains(status)) {
        return Resolution::Denied { explanation: whole };
    }
    if whole.contains("Git executable not found") {
        return Resolution::NoGit;
    }
    if head.starts_with("Git operation failed") {
        return Resolution::Repository { explanation: message.cause() };
    }
    if let Some((_, rest)) = whole.split_once("Failed to build `") {
        let package = bare(rest.split('`').next().unwrap_or(rest));
        return Resolution::SourceMetadata { package, explanation: message.cause() };
    }
    let unreachable = [
        "error sending request",
        "Request failed after",
        "dns error",
        "tcp connect error",
        "operation timed out",
        "network was disabled",
        "Failed to fetch",
    ];
    if unreachable.iter().any(|sign| whole.contains(sign)) {
        return Resolution::Network { explanation: message.cause() };
    }
    if !head.starts_with("No solution found") {
        return Resolution::Other { explanation: whole };
    }

    let cause = message.cause();
    let hint = message.hints.join(" ");
    if let Some(package) = word_before(&cause, " was not found in the package registry") {
        return Resolution::UnknownPackage { package: bare(package) };
    }
    for sign in ["Python ABI", "platform", "Python implementation"] {
        if let Some(package) = word_before(&cause, &format!(" has no wheels with a matching {sign} tag")) {
            let explanation = if hint.is_empty() { cause.clone() } else { hint };
            return Resolution::NoWheel { package: bare(package), target, explanation };
        }
    }
    if let Some((_, rest)) = hint.split_once("Wheels are required for `") {
        let package = rest.split('`').next().unwrap_or(rest);
        return Resolution::OnlySource { package: package.to_owned(), target };
    }
    for sign in ["there is no version of ", "there are no versions of ", "only the following versions of "] {
        if let Some((_, rest)) = cause.split_once(sign) {
            let requirement =
                rest.split(" and ").next().unwrap_or(rest).split_whitespace().next().unwrap_or(rest);
            let package = bare(requirement);
            if !package.is_empty() && !cause.contains("depends on") {
                return Resolution::UnknownVersion {
                    package,
                    requirement: requirement.to_owned(),
                    explanation: cause,
                };
            }
        }
    }
    Resolution::Conflict { explanation: cause }
}

fn syntax(head: &str, message: &Message) -> Option<Resolution> {
    let parsing = head.starts_with("Couldn't parse")
        || head.starts_with("Unexpected")
        || head.starts_with("Unsupported");
    if !parsing {
        return None;
    }
    // The cause is the reason, then the line, then a row of `^` under what is wrong.
    let (reason, text) = match &message.causes[..] {
        [cause, ..] => {
            let mut lines = cause.lines();
            (lines.next().unwrap_or_default().to_owned(), lines.next().unwrap_or_default().trim().to_owned())
        }
        [] => (head.to_owned(), String::new()),
    };
    if text.is_empty() {
        return Some(Resolution::Other { explanation: message.sentence() });
    }
    Some(Resolution::Syntax { text, reason })
}

/// `error: head`, `cause: …` with continuation lines, `hint: …`.
#[derive(Default)]
struct Message {
    head: String,
    causes: Vec<String>,
    hints: Vec<String>,
}

impl Message {
    fn parse(text: &str) -> Self {
        let mut message = Self::default();
        // Where a continuation line belongs; before the error there are warnings and progress.
        let mut open: Option<fn(&mut Self) -> Option<&mut String>> = None;
        for line in text.lines() {
            let trimmed = line.trim();
            if let Some(head) = line.strip_prefix("error: ") {
                head.clone_into(&mut message.head);
                open = Some(|message| Some(&mut message.head));
            } else if let Some(cause) = trimmed.strip_prefix("cause: ").filter(|_| open.is_some()) {
                message.causes.push(cause.to_owned());
                open = Some(|message| message.causes.last_mut());
            } else if let Some(hint) = trimmed.strip_prefix("hint: ") {
                message.hints.push(hint.to_owned());
                open = Some(|message| message.hints.last_mut());
            } else if trimmed.starts_with("warning: ") {
                open = None;
            } else if let Some(current) =
                open.and_then(|open| open(&mut message)).filter(|_| !trimmed.is_empty())
            {
                current.push('\n');
                current.push_str(trimmed);
            }
        }
        if message.head.is_empty() {
            text.trim().clone_into(&mut message.head);
        }
        message
    }

    /// The causes as one sentence, without uv's last step of reasoning, which says nothing new.
    fn cause(&self) -> String {
        let causes = if self.causes.is_empty() { std::slice::from_ref(&self.head) } else { &self.causes };
        let text = causes.iter().map(|cause| one_line(cause)).collect::<Vec<_>>().join(": ");
        let text = text.replace(", we can conclude that your requirements are unsatisfiable.", "");
        text.trim_end_matches('.').to_owned()
    }

    fn sentence(&self) -> String {
        let parts = std::iter::once(&self.head).chain(&self.causes).chain(&self.hints);
        parts.map(|part| one_line(part).trim_end_matches('.').to_owned()).collect::<Vec<_>>().join("; ")
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The last word before `sign`.
fn word_before<'a>(text: &'a str, sign: &str) -> Option<&'a str> {
    text.split_once(sign)?.0.split_whitespace().next_back()
}

/// `pandas` of `pandas==99.0` and `pandas[excel]`.
fn bare(requirement: &str) -> String {
    let end = requirement.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')));
    requirement[..end.unwrap_or(requirement.len())].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::{Glibc, PythonVersion};
    use longshore_oci::Arch;
    use proptest::prelude::*;

    const TARGET: Target = Target {
        python: PythonVersion::new(3, 11, 2),
        arch: Arch::Amd64,
        glibc: Glibc { major: 2, minor: 36 },
    };

    #[test]
    fn warnings_before_the_error_are_not_the_error() {
        let said = "warning: Something about a Python\n  cause: of little interest\n\nerror: No solution found when resolving dependencies\n  cause: you require x<0 and x>=1, which are incompatible\n";
        assert_eq!(
            explain(said, TARGET),
            Resolution::Conflict { explanation: "you require x<0 and x>=1, which are incompatible".into() }
        );
    }

    #[test]
    fn credentials_in_messages_are_hidden() {
        let said = "error: Request failed after 3 retries\n  cause: Failed to fetch: https://me:sekrit@h.invalid/simple/\n";
        assert!(!explain(said, TARGET).to_string().contains("sekrit"));
    }

    #[test]
    fn an_index_with_a_fault_is_not_one_that_is_away() {
        let said = "error: Request failed after 3 retries\n  cause: Failed to fetch: http://h.invalid/simple/a/\n  \
                    cause: HTTP status server error (503 Service Unavailable) for url (http://h.invalid/simple/a/)\n";
        assert!(
            matches!(explain(said, TARGET), Resolution::Broken { explanation } if explanation.contains("503"))
        );
        let away = said.replace("HTTP status server error (503 Service Unavailable)", "dns error");
        assert!(matches!(explain(&away, TARGET), Resolution::Network { .. }));
    }

    #[test]
    fn an_unknown_message_is_passed_on() {
        let explained = explain("thread panicked at something", TARGET);
        assert!(
            matches!(&explained, Resolution::Other { explanation } if explanation.contains("thread panicked"))
        );
    }

    proptest! {
        #[test]
        fn explaining_never_panics(said in "(error: |  cause: |hint: |Because | has no |\\PC{0,10}|\n){0,30}") {
            let _ = explain(&said, TARGET);
        }
    }
}
