//! Pushing images.

use std::{io, sync::Arc};

use futures::{StreamExt, TryStreamExt, stream};
use longshore_oci::{Descriptor, Digest, MediaType, Reference, Repository, Tag};

use crate::{
    BlobPushed, BlobSource, Client, ClientError, Event, ImageSource, Observer, Result,
    manifest::LARGEST_SENT,
    plan::{Plan, PlanError, Planner},
    scope::Access,
};

/// What came of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushOutcome {
    /// The digest that all destinations now have.
    pub digest: Digest,
    /// For each repository, in the order of the destinations.
    pub repositories: Vec<Pushed>,
}

/// What came of a push to one repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The repository.
    pub repository: Repository,
    /// The tags that name the image now.
    pub tags: Vec<Tag>,
    /// Whether the manifest was there already, so that no blob was looked at.
    pub was_there: bool,
    /// How many blobs were there.
    pub existed: usize,
    /// How many blobs the registry took from another repository.
    pub mounted: usize,
    /// How many blobs were uploaded.
    pub uploaded: usize,
    /// The bytes of those.
    pub bytes: u64,
}

/// Pushes an image to its destinations. In each repository first its blobs, several at a time, then its manifests, the
/// root last, then the tags: an image appears whole or not at all. `mount_from` are repositories that are known to have
/// some of the blobs.
///
/// Where everything is there, that is found out by one request, and a tag takes two more.
pub async fn push(
    client: &Client,
    image: Arc<dyn ImageSource>,
    destinations: &[Reference],
    mount_from: &[Repository],
    observer: &Arc<Observer>,
) -> Result<PushOutcome> {
    let root = image.root();
    let groups = groups(destinations, &root.digest)?;
    let mut mount_from = mount_from.to_vec();
    let mut repositories = Vec::new();
    let mut plan = None;
    for (repository, tags) in groups {
        let what = format!("push {repository}");
        let mut pushed = Pushed {
            repository: repository.clone(),
            tags: tags.clone(),
            was_there: true,
            existed: 0,
            mounted: 0,
            uploaded: 0,
            bytes: 0,
        };
        if !is_there(client, &image, &what, &repository, &root, &tags, observer).await? {
            pushed.was_there = false;
            let plan = match &plan {
                Some(plan) => plan,
                None => &*plan.insert(read_plan(&image, &what).await?),
            };
            push_blobs(client, &image, plan, &mut pushed, &mount_from, observer).await?;
            for document in &plan.manifests {
                let media_type = &document.descriptor.media_type;
                client.put_manifest(&repository, &document.bytes, media_type, &[]).await?;
                let digest = document.descriptor.digest;
                observer(Event::Manifest { digest, repository: repository.clone() });
            }
            if let Some(document) = plan.manifests.last() {
                for tag in &tags {
                    client.tag(&repository, &root, &document.bytes, tag).await?;
                    observer(Event::Tagged(Reference::tagged(repository.clone(), tag.clone())));
                }
            }
        }
        // It has all of the blobs now.
        mount_from.insert(0, repository);
        repositories.push(pushed);
    }
    Ok(PushOutcome { digest: root.digest, repositories })
}

/// Puts a manifest, whose blobs are all in the repository, under its digest and these tags; unless it is there.
pub async fn push_manifest(
    client: &Client,
    repository: &Repository,
    bytes: &[u8],
    media_type: &MediaType,
    tags: &[Tag],
) -> Result<Digest> {
    let image: Arc<dyn ImageSource> =
        Arc::new(Document { root: Descriptor::of(media_type.clone(), bytes), bytes: bytes.to_vec() });
    let root = image.root();
    let what = format!("push {repository}");
    let observer: Arc<Observer> = Arc::new(crate::ignore);
    if !is_there(client, &image, &what, repository, &root, tags, &observer).await? {
        client.put_manifest(repository, bytes, media_type, tags).await?;
    }
    Ok(root.digest)
}

/// A manifest alone.
struct Document {
    root: Descriptor,
    bytes: Vec<u8>,
}

impl ImageSource for Document {
    fn root(&self) -> Descriptor {
        self.root.clone()
    }

    fn manifest(&self, _: &Descriptor) -> io::Result<Vec<u8>> {
        Ok(self.bytes.clone())
    }
}

