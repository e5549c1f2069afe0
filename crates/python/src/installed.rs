//! The packages of a Python on this machine, as requirements.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;
use url::Url;

use crate::{error::Error, uv::Environment};

/// Prints the distributions, one JSON object in a list for each, in the fields of [`Distribution`]. Of two at one name, the
/// first on `sys.path` is the one that is imported.
const QUESTION: &str = "\
import json
from importlib import metadata
found = {}
for each in metadata.distributions():
    name = each.metadata['Name']
    if name and name.lower() not in found:
        direct = each.read_text('direct_url.json')
        found[name.lower()] = {'name': name, 'version': each.version, 'direct': json.loads(direct) if direct else None}
print(json.dumps(sorted(found.values(), key=lambda each: each['name'].lower())))
";

#[derive(Deserialize)]
struct Distribution {
    name: String,
    version: String,
    direct: Option<DirectUrl>,
}

/// PEP 610.
#[derive(Deserialize)]
struct DirectUrl {
    url: String,
    vcs_info: Option<VcsInfo>,
    subdirectory: Option<String>,
}

#[derive(Deserialize)]
struct VcsInfo {
    vcs: String,
    commit_id: String,
}

/// The packages that `python` imports, each pinned: to its version, its commit, its file or its folder. longshore's own
/// package is left out: every image has it.
pub fn requirements(python: &Path, environment: &Environment) -> Result<Vec<String>, Error> {
    let failed = |reason: String| Error::Installed { python: python.to_owned(), reason };
    let mut command = Command::new(python);
    command.args(["-c", QUESTION]).env_clear().envs(environment.variables());
    let output = command.output().map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed(said.trim().lines().last().unwrap_or("it failed").to_owned()));
    }
    let found: Vec<Distribution> =
        serde_json::from_slice(&output.stdout).map_err(|error| failed(error.to_string()))?;
    found.into_iter().filter(|each| each.name != "longshore").map(|each| requirement(&each)).collect()
}

fn requirement(distribution: &Distribution) -> Result<String, Error> {
    let Distribution { name, version, direct } = distribution;
    let Some(direct) = direct else { return Ok(format!("{name}=={version}")) };
    let within =
        direct.subdirectory.as_ref().map(|folder| format!("#subdirectory={folder}")).unwrap_or_default();
    if let Some(VcsInfo { vcs, commit_id }) = &direct.vcs_info {
        return Ok(format!("{name} @ {vcs}+{}@{commit_id}{within}", direct.url));
    }
    if let Some(path) = local(&direct.url)
        && !path.exists()
    {
        return Err(Error::NotReplicable { package: name.clone(), place: path.display().to_string() });
    }
    Ok(format!("{name} @ {}{within}", direct.url))
}

fn local(url: &str) -> Option<PathBuf> {
    Url::parse(url).ok().filter(|url| url.scheme() == "file")?.to_file_path().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(direct: Option<&str>) -> Result<String, Error> {
        let direct = direct.map(|text| serde_json::from_str(text).unwrap());
        requirement(&Distribution { name: "x".into(), version: "1.0".into(), direct })
    }

    #[test]
    fn each_is_pinned_to_where_it_came_from() {
        assert_eq!(line(None).unwrap(), "x==1.0");
        let git = r#"{"url": "https://h/x.git", "vcs_info": {"vcs": "git", "commit_id": "abc", "requested_revision": "main"}, "subdirectory": "py"}"#;
        assert_eq!(line(Some(git)).unwrap(), "x @ git+https://h/x.git@abc#subdirectory=py");
        let folder = r#"{"url": "file:///usr", "dir_info": {"editable": true}}"#;
        assert_eq!(line(Some(folder)).unwrap(), "x @ file:///usr");
        let archive = r#"{"url": "https://h/x-1.0-py3-none-any.whl", "archive_info": {}}"#;
        assert_eq!(line(Some(archive)).unwrap(), "x @ https://h/x-1.0-py3-none-any.whl");
    }

    #[test]
    fn what_cannot_be_had_any_more_is_said() {
        let gone = r#"{"url": "file:///no/such/folder", "dir_info": {}}"#;
        let error = line(Some(gone)).unwrap_err().to_string();
        assert!(error.starts_with("x was installed from /no/such/folder"), "{error}");
    }

    #[test]
    fn a_program_that_is_no_python_is_named() {
        let error = requirements(Path::new("/no/python"), &Environment::default()).unwrap_err().to_string();
        assert!(error.contains("/no/python"), "{error}");
    }
}
