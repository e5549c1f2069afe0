//! Resolution: finding `uv`, asking it, and not asking it.
//!
//! uv is the resolver; it is run as a program with a [stated environment](Environment), and everything
//! secret goes through that environment or its standard input, never through its arguments.
//!
//! **When uv is not asked.** A [`LockKey`] has everything that a lock depends on: the text of the
//! requirements and of every file that they include, the target, the indexes, `exclude_newer`. The caller
//! keeps the [`Lock`] under it. A kept lock has no age: unpinned requirements stay where they are until
//! an input changes or the user asks for an [upgrade](Freshness::Upgrade), so that a build without a change is the
//! same build. uv's own version is not in the key: a newer resolver is no reason to move packages, nor to
//! need it at all for a build that has its lock.
//!
//! **When something changed**, the last lock goes to uv as its preferences, so that nothing moves that need not;
//! and uv is first asked without the network, from its cache, which takes 20 ms instead of 250. That
//! answer counts only if each of its packages is where it was or where a line pins it: in every
//! other case a newer version, that the cache does not know of, could be the right one.

mod diagnosis;
pub(crate) mod environment;

use std::{
    ffi::OsString,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use longshore_oci::Digest;
use serde::Serialize;

pub use environment::{Environment, IndexLogin, Indexes, NamedIndex};

use crate::{
    error::{Error, Resolution},
    lock::{Selected, Selection},
    lockfile::LockFile,
    project::Project,
    pylock::{Author, Choice},
    requirements::{RequirementSet, Requirements},
    target::Target,
};

/// The versions of uv that serve: the first has `pip compile --format pylock.toml` in today's form.
const NEEDED: &str = ">=0.9,<1";

/// A question for the resolver.
#[derive(Clone, Debug)]
pub struct LockRequest {
    /// What is required.
    pub requirements: Requirements,
    /// A project whose dependencies are required too.
    pub project: Option<Project>,
    /// Whether what is required brings what it depends on.
    pub dependencies: Dependencies,
    /// The folder that relative paths in the requirements start from.
    pub folder: PathBuf,
    /// What the wheels have to run on.
    pub target: Target,
    /// Where packages come from, when it is not what the environment says.
    pub indexes: Indexes,
    /// Take nothing that was uploaded at this moment or later, e.g. `2026-01-31T00:00:00Z` or `2026-01-31`.
    pub exclude_newer: Option<String>,
    /// A Python on this machine that uv may ask. Without one uv looks for it, which takes 0.3 s.
    pub interpreter: Option<PathBuf>,
}

/// Everything that the answer to a [`LockRequest`] depends on; what the answer is kept under.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LockKey {
    /// Raised when the same inputs are to give another lock.
    version: u32,
    requirements: Digest,
    project: Option<Digest>,
    dependencies: Dependencies,
    target: Target,
    indexes: Digest,
    exclude_newer: Option<String>,
}

/// Whether requirements bring what they depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Dependencies {
    /// They do.
    Followed,
    /// Everything is stated already, and nothing is to be added.
    Stated,
}

/// Whether what was locked before stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness<'a> {
    /// Packages of the last lock stay where they are, as far as the requirements allow.
    Keep(Option<&'a Selection>),
    /// Everything moves to the newest version that the requirements allow.
    Upgrade,
}

/// Where to look for uv, in this order.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// Folders: the one of our own program, the `bin` of the user's virtual environment.
    pub folders: Vec<PathBuf>,
    /// The value of `PATH`.
    pub path: Option<OsString>,
    /// A Python that may have uv as a module (`python -m uv`).
    pub python: Option<PathBuf>,
}

/// A uv that can be run.
#[derive(Clone, Debug)]
pub struct Uv {
    program: PathBuf,
    leading: Vec<OsString>,
}

impl LockRequest {
    /// What the answer is kept under. Reads the requirements files, starts nothing.
    pub fn key(&self, environment: &Environment) -> Result<LockKey, Error> {
        Ok(LockKey {
            version: 2,
            requirements: self.requirements.read(&self.folder)?.digest(),
            project: self.project.as_ref().map(|project| project.digest(&self.folder)).transpose()?,
            dependencies: self.dependencies,
            target: self.target,
            indexes: environment.digest(&self.indexes, &self.folder),
            exclude_newer: self.exclude_newer.clone(),
        })
    }
}

