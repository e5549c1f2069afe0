//! Service account keys, and the assertions that they sign.

use std::fmt;

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{Secret, connector::check_url};

/// What tokens are asked for: registries take no narrower scope than this one for pushing.
pub(crate) const CLOUD_PLATFORM: &str = "https://www.googleapis.com/auth/cloud-platform";

/// How long an assertion is good; Google accepts an hour at most.
const LIFETIME_SECONDS: i64 = 3600;

/// A service account's key file.
#[derive(Clone)]
pub struct ServiceAccountKey {
    pub(crate) client_email: String,
    pub(crate) project_id: Option<String>,
    pub(crate) token_uri: Url,
    private_key_id: Option<String>,
    private_key: EncodingKey,
}

/// Why a file of Google's is not usable; what follows "the value of 'x'".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeyError(pub(crate) String);

#[derive(Deserialize)]
struct File {
    #[serde(rename = "type")]
    kind: Option<String>,
    client_email: Option<String>,
    project_id: Option<String>,
    token_uri: Option<String>,
    private_key_id: Option<String>,
    private_key: Option<Secret>,
}

/// The claims of an assertion (RFC 7523 §3, and Google's "Using OAuth 2.0 for Server to Server Applications").
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    scope: &'a str,
    aud: &'a str,
    iat: i64,
    exp: i64,
}

/// Reads a JSON file of Google's, whose text may have secrets that errors of the parser could show.
pub(crate) fn parse_json<'a, T: Deserialize<'a>>(text: &'a str, what: &str) -> Result<T, KeyError> {
    serde_json::from_str(text).map_err(|error| {
        KeyError(format!(
            "is not {what}: it is not valid JSON at line {}, column {}",
            error.line(),
            error.column()
        ))
    })
}

impl ServiceAccountKey {
    /// Reads the content of a key file.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        const WHAT: &str = "a service account key";
        let file: File = parse_json(text, WHAT)?;
        if let Some(kind) = file.kind.filter(|kind| kind != "service_account") {
            return Err(KeyError(format!(
                "is not {WHAT}: its type is {kind:?}; create a key of the service account with \
                 `gcloud iam service-accounts keys create`"
            )));
        }
        let missing = |name: &str| {
            KeyError(format!(
                "is not {WHAT}: it has no {name:?}; give the file that Google Cloud made, unchanged"
            ))
        };
        let private_key = file.private_key.ok_or_else(|| missing("private_key"))?;
        let token_uri = file.token_uri.as_deref().unwrap_or("https://oauth2.googleapis.com/token");
        check_url(token_uri).map_err(|reason| KeyError(format!("has a token_uri that {reason}")))?;
        Ok(Self {
            client_email: file.client_email.ok_or_else(|| missing("client_email"))?,
            project_id: file.project_id,
            token_uri: Url::parse(token_uri).map_err(|_| missing("token_uri"))?,
            private_key_id: file.private_key_id,
            private_key: EncodingKey::from_rsa_pem(private_key.expose().as_bytes()).map_err(|_| {
                KeyError(
                    "has a private_key that is not an RSA key in PEM format; it was cut or changed: \
                     give the file that Google Cloud made, unchanged"
                        .to_owned(),
                )
            })?,
        })
    }

    /// A signed assertion, which the token service exchanges for an access token.
    pub(crate) fn assertion(&self, now: Timestamp) -> Result<Secret, KeyError> {
        let iat = now.as_second();
        let claims = Claims {
            iss: &self.client_email,
            scope: CLOUD_PLATFORM,
            // Not Google's own address whatever the file says: nobody can take an assertion to another service.
            aud: self.token_uri.as_str(),
            iat,
            exp: iat + LIFETIME_SECONDS,
        };
        let header = Header { kid: self.private_key_id.clone(), ..Header::new(Algorithm::RS256) };
        jsonwebtoken::encode(&header, &claims, &self.private_key)
            .map(Secret::new)
            .map_err(|error| KeyError(format!("cannot sign: {error}")))
    }
}

impl fmt::Debug for ServiceAccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceAccountKey")
            .field("client_email", &self.client_email)
            .field("private_key_id", &self.private_key_id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_key_is_said_without_showing_it() {
        for (text, part) in [
            ("not json", "not valid JSON at line 1"),
            ("{\"type\":\"service_account\",\"private_key\": hunter2", "not valid JSON at line 1"),
            ("{\"type\":\"authorized_user\"}", "its type is \"authorized_user\""),
            ("{\"type\":\"service_account\",\"client_email\":\"a@b\"}", "has no \"private_key\""),
            (
                "{\"client_email\":\"a@b\",\"private_key\":\"hunter2\",\"token_uri\":\"https://a/t\"}",
                "not an RSA key in PEM format",
            ),
            (
                "{\"client_email\":\"a@b\",\"private_key\":\"hunter2\",\"token_uri\":\"http://evil.example/t\"}",
                "has a token_uri that must be an https URL",
            ),
        ] {
            let error = ServiceAccountKey::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
