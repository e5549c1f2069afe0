//! What can go wrong, in sentences.

use std::io;

use http::StatusCode;
use longshore_auth::AuthError;
use longshore_endpoint::Fault;
use longshore_oci::{Digest, ManifestError, Platform};

use crate::refusal::RegistryError;

/// What this crate's functions return.
pub type Result<T, E = ClientError> = std::result::Result<T, E>;

/// Why something could not be done. `what` follows "cannot": `pull docker.io/library/python:3.12`. No message has a
/// credential in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// There was no answer.
    #[error("cannot {what}: {fault}")]
    Unreachable {
        /// What was to be done.
        what: String,
        /// Why there was none.
        fault: Fault,
    },
    /// The credential that is configured for the registry cannot be had.
    #[error("cannot {what}: {source}")]
    Credentials {
        /// What was to be done.
        what: String,
        /// Why.
        source: Box<AuthError>,
    },
    /// The registry, or its token service, does not accept who we say we are.
    #[error("cannot {what}: {host} does not accept {origin}{}; {remedy}", said(.reason.as_deref()))]
    Unauthorized {
        /// What was to be done.
        what: String,
        /// The host that said so.
        host: String,
        /// Where the credential comes from, or that there is none.
        origin: String,
        /// What the host said.
        reason: Option<String>,
        /// What to do.
        remedy: String,
    },
    /// The registry knows who we are and does not let us.
    #[error("cannot {what}: {host} does not allow it with {origin}{}; {remedy}", said(.reason.as_deref()))]
    Denied {
        /// What was to be done.
        what: String,
        /// The host that said so.
        host: String,
        /// Where the credential comes from, or that there is none.
        origin: String,
        /// What the host said.
        reason: Option<String>,
        /// What to do.
        remedy: String,
    },
    /// It is not there.
    #[error("cannot {what}: {host} does not have it{}; check the name", said(.reason.as_deref()))]
    NotFound {
        /// What was to be done.
        what: String,
        /// The host.
        host: String,
        /// What the host said.
        reason: Option<String>,
    },
    /// A web page came where a registry should answer.
    #[error(
        "cannot {what}: {url} answered with a web page, so it is not a registry; check the host's name and port, \
         and whether a proxy or login page stands in between"
    )]
    NotRegistry {
        /// What was to be done.
        what: String,
        /// What was asked.
        url: String,
    },
    /// The host wants HTTPS and was reached by plain HTTP.
    #[error(
        "cannot {what}: {host} speaks HTTPS and was asked over plain HTTP; say so in hosts.toml: \
         [\"{host}\"] server = \"https://{host}\""
    )]
    NotPlain {
        /// What was to be done.
        what: String,
        /// The host.
        host: String,
    },
    /// Too many requests or pulls.
    #[error("cannot {what}: {host} allows no more requests for now{}; try again later, or log in for a higher limit", said(.reason.as_deref()))]
    RateLimited {
        /// What was to be done.
        what: String,
        /// The host.
        host: String,
        /// What the host said.
        reason: Option<String>,
    },
    /// The registry said no for another reason.
    #[error("cannot {what}: {host} answered {status}{}", said(.reason.as_ref().map(ToString::to_string).as_deref()))]
    Refused {
        /// What was to be done.
        what: String,
        /// The host.
        host: String,
        /// The status.
        status: StatusCode,
        /// What the host said.
        reason: Option<RegistryError>,
        /// Whether it may answer otherwise later.
        is_retryable: bool,
    },
    /// The registry's answer is not what the protocol has.
    #[error("cannot {what}: {host} {reason}")]
    Protocol {
        /// What was to be done.
        what: String,
        /// The host.
        host: String,
        /// What it did, as a clause.
        reason: String,
    },
    /// The registry sent us where we do not go.
    #[error("cannot {what}: {host} sends us to {url}, {reason}")]
    Elsewhere {
        /// What was to be done.
        what: String,
        /// The host.
        host: String,
        /// Where it sends us.
        url: String,
        /// Why we do not go there.
        reason: String,
    },
    /// What came has another digest.
    #[error(
        "cannot {what}: {host} sent bytes whose digest is {found} instead of {expected}; \
         they were damaged or replaced on the way or in the registry, and are not used"
    )]
    WrongDigest {
        /// What was to be done.
        what: String,
        /// The host.
        host: String,
        /// The digest that was asked for.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// What came, or is there, has another length.
    #[error("cannot {what}: {host} has {found} bytes of it instead of {expected}")]
    WrongSize {
        /// What was to be done.
        what: String,
        /// The host.
        host: String,
        /// The length that it should have.
        expected: u64,
        /// The length that it has.
        found: u64,
    },
    /// Larger than what is accepted.
    #[error("cannot {what}: it is larger than {limit} bytes")]
    TooLarge {
        /// What was to be done.
        what: String,
        /// The limit.
        limit: u64,
    },
    /// A manifest is not one.
    #[error("cannot {what}: {source}")]
    Manifest {
        /// What was to be done.
        what: String,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// The image is not one for the platform.
    #[error("cannot {what}: it has no image for {wanted}, only for {}", list(.available))]
    Platform {
        /// What was to be done.
        what: String,
        /// The platform that was wanted.
        wanted: Box<Platform>,
        /// The platforms that it has.
        available: Vec<Platform>,
    },
    /// What is to be sent cannot be read.
    #[error("cannot {what}: reading it failed: {source}")]
    Source {
        /// What was to be done.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// What is to be sent is not what its descriptor says.
    #[error("cannot {what}: its bytes have the digest {found}; they were changed where they are read from")]
    Changed {
        /// What was to be done.
        what: String,
        /// The digest of the bytes.
        found: Digest,
    },
    /// What came cannot be kept.
    #[error("cannot {what}: writing it failed: {source}")]
    Sink {
        /// What was to be done.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// What is asked makes no sense.
    #[error("cannot {what}: {reason}")]
    Usage {
        /// What was to be done.
        what: String,
        /// Why not.
        reason: String,
    },
}

impl ClientError {
    /// Whether the same again may succeed later.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { fault, .. } => fault.is_retryable(),
            Self::Credentials { source, .. } => source.is_retryable(),
            Self::Refused { is_retryable, .. } => *is_retryable,
            Self::RateLimited { .. } => true,
            _ => false,
        }
    }

    /// Whether the registry says that there is no such thing.
    pub const fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

fn said(reason: Option<&str>) -> String {
    reason.map_or_else(String::new, |reason| format!(" (“{reason}”)"))
}

fn list(platforms: &[Platform]) -> String {
    if platforms.is_empty() {
        return "platforms that it does not name".to_owned();
    }
    platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
