//! Who asks: from a challenge to what is sent.

use std::{sync::Arc, time::SystemTime};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use jiff::Timestamp;
use longshore_auth::{Credential, Lease, Secret, Sources, Target};
use longshore_endpoint::{Endpoint, Tries, redacted};
use tokio::time::Instant;
use url::Url;

use crate::{
    ClientError, RegistryError, Result,
    challenge::Challenge,
    client::Client,
    location::may_be_sent_credentials,
    scope::Scopes,
    site::Site,
    token::{Grant, Token, Tokens},
    wire::{Body, Failure, Wire},
};

/// What token services know us by (OAuth 2.0's `client_id`).
const CLIENT_ID: &str = "longshore";
/// The largest answer of a token service. Tokens of a few KiB exist; headers of more than 64 KiB do not.
const LARGEST_GRANT: u64 = 256 << 10;

/// What a registry has said of how it is told who asks, and the tokens for it.
#[derive(Debug, Default)]
pub(crate) struct Login {
    scheme: Scheme,
    tokens: Tokens,
}

#[derive(Clone, Debug, Default)]
enum Scheme {
    /// It has not asked.
    #[default]
    Unknown,
    Basic,
    Bearer {
        realm: Url,
        service: Option<String>,
    },
}

/// What a request was sent with.
#[derive(Clone, Debug)]
pub(crate) struct Pass {
    pub(crate) header: Option<HeaderValue>,
    secret: Option<Secret>,
    kind: Kind,
    /// The lease that it comes from, as far as it is known.
    lease: Lease,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Nothing, or the credential itself.
    Credential,
    /// What a token service gave for it.
    Token,
}

impl Pass {
    fn nothing(lease: Lease) -> Self {
        Self { header: None, secret: None, kind: Kind::Credential, lease }
    }

    /// Before a registry has asked for anything.
    fn unasked() -> Self {
        Self::nothing(Lease::anonymous())
    }

    fn is_anonymous(&self) -> bool {
        self.lease.credential == Credential::Anonymous
    }

    fn basic(username: &str, password: &Secret, lease: &Lease) -> Self {
        let pair = Secret::new(format!("{username}:{}", password.expose()));
        let text = Secret::new(format!("Basic {}", STANDARD.encode(pair.expose())));
        let header = sensitive(&text);
        Self { header, secret: Some(password.clone()), kind: Kind::Credential, lease: lease.clone() }
    }

    fn bearer(token: &Secret, kind: Kind, lease: &Lease) -> Self {
        let text = Secret::new(format!("Bearer {}", token.expose()));
        Self { header: sensitive(&text), secret: Some(token.clone()), kind, lease: lease.clone() }
    }
}

/// A header that is shown nowhere.
fn sensitive(text: &Secret) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text.expose()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Gets what requests for one thing are sent with.
pub(crate) struct Authorizer<'a> {
    pub(crate) client: &'a Client,
    pub(crate) site: &'a Arc<Site>,
    pub(crate) what: &'a str,
    pub(crate) repository: Option<&'a str>,
}

