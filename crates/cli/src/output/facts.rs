//! What one thing is: a line for each fact.

use std::{
    fmt::Display,
    io::{self, Write},
};

use jiff::Timestamp;
use longshore_stack::Name;

/// What stands where a secret would.
pub(crate) const HIDDEN: &str = "***";

/// Labels and values, in order.
#[derive(Debug, Default)]
pub(crate) struct Facts(Vec<(String, String)>);

impl Facts {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a fact.
    pub(crate) fn add(&mut self, label: &str, value: impl Display) {
        self.0.push((label.to_owned(), value.to_string()));
    }

    /// Adds a fact, if it is known.
    pub(crate) fn add_some(&mut self, label: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.add(label, value);
        }
    }

    /// Adds when something was registered, and when it was changed last.
    pub(crate) fn add_times(&mut self, created: Option<Timestamp>, updated: Option<Timestamp>) {
        let second = |time: Timestamp| format!("{time:.0}");
        self.add_some("created", created.map(second));
        self.add_some("updated", updated.filter(|updated| Some(*updated) != created).map(second));
    }

    /// Writes them to standard output.
    pub(crate) fn print(&self) -> io::Result<()> {
        let width = self.0.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
        let mut out = io::stdout().lock();
        for (label, value) in &self.0 {
            writeln!(out, "{}", format!("{label:<width$}  {value}").trim_end())?;
        }
        Ok(())
    }
}

/// Names in a line; `-` for none.
pub(crate) fn names(names: &[Name]) -> String {
    if names.is_empty() {
        return "-".to_owned();
    }
    names.iter().map(Name::as_str).collect::<Vec<_>>().join(", ")
}
