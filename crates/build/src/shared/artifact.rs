//! The artifact in which a repository has its shared table: written, found, and read.
//!
//! The tag names the newest, where tags can be moved. In a repository whose tags cannot, it names the first for ever; the
//! others then say that they refer to that one (distribution specification, "Listing Referrers"), and are counted.

use std::{
    collections::HashSet,
    io::{Read as _, Write as _},
    sync::Arc,
};

use flate2::{Compression, bufread::GzDecoder, write::GzEncoder};
use longshore_client::{Client, ClientError};
use longshore_oci::{Descriptor, Digest, Manifest, MediaType, Reference, Repository, Tag};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::SHARED;
use crate::deliver::InMemory;

/// The tag of the artifact.
const TAG: &str = "longshore-cache";
/// What kind of artifact it is, and the type of its one blob: JSON, gzip.
const ARTIFACT_TYPE: &str = "application/vnd.longshore.cache.v1";
const BLOB_TYPE: &str = "application/vnd.longshore.cache.v1+json+gzip";
/// The configuration of an artifact without one.
const EMPTY: &[u8] = b"{}";
/// The largest blob that is written, in bytes: rows of the oldest builds are left out of it.
const LARGEST_WRITTEN: usize = 512 << 10;
/// The largest blob that is read, and what it may inflate to.
const LARGEST_READ: u64 = 4 << 20;
const LARGEST_INFLATED: u64 = 64 << 20;
/// As many builds' rows are kept at most.
const MOST_BUILDS: usize = 64;
/// The version of the form.
const VERSION: u32 = 1;
/// The annotation that says which of the artifacts that refer to the tagged one is the newest: they are counted from 1.
const NUMBER: &str = "vnd.longshore.cache.number";

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Content {
    version: u32,
    /// Newest first. A row is in the newest only that used it.
    pub(super) builds: Vec<Entry>,
}

/// The rows of one build.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    /// The image that was built.
    pub(super) image: Digest,
    pub(super) rows: Vec<SharedRow>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SharedRow {
    pub(super) kind: String,
    pub(super) key: Box<RawValue>,
    pub(super) value: Box<RawValue>,
}

/// What a repository has of the artifact.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// The manifest that the tag names.
    tagged: Option<Descriptor>,
    /// The number of the newest that refers to that, if one does.
    number: Option<u64>,
    /// The newest rows that can be read.
    pub(super) content: Option<Content>,
}

/// Finds the newest artifact and reads it. One that is damaged is passed over.
pub(super) async fn read(client: &Client, repository: &Repository) -> Result<Standing, SharedError> {
    let tagged = match client.manifest(&Reference::tagged(repository.clone(), tag()?)).await {
        Err(error) if error.is_not_found() => return Ok(Standing::default()),
        other => other?,
    };
    let subject = tagged.descriptor();
    // Nearly everywhere tags can be moved, and the tagged one is the newest: it is got while the others are asked for.
    let (first, newest) = futures::join!(
        content_of(client, repository, &tagged.bytes),
        newest(client, repository, &subject.digest),
    );
    let mut content = readable(repository, first);
    let mut number = None;
    if let Some((found, manifest)) = newest {
        number = Some(found);
        let reference = Reference { repository: repository.clone(), tag: None, digest: Some(manifest) };
        let later = match client.manifest(&reference).await {
            Ok(manifest) => content_of(client, repository, &manifest.bytes).await,
            Err(error) => Err(error.into()),
        };
        content = readable(repository, later).or(content);
    }
    Ok(Standing { tagged: Some(subject), number, content })
}

fn tag() -> Result<Tag, SharedError> {
    TAG.parse().map_err(|_| SharedError::Form("its tag is no tag"))
}

fn readable(repository: &Repository, content: Result<Content, SharedError>) -> Option<Content> {
    content
        .inspect_err(
            |error| tracing::debug!(%repository, %error, "an artifact of the shared table cannot be read"),
        )
        .ok()
}

