//! The clouds' stand-ins as a program, and what they must refuse.
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use longshore_testkit::cloud::{GoogleCloud, MicrosoftCloud};
use reqwest::Client;
use serde_json::Value;

/// The program, and what it printed.
fn program(arguments: &[&str]) -> (Child, Value) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_longshore-testkit"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    (child, serde_json::from_str(&line).unwrap())
}

fn client() -> Client {
    Client::builder().no_proxy().build().unwrap()
}

async fn post(url: &str, fields: &[(&str, &str)]) -> (u16, Value) {
    let response = client().post(url).form(fields).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test]
async fn they_serve_until_their_input_ends() {
    for (arguments, path) in
        [(&["google"][..], "/computeMetadata/v1/"), (&["microsoft", "--registry", "r.azurecr.io"], "/v2/")]
    {
        let (mut child, printed) = program(arguments);
        let url = format!("{}{path}", printed["url"].as_str().unwrap());
        assert!(client().get(&url).send().await.is_ok());
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
        assert!(client().get(&url).send().await.is_err());
    }
}

#[tokio::test]
async fn google_refuses_what_is_not_signed_or_not_asked_rightly() {
    let cloud = GoogleCloud::start().unwrap();
    let url = format!("{}/token", cloud.url());
    let grant = ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer");
    let forged = GoogleCloud::start().unwrap().subject_token(60);
    for (fields, error) in [
        (&[("grant_type", "password")][..], "unsupported_grant_type"),
        (&[grant, ("assertion", "a.b.c")], "invalid_grant"),
        (&[grant, ("assertion", &forged)], "invalid_grant"),
        (&[grant], "invalid_grant"),
        (&[("grant_type", "refresh_token"), ("refresh_token", "user-refresh-token")], "invalid_client"),
    ] {
        let (status, answer) = post(&url, fields).await;
        assert!(status >= 400, "{fields:?}");
        assert_eq!(answer["error"], error, "{fields:?}");
    }
    assert_eq!(cloud.tokens_given(), 0);
}

#[tokio::test]
async fn the_registry_of_microsofts_refuses_tokens_for_something_else() {
    let host = "myregistry.azurecr.io";
    let cloud = MicrosoftCloud::start(host).unwrap();
    let (secrets, url) = (cloud.secrets(), cloud.url());
    let token = async |resource: &str| {
        let fields = [
            ("grant_type", "client_credentials"),
            ("client_id", secrets.client),
            ("client_secret", secrets.secret),
            ("scope", &format!("{resource}/.default")),
        ];
        let (_, answer) = post(&format!("{url}/{}/oauth2/v2.0/token", secrets.tenant), &fields).await;
        answer["access_token"].as_str().unwrap().to_owned()
    };
    let exchange = async |service: &str, token: &str| {
        let fields = [("grant_type", "access_token"), ("service", service), ("access_token", token)];
        post(&format!("{url}/oauth2/exchange"), &fields).await
    };
    let good = token("https://containerregistry.azure.net").await;
    assert_eq!(exchange(host, &token("https://vault.azure.net").await).await.0, 401);
    assert_eq!(exchange(host, "a.b.c").await.0, 401);
    assert_eq!(exchange("other.azurecr.io", &good).await.0, 400);
    let (status, answer) = exchange(host, &good).await;
    assert_eq!(status, 200);
    let refresh = answer["refresh_token"].as_str().unwrap();
    assert!(cloud.is_refresh_token(refresh) && !cloud.is_refresh_token(&good));
    assert_eq!(exchange(host, refresh).await.0, 401, "a token of the registry is none of Entra's");
}
