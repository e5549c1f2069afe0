//! A server that misbehaves as told.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use longshore_endpoint::{Pauses, ProxySource, WebConfig};
use longshore_fetch::{FetchConfig, NetrcSource};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use url::Url;

/// One answer, on a connection of its own.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// These bytes, then the connection is closed in order.
    Send(Vec<u8>),
    /// These bytes, then the connection is reset.
    Reset(Vec<u8>),
    /// These bytes, then nothing for a long time.
    Stall(Vec<u8>),
    /// The body as a good server sends it: whole, or the range that is asked for.
    Serve,
}

/// What a request said.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    head: String,
}

impl Seen {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    /// The request line.
    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }
}

/// A server of one body, whose first answers are as told; from then on it is good.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    body: Vec<u8>,
    etag: Option<&'static str>,
    acts: Mutex<VecDeque<Act>>,
    seen: Mutex<Vec<Seen>>,
    sent: Mutex<Vec<usize>>,
}

impl Server {
    pub(crate) async fn start(
        body: &[u8],
        etag: Option<&'static str>,
        acts: impl IntoIterator<Item = Act>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            body: body.to_vec(),
            etag,
            acts: Mutex::new(acts.into_iter().collect()),
            seen: Mutex::default(),
            sent: Mutex::default(),
        });
        let server = Self { port, shared };
        let serving = server.clone();
        tokio::spawn(async move {
            loop {
                let (connection, _) = listener.accept().await.unwrap();
                let server = serving.clone();
                tokio::spawn(async move {
                    let (reset, mut connection) = server.answer(connection).await;
                    if reset {
                        // Closing with a linger of zero sends a reset.
                        let _ = connection.set_zero_linger();
                    } else {
                        let _ = connection.shutdown().await;
                    }
                });
            }
        });
        server
    }

    pub(crate) fn url(&self, path: &str) -> Url {
        Url::parse(&format!("http://127.0.0.1:{}{path}", self.port)).unwrap()
    }

    /// The requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// How many bytes of the body each good answer had.
    pub(crate) fn sent(&self) -> Vec<usize> {
        self.shared.sent.lock().unwrap().clone()
    }

    /// Answers one request; says whether the connection is to be reset.
    pub(crate) async fn answer<C: AsyncRead + AsyncWrite + Unpin>(&self, mut connection: C) -> (bool, C) {
        let Some(head) = read_head(&mut connection).await else { return (false, connection) };
        let seen = Seen { head };
        let act = self.shared.acts.lock().unwrap().pop_front().unwrap_or(Act::Serve);
        self.shared.seen.lock().unwrap().push(seen.clone());
        let (bytes, reset, stall) = match act {
            Act::Serve => (self.good(&seen), false, false),
            Act::Send(bytes) => (bytes, false, false),
            Act::Reset(bytes) => (bytes, true, false),
            Act::Stall(bytes) => (bytes, false, true),
        };
        // The client may have gone away.
        let _ = connection.write_all(&bytes).await;
        let _ = connection.flush().await;
        if reset {
            // Let it be read before the reset overtakes it.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        if stall {
            tokio::time::sleep(Duration::from_mins(1)).await;
        }
        (reset, connection)
    }

    fn good(&self, seen: &Seen) -> Vec<u8> {
        let body = &self.shared.body;
        let etag = self.shared.etag.map_or_else(String::new, |etag| format!("ETag: {etag}\r\n"));
        let range = seen.header("range").and_then(|range| range.strip_prefix("bytes="));
        let unchanged = seen.header("if-range").is_none_or(|known| Some(known) == self.shared.etag);
        let known = seen.header("if-none-match").is_some_and(|known| Some(known) == self.shared.etag);
        let (head, part) = match range.and_then(|range| range.split_once('-')) {
            _ if known => (format!("HTTP/1.1 304 Not Modified\r\n{etag}"), &body[..0]),
            Some((first, last)) if unchanged => {
                let (first, end) = match (first.parse::<usize>(), last.parse::<usize>()) {
                    (Ok(first), Ok(last)) => (first, (last + 1).min(body.len())),
                    (Ok(first), Err(_)) => (first, body.len()),
                    (Err(_), last) => (body.len() - last.unwrap(), body.len()),
                };
                let total = body.len();
                let range = format!("Content-Range: bytes {first}-{}/{total}\r\n", end - 1);
                (format!("HTTP/1.1 206 Partial Content\r\n{range}{etag}"), &body[first..end])
            }
            _ => (format!("HTTP/1.1 200 OK\r\n{etag}"), &body[..]),
        };
        self.shared.sent.lock().unwrap().push(part.len());
        let length = part.len();
        [format!("{head}Content-Length: {length}\r\nConnection: close\r\n\r\n").as_bytes(), part].concat()
    }
}

async fn read_head(connection: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(connection.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

/// The head of a response with these headers, and the beginning of its body.
pub(crate) fn response(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let headers: String = headers.iter().map(|(name, value)| [name, ": ", value, "\r\n"].concat()).collect();
    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}");
    [head.as_bytes(), b"\r\n", body].concat()
}

/// As in real life, but impatient and without the environment.
pub(crate) fn config() -> FetchConfig {
    FetchConfig {
        pauses: Pauses {
            first: Duration::from_millis(1),
            longest: Duration::from_millis(20),
            ..Pauses::default()
        },
        web: WebConfig {
            idle_timeout: Duration::from_millis(400),
            proxy: ProxySource::Direct,
            ..WebConfig::default()
        },
        netrc: NetrcSource::None,
        ..FetchConfig::default()
    }
}
