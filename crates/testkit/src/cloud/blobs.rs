//! A storage account of Azure Blob Storage, as far as access to a container is got there: "Get User Delegation Key" and "List
//! Blobs" of the Azure Storage REST API.

use std::{collections::HashMap, io, sync::Arc};

use axum::{
    Router,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};

use super::microsoft::{MicrosoftCloud, Shared};
use crate::Serving;

const RESOURCE: &str = "https://storage.azure.com";
const CONTAINER: &str = "runs";
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// The account. It has one container, `runs`.
#[derive(Debug)]
pub struct BlobStorage {
    serving: Serving,
}

impl BlobStorage {
    /// Starts it; whoever has a token of that cloud's for storage accounts may do everything.
    pub fn start(cloud: &MicrosoftCloud) -> io::Result<Self> {
        let router = Router::new()
            .route("/", post(delegation_key))
            .route("/{container}", get(list))
            .with_state(cloud.shared());
        Ok(Self { serving: Serving::router(router)? })
    }

    /// Where it is, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.serving.address())
    }
}

type Shares = State<Arc<Shared>>;
type Fields = Query<HashMap<String, String>>;

fn refused(status: StatusCode, code: &str, message: &str) -> Response {
    let lines = "RequestId:00000000-0000-0000-0000-000000000003\nTime:2024-01-01T00:00:00.0000000Z";
    let body = format!(
        "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>{code}</Code><Message>{message}\n{lines}</Message></Error>"
    );
    (status, [(header::CONTENT_TYPE, "application/xml")], body).into_response()
}

/// The refusal, unless whoever asks may do everything.
fn refusal(shared: &Shared, headers: &HeaderMap) -> Option<Response> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let token = text("authorization").strip_prefix("Bearer ").unwrap_or_default();
    // Tokens are taken from this version on.
    if text("x-ms-version") < "2017-11-09" || !shared.accepts(token, RESOURCE) {
        let message = "Server failed to authenticate the request. Please refer to the information in the www-authenticate header.";
        return Some(refused(StatusCode::UNAUTHORIZED, "InvalidAuthenticationInfo", message));
    }
    None
}

async fn delegation_key(
    State(shared): Shares,
    Query(query): Fields,
    headers: HeaderMap,
    body: String,
) -> Response {
    if let Some(refusal) = refusal(&shared, &headers) {
        return refusal;
    }
    let asks = |name: &str, value: &str| query.get(name).is_some_and(|given| given == value);
    let element = |name: &str| {
        let (_, rest) = body.split_once(&format!("<{name}>"))?;
        Some(rest.split_once(&format!("</{name}>"))?.0)
    };
    let (Some(start), Some(expiry), true) = (
        element("Start"),
        element("Expiry"),
        asks("restype", "service") && asks("comp", "userdelegationkey"),
    ) else {
        let message = "One of the request inputs is not valid.";
        return refused(StatusCode::BAD_REQUEST, "InvalidInput", message);
    };
    let answer = format!(
        "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><UserDelegationKey>\
         <SignedOid>11111111-1111-1111-1111-111111111111</SignedOid>\
         <SignedTid>22222222-2222-2222-2222-222222222222</SignedTid>\
         <SignedStart>{start}</SignedStart><SignedExpiry>{expiry}</SignedExpiry>\
         <SignedService>b</SignedService><SignedVersion>2021-08-06</SignedVersion><Value>{KEY}</Value></UserDelegationKey>"
    );
    ([(header::CONTENT_TYPE, "application/xml")], answer).into_response()
}

async fn list(
    State(shared): Shares,
    Path(container): Path<String>,
    Query(query): Fields,
    headers: HeaderMap,
) -> Response {
    if let Some(refusal) = refusal(&shared, &headers) {
        return refusal;
    }
    let asks = |name: &str, value: &str| query.get(name).is_some_and(|given| given == value);
    if !asks("restype", "container") || !asks("comp", "list") || container != CONTAINER {
        return refused(
            StatusCode::NOT_FOUND,
            "ContainerNotFound",
            "The specified container does not exist.",
        );
    }
    let answer = "<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults><Blobs /><NextMarker /></EnumerationResults>";
    ([(header::CONTENT_TYPE, "application/xml")], answer).into_response()
}
