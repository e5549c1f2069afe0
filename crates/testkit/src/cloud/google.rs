//! Google's token services: the OAuth token endpoint ("Using OAuth 2.0 for Server to Server Applications", RFC 7523), the
//! metadata server, the Security Token Service (RFC 8693), the IAM Service Account Credentials API, and the listings of
//! Artifact Registry and of a bucket of Cloud Storage.

use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Form, Json, Router,
    extract::{Path as UrlPath, Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{clock::Clock, key::SigningKey};
use crate::Serving;

const ACCOUNT: &str = "builder@test-project.iam.gserviceaccount.com";
const MACHINE: &str = "machine@test-project.iam.gserviceaccount.com";
const TARGET: &str = "pusher@test-project.iam.gserviceaccount.com";
const PROJECT: &str = "test-project";
const SUBJECT: &str = "repo:acme/app:ref:refs/heads/main";
const CLOUD_PLATFORM: &str = "https://www.googleapis.com/auth/cloud-platform";

/// All of it, on one address.
#[derive(Debug)]
pub struct GoogleCloud {
    shared: Arc<Shared>,
    serving: Serving,
}

#[derive(Debug)]
struct Shared {
    key: SigningKey,
    /// The other identity provider's.
    provider: SigningKey,
    clock: Arc<Clock>,
    state: Mutex<KeyState>,
    tokens: AtomicUsize,
}

/// What has become of the service account's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// It is good.
    Active,
    /// It was deleted, or disabled.
    Deleted,
    /// Its account was deleted.
    AccountDeleted,
}

#[derive(Clone, Deserialize)]
struct Assertion {
    iss: String,
    aud: String,
    iat: i64,
    exp: i64,
    scope: Option<String>,
}

#[derive(Clone, Deserialize)]
struct Subject {
    sub: String,
    exp: i64,
}

type Shares = State<Arc<Shared>>;

impl GoogleCloud {
    /// Starts it, with a service account that has a key.
    pub fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared {
            key: SigningKey::generate()?,
            provider: SigningKey::generate()?,
            clock: Arc::default(),
            state: Mutex::new(KeyState::Active),
            tokens: AtomicUsize::new(0),
        });
        let clock = Arc::clone(&shared.clock);
        let router = Router::new()
            .route("/token", post(token))
            .route("/v1/token", post(exchange))
            .route("/v1/projects/-/serviceAccounts/{call}", post(generate))
            .route("/computeMetadata/v1/{*path}", get(metadata))
            .route("/", get(|| async { ([("metadata-flavor", "Google")], "") }))
            .route("/storage/v1/b/{bucket}/o", get(objects))
            .route("/v1/projects/{project}/locations", get(locations))
            .route("/v1/projects/{project}/locations/{location}/repositories", get(repositories))
            .layer(axum::middleware::from_fn(move |request, next| {
                Clock::date(Arc::clone(&clock), request, next)
            }))
            .with_state(Arc::clone(&shared));
        Ok(Self { shared, serving: Serving::router(router)? })
    }

    /// Where it is, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.serving.address())
    }

    /// What `GCE_METADATA_HOST` is set to.
    pub fn metadata_host(&self) -> String {
        self.serving.address().to_string()
    }

    /// Its clock.
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// Lets something become of the key.
    pub fn set_key(&self, state: KeyState) {
        *self.shared.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// How many tokens it gave.
    pub fn tokens_given(&self) -> usize {
        self.shared.tokens.load(Ordering::SeqCst)
    }

    /// The key file of the service account.
    pub fn service_account_json(&self) -> String {
        json!({
            "type": "service_account", "project_id": PROJECT, "private_key_id": "0123456789abcdef",
            "private_key": self.shared.key.pem(), "client_email": ACCOUNT, "client_id": "1",
            "token_uri": format!("{}/token", self.url()), "universe_domain": "googleapis.com",
        })
        .to_string()
    }

    /// What `gcloud auth application-default login` would leave.
    pub fn authorized_user_json(&self) -> String {
        json!({
            "type": "authorized_user", "client_id": "user-client", "client_secret": "user-client-secret",
            "refresh_token": "user-refresh-token", "token_uri": format!("{}/token", self.url()),
            "account": "someone@example.com", "quota_project_id": PROJECT,
        })
        .to_string()
    }

    /// A token of the other identity provider, good for this long.
    pub fn subject_token(&self, seconds: i64) -> String {
        self.shared.provider.sign(&json!({ "sub": SUBJECT, "exp": self.shared.clock.now() + seconds }))
    }

    /// A configuration of workload identity federation, with the other provider's token in a file; with or without a
    /// service account to impersonate.
    pub fn external_account_json(&self, token_file: &Path, impersonate: bool) -> String {
        let mut file = json!({
            "type": "external_account", "audience": format!("//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/ci/providers/ci"),
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_url": format!("{}/v1/token", self.url()),
            "credential_source": { "file": token_file },
        });
        if impersonate {
            file["service_account_impersonation_url"] =
                json!(format!("{}/v1/projects/-/serviceAccounts/{TARGET}:generateAccessToken", self.url()));
        }
        file.to_string()
    }

    /// The account that may be impersonated.
    pub fn target_principal(&self) -> &'static str {
        TARGET
    }

    /// Which grant, whose account and which scopes a token was given for, if it is one of these.
    pub fn describe(&self, token: &str) -> Option<(String, String, String)> {
        let [grant, account, scope] = described(token)?;
        Some((grant, account, scope))
    }
}

