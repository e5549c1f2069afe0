//! Settings in a file of the project.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use super::{
    DockerSettings, SettingsError,
    tree::{Entry, Malformed, Node},
};
use crate::PipelineSpec;

/// The names of files that hold settings, in the order in which they are looked for. `pyproject.toml` holds them in its
/// table `tool.longshore`, if it has one.
pub const SETTINGS_FILES: [&str; 4] = ["longshore.toml", "longshore.yaml", "longshore.yml", "pyproject.toml"];

/// What a file of settings says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettingsFile {
    /// The file.
    pub path: PathBuf,
    /// Settings of all images.
    pub docker: DockerSettings,
    /// Settings of pipelines.
    pub pipelines: BTreeMap<String, PipelineSettings>,
}

/// What a file says of a pipeline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PipelineSettings {
    /// Settings of all its steps.
    pub docker: DockerSettings,
    /// Settings of steps.
    pub steps: BTreeMap<String, StepSettings>,
}

/// What a file says of a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepSettings {
    /// Its settings.
    pub docker: DockerSettings,
    /// The line that names it.
    line: usize,
}

/// What is wrong with a file of settings.
#[derive(Debug, thiserror::Error)]
#[error("{}{}: {}", .file.display(), Line(*.line), .mistake)]
pub struct SettingsFileError {
    /// The file.
    file: PathBuf,
    /// The line, from 1, if it is known.
    line: Option<usize>,
    /// What.
    mistake: Mistake,
}

struct Line(Option<usize>);

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|line| write!(f, ":{line}"))
    }
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
enum Mistake {
    #[error("{0}")]
    Malformed(String),
    #[error("a file of settings is called *.toml, *.yaml or *.yml, and is what its name says")]
    Format,
    #[error("{}has no `{key}`{}", In(.place), suggest(.key, .known))]
    Unknown { place: String, key: String, known: Vec<String> },
    #[error("`{0}` is a table")]
    NoTable(String),
    #[error("{}{source}", In(.place))]
    Settings { place: String, source: SettingsError },
    #[error("the pipeline {pipeline} has no step `{step}`{}", suggest(.step, .known))]
    Step { pipeline: String, step: String, known: Vec<String> },
}

/// Where in a file something is, as the beginning of a sentence.
struct In<'a>(&'a str);

impl fmt::Display for In<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("it ") } else { write!(f, "[{}] ", self.0) }
    }
}

fn suggest(word: &str, known: &[String]) -> String {
    let likeness = |known: &&String| strsim::jaro_winkler(known, word);
    let nearest = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match nearest.filter(|nearest| likeness(nearest) > 0.8) {
        Some(nearest) => format!("; did you mean `{nearest}`?"),
        None => {
            format!("; there is {}", known.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", "))
        }
    }
}

impl SettingsFile {
    /// Reads a file. `None`: it is a `pyproject.toml` that says nothing of longshore. Paths in it are relative to its folder.
    pub fn parse(path: &Path, text: &str) -> Result<Option<Self>, SettingsFileError> {
        let malformed = |Malformed { line, reason }| Self::wrong(path, line, Mistake::Malformed(reason));
        let extension = path.extension().and_then(|extension| extension.to_str());
        let mut root = match extension {
            Some("toml") => Node::from_toml(text).map_err(malformed)?,
            Some("yaml" | "yml") => Node::from_yaml(text).map_err(malformed)?,
            _ => return Err(Self::wrong(path, None, Mistake::Format)),
        };
        let mut place = Place { path, names: Vec::new() };
        if path.file_name().is_some_and(|name| name == "pyproject.toml") {
            for name in ["tool", "longshore"] {
                let Node::Table(entries) = root else { return Ok(None) };
                let Some(entry) = entries.into_iter().find(|entry| entry.key == name) else {
                    return Ok(None);
                };
                place.names.push(name.to_owned());
                root = entry.node;
            }
        }
        let mut file = Self { path: path.to_owned(), ..Self::default() };
        for entry in place.table(root, None)? {
            match entry.key.as_str() {
                "docker" => file.docker = place.enter("docker").docker(entry)?,
                "pipeline" => {
                    let place = place.enter("pipeline");
                    for entry in place.table(entry.node, Some(entry.line))? {
                        let name = entry.key.clone();
                        let pipeline = place.enter(&name).pipeline(entry)?;
                        file.pipelines.insert(name, pipeline);
                    }
                }
                _ => return Err(place.unknown(&entry, &["docker", "pipeline"])),
            }
        }
        Ok(Some(file))
    }

