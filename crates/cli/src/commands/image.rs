//! `longshore image`: the embedded registry's images, and a look at those of others.

use std::{
    fs::Permissions,
    io::{self, BufWriter, IsTerminal, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use longshore_build::{BuildError, read_image};
use longshore_client::Client;
use longshore_oci::{Arch, ImageConfig, Index, Manifest, Platform, Reference};
use longshore_store::{ArchiveFormat, Registry, RepositoryPath, StoredManifest, TagOrDigest};
use serde_json::json;

use crate::{
    args::{self, OutputFormat},
    failure::Failure,
    output::{
        self,
        quantity::size,
        table::{Align, Table},
    },
};

/// The largest image configuration that is read.
const LARGEST_CONFIG: u64 = 4 << 20;

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

/// Finds an image in another registry. Its layers stay there.
pub(crate) async fn find_elsewhere(client: &Client, image: &Reference) -> Result<Found, Failure> {
    let mut fetched = client.manifest(image).await?;
    if fetched.media_type.is_index() {
        let wanted = this_platform()?;
        let index = Index::parse(&fetched.bytes)?;
        let chosen = index.for_platform(&wanted);
        let chosen = chosen.ok_or_else(|| Failure::Usage(format!("{image} has no image for {wanted}")))?;
        fetched = client.manifest(&image.at(chosen.digest)).await?;
    }
    let manifest = Manifest::parse(&fetched.bytes)?;
    let config = client.blob(&image.repository, &manifest.config, LARGEST_CONFIG).await?;
    Ok(Found {
        repository: RepositoryPath::from(&image.repository),
        stored: StoredManifest {
            digest: fetched.digest,
            media_type: fetched.media_type,
            bytes: fetched.bytes.to_vec(),
        },
        manifest,
        config: ImageConfig::parse(&config)?,
    })
}

/// Of an image for several platforms, the one that is meant where none is named.
fn this_platform() -> Result<Platform, BuildError> {
    Arch::host().map(Platform::linux).ok_or(BuildError::Machine)
}

/// `longshore image inspect`
pub(crate) fn inspect(found: &Found, image: &Reference, format: OutputFormat) -> Result<(), Failure> {
    let Found { stored, manifest, config, .. } = found;
    if let Some(format) = format.data() {
        let all = json!({"name": image, "digest": stored.digest, "manifest": manifest, "config": config});
        return Ok(output::data(format, &all)?);
    }
    let process = &config.config;
    let list = |list: &Option<Vec<String>>| list.as_deref().unwrap_or_default().join(" ");
    let mut facts = vec![
        ("digest", stored.digest.to_string()),
        ("platform", config.platform.to_string()),
        ("created", config.created.clone().unwrap_or_default()),
        ("user", process.user.clone().unwrap_or_default()),
        ("workdir", process.working_dir.clone().unwrap_or_default()),
        ("command", format!("{} {}", list(&process.entrypoint), list(&process.cmd)).trim().to_owned()),
    ];
    facts.retain(|(_, value)| !value.is_empty());
    let mut out = io::stdout().lock();
    for (name, value) in facts {
        writeln!(out, "{name:<9} {value}")?;
    }
    for entry in process.env.iter().flatten() {
        writeln!(out, "{:<9} {entry}", "env")?;
    }
    drop(out);
    let total = format!("{} in {} layers", size(manifest.total_size()), manifest.layers.len());
    writeln!(io::stdout(), "{:<9} {total}\n", "size")?;
    let mut table = Table::new([("LAYER", Align::Left), ("SIZE", Align::Right), ("MADE BY", Align::Left)]);
    let mut history = config.history.iter().filter(|line| !line.empty_layer);
    for layer in &manifest.layers {
        let made_by = history.next().and_then(|line| line.created_by.clone()).unwrap_or_default();
        let made_by: String =
            made_by.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(52).collect();
        table.row([layer.digest.short(), size(layer.size), made_by]);
    }
    Ok(table.print()?)
}

/// `longshore image export`
pub(crate) fn export(
    registry: &Registry,
    found: &Found,
    image: &Reference,
    format: args::ArchiveFormat,
    file: &Path,
) -> Result<(), Failure> {
    let format = match format {
        args::ArchiveFormat::Oci => ArchiveFormat::Oci,
        args::ArchiveFormat::Docker => ArchiveFormat::Docker,
    };
    if file == Path::new("-") {
        let out = io::stdout().lock();
        if out.is_terminal() {
            return Err(Failure::Usage(
                "an archive is not for a terminal; name a file with --file".to_owned(),
            ));
        }
        return Ok(registry.export(&found.repository, image, &found.stored, format, BufWriter::new(out))?);
    }
    let cannot =
        |source: io::Error| Failure::Failed(format!("cannot write {}: {source}", file.display()).into());
    // Written beside its final name, so that an interrupted export leaves no half archive.
    let folder = file.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    let temporary = tempfile::Builder::new()
        .prefix(".longshore-export-")
        .permissions(Permissions::from_mode(0o666)) // as the umask allows
        .tempfile_in(folder)
        .map_err(cannot)?;
    registry.export(&found.repository, image, &found.stored, format, BufWriter::new(temporary.as_file()))?;
    temporary.persist(file).map_err(|error| cannot(error.error))?;
    Ok(())
}
