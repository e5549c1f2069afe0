//! Credentials for a host: the docker configuration and its helpers, and the connectors of clouds.
//!
//! A [`CredentialSource`] answers the question "what credential does this host take?" with a [`Lease`]: the credential,
//! when it expires and where it comes from. Whoever asks sends the credential to that host only.
#![forbid(unsafe_code)]

pub mod aws;
mod azure;
mod cache;
pub mod connector;
mod credential;
mod docker;
mod environment;
pub mod gcp;
mod host;
mod secret;
mod service;
mod source;
pub mod storage;
mod token;

pub use azure::AzureApi;
pub use credential::{Credential, Lease, Renewal};
pub use docker::{DockerConfig, Helper, Stored};
pub use environment::Environment;
pub use host::HostPattern;
pub use secret::Secret;
pub use source::{AuthError, CredentialSource, Found, Problem, Sources, Target};
