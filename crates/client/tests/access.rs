//! Challenges, tokens and credentials: who is sent what, and what is said when it is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test may panic")]

mod support;

use std::sync::{Arc, Mutex, atomic::Ordering};

use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use longshore_auth::{Credential, CredentialSource, Secret, Sources};
use longshore_client::{Client, ClientConfig, ClientError, push};
use longshore_endpoint::Hosts;
use longshore_testkit::{
    Fault, Flow, HostileConfig, HostileRegistry, Operation, Scope, Serving, Side, TokenAuth, TokenConfig,
    TokenServer, User,
};
use support::{Wallet, basic, client, client_with, config, memory::Memory, nobody, reference, repository};

fn tokens() -> TokenServer {
    let users = vec![User::new("me", "secret", "pull,push,delete")];
    TokenServer::start(TokenConfig { users, ..TokenConfig::default() }).unwrap()
}

fn guarded(tokens: &TokenServer) -> HostileRegistry {
    let config = HostileConfig { tokens: Some(TokenAuth::of(tokens)), ..HostileConfig::default() };
    HostileRegistry::start(config).unwrap()
}

#[tokio::test]
async fn one_token_serves_a_whole_push_and_what_is_there_takes_three_requests() {
    let tokens = tokens();
    let registry = guarded(&tokens);
    let host = registry.host();
    let client = client_with(&Wallet::basic(&host, "me", "secret"));
    let image: Arc<Memory> = Arc::new(Memory::image(1, &[1000, 2000, 3000, 4000, 5000, 6000, 7000]));
    push(&client, image.clone(), &[reference(&host, "app:1")], &[], &nobody()).await.unwrap();
    assert_eq!(tokens.requests().len(), 1, "{:?}", tokens.requests());
    assert_eq!(tokens.requests()[0].scopes, [Scope::repository("app", "pull,push")]);

    let before = registry.seen().len();
    let again = push(&client, image.clone(), &[reference(&host, "app:1")], &[], &nobody()).await.unwrap();
    assert!(again.repositories[0].was_there);
    assert_eq!(registry.seen().len() - before, 1, "the tag names the image");
    push(&client, image, &[reference(&host, "app:2")], &[], &nobody()).await.unwrap();
    assert_eq!(registry.seen().len() - before, 4, "another tag takes three");
    assert_eq!(registry.tags("app"), ["1", "2"]);
    assert_eq!(tokens.requests().len(), 1);
}

#[tokio::test]
async fn a_token_that_expires_during_an_upload_is_replaced() {
    let tokens = tokens();
    let registry = guarded(&tokens);
    let host = registry.host();
    let client = client_with(&Wallet::basic(&host, "me", "secret"));
    let image = Arc::new(Memory::image(2, &[300_000, 200_000]));
    for operation in [Operation::UploadPut, Operation::BlobHead, Operation::ManifestPut] {
        registry.plan(Fault::TokensExpire.once_on(operation));
    }
    push(&client, image.clone(), &[reference(&host, "app:1")], &[], &nobody()).await.unwrap();
    assert_eq!(registry.broken_tags(), Vec::<String>::new());
    assert!(registry.manifest("app", "1").is_some());
    assert!(tokens.requests().len() >= 3, "{}", tokens.requests().len());
}

#[tokio::test]
async fn a_refresh_token_is_sent_as_a_form() {
    let tokens = tokens();
    let registry = guarded(&tokens);
    let host = registry.host();
    let token = Secret::new(tokens.refresh_token("me").unwrap());
    let credential = Credential::IdentityToken { username: "me".to_owned(), token };
    let client = client_with(&Wallet::new(&host, vec![credential]));
    client.probe_push(&repository(&host, "app")).await.unwrap();
    assert_eq!(tokens.requests()[0].flow, Flow::RefreshToken);
    assert_eq!(registry.unfinished_uploads(), 0, "what was started is cancelled");

    tokens.revoke_refresh_tokens();
    tokens.revoke_tokens();
    let error = client.probe_push(&repository(&host, "app")).await.unwrap_err();
    assert!(error.to_string().contains("has expired or been revoked: log in anew"), "{error}");
}

