//! The end points of the distribution specification, one after the other, as a client sees them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test may panic")]

use std::net::{Ipv4Addr, SocketAddr};

use longshore_oci::{Descriptor, Digest, Index, Manifest, MediaType};
use longshore_registry::{Exposure, RegistryError, ServeConfig, Server};
use longshore_store::Registry;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, header};
use serde_json::{Value, json};
use tokio::sync::oneshot;

/// A server on a free port, and a client of it.
struct Test {
    root: tempfile::TempDir,
    base: String,
    client: Client,
    stop: Option<oneshot::Sender<()>>,
    running: Option<tokio::task::JoinHandle<Result<(), RegistryError>>>,
}

impl Test {
    async fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        let client =
            Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let mut test = Self { root, base: String::new(), client, stop: None, running: None };
        test.serve().await;
        test
    }

    async fn serve(&mut self) {
        let config =
            ServeConfig { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), ..ServeConfig::default() };
        let server = Server::bind(self.registry(), config).await.unwrap();
        self.base = format!("http://{}", server.address());
        let (stop, stopped) = oneshot::channel();
        self.stop = Some(stop);
        self.running = Some(tokio::spawn(server.run(async {
            let _ = stopped.await;
        })));
    }

    /// Stops the server as a signal would, and waits for its end.
    async fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.running.take().unwrap().await.unwrap().unwrap();
    }

    /// The registry as another process sees it.
    fn registry(&self) -> Registry {
        Registry::open(self.root.path()).unwrap()
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    async fn send(&self, method: Method, path: &str) -> Response {
        self.request(method, path).send().await.unwrap()
    }

    /// Puts a blob at once.
    async fn blob(&self, repository: &str, bytes: &'static [u8]) -> Digest {
        let digest = Digest::of(bytes);
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        let response = self.request(Method::POST, &path).body(bytes).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::CREATED);
        digest
    }

    async fn manifest(
        &self,
        repository: &str,
        reference: &str,
        bytes: Vec<u8>,
        media_type: &MediaType,
    ) -> Response {
        let path = format!("/v2/{repository}/manifests/{reference}");
        let request = self.request(Method::PUT, &path).header(header::CONTENT_TYPE, media_type.as_str());
        request.body(bytes).send().await.unwrap()
    }

    /// An image with one layer, its blobs put.
    async fn image(&self, repository: &str, layer: &'static [u8]) -> Manifest {
        self.blob(repository, b"{}").await;
        self.blob(repository, layer).await;
        Manifest::image(
            Descriptor::of(MediaType::Config, b"{}"),
            vec![Descriptor::of(MediaType::LayerGzip, layer)],
        )
    }
}

fn header_of<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).unwrap_or_else(|| panic!("no {name}: {response:?}")).to_str().unwrap()
}

/// An answer with a status and a code of the specification.
async fn refused(response: Response, status: u16, code: &str) {
    let found = response.status().as_u16();
    let text = response.text().await.unwrap();
    let body: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{found}: {text}"));
    assert_eq!((found, body["errors"][0]["code"].as_str().unwrap()), (status, code), "{text}");
    assert!(!body["errors"][0]["message"].as_str().unwrap().is_empty());
}

#[tokio::test]
async fn the_base_says_which_api_this_is() {
    let test = Test::start().await;
    for path in ["/v2/", "/v2"] {
        let response = test.get(path).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(header_of(&response, "docker-distribution-api-version"), "registry/2.0");
    }
    refused(test.get("/").await, 404, "UNSUPPORTED").await;
    refused(test.send(Method::DELETE, "/v2/").await, 405, "UNSUPPORTED").await;
    refused(test.get("/v2/A/tags/list").await, 400, "NAME_INVALID").await;
}

