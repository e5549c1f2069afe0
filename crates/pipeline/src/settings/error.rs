//! Why something is not settings.

use super::DockerSettings;

/// Why some JSON is not valid settings.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// A field that does not exist.
    #[error("DockerSettings has no field `{field}`{}", suggest(.suggestion.as_deref()))]
    UnknownField {
        /// The field.
        field: String,
        /// The nearest one that exists.
        suggestion: Option<&'static str>,
    },
    /// A value of the wrong type.
    #[error("DockerSettings: `{field}`: {reason}")]
    Value {
        /// The field.
        field: &'static str,
        /// What is wrong.
        reason: serde_json::Error,
    },
    /// A value that cannot be.
    #[error("DockerSettings: `{field}` {fault}")]
    Fault {
        /// The field.
        field: &'static str,
        /// What is wrong.
        fault: String,
    },
    /// Text without a name, where there are names.
    #[error("DockerSettings: `{field}` has names: write NAME=VALUE")]
    NoName {
        /// The field.
        field: String,
    },
    /// `skip_build` without an image to use.
    #[error(
        "DockerSettings: `skip_build` uses `parent_image` as it is, and there is none: name the image there"
    )]
    NothingToUse,
}

fn suggest(suggestion: Option<&str>) -> String {
    suggestion.map_or_else(
        || {
            let names: Vec<_> = DockerSettings::FIELDS.iter().map(|field| field.name).collect();
            format!("; it has {}", names.join(", "))
        },
        |field| format!("; did you mean `{field}`?"),
    )
}

impl SettingsError {
    /// The error of a field that does not exist.
    pub(super) fn unknown(field: &str) -> Self {
        let suggestion = DockerSettings::FIELDS
            .iter()
            .map(|known| (strsim::jaro_winkler(known.name, &field.to_lowercase()), known.name))
            .filter(|(likeness, _)| *likeness > 0.8)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, known)| known);
        Self::UnknownField { field: field.to_owned(), suggestion }
    }
}
