//! Pulling images.

use std::{io, sync::Arc};

use futures::{StreamExt, TryStreamExt, stream};
use longshore_oci::{Descriptor, Digest, Index, Platform, Reference};

use crate::{
    BlobOutcome, Client, ClientError, Event, FetchedManifest, ImageSink, Observer, Result,
    plan::{Plan, Planner, choose},
    push::unplanned,
};

/// What is wanted of an image that is there for several platforms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// The image for one platform.
    Platform(Platform),
    /// All of them, with their index.
    Everything,
}

/// What came of a pull.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullOutcome {
    /// What the reference stands for: an index, or the manifest itself.
    pub resolved: Digest,
    /// The manifest or index that was pulled.
    pub root: Descriptor,
    /// How many blobs the sink had.
    pub existed: usize,
    /// How many blobs were downloaded.
    pub downloaded: usize,
    /// The bytes of those.
    pub bytes: u64,
}

/// Pulls an image into a sink: its blobs, several at a time, then its manifests, the root last.
pub async fn pull(
    client: &Client,
    reference: &Reference,
    selection: &Selection,
    sink: &Arc<dyn ImageSink>,
    observer: &Arc<Observer>,
) -> Result<PullOutcome> {
    let what = format!("pull {reference}");
    let (resolved, root) = select(client, reference, selection, &what).await?;
    let plan = fetch_plan(client, reference, &root, &what).await?;
    observer(Event::Planned { blobs: plan.blobs.len(), bytes: plan.bytes() });
    let mut outcome = PullOutcome { resolved, root: root.descriptor(), existed: 0, downloaded: 0, bytes: 0 };
    let repository = &reference.repository;
    let blobs = stream::iter(&plan.blobs).map(|blob| {
        let what = what.as_str();
        async move {
            let (kept, wanted) = (Arc::clone(sink), blob.clone());
            if blocking(what, move || kept.has(&wanted)).await? {
                let outcome = BlobOutcome::Existed;
                observer(Event::Blob { digest: blob.digest, outcome, size: blob.size });
                return Ok::<_, ClientError>((outcome, blob.size));
            }
            client.pull_blob(repository, blob, sink, observer).await?;
            Ok((BlobOutcome::Moved, blob.size))
        }
    });
    let mut blobs = blobs.buffer_unordered(client.config().parallel.max(1));
    while let Some((how, size)) = blobs.try_next().await? {
        if how == BlobOutcome::Existed {
            outcome.existed += 1;
        } else {
            outcome.downloaded += 1;
            outcome.bytes += size;
        }
    }
    drop(blobs);
    for document in plan.manifests {
        let digest = document.descriptor.digest;
        let kept = Arc::clone(sink);
        blocking(&what, move || kept.manifest(&document.descriptor, &document.bytes)).await?;
        observer(Event::Manifest { digest, repository: repository.clone() });
    }
    Ok(outcome)
}

/// The manifest that is wanted, and the digest of what the reference stands for.
pub(crate) async fn select(
    client: &Client,
    reference: &Reference,
    selection: &Selection,
    what: &str,
) -> Result<(Digest, FetchedManifest)> {
    let top = client.manifest(reference).await?;
    let Selection::Platform(platform) = selection else { return Ok((top.digest, top)) };
    if !top.media_type.is_index() {
        return Ok((top.digest, top));
    }
    let index =
        Index::parse(&top.bytes).map_err(|source| ClientError::Manifest { what: what.to_owned(), source })?;
    let chosen = choose(&index, platform).map_err(|available| ClientError::Platform {
        what: what.to_owned(),
        wanted: Box::new(platform.clone()),
        available,
    })?;
    Ok((top.digest, client.manifest(&reference.at(chosen.digest)).await?))
}

/// Gets the manifests that the root stands for.
pub(crate) async fn fetch_plan(
    client: &Client,
    reference: &Reference,
    root: &FetchedManifest,
    what: &str,
) -> Result<Plan> {
    let mut planner = Planner::new(root.descriptor());
    while let Some(next) = planner.next() {
        let bytes = if next.digest == root.digest {
            root.bytes.clone()
        } else {
            client.manifest(&reference.at(next.digest)).await?.bytes
        };
        planner.take(bytes).map_err(|error| unplanned(what, error))?;
    }
    Ok(planner.finish())
}

/// Calls a method of a sink where it may block.
async fn blocking<T: Send + 'static>(
    what: &str,
    call: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T> {
    let called = tokio::task::spawn_blocking(call).await;
    let done = called.unwrap_or_else(|error| Err(io::Error::other(error)));
    done.map_err(|source| ClientError::Sink { what: what.to_owned(), source })
}
