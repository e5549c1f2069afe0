//! ECR's API: tokens and repositories.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{Aws, RegistryHost, client::aws_remedy};
use crate::{AuthError, Credential, Secret};

/// Pages that a listing may have; a service that never ends would be asked for ever.
const MOST_PAGES: usize = 1000;

/// The API of a registry's region, with a connector's credentials.
#[derive(Debug)]
pub struct Ecr<'a> {
    aws: &'a Aws,
    host: RegistryHost,
}

/// How a repository is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepositorySettings {
    /// Whether tags may be moved.
    pub immutability: Immutability,
    /// Whether images are scanned when they are pushed.
    pub scan_on_push: ScanOnPush,
    /// The key that encrypts it; ECR's own if there is none.
    pub kms_key: Option<String>,
    /// Tags of the resource.
    pub tags: BTreeMap<String, String>,
}

/// Whether tags may be moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Immutability {
    /// They may.
    #[default]
    Mutable,
    /// They may not.
    Immutable,
}

/// Whether images are scanned when they are pushed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScanOnPush {
    /// They are not.
    #[default]
    Off,
    /// They are.
    On,
}

/// Whether a repository was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// It was.
    New,
    /// It was there before, with settings of its own.
    Existed,
}

/// A repository.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryDescription {
    /// Its name: `team/app`.
    pub repository_name: String,
    /// Its registry's host and its name.
    pub repository_uri: String,
    /// `MUTABLE` or `IMMUTABLE`; public repositories have none.
    pub image_tag_mutability: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuthorizationData {
    authorization_token: Secret,
    expires_at: Option<Moment>,
}

/// Seconds since 1970 with a fraction (AWS's JSON protocol), or text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Moment {
    Seconds(f64),
    Text(Timestamp),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Repositories {
    #[serde(default)]
    repositories: Vec<RepositoryDescription>,
    next_token: Option<String>,
}

impl<'a> Ecr<'a> {
    pub(super) const fn new(aws: &'a Aws, host: RegistryHost) -> Self {
        Self { aws, host }
    }

    /// A name and password for the registry, and when they stop being accepted: 12 hours later as a rule.
    pub async fn authorization_token(&self) -> Result<(Credential, Option<Timestamp>), AuthError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Public {
            authorization_data: AuthorizationData,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Private {
            authorization_data: Vec<AuthorizationData>,
        }
        let what = format!("get an authorization token of ECR in {}", self.host.region);
        let data = if self.host.is_public() {
            self.call::<Public>(&what, "GetAuthorizationToken", &json!({})).await?.authorization_data
        } else {
            let answer: Private = self.call(&what, "GetAuthorizationToken", &json!({})).await?;
            answer.authorization_data.into_iter().next().ok_or_else(|| self.odd(&what))?
        };
        let (username, password) = STANDARD
            .decode(data.authorization_token.expose())
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .and_then(|text| {
                text.split_once(':').map(|(name, password)| (name.to_owned(), Secret::new(password)))
            })
            .ok_or_else(|| self.odd(&what))?;
        #[expect(clippy::cast_possible_truncation, reason = "the fraction of a second is not needed")]
        let expires = data.expires_at.and_then(|moment| match moment {
            Moment::Seconds(seconds) => Timestamp::from_second(seconds as i64).ok(),
            Moment::Text(timestamp) => Some(timestamp),
        });
        Ok((Credential::Basic { username, password }, expires))
    }

    /// All repositories of the registry.
    pub async fn describe_repositories(&self) -> Result<Vec<RepositoryDescription>, AuthError> {
        let what = format!("list the repositories of ECR in {}", self.host.region);
        let (mut found, mut next) = (Vec::new(), None::<String>);
        for _ in 0..MOST_PAGES {
            let mut input = json!({ "maxResults": 1000 });
            if let Some(account) = &self.host.account {
                input["registryId"] = json!(account);
            }
            if let Some(token) = &next {
                input["nextToken"] = json!(token);
            }
            let page: Repositories = self.call(&what, "DescribeRepositories", &input).await?;
            found.extend(page.repositories);
            next = page.next_token.filter(|token| !token.is_empty() && next.as_ref() != Some(token));
            if next.is_none() {
                break;
            }
        }
        Ok(found)
    }

    /// Makes a repository. That it is there already is as good, whatever its settings are.
    pub async fn create_repository(
        &self,
        name: &str,
        settings: &RepositorySettings,
    ) -> Result<Created, AuthError> {
        let what = format!("create the repository {name} of ECR in {}", self.host.region);
        let mut input = json!({ "repositoryName": name });
        if !settings.tags.is_empty() {
            let tags = settings.tags.iter().map(|(key, value)| json!({ "Key": key, "Value": value }));
            input["tags"] = tags.collect();
        }
        if !self.host.is_public() {
            if let Some(account) = &self.host.account {
                input["registryId"] = json!(account);
            }
            input["imageTagMutability"] = match settings.immutability {
                Immutability::Mutable => json!("MUTABLE"),
                Immutability::Immutable => json!("IMMUTABLE"),
            };
            input["imageScanningConfiguration"] =
                json!({ "scanOnPush": settings.scan_on_push == ScanOnPush::On });
            if let Some(key) = &settings.kms_key {
                input["encryptionConfiguration"] = json!({ "encryptionType": "KMS", "kmsKey": key });
            }
        }
        match self.call_raw(&what, "CreateRepository", &input).await? {
            Ok(_) => Ok(Created::New),
            Err((refusal, _)) if refusal == "RepositoryAlreadyExistsException" => Ok(Created::Existed),
            Err((_, error)) => Err(error),
        }
    }

    async fn call<T: DeserializeOwned>(
        &self,
        what: &str,
        action: &str,
        input: &Value,
    ) -> Result<T, AuthError> {
        match self.call_raw(what, action, input).await? {
            Ok(answer) => answer.parse(what),
            Err((_, error)) => Err(error),
        }
    }

    /// An answer, or the code of a refusal and its error.
    async fn call_raw(
        &self,
        what: &str,
        action: &str,
        input: &Value,
    ) -> Result<Result<crate::service::Answer, (String, AuthError)>, AuthError> {
        let (service, variable, target) = if self.host.is_public() {
            ("ecr-public", "ECR_PUBLIC", "SpencerFrontendService")
        } else {
            ("ecr", "ECR", "AmazonEC2ContainerRegistry_V20150921")
        };
        let keys = self.aws.keys(&self.host.region).await?;
        let client = &self.aws.client;
        let url = client.url(&client.endpoint(variable, || self.host.endpoint()))?;
        let target = format!("{target}.{action}");
        let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target.as_str())];
        let body = input.to_string().into_bytes();
        let request = client.signed(what, url, &headers, body, &keys, &self.host.region, service)?;
        Ok(client.service.send(what, request).await?.accepted(|answer| {
            let refusal = answer.refusal();
            let remedy =
                aws_remedy(&refusal, &format!("allow {service}:{action} in the policies of the identity"));
            let error = answer.refused(what, &refusal, remedy);
            (refusal.code, error)
        }))
    }

    fn odd(&self, what: &str) -> AuthError {
        AuthError::refused(
            self.aws.client.service.origin(),
            format!("cannot {what}"),
            "the answer has no authorization token",
            "check endpoint_url and AWS_ENDPOINT_URL_ECR",
        )
    }
}
