//! What is sent to a registry to say who asks.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;

use crate::{Secret, cache::Expires};

/// What a registry is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// Nothing: what is open to everyone.
    Anonymous,
    /// A name and a password: sent as `Basic` to the registry, or to the token service that its challenge names.
    Basic {
        /// The name.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A refresh token (docker's `identitytoken`): sent to the token service that the registry's challenge names, as
    /// `grant_type=refresh_token` (the distribution project's "OAuth2 token authentication").
    IdentityToken {
        /// The name to show and to write beside it; token services ignore it.
        username: String,
        /// The refresh token.
        token: Secret,
    },
    /// A token that is sent as it is, as `Bearer` (docker's `registrytoken`).
    RegistryToken(Secret),
}

/// A credential, for as long as it is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The credential.
    pub credential: Credential,
    /// When it stops being accepted, if that is known.
    pub expires: Option<Timestamp>,
    /// Whether there is another one after that.
    pub renewal: Renewal,
    /// Where it comes from, as messages name it: `service connector gcp_connector`,
    /// `~/.docker/config.json (credential helper docker-credential-pass)`, `no credentials`.
    pub origin: String,
}

/// What happens when a credential expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// Its source gets another one by itself.
    Automatic,
    /// Somebody has to log in again.
    ByHand,
}

impl Lease {
    /// No credential.
    pub fn anonymous() -> Self {
        Self {
            credential: Credential::Anonymous,
            expires: None,
            renewal: Renewal::Automatic,
            origin: "no credentials".to_owned(),
        }
    }
}

impl Expires for Lease {
    fn expires(&self) -> Option<Timestamp> {
        self.expires
    }
}

/// What follows `Basic ` (RFC 7617), and what docker's `auth` has.
pub(crate) fn basic(username: &str, password: &Secret) -> Secret {
    Secret::new(STANDARD.encode(format!("{username}:{}", password.expose())))
}
