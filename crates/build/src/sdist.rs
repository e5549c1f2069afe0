//! Wheels of sources: source distributions, repositories, folders. Each is built once and remembered.
//!
//! A wheel is built in the parent image, so for its Python and against its libraries, in a sandbox whose folders are the
//! image's, the source's copy and the place for the wheel: of this machine's files, environment and credentials it sees
//! nothing. What the project needs to be built is resolved and fetched as any wheel is, and laid over the parent.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use futures::future::try_join_all;
use longshore_fetch::{Download, Fetcher};
use longshore_oci::{Arch, Digest, Digester};
use longshore_pipeline::DockerSettings;
use longshore_python::{
    PackageName,
    filename::WheelFilename,
    install::Venv,
    layers::OpenLayer,
    lock::{
        Artifact, BuiltWheel, Lock, LockedPackage, Origin as Asked, PinnedWheel, Selected, Selection, Source,
        SourceForm,
    },
    plan::{Budget, wheel_layers},
    tags::Tags,
    target::{Glibc, Target},
    uv::Indexes,
};
use longshore_sandbox::{Access, Container, Process, Sandbox, Streams};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tempfile::TempDir;
use url::Url;

use crate::{
    BuildError, Builder, Event, Observer, Request,
    image::{ImageLayer, VENV, assemble},
    layer::Lane,
    lock,
    parent::Parent,
    plan::PlannedParent,
    runtime::{self, RuntimeKey},
    wheels::{self, Wheels},
};

/// The row of the table that says which wheel was built of a source.
const BUILT: &str = "built-wheel";
/// Raised when the same source is to become another wheel.
const LAYOUT_VERSION: u32 = 1;
/// What builds a wheel, in the image's Python.
const FRONTEND: &str = include_str!("frontend.py");
/// The largest `pyproject.toml` that is read.
const LARGEST_PROJECT: u64 = 4 << 20;
/// The lines of a failed build that are shown.
const SHOWN: usize = 12;
/// So many rounds of needing more packages a build may have.
const ROUNDS: usize = 3;
/// 1980-01-01: the earliest time that a zip file can have.
const EPOCH: &str = "315532800";

/// Everything that a built wheel depends on, as far as it is remembered.
#[derive(Serialize)]
struct BuiltKey<'a> {
    layout: u32,
    content: Content,
    subdirectory: Option<&'a str>,
    python: String,
    arch: Arch,
    glibc: Glibc,
}

/// What a source consists of.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Content {
    Archive(Digest),
    Commit(String),
    Folder(Digest),
}

/// The `build-system` of a project (PEP 518), with the defaults for those without one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct BuildSystem {
    requires: Vec<String>,
    #[serde(default = "BuildSystem::legacy")]
    build_backend: String,
    #[serde(default)]
    backend_path: Vec<String>,
}

impl BuildSystem {
    fn legacy() -> String {
        "setuptools.build_meta:__legacy__".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "kebab-case")]
        struct Document {
            build_system: Option<BuildSystem>,
        }
        let document: Document = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        Ok(document.build_system.unwrap_or_else(|| Self {
            requires: vec!["setuptools>=40.8.0".to_owned()],
            build_backend: Self::legacy(),
            backend_path: Vec::new(),
        }))
    }
}

/// What wheels are built with.
pub(crate) struct Workshop<'a> {
    pub(crate) builder: &'a Builder,
    pub(crate) request: &'a Request,
    pub(crate) target: Target,
    pub(crate) indexes: &'a Indexes,
    pub(crate) fetcher: &'a Fetcher,
    pub(crate) observer: Observer<'a>,
}

/// A source on this machine, and what it says about building it. The folder lives as long as this.
struct Fetched {
    _scratch: TempDir,
    /// A folder, or an archive.
    place: PathBuf,
    system: BuildSystem,
}

