//! Access tokens of Google.

use futures::{FutureExt, future::BoxFuture};
use jiff::Timestamp;
use serde::Deserialize;
use url::Url;

use super::{
    adc::{AuthorizedUser, CredentialFile},
    external::{ExternalAccount, SubjectSource},
    key::{CLOUD_PLATFORM, ServiceAccountKey},
};
use crate::{
    AuthError, Environment, Problem, Secret,
    cache::Cache,
    connector::Config,
    service::{Answer, Refusal, Request, Service},
    token::{Token, TokenAnswer},
};

/// Where the metadata server answers on every machine of Google's.
const METADATA_SERVER: &str = "169.254.169.254";

/// Gets access tokens in one of the ways there are.
#[derive(Debug)]
pub(crate) struct Google {
    service: Service,
    environment: Environment,
    way: Way,
    tokens: Cache<Token, ()>,
}

/// How a token is got.
#[derive(Debug)]
enum Way {
    File(CredentialFile),
    Machine,
    Token {
        token: Secret,
        account: Option<String>,
    },
    Impersonation {
        source: Option<ServiceAccountKey>,
        url: Url,
        principal: String,
        delegates: Vec<String>,
        seconds: String,
    },
}

impl Google {
    pub(crate) fn new(
        config: &Config,
        service: Service,
        environment: Environment,
    ) -> Result<Self, AuthError> {
        let unusable = |field: &str, error: &dyn std::fmt::Display| {
            AuthError::unusable(
                service.origin(),
                format!("the value of '{field}' {error}"),
                "update the connector with a value that is right",
            )
        };
        let key = |field: &str| {
            config
                .text(field)
                .map(|text| ServiceAccountKey::parse(text).map_err(|error| unusable(field, &error)))
                .transpose()
        };
        let way = match config.method().name {
            "service-account" => {
                let text = config.required("service_account_json");
                let key = ServiceAccountKey::parse(text)
                    .map_err(|error| unusable("service_account_json", &error))?;
                Way::File(CredentialFile::ServiceAccount(key))
            }
            "external-account" => {
                let text = config.required("external_account_json");
                let account = ExternalAccount::parse(text)
                    .map_err(|error| unusable("external_account_json", &error))?;
                Way::File(CredentialFile::External(Box::new(account)))
            }
            "oauth2-token" => Way::Token {
                token: config.secret("token"),
                account: config.text("service_account_email").map(str::to_owned),
            },
            "impersonation" => {
                let principal = config.required("target_principal").to_owned();
                let endpoint = config.required("iam_credentials_endpoint").trim_end_matches('/');
                let url = format!("{endpoint}/v1/projects/-/serviceAccounts/{principal}:generateAccessToken");
                Way::Impersonation {
                    source: key("service_account_json")?,
                    url: Url::parse(&url).map_err(|error| unusable("iam_credentials_endpoint", &error))?,
                    principal,
                    delegates: config
                        .text("delegates")
                        .into_iter()
                        .flat_map(|list| list.split(','))
                        .map(|delegate| format!("projects/-/serviceAccounts/{}", delegate.trim()))
                        .collect(),
                    seconds: config.required("lifetime_seconds").to_owned(),
                }
            }
            _ => Way::Machine,
        };
        Ok(Self { service, environment, way, tokens: Cache::default() })
    }

    /// An access token that is good for a while.
    pub(crate) async fn token(&self) -> Result<Token, AuthError> {
        self.tokens.get((), self.new_token()).await
    }

    pub(crate) fn forget(&self) {
        self.tokens.forget(&());
    }

