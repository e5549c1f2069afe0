//! Components, service connectors and stacks in the database, as the program above uses it.
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use std::{collections::BTreeMap, fs, path::Path};

use longshore_auth::connector::{Config, ConnectorType};
use longshore_stack::{
    Component, ComponentKind, Configuration, ContainerRegistry, Flavor, Name, NewComponent, NewConnector,
    Orchestrator, Origin, RegistryFlavor, Selection, State, StateError, Values,
};

const REGISTRY: ComponentKind = ComponentKind::ContainerRegistry;

/// What a verification says in these tests.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("the registry says no")]
    Refused,
}

struct Machine {
    folder: tempfile::TempDir,
    state: State,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(&folder.path().join("state.db")).unwrap();
        Self { folder, state }
    }

    fn connector(&self, name: &str, password: &str) {
        self.state.register_connector(&new_connector(name, password), |_| Ok::<_, StateError>(())).unwrap();
    }

    fn registry(&self, name: &str, connector: Option<&str>) -> Result<Component, StateError> {
        self.state.register_component(hub(name, connector), |_, _| Ok(()))
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read_dir(self.folder.path())
            .unwrap()
            .flat_map(|entry| fs::read(entry.unwrap().path()).unwrap())
            .collect()
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn values(pairs: &[(&str, &str)]) -> Values {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn config(password: &str) -> Config {
    Config::new(ConnectorType::Docker, "password", values(&[("username", "me"), ("password", password)]))
        .unwrap()
}

fn new_connector(text: &str, password: &str) -> NewConnector {
    NewConnector { name: name(text), config: config(password) }
}

fn hub(text: &str, connector: Option<&str>) -> NewComponent {
    let flavor = Flavor::Registry(RegistryFlavor::Dockerhub);
    let configuration = Configuration::new(flavor, &values(&[("uri", "docker.io/me")])).unwrap();
    NewComponent { name: name(text), configuration, connector: connector.map(name) }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn a_fresh_machine_has_what_it_needs() {
    let Machine { state, .. } = &Machine::new();
    let stacks = state.stacks().unwrap();
    assert_eq!(stacks.iter().map(|stack| stack.name.as_str()).collect::<Vec<_>>(), ["default", "local"]);
    let active = state.active_stack().unwrap();
    assert_eq!(
        (active.name.as_str(), active.orchestrator),
        ("default", Orchestrator::LocalContainer { max_parallelism: None })
    );
    assert_eq!(active.container_registry, Some(ContainerRegistry::Embedded));
    assert_eq!(state.stack("local").unwrap().orchestrator, Orchestrator::Local { max_parallelism: None });
    for kind in ComponentKind::ALL {
        assert!(state.components(kind).unwrap().iter().all(|part| part.origin == Origin::BuiltIn));
    }
}

#[test]
fn what_is_built_in_stays() {
    let Machine { state, .. } = &Machine::new();
    let said = [
        state.delete_component(REGISTRY, "embedded").unwrap_err(),
        state.rename_component(REGISTRY, "embedded", &name("x")).unwrap_err(),
        state.disconnect_component(REGISTRY, "embedded").unwrap_err(),
        state.delete_stack("default").unwrap_err(),
        state.rename_stack("local", &name("x")).unwrap_err(),
        state.update_stack("default", &Selection::default()).unwrap_err(),
    ];
    for error in said {
        assert!(error.to_string().contains("is built in and cannot be"), "{error}");
    }
}

#[test]
fn a_component_is_stored_once_it_is_verified() {
    let machine = Machine::new();
    machine.connector("c", "hunter2");
    let refused: Result<_, Failure> =
        machine.state.register_component(hub("hub", Some("c")), |component, config| {
            assert_eq!(component.connector, Some(name("c")));
            assert_eq!(config.unwrap().secrets()["password"].expose(), "hunter2");
            Err(Failure::Refused)
        });
    assert!(matches!(refused, Err(Failure::Refused)));
    assert_eq!(machine.state.components(REGISTRY).unwrap().len(), 1);
    let registered = machine.registry("hub", Some("c")).unwrap();
    assert_eq!(machine.state.component(REGISTRY, "hub").unwrap(), registered);
}

#[test]
fn a_connector_is_stored_once_it_is_verified() {
    let machine = Machine::new();
    let refused = machine.state.register_connector(&new_connector("c", "hunter2"), |_| Err(Failure::Refused));
    assert!(matches!(refused, Err(Failure::Refused)));
    assert!(machine.state.connectors().unwrap().is_empty());
    assert_eq!(
        fs::read_dir(machine.folder.path())
            .unwrap()
            .filter(|entry| { entry.as_ref().unwrap().file_name() == "secrets.key" })
            .count(),
        0
    );
}

#[test]
fn nothing_is_locked_while_something_is_verified() {
    let machine = Machine::new();
    let path = machine.folder.path().join("state.db");
    let other = State::open(&path).unwrap();
    let outcome: Result<_, StateError> = machine.state.register_component(hub("mine", None), |_, _| {
        other.register_component(hub("theirs", None), |_, _| Ok(())).map(drop)
    });
    outcome.unwrap();
    assert_eq!(machine.state.components(REGISTRY).unwrap().len(), 3);
}

#[test]
fn a_name_that_was_taken_meanwhile_stays_with_who_was_first() {
    let machine = Machine::new();
    let other = State::open(&machine.folder.path().join("state.db")).unwrap();
    let outcome: Result<_, StateError> = machine.state.register_component(hub("x", None), |_, _| {
        other.register_component(hub("x", None), |_, _| Ok(())).map(drop)
    });
    assert!(matches!(outcome, Err(StateError::Taken { .. })));
}

#[test]
fn a_connector_that_was_changed_meanwhile_is_verified_again() {
    let machine = Machine::new();
    machine.connector("c", "old");
    let other = State::open(&machine.folder.path().join("state.db")).unwrap();
    let outcome: Result<_, StateError> = machine.state.register_component(hub("x", Some("c")), |_, _| {
        other.update_connector("c", &config("new"), |_, _| Ok(()))
    });
    assert!(matches!(outcome, Err(StateError::Changed { .. })), "{outcome:?}");
    assert_eq!(machine.state.components(REGISTRY).unwrap().len(), 1);
}

#[test]
fn secrets_are_sealed_and_opened_again() {
    let machine = Machine::new();
    machine.connector("c", "hunter2-is-long-enough");
    assert_eq!(machine.state.connector("c").unwrap(), config("hunter2-is-long-enough"));
    assert!(!contains(&machine.bytes(), "hunter2"));
    let shown = machine.state.registered_connector("c").unwrap();
    assert_eq!((shown.plain, shown.secrets), (values(&[("username", "me")]), vec!["password".to_owned()]));
    machine.state.update_connector("c", &config("another-secret"), |_, _| Ok::<_, StateError>(())).unwrap();
    assert_eq!(machine.state.connector("c").unwrap(), config("another-secret"));
    assert!(!contains(&machine.bytes(), "another-secret"));
}

#[test]
fn a_secret_cannot_be_moved_to_another_connector() {
    let machine = Machine::new();
    machine.connector("mine", "mine-secret");
    machine.connector("theirs", "their-secret");
    let database = rusqlite::Connection::open(machine.folder.path().join("state.db")).unwrap();
    let moved =
        "UPDATE secret SET sealed = (SELECT s.sealed FROM secret s JOIN connector c ON c.id = s.connector
        WHERE c.name = 'theirs')";
    database.execute(moved, []).unwrap();
    let error = machine.state.connector("mine").unwrap_err();
    assert!(
        error.to_string().starts_with("`password` of service connector `mine` was changed outside"),
        "{error}"
    );
    machine.state.connector("theirs").unwrap();
}

#[test]
fn without_its_key_nothing_is_opened_and_no_other_key_is_made() {
    let machine = Machine::new();
    machine.connector("c", "hunter2");
    let key = machine.folder.path().join("secrets.key");
    fs::remove_file(&key).unwrap();
    let said = |result: Result<(), StateError>| result.unwrap_err().to_string();
    let missing = format!("the key {}", key.display());
    assert!(said(machine.state.connector("c").map(drop)).starts_with(&missing));
    let new = new_connector("d", "x");
    assert!(said(machine.state.register_connector(&new, |_| Ok(()))).starts_with(&missing));
    assert!(!Path::new(&key).exists());
    assert_eq!(machine.state.connectors().unwrap().len(), 1);
    machine.state.delete_connector("c").unwrap();
    machine.connector("d", "x");
}

#[test]
fn what_is_used_is_not_deleted() {
    let machine = Machine::new();
    machine.connector("c", "x");
    machine.registry("hub", Some("c")).unwrap();
    let selection = Selection { container_registry: Some(name("hub")), ..Selection::default() };
    machine.state.register_stack(&name("prod"), &selection).unwrap();
    assert_eq!(
        machine.state.delete_connector("c").unwrap_err().to_string(),
        "service connector `c` is used by container registry `hub`; disconnect it with `longshore \
         container-registry disconnect hub`"
    );
    assert_eq!(
        machine.state.delete_component(REGISTRY, "hub").unwrap_err().to_string(),
        "container registry `hub` is used by stack `prod`; give it another with `longshore stack update prod \
         --container-registry …`, or delete it"
    );
    machine.state.set_active_stack("prod").unwrap();
    assert!(
        machine.state.delete_stack("prod").unwrap_err().to_string().contains("longshore stack set default")
    );
    machine.state.set_active_stack("default").unwrap();
    machine.state.delete_stack("prod").unwrap();
    machine.state.delete_component(REGISTRY, "hub").unwrap();
    machine.state.delete_connector("c").unwrap();
}

#[test]
fn renaming_keeps_what_belongs_together() {
    let machine = Machine::new();
    machine.connector("c", "x");
    machine.registry("hub", Some("c")).unwrap();
    let selection = Selection { container_registry: Some(name("hub")), ..Selection::default() };
    machine.state.register_stack(&name("prod"), &selection).unwrap();
    machine.state.set_active_stack("prod").unwrap();
    machine.state.rename_connector("c", &name("connector")).unwrap();
    machine.state.rename_component(REGISTRY, "hub", &name("docker-hub")).unwrap();
    machine.state.rename_stack("prod", &name("production")).unwrap();
    let active = machine.state.active_stack().unwrap();
    let Some(ContainerRegistry::Remote(registry)) = active.container_registry else { panic!() };
    assert_eq!((active.name.as_str(), registry.name.as_str()), ("production", "docker-hub"));
    assert_eq!(registry.connector, Some(name("connector")));
    assert_eq!(machine.state.connector("connector").unwrap(), config("x"));
    assert_eq!(machine.state.stacks_with(REGISTRY, "docker-hub").unwrap(), [name("production")]);
}

#[test]
fn names_are_unique_among_their_kind() {
    let machine = Machine::new();
    machine.registry("x", None).unwrap();
    machine.registry("y", None).unwrap();
    assert_eq!(
        machine.registry("x", None).unwrap_err().to_string(),
        "a container registry named `x` exists already; choose another name, or change it with `longshore \
         container-registry update x`"
    );
    assert!(matches!(
        machine.state.rename_component(REGISTRY, "x", &name("y")),
        Err(StateError::Taken { .. })
    ));
    assert!(matches!(machine.registry("embedded", None), Err(StateError::Taken { .. })));
}

#[test]
fn what_does_not_exist_is_answered_with_what_does() {
    let machine = Machine::new();
    machine.connector("hub_connector", "x");
    for (error, text) in [
        (
            machine.state.stack("prod").unwrap_err(),
            "there is no stack named `prod`; there are: default, local",
        ),
        (
            machine.state.component(REGISTRY, "embeded").unwrap_err(),
            "there is no container registry named `embeded`; there are: embedded",
        ),
        (
            machine.registry("x", Some("hub_conector")).unwrap_err(),
            "there is no service connector named `hub_conector`; there are: hub_connector",
        ),
    ] {
        assert_eq!(error.to_string(), text);
    }
    machine.state.delete_connector("hub_connector").unwrap();
    assert_eq!(
        machine.state.connector("x").unwrap_err().to_string(),
        "there is no service connector named `x`; register one with `longshore service-connector register x …`"
    );
}

#[test]
fn a_registry_takes_credentials_of_its_own_cloud() {
    let machine = Machine::new();
    let keys = values(&[("aws_access_key_id", "AKIA"), ("aws_secret_access_key", "s")]);
    let config = Config::new(ConnectorType::Aws, "secret-key", keys).unwrap();
    let new = NewConnector { name: name("aws"), config };
    machine.state.register_connector(&new, |_| Ok::<_, StateError>(())).unwrap();
    assert_eq!(
        machine.registry("hub", Some("aws")).unwrap_err().to_string(),
        "service connector `aws` is of type aws, and container registry `hub` (flavor dockerhub) takes one of: docker"
    );
}

#[test]
fn a_stack_has_what_its_orchestrator_needs() {
    let Machine { state, .. } = &Machine::new();
    let error = state.register_stack(&name("prod"), &Selection::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "stack `prod` needs a container registry: orchestrator `local_container` (flavor local_container) runs steps \
         in containers; add --container-registry, one of: embedded"
    );
    let local = Selection { orchestrator: Some(name("local")), ..Selection::default() };
    let stack = state.register_stack(&name("here"), &local).unwrap();
    assert_eq!(stack.parts.container_registry, None);
    let to_containers = Selection { orchestrator: Some(name("local_container")), ..Selection::default() };
    assert!(matches!(state.update_stack("here", &to_containers), Err(StateError::Lacks { .. })));
    let with_registry = Selection { container_registry: Some(name("embedded")), ..to_containers };
    let stack = state.update_stack("here", &with_registry).unwrap();
    assert_eq!(stack.parts.image_builder, Some(name("local")));
    let copy = state.copy_stack("here", &name("there")).unwrap();
    assert_eq!(copy.parts, stack.parts);
}

#[test]
fn values_change_one_by_one() {
    let machine = Machine::new();
    machine.registry("hub", None).unwrap();
    let verified = |component: &Component, config: Option<&Config>| {
        assert_eq!((component.values()["uri"].as_str(), config), ("docker.io/other", None));
        Ok::<_, StateError>(())
    };
    let changes = values(&[("uri", "index.docker.io/other")]);
    machine.state.update_component(REGISTRY, "hub", &changes, verified).unwrap();
    let refused =
        machine.state.update_component(REGISTRY, "hub", &values(&[("uri", "gcr.io/p")]), |_, _| Ok(()));
    assert!(matches!(refused, Err(StateError::Configuration(_))));
    assert_eq!(
        machine.state.component(REGISTRY, "hub").unwrap().values(),
        &values(&[("uri", "docker.io/other")])
    );
    let all: BTreeMap<_, _> = values(&[("default_repository", "team")]);
    machine.state.update_component(REGISTRY, "hub", &all, |_, _| Ok::<_, StateError>(())).unwrap();
    assert_eq!(machine.state.component(REGISTRY, "hub").unwrap().values().len(), 2);
}
