//! The environments, the components and the pipeline job of a workflow.
//!
//! A node of a pipeline job is a component by its ID, with what is bound to the component's inputs and outputs. What a step
//! waits for is said by data only: each step that another waits for has an output, a folder with an empty file in it, and
//! the other an input bound to that, whose path alone it is given.

use std::collections::{BTreeMap, BTreeSet};

use longshore_kubeflow::pipeline_name;
use longshore_orchestrator::{Content, Document, Workflow, WorkflowStep};
use serde_json::{Map, Value, json};

use crate::{
    AzureMlSettings, Config, Error, Identity, Schedule,
    config::{is_compute, is_instance_type},
    name::{nodes, version},
    settings::is_shm_size,
    size::size_for,
};

/// The working directory of images; the service begins in a folder of its own.
const WORKING_DIRECTORY: &str = "/app";
/// The variable that the service puts the root run's name in.
const RUN: &str = "AZUREML_ROOT_RUN_ID";
/// What says that a step has succeeded, to those that wait for it.
const DONE: &str = "done";
/// What stands for serverless compute where computes are named.
const SERVERLESS: &str = "serverless";
/// The longest command: one argument of a process (`MAX_ARG_STRLEN` of Linux), less what the service puts into it.
const LONGEST_COMMAND: usize = (128 << 10) - (4 << 10);
/// What a step's container may take to begin and to end, in seconds, besides what its tries may take.
const SLACK: u64 = 900;

/// A workflow for Azure Machine Learning.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What names of runs begin with.
    pub name: String,
    /// The images, as environments.
    pub environments: Vec<Asset>,
    /// What steps run, as components.
    pub components: Vec<Asset>,
    /// The pipeline job.
    pub job: Value,
    /// The schedule that creates such jobs, if it runs by itself.
    pub schedule: Option<Schedule>,
}

/// Something in the workspace that is named after what it holds: making it again changes nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Asset {
    /// A name for a file of it.
    pub file: String,
    /// Its ID in Resource Manager, which is its path in the API, too.
    pub id: String,
    /// What it is made of.
    pub body: Value,
}

/// What runs of a step, read back from the documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepContainer {
    /// The image.
    pub image: String,
    /// What a shell is given, in a folder of the service's, as the image's user.
    pub command: String,
    /// Environment variables.
    pub environment: BTreeMap<String, String>,
}

impl Plan {
    /// Plans a workflow.
    pub fn new(workflow: &Workflow, config: &Config) -> Result<Self, Error> {
        let workspace = config.workspace_id();
        let name = pipeline_name(&workflow.pipeline);
        let names = nodes(workflow.steps.iter().map(|step| step.name.as_str()));
        let awaited: BTreeSet<&str> =
            workflow.steps.iter().flat_map(|step| step.upstream.iter().map(String::as_str)).collect();
        let (mut environments, mut components) = (BTreeMap::new(), Vec::new());
        let mut jobs = Map::new();
        for step in &workflow.steps {
            if let Some(variable) = step.secrets.keys().next() {
                return Err(Error::Secret { step: step.name.clone(), variable: variable.clone() });
            }
            // Every step has a name.
            let node = names.get(step.name.as_str()).cloned().unwrap_or_default();
            let upstream: Vec<&String> =
                step.upstream.iter().filter_map(|upstream| names.get(upstream.as_str())).collect();
            let environment = environment(&workspace, &name, &step.image.to_string());
            let is_awaited = awaited.contains(step.name.as_str());
            let component = component(&workspace, &node, &environment.id, step, &upstream, is_awaited)?;
            environments.entry(environment.id.clone()).or_insert(environment);
            let job = job(config, &node, &component.id, step, &upstream, is_awaited)?;
            jobs.insert(node, job);
            components.push(component);
        }
        let job = json!({ "properties": {
            "jobType": "Pipeline",
            "displayName": workflow.pipeline,
            "experimentName": name,
            "jobs": jobs,
            "settings": {
                "default_compute": format!("{workspace}/computes/{SERVERLESS}"),
                "continue_on_step_failure": false,
                "_source": "YAML.JOB",
            },
        } });
        let schedule = Schedule::of(workflow, &name, &job)?;
        Ok(Self { name, environments: environments.into_values().collect(), components, job, schedule })
    }

