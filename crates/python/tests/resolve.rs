//! Resolution with the real uv and the configured package index.
//!
//! The packages and versions are ones that will not change: old releases, pinned.

use std::path::Path;

use longshore_oci::{Arch, Digest};
use longshore_python::{
    Error, Resolution,
    lock::{Artifact, PinnedWheel, Selected, Selection, SourceForm},
    project::Project,
    requirements::Requirements,
    target::{Glibc, PythonVersion, Target},
    uv::{Dependencies, Environment, Freshness, Indexes, LockRequest, Search, Uv},
};

const TARGET: Target =
    Target { python: PythonVersion::new(3, 11, 2), arch: Arch::Amd64, glibc: Glibc { major: 2, minor: 36 } };

/// The tests need uv on PATH.
#[expect(clippy::unwrap_used, reason = "a test's")]
fn uv() -> Uv {
    let search = Search { path: std::env::var_os("PATH"), ..Search::default() };
    search.find(&Environment::of_process()).unwrap()
}

fn request(lines: &[&str]) -> LockRequest {
    LockRequest {
        requirements: Requirements::List(lines.iter().map(ToString::to_string).collect()),
        project: None,
        dependencies: Dependencies::Followed,
        folder: std::env::temp_dir(),
        target: TARGET,
        indexes: Indexes::default(),
        exclude_newer: None,
        preferred: Vec::new(),
        interpreter: None,
    }
}

fn lock(request: &LockRequest) -> Result<Selection, Error> {
    uv().lock(request, Freshness::Keep(None), &Environment::of_process())
}

/// A package's wheel.
#[expect(clippy::panic, reason = "a test's")]
fn wheel_of(package: &Selected) -> &PinnedWheel {
    match &package.artifact {
        Artifact::Wheel(wheel) => wheel,
        Artifact::Source(source) => panic!("{source:?}"),
    }
}

fn refusal(lines: &[&str]) -> Resolution {
    match lock(&request(lines)) {
        Err(Error::Resolution(resolution)) => resolution,
        other => panic!("{lines:?} gave {other:?}"),
    }
}

#[test]
fn requirements_become_one_wheel_each() {
    let lock =
        lock(&request(&["requests==2.32.3", "charset-normalizer==3.4.0", "markupsafe==3.0.2"])).unwrap();
    let names: Vec<&str> = lock.packages.iter().map(|package| package.name.as_ref()).collect();
    assert_eq!(names, ["certifi", "charset-normalizer", "idna", "markupsafe", "requests", "urllib3"]);
    let wheel = wheel_of(lock.get(&"markupsafe".parse().unwrap()).unwrap());
    assert_eq!(
        wheel.filename.as_str(),
        "MarkupSafe-3.0.2-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
    );
    // uv lists the pure wheel of charset-normalizer too; the compiled one suits better.
    let wheel = wheel_of(lock.get(&"charset-normalizer".parse().unwrap()).unwrap());
    assert_eq!(wheel.filename.python_tags().collect::<Vec<_>>(), ["cp311"]);
    let again = serde_json::from_str(&serde_json::to_string(&lock).unwrap()).unwrap();
    assert_eq!(lock, again);
}

#[test]
fn a_target_of_another_processor_gets_its_wheels() {
    let mut request = request(&["markupsafe==3.0.2"]);
    request.target = Target { arch: Arch::Arm64, python: PythonVersion::new(3, 13, 0), ..TARGET };
    let lock = lock(&request).unwrap();
    assert!(wheel_of(&lock.packages[0]).filename.as_str().contains("cp313-cp313-manylinux_2_17_aarch64"));
}

