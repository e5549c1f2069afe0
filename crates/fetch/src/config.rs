//! How to download.

use std::{path::PathBuf, time::Duration};

use url::Url;

/// How a [`Fetcher`](crate::Fetcher) behaves. The default serves everywhere but in tests.
#[derive(Clone, Debug)]
pub struct FetchConfig {
    /// The `User-Agent`.
    pub user_agent: String,
    /// How many exchanges run at once; further ones wait.
    pub concurrency: usize,
    /// How long a connection may take to come about, TLS included.
    pub connect_timeout: Duration,
    /// How long a server may send nothing. There is no limit on the whole.
    pub idle_timeout: Duration,
    /// How often an exchange is tried in all, while none of the tries makes headway.
    pub attempts: u32,
    /// The pause after the first failure; it doubles with each further one.
    pub first_pause: Duration,
    /// The longest pause, also where `Retry-After` asks for more.
    pub longest_pause: Duration,
    /// Where proxies are looked up.
    pub proxy: ProxySource,
    /// Where credentials are looked up.
    pub netrc: NetrcSource,
}

/// Where proxies are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxySource {
    /// In the environment.
    Environment,
    /// Nowhere: every host is reached directly.
    Direct,
    /// For every host this one.
    Fixed(Url),
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
            user_agent: concat!("longshore/", env!("CARGO_PKG_VERSION")).to_owned(),
            concurrency: 16,
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            attempts: 5,
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_mins(1),
            proxy: ProxySource::Environment,
            netrc: NetrcSource::Environment,
        }
    }
}
