//! Lock files of projects: uv's, Poetry's, Pipenv's, and `pylock.toml`.
//!
//! `pylock.toml` is read here. The others are read by the program that writes them, which also says whether they still
//! match what they lock; of Poetry's and Pipenv's, uv then finds the files that have the hashes.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use longshore_oci::{Digest, Digester};
use serde::Serialize;

use crate::{
    error::Error,
    lock::Selection,
    marker::Markers,
    pylock::{Author, Choice},
    requirements::{RequirementSet, Requirements},
    target::Target,
    uv::{
        Dependencies, Environment, Freshness, Indexes, LockRequest, Search, environment::without_credentials,
    },
};

/// Whose format a lock file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// `uv.lock`
    Uv,
    /// `pylock.toml`, `pylock.NAME.toml` (PEP 751)
    Pylock,
    /// `poetry.lock`
    Poetry,
    /// `Pipfile.lock`
    Pipenv,
}

/// A lock file, and what of it is wanted.
#[derive(Clone, Debug)]
pub struct LockFile {
    /// The file, absolute.
    pub path: PathBuf,
    /// Extras.
    pub extras: Vec<String>,
    /// Dependency groups.
    pub groups: Vec<String>,
    /// What the wheels have to run on.
    pub target: Target,
    /// Where packages come from, when it is not what the environment says.
    pub indexes: Indexes,
    /// A Python on this machine that uv may ask.
    pub interpreter: Option<PathBuf>,
    /// What the settings require besides, which the lock must satisfy.
    pub required: Vec<String>,
}

/// Everything that a [`Selection`] from a lock file depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LockFileKey {
    version: u32,
    files: Digest,
    target: Target,
    indexes: Digest,
}

impl LockKind {
    /// By the name of the file.
    pub fn of(path: &Path) -> Result<Self, Error> {
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        match name {
            "uv.lock" => Ok(Self::Uv),
            "poetry.lock" => Ok(Self::Poetry),
            "Pipfile.lock" => Ok(Self::Pipenv),
            _ if path.extension().is_some_and(|extension| extension == "toml") => Ok(Self::Pylock),
            _ => Err(Error::LockFile {
                path: path.to_owned(),
                reason:
                    "it must be called uv.lock, poetry.lock, Pipfile.lock, pylock.toml or pylock.NAME.toml"
                        .to_owned(),
            }),
        }
    }

    /// The file beside it that it locks.
    const fn locks(self) -> Option<&'static str> {
        match self {
            Self::Uv | Self::Poetry => Some("pyproject.toml"),
            Self::Pipenv => Some("Pipfile"),
            Self::Pylock => None,
        }
    }
}

impl LockFile {
    /// What the answer is kept under. Starts nothing.
    pub fn key(&self, environment: &Environment) -> Result<LockFileKey, Error> {
        let mut digester = Digester::new();
        let mut note = |bytes: &[u8]| {
            digester.update(&(bytes.len() as u64).to_be_bytes());
            digester.update(bytes);
        };
        note(&self.read(&self.path)?);
        if let Some(name) = LockKind::of(&self.path)?.locks() {
            note(&self.read(&self.path.with_file_name(name))?);
        }
        // Paths in it are relative to where it is.
        note(self.path.as_os_str().as_encoded_bytes());
        for list in [&self.extras, &self.groups, &self.required] {
            note(list.join("\n").as_bytes());
        }
        Ok(LockFileKey {
            version: 1,
            files: digester.finish(),
            target: self.target,
            indexes: environment.digest(&self.indexes, self.folder()),
        })
    }

    /// Reads it.
    pub fn select(&self, search: &Search, environment: &Environment) -> Result<Selection, Error> {
        let none = Requirements::List(Vec::new()).read(self.folder())?;
        let selection = match LockKind::of(&self.path)? {
            LockKind::Pylock => {
                let text = String::from_utf8(self.read(&self.path)?).map_err(|_| Error::LockFile {
                    path: self.path.clone(),
                    reason: "it is not text in UTF-8".to_owned(),
                })?;
                self.choose(&text, &none, &self.extras, &self.groups)?
            }
            LockKind::Uv => {
                let text = search.find(environment)?.export(self, environment)?;
                // The export has the extras and groups that were asked for, and no others.
                self.choose(&text, &none, &[], &[])?
            }
            LockKind::Poetry => self.resolve(self.poetry(search)?, search, environment)?,
            LockKind::Pipenv => self.resolve(self.pipenv(search)?, search, environment)?,
        };
        let required = Requirements::List(self.required.clone()).read(self.folder())?;
        let markers = Markers::new(&self.target, &self.extras, &self.groups)?;
        let differences = required.unsatisfied(&selection, &markers);
        if differences.is_empty() {
            return Ok(selection);
        }
        Err(Error::LockUnsatisfied { path: self.path.clone(), differences: differences.join("; ") })
    }

