//! Lock files of projects, as uv writes them. The network is not needed: a lock says everything.

use std::{fs, path::Path};

use longshore_oci::Arch;
use longshore_python::{
    Error,
    lock::{Artifact, BuiltWheel, Lock, LockedPackage, Origin, PinnedWheel, Selection, Source, SourceForm},
    lockfile::{LockFile, LockKind},
    target::{Glibc, PythonVersion, Target},
    uv::{Environment, Indexes, Search},
};

const TARGET: Target =
    Target { python: PythonVersion::new(3, 11, 2), arch: Arch::Amd64, glibc: Glibc { major: 2, minor: 36 } };

fn file(path: &Path, target: Target) -> LockFile {
    LockFile {
        path: path.to_owned(),
        extras: Vec::new(),
        groups: Vec::new(),
        target,
        indexes: Indexes::default(),
        interpreter: None,
        required: Vec::new(),
    }
}

fn select(file: &LockFile) -> Result<Selection, Error> {
    let search = Search { path: std::env::var_os("PATH"), ..Search::default() };
    file.select(&search, &Environment::of_process())
}

fn data() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/locks")
}

fn versions(selection: &Selection) -> Vec<String> {
    let version = |version: &Option<longshore_python::Version>| {
        version.as_ref().map(ToString::to_string).unwrap_or_default()
    };
    selection
        .packages
        .iter()
        .map(|package| format!("{} {}", package.name, version(&package.version)))
        .collect()
}

#[test]
fn markers_and_wheels_are_chosen_for_the_target() {
    let path = data().join("pylock.toml");
    for (target, wheel) in [
        (TARGET, "cp311-cp311-manylinux_2_17_x86_64"),
        (Target { arch: Arch::Arm64, ..TARGET }, "cp311-cp311-manylinux_2_17_aarch64"),
        (Target { python: PythonVersion::new(3, 13, 1), ..TARGET }, "cp313-cp313-manylinux_2_17_x86_64"),
    ] {
        let lock = select(&file(&path, target)).unwrap();
        let found = lock.get(&"markupsafe".parse().unwrap()).unwrap();
        match &found.artifact {
            Artifact::Wheel(found) => assert!(found.filename.as_str().contains(wheel), "{}", found.filename),
            Artifact::Source(source) => panic!("{source:?}"),
        }
        assert!(lock.get(&"colorama".parse().unwrap()).is_none(), "it is for Windows");
    }
    // There is no wheel of it for this one; its source is.
    let lock = select(&file(&path, Target { python: PythonVersion::new(3, 9, 1), ..TARGET })).unwrap();
    assert!(matches!(lock.get(&"markupsafe".parse().unwrap()).unwrap().artifact, Artifact::Source(_)));
    let old = Target { python: PythonVersion::new(3, 8, 1), ..TARGET };
    let said = select(&file(&path, old)).unwrap_err().to_string();
    assert!(said.contains("requires Python >=3.9, and the image has Python 3.8.1"), "{said}");
}

#[test]
fn a_uv_lock_gives_the_extras_and_groups_that_are_asked_for() {
    let plain = file(&data().join("project/uv.lock"), TARGET);
    assert_eq!(versions(&select(&plain).unwrap()), ["idna 3.20", "markupsafe 3.0.2"]);
    let all = LockFile { extras: vec!["web".into()], groups: vec!["dev".into()], ..plain.clone() };
    let selected = select(&all).unwrap();
    assert_eq!(versions(&selected), ["idna 3.20", "markupsafe 3.0.2", "six 1.16.0", "toml 0.10.2"]);
    let environment = Environment::of_process();
    assert_ne!(plain.key(&environment).unwrap(), all.key(&environment).unwrap());
    let said = select(&LockFile { groups: vec!["nope".into()], ..plain }).unwrap_err().to_string();
    assert!(said.contains("`nope`"), "{said}");
}

