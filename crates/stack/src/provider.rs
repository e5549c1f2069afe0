//! Whose registry a host is: the hosts of the providers that have a flavor of their own.

use std::fmt;

use longshore_auth::aws::RegistryHost;

use crate::RegistryFlavor;

/// Docker Hub's names. In references and URIs all of them are the first.
pub(crate) const DOCKER_HUB: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];
/// Google Container Registry's hosts (cloud.google.com, "Container Registry: Registries").
const GCR: [&str; 4] = ["gcr.io", "eu.gcr.io", "us.gcr.io", "asia.gcr.io"];
/// Artifact Registry's hosts end so, after the location; other formats of packages have other words for `docker`.
const ARTIFACT_REGISTRY: &str = "-docker.pkg.dev";
/// Azure's hosts end so: the public cloud, China and the government of the USA (the CLI's cloud profiles).
const AZURE: [&str; 3] = [".azurecr.io", ".azurecr.cn", ".azurecr.us"];
const GITHUB: &str = "ghcr.io";
const ECR_PUBLIC: &str = "public.ecr.aws";

/// A provider, with what its host says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Provider {
    /// Docker Hub.
    DockerHub,
    /// Google Container Registry.
    Gcr,
    /// Google Artifact Registry.
    ArtifactRegistry {
        /// The region or multi-region: `us-central1`, `europe`.
        location: String,
    },
    /// Azure Container Registry.
    Azure {
        /// The registry's name.
        registry: String,
    },
    /// A private registry of Amazon.
    Ecr(Ecr),
    /// Amazon's public registry.
    EcrPublic,
    /// GitHub's registry.
    Github,
}

/// What the host of a private registry of Amazon says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ecr {
    /// The account: 12 digits.
    pub account: String,
    /// The region.
    pub region: String,
}

impl Provider {
    /// The provider that serves `host`, a host in lower case with its port if it has one. Whole labels are compared:
    /// `evilazurecr.io` is nobody's.
    pub fn of(host: &str) -> Option<Self> {
        if DOCKER_HUB.contains(&host) {
            return Some(Self::DockerHub);
        }
        if GCR.contains(&host) {
            return Some(Self::Gcr);
        }
        if let Some(location) = host.strip_suffix(ARTIFACT_REGISTRY).filter(|location| is_label(location)) {
            return Some(Self::ArtifactRegistry { location: location.to_owned() });
        }
        if let Some(registry) =
            AZURE.iter().find_map(|end| host.strip_suffix(end)).filter(|name| is_label(name))
        {
            return Some(Self::Azure { registry: registry.to_owned() });
        }
        match host {
            GITHUB => Some(Self::Github),
            ECR_PUBLIC => Some(Self::EcrPublic),
            _ => Ecr::of(host).ok().map(Self::Ecr),
        }
    }

    /// The flavor that is made for it.
    pub const fn flavor(&self) -> RegistryFlavor {
        match self {
            Self::DockerHub => RegistryFlavor::Dockerhub,
            Self::Gcr | Self::ArtifactRegistry { .. } => RegistryFlavor::Gcp,
            Self::Azure { .. } => RegistryFlavor::Azure,
            Self::Ecr(_) | Self::EcrPublic => RegistryFlavor::Aws,
            Self::Github => RegistryFlavor::Github,
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DockerHub => "Docker Hub",
            Self::Gcr => "Google Container Registry",
            Self::ArtifactRegistry { .. } => "Google Artifact Registry",
            Self::Azure { .. } => "Azure Container Registry",
            Self::Ecr(_) => "Amazon ECR",
            Self::EcrPublic => "Amazon ECR Public",
            Self::Github => "GitHub's registry",
        })
    }
}

impl Ecr {
    /// Reads the host of a private registry. The error is the reason why it is none.
    pub(crate) fn of(host: &str) -> Result<Self, String> {
        let RegistryHost { account, region, .. } = RegistryHost::read(host)?;
        let account = account.ok_or("it is Amazon's public registry")?;
        Ok(Self { account, region })
    }
}

fn is_label(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}