    fn wrong(path: &Path, line: Option<usize>, mistake: Mistake) -> SettingsFileError {
        SettingsFileError { file: path.to_owned(), line, mistake }
    }

    /// What the file says of a pipeline: the table of all images, below that of the pipeline.
    pub fn pipeline(&self, pipeline: &str) -> DockerSettings {
        match self.pipelines.get(pipeline) {
            Some(of_pipeline) => of_pipeline.docker.over(&self.docker),
            None => self.docker.clone(),
        }
    }

    /// What the file says of a step.
    pub fn step(&self, pipeline: &str, step: &str) -> DockerSettings {
        let below = self.pipeline(pipeline);
        match self.pipelines.get(pipeline).and_then(|pipeline| pipeline.steps.get(step)) {
            Some(of_step) => of_step.docker.over(&below),
            None => below,
        }
    }

    /// Checks that the steps that the file names exist in the pipeline.
    pub fn check(&self, spec: &PipelineSpec) -> Result<(), SettingsFileError> {
        for (step, settings) in self.pipelines.get(&spec.name).iter().flat_map(|pipeline| &pipeline.steps) {
            if !spec.steps.iter().any(|known| known.name == *step) {
                let known = spec.steps.iter().map(|step| step.name.clone()).collect();
                let mistake = Mistake::Step { pipeline: spec.name.clone(), step: step.clone(), known };
                return Err(Self::wrong(&self.path, Some(settings.line), mistake));
            }
        }
        Ok(())
    }
}

/// A table of a file that is being read.
struct Place<'a> {
    path: &'a Path,
    names: Vec<String>,
}