    /// Whose tokens they are.
    pub(crate) async fn account(&self) -> Result<String, AuthError> {
        let machine;
        let file = match &self.way {
            Way::File(file) => file,
            Way::Token { account, .. } => {
                return Ok(account.clone().unwrap_or_else(|| "the owner of the access token".to_owned()));
            }
            Way::Impersonation { principal, .. } => return Ok(principal.clone()),
            Way::Machine => match CredentialFile::find(&self.environment, self.service.origin())? {
                Some(file) => {
                    machine = file;
                    &machine
                }
                None => return Ok(self.metadata("instance/service-accounts/default/email").await?.text()),
            },
        };
        Ok(match file {
            CredentialFile::ServiceAccount(key) => key.client_email.clone(),
            CredentialFile::User(user) => user
                .account
                .clone()
                .unwrap_or_else(|| "the user of the application default credentials".to_owned()),
            CredentialFile::External(account) => match account.impersonation_url.as_ref().map(principal_of) {
                Some(principal) => principal,
                None => account.audience.clone(),
            },
            CredentialFile::Impersonated(impersonated) => principal_of(&impersonated.url),
        })
    }

    /// The project that the credentials name.
    pub(crate) async fn project(&self) -> Result<Option<String>, AuthError> {
        let file = match &self.way {
            Way::File(file) => return Ok(file.project().map(str::to_owned)),
            Way::Impersonation { source: Some(key), .. } => return Ok(key.project_id.clone()),
            Way::Token { .. } => return Ok(None),
            Way::Machine | Way::Impersonation { source: None, .. } => {
                CredentialFile::find(&self.environment, self.service.origin())?
            }
        };
        let named = self.environment.get("GOOGLE_CLOUD_PROJECT").map(str::to_owned);
        match file {
            _ if named.is_some() => Ok(named),
            Some(file) => Ok(file.project().map(str::to_owned)),
            None => Ok(Some(self.metadata("project/project-id").await?.text())),
        }
    }

    async fn new_token(&self) -> Result<Token, AuthError> {
        match &self.way {
            Way::File(file) => self.token_of_file(file).await,
            Way::Machine => self.token_of_machine().await,
            Way::Token { token, .. } => Ok(Token { secret: token.clone(), expires: None }),
            Way::Impersonation { source, url, delegates, seconds, .. } => {
                let token = match source {
                    Some(key) => self.token_of_key(key).await?,
                    None => self.token_of_machine().await?,
                };
                self.impersonate(url, &token.secret, delegates, seconds).await
            }
        }
    }

    async fn token_of_machine(&self) -> Result<Token, AuthError> {
        if let Some(file) = CredentialFile::find(&self.environment, self.service.origin())? {
            return self.token_of_file(&file).await;
        }
        let path = format!("instance/service-accounts/default/token?scopes={CLOUD_PLATFORM}");
        let answer = self.metadata(&path).await?;
        Ok(answer.parse::<TokenAnswer>("get a token from the metadata server")?.token(Timestamp::now()))
    }

    // Boxed, because files of one type have a file of another inside.
    fn token_of_file<'a>(&'a self, file: &'a CredentialFile) -> BoxFuture<'a, Result<Token, AuthError>> {
        async move {
            match file {
                CredentialFile::ServiceAccount(key) => self.token_of_key(key).await,
                CredentialFile::User(user) => self.token_of_user(user).await,
                CredentialFile::External(account) => self.token_of_external(account).await,
                CredentialFile::Impersonated(impersonated) => {
                    let token = self.token_of_file(&impersonated.source).await?;
                    self.impersonate(&impersonated.url, &token.secret, &impersonated.delegates, "3600").await
                }
            }
        }
        .boxed()
    }