#[test]
fn one_changed_pin_moves_nothing_else() {
    let environment = Environment::of_process();
    let before = lock(&request(&["jinja2==3.1.4", "markupsafe==2.1.5"])).unwrap();
    let after = uv()
        .lock(&request(&["jinja2==3.1.5", "markupsafe"]), Freshness::Keep(Some(&before)), &environment)
        .unwrap();
    let version = |lock: &Selection, name: &str| {
        lock.get(&name.parse().unwrap()).unwrap().version.clone().unwrap().to_string()
    };
    assert_eq!(version(&after, "jinja2"), "3.1.5");
    assert_eq!(version(&after, "markupsafe"), "2.1.5", "what the last lock had stays");
    let upgraded =
        uv().lock(&request(&["jinja2==3.1.5", "markupsafe"]), Freshness::Upgrade, &environment).unwrap();
    assert_ne!(version(&upgraded, "markupsafe"), "2.1.5", "until an upgrade is asked for");
}

#[test]
fn the_answer_of_the_cache_counts_when_nothing_new_is_in_it() {
    let first = request(&["six==1.16.0", "idna==3.9"]);
    let second = request(&["six==1.16.0", "idna==3.10"]);
    let (one, two) = (lock(&first).unwrap(), lock(&second).unwrap());
    // Nothing listens on the discard port: only the cache can answer.
    let dead = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"];
    let variables =
        std::env::vars_os().filter(|(name, _)| !["NO_PROXY", "no_proxy"].iter().any(|other| name == other));
    let without =
        Environment::choose(variables.chain(dead.map(|name| (name.into(), "http://127.0.0.1:9".into()))));
    let again = uv().lock(&first, Freshness::Keep(Some(&two)), &without).unwrap();
    assert_eq!(again, one);
    // A package that is in neither the last lock nor a pin may have a newer version: the cache does not decide that.
    let said =
        uv().lock(&request(&["six==1.16.0", "certifi"]), Freshness::Keep(Some(&one)), &without).unwrap_err();
    assert!(matches!(said, Error::Resolution(Resolution::Network { .. })), "{said}");
}

#[test]
fn hashes_in_the_requirements_bind() {
    let wrong = format!("six==1.16.0 --hash=sha256:{}", "a".repeat(64));
    match lock(&request(&[&wrong])) {
        Err(Error::Hash { package, .. }) => assert_eq!(package.as_ref(), "six"),
        other => panic!("{other:?}"),
    }
    let right = "8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254";
    let lock = lock(&request(&[&format!("six==1.16.0 --hash=sha256:{right}")])).unwrap();
    assert_eq!(wheel_of(&lock.packages[0]).digest, Digest::from_hex(right).unwrap());
}

#[test]
fn a_requirements_file_with_includes_is_read_by_uv() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("requirements.txt"), "-r more.txt # the rest\n-c pins.txt\nsix\n")
        .unwrap();
    std::fs::write(folder.path().join("more.txt"), "idna\n").unwrap();
    std::fs::write(folder.path().join("pins.txt"), "idna==3.9\nsix==1.15.0\n").unwrap();
    let request = LockRequest {
        requirements: Requirements::File("requirements.txt".into()),
        folder: folder.path().to_owned(),
        ..request(&[])
    };
    let lock = lock(&request).unwrap();
    let versions: Vec<String> = lock
        .packages
        .iter()
        .map(|package| format!("{}=={}", package.name, package.version.clone().unwrap()))
        .collect();
    assert_eq!(versions, ["idna==3.9", "six==1.15.0"]);
}

#[test]
fn what_the_image_has_is_preferred_and_never_forced() {
    let environment = Environment::of_process();
    let has = |version: &str| vec![("idna".parse().unwrap(), version.parse().unwrap())];
    let ask = |line: &str, preferred: &str, freshness: Freshness<'_>| {
        let request = LockRequest { preferred: has(preferred), ..request(&[line]) };
        let selection = uv().lock(&request, freshness, &environment).unwrap();
        (selection.packages[0].version.clone().unwrap().to_string(), selection)
    };
    let (version, first) = ask("idna<3.10", "3.7", Freshness::Keep(None));
    assert_eq!(version, "3.7");
    assert_eq!(ask("idna<3.10", "3.7", Freshness::Upgrade).0, "3.9", "an upgrade goes to the newest");
    assert_eq!(
        ask("idna<3.10", "3.7+mine", Freshness::Keep(None)).0,
        "3.7",
        "no index has the image's own build"
    );
    // The last lock comes after what the image has, and holds where that does not.
    assert_eq!(ask("idna<3.10", "3.6", Freshness::Keep(Some(&first))).0, "3.6");
    assert_eq!(ask("idna>3.6,<3.10", "3.6", Freshness::Keep(Some(&first))).0, "3.7");
    let plain = request(&["idna"]);
    let other = LockRequest { preferred: has("3.7"), ..plain.clone() };
    assert_ne!(plain.key(&environment).unwrap(), other.key(&environment).unwrap());
}