#[tokio::test]
async fn a_refused_credential_is_asked_for_anew_once() {
    let tokens = tokens();
    let registry = guarded(&tokens);
    let host = registry.host();
    let wallet = Wallet::new(&host, vec![basic("me", "old"), basic("me", "secret")]);
    client_with(&wallet).probe_push(&repository(&host, "app")).await.unwrap();
    assert_eq!(wallet.forgotten.load(Ordering::SeqCst), 1);

    let wallet = Wallet::basic(&host, "me", "wrong");
    let error = client_with(&wallet).probe_push(&repository(&host, "app")).await.unwrap_err();
    assert_eq!(wallet.forgotten.load(Ordering::SeqCst), 1);
    assert!(matches!(error, ClientError::Unauthorized { .. }), "{error}");
    assert!(!format!("{error} {error:?}").contains("wrong"));
}

#[tokio::test]
async fn what_no_token_allows_is_denied() {
    let tokens = tokens();
    let registry = guarded(&tokens);
    registry.plan(Fault::NeverAuthorized.always_on(Operation::UploadBegin));
    let host = registry.host();
    let client = client_with(&Wallet::basic(&host, "me", "secret"));
    let error = client.probe_push(&repository(&host, "app")).await.unwrap_err();
    assert!(matches!(error, ClientError::Denied { .. }), "{error}");
    assert!(registry.count(Operation::UploadBegin) <= 3);
}

#[tokio::test]
async fn storage_elsewhere_is_sent_no_credentials() {
    let tokens = tokens();
    let registry = guarded(&tokens);
    let host = registry.host();
    let image = Memory::image(3, &[100_000]);
    let digest = registry.put_blob("app", image.content[&image.layer().digest].clone());
    let client = client_with(&Wallet::basic(&host, "me", "secret"));
    assert_eq!(client.has_blob(&repository(&host, "app"), &digest).await.unwrap(), Some(100_000));
    registry.plan(Fault::Redirect.once_on(Operation::BlobGet));
    let bytes = client.blob(&repository(&host, "app"), &image.layer(), 1 << 20).await.unwrap();
    assert_eq!(longshore_oci::Digest::of(&bytes), digest);
    let elsewhere: Vec<_> = registry.seen().into_iter().filter(|seen| seen.side == Side::Elsewhere).collect();
    assert_eq!(elsewhere.len(), 1);
    assert_eq!(elsewhere[0].authorization, None);
}

/// A server with one answer, which keeps the `Authorization` headers that it is sent.
struct Fixed {
    serving: Serving,
    sent: Sent,
}

type Sent = Arc<Mutex<Vec<Option<String>>>>;
type Answer = Arc<dyn Fn() -> Response + Send + Sync>;

impl Fixed {
    fn start(answer: impl Fn() -> Response + Send + Sync + 'static) -> Self {
        let sent = Arc::new(Mutex::new(Vec::new()));
        let state: (Answer, _) = (Arc::new(answer), Arc::clone(&sent));
        Self { serving: Serving::router(Router::new().fallback(fixed).with_state(state)).unwrap(), sent }
    }

    fn challenging(challenge: &'static str) -> Self {
        Self::start(move || {
            (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)]).into_response()
        })
    }

    fn host(&self) -> String {
        self.serving.address().to_string()
    }
}

