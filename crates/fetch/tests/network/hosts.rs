//! What goes to which host: redirects, credentials, proxies, TLS; and small documents.

use std::{fs, process::Command, sync::Arc};

use crate::server::{Act, Server, config, response};
use longshore_endpoint::{Fault, ProxySource, WebConfig};
use longshore_fetch::{ByteRange, Download, FetchError, Fetcher, Get, NetrcSource};
use longshore_oci::Digest;
use longshore_store::BlobStore;
use tokio::{io::AsyncWriteExt, net::TcpListener};
use tokio_rustls::{TlsAcceptor, rustls};
use url::Url;

/// `me:s3cret`, encoded.
const BASIC: &str = "Basic bWU6czNjcmV0";

fn with_login(mut url: Url) -> Url {
    url.set_username("me").unwrap();
    url.set_password(Some("s3cret")).unwrap();
    url
}

fn redirect(target: &str) -> Act {
    Act::Send(response("302 Found", &[("Location", target), ("Content-Length", "0")], b""))
}

async fn text(url: &Url) -> Result<String, FetchError> {
    Fetcher::new(config()).text(url, 1000).await
}

#[tokio::test]
async fn credentials_stay_with_their_host() {
    let other = Server::start(b"text", None, []).await;
    let server =
        Server::start(b"text", None, [redirect("/second"), redirect(other.url("/third").as_str())]).await;
    assert_eq!(text(&with_login(server.url("/first"))).await.unwrap(), "text");
    let lines = |server: &Server| -> Vec<_> {
        let seen = server.seen();
        seen.iter().map(|s| (s.line().to_owned(), s.header("authorization").map(str::to_owned))).collect()
    };
    let basic = Some(BASIC.to_owned());
    assert_eq!(
        lines(&server),
        [("GET /first HTTP/1.1".to_owned(), basic.clone()), ("GET /second HTTP/1.1".to_owned(), basic)]
    );
    assert_eq!(lines(&other), [("GET /third HTTP/1.1".to_owned(), None)]);
}

#[tokio::test]
async fn credentials_in_a_redirect_are_not_used() {
    let other = Server::start(b"text", None, []).await;
    let server = Server::start(b"", None, [redirect(with_login(other.url("/")).as_str())]).await;
    assert_eq!(text(&server.url("/")).await.unwrap(), "text");
    assert_eq!(other.seen()[0].header("authorization"), None);
}

#[tokio::test]
async fn a_netrc_is_asked_for_each_host() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("netrc");
    fs::write(
        &file,
        "machine 127.0.0.1 login me password s3cret\nmachine elsewhere.invalid login x password y\n",
    )
    .unwrap();
    let mut config = config();
    config.netrc = NetrcSource::File(file);
    let server = Server::start(b"text", None, []).await;
    let fetcher = Fetcher::new(config);
    fetcher.text(&server.url("/"), 1000).await.unwrap();
    let localhost = Url::parse(&format!("http://localhost:{}/", server.port)).unwrap();
    fetcher.text(&localhost, 1000).await.unwrap();
    let mut url = server.url("/");
    url.set_username("__token__").unwrap();
    fetcher.text(&url, 1000).await.unwrap();
    let seen = server.seen();
    let sent: Vec<_> = seen.iter().map(|seen| seen.header("authorization")).collect();
    assert_eq!(sent, [Some(BASIC), None, Some("Basic X190b2tlbl9fOg==")], "a URL's own credentials go first");
}

#[tokio::test]
async fn no_message_has_a_secret() {
    let acts =
        ["401 Unauthorized", "403 Forbidden", "404 Not Found", "418 I'm a teapot", "302 Found", "200 OK"];
    for status in acts {
        let act = Act::Send(response(status, &[("Content-Type", "text/html"), ("Content-Length", "0")], b""));
        let server = Server::start(b"", None, [act]).await;
        let mut url = with_login(server.url("/pandas.whl"));
        url.set_query(Some("X-Signature=s3cret"));
        let root = tempfile::tempdir().unwrap();
        let store = BlobStore::open(root.path()).unwrap();
        let digest = Some(Digest::of("x"));
        let download = Download { url, digest, size: None, what: "pandas".to_owned() };
        let error = Fetcher::new(config()).fetch(&download, &store, &|_| {}).await.unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("s3cret") && !shown.contains("bWU6"), "{shown}");
        assert!(error.to_string().contains("pandas"), "{error}");
    }
    let dead = with_login(Url::parse("http://127.0.0.1:1/?s3cret").unwrap());
    let error = text(&dead).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
}

#[tokio::test]
async fn redirects_end() {
    let server = Server::start(b"", None, vec![redirect("/again"); 50]).await;
    let error = text(&server.url("/")).await.unwrap_err();
    assert!(error.to_string().contains("more than ten times"), "{error}");
    assert_eq!(server.seen().len(), 11);
    let server = Server::start(b"", None, [redirect("ftp://h/x")]).await;
    assert!(matches!(text(&server.url("/")).await, Err(FetchError::Redirect { .. })));
}

