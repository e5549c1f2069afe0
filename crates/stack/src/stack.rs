//! Stacks: one component of each kind.

use jiff::Timestamp;

use crate::{
    ArtifactStore, ComponentKind, ContainerRegistry, Flavor, ImageBuilder, Name, Orchestrator, Origin,
};

/// A stack with what its components are: all that a run needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    /// The stack's name.
    pub name: Name,
    /// What runs the steps.
    pub orchestrator: Orchestrator,
    /// Where images are kept, if any are made.
    pub container_registry: Option<ContainerRegistry>,
    /// What builds images, if any are made.
    pub image_builder: Option<ImageBuilder>,
    /// Where the steps' outputs are kept.
    pub artifact_store: ArtifactStore,
}

/// The names of the components of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// What runs the steps.
    pub orchestrator: Name,
    /// Where images are kept.
    pub container_registry: Option<Name>,
    /// What builds images.
    pub image_builder: Option<Name>,
    /// Where the steps' outputs are kept.
    pub artifact_store: Name,
}

/// A stack as it is registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredStack {
    /// Its name.
    pub name: Name,
    /// Its components.
    pub parts: Parts,
    /// Who made it.
    pub origin: Origin,
    /// When it was registered.
    pub created: Timestamp,
    /// When it was changed last.
    pub updated: Timestamp,
}

impl Parts {
    /// The component of that kind.
    pub const fn get(&self, kind: ComponentKind) -> Option<&Name> {
        match kind {
            ComponentKind::Orchestrator => Some(&self.orchestrator),
            ComponentKind::ContainerRegistry => self.container_registry.as_ref(),
            ComponentKind::ImageBuilder => self.image_builder.as_ref(),
            ComponentKind::ArtifactStore => Some(&self.artifact_store),
        }
    }
}

/// The kinds that a stack must have because of its orchestrator, besides the artifact store.
pub(crate) const fn needed_by(orchestrator: Flavor) -> &'static [ComponentKind] {
    match orchestrator {
        Flavor::LocalContainerOrchestrator | Flavor::Orchestrator(_) => {
            &[ComponentKind::ContainerRegistry, ComponentKind::ImageBuilder]
        }
        _ => &[],
    }
}
