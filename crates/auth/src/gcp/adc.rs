//! Application default credentials: what Google's programs leave on a machine.

use std::path::PathBuf;

use serde::Deserialize;
use url::Url;

use super::{
    external::ExternalAccount,
    key::{KeyError, ServiceAccountKey, parse_json},
};
use crate::{AuthError, Environment, Secret, connector::check_url};

/// A credential file of any type.
#[derive(Clone, Debug)]
pub(crate) enum CredentialFile {
    ServiceAccount(ServiceAccountKey),
    User(AuthorizedUser),
    External(Box<ExternalAccount>),
    Impersonated(Impersonated),
}

/// What `gcloud auth application-default login` leaves: a refresh token.
#[derive(Clone, Debug)]
pub(crate) struct AuthorizedUser {
    pub(crate) client_id: String,
    pub(crate) client_secret: Secret,
    pub(crate) refresh_token: Secret,
    pub(crate) token_uri: Url,
    pub(crate) account: Option<String>,
    pub(crate) project_id: Option<String>,
}

/// What `gcloud auth application-default login --impersonate-service-account` leaves.
#[derive(Clone, Debug)]
pub(crate) struct Impersonated {
    pub(crate) url: Url,
    pub(crate) delegates: Vec<String>,
    pub(crate) source: Box<CredentialFile>,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
struct UserFile {
    client_id: String,
    client_secret: Secret,
    refresh_token: Secret,
    token_uri: Option<String>,
    account: Option<String>,
    quota_project_id: Option<String>,
}

#[derive(Deserialize)]
struct ImpersonatedFile {
    service_account_impersonation_url: String,
    #[serde(default)]
    delegates: Vec<String>,
    source_credentials: Box<serde_json::value::RawValue>,
}

impl CredentialFile {
    pub(crate) fn parse(text: &str) -> Result<Self, KeyError> {
        const WHAT: &str = "a Google credential file";
        let kind = parse_json::<Kind>(text, WHAT)?.kind.unwrap_or_default();
        let url = |text: &str| {
            check_url(text)
                .and_then(|()| Url::parse(text).map_err(|error| format!("is not a URL: {error}")))
                .map_err(|reason| KeyError(format!("has a URL that {reason}")))
        };
        match kind.as_str() {
            "service_account" => Ok(Self::ServiceAccount(ServiceAccountKey::parse(text)?)),
            "external_account" => Ok(Self::External(Box::new(ExternalAccount::parse(text)?))),
            "authorized_user" => {
                let file: UserFile = parse_json(text, WHAT)?;
                Ok(Self::User(AuthorizedUser {
                    client_id: file.client_id,
                    client_secret: file.client_secret,
                    refresh_token: file.refresh_token,
                    token_uri: url(file
                        .token_uri
                        .as_deref()
                        .unwrap_or("https://oauth2.googleapis.com/token"))?,
                    account: file.account.filter(|account| !account.is_empty()),
                    project_id: file.quota_project_id,
                }))
            }
            "impersonated_service_account" => {
                let file: ImpersonatedFile = parse_json(text, WHAT)?;
                let source = Self::parse(file.source_credentials.get())?;
                if matches!(source, Self::Impersonated(_)) {
                    return Err(KeyError(
                        "impersonates on behalf of an impersonation; use delegates".to_owned(),
                    ));
                }
                Ok(Self::Impersonated(Impersonated {
                    url: url(&file.service_account_impersonation_url)?,
                    delegates: file.delegates,
                    source: Box::new(source),
                }))
            }
            other => Err(KeyError(format!("has the type {other:?}, which is not supported"))),
        }
    }

    /// The file that this machine has, if it has one.
    pub(crate) fn find(environment: &Environment, origin: &str) -> Result<Option<Self>, AuthError> {
        const VARIABLE: &str = "GOOGLE_APPLICATION_CREDENTIALS";
        let named = environment.path(VARIABLE);
        let path = match &named {
            Some(path) => path.clone(),
            None => match well_known(environment) {
                Some(path) => path,
                None => return Ok(None),
            },
        };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                let remedy = match named {
                    Some(_) => format!("set {VARIABLE} to a credential file that can be read, or unset it"),
                    None => "make it readable, or run `gcloud auth application-default login`".to_owned(),
                };
                return Err(AuthError::unusable(
                    origin,
                    format!("cannot read {}: {error}", path.display()),
                    remedy,
                ));
            }
        };
        Self::parse(&text).map(Some).map_err(|error| {
            let remedy = "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS to another file";
            AuthError::unusable(origin, format!("{} {error}", path.display()), remedy)
        })
    }

    /// The project that it names.
    pub(crate) fn project(&self) -> Option<&str> {
        match self {
            Self::ServiceAccount(key) => key.project_id.as_deref(),
            Self::User(user) => user.project_id.as_deref(),
            Self::External(_) => None,
            Self::Impersonated(impersonated) => impersonated.source.project(),
        }
    }
}

/// Where `gcloud auth application-default login` leaves its file.
fn well_known(environment: &Environment) -> Option<PathBuf> {
    let folder = environment
        .path("CLOUDSDK_CONFIG")
        .or_else(|| environment.home().map(|home| home.join(".config/gcloud")))?;
    Some(folder.join("application_default_credentials.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: &str = r#"{"type":"authorized_user","client_id":"c","client_secret":"s","refresh_token":"r",
        "account":"","quota_project_id":"p"}"#;

    #[test]
    fn every_type_is_read() {
        let CredentialFile::User(user) = CredentialFile::parse(USER).unwrap() else { panic!("not a user") };
        assert_eq!((user.account, user.project_id.as_deref()), (None, Some("p")));
        assert_eq!(user.token_uri.as_str(), "https://oauth2.googleapis.com/token");
        let text = format!(
            r#"{{"type":"impersonated_service_account","delegates":["d"],"source_credentials":{USER},
              "service_account_impersonation_url":"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/a@b:generateAccessToken"}}"#
        );
        let file = CredentialFile::parse(&text).unwrap();
        assert!(matches!(&file, CredentialFile::Impersonated(made) if made.delegates == ["d"]));
        assert_eq!(file.project(), Some("p"));
        let error = CredentialFile::parse(r#"{"type":"gdch_service_account"}"#).unwrap_err();
        assert!(error.to_string().contains("not supported"), "{error}");
    }

    #[test]
    fn a_named_file_must_be_there_and_the_usual_one_need_not() {
        let home = tempfile::tempdir().unwrap();
        let at_home: Environment = [("HOME", home.path().to_str().unwrap())].into_iter().collect();
        assert!(CredentialFile::find(&at_home, "x").unwrap().is_none());
        let gcloud = home.path().join(".config/gcloud");
        std::fs::create_dir_all(&gcloud).unwrap();
        std::fs::write(gcloud.join("application_default_credentials.json"), USER).unwrap();
        assert!(CredentialFile::find(&at_home, "x").unwrap().is_some());
        let named = [("GOOGLE_APPLICATION_CREDENTIALS", "/nonexistent.json")].into_iter().collect();
        let error = CredentialFile::find(&named, "x").unwrap_err().to_string();
        assert!(error.contains("/nonexistent.json") && error.contains("unset it"), "{error}");
    }
}
