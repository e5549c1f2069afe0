//! Workload identity federation (AIP-4117): the token of another identity provider is exchanged for one of Google's.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;
use url::Url;

use super::key::{KeyError, parse_json};
use crate::{Secret, connector::check_url};

/// A credential configuration file of the type `external_account`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalAccount {
    pub(crate) audience: String,
    pub(crate) subject_token_type: String,
    pub(crate) token_url: Url,
    pub(crate) impersonation_url: Option<Url>,
    pub(crate) impersonation_seconds: u32,
    pub(crate) client: Option<(String, Secret)>,
    pub(crate) workforce_project: Option<String>,
    pub(crate) source: SubjectSource,
    pub(crate) format: SubjectFormat,
}

/// Where the other provider's token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SubjectSource {
    /// In a file.
    File(PathBuf),
    /// At a URL.
    Url {
        /// Asked with GET.
        url: Url,
        /// Sent with it; they may be secrets.
        headers: BTreeMap<String, Secret>,
    },
}

/// How the token is written there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SubjectFormat {
    /// It is the text.
    Text,
    /// It is a field of a JSON object.
    Json(String),
}

#[derive(Deserialize)]
struct File {
    #[serde(rename = "type")]
    kind: Option<String>,
    audience: Option<String>,
    subject_token_type: Option<String>,
    token_url: Option<String>,
    service_account_impersonation_url: Option<String>,
    service_account_impersonation: Option<Impersonation>,
    client_id: Option<String>,
    client_secret: Option<Secret>,
    workforce_pool_user_project: Option<String>,
    credential_source: Option<Source>,
}

#[derive(Deserialize)]
struct Impersonation {
    token_lifetime_seconds: Option<u32>,
}

#[derive(Deserialize)]
struct Source {
    file: Option<PathBuf>,
    url: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, Secret>,
    format: Option<Format>,
}

#[derive(Deserialize)]
struct Format {
    #[serde(rename = "type")]
    kind: Option<String>,
    subject_token_field_name: Option<String>,
}

impl ExternalAccount {
    /// Reads the content of a configuration file.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        const WHAT: &str = "an external account configuration";
        let file: File = parse_json(text, WHAT)?;
        let kind = file.kind.unwrap_or_default();
        if kind != "external_account" {
            return Err(KeyError(format!(
                "is not {WHAT}: its type is {kind:?}; create one with \
                 `gcloud iam workload-identity-pools create-cred-config`"
            )));
        }
        let missing = |name: &str| KeyError(format!("is not {WHAT}: it has no {name:?}"));
        let url = |name: &str, value: &str| {
            check_url(value)
                .and_then(|()| Url::parse(value).map_err(|error| format!("is not a URL: {error}")))
                .map_err(|reason| KeyError(format!("has a {name} that {reason}")))
        };
        let source = file.credential_source.ok_or_else(|| missing("credential_source"))?;
        let format = match source.format {
            Some(Format { kind: Some(kind), subject_token_field_name }) if kind == "json" => {
                SubjectFormat::Json(
                    subject_token_field_name
                        .ok_or_else(|| missing("credential_source.format.subject_token_field_name"))?,
                )
            }
            _ => SubjectFormat::Text,
        };
        let source = match (source.file, source.url) {
            (Some(path), _) => SubjectSource::File(path),
            // Metadata services of other clouds are asked over plain HTTP, inside the machine's own network.
            (None, Some(at)) => SubjectSource::Url {
                url: Url::parse(&at)
                    .ok()
                    .filter(|url| matches!(url.scheme(), "http" | "https") && url.host_str().is_some())
                    .ok_or_else(|| KeyError("has a credential_source.url that is not a URL".to_owned()))?,
                headers: source.headers,
            },
            (None, None) => {
                return Err(KeyError(
                    "has a credential_source that is neither a file nor a URL; those that run a program or ask AWS \
                     are not supported: configure the provider to leave its token in a file"
                        .to_owned(),
                ));
            }
        };
        Ok(Self {
            audience: file.audience.ok_or_else(|| missing("audience"))?,
            subject_token_type: file.subject_token_type.ok_or_else(|| missing("subject_token_type"))?,
            token_url: url("token_url", &file.token_url.ok_or_else(|| missing("token_url"))?)?,
            impersonation_url: file
                .service_account_impersonation_url
                .map(|at| url("service_account_impersonation_url", &at))
                .transpose()?,
            impersonation_seconds: file
                .service_account_impersonation
                .and_then(|settings| settings.token_lifetime_seconds)
                .unwrap_or(3600),
            client: file.client_id.zip(file.client_secret),
            workforce_project: file.workforce_pool_user_project,
            source,
            format,
        })
    }
}

impl SubjectFormat {
    /// The token in what was read.
    pub(crate) fn extract(&self, text: &str) -> Result<Secret, String> {
        let token = match self {
            Self::Text => text.trim().to_owned(),
            Self::Json(field) => {
                let object: BTreeMap<String, serde_json::Value> = serde_json::from_str(text)
                    .map_err(|error| format!("it is not a JSON object (line {})", error.line()))?;
                object
                    .get(field)
                    .and_then(serde_json::Value::as_str)
                    .ok_or_else(|| format!("it has no field {field:?}"))?
                    .to_owned()
            }
        };
        if token.is_empty() { Err("it is empty".to_owned()) } else { Ok(Secret::new(token)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(source: &str) -> Result<ExternalAccount, KeyError> {
        ExternalAccount::parse(&format!(
            r#"{{"type":"external_account","audience":"//iam.googleapis.com/x",
                "subject_token_type":"urn:ietf:params:oauth:token-type:jwt",
                "token_url":"https://sts.googleapis.com/v1/token","credential_source":{source}}}"#
        ))
    }

    #[test]
    fn subject_tokens_come_from_files_and_urls() {
        let account = parse(r#"{"file":"/var/run/token"}"#).unwrap();
        assert_eq!(account.source, SubjectSource::File("/var/run/token".into()));
        assert_eq!(account.format.extract(" abc\n").unwrap().expose(), "abc");
        let account = parse(
            r#"{"url":"http://169.254.169.254/token","headers":{"Metadata":"True"},
                "format":{"type":"json","subject_token_field_name":"access_token"}}"#,
        )
        .unwrap();
        assert_eq!(account.format.extract(r#"{"access_token":"abc"}"#).unwrap().expose(), "abc");
        assert!(account.format.extract("{}").unwrap_err().contains("access_token"));
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let error = parse(r#"{"executable":{"command":"/bin/x"}}"#).unwrap_err().to_string();
        assert!(error.contains("neither a file nor a URL"), "{error}");
        let error = ExternalAccount::parse(r#"{"type":"service_account"}"#).unwrap_err().to_string();
        assert!(error.contains("create-cred-config"), "{error}");
    }
}