    /// What is submitted.
    pub fn documents(self) -> Vec<Document> {
        let (name, body) = match self.schedule {
            Some(schedule) => ("schedule.json", schedule.body),
            None => ("pipeline_job.json", self.job),
        };
        let job = Document { name: name.to_owned(), content: Content::Data(body) };
        let assets = self.environments.into_iter().chain(self.components);
        let assets = assets.map(|asset| Document { name: asset.file, content: Content::Data(asset.body) });
        assets.chain([job]).collect()
    }

    /// What runs of each step, by its name.
    pub fn containers(&self) -> BTreeMap<String, StepContainer> {
        let named = |assets: &[Asset], id: &str| {
            assets.iter().find(|asset| asset.id == id).map(|asset| asset.body["properties"].clone())
        };
        let container = |(node, job): (&String, &Value)| {
            let component = named(&self.components, job["componentId"].as_str()?)?;
            let spec = &component["componentSpec"];
            let environment = spec["environment"].as_str()?.strip_prefix("azureml:")?;
            let variables = serde_json::from_value(job["environment_variables"].clone());
            Some((
                step_of(node, job),
                StepContainer {
                    image: named(&self.environments, environment)?["image"].as_str()?.to_owned(),
                    command: spec["command"].as_str()?.to_owned(),
                    environment: variables.unwrap_or_default(),
                },
            ))
        };
        self.job["properties"]["jobs"].as_object().into_iter().flatten().filter_map(container).collect()
    }
}

/// The step that a node is of.
pub(crate) fn step_of(node: &str, job: &Value) -> String {
    job["display_name"].as_str().unwrap_or(node).to_owned()
}

fn environment(workspace: &str, pipeline: &str, image: &str) -> Asset {
    let version = version(image);
    Asset {
        file: format!("environment_{version}.json"),
        id: format!("{workspace}/environments/longshore-{pipeline}/versions/{version}"),
        body: json!({ "properties": { "image": image, "osType": "Linux" } }),
    }
}

fn component(
    workspace: &str,
    node: &str,
    environment: &str,
    step: &WorkflowStep,
    upstream: &[&String],
    is_awaited: bool,
) -> Result<Asset, Error> {
    let mut spec = json!({
        "type": "command",
        "name": "azureml_anonymous",
        "version": "1",
        "command": command(step, is_awaited)?,
        "environment": format!("azureml:{environment}"),
        // Whether a step may be skipped is found out in its container.
        "is_deterministic": false,
        "_source": "YAML.COMPONENT",
    });
    if !upstream.is_empty() {
        let inputs = upstream
            .iter()
            .map(|upstream| (format!("after_{upstream}"), json!({ "type": "uri_folder", "mode": "direct" })));
        spec["inputs"] = inputs.collect();
    }
    if is_awaited {
        spec["outputs"] = json!({ DONE: { "type": "uri_folder" } });
    }
    let version = version(&spec.to_string());
    Ok(Asset {
        file: format!("component_{node}.json"),
        id: format!("{workspace}/components/azureml_anonymous/versions/{version}"),
        body: json!({ "properties": { "componentSpec": spec, "isAnonymous": true } }),
    })
}

/// A line for a shell. What `${{` and `}}` enclose in it is the service's to replace.
fn command(step: &WorkflowStep, is_awaited: bool) -> Result<String, Error> {
    let arguments = step.arguments(RUN);
    let argument = |argument: &String| if argument == RUN { format!("\"${RUN}\"") } else { quoted(argument) };
    let words: Vec<String> =
        step.command().iter().map(|word| quoted(word)).chain(arguments.iter().map(argument)).collect();
    let mut line = format!("cd {WORKING_DIRECTORY} && {}", words.join(" "));
    if is_awaited {
        // A folder with nothing in it would not be kept.
        line.push_str(" && : > \"${{outputs.done}}/done\"");
    }
    if line.len() > LONGEST_COMMAND {
        let bytes = step.document.iter().map(String::len).sum();
        return Err(Error::LongDocument { step: step.name.clone(), bytes });
    }
    Ok(line)
}

