//! The database of builds and runs.

use std::{
    fs,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use longshore_oci::Reference;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::{Build, Run, RunId, RunStatus, StepRun};

/// The version of the database that this program reads and writes.
const VERSION: u32 = 1;

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
];

/// Why the database cannot be used.
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
    #[error("the database {path} cannot be used: {source}")]
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
}

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
            let transaction = connection
                .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
                .map_err(sqlite)?;
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

    /// Remembers a build.
    pub fn add_build(&self, build: &Build) -> Result<(), StateError> {
        self.execute(
            "INSERT INTO build (created, pipeline, image, inputs) VALUES (?1, ?2, ?3, ?4)",
            params![
                build.created.to_string(),
                build.pipeline,
                build.image.to_string(),
                build.inputs.to_string()
            ],
        )
    }

    /// The builds of a pipeline, or of all, newest first.
    pub fn builds(&self, pipeline: Option<&str>) -> Result<Vec<Build>, StateError> {
        let mut statement = self
            .connection
            .prepare(
                "SELECT created, pipeline, image, inputs FROM build WHERE pipeline = coalesce(?1, pipeline) ORDER BY id DESC",
            )
            .map_err(|source| self.sqlite(source))?;
        let rows = statement
            .query_map([pipeline], |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    row.get::<_, String>(1)?,
                    row.get::<_, String>(2)?,
                    row.get::<_, String>(3)?,
                ))
            })
            .map_err(|source| self.sqlite(source))?;
        rows.map(|row| {
            let (created, pipeline, image, inputs) = row.map_err(|source| self.sqlite(source))?;
            Ok(Build {
                created: self.timestamp(&created)?,
                pipeline,
                image: image.parse::<Reference>().map_err(|error| self.damaged(&error))?,
                inputs: serde_json::from_str(&inputs).map_err(|error| self.damaged(&error))?,
            })
        })
        .collect()
    }

    /// Remembers that a run has begun.
    pub fn begin_run(
        &self,
        id: RunId,
        pipeline: &str,
        stack: &str,
        image: Option<&Reference>,
    ) -> Result<(), StateError> {
        self.execute(
            "INSERT INTO run (id, pipeline, stack, image, started, status) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                id.to_string(),
                pipeline,
                stack,
                image.map(ToString::to_string),
                Timestamp::now().to_string(),
                RunStatus::Running.as_str()
            ],
        )
    }

    /// Remembers how a run ended.
    pub fn end_run(&self, id: RunId, status: RunStatus) -> Result<(), StateError> {
        self.execute(
            "UPDATE run SET finished = ?2, status = ?3 WHERE id = ?1",
            params![id.to_string(), Timestamp::now().to_string(), status.as_str()],
        )
    }

    /// Remembers that a step has begun.
    pub fn begin_step(&self, id: RunId, step: &str) -> Result<(), StateError> {
        self.execute(
            "INSERT INTO step (run, position, name, started, status)
             SELECT ?1, count(*), ?2, ?3, ?4 FROM step WHERE run = ?1",
            params![id.to_string(), step, Timestamp::now().to_string(), RunStatus::Running.as_str()],
        )
    }

    /// Remembers how a step ended.
    pub fn end_step(&self, id: RunId, step: &str, status: RunStatus) -> Result<(), StateError> {
        self.execute(
            "UPDATE step SET finished = ?3, status = ?4 WHERE run = ?1 AND name = ?2",
            params![id.to_string(), step, Timestamp::now().to_string(), status.as_str()],
        )
    }

    /// The newest runs, at most `limit`.
    pub fn runs(&self, limit: u32) -> Result<Vec<Run>, StateError> {
        let mut statement = self
            .connection
            .prepare("SELECT id FROM run ORDER BY id DESC LIMIT ?1")
            .map_err(|source| self.sqlite(source))?;
        let ids = statement
            .query_map([limit], |row| row.get::<_, String>(0))
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|source| self.sqlite(source))?;
        ids.iter().filter_map(|id| self.run(id).transpose()).collect()
    }

    /// The run of that identity.
    pub fn run(&self, id: &str) -> Result<Option<Run>, StateError> {
        let columns = |row: &Row<'_>| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, Option<String>>(2)?,
                times(row, 3)?,
            ))
        };
        let found = self
            .connection
            .query_row(
                "SELECT pipeline, stack, image, started, finished, status FROM run WHERE id = ?1",
                [id],
                columns,
            )
            .optional()
            .map_err(|source| self.sqlite(source))?;
        let Some((pipeline, stack, image, times)) = found else { return Ok(None) };
        let (started, finished, status) = self.check_times(&times)?;
        Ok(Some(Run {
            id: id.to_owned(),
            pipeline,
            stack,
            image,
            started,
            finished,
            status,
            steps: self.steps(id)?,
        }))
    }

    fn steps(&self, id: &str) -> Result<Vec<StepRun>, StateError> {
        let mut statement = self
            .connection
            .prepare("SELECT name, started, finished, status FROM step WHERE run = ?1 ORDER BY position")
            .map_err(|source| self.sqlite(source))?;
        let rows = statement
            .query_map([id], |row| Ok((row.get::<_, String>(0)?, times(row, 1)?)))
            .map_err(|source| self.sqlite(source))?;
        rows.map(|row| {
            let (name, times) = row.map_err(|source| self.sqlite(source))?;
            let (started, finished, status) = self.check_times(&times)?;
            Ok(StepRun { name, started, finished, status })
        })
        .collect()
    }

    fn check_times(&self, times: &Times) -> Result<(Timestamp, Option<Timestamp>, RunStatus), StateError> {
        let (started, finished, status) = times;
        Ok((
            self.timestamp(started)?,
            finished.as_deref().map(|finished| self.timestamp(finished)).transpose()?,
            RunStatus::named(status).ok_or_else(|| self.damaged(&format!("status {status}")))?,
        ))
    }

    fn timestamp(&self, text: &str) -> Result<Timestamp, StateError> {
        text.parse().map_err(|error: jiff::Error| self.damaged(&error))
    }

    fn damaged(&self, what: &dyn std::fmt::Display) -> StateError {
        StateError::Damaged { path: self.path.clone(), what: what.to_string() }
    }
}

