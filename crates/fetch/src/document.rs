//! Small documents: index pages, metadata, release files, the ends of archives.

use http::{HeaderName, HeaderValue, StatusCode, header};
use longshore_endpoint::{Stage, Tries, redacted};
use reqwest::Response;
use url::Url;

use crate::{
    FetchError, Fetcher, Result,
    client::{Failure, Wanted, text_header},
    download::{byte_header, content_range},
    local,
};

/// A document to be read into memory.
#[derive(Clone, Debug)]
pub struct Get {
    /// Where it is: http, https or file.
    pub url: Url,
    /// What it is, for messages.
    pub what: String,
    /// The longest that is read.
    pub limit: u64,
    /// The `Accept` header.
    pub accept: Option<String>,
    /// Only if it has another entity tag than this one.
    pub unless_etag: Option<String>,
    /// Only if it has changed since this date, as a server wrote it in `Last-Modified`.
    pub unless_unchanged_since: Option<String>,
    /// Only this part.
    pub range: Option<ByteRange>,
}

/// A part of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// From the first position up to, not including, the second.
    From(u64, u64),
    /// So many bytes at the end.
    Last(u64),
}

impl Get {
    /// A whole document, unconditionally.
    pub fn new(url: Url, limit: u64) -> Self {
        let what = redacted(&url);
        Self { url, what, limit, accept: None, unless_etag: None, unless_unchanged_since: None, range: None }
    }
}

/// A document, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The position of the first of them in the document.
    pub start: u64,
    /// The length of the whole document, if it is known.
    pub total: Option<u64>,
    /// Where it was in the end: what relative links in it are relative to.
    pub url: Url,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `ETag`.
    pub etag: Option<String>,
    /// `Last-Modified`.
    pub last_modified: Option<String>,
}

impl Fetcher {
    /// The bytes of a small document.
    pub async fn bytes(&self, url: &Url, limit: u64) -> Result<Vec<u8>> {
        let get = Get::new(url.clone(), limit);
        // There is no condition that could keep it back.
        let document = self.get(&get).await?.ok_or_else(|| get.status(StatusCode::NOT_MODIFIED))?;
        Ok(document.bytes)
    }

    /// The text of a small document.
    pub async fn text(&self, url: &Url, limit: u64) -> Result<String> {
        let bytes = self.bytes(url, limit).await?;
        String::from_utf8(bytes).map_err(|_| {
            let wanted = Wanted { what: &redacted(url), url };
            FetchError::NotText { what: wanted.what.to_owned(), host: wanted.host() }
        })
    }

    /// A document, or a part of it; none where the request's condition says that it has not changed.
    pub async fn get(&self, get: &Get) -> Result<Option<Document>> {
        match get.url.scheme() {
            "file" => get.read_file().await,
            "http" | "https" => self.get_over_network(get).await,
            _ => Err(FetchError::Location { what: get.what.clone(), url: redacted(&get.url) }),
        }
    }

    async fn get_over_network(&self, get: &Get) -> Result<Option<Document>> {
        let _slot = self.slot().await;
        let headers = get.headers();
        let mut hoped = vec![StatusCode::OK];
        if get.range.is_some() {
            hoped.push(StatusCode::PARTIAL_CONTENT);
        }
        if get.unless_etag.is_some() || get.unless_unchanged_since.is_some() {
            hoped.push(StatusCode::NOT_MODIFIED);
        }
        let mut tries = Tries::new(self.config().pauses);
        loop {
            let result = match self.get_response(get.wanted(), &headers, &hoped).await {
                Ok(response) => self.read(get, response).await,
                Err(failure) => Err(failure),
            };
            let Failure { error, stage, retry_after } = match result {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let pause = if error.is_retryable() { tries.failed(stage, retry_after) } else { None };
            let Some(pause) = pause else { return Err(error) };
            tokio::time::sleep(pause).await;
        }
    }

    async fn read(&self, get: &Get, mut response: Response) -> Result<Option<Document>, Failure> {
        let (start, total) = match response.status() {
            StatusCode::NOT_MODIFIED => return Ok(None),
            StatusCode::PARTIAL_CONTENT => match content_range(&response) {
                Some(range) => range,
                None => return Err(get.status(StatusCode::PARTIAL_CONTENT).into()),
            },
            _ => (0, response.content_length()),
        };
        if response.content_length().is_some_and(|length| length > get.limit) {
            return Err(get.too_large(response.status()).into());
        }
        let mut bytes = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(piece)) => bytes.extend_from_slice(&piece),
                Ok(None) => break,
                Err(error) => {
                    let mut failure = self.explain(get.wanted(), &error);
                    failure.stage = Stage::Connected;
                    if let FetchError::Interrupted { received, .. } = &mut failure.error {
                        *received = bytes.len() as u64;
                    }
                    return Err(failure);
                }
            }
            if bytes.len() as u64 > get.limit {
                return Err(get.too_large(response.status()).into());
            }
        }
        let header = |name| text_header(response.headers(), name);
        Ok(Some(Document {
            start,
            total: total.or_else(|| (start == 0).then_some(bytes.len() as u64)),
            bytes,
            url: response.url().clone(),
            content_type: header(header::CONTENT_TYPE),
            etag: header(header::ETAG),
            last_modified: header(header::LAST_MODIFIED),
        }))
    }
}

impl Get {
    fn wanted(&self) -> Wanted<'_> {
        Wanted { what: &self.what, url: &self.url }
    }

    fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        let range = self.range.map(|range| match range {
            ByteRange::From(start, end) => format!("bytes={start}-{}", end.saturating_sub(1)),
            ByteRange::Last(length) => format!("bytes=-{length}"),
        });
        let headers = [
            (header::ACCEPT_ENCODING, Some("identity")),
            (header::ACCEPT, self.accept.as_deref()),
            (header::IF_NONE_MATCH, self.unless_etag.as_deref()),
            (header::IF_MODIFIED_SINCE, self.unless_unchanged_since.as_deref()),
            (header::RANGE, range.as_deref()),
        ];
        headers.into_iter().filter_map(|(name, value)| Some((name, byte_header(value?)))).collect()
    }

    fn status(&self, status: StatusCode) -> FetchError {
        let (what, host, url) = (self.what.clone(), self.wanted().host(), redacted(&self.url));
        FetchError::Status { what, host, url, status, is_retryable: false }
    }

    /// A part was asked for and the whole came, or it is simply too long.
    fn too_large(&self, status: StatusCode) -> FetchError {
        let (what, host) = (self.what.clone(), self.wanted().host());
        if self.range.is_some() && status == StatusCode::OK {
            FetchError::NoRanges { what, host }
        } else {
            FetchError::TooLarge { what, host, limit: self.limit }
        }
    }

    async fn read_file(&self) -> Result<Option<Document>> {
        let Self { what, url, range, limit, .. } = self.clone();
        let read = tokio::task::spawn_blocking(move || local::read(&what, &url, range, limit));
        let (bytes, start, total) = read.await.unwrap_or_else(|_| Err(self.status(StatusCode::OK)))?;
        Ok(Some(Document {
            bytes,
            start,
            total: Some(total),
            url: self.url.clone(),
            content_type: None,
            etag: None,
            last_modified: None,
        }))
    }
}
