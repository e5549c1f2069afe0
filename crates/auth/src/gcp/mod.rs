//! Google Cloud: tokens for Artifact Registry and gcr.io hosts, and for Google's APIs.

mod adc;
mod artifact_registry;
mod bucket;
mod external;
mod google;
mod key;

pub use external::ExternalAccount;
pub use key::{KeyError, ServiceAccountKey};

pub(crate) use artifact_registry::resources;
pub(crate) use bucket::probe;
pub(crate) use google::Google;

/// The registries that Google's access tokens are for.
pub(crate) const HOSTS: [&str; 3] = ["gcr.io", "*.gcr.io", "*.pkg.dev"];

/// The APIs that Google's access tokens are for.
pub(crate) const APIS: [&str; 1] = ["*.googleapis.com"];

/// The user name that goes with an access token.
pub(crate) const USERNAME: &str = "oauth2accesstoken";
