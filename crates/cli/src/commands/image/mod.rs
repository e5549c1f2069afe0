//! `longshore image`: the embedded registry's images, and those of others.

pub(crate) mod edit;
pub(crate) mod export;
pub(crate) mod inspect;
pub(crate) mod rebuild;

use longshore_build::{BuildError, read_image};
use longshore_oci::{Arch, Digest, ImageConfig, Index, Manifest, Platform, Reference};
use longshore_stack::State;
use longshore_store::{Registry, RepositoryPath, StoredManifest, TagOrDigest};
use serde_json::json;

use crate::{
    args::OutputFormat,
    commands::build::image_name,
    failure::Failure,
    output::{
        self,
        quantity::size,
        table::{Align, Table},
    },
};

/// `longshore image list`
pub(crate) fn list(registry: &Registry, uri: &str, format: OutputFormat) -> Result<(), Failure> {
    let mut images = Vec::new();
    for repository in registry.repositories()? {
        for tag in registry.tags(&repository)? {
            let stored = registry.manifest(&repository, tag.clone())?;
            let bytes = total_size(registry, &repository, &stored)?;
            images.push((format!("{uri}/{repository}"), tag, stored.digest, bytes));
        }
    }
    if let Some(format) = format.data() {
        let images: Vec<_> = images
            .iter()
            .map(|(repository, tag, digest, bytes)| {
                json!({"repository": repository, "tag": tag, "digest": digest, "size": bytes})
            })
            .collect();
        return Ok(output::data(format, &images)?);
    }
    let mut table = Table::new([
        ("REPOSITORY", Align::Left),
        ("TAG", Align::Left),
        ("DIGEST", Align::Left),
        ("SIZE", Align::Right),
    ]);
    for (repository, tag, digest, bytes) in images {
        table.row([repository, tag.to_string(), digest.short(), size(bytes)]);
    }
    Ok(table.print()?)
}

/// The bytes of an image's layers; of an index, those of all its images.
fn total_size(
    registry: &Registry,
    repository: &RepositoryPath,
    stored: &StoredManifest,
) -> Result<u64, Failure> {
    if !stored.media_type.is_index() {
        return Ok(Manifest::parse(&stored.bytes).map_or(0, |manifest| manifest.total_size()));
    }
    let mut total = 0;
    for listed in Index::parse(&stored.bytes)?.manifests {
        let stored = registry.manifest(repository, TagOrDigest::Digest(listed.digest))?;
        total += Manifest::parse(&stored.bytes).map_or(0, |manifest| manifest.total_size());
    }
    Ok(total)
}

/// An image that was found in the registry.
pub(crate) struct Found {
    /// Its repository there.
    pub(crate) repository: RepositoryPath,
    /// Its manifest as stored.
    pub(crate) stored: StoredManifest,
    /// Its manifest.
    pub(crate) manifest: Manifest,
    /// Its configuration.
    pub(crate) config: ImageConfig,
}

/// The image that is meant: by its name, or by its digest alone, as a build prints it, if it was built here.
pub(crate) fn meant(state: &State, text: &str) -> Result<Reference, Failure> {
    let Ok(digest) = text.parse::<Digest>() else { return image_name(text) };
    match state.build_of(&digest)? {
        Some(build) => Ok(build.image.at(digest)),
        None => Err(Failure::Usage(format!(
            "no image with the digest {digest} was built on this machine; name it with its repository, REPOSITORY@{digest}"
        ))),
    }
}

/// Finds an image. Names without a host are looked up in the embedded registry too.
pub(crate) fn find(registry: &Registry, uri: &str, image: &Reference) -> Result<Found, Failure> {
    let repository = match image.repository.host() {
        host if host == uri => image.repository.path(),
        "docker.io" => image.repository.path().trim_start_matches("library/"),
        host => {
            return Err(Failure::Usage(format!(
                "{image} is in the registry {host}; this command reads the embedded registry, {uri}"
            )));
        }
    };
    let repository: RepositoryPath = repository.parse()?;
    let (digest, manifest, config) = read_image(registry, &repository, image, &this_platform()?)?;
    let stored = registry.manifest(&repository, TagOrDigest::Digest(digest))?;
    Ok(Found { repository, stored, manifest, config })
}

/// Of an image for several platforms, the one that is meant where none is named.
pub(crate) fn this_platform() -> Result<Platform, BuildError> {
    Arch::host().map(Platform::linux).ok_or(BuildError::Machine)
}