    async fn token_of_key(&self, key: &ServiceAccountKey) -> Result<Token, AuthError> {
        let what = format!("get a token for {}", key.client_email);
        let now = Timestamp::now();
        let assertion = key.assertion(now).map_err(|error| {
            AuthError::unusable(
                self.service.origin(),
                format!("the key of {} {error}", key.client_email),
                "give the key file that Google Cloud made, unchanged",
            )
        })?;
        let fields = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
            ("assertion", assertion.expose()),
        ];
        let answer = self.service.send(&what, Request::form(key.token_uri.clone(), fields)).await?;
        let answer = answer.accepted(|answer| {
            let refusal = answer.refusal();
            let remedy = key_remedy(&refusal, &key.client_email);
            answer.refused(&what, &refusal, remedy)
        })?;
        Ok(answer.parse::<TokenAnswer>(&what)?.token(now))
    }

    async fn token_of_user(&self, user: &AuthorizedUser) -> Result<Token, AuthError> {
        let what = "get a token for the user of the application default credentials";
        let fields = [
            ("grant_type", "refresh_token"),
            ("client_id", &user.client_id),
            ("client_secret", user.client_secret.expose()),
            ("refresh_token", user.refresh_token.expose()),
        ];
        let now = Timestamp::now();
        let answer = self.service.send(what, Request::form(user.token_uri.clone(), fields)).await?;
        let answer = answer.accepted(|answer| {
            answer.refused(
                what,
                &answer.refusal(),
                "log in again with `gcloud auth application-default login`",
            )
        })?;
        Ok(answer.parse::<TokenAnswer>(what)?.token(now))
    }

    async fn token_of_external(&self, account: &ExternalAccount) -> Result<Token, AuthError> {
        let what = format!("exchange the other provider's token for {}", account.audience);
        let subject = self.subject_token(account).await?;
        let options = account
            .workforce_project
            .as_ref()
            .map(|project| serde_json::json!({ "userProject": project }).to_string());
        let mut fields = vec![
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("audience", account.audience.as_str()),
            ("scope", CLOUD_PLATFORM),
            ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ("subject_token", subject.expose()),
            ("subject_token_type", account.subject_token_type.as_str()),
        ];
        if let (Some(options), None) = (&options, &account.client) {
            fields.push(("options", options));
        }
        let mut request = Request::form(account.token_url.clone(), fields);
        if let Some((id, secret)) = &account.client {
            request = request.basic(id, secret);
        }
        let now = Timestamp::now();
        let answer = self.service.send(&what, request).await?.accepted(|answer| {
            answer.refused(
                &what,
                &answer.refusal(),
                "check that the token is fresh, and that the workload identity pool's provider accepts its issuer, \
                 audience and attributes",
            )
        })?;
        let token = answer.parse::<TokenAnswer>(&what)?.token(now);
        match &account.impersonation_url {
            Some(url) => {
                self.impersonate(url, &token.secret, &[], &account.impersonation_seconds.to_string()).await
            }
            None => Ok(token),
        }
    }

    async fn subject_token(&self, account: &ExternalAccount) -> Result<Secret, AuthError> {
        let origin = self.service.origin();
        let (text, whence) = match &account.source {
            SubjectSource::File(path) => {
                let text = std::fs::read_to_string(path).map_err(|error| {
                    AuthError::unusable(
                        origin,
                        format!("cannot read the other provider's token from {}: {error}", path.display()),
                        "check that the provider writes its token there",
                    )
                })?;
                (text, path.display().to_string())
            }
            SubjectSource::Url { url, headers } => {
                let mut made = http::HeaderMap::new();
                for (name, value) in headers {
                    if let (Ok(name), Ok(mut value)) =
                        (name.parse::<http::HeaderName>(), http::HeaderValue::from_str(value.expose()))
                    {
                        value.set_sensitive(true);
                        made.insert(name, value);
                    }
                }
                let whence = longshore_endpoint::redacted(url);
                let what = format!("get the other provider's token from {whence}");
                // What is not encrypted is inside of the machine's own network, where no proxy is.
                let service =
                    if url.scheme() == "http" { self.service.nearby() } else { self.service.clone() };
                let answer = service.send(&what, Request::get(url.clone()).headers(made)).await?;
                let answer = answer.accepted(|answer| {
                    answer.refused(
                        &what,
                        &answer.refusal(),
                        "check the URL and headers of its credential_source",
                    )
                })?;
                (answer.text(), whence)
            }
        };
        account.format.extract(&text).map_err(|reason| {
            AuthError::unusable(
                origin,
                format!("the other provider's token in {whence} cannot be used: {reason}"),
                "check the credential_source of the external account configuration",
            )
        })
    }

    async fn impersonate(
        &self,
        url: &Url,
        token: &Secret,
        delegates: &[String],
        seconds: &str,
    ) -> Result<Token, AuthError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Generated {
            access_token: Secret,
            expire_time: Timestamp,
        }
        let principal = principal_of(url);
        let what = format!("impersonate {principal}");
        let body = serde_json::json!({
            "delegates": delegates, "scope": [CLOUD_PLATFORM], "lifetime": format!("{seconds}s"),
        });
        let answer = self.service.send(&what, Request::json(url.clone(), &body).bearer(token)).await?;
        let answer = answer.accepted(|answer| {
            let refusal = answer.refusal();
            let remedy = match refusal.code.as_str() {
                "NOT_FOUND" => format!("check that the service account {principal} exists"),
                _ => format!(
                    "grant the impersonating account roles/iam.serviceAccountTokenCreator on {principal}, and enable \
                     the IAM Service Account Credentials API"
                ),
            };
            answer.refused(&what, &refusal, remedy)
        })?;
        let made: Generated = answer.parse(&what)?;
        Ok(Token { secret: made.access_token, expires: Some(made.expire_time) })
    }

    async fn metadata(&self, path: &str) -> Result<Answer, AuthError> {
        let what = "get a token from the metadata server";
        let origin = self.service.origin();
        let host = self.environment.get("GCE_METADATA_HOST").unwrap_or(METADATA_SERVER);
        let nowhere = |reason: String| {
            AuthError::refused(
                origin,
                "there are no application default credentials on this machine",
                format!("GOOGLE_APPLICATION_CREDENTIALS is not set, gcloud left no file, and {reason}"),
                "run `gcloud auth application-default login`, or use the method service-account",
            )
        };
        let url = Url::parse(&format!("http://{host}/computeMetadata/v1/{path}")).map_err(|_| {
            AuthError::unusable(
                origin,
                format!("GCE_METADATA_HOST={host} is not a host"),
                "correct or unset it",
            )
        })?;
        let request = Request::get(url).header("metadata-flavor", "Google");
        let answer = match self.service.nearby().send(what, request).await {
            Err(AuthError { problem: Problem::Unreachable { .. }, .. }) => {
                return Err(nowhere(format!("no metadata server answers at {host}")));
            }
            answer => answer?,
        };
        // Other clouds answer at the same address.
        if answer.headers.get("metadata-flavor").is_none_or(|flavor| flavor != "Google") {
            return Err(nowhere(format!("what answers at {host} is not Google's metadata server")));
        }
        answer.accepted(|answer| {
            answer.refused(
                what,
                &answer.refusal(),
                "attach a service account to this machine, or use the method service-account",
            )
        })
    }
}

