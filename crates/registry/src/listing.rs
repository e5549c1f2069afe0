//! Tags and repositories, page by page.

use std::sync::Arc;

use axum::response::Response;
use http::{StatusCode, header, request::Parts};
use longshore_oci::Tag;
use longshore_store::RepositoryPath;
use serde_json::json;

use crate::{
    api::{Answer, Api, blocking, query},
    error::{ApiError, ApiResult},
};

pub(crate) async fn tags(api: &Arc<Api>, repository: RepositoryPath, request: &Parts) -> ApiResult {
    let name = repository.clone();
    let tags = blocking(api, move |api| api.registry.tags(&repository)).await?;
    let page = Page::of(tags.iter().map(Tag::as_str), request)?;
    Ok(page.answer(&format!("/v2/{name}/tags/list"), &json!({ "name": name.as_str(), "tags": page.items })))
}

pub(crate) async fn repositories(api: &Arc<Api>, request: &Parts) -> ApiResult {
    let repositories = blocking(api, |api| api.registry.repositories()).await?;
    let page = Page::of(repositories.iter().map(RepositoryPath::as_str), request)?;
    Ok(page.answer("/v2/_catalog", &json!({ "repositories": page.items })))
}

/// Part of a sorted list: those after `last`, at most `n`.
struct Page<'a> {
    items: Vec<&'a str>,
    limit: usize,
    /// Whether more follow.
    more: bool,
}

impl<'a> Page<'a> {
    fn of(items: impl Iterator<Item = &'a str>, request: &Parts) -> ApiResult<Self> {
        let limit = match query(request, "n") {
            None => usize::MAX,
            Some(n) => n.parse().map_err(|_| {
                ApiError::bad_request(
                    "PAGINATION_NUMBER_INVALID",
                    format!("`{n}` is not a number of entries"),
                )
            })?,
        };
        let last = query(request, "last").unwrap_or_default();
        let mut rest = items.filter(|item| *item > &*last);
        let items: Vec<_> = rest.by_ref().take(limit).collect();
        Ok(Self { more: limit > 0 && rest.next().is_some(), items, limit })
    }

    fn answer(&self, path: &str, body: &serde_json::Value) -> Response {
        let answer = Answer::new(StatusCode::OK);
        match self.items.last() {
            // Names and tags have no character that a query would have to encode, but for `/`, which it need not.
            Some(last) if self.more => {
                let link = format!("<{path}?n={}&last={last}>; rel=\"next\"", self.limit);
                answer.header(header::LINK, &link).json(body.to_string())
            }
            _ => answer.json(body.to_string()),
        }
    }
}
