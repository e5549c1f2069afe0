//! Microsoft's token services: Entra ("OAuth 2.0 client credentials flow on the Microsoft identity platform", OpenID
//! Connect discovery), the managed identity endpoints of virtual machines and App Service, Azure Container Registry
//! ("Azure Container Registry integration with Azure Active Directory"), and a listing of Azure Resource Manager.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use axum::{
    Form, Json, Router,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{clock::Clock, key::SigningKey, tls};
use crate::Serving;

const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
const CLIENT: &str = "11111111-2222-3333-4444-555555555555";
const IDENTITY: &str = "66666666-7777-8888-9999-000000000000";
const SUBSCRIPTION: &str = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee";
const SECRET: &str = "client~secret-value";
const APP_SERVICE_HEADER: &str = "app-service-header";
const REGISTRY: &str = "https://containerregistry.azure.net";
const LIFETIME_SECONDS: i64 = 3599;
/// Three hours, as registries give.
const REFRESH_SECONDS: i64 = 10_800;

/// All of it, on one address over HTTP and on another over TLS.
#[derive(Debug)]
pub struct MicrosoftCloud {
    shared: Arc<Shared>,
    serving: Serving,
    secure: Serving,
    certificate: String,
}

/// What an application proves who it is with.
#[derive(Clone, Copy, Debug)]
pub struct Secrets {
    /// The tenant.
    pub tenant: &'static str,
    /// The application.
    pub client: &'static str,
    /// Its secret.
    pub secret: &'static str,
    /// A user-assigned managed identity.
    pub identity: &'static str,
    /// A subscription with a registry in it.
    pub subscription: &'static str,
    /// `IDENTITY_HEADER` in App Service.
    pub app_service_header: &'static str,
}

#[derive(Debug)]
pub(super) struct Shared {
    key: SigningKey,
    /// The other identity provider's.
    provider: SigningKey,
    clock: Arc<Clock>,
    /// Whether the application's secret has expired.
    expired: AtomicBool,
    tokens: AtomicUsize,
    /// The name of the registry, as image references have it.
    registry: String,
    url: OnceLock<String>,
}

/// An access token of Entra.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Access {
    aud: String,
    tid: String,
    appid: String,
    exp: i64,
}

/// A refresh token or an access token of the registry.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct RegistryToken {
    aud: String,
    grant_type: String,
    #[serde(default)]
    scope: String,
    exp: i64,
}

#[derive(Clone, Deserialize)]
struct Federated {
    sub: String,
    aud: String,
    exp: i64,
}

type Shares = State<Arc<Shared>>;
type Fields = Form<HashMap<String, String>>;

