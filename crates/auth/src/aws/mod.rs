//! Amazon Web Services: ECR's tokens and repositories, keys for buckets of S3, and signed calls of other APIs.

mod api;
mod bucket;
mod client;
mod ecr;
mod host;
mod implicit;
mod profile;
mod rest;
mod sign;
mod sts;

pub use api::{AmazonApi, AmazonCall, AmazonRefusal};
pub use ecr::{Created, Ecr, Immutability, RepositoryDescription, RepositorySettings, ScanOnPush};
pub use host::RegistryHost;
pub use rest::{AmazonAnswer, AmazonRequest, AmazonRest};

use std::collections::BTreeMap;

use client::Client;
use implicit::Implicit;
use profile::Role;
use sign::Keys;
use sts::Sts;

use crate::{
    AuthError, Environment,
    cache::Cache,
    connector::{Config, Identity, Proof, Resource},
    service::Service,
};

/// Where STS is asked when nothing names a region.
const DEFAULT_REGION: &str = "us-east-1";

/// Credentials for ECR.
#[derive(Debug)]
pub(crate) struct Aws {
    client: Client,
    config: Config,
    /// Sessions, by the domain of the partition that they are for.
    sessions: Cache<Keys, &'static str>,
}

impl Aws {
    pub(crate) fn new(config: &Config, service: Service, environment: Environment) -> Self {
        let endpoint_url = config.text("endpoint_url").map(str::to_owned);
        let client = Client { service, environment, endpoint_url };
        Self { client, config: config.clone(), sessions: Cache::default() }
    }

    pub(crate) fn forget(&self) {
        self.sessions.forget_where(|_| true);
    }

    pub(crate) const fn ecr(&self, host: RegistryHost) -> Ecr<'_> {
        Ecr::new(self, host)
    }

    /// Keys that requests in a region are signed with.
    async fn keys(&self, region: &str) -> Result<Keys, AuthError> {
        // The connector's region is where its sessions come from; they are good in the whole partition.
        let sts_region = self.config.text("region").unwrap_or(region);
        self.sessions.get(host::suffix_of(region), self.new_keys(sts_region, sts::REGISTRY_POLICY)).await
    }

    fn configured(&self) -> Keys {
        Keys {
            id: self.config.required("aws_access_key_id").to_owned(),
            secret: self.config.secret("aws_secret_access_key"),
            session: self.config.text("aws_session_token").map(crate::Secret::new),
            expires: None,
        }
    }

    /// New keys. `policy` is what a session may do that may do nothing unless a policy says so, and whose policy the connector
    /// does not say.
    async fn new_keys(&self, region: &str, policy: &str) -> Result<Keys, AuthError> {
        let text = |name: &str| self.config.text(name);
        let sts = Sts { client: &self.client, region };
        let role = |arn: &str| Role {
            arn: arn.to_owned(),
            session_name: text("session_name").map(str::to_owned),
            external_id: text("external_id").map(str::to_owned),
            seconds: text("duration_seconds").map(str::to_owned),
        };
        match self.config.method().name {
            "implicit" => {
                let keys =
                    Implicit { client: &self.client, profile: text("profile_name"), region }.keys().await?;
                match text("role_arn") {
                    Some(arn) => sts.assume_role(&keys, &role(arn), None).await,
                    None => Ok(keys),
                }
            }
            "iam-role" => {
                let role = role(self.config.required("role_arn"));
                sts.assume_role(&self.configured(), &role, text("policy")).await
            }
            "session-token" => {
                sts.session_token(&self.configured(), self.config.required("duration_seconds")).await
            }
            "federation-token" => {
                let (name, seconds) =
                    (self.config.required("session_name"), self.config.required("duration_seconds"));
                let policy = text("policy").unwrap_or(policy);
                sts.federation_token(&self.configured(), name, seconds, policy).await
            }
            _ => Ok(self.configured()),
        }
    }

    /// The region where there is no registry to say it.
    fn region(&self) -> Result<Option<String>, AuthError> {
        match self.config.text("region") {
            Some(region) => Ok(Some(region.to_owned())),
            None => Implicit::region(&self.client, self.config.text("profile_name")),
        }
    }

    pub(crate) async fn verify(&self, host: Option<&str>) -> Result<Identity, AuthError> {
        self.forget();
        let host = host.and_then(RegistryHost::parse);
        let region = match &host {
            Some(host) => host.region.clone(),
            None => self.region()?.unwrap_or_else(|| DEFAULT_REGION.to_owned()),
        };
        let keys = self.keys(&region).await?;
        let sts_region = self.config.text("region").unwrap_or(&region);
        let account = Sts { client: &self.client, region: sts_region }.caller_identity(&keys).await?;
        let expires = match host {
            Some(host) => self.ecr(host).authorization_token().await?.1,
            None => keys.expires,
        };
        Ok(Identity { account, expires, proof: Proof::Accepted })
    }

    /// The repositories of the registry that the connector is connected to, else of its region.
    pub(crate) async fn resources(&self, bound: Option<&str>) -> Result<Vec<Resource>, AuthError> {
        let host = match bound.and_then(RegistryHost::parse) {
            Some(host) => host,
            None => RegistryHost::of_region(&self.region()?.ok_or_else(|| {
                AuthError::unusable(
                    self.client.service.origin(),
                    "it is not known in which region to look for repositories",
                    "update the connector with --region, or connect it to a registry",
                )
            })?),
        };
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for repository in self.ecr(host).describe_repositories().await? {
            if let Some((registry, name)) = repository.repository_uri.split_once('/') {
                found.entry(registry.to_owned()).or_default().push(name.to_owned());
            }
        }
        Ok(found.into_iter().map(|(registry, repositories)| Resource { registry, repositories }).collect())
    }
}