/// A word for a POSIX shell that means itself, and nothing to the service.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''").replace("${{", "$''{{"))
}

fn job(
    config: &Config,
    node: &str,
    component: &str,
    step: &WorkflowStep,
    upstream: &[&String],
    is_awaited: bool,
) -> Result<Value, Error> {
    let mut job = json!({
        "type": "command",
        "name": node,
        "display_name": step.name,
        "componentId": component,
        "_source": "YAML.COMPONENT",
    });
    let settings = AzureMlSettings::from_json(&step.settings)
        .map_err(|source| Error::Settings { step: step.name.clone(), source })?;
    let valid = |field: &'static str, value: &Option<String>, valid: fn(&str) -> bool| match value {
        Some(text) if !valid(text) => {
            Err(Error::Setting { step: step.name.clone(), field, text: text.clone() })
        }
        _ => Ok(()),
    };
    valid("compute", &settings.compute, is_compute)?;
    valid("instance_type", &settings.instance_type, is_instance_type)?;
    valid("shm_size", &settings.shm_size, is_shm_size)?;
    let compute = settings.compute.or_else(|| config.compute.clone()).filter(|name| name != SERVERLESS);
    let instance_type = match (settings.instance_type, &compute) {
        (Some(named), _) => Some(named),
        (None, Some(_)) => None,
        (None, None) => {
            let fitting = || size_for(&step.resources).map(|size| size.map(str::to_owned));
            config
                .instance_type
                .clone()
                .map_or_else(fitting, |named| Ok(Some(named)))
                .map_err(|wanted| Error::NoSize { step: step.name.clone(), wanted })?
        }
    };
    if let Some(compute) = compute {
        job["computeId"] = json!(format!("{}/computes/{compute}", config.workspace_id()));
    }
    if instance_type.is_some() || settings.shm_size.is_some() {
        let mut resources = json!({ "instance_count": 1 });
        for (field, value) in [("instance_type", instance_type), ("shm_size", settings.shm_size)] {
            if let Some(value) = value {
                resources[field] = json!(value);
            }
        }
        job["resources"] = resources;
    }
    if let Some(timeout) = step.timeout {
        // The entrypoint ends each try; this ends a container that does not come that far.
        let seconds = timeout.as_secs().saturating_mul(u64::from(step.retries) + 1).saturating_add(SLACK);
        job["limits"] = json!({ "timeout": format!("PT{seconds}S"), "job_limits_type": "Command" });
    }
    if !step.environment.is_empty() {
        job["environment_variables"] = json!(step.environment);
    }
    if let Some(identity) = &config.identity {
        job["identity"] = match identity {
            Identity::User => json!({ "identity_type": "UserIdentity" }),
            Identity::Managed => json!({ "identity_type": "Managed" }),
            Identity::UserAssigned(id) => json!({ "identity_type": "Managed", "client_id": id }),
        };
    }
    if !upstream.is_empty() {
        let inputs = upstream.iter().map(|upstream| {
            let value = format!("${{{{parent.jobs.{upstream}.outputs.{DONE}}}}}");
            let bound = json!({ "job_input_type": "literal", "value": value, "mode": "Direct" });
            (format!("after_{upstream}"), bound)
        });
        job["inputs"] = inputs.collect();
    }
    if is_awaited {
        job["outputs"] = json!({ DONE: { "job_output_type": "uri_folder" } });
    }
    Ok(job)
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn words_mean_themselves_to_shell_and_service() {
        for (word, line) in [
            ("/opt/venv/bin/python", "/opt/venv/bin/python"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("$HOME", "'$HOME'"),
            ("${{inputs.x}}", "'$''{{inputs.x}}'"),
        ] {
            assert_eq!(quoted(word), line);
        }
    }
}
