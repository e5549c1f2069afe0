//! Where credentials come from.

use std::{fmt, sync::Arc};

use futures::future::BoxFuture;
use longshore_endpoint::Fault;

use crate::Lease;

/// What a credential is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// The registry's host as image references spell it, with its port if it has one: `docker.io`, `localhost:5000`.
    pub host: &'a str,
    /// The repository's path, where one is meant: credentials can be kept for a part of a registry.
    pub repository: Option<&'a str>,
}

/// Whether a source has a say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It has this.
    Lease(Lease),
    /// It knows nothing of that host.
    Nothing,
}

/// Something that has credentials for hosts. Implementations keep what they got for as long as it is good.
pub trait CredentialSource: fmt::Debug + Send + Sync {
    /// The credential for a target.
    fn credential<'a>(&'a self, target: Target<'a>) -> BoxFuture<'a, Result<Found, AuthError>>;

    /// The registry refused what this source gave: the next answer must not come from memory.
    fn forget(&self, target: Target<'_>);
}

/// Several sources: the first that knows the host is asked, and no other.
#[derive(Clone, Debug, Default)]
pub struct Sources(pub Vec<Arc<dyn CredentialSource>>);

impl Sources {
    /// What the first source that knows the host has for it; anonymous if none does.
    pub async fn lease(&self, target: Target<'_>) -> Result<Lease, AuthError> {
        for source in &self.0 {
            if let Found::Lease(lease) = source.credential(target).await? {
                return Ok(lease);
            }
        }
        Ok(Lease::anonymous())
    }

    /// The registry refused what was leased.
    pub fn forget(&self, target: Target<'_>) {
        for source in &self.0 {
            source.forget(target);
        }
    }
}

/// Why there is no credential: what was asked, of whom, why it failed, what to do.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{origin}: {problem}")]
pub struct AuthError {
    /// What should have given the credential: `service connector gcp_connector`, `credential helper docker-credential-pass`.
    pub origin: String,
    /// What went wrong.
    pub problem: Problem,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The service that issues credentials was not reached.
    #[error("{what}: {fault}")]
    Unreachable {
        /// What was wanted: `cannot get a token for client 1234`.
        what: String,
        /// Why there was no answer.
        fault: Box<Fault>,
    },
    /// The service that issues credentials said no.
    #[error("{what}: {reason}; {remedy}")]
    Refused {
        /// What was wanted.
        what: String,
        /// What the service said.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// The service that issues credentials answered, but not as it should: it is overloaded, or is something else.
    #[error("{what}: {reason}; try again later")]
    Unavailable {
        /// What was wanted.
        what: String,
        /// What the service said.
        reason: String,
    },
    /// What is configured cannot be right: an unparsable key file, a missing variable.
    #[error("{what}; {remedy}")]
    Unusable {
        /// What is wrong, and where.
        what: String,
        /// What to do.
        remedy: String,
    },
}

impl AuthError {
    /// Whether the same again may succeed later.
    pub const fn is_retryable(&self) -> bool {
        match &self.problem {
            Problem::Unreachable { fault, .. } => fault.is_retryable(),
            Problem::Unavailable { .. } => true,
            Problem::Refused { .. } | Problem::Unusable { .. } => false,
        }
    }

    pub(crate) fn refused(
        origin: impl Into<String>,
        what: impl Into<String>,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let problem = Problem::Refused { what: what.into(), reason: reason.into(), remedy: remedy.into() };
        Self { origin: origin.into(), problem }
    }

    pub(crate) fn unusable(
        origin: impl Into<String>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            origin: origin.into(),
            problem: Problem::Unusable { what: what.into(), remedy: remedy.into() },
        }
    }
}
