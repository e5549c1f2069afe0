//! Everything that is submitted for a workflow.
//!
//! ```text
//! Job (the controller), or CronJob of it ◀─owns─ ConfigMap (the plan), Secrets, ServiceAccount, Role, RoleBinding
//!        the controller's Job            ◀─owns─ Jobs of the steps, ConfigMap (the state)
//! ```
//!
//! Who deletes the first deletes all of it.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::{
        batch::v1::{
            CronJob, CronJobSpec, Job, JobSpec, JobTemplateSpec, PodFailurePolicy,
            PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule,
        },
        core::v1::{
            Capabilities, ConfigMap, ConfigMapVolumeSource, Container, EnvVar, EnvVarSource,
            LocalObjectReference, ObjectFieldSelector, PodSecurityContext, PodSpec, PodTemplateSpec,
            ResourceRequirements, SeccompProfile, SecurityContext, ServiceAccount, Volume, VolumeMount,
        },
        rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject},
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{ObjectMeta, OwnerReference},
    },
};
use kube::Resource;
use longshore_oci::Reference;
use longshore_orchestrator::{Content, Document, Workflow};
use serde::Serialize;
use serde_json::Value;

use crate::{
    Config, Error, Plan, Pull, Run, label, name,
    plan::{Common, ignore_disruptions},
    secret::{Meta, PullCredential, SecretManifest},
};

/// The environment variable that tells the controller which run it looks after.
pub const RUN_VARIABLE: &str = "LONGSHORE_RUN";
/// The environment variable that tells the controller its namespace.
pub const NAMESPACE_VARIABLE: &str = "LONGSHORE_NAMESPACE";
/// Where the controller finds its plan.
pub const PLAN_FILE: &str = "/longshore/plan/plan.json.gz";
/// The exit code of a controller whose run failed or was cancelled: there is nothing to try again.
pub const RUN_FAILED: u8 = 64;
/// The key of the plan in its ConfigMap.
pub(crate) const PLAN_KEY: &str = "plan.json.gz";
/// The most that a ConfigMap may hold (Kubernetes' documentation of ConfigMap).
const LARGEST_PLAN: usize = 1_000_000;
/// The user that the controller runs as: any but root.
const CONTROLLER_USER: i64 = 65_532;

/// Everything that is submitted for a workflow.
#[derive(Clone, Debug)]
pub struct Manifests {
    /// The name of the run, or of the schedule.
    pub name: String,
    /// The namespace.
    pub namespace: String,
    /// What owns all else.
    pub owner: OwnerManifest,
    /// What the controller carries out.
    pub plan: Plan,
    plan_bytes: Vec<u8>,
    secrets: Vec<SecretManifest>,
    /// The controller's own service account, its role and their binding.
    rights: Option<(ServiceAccount, Role, RoleBinding)>,
    labels: BTreeMap<String, String>,
}

/// What owns all else.
#[derive(Clone, Debug)]
pub enum OwnerManifest {
    /// The controller's Job, for a run now.
    Job(Box<Job>),
    /// What makes the controller's Jobs, for runs by themselves.
    CronJob(Box<CronJob>),
}

/// What a workflow is submitted with.
#[derive(Clone, Debug)]
pub struct Inputs<'a> {
    /// How the orchestrator is registered.
    pub config: &'a Config,
    /// The namespace.
    pub namespace: &'a str,
    /// The controller's image, by digest.
    pub controller: &'a Reference,
    /// The name of the run or schedule.
    pub name: &'a str,
    /// The credentials with which the images are pulled; none yet when the manifests are only shown.
    pub credentials: Option<&'a [PullCredential]>,
}

