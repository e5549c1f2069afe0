//! Service connectors at work: verified, and made for the registries that are connected to them.

use jiff::Timestamp;
use longshore_auth::{
    Problem, Target,
    connector::{Config, Connector, ConnectorType, Identity, Proof},
    storage::Lifetime,
};
use longshore_endpoint::{Hosts, Web, WebConfig};
use longshore_stack::{ArtifactStore, Component, ContainerRegistry, RemoteStore, State};
use serde::Serialize;

use crate::{context::Context, failure::Failure};

/// Makes connectors that reach registries and clouds from this machine.
#[derive(Debug)]
pub(crate) struct Connections {
    web: Web,
    hosts: Hosts,
}

/// What a service said of a connector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Verdict {
    /// The registry that it was asked for, if it was for one.
    pub(crate) registry: Option<String>,
    /// Whose credentials they are.
    pub(crate) account: String,
    /// When they stop being accepted, if that is known.
    pub(crate) expires: Option<Timestamp>,
    /// What stands behind this.
    #[serde(serialize_with = "proof")]
    pub(crate) proof: Proof,
}

/// What stands behind a verdict, as programs read it.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn proof<S: serde::Serializer>(proof: &Proof, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match proof {
        Proof::Accepted => "accepted",
        Proof::OpenRegistry => "open_registry",
        Proof::NoRegistryYet => "no_registry_yet",
    })
}

impl Connections {
    /// Registries are reached where `hosts.toml` says.
    pub(crate) fn new(context: &Context) -> Result<Self, Failure> {
        let hosts = Hosts::load(&context.home.hosts_file())?;
        Ok(Self { web: Web::new(WebConfig::default()), hosts })
    }

    /// A connector, for a registry if one is named.
    pub(crate) fn open(&self, name: &str, config: &Config, host: Option<&str>) -> Result<Connector, Failure> {
        let connector =
            Connector::new(name.to_owned(), config.clone(), self.web.clone(), self.hosts.clone())?;
        Ok(match host {
            Some(host) => connector.bound_to(host),
            None => connector,
        })
    }

    /// Asks the real services whether a connector's credentials are good: for each of these registries, or if there are
    /// none, in themselves.
    pub(crate) async fn verify(
        &self,
        name: &str,
        config: &Config,
        registries: &[String],
    ) -> Result<Vec<Verdict>, Failure> {
        if registries.is_empty() {
            let identity = self.open(name, config, None)?.verify(None).await?;
            let named = config.plain().get("registry").map(|registry| (*registry).to_owned());
            // Without a registry, Docker Hub was asked, if anybody was.
            let asked =
                config.connector_type() == ConnectorType::Docker && identity.proof != Proof::NoRegistryYet;
            let registry = named.or_else(|| asked.then(|| "docker.io".to_owned()));
            return Ok(vec![Verdict::new(registry, identity)]);
        }
        let mut verdicts = Vec::new();
        for host in registries {
            let connector = self.open(name, config, Some(host))?;
            let identity = connector.verify(Some(Target { host, repository: None })).await?;
            verdicts.push(Verdict::new(Some(host.clone()), identity));
        }
        Ok(verdicts)
    }
}

impl Connections {
    /// Asks an artifact store whether it answers a connector's credentials; what was found, as a sentence's end.
    pub(crate) async fn verify_store(
        &self,
        name: &str,
        config: &Config,
        store: &RemoteStore,
    ) -> Result<String, Failure> {
        let connector = self.open(name, config, None)?;
        let lease =
            connector.verified_storage(&store.storage()).await.map_err(|error| match error.problem {
                Problem::Unreachable { .. } => Failure::Failed(
                    format!("{error}; if only the cluster reaches it, connect it with --no-verify").into(),
                ),
                _ => error.into(),
            })?;
        Ok(match lease.lifetime {
            Lifetime::Unlimited => "verified: it answers; steps are given the connector's key, which does not expire".to_owned(),
            Lifetime::Until(until) => {
                format!("verified: it answers; steps are given credentials that are good until {until:.0} if got now")
            }
            Lifetime::Unknown => {
                "verified: it answers; steps are given the connector's credentials, and when they expire is not known".to_owned()
            }
        })
    }
}

impl Verdict {
    fn new(registry: Option<String>, identity: Identity) -> Self {
        Self { registry, account: identity.account, expires: identity.expires, proof: identity.proof }
    }

    /// The verdict as a sentence's end.
    pub(crate) fn sentence(&self) -> String {
        let place = self.registry.as_deref().map_or_else(String::new, |registry| format!(" at {registry}"));
        match self.proof {
            Proof::OpenRegistry => format!(
                "not proven{place}: the registry lets everyone in, so nothing says whether the password is right"
            ),
            Proof::NoRegistryYet => {
                "not verified yet: it names no registry, and Docker Hub was not asked; it is verified when a container \
                 registry is connected to it"
                    .to_owned()
            }
            Proof::Accepted => {
                let until =
                    self.expires.map_or_else(String::new, |expires| format!(", good until {expires:.0}"));
                format!("verified{place} as {}{until}", self.account)
            }
        }
    }
}

/// Who says whether the credentials of a component are good.
#[derive(Debug)]
pub(crate) enum Asked {
    /// The registry on this host.
    Registry(String),
    /// The artifact store.
    Store(Box<RemoteStore>),
}

/// Who says whether the credentials of a component are good; nobody where only its orchestrator can.
pub(crate) fn asked(component: &Component) -> Result<Option<Asked>, Failure> {
    if let Some(ArtifactStore::Remote(store)) = component.artifact_store()? {
        return Ok(Some(Asked::Store(store)));
    }
    Ok(host(component)?.map(Asked::Registry))
}

/// The host of a component that is a registry elsewhere.
pub(crate) fn host(component: &Component) -> Result<Option<String>, Failure> {
    Ok(match component.container_registry()? {
        Some(ContainerRegistry::Remote(registry)) => Some(registry.uri.host().to_owned()),
        _ => None,
    })
}

/// The hosts of the registries that are connected to a connector, each once.
pub(crate) fn hosts(components: &[Component]) -> Result<Vec<String>, Failure> {
    let mut hosts = Vec::new();
    for component in components {
        hosts.extend(host(component)?);
    }
    hosts.sort();
    hosts.dedup();
    Ok(hosts)
}

/// The hosts of the registries that are connected to the connector of that name.
pub(crate) fn connected_hosts(state: &State, connector: &str) -> Result<Vec<String>, Failure> {
    hosts(&state.components_connected_to(connector)?)
}
