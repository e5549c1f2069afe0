//! What goes wrong with the database, and what it refuses.

use std::{fmt, path::PathBuf};

use longshore_auth::connector::ConnectorType;

use crate::{ComponentKind, ConfigurationError, Flavor, Misfit, Name, SealError};

/// What a name is the name of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A component of that kind.
    Component(ComponentKind),
    /// A service connector.
    Connector,
    /// A stack.
    Stack,
}

impl Subject {
    /// The command that is about it.
    pub const fn command(self) -> &'static str {
        match self {
            Self::Component(kind) => kind.as_str(),
            Self::Connector => "service-connector",
            Self::Stack => "stack",
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Component(kind) => kind.noun(),
            Self::Connector => "service connector",
            Self::Stack => "stack",
        })
    }
}

/// Why the database cannot be used, or why it refuses what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The folder or file cannot be made.
    #[error("cannot create the database {path}: {source}; check the folder's owner, or set LONGSHORE_HOME")]
    Create {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// SQLite refused.
    #[error("the database {path} cannot be used: {source}{}", remedy(source))]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A newer longshore wrote it.
    #[error("the database {path} was written by a newer longshore (version {found}); update this one")]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version found.
        found: u32,
    },
    /// A row that this program did not write.
    #[error("the database {path} has a damaged row: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Nothing has that name.
    #[error("there is no {subject} named `{name}`{}", others(*.subject, .name, .existing))]
    NotFound {
        /// What was looked for.
        subject: Subject,
        /// Its name.
        name: String,
        /// The names that exist.
        existing: Vec<Name>,
    },
    /// Something else has that name.
    #[error("a {subject} named `{name}` exists already; choose another name, or change it with `longshore {} update {name}`", .subject.command())]
    Taken {
        /// What was to get the name.
        subject: Subject,
        /// The name.
        name: Name,
    },
    /// It is always there and never changes.
    #[error("{subject} `{name}` is built in and cannot be {verb}")]
    BuiltIn {
        /// What it is.
        subject: Subject,
        /// Its name.
        name: Name,
        /// What was asked: `deleted`.
        verb: &'static str,
    },
    /// Something needs it.
    #[error("{subject} `{name}` is used by {}; {remedy}", .users.join(", "))]
    InUse {
        /// What it is.
        subject: Subject,
        /// Its name.
        name: Name,
        /// What uses it: `stack `prod``.
        users: Vec<String>,
        /// What to do first.
        remedy: String,
    },
    /// Another process changed what was being checked.
    #[error("{subject} `{name}` was changed by another process meanwhile; nothing was stored; try again")]
    Changed {
        /// What it is.
        subject: Subject,
        /// Its name.
        name: Name,
    },
    /// The flavor takes no credentials of that type.
    #[error("{}", wrong_connector(*.flavor, .component, .connector, *.connector_type))]
    WrongConnector {
        /// The component.
        component: Name,
        /// Its flavor.
        flavor: Flavor,
        /// The connector.
        connector: Name,
        /// Its type.
        connector_type: ConnectorType,
    },
    /// The stack lacks what its orchestrator needs.
    #[error(
        "stack `{stack}` needs a {kind}: orchestrator `{orchestrator}` (flavor {}) runs steps in containers; add \
         --{kind_option}, one of: {}",
        .flavor.as_str(), list(.existing), kind_option = .kind.as_str()
    )]
    Lacks {
        /// The stack.
        stack: Name,
        /// The orchestrator.
        orchestrator: Name,
        /// Its flavor.
        flavor: Flavor,
        /// What is missing.
        kind: ComponentKind,
        /// What there is.
        existing: Vec<Name>,
    },
    /// A stack that was written by another version.
    #[error(
        "the file of the stack has version {found}, this longshore reads version {}; export the stack anew",
        crate::stack_file::VERSION
    )]
    FileVersion {
        /// The version found.
        found: u32,
    },
    /// A file of a stack names what does not exist, or has the kind of another.
    #[error("the file of the stack: {0}")]
    File(String),
    /// No run has that identity.
    #[error("there is no run `{0}`; `longshore run list` shows those there are")]
    UnknownRun(String),
    /// Several runs' identities begin so.
    #[error("several runs begin with `{run}`: {}; write more of it", .found.join(", "))]
    AmbiguousRun {
        /// What was written.
        run: String,
        /// The runs.
        found: Vec<String>,
    },
    /// The stack's components cannot work together.
    #[error("stack `{stack}`: {misfit}")]
    Misfit {
        /// The stack.
        stack: Name,
        /// Which, and why.
        misfit: Misfit,
    },
    /// The values are not a configuration of the flavor.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// A secret cannot be sealed or opened.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// What can be done about a file that is no database any more.
fn remedy(error: &rusqlite::Error) -> &'static str {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => {
            "; put back a copy of it, or move it away: then what was registered, and the record of builds and runs, begin \
             anew, and the images stay"
        }
        _ => "",
    }
}

impl StateError {
    /// Whether what was asked makes no sense as it was written, whatever is registered: wrong usage.
    pub const fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::NotFound { .. }
                | Self::Configuration(_)
                | Self::WrongConnector { .. }
                | Self::Lacks { .. }
                | Self::Misfit { .. }
                | Self::FileVersion { .. }
                | Self::File(_)
                | Self::UnknownRun(_)
                | Self::AmbiguousRun { .. }
        )
    }
}

fn list(names: &[Name]) -> String {
    names.iter().map(Name::as_str).collect::<Vec<_>>().join(", ")
}

/// What else there is, the likeliest first.
fn others(subject: Subject, name: &str, existing: &[Name]) -> String {
    let closest = existing
        .iter()
        .map(|other| (strsim::jaro_winkler(other.as_str(), name), other))
        .filter(|(likeness, _)| *likeness > 0.85)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match (closest, existing) {
        (_, []) => format!("; register one with `longshore {} register {name} …`", subject.command()),
        (Some((_, closest)), [_, _, ..]) => {
            format!("; did you mean `{closest}`? There are: {}", list(existing))
        }
        _ => format!("; there are: {}", list(existing)),
    }
}

fn wrong_connector(flavor: Flavor, component: &Name, connector: &Name, is: ConnectorType) -> String {
    let kind = flavor.kind();
    let types: Vec<_> = flavor.connectors().iter().map(|kind| kind.name()).collect();
    if types.is_empty() {
        return format!("{kind} `{component}` (flavor {}) takes no service connector", flavor.as_str());
    }
    format!(
        "service connector `{connector}` is of type {is}, and {kind} `{component}` (flavor {}) takes one of: {}",
        flavor.as_str(),
        types.join(", ")
    )
}