impl Workshop<'_> {
    /// The lock of a selection: with the wheels of its sources, built where they are not at hand. A parent that is yet to
    /// be made is made for that.
    pub(crate) async fn lock(
        &self,
        selection: &Selection,
        parent: &mut PlannedParent,
    ) -> Result<Lock, BuildError> {
        if let Some(lock) = selection.of_wheels() {
            return Ok(lock);
        }
        let mut packages = Vec::new();
        for selected in &selection.packages {
            let Selected { name, version, artifact } = selected;
            let (wheel, source) = match artifact {
                Artifact::Wheel(wheel) => (wheel.clone(), None),
                Artifact::Source(source) => {
                    let built = self.wheel(selected, source, parent).await?;
                    let source = Source { built: None, ..source.clone() };
                    (pinned(&built, &source)?, Some(source))
                }
            };
            let version = version.clone().unwrap_or_else(|| wheel.filename.version().clone());
            packages.push(LockedPackage { name: name.clone(), version, wheel, source });
        }
        Ok(Lock { packages, present: Vec::new() })
    }

    async fn wheel(
        &self,
        selected: &Selected,
        source: &Source,
        parent: &mut PlannedParent,
    ) -> Result<BuiltWheel, BuildError> {
        let key = BuiltKey {
            layout: LAYOUT_VERSION,
            content: content(source)?,
            subdirectory: source.subdirectory.as_deref(),
            python: self.target.python.short(),
            arch: self.target.arch,
            glibc: self.target.glibc,
        };
        let known: Option<BuiltWheel> = source.built.clone().or_else(|| self.builder.table.get(BUILT, &key));
        if let Some(known) = known
            && self.builder.downloads.size_of(&known.digest)?.is_some()
        {
            return Ok(known);
        }
        if let PlannedParent::Debian(debian) = parent {
            *parent =
                PlannedParent::Ready(Box::new(self.builder.make_debian(debian, None, self.observer).await?));
        }
        let started = Instant::now();
        let PlannedParent::Ready(image) = parent else { return Err(BuildError::Lost("making the parent")) };
        self.builder.pull(&image.manifest, &image.sources(&self.request.repository), self.observer).await?;
        let built = self.build(&selected.name, source, image).await?;
        if let Some(expected) = &source.built
            && expected.digest != built.digest
        {
            return Err(BuildError::NotTheLocked {
                package: selected.name.clone(),
                of: source.describe(),
                expected: expected.digest,
                found: built.digest,
            });
        }
        self.builder.table.put(BUILT, &key, &built)?;
        let what = format!("{} {}", selected.name, built.filename.version());
        (self.observer)(Event::WheelBuilt { what, bytes: built.size.unwrap_or(0), took: started.elapsed() });
        Ok(built)
    }

    async fn build(
        &self,
        name: &PackageName,
        source: &Source,
        parent: &Parent,
    ) -> Result<BuiltWheel, BuildError> {
        let fetched = self.fetch(name, source).await?;
        let mut requires = fetched.system.requires.clone();
        for _ in 0..ROUNDS {
            let layers = self.environment(name, &requires, parent).await?;
            let out = tempfile::tempdir().map_err(|source| io_error("making a temporary folder", source))?;
            let sandbox = self.sandbox(&fetched, source, &requires, parent, layers, out.path());
            let run = tokio::task::spawn_blocking(move || sandbox.spawn(Streams::captured())?.output());
            let output = run.await.map_err(|_| BuildError::Lost("building a wheel"))??;
            if !output.exit.success() {
                let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
                return Err(failure(name, source, &said));
            }
            let more = out.path().join("requires.json");
            if let Ok(bytes) = fs::read(&more) {
                let more: Vec<String> = serde_json::from_slice(&bytes).unwrap_or_default();
                requires.extend(more);
                continue;
            }
            return self.keep(name, source, out.path()).await;
        }
        Err(failure(name, source, "its build backend asks for more packages again and again"))
    }

    /// The folders of the parent with the packages that a build needs.
    async fn environment(
        &self,
        name: &PackageName,
        requires: &[String],
        parent: &Parent,
    ) -> Result<Vec<PathBuf>, BuildError> {
        let builder = self.builder;
        let resolver = lock::Resolver {
            table: &builder.table,
            search: builder.uv(),
            target: self.target,
            indexes: self.indexes,
        };
        let selection = resolver.resolve_for_building(self.request, requires.to_vec()).await?;
        let lock = selection.of_wheels().ok_or_else(|| BuildError::SourceNeedsSource(name.clone()))?;
        let wheels = Wheels::new(self.fetcher, &builder.downloads, self.observer, &lock);
        let python = parent.python.clone();
        let venv = Venv::in_image(python.version);
        let key = RuntimeKey::venv(&python, &[]);
        let frame =
            builder.layers.get(&key, Lane::Splice, move |out| runtime::venv(&python, &[], out)).await?;
        let mut layers = vec![ImageLayer { record: frame.record, title: "virtual environment".to_owned() }];
        let made = wheel_layers(&lock, &venv, Budget::default()).into_iter().map(|layer| {
            let (wheels, venv, downloads) = (&wheels, venv.clone(), builder.downloads.clone());
            async move {
                if builder.layers.known(&layer.key)?.is_none() {
                    try_join_all(layer.wheels.iter().map(|wheel| wheels.get(wheel))).await?;
                }
                let key = layer.key.clone();
                let write = move |out| {
                    let mut open = OpenLayer::open(&layer, &venv, |wheel| wheels::open(&downloads, wheel))?;
                    Ok(open.write(out)?)
                };
                builder.layers.get(&key, Lane::Splice, write).await
            }
        });
        for made in try_join_all(made).await? {
            layers.push(ImageLayer { record: made.record, title: "build requirements".to_owned() });
        }
        let (config, manifest) = assemble(parent, &layers, &DockerSettings::default(), &builder.created);
        let images = builder.images.clone();
        let unpack = tokio::task::spawn_blocking(move || images.unpack(&manifest, &config));
        unpack.await.map_err(|_| BuildError::Lost("unpacking build requirements"))?
    }

    fn sandbox(
        &self,
        fetched: &Fetched,
        source: &Source,
        requires: &[String],
        parent: &Parent,
        layers: Vec<PathBuf>,
        out: &Path,
    ) -> Sandbox {
        let place = match fetched.place.file_name() {
            Some(name) => format!("/build/source/{}", name.to_string_lossy()),
            None => "/build/source".to_owned(),
        };
        let subdirectory = match &source.form {
            // Of a folder, only its part was copied.
            SourceForm::Folder { .. } => None,
            _ => source.subdirectory.as_deref(),
        };
        let question = json!({
            "source": place, "subdirectory": subdirectory, "requires": requires,
            "backend": fetched.system.build_backend, "backend_path": fetched.system.backend_path, "out": "/build/out",
        });
        let python = format!("{VENV}/bin/python");
        let mut process = Process::of_image(&parent.config.config, &[]);
        process.argv = vec![python, "-c".to_owned(), FRONTEND.to_owned(), question.to_string()];
        process.user = String::new();
        "/tmp".clone_into(&mut process.cwd);
        let path = parent.config.config.env("PATH").unwrap_or("/usr/local/bin:/usr/bin:/bin");
        process.set_env("PATH", format!("{VENV}/bin:{path}"));
        process.set_env("SOURCE_DATE_EPOCH", EPOCH);
        process.set_env("PYTHONHASHSEED", "0");
        process.set_env("PYTHONDONTWRITEBYTECODE", "1");
        let container = Container::new(process).mount(&fetched.place, &place, Access::ReadOnly).mount(
            out,
            "/build/out",
            Access::ReadWrite,
        );
        Sandbox { layers, scratch: self.builder.images.scratch().to_owned(), container }
    }

    /// Takes the wheel out of the folder that it was built into.
    async fn keep(&self, name: &PackageName, source: &Source, out: &Path) -> Result<BuiltWheel, BuildError> {
        let entries = fs::read_dir(out).map_err(|error| io_error("reading a built wheel", error))?;
        let wheels: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "whl"))
            .collect();
        let [path] = wheels.as_slice() else {
            return Err(failure(name, source, "its build backend made no wheel"));
        };
        let text = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let filename: WheelFilename =
            text.parse().map_err(|error: longshore_python::filename::FilenameError| {
                failure(name, source, &error.to_string())
            })?;
        if filename.name() != name {
            return Err(failure(name, source, &format!("it is a wheel of {}", filename.name())));
        }
        if Tags::of(&self.target).rank(&filename).is_none() {
            let reason = format!("the wheel {filename} does not run on {}", self.target);
            return Err(failure(name, source, &reason));
        }
        let url = Url::from_file_path(path).map_err(|()| BuildError::Lost("the path of a wheel"))?;
        let download = Download { url, digest: None, size: None, what: filename.as_str().to_owned() };
        let kept = self.fetcher.fetch(&download, &self.builder.downloads, &|_| {}).await?;
        Ok(BuiltWheel { filename, digest: kept.digest, size: Some(kept.size) })
    }

    /// Brings a source here.
    async fn fetch(&self, name: &PackageName, source: &Source) -> Result<Fetched, BuildError> {
        let scratch = tempfile::tempdir().map_err(|source| io_error("making a temporary folder", source))?;
        let place = match &source.form {
            SourceForm::Archive { url, filename, digest, size, .. } => {
                let (url, what) = (url.clone(), filename.clone());
                let download = Download { url, digest: Some(*digest), size: *size, what };
                self.fetcher.fetch(&download, &self.builder.downloads, &|_| {}).await?;
                let place = scratch.path().join(filename.rsplit('/').next().unwrap_or(filename));
                fs::copy(self.builder.downloads.path(digest), &place)
                    .map_err(|error| io_error(&format!("copying {filename}"), error))?;
                place
            }
            SourceForm::Git { url, commit } => {
                let place = scratch.path().join("repository");
                let (name, url, commit, to) = (name.clone(), url.clone(), commit.clone(), place.clone());
                let clone = tokio::task::spawn_blocking(move || clone(&name, &url, &commit, &to));
                clone.await.map_err(|_| BuildError::Lost("git"))??;
                place
            }
            SourceForm::Folder { path } => {
                let from = path.join(source.subdirectory.as_deref().unwrap_or_default());
                let place = scratch.path().join("folder");
                for (relative, file) in files(&from)? {
                    let to = place.join(relative);
                    let copied = to.parent().map_or(Ok(()), fs::create_dir_all);
                    copied
                        .and_then(|()| fs::copy(&file, &to))
                        .map_err(|error| io_error(&format!("copying {}", file.display()), error))?;
                }
                place
            }
        };
        let text = match &source.form {
            SourceForm::Archive { filename, .. } => project_in(&place, source.subdirectory.as_deref())
                .map_err(|error| failure(name, source, &format!("{filename}: {error}")))?,
            SourceForm::Git { .. } => {
                read_project(&place.join(source.subdirectory.as_deref().unwrap_or_default()))
            }
            SourceForm::Folder { .. } => read_project(&place),
        };
        let system = BuildSystem::parse(&text.unwrap_or_default())
            .map_err(|reason| failure(name, source, &format!("its pyproject.toml: {reason}")))?;
        Ok(Fetched { _scratch: scratch, place, system })
    }
}

