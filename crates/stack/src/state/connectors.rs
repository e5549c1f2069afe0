//! Service connectors, and their sealed secrets.

use std::collections::BTreeMap;

use jiff::Timestamp;
use longshore_auth::{
    Secret,
    connector::{Config, ConnectorType, Method},
};
use rusqlite::params;
use uuid::Uuid;

use super::{State, StateError, Subject};
use crate::{
    Component, Name,
    seal::{Absent, Place, SealingKey},
};

/// A service connector to register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewConnector {
    /// Its name.
    pub name: Name,
    /// Its type, method and values.
    pub config: Config,
}

/// A registered service connector, as it can be shown: its secrets stay sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredConnector {
    /// Its name.
    pub name: Name,
    /// Whose credentials it has.
    pub connector_type: ConnectorType,
    /// How it authenticates.
    pub method: &'static Method,
    /// The values that may be shown.
    pub plain: BTreeMap<String, String>,
    /// The fields that have secrets.
    pub secrets: Vec<String>,
    /// When it was registered.
    pub created: Timestamp,
    /// When it was changed last.
    pub updated: Timestamp,
}

const SELECT: &str = "SELECT id, name, type, method, plain, created, updated FROM connector";

impl State {
    /// The service connectors, by name.
    pub fn connectors(&self) -> Result<Vec<RegisteredConnector>, StateError> {
        let rows = self.connector_rows(&format!("{SELECT} ORDER BY name"), [])?;
        Ok(rows.into_iter().map(|(_, connector)| connector).collect())
    }

    /// The service connector of that name, without its secrets.
    pub fn registered_connector(&self, name: &str) -> Result<RegisteredConnector, StateError> {
        Ok(self.connector_row(name)?.1)
    }

