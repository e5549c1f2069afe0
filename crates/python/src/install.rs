//! What a wheel looks like in a virtual environment: a pure plan, of which nothing is unpacked.
//!
//! It is what `uv pip install` (0.13) makes, file by file and mode by mode, with one difference: `INSTALLER` says
//! `longshore`, since that file names the tool (PEP 376). REQUESTED is written for every wheel, as uv does
//! whoever asked for it; so a wheel's files depend on nothing but the wheel, and its layer can be shared.

use std::{
    collections::BTreeMap,
    io::{Read, Seek},
};

use longshore_layer::EntryPath;

use crate::{
    entry_points::{self, Script},
    error::{Error, WheelProblem},
    filename::WheelFilename,
    record::{self, RecordLine},
    target::PythonVersion,
    wheel::Wheel,
};

/// The virtual environment in the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Venv {
    prefix: EntryPath,
    python: PythonVersion,
}

/// The files of a wheel in a virtual environment, in order of their paths.
#[derive(Clone, Debug)]
pub struct Tree {
    /// The wheel.
    pub wheel: WheelFilename,
    /// Its files and folders. Folders appear only where the wheel has an entry for them.
    pub files: BTreeMap<EntryPath, TreeFile>,
}

/// A file of a [`Tree`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeFile {
    /// Permission bits: 0644, 0755.
    pub mode: u32,
    /// What is in it.
    pub source: Source,
}

/// Where the content of a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// An entry of the wheel's archive, by index.
    Entry(usize),
    /// Made here.
    Bytes(Vec<u8>),
    /// It is a folder.
    Directory,
}

/// Two wheels have different files at one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The path.
    pub path: EntryPath,
    /// The wheel whose file does not appear.
    pub hidden: WheelFilename,
    /// The wheel whose file appears.
    pub shown: WheelFilename,
}

/// A script beyond this is no script that somebody wants a shebang changed in.
const SCRIPT_LIMIT: u64 = 256 << 20;
const FILE: u32 = 0o644;
pub(crate) const PROGRAM: u32 = 0o755;

impl Venv {
    /// The environment of an image: at `/opt/venv`.
    #[expect(clippy::missing_panics_doc, reason = "it does not panic")]
    pub fn in_image(python: PythonVersion) -> Self {
        #[expect(clippy::expect_used, reason = "a literal that is a path in its one spelling")]
        let prefix = EntryPath::new("opt/venv").expect("a relative path");
        Self { prefix, python }
    }

    /// An environment somewhere else, e.g. `tmp/x` for `/tmp/x`.
    pub const fn at(prefix: EntryPath, python: PythonVersion) -> Self {
        Self { prefix, python }
    }

    /// Where it is, relative to the root of the image.
    pub const fn prefix(&self) -> &EntryPath {
        &self.prefix
    }

    /// The Python in it.
    pub const fn python(&self) -> PythonVersion {
        self.python
    }

    /// `lib/python3.11/site-packages`, below the prefix.
    pub fn site_packages(&self) -> String {
        format!("lib/python{}/site-packages", self.python.short())
    }

    /// The interpreter in it, as an absolute path.
    pub fn interpreter(&self) -> String {
        format!("/{}/bin/python", self.prefix)
    }

    /// The first line of a script (without its end). Beyond 127 bytes, or with spaces, kernels do not take it, and it is a
    /// shell's job, as in pip and uv.
    pub(crate) fn shebang(&self) -> String {
        let interpreter = self.interpreter();
        if interpreter.len() + 3 > 127 || interpreter.contains(' ') {
            let quoted = interpreter.replace('\'', r#"'"'"'"#);
            return format!("#!/bin/sh\n'''exec' '{quoted}' \"$0\" \"$@\"\n' '''");
        }
        format!("#!{interpreter}")
    }
}

impl Tree {
    /// Plans where the files of a wheel go. `direct_url` is the URL of a wheel that the requirements named
    /// (PEP 610), without credentials.
    pub fn plan<R: Read + Seek>(
        wheel: &mut Wheel<R>,
        venv: &Venv,
        direct_url: Option<&str>,
    ) -> Result<Self, Error> {
        let filename = wheel.filename().clone();
        Planner::new(wheel, venv)
            .and_then(|planner| planner.plan(direct_url))
            .map(|files| Self { wheel: filename.clone(), files })
            .map_err(|problem| Error::wheel(&filename, problem))
    }
}

/// The paths at which trees have different files, when each lies over those before it. `same` says whether a file of the
/// tree with one index has the content of a file of another.
///
/// uv installs wheels in parallel, and which one's file stays is chance; in a layer it is the later one's.
pub fn conflicts(trees: &[Tree], same: impl Fn(usize, &TreeFile, usize, &TreeFile) -> bool) -> Vec<Conflict> {
    let mut seen: BTreeMap<&EntryPath, (usize, &TreeFile)> = BTreeMap::new();
    let mut conflicts = Vec::new();
    for (index, tree) in trees.iter().enumerate() {
        for (path, file) in &tree.files {
            if let Some((other, before)) = seen.insert(path, (index, file))
                && !same(other, before, index, file)
            {
                conflicts.push(Conflict {
                    path: path.clone(),
                    hidden: trees[other].wheel.clone(),
                    shown: tree.wheel.clone(),
                });
            }
        }
    }
    conflicts
}

/// `direct_url.json` of a wheel (PEP 610). uv states no hash in it, so nor does this.
#[derive(serde::Serialize)]
struct DirectUrl<'a> {
    url: &'a str,
    archive_info: ArchiveInfo,
}

