//! Downloads into a blob store.

use http::{HeaderValue, StatusCode, header};
use longshore_endpoint::{Stage, Tries, redacted};
use longshore_oci::Digest;
use longshore_store::{BlobStore, BlobWriter, Pump, StoreError};
use reqwest::Response;
use url::Url;

use crate::{
    FetchError, Fetcher, Result,
    client::{Failure, Wanted, text_header},
    local,
};

/// A file to be downloaded.
#[derive(Clone, Debug)]
pub struct Download {
    /// Where it is: http, https or file.
    pub url: Url,
    /// The digest that it must have. Without one, whatever comes is kept.
    pub digest: Option<Digest>,
    /// The length that it must have.
    pub size: Option<u64>,
    /// What it is, for messages: `pandas-2.2.3-….whl`.
    pub what: String,
}

/// A file that was downloaded, or need not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Where it came from.
    pub from: Origin,
}

/// Where a file came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was in the store already.
    Store,
    /// From its host.
    Network,
    /// From a file of this machine.
    File,
}

/// How much further than any try before one must get for it to count as headway.
const HEADWAY: u64 = 1 << 20;

/// The part of a file that has arrived.
#[derive(Debug)]
struct Partial {
    writer: BlobWriter,
    /// The server's name for this very content, if it gave a strong one.
    etag: Option<HeaderValue>,
}

/// Whether caches on the way may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caches {
    Allowed,
    Passed,
}

/// How a try ended that did not bring the whole file.
enum Ended {
    /// Something failed; perhaps part of the file is there.
    Broken(Failure, Option<Box<Partial>>),
    /// The server does not go on where the part that is there ends.
    NotResumed,
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self::Broken(failure, None)
    }
}

impl From<FetchError> for Ended {
    fn from(error: FetchError) -> Self {
        Failure::from(error).into()
    }
}

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Self {
        FetchError::from(error).into()
    }
}

impl Download {
    /// Keeps the bytes if they are those wanted.
    pub(crate) async fn commit(&self, writer: BlobWriter) -> Result<(Digest, u64)> {
        let Self { digest, size: wanted_size, .. } = *self;
        let host = self.wanted().host();
        let what = self.what.clone();
        let size = writer.length();
        if let Some(expected) = wanted_size.filter(|expected| *expected != size) {
            return Err(FetchError::WrongSize { what, host, expected, found: size });
        }
        let commit = move || match digest {
            Some(digest) => writer.commit_as(&digest, None).map(|size| (digest, size)),
            None => writer.commit(),
        };
        let committed = tokio::task::spawn_blocking(commit).await.unwrap_or(Err(StoreError::Unfinished));
        committed.map_err(|error| match error {
            StoreError::DigestMismatch { expected, found } => {
                FetchError::WrongDigest { what, host, expected, found }
            }
            other => FetchError::Store(other),
        })
    }

    fn wanted(&self) -> Wanted<'_> {
        Wanted { what: &self.what, url: &self.url }
    }

    fn wrong_size(&self, found: u64) -> Option<FetchError> {
        let expected = self.size.filter(|expected| *expected != found)?;
        Some(FetchError::WrongSize { what: self.what.clone(), host: self.wanted().host(), expected, found })
    }
}

