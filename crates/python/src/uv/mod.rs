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
//!
//! **What the image has already** is a preference too, and comes before the last lock: a version that need not be installed is
//! better than another. A package that the requirements do not allow in that version, or no index has in it, stays where the last
//! lock had it.

mod diagnosis;
pub(crate) mod environment;

use std::{
    ffi::OsString,
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use longshore_oci::Digest;
use pep508_rs::{PackageName, pep440_rs::Version};
use serde::Serialize;

pub use environment::{Environment, IndexLogin, Indexes, NamedIndex};

use crate::{
    distribution::is_version,
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
    /// Versions that are taken where the requirements allow them: those that the image has already.
    pub preferred: Vec<(PackageName, Version)>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    preferred: Option<Digest>,
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
    /// Packages are taken as the image has them, and those of the last lock stay where they are, as far as the requirements
    /// allow.
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
            preferred: (!self.preferred.is_empty()).then(|| {
                let line = |(name, version): &(PackageName, Version)| format!("{name}=={version}\n");
                Digest::of(self.preferred.iter().map(line).collect::<String>())
            }),
        })
    }

    /// The version of a package that is to be taken if it can be.
    fn preference(&self, name: &PackageName) -> Option<&Version> {
        self.preferred.iter().find(|(preferred, _)| preferred == name).map(|(_, version)| version)
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
            && let Ok(lock) = question.answer(freshness, Network::Off, Sources::Refused)
        {
            let settled = |package: &Selected| {
                let Some(version) = &package.version else { return false };
                let stays = match request.preference(&package.name) {
                    Some(preferred) => is_version(preferred, version),
                    None => last.get(&package.name).is_some_and(|it| it.version.as_ref() == Some(version)),
                };
                stays || set.pins(&package.name, version)
            };
            if lock.packages.iter().all(settled) {
                return Ok(lock);
            }
        }
        // A wheel is better than a source of a newer version; where there are no wheels, sources do.
        match question.answer(freshness, Network::On, Sources::Refused) {
            Err(Error::Resolution(refused)) if refused.may_have_sources() => {
                match question.answer(freshness, Network::On, Sources::Allowed) {
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

/// A version that uv is asked to take if it can, and of which package.
type Preference<'a> = (&'a PackageName, &'a Version);

/// A `pylock.toml` with names and versions alone: what uv takes as its preferences. Where there is a build of somebody's own that no
/// index has, what it is a build of is the next best.
fn preferences(preferences: &[Preference<'_>]) -> String {
    let mut text = "lock-version = \"1.0\"\ncreated-by = \"longshore\"\n".to_owned();
    for (name, version) in preferences {
        let public = version.is_local().then(|| (*version).clone().without_local());
        for version in std::iter::once(*version).chain(&public) {
            // Normalised names and versions have no character that TOML would escape.
            let _ = write!(text, "\n[[packages]]\nname = \"{name}\"\nversion = \"{version}\"\n");
        }
    }
    text
}

impl Question<'_> {
    fn answer(
        &self,
        freshness: Freshness<'_>,
        network: Network,
        sources: Sources,
    ) -> Result<Selection, Error> {
        let Freshness::Keep(last) = freshness else { return self.ask(&[], network, sources) };
        let preferred = &self.request.preferred;
        let has = |name: &PackageName| self.request.preference(name).is_some();
        let versions = last.iter().flat_map(|last| &last.packages);
        let last: Vec<Preference<'_>> =
            versions.filter_map(|package| Some((&package.name, package.version.as_ref()?))).collect();
        let (instead, mut wanted): (Vec<_>, Vec<_>) = last.into_iter().partition(|(name, _)| has(name));
        wanted.extend(preferred.iter().map(|(name, version)| (name, version)));
        let answer = self.ask(&wanted, network, sources)?;
        // Of several versions of a package, uv prefers the highest: so the one after the other.
        let refused = |(name, before): &Preference<'_>| {
            let chosen = answer.get(name).and_then(|package| package.version.as_ref());
            let chosen = chosen.filter(|chosen| chosen != before);
            let preferred = self.request.preference(name);
            preferred.zip(chosen).is_some_and(|(preferred, chosen)| !is_version(preferred, chosen))
        };
        let stay: Vec<Preference<'_>> = instead.into_iter().filter(refused).collect();
        if stay.is_empty() {
            return Ok(answer);
        }
        wanted.retain(|(name, _)| stay.iter().all(|(other, _)| other != name));
        wanted.extend(stay);
        self.ask(&wanted, network, sources)
    }

    fn ask(
        &self,
        preferences: &[Preference<'_>],
        network: Network,
        sources: Sources,
    ) -> Result<Selection, Error> {
        let request = self.request;
        let io = |doing: &str, source| Error::Io { doing: doing.to_owned(), source };
        let scratch = tempfile::tempdir().map_err(|source| io("making a temporary folder", source))?;
        let answer = scratch.path().join("pylock.toml");
        if !preferences.is_empty() {
            fs::write(&answer, self::preferences(preferences))
                .map_err(|source| io("writing preferences for uv", source))?;
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