#[tokio::test]
async fn a_blob_goes_in_at_once_and_comes_out_in_parts() {
    let test = Test::start().await;
    let digest = test.blob("a/b", b"0123456789").await;
    let path = format!("/v2/a/b/blobs/{digest}");
    let response = test.get(&path).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(header_of(&response, "docker-content-digest"), digest.to_string());
    assert_eq!(header_of(&response, "accept-ranges"), "bytes");
    let etag = header_of(&response, "etag").to_owned();
    assert_eq!(response.text().await.unwrap(), "0123456789");

    let head = test.send(Method::HEAD, &path).await;
    assert_eq!((head.status(), header_of(&head, "content-length")), (StatusCode::OK, "10"));
    assert_eq!(header_of(&head, "docker-content-digest"), digest.to_string());
    let known = test.request(Method::GET, &path).header(header::IF_NONE_MATCH, etag).send().await.unwrap();
    assert_eq!(known.status(), StatusCode::NOT_MODIFIED);

    for (range, bytes, content_range) in [
        ("bytes=2-4", "234", "bytes 2-4/10"),
        ("bytes=7-", "789", "bytes 7-9/10"),
        ("bytes=-1", "9", "bytes 9-9/10"),
    ] {
        let response = test.request(Method::GET, &path).header(header::RANGE, range).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT);
        assert_eq!(header_of(&response, "content-range"), content_range);
        assert_eq!(header_of(&response, "content-length"), bytes.len().to_string());
        assert_eq!(response.text().await.unwrap(), bytes);
    }
    let behind = test.request(Method::GET, &path).header(header::RANGE, "bytes=10-").send().await.unwrap();
    assert_eq!(header_of(&behind, "content-range"), "bytes */10");
    refused(behind, 416, "SIZE_INVALID").await;

    refused(test.get(&format!("/v2/other/blobs/{digest}")).await, 404, "BLOB_UNKNOWN").await;
    assert_eq!(
        test.send(Method::HEAD, &format!("/v2/other/blobs/{digest}")).await.status(),
        StatusCode::NOT_FOUND
    );
    refused(test.get("/v2/a/b/blobs/sha256:0").await, 400, "DIGEST_INVALID").await;
    assert_eq!(test.send(Method::DELETE, &path).await.status(), StatusCode::ACCEPTED);
    refused(test.get(&path).await, 404, "BLOB_UNKNOWN").await;
    refused(test.send(Method::DELETE, &path).await, 404, "BLOB_UNKNOWN").await;
}

#[tokio::test]
async fn an_empty_blob_is_a_blob() {
    let test = Test::start().await;
    let digest = test.blob("a", b"").await;
    let response = test.get(&format!("/v2/a/blobs/{digest}")).await;
    assert_eq!((response.status(), header_of(&response, "content-length")), (StatusCode::OK, "0"));
    assert_eq!(response.bytes().await.unwrap().len(), 0);
}

#[tokio::test]
async fn chunks_must_follow_on_each_other_and_survive_the_server() {
    let mut test = Test::start().await;
    let begun = test.send(Method::POST, "/v2/a/blobs/uploads/").await;
    assert_eq!((begun.status(), header_of(&begun, "range")), (StatusCode::ACCEPTED, "0-0"));
    let location = header_of(&begun, "location").to_owned();
    assert_eq!(location.rsplit('/').next(), Some(header_of(&begun, "docker-upload-uuid")));
    let chunk = |range: &'static str, body: &'static str| {
        test.request(Method::PATCH, &location).header(header::CONTENT_RANGE, range).body(body)
    };
    let response = chunk("0-3", "0123").send().await.unwrap();
    assert_eq!((response.status(), header_of(&response, "range")), (StatusCode::ACCEPTED, "0-3"));
    for (range, body) in [("0-3", "0123"), ("5-6", "56"), ("4-9", "45"), ("nonsense", "4")] {
        let response = chunk(range, body).send().await.unwrap();
        assert_eq!(header_of(&response, "range"), "0-3", "{range}");
        assert_eq!(header_of(&response, "location"), location);
        refused(response, 416, "BLOB_UPLOAD_INVALID").await;
    }
    // Without a range a chunk is what follows.
    let response = test.request(Method::PATCH, &location).body("45").send().await.unwrap();
    assert_eq!(header_of(&response, "range"), "0-5");
    refused(test.get(&location.replace("/a/", "/b/")).await, 404, "BLOB_UPLOAD_UNKNOWN").await;

    test.stop().await;
    test.serve().await;
    let status = test.get(&location).await;
    assert_eq!((status.status(), header_of(&status, "range")), (StatusCode::NO_CONTENT, "0-5"));
    let digest = Digest::of("0123456789");
    let path = format!("{location}?digest={digest}");
    let finish = || test.request(Method::PUT, &path).header(header::CONTENT_RANGE, "6-9").body("6789").send();
    let response = finish().await.unwrap();
    assert_eq!(response.status(), StatusCode::CREATED);
    assert_eq!(header_of(&response, "location"), format!("/v2/a/blobs/{digest}"));
    assert_eq!(test.get(&format!("/v2/a/blobs/{digest}")).await.text().await.unwrap(), "0123456789");
    assert_eq!(
        finish().await.unwrap().status(),
        StatusCode::CREATED,
        "a client may not have read the first answer"
    );
    refused(test.get(&location).await, 404, "BLOB_UPLOAD_UNKNOWN").await;
    test.registry().blobs().verify(&digest).unwrap();
}

