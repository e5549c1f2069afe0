//! The database of components, service connectors, stacks, builds and runs.

mod components;
mod connectors;
mod error;
mod exchange;
mod runs;
mod stacks;

use std::{
    fs,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::{Name, Origin, home::KEY_FILE};

pub use components::NewComponent;
pub use connectors::{NewConnector, RegisteredConnector};
pub use error::{StateError, Subject};
pub use stacks::Selection;

/// The version of the database that this program reads and writes.
const VERSION: u32 = 3;

/// What brings a database from one version to the next, oldest first. `user_version` counts those applied;
/// an entry never changes once released.
const MIGRATIONS: [&str; VERSION as usize] = [
    "CREATE TABLE build (
        id INTEGER PRIMARY KEY, created TEXT NOT NULL, pipeline TEXT NOT NULL, image TEXT NOT NULL, inputs TEXT NOT NULL
     ) STRICT;
     CREATE TABLE run (
        id TEXT PRIMARY KEY, pipeline TEXT NOT NULL, stack TEXT NOT NULL, image TEXT,
        started TEXT NOT NULL, finished TEXT, status TEXT NOT NULL
     ) STRICT, WITHOUT ROWID;
     CREATE TABLE step (
        run TEXT NOT NULL REFERENCES run (id), position INTEGER NOT NULL, name TEXT NOT NULL,
        started TEXT NOT NULL, finished TEXT, status TEXT NOT NULL, PRIMARY KEY (run, name)
     ) STRICT, WITHOUT ROWID;",
    "CREATE TABLE connector (
        id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, type TEXT NOT NULL, method TEXT NOT NULL, plain TEXT NOT NULL,
        created TEXT NOT NULL, updated TEXT NOT NULL
     ) STRICT, WITHOUT ROWID;
     CREATE TABLE secret (
        connector TEXT NOT NULL REFERENCES connector (id) ON DELETE CASCADE, field TEXT NOT NULL, sealed BLOB NOT NULL,
        PRIMARY KEY (connector, field)
     ) STRICT, WITHOUT ROWID;
     CREATE TABLE component (
        id TEXT PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, flavor TEXT NOT NULL, configuration TEXT NOT NULL,
        connector TEXT REFERENCES connector (id), built_in INTEGER NOT NULL,
        created TEXT NOT NULL, updated TEXT NOT NULL, UNIQUE (kind, name)
     ) STRICT, WITHOUT ROWID;
     CREATE TABLE stack (
        id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, orchestrator TEXT NOT NULL REFERENCES component (id),
        container_registry TEXT REFERENCES component (id), image_builder TEXT REFERENCES component (id),
        artifact_store TEXT NOT NULL REFERENCES component (id), built_in INTEGER NOT NULL,
        created TEXT NOT NULL, updated TEXT NOT NULL
     ) STRICT, WITHOUT ROWID;
     CREATE TABLE active (
        one INTEGER PRIMARY KEY CHECK (one = 1), stack TEXT NOT NULL REFERENCES stack (id)
     ) STRICT;
     INSERT INTO component (id, kind, name, flavor, configuration, built_in, created, updated) VALUES
        ('o1', 'orchestrator', 'local', 'local', '{}', 1, '1970-01-01T00:00:00Z', '1970-01-01T00:00:00Z'),
        ('o2', 'orchestrator', 'local_container', 'local_container', '{}', 1, '1970-01-01T00:00:00Z', '1970-01-01T00:00:00Z'),
        ('c1', 'container-registry', 'embedded', 'embedded', '{}', 1, '1970-01-01T00:00:00Z', '1970-01-01T00:00:00Z'),
        ('i1', 'image-builder', 'local', 'local', '{}', 1, '1970-01-01T00:00:00Z', '1970-01-01T00:00:00Z'),
        ('a1', 'artifact-store', 'local', 'local', '{}', 1, '1970-01-01T00:00:00Z', '1970-01-01T00:00:00Z');
     INSERT INTO stack VALUES
        ('s1', 'default', 'o2', 'c1', 'i1', 'a1', 1, '1970-01-01T00:00:00Z', '1970-01-01T00:00:00Z'),
        ('s2', 'local', 'o1', NULL, NULL, 'a1', 1, '1970-01-01T00:00:00Z', '1970-01-01T00:00:00Z');
     INSERT INTO active VALUES (1, 's1');",
    "ALTER TABLE run ADD COLUMN orchestrator TEXT;
     ALTER TABLE run ADD COLUMN graph TEXT NOT NULL DEFAULT '[]';",
];

/// The open database.
#[derive(Debug)]
pub struct State {
    path: PathBuf,
    connection: Connection,
}

