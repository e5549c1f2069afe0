//! The form of locks on disk: `pylock.toml` (PEP 751), read and written.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Component, Path, PathBuf},
};

use longshore_oci::Digest;
use pep508_rs::{
    PackageName,
    pep440_rs::{Version, VersionSpecifiers},
};
use serde::Deserialize;
use url::Url;

use crate::{
    error::Error,
    filename::WheelFilename,
    lock::{
        Artifact, BuiltWheel, Lock, LockedPackage, Origin, PinnedWheel, Selected, Selection, Source,
        SourceForm,
    },
    marker::Markers,
    requirements::RequirementSet,
    tags::Tags,
    target::Target,
};

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Pylock {
    lock_version: String,
    requires_python: Option<String>,
    #[serde(default)]
    environments: Vec<String>,
    #[serde(default)]
    extras: Vec<String>,
    #[serde(default)]
    dependency_groups: Vec<String>,
    #[serde(default)]
    default_groups: Vec<String>,
    #[serde(default)]
    packages: Vec<Package>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Package {
    name: PackageName,
    version: Option<Version>,
    marker: Option<String>,
    requires_python: Option<String>,
    #[serde(default)]
    wheels: Vec<File>,
    archive: Option<File>,
    sdist: Option<File>,
    vcs: Option<Vcs>,
    directory: Option<Directory>,
    #[serde(default)]
    tool: Tool,
}

#[derive(Deserialize)]
struct File {
    name: Option<String>,
    url: Option<Url>,
    path: Option<String>,
    size: Option<u64>,
    #[serde(default)]
    hashes: BTreeMap<String, String>,
    subdirectory: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Vcs {
    #[serde(rename = "type")]
    kind: String,
    url: Option<String>,
    path: Option<String>,
    commit_id: String,
    subdirectory: Option<String>,
}

#[derive(Deserialize)]
struct Directory {
    path: String,
    subdirectory: Option<String>,
}

#[derive(Default, Deserialize)]
struct Tool {
    longshore: Option<Longshore>,
}

/// What longshore keeps beside a source: the wheel that was built of it.
#[derive(Deserialize)]
struct Longshore {
    wheel: Option<BuiltWheel>,
}

/// Whose lock it is: it decides who is to blame, and what is taken at its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Author<'a> {
    /// uv answered a question of ours, for this target.
    Uv,
    /// This file of the user's, for whatever it was locked for.
    User(&'a Path),
}

impl Author<'_> {
    fn blame(self, reason: String) -> Error {
        match self {
            Self::Uv => Error::Lock { reason },
            Self::User(path) => Error::LockFile { path: path.to_owned(), reason },
        }
    }
}

/// What of a lock is wanted.
#[derive(Clone, Debug)]
pub struct Choice<'a> {
    /// What has to run on.
    pub target: &'a Target,
    /// The extras that are wanted.
    pub extras: &'a [String],
    /// The dependency groups that are wanted, besides the lock's default ones.
    pub groups: &'a [String],
    /// The hashes that wheels are held to, besides the lock's own.
    pub requirements: &'a RequirementSet,
    /// The folder that relative paths start from.
    pub folder: &'a Path,
    /// Whose lock it is.
    pub author: Author<'a>,
}

