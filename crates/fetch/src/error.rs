//! What can go wrong, in sentences.

use std::{io, path::PathBuf};

use http::StatusCode;
use longshore_endpoint::Fault;
use longshore_oci::Digest;
use longshore_store::StoreError;

/// Why something could not be downloaded. Each message names the thing and the host; none has a credential.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// There was no answer.
    #[error("cannot download {what}: {fault}")]
    Unreachable {
        /// What was wanted.
        what: String,
        /// Why there was none.
        fault: Fault,
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

impl FetchError {
    /// Whether the same again may succeed later.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { fault, .. } => fault.is_retryable(),
            Self::Interrupted { .. } => true,
            Self::Status { is_retryable, .. } => *is_retryable,
            _ => false,
        }
    }
}
