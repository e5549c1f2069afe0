//! What is known of each field of the settings: the table that help texts, pages and suggestions are made from.

use std::{
    collections::BTreeMap,
    num::NonZeroU16,
    path::{Path, PathBuf},
};

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
            Self::Path => "path".to_owned(),
            Self::Bool => "true or false".to_owned(),
            Self::Number => "number".to_owned(),
            Self::Word(words) => {
                words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" or ")
            }
            Self::List => "list of texts".to_owned(),
            Self::Map => "texts by name".to_owned(),
            Self::ListOrPath => "list of texts, or path".to_owned(),
            Self::TextOrList => "text, or list of texts".to_owned(),
        }
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

    /// Takes the paths in it as relative to a folder.
    fn below(&mut self, _folder: &Path) {}
}

impl Setting for String {
    const KIND: Kind = Kind::Text;
}

impl Setting for bool {
    const KIND: Kind = Kind::Bool;
}

impl Setting for NonZeroU16 {
    const KIND: Kind = Kind::Number;
}

impl Setting for Vec<String> {
    const KIND: Kind = Kind::List;
}

impl Setting for PathBuf {
    const KIND: Kind = Kind::Path;

    fn below(&mut self, folder: &Path) {
        *self = folder.join(&self);
    }
}

impl<V: Setting> Setting for BTreeMap<String, V> {
    const KIND: Kind = Kind::Map;

    fn over(&self, base: &Self) -> Self {
        let mut merged = base.clone();
        merged.extend(self.clone());
        merged
    }

    fn below(&mut self, folder: &Path) {
        self.values_mut().for_each(|value| value.below(folder));
    }
}