impl Selection {
    /// Chooses from a `pylock.toml`: the packages whose markers hold, each as its best file.
    ///
    /// Where it lists several wheels of a package, the one is taken that uv would install: of those with an allowed hash
    /// the best by tags, then by build tag. A source distribution is taken where no wheel suits.
    pub fn parse(text: &str, choice: &Choice<'_>) -> Result<Self, Error> {
        let wrong = |reason: String| choice.author.blame(reason);
        let document: Pylock = toml::from_str(text).map_err(|error| wrong(error.message().to_owned()))?;
        if document.lock_version.split('.').next() != Some("1") {
            return Err(wrong(format!(
                "its lock-version is {}, and longshore reads version 1 (PEP 751)",
                document.lock_version
            )));
        }
        let groups: Vec<String> = choice.groups.iter().chain(&document.default_groups).cloned().collect();
        let markers = Markers::new(choice.target, choice.extras, &groups)?;
        let chooser = Chooser { tags: Tags::of(choice.target), choice };
        if matches!(choice.author, Author::User(_)) {
            chooser.check_python("it", document.requires_python.as_deref())?;
            let mut suits = document.environments.is_empty();
            for environment in &document.environments {
                suits = suits || markers.hold(environment)?;
            }
            if !suits {
                return Err(wrong(format!(
                    "it is for {}, not for {}",
                    document.environments.join(" or "),
                    choice.target
                )));
            }
            for (kind, wanted, has) in [
                ("extra", choice.extras, &document.extras),
                ("dependency group", choice.groups, &document.dependency_groups),
            ] {
                if let Some(missing) = wanted.iter().find(|name| !has.contains(name)) {
                    return Err(wrong(format!("it has no {kind} `{missing}`: lock it with that")));
                }
            }
        }
        let mut packages = BTreeMap::new();
        for package in document.packages {
            if let Some(marker) = &package.marker
                && !markers.hold(marker)?
            {
                continue;
            }
            let selected = chooser.choose(package)?;
            if let Some(twice) = packages.insert(selected.name.clone(), selected) {
                return Err(wrong(format!("it has {} twice for {}", twice.name, choice.target)));
            }
        }
        Ok(Self { packages: packages.into_values().collect() })
    }
}

struct Chooser<'a> {
    tags: Tags,
    choice: &'a Choice<'a>,
}

impl Chooser<'_> {
    fn wrong(&self, reason: String) -> Error {
        self.choice.author.blame(reason)
    }

    fn check_python(&self, what: &str, requires: Option<&str>) -> Result<(), Error> {
        let Some(requires) = requires else { return Ok(()) };
        let specifiers: VersionSpecifiers = requires
            .parse()
            .map_err(|_| self.wrong(format!("{what} has the invalid requires-python `{requires}`")))?;
        let python = self.choice.target.python;
        let version =
            Version::new([u64::from(python.major), u64::from(python.minor), u64::from(python.patch)]);
        if specifiers.contains(&version) {
            return Ok(());
        }
        Err(self.wrong(format!("{what} requires Python {requires}, and the image has Python {python}")))
    }

    fn choose(&self, package: Package) -> Result<Selected, Error> {
        let Package { name, version, requires_python, wheels, archive, sdist, vcs, directory, tool, .. } =
            package;
        if matches!(self.choice.author, Author::User(_)) {
            self.check_python(name.as_ref(), requires_python.as_deref())?;
        }
        let built = tool.longshore.and_then(|longshore| longshore.wheel);
        let source = |form, subdirectory| Artifact::Source(Source { form, subdirectory, built });
        if let Some(Vcs { kind, url, path, commit_id, subdirectory }) = vcs {
            if kind != "git" {
                return Err(Error::NotGit { package: name, kind });
            }
            let url =
                url.or(path).ok_or_else(|| self.wrong(format!("the repository of {name} has no URL")))?;
            let url = without_credentials(&url);
            let artifact = source(SourceForm::Git { url, commit: commit_id }, subdirectory);
            return Ok(Selected { name, version, artifact });
        }
        if let Some(Directory { path, subdirectory }) = directory {
            let path = normalized(&self.choice.folder.join(path));
            return Ok(Selected {
                name,
                version,
                artifact: source(SourceForm::Folder { path }, subdirectory),
            });
        }
        let (files, origin) = match archive {
            Some(archive) if !is_wheel(&archive) => {
                let subdirectory = archive.subdirectory.clone();
                let form = self.archive(&name, &archive, Origin::Direct)?;
                return Ok(Selected { name, version, artifact: source(form, subdirectory) });
            }
            Some(archive) => (vec![archive], Origin::Direct),
            None => (wheels, Origin::Index),
        };
        let wheels: Vec<PinnedWheel> =
            files.iter().map(|file| self.pin(&name, file, origin)).collect::<Result<_, _>>()?;
        let listed = wheels.iter().map(|wheel| wheel.filename.tags()).collect::<Vec<_>>();
        let allowed = self.choice.requirements.hashes(&name);
        let suitable = wheels.into_iter().filter_map(|wheel| Some((self.tags.rank(&wheel.filename)?, wheel)));
        let (mut suitable, refused): (Vec<_>, Vec<_>) =
            suitable.partition(|(_, wheel): &(usize, PinnedWheel)| {
                allowed.is_none_or(|allowed| allowed.contains(&wheel.digest))
            });
        // Ties are broken by the file name, so that the order of the lock's lines decides nothing.
        suitable.sort_by(|(a_rank, a), (b_rank, b)| {
            (a_rank, b.filename.build(), a.filename.as_str()).cmp(&(
                b_rank,
                a.filename.build(),
                b.filename.as_str(),
            ))
        });
        if let Some((_, wheel)) = suitable.into_iter().next() {
            let version = version.or_else(|| Some(wheel.filename.version().clone()));
            return Ok(Selected { name, version, artifact: Artifact::Wheel(wheel) });
        }
        if let Some(file) = sdist {
            let form = self.archive(&name, &file, Origin::Index)?;
            let is_allowed = match &form {
                SourceForm::Archive { digest, .. } => allowed.is_none_or(|allowed| allowed.contains(digest)),
                _ => true,
            };
            if is_allowed {
                return Ok(Selected { name, version, artifact: source(form, None) });
            }
        }
        let version = version.map(|version| version.to_string()).unwrap_or_default();
        let target = *self.choice.target;
        if !refused.is_empty() {
            return Err(Error::Hash { package: name, version, target });
        }
        if listed.is_empty() {
            return Err(self.wrong(format!("it has no file of {name}")));
        }
        Err(Error::NoWheelListed { package: name, version, target, listed: summary(&listed) })
    }

    fn archive(&self, package: &PackageName, file: &File, origin: Origin) -> Result<SourceForm, Error> {
        let (url, filename, digest) = self.place(package, file)?;
        Ok(SourceForm::Archive { url, filename, digest, size: file.size, origin })
    }

    fn pin(&self, package: &PackageName, file: &File, origin: Origin) -> Result<PinnedWheel, Error> {
        let (url, name, digest) = self.place(package, file)?;
        let filename = name
            .parse::<WheelFilename>()
            .map_err(|error: crate::filename::FilenameError| self.wrong(error.to_string()))?;
        Ok(PinnedWheel { filename, url, size: file.size, digest, origin })
    }

    fn place(&self, package: &PackageName, file: &File) -> Result<(Url, String, Digest), Error> {
        let wrong = |what: &str| self.wrong(format!("a file of {package} has {what}"));
        let mut url = match (&file.url, &file.path) {
            (Some(url), _) => url.clone(),
            (None, Some(path)) => Url::from_file_path(normalized(&self.choice.folder.join(path)))
                .map_err(|()| wrong("a path that is not absolute"))?,
            (None, None) => return Err(wrong("neither a URL nor a path")),
        };
        // Locks of others may have credentials in their URLs; ours have none. Both fail only where there can be none.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        let sha256 = file.hashes.get("sha256").ok_or_else(|| wrong("no sha256 hash"))?;
        let digest = Digest::from_hex(sha256).map_err(|error| wrong(&error.to_string()))?;
        let name = file_name(file).ok_or_else(|| wrong("no name"))?;
        Ok((url, name, digest))
    }
}