#[test]
fn exclude_newer_is_obeyed_and_part_of_the_key() {
    let environment = Environment::of_process();
    let mut old = request(&["idna"]);
    old.exclude_newer = Some("2024-06-01".into());
    assert_eq!(lock(&old).unwrap().packages[0].version.clone().unwrap().to_string(), "3.7");
    assert_ne!(old.key(&environment).unwrap(), request(&["idna"]).key(&environment).unwrap());
    assert_eq!(old.key(&environment).unwrap(), old.clone().key(&environment).unwrap());
}

#[test]
fn a_package_that_does_not_exist() {
    let said = refusal(&["longshore-no-such-package-0815==1"]);
    assert_eq!(said, Resolution::UnknownPackage { package: "longshore-no-such-package-0815".into() });
}

#[test]
fn a_version_that_does_not_exist() {
    match refusal(&["pandas==99.0"]) {
        Resolution::UnknownVersion { package, requirement, .. } => {
            assert_eq!((package.as_str(), requirement.as_str()), ("pandas", "pandas==99.0"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn versions_that_conflict() {
    for lines in [["pandas==2.2.3", "numpy==1.20.0"], ["flask>=3", "werkzeug<2"]] {
        match refusal(&lines) {
            Resolution::Conflict { explanation } => {
                let package = lines[1].split(['=', '<']).next().unwrap();
                assert!(explanation.contains(package), "{explanation}");
                assert!(!explanation.contains("unsatisfiable"), "{explanation}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_line_that_is_no_requirement() {
    match refusal(&["six", "pandas=2.2.3"]) {
        Resolution::Syntax { text, reason } => {
            assert_eq!(text, "pandas=2.2.3");
            assert!(reason.contains("no such comparison operator"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(refusal(&["foo bar baz"]), Resolution::Syntax { .. }));
}

/// Sources that cannot be used either: what was said of the wheels is what is told.
#[test]
fn wheels_for_other_pythons_or_platforms_only() {
    for (line, package) in [("tensorflow==2.3.0", "tensorflow"), ("pywin32==306", "pywin32")] {
        match refusal(&[line]) {
            Resolution::NoWheel { package: named, .. } => assert_eq!(named, package),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_source_distribution_is_taken_where_there_is_no_wheel() {
    let lock = lock(&request(&["docopt==0.6.2", "six==1.16.0"])).unwrap();
    let source = |name: &str| lock.get(&name.parse().unwrap()).unwrap().artifact.clone();
    match source("docopt") {
        Artifact::Source(source) => match source.form {
            SourceForm::Archive { filename, .. } => assert_eq!(filename, "docopt-0.6.2.tar.gz"),
            other => panic!("{other:?}"),
        },
        Artifact::Wheel(wheel) => panic!("{wheel:?}"),
    }
    assert!(matches!(source("six"), Artifact::Wheel(_)));
    assert!(lock.of_wheels().is_none());
}

#[test]
fn a_folder_is_a_source() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pyproject.toml"), "[project]\nname = \"thing\"\nversion = \"1\"\n")
        .unwrap();
    let request = LockRequest { folder: folder.path().to_owned(), ..request(&["-e ."]) };
    let lock = lock(&request).unwrap();
    match &lock.packages[0].artifact {
        Artifact::Source(source) => {
            assert_eq!(source.form, SourceForm::Folder { path: folder.path().into() });
        }
        Artifact::Wheel(wheel) => panic!("{wheel:?}"),
    }
    let before = request.key(&Environment::of_process()).unwrap();
    std::fs::write(folder.path().join("pyproject.toml"), "[project]\nname = \"thing\"\nversion = \"2\"\n")
        .unwrap();
    assert_ne!(request.key(&Environment::of_process()).unwrap(), before, "what it depends on counts");
}

#[test]
fn a_project_is_resolved_with_its_extras_and_groups() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[project]\nname = 'x'\nversion = '1'\ndependencies = ['six==1.16.0']\n[project.optional-dependencies]\n\
                web = ['idna==3.10']\n[dependency-groups]\ndev = ['toml==0.10.2']\n";
    std::fs::write(folder.path().join("pyproject.toml"), text).unwrap();
    let names = |extras: &[&str], groups: &[&str]| {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let project = Project { file: "pyproject.toml".into(), extras: owned(extras), groups: owned(groups) };
        let request =
            LockRequest { project: Some(project), folder: folder.path().to_owned(), ..request(&[]) };
        let lock = lock(&request).unwrap();
        lock.packages.iter().map(|package| package.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(&[], &[]), ["six"]);
    assert_eq!(names(&["web"], &["dev"]), ["idna", "six", "toml"]);
}

#[test]
fn what_is_stated_brings_nothing() {
    let request = LockRequest { dependencies: Dependencies::Stated, ..request(&["requests==2.32.3"]) };
    assert_eq!(lock(&request).unwrap().packages.len(), 1);
}

#[test]
fn no_network() {
    let mut request = request(&["pandas==2.2.3"]);
    // Nothing listens on the discard port.
    request.indexes.default = Some("http://someone:sekrit@127.0.0.1:9/simple".parse().unwrap());
    let said = lock(&request).unwrap_err();
    assert!(matches!(said, Error::Resolution(Resolution::Network { .. })), "{said:?}");
    assert!(said.is_retryable());
    assert!(!said.to_string().contains("sekrit"), "{said}");
}

#[test]
fn no_uv_and_an_old_uv() {
    let environment = Environment::of_process();
    let folder = tempfile::tempdir().unwrap();
    let search = Search {
        folders: vec![folder.path().into()],
        path: None,
        python: Some("/nonexistent/python".into()),
    };
    let said = search.find(&environment).unwrap_err().to_string();
    assert!(said.contains("pip install uv") && said.contains(folder.path().to_str().unwrap()), "{said}");

    let program = folder.path().join("uv");
    std::fs::write(&program, "#!/bin/sh\necho uv 0.4.1\n").unwrap();
    assert!(search.find(&environment).is_err(), "a file that cannot be run is no program");
    std::process::Command::new("chmod").arg("+x").arg(&program).status().unwrap();
    let uv = search.find(&environment).unwrap();
    let said = uv.lock(&request(&["six"]), Freshness::Upgrade, &environment).unwrap_err().to_string();
    assert!(said.contains("0.4.1") && said.contains("pip install --upgrade uv"), "{said}");

    // A Python that has it as a module serves as well.
    let python = folder.path().join("python");
    std::fs::write(&python, "#!/bin/sh\n[ \"$1 $2\" = '-m uv' ] && echo 'uv 0.13.9 (somewhere)'\n").unwrap();
    std::process::Command::new("chmod").arg("+x").arg(&python).status().unwrap();
    let uv = Search { python: Some(python.clone()), ..Search::default() }.find(&environment).unwrap();
    assert_eq!((uv.program(), uv.version(&environment).unwrap().as_str()), (python.as_path(), "0.13.9"));
}

#[test]
fn a_missing_requirements_file_is_named() {
    let request = LockRequest {
        requirements: Requirements::File("gone.txt".into()),
        folder: Path::new("/nonexistent").into(),
        ..request(&[])
    };
    assert!(lock(&request).unwrap_err().to_string().contains("/nonexistent/gone.txt"));
    assert!(request.key(&Environment::of_process()).is_err());
}