#[tokio::test]
async fn a_blob_that_is_not_what_it_was_announced_as_is_not_kept() {
    let test = Test::start().await;
    let digest = Digest::of("right");
    let path = format!("/v2/a/blobs/uploads/?digest={digest}");
    refused(test.request(Method::POST, &path).body("wrong").send().await.unwrap(), 400, "DIGEST_INVALID")
        .await;
    let begun = test.send(Method::POST, "/v2/a/blobs/uploads/").await;
    let location = header_of(&begun, "location").to_owned();
    refused(test.send(Method::PUT, &location).await, 400, "DIGEST_INVALID").await;
    refused(test.send(Method::PUT, &format!("{location}?digest=sha256:0")).await, 400, "DIGEST_INVALID")
        .await;
    let put =
        test.request(Method::PUT, &format!("{location}?digest={digest}")).body("wrong").send().await.unwrap();
    refused(put, 400, "DIGEST_INVALID").await;
    refused(test.get(&location).await, 404, "BLOB_UPLOAD_UNKNOWN").await;
    assert!(test.registry().blobs().digests().unwrap().is_empty());
}

#[tokio::test]
async fn an_upload_can_be_given_up() {
    let test = Test::start().await;
    let begun = test.send(Method::POST, "/v2/a/blobs/uploads/").await;
    let location = header_of(&begun, "location").to_owned();
    assert_eq!(test.send(Method::DELETE, &location).await.status(), StatusCode::NO_CONTENT);
    refused(test.send(Method::DELETE, &location).await, 404, "BLOB_UPLOAD_UNKNOWN").await;
    refused(
        test.request(Method::PATCH, &location).body("x").send().await.unwrap(),
        404,
        "BLOB_UPLOAD_UNKNOWN",
    )
    .await;
}

#[tokio::test]
async fn a_blob_is_mounted_from_where_it_is_and_only_from_there() {
    let test = Test::start().await;
    let digest = test.blob("a", b"shared").await;
    let mount = async |from: &str| {
        test.send(Method::POST, &format!("/v2/b/blobs/uploads/?mount={digest}&from={from}")).await
    };
    let elsewhere = mount("c").await;
    assert_eq!(elsewhere.status(), StatusCode::ACCEPTED, "an upload is begun instead");
    assert!(header_of(&elsewhere, "location").starts_with("/v2/b/blobs/uploads/"));
    refused(test.get(&format!("/v2/b/blobs/{digest}")).await, 404, "BLOB_UNKNOWN").await;
    let mounted = mount("a").await;
    assert_eq!(mounted.status(), StatusCode::CREATED);
    assert_eq!(header_of(&mounted, "location"), format!("/v2/b/blobs/{digest}"));
    assert_eq!(test.get(&format!("/v2/b/blobs/{digest}")).await.text().await.unwrap(), "shared");
}

