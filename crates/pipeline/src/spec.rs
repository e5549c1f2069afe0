//! The pipeline specification, version 2.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};

use crate::{DockerSettings, Resources, ResourcesError, SettingsError};

/// The version of the specification that this program reads.
pub(crate) const VERSION: u64 = 2;

/// A pipeline as the SDK describes it.
#[derive(Clone, Debug)]
pub struct PipelineSpec {
    /// The pipeline's name: a Python identifier.
    pub name: String,
    /// The folder whose content becomes `/app` in the image.
    pub source_root: PathBuf,
    /// The Python that the SDK ran in.
    pub python: ClientPython,
    /// The SDK's version.
    pub sdk_version: String,
    /// The settings of the pipeline's image.
    pub docker: DockerSettings,
    /// When it runs by itself, if it does.
    pub schedule: Option<Schedule>,
    /// The steps, each after those whose outputs it takes.
    pub steps: Vec<StepSpec>,
}

/// The Python that the SDK ran in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientPython {
    /// The interpreter.
    pub executable: PathBuf,
    /// Its version, e.g. `3.11.7`.
    pub version: String,
}

/// One step.
#[derive(Clone, Debug)]
pub struct StepSpec {
    /// The step's name, unique in the pipeline.
    pub name: String,
    /// Where its function is.
    pub source: SourceRef,
    /// Its inputs that are other steps' outputs, by parameter.
    pub inputs: BTreeMap<String, OutputRef>,
    /// Its inputs that are plain values, by parameter: passed on as they were written, every digit of a number kept.
    pub parameters: BTreeMap<String, Box<RawValue>>,
    /// The names of its outputs, in order.
    pub outputs: Vec<String>,
    /// Steps that it runs after though it takes nothing from them.
    pub after: Vec<String>,
    /// How often it is tried again after a failure.
    pub retries: u32,
    /// How long it may take, each time.
    pub timeout: Option<Duration>,
    /// Whether the outputs of an earlier run with the same inputs are taken instead of running it.
    pub caching: Caching,
    /// The settings of its image: the pipeline's, with the step's own over them.
    pub docker: DockerSettings,
    /// What its container is given of a machine.
    pub resources: Resources,
    /// Settings that one orchestrator knows the meaning of, by the orchestrator's flavor: the pipeline's, with the step's
    /// own fields over them.
    pub orchestrators: BTreeMap<String, Map<String, Value>>,
}

/// Whether a step's outputs are taken from an earlier run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Caching {
    /// The step runs each time.
    #[default]
    Off,
    /// The step runs unless one with the same code, packages, parameters and inputs has run.
    On,
}

/// When a pipeline runs by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Minute, hour, day of month, month and day of week, as cron has them.
    pub cron: String,
    /// The time zone that they are in, by its IANA name. Default: UTC.
    #[serde(default = "utc")]
    pub timezone: String,
}

fn utc() -> String {
    "UTC".to_owned()
}

impl StepSpec {
    /// The steps that have to succeed before it: whose outputs it takes, and those that it is told to run after.
    pub fn upstream(&self) -> BTreeSet<&str> {
        self.inputs
            .values()
            .map(|from| from.step.as_str())
            .chain(self.after.iter().map(String::as_str))
            .collect()
    }
}

/// A function in a module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRef {
    /// The module, importable from the source root.
    pub module: String,
    /// The attribute in it.
    pub attribute: String,
}

/// An output of a step.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OutputRef {
    /// The step.
    pub step: String,
    /// The output.
    pub output: String,
}

/// Steps that share one image, and its settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImagePlan {
    /// The settings.
    pub docker: DockerSettings,
    /// The steps, in the pipeline's order.
    pub steps: Vec<String>,
}

