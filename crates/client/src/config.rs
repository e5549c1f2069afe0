//! What a client is told.

use std::path::PathBuf;

use longshore_auth::Sources;
use longshore_endpoint::{Hosts, Pauses, Web, WebConfig};

use crate::Pace;

/// How many blobs of an image are moved at a time.
const PARALLEL: usize = 5;

/// What a client is told.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Where registries are served.
    pub hosts: Hosts,
    /// How hosts are reached.
    pub web: Web,
    /// Who has credentials.
    pub credentials: Sources,
    /// When failed requests are tried again.
    pub pauses: Pauses,
    /// How many blobs of an image are moved, and tags resolved, at a time.
    pub parallel: usize,
    /// The most requests that a host is sent in a second, if there is to be a limit.
    pub pace: Option<Pace>,
    /// The file that remembers what registries cannot do. Without one it is remembered as long as the client lives.
    pub capabilities: Option<PathBuf>,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            hosts: Hosts::default(),
            web: Web::new(WebConfig::default()),
            credentials: Sources::default(),
            pauses: Pauses::default(),
            parallel: PARALLEL,
            pace: None,
            capabilities: None,
        }
    }
}
