//! The table of pure functions, shared through the registry: beside the images of a repository lies an artifact with
//! the rows that made them, so that a machine with an empty disk knows what the registry has.
//!
//! It is read when a build lacks a row, and only then. A row that says which layer comes of some inputs counts only if an image
//! in the repository has that layer, by digest, size, media type and diff_id: the image is got by its digest, its manifest and
//! its configuration are compared with theirs. Whether the layer is still there is asked when it is used.

use std::{
    collections::{HashMap, HashSet},
    io::{Read as _, Write as _},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use flate2::{Compression, bufread::GzDecoder, write::GzEncoder};
use longshore_client::{Client, ClientError};
use longshore_oci::{
    Descriptor, Digest, Digester, ImageConfig, Manifest, MediaType, Reference, Repository, Tag,
};
use longshore_store::{Elsewhere, Found, Table, UsedRow};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::{
    deliver::InMemory,
    layer::{LAYER, LayerRecord},
    parent::LARGEST_CONFIG,
};

/// The tag of the artifact.
pub(crate) const TAG: &str = "longshore-cache";
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

/// The kinds of rows that are shared: none of them depends on the machine.
const SHARED: [&str; 10] = [
    LAYER,
    crate::lock::LOCK,
    crate::lock::LAST_LOCK,
    crate::debian::PLAN,
    crate::debian::IMAGE,
    crate::apt::PLAN,
    crate::parent::PYTHON,
    crate::parent::DOCUMENT,
    crate::parent::TAG_SEEN,
    crate::sbom::PACKAGES,
];

/// The row of the table that says what of the artifact of a repository this machine has seen or written last.
const PUBLISHED: &str = "shared-table";
/// After so long an artifact is written again although it lacks nothing: the images that vouch for its rows may be old by
/// then, and about to be removed.
const REFRESHED: Duration = Duration::from_hours(24);

#[derive(Debug, Serialize, Deserialize)]
struct Content {
    version: u32,
    /// Newest first. A row is in the newest only that used it.
    builds: Vec<Entry>,
}

/// The rows of one build.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    /// The image that was built.
    image: Digest,
    rows: Vec<SharedRow>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct SharedRow {
    kind: String,
    key: Box<RawValue>,
    value: Box<RawValue>,
}

/// What this machine has seen of an artifact.
#[derive(Serialize, Deserialize)]
struct PublishedRow {
    /// The digest of the rows that its build used.
    rows: Digest,
    /// Seconds since 1970.
    at: u64,
}

/// The shared table of a repository, for one build.
#[derive(Debug)]
pub(crate) struct Shared {
    client: Client,
    repository: Repository,
    runtime: Handle,
    loaded: OnceLock<Rows>,
    /// What the images that vouch for rows have, each asked for once; empty for one that is gone.
    images: Mutex<HashMap<Digest, Arc<Vouched>>>,
}

/// Rows by kind and key, with the image that vouches for them.
type Rows = HashMap<(String, String), (String, Digest)>;

/// What an image says of its layers.
#[derive(Debug, Default)]
struct Vouched {
    layers: Vec<(Descriptor, Digest)>,
    parent: Option<String>,
}

impl Shared {
    /// The shared table of that repository. Nothing is asked of the registry yet. `None` in a runtime whose one thread cannot
    /// wait.
    pub(crate) fn new(client: Client, repository: Repository) -> Option<Arc<Self>> {
        let runtime = Handle::try_current().ok()?;
        (runtime.runtime_flavor() == RuntimeFlavor::MultiThread).then(|| {
            let (loaded, images) = (OnceLock::new(), Mutex::default());
            Arc::new(Self { client, repository, runtime, loaded, images })
        })
    }

    fn rows(&self) -> &Rows {
        self.loaded.get_or_init(|| {
            let content = self.wait(read(&self.client, &self.repository));
            let content = content.unwrap_or_else(|error| {
                tracing::debug!(repository = %self.repository, %error, "the shared table cannot be read");
                None
            });
            let builds = content.map(|content| content.builds).unwrap_or_default();
            let mut rows = Rows::new();
            for build in builds {
                for row in build.rows {
                    let place = (row.kind, row.key.get().to_owned());
                    rows.entry(place).or_insert((row.value.get().to_owned(), build.image));
                }
            }
            tracing::debug!(repository = %self.repository, rows = rows.len(), "read the shared table");
            rows
        })
    }

    /// Does what has to be awaited, where a row is looked up.
    fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::task::block_in_place(|| self.runtime.block_on(work))
    }

    fn vouched(&self, image: Digest) -> Arc<Vouched> {
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = images.get(&image) {
            return Arc::clone(known);
        }
        let asked = self.wait(vouched(&self.client, &self.repository, image));
        let found = Arc::new(asked.unwrap_or_else(|error| {
            tracing::debug!(%image, %error, "an image of the shared table cannot be read: its rows do not count");
            Vouched::default()
        }));
        images.insert(image, Arc::clone(&found));
        found
    }

    /// Whether a row is to be believed.
    fn is_right(&self, kind: &str, value: &str, image: Digest) -> bool {
        match kind {
            LAYER => serde_json::from_str::<LayerRecord>(value).is_ok_and(|record| {
                let vouched = self.vouched(image);
                vouched
                    .layers
                    .iter()
                    .any(|(layer, diff_id)| *layer == record.descriptor() && *diff_id == record.diff_id)
            }),
            crate::debian::IMAGE => serde_json::from_str::<crate::debian::ImageRow>(value)
                .is_ok_and(|row| self.vouched(image).parent == Some(row.digest.to_string())),
            _ => true,
        }
    }
}

