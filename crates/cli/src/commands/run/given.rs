//! What the steps of a run elsewhere are given to reach their artifact store.

use std::{collections::BTreeMap, sync::Arc};

use longshore_auth::Secret;
use longshore_orchestrator::{GrantSource, Term};
use longshore_stack::{Name, OrchestratorFlavor, RemoteOrchestrator, RemoteStore, State, StoreGrant};

use crate::{args::run::RunArguments, context::Context, failure::Failure, runtime, services::ConnectedStore};

/// What steps are given; nothing where they have an identity of their own.
#[derive(Debug, Default)]
pub(super) struct Given {
    /// Environment variables that may be seen.
    pub(super) environment: BTreeMap<String, String>,
    /// Those that must not be.
    pub(super) secrets: BTreeMap<String, Secret>,
    /// How long that is good.
    pub(super) term: Option<Term>,
    /// Where more of it comes from.
    pub(super) renewal: Option<Arc<ConnectedStore>>,
}

/// The credentials of the connector that the store is connected to, where the orchestrator has a place for them. Who only asks
/// what would be submitted is shown the names of the variables, and nothing is got for it.
pub(super) fn to_steps(
    context: &Context,
    arguments: &RunArguments,
    state: &State,
    orchestrator: &RemoteOrchestrator,
    store: &RemoteStore,
) -> Result<Given, Failure> {
    let Some(connector) = &store.connector else { return Ok(Given::default()) };
    match orchestrator.flavor {
        OrchestratorFlavor::Kubernetes if arguments.build_only => Ok(Given::default()),
        OrchestratorFlavor::Kubernetes if arguments.dry_run => {
            let config = state.connector(connector.as_str())?;
            Ok(Given::of(StoreGrant::shown(store, connector.as_str(), &config)))
        }
        OrchestratorFlavor::Kubernetes => {
            let Some(connected) = ConnectedStore::open(context, state, store)? else {
                return Ok(Given::default());
            };
            let grant = runtime::block_on(async { Ok(connected.grant().await?) })?;
            let term = Some(Term::of_store(&store.uri, &grant));
            Ok(Given { term, renewal: Some(Arc::new(connected)), ..Given::of(grant) })
        }
        OrchestratorFlavor::Kubeflow => by_name(state, orchestrator, store, connector),
        // Their steps run as an identity that the service gives them, or take keys of Secrets that their settings name.
        OrchestratorFlavor::Vertex
        | OrchestratorFlavor::Sagemaker
        | OrchestratorFlavor::Azureml
        | OrchestratorFlavor::Airflow => Ok(Given::default()),
    }
}

impl Given {
    fn of(grant: StoreGrant) -> Self {
        Self { environment: grant.environment, secrets: grant.secrets, term: None, renewal: None }
    }
}

/// Variables whose values are in a Kubernetes Secret that somebody has made and the orchestrator names. That is a place for keys
/// that stay good.
fn by_name(
    state: &State,
    orchestrator: &RemoteOrchestrator,
    store: &RemoteStore,
    connector: &Name,
) -> Result<Given, Failure> {
    let config = state.connector(connector.as_str())?;
    let stays_good = config.method().name == "secret-key";
    let grant = StoreGrant::shown(store, connector.as_str(), &config);
    if stays_good && orchestrator.values.contains_key("secret") {
        return Ok(Given::of(grant));
    }
    let instead = if stays_good {
        let names: Vec<_> = grant.secrets.keys().map(String::as_str).collect();
        format!(
            "give them a Kubernetes Secret with {}, and name it with `longshore orchestrator update {} --secret=NAME`, or let \
             them have the identity of their service account",
            names.join(" and "),
            orchestrator.name
        )
    } else {
        "they have the identity of their service account".to_owned()
    };
    anstream::eprintln!(
        "note     the credentials of service connector `{connector}` for {} stay here, and steps do not get them: {instead}",
        store.uri
    );
    Ok(Given::default())
}
