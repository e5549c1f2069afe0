//! The lock of an image: which wheels it gets.

use std::{path::PathBuf, time::Instant};

use longshore_python::{
    lock::Lock,
    requirements::Requirements,
    target::Target,
    uv::{Environment, Freshness, Indexes, LockRequest, Search},
};
use longshore_store::Table;

use crate::{
    BuildError, Request, Upgrade,
    event::{Event, Observer, Origin},
};

/// The row of the table that has the lock of some inputs.
pub(crate) const LOCK: &str = "lock";
/// The row of the table that has the last lock of a repository, whatever its inputs were.
pub(crate) const LAST_LOCK: &str = "last-lock";

/// Finds the lock for a request: the one that its inputs had before, else uv's answer.
pub(crate) async fn resolve(
    table: &Table,
    search: &Search,
    request: &Request,
    target: Target,
    observer: Observer<'_>,
) -> Result<Lock, BuildError> {
    let requirements = match request.settings.requirements.clone().unwrap_or_default() {
        longshore_pipeline::Requirements::List(list) => Requirements::List(list),
        longshore_pipeline::Requirements::File(path) => Requirements::File(PathBuf::from(path)),
    };
    if requirements == Requirements::List(Vec::new()) {
        return Ok(Lock { packages: Vec::new() });
    }
    let started = Instant::now();
    let environment = Environment::of_process();
    let question = LockRequest {
        requirements,
        folder: request.source_root.clone(),
        target,
        indexes: Indexes::default(),
        exclude_newer: None,
        interpreter: request.host_python.clone(),
    };
    let key = question.key(&environment)?;
    let last = (request.repository.to_string(), target);
    if request.upgrade == Upgrade::No
        && let Some(lock) = table.get::<Lock>(LOCK, &key)
    {
        // Another line of work on the same repository may have moved it on since.
        if table.get::<Lock>(LAST_LOCK, &last).as_ref() != Some(&lock) {
            table.put(LAST_LOCK, &last, &lock)?;
        }
        done(observer, &lock, started, Origin::Reused);
        return Ok(lock);
    }
    observer(Event::LockStarted);
    let previous: Option<Lock> = table.get(LAST_LOCK, &last);
    let search = search.clone();
    let upgrade = request.upgrade;
    let lock = tokio::task::spawn_blocking(move || {
        let freshness = match upgrade {
            Upgrade::No => Freshness::Keep(previous.as_ref()),
            Upgrade::Yes => Freshness::Upgrade,
        };
        search.find(&environment)?.lock(&question, freshness, &environment)
    });
    let lock = lock.await.map_err(|_| BuildError::Lost("the resolver"))??;
    table.put(LOCK, &key, &lock)?;
    table.put(LAST_LOCK, &last, &lock)?;
    done(observer, &lock, started, Origin::New);
    Ok(lock)
}

fn done(observer: Observer<'_>, lock: &Lock, started: Instant, origin: Origin) {
    observer(Event::LockDone { packages: lock.packages.len(), took: started.elapsed(), origin });
}
