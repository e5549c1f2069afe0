//! Why an exchange did not come about.

use std::time::Duration;

/// Why there was no answer, as a clause that follows "cannot do this: ". It names the host and has no credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The host's name is not known.
    #[error("the name {host} cannot be resolved; check the network connection and the name{}", proxied(.proxy.as_deref()))]
    Dns {
        /// The host.
        host: String,
        /// The proxy that was used.
        proxy: Option<String>,
    },
    /// No connection.
    #[error("no connection to {host} ({reason}); check the network connection{}", proxied(.proxy.as_deref()))]
    Connect {
        /// The host.
        host: String,
        /// The proxy that was used.
        proxy: Option<String>,
        /// What the system said.
        reason: String,
    },
    /// The host's certificate is signed by nobody that this machine trusts.
    #[error(
        "the certificate of {host} is signed by an authority that this machine does not trust; \
         if your network has an authority of its own, add it to the system's trust store \
         or set SSL_CERT_FILE to a bundle that has it"
    )]
    UnknownAuthority {
        /// The host.
        host: String,
    },
    /// Something that is not TLS answered where HTTPS was meant.
    #[error(
        "{host} does not speak HTTPS; if it is meant to be reached over plain HTTP, say so in hosts.toml: \
         [\"{host}\"] server = \"http://{host}\""
    )]
    NotTls {
        /// The host.
        host: String,
    },
    /// TLS failed otherwise.
    #[error("no secure connection to {host}: {reason}")]
    Tls {
        /// The host.
        host: String,
        /// What is wrong.
        reason: String,
    },
    /// The proxy does not let us through.
    #[error("the proxy {proxy} does not pass us on to {host}: {reason}; check HTTPS_PROXY and NO_PROXY")]
    Proxy {
        /// The host.
        host: String,
        /// The proxy.
        proxy: String,
        /// What it said.
        reason: String,
    },
    /// Silence.
    #[error("{host} sent nothing for {} seconds; try again later", after.as_secs_f32())]
    Silence {
        /// The host.
        host: String,
        /// How long we waited.
        after: Duration,
    },
    /// The connection ended early.
    #[error("the connection to {host} broke ({reason}); try again")]
    Broken {
        /// The host.
        host: String,
        /// What is known of the cause.
        reason: String,
    },
    /// A file of certificates is unusable.
    #[error("the certificates in {path} cannot be used: {reason}")]
    Certificates {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// No HTTP client.
    #[error("no HTTP client can be made: {0}")]
    Client(String),
}

impl Fault {
    /// Whether the same again may succeed later.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Dns { .. } | Self::Connect { .. } | Self::Silence { .. } | Self::Broken { .. })
    }
}

fn proxied(proxy: Option<&str>) -> String {
    proxy.map_or_else(String::new, |proxy| format!(" and the proxy {proxy}"))
}
