//! Tokens of Microsoft Entra.

use std::path::PathBuf;

use jiff::Timestamp;
use longshore_endpoint::redacted;
use url::Url;

use super::cloud::Cloud;
use crate::{
    AuthError, Environment, Problem, Secret,
    cache::Cache,
    connector::Config,
    service::{Answer, Refusal, Request, Service},
    token::{Token, TokenAnswer, claims, jwt_expiry},
};

/// Where the metadata service answers on every virtual machine of Azure's.
const METADATA_SERVICE: &str = "http://169.254.169.254";

/// Gets tokens in one of the ways there are.
#[derive(Debug)]
pub(crate) struct Entra {
    service: Service,
    environment: Environment,
    authority: Option<String>,
    method: Method,
    /// By the cloud and the resource.
    tokens: Cache<Token, (Cloud, String)>,
}

/// The authentication method, as configured.
#[derive(Debug)]
enum Method {
    Secret { tenant: String, client: String, secret: Secret },
    Implicit { client: Option<String> },
    Token { token: Secret, tenant: Option<String> },
    Federated { tenant: Option<String>, client: Option<String>, file: Option<PathBuf> },
}

/// How a token is got, with everything that the environment adds.
#[derive(Debug)]
enum Way {
    Secret { tenant: String, client: String, secret: Secret },
    Federated { tenant: String, client: String, file: PathBuf },
    AppService { endpoint: String, header: Secret, client: Option<String> },
    VirtualMachine { endpoint: String, client: Option<String> },
    Token { token: Secret, tenant: Option<String> },
}

impl Entra {
    pub(crate) fn new(config: &Config, service: Service, environment: Environment) -> Self {
        let text = |name: &str| config.text(name).map(str::to_owned);
        let method = match config.method().name {
            "service-principal" => Method::Secret {
                tenant: config.required("tenant_id").to_owned(),
                client: config.required("client_id").to_owned(),
                secret: config.secret("client_secret"),
            },
            "access-token" => Method::Token { token: config.secret("token"), tenant: text("tenant_id") },
            "workload-identity" => Method::Federated {
                tenant: text("tenant_id"),
                client: text("client_id"),
                file: text("federated_token_file").map(PathBuf::from),
            },
            _ => Method::Implicit { client: text("client_id") },
        };
        Self { service, environment, authority: text("authority"), method, tokens: Cache::default() }
    }

    /// A token for a resource (`https://management.azure.com`) in a cloud.
    pub(crate) async fn token(&self, cloud: Cloud, resource: &str) -> Result<Token, AuthError> {
        self.tokens.get((cloud, resource.to_owned()), self.new_token(cloud, resource)).await
    }

    /// The tokens are no good.
    pub(crate) fn forget(&self) {
        self.tokens.forget_where(|_| true);
    }

    /// Whose tokens they are, and in which tenant, as far as that is known.
    pub(crate) fn account(&self) -> Result<(String, Option<String>), AuthError> {
        Ok(match self.way()? {
            Way::Secret { tenant, client, .. } | Way::Federated { tenant, client, .. } => {
                (format!("application {client}"), Some(tenant))
            }
            Way::AppService { client, .. } | Way::VirtualMachine { client, .. } => (
                client.map_or_else(
                    || "the managed identity of this machine".to_owned(),
                    |client| format!("managed identity {client}"),
                ),
                None,
            ),
            Way::Token { token, tenant } => {
                let claims = claims(&token);
                let claim = |name: &str| claims.as_ref()?.get(name)?.as_str().map(str::to_owned);
                let account = claim("upn").or_else(|| claim("appid").map(|id| format!("application {id}")));
                (
                    account.unwrap_or_else(|| "the owner of the access token".to_owned()),
                    tenant.or_else(|| claim("tid")),
                )
            }
        })
    }

    fn way(&self) -> Result<Way, AuthError> {
        let from = |name: &str| self.environment.get(name).map(str::to_owned);
        match &self.method {
            Method::Secret { tenant, client, secret } => {
                Ok(Way::Secret { tenant: tenant.clone(), client: client.clone(), secret: secret.clone() })
            }
            Method::Token { token, tenant } => {
                Ok(Way::Token { token: token.clone(), tenant: tenant.clone() })
            }
            Method::Federated { tenant, client, file } => {
                let need = |value: Option<String>, option: &str, variable: &str| {
                    value.or_else(|| from(variable)).ok_or_else(|| {
                        AuthError::unusable(
                            self.service.origin(),
                            format!("workload identity has no {option}: neither the option nor {variable} is set"),
                            format!(
                                "update the connector with --{option}, or run where Entra Workload ID sets {variable}"
                            ),
                        )
                    })
                };
                Ok(Way::Federated {
                    tenant: need(tenant.clone(), "tenant_id", "AZURE_TENANT_ID")?,
                    client: need(client.clone(), "client_id", "AZURE_CLIENT_ID")?,
                    file: match file {
                        Some(file) => file.clone(),
                        None => need(None, "federated_token_file", "AZURE_FEDERATED_TOKEN_FILE")?.into(),
                    },
                })
            }
            Method::Implicit { client } => {
                let named = client.clone().or_else(|| from("AZURE_CLIENT_ID"));
                if let (Some(client), Some(tenant)) = (named.clone(), from("AZURE_TENANT_ID")) {
                    if let Some(secret) = from("AZURE_CLIENT_SECRET") {
                        return Ok(Way::Secret { tenant, client, secret: Secret::new(secret) });
                    }
                    if let Some(file) = self.environment.path("AZURE_FEDERATED_TOKEN_FILE") {
                        return Ok(Way::Federated { tenant, client, file });
                    }
                }
                if let (Some(endpoint), Some(header)) = (from("IDENTITY_ENDPOINT"), from("IDENTITY_HEADER")) {
                    return Ok(Way::AppService { endpoint, header: Secret::new(header), client: named });
                }
                let endpoint =
                    from("AZURE_POD_IDENTITY_AUTHORITY_HOST").unwrap_or_else(|| METADATA_SERVICE.to_owned());
                Ok(Way::VirtualMachine { endpoint, client: named })
            }
        }
    }