fn pinned(built: &BuiltWheel, source: &Source) -> Result<PinnedWheel, BuildError> {
    let lost = || BuildError::Lost("the place of a source");
    let (url, origin) = match &source.form {
        SourceForm::Archive { url, origin, .. } => (url.clone(), *origin),
        SourceForm::Git { url, commit } => {
            (format!("git+{url}@{commit}").parse().map_err(|_| lost())?, Asked::Direct)
        }
        SourceForm::Folder { path } => (Url::from_file_path(path).map_err(|()| lost())?, Asked::Direct),
    };
    let BuiltWheel { filename, digest, size } = built.clone();
    Ok(PinnedWheel { filename, url, size, digest, origin })
}

fn content(source: &Source) -> Result<Content, BuildError> {
    Ok(match &source.form {
        SourceForm::Archive { digest, .. } => Content::Archive(*digest),
        SourceForm::Git { commit, .. } => Content::Commit(commit.clone()),
        SourceForm::Folder { path } => {
            let folder = path.join(source.subdirectory.as_deref().unwrap_or_default());
            let mut digester = Digester::new();
            for (relative, file) in files(&folder)? {
                let mut note = |bytes: &[u8]| {
                    digester.update(&(bytes.len() as u64).to_be_bytes());
                    digester.update(bytes);
                };
                note(relative.as_os_str().as_encoded_bytes());
                let bytes = fs::read(&file)
                    .map_err(|error| io_error(&format!("reading {}", file.display()), error))?;
                note(&bytes);
            }
            Content::Folder(digester.finish())
        }
    })
}

