//! What is said about a manifest (distribution specification, "Listing Referrers").

use std::sync::Arc;

use http::{HeaderName, StatusCode, header, request::Parts};
use longshore_oci::{Descriptor, Digest, Index, MediaType};
use longshore_store::{MANIFEST_LIMIT, RepositoryPath};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::{
    api::{Answer, Api, blocking, query},
    error::ApiResult,
};

/// An index of them, be it empty. Where it would be longer than an index may be, the rest follows on further pages.
pub(crate) async fn list(
    api: &Arc<Api>,
    repository: RepositoryPath,
    subject: Digest,
    request: &Parts,
) -> ApiResult {
    let name = repository.clone();
    let mut found = blocking(api, move |api| api.registry.referrers(&repository, &subject)).await?;
    let kind = query(request, "artifactType");
    if let Some(kind) = &kind {
        found.retain(|descriptor| descriptor.artifact_type.as_deref() == Some(kind));
    }
    if let Some(last) = query(request, "last") {
        found.retain(|descriptor| descriptor.digest.to_string().as_str() > &*last);
    }
    let rest = found.split_off(fitting(&found));
    let mut answer = Answer::new(StatusCode::OK);
    if let (Some(last), false) = (found.last(), rest.is_empty()) {
        let filter = kind.as_ref().map_or_else(String::new, |kind| {
            format!("artifactType={}&", utf8_percent_encode(kind, NON_ALPHANUMERIC))
        });
        let link = format!("</v2/{name}/referrers/{subject}?{filter}last={}>; rel=\"next\"", last.digest);
        answer = answer.header(header::LINK, &link);
    }
    if kind.is_some() {
        answer = answer.header(HeaderName::from_static("oci-filters-applied"), &"artifactType");
    }
    let index = Index::new(found).to_bytes();
    Ok(answer
        .header(header::CONTENT_TYPE, &MediaType::Index)
        .header(header::CONTENT_LENGTH, &index.len())
        .body(index.into()))
}

/// How many fit into one index; at least one.
fn fitting(descriptors: &[Descriptor]) -> usize {
    let around = Index::new(Vec::new()).to_bytes().len() as u64;
    let sizes = descriptors.iter().scan(around, |total, descriptor| {
        let length = serde_json::to_vec(descriptor).map_or(0, |text| text.len() as u64 + 1);
        *total += length;
        Some(*total)
    });
    sizes.take_while(|total| *total <= MANIFEST_LIMIT).count().max(1).min(descriptors.len())
}
