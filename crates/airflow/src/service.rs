//! The folder that Airflow reads.

use std::{
    fs::{File, Permissions},
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use futures::{FutureExt as _, future::BoxFuture};
use longshore_orchestrator::{Document, Follow, RunState, Service, ServiceError, Submission, Workflow};

use crate::{Config, Error, Plan, dag::HEADER};

/// Airflow, by the folder that it reads its DAGs from.
#[derive(Debug)]
pub struct Airflow {
    config: Config,
}

impl Airflow {
    /// Airflow as a configuration names it.
    pub const fn new(config: Config) -> Self {
        Self { config }
    }

    fn put(&self, workflow: &Workflow) -> Result<Submission, Error> {
        let plan = Plan::new(workflow, &self.config)?;
        let folder = &self.config.dags;
        if !folder.is_dir() {
            return Err(Error::NoFolder { pipeline: workflow.pipeline.clone(), folder: folder.clone() });
        }
        let file = folder.join(plan.file_name());
        let failed = |source| Error::Write { file: file.clone(), source };
        if !may_be_replaced(&file).map_err(failed)? {
            return Err(Error::Foreign { pipeline: workflow.pipeline.clone(), file });
        }
        write(folder, &file, &plan.file).map_err(failed)?;
        Ok(Submission { run: plan.dag, artifacts: None, url: None })
    }

    fn elsewhere(what: &'static str, dag: &str, command: String) -> ServiceError {
        Error::Elsewhere { what, dag: dag.to_owned(), command }.into()
    }
}

/// Whether a file is not there, or longshore's own.
fn may_be_replaced(file: &Path) -> io::Result<bool> {
    let mut first = Vec::new();
    match File::open(file) {
        // A line of no more than what the header may be.
        Ok(file) => BufReader::new(io::Read::take(file, 4096)).read_until(b'\n', &mut first)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    Ok(first.starts_with(HEADER.as_bytes()))
}

/// Writes a file so that Airflow reads all of it or nothing. The scheduler may be another user.
fn write(folder: &Path, file: &Path, text: &str) -> io::Result<()> {
    let mut new = tempfile::Builder::new()
        .prefix(".longshore-")
        .suffix(".tmp")
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(folder)?;
    new.write_all(text.as_bytes())?;
    new.as_file().set_permissions(Permissions::from_mode(0o644))?;
    new.as_file().sync_all()?;
    new.persist(file).map_err(|error| error.error)?;
    // The file has its name for good when the folder is on the disk.
    File::open(folder)?.sync_all()
}

impl Service for Airflow {
    fn documents(&self, workflow: &Workflow) -> Result<Vec<Document>, ServiceError> {
        Ok(Plan::new(workflow, &self.config)?.documents())
    }

    fn submit<'a>(&'a self, workflow: &'a Workflow) -> BoxFuture<'a, Result<Submission, ServiceError>> {
        async move { Ok(self.put(workflow)?) }.boxed()
    }

    fn status<'a>(&'a self, run: &'a str) -> BoxFuture<'a, Result<RunState, ServiceError>> {
        let error = Self::elsewhere("the status", run, format!("dags list-runs {run}"));
        async move { Err(error) }.boxed()
    }

    fn logs<'a>(
        &'a self,
        run: &'a str,
        _step: &'a str,
        _from: usize,
        _follow: Follow,
        _line: &'a (dyn Fn(&str) + Send + Sync),
    ) -> BoxFuture<'a, Result<usize, ServiceError>> {
        let error = Self::elsewhere("the log", run, format!("dags list-runs {run}"));
        async move { Err(error) }.boxed()
    }

    fn cancel<'a>(&'a self, run: &'a str) -> BoxFuture<'a, Result<(), ServiceError>> {
        let error = Self::elsewhere("the end", run, format!("dags pause {run}"));
        async move { Err(error) }.boxed()
    }
}
