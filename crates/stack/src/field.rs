//! The configuration values that a flavor takes.

use std::collections::BTreeMap;

/// One configuration value of a flavor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name: `default_repository`. As an option of a command: `--default_repository` or `--default-repository`.
    pub name: &'static str,
    /// What it means, in a line.
    pub help: &'static str,
    /// What is put in its place in help texts.
    pub value_name: &'static str,
    /// Whether it must be given.
    pub need: Need,
    /// What it may be.
    pub shape: Shape,
    /// What holds where it is not given.
    pub default: Option<&'static str>,
}

/// Whether a value must be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It must.
    Required,
    /// It may.
    Optional,
}

/// What a value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The URI of a registry, which the flavor checks further.
    RegistryUri,
    /// The URI of an artifact store, of the flavor's scheme.
    StoreUri,
    /// The path of a repository below a registry's URI.
    RepositoryPath,
    /// `true` or `false`.
    Switch,
    /// A whole number, one or more.
    Count,
    /// Any text that is not empty.
    Text,
    /// `key=value,key=value`
    Tags,
}

/// The values of a component: by the names of its flavor's fields. What stands in the database and is shown.
pub type Values = BTreeMap<String, String>;

/// A switch, as users write it.
pub(crate) fn switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// Tags, as users write them: `team=ml,cost=42`.
pub(crate) fn tags(text: &str) -> Option<BTreeMap<String, String>> {
    text.split(',')
        .map(|tag| {
            let (key, value) = tag.split_once('=')?;
            let key = key.trim();
            (!key.is_empty()).then(|| (key.to_owned(), value.trim().to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_are_read_as_people_write_them() {
        assert_eq!((switch("True"), switch("off"), switch("maybe")), (Some(true), Some(false), None));
    }

    #[test]
    fn tags_have_keys() {
        let expected = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "x=y".to_owned())]);
        assert_eq!(tags("a=1, b=x=y"), Some(expected));
        for bad in ["a", "=1", "a=1,", ""] {
            assert_eq!(tags(bad), None, "{bad}");
        }
    }
}
