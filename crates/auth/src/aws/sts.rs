//! The Security Token Service: sessions from keys (its Query API, version 2011-06-15).

use jiff::Timestamp;
use url::Url;

use super::{
    client::{Client, aws_remedy},
    profile::Role,
    sign::Keys,
};
use crate::{
    AuthError, Secret,
    service::{Answer, Request, element},
};

/// What a session for a registry may do unless a policy says otherwise: what pushing and pulling needs, and making
/// repositories. A federation token without a policy may do nothing at all.
pub(super) const REGISTRY_POLICY: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Resource":"*","Action":["ecr:GetAuthorizationToken","ecr:BatchCheckLayerAvailability","ecr:GetDownloadUrlForLayer","ecr:BatchGetImage","ecr:InitiateLayerUpload","ecr:UploadLayerPart","ecr:CompleteLayerUpload","ecr:PutImage","ecr:DescribeRepositories","ecr:CreateRepository","ecr:TagResource","ecr:DescribeImages","ecr:ListImages","ecr:BatchDeleteImage","ecr-public:*","sts:GetServiceBearerToken"]}]}"#;

/// Asks STS with some keys, or with none.
pub(super) struct Sts<'a> {
    pub(super) client: &'a Client,
    pub(super) region: &'a str,
}

impl Sts<'_> {
    pub(super) async fn assume_role(
        &self,
        keys: &Keys,
        role: &Role,
        policy: Option<&str>,
    ) -> Result<Keys, AuthError> {
        let mut fields = vec![
            ("Action", "AssumeRole"),
            ("RoleArn", role.arn.as_str()),
            ("RoleSessionName", role.session_name.as_deref().unwrap_or("longshore")),
        ];
        fields.extend(role.external_id.as_deref().map(|id| ("ExternalId", id)));
        fields.extend(role.seconds.as_deref().map(|seconds| ("DurationSeconds", seconds)));
        fields.extend(policy.map(|policy| ("Policy", policy)));
        self.session(&format!("assume the role {}", role.arn), Some(keys), &fields).await
    }

    pub(super) async fn assume_role_with_web_identity(
        &self,
        role: &Role,
        token: &Secret,
    ) -> Result<Keys, AuthError> {
        let mut fields = vec![
            ("Action", "AssumeRoleWithWebIdentity"),
            ("RoleArn", role.arn.as_str()),
            ("RoleSessionName", role.session_name.as_deref().unwrap_or("longshore")),
            ("WebIdentityToken", token.expose()),
        ];
        fields.extend(role.seconds.as_deref().map(|seconds| ("DurationSeconds", seconds)));
        self.session(&format!("assume the role {} with a web identity", role.arn), None, &fields).await
    }

    pub(super) async fn session_token(&self, keys: &Keys, seconds: &str) -> Result<Keys, AuthError> {
        let fields = [("Action", "GetSessionToken"), ("DurationSeconds", seconds)];
        self.session(&format!("get a session for the access key {}", keys.id), Some(keys), &fields).await
    }

    pub(super) async fn federation_token(
        &self,
        keys: &Keys,
        name: &str,
        seconds: &str,
        policy: &str,
    ) -> Result<Keys, AuthError> {
        let fields = [
            ("Action", "GetFederationToken"),
            ("Name", name),
            ("DurationSeconds", seconds),
            ("Policy", policy),
        ];
        self.session(&format!("get a federated session for the access key {}", keys.id), Some(keys), &fields)
            .await
    }

    /// The ARN of whoever has the keys. Everyone may ask for their own.
    pub(super) async fn caller_identity(&self, keys: &Keys) -> Result<String, AuthError> {
        let what = format!("identify the access key {}", keys.id);
        let answer = self.ask(&what, Some(keys), &[("Action", "GetCallerIdentity")]).await?;
        element(&answer.text(), "Arn").ok_or_else(|| self.odd(&what))
    }

    async fn session(
        &self,
        what: &str,
        keys: Option<&Keys>,
        fields: &[(&str, &str)],
    ) -> Result<Keys, AuthError> {
        let answer = self.ask(what, keys, fields).await?;
        credentials(&answer.text()).ok_or_else(|| self.odd(what))
    }

    async fn ask(
        &self,
        what: &str,
        keys: Option<&Keys>,
        fields: &[(&str, &str)],
    ) -> Result<Answer, AuthError> {
        let endpoint = self.client.endpoint("STS", || {
            format!("https://sts.{}.{}", self.region, super::host::suffix_of(self.region))
        });
        let url = self.client.url(&endpoint)?;
        let body = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("Version", "2011-06-15")])
            .extend_pairs(fields)
            .finish();
        let request = self.request(what, url, body, keys)?;
        self.client.service.send(what, request).await?.accepted(|answer| {
            let refusal = answer.refusal();
            let remedy = aws_remedy(&refusal, "allow it in the policies of the user and of the role");
            answer.refused(what, &refusal, remedy)
        })
    }

    fn request(&self, what: &str, url: Url, body: String, keys: Option<&Keys>) -> Result<Request, AuthError> {
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        match keys {
            Some(keys) => {
                self.client.signed(what, url, &headers, body.into_bytes(), keys, self.region, "sts")
            }
            None => Ok(Request::new(http::Method::POST, url)
                .header("content-type", "application/x-www-form-urlencoded")
                .body(body.into_bytes())),
        }
    }

    fn odd(&self, what: &str) -> AuthError {
        AuthError::refused(
            self.client.service.origin(),
            format!("cannot {what}"),
            "the answer is not one of the Security Token Service",
            "check endpoint_url and AWS_ENDPOINT_URL_STS",
        )
    }
}

/// The keys in an answer.
fn credentials(xml: &str) -> Option<Keys> {
    Some(Keys {
        id: element(xml, "AccessKeyId")?,
        secret: Secret::new(element(xml, "SecretAccessKey")?),
        session: Some(Secret::new(element(xml, "SessionToken")?)),
        expires: Some(element(xml, "Expiration")?.parse::<Timestamp>().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_from_an_answer() {
        let xml = "<AssumeRoleResponse><AssumeRoleResult><Credentials><SessionToken>t+/=</SessionToken>\
                   <SecretAccessKey>s</SecretAccessKey><Expiration>2023-11-14T22:13:20Z</Expiration>\
                   <AccessKeyId>ASIA</AccessKeyId></Credentials></AssumeRoleResult></AssumeRoleResponse>";
        let keys = credentials(xml).unwrap();
        assert_eq!((keys.id.as_str(), keys.expires.unwrap().as_second()), ("ASIA", 1_700_000_000));
        assert_eq!(credentials("<html/>"), None);
        assert!(serde_json::from_str::<serde_json::Value>(REGISTRY_POLICY).is_ok());
        assert!(REGISTRY_POLICY.len() < 2048, "the service's limit");
    }
}
