//! Components.

use jiff::Timestamp;
use longshore_auth::connector::Config;
use rusqlite::{OptionalExtension, Row, params};
use uuid::Uuid;

use super::{State, StateError, Subject, origin};
use crate::{Component, ComponentKind, Configuration, Flavor, Name, Origin, Values};

/// A component to register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewComponent {
    /// Its name.
    pub name: Name,
    /// Its flavor and values.
    pub configuration: Configuration,
    /// The service connector that it is connected to.
    pub connector: Option<Name>,
}

/// A component with its identity.
pub(super) struct ComponentRow {
    pub(super) id: String,
    pub(super) component: Component,
}

const SELECT: &str =
    "SELECT c.id, c.kind, c.name, c.flavor, c.configuration, n.name, c.built_in, c.created, c.updated
    FROM component c LEFT JOIN connector n ON n.id = c.connector";

impl State {
    /// The components of a kind, those that are built in first, then by name.
    pub fn components(&self, kind: ComponentKind) -> Result<Vec<Component>, StateError> {
        let rows = self.component_rows(
            &format!("{SELECT} WHERE c.kind = ?1 ORDER BY c.built_in DESC, c.name"),
            [kind.as_str()],
        )?;
        Ok(rows.into_iter().map(|row| row.component).collect())
    }

    /// The component of that kind and name.
    pub fn component(&self, kind: ComponentKind, name: &str) -> Result<Component, StateError> {
        Ok(self.component_row(kind, name)?.component)
    }

    /// Registers a component once `verify` has found that it works. `verify` is given the component and the
    /// configuration of its connector; nothing is locked meanwhile, and nothing is stored if it fails.
    pub fn register_component<E: From<StateError>>(
        &self,
        new: NewComponent,
        verify: impl FnOnce(&Component, Option<&Config>) -> Result<(), E>,
    ) -> Result<Component, E> {
        let now = Timestamp::now();
        let component = Component {
            name: new.name,
            configuration: new.configuration,
            connector: new.connector,
            origin: Origin::Registered,
            created: now,
            updated: now,
        };
        self.check_free(&component)?;
        self.verified(&component, verify, || self.insert_component(&component))?;
        Ok(component)
    }

    /// Writes a new component; within a transaction.
    pub(super) fn insert_component(&self, component: &Component) -> Result<(), StateError> {
        self.check_free(component)?;
        let connector = self.connector_id(component.connector.as_ref())?;
        self.execute(
            "INSERT INTO component (id, kind, name, flavor, configuration, connector, built_in, created, updated)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, ?7, ?7)",
            params![
                Uuid::now_v7().to_string(),
                component.kind().as_str(),
                component.name.as_str(),
                component.flavor().as_str(),
                self.json(component.values())?,
                connector,
                component.created.to_string(),
            ],
        )
    }

    /// Gives some of a component's values anew, once `verify` has found that it works with them.
    pub fn update_component<E: From<StateError>>(
        &self,
        kind: ComponentKind,
        name: &str,
        changes: &Values,
        verify: impl FnOnce(&Component, Option<&Config>) -> Result<(), E>,
    ) -> Result<Component, E> {
        let row = self.changeable(kind, name, "updated")?;
        let configuration =
            row.component.configuration.with(changes).map_err(|error| E::from(StateError::from(error)))?;
        self.change(&row, Component { configuration, ..row.component.clone() }, verify)
    }

    /// Connects a component to a service connector, once `verify` has found that it works with it.
    pub fn connect_component<E: From<StateError>>(
        &self,
        kind: ComponentKind,
        name: &str,
        connector: Name,
        verify: impl FnOnce(&Component, Option<&Config>) -> Result<(), E>,
    ) -> Result<Component, E> {
        let row = self.changeable(kind, name, "connected")?;
        self.change(&row, Component { connector: Some(connector), ..row.component.clone() }, verify)
    }

