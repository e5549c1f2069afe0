//! The kinds of components, and the flavors of each that exist.

mod orchestrator;
mod store;

use std::fmt;

use longshore_auth::connector::ConnectorType;
use serde::{Serialize, Serializer};

use crate::{
    Field,
    field::{Need, Shape},
};

pub use orchestrator::OrchestratorFlavor;
pub use store::StoreFlavor;

/// What a component is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ComponentKind {
    /// It runs the steps.
    Orchestrator,
    /// It keeps images.
    ContainerRegistry,
    /// It builds images.
    ImageBuilder,
    /// It keeps the steps' outputs.
    ArtifactStore,
}

impl ComponentKind {
    /// All kinds.
    pub const ALL: [Self; 4] =
        [Self::Orchestrator, Self::ContainerRegistry, Self::ImageBuilder, Self::ArtifactStore];

    /// The kind as commands spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Orchestrator => "orchestrator",
            Self::ContainerRegistry => "container-registry",
            Self::ImageBuilder => "image-builder",
            Self::ArtifactStore => "artifact-store",
        }
    }

    /// The kind of that spelling.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The kind in a sentence.
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Orchestrator => "orchestrator",
            Self::ContainerRegistry => "container registry",
            Self::ImageBuilder => "image builder",
            Self::ArtifactStore => "artifact store",
        }
    }

    /// The flavors of this kind.
    pub fn flavors(self) -> impl Iterator<Item = Flavor> {
        Flavor::ALL.into_iter().filter(move |flavor| flavor.kind() == self)
    }

    /// Whether components of this kind can be connected to a service connector.
    pub fn takes_connectors(self) -> bool {
        self.flavors().any(|flavor| !flavor.connectors().is_empty())
    }
}

impl fmt::Display for ComponentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.noun())
    }
}

impl Serialize for ComponentKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The flavors of container registries that are registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RegistryFlavor {
    /// Any registry of the OCI distribution specification.
    Default,
    /// Docker Hub.
    Dockerhub,
    /// Google Container Registry and Artifact Registry.
    Gcp,
    /// Azure Container Registry.
    Azure,
    /// Amazon Elastic Container Registry, private and public.
    Aws,
    /// GitHub's registry.
    Github,
}

impl RegistryFlavor {
    /// The flavor as commands spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Dockerhub => "dockerhub",
            Self::Gcp => "gcp",
            Self::Azure => "azure",
            Self::Aws => "aws",
            Self::Github => "github",
        }
    }
}

impl Serialize for RegistryFlavor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A way to be a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flavor {
    /// All steps with the user's own Python on this machine.
    LocalOrchestrator,
    /// Each step in a container on this machine.
    LocalContainerOrchestrator,
    /// Steps run on other machines.
    Orchestrator(OrchestratorFlavor),
    /// The registry in longshore's own data folder.
    EmbeddedRegistry,
    /// A registry elsewhere.
    Registry(RegistryFlavor),
    /// longshore itself builds images, on this machine.
    LocalBuilder,
    /// A folder on this machine.
    LocalStore,
    /// A bucket that other machines reach.
    Store(StoreFlavor),
}

/// Whether the user may register components of a flavor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registrable {
    /// As many as wanted.
    Yes,
    /// There is one, which is always there.
    BuiltIn,
}

const URI: Field = Field {
    name: "uri",
    help: "Where its images are: host[:port][/namespace], without a scheme",
    value_name: "URI",
    need: Need::Required,
    shape: Shape::RegistryUri,
    default: None,
};
const DEFAULT_REPOSITORY: Field = Field {
    name: "default_repository",
    help: "The repository below the URI for images whose settings name none, instead of the pipeline's name",
    value_name: "PATH",
    need: Need::Optional,
    shape: Shape::RepositoryPath,
    default: None,
};
const REGISTRY_FIELDS: [Field; 2] = [URI, DEFAULT_REPOSITORY];
const AWS_FIELDS: [Field; 7] = [
    URI,
    DEFAULT_REPOSITORY,
    Field {
        name: "create_repositories",
        help: "Make a repository that does not exist when something is first pushed to it",
        value_name: "true|false",
        need: Need::Optional,
        shape: Shape::Switch,
        default: Some("true"),
    },
    Field {
        name: "immutable_tags",
        help: "Repositories that are made refuse to move a tag to another image",
        value_name: "true|false",
        need: Need::Optional,
        shape: Shape::Switch,
        default: Some("false"),
    },
    Field {
        name: "scan_on_push",
        help: "Repositories that are made scan each image that is pushed",
        value_name: "true|false",
        need: Need::Optional,
        shape: Shape::Switch,
        default: Some("false"),
    },
    Field {
        name: "kms_key",
        help: "The key that repositories that are made are encrypted with: an ARN, ID or alias of KMS",
        value_name: "KEY",
        need: Need::Optional,
        shape: Shape::Text,
        default: None,
    },
    Field {
        name: "tags",
        help: "Tags of repositories that are made",
        value_name: "KEY=VALUE,…",
        need: Need::Optional,
        shape: Shape::Tags,
        default: None,
    },
];

