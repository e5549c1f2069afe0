//! Azure Container Registry: Entra's tokens are exchanged for the registry's own ("Azure Container Registry integration
//! with Azure Active Directory").

use longshore_endpoint::{Endpoint, Hosts};
use serde::Deserialize;
use url::Url;

use super::{AzureApi, cloud::Cloud, entra::Entra};
use crate::{
    AuthError, Environment, HostPattern, Secret,
    connector::{Config, Identity, Proof, Resource},
    service::{Request, Service},
    token::{Token, jwt_expiry},
};

/// What tokens for registries are asked for, in every cloud. Registries may refuse those for Resource Manager.
const REGISTRY_RESOURCE: &str = "https://containerregistry.azure.net";

/// Pages that a listing may have; a service that never ends would be asked for ever.
const MOST_PAGES: usize = 1000;

/// Credentials for registries of Azure's.
#[derive(Debug)]
pub(crate) struct Azure {
    pub(super) entra: Entra,
    pub(super) cloud: Cloud,
    pub(super) service: Service,
    hosts: Hosts,
}

#[derive(Deserialize)]
struct RefreshToken {
    refresh_token: Secret,
}

#[derive(Deserialize)]
struct AccessToken {
    access_token: Secret,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Registries {
    value: Vec<Registry>,
    next_link: Option<String>,
}

#[derive(Deserialize)]
struct Registry {
    properties: Properties,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Properties {
    login_server: String,
}

#[derive(Deserialize)]
struct Catalog {
    repositories: Option<Vec<String>>,
}

impl Azure {
    pub(crate) fn new(config: &Config, service: Service, hosts: Hosts, environment: Environment) -> Self {
        let entra = Entra::new(config, service.clone(), environment);
        Self { entra, cloud: Cloud::named(config.required("cloud")), service, hosts }
    }

    fn cloud_of(&self, host: &str) -> Cloud {
        Cloud::of(host).unwrap_or(self.cloud)
    }

    pub(crate) fn forget(&self) {
        self.entra.forget();
    }

    /// Azure Resource Manager, as configured, else the cloud's.
    pub(crate) fn resource_manager<'a>(&self, config: &'a Config) -> &'a str {
        config.text("resource_manager").unwrap_or(self.cloud.resource_manager()).trim_end_matches('/')
    }

    /// Whether a host is a region of Azure Machine Learning, in the connector's cloud.
    pub(crate) fn is_machine_learning(&self, host: &str) -> bool {
        HostPattern::new(self.cloud.machine_learning_regions()).matches(host)
    }

    /// A token for one of Azure's APIs.
    pub(crate) async fn api_token(&self, api: AzureApi) -> Result<Token, AuthError> {
        let resource = match api {
            AzureApi::ResourceManager => self.cloud.resource_manager(),
            AzureApi::MachineLearning => self.cloud.machine_learning(),
        };
        self.entra.token(self.cloud, resource).await
    }

    /// A registry's refresh token. The connector's own secret stays between this machine and Entra.
    pub(crate) async fn refresh_token(&self, host: &str) -> Result<Token, AuthError> {
        let token = self.entra.token(self.cloud_of(host), REGISTRY_RESOURCE).await?;
        let (account, tenant) = self.entra.account()?;
        let what = format!("exchange the token of {account} at {host}");
        let (endpoint, url) = self.at(host, "oauth2/exchange?api-version=2021-07-01")?;
        let fields =
            [("grant_type", "access_token"), ("service", host), ("access_token", token.secret.expose())];
        let tenant = tenant.as_deref().map(|tenant| ("tenant", tenant));
        let request = Request::form(url, fields.into_iter().chain(tenant)).at(endpoint);
        let answer = self.service.send(&what, request).await?.accepted(|answer| {
            let remedy = format!(
                "check that {host} is in the tenant of {account}, that the account has a role such as AcrPush on it, \
                 and that the registry's firewall lets this machine in"
            );
            answer.refused(&what, &answer.refusal(), remedy)
        })?;
        let secret = answer.parse::<RefreshToken>(&what)?.refresh_token;
        let expires = jwt_expiry(&secret);
        Ok(Token { secret, expires })
    }

    pub(crate) async fn verify(&self, host: Option<&str>) -> Result<Identity, AuthError> {
        self.forget();
        let expires = match host {
            Some(host) => self.refresh_token(host).await?.expires,
            None => self.entra.token(self.cloud, REGISTRY_RESOURCE).await?.expires,
        };
        let (account, _) = self.entra.account()?;
        Ok(Identity { account, expires, proof: Proof::Accepted })
    }