/// The files of a project's folder, in order: without what `.gitignore` leaves out, repositories, virtual environments and
/// what earlier builds left.
fn files(folder: &Path) -> Result<Vec<(PathBuf, PathBuf)>, BuildError> {
    let mut walk = ignore::WalkBuilder::new(folder);
    walk.hidden(false).parents(false).git_global(false).git_exclude(false).require_git(false);
    walk.sort_by_file_name(Ord::cmp);
    walk.filter_entry(|entry| {
        let name = entry.file_name().to_string_lossy();
        let is_left = matches!(&*name, ".git" | "__pycache__") || name.ends_with(".egg-info");
        !is_left && !entry.path().join("pyvenv.cfg").exists()
    });
    let mut found = Vec::new();
    for entry in walk.build() {
        let entry = entry
            .map_err(|error| io_error(&format!("reading {}", folder.display()), io::Error::other(error)))?;
        if entry.path().is_file() {
            let relative = entry.path().strip_prefix(folder).unwrap_or(entry.path());
            found.push((relative.to_owned(), entry.path().to_owned()));
        }
    }
    Ok(found)
}

fn read_project(folder: &Path) -> Option<String> {
    let path = folder.join("pyproject.toml");
    // What comes out of a repository may be a link to anywhere.
    let is_own = fs::symlink_metadata(&path).is_ok_and(|found| found.is_file());
    is_own.then(|| fs::read_to_string(path).ok()).flatten()
}