impl MicrosoftCloud {
    /// Starts it, with a tenant, an application and a registry of that name: `myregistry.azurecr.io`.
    pub fn start(registry: &str) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            key: SigningKey::generate()?,
            provider: SigningKey::generate()?,
            clock: Arc::default(),
            expired: AtomicBool::new(false),
            tokens: AtomicUsize::new(0),
            registry: registry.to_owned(),
            url: OnceLock::new(),
        });
        let clock = Arc::clone(&shared.clock);
        let router = Router::new()
            .route("/{tenant}/oauth2/v2.0/token", post(token))
            .route("/{tenant}/v2.0/.well-known/openid-configuration", get(discovery))
            .route("/metadata/identity/oauth2/token", get(virtual_machine))
            .route("/msi/token", get(app_service))
            .route("/oauth2/exchange", post(exchange))
            .route("/oauth2/token", post(registry_token))
            .route("/v2/", get(base))
            .route("/v2/_catalog", get(catalog))
            .route(
                "/subscriptions/{subscription}/providers/Microsoft.ContainerRegistry/registries",
                get(registries),
            )
            .layer(axum::middleware::from_fn(move |request, next| {
                Clock::date(Arc::clone(&clock), request, next)
            }))
            .with_state(Arc::clone(&shared));
        let (secure, certificate) = tls::serve(router.clone())?;
        let serving = Serving::router(router)?;
        shared.url.get_or_init(|| format!("http://{}", serving.address()));
        Ok(Self { shared, serving, secure, certificate })
    }

    /// Where it is, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.serving.address())
    }

    /// Where it is over TLS, without a slash at the end.
    pub fn secure_url(&self) -> String {
        format!("https://localhost:{}", self.secure.address().port())
    }

    /// What signs for it over TLS, in PEM format.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// What its application proves who it is with.
    pub const fn secrets(&self) -> Secrets {
        Secrets {
            tenant: TENANT,
            client: CLIENT,
            secret: SECRET,
            identity: IDENTITY,
            subscription: SUBSCRIPTION,
            app_service_header: APP_SERVICE_HEADER,
        }
    }

    /// Its clock.
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// Lets the application's secret expire.
    pub fn expire_secret(&self) {
        self.shared.expired.store(true, Ordering::SeqCst);
    }

    /// How many tokens Entra gave.
    pub fn tokens_given(&self) -> usize {
        self.shared.tokens.load(Ordering::SeqCst)
    }

    /// A token of the other identity provider, that the application trusts, good for this long.
    pub fn federated_token(&self, seconds: i64) -> String {
        self.shared.provider.sign(&json!({
            "iss": "https://provider.test", "sub": "system:serviceaccount:default:builder",
            "aud": "api://AzureADTokenExchange", "exp": self.shared.clock.now() + seconds,
        }))
    }

    /// For which resource and which application a token of Entra's is, if it is one.
    pub fn describe(&self, token: &str) -> Option<(String, String)> {
        self.shared.key.verify::<Access>(token).map(|claims| (claims.aud, claims.appid))
    }

    /// What knows its tokens.
    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Whether a token is a refresh token of the registry's.
    pub fn is_refresh_token(&self, token: &str) -> bool {
        self.shared.verify_registry(token, "refresh_token").is_some()
    }
}

impl Shared {
    /// Whether a token of Entra's is good for a resource.
    pub(super) fn accepts(&self, token: &str, resource: &str) -> bool {
        let claims = self.key.verify::<Access>(token);
        claims.is_some_and(|claims| claims.aud == resource && claims.exp > self.clock.now())
    }

    fn access(&self, resource: &str, client: &str) -> String {
        self.tokens.fetch_add(1, Ordering::SeqCst);
        let exp = self.clock.now() + LIFETIME_SECONDS;
        self.key.sign(&Access {
            aud: resource.to_owned(),
            tid: TENANT.to_owned(),
            appid: client.to_owned(),
            exp,
        })
    }

    fn registry_token(&self, kind: &str, scope: &str, seconds: i64) -> String {
        self.key.sign(&RegistryToken {
            aud: self.registry.clone(),
            grant_type: kind.to_owned(),
            scope: scope.to_owned(),
            exp: self.clock.now() + seconds,
        })
    }

    fn verify_registry(&self, token: &str, kind: &str) -> Option<RegistryToken> {
        let token: RegistryToken = self.key.verify(token)?;
        (token.grant_type == kind && token.aud == self.registry && token.exp > self.clock.now())
            .then_some(token)
    }
}

/// An error of Entra's, with the lines for its support.
fn entra_error(status: StatusCode, error: &str, number: u32, message: &str) -> Response {
    let description = format!(
        "AADSTS{number}: {message} Trace ID: 00000000-0000-0000-0000-000000000001 Correlation ID: \
         00000000-0000-0000-0000-000000000002 Timestamp: 2024-01-01 00:00:00Z"
    );
    let body = json!({
        "error": error, "error_description": description, "error_codes": [number],
        "timestamp": "2024-01-01 00:00:00Z", "trace_id": "00000000-0000-0000-0000-000000000001",
        "correlation_id": "00000000-0000-0000-0000-000000000002",
    });
    (status, Json(body)).into_response()
}

/// An error of a registry's.
fn registry_error(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "errors": [{ "code": "UNAUTHORIZED", "message": message }] }))).into_response()
}