impl Flavor {
    /// All flavors.
    pub const ALL: [Self; 20] = [
        Self::LocalOrchestrator,
        Self::LocalContainerOrchestrator,
        Self::Orchestrator(OrchestratorFlavor::Kubernetes),
        Self::Orchestrator(OrchestratorFlavor::Kubeflow),
        Self::Orchestrator(OrchestratorFlavor::Vertex),
        Self::Orchestrator(OrchestratorFlavor::Sagemaker),
        Self::Orchestrator(OrchestratorFlavor::Azureml),
        Self::Orchestrator(OrchestratorFlavor::Airflow),
        Self::EmbeddedRegistry,
        Self::Registry(RegistryFlavor::Default),
        Self::Registry(RegistryFlavor::Dockerhub),
        Self::Registry(RegistryFlavor::Gcp),
        Self::Registry(RegistryFlavor::Azure),
        Self::Registry(RegistryFlavor::Aws),
        Self::Registry(RegistryFlavor::Github),
        Self::LocalBuilder,
        Self::LocalStore,
        Self::Store(StoreFlavor::S3),
        Self::Store(StoreFlavor::Gcs),
        Self::Store(StoreFlavor::Azure),
    ];

    /// What its components are for.
    pub const fn kind(self) -> ComponentKind {
        match self {
            Self::LocalOrchestrator | Self::LocalContainerOrchestrator | Self::Orchestrator(_) => {
                ComponentKind::Orchestrator
            }
            Self::EmbeddedRegistry | Self::Registry(_) => ComponentKind::ContainerRegistry,
            Self::LocalBuilder => ComponentKind::ImageBuilder,
            Self::LocalStore | Self::Store(_) => ComponentKind::ArtifactStore,
        }
    }

