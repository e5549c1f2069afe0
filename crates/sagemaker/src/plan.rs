//! The pipeline definition of a workflow (version 2020-12-01).

use std::collections::BTreeMap;

use longshore_orchestrator::{Content, Document, StoreScheme, Workflow, WorkflowStep};
use serde_json::{Map, Value, json};

use crate::{
    Config, Error, SagemakerSettings, Schedule, StepType,
    config::{LARGEST_VOLUME, are_ids, is_instance_type, is_role, is_tag},
    instance, name,
};

/// The most arguments of a container, and the longest (`ContainerArguments`, `TrainingContainerArguments`).
const MOST_ARGUMENTS: usize = 100;
/// The most characters of a definition that goes with the request.
const LONGEST_DEFINITION: usize = 1 << 20;
/// The most variables of a container.
const MOST_VARIABLES: usize = 100;
/// The variable by which Amazon's SDK for Python learns its region.
const REGION: &str = "AWS_DEFAULT_REGION";
/// GB of an instance's volume where nothing is said: an image of a few GB, and as much again for what it does.
const VOLUME: u32 = 30;
/// Seconds that the entrypoint waits between tries, and starts and ends, besides the tries themselves.
const MARGIN: u64 = 600;

/// A workflow for `SageMaker`.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The name of the pipeline.
    pub name: String,
    /// The pipeline definition.
    pub definition: Value,
    /// `CreatePipeline`'s input: the definition as text in it, without the token of the request.
    pub request: Value,
    /// The schedule that starts it, if it runs by itself.
    pub schedule: Option<Schedule>,
}

impl Plan {
    /// Plans a workflow.
    pub fn new(workflow: &Workflow, config: &Config) -> Result<Self, Error> {
        if workflow.store.scheme() != StoreScheme::S3 {
            return Err(Error::Store);
        }
        let steps = workflow.steps.iter().map(|step| planned(workflow, step, config));
        let steps = steps.collect::<Result<Vec<_>, _>>()?;
        let definition = json!({ "Version": "2020-12-01", "Metadata": {}, "Parameters": [], "Steps": steps });
        let text = definition.to_string();
        if text.len() > LONGEST_DEFINITION {
            return Err(Error::LongDefinition { pipeline: workflow.pipeline.clone(), bytes: text.len() });
        }
        let name = name::pipeline(&workflow.pipeline);
        let schedule = Schedule::of(workflow, &name, config)?;
        let mut request = json!({
            "PipelineName": name, "PipelineDisplayName": name, "PipelineDefinition": text, "RoleArn": config.role,
        });
        if !config.tags.is_empty() {
            request["Tags"] = tags(&config.tags);
        }
        if let Some(most) = config.max_parallelism {
            request["ParallelismConfiguration"] = json!({ "MaxParallelExecutionSteps": most });
        }
        Ok(Self { name, definition, request, schedule })
    }

    /// What is submitted.
    pub fn documents(self) -> Vec<Document> {
        let document = |name: &str, data| Document { name: name.to_owned(), content: Content::Data(data) };
        let schedule = self.schedule.map(|schedule| document("schedule.json", schedule.request));
        [document("pipeline.json", self.definition)].into_iter().chain(schedule).collect()
    }
}

/// A step of the definition.
fn planned(workflow: &Workflow, step: &WorkflowStep, config: &Config) -> Result<Value, Error> {
    let settings = read(step)?;
    if let Some(variable) = step.secrets.keys().next() {
        return Err(Error::Secret {
            step: step.name.clone(),
            variable: variable.clone(),
            role: config.role.clone(),
        });
    }
    let arguments = match settings.step_type {
        StepType::Processing => processing(step, &settings, config)?,
        StepType::Training => training(workflow, step, &settings, config)?,
    };
    let mut planned = json!({
        "Name": name::step(&step.name),
        "DisplayName": step.name,
        "Type": settings.step_type.as_str(),
        "Arguments": arguments,
        // What is no fault of the step's is tried again by SageMaker; the step's own failures by the entrypoint.
        "RetryPolicies": [
            again(["Step.SERVICE_FAULT", "Step.THROTTLING"]),
            again(["SageMaker.JOB_INTERNAL_ERROR", "SageMaker.CAPACITY_ERROR"]),
        ],
    });
    if !step.upstream.is_empty() {
        planned["DependsOn"] = step.upstream.iter().map(|step| name::step(step)).collect();
    }
    Ok(planned)
}