async fn token(State(shared): Shares, Path(tenant): Path<String>, Form(form): Fields) -> Response {
    let field = |name: &str| form.get(name).map_or("", String::as_str);
    if tenant != TENANT {
        let message =
            format!("Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID.");
        return entra_error(StatusCode::BAD_REQUEST, "invalid_request", 90002, &message);
    }
    if field("grant_type") != "client_credentials" {
        let message = "The request body must contain the following parameter: 'grant_type'.";
        return entra_error(StatusCode::BAD_REQUEST, "invalid_request", 900_144, message);
    }
    let client = field("client_id");
    if client != CLIENT {
        let message = format!("Application with identifier '{client}' was not found in the directory.");
        return entra_error(StatusCode::BAD_REQUEST, "unauthorized_client", 700_016, &message);
    }
    let refused =
        |number, message: &str| entra_error(StatusCode::UNAUTHORIZED, "invalid_client", number, message);
    if form.contains_key("client_assertion") {
        let claims = shared.provider.verify::<Federated>(field("client_assertion"));
        let Some(claims) = claims.filter(|_| {
            field("client_assertion_type") == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        }) else {
            return refused(700_027, "Client assertion failed signature validation.");
        };
        if claims.exp < shared.clock.now() {
            return refused(700_024, "Client assertion is not within its valid time range.");
        }
        if claims.aud != "api://AzureADTokenExchange" || claims.sub != "system:serviceaccount:default:builder"
        {
            return refused(70021, "No matching federated identity record found for presented assertion.");
        }
    } else if field("client_secret") != SECRET {
        let message = format!(
            "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, \
             not the client secret ID, for a secret added to app '{CLIENT}'."
        );
        return refused(7_000_215, &message);
    } else if shared.expired.load(Ordering::SeqCst) {
        let message = format!("The provided client secret keys for app '{CLIENT}' are expired.");
        return refused(7_000_222, &message);
    }
    // SDKs add scopes of their own.
    let Some(resource) = field("scope").split(' ').find_map(|scope| scope.strip_suffix("/.default")) else {
        let message = "The provided value for the input parameter 'scope' is not valid.";
        return entra_error(StatusCode::BAD_REQUEST, "invalid_scope", 70011, message);
    };
    let token = shared.access(resource, client);
    Json(json!({
        "token_type": "Bearer", "expires_in": LIFETIME_SECONDS, "ext_expires_in": LIFETIME_SECONDS, "access_token": token,
    }))
    .into_response()
}

async fn discovery(Path(tenant): Path<String>, headers: HeaderMap) -> Json<Value> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let base = format!("https://{host}/{tenant}");
    Json(json!({
        "issuer": format!("{base}/v2.0"),
        "authorization_endpoint": format!("{base}/oauth2/v2.0/authorize"),
        "token_endpoint": format!("{base}/oauth2/v2.0/token"),
        "device_authorization_endpoint": format!("{base}/oauth2/v2.0/devicecode"),
        "jwks_uri": format!("{base}/discovery/v2.0/keys"),
        "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
        "response_types_supported": ["code"], "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"], "tenant_region_scope": null,
    }))
}

async fn virtual_machine(
    State(shared): Shares,
    headers: HeaderMap,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let bad = |message: &str| {
        let body = json!({ "error": "invalid_request", "error_description": message });
        (StatusCode::BAD_REQUEST, Json(body)).into_response()
    };
    if headers.get("metadata").is_none_or(|value| value != "true") {
        return bad("Required metadata header not specified");
    }
    if query.get("api-version").is_none_or(|version| version != "2018-02-01") {
        return bad("Required query variable 'api-version' is missing");
    }
    let client = query.get("client_id").map_or(IDENTITY, String::as_str);
    match query.get("resource") {
        _ if client != IDENTITY => bad("Identity not found"),
        None => bad("Required query variable 'resource' is missing"),
        Some(resource) => {
            let now = shared.clock.now();
            // This service writes numbers as text.
            Json(json!({
                "access_token": shared.access(resource, client), "client_id": client, "token_type": "Bearer",
                "resource": resource, "expires_in": LIFETIME_SECONDS.to_string(),
                "expires_on": (now + LIFETIME_SECONDS).to_string(), "not_before": now.to_string(),
            }))
            .into_response()
        }
    }
}