impl Search {
    /// The folders where programs are looked for, in order.
    fn every_folder(&self) -> Vec<PathBuf> {
        let on_path = self.path.iter().flat_map(std::env::split_paths);
        self.folders.iter().cloned().chain(on_path).collect()
    }

    /// The first program of that name.
    pub fn program(&self, name: &str) -> Option<PathBuf> {
        self.every_folder().into_iter().map(|folder| folder.join(name)).find(|path| is_program(path))
    }

    /// The first uv. Nothing is started, except to ask a Python for its module.
    pub fn find(&self, environment: &Environment) -> Result<Uv, Error> {
        if let Some(program) = self.program("uv") {
            return Ok(Uv { program, leading: Vec::new() });
        }
        if let Some(python) = &self.python {
            let uv = Uv { program: python.clone(), leading: vec!["-m".into(), "uv".into()] };
            if uv.version_text(environment).is_ok_and(|text| text.starts_with("uv ")) {
                return Ok(uv);
            }
        }
        let mut looked: Vec<String> =
            self.every_folder().iter().map(|folder| folder.display().to_string()).collect();
        looked.extend(self.python.iter().map(|python| format!("the modules of {}", python.display())));
        Err(Error::UvMissing { looked: looked.join(", ") })
    }
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

impl Uv {
    /// The program that is run.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Its version, e.g. `0.13.9`, if it is one that serves.
    pub fn version(&self, environment: &Environment) -> Result<String, Error> {
        let text = self.version_text(environment)?;
        let version = text.split_whitespace().nth(1).unwrap_or_default();
        let mut numbers = version.split('.').map(str::parse::<u32>);
        if let (true, Some(Ok(0)), Some(Ok(9..))) = (text.starts_with("uv "), numbers.next(), numbers.next())
        {
            return Ok(version.to_owned());
        }
        let found = if version.is_empty() { "of unknown version" } else { version };
        Err(Error::UvVersion { program: self.program.clone(), found: found.to_owned(), needed: NEEDED })
    }

    fn version_text(&self, environment: &Environment) -> Result<String, Error> {
        let output =
            self.command(environment).arg("--version").output().map_err(|source| self.failed(source))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Answers a request.
    pub fn lock(
        &self,
        request: &LockRequest,
        freshness: Freshness<'_>,
        environment: &Environment,
    ) -> Result<Selection, Error> {
        let set = request.requirements.read(&request.folder)?;
        let platform = request.target.uv_platform().ok_or(Error::OldLibc { target: request.target })?;
        self.version(environment)?;
        let question = Question { uv: self, request, platform, set: &set, environment };
        if let Freshness::Keep(Some(last)) = freshness
            && let Ok(lock) = question.ask(Some(last), Network::Off, Sources::Refused)
        {
            let settled = |package: &Selected| {
                last.get(&package.name).is_some_and(|before| before.version == package.version)
                    || package.version.as_ref().is_some_and(|version| set.pins(&package.name, version))
            };
            if lock.packages.iter().all(settled) {
                return Ok(lock);
            }
        }
        let last = match freshness {
            Freshness::Keep(last) => last,
            Freshness::Upgrade => None,
        };
        // A wheel is better than a source of a newer version; where there are no wheels, sources do.
        match question.ask(last, Network::On, Sources::Refused) {
            Err(Error::Resolution(refused)) if refused.may_have_sources() => {
                match question.ask(last, Network::On, Sources::Allowed) {
                    Err(Error::Resolution(failed @ Resolution::SourceMetadata { .. })) => Err(failed.into()),
                    Err(_) => Err(refused.into()),
                    found => found,
                }
            }
            answer => answer,
        }
    }

    /// A project's `uv.lock` as `pylock.toml`, if it matches the project.
    pub(crate) fn export(&self, file: &LockFile, environment: &Environment) -> Result<String, Error> {
        self.version(environment)?;
        let mut command = self.command(environment);
        command.args(["export", "--locked", "--format", "pylock.toml", "--no-header", "--no-emit-project"]);
        command.args(["--no-default-groups", "--no-progress", "--no-python-downloads", "--color", "never"]);
        for extra in &file.extras {
            command.args(["--extra", extra]);
        }
        for group in &file.groups {
            command.args(["--group", group]);
        }
        file.indexes.apply(&mut command);
        let output = command.current_dir(file.folder()).stdin(Stdio::null()).output();
        let output = output.map_err(|source| self.failed(source))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        if said.contains("needs to be updated") {
            let (path, of) = (file.path.clone(), "pyproject.toml");
            return Err(Error::LockStale { path, of, remedy: "uv lock" });
        }
        match diagnosis::explain(&said, file.target) {
            Resolution::Other { explanation } => {
                Err(Error::LockFile { path: file.path.clone(), reason: explanation })
            }
            other => Err(other.into()),
        }
    }

    fn command(&self, environment: &Environment) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.leading).env_clear().envs(environment.variables()).env("NO_COLOR", "1");
        command
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::UvRun { program: self.program.clone(), source }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Network {
    On,
    Off,
}

/// Whether packages may come as source.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sources {
    Allowed,
    Refused,
}

struct Question<'a> {
    uv: &'a Uv,
    request: &'a LockRequest,
    platform: String,
    set: &'a RequirementSet,
    environment: &'a Environment,
}

