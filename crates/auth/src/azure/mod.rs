//! Microsoft Azure: tokens for Azure Container Registry, Resource Manager and Azure Machine Learning, and shared access
//! signatures for containers of blobs.

mod blobs;
mod cloud;
mod entra;
mod registry;

pub(crate) use registry::Azure;

/// The registries that are Azure's, sovereign clouds included.
pub(crate) const HOSTS: [&str; 3] = [
    cloud::Cloud::Public.registries(),
    cloud::Cloud::China.registries(),
    cloud::Cloud::UsGovernment.registries(),
];

/// The user name that goes with a registry's refresh token.
pub(crate) const USERNAME: &str = "00000000-0000-0000-0000-000000000000";

/// The APIs of Azure's that access tokens are for, besides registries'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AzureApi {
    /// Azure Resource Manager.
    ResourceManager,
    /// The regions of Azure Machine Learning: the history of runs.
    MachineLearning,
}
