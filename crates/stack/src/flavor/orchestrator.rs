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
            Self::Kubernetes | Self::Kubeflow | Self::Airflow => &[],
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

const LOCAL: Field = Field {
    name: "local",
    help: "It runs on this machine, and reaches registries that listen on loopback",
    value_name: "true|false",
    need: Need::Optional,
    shape: Shape::Switch,
    default: Some("false"),
};

const KUBERNETES: [Field; 6] = [
    optional("context", "NAME", "The context of the kubeconfig; the current one if there is none"),
    optional("namespace", "NAME", "The namespace that jobs run in; that of the context if there is none"),
    optional("kubeconfig", "FILE", "The kubeconfig, instead of $KUBECONFIG or ~/.kube/config"),
    optional("service_account", "NAME", "The service account that steps run as"),
    optional("max_parallelism", "NUMBER", "How many steps may run at once"),
    LOCAL,
];
const KUBEFLOW: [Field; 4] = [
    required("host", "URL", "Where Kubeflow Pipelines is served"),
    optional("namespace", "NAME", "The user's namespace, where there are several users"),
    optional("experiment", "NAME", "The experiment that runs belong to"),
    LOCAL,
];
const VERTEX: [Field; 6] = [
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
];
const SAGEMAKER: [Field; 3] = [
    required("role", "ARN", "The role that steps run as"),
    required("region", "REGION", "The region that pipelines run in"),
    optional("instance_type", "TYPE", "The instances that steps run on, where their settings name none"),
];
const AZUREML: [Field; 5] = [
    required("subscription_id", "ID", "The subscription of Azure"),
    required("resource_group", "NAME", "The resource group of the workspace"),
    required("workspace", "NAME", "The workspace of Azure Machine Learning"),
    optional("compute", "NAME", "The compute that steps run on; serverless if there is none"),
    optional("instance_type", "SIZE", "The machines of serverless compute"),
];
const AIRFLOW: [Field; 4] = [
    required("dags", "FOLDER", "The folder that Airflow reads its DAGs from: a folder, s3://… or gs://…"),
    optional("operator", "kubernetes|docker", "What runs the containers"),
    optional("namespace", "NAME", "The namespace that pods run in, with the operator kubernetes"),
    LOCAL,
];
