//! What the tests share: real wheels, real layers.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "of tests")]
#![allow(dead_code, reason = "each test uses its part")]

use std::{
    collections::BTreeMap,
    io::Read as _,
    path::{Path, PathBuf},
    process::Command,
};

use longshore_fetch::{Download, FetchConfig, Fetcher};
use longshore_layer::{
    Kind,
    read::{Change, Compression, LayerReader},
};
use longshore_oci::{Arch, Digest};
use longshore_python::{
    install::Venv,
    layers::OpenLayer,
    lock::Lock,
    plan::WheelLayer,
    requirements::Requirements,
    target::{Glibc, PythonVersion, Target},
    uv::{Dependencies, Environment, Freshness, Indexes, LockRequest, Search, Uv},
};
use longshore_store::{Blob, BlobStore};

/// The tests need uv on PATH.
pub(crate) fn uv() -> Uv {
    let search = Search { path: std::env::var_os("PATH"), ..Search::default() };
    search.find(&Environment::of_process()).unwrap()
}

/// The version of a Python program.
pub(crate) fn version(python: &Path) -> PythonVersion {
    let script = "import sys; print('%d.%d.%d' % sys.version_info[:3])";
    let output = Command::new(python).args(["-I", "-c", script]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

/// The Python 3.11 that the comparison runs with: the system's, where it is one.
pub(crate) fn python311() -> PathBuf {
    let found = ["/usr/bin/python3.11", "/usr/local/bin/python3.11"].map(PathBuf::from);
    found.into_iter().find(|path| path.exists()).expect("the comparison with uv needs a Python 3.11")
}

/// What wheels are for in these tests.
pub(crate) fn target(python: PythonVersion) -> Target {
    Target { python, arch: Arch::host().unwrap(), glibc: Glibc { major: 2, minor: 36 } }
}

/// Locks requirements, asking this Python.
pub(crate) fn lock(requirements: Requirements, folder: &Path, python: &Path) -> Lock {
    let request = LockRequest {
        requirements,
        project: None,
        dependencies: Dependencies::Followed,
        folder: folder.to_owned(),
        target: target(version(python)),
        indexes: Indexes::default(),
        exclude_newer: None,
        preferred: Vec::new(),
        interpreter: Some(python.to_owned()),
    };
    uv().lock(&request, Freshness::Keep(None), &Environment::of_process()).unwrap().of_wheels().unwrap()
}

/// The wheels of a lock, downloaded. They are kept between runs, and checked on every one.
pub(crate) fn wheels(lock: &Lock) -> BlobStore {
    let store = BlobStore::open(Path::new(env!("CARGO_TARGET_TMPDIR")).join("wheels")).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let fetcher = Fetcher::new(FetchConfig::default());
        let downloads: Vec<Download> = lock
            .packages
            .iter()
            .map(|package| Download {
                url: package.wheel.url.clone(),
                digest: Some(package.wheel.digest),
                size: package.wheel.size,
                what: package.wheel.filename.to_string(),
            })
            .collect();
        let mut tasks = tokio::task::JoinSet::new();
        for download in downloads {
            let (fetcher, store) = (fetcher.clone(), store.clone());
            tasks.spawn(async move { fetcher.fetch(&download, &store, &|_| ()).await.unwrap() });
        }
        tasks.join_all().await;
    });
    store
}

/// A layer's wheels, opened.
pub(crate) fn open(layer: &WheelLayer, venv: &Venv, store: &BlobStore) -> OpenLayer<Blob> {
    OpenLayer::open(layer, venv, |wheel| store.open_blob(&wheel.digest).map_err(std::io::Error::other))
        .unwrap()
}

/// What is at a path.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Found {
    Directory { mode: u32 },
    File { mode: u32, size: u64, digest: Digest, text: Option<String> },
    Symlink(String),
}

impl std::fmt::Debug for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Directory { mode } => write!(f, "folder {mode:o}"),
            Self::File { mode, size, digest, .. } => {
                write!(f, "file {mode:o} of {size} bytes {}", digest.short())
            }
            Self::Symlink(target) => write!(f, "link to {target}"),
        }
    }
}

/// Adds what a layer has to what the layers below have. Checks the layer while reading.
pub(crate) fn unpack(bytes: &[u8], into: &mut BTreeMap<String, Found>) {
    let mut reader = LayerReader::new(bytes, Compression::Gzip).unwrap();
    while let Some(mut entry) = reader.next_entry().unwrap() {
        let Change::Put(header) = entry.change().clone() else { panic!("a whiteout") };
        assert_eq!((header.uid, header.gid, header.mtime), (0, 0, 0));
        let found = match header.kind {
            Kind::Directory => Found::Directory { mode: header.mode },
            Kind::Symlink { target } => Found::Symlink(target),
            Kind::File => {
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                file(header.path.as_str(), header.mode, content)
            }
            other => panic!("{other:?}"),
        };
        into.insert(header.path.to_string(), found);
    }
}

/// A file as it is compared: the text only of RECORD, whose lines are looked at one by one.
fn file(path: &str, mode: u32, content: Vec<u8>) -> Found {
    let (size, digest) = (content.len() as u64, Digest::of(&content));
    let text = path.ends_with(".dist-info/RECORD").then(|| String::from_utf8(content).unwrap());
    Found::File { mode, size, digest, text }
}

/// The content of one file of a layer.
pub(crate) fn content(bytes: &[u8], path: &str) -> Option<Vec<u8>> {
    let mut reader = LayerReader::new(bytes, Compression::Gzip).unwrap();
    while let Some(mut entry) = reader.next_entry().unwrap() {
        if matches!(entry.change(), Change::Put(header) if header.path.as_str() == path) {
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            return Some(content);
        }
    }
    None
}

/// What a folder has, by path without the leading slash.
pub(crate) fn walk(folder: &Path) -> BTreeMap<String, Found> {
    use std::os::unix::fs::PermissionsExt as _;
    let entries = walkdir::WalkDir::new(folder).min_depth(1);
    entries
        .into_iter()
        .map(|entry| {
            let entry = entry.unwrap();
            let path = entry.path().to_str().unwrap().trim_start_matches('/').to_owned();
            let metadata = entry.metadata().unwrap();
            let mode = metadata.permissions().mode() & 0o7777;
            let found = if metadata.is_symlink() {
                Found::Symlink(std::fs::read_link(entry.path()).unwrap().to_str().unwrap().to_owned())
            } else if metadata.is_dir() {
                Found::Directory { mode }
            } else {
                file(&path, mode, std::fs::read(entry.path()).unwrap())
            };
            (path, found)
        })
        .collect()
}