/// A retry policy: exceptions of one kind, of the step or of its job, as Amazon's own SDK has them.
fn again(exceptions: [&str; 2]) -> Value {
    json!({ "ExceptionType": exceptions, "IntervalSeconds": 30, "BackoffRate": 2.0, "MaxAttempts": 5 })
}

/// The step's settings, each looked at.
fn read(step: &WorkflowStep) -> Result<SagemakerSettings, Error> {
    let settings = SagemakerSettings::from_json(&step.settings)
        .map_err(|source| Error::Settings { step: step.name.clone(), source })?;
    let wrong = |field: &'static str, text: &str| {
        Err(Error::Setting { step: step.name.clone(), field, text: text.to_owned() })
    };
    if let Some(text) = settings.instance_type.as_deref().filter(|text| !is_instance_type(text)) {
        return wrong("instance_type", text);
    }
    if let Some(size) = settings.volume_size.filter(|size| !(1..=LARGEST_VOLUME).contains(size)) {
        return wrong("volume_size", &size.to_string());
    }
    if let Some(role) = settings.role.as_deref().filter(|role| !is_role(role)) {
        return wrong("role", role);
    }
    for (field, ids, prefix, most) in [
        ("subnets", &settings.subnets, "subnet-", 16),
        ("security_groups", &settings.security_groups, "sg-", 5),
    ] {
        let text = ids.join(",");
        if !ids.is_empty() && !are_ids(&text, prefix, most) {
            return wrong(field, &text);
        }
    }
    if let Some((key, value)) =
        settings.tags.iter().find(|(key, value)| key.is_empty() || !is_tag(key, 128) || !is_tag(value, 256))
    {
        return wrong("tags", &format!("{key}={value}"));
    }
    if settings.subnets.is_empty() != settings.security_groups.is_empty() {
        return wrong("subnets", "without security_groups, or these without those");
    }
    Ok(settings)
}

fn processing(step: &WorkflowStep, settings: &SagemakerSettings, config: &Config) -> Result<Value, Error> {
    let mut job = json!({
        "AppSpecification": {
            "ImageUri": step.image.to_string(),
            "ContainerEntrypoint": step.command(),
            "ContainerArguments": arguments(step)?,
        },
        "ProcessingResources": { "ClusterConfig": cluster(step, settings, config)? },
        "RoleArn": role(settings, config),
    });
    // Nine days.
    if let Some(seconds) = runtime(step, 777_600)? {
        job["StoppingCondition"] = json!({ "MaxRuntimeInSeconds": seconds });
    }
    if let Some(network) = network(settings, config) {
        job["NetworkConfig"] = json!({ "VpcConfig": network });
    }
    common(&mut job, step, settings, config, 256)?;
    Ok(job)
}

fn training(
    workflow: &Workflow,
    step: &WorkflowStep,
    settings: &SagemakerSettings,
    config: &Config,
) -> Result<Value, Error> {
    let mut job = json!({
        "AlgorithmSpecification": {
            "TrainingImage": step.image.to_string(),
            "TrainingInputMode": "File",
            "ContainerEntrypoint": step.command(),
            "ContainerArguments": arguments(step)?,
        },
        // What a job must have, though nothing is put there: outputs go to the artifact store.
        "OutputDataConfig": { "S3OutputPath": workflow.store.run("sagemaker") },
        "ResourceConfig": cluster(step, settings, config)?,
        "RoleArn": role(settings, config),
        // 28 days, the most that an account may be given.
        "StoppingCondition": { "MaxRuntimeInSeconds": runtime(step, 2_419_200)?.unwrap_or(86_400) },
    });
    if let Some(network) = network(settings, config) {
        job["VpcConfig"] = network;
    }
    common(&mut job, step, settings, config, 512)?;
    Ok(job)
}

