//! Stacks.

use jiff::Timestamp;
use rusqlite::params;
use uuid::Uuid;

use super::{State, StateError, Subject, origin};
use crate::{
    Component, ComponentKind, ContainerRegistry, ImageBuilder, Name, Origin, Parts, RegisteredStack, Stack,
    fit, stack::needed_by,
};

/// The components that a stack is to have, or to have instead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// What runs the steps.
    pub orchestrator: Option<Name>,
    /// Where images are kept.
    pub container_registry: Option<Name>,
    /// What builds images.
    pub image_builder: Option<Name>,
    /// Where the steps' outputs are kept.
    pub artifact_store: Option<Name>,
}

/// A stack with its identity.
struct StackRow {
    id: String,
    stack: RegisteredStack,
}

/// What is meant where none is named: the component that is built in.
const BUILT_IN: &str = "local";
const BUILT_IN_ORCHESTRATOR: &str = "local_container";

const SELECT: &str = "SELECT s.id, s.name, s.built_in, s.created, s.updated, o.name, a.name, c.name, i.name
    FROM stack s JOIN component o ON o.id = s.orchestrator JOIN component a ON a.id = s.artifact_store
    LEFT JOIN component c ON c.id = s.container_registry LEFT JOIN component i ON i.id = s.image_builder";

impl State {
    /// The stacks, those that are built in first, then by name.
    pub fn stacks(&self) -> Result<Vec<RegisteredStack>, StateError> {
        let rows = self.stack_rows(&format!("{SELECT} ORDER BY s.built_in DESC, s.name"), [])?;
        Ok(rows.into_iter().map(|row| row.stack).collect())
    }

    /// The stack of that name, as it is registered.
    pub fn registered_stack(&self, name: &str) -> Result<RegisteredStack, StateError> {
        Ok(self.stack_row(name)?.stack)
    }

    /// The stack of that name, with what its components are.
    pub fn stack(&self, name: &str) -> Result<Stack, StateError> {
        let RegisteredStack { name, parts, .. } = self.stack_row(name)?.stack;
        let part =
            |kind: ComponentKind| parts.get(kind).map(|name| self.component(kind, name.as_str())).transpose();
        let foreign = |component: &Component| {
            self.damaged(&format!("{} as {}", component.flavor().as_str(), component.kind()))
        };
        let orchestrator = self.component(ComponentKind::Orchestrator, parts.orchestrator.as_str())?;
        let orchestrator = orchestrator.orchestrator().ok_or_else(|| foreign(&orchestrator))?;
        let store = self.component(ComponentKind::ArtifactStore, parts.artifact_store.as_str())?;
        let artifact_store = store.artifact_store().map_err(|error| self.damaged(&error))?;
        let artifact_store = artifact_store.ok_or_else(|| foreign(&store))?;
        let container_registry: Option<ContainerRegistry> = match part(ComponentKind::ContainerRegistry)? {
            Some(component) => component.container_registry().map_err(|error| self.damaged(&error))?,
            None => None,
        };
        let image_builder = part(ComponentKind::ImageBuilder)?.map(|_| ImageBuilder::Native);
        Ok(Stack { name, orchestrator, container_registry, image_builder, artifact_store })
    }

    /// The stack that runs use where none is named.
    pub fn active_stack(&self) -> Result<Stack, StateError> {
        self.stack(self.active_stack_name()?.as_str())
    }

    /// The name of the active stack.
    pub fn active_stack_name(&self) -> Result<Name, StateError> {
        let names: Vec<String> =
            self.query("SELECT s.name FROM active JOIN stack s ON s.id = active.stack", [], |row| {
                row.get(0)
            })?;
        self.name(names.first().ok_or_else(|| self.damaged(&"no stack is active"))?)
    }

    /// Makes a stack the active one.
    pub fn set_active_stack(&self, name: &str) -> Result<(), StateError> {
        self.transaction(|| {
            let row = self.stack_row(name)?;
            self.execute("UPDATE active SET stack = ?1", [row.id])
        })
    }

    /// Registers a stack. Where no artifact store is named, or no image builder and the orchestrator needs one, it is
    /// that of this machine.
    pub fn register_stack(&self, name: &Name, selection: &Selection) -> Result<RegisteredStack, StateError> {
        self.transaction(|| self.insert_stack(name, selection))
    }