impl Elsewhere for Shared {
    fn find(&self, kind: &str, key: &str) -> Option<String> {
        if !SHARED.contains(&kind) {
            return None;
        }
        let (value, image) = self.rows().get(&(kind.to_owned(), key.to_owned()))?;
        if !self.is_right(kind, value, *image) {
            tracing::debug!(kind, key, %image, "a row of the shared table disagrees with its image: it is left out");
            return None;
        }
        Some(value.clone())
    }
}

/// Reads the artifact; `None` if there is none.
async fn read(client: &Client, repository: &Repository) -> Result<Option<Content>, SharedError> {
    let tag: Tag = TAG.parse().map_err(|_| SharedError::Form("its tag is no tag"))?;
    let manifest = match client.manifest(&Reference::tagged(repository.clone(), tag)).await {
        Err(error) if error.is_not_found() => return Ok(None),
        other => other?,
    };
    let manifest = Manifest::parse(&manifest.bytes)?;
    let [blob] = &manifest.layers[..] else { return Err(SharedError::Form("it has not one blob")) };
    if manifest.artifact_type.as_deref() != Some(ARTIFACT_TYPE) || blob.media_type.as_str() != BLOB_TYPE {
        return Err(SharedError::Form("it is something else"));
    }
    let bytes = client.blob(repository, blob, LARGEST_READ).await?;
    let content = decode(&bytes)?;
    Ok(Some(content))
}

async fn vouched(client: &Client, repository: &Repository, image: Digest) -> Result<Vouched, SharedError> {
    let reference = Reference { repository: repository.clone(), tag: None, digest: Some(image) };
    let manifest = Manifest::parse(&client.manifest(&reference).await?.bytes)?;
    let config = client.blob(repository, &manifest.config, LARGEST_CONFIG).await?;
    let config = ImageConfig::parse(&config)?;
    let parent = manifest.annotations.get(longshore_oci::annotation::BASE_DIGEST).cloned();
    if manifest.layers.len() != config.rootfs.diff_ids.len() {
        return Err(SharedError::Form("its image has not as many layers as diff_ids"));
    }
    Ok(Vouched { layers: manifest.layers.into_iter().zip(config.rootfs.diff_ids).collect(), parent })
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

/// Whether a row may leave this machine.
fn is_public(row: &UsedRow) -> bool {
    // The folders of a machine, in locks of wheels that lie in one, are of no use elsewhere.
    let is_local = row.value.contains("\"file:") && row.kind != crate::parent::DOCUMENT;
    SHARED.contains(&row.kind.as_str()) && !is_local && !has_credentials(&row.value)
}

/// Whether there is a URL with a user and password.
fn has_credentials(text: &str) -> bool {
    text.split("://").skip(1).any(|rest| {
        let end = rest.find(['/', '"', '?', '#', '\\']).unwrap_or(rest.len());
        rest[..end].contains('@')
    })
}

/// What a registry lacked of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lacked {
    /// At most the code.
    Code,
    /// Other layers: it may lack the shared table too, whatever this machine remembers.
    Layers,
}