impl State {
    /// Opens the database at `path`, making it if there is none, readable by its owner only.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let create = |source| StateError::Create { path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(create)?;
        }
        // SQLite gives its journal and WAL files the mode of the database, so the file is made before it.
        let file = fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path).map_err(create)?;
        file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(create)?;
        drop(file);
        let sqlite = |source| StateError::Sqlite { path: path.to_owned(), source };
        let mut connection = Connection::open(path).map_err(sqlite)?;
        connection.busy_timeout(Duration::from_secs(10)).map_err(sqlite)?;
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON;",
            )
            .map_err(sqlite)?;
        let version = |connection: &Connection| {
            connection.query_row("PRAGMA user_version", [], |row| row.get::<_, u32>(0)).map_err(sqlite)
        };
        if version(&connection)? < VERSION {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sqlite)?;
            // Another process may have been first.
            for migration in MIGRATIONS.iter().skip(version(&transaction)? as usize) {
                transaction.execute_batch(migration).map_err(sqlite)?;
            }
            transaction.pragma_update(None, "user_version", VERSION).map_err(sqlite)?;
            transaction.commit().map_err(sqlite)?;
        }
        let found = version(&connection)?;
        if found > VERSION {
            return Err(StateError::Newer { path: path.to_owned(), found });
        }
        Ok(Self { path: path.to_owned(), connection })
    }

    fn sqlite(&self, source: rusqlite::Error) -> StateError {
        StateError::Sqlite { path: self.path.clone(), source }
    }

    fn execute(&self, sql: &str, parameters: impl rusqlite::Params) -> Result<(), StateError> {
        self.connection.execute(sql, parameters).map(drop).map_err(|source| self.sqlite(source))
    }

    /// Does all of `work` or nothing, and lets no other process write in between.
    fn transaction<T>(&self, work: impl FnOnce() -> Result<T, StateError>) -> Result<T, StateError> {
        let transaction = Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)
            .map_err(|source| self.sqlite(source))?;
        let done = work()?;
        transaction.commit().map_err(|source| self.sqlite(source))?;
        Ok(done)
    }

    /// The rows that a query gives, each read by `read`.
    fn query<T>(
        &self,
        sql: &str,
        parameters: impl rusqlite::Params,
        read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StateError> {
        let rows =
            || self.connection.prepare(sql)?.query_map(parameters, read)?.collect::<Result<Vec<_>, _>>();
        rows().map_err(|source| self.sqlite(source))
    }

    /// The key that seals secrets.
    fn key_file(&self) -> PathBuf {
        self.path.with_file_name(KEY_FILE)
    }

    fn name(&self, text: &str) -> Result<Name, StateError> {
        text.parse().map_err(|error: crate::NameError| self.damaged(&error))
    }

    fn timestamp(&self, text: &str) -> Result<Timestamp, StateError> {
        text.parse().map_err(|error: jiff::Error| self.damaged(&error))
    }

    fn damaged(&self, what: &dyn std::fmt::Display) -> StateError {
        StateError::Damaged { path: self.path.clone(), what: what.to_string() }
    }
}

const fn origin(built_in: bool) -> Origin {
    if built_in { Origin::BuiltIn } else { Origin::Registered }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NewRun, RunId};

    #[test]
    fn only_the_owner_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let state = State::open(&path).unwrap();
        state.begin_run(NewRun::here(RunId::new(), "p", "default")).unwrap();
        for entry in fs::read_dir(folder.path()).unwrap() {
            let mode = entry.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn many_open_it_for_the_first_time_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    State::open(&path)
                        .unwrap()
                        .begin_run(NewRun::here(RunId::new(), "p", "default"))
                        .unwrap();
                });
            }
        });
        assert_eq!(State::open(&path).unwrap().runs(100).unwrap().len(), 8);
    }

    #[test]
    fn a_database_of_the_first_version_is_brought_up_to_date() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let first = Connection::open(&path).unwrap();
        first.execute_batch(MIGRATIONS[0]).unwrap();
        first.pragma_update(None, "user_version", 1).unwrap();
        first
            .execute(
                "INSERT INTO run VALUES ('1', 'p', 'default', NULL, '2026-01-01T00:00:00Z', NULL, 'running')",
                [],
            )
            .unwrap();
        drop(first);
        let state = State::open(&path).unwrap();
        assert_eq!(state.runs(10).unwrap().len(), 1);
        assert_eq!(state.active_stack().unwrap().name.as_str(), "default");
    }

    #[test]
    fn a_newer_database_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        drop(State::open(&path).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        assert!(matches!(State::open(&path), Err(StateError::Newer { found: 99, .. })));
    }
}