async fn app_service(
    State(shared): Shares,
    headers: HeaderMap,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let version = query.get("api-version").is_some_and(|version| version == "2019-08-01");
    let known = headers.get("x-identity-header").is_some_and(|value| value == APP_SERVICE_HEADER);
    match query.get("resource") {
        Some(resource) if version && known => Json(json!({
            "access_token": shared.access(resource, IDENTITY), "client_id": IDENTITY, "token_type": "Bearer",
            "resource": resource, "expires_on": (shared.clock.now() + LIFETIME_SECONDS).to_string(),
        }))
        .into_response(),
        _ => (StatusCode::UNAUTHORIZED, Json(json!({ "statusCode": 401, "message": "Unauthorized" })))
            .into_response(),
    }
}

async fn exchange(State(shared): Shares, Form(form): Fields) -> Response {
    let field = |name: &str| form.get(name).map_or("", String::as_str);
    if field("grant_type") != "access_token" || field("service") != shared.registry {
        return registry_error(StatusCode::BAD_REQUEST, "invalid request");
    }
    let claims = shared.key.verify::<Access>(field("access_token"));
    let good = claims.is_some_and(|claims| {
        claims.aud.trim_end_matches('/') == REGISTRY
            && claims.tid == TENANT
            && claims.exp > shared.clock.now()
    });
    if !good || form.get("tenant").is_some_and(|tenant| tenant != TENANT) {
        return registry_error(
            StatusCode::UNAUTHORIZED,
            "authentication required, visit https://aka.ms/acr/authorization for more information.",
        );
    }
    Json(json!({ "refresh_token": shared.registry_token("refresh_token", "", REFRESH_SECONDS) }))
        .into_response()
}

async fn registry_token(State(shared): Shares, Form(form): Fields) -> Response {
    let field = |name: &str| form.get(name).map_or("", String::as_str);
    if field("grant_type") != "refresh_token" || field("service") != shared.registry {
        return registry_error(StatusCode::BAD_REQUEST, "invalid request");
    }
    if shared.verify_registry(field("refresh_token"), "refresh_token").is_none() {
        return registry_error(StatusCode::UNAUTHORIZED, "authentication required");
    }
    let token = shared.registry_token("access_token", field("scope"), LIFETIME_SECONDS);
    Json(json!({ "access_token": token })).into_response()
}

fn granted(shared: &Shared, headers: &HeaderMap) -> Option<RegistryToken> {
    let token = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")?;
    shared.verify_registry(token, "access_token")
}

fn challenge(shared: &Shared) -> Response {
    let realm = format!("{}/oauth2/token", shared.url.get().map_or("", String::as_str));
    let challenge = format!("Bearer realm=\"{realm}\",service=\"{}\"", shared.registry);
    let mut response = registry_error(StatusCode::UNAUTHORIZED, "authentication required");
    if let Ok(value) = challenge.parse() {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
    }
    response
}

async fn base(State(shared): Shares, headers: HeaderMap) -> Response {
    match granted(&shared, &headers) {
        Some(_) => StatusCode::OK.into_response(),
        None => challenge(&shared),
    }
}

async fn catalog(State(shared): Shares, headers: HeaderMap) -> Response {
    match granted(&shared, &headers) {
        Some(token) if token.scope == "registry:catalog:*" => {
            Json(json!({ "repositories": ["app", "team/tool"] })).into_response()
        }
        _ => challenge(&shared),
    }
}

async fn registries(State(shared): Shares, Path(subscription): Path<String>, headers: HeaderMap) -> Response {
    let token =
        headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let claims = token.and_then(|token| shared.key.verify::<Access>(token));
    if claims.is_none_or(|claims| claims.aud != "https://management.azure.com") {
        let error =
            json!({ "code": "InvalidAuthenticationToken", "message": "The access token is invalid." });
        return (StatusCode::UNAUTHORIZED, Json(json!({ "error": error }))).into_response();
    }
    if subscription != SUBSCRIPTION {
        let error =
            json!({ "code": "SubscriptionNotFound", "message": "The subscription could not be found." });
        return (StatusCode::NOT_FOUND, Json(json!({ "error": error }))).into_response();
    }
    Json(json!({ "value": [{ "name": "r", "properties": { "loginServer": shared.registry } }] }))
        .into_response()
}
