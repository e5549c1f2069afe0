//! A `pyproject.toml` as what is required: its dependencies, extras and dependency groups (PEP 621, PEP 735).
//!
//! uv reads it to resolve. Here it is read to know when the same question is asked again, and to hold a lock to what the
//! project requires.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use longshore_oci::{Digest, Digester};
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// A project and what of it is wanted, besides its dependencies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    /// Its `pyproject.toml`, relative to the request's folder.
    pub file: PathBuf,
    /// Extras (`[project.optional-dependencies]`).
    pub extras: Vec<String>,
    /// Groups (`[dependency-groups]`).
    pub groups: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    #[serde(default)]
    project: Table,
    #[serde(default)]
    dependency_groups: BTreeMap<String, Vec<GroupLine>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Table {
    #[serde(default)]
    dependencies: Vec<String>,
    #[serde(default)]
    optional_dependencies: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum GroupLine {
    Requirement(String),
    Include {
        #[serde(rename = "include-group")]
        group: String,
    },
}

impl Project {
    /// The file.
    pub(crate) fn path(&self, folder: &Path) -> PathBuf {
        folder.join(&self.file)
    }

    /// The digest of what is asked.
    pub(crate) fn digest(&self, folder: &Path) -> Result<Digest, Error> {
        let bytes = self.read(folder)?;
        let mut digester = Digester::new();
        let lists = [&self.extras, &self.groups].map(|list| list.join("\n"));
        for part in [bytes.as_bytes(), lists[0].as_bytes(), lists[1].as_bytes()] {
            digester.update(&(part.len() as u64).to_be_bytes());
            digester.update(part);
        }
        Ok(digester.finish())
    }

    /// What is required, as lines of a requirements file.
    pub fn lines(&self, folder: &Path) -> Result<Vec<String>, Error> {
        let text = self.read(folder)?;
        let path = self.path(folder);
        let document: Document = toml::from_str(&text)
            .map_err(|error| Error::Project { path: path.clone(), reason: error.message().to_owned() })?;
        let missing = |kind: &str, name: &String| Error::Project {
            path: path.clone(),
            reason: format!("it has no {kind} `{name}`"),
        };
        let mut lines = document.project.dependencies;
        for extra in &self.extras {
            let found = document.project.optional_dependencies.get(extra);
            lines.extend(found.ok_or_else(|| missing("extra", extra))?.iter().cloned());
        }
        let mut wanted = self.groups.clone();
        let mut seen = Vec::new();
        while let Some(group) = wanted.pop() {
            if seen.contains(&group) {
                continue;
            }
            let found = document.dependency_groups.get(&group);
            for line in found.ok_or_else(|| missing("dependency group", &group))? {
                match line {
                    GroupLine::Requirement(line) => lines.push(line.clone()),
                    GroupLine::Include { group } => wanted.push(group.clone()),
                }
            }
            seen.push(group);
        }
        Ok(lines)
    }

    fn read(&self, folder: &Path) -> Result<String, Error> {
        let path = self.path(folder);
        fs::read_to_string(&path)
            .map_err(|error| Error::Project { path: path.clone(), reason: error.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_include_others_and_missing_ones_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let text = "[project]\nname = 'x'\ndependencies = ['six']\n[project.optional-dependencies]\nweb = ['flask>2']\n\
                    [dependency-groups]\ntest = ['pytest', {include-group = 'base'}]\nbase = ['idna', {include-group = 'test'}]\n";
        fs::write(folder.path().join("pyproject.toml"), text).unwrap();
        let project = |extras: &[&str], groups: &[&str]| Project {
            file: "pyproject.toml".into(),
            extras: extras.iter().map(ToString::to_string).collect(),
            groups: groups.iter().map(ToString::to_string).collect(),
        };
        let all = project(&["web"], &["test"]);
        assert_eq!(all.lines(folder.path()).unwrap(), ["six", "flask>2", "pytest", "idna"]);
        let error = project(&["wev"], &[]).lines(folder.path()).unwrap_err().to_string();
        assert!(error.ends_with("pyproject.toml cannot be used: it has no extra `wev`"), "{error}");
        assert_ne!(all.digest(folder.path()).unwrap(), project(&["web"], &[]).digest(folder.path()).unwrap());
        let error = project(&[], &[]).lines(Path::new("/nowhere")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/pyproject.toml"), "{error}");
    }
}
