//! Which crate talks to an orchestrator elsewhere.

use longshore_orchestrator::Service;
use longshore_stack::{OrchestratorFlavor, RemoteOrchestrator, State};

use crate::{context::Context, failure::Failure};

/// What talks to a registered orchestrator.
pub(crate) fn service(
    _context: &Context,
    _state: &State,
    orchestrator: &RemoteOrchestrator,
) -> Result<Box<dyn Service>, Failure> {
    match orchestrator.flavor {
        OrchestratorFlavor::Kubernetes
        | OrchestratorFlavor::Kubeflow
        | OrchestratorFlavor::Vertex
        | OrchestratorFlavor::Sagemaker
        | OrchestratorFlavor::Azureml
        | OrchestratorFlavor::Airflow => {
            Err(Failure::Usage(format!("there is no {} yet", orchestrator.flavor.as_str())))
        }
    }
}
