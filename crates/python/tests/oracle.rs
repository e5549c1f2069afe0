//! The oracle: what the layers hold is what `uv pip install` makes.

#![allow(clippy::unwrap_used, reason = "of tests")]

mod support;

use std::{collections::BTreeMap, path::Path, process::Command};

use longshore_layer::EntryPath;
use longshore_python::{
    install::Venv,
    layers::{find_conflicts, write_venv},
    lock::PinnedWheel,
    plan::{Budget, wheel_layers},
    requirements::Requirements,
};
use support::Found;

/// `uv …` must succeed.
fn run_uv(arguments: &[&str]) {
    let output = Command::new(support::uv().program())
        .args(arguments)
        .args(["--no-config", "--no-progress", "--quiet"])
        .output()
        .unwrap();
    assert!(output.status.success(), "uv {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Installs `requirements` with uv, makes layers of them, and compares.
fn compare(requirements: &Requirements, folder: &Path) -> usize {
    let python = support::python311();
    let version = support::version(&python);
    // A short path: beyond 127 bytes shebangs take another form.
    let scratch = tempfile::Builder::new().prefix("ls-").tempdir_in("/tmp").unwrap();
    let environment = scratch.path().join("venv");
    let environment_text = environment.to_str().unwrap();
    let prefix = environment_text.trim_start_matches('/');

    let lock = support::lock(requirements.clone(), folder, &python);
    let expected = installed_by_uv(requirements, folder, &environment);
    let store = support::wheels(&lock);
    let venv = Venv::at(EntryPath::new(prefix).unwrap(), version);
    let layers = wheel_layers(&lock, &venv, Budget::default());
    let mut actual = BTreeMap::new();
    for layer in &layers {
        let (bytes, summary) = support::open(layer, &venv, &store).write(Vec::new()).unwrap();
        assert!(summary.entries > 0);
        support::unpack(&bytes, &mut actual);
    }
    let blob = |wheel: &PinnedWheel| store.open_blob(&wheel.digest).map_err(std::io::Error::other);
    assert_eq!(find_conflicts(&layers, &venv, blob).unwrap(), []);
    // The folders above the environment are the machine's own.
    actual.retain(|path, _| path.starts_with(&format!("{prefix}/")));

    let paths = expected.keys().chain(actual.keys().filter(|path| !expected.contains_key(*path)));
    let differences: Vec<String> =
        paths.flat_map(|path| differences(path, expected.get(path), actual.get(path))).collect();
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
    lock.packages.len()
}

/// What uv adds to an environment that it made.
fn installed_by_uv(
    requirements: &Requirements,
    folder: &Path,
    environment: &Path,
) -> BTreeMap<String, Found> {
    let python = support::python311();
    run_uv(&["venv", "--python", python.to_str().unwrap(), environment.to_str().unwrap()]);
    let bare = support::walk(environment);
    let platform = support::target(support::version(&python)).uv_platform().unwrap();
    let interpreter = environment.join("bin/python");
    let mut arguments =
        vec!["pip", "install", "--python", interpreter.to_str().unwrap(), "--python-platform", &platform];
    arguments.extend(["--only-binary", ":all:", "--no-deps", "--link-mode", "copy"]);
    let file;
    match requirements {
        Requirements::File(path) => {
            file = folder.join(path);
            arguments.extend(["--requirement", file.to_str().unwrap()]);
        }
        Requirements::List(lines) => arguments.extend(lines.iter().map(String::as_str)),
    }
    run_uv(&arguments);
    let mut expected = support::walk(environment);
    // Of the environment itself only those folders are the wheels' too that something was put into.
    let added: Vec<String> = expected.keys().filter(|path| !bare.contains_key(*path)).cloned().collect();
    expected.retain(|path, _| {
        !bare.contains_key(path) || added.iter().any(|file| file.starts_with(&format!("{path}/")))
    });
    expected.remove(environment.join(".lock").to_str().unwrap().trim_start_matches('/'));
    expected
}

/// What is not allowed to differ at a path: everything but the content of INSTALLER and its line in RECORD.
fn differences(path: &str, uv: Option<&Found>, ours: Option<&Found>) -> Vec<String> {
    let installer = |path: &str| path.ends_with(".dist-info/INSTALLER");
    if uv == ours {
        return Vec::new();
    }
    if let (Some(Found::File { mode: a, text: theirs, .. }), Some(Found::File { mode: b, text: record, .. })) =
        (uv, ours)
        && a == b
    {
        if installer(path) {
            return Vec::new();
        }
        if let (Some(theirs), Some(record)) = (theirs, record) {
            assert_eq!(theirs.split('\n').count(), record.split('\n').count(), "{path}");
            let lines = theirs.split('\n').zip(record.split('\n')).filter(|(theirs, ours)| {
                let file = |line: &str| line.split(',').next().map(str::to_owned);
                theirs != ours
                    && !(file(theirs) == file(ours) && file(ours).is_some_and(|file| installer(&file)))
            });
            return lines
                .map(|(theirs, ours)| format!("{path}: uv has the line {theirs}, the layer {ours}"))
                .collect();
        }
    }
    vec![format!("{path}: uv makes {uv:?}, the layer has {ours:?}")]
}

#[test]
fn a_hundred_and_eighty_wheels_lie_as_uv_lays_them() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let count = compare(&Requirements::File("wheels.txt".into()), &data);
    assert!(count >= 180, "{count}");
}

#[test]
fn a_wheel_that_the_requirements_name_has_its_url_recorded() {
    let folder = std::env::temp_dir();
    let lock = support::lock(Requirements::List(vec!["six==1.16.0".into()]), &folder, &support::python311());
    let named = format!("six @ {}", lock.packages[0].wheel.url);
    assert_eq!(compare(&Requirements::List(vec![named]), &folder), 1);
}

#[test]
fn the_environment_is_one_that_python_takes() {
    let python = support::python311();
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("venv");
    let prefix = EntryPath::new(folder.to_str().unwrap().trim_start_matches('/')).unwrap();
    let venv = Venv::at(prefix, support::version(&python));
    let (bytes, _) = write_venv(&venv, python.to_str().unwrap(), &[], Vec::new()).unwrap();
    let mut layer = BTreeMap::new();
    support::unpack(&bytes, &mut layer);

    // The links are those of `uv venv`.
    run_uv(&["venv", "--python", python.to_str().unwrap(), folder.to_str().unwrap()]);
    let theirs = support::walk(&folder);
    for (path, found) in &layer {
        if matches!(found, Found::Symlink(_)) {
            assert_eq!(theirs.get(path), Some(found), "{path}");
        }
    }
    // The interpreter knows it for an environment, with the system's packages visible.
    let configuration = format!("{}/pyvenv.cfg", folder.to_str().unwrap());
    let ours = support::content(&bytes, configuration.trim_start_matches('/')).unwrap();
    std::fs::write(&configuration, ours).unwrap();
    let script = "import sys, site; print(sys.prefix != sys.base_prefix, site.ENABLE_USER_SITE, any('dist-packages' in p or p.startswith(sys.base_prefix) for p in sys.path)); print([p for p in sys.path if p.startswith(sys.prefix)])";
    let output = Command::new(folder.join("bin/python")).args(["-c", script]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with("True "), "{said}");
    assert!(said.contains(&format!("{}/{}", folder.display(), venv.site_packages())), "{said}");
}