#[derive(serde::Serialize)]
struct ArchiveInfo {}

struct Planner<'a, R> {
    wheel: &'a mut Wheel<R>,
    venv: &'a Venv,
    site_packages: String,
    record: Vec<RecordLine>,
    files: BTreeMap<EntryPath, TreeFile>,
}

impl<'a, R: Read + Seek> Planner<'a, R> {
    fn new(wheel: &'a mut Wheel<R>, venv: &'a Venv) -> Result<Self, WheelProblem> {
        let record = healed_record(wheel)?;
        Ok(Self { site_packages: venv.site_packages(), wheel, venv, record, files: BTreeMap::new() })
    }

    fn plan(mut self, direct_url: Option<&str>) -> Result<BTreeMap<EntryPath, TreeFile>, WheelProblem> {
        let dist_info = format!("{}.dist-info", self.wheel.dist_info());
        let data = format!("{}.data/", self.wheel.dist_info());
        let scripts = match self.wheel.optional_metadata("entry_points.txt")? {
            Some(text) => entry_points::scripts(&text, self.venv.python.minor).map_err(|reason| {
                WheelProblem::Metadata { entry: format!("{dist_info}/entry_points.txt"), reason }
            })?,
            None => Vec::new(),
        };

        let mut in_data = Vec::new();
        for index in 0..self.wheel.archive().entries().len() {
            let entry = &self.wheel.archive().entries()[index];
            let path = entry.path.as_str();
            if let Some(below) = path.strip_prefix(&data) {
                in_data.push((index, below.to_owned()));
            } else if !(entry.is_dir() && path.strip_suffix(".data") == Some(self.wheel.dist_info())) {
                let target = format!("{}/{path}", self.site_packages);
                let file = self.archived(index);
                self.put(&target, file)?;
            }
        }
        // The order in which one overwrites the other: the archive, the entry points, `.data`, the installer.
        for script in &scripts {
            self.entry_point(script)?;
        }
        for (index, below) in in_data {
            self.data(index, &data, &below, &scripts)?;
        }

        self.made(&format!("{dist_info}/REQUESTED"), Vec::new())?;
        if let Some(url) = direct_url {
            let entry = format!("{dist_info}/direct_url.json");
            let json =
                serde_json::to_vec(&DirectUrl { url, archive_info: ArchiveInfo {} }).map_err(|error| {
                    WheelProblem::Metadata { entry: entry.clone(), reason: error.to_string() }
                })?;
            self.made(&entry, json)?;
        }
        self.made(&format!("{dist_info}/INSTALLER"), b"longshore".to_vec())?;
        let entry = format!("{dist_info}/RECORD");
        let record = record::print(std::mem::take(&mut self.record))
            .map_err(|error| WheelProblem::Metadata { entry: entry.clone(), reason: error.to_string() })?;
        // Rewritten in place, so it keeps the mode that the archive gave it.
        let target = EntryPath::new(&format!("{}/{entry}", self.site_packages))?;
        let mode = self.files.get(&target).map_or(FILE, |file| file.mode);
        self.files.insert(target, TreeFile { mode, source: Source::Bytes(record) });
        Ok(self.files)
    }

    fn archived(&self, index: usize) -> TreeFile {
        let entry = &self.wheel.archive().entries()[index];
        if entry.is_dir() {
            return TreeFile { mode: PROGRAM, source: Source::Directory };
        }
        // Of the mode only "executable by anybody" counts, and only if it was made on Unix.
        let executable = entry.host_system == UNIX && entry.unix_mode.is_some_and(|mode| mode & 0o111 != 0);
        TreeFile { mode: if executable { PROGRAM } else { FILE }, source: Source::Entry(index) }
    }