/// The newest artifact that refers to another one: its number and its digest.
async fn newest(client: &Client, repository: &Repository, subject: &Digest) -> Option<(u64, Digest)> {
    let listed = client.referrers(repository, subject, Some(ARTIFACT_TYPE)).await;
    let listed = listed
        .inspect_err(
            |error| tracing::debug!(%repository, %error, "what refers to the shared table is not known"),
        )
        .ok()?;
    // A registry need not repeat annotations in its list.
    let number =
        |manifest: &Descriptor| manifest.annotations.get(NUMBER).and_then(|number| number.parse().ok());
    listed.manifests.iter().map(|manifest| (number(manifest).unwrap_or(0), manifest.digest)).max()
}

/// The rows of the artifact with that manifest.
async fn content_of(
    client: &Client,
    repository: &Repository,
    manifest: &[u8],
) -> Result<Content, SharedError> {
    let manifest = Manifest::parse(manifest)?;
    let [blob] = &manifest.layers[..] else { return Err(SharedError::Form("it has not one blob")) };
    if manifest.artifact_type.as_deref() != Some(ARTIFACT_TYPE) || blob.media_type.as_str() != BLOB_TYPE {
        return Err(SharedError::Form("it is something else"));
    }
    let bytes = client.blob(repository, blob, LARGEST_READ).await?;
    decode(&bytes)
}

/// Puts the rows of a build before those that are there.
pub(super) async fn write(
    client: &Client,
    repository: &Repository,
    image: Digest,
    rows: Vec<SharedRow>,
) -> Result<(), SharedError> {
    // Whatever is wrong with the old one, the new one takes its place.
    let Standing { tagged, number, content } = read(client, repository).await.unwrap_or_default();
    let bytes = merged(content, image, rows)?;
    let blob = Descriptor::of(MediaType::Other(BLOB_TYPE.to_owned()), &bytes);
    let mut manifest = Manifest::image(Descriptor::of(MediaType::Empty, EMPTY), vec![blob.clone()]);
    manifest.artifact_type = Some(ARTIFACT_TYPE.to_owned());
    let observer: Arc<longshore_client::Observer> = Arc::new(longshore_client::ignore);
    for (descriptor, content) in [(&blob, bytes), (&manifest.config, EMPTY.to_vec())] {
        client.push_blob(repository, descriptor, Arc::new(InMemory(content)), &[], &observer).await?;
    }
    if number.is_none() {
        let put =
            client.put_manifest(repository, &manifest.to_bytes(), &MediaType::Manifest, &[tag()?]).await;
        match put {
            Err(error) if tagged.is_some() && is_final(&error) => {
                tracing::debug!(%repository, %error, "the tag of the shared table cannot be moved");
            }
            put => return Ok(put.map(drop)?),
        }
    }
    manifest.subject = tagged;
    let number = number.unwrap_or(0).saturating_add(1);
    manifest.annotations.insert(NUMBER.to_owned(), number.to_string());
    client.put_manifest(repository, &manifest.to_bytes(), &MediaType::Manifest, &[]).await?;
    Ok(())
}

/// Whether a registry has said no, and will say so again.
const fn is_final(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused { .. } | ClientError::Denied { .. }) && !error.is_retryable()
}

fn decode(bytes: &[u8]) -> Result<Content, SharedError> {
    let mut text = Vec::new();
    GzDecoder::new(bytes).take(LARGEST_INFLATED).read_to_end(&mut text).map_err(SharedError::Gzip)?;
    let content: Content = serde_json::from_slice(&text).map_err(SharedError::Json)?;
    if content.version == VERSION { Ok(content) } else { Err(SharedError::Form("it has another version")) }
}

fn encode(content: &Content) -> Result<Vec<u8>, SharedError> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&serde_json::to_vec(content).map_err(SharedError::Json)?).map_err(SharedError::Gzip)?;
    gzip.finish().map_err(SharedError::Gzip)
}