impl Manifests {
    /// Makes everything that is submitted for a workflow.
    pub fn new(workflow: &Workflow, inputs: &Inputs<'_>) -> Result<Self, Error> {
        let Inputs { config, namespace, controller, name, credentials } = *inputs;
        let labels = label::labels(label::CONTROLLER, &name::pipeline_part(&workflow.pipeline));
        let meta = |part: &str| Meta {
            name: name::of_run(name, part),
            labels: labels.clone(),
            annotations: BTreeMap::new(),
        };
        let (steps, keys) = SecretManifest::of_steps(meta("env"), &workflow.steps);
        let (pull, named) = match (&config.pull, credentials) {
            (Pull::Nodes, _) => (None, Vec::new()),
            (Pull::Secrets(names), _) => (None, names.clone()),
            (Pull::Credentials, Some(known)) => (SecretManifest::of_pull(meta("pull"), known), Vec::new()),
            (Pull::Credentials, None) => (Some(SecretManifest::of_pull_unknown(meta("pull"))), Vec::new()),
        };
        let pull_secrets =
            named.into_iter().chain(pull.as_ref().map(|pull| pull.name().to_owned())).collect();
        let common = Common { pull_secrets, secret: &name::of_run(name, "env"), keys: &keys };
        let secrets: Vec<_> = steps.into_iter().chain(pull).collect();
        let temporary = match workflow.schedule {
            None => secrets.iter().map(|secret| secret.name().to_owned()).collect(),
            // A schedule's runs share their Secrets, so none of them may take one away.
            Some(_) => Vec::new(),
        };
        let plan = Plan::new(workflow, config.max_parallelism, temporary, &common)?;
        let plan_bytes = plan.to_bytes()?;
        if plan_bytes.len() > LARGEST_PLAN {
            return Err(Error::PlanTooLarge { bytes: plan_bytes.len(), limit: LARGEST_PLAN });
        }

        let metadata = |part: &str| ObjectMeta {
            name: Some(name::of_run(name, part)),
            namespace: Some(namespace.to_owned()),
            labels: Some(labels.clone()),
            ..ObjectMeta::default()
        };
        let rights = config.service_account.is_none().then(|| {
            let state = workflow.schedule.is_none().then(|| name::of_run(name, "state"));
            rights(&metadata("controller"), rules(state.as_deref(), &plan.temporary_secrets))
        });
        let account = config.service_account.clone().unwrap_or_else(|| name::of_run(name, "controller"));
        let pod = controller_pod(controller, &account, &name::of_run(name, "plan"), &common.pull_secrets);
        let owner = owner(workflow, config, pod, name, namespace, &labels);
        Ok(Self {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            owner,
            plan,
            plan_bytes,
            secrets,
            rights,
            labels,
        })
    }

    fn metadata(&self, name: &str, owner: Option<&OwnerReference>) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(self.namespace.clone()),
            labels: Some(self.labels.clone()),
            owner_references: owner.map(|owner| vec![owner.clone()]),
            ..ObjectMeta::default()
        }
    }

    /// The ConfigMap of the plan.
    pub(crate) fn plan_map(&self, owner: Option<&OwnerReference>) -> ConfigMap {
        let bytes = ByteString(self.plan_bytes.clone());
        ConfigMap {
            metadata: self.metadata(&name::of_run(&self.name, "plan"), owner),
            binary_data: Some(BTreeMap::from([(PLAN_KEY.to_owned(), bytes)])),
            immutable: Some(true),
            ..ConfigMap::default()
        }
    }

    /// The Secrets.
    pub(crate) fn secrets(
        &self,
        owner: Option<&OwnerReference>,
    ) -> impl Iterator<Item = k8s_openapi::api::core::v1::Secret> {
        self.secrets.iter().map(move |secret| secret.object(self.secret_metadata(secret, owner)))
    }

    fn secret_metadata(&self, secret: &SecretManifest, owner: Option<&OwnerReference>) -> ObjectMeta {
        let annotations = secret.metadata.annotations.clone();
        ObjectMeta {
            annotations: (!annotations.is_empty()).then_some(annotations),
            ..self.metadata(secret.name(), owner)
        }
    }

    /// The controller's own service account, its role and their binding; none where another service account is configured.
    pub(crate) fn rights(&self, owner: &OwnerReference) -> Option<(ServiceAccount, Role, RoleBinding)> {
        let (mut account, mut role, mut binding) = self.rights.clone()?;
        for metadata in [&mut account.metadata, &mut role.metadata, &mut binding.metadata] {
            metadata.owner_references = Some(vec![owner.clone()]);
        }
        Some((account, role, binding))
    }

    /// Exactly what is submitted, but for what only the cluster knows, the owner's identifier, and what is secret. After what is
    /// submitted come the Jobs that the controller makes of the plan.
    pub fn documents(&self) -> Result<Vec<Document>, Error> {
        let mut documents = Vec::new();
        match &self.owner {
            OwnerManifest::Job(job) => documents.push(document(job.as_ref())?),
            OwnerManifest::CronJob(job) => documents.push(document(job.as_ref())?),
        }
        if let Some((account, role, binding)) = &self.rights {
            documents.extend([document(account)?, document(role)?, document(binding)?]);
        }
        documents.push(document(&self.plan_map(None))?);
        for secret in &self.secrets {
            documents.push(document(&secret.shown(self.secret_metadata(secret, None)))?);
        }
        let run = Run { name: self.name.clone(), namespace: self.namespace.clone(), uid: String::new() };
        for step in &self.plan.steps {
            let mut job = step.job(&run);
            job.metadata.owner_references = None;
            documents.push(document(&job)?);
        }
        Ok(documents)
    }
}