    pub(crate) fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>, Error> {
        fs::read(path).map_err(|error| Error::LockFile {
            path: self.path.clone(),
            reason: if path == self.path {
                error.to_string()
            } else {
                format!("{}: {error}", path.display())
            },
        })
    }

    fn choose(
        &self,
        text: &str,
        requirements: &RequirementSet,
        extras: &[String],
        groups: &[String],
    ) -> Result<Selection, Error> {
        Selection::parse(
            text,
            &Choice {
                target: &self.target,
                extras,
                groups,
                requirements,
                folder: self.folder(),
                author: Author::User(&self.path),
            },
        )
    }

    /// Finds the files of an export in the form of a requirements file: every package is in it, with its hashes.
    fn resolve(&self, lines: String, search: &Search, environment: &Environment) -> Result<Selection, Error> {
        let request = LockRequest {
            requirements: Requirements::List(vec![lines]),
            project: None,
            dependencies: Dependencies::Stated,
            folder: self.folder().to_owned(),
            target: self.target,
            indexes: self.indexes.clone(),
            exclude_newer: None,
            preferred: Vec::new(),
            interpreter: self.interpreter.clone(),
        };
        search.find(environment)?.lock(&request, Freshness::Upgrade, environment)
    }

    fn poetry(&self, search: &Search) -> Result<String, Error> {
        const INSTALL: &str = "pip install poetry poetry-plugin-export";
        let mut arguments = vec!["export", "--format", "requirements.txt", "--no-interaction", "--no-ansi"];
        for extra in &self.extras {
            arguments.extend(["--extras", extra]);
        }
        for group in &self.groups {
            arguments.extend(["--with", group]);
        }
        let output = self.run("poetry", INSTALL, search, &arguments)?;
        let said = said(&output);
        let stale = ["changed significantly", "not up to date", "poetry lock"];
        if stale.iter().any(|sign| said.contains(sign)) {
            return Err(Error::LockStale {
                path: self.path.clone(),
                of: "pyproject.toml",
                remedy: "poetry lock",
            });
        }
        if said.contains("export") && (said.contains("does not exist") || said.contains("not defined")) {
            return Err(Error::ExporterMissing {
                path: self.path.clone(),
                program: "poetry with poetry-plugin-export",
                remedy: INSTALL,
            });
        }
        self.text("poetry", &output)
    }

    fn pipenv(&self, search: &Search) -> Result<String, Error> {
        const INSTALL: &str = "pip install pipenv";
        if !self.extras.is_empty() {
            return Err(Error::LockFile {
                path: self.path.clone(),
                reason: "a Pipfile has no extras, only groups (categories)".to_owned(),
            });
        }
        let verified = self.run("pipenv", INSTALL, search, &["verify"])?;
        if !verified.status.success() {
            if said(&verified).contains("out-of-date") {
                return Err(Error::LockStale {
                    path: self.path.clone(),
                    of: "the Pipfile",
                    remedy: "pipenv lock",
                });
            }
            self.text("pipenv", &verified)?;
        }
        let categories: Vec<&str> = std::iter::once("packages")
            .chain(self.groups.iter().map(|group| if group == "dev" { "dev-packages" } else { group }))
            .collect();
        let categories = categories.join(",");
        let output =
            self.run("pipenv", INSTALL, search, &["requirements", "--hash", "--categories", &categories])?;
        self.text("pipenv", &output)
    }

    /// Runs a program of the user's on the project, with the user's own environment: it has its own settings in there.
    fn run(
        &self,
        program: &'static str,
        remedy: &'static str,
        search: &Search,
        arguments: &[&str],
    ) -> Result<Output, Error> {
        let found = search.program(program).ok_or_else(|| Error::ExporterMissing {
            path: self.path.clone(),
            program,
            remedy,
        })?;
        let mut command = Command::new(&found);
        command.args(arguments).current_dir(self.folder());
        command.env("NO_COLOR", "1").env("PIPENV_IGNORE_VIRTUALENVS", "1").env("PIPENV_VERBOSITY", "-1");
        command.env("PIPENV_PIPFILE", self.path.with_file_name("Pipfile"));
        command.output().map_err(|error| Error::Exporter {
            path: self.path.clone(),
            program,
            said: format!("{}: {error}", found.display()),
        })
    }

    fn text(&self, program: &'static str, output: &Output) -> Result<String, Error> {
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(Error::Exporter { path: self.path.clone(), program, said: said(output) })
    }
}

/// What a program said when it failed, in one line.
fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned()
        + if output.status.success() { "".into() } else { String::from_utf8_lossy(&output.stdout) }.as_ref();
    without_credentials(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}