impl Fetcher {
    /// Downloads a file into a store, unless it is there. `progress` is told how many bytes of it have arrived; that
    /// falls back when a download must begin again.
    pub async fn fetch(
        &self,
        download: &Download,
        store: &BlobStore,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Fetched> {
        if let Some(digest) = download.digest
            && let Some(size) = store.size_of(&digest)?
            && download.size.is_none_or(|expected| expected == size)
        {
            return Ok(Fetched { digest, size, from: Origin::Store });
        }
        let ((digest, size), from) = match download.url.scheme() {
            "file" => (local::copy(download, store, progress).await?, Origin::File),
            "http" | "https" => {
                let _slot = self.slot().await;
                let fetched = match self.fetch_file(download, store, progress, Caches::Allowed).await {
                    // Perhaps only a cache on the way is damaged.
                    Err(FetchError::WrongDigest { .. }) => {
                        self.fetch_file(download, store, progress, Caches::Passed).await
                    }
                    fetched => fetched,
                };
                (fetched?, Origin::Network)
            }
            _ => {
                let url = redacted(&download.url);
                return Err(FetchError::Location { what: download.what.clone(), url });
            }
        };
        Ok(Fetched { digest, size, from })
    }

    /// Tries until the whole file is there or there is no use in it.
    async fn fetch_file(
        &self,
        download: &Download,
        store: &BlobStore,
        progress: &(dyn Fn(u64) + Send + Sync),
        caches: Caches,
    ) -> Result<(Digest, u64)> {
        let mut tries = Tries::new(self.config().pauses);
        let mut partial: Option<Box<Partial>> = None;
        let mut furthest = 0;
        loop {
            match self.try_once(download, store, progress, caches, partial.take()).await {
                Ok(writer) => return download.commit(writer).await,
                Err(Ended::NotResumed) => {}
                Err(Ended::Broken(Failure { error, stage, retry_after }, arrived)) => {
                    if !error.is_retryable() {
                        return Err(error);
                    }
                    let length = arrived.as_ref().map_or(0, |arrived| arrived.writer.length());
                    if length >= furthest + HEADWAY {
                        furthest = length;
                        tries.made_headway();
                    }
                    let Some(pause) = tries.failed(stage, retry_after) else { return Err(error) };
                    tokio::time::sleep(pause).await;
                    // Without the server's word that it is the same content, the digest must tell in the end.
                    partial = arrived.filter(|arrived| {
                        arrived.writer.length() > 0 && (arrived.etag.is_some() || download.digest.is_some())
                    });
                }
            }
        }
    }

    async fn try_once(
        &self,
        download: &Download,
        store: &BlobStore,
        progress: &(dyn Fn(u64) + Send + Sync),
        caches: Caches,
        partial: Option<Box<Partial>>,
    ) -> Result<BlobWriter, Ended> {
        let wanted = download.wanted();
        // Digests are of the bytes as they are, not as a server may compress them.
        let mut headers = vec![(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"))];
        if caches == Caches::Passed {
            headers.push((header::CACHE_CONTROL, HeaderValue::from_static("no-cache")));
        }
        let mut hoped = vec![StatusCode::OK];
        if let Some(Partial { writer, etag }) = partial.as_deref() {
            hoped.extend([StatusCode::PARTIAL_CONTENT, StatusCode::RANGE_NOT_SATISFIABLE]);
            headers.push((header::RANGE, byte_header(&format!("bytes={}-", writer.length()))));
            headers.extend(etag.clone().map(|etag| (header::IF_RANGE, etag)));
        }
        let mut response = match self.get_response(wanted, &headers, &hoped).await {
            Ok(response) => response,
            Err(failure) => return Err(Ended::Broken(failure, partial)),
        };
        if is_web_page(&response) && !names_web_page(&download.url) {
            let Wanted { what, url } = wanted;
            let (what, url) = (what.to_owned(), redacted(url));
            return Err(FetchError::WebPage { what, host: wanted.host(), url }.into());
        }
        let etag = strong_etag(&response);
        let writer = match (response.status(), partial) {
            (StatusCode::OK, _) => {
                if let Some(error) = response.content_length().and_then(|length| download.wrong_size(length))
                {
                    return Err(error.into());
                }
                store.writer()
            }
            (StatusCode::PARTIAL_CONTENT, Some(partial)) if starts_at(&response, partial.writer.length()) => {
                partial.writer
            }
            _ => return Err(Ended::NotResumed),
        };
        let mut arrived = writer.length();
        let mut pump = Pump::new(writer);
        loop {
            match response.chunk().await {
                Ok(Some(bytes)) => {
                    arrived += bytes.len() as u64;
                    if download.size.is_some_and(|size| arrived > size)
                        && let Some(error) = download.wrong_size(arrived)
                    {
                        return Err(error.into());
                    }
                    pump.push(bytes).await?;
                    progress(arrived);
                }
                Ok(None) => return Ok(pump.finish().await?),
                Err(error) => {
                    let writer = pump.finish().await?;
                    let mut failure = self.explain(wanted, &error);
                    failure.stage = Stage::Connected;
                    if let FetchError::Interrupted { received, .. } = &mut failure.error {
                        *received = writer.length();
                    }
                    return Err(Ended::Broken(failure, Some(Box::new(Partial { writer, etag }))));
                }
            }
        }
    }
}

/// A header made of digits and plain words.
pub(crate) fn byte_header(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

/// An entity tag that is the same only for the same bytes (RFC 9110 §8.8.3).
fn strong_etag(response: &Response) -> Option<HeaderValue> {
    response.headers().get(header::ETAG).filter(|etag| etag.as_bytes().starts_with(b"\"")).cloned()
}

fn is_web_page(response: &Response) -> bool {
    text_header(response.headers(), header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/html"))
}

fn names_web_page(url: &Url) -> bool {
    let last = url.path().rsplit('/').next().unwrap_or_default();
    last.is_empty() || matches!(last.rsplit_once('.'), Some((_, "html" | "htm")))
}

/// Whether a partial response begins at a byte: `Content-Range: bytes 5-9/10`.
fn starts_at(response: &Response, start: u64) -> bool {
    content_range(response).is_some_and(|(found, _)| found == start)
}

/// The first byte of a partial response, and the length of the whole if it is known.
pub(crate) fn content_range(response: &Response) -> Option<(u64, Option<u64>)> {
    let range = text_header(response.headers(), header::CONTENT_RANGE)?;
    let (range, total) = range.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()))
}
