//! How to download.

use std::path::PathBuf;

use longshore_endpoint::{Pauses, WebConfig};

/// How a [`Fetcher`](crate::Fetcher) behaves. The default serves everywhere but in tests.
#[derive(Clone, Debug)]
pub struct FetchConfig {
    /// How hosts are reached.
    pub web: WebConfig,
    /// How many exchanges run at once; further ones wait.
    pub concurrency: usize,
    /// How often something is tried.
    pub pauses: Pauses,
    /// Where credentials are looked up.
    pub netrc: NetrcSource,
}

/// Where credentials for hosts are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetrcSource {
    /// In the file that `NETRC` names, else `~/.netrc`, if it is there.
    Environment,
    /// In this file.
    File(PathBuf),
    /// Nowhere.
    None,
}

impl Default for FetchConfig {
    fn default() -> Self {
        Self {
            web: WebConfig::default(),
            concurrency: 16,
            pauses: Pauses::default(),
            netrc: NetrcSource::Environment,
        }
    }
}