/// The `pyproject.toml` of a source distribution, if it has one.
fn project_in(archive: &Path, subdirectory: Option<&str>) -> io::Result<Option<String>> {
    let file = File::open(archive)?;
    let name = archive.to_string_lossy();
    if !name.ends_with(".tar.gz") && !name.ends_with(".tgz") {
        let said = "only source distributions in the form of .tar.gz can be built";
        return Err(io::Error::new(io::ErrorKind::Unsupported, said));
    }
    let below = Path::new(subdirectory.unwrap_or_default()).join("pyproject.toml");
    for entry in tar::Archive::new(flate2::read::GzDecoder::new(io::BufReader::new(file))).entries()? {
        let entry = entry?;
        let path = entry.path()?.into_owned();
        let mut parts = path.components();
        parts.next();
        if parts.as_path() == below {
            let mut text = String::new();
            entry.take(LARGEST_PROJECT).read_to_string(&mut text)?;
            return Ok(Some(text));
        }
    }
    Ok(None)
}

/// Brings a commit of a repository here, with the user's own git: its settings have the user's credentials.
fn clone(package: &PackageName, url: &str, commit: &str, to: &Path) -> Result<(), BuildError> {
    let run = |arguments: &[&str], folder: Option<&Path>| {
        let mut command = Command::new("git");
        command.args(arguments).env("GIT_TERMINAL_PROMPT", "0").env("GIT_LFS_SKIP_SMUDGE", "1");
        if let Some(folder) = folder {
            command.current_dir(folder);
        }
        let output = command.output().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => BuildError::NoGit(package.clone()),
            _ => io_error("running git", error),
        })?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim().lines().last().unwrap_or("git failed").to_owned();
        Err(BuildError::Git { package: package.clone(), url: url.to_owned(), said })
    };
    let into = to.to_string_lossy();
    run(&["clone", "--quiet", "--no-checkout", "--", url, &into], None)?;
    if run(&["checkout", "--quiet", "--detach", commit], Some(to)).is_err() {
        // A commit that no branch has any more.
        run(&["fetch", "--quiet", "origin", commit], Some(to))?;
        run(&["checkout", "--quiet", "--detach", commit], Some(to))?;
    }
    run(&["submodule", "update", "--quiet", "--init", "--recursive"], Some(to))
}

fn io_error(doing: &str, source: io::Error) -> BuildError {
    BuildError::Io { doing: doing.to_owned(), source }
}

