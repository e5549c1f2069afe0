//! Which Python an image has, and what that has installed, by reading the image's layers: nothing of it is run, so it may be for
//! another machine.
//!
//! Of every layer the names of interpreters, C libraries and links are kept, and the few files that say versions:
//! `patchlevel.h` of an interpreter that was compiled from source, dpkg's list for Debian's, the banner in a C library, the
//! metadata of distributions. What they leave open is left to running it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, Read},
};

use longshore_layer::{
    EntryPath, Kind,
    read::{Change, LayerReader},
};
use longshore_oci::ImageConfig;
use longshore_python::{
    distribution::{self, Distribution, Maker, Metadata, Part},
    target::{Glibc, PythonVersion},
};

use crate::{
    BuildError,
    parent::{ParentFacts, PythonFacts, glibc_version},
};

/// Docker's `PATH` where an image has none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The most that is read of a file: C libraries have some two megabytes, dpkg's lists less.
const LARGEST_FILE: u64 = 32 << 20;
/// The most that is read of a list of entry points.
const LARGEST_ENTRY_POINTS: u64 = 1 << 20;
/// The most distributions that are looked at; large images have some hundreds.
const MOST_DISTRIBUTIONS: usize = 1 << 16;
/// The most links that lead from one to the next (as Linux has it).
const MOST_LINKS: usize = 40;
/// How a GNU C library begins to say which it is.
const BANNER: &[u8] = b"GNU C Library";

/// What was found of an image so far; its layers are read lowest first.
#[derive(Debug, Default)]
pub(crate) struct Examination {
    /// By path without a slash in front.
    places: BTreeMap<String, Place>,
    /// How many files of distributions there were, in all layers.
    counted: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Link(String),
    File(Said),
}

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Said {
    /// `PY_VERSION` of a header.
    python: Option<String>,
    /// The version in a C library's banner.
    glibc: Option<Glibc>,
    /// dpkg's packages that matter here, by name.
    packages: BTreeMap<String, String>,
    /// What a distribution's metadata say.
    metadata: Option<Metadata>,
    /// A distribution's `entry_points.txt`.
    entry_points: Option<String>,
}

/// What is known of an image's Python.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// Everything.
    Facts(ParentFacts),
    /// That it is of no use, and why.
    Unusable(String),
    /// Not enough.
    Open,
}

/// The files that are looked into.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Header,
    Dpkg,
    Libc,
    Distribution(Part),
    /// Only its name matters.
    Name,
}

impl Source {
    fn of(path: &str) -> Option<Self> {
        let name = path.rsplit('/').next().unwrap_or(path);
        if path == "var/lib/dpkg/status" {
            return Some(Self::Dpkg);
        }
        if let Some(name) = path.strip_prefix("var/lib/dpkg/status.d/") {
            return (!name.contains('/') && !name.ends_with(".md5sums")).then_some(Self::Dpkg);
        }
        if let Some(place) = distribution::Place::of(path) {
            return Some(Self::Distribution(place.part));
        }
        if name == "patchlevel.h" && path.contains("include/python3.") {
            return Some(Self::Header);
        }
        let is_old_libc = name.strip_suffix(".so").is_some_and(|name| name.starts_with("libc-2."));
        if name == "libc.so.6" || is_old_libc {
            return Some(Self::Libc);
        }
        let is_interpreter = name.starts_with("python3") && path.contains("bin/");
        (is_interpreter || name.starts_with("ld-musl-")).then_some(Self::Name)
    }
}

impl Examination {
    /// Reads the next layer, to its end.
    pub(crate) fn layer<R: Read>(&mut self, mut reader: LayerReader<R>) -> Result<(), BuildError> {
        // What a whiteout hides is of the layers below, wherever in the layer it stands.
        let mut here = BTreeSet::new();
        while let Some(mut entry) = reader.next_entry()? {
            match entry.change().clone() {
                Change::Whiteout(path) => self.hide(Some(path.as_str()), &here),
                Change::Opaque(path) => self.hide(path.as_ref().map(EntryPath::as_str), &here),
                Change::Put(put) => {
                    let path = put.path.as_str().to_owned();
                    let place = match put.kind {
                        Kind::Directory => {
                            self.places.remove(&path);
                            continue;
                        }
                        Kind::Symlink { target } => Some(Place::Link(target)),
                        Kind::HardLink { target } => self.places.get(target.as_str()).cloned(),
                        Kind::File => match Source::of(&path) {
                            None => None,
                            Some(Source::Distribution(_)) if self.counted >= MOST_DISTRIBUTIONS => None,
                            Some(source) => {
                                self.counted += usize::from(matches!(source, Source::Distribution(_)));
                                Some(Place::File(said(&mut entry, source, &path)?))
                            }
                        },
                        _ => None,
                    };
                    self.hide(Some(&path), &BTreeSet::new());
                    if let Some(place) = place {
                        here.insert(path.clone());
                        self.places.insert(path, place);
                    }
                }
            }
        }
        reader.finish()?;
        Ok(())
    }