/// The account in `…/serviceAccounts/ACCOUNT:generateAccessToken`.
fn principal_of(url: &Url) -> String {
    let last = url.path().rsplit('/').next().unwrap_or_default();
    last.split(':').next().unwrap_or_default().replace("%40", "@")
}

/// What to do about a refused assertion, by what Google's token service says.
fn key_remedy(refusal: &Refusal, account: &str) -> String {
    let message = refusal.message.as_str();
    if message.contains("iat and exp") || message.contains("reasonable timeframe") {
        "the clock of this machine is off: set it right and try again".to_owned()
    } else if message.contains("JWT Signature") {
        format!(
            "the key was deleted or disabled: create a new one with `gcloud iam service-accounts keys create key.json \
             --iam-account {account}` and update the connector with it"
        )
    } else if message.contains("account not found")
        || message.contains("deleted")
        || message.contains("disabled")
    {
        format!("check that the service account {account} exists and is enabled")
    } else {
        format!("create a new key for {account} and update the connector with it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remedies_fit_the_refusal() {
        for (message, part) in [
            ("Invalid JWT Signature", "keys create"),
            (
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your \
                 iat and exp values in the JWT claim",
                "clock",
            ),
            ("Invalid grant: account not found", "exists and is enabled"),
        ] {
            let refusal = Refusal { code: "invalid_grant".to_owned(), message: message.to_owned() };
            let remedy = key_remedy(&refusal, "a@b.iam.gserviceaccount.com");
            assert!(remedy.contains(part), "{remedy}");
        }
    }
}
