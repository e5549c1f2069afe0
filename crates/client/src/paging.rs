//! Lists in pages: tags and repositories.

use std::{collections::HashSet, sync::Arc};

use http::{HeaderMap, Method, StatusCode, header};
use longshore_oci::{Repository, Tag};
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};
use url::Url;

use crate::{
    Client, ClientError, Result,
    client::path,
    exchange::{Call, Whole},
    location::Destination,
    quirks::PAGE,
    scope::{Access, Scopes},
    site::Site,
};

/// The largest page. A registry that does not page sends everything at once.
const LARGEST_PAGE: u64 = 64 << 20;
/// As many pages are read of one list.
const MOST_PAGES: usize = 10_000;

/// What has no name is not a list of tags, and does not say that there are none.
#[derive(Debug, Deserialize)]
struct TagPage {
    #[serde(rename = "name")]
    _name: IgnoredAny,
    tags: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct CatalogPage {
    #[serde(deserialize_with = "Option::deserialize")]
    repositories: Option<Vec<String>>,
}

impl Client {
    /// The tags of a repository, in the registry's order.
    pub async fn tags(&self, repository: &Repository) -> Result<Vec<Tag>> {
        let what = format!("list the tags of {repository}");
        let site = self.server(repository.host());
        let scopes = Scopes::repository(repository.path(), Access::Pull);
        let first = path(repository, &format!("tags/list?n={PAGE}"));
        let mut tags = Vec::new();
        self.pages(&site, &what, &first, scopes, Some(repository.path()), |page: TagPage| {
            // What is not a tag cannot be asked for.
            tags.extend(page.tags.into_iter().flatten().filter_map(|tag| tag.parse().ok()));
        })
        .await?;
        Ok(tags)
    }

    /// The repositories of a registry, by their paths. Many registries do not tell.
    pub async fn catalog(&self, host: &str) -> Result<Vec<String>> {
        let what = format!("list the repositories of {host}");
        let site = self.server(host);
        let mut repositories = Vec::new();
        let first = format!("v2/_catalog?n={PAGE}");
        self.pages(&site, &what, &first, Scopes::catalog(), None, |page: CatalogPage| {
            repositories.extend(page.repositories.into_iter().flatten());
        })
        .await?;
        Ok(repositories)
    }

    async fn pages<P: DeserializeOwned>(
        &self,
        site: &Arc<Site>,
        what: &str,
        first: &str,
        scopes: Scopes,
        repository: Option<&str>,
        mut take: impl FnMut(P),
    ) -> Result<()> {
        let mut to = site.api(what, first)?;
        let mut pages = Pages::default();
        loop {
            let mut call = Call::new(what, Method::GET, to.clone(), scopes.clone());
            call.repository = repository;
            let page = self.exchange_whole(site, &call, &[StatusCode::OK], LARGEST_PAGE).await?;
            take(parse(site, what, &page)?);
            match next_page(site, what, &mut pages, &to.url, &page)? {
                Some(next) => to = next,
                None => return Ok(()),
            }
        }
    }
}

/// Reads a page.
pub(crate) fn parse<P: DeserializeOwned>(site: &Site, what: &str, page: &Whole) -> Result<P> {
    if crate::refusal::is_web_page(page.content_type(), &page.bytes) {
        let url = longshore_endpoint::redacted(&page.url);
        return Err(ClientError::NotRegistry { what: what.to_owned(), url });
    }
    serde_json::from_slice(&page.bytes).map_err(|error| ClientError::Protocol {
        what: what.to_owned(),
        host: site.shown(),
        reason: format!("sent a list that cannot be read: {error}"),
    })
}

/// The page after the one at `here`, if there is one.
pub(crate) fn next_page(
    site: &Site,
    what: &str,
    pages: &mut Pages,
    here: &Url,
    page: &Whole,
) -> Result<Option<Destination>> {
    let protocol = |reason: &str| ClientError::Protocol {
        what: what.to_owned(),
        host: site.shown(),
        reason: reason.to_owned(),
    };
    pages.read.insert(here.clone());
    let Some(link) = next_link(&page.headers) else { return Ok(None) };
    let next = site.destination(what, here, &link)?;
    if !next.is_registry {
        return Err(protocol("continues its list on another host, which is not followed"));
    }
    if pages.read.contains(&next.url) {
        return Err(protocol("links its pages in a circle"));
    }
    if pages.read.len() >= MOST_PAGES {
        return Err(protocol("has a list that does not end"));
    }
    Ok(Some(next))
}

/// The pages that were read.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    read: HashSet<Url>,
}

/// The target of `Link: <…>; rel="next"` (RFC 8288).
fn next_link(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all(header::LINK).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(links).find(|(_, is_next)| *is_next).map(|(target, _)| target)
}

/// The links of one header. Targets may have commas and semicolons in them.
fn links(value: &str) -> Vec<(String, bool)> {
    let mut links = Vec::new();
    let mut rest = value;
    while let Some((target, after)) = rest.split_once('<').and_then(|(_, rest)| rest.split_once('>')) {
        let (parameters, further) = after.find('<').map_or((after, ""), |at| after.split_at(at));
        let is_next = parameters.split([';', ',']).any(|parameter| {
            let Some((name, value)) = parameter.split_once('=') else { return false };
            let relations = value.trim().trim_matches('"');
            name.trim().eq_ignore_ascii_case("rel")
                && relations.split_ascii_whitespace().any(|relation| relation.eq_ignore_ascii_case("next"))
        });
        links.push((target.to_owned(), is_next));
        rest = further;
    }
    links
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn next(value: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::LINK, value.parse().unwrap());
        next_link(&headers)
    }

    #[test]
    fn the_next_page_is_found() {
        let target = "/v2/a/tags/list?last=b,c;d&n=2";
        assert_eq!(next(&format!("<{target}>; rel=\"next\"")).as_deref(), Some(target));
        assert_eq!(
            next(&format!("</x>; rel=prev, <{target}>;title=\"t\"; REL=\"last Next\"")).as_deref(),
            Some(target)
        );
        assert_eq!(next("</x>; rel=\"prev\""), None);
        assert_eq!(next("nonsense"), None);
    }

    proptest! {
        #[test]
        fn parsing_never_panics(value: String) {
            let _ = links(&value);
        }
    }
}