/// An object as a manifest.
fn document<K: Resource<DynamicType = ()> + Serialize>(object: &K) -> Result<Document, Error> {
    let mut content = serde_json::to_value(object).map_err(|error| Error::Plan(error.to_string()))?;
    if let Value::Object(fields) = &mut content {
        // The types write these themselves; a status is none of ours.
        fields.remove("status");
        fields.insert("apiVersion".to_owned(), K::api_version(&()).into());
        fields.insert("kind".to_owned(), K::kind(&()).into());
    }
    let name = object.meta().name.as_deref().unwrap_or_default();
    Ok(Document {
        name: format!("{}-{name}.yaml", K::kind(&()).to_ascii_lowercase()),
        content: Content::Data(content),
    })
}

fn owner(
    workflow: &Workflow,
    config: &Config,
    mut pod: PodTemplateSpec,
    name: &str,
    namespace: &str,
    labels: &BTreeMap<String, String>,
) -> OwnerManifest {
    let annotations = BTreeMap::from([
        (label::PIPELINE.to_owned(), workflow.pipeline.clone()),
        (label::STORE.to_owned(), workflow.store.to_string()),
    ]);
    pod.metadata.get_or_insert_default().labels = Some(labels.clone());
    let rules = vec![
        ignore_disruptions(),
        PodFailurePolicyRule {
            action: "FailJob".to_owned(),
            on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
                container_name: Some(label::CONTROLLER.to_owned()),
                operator: "In".to_owned(),
                values: vec![RUN_FAILED.into()],
            }),
            on_pod_conditions: None,
        },
    ];
    let spec = JobSpec {
        // A controller that ends otherwise than with its run is started again, and goes on where it was.
        backoff_limit: Some(6),
        pod_failure_policy: Some(PodFailurePolicy { rules }),
        pod_replacement_policy: Some("Failed".to_owned()),
        ttl_seconds_after_finished: Some(i32::try_from(config.ttl.as_secs()).unwrap_or(i32::MAX)),
        template: pod,
        ..JobSpec::default()
    };
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        labels: Some(labels.clone()),
        annotations: Some(annotations.clone()),
        ..ObjectMeta::default()
    };
    let Some(schedule) = &workflow.schedule else {
        return OwnerManifest::Job(Box::new(Job { metadata, spec: Some(spec), status: None }));
    };
    let template =
        ObjectMeta { labels: Some(labels.clone()), annotations: Some(annotations), ..ObjectMeta::default() };
    let spec = CronJobSpec {
        schedule: schedule.cron.clone(),
        time_zone: Some(schedule.timezone.clone()),
        // A run that is not over yet is not run over by the next.
        concurrency_policy: Some("Forbid".to_owned()),
        // The runs go by their time to live.
        successful_jobs_history_limit: Some(100),
        failed_jobs_history_limit: Some(100),
        // The controller of CronJobs gives up on one that has missed a hundred starts, unless it has a deadline.
        starting_deadline_seconds: Some(3600),
        job_template: JobTemplateSpec { metadata: Some(template), spec: Some(spec) },
        ..CronJobSpec::default()
    };
    OwnerManifest::CronJob(Box::new(CronJob { metadata, spec: Some(spec), status: None }))
}