    /// Forgets a path and all below it, but for what this layer brought.
    fn hide(&mut self, path: Option<&str>, here: &BTreeSet<String>) {
        let Some(path) = path else { return self.places.retain(|place, _| here.contains(place)) };
        let below = format!("{path}/");
        let gone = self.places.range(below.clone()..).map(|(place, _)| place);
        let gone = gone.take_while(|place| place.starts_with(&below)).filter(|place| !here.contains(*place));
        let gone: Vec<String> = gone.cloned().collect();
        for place in gone {
            self.places.remove(&place);
        }
        if !here.contains(path) {
            self.places.remove(path);
        }
    }

    /// What all layers together say.
    pub(crate) fn finish(&self, config: &ImageConfig) -> Known {
        let path = config.config.env("PATH").unwrap_or(DEFAULT_PATH);
        let folders = path.split(':').filter_map(|folder| folder.strip_prefix('/'));
        let found = folders.map(|folder| format!("{}/python3", folder.trim_end_matches('/')));
        // The first that is there decides, as it does when it is run.
        let Some(executable) = found.into_iter().find_map(|python| self.follow(&python)) else {
            return Known::Open;
        };
        if let Some(musl) = self.places.keys().find(|place| place.rsplit('/').next().is_some_and(is_musl))
            && self.glibc().is_none()
        {
            return Known::Unusable(format!(
                "its C library is musl (/{musl}), which the wheels of most packages are not made for"
            ));
        }
        match (self.python(&executable), self.glibc()) {
            (Some(version), _) if (version.major, version.minor) < (3, 9) => {
                Known::Unusable(format!("its python3 is version {version}"))
            }
            (Some(version), Some(glibc)) => {
                let maker = if self.is_debians(&executable) { Maker::Debian } else { Maker::Other };
                let executable = format!("/{executable}");
                let distributions = self.distributions(&executable, version, maker);
                let python = PythonFacts { version, executable, glibc };
                Known::Facts(ParentFacts { python, distributions })
            }
            _ => Known::Open,
        }
    }

    /// Whether Debian made the interpreter at that path.
    fn is_debians(&self, executable: &str) -> bool {
        let name = executable.strip_prefix("usr/bin/");
        name.is_some_and(|name| self.package(&format!("{name}-minimal")).is_some())
    }

    /// What an interpreter has installed, and an environment of it sees.
    fn distributions(&self, executable: &str, python: PythonVersion, maker: Maker) -> Vec<Distribution> {
        let folders = distribution::folders(executable, python, maker);
        let mut found = Vec::new();
        for folder in &folders {
            // Folders may be links, or lie below some.
            let Some(real) = self.resolve(folder) else { continue };
            let below = format!("{real}/");
            let files = self.places.range(below.clone()..).take_while(|(path, _)| path.starts_with(&below));
            for (path, file) in files {
                let Place::File(Said { metadata: Some(metadata), .. }) = file else { continue };
                let Some(place) = distribution::Place::of(path).filter(|place| place.folder == real) else {
                    continue;
                };
                let entry_points = self.said(&format!("{real}/{}/entry_points.txt", place.entry));
                let entry_points = entry_points.and_then(|said| said.entry_points.as_deref());
                let place = distribution::Place { folder, ..place };
                found.extend(Distribution::at(place, metadata, entry_points, python.minor));
            }
        }
        distribution::imported(found, &folders)
    }

    /// The version of the interpreter at that path.
    fn python(&self, executable: &str) -> Option<PythonVersion> {
        let (bin, name) = executable.rsplit_once('/')?;
        let minor = name.strip_prefix("python")?;
        let prefix = bin.strip_suffix("bin")?;
        let header = self.follow(&format!("{prefix}include/{name}/patchlevel.h"));
        let version = if let Some(header) = header {
            self.said(&header)?.python.clone()?
        } else if bin == "usr/bin" {
            // `3.11.2-6+deb12u5`: what Debian appends is no part of Python's own version.
            let package = self.package(&format!("{name}-minimal"))?;
            package.split(['-', '+', '~']).next()?.to_owned()
        } else {
            return None;
        };
        let version: PythonVersion = version.parse().ok()?;
        (version.short() == minor).then_some(version)
    }