impl Place<'_> {
    fn enter(&self, name: &str) -> Self {
        let mut names = self.names.clone();
        names.push(name.to_owned());
        Self { path: self.path, names }
    }

    fn name(&self) -> String {
        self.names.join(".")
    }

    fn table(&self, node: Node, line: Option<usize>) -> Result<Vec<Entry>, SettingsFileError> {
        match node {
            Node::Table(entries) => Ok(entries),
            // In YAML, a table without entries is nothing.
            Node::Value(serde_json::Value::Null) => Ok(Vec::new()),
            Node::Value(_) => Err(SettingsFile::wrong(self.path, line, Mistake::NoTable(self.name()))),
        }
    }

    fn unknown(&self, entry: &Entry, known: &[&str]) -> SettingsFileError {
        let known = known.iter().map(|&known| known.to_owned()).collect();
        let mistake = Mistake::Unknown { place: self.name(), key: entry.key.clone(), known };
        SettingsFile::wrong(self.path, Some(entry.line), mistake)
    }

    fn pipeline(&self, entry: Entry) -> Result<PipelineSettings, SettingsFileError> {
        let mut pipeline = PipelineSettings::default();
        for entry in self.table(entry.node, Some(entry.line))? {
            match entry.key.as_str() {
                "docker" => pipeline.docker = self.enter("docker").docker(entry)?,
                "step" => {
                    let place = self.enter("step");
                    for entry in place.table(entry.node, Some(entry.line))? {
                        let name = entry.key.clone();
                        let step = place.enter(&name).step(entry)?;
                        pipeline.steps.insert(name, step);
                    }
                }
                _ => return Err(self.unknown(&entry, &["docker", "step"])),
            }
        }
        Ok(pipeline)
    }

    fn step(&self, entry: Entry) -> Result<StepSettings, SettingsFileError> {
        let mut step = StepSettings { line: entry.line, ..StepSettings::default() };
        for entry in self.table(entry.node, Some(entry.line))? {
            match entry.key.as_str() {
                "docker" => step.docker = self.enter("docker").docker(entry)?,
                _ => return Err(self.unknown(&entry, &["docker"])),
            }
        }
        Ok(step)
    }

    fn docker(&self, entry: Entry) -> Result<DockerSettings, SettingsFileError> {
        let mut settings = DockerSettings::default();
        for Entry { key, line, node } in self.table(entry.node, Some(entry.line))? {
            settings.set(&key, node.into_value()).map_err(|source| {
                SettingsFile::wrong(self.path, Some(line), Mistake::Settings { place: self.name(), source })
            })?;
        }
        Ok(settings.below(self.path.parent().unwrap_or(Path::new(""))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toml(text: &str) -> Result<SettingsFile, SettingsFileError> {
        Ok(SettingsFile::parse(Path::new("/p/longshore.toml"), text)?.unwrap())
    }

    const TOML: &str = "\
[docker]
user = 'all'
lock = 'uv.lock'
environment = {A = 'all', B = 'all'}

[pipeline.train.docker]
apt_packages = ['git']
environment.B = 'pipeline'

[pipeline.train.step.load.docker]
user = 'load'
environment.C = 'step'
";

    #[test]
    fn the_nearer_table_wins() {
        let file = toml(TOML).unwrap();
        let all = file.pipeline("other");
        assert_eq!(all.user.as_deref(), Some("all"));
        assert_eq!(all.lock.as_deref(), Some(Path::new("/p/uv.lock")));
        let step = file.step("train", "load");
        assert_eq!(step.user.as_deref(), Some("load"));
        assert_eq!(step.apt_packages, Some(vec!["git".to_owned()]));
        let environment: Vec<_> = step.environment.as_ref().unwrap().iter().collect();
        assert_eq!(format!("{environment:?}"), r#"[("A", "all"), ("B", "pipeline"), ("C", "step")]"#);
        assert_eq!(file.step("train", "fit"), file.pipeline("train"));
        assert_eq!(file.pipeline("train").user.as_deref(), Some("all"));
    }

    #[test]
    fn all_three_kinds_of_file_say_the_same() {
        let expected = toml(TOML).unwrap();
        let yaml = "\
docker:
  user: all
  lock: uv.lock
  environment: {A: all, B: all}
pipeline:
  train:
    docker:
      apt_packages: [git]
      environment: {B: pipeline}
    step:
      load:
        docker:
          user: load
          environment: {C: step}
";
        let yaml = SettingsFile::parse(Path::new("/p/longshore.yaml"), yaml).unwrap().unwrap();
        assert_eq!(
            (&yaml.docker, yaml.pipelines["train"].docker.clone()),
            (&expected.docker, expected.pipelines["train"].docker.clone())
        );
        assert_eq!(yaml.step("train", "load"), expected.step("train", "load"));
        let tool = TOML.replace('[', "[tool.longshore.").replace("[tool.longshore.'git'", "['git'");
        let tool = SettingsFile::parse(Path::new("/p/pyproject.toml"), &tool).unwrap().unwrap();
        assert_eq!(tool.step("train", "load"), expected.step("train", "load"));
        let other = SettingsFile::parse(Path::new("/p/pyproject.toml"), "[tool.ruff]\nx = 1\n").unwrap();
        assert_eq!(other, None);
    }

    #[test]
    fn mistakes_name_file_line_and_remedy() {
        let cases = [
            ("[dokcer]\n", "1: it has no `dokcer`; did you mean `docker`?"),
            (
                "\n[docker]\nrequirments = []\n",
                "3: [docker] DockerSettings has no field `requirments`; did you mean `requirements`?",
            ),
            (
                "[pipeline.p.docker]\nlazy = 1\n",
                "2: [pipeline.p.docker] DockerSettings: `lazy` must be `estargz`, not 1",
            ),
            ("[pipeline.p.steps.a.docker]\n", "1: [pipeline.p] has no `steps`; did you mean `step`?"),
            ("[pipeline.p.step.a]\nuser = 'x'\n", "2: [pipeline.p.step.a] has no `user`; there is `docker`"),
            ("docker = 3\n", "1: `docker` is a table"),
            ("[docker\n", "1: unclosed table, expected `]`"),
        ];
        for (text, message) in cases {
            assert_eq!(toml(text).unwrap_err().to_string(), format!("/p/longshore.toml:{message}"));
        }
        let error = SettingsFile::parse(Path::new("a.ini"), "").unwrap_err().to_string();
        assert!(error.starts_with("a.ini: a file of settings is called *.toml"), "{error}");
        let error =
            SettingsFile::parse(Path::new("a.yaml"), "docker:\n  user: 1000\n").unwrap_err().to_string();
        assert!(
            error.starts_with(
                "a.yaml:2: [docker] DockerSettings: `user` must be text, not 1000; put it in quotes"
            ),
            "{error}"
        );
    }
}