    /// The registry that the connector is connected to, else those of its subscription; with the repositories that
    /// each lists for it.
    pub(crate) async fn resources(
        &self,
        config: &Config,
        bound: Option<&str>,
    ) -> Result<Vec<Resource>, AuthError> {
        let registries = match (bound, config.text("subscription_id")) {
            (Some(host), _) => vec![host.to_owned()],
            (None, Some(subscription)) => self.registries(config, subscription).await?,
            (None, None) => {
                return Err(AuthError::unusable(
                    self.service.origin(),
                    "it is not known where to look for registries",
                    "update the connector with --subscription_id, or connect it to a registry",
                ));
            }
        };
        let mut resources = Vec::new();
        for registry in registries {
            // Reading the catalog is a right of its own: who may push to a registry need not have it.
            let repositories = match self.catalog(&registry).await {
                Ok(repositories) => repositories,
                Err(error) => {
                    tracing::debug!(%error, registry, "the registry does not list its repositories");
                    Vec::new()
                }
            };
            resources.push(Resource { registry, repositories });
        }
        Ok(resources)
    }

    async fn registries(&self, config: &Config, subscription: &str) -> Result<Vec<String>, AuthError> {
        let what = format!("list the registries of subscription {subscription}");
        let manager = self.resource_manager(config);
        let token = self.api_token(AzureApi::ResourceManager).await?.secret;
        let first = format!(
            "{manager}/subscriptions/{subscription}/providers/Microsoft.ContainerRegistry/registries?api-version=2023-07-01"
        );
        let not_a_url =
            |_| AuthError::unusable(self.service.origin(), format!("{manager} is not a URL"), "correct it");
        let first = Url::parse(&first).map_err(not_a_url)?;
        let (mut found, mut next) = (Vec::new(), Some(first.clone()));
        for _ in 0..MOST_PAGES {
            let Some(url) = next.take() else { break };
            let answer =
                self.service.send(&what, Request::get(url).bearer(&token)).await?.accepted(|answer| {
                    answer.refused(
                        &what,
                        &answer.refusal(),
                        "grant the account the role Reader on the subscription",
                    )
                })?;
            let page: Registries = answer.parse(&what)?;
            found.extend(page.value.into_iter().map(|registry| registry.properties.login_server));
            // The token goes to Resource Manager and nowhere else.
            next = page
                .next_link
                .and_then(|link| Url::parse(&link).ok())
                .filter(|url| url.origin() == first.origin());
        }
        Ok(found)
    }

    async fn catalog(&self, host: &str) -> Result<Vec<String>, AuthError> {
        let what = format!("list the repositories of {host}");
        let refresh = self.refresh_token(host).await?.secret;
        let (endpoint, url) = self.at(host, "oauth2/token")?;
        let fields = [
            ("grant_type", "refresh_token"),
            ("service", host),
            ("scope", "registry:catalog:*"),
            ("refresh_token", refresh.expose()),
        ];
        let answer = self.service.send(&what, Request::form(url, fields).at(endpoint.clone())).await?;
        let refused =
            |answer: &crate::service::Answer| answer.refused(&what, &answer.refusal(), "grant AcrPull on it");
        let token: AccessToken = answer.accepted(refused)?.parse(&what)?;
        let mut found: Vec<String> = Vec::new();
        for _ in 0..MOST_PAGES {
            // Paging by `last` rather than by `Link`, which could name another host.
            let mut url = self.at(host, "v2/_catalog?n=1000")?.1;
            if let Some(last) = found.last() {
                url.query_pairs_mut().append_pair("last", last);
            }
            let request = Request::get(url).bearer(&token.access_token).at(endpoint.clone());
            let page: Catalog = self.service.send(&what, request).await?.accepted(refused)?.parse(&what)?;
            let page = page.repositories.unwrap_or_default();
            let full = page.len() >= 1000;
            found.extend(page);
            if !full {
                break;
            }
        }
        Ok(found)
    }

    /// Where a host of Azure's is served.
    pub(super) fn at(&self, host: &str, path: &str) -> Result<(Endpoint, Url), AuthError> {
        let endpoint = self.hosts.registry(host).server;
        let url = endpoint.at(path).map_err(|error| {
            AuthError::unusable(
                self.service.origin(),
                format!("{host} is not a host: {error}"),
                "correct its name",
            )
        })?;
        Ok((endpoint, url))
    }
}
