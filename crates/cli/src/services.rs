//! Which crate talks to an orchestrator elsewhere, and what its steps are given to reach their artifact store.

use std::sync::Arc;

use futures::{FutureExt as _, future::BoxFuture};
use longshore_airflow::{Airflow, Dags, Place};
use longshore_auth::{
    AuthError,
    connector::{Connector, ConnectorType},
};
use longshore_azureml::AzureMl;
use longshore_kubeflow::Kubeflow;
use longshore_kubernetes::Kubernetes;
use longshore_oci::Reference;
use longshore_orchestrator::{GrantSource, Service};
use longshore_sagemaker::SageMaker;
use longshore_stack::{
    OrchestratorFlavor, RemoteOrchestrator, RemoteStore, State, StoreGrant, connector, store_connector,
};
use longshore_vertex::Vertex;

use crate::{context::Context, failure::Failure};

/// An artifact store, with the service connector that it is connected to.
#[derive(Debug)]
pub(crate) struct ConnectedStore {
    store: RemoteStore,
    connector: Connector,
}

impl ConnectedStore {
    /// A store, if it is connected to a connector.
    pub(crate) fn open(
        context: &Context,
        state: &State,
        store: &RemoteStore,
    ) -> Result<Option<Self>, Failure> {
        let (web, hosts) = context.network()?;
        let connector = store_connector(state, store, web, hosts)?;
        Ok(connector.map(|connector| Self { store: store.clone(), connector }))
    }
}

impl GrantSource for ConnectedStore {
    fn grant(&self) -> BoxFuture<'_, Result<StoreGrant, AuthError>> {
        async move { Ok(self.connector.storage(&self.store.storage()).await?.into()) }.boxed()
    }
}

/// What talks to a registered orchestrator. `store` gives the steps of a run that is watched new credentials for their artifact
/// store. `controller` is the image of what runs there in the place of this process, where the orchestrator has nothing of its own
/// that does; it is needed to submit only.
pub(crate) fn service(
    context: &Context,
    state: &State,
    orchestrator: &RemoteOrchestrator,
    store: Option<Arc<ConnectedStore>>,
    controller: Option<Reference>,
) -> Result<Box<dyn Service>, Failure> {
    let (web, hosts) = context.network()?;
    let named = orchestrator.connector.as_ref();
    // What the stack alone looks at.
    let mut values = orchestrator.values.clone();
    values.remove("local");
    Ok(match orchestrator.flavor {
        OrchestratorFlavor::Kubernetes => {
            let config = longshore_kubernetes::Config::from_values(&values)
                .map_err(|error| wrong(orchestrator, &error))?;
            let credentials = context.registries(state, None)?.access.sources();
            let kubernetes = Kubernetes::new(config, credentials, controller);
            Box::new(match store {
                Some(store) => kubernetes.with_grants(store),
                None => kubernetes,
            })
        }
        OrchestratorFlavor::Kubeflow => {
            let config =
                longshore_kubeflow::Config::new(&values).map_err(|error| wrong(orchestrator, &error))?;
            Box::new(Kubeflow::new(config, web, &hosts))
        }
        OrchestratorFlavor::Vertex => {
            let config =
                longshore_vertex::Config::new(&values).map_err(|error| wrong(orchestrator, &error))?;
            let connector = connector(state, named, ConnectorType::Gcp, web.clone(), hosts.clone())?;
            Box::new(Vertex::new(config, Arc::new(connector), web, &hosts))
        }
        OrchestratorFlavor::Sagemaker => {
            let config =
                longshore_sagemaker::Config::new(&values).map_err(|error| wrong(orchestrator, &error))?;
            let connector = connector(state, named, ConnectorType::Aws, web, hosts)?;
            Box::new(SageMaker::new(config, Arc::new(connector)))
        }
        OrchestratorFlavor::Azureml => {
            let config =
                longshore_azureml::Config::new(&values).map_err(|error| wrong(orchestrator, &error))?;
            let connector = connector(state, named, ConnectorType::Azure, web.clone(), hosts.clone())?;
            Box::new(AzureMl::new(config, Arc::new(connector), web, &hosts))
        }
        OrchestratorFlavor::Airflow => {
            let config =
                longshore_airflow::Config::new(&values).map_err(|error| wrong(orchestrator, &error))?;
            let place = match config.dags.clone() {
                Dags::Folder(folder) => Place::folder(folder),
                Dags::S3(uri) => {
                    let connector = connector(state, named, ConnectorType::Aws, web.clone(), hosts.clone())?;
                    Place::s3(uri, Arc::new(connector))
                }
                Dags::Gcs(uri) => {
                    let connector = connector(state, named, ConnectorType::Gcp, web.clone(), hosts.clone())?;
                    Place::gcs(uri, Arc::new(connector), web.clone(), &hosts)
                }
            };
            Box::new(Airflow::new(config, place, web, &hosts))
        }
    })
}

/// A stored configuration that its orchestrator does not take.
fn wrong(orchestrator: &RemoteOrchestrator, error: &dyn std::error::Error) -> Failure {
    Failure::Usage(format!(
        "orchestrator `{0}`: {error}; change it with `longshore orchestrator update {0} …`",
        orchestrator.name
    ))
}