    /// Writes a new stack; within a transaction.
    pub(super) fn insert_stack(
        &self,
        name: &Name,
        selection: &Selection,
    ) -> Result<RegisteredStack, StateError> {
        self.check_stack_name(name)?;
        let orchestrator = selection.orchestrator.as_ref().map_or(BUILT_IN_ORCHESTRATOR, Name::as_str);
        let parts = Parts {
            orchestrator: self.component(ComponentKind::Orchestrator, orchestrator)?.name,
            container_registry: selection.container_registry.clone(),
            image_builder: selection.image_builder.clone(),
            artifact_store: match &selection.artifact_store {
                Some(name) => name.clone(),
                None => self.component(ComponentKind::ArtifactStore, BUILT_IN)?.name,
            },
        };
        let [orchestrator, container_registry, image_builder, artifact_store] = self.compose(name, parts)?;
        self.execute(
            "INSERT INTO stack VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, ?7, ?7)",
            params![
                Uuid::now_v7().to_string(),
                name.as_str(),
                orchestrator,
                container_registry,
                image_builder,
                artifact_store,
                Timestamp::now().to_string(),
            ],
        )?;
        self.registered_stack(name.as_str())
    }

    /// Gives a stack other components.
    pub fn update_stack(&self, name: &str, selection: &Selection) -> Result<RegisteredStack, StateError> {
        self.transaction(|| {
            let StackRow { id, stack } = self.changeable_stack(name, "updated")?;
            let Selection { orchestrator, container_registry, image_builder, artifact_store } =
                selection.clone();
            let parts = Parts {
                orchestrator: orchestrator.unwrap_or(stack.parts.orchestrator),
                container_registry: container_registry.or(stack.parts.container_registry),
                image_builder: image_builder.or(stack.parts.image_builder),
                artifact_store: artifact_store.unwrap_or(stack.parts.artifact_store),
            };
            let [orchestrator, container_registry, image_builder, artifact_store] =
                self.compose(&stack.name, parts)?;
            self.execute(
                "UPDATE stack SET orchestrator = ?2, container_registry = ?3, image_builder = ?4, artifact_store = ?5,
                 updated = ?6 WHERE id = ?1",
                params![
                    id,
                    orchestrator,
                    container_registry,
                    image_builder,
                    artifact_store,
                    Timestamp::now().to_string(),
                ],
            )?;
            self.registered_stack(name)
        })
    }

    /// Registers another stack of the same components.
    pub fn copy_stack(&self, name: &str, new: &Name) -> Result<RegisteredStack, StateError> {
        let Parts { orchestrator, container_registry, image_builder, artifact_store } =
            self.registered_stack(name)?.parts;
        let selection = Selection {
            orchestrator: Some(orchestrator),
            container_registry,
            image_builder,
            artifact_store: Some(artifact_store),
        };
        self.register_stack(new, &selection)
    }

    /// Renames a stack. It stays active if it is.
    pub fn rename_stack(&self, name: &str, new: &Name) -> Result<(), StateError> {
        self.transaction(|| {
            let row = self.changeable_stack(name, "renamed")?;
            if row.stack.name == *new {
                return Ok(());
            }
            self.check_stack_name(new)?;
            self.execute(
                "UPDATE stack SET name = ?2, updated = ?3 WHERE id = ?1",
                params![row.id, new.as_str(), Timestamp::now().to_string()],
            )
        })
    }

    /// Deletes a stack that is not active. Its components stay.
    pub fn delete_stack(&self, name: &str) -> Result<(), StateError> {
        self.transaction(|| {
            let row = self.changeable_stack(name, "deleted")?;
            if self.active_stack_name()? == row.stack.name {
                return Err(StateError::InUse {
                    subject: Subject::Stack,
                    name: row.stack.name,
                    users: vec!["every run that names no stack: it is the active one".to_owned()],
                    remedy: "make another the active one with `longshore stack set default`".to_owned(),
                });
            }
            self.execute("DELETE FROM stack WHERE id = ?1", [row.id])
        })
    }

    /// The names of the stacks that a component is part of.
    pub(super) fn stacks_using(&self, kind: ComponentKind, id: &str) -> Result<Vec<Name>, StateError> {
        let names: Vec<String> = self.query(
            &format!("SELECT name FROM stack WHERE {} = ?1 ORDER BY name", column(kind)),
            [id],
            |row| row.get(0),
        )?;
        names.iter().map(|name| self.name(name)).collect()
    }