    /// The configuration of the service connector of that name, its secrets opened.
    pub fn connector(&self, name: &str) -> Result<Config, StateError> {
        let (id, connector) = self.connector_row(name)?;
        let sealed = self.query("SELECT field, sealed FROM secret WHERE connector = ?1", [&id], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?))
        })?;
        let mut secrets = BTreeMap::new();
        if !sealed.is_empty() {
            let key = SealingKey::open(&self.key_file(), Absent::Refuse)?;
            for (field, sealed) in sealed {
                let place = Place { row: &id, name, field: &field };
                let secret: Secret = key.open_value(place, &sealed)?;
                secrets.insert(field, secret);
            }
        }
        Config::restore(connector.connector_type, connector.method.name, connector.plain, secrets)
            .map_err(|error| self.damaged(&format!("service connector {name}: {error}")))
    }

    /// Registers a service connector once `verify` has found that it works. Nothing is locked meanwhile, and nothing
    /// is stored if it fails.
    pub fn register_connector<E: From<StateError>>(
        &self,
        new: &NewConnector,
        verify: impl FnOnce(&Config) -> Result<(), E>,
    ) -> Result<(), E> {
        self.check_connector_name(&new.name)?;
        verify(&new.config)?;
        Ok(self.transaction(|| {
            self.check_connector_name(&new.name)?;
            let id = Uuid::now_v7().to_string();
            self.execute(
                "INSERT INTO connector VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)",
                params![
                    id,
                    new.name.as_str(),
                    new.config.connector_type().name(),
                    new.config.method().name,
                    self.json(&new.config.plain())?,
                    Timestamp::now().to_string(),
                ],
            )?;
            self.seal(&id, &new.name, &new.config)
        })?)
    }

    /// Gives a service connector another configuration, once `verify` has found that it and the components that are
    /// connected to it work.
    pub fn update_connector<E: From<StateError>>(
        &self,
        name: &str,
        config: &Config,
        verify: impl FnOnce(&Config, &[Component]) -> Result<(), E>,
    ) -> Result<(), E> {
        let before = self.connector_row(name)?;
        let users = self.components_connected_to(name)?;
        if let Some(user) =
            users.iter().find(|user| !user.flavor().connectors().contains(&config.connector_type()))
        {
            return Err(E::from(StateError::WrongConnector {
                component: user.name.clone(),
                flavor: user.flavor(),
                connector: before.1.name,
                connector_type: config.connector_type(),
            }));
        }
        verify(config, &users)?;
        Ok(self.transaction(|| {
            let changed = |subject, name: &Name| StateError::Changed { subject, name: name.clone() };
            if self.connector_row(name)? != before {
                return Err(changed(Subject::Connector, &before.1.name));
            }
            let users_now = self.components_connected_to(name)?;
            if let Some(user) = users_now.iter().find(|user| !users.contains(user)) {
                return Err(changed(Subject::Component(user.kind()), &user.name));
            }
            let id = &before.0;
            self.execute(
                "UPDATE connector SET type = ?2, method = ?3, plain = ?4, updated = ?5 WHERE id = ?1",
                params![
                    id,
                    config.connector_type().name(),
                    config.method().name,
                    self.json(&config.plain())?,
                    Timestamp::now().to_string(),
                ],
            )?;
            self.execute("DELETE FROM secret WHERE connector = ?1", [id])?;
            self.seal(id, &before.1.name, config)
        })?)
    }

    /// Renames a service connector. What is connected to it stays connected.
    pub fn rename_connector(&self, name: &str, new: &Name) -> Result<(), StateError> {
        self.transaction(|| {
            let (id, connector) = self.connector_row(name)?;
            if connector.name == *new {
                return Ok(());
            }
            self.check_connector_name(new)?;
            self.execute(
                "UPDATE connector SET name = ?2, updated = ?3 WHERE id = ?1",
                params![id, new.as_str(), Timestamp::now().to_string()],
            )
        })
    }

    /// Deletes a service connector that no component is connected to.
    pub fn delete_connector(&self, name: &str) -> Result<(), StateError> {
        self.transaction(|| {
            let (id, connector) = self.connector_row(name)?;
            let users = self.components_connected_to(name)?;
            if let Some(first) = users.first() {
                return Err(StateError::InUse {
                    subject: Subject::Connector,
                    name: connector.name,
                    users: users.iter().map(|user| format!("{} `{}`", user.kind(), user.name)).collect(),
                    remedy: format!(
                        "disconnect it with `longshore {} disconnect {}`",
                        first.kind().as_str(),
                        first.name
                    ),
                });
            }
            self.execute("DELETE FROM connector WHERE id = ?1", [id])
        })
    }

    pub(super) fn connector_id(&self, name: Option<&Name>) -> Result<Option<String>, StateError> {
        name.map(|name| Ok(self.connector_row(name.as_str())?.0)).transpose()
    }

    fn connector_row(&self, name: &str) -> Result<(String, RegisteredConnector), StateError> {
        match self.connector_rows(&format!("{SELECT} WHERE name = ?1"), [name])?.pop() {
            Some(row) => Ok(row),
            None => Err(StateError::NotFound {
                subject: Subject::Connector,
                name: name.to_owned(),
                existing: self.connectors()?.into_iter().map(|connector| connector.name).collect(),
            }),
        }
    }

    fn connector_rows(
        &self,
        sql: &str,
        parameters: impl rusqlite::Params,
    ) -> Result<Vec<(String, RegisteredConnector)>, StateError> {
        let rows = self.query(sql, parameters, |row| {
            let texts: [String; 7] =
                [row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?];
            Ok(texts)
        })?;
        rows.into_iter()
            .map(|[id, name, connector_type, method, plain, created, updated]| {
                let connector_type: ConnectorType =
                    connector_type.parse().map_err(|error| self.damaged(&error))?;
                let secrets = self.query(
                    "SELECT field FROM secret WHERE connector = ?1 ORDER BY field",
                    [&id],
                    |row| row.get(0),
                )?;
                let connector = RegisteredConnector {
                    name: self.name(&name)?,
                    connector_type,
                    method: connector_type.method(&method).map_err(|error| self.damaged(&error))?,
                    plain: serde_json::from_str(&plain).map_err(|error| self.damaged(&error))?,
                    secrets,
                    created: self.timestamp(&created)?,
                    updated: self.timestamp(&updated)?,
                };
                Ok((id, connector))
            })
            .collect()
    }

    fn check_connector_name(&self, name: &Name) -> Result<(), StateError> {
        if self.connector_rows(&format!("{SELECT} WHERE name = ?1"), [name.as_str()])?.is_empty() {
            Ok(())
        } else {
            Err(StateError::Taken { subject: Subject::Connector, name: name.clone() })
        }
    }

    /// Seals the secrets of a connector into its rows. Within a transaction: no other process seals its first secret
    /// meanwhile.
    fn seal(&self, id: &str, name: &Name, config: &Config) -> Result<(), StateError> {
        let secrets = config.secrets();
        if secrets.is_empty() {
            return Ok(());
        }
        let sealed = self.query("SELECT 1 FROM secret LIMIT 1", [], |_| Ok(()))?;
        let absent = if sealed.is_empty() { Absent::Create } else { Absent::Refuse };
        let key = SealingKey::open(&self.key_file(), absent)?;
        for (field, secret) in secrets {
            let sealed = key.seal(Place { row: id, name: name.as_str(), field }, secret)?;
            self.execute("INSERT INTO secret VALUES (?1, ?2, ?3)", params![id, field, sealed])?;
        }
        Ok(())
    }
}