/// Why some JSON is not a pipeline that can run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// Not JSON, or not of the specification's shape.
    #[error("the pipeline specification is not valid: {0}")]
    Json(#[from] serde_json::Error),
    /// Written for another version of this program.
    #[error(
        "the pipeline specification has version {found}, this longshore reads version {VERSION}: \
         install the longshore Python package and program of the same version"
    )]
    Version {
        /// The version found.
        found: u64,
    },
    /// The settings of the pipeline or of a step are wrong.
    #[error("in the settings of {place}: {source}")]
    Settings {
        /// Whose settings.
        place: String,
        /// What is wrong.
        source: SettingsError,
    },
    /// The resources of the pipeline or of a step are wrong.
    #[error("in the settings of {place}: {source}")]
    Resources {
        /// Whose settings.
        place: String,
        /// What is wrong.
        source: ResourcesError,
    },
    /// A kind of settings that does not exist.
    #[error("in the settings of {place}: there are no settings named `{key}`; there are: docker, resources, {}", ORCHESTRATORS.join(", "))]
    SettingsKey {
        /// Whose settings.
        place: String,
        /// The key found.
        key: String,
    },
    /// A pipeline without steps.
    #[error("pipeline {0} has no steps: call at least one step in it")]
    NoSteps(String),
    /// Two steps of one name.
    #[error("pipeline {pipeline} has two steps named {step}")]
    DuplicateStep {
        /// The pipeline.
        pipeline: String,
        /// The name.
        step: String,
    },
    /// A step's input names an output that does not exist.
    #[error("step {step} takes `{input}` from {step_of_output}.{output}, which does not exist")]
    UnknownOutput {
        /// The step.
        step: String,
        /// Its parameter.
        input: String,
        /// The step named.
        step_of_output: String,
        /// The output named.
        output: String,
    },
    /// A step that runs after one that does not exist.
    #[error("step {step} is to run after `{after}`, and there is no such step")]
    UnknownStep {
        /// The step.
        step: String,
        /// The one named.
        after: String,
    },
    /// A schedule that cron would not understand.
    #[error(
        "the schedule `{0}` does not have the five fields minute, hour, day, month, weekday, as in \"0 3 * * *\""
    )]
    Schedule(String),
    /// Steps that wait for each other.
    #[error("these steps wait for each other: {}", .0.join(", "))]
    Cycle(Vec<String>),
    /// A name that cannot be a folder or environment value.
    #[error(
        "`{0}` is not a name: use up to 128 letters, digits, `_`, `.` and `-`, beginning with none of the last two"
    )]
    Name(String),
}

/// The specification as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[expect(dead_code, reason = "checked before the rest is read")]
    version: u64,
    pipeline: DocumentPipeline,
    source_root: PathBuf,
    python: ClientPython,
    sdk_version: String,
    #[serde(default)]
    settings: Map<String, Value>,
    steps: Vec<DocumentStep>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DocumentPipeline {
    name: String,
    #[serde(default)]
    schedule: Option<Schedule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DocumentStep {
    name: String,
    source: SourceRef,
    #[serde(default)]
    inputs: BTreeMap<String, OutputRef>,
    #[serde(default)]
    parameters: BTreeMap<String, Box<RawValue>>,
    outputs: Vec<String>,
    #[serde(default)]
    after: Vec<String>,
    #[serde(default)]
    retries: u32,
    /// Seconds.
    #[serde(default)]
    timeout: Option<u64>,
    #[serde(default)]
    cache: bool,
    #[serde(default)]
    settings: Map<String, Value>,
}

/// The settings of a pipeline or step by kind: `docker`, `resources`, and those of orchestrators.
pub type Settings = Map<String, Value>;

/// The orchestrators that have settings of their own.
const ORCHESTRATORS: [&str; 6] = ["kubernetes", "kubeflow", "vertex", "sagemaker", "azureml", "airflow"];

/// Settings, read.
#[derive(Clone, Default)]
struct ReadSettings {
    docker: DockerSettings,
    resources: Resources,
    orchestrators: BTreeMap<String, Map<String, Value>>,
}

impl ReadSettings {
    fn read(settings: &Settings, place: &str) -> Result<Self, SpecError> {
        let mut read = Self::default();
        for (key, value) in settings {
            let unknown = || SpecError::SettingsKey { place: place.to_owned(), key: key.clone() };
            let Value::Object(fields) = value else { return Err(unknown()) };
            match key.as_str() {
                "docker" => {
                    let wrong = |source| SpecError::Settings { place: place.to_owned(), source };
                    read.docker = DockerSettings::from_json(fields).map_err(wrong)?;
                }
                "resources" => {
                    let wrong = |source| SpecError::Resources { place: place.to_owned(), source };
                    read.resources = Resources::from_json(fields).map_err(wrong)?;
                }
                key if ORCHESTRATORS.contains(&key) => {
                    read.orchestrators.insert(key.to_owned(), fields.clone());
                }
                _ => return Err(unknown()),
            }
        }
        Ok(read)
    }

    /// These where they are set, `base` elsewhere.
    fn over(self, base: &Self) -> Self {
        let mut orchestrators = base.orchestrators.clone();
        for (key, fields) in self.orchestrators {
            orchestrators.entry(key).or_default().extend(fields);
        }
        Self {
            docker: self.docker.over(&base.docker),
            resources: self.resources.over(&base.resources),
            orchestrators,
        }
    }
}

/// Names become folders of the artifact store and lines on the terminal.
fn check_name(name: &str) -> Result<(), SpecError> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let valid = name.len() <= 128
        && name.starts_with(word)
        && name.chars().all(|c| word(c) || matches!(c, '.' | '-'));
    if valid { Ok(()) } else { Err(SpecError::Name(name.to_owned())) }
}