    fn glibc(&self) -> Option<Glibc> {
        if let Some(version) = self.package("libc6") {
            return glibc_version(version);
        }
        self.places.values().find_map(|place| match place {
            Place::File(said) => said.glibc,
            Place::Link(_) => None,
        })
    }

    fn package(&self, name: &str) -> Option<&str> {
        let lists = self.places.values().filter_map(|place| match place {
            Place::File(said) => Some(&said.packages),
            Place::Link(_) => None,
        });
        lists.filter_map(|list| list.get(name)).map(String::as_str).next()
    }

    fn said(&self, path: &str) -> Option<&Said> {
        match self.places.get(path)? {
            Place::File(said) => Some(said),
            Place::Link(_) => None,
        }
    }

    /// The file that a path leads to, links resolved below the image's root; `None` if there is none that was noted.
    fn follow(&self, path: &str) -> Option<String> {
        let path = self.resolve(path)?;
        matches!(self.places.get(&path), Some(Place::File(_))).then_some(path)
    }

    /// Where a path leads to, links resolved below the image's root, whether there is something or not; `None` if they lead
    /// nowhere.
    fn resolve(&self, path: &str) -> Option<String> {
        let mut rest: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
        let mut done: Vec<String> = Vec::new();
        let mut links = 0;
        while let Some(part) = rest.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    done.pop();
                    continue;
                }
                _ => done.push(part),
            }
            if let Some(Place::Link(target)) = self.places.get(&done.join("/")) {
                links += 1;
                if links > MOST_LINKS {
                    return None;
                }
                done.pop();
                if target.starts_with('/') {
                    done.clear();
                }
                rest.extend(target.split('/').rev().map(str::to_owned));
            }
        }
        Some(done.join("/"))
    }
}

fn is_musl(name: &str) -> bool {
    name.starts_with("ld-musl-")
}

fn said(file: &mut impl BufRead, source: Source, path: &str) -> Result<Said, BuildError> {
    let wrong = |source| BuildError::Io { doing: format!("reading /{path} of the parent"), source };
    let mut said = Said::default();
    let most = match source {
        Source::Name => return Ok(said),
        Source::Distribution(Part::Metadata) => {
            said.metadata = Metadata::read(file).map_err(wrong)?;
            return Ok(said);
        }
        Source::Distribution(Part::EntryPoints) => LARGEST_ENTRY_POINTS,
        Source::Header | Source::Libc | Source::Dpkg => LARGEST_FILE,
    };
    let mut content = Vec::new();
    file.take(most).read_to_end(&mut content).map_err(wrong)?;
    match source {
        Source::Header => {
            let text = String::from_utf8_lossy(&content);
            let line = text.lines().find_map(|line| line.trim().strip_prefix("#define PY_VERSION"));
            said.python = line.map(|line| line.trim().trim_matches('"').to_owned());
        }
        Source::Libc => said.glibc = banner(&content),
        Source::Dpkg => said.packages = packages(&String::from_utf8_lossy(&content)),
        Source::Distribution(_) => said.entry_points = String::from_utf8(content).ok(),
        Source::Name => {}
    }
    Ok(said)
}

/// The version in `GNU C Library (Debian GLIBC 2.36-9+deb12u9) stable release version 2.36.`
fn banner(library: &[u8]) -> Option<Glibc> {
    let mut windows = library.windows(BANNER.len());
    let start = windows.position(|window| window == BANNER)?;
    let line = library[start..].split(|byte| *byte == b'\n' || *byte == 0).next()?;
    let line = String::from_utf8_lossy(line);
    let (_, version) = line.rsplit_once("release version ")?;
    glibc_version(version)
}

