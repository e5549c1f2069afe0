//! Stacks and the components that they consist of.

use serde::Serialize;

/// What runs the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Orchestrator {
    /// All steps in one Python process on this machine, with no image.
    Local,
    /// Each step in a container on this machine.
    LocalContainer,
}

/// Where images are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ContainerRegistry {
    /// The registry in longshore's own data folder.
    Embedded,
}

impl ContainerRegistry {
    /// What the names of its images begin with. `longshore registry serve` listens there by default, so the
    /// names that a build prints can be pulled once it runs.
    pub const fn uri(self) -> &'static str {
        match self {
            Self::Embedded => "localhost:5000",
        }
    }
}

/// What builds images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageBuilder {
    /// longshore itself, on this machine.
    Native,
}

/// Where the steps' outputs are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ArtifactStore {
    /// A folder on this machine.
    Local,
}

/// One of each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stack {
    /// The stack's name.
    pub name: &'static str,
    /// What runs the steps.
    pub orchestrator: Orchestrator,
    /// Where images are kept, if any are made.
    pub container_registry: Option<ContainerRegistry>,
    /// What builds images, if any are made.
    pub image_builder: Option<ImageBuilder>,
    /// Where the steps' outputs are kept.
    pub artifact_store: ArtifactStore,
}

/// The stacks that exist without being registered.
const BUILT_IN: [Stack; 2] = [
    Stack {
        name: "default",
        orchestrator: Orchestrator::LocalContainer,
        container_registry: Some(ContainerRegistry::Embedded),
        image_builder: Some(ImageBuilder::Native),
        artifact_store: ArtifactStore::Local,
    },
    Stack {
        name: "local",
        orchestrator: Orchestrator::Local,
        container_registry: None,
        image_builder: None,
        artifact_store: ArtifactStore::Local,
    },
];

/// No stack has that name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("there is no stack named `{name}`; there are: {}", .existing.join(", "))]
pub struct StackError {
    /// The name.
    pub name: String,
    /// The names that exist.
    pub existing: Vec<&'static str>,
}

impl Stack {
    /// All stacks.
    pub fn all() -> Vec<Self> {
        BUILT_IN.to_vec()
    }

    /// The stack of that name.
    pub fn named(name: &str) -> Result<Self, StackError> {
        Self::all().into_iter().find(|stack| stack.name == name).ok_or_else(|| StackError {
            name: name.to_owned(),
            existing: BUILT_IN.iter().map(|stack| stack.name).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_stack_exists() {
        assert_eq!(Stack::named("default").unwrap().orchestrator, Orchestrator::LocalContainer);
    }

    #[test]
    fn an_unknown_stack_is_answered_with_those_there_are() {
        let error = Stack::named("prod").unwrap_err();
        assert_eq!(error.to_string(), "there is no stack named `prod`; there are: default, local");
    }
}
