//! Downloads over a bad line, from bad servers, and past bad caches.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::server::{Act, Server, config, response};
use longshore_endpoint::Fault;
use longshore_fetch::{Download, FetchError, Fetched, Fetcher, Origin, location};
use longshore_oci::Digest;
use longshore_store::BlobStore;

/// A body that is longer than any buffer on the way.
fn body() -> Vec<u8> {
    (0..800_000_u32).flat_map(u32::to_le_bytes).collect()
}

fn store() -> (tempfile::TempDir, BlobStore) {
    let root = tempfile::tempdir().unwrap();
    let store = BlobStore::open(root.path()).unwrap();
    (root, store)
}

fn download(server: &Server, body: &[u8]) -> Download {
    Download {
        url: server.url("/pandas.whl"),
        digest: Some(Digest::of(body)),
        size: Some(body.len() as u64),
        what: "pandas".to_owned(),
    }
}

async fn fetch(download: &Download, store: &BlobStore) -> Result<Fetched, FetchError> {
    Fetcher::new(config()).fetch(download, store, &|_| {}).await
}

/// The download works after all, and this many requests were made.
async fn arrives(server: &Server, body: &[u8], requests: usize) {
    let (_root, store) = store();
    let download = download(server, body);
    let fetched = fetch(&download, &store).await.unwrap();
    assert_eq!(
        (fetched.digest, fetched.size, fetched.from),
        (Digest::of(body), body.len() as u64, Origin::Network)
    );
    assert_eq!(store.verify(&fetched.digest).unwrap(), fetched.size);
    assert_eq!(server.seen().len(), requests);
    let again = fetch(&download, &store).await.unwrap();
    assert_eq!(again.from, Origin::Store);
    assert_eq!(server.seen().len(), requests, "what is in the store is not asked for");
}

/// The download fails; nothing is kept.
async fn fails(server: &Server, body: &[u8]) -> FetchError {
    let (root, store) = store();
    let error = fetch(&download(server, body), &store).await.unwrap_err();
    assert!(store.digests().unwrap().is_empty());
    let left = std::fs::read_dir(root.path().join("tmp")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "nothing half is left");
    let message = error.to_string();
    assert!(message.contains("pandas") && message.contains("127.0.0.1"), "{message}");
    error
}

fn ok(length: usize, etag: Option<&str>, part: &[u8]) -> Vec<u8> {
    let length = length.to_string();
    let mut headers = vec![("Content-Length", length.as_str())];
    headers.extend(etag.map(|etag| ("ETag", etag)));
    response("200 OK", &headers, part)
}

#[tokio::test]
async fn a_good_server_is_asked_once() {
    let body = body();
    let server = Server::start(&body, None, []).await;
    arrives(&server, &body, 1).await;
    let seen = &server.seen()[0];
    assert_eq!(seen.header("user-agent"), Some(concat!("longshore/", env!("CARGO_PKG_VERSION"))));
    assert_eq!(seen.header("accept-encoding"), Some("identity"));
    assert_eq!((seen.header("range"), seen.header("authorization")), (None, None));
}

#[tokio::test]
async fn a_reset_download_goes_on_where_it_was() {
    let body = body();
    let etag = "\"one\"";
    let broken = Act::Reset(ok(body.len(), Some(etag), &body[..1_500_000]));
    let server = Server::start(&body, Some(etag), [broken]).await;
    arrives(&server, &body, 2).await;
    let seen = &server.seen()[1];
    let resumed: usize = seen
        .header("range")
        .and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-'))
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(seen.header("if-range"), Some(etag));
    assert!(resumed > 0 && resumed <= 1_500_000, "{resumed}");
    assert_eq!(server.sent(), [body.len() - resumed], "only the rest was sent");
}

#[tokio::test]
async fn a_truncated_download_goes_on_where_it_was() {
    let body = body();
    let cut = |from: usize, to: usize| {
        let range = format!("bytes {from}-{}/{}", body.len() - 1, body.len());
        let length = (body.len() - from).to_string();
        let headers = [("Content-Range", range.as_str()), ("Content-Length", &length), ("ETag", "\"one\"")];
        Act::Send(response("206 Partial Content", &headers, &body[from..to]))
    };
    let first = Act::Send(ok(body.len(), Some("\"one\""), &body[..1_000_000]));
    let server = Server::start(&body, Some("\"one\""), [first, cut(1_000_000, 2_500_000)]).await;
    arrives(&server, &body, 3).await;
    let ranges: Vec<_> = server.seen().iter().map(|seen| seen.header("range").map(str::to_owned)).collect();
    assert_eq!(ranges, [None, Some("bytes=1000000-".to_owned()), Some("bytes=2500000-".to_owned())]);
    assert_eq!(server.sent(), [body.len() - 2_500_000]);
}

