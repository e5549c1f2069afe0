//! Stacks from and to files.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Selection, State, StateError};
use crate::{
    Component, ComponentKind, Configuration, Flavor, Name, Origin, RegisteredStack, StackFile,
    StackFileComponent, StackFileConnector, stack_file::VERSION,
};

impl State {
    /// A stack as a file.
    pub fn export_stack(&self, name: &str) -> Result<StackFile, StateError> {
        let stack = self.registered_stack(name)?;
        let mut components = BTreeMap::new();
        for kind in ComponentKind::ALL {
            let Some(name) = stack.parts.get(kind) else { continue };
            let component = self.component(kind, name.as_str())?;
            let connector = component.connector.as_ref().map(|name| {
                let connector = self.registered_connector(name.as_str())?;
                Ok::<_, StateError>(StackFileConnector {
                    name: name.to_string(),
                    connector_type: connector.connector_type.name().to_owned(),
                    auth_method: connector.method.name.to_owned(),
                })
            });
            let written = StackFileComponent {
                name: component.name.to_string(),
                flavor: component.flavor().as_str().to_owned(),
                configuration: component.values().clone(),
                connector: connector.transpose()?,
            };
            components.insert(kind.as_str().to_owned(), written);
        }
        Ok(StackFile { version: VERSION, stack: stack.name.to_string(), components })
    }

    /// Registers the stack of a file, under another name if one is given, and those of its components that do not exist
    /// here: all of it or nothing. A component that exists must be the same; service connectors must exist, since their
    /// secrets are not in the file.
    pub fn import_stack(&self, file: &StackFile, name: Option<&Name>) -> Result<RegisteredStack, StateError> {
        if file.version != VERSION {
            return Err(StateError::FileVersion { found: file.version });
        }
        let name = match name {
            Some(name) => name.clone(),
            None => file_name(&file.stack)?,
        };
        if let Some(kind) = file.components.keys().find(|kind| ComponentKind::named(kind).is_none()) {
            return Err(StateError::File(format!("there are no components of the kind `{kind}`")));
        }
        self.transaction(|| {
            let mut names: BTreeMap<&str, Name> = BTreeMap::new();
            for kind in ComponentKind::ALL {
                let Some(written) = file.components.get(kind.as_str()) else { continue };
                names.insert(kind.as_str(), self.import_component(kind, written)?);
            }
            let mut part = |kind: ComponentKind| names.remove(kind.as_str());
            let selection = Selection {
                orchestrator: part(ComponentKind::Orchestrator),
                container_registry: part(ComponentKind::ContainerRegistry),
                image_builder: part(ComponentKind::ImageBuilder),
                artifact_store: part(ComponentKind::ArtifactStore),
            };
            self.insert_stack(&name, &selection)
        })
    }

    fn import_component(
        &self,
        kind: ComponentKind,
        written: &StackFileComponent,
    ) -> Result<Name, StateError> {
        let name = file_name(&written.name)?;
        let flavor =
            Flavor::named(kind, &written.flavor).map_err(|error| StateError::File(error.to_string()))?;
        if let Some(here) = self.components(kind)?.into_iter().find(|component| component.name == name) {
            if here.flavor() == flavor && *here.values() == written.configuration {
                return Ok(name);
            }
            return Err(StateError::File(format!(
                "{kind} `{name}` exists here and is another: flavor {}, {:?}; rename one of them",
                here.flavor().as_str(),
                here.values()
            )));
        }
        let connector = match &written.connector {
            None => None,
            Some(connector) => {
                let connector_name = file_name(&connector.name)?;
                if !self.connectors()?.iter().any(|known| known.name == connector_name) {
                    return Err(StateError::File(format!(
                        "{kind} `{name}` is connected to service connector `{connector_name}`, which does not exist here, and \
                         its secrets are not in the file; register it first: `longshore service-connector register \
                         {connector_name} --type {} --auth-method {} …`",
                        connector.connector_type, connector.auth_method
                    )));
                }
                Some(connector_name)
            }
        };
        let now = Timestamp::now();
        let component = Component {
            name: name.clone(),
            configuration: Configuration::new(flavor, &written.configuration)?,
            connector,
            origin: Origin::Registered,
            created: now,
            updated: now,
        };
        self.insert_component(&component)?;
        Ok(name)
    }
}

