//! The answers of the token service.

use std::{collections::HashMap, sync::Arc, time::Duration};

use axum::{
    extract::{RawQuery, State},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, StatusCode, header};
use jiff::Timestamp;
use serde_json::{Value, json};
use url::form_urlencoded;

use super::{Flow, OAuth, Scope, Service, TokenField, TokenRequest, User};

/// What a request has, decoded.
#[derive(Debug, Default)]
struct Parameters {
    scopes: Vec<Scope>,
    single: HashMap<String, String>,
}

impl Parameters {
    fn parse(text: &str) -> Self {
        let mut parameters = Self::default();
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            if name == "scope" {
                parameters.scopes.extend(value.split_ascii_whitespace().map(|scope| {
                    let Ok(scope) = scope.parse();
                    scope
                }));
            } else {
                parameters.single.insert(name.into_owned(), value.into_owned());
            }
        }
        parameters
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.single.get(name).map(String::as_str)
    }
}

/// `GET`: the way that every service knows.
pub(super) async fn get(
    State(service): State<Arc<Service>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let parameters = Parameters::parse(query.as_deref().unwrap_or_default());
    if let Some(failure) = service.failure() {
        return service.note(Flow::Get, None, &parameters, failure);
    }
    let given = headers.get(header::AUTHORIZATION).map(|value| basic(value.as_bytes()));
    let account = given.as_ref().and_then(|given| given.as_ref()).map(|(name, _)| name.clone());
    let user = match &given {
        None => Ok(None),
        Some(Some((name, password))) => service.user(name, password).map(Some).ok_or(()),
        Some(None) => Err(()),
    };
    let response = match user {
        Ok(user) => service.granted(user.as_ref(), &parameters, Flow::Get),
        Err(()) => error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "incorrect username or password"),
    };
    service.note(Flow::Get, account, &parameters, response)
}

/// `POST`: OAuth 2.
pub(super) async fn post(State(service): State<Arc<Service>>, body: String) -> Response {
    let parameters = Parameters::parse(&body);
    let flow = match parameters.get("grant_type") {
        Some("password") => Flow::Password,
        Some("refresh_token") => Flow::RefreshToken,
        _ => Flow::Unknown,
    };
    if let Some(failure) = service.failure() {
        return service.note(flow, None, &parameters, failure);
    }
    let oauth = service.state().config.oauth;
    let mut account = parameters.get("username").map(str::to_owned);
    let response = match (oauth, flow) {
        (OAuth::Missing, _) => StatusCode::NOT_FOUND.into_response(),
        (OAuth::MethodNotAllowed, _) => StatusCode::METHOD_NOT_ALLOWED.into_response(),
        (OAuth::Supported, Flow::Unknown | Flow::Get) => oauth_error("unsupported_grant_type"),
        (OAuth::Supported, _) if parameters.get("client_id").is_none_or(str::is_empty) => {
            oauth_error("invalid_client")
        }
        (OAuth::Supported, Flow::Password) => {
            let password = parameters.get("password").unwrap_or_default();
            match account.as_deref().and_then(|name| service.user(name, password)) {
                Some(user) => service.granted(Some(&user), &parameters, flow),
                None => oauth_error("invalid_grant"),
            }
        }
        (OAuth::Supported, Flow::RefreshToken) => {
            let owner = parameters.get("refresh_token").and_then(|token| service.owner(token));
            account = owner.as_ref().map(|user| user.name.clone());
            match owner {
                Some(user) => service.granted(Some(&user), &parameters, flow),
                None => oauth_error("invalid_grant"),
            }
        }
    };
    service.note(flow, account, &parameters, response)
}

impl Service {
    /// The answer of a service that does not do its work now.
    fn failure(&self) -> Option<Response> {
        let (times, status) = &mut self.state().failing;
        *times = times.checked_sub(1)?;
        let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Some(error(status, "UNAVAILABLE", "not now"))
    }

    fn user(&self, name: &str, password: &str) -> Option<User> {
        self.state().config.users.iter().find(|user| user.name == name && user.password == password).cloned()
    }

    fn owner(&self, refresh_token: &str) -> Option<User> {
        let state = self.state();
        let account = state.refresh_tokens.get(refresh_token)?;
        state.config.users.iter().find(|user| user.name == *account).cloned()
    }

    /// A token for as much of what was asked for as is allowed, be it nothing: the registry says no, not this service.
    fn granted(&self, user: Option<&User>, parameters: &Parameters, flow: Flow) -> Response {
        let (lifetime, field, mut grants) = {
            let state = self.state();
            let config = &state.config;
            (config.lifetime_seconds, config.token_field, config.anonymous.clone())
        };
        grants.extend(user.iter().flat_map(|user| user.grants.clone()));
        let scopes: Vec<_> = parameters.scopes.iter().filter_map(|scope| scope.allowed_by(&grants)).collect();
        let account = user.map_or("", |user| &user.name);
        let wants_refresh_token = user.is_some()
            && (parameters.get("offline_token") == Some("true")
                || parameters.get("access_type") == Some("offline"));
        let made = self.authority.issue(account, &scopes, Duration::from_secs(lifetime)).and_then(|token| {
            let refresh = wants_refresh_token.then(|| self.new_refresh_token(account)).transpose()?;
            Ok((token, refresh))
        });
        let (token, refresh) = match made {
            Ok(made) => made,
            Err(failure) => {
                return error(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", &failure.to_string());
            }
        };
        let mut body = json!({ "expires_in": lifetime, "issued_at": Timestamp::now().to_string() });
        if flow != Flow::Get || field != TokenField::Token {
            body["access_token"] = Value::from(token.as_str());
        }
        if flow == Flow::Get && field != TokenField::AccessToken {
            body["token"] = Value::from(token.as_str());
        }
        if flow != Flow::Get {
            let scopes: Vec<_> = scopes.iter().map(ToString::to_string).collect();
            body["scope"] = Value::from(scopes.join(" "));
        }
        if let Some(refresh) = refresh {
            body["refresh_token"] = Value::from(refresh);
        }
        axum::Json(body).into_response()
    }

    fn note(
        &self,
        flow: Flow,
        account: Option<String>,
        parameters: &Parameters,
        response: Response,
    ) -> Response {
        self.state().requests.push(TokenRequest {
            flow,
            account,
            service: parameters.get("service").map(str::to_owned),
            scopes: parameters.scopes.clone(),
            status: response.status().as_u16(),
        });
        response
    }
}

/// The name and password of `Basic` (RFC 7617).
fn basic(value: &[u8]) -> Option<(String, String)> {
    let (scheme, encoded) = str::from_utf8(value).ok()?.split_once(' ')?;
    let decoded = STANDARD.decode(encoded.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let (name, password) = str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

fn error(status: StatusCode, code: &str, message: &str) -> Response {
    (status, axum::Json(json!({ "errors": [{ "code": code, "message": message }] }))).into_response()
}

/// RFC 6749 §5.2.
fn oauth_error(code: &str) -> Response {
    (StatusCode::BAD_REQUEST, axum::Json(json!({ "error": code }))).into_response()
}