/// The installed packages among those that tell which Python and which C library there are.
fn packages(status: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for paragraph in status.split("\n\n") {
        let field = |name: &str| {
            let line = paragraph.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map(str::trim)
        };
        let (Some(package), Some(version)) = (field("Package"), field("Version")) else { continue };
        let matters =
            package == "libc6" || (package.starts_with("python3.") && package.ends_with("-minimal"));
        // Lists without a state (distroless) have what is installed.
        if matters && field("Status").is_none_or(|status| status.ends_with(" installed")) {
            let upstream = version.split_once(':').map_or(version, |(_, version)| version);
            found.insert(package.to_owned(), upstream.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_layer::{Entry, LayerWriter, read::Compression};
    use longshore_oci::Arch;

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text).unwrap()
    }

    fn read(examination: &mut Examination, write: impl FnOnce(&mut LayerWriter<Vec<u8>>)) {
        let mut writer = LayerWriter::new(Vec::new());
        write(&mut writer);
        let (layer, _) = writer.finish().unwrap();
        examination.layer(LayerReader::new(&layer[..], Compression::Gzip).unwrap()).unwrap();
    }

    fn file(out: &mut LayerWriter<Vec<u8>>, name: &str, content: &str) {
        out.file(&Entry::file(path(name), 0o755), content.as_bytes()).unwrap();
    }

    fn link(out: &mut LayerWriter<Vec<u8>>, name: &str, target: &str) {
        out.add(&Entry::symlink(path(name), target)).unwrap();
    }

    fn facts(version: &str, executable: &str, minor: u16) -> Known {
        let python = PythonFacts {
            version: version.parse().unwrap(),
            executable: executable.to_owned(),
            glibc: Glibc { major: 2, minor },
        };
        Known::Facts(ParentFacts { python, distributions: Vec::new() })
    }

    const STATUS: &str = "Package: libc6\nStatus: install ok installed\nVersion: 2.36-9+deb12u13\n\n\
        Package: python3.11-minimal\nStatus: install ok installed\nVersion: 3.11.2-6+deb12u6\n\n\
        Package: python3.12-minimal\nStatus: deinstall ok config-files\nVersion: 3.12.1-1\n";

    #[test]
    fn debian_s_own_python_is_known_by_its_package() {
        let mut found = Examination::default();
        read(&mut found, |out| {
            link(out, "bin", "usr/bin");
            link(out, "usr/bin/python3", "python3.11");
            file(out, "usr/bin/python3.11", "");
            file(out, "var/lib/dpkg/status", STATUS);
        });
        let config = ImageConfig::linux(Arch::Arm64);
        assert_eq!(found.finish(&config), facts("3.11.2", "/usr/bin/python3.11", 36));
        // By a folder that is a link.
        let mut config = config;
        config.config.set_env("PATH", "/bin");
        assert_eq!(found.finish(&config), facts("3.11.2", "/usr/bin/python3.11", 36));
    }

    #[test]
    fn a_python_of_its_own_hides_debian_s() {
        let mut found = Examination::default();
        read(&mut found, |out| {
            link(out, "usr/bin/python3", "python3.11");
            file(out, "usr/bin/python3.11", "");
            file(out, "var/lib/dpkg/status", STATUS);
        });
        read(&mut found, |out| {
            link(out, "usr/local/bin/python3", "python3.12");
            file(out, "usr/local/bin/python3.12", "");
            file(
                out,
                "usr/local/include/python3.12/patchlevel.h",
                "/* */\n#define PY_VERSION              \"3.12.7\"\n",
            );
        });
        let config = ImageConfig::linux(Arch::Amd64);
        assert_eq!(found.finish(&config), facts("3.12.7", "/usr/local/bin/python3.12", 36));
        // Without the header, its own version is not known, and Debian's is another's.
        read(&mut found, |out| out.whiteout(&path("usr/local/include/python3.12/patchlevel.h")).unwrap());
        assert_eq!(found.finish(&config), Known::Open);
        read(&mut found, |out| out.whiteout(&path("usr/local")).unwrap());
        assert_eq!(found.finish(&config), facts("3.11.2", "/usr/bin/python3.11", 36));
    }

    #[test]
    fn a_c_library_says_which_it_is() {
        let mut found = Examination::default();
        let library = "\u{7f}ELF\0GNU C Library (GNU libc) stable release version 2.39.\nCopyright\0";
        read(&mut found, |out| {
            link(out, "opt/python/bin/python3", "/opt/python/bin/python3.13");
            file(out, "opt/python/bin/python3.13", "");
            file(out, "opt/python/include/python3.13/patchlevel.h", "#define PY_VERSION \"3.13.1\"");
            file(out, "usr/lib64/libc.so.6", library);
        });
        let mut config = ImageConfig::linux(Arch::Amd64);
        config.config.set_env("PATH", "/opt/python/bin:/usr/bin");
        assert_eq!(found.finish(&config), facts("3.13.1", "/opt/python/bin/python3.13", 39));
    }

    #[test]
    fn musl_and_old_versions_are_refused_with_the_reason() {
        let mut found = Examination::default();
        read(&mut found, |out| {
            file(out, "lib/ld-musl-x86_64.so.1", "");
            link(out, "usr/local/bin/python3", "python3.12");
            file(out, "usr/local/bin/python3.12", "");
        });
        let config = ImageConfig::linux(Arch::Amd64);
        let Known::Unusable(reason) = found.finish(&config) else { panic!("musl is taken") };
        assert!(reason.contains("musl"), "{reason}");
        let mut found = Examination::default();
        read(&mut found, |out| {
            link(out, "usr/bin/python3", "python3.8");
            file(out, "usr/bin/python3.8", "");
            let status = STATUS.replace("python3.11", "python3.8").replace("3.11.2", "3.8.10");
            file(out, "var/lib/dpkg/status", &status);
        });
        let Known::Unusable(reason) = found.finish(&config) else { panic!("3.8 is taken") };
        assert!(reason.contains("3.8.10"), "{reason}");
        assert_eq!(Examination::default().finish(&config), Known::Open);
    }

    fn installed(found: &Examination, config: &ImageConfig) -> Vec<String> {
        let Known::Facts(facts) = found.finish(config) else { panic!("the Python is not known") };
        facts.distributions.iter().map(|it| format!("{} {} {}", it.name, it.version, it.folder)).collect()
    }

    #[test]
    fn distributions_are_those_in_the_interpreter_s_own_folders() {
        let mut found = Examination::default();
        read(&mut found, |out| {
            link(out, "lib", "usr/lib");
            link(out, "usr/bin/python3", "python3.11");
            file(out, "usr/bin/python3.11", "");
            file(
                out,
                "usr/lib/python3/dist-packages/PyYAML-6.0.egg-info/PKG-INFO",
                "Name: PyYAML\nVersion: 6.0\n",
            );
            let points = "[console_scripts]\nyaml = yaml.cli:main\n";
            file(out, "usr/lib/python3/dist-packages/PyYAML-6.0.egg-info/entry_points.txt", points);
            file(out, "usr/lib/python3/dist-packages/six-1.16.0.egg-info", "Name: six\nVersion: 1.16.0\n");
            let metadata = "Name: idna\nVersion: 3.10\n";
            file(out, "usr/lib/python3/dist-packages/vendored/idna-3.10.dist-info/METADATA", metadata);
            file(out, "usr/local/lib/python3.11/dist-packages/idna-3.10.dist-info/METADATA", metadata);
            file(out, "usr/local/lib/python3.12/site-packages/idna-3.10.dist-info/METADATA", metadata);
            file(out, "var/lib/dpkg/status", STATUS);
        });
        let config = ImageConfig::linux(Arch::Amd64);
        let (debian, local) = ("usr/lib/python3/dist-packages", "usr/local/lib/python3.11/dist-packages");
        assert_eq!(
            installed(&found, &config),
            [format!("idna 3.10 {local}"), format!("pyyaml 6.0 {debian}"), format!("six 1.16.0 {debian}")]
        );
        let Known::Facts(facts) = found.finish(&config) else { panic!("the Python is not known") };
        assert_eq!(facts.distributions[1].scripts[0].module, "yaml.cli");
        // What a layer above removes, and what it puts in its place.
        read(&mut found, |out| {
            out.whiteout(&path("usr/lib/python3/dist-packages/six-1.16.0.egg-info")).unwrap();
            out.opaque(Some(&path("usr/local/lib/python3.11/dist-packages"))).unwrap();
            let metadata = "Name: idna\nVersion: 3.11\n";
            file(out, "usr/local/lib/python3.11/dist-packages/idna-3.11.dist-info/METADATA", metadata);
        });
        assert_eq!(
            installed(&found, &config),
            [format!("idna 3.11 {local}"), format!("pyyaml 6.0 {debian}")]
        );
    }

    #[test]
    fn folders_that_are_links_are_followed() {
        let mut found = Examination::default();
        read(&mut found, |out| {
            file(out, "opt/python/bin/python3.13", "");
            file(out, "opt/python/include/python3.13/patchlevel.h", "#define PY_VERSION \"3.13.1\"");
            link(out, "opt/python/lib", "/srv/lib");
            let metadata = "Name: torch\nVersion: 2.4.0+cu121\n";
            file(out, "srv/lib/python3.13/site-packages/torch-2.4.0+cu121.dist-info/METADATA", metadata);
            file(out, "usr/lib64/libc.so.6", "GNU C Library (GNU libc) stable release version 2.39.\n");
            link(out, "usr/local/bin/python3", "/opt/python/bin/python3.13");
        });
        let folder = "opt/python/lib/python3.13/site-packages";
        let config = ImageConfig::linux(Arch::Amd64);
        assert_eq!(installed(&found, &config), [format!("torch 2.4.0+cu121 {folder}")]);
    }

    #[test]
    fn links_that_lead_nowhere_end() {
        let mut found = Examination::default();
        read(&mut found, |out| {
            link(out, "usr/bin/python3", "python3");
            link(out, "usr/local/bin/python3", "../../../../etc/alternatives/python3");
        });
        assert_eq!(found.finish(&ImageConfig::linux(Arch::Amd64)), Known::Open);
    }
}