async fn fixed(State((answer, sent)): State<(Answer, Sent)>, request: Request) -> Response {
    let value = request.headers().get(header::AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
    sent.lock().unwrap().push(value);
    answer()
}

#[tokio::test]
async fn no_token_service_gets_a_credential_over_plain_http() {
    for challenge in
        ["Bearer realm=\"http://192.0.2.1/token\"", "Bearer realm=\"http://tokens.invalid/token\""]
    {
        let registry = Fixed::challenging(challenge);
        let wallet = Wallet::basic(&registry.host(), "me", "secret");
        let error = client_with(&wallet).ping(&registry.host()).await.unwrap_err();
        assert!(error.to_string().contains("which is sent no credentials"), "{error}");
        assert_eq!(*registry.sent.lock().unwrap(), [None]);
    }
}

#[tokio::test]
async fn challenges_that_cannot_be_met_are_named() {
    let registry = Fixed::challenging("Negotiate");
    let error = client().ping(&registry.host()).await.unwrap_err();
    assert!(error.to_string().contains("without a challenge (WWW-Authenticate)"), "{error}");
    let registry = Fixed::challenging("Basic realm=\"x\"");
    let error = client().ping(&registry.host()).await.unwrap_err();
    assert!(error.to_string().contains("does not accept a request without credentials"), "{error}");
    assert_eq!(registry.sent.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_web_page_is_not_a_registry() {
    let server = Fixed::start(|| ([(header::CONTENT_TYPE, "text/html")], "<html>").into_response());
    let host = server.host();
    let image = reference(&host, "app:1");
    for error in [client().ping(&host).await.unwrap_err(), client().manifest(&image).await.unwrap_err()] {
        assert!(error.to_string().contains("is not a registry"), "{error}");
    }
    assert!(client().tags(&image.repository).await.unwrap_err().to_string().contains("is not a registry"));
}

#[tokio::test]
async fn http_and_https_are_told_apart() {
    let plain = Fixed::start(|| "{}".into_response());
    let host = plain.host();
    let hosts = Hosts::parse(&format!("[\"{host}\"]\nserver = \"https://{host}\"")).unwrap();
    let client = Client::new(ClientConfig { hosts, ..config() });
    let error = client.ping(&host).await.unwrap_err();
    assert!(error.to_string().contains("does not speak HTTPS"), "{error}");

    let go = "Client sent an HTTP request to an HTTPS server.\n";
    let tls = Fixed::start(move || (StatusCode::BAD_REQUEST, go).into_response());
    let error = support::client().ping(&tls.host()).await.unwrap_err();
    assert!(error.to_string().contains("speaks HTTPS and was asked over plain HTTP"), "{error}");
}

#[tokio::test]
async fn a_mirror_is_asked_first_with_its_own_credentials() {
    let image = Memory::image(4, &[]);
    let registries = [(); 2].map(|()| HostileRegistry::start(HostileConfig::default()).unwrap());
    let [server, mirror] = &registries;
    let manifest = image.content[&image.root.digest].clone();
    server.put_manifest("app", &image.root.media_type, manifest.clone(), Some("1"));
    let (at, from) = (server.host(), mirror.host());
    let text = format!(
        "[\"r.test\"]\nserver = \"http://{at}\"\nmirrors = [{{ url = \"http://127.0.0.1:1\" }}, {{ url = \"http://{from}\" }}]"
    );
    let wallet = Wallet::basic("r.test", "me", "secret");
    let source: Arc<dyn CredentialSource> = wallet.clone();
    let (hosts, credentials) = (Hosts::parse(&text).unwrap(), Sources(vec![source]));
    let client = Client::new(ClientConfig { hosts, credentials, ..config() });
    let wanted = reference("r.test", "app:1");
    // Neither that the first mirror is down nor that the second has nothing is an error.
    assert_eq!(client.resolve(&wanted).await.unwrap().digest, image.root.digest);
    assert_eq!((mirror.seen().len(), server.seen().len()), (1, 1));
    let missing = client.resolve(&reference("r.test", "app:2")).await.unwrap_err();
    let shown =
        format!("cannot resolve r.test/app:2: r.test (served by {at}) does not have it; check the name");
    assert_eq!(missing.to_string(), shown);
    mirror.put_manifest("app", &image.root.media_type, manifest, Some("1"));
    assert_eq!(client.manifest(&wanted).await.unwrap().digest, image.root.digest);
    assert_eq!((mirror.seen().len(), server.seen().len()), (3, 2));
}

#[tokio::test]
async fn docker_hubs_limit_is_read_and_respected() {
    let server = Fixed::start(|| {
        let headers = [("ratelimit-limit", "100;w=21600"), ("ratelimit-remaining", "0;w=21600")];
        (
            StatusCode::TOO_MANY_REQUESTS,
            headers,
            "{\"errors\":[{\"code\":\"TOOMANYREQUESTS\",\"message\":\"slow down\"}]}",
        )
            .into_response()
    });
    let client = client();
    let error = client.manifest(&reference(&server.host(), "app:1")).await.unwrap_err();
    assert!(
        matches!(error, ClientError::RateLimited { .. }) && error.to_string().contains("slow down"),
        "{error}"
    );
    assert_eq!(server.sent.lock().unwrap().len(), 5, "as often as the pauses say");
    assert_eq!(client.quota(&server.host()).unwrap().remaining, 0);
}
