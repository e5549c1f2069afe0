//! A table during one piece of work: rows of others stand in for those that are missing, and what was used is known
//! afterwards.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Serialize, de::DeserializeOwned};

use super::{Row, Table};
use crate::Result;

/// Rows that others have computed. They are asked for what the table itself lacks, in the thread that looks it up.
pub trait Elsewhere: fmt::Debug + Send + Sync {
    /// The value of a row, as JSON; its key is JSON without blanks, maps sorted. `None` too for what cannot be trusted.
    fn find(&self, kind: &str, key: &str) -> Option<String>;
}

/// Where a row was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// In the table.
    Here,
    /// Among those of others.
    Elsewhere,
    /// It was computed.
    Made,
}

/// A row that was looked up or written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedRow {
    /// Its kind.
    pub kind: String,
    /// Its key, as JSON without blanks, maps sorted.
    pub key: String,
    /// Its value, as JSON.
    pub value: String,
    /// Where it was found.
    pub found: Found,
}

/// What may be looked up.
#[derive(Debug)]
enum Memory {
    /// What the table has, and what others have.
    All(Option<Arc<dyn Elsewhere>>),
    /// What was written since.
    Own,
}

#[derive(Debug)]
pub(super) struct Session {
    memory: Memory,
    used: Mutex<BTreeMap<(String, String), (String, Found)>>,
}

impl Table {
    /// The same table for one piece of work: what it lacks is looked for among the rows of others, and [`Table::used`] says
    /// what was looked up and written.
    #[must_use]
    pub fn session(&self, others: Option<Arc<dyn Elsewhere>>) -> Self {
        self.with(Memory::All(others))
    }

    /// The same table for work that is to be done anew: a row is found only if it was written since.
    #[must_use]
    pub fn anew(&self) -> Self {
        self.with(Memory::Own)
    }

    /// The same table, for rows that are nobody else's business.
    #[must_use]
    pub fn apart(&self) -> Self {
        match self.session.as_ref().map(|session| &session.memory) {
            None | Some(Memory::All(_)) => Self { session: None, ..self.clone() },
            Some(Memory::Own) => self.anew(),
        }
    }

    fn with(&self, memory: Memory) -> Self {
        let session = Session { memory, used: Mutex::default() };
        Self { session: Some(Arc::new(session)), ..self.clone() }
    }

    /// The rows that were looked up or written since the session began, by kind and key.
    pub fn used(&self) -> Vec<UsedRow> {
        let Some(session) = &self.session else { return Vec::new() };
        let used = session.used.lock().unwrap_or_else(PoisonError::into_inner);
        let row = |((kind, key), (value, found)): (&(String, String), &(String, Found))| UsedRow {
            kind: kind.clone(),
            key: key.clone(),
            value: value.clone(),
            found: *found,
        };
        used.iter().map(row).collect()
    }

    /// Writes down what came from others: it has proved right.
    pub fn keep(&self) -> Result<()> {
        for row in self.used().iter().filter(|row| row.found == Found::Elsewhere) {
            let key: &serde_json::value::RawValue = match serde_json::from_str(&row.key) {
                Ok(key) => key,
                Err(source) => return Err(crate::StoreError::Row { kind: row.kind.clone(), source }),
            };
            self.write(&Row::new(&row.kind, &key)?, &row.value)?;
        }
        Ok(())
    }

    /// Forgets that a row was looked up: it has proved wrong.
    pub fn disown(&self, kind: &str, key: &impl Serialize) {
        if let (Some(session), Ok(row)) = (&self.session, Row::new(kind, key)) {
            let mut used = session.used.lock().unwrap_or_else(PoisonError::into_inner);
            used.remove(&(row.kind.to_owned(), row.key));
        }
    }
}

impl Session {
    pub(super) fn get<V: DeserializeOwned>(
        &self,
        row: &Row<'_>,
        here: impl FnOnce() -> Option<String>,
    ) -> Option<V> {
        let parse = |text: &String| serde_json::from_str::<V>(text).ok();
        let others = match &self.memory {
            Memory::All(others) => others,
            Memory::Own => {
                let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
                return used.get(&(row.kind.to_owned(), row.key.clone())).and_then(|(text, _)| parse(text));
            }
        };
        if let Some(text) = here()
            && let Some(value) = parse(&text)
        {
            self.note(row, text, Found::Here);
            return Some(value);
        }
        let text = others.as_ref()?.find(row.kind, &row.key)?;
        let value = parse(&text)?;
        self.note(row, text, Found::Elsewhere);
        Some(value)
    }

    pub(super) fn note(&self, row: &Row<'_>, value: String, found: Found) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.insert((row.kind.to_owned(), row.key.clone()), (value, found));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(Debug)]
    struct Others;

    impl Elsewhere for Others {
        fn find(&self, kind: &str, key: &str) -> Option<String> {
            (kind == "layer" && key == r#"{"a":1,"b":2}"#).then(|| "7".to_owned())
        }
    }

    fn table() -> (tempfile::TempDir, Table) {
        let root = tempfile::tempdir().unwrap();
        let table = Table::open(root.path()).unwrap();
        (root, table)
    }

    #[test]
    fn what_others_have_is_used_and_kept_only_when_it_has_proved_right() {
        let (_root, table) = table();
        let key = json!({ "b": 2, "a": 1 });
        let session = table.session(Some(Arc::new(Others)));
        assert_eq!(session.get::<u32>("layer", &key), Some(7));
        assert_eq!(session.get::<String>("layer", &key), None, "of another shape");
        assert_eq!(session.get::<u32>("layer", &1), None);
        assert_eq!(session.used()[0].found, Found::Elsewhere);
        assert_eq!(table.get::<u32>("layer", &key), None);
        session.keep().unwrap();
        assert_eq!(table.get::<u32>("layer", &key), Some(7));
        let session = table.session(None);
        assert_eq!(session.get::<u32>("layer", &key), Some(7));
        assert_eq!(session.used()[0].found, Found::Here);
    }

    #[test]
    fn what_has_proved_wrong_is_not_kept() {
        let (_root, table) = table();
        let key = json!({ "a": 1, "b": 2 });
        let session = table.session(Some(Arc::new(Others)));
        assert_eq!(session.get::<u32>("layer", &key), Some(7));
        session.disown("layer", &key);
        session.keep().unwrap();
        assert_eq!(table.get::<u32>("layer", &key), None);
        session.put("layer", &key, &8).unwrap();
        session.keep().unwrap();
        assert_eq!(table.get::<u32>("layer", &key), Some(8));
    }

    #[test]
    fn work_that_is_done_anew_finds_its_own_rows_only() {
        let (_root, table) = table();
        table.put("lock", &1, &"old").unwrap();
        let anew = table.anew();
        assert_eq!(anew.get::<String>("lock", &1), None);
        assert_eq!(anew.apart().get::<String>("lock", &1), None);
        anew.put("lock", &1, &"new").unwrap();
        assert_eq!(anew.get::<String>("lock", &1).as_deref(), Some("new"));
        assert_eq!(table.get::<String>("lock", &1).as_deref(), Some("new"));
    }
}