/// The rows of a build before those of older ones, each row once, and no more than may be written.
fn merged(old: Option<Content>, image: Digest, rows: Vec<SharedRow>) -> Result<Vec<u8>, SharedError> {
    let mut known: HashSet<(String, String)> = HashSet::new();
    let entry = Entry { image, rows };
    let entries = std::iter::once(entry).chain(old.into_iter().flat_map(|old| old.builds));
    let mut builds = Vec::new();
    for mut entry in entries {
        entry.rows.retain(|row| {
            SHARED.contains(&row.kind.as_str()) && known.insert((row.kind.clone(), row.key.get().to_owned()))
        });
        if !entry.rows.is_empty() && builds.len() < MOST_BUILDS {
            builds.push(entry);
        }
    }
    let mut content = Content { version: VERSION, builds };
    loop {
        let bytes = encode(&content)?;
        if bytes.len() <= LARGEST_WRITTEN {
            return Ok(bytes);
        }
        // What is left out is computed again by whoever needs it.
        if content.builds.len() == 1 {
            return Err(SharedError::Form("one build's rows are more than may be written"));
        }
        content.builds.truncate(content.builds.len() - content.builds.len().div_ceil(4));
    }
}

impl From<ClientError> for SharedError {
    fn from(error: ClientError) -> Self {
        Self::Client(Box::new(error))
    }
}

/// Why a shared table is of no use. Nobody is stopped by it.
#[derive(Debug, thiserror::Error)]
pub(super) enum SharedError {
    #[error(transparent)]
    Client(Box<ClientError>),
    #[error(transparent)]
    Manifest(#[from] longshore_oci::ManifestError),
    #[error("{0}")]
    Form(&'static str),
    #[error("its blob is not gzip: {0}")]
    Gzip(std::io::Error),
    #[error("its rows are not JSON: {0}")]
    Json(serde_json::Error),
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn row(kind: &str, key: usize, value: &str) -> SharedRow {
        let raw = |text: String| RawValue::from_string(text).unwrap();
        SharedRow { kind: kind.to_owned(), key: raw(key.to_string()), value: raw(format!("{value:?}")) }
    }

    fn values(bytes: &[u8]) -> BTreeMap<String, String> {
        let builds = decode(bytes).unwrap().builds;
        let rows = builds.into_iter().flat_map(|build| build.rows);
        rows.map(|row| (row.key.get().to_owned(), row.value.get().to_owned())).collect()
    }

    #[test]
    fn a_row_belongs_to_the_newest_build_that_used_it() {
        let (one, two) = (Digest::of("1"), Digest::of("2"));
        let old = merged(None, one, vec![row("layer", 1, "a"), row("layer", 2, "b"), row("scan", 3, "c")]);
        let old = decode(&old.unwrap()).unwrap();
        let bytes = merged(Some(old), two, vec![row("layer", 2, "B")]).unwrap();
        let content = decode(&bytes).unwrap();
        assert_eq!(content.builds[0].image, two);
        assert_eq!(content.builds[1].rows.len(), 1);
        assert_eq!(
            values(&bytes),
            BTreeMap::from([("1".into(), "\"a\"".into()), ("2".into(), "\"B\"".into())])
        );
        let bytes = merged(Some(content), one, vec![row("layer", 1, "a"), row("layer", 2, "b")]).unwrap();
        assert_eq!(decode(&bytes).unwrap().builds.len(), 1, "builds without rows are left out");
    }

    #[test]
    fn the_oldest_are_left_out_when_there_is_too_much() {
        let mut content = None;
        for build in 0..8 {
            let noise = |row: usize| Digest::of(format!("{build} {row}")).hex();
            let rows =
                (0..4000).map(|number| row("layer", build * 10_000 + number, &noise(number))).collect();
            let bytes = merged(content, Digest::of(build.to_string()), rows).unwrap();
            assert!(bytes.len() <= LARGEST_WRITTEN);
            content = Some(decode(&bytes).unwrap());
        }
        let builds = content.unwrap().builds;
        assert_eq!(builds[0].image, Digest::of("7"));
        assert!((1..8).contains(&builds.len()));
    }

    #[test]
    fn what_is_not_an_artifact_is_refused() {
        for wrong in [&b"not gzip"[..], &encode(&Content { version: 2, builds: vec![] }).unwrap()] {
            assert!(decode(wrong).is_err());
        }
    }
}
