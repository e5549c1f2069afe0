//! Buckets of Google Cloud Storage: whether they answer.

use http::StatusCode;
use url::Url;

use crate::{
    AuthError, Secret,
    connector::check_url,
    service::{Request, Service},
    storage::GcsBucket,
};

/// Where the service is for everybody.
const ENDPOINT: &str = "https://storage.googleapis.com";

/// Asks for the name of one object. Fails with what to do if the bucket does not answer.
pub(crate) async fn probe(
    service: &Service,
    bucket: &GcsBucket<'_>,
    token: &Secret,
    account: &str,
) -> Result<(), AuthError> {
    let what = format!("list the bucket {}", bucket.name);
    let url = listing(bucket).map_err(|reason| {
        AuthError::unusable(
            service.origin(),
            format!("cannot {what}: the endpoint {} {reason}", bucket.endpoint.unwrap_or(ENDPOINT)),
            "correct the artifact store's endpoint_url",
        )
    })?;
    service.send(&what, Request::get(url).bearer(token)).await?.accepted(|answer| {
        let remedy = match answer.status {
            StatusCode::NOT_FOUND => "create the bucket, or correct the URI of the artifact store".to_owned(),
            _ => format!("grant {account} roles/storage.objectUser on the bucket"),
        };
        answer.refused(&what, &answer.refusal(), remedy)
    })?;
    Ok(())
}

/// The URL that lists one object.
fn listing(bucket: &GcsBucket<'_>) -> Result<Url, String> {
    let endpoint = bucket.endpoint.unwrap_or(ENDPOINT);
    // It is sent an access token.
    check_url(endpoint)?;
    let mut url = Url::parse(endpoint).map_err(|error| format!("is not a URL: {error}"))?;
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(["storage", "v1", "b", bucket.name, "o"]);
    }
    url.query_pairs_mut()
        .append_pair("maxResults", "1")
        .append_pair("prefix", bucket.prefix)
        .append_pair("fields", "items(name)");
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_asked_where_it_is() {
        let bucket = GcsBucket { name: "team", prefix: "ml/runs", endpoint: None };
        assert_eq!(
            listing(&bucket).unwrap().as_str(),
            "https://storage.googleapis.com/storage/v1/b/team/o?maxResults=1&prefix=ml%2Fruns&fields=items%28name%29"
        );
        let here = GcsBucket { endpoint: Some("http://127.0.0.1:9000/"), ..bucket };
        assert!(listing(&here).unwrap().as_str().starts_with("http://127.0.0.1:9000/storage/v1/b/team/o?"));
        let open = GcsBucket { endpoint: Some("http://storage.example.com"), ..bucket };
        assert!(listing(&open).is_err(), "a token is not sent unencrypted");
    }
}
