//! What the tests share.
#![allow(dead_code, reason = "not every test needs everything")]

pub(crate) mod layout;
pub(crate) mod memory;
pub(crate) mod relay;
pub(crate) mod scripted;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use longshore_auth::{
    AuthError, Credential, CredentialSource, Found, Lease, Renewal, Secret, Sources, Target,
};
use longshore_client::{Client, ClientConfig, Event, Observer, ignore};
use longshore_endpoint::{Pauses, ProxySource, Web, WebConfig};
use longshore_oci::{Reference, Repository};

/// A configuration whose pauses are short.
pub(crate) fn config() -> ClientConfig {
    let web = WebConfig {
        idle_timeout: Duration::from_millis(700),
        proxy: ProxySource::Direct,
        ..WebConfig::default()
    };
    ClientConfig {
        web: Web::new(web),
        pauses: Pauses { attempts: 5, first: Duration::from_millis(2), longest: Duration::from_millis(30) },
        ..ClientConfig::default()
    }
}

/// A client without credentials.
pub(crate) fn client() -> Client {
    Client::new(config())
}

/// A client with one credential for a host.
pub(crate) fn client_with(wallet: &Arc<Wallet>) -> Client {
    let source: Arc<dyn CredentialSource> = wallet.clone();
    Client::new(ClientConfig { credentials: Sources(vec![source]), ..config() })
}

pub(crate) fn repository(host: &str, path: &str) -> Repository {
    format!("{host}/{path}").parse().unwrap()
}

pub(crate) fn reference(host: &str, rest: &str) -> Reference {
    format!("{host}/{rest}").parse().unwrap()
}

pub(crate) fn nobody() -> Arc<Observer> {
    Arc::new(ignore)
}

/// An observer, and what it has seen.
pub(crate) fn recorder() -> (Arc<Observer>, Arc<Mutex<Vec<Event>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let written = Arc::clone(&seen);
    (Arc::new(move |event| written.lock().unwrap().push(event)), seen)
}

/// A source with credentials for one host: the next one after each time that one was refused.
#[derive(Debug)]
pub(crate) struct Wallet {
    host: String,
    credentials: Vec<Credential>,
    pub(crate) forgotten: AtomicUsize,
    pub(crate) asked: Mutex<Vec<String>>,
}

impl Wallet {
    pub(crate) fn new(host: &str, credentials: Vec<Credential>) -> Arc<Self> {
        let (forgotten, asked) = (AtomicUsize::new(0), Mutex::default());
        Arc::new(Self { host: host.to_owned(), credentials, forgotten, asked })
    }

    pub(crate) fn basic(host: &str, username: &str, password: &str) -> Arc<Self> {
        Self::new(host, vec![basic(username, password)])
    }
}

pub(crate) fn basic(username: &str, password: &str) -> Credential {
    Credential::Basic { username: username.to_owned(), password: Secret::new(password) }
}

impl CredentialSource for Wallet {
    fn credential<'a>(&'a self, target: Target<'a>) -> BoxFuture<'a, Result<Found, AuthError>> {
        self.asked.lock().unwrap().push(target.host.to_owned());
        let at = self.forgotten.load(Ordering::SeqCst).min(self.credentials.len() - 1);
        let found = if target.host == self.host {
            let credential = self.credentials[at].clone();
            Found::Lease(Lease {
                credential,
                expires: None,
                renewal: Renewal::ByHand,
                origin: "the test's wallet".to_owned(),
            })
        } else {
            Found::Nothing
        };
        Box::pin(async move { Ok(found) })
    }

    fn forget(&self, _: Target<'_>) {
        self.forgotten.fetch_add(1, Ordering::SeqCst);
    }
}