/// Puts the rows that a build used beside its image, unless they are there. That this fails costs others time and nothing
/// else.
pub(crate) async fn publish(
    client: &Client,
    table: &Table,
    repository: &Repository,
    image: Digest,
    lacked: Lacked,
) {
    let used: Vec<UsedRow> = table.used().into_iter().filter(is_public).collect();
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut rows = Digester::new();
    for text in used.iter().flat_map(|row| [&row.kind, &row.key, &row.value]) {
        rows.update(text.as_bytes());
        rows.update(b"\n");
    }
    let rows = rows.finish();
    let (key, apart) = (repository.to_string(), table.apart());
    let is_fresh = |seen: &PublishedRow| seconds.saturating_sub(seen.at) < REFRESHED.as_secs();
    let seen = apart.get::<PublishedRow>(PUBLISHED, &key).filter(is_fresh);
    let is_seen = seen.is_some_and(|seen| seen.rows == rows);
    // All of it was read a moment ago.
    let is_theirs = !used.is_empty() && used.iter().all(|row| row.found == Found::Elsewhere);
    let is_needed = lacked == Lacked::Layers || (!is_seen && !is_theirs);
    if is_needed && let Err(error) = write(client, repository, image, used).await {
        tracing::debug!(%repository, %error, "the shared table cannot be written");
        return;
    }
    if (is_needed || !is_seen)
        && let Err(error) = apart.put(PUBLISHED, &key, &PublishedRow { rows, at: seconds })
    {
        tracing::debug!(%error, "what was shared is not remembered");
    }
}

async fn write(
    client: &Client,
    repository: &Repository,
    image: Digest,
    used: Vec<UsedRow>,
) -> Result<(), SharedError> {
    let mut rows = Vec::new();
    for row in used {
        let raw = |text: String| RawValue::from_string(text).map_err(SharedError::Json);
        rows.push(SharedRow { kind: row.kind, key: raw(row.key)?, value: raw(row.value)? });
    }
    // Whatever is wrong with the old one, the new one takes its place.
    let old = read(client, repository).await.unwrap_or_default();
    let bytes = merged(old, image, rows)?;
    let blob = Descriptor::of(MediaType::Other(BLOB_TYPE.to_owned()), &bytes);
    let mut manifest = Manifest::image(Descriptor::of(MediaType::Empty, EMPTY), vec![blob.clone()]);
    manifest.artifact_type = Some(ARTIFACT_TYPE.to_owned());
    let observer: Arc<longshore_client::Observer> = Arc::new(longshore_client::ignore);
    for (descriptor, content) in [(&blob, bytes), (&manifest.config, EMPTY.to_vec())] {
        client.push_blob(repository, descriptor, Arc::new(InMemory(content)), &[], &observer).await?;
    }
    let tag: Tag = TAG.parse().map_err(|_| SharedError::Form("its tag is no tag"))?;
    client.put_manifest(repository, &manifest.to_bytes(), &MediaType::Manifest, &[tag]).await?;
    Ok(())
}

impl From<ClientError> for SharedError {
    fn from(error: ClientError) -> Self {
        Self::Client(Box::new(error))
    }
}

/// Why a shared table is of no use. Nobody is stopped by it.
#[derive(Debug, thiserror::Error)]
enum SharedError {
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
    use super::*;
    use std::collections::BTreeMap;

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

    #[test]
    fn folders_and_credentials_stay_here() {
        let used = |kind: &str, value: &str| UsedRow {
            kind: kind.to_owned(),
            key: "1".to_owned(),
            value: value.to_owned(),
            found: Found::Made,
        };
        assert!(is_public(&used("lock", r#"{"url":"https://example.com/a@1/b.whl"}"#)));
        assert!(!is_public(&used("lock", r#"{"url":"file:///home/me/b.whl"}"#)));
        assert!(!is_public(&used("parent-plan", r#"{"url":"https://me:secret@example.com/debian"}"#)));
        assert!(!is_public(&used("scan", "1")));
    }
}