    fn put(&mut self, path: &str, file: TreeFile) -> Result<(), WheelProblem> {
        let target = EntryPath::new(path)?;
        // A folder does not replace a file, nor the other way round; the layer would be refused. (Found by its writer
        // as well, which knows the wheels beside this one.)
        if file.source == Source::Directory && self.files.contains_key(&target) {
            return Ok(());
        }
        self.files.insert(target, file);
        Ok(())
    }

    /// A file that the installer makes in `site-packages`.
    fn made(&mut self, path: &str, content: Vec<u8>) -> Result<(), WheelProblem> {
        self.record.push(RecordLine::of(path, &content));
        let target = format!("{}/{path}", self.site_packages);
        self.put(&target, TreeFile { mode: FILE, source: Source::Bytes(content) })
    }

    fn entry_point(&mut self, script: &Script) -> Result<(), WheelProblem> {
        let refuse = |reason: &str| WheelProblem::Metadata {
            entry: format!("{}.dist-info/entry_points.txt", self.wheel.dist_info()),
            reason: format!("the script `{}` {reason}", script.name),
        };
        if reserved(&script.name.to_ascii_lowercase()) {
            return Err(refuse("would replace the interpreter of the environment"));
        }
        let path = format!("bin/{}", script.name);
        EntryPath::new(&path).map_err(|_| refuse("would be made outside of the environment's bin folder"))?;
        let text = script.text(&self.venv.shebang()).into_bytes();
        self.record.push(RecordLine::of(format!("../../../{path}"), &text));
        self.put(&path, TreeFile { mode: PROGRAM, source: Source::Bytes(text) })
    }

    /// A file below `.data`: `below` is `scripts/x`, `data/share/x`, ….
    fn data(
        &mut self,
        index: usize,
        data: &str,
        below: &str,
        scripts: &[Script],
    ) -> Result<(), WheelProblem> {
        let refuse =
            |reason: &str| WheelProblem::Entry { entry: format!("{data}{below}"), reason: reason.to_owned() };
        let mut file = self.archived(index);
        let directory = file.source == Source::Directory;
        let (kind, rest) = match below.split_once('/') {
            Some((kind, rest)) => (kind, Some(rest)),
            None if directory => (below, None),
            None => return Err(refuse("a file stands directly in the .data folder")),
        };
        let folder = match kind {
            "purelib" | "platlib" => self.site_packages.clone(),
            "headers" => {
                format!("include/site/python{}/{}", self.venv.python.short(), self.wheel.filename().name())
            }
            "data" => String::new(),
            "scripts" => "bin".to_owned(),
            _ => {
                return Err(refuse(
                    "wheels have no such kind of data; known are purelib, platlib, headers, scripts and data",
                ));
            }
        };
        let Some(rest) = rest else { return Ok(()) };
        let target = if folder.is_empty() { rest.to_owned() } else { format!("{folder}/{rest}") };
        if !directory
            && let Some(name) = target.strip_prefix("bin/")
            && reserved(name.to_ascii_lowercase().trim_end_matches(".exe"))
        {
            return Err(refuse("it would replace the interpreter of the environment"));
        }
        let mut changed = None;
        if kind == "scripts" {
            if directory || rest.contains('/') {
                return Err(refuse("scripts do not stand in folders"));
            }
            let generated = rest
                .strip_suffix(".exe")
                .or_else(|| rest.strip_suffix("-script.py"))
                .or_else(|| rest.strip_suffix(".pya"))
                .unwrap_or(rest);
            // The entry point has made this script; its line in RECORD stays as it is, as uv leaves it.
            if scripts.iter().any(|script| script.name == generated) {
                return Ok(());
            }
            file.mode = PROGRAM;
            if let Some(text) = self.with_shebang(index)? {
                changed = Some(record::hash_and_size(&text));
                file.source = Source::Bytes(text);
            }
        }
        if !directory {
            let recorded = match target.strip_prefix(&format!("{}/", self.site_packages)) {
                Some(inside) => inside.to_owned(),
                None => format!("../../../{target}"),
            };
            let from = format!("{data}{below}");
            if let Some(line) = self.record.iter_mut().find(|line| spelled(&line.path) == from) {
                line.path = recorded;
                if let Some((hash, size)) = changed {
                    line.hash = Some(hash);
                    line.size = Some(size);
                }
            }
        }
        self.put(&target, file)
    }

