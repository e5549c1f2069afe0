//! Where the API of a host is served, and the HTTP client that reaches it.
//!
//! [`Hosts`] maps a registry's host to the endpoints that serve it: `https://` and its name, unless `hosts.toml` says
//! otherwise. [`Web`] makes HTTP clients that honour the system's trust store (`SSL_CERT_FILE`, `SSL_CERT_DIR`) and
//! proxies (`HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`), and that follow no redirect by themselves: whoever
//! sends credentials decides where they go. [`Web::explain`] puts a failed exchange into a sentence, and [`Tries`]
//! decides when to try again.
#![forbid(unsafe_code)]

mod fault;
mod hosts;
mod redact;
mod retry;
mod web;

pub use fault::Fault;
pub use hosts::{Endpoint, Hosts, HostsError, Registry, is_loopback};
pub use redact::{bare, redacted};
pub use retry::{Pauses, Stage, Tries, is_transient, retry_after};
pub use web::{ProxySource, Web, WebConfig, root_cause};
