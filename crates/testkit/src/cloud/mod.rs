//! Stand-ins for the clouds' token services and for orchestrators, written from their published protocols, and `moto`, which is one that
//! others wrote.

mod airflow;
mod amazon;
mod azureml;
mod blobs;
mod clock;
mod google;
mod key;
mod kubeflow;
mod microsoft;
mod moto;
mod storage;
mod tls;
mod trouble;
mod vertex;

pub use airflow::AirflowApi;
pub use amazon::AmazonMachine;
pub use azureml::AzureMlApi;
pub use blobs::BlobStorage;
pub use clock::Clock;
pub use google::{GoogleCloud, KeyState};
pub use kubeflow::KubeflowApi;
pub use microsoft::{MicrosoftCloud, Secrets};
pub use moto::Moto;
pub use storage::CloudStorageApi;
pub use trouble::Trouble;
pub use vertex::VertexApi;