/// A path without `.` and `..`, by its text alone: uv writes paths relative to a folder that is gone by now.
fn normalized(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

fn without_credentials(text: &str) -> String {
    let Ok(mut url) = Url::parse(text) else { return text.to_owned() };
    if url.password().is_some() {
        let _ = url.set_username("");
        let _ = url.set_password(None);
    }
    url.to_string()
}

/// The tags of wheels, in words that fit into a sentence.
fn summary(tags: &[String]) -> String {
    let shown = tags.iter().take(6).cloned().collect::<Vec<_>>().join(", ");
    match tags.len().saturating_sub(6) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn file_name(file: &File) -> Option<String> {
    if let Some(name) = &file.name {
        return Some(name.clone());
    }
    let last = match (&file.url, &file.path) {
        (Some(url), _) => percent_decoded(url.path_segments()?.next_back()?),
        (None, Some(path)) => path.rsplit('/').next()?.to_owned(),
        (None, None) => return None,
    };
    Some(last).filter(|name| !name.is_empty())
}

fn is_wheel(file: &File) -> bool {
    file_name(file)
        .is_some_and(|name| Path::new(&name).extension().is_some_and(|extension| extension == "whl"))
}

/// A URL's path segment as text: file names of wheels with a local version have a `+`, which is often escaped.
fn percent_decoded(segment: &str) -> String {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match (first, tail) {
            (b'%', [high, low, ..]) => std::str::from_utf8(&[*high, *low])
                .ok()
                .and_then(|digits| u8::from_str_radix(digits, 16).ok()),
            _ => None,
        };
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| segment.to_owned())
}

impl Lock {
    /// The lock as `pylock.toml`, for the Python and the platform that it was made for: what
    /// [`Selection::parse`] reads back as the same packages.
    pub fn to_pylock(&self, requires_python: &str) -> String {
        let mut text = format!(
            "# What an image has installed; `longshore build --locked` takes it as it is.\nlock-version = \"1.0\"\n\
             created-by = \"longshore\"\nrequires-python = \"{requires_python}\"\n"
        );
        let installed = self.packages.iter().map(selected);
        // On another parent they are to be installed too.
        let present = self.present.iter().map(|package| package.selected.clone());
        let mut packages: Vec<Selected> = installed.chain(present).collect();
        packages.sort_by(|one, other| one.name.cmp(&other.name));
        for Selected { name, version, artifact } in &packages {
            // Normalised names and versions have no character that TOML would escape.
            let _ = write!(text, "\n[[packages]]\nname = \"{name}\"\n");
            if let Some(version) = version {
                let _ = writeln!(text, "version = \"{version}\"");
            }
            text.push_str(&match artifact {
                Artifact::Wheel(wheel) => wheel_line(wheel),
                Artifact::Source(source) => source_lines(source),
            });
        }
        text
    }
}

/// A package with the source that its wheel was built of, if it was, in the wheel's place.
fn selected(package: &LockedPackage) -> Selected {
    let LockedPackage { name, version, wheel, source } = package;
    let artifact = match source.clone() {
        Some(source) => {
            let PinnedWheel { filename, digest, size, .. } = wheel.clone();
            Artifact::Source(Source { built: Some(BuiltWheel { filename, digest, size }), ..source })
        }
        None => Artifact::Wheel(wheel.clone()),
    };
    Selected { name: name.clone(), version: Some(version.clone()), artifact }
}

fn wheel_line(wheel: &PinnedWheel) -> String {
    let file = file_line(&wheel.url, wheel.size, wheel.digest);
    match wheel.origin {
        Origin::Index => format!("wheels = [{{ name = {}, {file} }}]\n", quoted(wheel.filename.as_str())),
        // PEP 751 lets an archive have no name; its URL has it.
        Origin::Direct => format!("archive = {{ {file} }}\n"),
    }
}

fn file_line(url: &Url, size: Option<u64>, digest: Digest) -> String {
    let place = match url.to_file_path() {
        Ok(path) if url.scheme() == "file" => format!("path = {}", quoted(&path.to_string_lossy())),
        _ => format!("url = {}", quoted(url.as_str())),
    };
    let size = size.map(|size| format!(", size = {size}")).unwrap_or_default();
    format!("{place}{size}, hashes = {{ sha256 = \"{}\" }}", digest.hex())
}

fn source_lines(source: &Source) -> String {
    let within = source
        .subdirectory
        .as_ref()
        .map(|folder| format!(", subdirectory = {}", quoted(folder)))
        .unwrap_or_default();
    let lines = match &source.form {
        SourceForm::Archive { url, digest, size, filename, origin } => {
            let key = if *origin == Origin::Index { "sdist" } else { "archive" };
            let name = if *origin == Origin::Index {
                format!("name = {}, ", quoted(filename))
            } else {
                String::new()
            };
            format!("{key} = {{ {name}{}{within} }}\n", file_line(url, *size, *digest))
        }
        SourceForm::Git { url, commit } => format!(
            "vcs = {{ type = \"git\", url = {}, commit-id = {}{within} }}\n",
            quoted(url),
            quoted(commit)
        ),
        SourceForm::Folder { path } => {
            format!("directory = {{ path = {}{within} }}\n", quoted(&path.to_string_lossy()))
        }
    };
    let Some(BuiltWheel { filename, digest, size }) = &source.built else { return lines };
    let size = size.map(|size| format!(", size = {size}")).unwrap_or_default();
    format!(
        "{lines}[packages.tool.longshore]\nwheel = {{ filename = {}, digest = \"{digest}\"{size} }}\n",
        quoted(filename.as_str())
    )
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
