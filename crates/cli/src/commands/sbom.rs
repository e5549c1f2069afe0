//! `longshore image sbom`: what is in an image.

use std::{
    fs::Permissions,
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::Arc,
};

use longshore_attest::{Format, Image, Inventory, Survey, Surveyed, layers, python_of, referrer};
use longshore_build::BlobSink;
use longshore_client::{Client, ImageSink, Observer};
use longshore_oci::{Arch, Descriptor, Digest, ImageConfig, Index, Manifest, Platform, Reference};
use longshore_store::{Blob, BlobStore, Registry, RepositoryPath, TagOrDigest};

use crate::{
    args::sbom::{SbomArguments, SbomFormat},
    commands::image::meant,
    context::{Context, URI},
    failure::Failure,
    runtime,
};

/// The largest image configuration that is read.
const LARGEST_CONFIG: u64 = 4 << 20;

/// Prints the document.
pub(crate) fn sbom(context: &Context, arguments: &SbomArguments) -> Result<(), Failure> {
    let image = meant(&context.state()?, &arguments.image)?;
    let format = match arguments.format {
        SbomFormat::CycloneDx => Format::CycloneDx,
        SbomFormat::Spdx => Format::Spdx,
    };
    let platform = match &arguments.platform {
        Some(platform) => platform.clone(),
        None => Platform::linux(Arch::host().unwrap_or(Arch::Amd64)),
    };
    let registry = context.registry()?;
    let document = if image.repository.host() == URI {
        runtime::block_on(embedded(registry, image, platform, format))?
    } else {
        let client = context.registries(&context.state()?, None)?.client;
        let scratch = tempfile::Builder::new().prefix("longshore-sbom-").tempdir()?;
        let elsewhere = Elsewhere { client, registry, scratch: BlobStore::open(scratch.path())? };
        runtime::block_on(elsewhere.document(&image, &platform, format))?
    };
    match &arguments.output {
        Some(file) => write(file, &document),
        None => Ok(io::stdout().lock().write_all(&document)?),
    }
}

async fn embedded(
    registry: Registry,
    image: Reference,
    platform: Platform,
    format: Format,
) -> Result<Vec<u8>, Failure> {
    let find = move || {
        let path = RepositoryPath::from(&image.repository);
        let mut stored = registry.manifest(&path, TagOrDigest::from(&image))?;
        if stored.media_type.is_index() {
            stored = registry.manifest(&path, chosen(&image, &stored.bytes, &platform)?)?;
        }
        if let Some(document) = referrer::stored(&registry, &path, &stored.digest, format)? {
            return Ok(document);
        }
        let manifest = Manifest::parse(&stored.bytes)?;
        let config = ImageConfig::parse(&registry.blobs().read(&manifest.config.digest, LARGEST_CONFIG)?)?;
        let surveyed =
            Survey::image(&manifest, &config, |layer| Ok(registry.blobs().open_blob(&layer.digest)?))?;
        Ok(made(&image, stored.digest, &config, surveyed, format))
    };
    tokio::task::spawn_blocking(find).await?
}

/// The image of an index for a platform.
fn chosen(image: &Reference, index: &[u8], platform: &Platform) -> Result<Digest, Failure> {
    let index = Index::parse(index)?;
    match index.for_platform(platform) {
        Some(manifest) => Ok(manifest.digest),
        None => Err(Failure::Usage(format!("{image} has no image for {platform}; name another --platform"))),
    }
}

/// The document of an image that has none.
fn made(image: &Reference, digest: Digest, config: &ImageConfig, found: Surveyed, format: Format) -> Vec<u8> {
    let Surveyed { os, mut packages } = found;
    packages.extend(python_of(config));
    let created = config.created.clone();
    let image = Image { repository: image.repository.clone(), digest, created };
    format.document(&Inventory { image, os, packages, build: None })
}

/// An image in another registry.
struct Elsewhere {
    client: Client,
    /// What may have some of its layers.
    registry: Registry,
    /// Where the others are while they are read, one at a time.
    scratch: BlobStore,
}

impl Elsewhere {
    async fn document(
        &self,
        image: &Reference,
        platform: &Platform,
        format: Format,
    ) -> Result<Vec<u8>, Failure> {
        let mut fetched = self.client.manifest(image).await?;
        if fetched.media_type.is_index() {
            let digest = chosen(image, &fetched.bytes, platform)?;
            fetched = self.client.manifest(&image.at(digest)).await?;
        }
        let (repository, digest) = (&image.repository, fetched.digest);
        if let Some(document) = referrer::pulled(&self.client, repository, &digest, format).await? {
            return Ok(document);
        }
        let manifest = Manifest::parse(&fetched.bytes)?;
        let config = self.client.blob(repository, &manifest.config, LARGEST_CONFIG).await?;
        let config = ImageConfig::parse(&config)?;
        let mut survey = Survey::default();
        for (layer, diff_id) in layers(&manifest, &config)? {
            let file = self.open(image, layer).await?;
            let layer = layer.clone();
            let read = move || survey.layer(&layer, &diff_id, file).map(|()| survey);
            survey = tokio::task::spawn_blocking(read).await??;
        }
        Ok(made(image, digest, &config, survey.finish(), format))
    }

    /// A layer, from this machine if it is here. One that is not takes no room when it has been read.
    async fn open(&self, image: &Reference, layer: &Descriptor) -> Result<Blob, Failure> {
        let held = self.registry.blobs();
        if held.size_of(&layer.digest)? == Some(layer.size) {
            return Ok(held.open_blob(&layer.digest)?);
        }
        let sink: Arc<dyn ImageSink> = Arc::new(BlobSink(self.scratch.clone()));
        let observer: Arc<Observer> = Arc::new(longshore_client::ignore);
        self.client.pull_blob(&image.repository, layer, &sink, &observer).await?;
        let file = self.scratch.open_blob(&layer.digest)?;
        self.scratch.remove(&layer.digest)?;
        Ok(file)
    }
}

/// Writes the file whole or not at all.
fn write(file: &Path, document: &[u8]) -> Result<(), Failure> {
    let cannot =
        |source: io::Error| Failure::Failed(format!("cannot write {}: {source}", file.display()).into());
    let folder = file.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    let mut temporary = tempfile::Builder::new()
        .prefix(".longshore-sbom-")
        .permissions(Permissions::from_mode(0o666)) // as the umask allows
        .tempfile_in(folder)
        .map_err(cannot)?;
    temporary.write_all(document).map_err(cannot)?;
    temporary.persist(file).map_err(|error| cannot(error.error))?;
    Ok(())
}
