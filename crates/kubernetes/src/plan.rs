//! What the controller carries out: a Job for each step, but for what only a run knows.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    num::NonZeroU32,
};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use k8s_openapi::{
    api::{
        batch::v1::{
            Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule,
        },
        core::v1::{
            Affinity, Container, EnvVar, EnvVarSource, LocalObjectReference, NodeAffinity, NodeSelector,
            NodeSelectorRequirement, NodeSelectorTerm, PodSpec, PodTemplateSpec, ResourceRequirements,
            SecretKeySelector, Toleration,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{ObjectMeta, OwnerReference},
    },
};
use longshore_orchestrator::{Workflow, WorkflowStep};
use longshore_pipeline::{Cpu, Memory, Resources};
use serde::{Deserialize, Serialize};

use crate::{Error, KubernetesSettings, label, name, security};

/// The container of a step in its pod. Clusters add others of their own.
pub const CONTAINER: &str = "step";
/// What stands for the run in the arguments of a plan's containers.
const RUN: &str = "{run}";
/// The version of a plan's form.
const VERSION: u32 = 1;
/// The most that a plan may hold, inflated: a controller reads what its own program wrote.
const LARGEST: u64 = 64 << 20;
/// How many steps run at a time if nothing is said.
const PARALLELISM: NonZeroU32 = NonZeroU32::MIN.saturating_add(63);

/// What the controller carries out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    version: u32,
    /// The pipeline's name.
    pub pipeline: String,
    /// Where outputs are kept.
    pub store: String,
    /// The most steps that are carried out at a time.
    pub parallelism: NonZeroU32,
    /// The Secrets that go when the run ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub temporary_secrets: Vec<String>,
    /// The steps, each after those that it waits for.
    pub steps: Vec<PlannedStep>,
}

/// A step of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedStep {
    /// Its name, as in the pipeline.
    pub name: String,
    /// Its part of the names of its objects.
    pub part: String,
    /// The steps that have to succeed before it.
    pub upstream: Vec<String>,
    template: Job,
}

/// The run that a Job is made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its name: that of the controller's Job.
    pub name: String,
    /// The namespace.
    pub namespace: String,
    /// The unique identifier of the controller's Job.
    pub uid: String,
}

/// What a plan's Jobs have in common.
#[derive(Clone, Debug)]
pub(crate) struct Common<'a> {
    /// The names of Secrets with which images are pulled.
    pub(crate) pull_secrets: Vec<String>,
    /// The Secret of the steps' secret environment variables.
    pub(crate) secret: &'a str,
    /// The keys in it, by variable, for each step.
    pub(crate) keys: &'a [BTreeMap<String, String>],
}

impl Plan {
    /// Plans the Jobs of a workflow.
    pub(crate) fn new(
        workflow: &Workflow,
        parallelism: Option<NonZeroU32>,
        temporary_secrets: Vec<String>,
        common: &Common<'_>,
    ) -> Result<Self, Error> {
        let parts = name::step_parts(workflow.steps.iter().map(|step| step.name.as_str()));
        let steps = workflow.steps.iter().zip(parts).enumerate().map(|(index, (step, part))| {
            let settings = KubernetesSettings::from_json(&step.settings)
                .map_err(|source| Error::Settings { step: step.name.clone(), source })?;
            let template = template(workflow, step, &part, settings, common, &common.keys[index]);
            Ok(PlannedStep { name: step.name.clone(), part, upstream: step.upstream.clone(), template })
        });
        Ok(Self {
            version: VERSION,
            pipeline: workflow.pipeline.clone(),
            store: workflow.store.to_string(),
            parallelism: parallelism.unwrap_or(PARALLELISM),
            temporary_secrets,
            steps: steps.collect::<Result<_, Error>>()?,
        })
    }

    /// The plan as the controller finds it: JSON, compressed with gzip, the same for the same plan.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let json = serde_json::to_vec(self).map_err(|error| Error::Plan(error.to_string()))?;
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        let written = encoder.write_all(&json).and_then(|()| encoder.finish());
        written.map_err(|error| Error::Plan(error.to_string()))
    }

    /// Reads a plan.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let mut json = Vec::new();
        let read = GzDecoder::new(bytes).take(LARGEST).read_to_end(&mut json);
        read.map_err(|error| Error::Plan(error.to_string()))?;
        let plan: Self = serde_json::from_slice(&json).map_err(|error| Error::Plan(error.to_string()))?;
        if plan.version == VERSION {
            Ok(plan)
        } else {
            Err(Error::Plan(format!(
                "it has version {}, this longshore reads version {VERSION}",
                plan.version
            )))
        }
    }

    /// The step of that name.
    pub fn step(&self, name: &str) -> Option<&PlannedStep> {
        self.steps.iter().find(|step| step.name == name)
    }
}

