//! What a check found.

use std::fmt;

use serde::Serialize;

/// One thing that was checked, and how it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How it is.
    pub level: Level,
    /// What was checked.
    pub check: Check,
    /// On which object: a host, a repository, a connector, a folder.
    pub object: String,
    /// What was found, and why it is so.
    pub message: String,
    /// What mends it: a command, or where to look. None for what is well.
    pub remedy: Option<String>,
}

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works now, and may not for long.
    Warning,
    /// A build or run that needs it would fail.
    Error,
}

/// What is checked, in the order in which one depends on the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// Something of this machine: a folder, a program.
    Machine,
    /// The registry answers as one.
    Reach,
    /// This machine's clock agrees with the registry's.
    Clock,
    /// The credentials are accepted.
    Authenticate,
    /// The credentials stay good for as long as a build takes.
    Expiry,
    /// The repository is there, or will be created.
    Repository,
    /// Images can be read.
    Pull,
    /// Images can be written.
    Push,
    /// A stored connector gets credentials.
    Connector,
    /// A stack has the parts that it names.
    Stack,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Machine => "machine",
            Self::Reach => "reach",
            Self::Clock => "clock",
            Self::Authenticate => "authenticate",
            Self::Expiry => "expiry",
            Self::Repository => "repository",
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Connector => "connector",
            Self::Stack => "stack",
        })
    }
}

impl Finding {
    /// Something that is well.
    pub fn ok(check: Check, object: impl Into<String>, message: impl Into<String>) -> Self {
        Self { level: Level::Ok, check, object: object.into(), message: message.into(), remedy: None }
    }

    /// Something that may not be well for long.
    pub fn warning(
        check: Check,
        object: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (object, message) = (object.into(), message.into());
        Self { level: Level::Warning, check, object, message, remedy: Some(remedy.into()) }
    }

    /// Something that is not well. Its message may already say what to do.
    pub fn error(
        check: Check,
        object: impl Into<String>,
        message: impl Into<String>,
        remedy: Option<String>,
    ) -> Self {
        Self { level: Level::Error, check, object: object.into(), message: message.into(), remedy }
    }
}

impl fmt::Display for Finding {
    /// `push gcr.io/p/app: the credentials may not push; grant …`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.check, self.object, self.message)?;
        match &self.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

/// The worst of several findings.
pub fn worst(findings: &[Finding]) -> Level {
    findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_says_what_where_why_and_what_to_do() {
        let remedy = Some("grant the role roles/artifactregistry.writer".to_owned());
        let finding = Finding::error(Check::Push, "gcr.io/p/app", "the credentials may not push", remedy);
        assert_eq!(
            finding.to_string(),
            "push gcr.io/p/app: the credentials may not push; grant the role roles/artifactregistry.writer"
        );
    }

    #[test]
    fn the_worst_decides() {
        let ok = Finding::ok(Check::Reach, "a", "answers");
        let warning = Finding::warning(Check::Clock, "a", "2 minutes ahead", "set it");
        assert_eq!(worst(&[ok.clone(), warning, ok]), Level::Warning);
        assert_eq!(worst(&[]), Level::Ok);
    }
}
