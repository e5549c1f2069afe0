//! What can go wrong, in sentences.

use std::{io, path::PathBuf, time::Duration};

use http::StatusCode;
use longshore_oci::Digest;
use longshore_store::StoreError;

/// Why something could not be downloaded. Each message names the thing and the host; none has a credential.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The host's name is not known.
    #[error(
        "cannot download {what}: the name {host} cannot be resolved; check the network connection and the name{}",
        proxied(.proxy.as_deref())
    )]
    Dns {
        /// What was wanted.
        what: String,
        /// The host.
        host: String,
        /// The proxy that was used.
        proxy: Option<String>,
    },
    /// No connection.
    #[error(
        "cannot download {what}: no connection to {host} ({reason}); check the network connection{}",
        proxied(.proxy.as_deref())
    )]
    Connect {
        /// What was wanted.
        what: String,
        /// The host.
        host: String,
        /// The proxy that was used.
        proxy: Option<String>,
        /// What the system said.
        reason: String,
    },
    /// The host's certificate is signed by nobody that this machine trusts.
    #[error(
        "cannot download {what}: the certificate of {host} is signed by an authority that this machine does not trust; \
         if your network has an authority of its own, add it to the system's trust store \
         or set SSL_CERT_FILE to a bundle that has it"
    )]
    UnknownAuthority {
        /// What was wanted.
        what: String,
        /// The host.
        host: String,
    },
    /// TLS failed otherwise.
    #[error("cannot download {what}: no secure connection to {host}: {reason}")]
    Tls {
        /// What was wanted.
        what: String,
        /// The host.
        host: String,
        /// What is wrong.
        reason: String,
    },
    /// The proxy does not let us through.
    #[error(
        "cannot download {what}: the proxy {proxy} does not pass us on to {host}: {reason}; check HTTPS_PROXY and NO_PROXY"
    )]
    Proxy {
        /// What was wanted.
        what: String,
        /// The host.
        host: String,
        /// The proxy.
        proxy: String,
        /// What it said.
        reason: String,
    },
    /// Silence.
    #[error("cannot download {what}: {host} sent nothing for {} seconds; try again later", after.as_secs_f32())]
    Silence {
        /// What was wanted.
        what: String,
        /// The host.
        host: String,
        /// How long we waited.
        after: Duration,
    },
    /// The connection ended early.
    #[error(
        "cannot download {what}: the connection to {host} broke after {received} bytes ({reason}); try again"
    )]
    Interrupted {
        /// What was wanted.
        what: String,
        /// The host.
        host: String,
        /// How much had arrived.
        received: u64,
        /// What is known of the cause.
        reason: String,
    },
    /// 404 or 410.
    #[error("cannot download {what}: {host} does not have {url}")]
    NotFound {
        /// What was wanted.
        what: String,
        /// The host.
        host: String,
        /// The URL.
        url: String,
    },
    /// 401, 403 or 407.
    #[error("cannot download {what}: {host} refuses {url} ({status}); {}", remedy(*sent_credentials))]
    Refused {
        /// What was wanted.
        what: String,
        /// The host.
        host: String,
        /// The URL.
        url: String,
        /// The status.
        status: StatusCode,
        /// Whether there were credentials to send.
        sent_credentials: SentCredentials,
    },
    /// Another status than was hoped for.
    #[error("cannot download {what}: {host} answers {status} for {url}{}", if *is_retryable { "; try again later" } else { "" })]
    Status {
        /// What was wanted.
        what: String,
        /// The host.
        host: String,
        /// The URL.
        url: String,
        /// The status.
        status: StatusCode,
        /// Whether it may pass.
        is_retryable: bool,
    },
    /// A web page came instead.
    #[error(
        "cannot download {what}: {host} sent a web page instead of {url}; \
         a login page of the network or a proxy may be in between"
    )]
    WebPage {
        /// What was wanted.
        what: String,
        /// The host.
        host: String,
        /// The URL.
        url: String,
    },
    /// The bytes are not those wanted.
    #[error(
        "{what} from {host} is not what it should be: its digest is {found}, expected {expected}; nothing was kept. \
         The file was replaced or damaged on its way: check the index or mirror, and the lock file"
    )]
    WrongDigest {
        /// What was wanted.
        what: String,
        /// The host.
        host: String,
        /// The digest wanted.
        expected: Digest,
        /// The digest found.
        found: Digest,
    },
    /// The length is not the one wanted.
    #[error(
        "{what} from {host} is not what it should be: it has {found} bytes, expected {expected}; nothing was kept"
    )]
    WrongSize {
        /// What was wanted.
        what: String,
        /// The host.
        host: String,
        /// The length wanted.
        expected: u64,
        /// The length found or announced.
        found: u64,
    },
    /// A document larger than the reader is willing to hold.
    #[error("cannot read {what}: {host} sends more than {limit} bytes for it")]
    TooLarge {
        /// What was wanted.
        what: String,
        /// The host.
        host: String,
        /// The limit.
        limit: u64,
    },
    /// The server sends whole files only.
    #[error("cannot read a part of {what}: {host} sends the whole file only")]
    NoRanges {
        /// What was wanted.
        what: String,
        /// The host.
        host: String,
    },
    /// A document that is not UTF-8.
    #[error("cannot read {what} from {host}: it is not text in UTF-8")]
    NotText {
        /// What was wanted.
        what: String,
        /// The host.
        host: String,
    },
    /// A redirect that is not followed.
    #[error("cannot download {what}: {host} redirects it {reason}")]
    Redirect {
        /// What was wanted.
        what: String,
        /// The host.
        host: String,
        /// Why it is not followed.
        reason: String,
    },
    /// Neither http, https nor file.
    #[error("cannot download {what}: `{url}` is not an http, https or file URL, nor a path")]
    Location {
        /// What was wanted.
        what: String,
        /// What was given.
        url: String,
    },
    /// A local file cannot be read.
    #[error("cannot read {what}: {path}: {source}")]
    Local {
        /// What was wanted.
        what: String,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No HTTP client.
    #[error("cannot prepare for downloads: {0}")]
    Client(String),
    /// The store does not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether credentials were sent with a request that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SentCredentials {
    /// There were some.
    Yes,
    /// There were none.
    No,
}

fn remedy(sent: SentCredentials) -> &'static str {
    match sent {
        SentCredentials::Yes => "the credentials given for this host are not accepted",
        SentCredentials::No => "if it needs credentials, put them into ~/.netrc or into the URL",
    }
}

fn proxied(proxy: Option<&str>) -> String {
    proxy.map_or_else(String::new, |proxy| format!(" and the proxy {proxy}"))
}

impl FetchError {
    /// Whether the same again may succeed later.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Dns { .. } | Self::Connect { .. } | Self::Silence { .. } | Self::Interrupted { .. } => true,
            Self::Status { is_retryable, .. } => *is_retryable,
            _ => false,
        }
    }
}