#[tokio::test]
async fn a_blob_is_mounted_from_wherever_it_is() {
    let test = Test::start().await;
    let digest = test.blob("a", b"shared").await;
    let mounted = test.send(Method::POST, &format!("/v2/b/blobs/uploads/?mount={digest}")).await;
    assert_eq!(mounted.status(), StatusCode::CREATED);
    assert_eq!(header_of(&mounted, "location"), format!("/v2/b/blobs/{digest}"));
    assert_eq!(test.get(&format!("/v2/b/blobs/{digest}")).await.text().await.unwrap(), "shared");
    let nowhere = Digest::of(b"nowhere");
    let begun = test.send(Method::POST, &format!("/v2/b/blobs/uploads/?mount={nowhere}")).await;
    assert_eq!(begun.status(), StatusCode::ACCEPTED, "an upload is begun instead");
}

#[tokio::test]
async fn what_is_said_about_a_manifest_is_listed() {
    let test = Test::start().await;
    let image = test.image("a", b"layer").await;
    let subject = Descriptor::of(MediaType::Manifest, &image.to_bytes());
    let list = async |query: &str| -> Value {
        let response = test.get(&format!("/v2/a/referrers/{}{query}", subject.digest)).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(header_of(&response, "content-type"), MediaType::Index.as_str());
        let is_filtered = response.headers().get("oci-filters-applied").map(|value| value.to_str().unwrap());
        assert_eq!(is_filtered, query.starts_with("?artifactType=").then_some("artifactType"));
        response.json().await.unwrap()
    };
    assert_eq!(list("").await["manifests"], json!([]), "not yet");

    let mut digests = Vec::new();
    for kind in ["application/vnd.sbom+json", "application/vnd.signature"] {
        let mut referrer = image.clone();
        referrer.subject = Some(subject.clone());
        referrer.artifact_type = Some(kind.to_owned());
        referrer.annotations.insert("kind".to_owned(), kind.to_owned());
        let bytes = referrer.to_bytes();
        let digest = Digest::of(&bytes);
        let put = test.manifest("a", &digest.to_string(), bytes.clone(), &MediaType::Manifest).await;
        assert_eq!(header_of(&put, "oci-subject"), subject.digest.to_string());
        digests.push((digest, kind, bytes.len()));
    }
    let put = test.manifest("a", "v1", image.to_bytes(), &MediaType::Manifest).await;
    assert!(put.headers().get("oci-subject").is_none());

    assert_eq!(list("").await["manifests"].as_array().unwrap().len(), 2);
    let (digest, kind, size) = &digests[0];
    let filtered = list("?artifactType=application%2Fvnd.sbom%2Bjson").await;
    let expected = json!([{
        "mediaType": MediaType::Manifest.as_str(),
        "digest": digest.to_string(),
        "size": size,
        "artifactType": kind,
        "annotations": { "kind": kind },
    }]);
    assert_eq!(filtered["manifests"], expected);
    assert_eq!(list("?artifactType=none").await["manifests"], json!([]));
    let deleted = test.send(Method::DELETE, &format!("/v2/a/manifests/{digest}")).await;
    assert_eq!(deleted.status(), StatusCode::ACCEPTED);
    assert_eq!(list("?artifactType=application%2Fvnd.sbom%2Bjson").await["manifests"], json!([]));
    assert_eq!(list("").await["manifests"].as_array().unwrap().len(), 1);
    refused(test.get("/v2/a/referrers/sha256:0").await, 400, "DIGEST_INVALID").await;
}

