//! What is checked, and made ready, before anything is built.

use std::time::{Duration, Instant};

use longshore_build::Request;
use longshore_oci::{Reference, Repository};
use longshore_preflight::{
    Check, Finding, Level,
    registry::{self, Means, MissingRepository, Need},
};
use longshore_stack::RemoteRegistry;

use crate::{
    context::{Registries, URI},
    failure::Failure,
    output::progress::Progress,
    runtime,
};

/// So long the credentials of a build should stay good: longer than most builds take, large downloads included.
pub(crate) const EXPECTED: Duration = Duration::from_mins(30);

/// Checks that other registries give and take what the builds need of them. Where the registry wants its repositories
/// made, they are.
pub(crate) fn before(
    registries: &Registries,
    remote: Option<&RemoteRegistry>,
    requests: &[Request],
    progress: &Progress,
) -> Result<(), Failure> {
    let needs = needs(remote, requests)?;
    if needs.is_empty() {
        return Ok(());
    }
    let started = Instant::now();
    runtime::block_on(async {
        let means = Means { client: &registries.client, expected: EXPECTED };
        let found = registry::check(means, &needs).await;
        progress.findings(found.iter().filter(|finding| finding.level != Level::Ok));
        if found.iter().any(|finding| finding.level == Level::Error) {
            return Err(Failure::Said);
        }
        for need in &needs {
            let Need::Push { repository, .. } = need else { continue };
            let is_missing = |finding: &Finding| {
                finding.check == Check::Repository && finding.object == repository.to_string()
            };
            if !found.iter().any(is_missing) {
                continue;
            }
            if let Some((registry, settings)) = remote.and_then(|remote| Some((remote, remote.creation()?))) {
                registries.access.make_repository(registry, settings, repository).await?;
                progress.line("created", &format!("the repository {repository}"));
            }
        }
        progress.checked(&needs.iter().map(what).collect::<Vec<_>>().join(", "), started.elapsed());
        Ok(())
    })
}

/// A need in a few words.
fn what(need: &Need) -> String {
    match need {
        Need::Pull(image) => format!("pull {image}"),
        Need::Push { repository, .. } => format!("push {repository}"),
        Need::Answer(host) => host.clone(),
    }
}

/// What the builds need of other registries.
fn needs(remote: Option<&RemoteRegistry>, requests: &[Request]) -> Result<Vec<Need>, Failure> {
    let mut needs = Vec::new();
    for request in requests {
        if let Some(parent) = &request.settings.parent_image {
            let image: Reference = parent.parse()?;
            if image.repository.host() != URI {
                needs.push(Need::Pull(image));
            }
        }
        // What is used as it is is not pushed.
        if request.repository.host() != URI && request.settings.skip_build != Some(true) {
            let missing = missing(remote, &request.repository);
            needs.push(Need::Push { repository: request.repository.clone(), missing });
        }
    }
    needs.dedup();
    Ok(needs)
}

/// What becomes of a repository that does not exist.
pub(crate) fn missing(remote: Option<&RemoteRegistry>, repository: &Repository) -> MissingRepository {
    match remote.filter(|registry| registry.uri.contains(repository)) {
        Some(registry) if registry.creation().is_some() => MissingRepository::MadeByUs,
        _ => MissingRepository::LeftToRegistry,
    }
}