#[tokio::test]
async fn a_file_that_changed_meanwhile_is_begun_anew() {
    let body = body();
    let broken = Act::Send(ok(body.len(), Some("\"old\""), &vec![9; 1_000_000]));
    let server = Server::start(&body, Some("\"new\""), [broken]).await;
    arrives(&server, &body, 2).await;
    assert_eq!(server.sent(), [body.len()]);
}

#[tokio::test]
async fn a_resumed_download_of_two_files_is_noticed_by_its_digest() {
    let body = body();
    // No entity tag: only the digest can tell that the first part was of something else.
    let broken = Act::Send(ok(body.len(), None, &vec![9; 1_000_000]));
    let server = Server::start(&body, None, [broken]).await;
    arrives(&server, &body, 3).await;
    assert_eq!(server.sent(), [body.len() - 1_000_000, body.len()]);
}

#[tokio::test]
async fn without_digest_and_entity_tag_nothing_is_resumed() {
    let body = body();
    let broken = Act::Send(ok(body.len(), Some("W/\"weak\""), &body[..1_000_000]));
    let server = Server::start(&body, Some("W/\"weak\""), [broken]).await;
    let (_root, store) = store();
    let download = Download { digest: None, size: None, ..download(&server, &body) };
    let fetched = fetch(&download, &store).await.unwrap();
    assert_eq!((fetched.digest, fetched.size), (Digest::of(&body), body.len() as u64));
    assert_eq!(server.seen()[1].header("range"), None);
}

#[tokio::test]
async fn servers_that_do_not_resume_are_begun_anew() {
    let body = body();
    let broken = || Act::Send(ok(body.len(), None, &body[..1_000_000]));
    let refused = Act::Send(response("416 Range Not Satisfiable", &[("Content-Length", "0")], b""));
    let whole = Act::Send(ok(body.len(), None, &body));
    let elsewhere = {
        let range = format!("bytes 5-{}/{}", body.len() - 1, body.len());
        Act::Send(response("206 Partial Content", &[("Content-Range", &range)], &body[5..]))
    };
    for second in [refused, whole, elsewhere] {
        let needs_third = !matches!(&second, Act::Send(bytes) if bytes.starts_with(b"HTTP/1.1 200"));
        let server = Server::start(&body, None, [broken(), second]).await;
        arrives(&server, &body, 2 + usize::from(needs_third)).await;
    }
}

#[tokio::test]
async fn a_server_that_is_busy_is_asked_again_when_it_says() {
    let body = b"small".as_slice();
    let busy = |status: &str| Act::Send(response(status, &[("Content-Length", "0")], b""));
    let server = Server::start(body, None, [busy("503 Service Unavailable"), busy("502 Bad Gateway")]).await;
    arrives(&server, body, 3).await;

    let later =
        Act::Send(response("429 Too Many Requests", &[("Retry-After", "1"), ("Content-Length", "0")], b""));
    let server = Server::start(body, None, [later]).await;
    let (_root, store) = store();
    let mut config = config();
    config.pauses.longest = Duration::from_secs(5);
    let started = Instant::now();
    Fetcher::new(config).fetch(&download(&server, body), &store, &|_| {}).await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1), "the server asked for a second");
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn tries_end() {
    let busy = Act::Send(response("503 Service Unavailable", &[("Content-Length", "0")], b""));
    let server = Server::start(b"x", None, vec![busy; 50]).await;
    let error = fails(&server, b"x").await;
    assert!(matches!(&error, FetchError::Status { status, .. } if status.as_u16() == 503), "{error}");
    assert!(error.is_retryable());
    assert_eq!(server.seen().len(), 5);

    // Each try gets no further than the one before.
    let body = body();
    let broken = Act::Send(ok(body.len(), None, &body[..100_000]));
    let server = Server::start(&body, None, vec![broken; 50]).await;
    let (_root, store) = store();
    let download = Download { digest: None, ..download(&server, &body) };
    let error = fetch(&download, &store).await.unwrap_err();
    assert!(matches!(error, FetchError::Interrupted { received: 100_000, .. }), "{error}");
    assert_eq!(server.seen().len(), 5);
}

