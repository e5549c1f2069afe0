//! The programs that people use with registries: images go in and out unchanged.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test may panic")]

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::{Command, Output},
};

use longshore_registry::{ServeConfig, Server};
use longshore_store::Registry;

/// A server in a thread of its own, since the programs are waited for.
fn serve(root: &Path) -> SocketAddr {
    let registry = Registry::open(root).unwrap();
    let config = ServeConfig { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), ..ServeConfig::default() };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let server = runtime.block_on(Server::bind(registry, config)).unwrap();
    let address = server.address();
    std::thread::spawn(move || runtime.block_on(server.run(std::future::pending())));
    address
}

fn run(program: &str, arguments: &[&str]) -> Output {
    let output =
        Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
    output
}

fn skopeo(arguments: &[&str]) -> Output {
    run("skopeo", &[&["--insecure-policy"], arguments].concat())
}

/// An image layout with a layer of each size, made by umoci.
fn image(folder: &Path, name: &str, sizes: &[usize]) -> String {
    let layout = folder.join(name).display().to_string();
    let reference = format!("{layout}:latest");
    run("umoci", &["init", "--layout", &layout]);
    run("umoci", &["new", "--image", &reference]);
    for (i, size) in sizes.iter().enumerate() {
        let file = folder.join(format!("{name}-{i}"));
        // Incompressible enough to make blobs of this size.
        let bytes: Vec<u8> = (0..*size as u64)
            .scan(i as u64 + 1, |state, _| {
                *state =
                    state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                Some(state.to_le_bytes()[7])
            })
            .collect();
        fs::write(&file, bytes).unwrap();
        let target = format!("/data/{i}");
        run("umoci", &["insert", "--rootless", "--image", &reference, file.to_str().unwrap(), &target]);
    }
    layout
}

/// The blobs that an image in a layout consists of, by name.
fn blobs(layout: &str) -> BTreeMap<String, Vec<u8>> {
    let inspected = skopeo(&["inspect", "--raw", &format!("oci:{layout}:latest")]).stdout;
    let manifest: serde_json::Value = serde_json::from_slice(&inspected).unwrap();
    let layers = manifest["layers"].as_array().unwrap();
    let mut found = BTreeMap::from([("manifest".to_owned(), inspected)]);
    for blob in layers.iter().chain([&manifest["config"]]) {
        let hex = blob["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        found.insert(hex.to_owned(), fs::read(Path::new(layout).join("blobs/sha256").join(hex)).unwrap());
    }
    found
}

#[test]
fn skopeo_copies_in_and_out_byte_for_byte_and_umoci_unpacks_it() {
    let folder = tempfile::tempdir().unwrap();
    let address = serve(&folder.path().join("registry"));
    let layout = image(folder.path(), "in", &[10, 3_000_000, 100_000]);
    let remote = format!("docker://{address}/team/app:v1");
    skopeo(&["copy", "--dest-tls-verify=false", &format!("oci:{layout}:latest"), &remote]);
    let out = folder.path().join("out").display().to_string();
    skopeo(&["copy", "--src-tls-verify=false", &remote, &format!("oci:{out}:latest")]);
    assert_eq!(blobs(&out), blobs(&layout));

    let bundle = folder.path().join("bundle").display().to_string();
    run("umoci", &["unpack", "--rootless", "--image", &format!("{out}:latest"), &bundle]);
    let unpacked = fs::read(Path::new(&bundle).join("rootfs/data/1")).unwrap();
    assert_eq!(unpacked, fs::read(folder.path().join("in-1")).unwrap());

    // Once more to another repository: the blobs are mounted. And as Docker's format.
    let second = format!("docker://{address}/team/other/app:v1");
    let insecure = ["--src-tls-verify=false", "--dest-tls-verify=false"];
    skopeo(&["copy", insecure[0], insecure[1], &remote, &second]);
    let docker = format!("docker://{address}/team/docker:v1");
    skopeo(&["copy", "--format", "v2s2", insecure[0], insecure[1], &remote, &docker]);
    let inspected = skopeo(&["inspect", "--tls-verify=false", "--raw", &docker]).stdout;
    assert!(
        String::from_utf8_lossy(&inspected).contains("application/vnd.docker.distribution.manifest.v2+json")
    );

    let tags = skopeo(&["list-tags", "--tls-verify=false", &format!("docker://{address}/team/app")]).stdout;
    assert!(String::from_utf8_lossy(&tags).contains("\"v1\""));
    skopeo(&["delete", "--tls-verify=false", &remote]);
    let registry = Registry::open(folder.path().join("registry")).unwrap();
    let left: Vec<_> = registry.repositories().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(left, ["team/docker", "team/other/app"]);
}

#[test]
fn many_push_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let address = serve(&folder.path().join("registry"));
    // All have their first layer in common.
    let layouts: Vec<_> =
        (0..6_usize).map(|i| image(folder.path(), &format!("in{i}"), &[500_000, 1_000 + i])).collect();
    std::thread::scope(|scope| {
        for (i, layout) in layouts.iter().enumerate() {
            scope.spawn(move || {
                for tag in ["latest".to_owned(), format!("v{i}")] {
                    let remote = format!("docker://{address}/team/app:{tag}");
                    skopeo(&["copy", "--dest-tls-verify=false", &format!("oci:{layout}:latest"), &remote]);
                }
            });
        }
    });
    let registry = Registry::open(folder.path().join("registry")).unwrap();
    for digest in registry.blobs().digests().unwrap() {
        registry.blobs().verify(&digest).unwrap();
    }
    let latest = registry.resolve(&"team/app".parse().unwrap(), &"latest".parse().unwrap()).unwrap();
    let mut pushed = Vec::new();
    for (i, layout) in layouts.iter().enumerate() {
        let out = folder.path().join(format!("out{i}")).display().to_string();
        let remote = format!("docker://{address}/team/app:v{i}");
        skopeo(&["copy", "--src-tls-verify=false", &remote, &format!("oci:{out}:latest")]);
        assert_eq!(blobs(&out), blobs(layout));
        pushed.push(longshore_oci::Digest::of(&blobs(layout)["manifest"]));
    }
    assert!(pushed.contains(&latest.unwrap()), "one of the pushers of `latest` was the last");
    let unfinished = fs::read_dir(folder.path().join("registry/uploads")).map_or(0, Iterator::count);
    assert_eq!(unfinished, 0, "nobody left an upload behind");
}