#[tokio::test]
async fn documents_come_whole_in_part_or_not_at_all() {
    let server = Server::start(b"0123456789", Some("\"one\""), []).await;
    let fetcher = Fetcher::new(config());
    let whole = Get::new(server.url("/index"), 10);
    let document = fetcher.get(&whole).await.unwrap().unwrap();
    assert_eq!(
        (document.bytes.as_slice(), document.start, document.total),
        (b"0123456789".as_slice(), 0, Some(10))
    );
    assert_eq!(document.etag.as_deref(), Some("\"one\""));
    assert_eq!(document.url, server.url("/index"));

    let unchanged = Get { unless_etag: document.etag, ..whole.clone() };
    assert_eq!(fetcher.get(&unchanged).await.unwrap(), None);

    let tail =
        Get { range: Some(ByteRange::Last(3)), limit: 3, accept: Some("x/y".to_owned()), ..whole.clone() };
    let document = fetcher.get(&tail).await.unwrap().unwrap();
    assert_eq!((document.bytes.as_slice(), document.start, document.total), (b"789".as_slice(), 7, Some(10)));
    assert_eq!(server.seen().last().unwrap().header("accept"), Some("x/y"));
    let middle = Get { range: Some(ByteRange::From(2, 4)), ..tail.clone() };
    assert_eq!(fetcher.get(&middle).await.unwrap().unwrap().bytes, b"23");

    let error = fetcher.get(&Get { limit: 9, ..whole.clone() }).await.unwrap_err();
    assert!(matches!(error, FetchError::TooLarge { limit: 9, .. }), "{error}");

    let rangeless = response("200 OK", &[("Content-Length", "10")], b"0123456789");
    let server = Server::start(b"", None, [Act::Send(rangeless)]).await;
    let error = fetcher.get(&Get { url: server.url("/"), ..tail }).await.unwrap_err();
    assert!(matches!(error, FetchError::NoRanges { .. }), "{error}");

    let endless = response("200 OK", &[("Transfer-Encoding", "chunked")], b"b\r\n01234567890\r\n");
    let server = Server::start(b"", None, [Act::Stall(endless)]).await;
    let error = fetcher.bytes(&server.url("/"), 10).await.unwrap_err();
    assert!(matches!(error, FetchError::TooLarge { .. }), "{error}");

    let server = Server::start(b"\xff", None, []).await;
    assert!(matches!(text(&server.url("/")).await, Err(FetchError::NotText { .. })));
    let cut = response("200 OK", &[("Content-Length", "10")], b"01234");
    let server = Server::start(b"0123456789", None, [Act::Send(cut)]).await;
    assert_eq!(
        text(&server.url("/")).await.unwrap(),
        "0123456789",
        "a truncated document is asked for again"
    );
}

#[tokio::test]
async fn documents_of_this_machine_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index.html");
    fs::write(&path, "0123456789").unwrap();
    let url = Url::from_file_path(&path).unwrap();
    let fetcher = Fetcher::new(config());
    assert_eq!(fetcher.text(&url, 10).await.unwrap(), "0123456789");
    assert!(matches!(fetcher.text(&url, 9).await, Err(FetchError::TooLarge { .. })));
    for (range, bytes, start) in [
        (ByteRange::Last(4), "6789", 6),
        (ByteRange::From(2, 4), "23", 2),
        (ByteRange::Last(99), "0123456789", 0),
        (ByteRange::From(8, 99), "89", 8),
    ] {
        let document =
            fetcher.get(&Get { range: Some(range), ..Get::new(url.clone(), 10) }).await.unwrap().unwrap();
        assert_eq!(
            (document.bytes.as_slice(), document.start, document.total),
            (bytes.as_bytes(), start, Some(10))
        );
    }
}

#[tokio::test]
async fn a_proxy_is_used_and_named_when_it_fails() {
    let proxy = Server::start(b"through the proxy", None, []).await;
    let mut through = config();
    through.web.proxy = ProxySource::Fixed(with_login(proxy.url("/")));
    let url = Url::parse("http://packages.invalid/index").unwrap();
    let fetcher = Fetcher::new(through.clone());
    assert_eq!(fetcher.text(&url, 100).await.unwrap(), "through the proxy");
    assert_eq!(proxy.seen()[0].line(), "GET http://packages.invalid/index HTTP/1.1");
    assert_eq!(proxy.seen()[0].header("proxy-authorization"), Some(BASIC));

    let secure = Url::parse("https://packages.invalid/index").unwrap();
    let forbidden = Act::Send(response("403 Forbidden", &[("Content-Length", "0")], b""));
    let proxy = Server::start(b"", None, vec![forbidden; 9]).await;
    through.web.proxy = ProxySource::Fixed(with_login(proxy.url("/")));
    let error = Fetcher::new(through.clone()).text(&secure, 100).await.unwrap_err();
    let message = error.to_string();
    assert!(matches!(error, FetchError::Unreachable { fault: Fault::Proxy { .. }, .. }), "{message}");
    assert!(
        message.contains(&format!("127.0.0.1:{}", proxy.port)) && !message.contains("s3cret"),
        "{message}"
    );
    assert_eq!(proxy.seen()[0].line(), "CONNECT packages.invalid:443 HTTP/1.1");

    through.web.proxy = ProxySource::Fixed(Url::parse("http://127.0.0.1:1").unwrap());
    let error = Fetcher::new(through).text(&url, 100).await.unwrap_err();
    assert!(error.to_string().contains("the proxy http://127.0.0.1:1"), "{error}");
}