#[tokio::test]
async fn headway_buys_more_tries() {
    let body = body();
    // Six breaks, each half a megabyte and more further on.
    let acts = (0..6_usize).map(|i| {
        let (from, to) = (i * 500_000, (i + 1) * 500_000);
        let range = format!("bytes {from}-{}/{}", body.len() - 1, body.len());
        let length = (body.len() - from).to_string();
        let status = if i == 0 { "200 OK" } else { "206 Partial Content" };
        Act::Send(response(
            status,
            &[("Content-Range", &range), ("Content-Length", &length)],
            &body[from..to],
        ))
    });
    let server = Server::start(&body, None, acts).await;
    arrives(&server, &body, 7).await;
    assert_eq!(server.sent(), [body.len() - 3_000_000]);
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let body = body();
    let stalled = || Act::Stall(ok(body.len(), None, &body[..1_000_000]));
    let server = Server::start(&body, None, [stalled()]).await;
    arrives(&server, &body, 2).await;
    assert_eq!(server.sent(), [body.len() - 1_000_000]);

    let server = Server::start(&body, None, vec![Act::Stall(Vec::new()); 9]).await;
    let error = fails(&server, &body).await;
    assert!(matches!(error, FetchError::Unreachable { fault: Fault::Silence { .. }, .. }), "{error}");
    assert!(error.to_string().contains("sent nothing for 0.4 seconds"), "{error}");
}