#[test]
fn a_lock_that_does_not_satisfy_what_is_required_is_refused() {
    let plain = file(&data().join("project/uv.lock"), TARGET);
    let required = vec!["idna>=3".into(), "colorama; sys_platform == 'win32'".into(), "MarkupSafe".into()];
    select(&LockFile { required, ..plain.clone() }).unwrap();
    let required = vec!["idna<3".into(), "flask".into()];
    let said = select(&LockFile { required, ..plain }).unwrap_err().to_string();
    assert!(said.contains("`idna<3` is required, and the lock has idna 3.20; `flask` is required"), "{said}");
}

#[test]
fn the_name_says_whose_lock_it_is() {
    for (name, kind) in [
        ("uv.lock", LockKind::Uv),
        ("pylock.toml", LockKind::Pylock),
        ("pylock.gpu.toml", LockKind::Pylock),
        ("poetry.lock", LockKind::Poetry),
        ("Pipfile.lock", LockKind::Pipenv),
    ] {
        assert_eq!(LockKind::of(&Path::new("/x").join(name)).unwrap(), kind);
    }
    assert!(LockKind::of(Path::new("/x/conda-lock.yml")).is_err());
    let said = select(&file(Path::new("/no/pylock.toml"), TARGET)).unwrap_err().to_string();
    assert!(said.starts_with("the lock file /no/pylock.toml cannot be used"), "{said}");
}

#[test]
fn what_is_written_is_read_back_as_the_same() {
    let digest = "sha256:26ecbc0c621e06b5790e7b800613b2d074a2bcd539045fcb4564b0ea234d8729".parse().unwrap();
    let wheel = |name: &str, url: &str, origin| PinnedWheel {
        filename: format!("{name}-1.0+local-py3-none-any.whl").parse().unwrap(),
        url: url.parse().unwrap(),
        size: Some(5),
        digest,
        origin,
    };
    let archive = SourceForm::Archive {
        url: "https://h.invalid/d-1.0.tar.gz".parse().unwrap(),
        filename: "d-1.0.tar.gz".into(),
        digest,
        size: None,
        origin: Origin::Index,
    };
    let git = SourceForm::Git { url: "https://h.invalid/e.git".into(), commit: "abc".into() };
    let sources = [
        ("a", "https://h.invalid/a-1.0%2Blocal-py3-none-any.whl", Origin::Index, None),
        ("b", "https://h.invalid/b-1.0%2Blocal-py3-none-any.whl", Origin::Direct, None),
        ("c", "file:///w/c-1.0+local-py3-none-any.whl", Origin::Direct, None),
        ("d", "https://h.invalid/d-1.0.tar.gz", Origin::Index, Some((archive, None))),
        ("e", "git+https://h.invalid/e.git@abc", Origin::Direct, Some((git, Some("py \"x\"".to_owned())))),
        ("f", "file:///w/f", Origin::Direct, Some((SourceForm::Folder { path: "/w/f".into() }, None))),
    ];
    let packages = sources.into_iter().map(|(name, url, origin, source)| LockedPackage {
        name: name.parse().unwrap(),
        version: "1.0+local".parse().unwrap(),
        wheel: wheel(name, url, origin),
        source: source.map(|(form, subdirectory)| Source { form, subdirectory, built: None }),
    });
    let lock = Lock { packages: packages.collect(), ..Lock::default() };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pylock.toml");
    fs::write(&path, lock.to_pylock("==3.11.*")).unwrap();
    let read = select(&file(&path, TARGET)).unwrap();
    assert_eq!(read.packages.len(), lock.packages.len());
    for (read, written) in read.packages.iter().zip(&lock.packages) {
        match (&read.artifact, &written.source) {
            (Artifact::Wheel(wheel), None) => assert_eq!(wheel, &written.wheel),
            (Artifact::Source(read), Some(source)) => {
                assert_eq!((&read.form, &read.subdirectory), (&source.form, &source.subdirectory));
                let BuiltWheel { filename, digest, size } = read.built.clone().unwrap();
                let wheel = &written.wheel;
                assert_eq!((filename, digest, size), (wheel.filename.clone(), wheel.digest, wheel.size));
            }
            other => panic!("{other:?}"),
        }
    }
}