fn file_name(name: &str) -> Result<Name, StateError> {
    name.parse().map_err(|error: crate::NameError| StateError::File(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NewComponent;

    fn state(folder: &tempfile::TempDir, name: &str) -> State {
        State::open(&folder.path().join(name)).unwrap()
    }

    fn register(state: &State, kind: ComponentKind, name: &str, flavor: &str, values: &[(&str, &str)]) {
        let values = values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let configuration = Configuration::new(Flavor::named(kind, flavor).unwrap(), &values).unwrap();
        let new = NewComponent { name: name.parse().unwrap(), configuration, connector: None };
        state.register_component(new, |_, _| Ok::<_, StateError>(())).unwrap();
    }

    fn with_stack(folder: &tempfile::TempDir) -> State {
        let state = state(folder, "a.db");
        register(&state, ComponentKind::Orchestrator, "prod", "kubernetes", &[("namespace", "ml")]);
        register(&state, ComponentKind::ContainerRegistry, "hub", "default", &[("uri", "ghcr.io/o")]);
        register(&state, ComponentKind::ArtifactStore, "bucket", "s3", &[("uri", "s3://b/p")]);
        let part = |name: &str| Some(name.parse::<Name>().unwrap());
        let selection = Selection {
            orchestrator: part("prod"),
            container_registry: part("hub"),
            image_builder: None,
            artifact_store: part("bucket"),
        };
        state.register_stack(&"cluster".parse().unwrap(), &selection).unwrap();
        state
    }

    #[test]
    fn a_stack_is_the_same_on_another_machine() {
        let folder = tempfile::tempdir().unwrap();
        let file = with_stack(&folder).export_stack("cluster").unwrap();
        let elsewhere = state(&folder, "b.db");
        elsewhere.import_stack(&file, None).unwrap();
        assert_eq!(elsewhere.export_stack("cluster").unwrap(), file);
        // Once more, under another name: the components are there already.
        elsewhere.import_stack(&file, Some(&"again".parse().unwrap())).unwrap();
        assert_eq!(elsewhere.components(ComponentKind::Orchestrator).unwrap().len(), 3);
    }

    #[test]
    fn a_file_that_does_not_fit_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = with_stack(&folder).export_stack("cluster").unwrap();
        let elsewhere = state(&folder, "b.db");
        register(&elsewhere, ComponentKind::ArtifactStore, "bucket", "s3", &[("uri", "s3://other/p")]);
        let error = elsewhere.import_stack(&file, None).unwrap_err().to_string();
        assert!(error.contains("artifact store `bucket` exists here and is another"), "{error}");
        assert!(elsewhere.component(ComponentKind::Orchestrator, "prod").is_err());

        let mut connected = file.clone();
        if let Some(bucket) = connected.components.get_mut("artifact-store") {
            bucket.name = "mine".to_owned();
            bucket.connector = Some(StackFileConnector {
                name: "aws".to_owned(),
                connector_type: "aws".to_owned(),
                auth_method: "secret-key".to_owned(),
            });
        }
        let error = elsewhere.import_stack(&connected, None).unwrap_err().to_string();
        assert!(
            error.contains("longshore service-connector register aws --type aws --auth-method secret-key"),
            "{error}"
        );
        assert!(elsewhere.component(ComponentKind::Orchestrator, "prod").is_err());

        let newer = StackFile { version: 2, ..file };
        assert!(matches!(elsewhere.import_stack(&newer, None), Err(StateError::FileVersion { found: 2 })));
    }
}
