//! Access tokens of OAuth services.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use crate::{Credential, Secret, cache::Expires};

/// An access token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) secret: Secret,
    pub(crate) expires: Option<Timestamp>,
}

impl Expires for Token {
    fn expires(&self) -> Option<Timestamp> {
        self.expires
    }
}

/// What an OAuth token endpoint answers (RFC 6749 §5.1). Some of Microsoft's write numbers as strings.
#[derive(Deserialize)]
pub(crate) struct TokenAnswer {
    access_token: Secret,
    expires_in: Option<Seconds>,
    expires_on: Option<Seconds>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(i64),
    Text(String),
}

impl Seconds {
    fn value(&self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => text.parse().ok(),
        }
    }
}

impl TokenAnswer {
    pub(crate) fn token(self, now: Timestamp) -> Token {
        let lives = self.expires_in.and_then(|seconds| seconds.value());
        let ends = self.expires_on.and_then(|seconds| seconds.value());
        let expires = lives
            .and_then(|seconds| now.checked_add(SignedDuration::from_secs(seconds)).ok())
            .or_else(|| Timestamp::from_second(ends?).ok());
        Token { secret: self.access_token, expires }
    }
}

/// A claim of a JWT that is ours to send on, not to judge: read without verification.
pub(crate) fn claims(token: &Secret) -> Option<serde_json::Map<String, serde_json::Value>> {
    let payload = token.expose().split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

/// When a JWT expires, by its own word.
pub(crate) fn jwt_expiry(token: &Secret) -> Option<Timestamp> {
    Timestamp::from_second(claims(token)?.get("exp")?.as_i64()?).ok()
}

/// When a credential that somebody left behind expires, as far as it says so itself: JWTs do (`az acr login`), and what
/// `aws ecr get-login-password` gives, which is base64 of an object.
pub(crate) fn written_expiry(credential: &Credential) -> Option<Timestamp> {
    let secret = match credential {
        Credential::Anonymous => return None,
        Credential::Basic { password, .. } => password,
        Credential::IdentityToken { token, .. } | Credential::RegistryToken(token) => token,
    };
    jwt_expiry(secret).or_else(|| {
        let object: serde_json::Value =
            serde_json::from_slice(&STANDARD.decode(secret.expose()).ok()?).ok()?;
        Timestamp::from_second(object.get("expiration")?.as_i64()?).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_when_it_expires_is_believed() {
        let basic = |password: String| {
            let credential =
                Credential::Basic { username: "AWS".to_owned(), password: Secret::new(password) };
            written_expiry(&credential).map(Timestamp::as_second)
        };
        let object = r#"{"payload":"x","version":"2","type":"DATA_KEY","expiration":1700000000}"#;
        assert_eq!(basic(STANDARD.encode(object)), Some(1_700_000_000));
        let claims = URL_SAFE_NO_PAD.encode(r#"{"exp":1700000000}"#);
        assert_eq!(basic(format!("e30.{claims}.c2ln")), Some(1_700_000_000));
        for password in ["hunter2", "a.b.c", "", "eyJ9.eyJ9.x"] {
            assert_eq!(basic(password.to_owned()), None, "{password}");
        }
    }

    #[test]
    fn lifetimes_are_read_as_numbers_and_as_text() {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        for (answer, seconds) in [
            (r#"{"access_token":"t","expires_in":3599}"#, Some(1_700_003_599)),
            (r#"{"access_token":"t","expires_in":"60","expires_on":"1"}"#, Some(1_700_000_060)),
            (r#"{"access_token":"t","expires_on":"1700000007"}"#, Some(1_700_000_007)),
            (r#"{"access_token":"t"}"#, None),
        ] {
            let token = serde_json::from_str::<TokenAnswer>(answer).unwrap().token(now);
            assert_eq!(token.expires.map(Timestamp::as_second), seconds, "{answer}");
        }
    }
}