/// The token for an account: the same each time, so that two programs that ask for the same get the same.
fn access_token(shared: &Shared, grant: &str, account: &str, scope: &str) -> String {
    shared.tokens.fetch_add(1, Ordering::SeqCst);
    format!("ya29.{}", URL_SAFE_NO_PAD.encode(json!([grant, account, scope]).to_string()))
}

fn described(token: &str) -> Option<[String; 3]> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.strip_prefix("ya29.")?).ok()?).ok()
}

fn bearer(headers: &HeaderMap) -> Option<[String; 3]> {
    described(headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")?)
}

fn oauth_error(status: StatusCode, error: &str, description: &str) -> Response {
    (status, Json(json!({ "error": error, "error_description": description }))).into_response()
}

fn api_error(status: StatusCode, code: &str, message: &str) -> Response {
    let error = json!({ "code": status.as_u16(), "message": message, "status": code });
    (status, Json(json!({ "error": error }))).into_response()
}

async fn token(
    State(shared): Shares,
    headers: HeaderMap,
    Form(form): Form<HashMap<String, String>>,
) -> Response {
    let bad = |error: &str, description: &str| oauth_error(StatusCode::BAD_REQUEST, error, description);
    let field = |name: &str| form.get(name).map(String::as_str);
    let (grant, account, scope) = match field("grant_type") {
        Some("urn:ietf:params:oauth:grant-type:jwt-bearer") => {
            let state = *shared.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state == KeyState::AccountDeleted {
                return bad("invalid_grant", "Invalid grant: account not found");
            }
            let claims: Option<Assertion> =
                field("assertion").and_then(|assertion| shared.key.verify(assertion));
            let Some(claims) = claims.filter(|_| state == KeyState::Active) else {
                return bad("invalid_grant", "Invalid JWT Signature.");
            };
            let now = shared.clock.now();
            if claims.iat > now + 300 || claims.exp < now || claims.exp - claims.iat > 3600 {
                return bad(
                    "invalid_grant",
                    "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. \
                     Check your iat and exp values in the JWT claim.",
                );
            }
            let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
            // Google's SDKs differ: some sign for the address in the key's file, some for this one always.
            if claims.aud != "https://oauth2.googleapis.com/token"
                && claims.aud != format!("http://{host}/token")
            {
                return bad("invalid_grant", "Invalid JWT: Failed audience check.");
            }
            if claims.iss != ACCOUNT {
                return bad("invalid_grant", "Invalid grant: account not found");
            }
            match claims.scope {
                Some(scope) if !scope.is_empty() => ("jwt-bearer", ACCOUNT, scope),
                _ => return bad("invalid_scope", "Invalid OAuth scope or ID token audience provided."),
            }
        }
        Some("refresh_token") => {
            if (field("client_id"), field("client_secret"))
                != (Some("user-client"), Some("user-client-secret"))
            {
                return oauth_error(StatusCode::UNAUTHORIZED, "invalid_client", "Unauthorized");
            }
            if field("refresh_token") != Some("user-refresh-token") {
                return bad("invalid_grant", "Token has been expired or revoked.");
            }
            ("refresh_token", "someone@example.com", CLOUD_PLATFORM.to_owned())
        }
        _ => return bad("unsupported_grant_type", "Invalid grant_type"),
    };
    let token = access_token(&shared, grant, account, &scope);
    Json(json!({ "access_token": token, "expires_in": 3599, "token_type": "Bearer" })).into_response()
}

async fn exchange(State(shared): Shares, Form(form): Form<HashMap<String, String>>) -> Response {
    let bad = |error: &str, description: &str| oauth_error(StatusCode::BAD_REQUEST, error, description);
    let field = |name: &str| form.get(name).map_or("", String::as_str);
    if field("grant_type") != "urn:ietf:params:oauth:grant-type:token-exchange"
        || field("requested_token_type") != "urn:ietf:params:oauth:token-type:access_token"
        || field("subject_token_type") != "urn:ietf:params:oauth:token-type:jwt"
        || !field("audience").starts_with("//iam.googleapis.com/projects/")
        || field("scope").is_empty()
    {
        return bad("invalid_request", "Invalid request.");
    }
    let Some(subject) = shared.provider.verify::<Subject>(field("subject_token")) else {
        return bad("invalid_grant", "The signature of the subject token is not valid.");
    };
    if subject.exp < shared.clock.now() {
        return bad("invalid_grant", "The subject token has expired.");
    }
    let token = access_token(&shared, "token-exchange", &subject.sub, field("scope"));
    Json(json!({
        "access_token": token, "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "token_type": "Bearer", "expires_in": 3600,
    }))
    .into_response()
}

#[derive(Deserialize)]
struct Generate {
    /// Google's own SDK says `null` for none.
    delegates: Option<Vec<String>>,
    scope: Vec<String>,
    #[serde(default)]
    lifetime: Option<String>,
}

async fn generate(
    State(shared): Shares,
    UrlPath(call): UrlPath<String>,
    headers: HeaderMap,
    Json(body): Json<Generate>,
) -> Response {
    let Some([_, account, _]) = bearer(&headers) else {
        return api_error(
            StatusCode::UNAUTHORIZED,
            "UNAUTHENTICATED",
            "Request had invalid authentication credentials.",
        );
    };
    let Some((principal, "generateAccessToken")) = call.split_once(':') else {
        return api_error(StatusCode::NOT_FOUND, "NOT_FOUND", "Method not found.");
    };
    if principal != TARGET
        || !body.delegates.iter().flatten().all(|name| name.starts_with("projects/-/serviceAccounts/"))
    {
        return api_error(
            StatusCode::FORBIDDEN,
            "PERMISSION_DENIED",
            "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).",
        );
    }
    let seconds: i64 =
        body.lifetime.and_then(|lifetime| lifetime.strip_suffix('s')?.parse().ok()).unwrap_or(3600);
    let ends =
        Timestamp::from_second(shared.clock.now() + seconds).map(|ends| ends.to_string()).unwrap_or_default();
    let grant = format!("impersonated by {account}");
    let token = access_token(&shared, &grant, principal, &body.scope.join(" "));
    Json(json!({ "accessToken": token, "expireTime": ends })).into_response()
}

async fn metadata(State(shared): Shares, UrlPath(path): UrlPath<String>, headers: HeaderMap) -> Response {
    if headers.get("metadata-flavor").is_none_or(|flavor| flavor != "Google") {
        return StatusCode::FORBIDDEN.into_response();
    }
    let account = path.strip_prefix("instance/service-accounts/").and_then(|rest| {
        let (account, rest) = rest.split_once('/').unwrap_or((rest, ""));
        (account == "default" || account == MACHINE).then_some(rest)
    });
    let body = match (account, path.as_str()) {
        (Some("email"), _) => MACHINE.into_response(),
        (Some("token"), _) => {
            let token = access_token(&shared, "metadata", MACHINE, CLOUD_PLATFORM);
            Json(json!({ "access_token": token, "expires_in": 3599, "token_type": "Bearer" })).into_response()
        }
        (Some(""), _) => {
            Json(json!({ "aliases": ["default"], "email": MACHINE, "scopes": [CLOUD_PLATFORM] }))
                .into_response()
        }
        (_, "project/project-id") => PROJECT.into_response(),
        (_, "universe/universe-domain") => "googleapis.com".into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    };
    ([("metadata-flavor", "Google")], body).into_response()
}

/// There is one bucket, `team`.
async fn objects(UrlPath(bucket): UrlPath<String>, headers: HeaderMap) -> Response {
    // Errors of this API have no status.
    let refused = |status: StatusCode, message: &str| {
        let reasons = json!([{ "message": message, "domain": "global" }]);
        let error = json!({ "code": status.as_u16(), "message": message, "errors": reasons });
        (status, Json(json!({ "error": error }))).into_response()
    };
    match (bearer(&headers), bucket.as_str()) {
        (None, _) => refused(StatusCode::UNAUTHORIZED, "Invalid Credentials"),
        (Some(_), "team") => Json(json!({})).into_response(),
        (Some(_), _) => refused(StatusCode::NOT_FOUND, "The specified bucket does not exist."),
    }
}

async fn locations(
    UrlPath(project): UrlPath<String>,
    headers: HeaderMap,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    if bearer(&headers).is_none() {
        return api_error(
            StatusCode::UNAUTHORIZED,
            "UNAUTHENTICATED",
            "Request had invalid authentication credentials.",
        );
    }
    if project != PROJECT {
        return api_error(StatusCode::FORBIDDEN, "PERMISSION_DENIED", "The caller does not have permission");
    }
    let name = |location: &str| json!({ "name": format!("projects/{project}/locations/{location}"), "locationId": location });
    // Two pages.
    match query.get("pageToken").map_or("", String::as_str) {
        "" => Json(json!({ "locations": [name("us-central1")], "nextPageToken": "2" })),
        _ => Json(json!({ "locations": [name("us")] })),
    }
    .into_response()
}

async fn repositories(
    UrlPath((project, location)): UrlPath<(String, String)>,
    headers: HeaderMap,
) -> Json<Value> {
    let repository = |name: &str, format: &str| json!({ "name": format!("projects/{project}/locations/{location}/repositories/{name}"), "format": format });
    Json(match (bearer(&headers), location.as_str()) {
        (Some(_), "us-central1") => {
            json!({ "repositories": [repository("images", "DOCKER"), repository("wheels", "PYTHON")] })
        }
        (Some(_), "us") => json!({ "repositories": [repository("gcr.io", "DOCKER")] }),
        _ => json!({}),
    })
}
