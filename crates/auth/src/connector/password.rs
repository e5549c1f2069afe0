//! A name and a password, and whether a registry accepts them.

use http::{StatusCode, header};
use http_auth::parser::ChallengeParser;
use longshore_endpoint::{Endpoint, Hosts, is_loopback};
use serde::Deserialize;
use url::Url;

use super::{Config, Identity, Proof};
use crate::{
    AuthError, Credential, Problem, Secret,
    service::{Answer, Request, Service},
};

/// The registry of credentials that name none.
pub(super) const DOCKER_HUB: &str = "docker.io";

/// Whether a password is a token of GitHub's, for its own registry (GitHub's documentation, "GitHub's token formats").
fn is_of_github(password: &Secret) -> bool {
    const PREFIXES: [&str; 6] = ["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"];
    PREFIXES.iter().any(|prefix| password.expose().starts_with(prefix))
}

/// The credentials of a docker connector.
#[derive(Debug)]
pub(super) struct Password {
    username: String,
    secret: Secret,
    service: Service,
    hosts: Hosts,
}

/// What a registry wants.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    /// The name and password.
    Basic,
    /// A token of that service.
    Bearer { realm: String, service: Option<String> },
}

#[derive(Deserialize)]
struct Token {
    token: Option<Secret>,
    access_token: Option<Secret>,
}

impl Password {
    pub(super) fn new(config: &Config, service: Service, hosts: Hosts) -> Self {
        Self {
            username: config.required("username").to_owned(),
            secret: config.secret("password"),
            service,
            hosts,
        }
    }

    pub(super) fn credential(&self) -> Credential {
        Credential::Basic { username: self.username.clone(), password: self.secret.clone() }
    }

    pub(super) fn identity(&self, proof: Proof) -> Identity {
        Identity { account: self.username.clone(), expires: None, proof }
    }

    /// Asks the registry, or the token service that it names, whether name and password are right.
    pub(super) async fn verify(&self, host: &str) -> Result<Identity, AuthError> {
        let what = format!("log in to {host} as {}", self.username);
        let endpoint = self.hosts.registry(host).server;
        let url = endpoint.at("v2/").map_err(|error| {
            AuthError::unusable(
                self.service.origin(),
                format!("{host} is not a host: {error}"),
                "correct the registry",
            )
        })?;
        let ask = |request: Request| self.service.send(&what, request.at(endpoint.clone()));
        let answer = ask(Request::get(url.clone())).await?;
        let challenge = match answer.status {
            StatusCode::UNAUTHORIZED => {
                challenge(&answer).ok_or_else(|| self.no_registry(&what, host, &answer))?
            }
            StatusCode::OK if !answer.is_page() => {
                let answer = ask(Request::get(url).basic(&self.username, &self.secret)).await?;
                return match answer.status {
                    StatusCode::OK => Ok(self.identity(Proof::OpenRegistry)),
                    _ => Err(wrong_password(&what, &answer)),
                };
            }
            _ => return Err(self.no_registry(&what, host, &answer)),
        };
        let request = match challenge {
            Challenge::Basic => Request::get(url).basic(&self.username, &self.secret),
            Challenge::Bearer { realm, service } => {
                let token = self.token(&what, &endpoint, &realm, service.as_deref()).await?;
                Request::get(url).bearer(&token)
            }
        };
        let answer = ask(request).await?;
        if answer.status.is_success() {
            Ok(self.identity(Proof::Accepted))
        } else {
            Err(wrong_password(&what, &answer))
        }
    }

    /// Asks Docker Hub, which names and passwords without a registry are for, as they are for `docker login`. That it
    /// cannot be asked proves nothing; nor is it asked about what is plainly for another registry.
    pub(super) async fn verify_at_docker_hub(&self) -> Result<Identity, AuthError> {
        if is_of_github(&self.secret) {
            return Ok(self.identity(Proof::NoRegistryYet));
        }
        match self.verify(DOCKER_HUB).await {
            Err(AuthError { problem: Problem::Unreachable { .. } | Problem::Unavailable { .. }, .. }) => {
                Ok(self.identity(Proof::NoRegistryYet))
            }
            Err(AuthError { origin, problem: Problem::Refused { what, reason, remedy } }) => {
                let remedy = format!("{remedy}; if they are for another registry, name it: --registry=HOST");
                Err(AuthError { origin, problem: Problem::Refused { what, reason, remedy } })
            }
            other => other,
        }
    }

    async fn token(
        &self,
        what: &str,
        endpoint: &Endpoint,
        realm: &str,
        service: Option<&str>,
    ) -> Result<Secret, AuthError> {
        let unsafe_realm = || {
            AuthError::unusable(
                self.service.origin(),
                format!(
                    "cannot {what}: the registry names {realm} as its token service, which is not an https URL"
                ),
                "tell whoever runs the registry: the password would be sent in the clear",
            )
        };
        let mut url = Url::parse(realm).map_err(|_| unsafe_realm())?;
        let loopback = url.host_str().is_some_and(is_loopback);
        // Whoever said in hosts.toml that the registry is served over plain HTTP accepted that for its token service.
        if url.scheme() != "https"
            && !(url.scheme() == "http" && (loopback || endpoint.url.scheme() == "http"))
        {
            return Err(unsafe_realm());
        }
        url.query_pairs_mut()
            .extend_pairs(service.map(|service| ("service", service)))
            .append_pair("account", &self.username)
            .append_pair("client_id", "longshore");
        let same = (url.host_str(), url.port()) == (endpoint.url.host_str(), endpoint.url.port());
        let mut request = Request::get(url).basic(&self.username, &self.secret);
        if same {
            request = request.at(endpoint.clone());
        }
        let answer = self.service.send(what, request).await?;
        let answer = answer.accepted(|answer| wrong_password(what, answer))?;
        let token: Token = answer.parse(what)?;
        token.token.or(token.access_token).ok_or_else(|| wrong_password(what, &answer))
    }

    fn no_registry(&self, what: &str, host: &str, answer: &Answer) -> AuthError {
        AuthError::refused(
            self.service.origin(),
            format!("cannot {what}"),
            format!("{host} answers {} at /v2/, which is not what a registry answers", answer.status),
            "check the registry's host",
        )
    }
}

fn wrong_password(what: &str, answer: &Answer) -> AuthError {
    let remedy = "check the user name and password, and whether the registry wants an access token in place of the \
                  password (ghcr.io does, and docker.io for accounts with two factors)";
    answer.refused(what, &answer.refusal(), remedy)
}

/// The challenge that is best answered: a token where one is offered.
fn challenge(answer: &Answer) -> Option<Challenge> {
    let mut best = None;
    for value in answer.headers.get_all(header::WWW_AUTHENTICATE) {
        for challenge in ChallengeParser::new(value.to_str().ok()?).flatten() {
            if challenge.scheme.eq_ignore_ascii_case("bearer") {
                let parameter = |name: &str| {
                    let found = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                    found.map(|(_, value)| value.to_unescaped())
                };
                return Some(Challenge::Bearer { realm: parameter("realm")?, service: parameter("service") });
            }
            if challenge.scheme.eq_ignore_ascii_case("basic") {
                best = Some(Challenge::Basic);
            }
        }
    }
    best
}