#[tokio::test]
async fn wrong_bytes_are_never_kept() {
    let right = b"right".as_slice();
    let wrong = || Act::Send(ok(5, None, b"wrong"));
    let server = Server::start(right, None, [wrong()]).await;
    arrives(&server, right, 2).await;
    let seen = server.seen();
    let asked: Vec<_> = seen.iter().map(|seen| seen.header("cache-control")).collect();
    assert_eq!(asked, [None, Some("no-cache")], "the second time past caches");

    let server = Server::start(right, None, vec![wrong(); 9]).await;
    let error = fails(&server, right).await;
    assert!(matches!(&error, FetchError::WrongDigest { expected, found, .. }
        if *expected == Digest::of("right") && *found == Digest::of("wrong")));
    assert!(!error.is_retryable());
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn a_wrong_length_is_seen_before_it_is_downloaded() {
    let server = Server::start(b"four", None, vec![Act::Stall(ok(1 << 40, None, b"xx")); 9]).await;
    let error = fails(&server, b"four").await;
    assert!(matches!(error, FetchError::WrongSize { expected: 4, found, .. } if found == 1 << 40), "{error}");
    // And while it is downloaded, where it is not announced.
    let endless = response("200 OK", &[("Transfer-Encoding", "chunked")], b"9\r\n123456789\r\n");
    let server = Server::start(b"four", None, vec![Act::Stall(endless); 9]).await;
    let error = fails(&server, b"four").await;
    assert!(matches!(error, FetchError::WrongSize { expected: 4, found: 9, .. }), "{error}");
}

#[tokio::test]
async fn a_login_page_is_called_by_its_name() {
    let page = response(
        "200 OK",
        &[("Content-Type", "text/html; charset=utf-8")],
        b"<h1>Welcome to Hotel WLAN</h1>",
    );
    let server = Server::start(b"x", None, [Act::Send(page)]).await;
    let error = fails(&server, b"x").await;
    assert!(matches!(error, FetchError::WebPage { .. }), "{error}");
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn what_is_not_there_is_not_asked_for_again() {
    for (status, wanted) in
        [("404 Not Found", "does not have"), ("401 Unauthorized", "~/.netrc"), ("403 Forbidden", "refuses")]
    {
        let server =
            Server::start(b"x", None, [Act::Send(response(status, &[("Content-Length", "0")], b""))]).await;
        let error = fails(&server, b"x").await;
        assert!(error.to_string().contains(wanted), "{error}");
        assert!(!error.is_retryable());
        assert_eq!(server.seen().len(), 1);
    }
}

#[tokio::test]
async fn nobody_there_is_told_soon() {
    let mut server = Server::start(b"x", None, []).await;
    server.port = 1;
    let error = fails(&server, b"x").await;
    assert!(
        matches!(&error, FetchError::Unreachable { fault: Fault::Connect { host, .. }, .. } if host == "127.0.0.1:1"),
        "{error}"
    );
    assert!(error.to_string().contains("refused") && error.is_retryable(), "{error}");

    let (_root, store) = store();
    let url = "http://no-such-host.invalid/x".parse().unwrap();
    let error = fetch(&Download { url, ..download(&server, b"x") }, &store).await.unwrap_err();
    assert!(
        matches!(&error, FetchError::Unreachable { fault: Fault::Dns { host, .. }, .. } if host == "no-such-host.invalid"),
        "{error}"
    );
}

#[tokio::test]
async fn progress_counts_what_has_arrived() {
    let body = body();
    let broken = Act::Send(ok(body.len(), None, &body[..1_000_000]));
    let server = Server::start(&body, None, [broken]).await;
    let (_root, store) = store();
    let told = Mutex::new(Vec::new());
    let fetcher = Fetcher::new(config());
    fetcher
        .fetch(&download(&server, &body), &store, &|bytes| told.lock().unwrap().push(bytes))
        .await
        .unwrap();
    let told = told.into_inner().unwrap();
    assert!(told.is_sorted(), "a resumed download does not fall back");
    assert_eq!(told.last(), Some(&(body.len() as u64)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_downloads_of_the_same_and_different_files_at_once() {
    let files: Vec<Vec<u8>> = (0..4_u8).map(|i| vec![i; 700_000 + usize::from(i)]).collect();
    let (_root, store) = store();
    let mut config = config();
    config.concurrency = 3;
    let fetcher = Fetcher::new(config);
    let running = std::sync::Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    for file in &files {
        let server = Server::start(file, None, []).await;
        for _ in 0..3 {
            let (fetcher, store, download) = (fetcher.clone(), store.clone(), download(&server, file));
            let running = running.clone();
            tasks.push(tokio::spawn(async move {
                running.fetch_add(1, Ordering::Relaxed);
                fetcher.fetch(&download, &store, &|_| {}).await.unwrap()
            }));
        }
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(running.load(Ordering::Relaxed), 12);
    assert_eq!(store.digests().unwrap().len(), 4);
    for file in &files {
        store.verify(&Digest::of(file)).unwrap();
    }
}

#[tokio::test]
async fn files_of_this_machine_are_copied() {
    let (root, store) = store();
    let path = root.path().join("a b.whl");
    std::fs::write(&path, body()).unwrap();
    let url = location(path.to_str().unwrap()).unwrap();
    assert!(url.as_str().starts_with("file:///") && url.as_str().ends_with("/a%20b.whl"), "{url}");
    let mut download =
        Download { url, digest: Some(Digest::of(body())), size: None, what: "a wheel".to_owned() };
    let fetched = fetch(&download, &store).await.unwrap();
    assert_eq!((fetched.from, fetched.digest), (Origin::File, Digest::of(body())));
    assert_eq!(fetch(&download, &store).await.unwrap().from, Origin::Store);
    download.digest = Some(Digest::of("other"));
    assert!(matches!(fetch(&download, &store).await, Err(FetchError::WrongDigest { .. })));
    download.url = location("/no/such/file").unwrap();
    let error = fetch(&download, &store).await.unwrap_err();
    assert!(matches!(error, FetchError::Local { .. }), "{error}");
    assert!(error.to_string().contains("/no/such/file"), "{error}");
    for wrong in ["", "ftp://h/x", "git+ssh://h/x"] {
        assert!(matches!(location(wrong), Err(FetchError::Location { .. })), "{wrong}");
    }
    assert_eq!(location("x").unwrap().to_file_path().unwrap(), std::env::current_dir().unwrap().join("x"));
}

#[tokio::test]
async fn a_full_disk_is_not_retried() {
    // A store whose folder is a file cannot be written by anybody, root included.
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("store");
    std::fs::write(&folder, "").unwrap();
    let body = body();
    let server = Server::start(&body, None, []).await;
    let store = BlobStore::open(folder.join("below"));
    let error = match store {
        Ok(store) => fetch(&download(&server, &body), &store).await.unwrap_err(),
        Err(error) => error.into(),
    };
    assert!(matches!(error, FetchError::Store(_)), "{error}");
    assert!(server.seen().len() <= 1);
}
