//! A token service (the distribution project's "Token Authentication" and "OAuth2 Token Authentication").

mod answer;
mod authority;
mod scope;

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{Router, routing::get};
use serde::Deserialize;

pub use authority::{Access, Authority, Claims, Refusal};
pub use scope::Scope;

use crate::Serving;

/// Who may get which tokens.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenConfig {
    /// The service that the tokens are for.
    pub service: String,
    /// Who signs them.
    pub issuer: String,
    /// The accounts.
    pub users: Vec<User>,
    /// What anybody may do.
    pub anonymous: Vec<Scope>,
    /// How long a token is good, in seconds. A real registry accepts it a minute longer.
    pub lifetime_seconds: u64,
    /// How the form with `POST` is answered.
    pub oauth: OAuth,
    /// Which name the token has in the answer to a `GET`.
    pub token_field: TokenField,
}

impl Default for TokenConfig {
    fn default() -> Self {
        Self {
            service: "registry.test".to_owned(),
            issuer: "tokens.test".to_owned(),
            users: Vec::new(),
            anonymous: Vec::new(),
            lifetime_seconds: 300,
            oauth: OAuth::Supported,
            token_field: TokenField::Both,
        }
    }
}

/// Whether the service takes `POST`: not every one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OAuth {
    /// It does.
    Supported,
    /// It answers 404.
    Missing,
    /// It answers 405.
    MethodNotAllowed,
}

/// The field that has the token in the answer to a `GET`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenField {
    /// `token`, and the same as `access_token`.
    Both,
    /// `token` only.
    Token,
    /// `access_token` only.
    AccessToken,
}

/// An account.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its password.
    pub password: String,
    /// What it may do: `repository:team/*:pull,push`.
    pub grants: Vec<Scope>,
}

impl User {
    /// An account that may do this in any repository: `pull,push`.
    pub fn new(name: &str, password: &str, actions: &str) -> Self {
        Self {
            name: name.to_owned(),
            password: password.to_owned(),
            grants: vec![Scope::repository("*", actions)],
        }
    }
}

/// A request for a token, and how it was answered.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    /// How it came.
    pub flow: Flow,
    /// The account, if the request named one, with a right or a wrong password.
    pub account: Option<String>,
    /// The service that it named.
    pub service: Option<String>,
    /// What was asked for.
    pub scopes: Vec<Scope>,
    /// The status of the answer.
    pub status: u16,
}

/// The ways to ask for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// `GET`, with or without `Basic`.
    Get,
    /// `POST` with `grant_type=password`.
    Password,
    /// `POST` with `grant_type=refresh_token`.
    RefreshToken,
    /// `POST` with something else.
    Unknown,
}

/// A token service on the loopback interface.
#[derive(Debug)]
pub struct TokenServer {
    service: Arc<Service>,
    serving: Serving,
}

/// What the handlers share.
#[derive(Debug)]
pub(crate) struct Service {
    authority: Arc<Authority>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    config: TokenConfig,
    /// Account and service, by refresh token.
    refresh_tokens: HashMap<String, String>,
    /// How often requests are answered with a status and nothing else, and with which.
    failing: (u32, u16),
    requests: Vec<TokenRequest>,
}

impl TokenServer {
    /// Starts it on a free port.
    pub fn start(config: TokenConfig) -> io::Result<Self> {
        let authority = Arc::new(Authority::new(&config.issuer, &config.service)?);
        let state = State { config, refresh_tokens: HashMap::new(), failing: (0, 500), requests: Vec::new() };
        let service = Arc::new(Service { authority, state: Mutex::new(state) });
        let router = Router::new()
            .route("/token", get(answer::get).post(answer::post))
            .with_state(Arc::clone(&service));
        Ok(Self { service, serving: Serving::router(router)? })
    }

    /// What challenges name as `realm`.
    pub fn realm(&self) -> String {
        format!("http://{}/token", self.serving.address())
    }

    /// Makes and reads the tokens.
    pub fn authority(&self) -> Arc<Authority> {
        Arc::clone(&self.service.authority)
    }

    /// Tokens issued from now on are good for so long.
    pub fn set_lifetime(&self, lifetime: Duration) {
        self.service.state().config.lifetime_seconds = lifetime.as_secs();
    }

    /// The account has another password from now on, and its refresh tokens are good no more.
    pub fn set_password(&self, account: &str, password: &str) {
        let mut state = self.service.state();
        for user in state.config.users.iter_mut().filter(|user| user.name == account) {
            password.clone_into(&mut user.password);
        }
        state.refresh_tokens.retain(|_, owner| owner != account);
    }

    /// Takes back the tokens issued so far. The registry of the distribution project never asks; the hostile one does.
    pub fn revoke_tokens(&self) {
        self.service.authority.revoke_all();
    }

    /// Takes back the refresh tokens issued so far.
    pub fn revoke_refresh_tokens(&self) {
        self.service.state().refresh_tokens.clear();
    }

    /// The next so many requests are answered with that status, whatever they ask for.
    pub fn fail(&self, times: u32, status: u16) {
        self.service.state().failing = (times, status);
    }

    /// A refresh token for an account, as a login would get it.
    pub fn refresh_token(&self, account: &str) -> io::Result<String> {
        self.service.new_refresh_token(account)
    }

    /// The requests so far, oldest first.
    pub fn requests(&self) -> Vec<TokenRequest> {
        self.service.state().requests.clone()
    }
}

impl Service {
    fn state(&self) -> MutexGuard<'_, State> {
        // No panic leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new_refresh_token(&self, account: &str) -> io::Result<String> {
        let token = authority::random_text()?;
        self.state().refresh_tokens.insert(token.clone(), account.to_owned());
        Ok(token)
    }
}