    /// The identities of a stack's components, in the order of [`ComponentKind::ALL`], if all exist and none that is
    /// needed is missing.
    fn compose(&self, stack: &Name, mut parts: Parts) -> Result<[Option<String>; 4], StateError> {
        let orchestrator = self.component(ComponentKind::Orchestrator, parts.orchestrator.as_str())?;
        for &kind in needed_by(orchestrator.flavor()) {
            if parts.get(kind).is_some() {
                continue;
            }
            if kind != ComponentKind::ImageBuilder {
                return Err(StateError::Lacks {
                    stack: stack.clone(),
                    flavor: orchestrator.flavor(),
                    orchestrator: orchestrator.name,
                    kind,
                    existing: self.component_names(kind)?,
                });
            }
            parts.image_builder = Some(self.component(kind, BUILT_IN)?.name);
        }
        let part =
            |kind: ComponentKind| parts.get(kind).map(|name| self.component(kind, name.as_str())).transpose();
        let (registry, store) =
            (part(ComponentKind::ContainerRegistry)?, part(ComponentKind::ArtifactStore)?);
        fit::check(&orchestrator, registry.as_ref(), store.as_ref())
            .map_err(|misfit| StateError::Misfit { stack: stack.clone(), misfit })?;
        let mut ids = [const { None }; 4];
        for (id, kind) in ids.iter_mut().zip(ComponentKind::ALL) {
            *id = parts
                .get(kind)
                .map(|name| self.component_row(kind, name.as_str()).map(|row| row.id))
                .transpose()?;
        }
        Ok(ids)
    }

    fn check_stack_name(&self, name: &Name) -> Result<(), StateError> {
        if self.stack_rows(&format!("{SELECT} WHERE s.name = ?1"), [name.as_str()])?.is_empty() {
            Ok(())
        } else {
            Err(StateError::Taken { subject: Subject::Stack, name: name.clone() })
        }
    }

    fn changeable_stack(&self, name: &str, verb: &'static str) -> Result<StackRow, StateError> {
        let row = self.stack_row(name)?;
        match row.stack.origin {
            Origin::Registered => Ok(row),
            Origin::BuiltIn => {
                Err(StateError::BuiltIn { subject: Subject::Stack, name: row.stack.name, verb })
            }
        }
    }

    fn stack_row(&self, name: &str) -> Result<StackRow, StateError> {
        match self.stack_rows(&format!("{SELECT} WHERE s.name = ?1"), [name])?.pop() {
            Some(row) => Ok(row),
            None => Err(StateError::NotFound {
                subject: Subject::Stack,
                name: name.to_owned(),
                existing: self.stacks()?.into_iter().map(|stack| stack.name).collect(),
            }),
        }
    }

    fn stack_rows(&self, sql: &str, parameters: impl rusqlite::Params) -> Result<Vec<StackRow>, StateError> {
        let rows = self.query(sql, parameters, |row| {
            let texts: [String; 6] =
                [row.get(0)?, row.get(1)?, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?];
            let optional: [Option<String>; 2] = [row.get(7)?, row.get(8)?];
            Ok((texts, optional, row.get::<_, bool>(2)?))
        })?;
        rows.into_iter()
            .map(|(texts, [container_registry, image_builder], built_in)| {
                let [id, name, created, updated, orchestrator, artifact_store] = texts;
                let optional = |name: Option<String>| name.map(|name| self.name(&name)).transpose();
                let stack = RegisteredStack {
                    name: self.name(&name)?,
                    parts: Parts {
                        orchestrator: self.name(&orchestrator)?,
                        container_registry: optional(container_registry)?,
                        image_builder: optional(image_builder)?,
                        artifact_store: self.name(&artifact_store)?,
                    },
                    origin: origin(built_in),
                    created: self.timestamp(&created)?,
                    updated: self.timestamp(&updated)?,
                };
                Ok(StackRow { id, stack })
            })
            .collect()
    }
}

/// The column of a stack that names its component of that kind.
const fn column(kind: ComponentKind) -> &'static str {
    match kind {
        ComponentKind::Orchestrator => "orchestrator",
        ComponentKind::ContainerRegistry => "container_registry",
        ComponentKind::ImageBuilder => "image_builder",
        ComponentKind::ArtifactStore => "artifact_store",
    }
}