#[tokio::test]
async fn a_long_list_of_referrers_comes_in_pages() {
    let test = Test::start().await;
    let image = test.image("a", b"layer").await;
    let subject = Descriptor::of(MediaType::Manifest, b"subject");
    let mut left = std::collections::BTreeSet::new();
    for i in 0..5 {
        let mut referrer = image.clone();
        referrer.subject = Some(subject.clone());
        // Two of these fit into the 4 MiB that a client reads, and not three.
        referrer.annotations.insert(i.to_string(), "x".repeat(1_500_000));
        let bytes = referrer.to_bytes();
        left.insert(Digest::of(&bytes).to_string());
        let put = test.manifest("a", &i.to_string(), bytes, &MediaType::Manifest).await;
        assert_eq!(put.status(), StatusCode::CREATED);
    }
    let mut next = Some(format!("/v2/a/referrers/{}?artifactType={}", subject.digest, MediaType::Config));
    let mut pages = 0;
    while let Some(path) = next {
        let response = test.get(&path).await;
        next = response.headers().get(header::LINK).map(|link| {
            let link = link.to_str().unwrap();
            link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned()
        });
        let body = response.bytes().await.unwrap();
        assert!(body.len() <= 4 << 20);
        let index: Index = Index::parse(&body).unwrap();
        pages += 1;
        for manifest in index.manifests {
            assert!(left.remove(&manifest.digest.to_string()), "each once");
        }
    }
    assert_eq!((pages, left.len()), (3, 0));
}

#[tokio::test]
async fn manifests_come_back_as_they_were_put() {
    let test = Test::start().await;
    let manifest = test.image("a", b"layer").await.to_bytes();
    let digest = Digest::of(&manifest);
    let put = test.manifest("a", "v1", manifest.clone(), &MediaType::Manifest).await;
    assert_eq!(put.status(), StatusCode::CREATED);
    assert_eq!(header_of(&put, "docker-content-digest"), digest.to_string());
    assert_eq!(header_of(&put, "location"), format!("/v2/a/manifests/{digest}"));
    for reference in ["v1".to_owned(), digest.to_string()] {
        let path = format!("/v2/a/manifests/{reference}");
        for method in [Method::GET, Method::HEAD] {
            let response = test.send(method.clone(), &path).await;
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(header_of(&response, "content-type"), MediaType::Manifest.as_str());
            assert_eq!(header_of(&response, "content-length"), manifest.len().to_string());
            assert_eq!(header_of(&response, "docker-content-digest"), digest.to_string());
            let bytes = response.bytes().await.unwrap();
            assert_eq!(bytes, if method == Method::GET { &manifest[..] } else { b"" });
        }
    }
    let index = Index::new(vec![Descriptor::of(MediaType::Manifest, &manifest)]).to_bytes();
    assert_eq!(test.manifest("a", "all", index, &MediaType::Index).await.status(), StatusCode::CREATED);
    let all = test.get("/v2/a/manifests/all").await;
    assert_eq!(header_of(&all, "content-type"), MediaType::Index.as_str());

    assert_eq!(test.send(Method::DELETE, "/v2/a/manifests/all").await.status(), StatusCode::ACCEPTED);
    refused(test.send(Method::DELETE, "/v2/a/manifests/all").await, 404, "MANIFEST_UNKNOWN").await;
    assert_eq!(test.get("/v2/a/manifests/v1").await.status(), StatusCode::OK);
    let path = format!("/v2/a/manifests/{digest}");
    assert_eq!(test.send(Method::DELETE, &path).await.status(), StatusCode::ACCEPTED);
    refused(test.get("/v2/a/manifests/v1").await, 404, "MANIFEST_UNKNOWN").await;
    refused(test.get(&path).await, 404, "MANIFEST_UNKNOWN").await;
}