/// A server with a certificate of an authority that nobody knows. Gives the authority's certificate.
async fn secure_server(body: &'static [u8], acts: Vec<Act>) -> (Server, u16, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = rcgen::CertifiedIssuer::self_signed(params, key).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .signed_by(&key, &authority)
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.serialize_der().try_into().unwrap())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let server = Server::start(body, None, acts).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answering = server.clone();
    tokio::spawn(async move {
        loop {
            let (connection, _) = listener.accept().await.unwrap();
            let (acceptor, server) = (acceptor.clone(), answering.clone());
            tokio::spawn(async move {
                if let Ok(connection) = acceptor.accept(connection).await {
                    let (_, mut connection) = server.answer(connection).await;
                    let _ = connection.shutdown().await;
                }
            });
        }
    });
    (server, port, authority.pem())
}

#[tokio::test]
async fn an_unknown_authority_is_called_by_its_name() {
    let (_server, port, _) = secure_server(b"text", Vec::new()).await;
    let url = Url::parse(&format!("https://localhost:{port}/")).unwrap();
    let error = text(&url).await.unwrap_err();
    assert!(
        matches!(error, FetchError::Unreachable { fault: Fault::UnknownAuthority { .. }, .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("SSL_CERT_FILE") && !error.is_retryable(), "{error}");
}

/// The environment can be set only for another process: this one again, in the role below.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_environment_is_honoured() {
    let folder = tempfile::tempdir().unwrap();
    let downgraded = redirect("http://localhost:1/");
    let (server, port, authority) = secure_server(b"text", vec![Act::Serve, downgraded]).await;
    let proxy = Server::start(b"through the proxy", None, []).await;
    let (bundle, netrc) = (folder.path().join("bundle.pem"), folder.path().join("netrc"));
    fs::write(&bundle, authority).unwrap();
    fs::write(&netrc, "machine localhost login me password s3cret").unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "--nocapture", "hosts::uses_the_environment"]);
    for name in
        ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "no_proxy", "SSL_CERT_DIR"]
    {
        command.env_remove(name);
    }
    command.env("SSL_CERT_FILE", &bundle).env("NETRC", &netrc).env("NO_PROXY", "localhost");
    command.env("http_proxy", proxy.url("/").as_str()).env("TEST_PORT", port.to_string());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("test result: ok. 1 passed"), "{text}");
    assert_eq!(server.seen()[0].header("authorization"), Some(BASIC));
    assert_eq!(proxy.seen()[0].line(), "GET http://packages.invalid/ HTTP/1.1");
}

#[tokio::test]
#[ignore = "a role"]
async fn uses_the_environment() {
    let config = longshore_fetch::FetchConfig {
        web: WebConfig { proxy: ProxySource::Environment, ..config().web },
        netrc: NetrcSource::Environment,
        ..config()
    };
    let fetcher = Fetcher::new(config);
    let port = std::env::var("TEST_PORT").unwrap();
    let secure = Url::parse(&format!("https://localhost:{port}/")).unwrap();
    assert_eq!(fetcher.text(&secure, 100).await.unwrap(), "text");
    let error = fetcher.text(&secure, 100).await.unwrap_err();
    assert!(error.to_string().contains("from https to http"), "{error}");
    let plain = Url::parse("http://packages.invalid/").unwrap();
    assert_eq!(fetcher.text(&plain, 100).await.unwrap(), "through the proxy");
}

/// Debian's mirrors are plain http: a machine without any authority must reach them.
#[tokio::test]
async fn plain_http_needs_no_trust_store() {
    let server = Server::start(b"text", None, []).await;
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "--nocapture", "hosts::has_no_trust_store"]);
    command.env("SSL_CERT_FILE", "/no/such/file").env("SSL_CERT_DIR", "/no/such/folder");
    command.env("TEST_PORT", server.port.to_string());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("test result: ok. 1 passed"), "{text}");
}

#[tokio::test]
#[ignore = "a role"]
async fn has_no_trust_store() {
    let port = std::env::var("TEST_PORT").unwrap();
    let url = Url::parse(&format!("http://localhost:{port}/")).unwrap();
    assert_eq!(text(&url).await.unwrap(), "text");
    let (_server, port, _) = secure_server(b"text", Vec::new()).await;
    let secure = Url::parse(&format!("https://localhost:{port}/")).unwrap();
    assert!(matches!(
        text(&secure).await,
        Err(FetchError::Unreachable { fault: Fault::UnknownAuthority { .. }, .. })
    ));
}