impl Authorizer<'_> {
    fn sources(&self) -> &Sources {
        &self.client.config().credentials
    }

    fn target(&self) -> Target<'_> {
        Target { host: &self.site.place.name, repository: self.repository }
    }

    async fn lease(&self) -> Result<Lease> {
        let lease = self.sources().lease(self.target()).await;
        lease.map_err(|source| ClientError::Credentials {
            what: self.what.to_owned(),
            source: Box::new(source),
        })
    }

    /// The credential was refused: another one, if there is.
    async fn lease_anew(&self, refused: &Lease) -> Result<Option<Lease>> {
        self.sources().forget(self.target());
        let lease = self.lease().await?;
        Ok((lease.credential != refused.credential).then_some(lease))
    }

    /// What to send unasked. Before the first challenge that is nothing.
    pub(crate) async fn prepare(&self, wanted: &Scopes) -> Result<Pass> {
        let mut login = self.site.login.lock().await;
        match login.scheme.clone() {
            Scheme::Unknown => Ok(Pass::unasked()),
            Scheme::Basic => {
                let lease = self.lease().await?;
                Ok(match &lease.credential {
                    Credential::Basic { username, password } => Pass::basic(username, password, &lease),
                    _ => Pass::nothing(lease),
                })
            }
            Scheme::Bearer { realm, service } => {
                match self.token(&mut login, &realm, service.as_deref(), wanted).await {
                    // The registry may name another token service by now.
                    Err(ClientError::Protocol { .. } | ClientError::Elsewhere { .. }) => {
                        login.scheme = Scheme::Unknown;
                        Ok(Pass::unasked())
                    }
                    token => token,
                }
            }
        }
    }

    /// What to send after an answer of 401 to a request that was sent with `sent`. `wanted` grows by what the
    /// challenge demands.
    pub(crate) async fn meet(
        &self,
        headers: &HeaderMap,
        said: Option<RegistryError>,
        sent: &Pass,
        wanted: &mut Scopes,
    ) -> Result<Pass> {
        let mut login = self.site.login.lock().await;
        match Challenge::read(headers) {
            None => Err(ClientError::Protocol {
                what: self.what.to_owned(),
                host: self.site.shown(),
                reason: "answered 401 without a challenge (WWW-Authenticate) of scheme Bearer or Basic"
                    .to_owned(),
            }),
            Some(Challenge::Basic) => {
                login.scheme = Scheme::Basic;
                self.basic(sent, said).await
            }
            Some(Challenge::Bearer { realm, service, scopes }) => {
                let realm = Url::parse(&realm)
                    .map_err(|_| self.protocol("names a token service that is not a URL"))?;
                *wanted = std::mem::take(wanted).union(scopes);
                if let Some(secret) = &sent.secret {
                    login.tokens.drop_token(secret);
                }
                if let Credential::RegistryToken(token) = &sent.lease.credential
                    && sent.secret.as_ref() == Some(token)
                {
                    login.tokens.clear();
                    let Some(lease) = self.lease_anew(&sent.lease).await? else {
                        return Err(self.unauthorized(&self.site.shown(), &sent.lease, said));
                    };
                    drop(lease);
                }
                let pass = self.token(&mut login, &realm, service.as_deref(), wanted).await?;
                // What nobody could get a token from is not worth remembering.
                login.scheme = Scheme::Bearer { realm, service };
                Ok(pass)
            }
        }
    }

    async fn basic(&self, sent: &Pass, said: Option<RegistryError>) -> Result<Pass> {
        let mut lease = self.lease().await?;
        let was_sent = sent.secret.is_some() && sent.kind == Kind::Credential;
        if was_sent && sent.lease.credential == lease.credential {
            match self.lease_anew(&lease).await? {
                Some(other) => lease = other,
                None => return Err(self.unauthorized(&self.site.shown(), &lease, said)),
            }
        }
        match &lease.credential {
            Credential::Basic { username, password } => Ok(Pass::basic(username, password, &lease)),
            _ => Err(self.unauthorized(&self.site.shown(), &lease, said)),
        }
    }

    /// A token for `wanted`: one that is there, or a new one.
    async fn token(
        &self,
        login: &mut Login,
        realm: &Url,
        service: Option<&str>,
        wanted: &Scopes,
    ) -> Result<Pass> {
        let lease = self.lease().await?;
        if let Credential::RegistryToken(token) = &lease.credential {
            return Ok(Pass::bearer(token, Kind::Credential, &lease));
        }
        if let Some(token) = login.tokens.find(wanted, Instant::now()) {
            return Ok(Pass::bearer(&token.secret, Kind::Token, &lease));
        }
        let fetched = match self.fetch(realm, service, wanted, &lease).await {
            Ok(token) => Ok((token, lease)),
            Err(error @ ClientError::Unauthorized { .. }) => {
                login.tokens.clear();
                match self.lease_anew(&lease).await? {
                    Some(lease) => {
                        self.fetch(realm, service, wanted, &lease).await.map(|token| (token, lease))
                    }
                    None => Err(error),
                }
            }
            Err(error) => Err(error),
        };
        if fetched.is_err() {
            // A challenge that leads nowhere is not remembered: the next request asks the registry again.
            login.scheme = Scheme::Unknown;
        }
        let (token, lease) = fetched?;
        let pass = Pass::bearer(&token.secret, Kind::Token, &lease);
        login.tokens.keep(token);
        Ok(pass)
    }

    async fn fetch(
        &self,
        realm: &Url,
        service: Option<&str>,
        wanted: &Scopes,
        lease: &Lease,
    ) -> Result<Token> {
        let registry = &self.site.place.endpoint.url;
        if lease.credential != Credential::Anonymous && !may_be_sent_credentials(registry, realm) {
            return Err(ClientError::Elsewhere {
                what: self.what.to_owned(),
                host: self.site.shown(),
                url: redacted(realm),
                reason: "a token service that is reached by plain HTTP on another host, which is sent no credentials"
                    .to_owned(),
            });
        }
        let inside = crate::location::is_inside(realm) && !crate::location::is_inside(registry);
        if !matches!(realm.scheme(), "http" | "https") || inside {
            return Err(self.protocol("names a token service at an address where none can be"));
        }
        let mut tries = Tries::new(self.client.config().pauses);
        loop {
            match self.fetch_once(realm, service, wanted, lease).await {
                Ok(token) => return Ok(token),
                Err(failure) => {
                    let pause = failure
                        .error
                        .is_retryable()
                        .then(|| tries.failed(failure.stage, failure.retry_after));
                    let Some(pause) = pause.flatten() else { return Err(failure.error) };
                    tracing::debug!(%realm, error = %failure.error, ?pause, "token not fetched, trying again");
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    async fn fetch_once(
        &self,
        realm: &Url,
        service: Option<&str>,
        wanted: &Scopes,
        lease: &Lease,
    ) -> Result<Token, Failure> {
        let mut url = longshore_endpoint::bare(realm);
        let mut headers = HeaderMap::new();
        let (method, body) = if let Credential::IdentityToken { token, .. } = &lease.credential {
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            form.append_pair("grant_type", "refresh_token").append_pair("client_id", CLIENT_ID);
            form.append_pair("refresh_token", token.expose());
            if let Some(service) = service {
                form.append_pair("service", service);
            }
            if !wanted.is_empty() {
                form.append_pair("scope", &wanted.to_string());
            }
            let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
            headers.insert(header::CONTENT_TYPE, form_type);
            (Method::POST, Body::Bytes(form.finish().into()))
        } else {
            {
                let mut query = url.query_pairs_mut();
                if let Some(service) = service {
                    query.append_pair("service", service);
                }
                for scope in wanted.each() {
                    query.append_pair("scope", &scope);
                }
                if let Credential::Basic { username, .. } = &lease.credential {
                    query.append_pair("account", username);
                }
            }
            if url.query() == Some("") {
                url.set_query(None);
            }
            if let Credential::Basic { username, password } = &lease.credential
                && let Some(value) = Pass::basic(username, password, lease).header
            {
                headers.insert(header::AUTHORIZATION, value);
            }
            (Method::GET, Body::None)
        };
        let authorities = self.authorities(&url);
        let wire = Wire { client: self.client, what: self.what, endpoint: &authorities };
        let answer = wire.send(method, &url, headers, body).await?;
        let status = answer.status();
        if status.is_success() {
            let bytes = answer.bytes(LARGEST_GRANT).await?;
            let grant: Grant = serde_json::from_slice(&bytes)
                .map_err(|_| self.protocol("names a token service that does not answer with a token"))?;
            let now = (Instant::now(), Timestamp::try_from(SystemTime::now()).unwrap_or_default());
            let token = Token::granted(grant, wanted.clone(), now);
            return Ok(token.ok_or_else(|| self.protocol("has a token service that sends no token"))?);
        }
        let refusal = answer.refusal().await;
        let is_refused = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
            || status == StatusCode::BAD_REQUEST
                && matches!(lease.credential, Credential::IdentityToken { .. });
        if is_refused {
            let host = wire.endpoint.name();
            return Err(self.unauthorized(&host, lease, refusal.said).into());
        }
        let failure = refusal.failure(self.what);
        // What the token service does not have is not what was asked of the registry.
        if failure.error.is_not_found() {
            return Err(self.protocol("names a token service that is not there (404)").into());
        }
        Err(failure)
    }

    /// A token service is trusted by what `hosts.toml` says of its own host, and a registry's own one like it.
    fn authorities(&self, url: &Url) -> Endpoint {
        let mut endpoint = Endpoint { url: url.clone(), authorities: None };
        endpoint.url.set_query(None);
        let registry = &self.site.place.endpoint;
        endpoint.authorities = if registry.url.host() == url.host() {
            registry.authorities.clone()
        } else {
            self.client.config().hosts.registry(&endpoint.name()).server.authorities
        };
        endpoint
    }

    fn protocol(&self, reason: &str) -> ClientError {
        ClientError::Protocol {
            what: self.what.to_owned(),
            host: self.site.shown(),
            reason: reason.to_owned(),
        }
    }

    /// The error for a credential that is not accepted.
    pub(crate) fn unauthorized(&self, host: &str, lease: &Lease, said: Option<RegistryError>) -> ClientError {
        let name = &self.site.place.name;
        let remedy = match lease.credential {
            Credential::Anonymous => format!(
                "if it exists, it needs credentials: log in (docker login {name}) or connect a service connector to the registry"
            ),
            Credential::Basic { .. } => format!(
                "check user name and password, and whether the password or token has expired or been revoked; \
                 then log in anew (docker login {name}) or update the service connector"
            ),
            Credential::IdentityToken { .. } | Credential::RegistryToken(_) => {
                format!("the token has expired or been revoked: log in anew (docker login {name})")
            }
        };
        ClientError::Unauthorized {
            what: self.what.to_owned(),
            host: host.to_owned(),
            origin: described(lease),
            reason: said.map(|said| said.message),
            remedy,
        }
    }

    /// The error for an answer of 401 to what should have been accepted.
    pub(crate) fn refused(&self, pass: &Pass, said: Option<RegistryError>) -> ClientError {
        let accepted = pass.kind == Kind::Token && !pass.is_anonymous();
        if !accepted {
            return self.unauthorized(&self.site.shown(), &pass.lease, said);
        }
        // The token service took the credential and gave a token: one that does not allow this.
        self.denied(pass, said)
    }

    /// The error for what the credential does not allow.
    pub(crate) fn denied(&self, pass: &Pass, said: Option<RegistryError>) -> ClientError {
        let remedy = if pass.is_anonymous() {
            let name = &self.site.place.name;
            format!("log in (docker login {name}) or connect a service connector to the registry")
        } else {
            "check that the repository exists and that this account may do this there".to_owned()
        };
        ClientError::Denied {
            what: self.what.to_owned(),
            host: self.site.shown(),
            origin: described(&pass.lease),
            reason: said.map(|said| said.message),
            remedy,
        }
    }
}

/// A credential as messages name it.
fn described(lease: &Lease) -> String {
    if lease.credential == Credential::Anonymous {
        return "a request without credentials".to_owned();
    }
    format!("the credentials from {}", lease.origin)
}