impl PipelineSpec {
    /// Reads and checks a specification.
    pub fn from_json(bytes: &[u8]) -> Result<Self, SpecError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u64,
        }
        let Versioned { version } = serde_json::from_slice(bytes)?;
        if version != VERSION {
            return Err(SpecError::Version { found: version });
        }
        let document: Document = serde_json::from_slice(bytes)?;
        let name = document.pipeline.name;
        check_name(&name)?;
        let of_pipeline = ReadSettings::read(&document.settings, &format!("pipeline {name}"))?;
        let schedule = document.pipeline.schedule;
        if let Some(schedule) = schedule.as_ref().filter(|schedule| !is_cron(&schedule.cron)) {
            return Err(SpecError::Schedule(schedule.cron.clone()));
        }
        let steps = document.steps.into_iter().map(|step| {
            check_name(&step.name)?;
            step.outputs.iter().try_for_each(|name| check_name(name))?;
            let own = ReadSettings::read(&step.settings, &format!("step {}", step.name))?;
            let ReadSettings { docker, resources, orchestrators } = own.over(&of_pipeline);
            Ok(StepSpec {
                name: step.name,
                source: step.source,
                inputs: step.inputs,
                parameters: step.parameters,
                outputs: step.outputs,
                after: step.after,
                retries: step.retries,
                timeout: step.timeout.map(Duration::from_secs),
                caching: if step.cache { Caching::On } else { Caching::Off },
                docker,
                resources,
                orchestrators,
            })
        });
        let steps = in_order(&name, steps.collect::<Result<_, SpecError>>()?)?;
        Ok(Self {
            name,
            source_root: document.source_root,
            python: document.python,
            sdk_version: document.sdk_version,
            docker: of_pipeline.docker,
            schedule,
            steps,
        })
    }

    /// The images that the pipeline needs: one for each distinct set of settings.
    pub fn images(&self) -> Vec<ImagePlan> {
        let mut images: Vec<ImagePlan> = Vec::new();
        for step in &self.steps {
            match images.iter_mut().find(|image| image.docker == step.docker) {
                Some(image) => image.steps.push(step.name.clone()),
                None => {
                    images.push(ImagePlan { docker: step.docker.clone(), steps: vec![step.name.clone()] });
                }
            }
        }
        images
    }
}

/// Whether a text has cron's five fields. What they mean is for the orchestrator to check.
fn is_cron(text: &str) -> bool {
    let field = |field: &str| field.chars().all(|c| c.is_ascii_alphanumeric() || "*/,-?#".contains(c));
    text.split_whitespace().count() == 5 && text.split_whitespace().all(field)
}