/// What both kinds of jobs have under the same names.
fn common(
    job: &mut Value,
    step: &WorkflowStep,
    settings: &SagemakerSettings,
    config: &Config,
    longest: usize,
) -> Result<(), Error> {
    let image = step.image.to_string();
    if image.len() > 255 {
        return Err(Error::LongImage { step: step.name.clone(), image });
    }
    let mut environment = step.environment.clone();
    // SageMaker says the region in a variable that Amazon's SDK for Python does not read, which then asks in us-east-1: out of
    // reach from many a VPC.
    environment.entry(REGION.to_owned()).or_insert_with(|| config.region.clone());
    let long = environment.iter().find(|(_, value)| value.chars().count() > longest);
    if let Some((variable, _)) = long {
        let (step, variable) = (step.name.clone(), variable.clone());
        return Err(Error::LongVariable { step, variable, longest });
    }
    if environment.len() > MOST_VARIABLES {
        return Err(Error::ManyVariables { step: step.name.clone(), count: environment.len() });
    }
    job["Environment"] = json!(environment);
    let mut all = config.tags.clone();
    all.extend(settings.tags.clone());
    if !all.is_empty() {
        job["Tags"] = tags(&all);
    }
    Ok(())
}

/// The arguments of the container: the second is the run's name, which `SageMaker` puts there.
fn arguments(step: &WorkflowStep) -> Result<Value, Error> {
    let mut arguments: Vec<Value> = step.arguments("").into_iter().map(Value::from).collect();
    if arguments.len() > MOST_ARGUMENTS {
        return Err(Error::LongDocument {
            step: step.name.clone(),
            bytes: step.document.iter().map(String::len).sum(),
        });
    }
    if let Some(run) = arguments.get_mut(1) {
        *run = json!({ "Get": "Execution.PipelineExecutionId" });
    }
    Ok(Value::Array(arguments))
}

fn cluster(step: &WorkflowStep, settings: &SagemakerSettings, config: &Config) -> Result<Value, Error> {
    let wants_nothing = step.resources.is_empty();
    let own = settings.instance_type.as_deref();
    let instance = match (own, config.instance_type.as_deref()) {
        (Some(own), _) => own,
        (None, Some(default)) if wants_nothing => default,
        (None, None) if wants_nothing => instance::DEFAULT,
        (None, _) => instance::choose(step)?,
    };
    let volume = settings.volume_size.or(config.volume_size).unwrap_or(VOLUME);
    Ok(json!({ "InstanceCount": 1, "InstanceType": instance, "VolumeSizeInGB": volume }))
}

fn role<'a>(settings: &'a SagemakerSettings, config: &'a Config) -> &'a str {
    settings.role.as_deref().unwrap_or(&config.role)
}

fn network(settings: &SagemakerSettings, config: &Config) -> Option<Value> {
    let (subnets, groups) = if settings.subnets.is_empty() {
        (&config.subnets, &config.security_groups)
    } else {
        (&settings.subnets, &settings.security_groups)
    };
    (!subnets.is_empty()).then(|| json!({ "Subnets": subnets, "SecurityGroupIds": groups }))
}

/// How long the job may take: all tries of the step, which the entrypoint ends each, and what is between them.
fn runtime(step: &WorkflowStep, most: u64) -> Result<Option<u64>, Error> {
    let Some(timeout) = step.timeout else { return Ok(None) };
    let seconds = timeout.as_secs().saturating_mul(u64::from(step.retries) + 1).saturating_add(MARGIN);
    if seconds > most {
        return Err(Error::Timeout { step: step.name.clone(), seconds, most });
    }
    Ok(Some(seconds))
}

fn tags(tags: &BTreeMap<String, String>) -> Value {
    let tag = |(key, value): (&String, &String)| {
        Map::from_iter([("Key".to_owned(), json!(key)), ("Value".to_owned(), json!(value))])
    };
    tags.iter().map(tag).collect()
}