impl PlannedStep {
    /// The name of its Job in a run.
    pub fn job_name(&self, run: &str) -> String {
        name::of_run(run, &self.part)
    }

    /// Its image.
    pub(crate) fn image(&self) -> Option<&str> {
        self.template.spec.as_ref()?.template.spec.as_ref()?.containers.first()?.image.as_deref()
    }

    /// Its Job in a run, owned by the controller's: when that goes, so does it.
    pub fn job(&self, run: &Run) -> Job {
        let mut job = self.template.clone();
        let label = |metadata: &mut ObjectMeta| {
            metadata.labels.get_or_insert_default().insert(label::RUN.to_owned(), run.name.clone());
        };
        label(&mut job.metadata);
        job.metadata.name = Some(self.job_name(&run.name));
        job.metadata.namespace = Some(run.namespace.clone());
        job.metadata.owner_references = Some(vec![run.owner()]);
        if let Some(spec) = &mut job.spec {
            label(spec.template.metadata.get_or_insert_default());
            let containers = spec.template.spec.iter_mut().flat_map(|pod| &mut pod.containers);
            for argument in containers.filter_map(|container| container.args.as_mut()).flatten() {
                if argument == RUN {
                    argument.clone_from(&run.name);
                }
            }
        }
        job
    }
}

