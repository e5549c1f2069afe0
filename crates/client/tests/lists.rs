//! Lists in pages.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test may panic")]

mod support;

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use longshore_client::ClientError;
use longshore_oci::{Descriptor, Digest, Index, MediaType, Tag};
use support::{client, repository, scripted::Scripted};

fn page(tags: &str, next: Option<String>) -> Response {
    let body = format!("{{\"name\":\"app\",\"tags\":[{tags}]}}");
    match next {
        Some(next) => ([(header::LINK, format!("<{next}>; rel=\"next\""))], body).into_response(),
        None => body.into_response(),
    }
}

#[tokio::test]
async fn pages_are_followed_by_their_links() {
    let registry = Scripted::start(|_, _, path| match path {
        "/v2/app/tags/list?n=1000" => page("\"1\"", Some("/v2/app/tags/list?n=1000&last=1".to_owned())),
        "/v2/app/tags/list?n=1000&last=1" => page("\"2\",\"not a tag\"", Some("list?last=2".to_owned())),
        "/v2/app/tags/list?last=2" => page("\"3\"", None),
        _ => StatusCode::NOT_FOUND.into_response(),
    });
    let tags = client().tags(&repository(&registry.host(), "app")).await.unwrap();
    assert_eq!(tags.iter().map(Tag::as_str).collect::<Vec<_>>(), ["1", "2", "3"]);
    assert_eq!(registry.asked().len(), 3);
}

#[tokio::test]
async fn a_list_does_not_go_on_elsewhere() {
    let other = Scripted::start(|_, _, _| page("\"2\"", None));
    let next = format!("http://{}/v2/app/tags/list", other.host());
    let registry = Scripted::start(move |_, _, _| page("\"1\"", Some(next.clone())));
    let error = client().tags(&repository(&registry.host(), "app")).await.unwrap_err();
    assert!(error.to_string().contains("continues its list on another host"), "{error}");
    assert!(other.asked().is_empty());
}

#[tokio::test]
async fn a_list_that_is_none_is_an_error() {
    for answer in ["[]", "{}", "no"] {
        let registry = Scripted::start(move |_, _, _| answer.into_response());
        let app = repository(&registry.host(), "app");
        let client = client();
        for error in [
            client.tags(&app).await.unwrap_err(),
            client.catalog(&registry.host()).await.map(drop).unwrap_err(),
            client.referrers(&app, &Digest::of("x"), None).await.map(drop).unwrap_err(),
        ] {
            assert!(matches!(error, ClientError::Protocol { .. }), "{error}");
        }
    }
}

#[tokio::test]
async fn referrers_come_in_pages_and_are_filtered_here_too() {
    let listed = |name: &str, kind: &str| {
        let mut manifest = Descriptor::of(MediaType::Manifest, name.as_bytes());
        manifest.artifact_type = Some(kind.to_owned());
        manifest
    };
    let (wanted, other, last) = (
        listed("a", "application/vnd.a"),
        listed("b", "application/vnd.b"),
        listed("c", "application/vnd.a"),
    );
    let pages = [Index::new(vec![wanted.clone(), other]), Index::new(vec![last.clone()])];
    let registry = Scripted::start(move |earlier, _, path| {
        let link = (header::LINK, "<?page=2>; rel=next".to_owned());
        match path {
            _ if earlier.is_empty() && path.ends_with("?artifactType=application%2Fvnd.a") => {
                ([link], pages[0].to_bytes()).into_response()
            }
            _ if path.ends_with("?page=2") => pages[1].to_bytes().into_response(),
            _ => StatusCode::BAD_REQUEST.into_response(),
        }
    });
    let app = repository(&registry.host(), "app");
    let found = client().referrers(&app, &Digest::of("x"), Some("application/vnd.a")).await.unwrap();
    assert_eq!(found.manifests, [wanted, last]);
}
