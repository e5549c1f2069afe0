//! Downloads: by digest into a blob store, and small documents into memory.
//!
//! A download is streamed to disk and hashed on the way, retried with growing pauses, resumed where the server can,
//! and kept only if it is what was asked for. Proxies (`HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`), the
//! system's trust store (`SSL_CERT_FILE`, `SSL_CERT_DIR`) and credentials (in the URL, or from `NETRC` or `~/.netrc`)
//! are honoured. A credential goes to the host that it is for and no other, and appears in no message.
#![forbid(unsafe_code)]

mod client;
mod config;
mod credentials;
mod document;
mod download;
mod error;
mod local;
mod netrc;

pub use client::Fetcher;
pub use config::{FetchConfig, NetrcSource};
pub use document::{ByteRange, Document, Get};
pub use download::{Download, Fetched, Origin};
pub use error::{FetchError, SentCredentials};
pub use local::location;

/// What everything here returns.
pub type Result<T, E = FetchError> = std::result::Result<T, E>;