impl BlobSource for Document {
    fn open(&self, _: &Descriptor, _: u64) -> io::Result<Box<dyn io::Read + Send>> {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// The destinations by repository, in their order, each tag once. One by digest alone gets no tag.
fn groups(destinations: &[Reference], root: &Digest) -> Result<Vec<(Repository, Vec<Tag>)>> {
    let mut groups: Vec<(Repository, Vec<Tag>)> = Vec::new();
    for destination in destinations {
        if destination.digest.is_some_and(|digest| digest != *root) {
            let what = format!("push {destination}");
            return Err(ClientError::Usage { what, reason: format!("the image's digest is {root}") });
        }
        let at = groups.iter().position(|(repository, _)| *repository == destination.repository);
        let at = at.unwrap_or_else(|| {
            groups.push((destination.repository.clone(), Vec::new()));
            groups.len() - 1
        });
        let tags = &mut groups[at].1;
        tags.extend(destination.tag_or_latest().filter(|tag| !tags.contains(tag)));
    }
    Ok(groups)
}

/// Whether the repository has the image under all tags. If it has the manifest, so it has all that belongs to it: the
/// tags are given, and only if the registry does not take that is everything looked at.
async fn is_there(
    client: &Client,
    image: &Arc<dyn ImageSource>,
    what: &str,
    repository: &Repository,
    root: &Descriptor,
    tags: &[Tag],
    observer: &Arc<Observer>,
) -> Result<bool> {
    let site = client.server(repository.host());
    let mut missing = Vec::new();
    for tag in tags {
        let tagged = Reference::tagged(repository.clone(), tag.clone());
        if digest_at(client, &site, what, &tagged).await? != Some(root.digest) {
            missing.push(tag);
        }
    }
    if missing.is_empty() && !tags.is_empty() {
        return Ok(true);
    }
    let by_digest = Reference { repository: repository.clone(), tag: None, digest: Some(root.digest) };
    if digest_at(client, &site, what, &by_digest).await? != Some(root.digest) {
        return Ok(false);
    }
    if missing.is_empty() {
        return Ok(true);
    }
    let bytes = read_manifest(image, what, root).await?.into();
    for tag in missing {
        match client.tag(repository, root, &bytes, tag).await {
            Ok(()) => observer(Event::Tagged(Reference::tagged(repository.clone(), tag.clone()))),
            Err(error @ (ClientError::Refused { .. } | ClientError::NotFound { .. }))
                if !error.is_retryable() =>
            {
                tracing::debug!(%error, "the manifest is there, and cannot be tagged: pushing everything");
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

async fn digest_at(
    client: &Client,
    site: &Arc<crate::site::Site>,
    what: &str,
    reference: &Reference,
) -> Result<Option<Digest>> {
    match client.head_manifest(site, what, reference, Access::Push).await {
        Ok(resolved) => Ok(resolved.map(|resolved| resolved.digest)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

async fn read_plan(image: &Arc<dyn ImageSource>, what: &str) -> Result<Plan> {
    let mut planner = Planner::new(image.root());
    while let Some(next) = planner.next().cloned() {
        let bytes = read_manifest(image, what, &next).await?;
        planner.take(bytes.into()).map_err(|error| unplanned(what, error))?;
    }
    Ok(planner.finish())
}

pub(crate) fn unplanned(what: &str, error: PlanError) -> ClientError {
    let what = what.to_owned();
    match error {
        PlanError::Manifest(source) => ClientError::Manifest { what, source },
        PlanError::TooMany => ClientError::Usage {
            what,
            reason: "it has too many manifests, or too deeply nested ones".to_owned(),
        },
    }
}

async fn read_manifest(image: &Arc<dyn ImageSource>, what: &str, manifest: &Descriptor) -> Result<Vec<u8>> {
    let (source, descriptor) = (Arc::clone(image), manifest.clone());
    let read = tokio::task::spawn_blocking(move || source.manifest(&descriptor)).await;
    let bytes = read.unwrap_or_else(|error| Err(io::Error::other(error)));
    let bytes = bytes.map_err(|source| ClientError::Source { what: what.to_owned(), source })?;
    if bytes.len() as u64 > LARGEST_SENT {
        return Err(ClientError::TooLarge { what: what.to_owned(), limit: LARGEST_SENT });
    }
    let found = Digest::of(&bytes);
    if found == manifest.digest {
        Ok(bytes)
    } else {
        Err(ClientError::Changed { what: format!("{what} (manifest {})", manifest.digest), found })
    }
}

async fn push_blobs(
    client: &Client,
    image: &Arc<dyn ImageSource>,
    plan: &Plan,
    pushed: &mut Pushed,
    mount_from: &[Repository],
    observer: &Arc<Observer>,
) -> Result<()> {
    observer(Event::Planned { blobs: plan.blobs.len(), bytes: plan.bytes() });
    let repository = pushed.repository.clone();
    let blobs = stream::iter(&plan.blobs).map(|blob| {
        let (source, repository): (Arc<dyn BlobSource>, _) = (Arc::clone(image) as _, &repository);
        async move {
            let how = client.push_blob(repository, blob, source, mount_from, observer).await?;
            Ok::<_, ClientError>((how, blob.size))
        }
    });
    let mut blobs = blobs.buffer_unordered(client.config().parallel.max(1));
    while let Some((how, size)) = blobs.try_next().await? {
        match how {
            BlobPushed::Existed => pushed.existed += 1,
            BlobPushed::Mounted => pushed.mounted += 1,
            BlobPushed::Uploaded => {
                pushed.uploaded += 1;
                pushed.bytes += size;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_grouped_by_repository() {
        let root = Digest::of("root");
        let other = format!("h.io/a@{}", Digest::of("other"));
        let parse =
            |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Reference>>();
        let found = groups(&parse(&["h.io/a:1", "h.io/b", "h.io/a:2", "h.io/a:1"]), &root).unwrap();
        let shown: Vec<_> = found
            .iter()
            .map(|(repository, tags)| {
                let tags: Vec<_> = tags.iter().map(Tag::as_str).collect();
                format!("{repository} {}", tags.join(","))
            })
            .collect();
        assert_eq!(shown, ["h.io/a 1,2", "h.io/b latest"]);
        assert!(groups(&parse(&[&format!("h.io/a@{root}")]), &root).unwrap()[0].1.is_empty());
        assert!(groups(&parse(&[&other]), &root).is_err());
    }
}