/// Started, finished, status: as stored.
type Times = (String, Option<String>, String);

fn times(row: &Row<'_>, first: usize) -> Result<Times, rusqlite::Error> {
    Ok((row.get(first)?, row.get(first + 1)?, row.get(first + 2)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_remembered_with_its_steps() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data/state.db");
        let id = RunId::new();
        let state = State::open(&path).unwrap();
        state.begin_run(id, "p", "default", None).unwrap();
        for (step, status) in [("load", RunStatus::Succeeded), ("train", RunStatus::Failed)] {
            state.begin_step(id, step).unwrap();
            state.end_step(id, step, status).unwrap();
        }
        state.end_run(id, RunStatus::Failed).unwrap();
        drop(state);
        let runs = State::open(&path).unwrap().runs(10).unwrap();
        let statuses: Vec<_> = runs[0].steps.iter().map(|step| (step.name.as_str(), step.status)).collect();
        assert_eq!(statuses, [("load", RunStatus::Succeeded), ("train", RunStatus::Failed)]);
        assert_eq!(runs[0].status, RunStatus::Failed);
        assert!(runs[0].finished.is_some());
    }

    #[test]
    fn builds_come_newest_first() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(&folder.path().join("state.db")).unwrap();
        for tag in ["1", "2"] {
            let image = format!("localhost:5000/p:{tag}").parse().unwrap();
            let inputs = serde_json::json!({"tag": tag});
            state
                .add_build(&Build { created: Timestamp::now(), pipeline: "p".into(), image, inputs })
                .unwrap();
        }
        let builds = state.builds(Some("p")).unwrap();
        assert_eq!(builds[0].inputs["tag"], "2");
        assert!(state.builds(Some("q")).unwrap().is_empty());
        assert_eq!(state.builds(None).unwrap().len(), 2);
    }

    #[test]
    fn only_the_owner_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let state = State::open(&path).unwrap();
        state.begin_run(RunId::new(), "p", "default", None).unwrap();
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
                    State::open(&path).unwrap().begin_run(RunId::new(), "p", "default", None).unwrap();
                });
            }
        });
        assert_eq!(State::open(&path).unwrap().runs(100).unwrap().len(), 8);
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
