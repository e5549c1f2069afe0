//! Orchestrators elsewhere.

use longshore_auth::connector::ConnectorType;
use serde::{Serialize, Serializer};

use crate::{
    Field,
    field::{Need, Shape},
};

/// The orchestrators that run steps on other machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OrchestratorFlavor {
    /// Jobs of a Kubernetes cluster.
    Kubernetes,
    /// Kubeflow Pipelines.
    Kubeflow,
    /// Google's Vertex AI Pipelines.
    Vertex,
    /// Amazon's SageMaker Pipelines.
    Sagemaker,
    /// Azure Machine Learning.
    Azureml,
    /// A DAG of Apache Airflow.
    Airflow,
}

impl OrchestratorFlavor {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Kubernetes, Self::Kubeflow, Self::Vertex, Self::Sagemaker, Self::Azureml, Self::Airflow];

    /// The flavor as commands spell it, and the key of its settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Kubeflow => "kubeflow",
            Self::Vertex => "vertex",
            Self::Sagemaker => "sagemaker",
            Self::Azureml => "azureml",
            Self::Airflow => "airflow",
        }
    }

    pub(super) const fn summary(self) -> &'static str {
        match self {
            Self::Kubernetes => "Jobs of a Kubernetes cluster",
            Self::Kubeflow => "Kubeflow Pipelines 2",
            Self::Vertex => "Google Vertex AI Pipelines",
            Self::Sagemaker => "Amazon SageMaker Pipelines",
            Self::Azureml => "Azure Machine Learning",
            Self::Airflow => "A DAG file for Apache Airflow",
        }
    }

    pub(super) const fn fields(self) -> &'static [Field] {
        match self {
            Self::Kubernetes => &KUBERNETES,
            Self::Kubeflow => &KUBEFLOW,
            Self::Vertex => &VERTEX,
            Self::Sagemaker => &SAGEMAKER,
            Self::Azureml => &AZUREML,
            Self::Airflow => &AIRFLOW,
        }
    }

    pub(super) const fn connectors(self) -> &'static [ConnectorType] {
        match self {
            Self::Kubernetes | Self::Kubeflow => &[],
            // For a bucket that DAG files are put into.
            Self::Airflow => &[ConnectorType::Aws, ConnectorType::Gcp],
            Self::Vertex => &[ConnectorType::Gcp],
            Self::Sagemaker => &[ConnectorType::Aws],
            Self::Azureml => &[ConnectorType::Azure],
        }
    }
}

impl Serialize for OrchestratorFlavor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

const fn required(name: &'static str, value_name: &'static str, help: &'static str) -> Field {
    Field { name, help, value_name, need: Need::Required, shape: Shape::Text, default: None }
}

const fn optional(name: &'static str, value_name: &'static str, help: &'static str) -> Field {
    Field { name, help, value_name, need: Need::Optional, shape: Shape::Text, default: None }
}

const fn max_parallelism(help: &'static str) -> Field {
    Field {
        name: "max_parallelism",
        help,
        value_name: "NUMBER",
        need: Need::Optional,
        shape: Shape::Count,
        default: None,
    }
}

/// Of the orchestrator that runs steps with the user's own Python.
pub(super) const IN_PROCESSES: [Field; 1] =
    [max_parallelism("How many steps of a run may run at once, each in a process of its own, instead of 1")];
/// Of the orchestrator that runs steps in containers on this machine.
pub(super) const IN_CONTAINERS: [Field; 1] =
    [max_parallelism("How many steps of a run may run at once, instead of one for each processor")];

const LOCAL: Field = Field {
    name: "local",
    help: "It runs on this machine, and reaches registries that listen on loopback",
    value_name: "true|false",
    need: Need::Optional,
    shape: Shape::Switch,
    default: Some("false"),
};

