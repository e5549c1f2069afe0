//! `longshore image lock`: the lock of an image, from the record of its build; and builds with a lock that is given.

use std::{io, io::Write as _, path::Path};

use longshore_build::Request;
use longshore_oci::Reference;
use longshore_python::lock::Lock;
use longshore_stack::State;
use serde::Deserialize;

use crate::failure::Failure;

/// The part of a build's inputs that a lock is made of.
#[derive(Deserialize)]
struct Inputs {
    lock: Lock,
    python: Python,
}

#[derive(Deserialize)]
struct Python {
    version: String,
}

/// Prints the lock of an image, as `pylock.toml`.
pub(crate) fn print(state: &State, image: &Reference) -> Result<(), Failure> {
    let is_it = |built: &Reference| {
        built.repository == image.repository
            && match (&image.digest, &image.tag) {
                (Some(digest), _) => built.digest.as_ref() == Some(digest),
                (None, Some(tag)) => built.tag.as_ref() == Some(tag),
                (None, None) => true,
            }
    };
    let build = state.builds(None)?.into_iter().find(|build| is_it(&build.image)).ok_or_else(|| {
        Failure::Usage(format!(
            "there is no record of a build of {image} on this machine; `longshore image list` has the images' names"
        ))
    })?;
    let inputs: Inputs = serde_json::from_value(build.inputs).map_err(|_| {
        Failure::Usage(format!("the record of {image} has no lock: longshore installed no packages in it"))
    })?;
    let minor = inputs.python.version.rsplit_once('.').map_or("3", |(minor, _)| minor);
    io::stdout().lock().write_all(inputs.lock.to_pylock(&format!("=={minor}.*")).as_bytes())?;
    Ok(())
}

/// The requests, with a lock in place of resolving.
pub(crate) fn with_lock(requests: Vec<Request>, lock: Option<&Path>) -> Result<Vec<Request>, Failure> {
    let Some(lock) = lock else { return Ok(requests) };
    if requests.len() > 1 {
        return Err(Failure::Usage(format!(
            "--locked is for one image, and these steps need {}: give each its lock in its settings, as in \
             DockerSettings(lock=\"pylock.NAME.toml\")",
            requests.len()
        )));
    }
    let path = lock.canonicalize().map_err(|error| {
        Failure::Usage(format!(
            "the lock file {}: {error}; `longshore image lock IMAGE` prints that of an image which was built here",
            lock.display()
        ))
    })?;
    let locked = requests.into_iter().map(|mut request| {
        if request.settings.lock.as_ref().is_some_and(|other| request.source_root.join(other) != path) {
            return Err(Failure::Usage("the settings name another lock than --locked does".to_owned()));
        }
        request.settings.lock = Some(path.clone());
        request.settings.replicate_local_python_environment = None;
        Ok(request)
    });
    locked.collect()
}