/// What a failed build means.
fn failure(package: &PackageName, source: &Source, said: &str) -> BuildError {
    // A traceback is about the build backend, not about what is wrong; its last line says that.
    let mut in_traceback = false;
    let lines: Vec<&str> = said
        .lines()
        .filter(|line| {
            let is_head = line.starts_with("Traceback (most recent call last)");
            in_traceback = is_head || (in_traceback && line.starts_with(char::is_whitespace));
            !in_traceback && !line.trim().is_empty()
        })
        .collect();
    let compiler = lines.iter().rev().find(|line| lacks_compiler(line));
    if let Some(line) = compiler {
        return BuildError::NoCompiler {
            package: package.clone(),
            of: source.describe(),
            said: line.trim().to_owned(),
        };
    }
    let shown = lines[lines.len().saturating_sub(SHOWN)..].join("\n  ");
    BuildError::WheelBuild { package: package.clone(), of: source.describe(), said: shown }
}

/// Whether a line of a build's output says that there is no compiler, or no headers of Python.
fn lacks_compiler(line: &str) -> bool {
    let is_command = line.contains("gcc") || line.contains("'cc'") || line.contains("g++");
    let is_missing = line.contains("No such file or directory") || line.contains("not found");
    (is_command && is_missing && line.contains("command"))
        || line.contains("Unknown compiler(s)")
        || line.contains("CMAKE_C_COMPILER not set")
        || line.contains("CMAKE_CXX_COMPILER not set")
        || (line.contains("Python.h") && is_missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> Source {
        let form = SourceForm::Git { url: "https://h/x.git".into(), commit: "0123456789abcdef".into() };
        Source { form, subdirectory: None, built: None }
    }

    #[test]
    fn a_project_without_a_build_system_is_one_of_setuptools() {
        let legacy = BuildSystem::parse("").unwrap();
        assert_eq!(legacy.build_backend, "setuptools.build_meta:__legacy__");
        let stated = BuildSystem::parse(
            "[build-system]\nrequires = ['flit_core >=3']\nbuild-backend = 'flit_core.buildapi'\nbackend-path = ['.']",
        );
        let stated = stated.unwrap();
        assert_eq!((stated.build_backend.as_str(), stated.backend_path.len()), ("flit_core.buildapi", 1));
        assert!(BuildSystem::parse("[build-system]\nrequires = 1").is_err());
    }

    #[test]
    fn a_missing_compiler_is_told_from_other_failures() {
        let name = "x".parse().unwrap();
        for line in [
            "error: command 'gcc' failed: No such file or directory",
            "error: command 'x86_64-linux-gnu-gcc' failed: No such file or directory",
            "x.c:1:10: fatal error: Python.h: No such file or directory",
            "../meson.build:1:0: ERROR: Unknown compiler(s): [['cc'], ['gcc']]",
        ] {
            let said = format!("running build_ext\n{line}\n");
            let error = failure(&name, &source(), &said).to_string();
            assert!(error.contains("apt_packages=[\"gcc\""), "{error}");
        }
        let error = failure(
            &name,
            &source(),
            "Traceback (most recent call last):\n  File x\n    y\nValueError: no version\n",
        )
        .to_string();
        assert!(
            error.contains("https://h/x.git at 0123456789ab")
                && error.ends_with(":\n  ValueError: no version"),
            "{error}"
        );
    }

    #[test]
    fn the_content_of_a_folder_is_its_files_and_not_what_builds_leave() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let digest = || {
            let form = SourceForm::Folder { path: folder.path().to_owned() };
            serde_json::to_string(&content(&Source { form, subdirectory: None, built: None }).unwrap())
                .unwrap()
        };
        write("pyproject.toml", "");
        write("x/__init__.py", "A = 1");
        write(".gitignore", "dist\n");
        let before = digest();
        for path in
            ["x/__pycache__/x.pyc", "x.egg-info/PKG-INFO", ".git/HEAD", "dist/x.whl", ".venv/pyvenv.cfg"]
        {
            write(path, "left");
        }
        assert_eq!(digest(), before);
        write("x/__init__.py", "A = 2");
        assert_ne!(digest(), before);
    }
}
