//! Artifact Registry's list of repositories.

use std::collections::BTreeMap;

use serde::{Deserialize, de::DeserializeOwned};
use url::Url;

use super::google::Google;
use crate::{
    AuthError, Secret,
    connector::{Config, Resource},
    service::{Request, Service},
};

/// Hosts of Container Registry, as Artifact Registry serves them: repositories of these names.
const GCR_HOSTS: [&str; 4] = ["gcr.io", "us.gcr.io", "eu.gcr.io", "asia.gcr.io"];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Locations {
    #[serde(default)]
    locations: Vec<Location>,
    next_page_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Location {
    location_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Repositories {
    #[serde(default)]
    repositories: Vec<Repository>,
    next_page_token: Option<String>,
}

#[derive(Deserialize)]
struct Repository {
    name: String,
    format: String,
}

/// The registries of a project, with their repositories.
pub(crate) async fn resources(
    google: &Google,
    config: &Config,
    service: &Service,
) -> Result<Vec<Resource>, AuthError> {
    let project = match config.text("project_id") {
        Some(project) => project.to_owned(),
        None => google.project().await?.ok_or_else(|| {
            AuthError::unusable(
                service.origin(),
                "it is not known in which project to look for repositories",
                "update the connector with --project_id",
            )
        })?,
    };
    let base = format!(
        "{}/v1/projects/{project}/locations",
        config.required("artifact_registry_endpoint").trim_end_matches('/')
    );
    let token = google.token().await?.secret;
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let locations = pages(service, &token, &project, &base, |page: Locations| {
        (page.locations.into_iter().map(|location| location.location_id).collect(), page.next_page_token)
    })
    .await?;
    for location in locations {
        let at = format!("{base}/{location}/repositories");
        let repositories = pages(service, &token, &project, &at, |page: Repositories| {
            (page.repositories, page.next_page_token)
        })
        .await?;
        for repository in repositories.into_iter().filter(|repository| repository.format == "DOCKER") {
            let Some(name) = repository.name.rsplit('/').next() else { continue };
            let (host, path) = if GCR_HOSTS.contains(&name) {
                (name.to_owned(), project.replace(':', "/"))
            } else {
                (format!("{location}-docker.pkg.dev"), format!("{}/{name}", project.replace(':', "/")))
            };
            found.entry(host).or_default().push(path);
        }
    }
    Ok(found.into_iter().map(|(registry, repositories)| Resource { registry, repositories }).collect())
}

/// The items of all pages of a listing.
async fn pages<P: DeserializeOwned, T>(
    service: &Service,
    token: &Secret,
    project: &str,
    at: &str,
    split: impl Fn(P) -> (Vec<T>, Option<String>),
) -> Result<Vec<T>, AuthError> {
    let what = format!("list the repositories of project {project}");
    let mut items = Vec::new();
    let mut next = Some(String::new());
    while let Some(page) = next.take() {
        let url = Url::parse_with_params(at, [("pageSize", "1000"), ("pageToken", &page)]).map_err(|_| {
            AuthError::unusable(
                service.origin(),
                format!("{at} is not a URL"),
                "check project_id and artifact_registry_endpoint",
            )
        })?;
        let answer = service.send(&what, Request::get(url).bearer(token)).await?.accepted(|answer| {
            answer.refused(
                &what,
                &answer.refusal(),
                format!(
                    "enable the Artifact Registry API in {project} and grant roles/artifactregistry.reader"
                ),
            )
        })?;
        let (more, token) = split(answer.parse(&what)?);
        items.extend(more);
        // A service that names the same page again would be asked for ever.
        next = token.filter(|token| !token.is_empty() && *token != page);
    }
    Ok(items)
}
