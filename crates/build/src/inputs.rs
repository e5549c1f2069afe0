//! What the settings say about Python packages, as questions for the resolver.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use longshore_pipeline::{DockerSettings, SecretSource};
use longshore_python::{
    installed,
    lockfile::LockFile,
    project::Project,
    requirements::Requirements,
    target::Target,
    uv::{Dependencies, Environment, IndexLogin, Indexes, LockRequest, NamedIndex},
};

use url::Url;

use crate::{BuildError, Request};

/// Where an image's packages come from.
pub(crate) enum Inputs {
    /// Requirements that uv resolves. Boxed, for its size.
    Requirements(Box<LockRequest>),
    /// A lock that is taken as it is.
    Lock(Box<LockFile>),
}

impl Inputs {
    /// Those of a request; none if it wants no packages.
    pub(crate) fn of(
        request: &Request,
        target: Target,
        indexes: &Indexes,
        environment: &Environment,
    ) -> Result<Option<Self>, BuildError> {
        let settings = &request.settings;
        let folder = request.source_root.clone();
        let extras = settings.extras.clone().unwrap_or_default();
        let groups = settings.groups.clone().unwrap_or_default();
        let replicates = settings.replicate_local_python_environment == Some(true);
        let is_project_named = settings.pyproject.is_some() || settings.lock.is_some();
        let is_part_named = !extras.is_empty() || !groups.is_empty();
        if is_part_named && !is_project_named {
            return Err(BuildError::NoProject);
        }
        if settings.lock.is_some() && replicates {
            return Err(BuildError::TwoLocks);
        }
        let (mut lines, file) = match settings.requirements.clone().unwrap_or_default() {
            longshore_pipeline::Requirements::List(list) => (list, None),
            longshore_pipeline::Requirements::File(path) => (Vec::new(), Some(path)),
        };
        // A lock is not added to: it has to have them.
        lines.extend(request.drivers.iter().cloned());
        let project = |file: &PathBuf| Project {
            file: folder.join(file),
            extras: extras.clone(),
            groups: groups.clone(),
        };
        if let Some(path) = &settings.lock {
            lines.extend(file.map(|file| format!("-r {}", folder.join(file).display())));
            if let Some(pyproject) = &settings.pyproject {
                lines.extend(project(pyproject).lines(&folder)?);
            }
            return Ok(Some(Self::Lock(Box::new(LockFile {
                path: folder.join(path),
                extras,
                groups,
                target,
                indexes: indexes.clone(),
                interpreter: request.host_python.clone(),
                required: lines,
            }))));
        }
        let mut dependencies = Dependencies::Followed;
        if replicates {
            let python = request.host_python.as_ref().ok_or(BuildError::NoLocalPython)?;
            if lines.is_empty() && file.is_none() && settings.pyproject.is_none() {
                dependencies = Dependencies::Stated;
            }
            lines.extend(installed::requirements(python, environment)?);
        }
        let requirements = match file {
            Some(file) if lines.is_empty() => Requirements::File(PathBuf::from(file)),
            Some(file) => {
                lines.push(format!("-r {file}"));
                Requirements::List(lines)
            }
            None => Requirements::List(lines),
        };
        if requirements == Requirements::List(Vec::new()) && settings.pyproject.is_none() {
            return Ok(None);
        }
        Ok(Some(Self::Requirements(Box::new(LockRequest {
            requirements,
            project: settings.pyproject.as_ref().map(project),
            dependencies,
            folder,
            target,
            indexes: indexes.clone(),
            exclude_newer: None,
            preferred: Vec::new(),
            interpreter: request.host_python.clone(),
        }))))
    }
}

/// The indexes of settings, with their secrets: read now, from where the settings say they are.
pub(crate) fn indexes(settings: &DockerSettings, folder: &Path) -> Result<Indexes, BuildError> {
    let mut named = Vec::new();
    for (name, url) in settings.indexes.iter().flatten() {
        let is_name = !name.is_empty()
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
        if !is_name {
            return Err(BuildError::IndexName(name.clone()));
        }
        let source = settings.secrets.as_ref().and_then(|secrets| secrets.get(name));
        let login = source.map(|source| login(name, source, folder)).transpose()?;
        named.push(NamedIndex { name: name.clone(), url: url.as_url().clone(), login });
    }
    Ok(Indexes { named, ..Indexes::default() })
}

fn login(index: &str, source: &SecretSource, folder: &Path) -> Result<IndexLogin, BuildError> {
    let missing =
        |place: String, reason: String| BuildError::Secret { index: index.to_owned(), place, reason };
    let text = match source {
        SecretSource::Environment(name) => env::var(name)
            .map_err(|error| missing(format!("the environment variable {name}"), error.to_string()))?,
        SecretSource::File(path) => {
            let path = folder.join(path);
            fs::read_to_string(&path)
                .map_err(|error| missing(format!("the file {}", path.display()), error.to_string()))?
        }
    };
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        let place = match source {
            SecretSource::Environment(name) => format!("the environment variable {name}"),
            SecretSource::File(path) => format!("the file {}", path.display()),
        };
        return Err(missing(place, "it is empty".to_owned()));
    }
    Ok(IndexLogin::parse(text))
}

/// The credentials of the origins that a request's packages come from: of its indexes, of those that its requirements
/// name, and of uv's environment.
pub(crate) fn logins(indexes: &Indexes, request: &Request) -> Result<Vec<(Url, String, String)>, BuildError> {
    let requirements = match request.settings.requirements.clone().unwrap_or_default() {
        longshore_pipeline::Requirements::List(list) => Requirements::List(list),
        longshore_pipeline::Requirements::File(path) => Requirements::File(PathBuf::from(path)),
    };
    let set = requirements.read(&request.source_root)?;
    let logins = indexes.logins(set.indexes(), &Environment::of_process());
    Ok(logins.into_iter().map(|(url, login)| (url, login.user, login.password)).collect())
}