    async fn new_token(&self, cloud: Cloud, resource: &str) -> Result<Token, AuthError> {
        match self.way()? {
            Way::Secret { tenant, client, secret } => {
                let proof = [("client_secret", secret.expose())];
                self.client_credentials(cloud, resource, &tenant, &client, &proof).await
            }
            Way::Federated { tenant, client, file } => {
                let assertion = std::fs::read_to_string(&file).map(Secret::new).map_err(|error| {
                    AuthError::unusable(
                        self.service.origin(),
                        format!("cannot read the federated token from {}: {error}", file.display()),
                        "check that the pod's service account is set up for Entra Workload ID",
                    )
                })?;
                let proof = [
                    ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
                    ("client_assertion", assertion.expose().trim()),
                ];
                self.client_credentials(cloud, resource, &tenant, &client, &proof).await
            }
            Way::AppService { endpoint, header, client } => {
                let request = self
                    .identity_request(&endpoint, "2019-08-01", resource, client.as_deref())?
                    .header("x-identity-header", header.expose());
                self.managed(request, &endpoint, resource).await
            }
            Way::VirtualMachine { endpoint, client } => {
                let at = format!("{}/metadata/identity/oauth2/token", endpoint.trim_end_matches('/'));
                let request = self
                    .identity_request(&at, "2018-02-01", resource, client.as_deref())?
                    .header("metadata", "true");
                self.managed(request, &endpoint, resource).await
            }
            Way::Token { token, .. } => {
                let expires = jwt_expiry(&token);
                if expires.is_some_and(|expires| expires <= Timestamp::now()) {
                    return Err(AuthError::refused(
                        self.service.origin(),
                        "cannot use the access token",
                        "it has expired",
                        "update the connector with a new one: `az account get-access-token`",
                    ));
                }
                Ok(Token { secret: token, expires })
            }
        }
    }

    /// Who issues tokens: whom the connector names, else for what is found in the environment whom that names, else the
    /// cloud's own authority.
    fn authority(&self, cloud: Cloud) -> &str {
        let found = match self.method {
            Method::Implicit { .. } | Method::Federated { .. } => {
                self.environment.get("AZURE_AUTHORITY_HOST")
            }
            Method::Secret { .. } | Method::Token { .. } => None,
        };
        self.authority.as_deref().or(found).unwrap_or(cloud.authority())
    }

    /// The client credentials grant of the Microsoft identity platform.
    async fn client_credentials(
        &self,
        cloud: Cloud,
        resource: &str,
        tenant: &str,
        client: &str,
        proof: &[(&str, &str)],
    ) -> Result<Token, AuthError> {
        let what = format!("get a token for application {client}");
        let authority = self.authority(cloud);
        let url = format!("{}/{tenant}/oauth2/v2.0/token", authority.trim_end_matches('/'));
        let url = crate::connector::check_url(&url)
            .and_then(|()| Url::parse(&url).map_err(|error| error.to_string()))
            .map_err(|reason| {
                AuthError::unusable(
                    self.service.origin(),
                    format!("the authority {authority} {reason}"),
                    "correct it",
                )
            })?;
        let scope = format!("{resource}/.default");
        let fields = [("grant_type", "client_credentials"), ("client_id", client), ("scope", &scope)];
        let now = Timestamp::now();
        let request = Request::form(url, fields.into_iter().chain(proof.iter().copied()));
        let answer = self.service.send(&what, request).await?.accepted(|answer| {
            let refusal = entra_refusal(answer);
            let remedy = remedy(&refusal, client, tenant);
            answer.refused(&what, &refusal, remedy)
        })?;
        Ok(answer.parse::<TokenAnswer>(&what)?.token(now))
    }

    fn identity_request(
        &self,
        at: &str,
        version: &str,
        resource: &str,
        client: Option<&str>,
    ) -> Result<Request, AuthError> {
        let fields = [("api-version", version), ("resource", resource)];
        let client = client.map(|client| ("client_id", client));
        Url::parse_with_params(at, fields.into_iter().chain(client)).map(Request::get).map_err(|error| {
            AuthError::unusable(
                self.service.origin(),
                format!("the managed identity endpoint {at} is not a URL: {error}"),
                "correct IDENTITY_ENDPOINT, or unset it",
            )
        })
    }

