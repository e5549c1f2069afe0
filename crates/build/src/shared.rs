//! The table of pure functions, shared through the registry: beside the images of a repository lies an artifact with
//! the rows that made them, so that a machine with an empty disk knows what the registry has.
//!
//! It is read when a build lacks a row, and only then. A row that says which layer comes of some inputs counts only if an image
//! in the repository has that layer, by digest, size, media type and diff_id: the image is got by its digest, its manifest and
//! its configuration are compared with theirs. Whether the layer is still there is asked when it is used.

mod artifact;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use longshore_client::Client;
use longshore_oci::{Descriptor, Digest, Digester, ImageConfig, Manifest, Reference, Repository};
use longshore_store::{Elsewhere, Found, Table, UsedRow};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::runtime::{Handle, RuntimeFlavor};

use self::artifact::{SharedError, SharedRow};
use crate::{
    layer::{LAYER, LayerRecord},
    parent::LARGEST_CONFIG,
};

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
            let standing = self.wait(artifact::read(&self.client, &self.repository));
            let standing = standing.unwrap_or_else(|error| {
                tracing::debug!(repository = %self.repository, %error, "the shared table cannot be read");
                artifact::Standing::default()
            });
            let builds = standing.content.map(|content| content.builds).unwrap_or_default();
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
    artifact::write(client, repository, image, rows).await
}

#[cfg(test)]
mod tests {
    use super::*;
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
