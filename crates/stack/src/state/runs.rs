//! Builds and runs.

use jiff::Timestamp;
use longshore_oci::{Digest, Reference};
use rusqlite::{OptionalExtension, Row, params};

use super::{State, StateError};
use crate::{Build, Elsewhere, NewRun, Run, RunId, RunStatus, StepRun};

/// A row of the table of builds.
type BuildRow = (String, String, String, String);

fn columns(row: &Row<'_>) -> rusqlite::Result<BuildRow> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
}

impl State {
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
        let rows = statement.query_map([pipeline], columns).map_err(|source| self.sqlite(source))?;
        rows.map(|row| self.read_build(row.map_err(|source| self.sqlite(source))?)).collect()
    }

    /// The newest build whose image has this digest.
    pub fn build_of(&self, image: &Digest) -> Result<Option<Build>, StateError> {
        let found = self
            .connection
            .query_row(
                "SELECT created, pipeline, image, inputs FROM build WHERE image LIKE '%@' || ?1 ORDER BY id DESC LIMIT 1",
                [image.to_string()],
                columns,
            )
            .optional()
            .map_err(|source| self.sqlite(source))?;
        found.map(|row| self.read_build(row)).transpose()
    }

    fn read_build(&self, (created, pipeline, image, inputs): BuildRow) -> Result<Build, StateError> {
        Ok(Build {
            created: self.timestamp(&created)?,
            pipeline,
            image: image.parse::<Reference>().map_err(|error| self.damaged(&error))?,
            inputs: serde_json::from_str(&inputs).map_err(|error| self.damaged(&error))?,
        })
    }

    /// Remembers that a run has begun.
    pub fn begin_run(&self, run: NewRun<'_>) -> Result<(), StateError> {
        let text = |value: serde_json::Result<String>| value.map_err(|error| self.damaged(&error));
        self.execute(
            "INSERT INTO run (id, pipeline, stack, image, started, status, graph, orchestrator)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                run.id.to_string(),
                run.pipeline,
                run.stack,
                run.image.map(ToString::to_string),
                Timestamp::now().to_string(),
                run.status.as_str(),
                text(serde_json::to_string(run.graph))?,
                run.elsewhere.map(|elsewhere| text(serde_json::to_string(elsewhere))).transpose()?,
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

    /// The schedules, newest first: runs that begin by themselves.
    pub fn schedules(&self) -> Result<Vec<Run>, StateError> {
        let ids: Vec<String> = self.query(
            "SELECT id FROM run WHERE status = ?1 ORDER BY id DESC",
            [RunStatus::Scheduled.as_str()],
            |row| row.get(0),
        )?;
        ids.iter().filter_map(|id| self.run(id).transpose()).collect()
    }

    /// Remembers that a schedule has ended, as all records of it: its orchestrator knows it by one name.
    pub fn end_schedule(&self, schedule: &Elsewhere) -> Result<(), StateError> {
        for run in self.schedules()? {
            let is_same = run.elsewhere.as_ref().is_some_and(|elsewhere| {
                elsewhere.orchestrator == schedule.orchestrator && elsewhere.run == schedule.run
            });
            if let Some(id) = RunId::parse(&run.id).filter(|_| is_same) {
                self.end_run(id, RunStatus::Interrupted)?;
            }
        }
        Ok(())
    }

    /// The run of that identity.
    pub fn run(&self, id: &str) -> Result<Option<Run>, StateError> {
        let columns = |row: &Row<'_>| {
            let texts: [String; 3] = [row.get(0)?, row.get(1)?, row.get(6)?];
            let optional: [Option<String>; 2] = [row.get(2)?, row.get(7)?];
            Ok((texts, optional, times(row, 3)?))
        };
        let found = self
            .connection
            .query_row(
                "SELECT pipeline, stack, image, started, finished, status, graph, orchestrator FROM run WHERE id = ?1",
                [id],
                columns,
            )
            .optional()
            .map_err(|source| self.sqlite(source))?;
        let Some(([pipeline, stack, graph], [image, elsewhere], times)) = found else { return Ok(None) };
        let (started, finished, status) = self.check_times(&times)?;
        let elsewhere = elsewhere.map(|text| serde_json::from_str(&text)).transpose();
        Ok(Some(Run {
            id: id.to_owned(),
            pipeline,
            stack,
            image,
            started,
            finished,
            status,
            elsewhere: elsewhere.map_err(|error| self.damaged(&error))?,
            graph: serde_json::from_str(&graph).map_err(|error| self.damaged(&error))?,
            steps: self.steps(id)?,
        }))
    }

    /// The run whose identity begins so; an error if several do, or none.
    pub fn run_named(&self, beginning: &str) -> Result<Run, StateError> {
        let plain = beginning.len() >= 4 && beginning.bytes().all(|byte| byte.is_ascii_hexdigit());
        let ids: Vec<String> = if plain {
            self.query(
                "SELECT id FROM run WHERE id >= ?1 AND id < ?1 || 'g' ORDER BY id DESC LIMIT 10",
                [beginning.to_ascii_lowercase()],
                |row| row.get(0),
            )?
        } else {
            Vec::new()
        };
        match ids.as_slice() {
            [id] => self.run(id)?.ok_or_else(|| StateError::UnknownRun(beginning.to_owned())),
            [] => Err(StateError::UnknownRun(beginning.to_owned())),
            several => Err(StateError::AmbiguousRun { run: beginning.to_owned(), found: several.to_vec() }),
        }
    }

    /// Remembers what an orchestrator says of a step: when it began and ended, and how.
    pub fn record_step(&self, id: RunId, step: &StepRun) -> Result<(), StateError> {
        self.execute(
            "INSERT INTO step (run, position, name, started, finished, status)
             SELECT ?1, count(*), ?2, ?3, ?4, ?5 FROM step WHERE run = ?1
             ON CONFLICT (run, name) DO UPDATE SET started = ?3, finished = ?4, status = ?5",
            params![
                id.to_string(),
                step.name,
                step.started.to_string(),
                step.finished.map(|finished| finished.to_string()),
                step.status.as_str()
            ],
        )
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
}

/// Started, finished, status: as stored.
type Times = (String, Option<String>, String);

fn times(row: &Row<'_>, first: usize) -> Result<Times, rusqlite::Error> {
    Ok((row.get(first)?, row.get(first + 1)?, row.get(first + 2)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GraphStep;

    #[test]
    fn a_run_is_remembered_with_its_steps() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data/state.db");
        let id = RunId::new();
        let state = State::open(&path).unwrap();
        let graph = [GraphStep { name: "load".into(), upstream: Vec::new(), outputs: vec!["output".into()] }];
        let elsewhere = Elsewhere { orchestrator: "o".into(), run: "r".into(), artifacts: None, url: None };
        let new = NewRun {
            id,
            pipeline: "p",
            stack: "default",
            image: None,
            graph: &graph,
            elsewhere: Some(&elsewhere),
            status: RunStatus::Running,
        };
        state.begin_run(new).unwrap();
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
        assert_eq!(
            (runs[0].graph.as_slice(), runs[0].elsewhere.as_ref()),
            (graph.as_slice(), Some(&elsewhere))
        );
        let state = State::open(&path).unwrap();
        assert_eq!(state.run_named(&id.to_string()[..30]).unwrap(), runs[0]);
        assert!(matches!(state.run_named("ffff"), Err(StateError::UnknownRun(_))));
        let now = Timestamp::UNIX_EPOCH;
        let step = StepRun { name: "load".into(), started: now, finished: None, status: RunStatus::Running };
        state.record_step(id, &step).unwrap();
        assert_eq!(state.run_named(&id.to_string()).unwrap().steps[0], step);
    }

    #[test]
    fn a_schedule_ends_with_all_its_records() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(&folder.path().join("state.db")).unwrap();
        let elsewhere =
            |run: &str| Elsewhere { orchestrator: "o".into(), run: run.into(), artifacts: None, url: None };
        let begin = |run: &str, status| {
            let (id, elsewhere) = (RunId::new(), elsewhere(run));
            let new = NewRun { elsewhere: Some(&elsewhere), status, ..NewRun::here(id, "p", "s") };
            state.begin_run(new).unwrap();
            id.to_string()
        };
        begin("daily", RunStatus::Scheduled);
        let hourly = begin("hourly", RunStatus::Scheduled);
        begin("daily", RunStatus::Scheduled);
        begin("daily", RunStatus::Running);
        assert_eq!(state.schedules().unwrap().len(), 3);
        state.end_schedule(&elsewhere("daily")).unwrap();
        let left = state.schedules().unwrap();
        assert_eq!(left.iter().map(|run| run.id.as_str()).collect::<Vec<_>>(), [hourly]);
        assert_eq!(state.runs(1).unwrap()[0].status, RunStatus::Running);
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
}