#[tokio::test]
async fn manifests_that_cannot_be_served_are_refused() {
    let test = Test::start().await;
    let image = test.image("a", b"layer").await;
    let put = async |bytes: &[u8], reference: &str, media_type: &MediaType| {
        test.manifest("a", reference, bytes.to_vec(), media_type).await
    };
    let mut missing = image.clone();
    missing.layers.push(Descriptor::of(MediaType::LayerGzip, b"missing"));
    refused(put(&missing.to_bytes(), "t", &MediaType::Manifest).await, 400, "MANIFEST_BLOB_UNKNOWN").await;
    let mut wrong = image.clone();
    wrong.layers[0].size = 1;
    refused(put(&wrong.to_bytes(), "t", &MediaType::Manifest).await, 400, "MANIFEST_INVALID").await;
    refused(put(b"{}", "t", &MediaType::Manifest).await, 400, "MANIFEST_INVALID").await;
    refused(put(&image.to_bytes(), "t", &MediaType::Index).await, 400, "MANIFEST_INVALID").await;
    refused(put(&image.to_bytes(), "t", &MediaType::LayerTar).await, 400, "MANIFEST_INVALID").await;
    let other = Digest::of("other").to_string();
    refused(put(&image.to_bytes(), &other, &MediaType::Manifest).await, 400, "DIGEST_INVALID").await;
    let long = vec![b' '; (4 << 20) + 1];
    refused(put(&long, "t", &MediaType::Manifest).await, 413, "MANIFEST_INVALID").await;
    refused(test.get("/v2/a/manifests/t").await, 404, "MANIFEST_UNKNOWN").await;
    refused(test.get("/v2/a/manifests/.not-a-tag").await, 404, "MANIFEST_UNKNOWN").await;
    // A blob that another repository has does not serve.
    let elsewhere = test.manifest("b", "t", image.to_bytes(), &MediaType::Manifest).await;
    refused(elsewhere, 400, "MANIFEST_BLOB_UNKNOWN").await;
    assert!(test.registry().repositories().unwrap().is_empty());

    // Docker's clients of old send no type; the manifest has it inside.
    let path = "/v2/a/manifests/untyped";
    let response = test.request(Method::PUT, path).body(image.to_bytes()).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn lists_come_in_pages() {
    let test = Test::start().await;
    refused(test.get("/v2/none/tags/list").await, 404, "NAME_UNKNOWN").await;
    let catalog: Value = test.get("/v2/_catalog").await.json().await.unwrap();
    assert_eq!(catalog, json!({ "repositories": [] }));
    for repository in ["a", "a/b", "c"] {
        let manifest = test.image(repository, b"layer").await.to_bytes();
        for tag in ["v1", "v10", "v2", "latest", "V0"] {
            test.manifest(repository, tag, manifest.clone(), &MediaType::Manifest).await;
        }
    }
    let all: Value = test.get("/v2/a/b/tags/list").await.json().await.unwrap();
    assert_eq!(all, json!({ "name": "a/b", "tags": ["V0", "latest", "v1", "v10", "v2"] }));

    let mut pages = Vec::new();
    let mut next = Some("/v2/a/b/tags/list?n=2".to_owned());
    while let Some(path) = next {
        let response = test.get(&path).await;
        next = response.headers().get(header::LINK).map(|link| {
            let (path, rel) = link.to_str().unwrap().strip_prefix('<').unwrap().split_once('>').unwrap();
            assert_eq!(rel, "; rel=\"next\"");
            path.to_owned()
        });
        let page: Value = response.json().await.unwrap();
        pages.push(page["tags"].clone());
    }
    assert_eq!(json!(pages), json!([["V0", "latest"], ["v1", "v10"], ["v2"]]));
    let last: Value = test.get("/v2/a/tags/list?last=v1&n=100").await.json().await.unwrap();
    assert_eq!(last["tags"], json!(["v10", "v2"]));
    let none: Value = test.get("/v2/a/tags/list?n=0").await.json().await.unwrap();
    assert_eq!(none["tags"], json!([]));
    refused(test.get("/v2/a/tags/list?n=-1").await, 400, "PAGINATION_NUMBER_INVALID").await;

    let first = test.get("/v2/_catalog?n=2").await;
    assert_eq!(header_of(&first, "link"), "</v2/_catalog?n=2&last=a/b>; rel=\"next\"");
    assert_eq!(first.json::<Value>().await.unwrap(), json!({ "repositories": ["a", "a/b"] }));
    let second: Value = test.get("/v2/_catalog?n=2&last=a%2Fb").await.json().await.unwrap();
    assert_eq!(second, json!({ "repositories": ["c"] }));
}

#[tokio::test]
async fn what_arrived_before_the_connection_broke_can_be_built_upon() {
    use tokio::io::AsyncWriteExt;
    let test = Test::start().await;
    let begun = test.send(Method::POST, "/v2/a/blobs/uploads/").await;
    let location = header_of(&begun, "location").to_owned();
    let whole: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();

    let mut connection =
        tokio::net::TcpStream::connect(test.base.strip_prefix("http://").unwrap()).await.unwrap();
    let head = format!("PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", whole.len());
    connection.write_all(head.as_bytes()).await.unwrap();
    connection.write_all(&whole[..2_000_000]).await.unwrap();
    drop(connection);

    // The server may take a moment to notice.
    let mut resumed = None;
    for _ in 0..500 {
        let status = test.get(&location).await;
        let (_, last) = header_of(&status, "range").split_once('-').unwrap();
        let length = last.parse::<usize>().unwrap() + 1;
        let rest = whole[length.min(whole.len())..].to_vec();
        let range = format!("{length}-{}", whole.len() - 1);
        let patch = test.request(Method::PATCH, &location).header(header::CONTENT_RANGE, range).body(rest);
        let patch = patch.send().await.unwrap();
        if patch.status() == StatusCode::ACCEPTED {
            resumed = Some(length);
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let resumed = resumed.expect("the upload can be taken up again");
    assert!(resumed <= 2_000_000, "{resumed}");
    let digest = Digest::of(&whole);
    let finished = test.send(Method::PUT, &format!("{location}?digest={digest}")).await;
    assert_eq!(finished.status(), StatusCode::CREATED);
    assert_eq!(test.registry().blobs().verify(&digest).unwrap(), whole.len() as u64);
}

#[tokio::test]
async fn a_request_in_flight_is_answered_before_the_server_stops() {
    let mut test = Test::start().await;
    let (sender, body) = tokio::sync::mpsc::channel::<Result<bytes::Bytes, std::io::Error>>(1);
    let body = futures::stream::unfold(body, |mut body| async { Some((body.recv().await?, body)) });
    let digest = Digest::of("first second");
    let path = format!("/v2/a/blobs/uploads/?digest={digest}");
    let request = test.request(Method::POST, &path).body(reqwest::Body::wrap_stream(body)).send();
    let request = tokio::spawn(request);
    sender.send(Ok("first ".into())).await.unwrap();
    // Taken out of the channel, so on its way to a server that has accepted.
    sender.send(Ok("second".into())).await.unwrap();
    let stopping = test.stop.take().unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    stopping.send(()).unwrap();
    drop(sender);
    assert_eq!(request.await.unwrap().unwrap().status(), StatusCode::CREATED);
    test.running.take().unwrap().await.unwrap().unwrap();
    let gone = test.request(Method::GET, "/v2/").send().await;
    assert!(gone.unwrap_err().is_connect());
    test.registry().blobs().verify(&digest).unwrap();
}

#[tokio::test]
async fn an_address_that_others_can_reach_needs_leave() {
    let root = tempfile::tempdir().unwrap();
    let bind = |listen: &str, exposure| {
        let config = ServeConfig { listen: listen.parse().unwrap(), exposure, ..ServeConfig::default() };
        Server::bind(Registry::open(root.path()).unwrap(), config)
    };
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "[::ffff:192.0.2.1]:0"] {
        let error = bind(address, Exposure::Loopback).await.unwrap_err();
        assert!(matches!(error, RegistryError::Exposed(_)), "{address}: {error}");
        assert!(error.to_string().contains("127.0.0.1"), "{error}");
    }
    bind("0.0.0.0:0", Exposure::Anyone).await.unwrap();
    let taken = bind("127.0.0.1:0", Exposure::Loopback).await.unwrap();
    let error = bind(&taken.address().to_string(), Exposure::Loopback).await.unwrap_err();
    assert!(matches!(error, RegistryError::Listen { .. }), "{error}");
}
