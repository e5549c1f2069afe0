//! Tokens, for as long as they are good.

use std::time::Duration;

use jiff::Timestamp;
use longshore_auth::Secret;
use serde::Deserialize;
use tokio::time::Instant;

use crate::scope::Scopes;

/// How long a token is good whose service does not say (distribution project, "Token Authentication Specification").
const DEFAULT_LIFE: u64 = 60;
/// The same specification: a token that is said to live less is used as long as this.
const SHORTEST_LIFE: u64 = 60;
/// A token is not used in the last part of its life: the request that carries it takes a while to arrive.
const MARGIN: Duration = Duration::from_secs(10);
/// As many tokens are kept for a registry; the oldest goes first.
const MOST_TOKENS: usize = 64;

/// A token, and what it was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) secret: Secret,
    scopes: Scopes,
    usable_until: Instant,
}

/// What a token service answers.
#[derive(Debug, Deserialize)]
pub(crate) struct Grant {
    token: Option<Secret>,
    /// OAuth 2.0's name for it.
    access_token: Option<Secret>,
    expires_in: Option<u64>,
    issued_at: Option<String>,
}

impl Token {
    /// The token of a service's answer, if it has one.
    pub(crate) fn granted(grant: Grant, scopes: Scopes, now: (Instant, Timestamp)) -> Option<Self> {
        let secret = grant.token.or(grant.access_token).filter(|secret| !secret.expose().is_empty())?;
        let life = Duration::from_secs(grant.expires_in.unwrap_or(DEFAULT_LIFE).max(SHORTEST_LIFE));
        let issued = grant.issued_at.and_then(|time| time.parse::<Timestamp>().ok());
        let age = issued.and_then(|issued| Duration::try_from(now.1.duration_since(issued)).ok());
        // A token that seems to be expired when it arrives has been issued by another clock.
        let left = age.and_then(|age| life.checked_sub(age)).filter(|left| *left > MARGIN).unwrap_or(life);
        Some(Self { secret, scopes, usable_until: now.0 + left.saturating_sub(MARGIN) })
    }
}

/// The tokens for one registry.
#[derive(Debug, Default)]
pub(crate) struct Tokens(Vec<Token>);

impl Tokens {
    /// A token that serves for `wanted`: the narrowest.
    pub(crate) fn find(&mut self, wanted: &Scopes, now: Instant) -> Option<&Token> {
        self.0.retain(|token| token.usable_until > now);
        let serving = self.0.iter().filter(|token| token.scopes.include(wanted));
        serving.min_by_key(|token| token.scopes.each().map(|scope| scope.len()).sum::<usize>())
    }

    pub(crate) fn keep(&mut self, token: Token) {
        self.0.retain(|kept| kept.scopes != token.scopes);
        if self.0.len() >= MOST_TOKENS {
            self.0.remove(0);
        }
        self.0.push(token);
    }

    /// The registry does not accept it.
    pub(crate) fn drop_token(&mut self, secret: &Secret) {
        self.0.retain(|token| token.secret != *secret);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(json: &str) -> Grant {
        serde_json::from_str(json).unwrap()
    }

    fn token(json: &str, scopes: &str) -> Option<Token> {
        Token::granted(
            grant(json),
            Scopes::parse(scopes),
            (Instant::now(), "2026-11-23T12:00:00Z".parse().unwrap()),
        )
    }

    /// For how long a token is used from now, rounded up to seconds.
    fn life(json: &str) -> u64 {
        let token = token(json, "").unwrap();
        (token.usable_until - Instant::now()).as_secs() + 1
    }

    #[test]
    fn both_names_are_read_and_a_token_must_be_there() {
        assert_eq!(token("{\"token\":\"a\"}", "").unwrap().secret.expose(), "a");
        assert_eq!(token("{\"access_token\":\"b\"}", "").unwrap().secret.expose(), "b");
        assert!(token("{\"token\":\"\"}", "").is_none());
        assert!(token("{}", "").is_none());
    }

    #[test]
    fn a_token_lives_as_long_as_its_service_says() {
        assert_eq!(life("{\"token\":\"a\"}"), 50);
        assert_eq!(life("{\"token\":\"a\",\"expires_in\":5}"), 50);
        assert_eq!(life("{\"token\":\"a\",\"expires_in\":300}"), 290);
        assert_eq!(life("{\"token\":\"a\",\"expires_in\":300,\"issued_at\":\"2026-11-23T11:58:20Z\"}"), 190);
        for skewed in ["2026-11-23T11:00:00Z", "2026-11-23T13:00:00Z", "yesterday"] {
            let json = format!("{{\"token\":\"a\",\"expires_in\":300,\"issued_at\":\"{skewed}\"}}");
            assert_eq!(life(&json), 290, "{skewed}");
        }
    }

    #[test]
    fn the_narrowest_token_that_serves_is_found() {
        let mut tokens = Tokens::default();
        tokens.keep(token("{\"token\":\"wide\"}", "repository:a:pull,push repository:b:pull").unwrap());
        tokens.keep(token("{\"token\":\"narrow\"}", "repository:a:pull,push").unwrap());
        let now = Instant::now();
        let found = |tokens: &mut Tokens, scopes: &str, now| {
            tokens.find(&Scopes::parse(scopes), now).map(|token| token.secret.expose().to_owned())
        };
        assert_eq!(found(&mut tokens, "repository:a:pull", now).as_deref(), Some("narrow"));
        assert_eq!(found(&mut tokens, "repository:b:pull", now).as_deref(), Some("wide"));
        assert_eq!(found(&mut tokens, "repository:c:pull", now), None);
        tokens.drop_token(&Secret::new("narrow"));
        assert_eq!(found(&mut tokens, "repository:a:pull", now).as_deref(), Some("wide"));
        assert_eq!(found(&mut tokens, "repository:a:pull", now + Duration::from_secs(51)), None);
    }
}
