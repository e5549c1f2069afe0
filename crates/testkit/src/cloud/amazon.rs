//! What AWS's machines answer to the programs on them: the instance metadata service (IMDSv2), the containers' credential
//! service, and the portal of IAM Identity Center. Its `sts:GetCallerIdentity` says with which key a request was signed. And what `moto` does not have of ECR: the public
//! registry, and listings of several pages.

use std::io;

use axum::{
    Json, Router,
    extract::{Path, Query},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use crate::Serving;

const METADATA_TOKEN: &str = "imds-v2-token";
const CONTAINER_TOKEN: &str = "container-token";
const SIGN_ON_TOKEN: &str = "sign-on-token";
const EXPIRATION: &str = "2099-01-01T00:00:00Z";

/// All of it, on one address.
#[derive(Debug)]
pub struct AmazonMachine {
    serving: Serving,
}

impl AmazonMachine {
    /// Starts it. The instance's role is `instance-role`.
    pub fn start() -> io::Result<Self> {
        let router = Router::new()
            .route("/latest/api/token", put(metadata_token))
            .route("/latest/meta-data/iam/security-credentials/", get(roles))
            .route("/latest/meta-data/iam/security-credentials/{role}", get(role))
            .route("/container", get(container))
            .route("/federation/credentials", get(sign_on))
            .route("/", post(identity));
        Ok(Self { serving: Serving::router(router)? })
    }

    /// Where it is, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.serving.address())
    }

    /// What `AWS_CONTAINER_AUTHORIZATION_TOKEN` has in a container.
    pub fn container_token(&self) -> &'static str {
        CONTAINER_TOKEN
    }

    /// The token of someone who has signed in.
    pub fn sign_on_token(&self) -> &'static str {
        SIGN_ON_TOKEN
    }
}

fn has(headers: &HeaderMap, name: &str, value: &str) -> bool {
    headers.get(name).is_some_and(|given| given == value)
}

async fn metadata_token(headers: HeaderMap) -> Response {
    match headers
        .get("x-aws-ec2-metadata-token-ttl-seconds")
        .and_then(|seconds| seconds.to_str().ok()?.parse().ok())
    {
        Some(1..=21_600) => {
            ([("x-aws-ec2-metadata-token-ttl-seconds", "300")], METADATA_TOKEN).into_response()
        }
        _ => StatusCode::BAD_REQUEST.into_response(),
    }
}

async fn roles(headers: HeaderMap) -> Response {
    if has(&headers, "x-aws-ec2-metadata-token", METADATA_TOKEN) {
        "instance-role".into_response()
    } else {
        StatusCode::UNAUTHORIZED.into_response()
    }
}

async fn role(headers: HeaderMap, Path(role): Path<String>) -> Response {
    if !has(&headers, "x-aws-ec2-metadata-token", METADATA_TOKEN) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if role != "instance-role" {
        return StatusCode::NOT_FOUND.into_response();
    }
    Json(json!({
        "Code": "Success", "Type": "AWS-HMAC", "LastUpdated": "2024-01-01T00:00:00Z", "AccessKeyId": "ASIAINSTANCE",
        "SecretAccessKey": "instance-secret", "Token": "instance-session", "Expiration": EXPIRATION,
    }))
    .into_response()
}

async fn container(headers: HeaderMap) -> Response {
    if !has(&headers, "authorization", CONTAINER_TOKEN) {
        return StatusCode::FORBIDDEN.into_response();
    }
    Json(json!({
        "RoleArn": "arn:aws:iam::123456789012:role/task", "AccessKeyId": "ASIACONTAINER",
        "SecretAccessKey": "container-secret", "Token": "container-session", "Expiration": EXPIRATION,
    }))
    .into_response()
}

async fn sign_on(headers: HeaderMap, Query(query): Query<Vec<(String, String)>>) -> Response {
    if !has(&headers, "x-amz-sso_bearer_token", SIGN_ON_TOKEN) {
        let error =
            json!({ "__type": "UnauthorizedException", "message": "Session token not found or invalid" });
        return (StatusCode::UNAUTHORIZED, Json(error)).into_response();
    }
    let asks = |name: &str, value: &str| query.iter().any(|(given, other)| given == name && other == value);
    if !(asks("role_name", "dev") && asks("account_id", "123456789012")) {
        let error = json!({ "__type": "ForbiddenException", "message": "No access" });
        return (StatusCode::FORBIDDEN, Json(error)).into_response();
    }
    // The end of 2098, in milliseconds.
    Json(json!({ "roleCredentials": {
        "accessKeyId": "ASIASIGNON", "secretAccessKey": "sign-on-secret", "sessionToken": "sign-on-session",
        "expiration": 4_070_908_800_000_i64,
    }}))
    .into_response()
}

/// The key is the name of the user; whether there was a session token is its path.
async fn identity(headers: HeaderMap, body: String) -> Response {
    if let Some(target) = headers.get("x-amz-target").and_then(|target| target.to_str().ok()) {
        return registry(target, &body);
    }
    let key = headers
        .get("authorization")
        .and_then(|value| value.to_str().ok()?.split_once("Credential=")?.1.split('/').next())
        .filter(|_| body.contains("Action=GetCallerIdentity"));
    let Some(key) = key else { return StatusCode::BAD_REQUEST.into_response() };
    let session = headers.get("x-amz-security-token").and_then(|token| token.to_str().ok()).unwrap_or("none");
    let answer = format!(
        "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
         <Arn>arn:aws:iam::123456789012:user/{session}/{key}</Arn><UserId>{key}</UserId><Account>123456789012</Account>\
         </GetCallerIdentityResult><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata>\
         </GetCallerIdentityResponse>"
    );
    ([("content-type", "text/xml")], answer).into_response()
}

fn registry(target: &str, body: &str) -> Response {
    let Ok(asked) = serde_json::from_str::<serde_json::Value>(body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let page = |name: &str, next: Option<&str>| {
        let repository = json!({
            "repositoryName": name, "repositoryUri": format!("123456789012.dkr.ecr.eu-central-1.amazonaws.com/{name}"),
        });
        Json(json!({ "repositories": [repository], "nextToken": next })).into_response()
    };
    match (target, asked["nextToken"].as_str()) {
        ("SpencerFrontendService.GetAuthorizationToken", _) => {
            let token = STANDARD.encode("AWS:public-password");
            Json(
                json!({ "authorizationData": { "authorizationToken": token, "expiresAt": 4_070_908_800.5 } }),
            )
            .into_response()
        }
        ("AmazonEC2ContainerRegistry_V20150921.DescribeRepositories", None) => page("first", Some("2")),
        ("AmazonEC2ContainerRegistry_V20150921.DescribeRepositories", Some("2")) => page("second", Some("3")),
        ("AmazonEC2ContainerRegistry_V20150921.DescribeRepositories", Some("3")) => page("third", None),
        _ => {
            let error = json!({ "__type": "InvalidParameterException", "message": "not one of these" });
            (StatusCode::BAD_REQUEST, Json(error)).into_response()
        }
    }
}
