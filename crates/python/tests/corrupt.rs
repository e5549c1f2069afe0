//! Wheels that are damaged or hostile: each is an error that names the wheel and the entry, and makes no layer.

#![allow(clippy::unwrap_used, reason = "of tests")]

mod support;

use std::io::{Cursor, Write as _};

use longshore_oci::Digest;
use longshore_python::{
    install::Venv,
    layers::{OpenLayer, find_conflicts},
    lock::{Lock, LockedPackage, Origin, PinnedWheel},
    plan::{Budget, WheelLayer, wheel_layers},
    target::PythonVersion,
};

const FILENAME: &str = "thing-1.0-py3-none-any.whl";

/// An entry of an archive, and how it lies.
#[derive(Clone)]
struct Member {
    name: String,
    content: Vec<u8>,
    mode: u32,
    claimed_crc: Option<u32>,
    claimed_size: Option<u32>,
    deflated: bool,
}

fn member(name: &str, content: &str) -> Member {
    Member {
        name: name.into(),
        content: content.into(),
        mode: 0o100_644,
        claimed_crc: None,
        claimed_size: None,
        deflated: false,
    }
}

/// A wheel that is as it should be.
fn sound() -> Vec<Member> {
    vec![
        member("thing/__init__.py", "VALUE = 1\n"),
        member("thing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
        member("thing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: Thing\nVersion: 1.0\n"),
        member("thing-1.0.dist-info/RECORD", "thing/__init__.py,,10\nthing-1.0.dist-info/RECORD,,\n"),
    ]
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// A zip archive (APPNOTE 6.3.10) of these members, made on Unix.
fn zip(members: &[Member]) -> Vec<u8> {
    let (mut archive, mut directory) = (Vec::new(), Vec::new());
    for member in members {
        let offset = u32::try_from(archive.len()).unwrap();
        let stored = if member.deflated {
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::new(9));
            encoder.write_all(&member.content).unwrap();
            encoder.finish().unwrap()
        } else {
            member.content.clone()
        };
        let mut common = Vec::new();
        common.extend(20u16.to_le_bytes());
        common.extend(0x0800u16.to_le_bytes());
        common.extend(if member.deflated { 8u16 } else { 0 }.to_le_bytes());
        common.extend([0, 0, 0x21, 0]);
        common.extend(member.claimed_crc.unwrap_or_else(|| crc32(&member.content)).to_le_bytes());
        common.extend(u32::try_from(stored.len()).unwrap().to_le_bytes());
        common.extend(
            member.claimed_size.unwrap_or_else(|| u32::try_from(member.content.len()).unwrap()).to_le_bytes(),
        );
        common.extend(u16::try_from(member.name.len()).unwrap().to_le_bytes());
        common.extend(0u16.to_le_bytes());
        archive.extend(*b"PK\x03\x04");
        archive.extend(&common);
        archive.extend(member.name.as_bytes());
        archive.extend(stored);

        directory.extend(*b"PK\x01\x02");
        directory.extend([20, 3]);
        directory.extend(common);
        directory.extend([0; 6]);
        directory.extend((member.mode << 16).to_le_bytes());
        directory.extend(offset.to_le_bytes());
        directory.extend(member.name.as_bytes());
    }
    let (offset, size) = (u32::try_from(archive.len()).unwrap(), u32::try_from(directory.len()).unwrap());
    let count = u16::try_from(members.len()).unwrap();
    archive.extend(directory);
    archive.extend(*b"PK\x05\x06\0\0\0\0");
    archive.extend([count.to_le_bytes(), count.to_le_bytes()].concat());
    archive.extend([size.to_le_bytes(), offset.to_le_bytes()].concat());
    archive.extend([0, 0]);
    archive
}

fn layer_package() -> LockedPackage {
    let wheel = PinnedWheel {
        filename: FILENAME.parse().unwrap(),
        url: format!("https://files.invalid/{FILENAME}").parse().unwrap(),
        size: None,
        digest: Digest::of("unused here"),
        origin: Origin::Index,
    };
    LockedPackage { name: "thing".parse().unwrap(), version: "1.0".parse().unwrap(), wheel, source: None }
}

fn layer() -> WheelLayer {
    wheel_layers(&Lock { packages: vec![layer_package()], ..Lock::default() }, &venv(), Budget::default())
        .remove(0)
}

fn venv() -> Venv {
    Venv::in_image(PythonVersion::new(3, 11, 2))
}

fn write(archive: &[u8]) -> Result<Vec<u8>, longshore_python::Error> {
    let mut open = OpenLayer::open(&layer(), &venv(), |_| Ok(Cursor::new(archive.to_vec())))?;
    Ok(open.write(Vec::new())?.0)
}

/// What is said of an archive; it must name the wheel and everything in `names`.
fn refused(archive: &[u8], names: &[&str]) {
    let said = write(archive).unwrap_err().to_string();
    for name in std::iter::once(&FILENAME).chain(names) {
        assert!(said.contains(name), "`{said}` does not name `{name}`");
    }
}

/// The sound wheel with something changed.
fn changed(change: impl FnOnce(&mut Vec<Member>)) -> Vec<u8> {
    let mut members = sound();
    change(&mut members);
    zip(&members)
}

#[test]
fn a_sound_wheel_makes_a_layer() {
    assert!(!write(&zip(&sound())).unwrap().is_empty());
    // RECORD may leave files out, or have some that are not there: it is put right, as uv does.
    let archive = changed(|members| {
        members.push(member("thing/more.py", "x"));
        members[3].content = b"gone.py,,5\nthing-1.0.dist-info/RECORD,,\n".to_vec();
    });
    assert!(write(&archive).is_ok());
}

#[test]
fn truncated_anywhere() {
    let archive = zip(&sound());
    for length in (0..archive.len()).step_by(7) {
        refused(&archive[..length], &[]);
    }
}

#[test]
fn content_that_is_not_what_was_promised() {
    refused(&changed(|members| members[0].claimed_crc = Some(1)), &["thing/__init__.py"]);
    // One bit in the content, behind the back of every header.
    let mut archive = zip(&sound());
    let at = archive.windows(9).position(|window| window == b"VALUE = 1").unwrap();
    archive[at] ^= 1;
    refused(&archive, &["thing/__init__.py"]);
}

#[test]
fn names_that_lead_elsewhere() {
    for name in [
        "../evil.py",
        "thing/../../evil.py",
        "/etc/evil",
        "thing//x.py",
        "thing/./x.py",
        "thing-1.0.data/data/../../x",
    ] {
        refused(&changed(|members| members.push(member(name, "x"))), &[name]);
    }
}

#[test]
fn symbolic_links() {
    let archive = changed(|members| {
        members.push(Member { mode: 0o120_777, ..member("thing/link", "/etc/passwd") });
    });
    refused(&archive, &["thing/link"]);
}

#[test]
fn duplicates() {
    refused(&changed(|members| members.push(member("thing/__init__.py", "other"))), &["thing/__init__.py"]);
    refused(&changed(|members| members.push(member("thing/__init__.py/x", "other"))), &["thing/__init__.py"]);
}

#[test]
fn bombs() {
    // It says how large it is.
    let honest = Member { content: vec![0; 400_000_000], deflated: true, ..member("thing/zeros", "") };
    refused(&changed(|members| members.push(honest)), &[]);
    // It does not.
    let liar = Member {
        content: vec![0; 1_000_000],
        claimed_size: Some(10),
        deflated: true,
        ..member("thing/zeros", "")
    };
    refused(&changed(|members| members.push(liar)), &["thing/zeros"]);
}

#[test]
fn a_record_that_lies_about_a_size() {
    let lie = b"thing/__init__.py,,11\nthing-1.0.dist-info/RECORD,,\n".to_vec();
    let archive = changed(|members| members[3].content = lie);
    refused(&archive, &["thing/__init__.py", "RECORD", "11"]);
    refused(
        &changed(|members| members[3].content = b"a,b\nc,d,e,f\n".to_vec()),
        &["thing-1.0.dist-info/RECORD"],
    );
    refused(&changed(|members| drop(members.remove(3))), &["RECORD"]);
}

#[test]
fn metadata_of_another_package() {
    let with = |text: &'static str| changed(move |members| members[2].content = text.into());
    refused(&with("Name: other\nVersion: 1.0\n"), &["thing 1.0", "other 1.0"]);
    refused(&with("Name: thing\nVersion: 2.0\n"), &["thing 1.0", "thing 2.0"]);
    refused(&with("Name: thing\n"), &["thing-1.0.dist-info/METADATA", "Version"]);
    refused(&with("Name: thing\nVersion: eleven\n"), &["eleven"]);
    assert!(write(&with("Name: THING\nVersion: 1.0.0\n")).is_ok(), "spelled otherwise, it is the same");
}

/// A wheel of another package with a file of the first one's.
fn other(name: &str, content: &str) -> (LockedPackage, Vec<u8>) {
    let members: Vec<Member> = sound()
        .into_iter()
        .map(|member| Member {
            name: member.name.replace("thing-1.0", &format!("{name}-1.0")),
            content: String::from_utf8(member.content)
                .unwrap()
                .replace("Thing", name)
                .replace("thing-1.0", &format!("{name}-1.0"))
                .into(),
            ..member
        })
        .chain([member("shared/file.txt", content)])
        .collect();
    let mut package = layer_package();
    package.name = name.parse().unwrap();
    package.wheel.filename = format!("{name}-1.0-py3-none-any.whl").parse().unwrap();
    package.wheel.digest = Digest::of(name);
    (package, zip(&members))
}

#[test]
fn of_two_wheels_with_one_path_the_later_shows_and_it_is_said() {
    // Alike in all but name and one file; some share a layer, some do not.
    let names = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"];
    let wheels = names.map(|name| other(name, &format!("of {name}")));
    let open = |wheel: &PinnedWheel| {
        let (_, archive) = wheels.iter().find(|(package, _)| package.wheel.digest == wheel.digest).unwrap();
        Ok(Cursor::new(archive.clone()))
    };
    let mut packages: Vec<LockedPackage> = wheels.iter().map(|(package, _)| package.clone()).collect();
    packages.sort_by(|a, b| a.name.cmp(&b.name));
    let layers = wheel_layers(&Lock { packages, ..Lock::default() }, &venv(), Budget::default());
    let conflicts = find_conflicts(&layers, &venv(), open).unwrap();
    assert_eq!(conflicts.len(), wheels.len() - 1, "thing/__init__.py is the same in all");
    let last = layers.last().unwrap().wheels.last().unwrap();
    assert_eq!(conflicts.last().unwrap().shown, last.filename);
    assert!(
        conflicts.iter().all(|conflict| conflict.path.as_str().ends_with("site-packages/shared/file.txt"))
    );
    for layer in layers.iter().filter(|layer| layer.wheels.len() > 1) {
        let mut opened = OpenLayer::open(layer, &venv(), open).unwrap();
        assert_eq!(opened.conflicts().len(), layer.wheels.len() - 1);
        let (bytes, _) = opened.write(Vec::new()).unwrap();
        let shown = layer.wheels.last().unwrap().filename.name().to_string();
        let path = "opt/venv/lib/python3.11/site-packages/shared/file.txt";
        assert_eq!(support::content(&bytes, path).unwrap(), format!("of {shown}").into_bytes());
    }
    assert!(layers.len() < wheels.len(), "some share a layer");
}

#[test]
fn wheels_that_are_none() {
    refused(&changed(|members| drop(members.drain(1..))), &[".dist-info"]);
    refused(&changed(|members| members.push(member("b-1.dist-info/WHEEL", ""))), &["b-1", "thing-1.0"]);
    refused(&changed(|members| members[1].content = b"Wheel-Version: 2.0\n".to_vec()), &["2.0", "/WHEEL"]);
    refused(&changed(|members| members[1].content = b"\xff\xfe".to_vec()), &["/WHEEL", "UTF-8"]);
}

#[test]
fn files_that_would_change_the_environment() {
    let entry_points = |text: &str| {
        let content = format!("[console_scripts]\n{text}\n");
        changed(move |members| members.push(member("thing-1.0.dist-info/entry_points.txt", &content)))
    };
    for (text, name) in
        [("python3 = a:b", "python3"), ("../../x = a:b", "../../x"), ("x = nonsense", "nonsense")]
    {
        refused(&entry_points(text), &["entry_points.txt", name]);
    }
    assert!(write(&entry_points("x = a:b")).is_ok());
    for name in [
        "thing-1.0.data/scripts/python",
        "thing-1.0.data/data/bin/python3.11",
        "thing-1.0.data/nonsense/x",
        "thing-1.0.data/x",
        "thing-1.0.data/scripts/folder/x",
    ] {
        refused(&changed(|members| members.push(member(name, "x"))), &[name]);
    }
}
