//! `hosts.toml`: where registries are really served.

use std::{
    collections::BTreeMap,
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use url::Url;

/// Docker Hub's name in references, and where its API is served.
const DOCKER_HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// Where registries are served, by their names in image references.
///
/// ```toml
/// ["gcr.io"]
/// server = "http://127.0.0.1:5001"          # speaks for gcr.io, so it is sent gcr.io's credentials
///
/// ["docker.io"]
/// ca = "/etc/ssl/internal.pem"               # trusted for this host, besides the system's authorities
/// mirrors = [{ url = "https://mirror.internal:5000" }]  # asked first when pulling, with its own credentials
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    entries: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    server: Option<Url>,
    ca: Option<PathBuf>,
    #[serde(default)]
    mirrors: Vec<MirrorEntry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct MirrorEntry {
    url: Url,
    ca: Option<PathBuf>,
}

/// A place where an API is served.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Scheme, host, port, and a path if it is not served at the root. No credentials, no query.
    pub url: Url,
    /// A file of certificates, in PEM format, that are trusted for it besides the system's.
    pub authorities: Option<PathBuf>,
}

/// The endpoints of a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registry {
    /// The registry itself. It is sent the credentials for the host's name.
    pub server: Endpoint,
    /// Asked first when something is pulled, in this order. Each is sent the credentials for its own name.
    pub mirrors: Vec<Endpoint>,
}

/// Why `hosts.toml` cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostsError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not what it should be.
    #[error("{path} is not a valid hosts.toml: {reason}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl Hosts {
    /// Reads the file at `path`. That there is none means that every registry is served where its name says.
    pub fn load(path: &Path) -> Result<Self, HostsError> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(HostsError::Read { path: path.to_owned(), source }),
        };
        Self::parse(&text).map_err(|reason| HostsError::Invalid { path: path.to_owned(), reason })
    }

    /// Reads the text of a `hosts.toml`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let entries: BTreeMap<String, Entry> = toml::from_str(text).map_err(|error| error.to_string())?;
        for (host, entry) in &entries {
            for url in entry.server.iter().chain(entry.mirrors.iter().map(|mirror| &mirror.url)) {
                check(url).map_err(|reason| format!("{host}: {url} {reason}"))?;
            }
        }
        let entries = entries.into_iter().map(|(host, entry)| (host.to_ascii_lowercase(), entry)).collect();
        Ok(Self { entries })
    }

    /// Where the registry of that name, as image references spell it, is served.
    pub fn registry(&self, host: &str) -> Registry {
        let entry = self.entries.get(&host.to_ascii_lowercase());
        let server = entry.and_then(|entry| entry.server.clone()).unwrap_or_else(|| default_url(host));
        Registry {
            server: Endpoint { url: server, authorities: entry.and_then(|entry| entry.ca.clone()) },
            mirrors: entry
                .iter()
                .flat_map(|entry| &entry.mirrors)
                .map(|mirror| Endpoint { url: mirror.url.clone(), authorities: mirror.ca.clone() })
                .collect(),
        }
    }
}

impl Endpoint {
    /// The endpoint's host and port, as image references would spell them: what credentials for it are looked up by.
    pub fn name(&self) -> String {
        match (self.url.host_str(), self.url.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (host, _) => host.unwrap_or_default().to_owned(),
        }
    }

    /// The URL of a path of its API, which begins without a slash: `v2/`.
    pub fn at(&self, path: &str) -> Result<Url, url::ParseError> {
        let base = self.url.as_str();
        let slash = if base.ends_with('/') { "" } else { "/" };
        Url::parse(&format!("{base}{slash}{path}"))
    }
}

fn check(url: &Url) -> Result<(), &'static str> {
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err("is not an http or https URL");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has credentials; they belong into the docker configuration or a service connector");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("has a query or fragment");
    }
    Ok(())
}

/// HTTPS, but for this machine itself: nobody listens in between, and test registries have no certificates.
fn default_url(host: &str) -> Url {
    let served = if host == DOCKER_HUB.0 { DOCKER_HUB.1 } else { host };
    let scheme = if is_loopback(host) { "http" } else { "https" };
    // Hosts come from parsed references, which accept only what is valid in a URL; what is not fails to resolve.
    Url::parse(&format!("{scheme}://{served}/")).unwrap_or_else(|_| invalid())
}

#[expect(clippy::expect_used, reason = "the text is a constant, and a URL")]
fn invalid() -> Url {
    Url::parse("https://invalid.invalid/").expect("a URL")
}

/// Whether a host, with or without a port, is this machine by its loopback interface.
pub fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').filter(|(name, _)| !name.contains(':')).map_or(host, |(name, _)| name),
    };
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(hosts: &Hosts, host: &str) -> String {
        hosts.registry(host).server.url.to_string()
    }

    #[test]
    fn without_a_file_names_say_where_registries_are() {
        let hosts = Hosts::load(Path::new("/nonexistent/hosts.toml")).unwrap();
        assert_eq!(server(&hosts, "ghcr.io"), "https://ghcr.io/");
        assert_eq!(server(&hosts, "docker.io"), "https://registry-1.docker.io/");
        assert_eq!(server(&hosts, "registry.internal:5000"), "https://registry.internal:5000/");
        for loopback in ["localhost:5000", "127.0.0.1:5000", "[::1]:5000", "k3d.localhost"] {
            assert!(server(&hosts, loopback).starts_with("http://"), "{loopback}");
        }
    }

    #[test]
    fn a_look_alike_of_loopback_is_not_loopback() {
        for host in ["localhost.example.com", "127.0.0.1.example.com", "notlocalhost:5000", "10.0.0.1"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn the_file_moves_a_registry_and_names_its_mirrors() {
        let hosts = Hosts::parse(
            "[\"gcr.io\"]\nserver = \"http://127.0.0.1:5001/proxy\"\nca = \"/ca.pem\"\n\
             mirrors = [{ url = \"https://mirror.internal\" }]\n",
        )
        .unwrap();
        let registry = hosts.registry("GCR.io");
        assert_eq!(registry.server.at("v2/").unwrap().as_str(), "http://127.0.0.1:5001/proxy/v2/");
        assert_eq!(registry.server.name(), "127.0.0.1:5001");
        assert_eq!(registry.server.authorities.as_deref(), Some(Path::new("/ca.pem")));
        assert_eq!(registry.mirrors[0].at("v2/").unwrap().as_str(), "https://mirror.internal/v2/");
        assert_eq!(server(&hosts, "evilgcr.io"), "https://evilgcr.io/");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (text, part) in [
            ("[\"a\"]\nserver = \"ftp://a\"", "not an http or https URL"),
            ("[\"a\"]\nserver = \"https://me:pw@a\"", "has credentials"),
            ("[\"a\"]\nserver = \"https://a/?x\"", "has a query"),
            ("[\"a\"]\nsever = \"https://a\"", "unknown field"),
        ] {
            let error = Hosts::parse(text).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
