//! Suites: fetched, checked, and remembered for a while.

use jiff::Timestamp;
use longshore_fetch::{FetchError, Fetcher, Get};
use longshore_oci::Digest;
use longshore_store::{BlobStore, Table};
use serde::{Deserialize, Serialize};

use crate::{
    Error, ParentRequest,
    release::Release,
    signature::Keyring,
    sources::{Archive, Trust},
};

/// Larger than any `InRelease`; Debian's has 150 kB.
const LARGEST_RELEASE: u64 = 16 << 20;
const TABLE: &str = "debian-release";

/// A suite whose signature and dates have been checked.
#[derive(Clone, Debug)]
pub(crate) struct Suite {
    pub(crate) archive: Archive,
    pub(crate) release: Release,
    pub(crate) digest: Digest,
    pub(crate) signed_by: Option<String>,
    /// Whether the mirror was not asked this time.
    pub(crate) remembered: bool,
}

/// What is remembered of a suite's `InRelease`. Its text is a blob, and checked again whenever it is used.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Row {
    digest: Digest,
    /// When the mirror last said that this is the current one, in seconds since 1970.
    checked: i64,
    etag: Option<String>,
    last_modified: Option<String>,
}

/// Whether what is remembered may be used without asking the mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    Fresh,
    Ask,
}

impl Archive {
    /// `address suite`, for messages; without credentials.
    pub(crate) fn title(&self) -> String {
        format!("{} {}", longshore_endpoint::redacted(&self.url), self.suite)
    }
}

/// Gets a suite's release file and checks it: the signature, then the dates. What fails is not remembered.
pub(crate) async fn load(
    archive: &Archive,
    request: &ParentRequest,
    fetcher: &Fetcher,
    blobs: &BlobStore,
    table: &Table,
    memory: Memory,
) -> Result<Suite, Error> {
    let (row, bytes, file) = match remembered(archive, request, blobs, table) {
        Some((row, bytes)) if memory == Memory::Fresh && is_fresh(&row, request) => {
            if let Ok(mut suite) = check(archive, request, bytes.clone(), row.digest).await {
                suite.remembered = true;
                return Ok(suite);
            }
            ask(archive, fetcher, None).await?
        }
        old => ask(archive, fetcher, old).await?,
    };
    let suite = check(archive, request, bytes.clone(), Digest::of(&bytes)).await?;
    let digest = blobs.put(&bytes)?;
    if file == File::InRelease {
        table.put(TABLE, &key(archive), &Row { digest, checked: request.now.as_second(), ..row })?;
    }
    Ok(suite)
}

fn key(archive: &Archive) -> String {
    format!("{} {}", archive.url, archive.suite)
}

fn remembered(
    archive: &Archive,
    request: &ParentRequest,
    blobs: &BlobStore,
    table: &Table,
) -> Option<(Row, Vec<u8>)> {
    let row: Row = table.get(TABLE, &key(archive))?;
    let bytes = blobs.read(&row.digest, LARGEST_RELEASE).ok()?;
    (row.checked <= request.now.as_second()).then_some((row, bytes))
}

fn is_fresh(row: &Row, request: &ParentRequest) -> bool {
    let age = request.now.as_second() - row.checked;
    u64::try_from(age).is_ok_and(|age| age < request.freshness.as_secs())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum File {
    InRelease,
    Release,
}

/// Asks the mirror, and takes what is remembered if it says that nothing has changed. An archive that needs no signature may
/// have a `Release` only.
async fn ask(
    archive: &Archive,
    fetcher: &Fetcher,
    old: Option<(Row, Vec<u8>)>,
) -> Result<(Row, Vec<u8>, File), Error> {
    let folder = format!("dists/{}", archive.suite);
    let mut get = Get::new(archive.join(&format!("{folder}/InRelease"))?, LARGEST_RELEASE);
    get.what = format!("the release file of {}", archive.title());
    get.unless_etag = old.as_ref().and_then(|(row, _)| row.etag.clone());
    get.unless_unchanged_since = old.as_ref().and_then(|(row, _)| row.last_modified.clone());
    let (document, file) = match fetcher.get(&get).await {
        Err(FetchError::NotFound { .. } | FetchError::Local { .. }) if archive.trust == Trust::Unsigned => {
            get.url = archive.join(&format!("{folder}/Release"))?;
            (
                fetcher.get(&Get { unless_etag: None, unless_unchanged_since: None, ..get }).await?,
                File::Release,
            )
        }
        other => (other?, File::InRelease),
    };
    match (document, old) {
        (Some(document), _) => {
            let row = Row { digest: Digest::of([]), checked: 0, etag: document.etag, last_modified: document.last_modified };
            Ok((row, document.bytes, file))
        }
        (None, Some((row, bytes))) => Ok((row, bytes, file)),
        (None, None) => Err(Error::Index {
            what: archive.title(),
            why: "the mirror says that its release file has not changed, and there is none to compare with; try again".to_owned(),
        }),
    }
}

/// Checks signature and dates. Public-key cryptography takes milliseconds: it is left to a thread that may block.
async fn check(
    archive: &Archive,
    request: &ParentRequest,
    bytes: Vec<u8>,
    digest: Digest,
) -> Result<Suite, Error> {
    let archive = archive.clone();
    let (now, currency) = (request.now, request.sources.currency);
    let work = move || {
        let (text, signed_by) = verified(&archive, &bytes, now)?;
        let release = Release::parse(&text)
            .map_err(|why| Error::Index { what: format!("the release file of {}", archive.title()), why })?;
        release
            .check_current(&archive, &currency, now)
            .map_err(|why| Error::Currency { suite: archive.title(), why })?;
        Ok(Suite { archive, release, digest, signed_by, remembered: false })
    };
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(Error::Unfinished))
}

/// The text of a release file that may be trusted, and who signed it.
fn verified(archive: &Archive, bytes: &[u8], now: Timestamp) -> Result<(String, Option<String>), Error> {
    let text = String::from_utf8(bytes.to_vec()).map_err(|_| Error::Index {
        what: format!("the release file of {}", archive.title()),
        why: "it is not UTF-8".to_owned(),
    })?;
    let keys = match &archive.trust {
        Trust::Keys(keys) => keys,
        Trust::Unsigned => {
            let content = crate::signature::text_of(&text).unwrap_or(text);
            return Ok((content, None));
        }
    };
    let keyring = Keyring::load(keys);
    if keyring.is_empty() {
        let problems = keyring.problems().join("; ");
        let why = if problems.is_empty() { "no keyring is named or installed".to_owned() } else { problems };
        return Err(Error::Keyring { suite: archive.title(), why });
    }
    let (text, signer) =
        keyring.verify(&text, now).map_err(|source| Error::Signature { suite: archive.title(), source })?;
    Ok((text, Some(signer.fingerprint)))
}