fn controller_pod(image: &Reference, account: &str, plan: &str, pull_secrets: &[String]) -> PodTemplateSpec {
    let field = |name: &str, path: &str| EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector { api_version: None, field_path: path.to_owned() }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    };
    let amounts = |pairs: &[(&str, &str)]| {
        Some(
            pairs.iter().map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned()))).collect(),
        )
    };
    let container = Container {
        name: label::CONTROLLER.to_owned(),
        image: Some(image.to_string()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        command: Some(crate::image::COMMAND.map(str::to_owned).to_vec()),
        args: Some(vec!["--plan".to_owned(), PLAN_FILE.to_owned()]),
        // A Job of a CronJob is named by the cluster: its name is the run's.
        env: Some(vec![
            field(RUN_VARIABLE, "metadata.labels['job-name']"),
            field(NAMESPACE_VARIABLE, "metadata.namespace"),
        ]),
        resources: Some(ResourceRequirements {
            requests: amounts(&[("cpu", "50m"), ("memory", "64Mi")]),
            limits: amounts(&[("cpu", "500m"), ("memory", "256Mi")]),
            ..ResourceRequirements::default()
        }),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            ..SecurityContext::default()
        }),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(vec![VolumeMount {
            name: "plan".to_owned(),
            mount_path: "/longshore/plan".to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        }]),
        ..Container::default()
    };
    let secrets: Vec<_> =
        pull_secrets.iter().map(|name| LocalObjectReference { name: name.clone() }).collect();
    let spec = PodSpec {
        containers: vec![container],
        restart_policy: Some("Never".to_owned()),
        service_account_name: Some(account.to_owned()),
        automount_service_account_token: Some(true),
        enable_service_links: Some(false),
        image_pull_secrets: (!secrets.is_empty()).then_some(secrets),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(CONTROLLER_USER),
            run_as_group: Some(CONTROLLER_USER),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                localhost_profile: None,
            }),
            ..PodSecurityContext::default()
        }),
        volumes: Some(vec![Volume {
            name: "plan".to_owned(),
            config_map: Some(ConfigMapVolumeSource {
                name: plan.to_owned(),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        }]),
        ..PodSpec::default()
    };
    PodTemplateSpec { metadata: None, spec: Some(spec) }
}

/// What the controller needs to be allowed, and nothing else. With names where they are known beforehand: those of a
/// schedule's runs are not.
pub fn rules(state: Option<&str>, temporary_secrets: &[String]) -> Vec<PolicyRule> {
    let rule = |group: &str, resource: &str, names: &[&str], verbs: &[&str]| PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(vec![resource.to_owned()]),
        resource_names: (!names.is_empty()).then(|| names.iter().map(|name| (*name).to_owned()).collect()),
        verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        non_resource_urls: None,
    };
    let mut rules = vec![
        rule("batch", "jobs", &[], &["create", "get", "list", "watch", "delete"]),
        rule("", "pods", &[], &["list", "watch"]),
        // What is created has no name yet when it is asked whether it may be.
        rule("", "configmaps", &[], &["create"]),
        rule("", "configmaps", state.as_slice(), &["get", "patch"]),
    ];
    let secrets: Vec<_> = temporary_secrets.iter().map(String::as_str).collect();
    if !secrets.is_empty() {
        rules.push(rule("", "secrets", &secrets, &["delete"]));
    }
    rules
}

fn rights(metadata: &ObjectMeta, rules: Vec<PolicyRule>) -> (ServiceAccount, Role, RoleBinding) {
    let name = metadata.name.clone().unwrap_or_default();
    let account = ServiceAccount { metadata: metadata.clone(), ..ServiceAccount::default() };
    let role = Role { metadata: metadata.clone(), rules: Some(rules) };
    let binding = RoleBinding {
        metadata: metadata.clone(),
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".to_owned(),
            kind: "Role".to_owned(),
            name: name.clone(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name,
            namespace: metadata.namespace.clone(),
            api_group: None,
        }]),
    };
    (account, role, binding)
}
