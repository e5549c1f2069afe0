//! HTTP/1.1 (RFC 9112), read and written by hand: no server library lets a server misbehave enough.

use std::io;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use url::form_urlencoded;

/// The longest head that is read.
const MOST_HEAD: usize = 64 << 10;
/// The longest body that is read.
const MOST_BODY: usize = 1 << 30;

/// The head of a request.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) headers: HeaderMap,
}

/// How much of a body there is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// All of it.
    Whole,
    /// As much as was to be read.
    Stopped,
    /// The client broke it off.
    Broken,
}

/// An answer.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// What `Content-Length` says, where it is not the length of the body.
    pub(super) announced: Option<u64>,
}

impl Head {
    pub(super) fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// A value of the query, decoded.
    pub(super) fn query(&self, name: &str) -> Option<String> {
        let query = self.query.as_deref()?;
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    /// The length of the body, where the head says it.
    pub(super) fn length(&self) -> Option<u64> {
        self.header(header::CONTENT_LENGTH)?.parse().ok()
    }

    fn is_chunked(&self) -> bool {
        self.header(header::TRANSFER_ENCODING).is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"))
    }
}

impl Answer {
    pub(super) fn new(status: u16) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, headers: HeaderMap::new(), body: Bytes::new(), announced: None }
    }

    pub(super) fn with(mut self, name: impl TryInto<HeaderName>, value: &(impl ToString + ?Sized)) -> Self {
        if let (Ok(name), Ok(value)) = (name.try_into(), HeaderValue::try_from(value.to_string())) {
            self.headers.insert(name, value);
        }
        self
    }

    pub(super) fn body(mut self, kind: &str, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.with(header::CONTENT_TYPE, kind)
    }

    /// The head as it goes over the wire.
    pub(super) fn head(&self) -> Vec<u8> {
        let reason = self.status.canonical_reason().unwrap_or("Unknown");
        let mut head = format!("HTTP/1.1 {} {reason}\r\n", self.status.as_u16()).into_bytes();
        for (name, value) in &self.headers {
            head.extend_from_slice(name.as_str().as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        if self.status != StatusCode::NO_CONTENT && !self.headers.contains_key(header::TRANSFER_ENCODING) {
            let length = self.announced.unwrap_or(self.body.len() as u64);
            head.extend_from_slice(format!("content-length: {length}\r\n").as_bytes());
        }
        head.extend_from_slice(b"\r\n");
        head
    }
}

/// One connection, with what was read of it and not yet used.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) stream: TcpStream,
    read: BytesMut,
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, read: BytesMut::new() }
    }

    /// Says whether there was more to read.
    async fn more(&mut self) -> io::Result<bool> {
        self.read.reserve(64 << 10);
        Ok(self.stream.read_buf(&mut self.read).await? > 0)
    }

    /// The next line, without its end; none where the connection ends.
    async fn line(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(at) = self.read.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.read.split_to(at + 2);
                return Ok(Some(String::from_utf8_lossy(&line[..at]).into_owned()));
            }
            if self.read.len() > MOST_HEAD {
                return Err(io::Error::other("a line without end"));
            }
            if !self.more().await? {
                return Ok(None);
            }
        }
    }

    /// The head of the next request; none where there is no further one.
    pub(super) async fn head(&mut self) -> io::Result<Option<Head>> {
        let malformed = || io::Error::new(io::ErrorKind::InvalidData, "not a request");
        if self.read.is_empty() && !self.more().await? {
            return Ok(None);
        }
        // A client that tries TLS first waits for an answer to its greeting.
        if !self.read[0].is_ascii_uppercase() {
            return Err(malformed());
        }
        let Some(line) = self.line().await? else { return Ok(None) };
        let mut words = line.split(' ');
        let (Some(method), Some(target), Some("HTTP/1.1"), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(malformed());
        };
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| malformed())?;
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
            None => (target.to_owned(), None),
        };
        let mut headers = HeaderMap::new();
        loop {
            let line = self.line().await?.ok_or_else(malformed)?;
            if line.is_empty() {
                return Ok(Some(Head { method, path, query, headers }));
            }
            let (name, value) = line.split_once(':').ok_or_else(malformed)?;
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| malformed())?;
            headers.append(name, HeaderValue::from_str(value.trim()).map_err(|_| malformed())?);
        }
    }

    /// The body of a request, up to `most` bytes.
    pub(super) async fn body(&mut self, head: &Head, most: usize) -> io::Result<(Bytes, Ended)> {
        let mut body = BytesMut::new();
        let most = most.min(MOST_BODY);
        if !head.is_chunked() {
            let length = usize::try_from(head.length().unwrap_or(0)).unwrap_or(usize::MAX);
            let ended = self.take(&mut body, length, most).await?;
            return Ok((body.freeze(), ended));
        }
        loop {
            let Some(line) = self.line().await? else { return Ok((body.freeze(), Ended::Broken)) };
            let (size, _) = line.split_once(';').unwrap_or((&line, ""));
            let size = usize::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
            if size > 0 {
                match self.take(&mut body, size, most).await? {
                    Ended::Whole => {}
                    ended => return Ok((body.freeze(), ended)),
                }
            }
            // The end of the chunk, or of the empty trailer.
            if self.line().await?.is_none() {
                return Ok((body.freeze(), Ended::Broken));
            }
            if size == 0 {
                return Ok((body.freeze(), Ended::Whole));
            }
        }
    }

    /// Takes `length` bytes over, but lets `body` grow to no more than `most`.
    async fn take(&mut self, body: &mut BytesMut, length: usize, most: usize) -> io::Result<Ended> {
        let mut left = length;
        while left > 0 {
            let room = most - body.len();
            if room == 0 {
                return Ok(Ended::Stopped);
            }
            if self.read.is_empty() && !matches!(self.more().await, Ok(true)) {
                return Ok(Ended::Broken);
            }
            let piece = self.read.split_to(self.read.len().min(left).min(room));
            left -= piece.len();
            body.extend_from_slice(&piece);
        }
        Ok(Ended::Whole)
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Ends the connection with a reset.
    pub(super) fn reset(self) {
        // If it cannot be set the connection ends as others do, which the client must survive too.
        let _ = self.stream.set_zero_linger();
    }
}