const KUBERNETES: [Field; 9] = [
    optional("context", "NAME", "The context of the kubeconfig; the current one if there is none"),
    optional("namespace", "NAME", "The namespace that jobs run in; that of the context if there is none"),
    optional("kubeconfig", "FILE", "The kubeconfig, instead of $KUBECONFIG or ~/.kube/config"),
    Field {
        name: "in_cluster",
        help: "Use the service account of the pod that longshore itself runs in",
        value_name: "true|false",
        need: Need::Optional,
        shape: Shape::Switch,
        default: Some("false"),
    },
    optional(
        "service_account",
        "NAME",
        "The service account of the controller, where longshore may make no roles",
    ),
    max_parallelism("How many steps of a run may run at once, instead of 64"),
    optional(
        "image_pull_secrets",
        "connector|none|NAME,…",
        "What images are pulled with: Secrets made of the connector's credentials, the nodes' own rights, or Secrets that there are",
    ),
    optional("ttl", "SECONDS", "How long objects stay after the end of a run, instead of a day"),
    LOCAL,
];
const KUBEFLOW: [Field; 10] = [
    required("host", "URL", "Where Kubeflow Pipelines is served"),
    optional("namespace", "NAME", "The namespace of the runs, where there are several users"),
    optional("experiment", "NAME", "The experiment that runs belong to, instead of longshore"),
    optional("token", "SOURCE", "Where the bearer token is: env:NAME or file:PATH"),
    optional("cookies", "SOURCE", "Where the cookies of a session are: env:NAME or file:PATH"),
    optional("service_account", "NAME", "The service account that steps run as"),
    optional("image_pull_secrets", "NAME,…", "The Kubernetes Secrets that images are pulled with"),
    optional("secret", "NAME", "The Kubernetes Secret with the variables that must not be seen"),
    optional("timezone", "ZONE", "The installation's time zone, for schedules, instead of UTC"),
    LOCAL,
];
const VERTEX: [Field; 7] = [
    required("project", "PROJECT", "The project of Google Cloud"),
    required("location", "REGION", "The region that pipelines run in"),
    optional(
        "pipeline_root",
        "gs://…",
        "Where Vertex keeps its own files; in the artifact store if there is none",
    ),
    optional("service_account", "EMAIL", "The service account that steps run as"),
    optional("network", "NETWORK", "The VPC network that steps are connected to"),
    optional("encryption_key", "KEY", "The key of Cloud KMS that data is encrypted with"),
    Field {
        name: "labels",
        help: "Labels of runs",
        value_name: "KEY=VALUE,…",
        need: Need::Optional,
        shape: Shape::Tags,
        default: None,
    },
];
const SAGEMAKER: [Field; 9] = [
    required("role", "ARN", "The role that pipelines and steps run as"),
    required("region", "REGION", "The region that pipelines run in"),
    optional(
        "instance_type",
        "TYPE",
        "The instances of steps that ask for no resources and name no instance",
    ),
    optional("volume_size", "GB", "The size of the instances' volumes, instead of 30"),
    optional("subnets", "ID,…", "The subnets that steps are in, with security_groups"),
    optional("security_groups", "ID,…", "The security groups of steps, with subnets"),
    Field {
        name: "tags",
        help: "Tags of pipelines and jobs",
        value_name: "KEY=VALUE,…",
        need: Need::Optional,
        shape: Shape::Tags,
        default: None,
    },
    max_parallelism("How many steps of a run may run at once"),
    optional("scheduler_role", "ARN", "The role that schedules start pipelines as, if it is another one"),
];
const AZUREML: [Field; 6] = [
    required("subscription_id", "ID", "The subscription of Azure"),
    required("resource_group", "NAME", "The resource group of the workspace"),
    required("workspace", "NAME", "The workspace of Azure Machine Learning"),
    optional("compute", "NAME", "The compute that steps run on; serverless if there is none"),
    optional("instance_type", "SIZE", "The machines of serverless compute"),
    optional(
        "identity",
        "managed|user|ID",
        "Whom steps run as: the compute's identity, the user, or a managed identity",
    ),
];
const AIRFLOW: [Field; 10] = [
    required(
        "dags",
        "FOLDER|s3://…|gs://…",
        "The folder that Airflow reads its DAGs from, of this machine or in a bucket",
    ),
    optional("operator", "kubernetes|docker", "What runs the containers, instead of kubernetes"),
    optional("namespace", "NAME", "The namespace that pods run in, with the operator kubernetes"),
    optional("service_account", "NAME", "The service account that pods run as, with the operator kubernetes"),
    optional("connection", "NAME", "The connection of Airflow that the operator uses"),
    optional("api", "URL", "Where Airflow 3 is served, to begin runs there and look at them"),
    optional("token", "SOURCE", "Where the token for its API is: env:NAME or file:PATH"),
    optional("username", "NAME", "The user of its API, with password, instead of token"),
    optional("password", "SOURCE", "Where the user's password is: env:NAME or file:PATH"),
    LOCAL,
];
