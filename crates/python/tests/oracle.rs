//! The oracle: what the layers hold is what `uv pip install` makes.

#![allow(clippy::unwrap_used, reason = "of tests")]

mod support;

use std::{collections::BTreeMap, path::Path, process::Command};

use longshore_layer::EntryPath;
use longshore_python::{install::Venv, layers::write_venv, plan::wheel_layers, requirements::Requirements};
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

#[test]
fn a_hundred_and_eighty_wheels_lie_as_uv_lays_them() {
    let python = support::python311();
    let version = support::version(&python);
    // A short path: beyond 127 bytes shebangs take another form.
    let scratch = tempfile::Builder::new().prefix("ls-").tempdir_in("/tmp").unwrap();
    let folder = scratch.path().join("venv");
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");

    // What uv makes: the environment alone, then with the wheels.
    let (folder_text, python_text) = (folder.to_str().unwrap(), python.to_str().unwrap());
    run_uv(&["venv", "--python", python_text, folder_text]);
    let bare = support::walk(&folder);
    let platform = support::target(version).uv_platform().unwrap();
    let interpreter = folder.join("bin/python");
    let requirements = data.join("wheels.txt");
    run_uv(&[
        "pip",
        "install",
        "--python",
        interpreter.to_str().unwrap(),
        "--python-platform",
        &platform,
        "--only-binary",
        ":all:",
        "--no-deps",
        "--link-mode",
        "copy",
        "--requirement",
        requirements.to_str().unwrap(),
    ]);
    let mut expected = support::walk(&folder);
    // Of the environment itself only the folders are the wheels' too.
    expected.retain(|path, found| !bare.contains_key(path) || matches!(found, Found::Directory { .. }));
    expected.remove(&format!("{}/.lock", folder_text.trim_start_matches('/')));

    // What the layers have.
    let lock = support::lock(Requirements::File("wheels.txt".into()), &data, &python);
    assert!(lock.packages.len() >= 180, "{}", lock.packages.len());
    let store = support::wheels(&lock);
    let prefix = EntryPath::new(folder_text.trim_start_matches('/')).unwrap();
    let venv = Venv::at(prefix, version);
    let layers = wheel_layers(&lock, &venv);
    let mut actual = BTreeMap::new();
    for layer in &layers {
        let mut open = support::open(layer, &venv, &store);
        assert_eq!(open.conflicts(), []);
        let (bytes, summary) = open.write(Vec::new()).unwrap();
        assert!(summary.entries > 0);
        support::unpack(&bytes, &mut actual);
    }
    // The folders above the environment are the machine's own.
    actual.retain(|path, _| {
        Path::new("/").join(path).starts_with(&folder) && Path::new("/").join(path) != folder
    });

    let installer = |path: &str| path.ends_with(".dist-info/INSTALLER");
    let mut differences = Vec::new();
    for path in expected.keys().chain(actual.keys().filter(|path| !expected.contains_key(*path))) {
        let (uv, ours) = (expected.get(path), actual.get(path));
        if uv == ours {
            continue;
        }
        if let (
            Some(Found::File { mode: a, text: theirs, .. }),
            Some(Found::File { mode: b, text: record, .. }),
        ) = (uv, ours)
            && a == b
        {
            if installer(path) {
                continue;
            }
            if let (Some(theirs), Some(record)) = (theirs, record) {
                // Line by line: only INSTALLER's differs.
                assert_eq!(theirs.split('\n').count(), record.split('\n').count(), "{path}");
                for (theirs, ours) in theirs.split('\n').zip(record.split('\n')) {
                    let file = |line: &str| line.split(',').next().map(str::to_owned);
                    let same = file(theirs) == file(ours) && file(ours).is_some_and(|file| installer(&file));
                    if theirs != ours && !same {
                        differences.push(format!("{path}: uv has the line {theirs}, the layer {ours}"));
                    }
                }
                continue;
            }
        }
        differences.push(format!("{path}: uv makes {uv:?}, the layer has {ours:?}"));
    }
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn the_environment_is_one_that_python_takes() {
    let python = support::python311();
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("venv");
    let prefix = EntryPath::new(folder.to_str().unwrap().trim_start_matches('/')).unwrap();
    let venv = Venv::at(prefix, support::version(&python));
    let (bytes, _) = write_venv(&venv, python.to_str().unwrap(), Vec::new()).unwrap();
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
