//! What goes wrong with a cluster, in sentences.

use longshore_orchestrator::{Retry, ServiceError};

use crate::SettingsError;

/// Why a cluster was not asked, or did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The settings of a step are wrong.
    #[error("in the settings of step {step}: {source}")]
    Settings {
        /// The step.
        step: String,
        /// What is wrong.
        source: SettingsError,
    },
    /// A plan that cannot be written or read.
    #[error("the plan of the run cannot be used: {0}; submit the pipeline again with this longshore")]
    Plan(String),
    /// A plan that no ConfigMap holds.
    #[error(
        "the plan has {bytes} bytes, and a ConfigMap holds {limit}: pass large parameters as files or artifacts, or split the pipeline"
    )]
    PlanTooLarge {
        /// Its bytes.
        bytes: usize,
        /// How many it may have.
        limit: usize,
    },
    /// No image for the controller was given.
    #[error(
        "the run cannot be submitted: the image of its controller has not been built; this is a defect in longshore"
    )]
    NoController,
    /// The cluster's address and credentials are not known.
    #[error("cannot tell how to reach the cluster: {reason}; {remedy}")]
    Access {
        /// Why.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// The cluster was not reached.
    #[error(
        "cannot {what}: {cluster} is not reached: {reason}; check that the cluster runs and that this machine has a way to it"
    )]
    Unreachable {
        /// What was wanted.
        what: String,
        /// The cluster.
        cluster: String,
        /// Why.
        reason: String,
    },
    /// The cluster does not know who asks.
    #[error(
        "cannot {what}: {cluster} does not accept the credentials ({reason}); log in again, or check the user of the context in the kubeconfig"
    )]
    Unauthenticated {
        /// What was wanted.
        what: String,
        /// The cluster.
        cluster: String,
        /// What it said.
        reason: String,
    },
    /// A right is missing.
    #[error(
        "cannot {what}: {subject} may not {verb} {resource} in namespace {namespace}; whoever looks after the cluster grants it with: {remedy}"
    )]
    Forbidden {
        /// What was wanted.
        what: Box<str>,
        /// Who lacks the right.
        subject: Box<str>,
        /// The verb.
        verb: Box<str>,
        /// The resource.
        resource: Box<str>,
        /// The namespace.
        namespace: Box<str>,
        /// The commands that grant it.
        remedy: Box<str>,
    },
    /// Several rights are missing.
    #[error(
        "longshore lacks rights in namespace {namespace}: {missing}; whoever looks after the cluster grants them with: {remedy}"
    )]
    MissingRights {
        /// The namespace.
        namespace: String,
        /// What may not be done.
        missing: String,
        /// The commands that grant it.
        remedy: String,
    },
    /// A quota is used up.
    #[error(
        "cannot {what}: a quota of namespace {namespace} does not allow it ({reason}); wait until other work ends, delete what is not needed, or have the ResourceQuota raised"
    )]
    Quota {
        /// What was wanted.
        what: String,
        /// The namespace.
        namespace: String,
        /// What the cluster said.
        reason: String,
    },
    /// An admission check said no.
    #[error(
        "cannot {what}: a rule of the cluster refuses it ({reason}); change the step's KubernetesSettings so that it complies, or ask whoever looks after the cluster"
    )]
    Admission {
        /// What was wanted.
        what: String,
        /// What the cluster said.
        reason: String,
    },
    /// The namespace does not exist.
    #[error(
        "cannot {what}: namespace {namespace} does not exist; create it (kubectl create namespace {namespace}), or register the orchestrator with another"
    )]
    NoNamespace {
        /// What was wanted.
        what: String,
        /// The namespace.
        namespace: String,
    },
    /// There is no such run.
    #[error(
        "there is no run or schedule {run} in namespace {namespace}; it may have been deleted, which happens by itself some time after its end (option ttl)"
    )]
    NoRun {
        /// The run.
        run: String,
        /// The namespace.
        namespace: String,
    },
    /// A run has no such step.
    #[error("run {run} has no step {step}; it has {}", .steps.join(", "))]
    NoStep {
        /// The run.
        run: String,
        /// The step.
        step: String,
        /// Those that there are.
        steps: Vec<String>,
    },
    /// Credentials of a registry that expire, and a schedule.
    #[error(
        "the credentials for {host} ({origin}) expire at {expires}, so scheduled runs could not pull their images; let the nodes pull (register the orchestrator with --image_pull_secrets=none), or name a Secret that stays valid (--image_pull_secrets=NAME)"
    )]
    ExpiringCredentials {
        /// The registry's host.
        host: String,
        /// Where they are from.
        origin: String,
        /// When they expire.
        expires: String,
    },
    /// Credentials of an artifact store that expire, and a schedule.
    #[error(
        "the credentials for {store} ({origin}) {}, so scheduled runs could not keep their outputs; connect the artifact store to a connector whose credentials do not expire (longshore artifact-store connect), or to none (longshore artifact-store disconnect) and let the steps have an identity of the cluster's (KubernetesSettings(service_account=…))",
        .expires.as_ref().map_or_else(|| "expire".to_owned(), |expires| format!("expire at {expires}"))
    )]
    ExpiringStoreCredentials {
        /// The artifact store's URI.
        store: String,
        /// Where they are from.
        origin: String,
        /// When they expire, if that is known.
        expires: Option<String>,
    },
    /// There are no credentials for a registry.
    #[error(transparent)]
    Auth(#[from] longshore_auth::AuthError),
    /// The cluster was busy, or failed.
    #[error("cannot {what}: {cluster} answered {reason}; try again later")]
    Unavailable {
        /// What was wanted.
        what: String,
        /// The cluster.
        cluster: String,
        /// What it said.
        reason: String,
    },
    /// The cluster refused for another reason.
    #[error("cannot {what}: {cluster} refused it: {reason}")]
    Refused {
        /// What was wanted.
        what: String,
        /// The cluster.
        cluster: String,
        /// What it said.
        reason: String,
    },
    /// An object of the name is somebody else's.
    #[error(
        "cannot go on with run {run}: {object} exists and belongs to something else; delete it, or submit the run again"
    )]
    Foreign {
        /// The run.
        run: String,
        /// The object.
        object: String,
    },
}

impl Error {
    /// Whether the same again may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Unavailable { .. } | Self::Quota { .. } => true,
            Self::Auth(error) => error.is_retryable(),
            _ => false,
        }
    }
}

impl From<Error> for ServiceError {
    fn from(error: Error) -> Self {
        let retry = if error.is_retryable() { Retry::Maybe } else { Retry::Never };
        Self::new(error, retry)
    }
}
