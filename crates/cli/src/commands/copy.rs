//! `longshore image copy`: images between registries, the embedded one among them.

use std::sync::Arc;

use longshore_build::{RegistrySink, StoredImage};
use longshore_client::{Client, Event, ImageSink, ImageSource, Observer, Selection};
use longshore_oci::{Descriptor, Digest, Reference};
use longshore_store::{Registry, RepositoryPath, TagOrDigest};
use serde_json::json;

use crate::{
    args::CopyArguments,
    commands::{build::image_name, image::meant},
    context::{Context, URI},
    failure::Failure,
    output::{self, quantity::size, transfer::Transfer},
    runtime,
};

/// Copies an image. What the destination has already is not moved again.
pub(crate) fn copy(context: &Context, arguments: &CopyArguments) -> Result<(), Failure> {
    let state = context.state()?;
    let source = meant(&state, &arguments.source)?;
    let destination = image_name(&arguments.destination)?;
    let registry = context.registry()?;
    let client = context.registries(&state, None)?.client;
    let selection = match &arguments.platform {
        Some(platform) => Selection::Platform(platform.clone()),
        None => Selection::Everything,
    };
    let shown = Arc::new(Transfer::new());
    let observer: Arc<Observer> = {
        let shown = Arc::clone(&shown);
        Arc::new(move |event: Event| shown.observe(&event))
    };
    let work = Work { client: &client, registry: &registry, selection: &selection, observer: &observer };
    let outcome = runtime::block_on(work.copy(&source, &destination));
    let moved = shown.finish();
    let digest = outcome?;
    let image = Reference { digest: Some(digest), ..destination };
    match arguments.output.data() {
        Some(format) => Ok(output::data(format, &json!({"image": image, "digest": digest, "moved": moved}))?),
        None => Ok(output::line(&format!("{image}\nmoved {}", size(moved)))?),
    }
}

/// A copy under way.
struct Work<'a> {
    client: &'a Client,
    registry: &'a Registry,
    selection: &'a Selection,
    observer: &'a Arc<Observer>,
}

impl Work<'_> {
    async fn copy(&self, source: &Reference, destination: &Reference) -> Result<Digest, Failure> {
        let is_embedded = |image: &Reference| image.repository.host() == URI;
        match (is_embedded(source), is_embedded(destination)) {
            (true, true) => Err(Failure::Usage(format!(
                "{source} and {destination} are both in the embedded registry; name another registry for one of them"
            ))),
            (true, false) => self.push(source, destination).await,
            (false, true) => self.pull(source, destination).await,
            (false, false) => {
                let to = std::slice::from_ref(destination);
                Ok(longshore_client::copy(self.client, source, self.selection, to, self.observer)
                    .await?
                    .digest)
            }
        }
    }

    async fn push(&self, source: &Reference, destination: &Reference) -> Result<Digest, Failure> {
        let path = RepositoryPath::from(&source.repository);
        let stored = self.registry.manifest(&path, TagOrDigest::from(source))?;
        let root = Descriptor::new(stored.media_type, stored.digest, stored.bytes.len() as u64);
        let image: Arc<dyn ImageSource> = Arc::new(StoredImage::new(self.registry.blobs().clone(), root));
        let to = std::slice::from_ref(destination);
        Ok(longshore_client::push(self.client, image, to, &[], self.observer).await?.digest)
    }

    async fn pull(&self, source: &Reference, destination: &Reference) -> Result<Digest, Failure> {
        let path = RepositoryPath::from(&destination.repository);
        let sink: Arc<dyn ImageSink> = Arc::new(RegistrySink::new(self.registry.clone(), path.clone()));
        let pulled =
            longshore_client::pull(self.client, source, self.selection, &sink, self.observer).await?;
        if let Some(tag) = destination.tag_or_latest() {
            self.registry.tag(&path, &tag, &pulled.root.digest)?;
        }
        Ok(pulled.root.digest)
    }
}
