//! The intermediate representation of a pipeline that Kubeflow Pipelines and Vertex AI run: `PipelineSpec` of schema version
//! 2.1.0, in protobuf's JSON form (`api/v2alpha1/pipeline_spec.proto` of the Kubeflow Pipelines project).

use std::{collections::BTreeMap, time::Duration};

use longshore_orchestrator::{Workflow, WorkflowStep};
use serde::Serialize;
use serde_json::Value;

use crate::name;

/// The schema version of this representation.
const SCHEMA: &str = "2.1.0";
/// The parameter of every task that has the name of the run. Services put it in place of a placeholder only where the
/// placeholder is the whole value of a parameter, not inside of an argument.
const RUN: &str = "run";

/// A pipeline.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PipelineSpec {
    components: BTreeMap<String, Component>,
    deployment_spec: Deployment,
    pipeline_info: PipelineInfo,
    root: Root,
    schema_version: &'static str,
    sdk_version: &'static str,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct PipelineInfo {
    name: String,
    display_name: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Component {
    executor_label: String,
    input_definitions: Inputs<InputDefinition>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Inputs<T> {
    parameters: BTreeMap<&'static str, T>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct InputDefinition {
    parameter_type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Deployment {
    executors: BTreeMap<String, Executor>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Executor {
    container: Container,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Container {
    image: String,
    command: Vec<String>,
    args: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    env: Vec<Variable>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resources: Option<ResourceSpec>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Variable {
    name: String,
    value: String,
}

/// Amounts are there twice: as numbers, which older services read, and as text, which newer ones prefer.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_limit: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_cpu_limit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_limit: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_memory_limit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accelerator: Option<AcceleratorSpec>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct AcceleratorSpec {
    r#type: String,
    resource_type: String,
    // Protobuf's JSON has integers of 64 bits as text.
    count: String,
    resource_count: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Root {
    dag: Dag,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Dag {
    tasks: BTreeMap<String, Task>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Task {
    #[serde(rename = "taskInfo")]
    info: Name,
    component_ref: Name,
    caching_options: Caching,
    inputs: Inputs<TaskInput>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dependent_tasks: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_policy: Option<RetryPolicy>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Name {
    name: String,
}

/// Without `enableCache`, which stands for `false`: steps are skipped by what runs in the container, which knows the code.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Caching {}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct TaskInput {
    runtime_value: Constant,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Constant {
    constant: &'static str,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct RetryPolicy {
    max_retry_count: u32,
    backoff_duration: &'static str,
    backoff_factor: f64,
    backoff_max_duration: String,
}

/// What differs between the services that run this representation.
#[derive(Clone, Copy, Debug)]
pub struct Dialect {
    /// What the service puts the run's name in place of.
    pub run: &'static str,
    /// How long a step may take, with all its retries: none is made afterwards.
    pub longest_retry: Duration,
}

/// Accelerators of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accelerator {
    /// Their type, as the service calls it.
    pub name: String,
    /// How many.
    pub count: u32,
}

/// Why a workflow cannot be written down.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IrError {
    /// A value that the service would take for something to replace.
    #[error(
        "step {step}: the environment variable {variable} has `{{{{` in its value, which the service would take for a \
         placeholder; set it in the image (`environment` of DockerSettings) or in the step's code"
    )]
    Placeholder {
        /// The step.
        step: String,
        /// The variable.
        variable: String,
    },
}

impl PipelineSpec {
    /// Writes a workflow down. `accelerator` gives the accelerators of a step.
    pub fn of<E: From<IrError>>(
        workflow: &Workflow,
        dialect: Dialect,
        accelerator: impl Fn(&WorkflowStep) -> Result<Option<Accelerator>, E>,
    ) -> Result<Self, E> {
        let names = name::tasks(workflow.steps.iter().map(|step| step.name.as_str()));
        let mut spec = Self {
            components: BTreeMap::new(),
            deployment_spec: Deployment { executors: BTreeMap::new() },
            pipeline_info: PipelineInfo {
                name: name::pipeline(&workflow.pipeline),
                display_name: workflow.pipeline.clone(),
            },
            root: Root { dag: Dag { tasks: BTreeMap::new() } },
            schema_version: SCHEMA,
            sdk_version: concat!("longshore-", env!("CARGO_PKG_VERSION")),
        };
        for step in &workflow.steps {
            let Some(task) = names.get(step.name.as_str()) else { continue };
            let component = format!("comp-{task}");
            let executor = executor(task);
            let container = container(step, accelerator(step)?)?;
            spec.deployment_spec.executors.insert(executor.clone(), Executor { container });
            let definition = InputDefinition { parameter_type: "STRING" };
            let input_definitions = Inputs { parameters: BTreeMap::from([(RUN, definition)]) };
            spec.components
                .insert(component.clone(), Component { executor_label: executor, input_definitions });
            let run = TaskInput { runtime_value: Constant { constant: dialect.run } };
            spec.root.dag.tasks.insert(
                task.clone(),
                Task {
                    info: Name { name: step.name.clone() },
                    component_ref: Name { name: component },
                    caching_options: Caching {},
                    inputs: Inputs { parameters: BTreeMap::from([(RUN, run)]) },
                    dependent_tasks: step
                        .upstream
                        .iter()
                        .filter_map(|step| names.get(step.as_str()).cloned())
                        .collect(),
                    retry_policy: (step.retries > 0).then(|| RetryPolicy {
                        max_retry_count: step.retries,
                        backoff_duration: "10s",
                        backoff_factor: 2.0,
                        backoff_max_duration: format!("{}s", dialect.longest_retry.as_secs()),
                    }),
                },
            );
        }
        Ok(spec)
    }
}

/// The name of the executor of a task.
pub(crate) fn executor(task: &str) -> String {
    format!("exec-{task}")
}

fn container(step: &WorkflowStep, accelerator: Option<Accelerator>) -> Result<Container, IrError> {
    let variable = |(name, value): (&String, &String)| {
        if value.contains("{{") {
            return Err(IrError::Placeholder { step: step.name.clone(), variable: name.clone() });
        }
        Ok(Variable { name: name.clone(), value: escaped(value) })
    };
    Ok(Container {
        image: step.image.to_string(),
        command: step.command(),
        args: step.arguments(&format!("{{{{$.inputs.parameters['{RUN}']}}}}")),
        env: step.environment.iter().map(variable).collect::<Result<_, _>>()?,
        resources: resources(step, accelerator),
    })
}

/// Kubernetes puts the value of a variable in place of `$(NAME)`, and `$(NAME)` in place of `$$(NAME)`.
fn escaped(value: &str) -> String {
    value.replace("$(", "$$(")
}

fn resources(step: &WorkflowStep, accelerator: Option<Accelerator>) -> Option<ResourceSpec> {
    let mut spec = ResourceSpec::default();
    #[expect(clippy::cast_precision_loss, reason = "the text beside it has every digit")]
    if let Some(cpu) = step.resources.cpu {
        spec.cpu_limit = Some(cpu.millis() as f64 / 1000.0);
        spec.resource_cpu_limit = Some(cpu.to_string());
    }
    #[expect(clippy::cast_precision_loss, reason = "the text beside it has every digit")]
    if let Some(memory) = step.resources.memory {
        spec.memory_limit = Some(memory.bytes() as f64 / 1e9);
        // Kubernetes writes units without the B: `512Mi`, and bytes without any.
        spec.resource_memory_limit = Some(memory.to_string().trim_end_matches('B').to_owned());
    }
    spec.accelerator = accelerator.map(|Accelerator { name, count }| AcceleratorSpec {
        r#type: name.clone(),
        resource_type: name,
        count: count.to_string(),
        resource_count: count.to_string(),
    });
    (spec != ResourceSpec::default()).then_some(spec)
}

/// A step's container, as the service runs it. Its user and working directory are the image's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepContainer {
    /// The step, by its name in the pipeline.
    pub step: String,
    /// The task that it is in the pipeline spec.
    pub task: String,
    /// Its image, by digest.
    pub image: String,
    /// The program and its arguments, with the run's name.
    pub command: Vec<String>,
    /// The environment variables that the service sets besides its own.
    pub environment: BTreeMap<String, String>,
}

/// The containers of the steps in a pipeline spec, in the form that services give it back, too. `run` is the run's name.
pub fn containers(spec: &Value, run: &str) -> Vec<StepContainer> {
    let container = |(task, document): (&String, &Value)| {
        let component = document.pointer("/componentRef/name")?.as_str()?;
        let executor = spec.get("components")?.get(component)?.get("executorLabel")?.as_str()?;
        let container = spec.pointer("/deploymentSpec/executors")?.get(executor)?.get("container")?;
        let placeholder = format!("{{{{$.inputs.parameters['{RUN}']}}}}");
        let texts = |field: &str| {
            let texts = container.get(field).and_then(Value::as_array).into_iter().flatten();
            texts.filter_map(Value::as_str).map(|text| text.replace(&placeholder, run)).collect::<Vec<_>>()
        };
        let variables = container.get("env").and_then(Value::as_array).into_iter().flatten();
        let variable = |variable: &Value| {
            let text = |field| variable.get(field).and_then(Value::as_str).unwrap_or_default();
            (text("name").to_owned(), text("value").replace("$$(", "$("))
        };
        Some(StepContainer {
            step: document.pointer("/taskInfo/name")?.as_str()?.to_owned(),
            task: task.clone(),
            image: container.get("image")?.as_str()?.to_owned(),
            command: texts("command").into_iter().chain(texts("args")).collect(),
            environment: variables.map(variable).collect(),
        })
    };
    let tasks = spec.pointer("/root/dag/tasks").and_then(Value::as_object);
    tasks.into_iter().flatten().filter_map(container).collect()
}

/// The names of the steps in a pipeline spec, by the names of the tasks that they are.
pub fn steps(spec: &Value) -> BTreeMap<String, String> {
    let tasks = spec.pointer("/root/dag/tasks").and_then(Value::as_object);
    tasks
        .into_iter()
        .flatten()
        .filter_map(|(task, document)| {
            Some((task.clone(), document.pointer("/taskInfo/name")?.as_str()?.to_owned()))
        })
        .collect()
}
