//! Google Cloud: tokens for Artifact Registry and gcr.io hosts.

mod external;
mod key;

pub use external::ExternalAccount;
pub use key::{KeyError, ServiceAccountKey};
