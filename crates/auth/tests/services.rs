//! Services that issue credentials and are not well, or are something else.
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

mod kit;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{
    Router,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::any,
};
use kit::{config, connector, environment, lease, parts};
use longshore_auth::connector::{Connector, ConnectorType};
use longshore_endpoint::Hosts;
use longshore_testkit::{Serving, cloud::GoogleCloud};
use serde_json::{Value, json};

/// A service that answers so, with the number of the request.
fn serve(answer: impl Fn(usize) -> Response + Clone + Send + Sync + 'static) -> (Serving, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let handler = move || {
        let response = answer(counted.fetch_add(1, Ordering::SeqCst));
        async move { response }
    };
    (Serving::router(Router::new().route("/{*path}", any(handler))).unwrap(), count)
}

/// A connector whose key names that service.
fn asking(serving: &Serving) -> Connector {
    let mut key: Value = serde_json::from_str(&GoogleCloud::start().unwrap().service_account_json()).unwrap();
    key["token_uri"] = json!(format!("http://{}/token", serving.address()));
    let values = [("service_account_json", &*key.to_string())];
    connector(config(ConnectorType::Gcp, "service-account", &values), Hosts::default(), environment([]))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_recovers_is_asked_again() {
    let (serving, count) = serve(|number| match number {
        0 => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        1 => (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "0")]).into_response(),
        _ => r#"{"access_token":"ya29.x","expires_in":3600}"#.into_response(),
    });
    assert_eq!(parts(&lease(&asking(&serving), "gcr.io").await.unwrap()).1, "ya29.x");
    assert_eq!(count.load(Ordering::SeqCst), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_does_not_recover_is_given_up() {
    let (serving, count) =
        serve(|_| (StatusCode::BAD_GATEWAY, [(header::RETRY_AFTER, "0")], "<html>").into_response());
    let error = lease(&asking(&serving), "gcr.io").await.unwrap_err();
    assert!(error.is_retryable());
    let sentence = error.to_string();
    assert!(sentence.contains("answered 502 Bad Gateway; try again later"), "{sentence}");
    assert_eq!(count.load(Ordering::SeqCst), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_token_service_is_said_to_be_none() {
    let (page, _) = serve(|_| ([(header::CONTENT_TYPE, "text/html")], "<html>log in</html>").into_response());
    let error = lease(&asking(&page), "gcr.io").await.unwrap_err().to_string();
    assert!(
        error.contains("answered with a web page") && error.contains("no proxy answers in its place"),
        "{error}"
    );
    let (other, _) = serve(|_| r#"{"hello":"ya29.secret"}"#.into_response());
    let error = lease(&asking(&other), "gcr.io").await.unwrap_err().to_string();
    assert!(error.contains("something else than what was asked for") && !error.contains("ya29"), "{error}");
    let (endless, _) = serve(|_| vec![b' '; 5 << 20].into_response());
    let error = lease(&asking(&endless), "gcr.io").await.unwrap_err().to_string();
    assert!(error.contains("sent more than 4194304 bytes"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_to_where_a_service_points() {
    let (elsewhere, reached) = serve(|_| r#"{"access_token":"ya29.evil","expires_in":3600}"#.into_response());
    let location = format!("http://{}/token", elsewhere.address());
    let (serving, _) = serve(move |_| {
        (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location.clone())]).into_response()
    });
    let error = lease(&asking(&serving), "gcr.io").await.unwrap_err().to_string();
    assert!(error.contains("answered 307"), "{error}");
    assert_eq!(reached.load(Ordering::SeqCst), 0);
}
