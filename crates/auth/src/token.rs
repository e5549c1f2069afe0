//! Access tokens of OAuth services.

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use crate::{Secret, cache::Expires};

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
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let payload = token.expose().split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

/// When a JWT expires, by its own word.
pub(crate) fn jwt_expiry(token: &Secret) -> Option<Timestamp> {
    Timestamp::from_second(claims(token)?.get("exp")?.as_i64()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

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