/// The steps, each after those that it waits for, otherwise as they came.
fn in_order(pipeline: &str, steps: Vec<StepSpec>) -> Result<Vec<StepSpec>, SpecError> {
    if steps.is_empty() {
        return Err(SpecError::NoSteps(pipeline.to_owned()));
    }
    let mut outputs: BTreeMap<&str, &[String]> = BTreeMap::new();
    for step in &steps {
        if outputs.insert(&step.name, &step.outputs).is_some() {
            return Err(SpecError::DuplicateStep { pipeline: pipeline.to_owned(), step: step.name.clone() });
        }
    }
    for step in &steps {
        for (input, from) in &step.inputs {
            if !outputs.get(from.step.as_str()).is_some_and(|outputs| outputs.contains(&from.output)) {
                return Err(SpecError::UnknownOutput {
                    step: step.name.clone(),
                    input: input.clone(),
                    step_of_output: from.step.clone(),
                    output: from.output.clone(),
                });
            }
        }
    }
    for step in &steps {
        if let Some(after) = step.after.iter().find(|after| !outputs.contains_key(after.as_str())) {
            return Err(SpecError::UnknownStep { step: step.name.clone(), after: after.clone() });
        }
    }
    let mut waiting = steps;
    let mut ordered = Vec::with_capacity(waiting.len());
    let mut done = BTreeSet::new();
    while !waiting.is_empty() {
        let is_ready = |step: &StepSpec| step.upstream().iter().all(|step| done.contains(*step));
        let Some(next) = waiting.iter().position(is_ready) else {
            return Err(SpecError::Cycle(waiting.into_iter().map(|step| step.name).collect()));
        };
        let step = waiting.remove(next);
        done.insert(step.name.clone());
        ordered.push(step);
    }
    Ok(ordered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn step(name: &str, inputs: &[(&str, &str)]) -> Value {
        let inputs: Map<String, Value> = inputs
            .iter()
            .map(|(input, from)| ((*input).to_owned(), json!({"step": from, "output": "output"})))
            .collect();
        json!({"name": name, "source": {"module": "train", "attribute": name}, "inputs": inputs, "outputs": ["output"]})
    }

    fn spec(steps: &[Value]) -> Value {
        json!({
            "version": 2, "pipeline": {"name": "p"}, "source_root": "/src",
            "python": {"executable": "/usr/bin/python3", "version": "3.11.2"}, "sdk_version": "0.1.0",
            "settings": {"docker": {"requirements": ["pandas==2.2.3"]}}, "steps": steps,
        })
    }

    fn parse(value: &Value) -> Result<PipelineSpec, SpecError> {
        PipelineSpec::from_json(value.to_string().as_bytes())
    }

    #[test]
    fn steps_come_after_what_they_need() {
        let document = spec(&[step("c", &[("x", "b")]), step("b", &[("x", "a")]), step("a", &[])]);
        let names: Vec<_> = parse(&document).unwrap().steps.into_iter().map(|step| step.name).collect();
        assert_eq!(names, ["a", "b", "c"]);
    }

    #[test]
    fn mistakes_are_sentences() {
        let cases = [
            (spec(&[]), "pipeline p has no steps: call at least one step in it"),
            (spec(&[step("a", &[]), step("a", &[])]), "pipeline p has two steps named a"),
            (spec(&[step("a", &[("x", "z")])]), "step a takes `x` from z.output, which does not exist"),
            (
                spec(&[step("a", &[("x", "b")]), step("b", &[("x", "a")])]),
                "these steps wait for each other: a, b",
            ),
            (
                spec(&[step("../a", &[])]),
                "`../a` is not a name: use up to 128 letters, digits, `_`, `.` and `-`, beginning with none of the last two",
            ),
        ];
        for (document, message) in cases {
            assert_eq!(parse(&document).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn a_newer_specification_is_named_as_such() {
        let mut document = spec(&[step("a", &[])]);
        document["version"] = json!(3);
        document["new_field"] = json!(true);
        assert!(matches!(parse(&document), Err(SpecError::Version { found: 3 })));
    }

    #[test]
    fn unknown_settings_name_their_place() {
        let mut document = spec(&[step("a", &[])]);
        document["steps"][0]["settings"] = json!({"docker": {"requirement": []}});
        let error = parse(&document).unwrap_err().to_string();
        assert_eq!(
            error,
            "in the settings of step a: DockerSettings has no field `requirement`; did you mean `requirements`?"
        );
        document["steps"][0]["settings"] = json!({"dokcer": {}});
        assert!(matches!(parse(&document), Err(SpecError::SettingsKey { .. })));
    }

    #[test]
    fn a_step_may_wait_for_another_that_it_takes_nothing_from() {
        let mut document = spec(&[step("b", &[]), step("a", &[])]);
        document["steps"][0]["after"] = json!(["a"]);
        let names: Vec<_> = parse(&document).unwrap().steps.into_iter().map(|step| step.name).collect();
        assert_eq!(names, ["a", "b"]);
        document["steps"][0]["after"] = json!(["z"]);
        assert_eq!(
            parse(&document).unwrap_err().to_string(),
            "step b is to run after `z`, and there is no such step"
        );
    }

    #[test]
    fn settings_of_orchestrators_are_merged_by_their_fields() {
        let mut document = spec(&[step("a", &[])]);
        document["settings"]["kubernetes"] = json!({"service_account": "p", "priority_class": "low"});
        document["settings"]["resources"] = json!({"cpu": 1});
        document["steps"][0]["settings"] =
            json!({"kubernetes": {"service_account": "a"}, "resources": {"memory": "1GiB"}});
        let step = parse(&document).unwrap().steps.remove(0);
        let expected = json!({"service_account": "a", "priority_class": "low"});
        assert_eq!(Value::Object(step.orchestrators["kubernetes"].clone()), expected);
        assert_eq!(serde_json::to_value(&step.resources).unwrap(), json!({"cpu": 1.0, "memory": "1GiB"}));
    }

    #[test]
    fn a_schedule_has_crons_fields() {
        let mut document = spec(&[step("a", &[])]);
        document["pipeline"]["schedule"] = json!({"cron": "*/5 3 * * MON-FRI"});
        assert_eq!(parse(&document).unwrap().schedule.unwrap().timezone, "UTC");
        document["pipeline"]["schedule"] = json!({"cron": "every day"});
        assert!(parse(&document).unwrap_err().to_string().contains("five fields"));
    }

    #[test]
    fn one_image_for_each_distinct_set_of_settings() {
        let mut document = spec(&[step("a", &[]), step("b", &[]), step("c", &[])]);
        document["steps"][1]["settings"] = json!({"docker": {"requirements": ["torch"]}});
        document["steps"][2]["settings"] = json!({"docker": {"requirements": ["pandas==2.2.3"]}});
        let images = parse(&document).unwrap().images();
        assert_eq!(images.len(), 2);
        assert_eq!(images[0].steps, ["a", "c"]);
        assert_eq!(images[1].steps, ["b"]);
    }
}
