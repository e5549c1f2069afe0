//! What a registry wants to be sent (`WWW-Authenticate`, RFC 9110 §11.6.1).

use http::{HeaderMap, header};

use crate::scope::Scopes;

/// How a registry is told who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// With a token of the token service at `realm` (distribution project, "Token Authentication Specification").
    Bearer { realm: String, service: Option<String>, scopes: Scopes },
    /// With name and password.
    Basic,
}

impl Challenge {
    /// The challenge of an answer that we can meet. Bearer is preferred: the password is sent to fewer requests.
    pub(crate) fn read(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let challenges: Vec<Self> = values.flat_map(parse).collect();
        let bearer = challenges.iter().find(|challenge| matches!(challenge, Self::Bearer { .. }));
        bearer.or(challenges.first()).cloned()
    }
}

fn parse(value: &str) -> Vec<Challenge> {
    let Ok(challenges) = http_auth::parse_challenges(value) else { return Vec::new() };
    let challenges = challenges.iter().filter_map(|challenge| {
        let parameter = |wanted: &str| {
            let found = challenge.params.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.map(|(_, value)| value.to_unescaped())
        };
        if challenge.scheme.eq_ignore_ascii_case("bearer") {
            let scopes = parameter("scope").map_or_else(Scopes::none, |scope| Scopes::parse(&scope));
            Some(Challenge::Bearer { realm: parameter("realm")?, service: parameter("service"), scopes })
        } else if challenge.scheme.eq_ignore_ascii_case("basic") {
            Some(Challenge::Basic)
        } else {
            None
        }
    });
    challenges.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::WWW_AUTHENTICATE, value.parse().unwrap());
        }
        Challenge::read(&headers)
    }

    #[test]
    fn bearer_has_a_realm_a_service_and_scopes() {
        let challenge = read(&[
            "Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\",scope=\"repository:a/b:pull,push\"",
        ]);
        let expected = Challenge::Bearer {
            realm: "https://auth.docker.io/token".to_owned(),
            service: Some("registry.docker.io".to_owned()),
            scopes: Scopes::parse("repository:a/b:pull,push"),
        };
        assert_eq!(challenge, Some(expected));
    }

    #[test]
    fn bearer_is_preferred_and_the_unknown_is_passed_over() {
        assert_eq!(read(&["basic realm=\"x\""]), Some(Challenge::Basic));
        let both = read(&["Basic realm=\"x\"", "Negotiate, BEARER realm=\"https://a/t\""]);
        assert!(matches!(both, Some(Challenge::Bearer { .. })), "{both:?}");
        assert_eq!(read(&["Negotiate"]), None);
        assert_eq!(read(&["Bearer service=\"no realm\""]), None);
        assert_eq!(read(&[]), None);
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text: String) {
            let _ = parse(&text);
        }
    }
}