    /// Disconnects a component from its service connector. Which one that was, if there was one.
    pub fn disconnect_component(&self, kind: ComponentKind, name: &str) -> Result<Option<Name>, StateError> {
        let row = self.changeable(kind, name, "disconnected")?;
        let before = row.component.connector.clone();
        self.change::<StateError>(&row, Component { connector: None, ..row.component.clone() }, |_, _| {
            Ok(())
        })?;
        Ok(before)
    }

    /// Renames a component. What uses it goes on to.
    pub fn rename_component(&self, kind: ComponentKind, name: &str, new: &Name) -> Result<(), StateError> {
        self.transaction(|| {
            let row = self.changeable(kind, name, "renamed")?;
            if row.component.name == *new {
                return Ok(());
            }
            self.check_free(&Component { name: new.clone(), ..row.component })?;
            self.execute(
                "UPDATE component SET name = ?2, updated = ?3 WHERE id = ?1",
                params![row.id, new.as_str(), Timestamp::now().to_string()],
            )
        })
    }

    /// Deletes a component that no stack uses.
    pub fn delete_component(&self, kind: ComponentKind, name: &str) -> Result<(), StateError> {
        self.transaction(|| {
            let row = self.changeable(kind, name, "deleted")?;
            let stacks = self.stacks_using(kind, &row.id)?;
            if let Some(first) = stacks.first() {
                return Err(StateError::InUse {
                    subject: Subject::Component(kind),
                    name: row.component.name,
                    users: stacks.iter().map(|stack| format!("stack `{stack}`")).collect(),
                    remedy: format!(
                        "give it another with `longshore stack update {first} --{kind_option} …`, or delete it",
                        kind_option = kind.as_str()
                    ),
                });
            }
            self.execute("DELETE FROM component WHERE id = ?1", [row.id])
        })
    }

    /// The names of the stacks that a component is part of.
    pub fn stacks_with(&self, kind: ComponentKind, name: &str) -> Result<Vec<Name>, StateError> {
        self.stacks_using(kind, &self.component_row(kind, name)?.id)
    }

    /// The components that are connected to a service connector.
    pub fn components_connected_to(&self, connector: &str) -> Result<Vec<Component>, StateError> {
        let rows =
            self.component_rows(&format!("{SELECT} WHERE n.name = ?1 ORDER BY c.kind, c.name"), [connector])?;
        Ok(rows.into_iter().map(|row| row.component).collect())
    }

    pub(super) fn component_row(&self, kind: ComponentKind, name: &str) -> Result<ComponentRow, StateError> {
        let mut rows = self
            .component_rows(&format!("{SELECT} WHERE c.kind = ?1 AND c.name = ?2"), [kind.as_str(), name])?;
        match rows.pop() {
            Some(row) => Ok(row),
            None => Err(StateError::NotFound {
                subject: Subject::Component(kind),
                name: name.to_owned(),
                existing: self.component_names(kind)?,
            }),
        }
    }

    pub(super) fn component_names(&self, kind: ComponentKind) -> Result<Vec<Name>, StateError> {
        Ok(self.components(kind)?.into_iter().map(|component| component.name).collect())
    }

    /// Stores a changed component once it is verified.
    fn change<E: From<StateError>>(
        &self,
        before: &ComponentRow,
        changed: Component,
        verify: impl FnOnce(&Component, Option<&Config>) -> Result<(), E>,
    ) -> Result<Component, E> {
        let changed = Component { updated: Timestamp::now(), ..changed };
        self.verified(&changed, verify, || {
            let kind = changed.kind();
            let now = self.component_row(kind, changed.name.as_str())?;
            if now.id != before.id || now.component != before.component {
                return Err(StateError::Changed {
                    subject: Subject::Component(kind),
                    name: changed.name.clone(),
                });
            }
            self.execute(
                "UPDATE component SET configuration = ?2, connector = ?3, updated = ?4 WHERE id = ?1",
                params![
                    now.id,
                    self.json(changed.values())?,
                    self.connector_id(changed.connector.as_ref())?,
                    changed.updated.to_string(),
                ],
            )
        })?;
        Ok(changed)
    }

