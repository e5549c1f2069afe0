//! The lock of an image: which packages it gets, and as which files.

use std::time::Instant;

use longshore_python::{
    distribution::Distribution,
    lock::Selection,
    requirements::Requirements,
    target::Target,
    uv::{Dependencies, Environment, Freshness, Indexes, LockRequest, Search},
};
use longshore_store::Table;

use crate::{
    BuildError, Request, Upgrade,
    event::{Event, Observer, Origin},
    inputs::Inputs,
};

/// The row of the table that has what was selected for some requirements.
pub(crate) const LOCK: &str = "lock";
/// The row of the table that has what was selected from a lock file.
pub(crate) const LOCK_FILE: &str = "lock-file";
/// The row of the table that has the last selection of a repository, whatever its inputs were.
pub(crate) const LAST_LOCK: &str = "last-lock";

/// What finds packages for one target.
pub(crate) struct Resolver<'a> {
    pub(crate) table: &'a Table,
    /// Where to look for uv.
    pub(crate) search: &'a Search,
    pub(crate) target: Target,
    pub(crate) indexes: &'a Indexes,
}

impl Resolver<'_> {
    /// Finds the packages for a request: those that its inputs had before, else uv's answer, which prefers what is `there`.
    pub(crate) async fn resolve(
        &self,
        request: &Request,
        there: &[Distribution],
        observer: Observer<'_>,
    ) -> Result<Selection, BuildError> {
        let Self { table, search, target, indexes } = *self;
        let environment = Environment::of_process();
        let started = Instant::now();
        let mut question = match Inputs::of(request, target, indexes, &environment)? {
            None => return Ok(Selection::default()),
            Some(Inputs::Requirements(question)) => question,
            Some(Inputs::Lock(file)) => {
                let key = file.key(&environment)?;
                if let Some(selection) = table.get::<Selection>(LOCK_FILE, &key) {
                    done(observer, &selection, started, Origin::Reused);
                    return Ok(selection);
                }
                observer(Event::LockStarted);
                let search = search.clone();
                let selection = tokio::task::spawn_blocking(move || file.select(&search, &environment));
                let selection = selection.await.map_err(|_| BuildError::Lost("reading the lock file"))??;
                table.put(LOCK_FILE, &key, &selection)?;
                done(observer, &selection, started, Origin::New);
                return Ok(selection);
            }
        };
        question.preferred = there.iter().map(|it| (it.name.clone(), it.version.clone())).collect();
        let key = question.key(&environment)?;
        let last = (request.repository.to_string(), target);
        if request.upgrade == Upgrade::No
            && let Some(selection) = table.get::<Selection>(LOCK, &key)
        {
            // Another line of work on the same repository may have moved it on since.
            if table.get::<Selection>(LAST_LOCK, &last).as_ref() != Some(&selection) {
                table.put(LAST_LOCK, &last, &selection)?;
            }
            done(observer, &selection, started, Origin::Reused);
            return Ok(selection);
        }
        observer(Event::LockStarted);
        let previous: Option<Selection> = table.get(LAST_LOCK, &last);
        let search = search.clone();
        let upgrade = request.upgrade;
        let selection = tokio::task::spawn_blocking(move || {
            let freshness = match upgrade {
                Upgrade::No => Freshness::Keep(previous.as_ref()),
                Upgrade::Yes => Freshness::Upgrade,
            };
            search.find(&environment)?.lock(&question, freshness, &environment)
        });
        let selection = selection.await.map_err(|_| BuildError::Lost("the resolver"))??;
        table.put(LOCK, &key, &selection)?;
        table.put(LAST_LOCK, &last, &selection)?;
        done(observer, &selection, started, Origin::New);
        Ok(selection)
    }

    /// Finds the packages that building a project needs: the same as before, while the lines are.
    pub(crate) async fn resolve_for_building(
        &self,
        request: &Request,
        lines: Vec<String>,
    ) -> Result<Selection, BuildError> {
        let environment = Environment::of_process();
        let question = LockRequest {
            requirements: Requirements::List(lines),
            project: None,
            dependencies: Dependencies::Followed,
            folder: request.source_root.clone(),
            target: self.target,
            indexes: self.indexes.clone(),
            exclude_newer: None,
            preferred: Vec::new(),
            interpreter: request.host_python.clone(),
        };
        let key = question.key(&environment)?;
        if let Some(selection) = self.table.get(LOCK, &key) {
            return Ok(selection);
        }
        let search = self.search.clone();
        let selection = tokio::task::spawn_blocking(move || {
            search.find(&environment)?.lock(&question, Freshness::Keep(None), &environment)
        });
        let selection = selection.await.map_err(|_| BuildError::Lost("the resolver"))??;
        self.table.put(LOCK, &key, &selection)?;
        Ok(selection)
    }
}

fn done(observer: Observer<'_>, selection: &Selection, started: Instant, origin: Origin) {
    observer(Event::LockDone { packages: selection.packages.len(), took: started.elapsed(), origin });
}