    /// The script with the environment's interpreter in its first line, if that asks for it: it starts with `#!python`.
    fn with_shebang(&mut self, index: usize) -> Result<Option<Vec<u8>>, WheelProblem> {
        const PLACEHOLDER: &[u8] = b"#!python";
        let content = self.wheel.archive_mut().read(index, SCRIPT_LIMIT)?;
        if !content.starts_with(PLACEHOLDER) {
            return Ok(None);
        }
        let end = content
            .iter()
            .position(|byte| matches!(byte, b'\n' | b'\r'))
            .map_or(content.len(), |end| end + 1);
        let mut text = self.venv.shebang().into_bytes();
        text.push(b'\n');
        text.extend_from_slice(&content[end..]);
        Ok(Some(text))
    }
}

/// "Made on Unix" in a zip archive (APPNOTE §4.4.2).
const UNIX: u8 = 3;

/// RECORD of the wheel, with lines for exactly the files that there are, as uv puts it right. A wrong size is not put
/// right but refused; hashes are not compared, as in pip and uv: the digest of the whole wheel was.
fn healed_record<R: Read + Seek>(wheel: &mut Wheel<R>) -> Result<Vec<RecordLine>, WheelProblem> {
    let dist_info = format!("{}.dist-info", wheel.dist_info());
    let text = wheel.metadata("RECORD")?;
    let lines = record::parse(text.as_bytes()).map_err(|error| WheelProblem::Metadata {
        entry: format!("{dist_info}/RECORD"),
        reason: error.to_string(),
    })?;
    let files = wheel.archive().entries().iter().filter(|entry| !entry.is_dir());
    let mut missing: BTreeMap<&str, u64> =
        files.map(|entry| (entry.path.as_str(), entry.uncompressed_size)).collect();
    let mut record = Vec::with_capacity(lines.len() + 4);
    for line in lines {
        let path = spelled(&line.path);
        if let Some(actual) = missing.remove(path.as_str()) {
            if let Some(recorded) = line.size.filter(|size| *size != actual) {
                return Err(WheelProblem::RecordSize { entry: path, recorded, actual });
            }
            record.push(line);
        }
    }
    // Signatures of RECORD cannot be in it.
    missing.remove(format!("{dist_info}/RECORD.jws").as_str());
    missing.remove(format!("{dist_info}/RECORD.p7s").as_str());
    let added = missing.into_iter();
    record.extend(added.map(|(path, size)| RecordLine {
        path: path.to_owned(),
        hash: None,
        size: Some(size),
    }));
    Ok(record)
}

/// A path of RECORD in the one spelling that archives have: without empty, `.` and `..` parts.
fn spelled(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

impl Script {
    /// Whether it can stand in an environment's folder of programs.
    pub(crate) fn is_allowed(&self) -> bool {
        let is_name = !self.name.contains('/') && EntryPath::new(&self.name).is_ok();
        is_name && !reserved(&self.name.to_ascii_lowercase())
    }
}

/// Whether a script of this name would replace the interpreter: the names that `uv venv` makes.
fn reserved(name: &str) -> bool {
    let name = name.strip_suffix(".py").unwrap_or(name);
    let numbered = |prefix: &str| {
        name.strip_prefix(prefix).is_some_and(|minor| minor.trim_end_matches('t').parse::<u8>().is_ok())
    };
    matches!(name, "python" | "pythonw" | "python3" | "graalpy" | "pypy" | "pypy2" | "pypy3")
        || numbered("python3.")
        || numbered("pythonw3.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_interpreters_are_reserved() {
        for name in ["python", "python3", "python3.11", "python3.13t", "python.py", "pypy3"] {
            assert!(reserved(name), "{name}");
        }
        for name in ["python-config", "python3.x", "pythonic", "ipython", "pip3.11"] {
            assert!(!reserved(name), "{name}");
        }
    }

    #[test]
    fn a_long_or_spaced_prefix_goes_through_the_shell() {
        let venv = |prefix: &str| Venv::at(EntryPath::new(prefix).unwrap(), PythonVersion::new(3, 11, 2));
        assert_eq!(venv("opt/venv").shebang(), "#!/opt/venv/bin/python");
        assert_eq!(venv("my env").shebang(), "#!/bin/sh\n'''exec' '/my env/bin/python' \"$0\" \"$@\"\n' '''");
        assert!(venv(&"x".repeat(120)).shebang().starts_with("#!/bin/sh\n"));
    }

    #[test]
    fn spellings_of_paths() {
        assert_eq!(spelled("./a//b/../c"), "a/c");
        assert_eq!(spelled("a/b"), "a/b");
    }
}
