//! Options that come from a table: the configuration values of flavors and the fields of connectors.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use clap::{
    Arg, ArgMatches, Args, Command, Error, FromArgMatches,
    builder::{PossibleValue, StringValueParser, TypedValueParser},
    error::ErrorKind,
};

/// One option of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableOption {
    /// The field's name, with underscores. The option has dashes; `spelling` makes both alike.
    pub(crate) name: &'static str,
    /// What it means.
    pub(crate) help: String,
    /// What stands for its value in help texts.
    pub(crate) value_name: String,
    /// The heading below which help texts list it.
    pub(crate) heading: String,
}

/// A table of options.
pub(crate) trait OptionTable {
    /// Its options, in the order in which help texts list them. No two have the same name.
    fn options() -> Vec<TableOption>;
}

/// The values that were given for the options of a table, as they were written. They may be secrets.
#[derive(Clone)]
pub(crate) struct Written<T> {
    values: BTreeMap<&'static str, String>,
    table: PhantomData<T>,
}

impl<T> Written<T> {
    /// The values, by the names of their fields.
    pub(crate) const fn values(&self) -> &BTreeMap<&'static str, String> {
        &self.values
    }
}

impl<T> fmt::Debug for Written<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

impl<T: OptionTable> Args for Written<T> {
    fn augment_args(command: Command) -> Command {
        T::options().into_iter().fold(command, |command, option| {
            let argument = Arg::new(option.name)
                .long(option.name.replace('_', "-"))
                .help(option.help)
                .value_name(option.value_name)
                .help_heading(option.heading)
                // Passwords and keys begin as they like.
                .allow_hyphen_values(true);
            command.arg(argument)
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<T: OptionTable> FromArgMatches for Written<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let given =
            |option: TableOption| Some((option.name, matches.get_one::<String>(option.name)?.clone()));
        Ok(Self { values: T::options().into_iter().filter_map(given).collect(), table: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Reads one of several words that a table has. What else is written gets the table's own answer.
#[derive(Clone)]
pub(crate) struct WordParser<T> {
    /// The words, with what they mean.
    pub(crate) words: fn() -> Vec<(&'static str, &'static str)>,
    /// What a word stands for.
    pub(crate) read: fn(&str) -> Result<T, String>,
}

impl<T: Clone + Send + Sync + 'static> TypedValueParser for WordParser<T> {
    type Value = T;

    fn parse_ref(
        &self,
        command: &Command,
        argument: Option<&Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<T, Error> {
        let text = StringValueParser::new().parse_ref(command, argument, value)?;
        (self.read)(&text)
            .map_err(|reason| Error::raw(ErrorKind::ValueValidation, format!("{reason}\n")).with_cmd(command))
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let words = (self.words)();
        Some(Box::new(words.into_iter().map(|(word, meaning)| PossibleValue::new(word).help(meaning))))
    }
}