    /// Verifies a component with the connector that it is to have, then stores it, if the connector is still the same.
    fn verified<E: From<StateError>>(
        &self,
        component: &Component,
        verify: impl FnOnce(&Component, Option<&Config>) -> Result<(), E>,
        store: impl FnOnce() -> Result<(), StateError>,
    ) -> Result<(), E> {
        let Some(name) = &component.connector else {
            verify(component, None)?;
            return Ok(self.transaction(store)?);
        };
        let before = self.registered_connector(name.as_str())?;
        if !component.flavor().connectors().contains(&before.connector_type) {
            return Err(E::from(StateError::WrongConnector {
                component: component.name.clone(),
                flavor: component.flavor(),
                connector: name.clone(),
                connector_type: before.connector_type,
            }));
        }
        verify(component, Some(&self.connector(name.as_str())?))?;
        Ok(self.transaction(|| {
            if self.registered_connector(name.as_str())? == before {
                store()
            } else {
                Err(StateError::Changed { subject: Subject::Connector, name: name.clone() })
            }
        })?)
    }

    /// A component that is not built in.
    fn changeable(
        &self,
        kind: ComponentKind,
        name: &str,
        verb: &'static str,
    ) -> Result<ComponentRow, StateError> {
        let row = self.component_row(kind, name)?;
        match row.component.origin {
            Origin::Registered => Ok(row),
            Origin::BuiltIn => {
                Err(StateError::BuiltIn { subject: Subject::Component(kind), name: row.component.name, verb })
            }
        }
    }

    fn check_free(&self, component: &Component) -> Result<(), StateError> {
        let taken = self
            .connection
            .query_row(
                "SELECT 1 FROM component WHERE kind = ?1 AND name = ?2",
                [component.kind().as_str(), component.name.as_str()],
                |_| Ok(()),
            )
            .optional()
            .map_err(|source| self.sqlite(source))?;
        match taken {
            None => Ok(()),
            Some(()) => Err(StateError::Taken {
                subject: Subject::Component(component.kind()),
                name: component.name.clone(),
            }),
        }
    }

    fn component_rows(
        &self,
        sql: &str,
        parameters: impl rusqlite::Params,
    ) -> Result<Vec<ComponentRow>, StateError> {
        self.query(sql, parameters, columns)?
            .into_iter()
            .map(|stored| {
                let [id, kind, name, flavor, configuration, created, updated] = stored.texts;
                let kind = ComponentKind::named(&kind)
                    .ok_or_else(|| self.damaged(&format!("component kind {kind}")))?;
                let flavor = Flavor::named(kind, &flavor).map_err(|error| self.damaged(&error))?;
                let values = serde_json::from_str(&configuration).map_err(|error| self.damaged(&error))?;
                let component = Component {
                    name: self.name(&name)?,
                    configuration: Configuration::stored(flavor, values),
                    connector: stored.connector.map(|name| self.name(&name)).transpose()?,
                    origin: origin(stored.built_in),
                    created: self.timestamp(&created)?,
                    updated: self.timestamp(&updated)?,
                };
                Ok(ComponentRow { id, component })
            })
            .collect()
    }

    pub(super) fn json(&self, value: &impl serde::Serialize) -> Result<String, StateError> {
        serde_json::to_string(value).map_err(|error| self.damaged(&error))
    }
}

/// A row as it is stored: the columns that are never null, but for `built_in`, and the two others.
struct Stored {
    texts: [String; 7],
    connector: Option<String>,
    built_in: bool,
}

fn columns(row: &Row<'_>) -> rusqlite::Result<Stored> {
    Ok(Stored {
        texts: [row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(7)?, row.get(8)?],
        connector: row.get(5)?,
        built_in: row.get(6)?,
    })
}
