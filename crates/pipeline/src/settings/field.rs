//! What is known of each field of the settings: the table that help texts, pages and suggestions are made from.

use std::{
    collections::BTreeMap,
    num::NonZeroU16,
    path::{Path, PathBuf},
};

use serde_json::Value;

/// A field of the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it is about.
    pub section: Section,
    /// What its value is.
    pub kind: Kind,
    /// What holds where it is not set: a few words.
    pub default: &'static str,
    /// What it means: its documentation in the type.
    pub doc: &'static str,
}

impl Field {
    /// Its documentation as running text.
    pub fn text(&self) -> String {
        self.doc.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// The first sentence of its documentation.
    pub fn summary(&self) -> String {
        let text = self.text();
        let end = text.find(". ").or_else(|| text.find(": ")).unwrap_or(text.len() - 1);
        text[..end].to_owned()
    }
}

/// What a field is about, in the order in which fields are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// What the image is built on.
    Parent,
    /// Which packages it has.
    Packages,
    /// Which code.
    Code,
    /// What a container of it gets.
    Container,
    /// What it is called.
    Name,
    /// How it is built and stored.
    Build,
}

impl Section {
    /// All, in order.
    pub const ALL: [Self; 6] =
        [Self::Parent, Self::Packages, Self::Code, Self::Container, Self::Name, Self::Build];

    /// Its heading.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Parent => "Parent image",
            Self::Packages => "Python packages",
            Self::Code => "Code",
            Self::Container => "Container",
            Self::Name => "Name",
            Self::Build => "Build",
        }
    }
}

/// What the value of a field is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// The path of a file.
    Path,
    /// True or false.
    Bool,
    /// A number from 1.
    Number,
    /// One of some words.
    Word(&'static [&'static str]),
    /// A list of texts.
    List,
    /// Texts by name.
    Map,
    /// A list of texts, or the path of a file.
    ListOrPath,
    /// One text, or a list of them.
    TextOrList,
}

impl Kind {
    /// In a few words, for people.
    pub fn words(self) -> String {
        match self {
            Self::Text => "text".to_owned(),
            Self::Path => "a path".to_owned(),
            Self::Bool => "true or false".to_owned(),
            Self::Number => "a number".to_owned(),
            Self::Word(words) => {
                words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" or ")
            }
            Self::List => "a list of texts".to_owned(),
            Self::Map => "texts by name".to_owned(),
            Self::ListOrPath => "a list of texts or a path".to_owned(),
            Self::TextOrList => "text or a list of texts".to_owned(),
        }
    }

    /// What is wrong with a value of another kind, as the end of a sentence. What else a field asks of its value is not said
    /// here.
    pub(super) fn mismatch(self, value: &Value) -> Option<String> {
        let text = Value::is_string;
        let texts = |value: &Value| value.as_array().is_some_and(|items| items.iter().all(text));
        let fits = match self {
            Self::Text | Self::Path | Self::Word(_) => text(value),
            Self::Bool => value.is_boolean(),
            Self::Number => value.as_u64().is_some_and(|number| (1..=u64::from(u16::MAX)).contains(&number)),
            Self::List => texts(value),
            Self::ListOrPath | Self::TextOrList => text(value) || texts(value),
            Self::Map => value.as_object().is_some_and(|entries| entries.values().all(text)),
        };
        if fits {
            return None;
        }
        let wanted = self.words();
        Some(match (self, value) {
            // A value below a name may be a secret in the wrong place.
            (Self::Map, _) => format!("must be {wanted}"),
            (Self::Number, _) => format!("must be a number from 1 to {}, not {value}", u16::MAX),
            (_, Value::Number(_) | Value::Bool(_))
                if matches!(self, Self::Text | Self::Path | Self::TextOrList) =>
            {
                format!("must be {wanted}, not {value}; put it in quotes")
            }
            (Self::List, Value::String(_)) => format!("must be {wanted}, not text; write [{value}]"),
            _ => format!("must be {wanted}, not {value}"),
        })
    }

    /// Whether settings of several levels add up: those of the nearer level win name by name, where all other kinds are
    /// replaced as a whole.
    pub const fn merges(self) -> bool {
        matches!(self, Self::Map)
    }
}

/// A value of a field.
pub(super) trait Setting: Clone {
    /// What it is.
    const KIND: Kind;

    /// This value where both levels have one.
    fn over(&self, _base: &Self) -> Self {
        self.clone()
    }

    /// What is wrong with it as a value of this field, as the end of a sentence.
    fn fault(&self, _field: &str) -> Option<String> {
        None
    }

    /// Takes the paths in it as relative to a folder.
    fn below(&mut self, _folder: &Path) {}
}

impl Setting for String {
    const KIND: Kind = Kind::Text;

    fn fault(&self, _field: &str) -> Option<String> {
        self.trim().is_empty().then(|| "is empty; leave it out or give it a value".to_owned())
    }
}

impl Setting for bool {
    const KIND: Kind = Kind::Bool;
}

impl Setting for NonZeroU16 {
    const KIND: Kind = Kind::Number;
}

impl Setting for Vec<String> {
    const KIND: Kind = Kind::List;

    fn fault(&self, _field: &str) -> Option<String> {
        let empty = self.iter().any(|text| text.trim().is_empty());
        empty.then(|| "has an empty text in it; leave it out".to_owned())
    }
}

impl Setting for PathBuf {
    const KIND: Kind = Kind::Path;

    fn fault(&self, _field: &str) -> Option<String> {
        self.as_os_str().is_empty().then(|| "is empty; leave it out or give it a value".to_owned())
    }

    fn below(&mut self, folder: &Path) {
        *self = folder.join(&self);
    }
}

impl<V: Setting> Setting for BTreeMap<String, V> {
    const KIND: Kind = Kind::Map;

    fn fault(&self, field: &str) -> Option<String> {
        let variables = field.ends_with("environment");
        self.keys().find_map(|name| match name.as_str() {
            "" => Some("has an empty name".to_owned()),
            name if name.contains('\0') || (variables && name.contains('=')) => {
                Some(format!("has the name {name:?}; the name of a variable has no `=` in it"))
            }
            _ => None,
        })
    }

    fn over(&self, base: &Self) -> Self {
        let mut merged = base.clone();
        merged.extend(self.clone());
        merged
    }

    fn below(&mut self, folder: &Path) {
        for value in self.values_mut() {
            value.below(folder);
        }
    }
}
