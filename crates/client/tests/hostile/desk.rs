//! A client, and the hostile registry that it meets.

use std::{fmt::Write, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use longshore_auth::{
    AuthError, Credential, CredentialSource, Found, Lease, Renewal, Secret, Sources, Target,
};
use longshore_client::{
    Client, ClientConfig, ClientError, Observer, PullOutcome, PushOutcome, Selection, copy, ignore, pull,
    push,
};
use longshore_endpoint::{Pauses, ProxySource, Web, WebConfig};
use longshore_oci::{Reference, Repository};
use longshore_testkit::{HostileConfig, HostileRegistry, Side, TokenAuth, TokenConfig, TokenServer, User};

use crate::image::{Image, Sink};

/// How long anything may take, however bad the registry is.
const LONGEST: Duration = Duration::from_mins(1);

/// Whether the registry wants tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entrance {
    Open,
    Tokens,
}

pub(crate) struct Desk {
    pub(crate) registry: HostileRegistry,
    pub(crate) client: Client,
    pub(crate) tokens: Option<TokenServer>,
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self::with(HostileConfig::default(), Entrance::Open)
    }

    pub(crate) fn with(mut config: HostileConfig, entrance: Entrance) -> Self {
        let tokens = (entrance == Entrance::Tokens).then(|| {
            let users = vec![User::new("me", "hunter2", "pull,push,delete")];
            TokenServer::start(TokenConfig { users, ..TokenConfig::default() }).unwrap()
        });
        config.tokens = tokens.as_ref().map(TokenAuth::of);
        let registry = HostileRegistry::start(config).unwrap();
        let client = client(&[&registry]);
        Self { registry, client, tokens }
    }

    pub(crate) fn repository(&self, name: &str) -> Repository {
        format!("{}/{name}", self.registry.host()).parse().unwrap()
    }

    pub(crate) fn reference(&self, name: &str) -> Reference {
        format!("{}/{name}", self.registry.host()).parse().unwrap()
    }

    pub(crate) async fn push(&self, image: &Image, to: &str) -> Result<PushOutcome, ClientError> {
        self.push_from(image, to, &[]).await
    }

    pub(crate) async fn push_from(
        &self,
        image: &Image,
        to: &str,
        mount_from: &[Repository],
    ) -> Result<PushOutcome, ClientError> {
        let (image, to, observer) = (image.shared(), [self.reference(to)], observer());
        let pushing = push(&self.client, image, &to, mount_from, &observer);
        tokio::time::timeout(LONGEST, pushing).await.expect("the push hangs")
    }

    pub(crate) async fn pull(&self, sink: &Sink, from: &str) -> Result<PullOutcome, ClientError> {
        let (from, sink, observer) = (self.reference(from), sink.shared(), observer());
        let pulling = pull(&self.client, &from, &Selection::Everything, &sink, &observer);
        tokio::time::timeout(LONGEST, pulling).await.expect("the pull hangs")
    }

    /// Copies an image from another registry to this one, with a client that has a login for both.
    pub(crate) async fn copy(
        &self,
        client: &Client,
        from: &Self,
        image: &str,
    ) -> Result<PushOutcome, ClientError> {
        let (from, to, observer) = (from.reference(image), [self.reference(image)], observer());
        let copying = copy(client, &from, &Selection::Everything, &to, &observer);
        tokio::time::timeout(LONGEST, copying).await.expect("the copy hangs")
    }

    /// What was asked and what came of it, for a test that fails.
    pub(crate) fn story(&self) -> String {
        let mut story = String::new();
        for seen in self.registry.seen() {
            let status = seen.status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
            let _ = write!(story, "{} {}", seen.method, seen.path);
            let _ = write!(story, "{}", seen.query.map_or_else(String::new, |query| format!("?{query}")));
            let _ = write!(story, " [{}]", seen.length.map_or_else(|| "-".to_owned(), |n| n.to_string()));
            let _ = write!(story, " {}", seen.content_range.unwrap_or_default());
            let _ = writeln!(story, " -> {status} {:?} {:?}", seen.side, seen.fault);
        }
        story
    }

    /// How many things went wrong.
    pub(crate) fn faults(&self) -> usize {
        let requests = self.tokens.iter().flat_map(TokenServer::requests);
        let refused = requests.filter(|request| request.status != 200).count();
        refused + self.registry.seen().iter().filter(|seen| seen.fault.is_some()).count()
    }

    /// From now on nothing goes wrong.
    pub(crate) fn behave(&self) {
        self.registry.behave();
        if let Some(tokens) = &self.tokens {
            tokens.fail(0, 500);
        }
    }

    /// Where credentials have gone that have no business there.
    pub(crate) fn leaks(&self) -> Vec<String> {
        let seen = self.registry.seen().into_iter();
        let elsewhere = seen.filter(|seen| seen.side == Side::Elsewhere && seen.authorization.is_some());
        elsewhere.map(|seen| format!("{} {}", seen.method, seen.path)).collect()
    }
}

/// A client with a login for each of these.
pub(crate) fn client(registries: &[&HostileRegistry]) -> Client {
    let web = WebConfig {
        connect_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_millis(400),
        proxy: ProxySource::Direct,
        ..WebConfig::default()
    };
    let logins = registries.iter().map(|registry| Arc::new(Login(registry.host())) as _);
    let pauses = Pauses { attempts: 5, first: Duration::from_millis(1), longest: Duration::from_millis(5) };
    Client::new(ClientConfig {
        web: Web::new(web),
        credentials: Sources(logins.collect()),
        pauses,
        ..ClientConfig::default()
    })
}

fn observer() -> Arc<Observer> {
    Arc::new(ignore)
}

/// A login for one host.
#[derive(Debug)]
struct Login(String);

impl CredentialSource for Login {
    fn credential<'a>(&'a self, target: Target<'a>) -> BoxFuture<'a, Result<Found, AuthError>> {
        let found = if target.host == self.0 {
            let credential =
                Credential::Basic { username: "me".to_owned(), password: Secret::new("hunter2") };
            Found::Lease(Lease {
                credential,
                expires: None,
                renewal: Renewal::ByHand,
                origin: "the test".to_owned(),
            })
        } else {
            Found::Nothing
        };
        Box::pin(async { Ok(found) })
    }

    fn forget(&self, _: Target<'_>) {}
}