    /// A managed identity's token, from inside of the machine.
    async fn managed(&self, request: Request, endpoint: &str, resource: &str) -> Result<Token, AuthError> {
        let what = "get a token from the managed identity";
        let shown = Url::parse(endpoint).map_or_else(|_| endpoint.to_owned(), |url| redacted(&url));
        let now = Timestamp::now();
        let answer = match self.service.nearby().send(what, request).await {
            Err(AuthError { problem: Problem::Unreachable { .. }, origin }) => {
                return Err(AuthError::refused(
                    origin,
                    format!("there are no implicit credentials for {resource} on this machine"),
                    format!(
                        "AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_CLIENT_SECRET are not set, there is no workload \
                         identity, and no managed identity service answers at {shown}"
                    ),
                    "run where there is a managed identity, or use the method service-principal",
                ));
            }
            answer => answer?,
        };
        let answer = answer.accepted(|answer| {
            answer.refused(
                what,
                &entra_refusal(answer),
                "assign a managed identity to this machine; name it with --client_id if it is user-assigned",
            )
        })?;
        Ok(answer.parse::<TokenAnswer>(what)?.token(now))
    }
}

/// What Entra says, without the lines for its support.
fn entra_refusal(answer: &Answer) -> Refusal {
    let mut refusal = answer.refusal();
    let end = refusal.message.find(['\r', '\n']).or_else(|| refusal.message.find(" Trace ID:"));
    if let Some(end) = end {
        refusal.message.truncate(end);
    }
    refusal.message = refusal.message.trim().trim_end_matches('.').to_owned();
    refusal
}

/// What to do, by Entra's own numbers ("Microsoft Entra authentication and authorization error codes").
fn remedy(refusal: &Refusal, client: &str, tenant: &str) -> String {
    let number = refusal.message.split(':').next().unwrap_or_default();
    match number {
        "AADSTS7000215" => {
            "give the client secret's value, not its ID; if it is lost, create a new one in the app registration".to_owned()
        }
        "AADSTS7000222" => "the client secret has expired: create a new one in the app registration, and update the \
                            connector with it"
            .to_owned(),
        "AADSTS700016" => format!("check that the application {client} exists in the tenant {tenant}"),
        "AADSTS90002" | "AADSTS900023" => format!("check the tenant {tenant}, and that it is in this cloud"),
        "AADSTS700024" => "the federated token is not valid at this time: check the clock of this machine, and that \
                           the token is renewed"
            .to_owned(),
        "AADSTS70021" | "AADSTS700211" | "AADSTS700212" | "AADSTS700213" => format!(
            "add a federated credential with this issuer, subject and audience to the application {client}"
        ),
        "AADSTS7000112" => format!("enable the application {client} in the tenant {tenant}"),
        _ => format!("check the application {client} in the tenant {tenant}"),
    }
}

#[cfg(test)]
mod tests {
    use longshore_endpoint::{Web, WebConfig};

    use super::*;
    use crate::connector::ConnectorType;

    fn authority(method: &str, values: &[(&str, &str)], cloud: Cloud) -> String {
        let values = values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let config = Config::new(ConnectorType::Azure, method, values).unwrap();
        let service = Service::new(Web::new(WebConfig::default()), "test");
        let environment = [("AZURE_AUTHORITY_HOST", "https://login.example.com")].into_iter().collect();
        Entra::new(&config, service, environment).authority(cloud).to_owned()
    }

    #[test]
    fn every_cloud_has_an_authority_and_each_can_be_replaced() {
        let id = "72f988bf-86f1-41af-91ab-2d7cd011db47";
        let secret = [("tenant_id", id), ("client_id", id), ("client_secret", "s")];
        for (cloud, host) in [
            (Cloud::Public, "https://login.microsoftonline.com"),
            (Cloud::China, "https://login.chinacloudapi.cn"),
            (Cloud::UsGovernment, "https://login.microsoftonline.us"),
        ] {
            assert_eq!(authority("service-principal", &secret, cloud), host);
            assert_eq!(authority("implicit", &[], cloud), "https://login.example.com");
            let named = [&secret[..], &[("authority", "https://login.internal")]].concat();
            assert_eq!(authority("service-principal", &named, cloud), "https://login.internal");
        }
    }

    #[test]
    fn remedies_follow_the_number() {
        for (message, part) in [
            ("AADSTS7000215: Invalid client secret provided", "not its ID"),
            ("AADSTS700016: Application not found", "exists in the tenant t"),
            ("AADSTS90002: Tenant not found", "check the tenant t"),
            ("AADSTS1: ?", "check the application c"),
        ] {
            let refusal = Refusal { code: "invalid_client".to_owned(), message: message.to_owned() };
            let remedy = remedy(&refusal, "c", "t");
            assert!(remedy.contains(part), "{remedy}");
        }
    }
}
