//! Which crate talks to an orchestrator elsewhere.

use std::sync::Arc;

use longshore_airflow::{Airflow, Dags, Place};
use longshore_auth::connector::ConnectorType;
use longshore_azureml::AzureMl;
use longshore_kubeflow::Kubeflow;
use longshore_kubernetes::Kubernetes;
use longshore_oci::Reference;
use longshore_orchestrator::Service;
use longshore_sagemaker::SageMaker;
use longshore_stack::{OrchestratorFlavor, RemoteOrchestrator, State, connector};
use longshore_vertex::Vertex;

use crate::{context::Context, failure::Failure};

/// What talks to a registered orchestrator. `controller` is the image of what runs there in the place of this process, where
/// the orchestrator has nothing of its own that does; it is needed to submit only.
pub(crate) fn service(
    context: &Context,
    state: &State,
    orchestrator: &RemoteOrchestrator,
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
            Box::new(Kubernetes::new(config, credentials, controller))
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