impl Question<'_> {
    fn ask(&self, last: Option<&Selection>, network: Network, sources: Sources) -> Result<Selection, Error> {
        let request = self.request;
        let io = |doing: &str, source| Error::Io { doing: doing.to_owned(), source };
        let scratch = tempfile::tempdir().map_err(|source| io("making a temporary folder", source))?;
        let answer = scratch.path().join("pylock.toml");
        if let Some(last) = last {
            fs::write(&answer, last.preferences())
                .map_err(|source| io("writing the last lock for uv", source))?;
        }
        let mut command = self.uv.command(self.environment);
        command.args(["pip", "compile", "--format", "pylock.toml"]);
        if sources == Sources::Refused {
            command.args(["--only-binary", ":all:"]);
        }
        if request.dependencies == Dependencies::Stated {
            command.arg("--no-deps");
        }
        command.args(["--no-header", "--no-progress", "--no-python-downloads", "--color", "never"]);
        command.args(["--python-version", &request.target.python.to_string()]);
        command.args(["--python-platform", &self.platform]);
        command.arg("--output-file").arg(&answer);
        if let Some(moment) = &request.exclude_newer {
            command.args(["--exclude-newer", moment]);
        }
        if let Some(interpreter) = &request.interpreter {
            command.arg("--python").arg(interpreter);
        }
        if network == Network::Off {
            command.arg("--offline");
        }
        if let Some(project) = &request.project {
            let path = project.path(&request.folder);
            for extra in &project.extras {
                command.args(["--extra", extra]);
            }
            for group in &project.groups {
                command.arg("--group").arg(format!("{}:{group}", path.display()));
            }
            command.arg(path);
        }
        let lines = match &request.requirements {
            Requirements::List(lines) => {
                command.arg("-");
                lines.join("\n")
            }
            Requirements::File(path) => {
                command.arg(path);
                String::new()
            }
        };
        request.indexes.apply(&mut command);
        command.current_dir(&request.folder);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());

        let mut child = command.spawn().map_err(|source| self.uv.failed(source))?;
        if let Some(mut stdin) = child.stdin.take() {
            // It may exit without reading; what it says then counts, not the broken pipe. What it writes before it
            // has read everything fits into a pipe.
            let _ = stdin.write_all(lines.as_bytes());
        }
        let output = child.wait_with_output().map_err(|source| self.uv.failed(source))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(diagnosis::explain(&said, request.target).into());
        }
        let text = fs::read_to_string(&answer).map_err(|source| io("reading uv's lock", source))?;
        // uv writes paths relative to the lock's folder.
        Selection::parse(
            &text,
            &Choice {
                target: &request.target,
                extras: &[],
                groups: &[],
                requirements: self.set,
                folder: scratch.path(),
                author: Author::Uv,
            },
        )
    }
}