impl Run {
    /// The reference by which an object is the run's. It does not block the owner's deletion: on clusters that check this,
    /// it takes the right to change the owner's finalizers.
    pub(crate) fn owner(&self) -> OwnerReference {
        OwnerReference {
            api_version: "batch/v1".to_owned(),
            kind: "Job".to_owned(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            ..OwnerReference::default()
        }
    }
}

fn template(
    workflow: &Workflow,
    step: &WorkflowStep,
    part: &str,
    settings: KubernetesSettings,
    common: &Common<'_>,
    keys: &BTreeMap<String, String>,
) -> Job {
    let mut labels = settings.labels.unwrap_or_default();
    labels.extend(label::labels(label::STEP_ROLE, &name::pipeline_part(&workflow.pipeline)));
    labels.insert(label::STEP.to_owned(), part.to_owned());
    let mut annotations = settings.annotations.unwrap_or_default();
    annotations.insert(label::STEP.to_owned(), step.name.clone());
    annotations.insert(label::PIPELINE.to_owned(), workflow.pipeline.clone());
    let metadata =
        ObjectMeta { labels: Some(labels), annotations: Some(annotations), ..ObjectMeta::default() };

    let mut variables = step.environment.clone();
    variables.extend(settings.env.unwrap_or_default());
    // Without it, what Python prints comes when the step ends.
    variables.entry("PYTHONUNBUFFERED".to_owned()).or_insert_with(|| "1".to_owned());
    variables.retain(|name, _| !keys.contains_key(name));
    let plain = variables.into_iter().map(|(name, value)| EnvVar {
        name,
        value: Some(literal(&value)),
        ..EnvVar::default()
    });
    let secret = keys.iter().map(|(name, key)| EnvVar {
        name: name.clone(),
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector {
                key: key.clone(),
                name: common.secret.to_owned(),
                optional: None,
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    });

    let container = Container {
        name: CONTAINER.to_owned(),
        image: Some(step.image.to_string()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        command: Some(step.command().iter().map(|part| literal(part)).collect()),
        args: Some(step.arguments(RUN).iter().map(|part| literal(part)).collect()),
        env: Some(plain.chain(secret).collect()),
        resources: resources(&step.resources),
        security_context: security::context(settings.security_context, step.user.as_deref()),
        volume_mounts: settings.volume_mounts,
        // The last lines of a step that failed come with its status.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    };
    let has_gpu = step.resources.gpu.is_some_and(|gpu| gpu > 0);
    let mut tolerations = settings.tolerations.unwrap_or_default();
    if has_gpu {
        // Nodes with accelerators are tainted so that nothing else runs there; not every cluster adds this by itself.
        tolerations.push(Toleration {
            key: Some(GPU.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some("NoSchedule".to_owned()),
            ..Toleration::default()
        });
    }
    let pull_secrets =
        common.pull_secrets.iter().cloned().chain(settings.image_pull_secrets.unwrap_or_default());
    let pull_secrets: Vec<_> = pull_secrets.map(|name| LocalObjectReference { name }).collect();
    let pod = PodSpec {
        containers: vec![container],
        restart_policy: Some("Never".to_owned()),
        // Of a pod, so that each attempt has all of it.
        active_deadline_seconds: step
            .timeout
            .map(|timeout| i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX)),
        service_account_name: settings.service_account,
        automount_service_account_token: Some(settings.automount_service_account_token.unwrap_or(false)),
        enable_service_links: Some(false),
        node_selector: settings.node_selector,
        tolerations: (!tolerations.is_empty()).then_some(tolerations),
        affinity: with_gpu_type(settings.affinity, step.resources.gpu_type.as_deref()),
        priority_class_name: settings.priority_class,
        image_pull_secrets: (!pull_secrets.is_empty()).then_some(pull_secrets),
        volumes: settings.volumes,
        ..PodSpec::default()
    };
    let spec = JobSpec {
        backoff_limit: Some(i32::try_from(step.retries).unwrap_or(i32::MAX)),
        pod_failure_policy: Some(PodFailurePolicy { rules: vec![ignore_disruptions()] }),
        // The next attempt begins when the last one has ended, not while it is being ended.
        pod_replacement_policy: Some("Failed".to_owned()),
        template: PodTemplateSpec { metadata: Some(metadata.clone()), spec: Some(pod) },
        ..JobSpec::default()
    };
    Job { metadata, spec: Some(spec), status: None }
}

/// A pod that made way for another, or whose node went away, is no failed attempt.
pub(crate) fn ignore_disruptions() -> PodFailurePolicyRule {
    PodFailurePolicyRule {
        action: "Ignore".to_owned(),
        on_pod_conditions: Some(vec![PodFailurePolicyOnPodConditionsPattern {
            type_: "DisruptionTarget".to_owned(),
            status: "True".to_owned(),
        }]),
        on_exit_codes: None,
    }
}

/// The resource that accelerators are.
const GPU: &str = "nvidia.com/gpu";
/// The labels by which nodes tell what accelerators they have: Google's, NVIDIA's own, Amazon's, Azure's.
const GPU_TYPES: [&str; 4] = [
    "cloud.google.com/gke-accelerator",
    "nvidia.com/gpu.product",
    "k8s.amazonaws.com/accelerator",
    "kubernetes.azure.com/accelerator",
];

/// Text that stays as it is where Kubernetes would put variables into it: `$(NAME)`.
fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

/// What is asked for is what is given: a step's behaviour does not depend on its neighbours.
fn resources(resources: &Resources) -> Option<ResourceRequirements> {
    let mut amounts = BTreeMap::new();
    if let Some(cpu) = resources.cpu {
        amounts.insert("cpu".to_owned(), cpu_quantity(cpu));
    }
    if let Some(memory) = resources.memory {
        amounts.insert("memory".to_owned(), memory_quantity(memory));
    }
    if let Some(gpu) = resources.gpu.filter(|gpu| *gpu > 0) {
        amounts.insert(GPU.to_owned(), Quantity(gpu.to_string()));
    }
    (!amounts.is_empty()).then(|| ResourceRequirements {
        requests: Some(amounts.clone()),
        limits: Some(amounts),
        ..ResourceRequirements::default()
    })
}

fn cpu_quantity(cpu: Cpu) -> Quantity {
    match (cpu.millis() / 1000, cpu.millis() % 1000) {
        (whole, 0) => Quantity(whole.to_string()),
        _ => Quantity(format!("{}m", cpu.millis())),
    }
}

fn memory_quantity(memory: Memory) -> Quantity {
    let bytes = memory.bytes();
    let units = [(40, "Ti"), (30, "Gi"), (20, "Mi"), (10, "Ki")];
    let unit = units.into_iter().find(|(shift, _)| bytes.is_multiple_of(1 << shift));
    Quantity(unit.map_or_else(|| bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift)))
}

/// The affinity with a demand for nodes that have such accelerators, by whichever label they tell it. Terms are alternatives, so
/// each of the user's is combined with each of ours.
fn with_gpu_type(affinity: Option<Affinity>, gpu_type: Option<&str>) -> Option<Affinity> {
    let Some(gpu_type) = gpu_type else { return affinity };
    let ours = GPU_TYPES.map(|key| NodeSelectorRequirement {
        key: key.to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![gpu_type.to_owned()]),
    });
    let mut affinity = affinity.unwrap_or_default();
    let nodes: &mut NodeAffinity = affinity.node_affinity.get_or_insert_default();
    let required = nodes.required_during_scheduling_ignored_during_execution.take().unwrap_or_default();
    let theirs = if required.node_selector_terms.is_empty() {
        vec![NodeSelectorTerm::default()]
    } else {
        required.node_selector_terms
    };
    let combined = theirs.iter().flat_map(|term| {
        ours.iter().map(|requirement| {
            let mut term = term.clone();
            term.match_expressions.get_or_insert_default().push(requirement.clone());
            term
        })
    });
    nodes.required_during_scheduling_ignored_during_execution =
        Some(NodeSelector { node_selector_terms: combined.collect() });
    Some(affinity)
}