    /// The flavor as commands spell it, one among those of its kind.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LocalOrchestrator | Self::LocalBuilder | Self::LocalStore => "local",
            Self::LocalContainerOrchestrator => "local_container",
            Self::EmbeddedRegistry => "embedded",
            Self::Registry(flavor) => flavor.as_str(),
            Self::Orchestrator(flavor) => flavor.as_str(),
            Self::Store(flavor) => flavor.as_str(),
        }
    }

    /// The flavor of that kind and spelling.
    pub fn named(kind: ComponentKind, name: &str) -> Result<Self, FlavorError> {
        kind.flavors().find(|flavor| flavor.as_str() == name).ok_or_else(|| FlavorError::new(kind, name))
    }

    /// What it is, in a line.
    pub const fn summary(self) -> &'static str {
        match self {
            Self::LocalOrchestrator => "Steps with your own Python, without images",
            Self::LocalContainerOrchestrator => "Each step in a container on this machine",
            Self::EmbeddedRegistry => "The registry in longshore's data folder",
            Self::Registry(RegistryFlavor::Default) => "Any OCI registry",
            Self::Registry(RegistryFlavor::Dockerhub) => "Docker Hub",
            Self::Registry(RegistryFlavor::Gcp) => "Google Artifact and Container Registry",
            Self::Registry(RegistryFlavor::Azure) => "Azure Container Registry",
            Self::Registry(RegistryFlavor::Aws) => "Amazon ECR, private and public",
            Self::Registry(RegistryFlavor::Github) => "GitHub's registry",
            Self::LocalBuilder => "longshore itself, on this machine",
            Self::LocalStore => "A folder on this machine",
            Self::Orchestrator(flavor) => flavor.summary(),
            Self::Store(flavor) => flavor.summary(),
        }
    }

    /// An example of a URI of its components.
    pub const fn example(self) -> Option<&'static str> {
        match self {
            Self::Registry(RegistryFlavor::Default) => Some("registry.example.com/team"),
            Self::Registry(RegistryFlavor::Dockerhub) => Some("docker.io/<user>"),
            Self::Registry(RegistryFlavor::Gcp) => Some("gcr.io/<project>"),
            Self::Registry(RegistryFlavor::Azure) => Some("<registry>.azurecr.io"),
            Self::Registry(RegistryFlavor::Aws) => Some("<account>.dkr.ecr.<region>.amazonaws.com"),
            Self::Registry(RegistryFlavor::Github) => Some("ghcr.io/<owner>"),
            Self::Store(flavor) => Some(flavor.example()),
            _ => None,
        }
    }

    /// The configuration values that it takes.
    pub const fn fields(self) -> &'static [Field] {
        match self {
            Self::Registry(RegistryFlavor::Aws) => &AWS_FIELDS,
            Self::Registry(_) => &REGISTRY_FIELDS,
            Self::LocalOrchestrator => &orchestrator::IN_PROCESSES,
            Self::LocalContainerOrchestrator => &orchestrator::IN_CONTAINERS,
            Self::Orchestrator(flavor) => flavor.fields(),
            Self::Store(flavor) => flavor.fields(),
            _ => &[],
        }
    }

    /// The field of that name.
    pub fn field(self, name: &str) -> Option<&'static Field> {
        self.fields().iter().find(|field| field.name == name)
    }

    /// The types of service connectors that its components can be connected to: any registry takes names and passwords,
    /// and a cloud's registries take credentials of that cloud.
    pub const fn connectors(self) -> &'static [ConnectorType] {
        use ConnectorType::{Aws, Azure, Docker, Gcp};
        match self {
            Self::Registry(RegistryFlavor::Default) => &ConnectorType::ALL,
            Self::Registry(RegistryFlavor::Dockerhub | RegistryFlavor::Github) => &[Docker],
            Self::Registry(RegistryFlavor::Gcp) => &[Gcp, Docker],
            Self::Registry(RegistryFlavor::Azure) => &[Azure, Docker],
            Self::Registry(RegistryFlavor::Aws) => &[Aws, Docker],
            Self::Orchestrator(flavor) => flavor.connectors(),
            Self::Store(flavor) => flavor.connectors(),
            _ => &[],
        }
    }

    /// Whether the user may register components of it.
    pub const fn registrable(self) -> Registrable {
        match self {
            Self::EmbeddedRegistry => Registrable::BuiltIn,
            _ => Registrable::Yes,
        }
    }
}

impl Serialize for Flavor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// There is no flavor of that name.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{kind} flavor `{name}` does not exist; there are: {}", .existing.join(", "))]
pub struct FlavorError {
    kind: ComponentKind,
    name: String,
    existing: Vec<&'static str>,
}

impl FlavorError {
    fn new(kind: ComponentKind, name: &str) -> Self {
        let registrable = kind.flavors().filter(|flavor| flavor.registrable() == Registrable::Yes);
        let existing = registrable.map(Flavor::as_str).collect();
        Self { kind, name: name.to_owned(), existing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flavors_are_found_by_what_they_are_called() {
        for flavor in Flavor::ALL {
            assert_eq!(Flavor::named(flavor.kind(), flavor.as_str()), Ok(flavor));
        }
    }

    #[test]
    fn an_unknown_flavor_is_answered_with_those_there_are() {
        let error = Flavor::named(ComponentKind::Orchestrator, "nomad").unwrap_err();
        assert_eq!(
            error.to_string(),
            "orchestrator flavor `nomad` does not exist; there are: local, local_container, kubernetes, kubeflow, vertex, \
             sagemaker, azureml, airflow"
        );
    }

    #[test]
    fn all_but_image_builders_take_connectors() {
        let others: Vec<_> = ComponentKind::ALL.into_iter().filter(|kind| !kind.takes_connectors()).collect();
        assert_eq!(others, [ComponentKind::ImageBuilder]);
    }
}
