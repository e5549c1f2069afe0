//! A signed archive on disk: what is accepted, and above all what is not.

mod support;

use std::fs;

use longshore_debian::{
    Error, Group, ParentPlan,
    signature::{Rejection, SignatureError},
    sources::{KeySource, Trust},
};
use longshore_fetch::FetchError;
use longshore_layer::Format;
use longshore_oci::Arch;
use pgp::crypto::hash::HashAlgorithm;
use support::{Item, Key, TestArchive, deb};

const HELLO: &str = "Package: hello\nVersion: 1.0-1\nArchitecture: amd64\nDepends: base-files\n";

fn with_hello() -> TestArchive {
    let mut archive = TestArchive::new();
    archive.package(HELLO, &[Item::Directory("./bin/"), Item::File("./bin/hello", b"#!/bin/sh\n")]);
    archive
}

fn rejection(result: Result<ParentPlan, Error>) -> Rejection {
    match result {
        Err(Error::Signature { source: SignatureError::None(mut rejections), .. }) => rejections.remove(0),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_signed_archive_becomes_an_image() {
    let (archive, key) = (with_hello(), Key::new());
    archive.publish(&key);
    let request = archive.signed_request(&key, &["hello (>= 1.0)"]);
    let plan = archive.plan(&request).await.unwrap();
    let names: Vec<_> = plan.packages.iter().map(|it| (it.name.as_str(), it.group)).collect();
    assert_eq!(names, [("base-files", Group::Base), ("base-passwd", Group::Base), ("hello", Group::Base)]);
    assert_eq!(plan.distribution.to_string(), "Debian (test)");
    assert!(plan.suites[0].signed_by.is_some());
    let parent = archive.parent(&request).await.unwrap();
    let root = tempfile::tempdir().unwrap();
    support::unpack(&parent, &archive.blobs, root.path());
    let read = |path: &str| fs::read_to_string(root.path().join(path)).unwrap();
    assert_eq!(read("usr/bin/hello"), "#!/bin/sh\n");
    assert_eq!(fs::read_link(root.path().join("bin")).unwrap().to_str(), Some("usr/bin"));
    assert_eq!(read("etc/passwd"), "root:x:0:0:root:/root:/bin/bash\n");
    assert_eq!(read("etc/os-release"), "ID=debian\n");
    assert!(
        read("var/lib/dpkg/status")
            .contains("Package: hello\nStatus: install ok installed\nVersion: 1.0-1\n")
    );
    assert_eq!(read("var/lib/dpkg/info/hello.list"), "/bin\n/bin/hello\n");
}

#[tokio::test]
async fn a_plan_needs_no_network_again() {
    let (archive, key) = (with_hello(), Key::new());
    archive.publish(&key);
    let request = archive.signed_request(&key, &["hello"]);
    let parent = archive.parent(&request).await.unwrap();
    let plan = archive.plan(&request).await.unwrap();
    fs::remove_dir_all(archive.path()).unwrap();
    assert_eq!(archive.plan(&request).await.unwrap(), plan, "within its freshness");
    let lock = serde_json::to_string(&plan).unwrap();
    let plan: ParentPlan = serde_json::from_str(&lock).unwrap();
    longshore_debian::fetch(&plan, &archive.fetcher, &archive.blobs, &|_| ()).await.unwrap();
    assert_eq!(
        longshore_debian::assemble(&plan, Format::Plain, &archive.blobs, &archive.blobs, &|_| ()).unwrap(),
        parent
    );
    let mut later = request.clone();
    later.now += std::time::Duration::from_hours(5);
    assert!(matches!(archive.plan(&later).await, Err(Error::Fetch(_))), "the mirror is asked again");
}

#[tokio::test]
async fn an_index_that_changed_is_found_by_a_new_release() {
    let (mut archive, key) = (with_hello(), Key::new());
    archive.publish(&key);
    let mut request = archive.signed_request(&key, &["hello"]);
    let old = archive.plan(&request).await.unwrap();
    archive.package(&HELLO.replace("1.0-1", "1.0-2"), &[Item::File("./usr/hello", b"2")]);
    archive.publish(&key);
    assert_eq!(archive.plan(&request).await.unwrap(), old, "fresh enough");
    request.freshness = std::time::Duration::ZERO;
    let new = archive.plan(&request).await.unwrap();
    assert_eq!(new.packages[2].version.as_str(), "1.0-2");
    assert_ne!(new.key(), old.key());
}

#[tokio::test]
async fn keyrings_may_be_armored_or_inline() {
    let (archive, key) = (with_hello(), Key::new());
    archive.publish(&key);
    let text = archive.request(Trust::Keys(vec![KeySource::Inline(key.armored())]), &[]);
    assert!(archive.plan(&text).await.is_ok());
    let path = archive.path().join("key.asc");
    fs::write(&path, key.armored()).unwrap();
    let fingerprint = key.public.primary_key.fingerprint_hex();
    let by_fingerprint = |fingerprint: &str| {
        Trust::Keys(vec![KeySource::Fingerprint {
            fingerprint: fingerprint.to_owned(),
            files: vec![path.clone()],
        }])
    };
    let other = TestArchive::new();
    other.publish(&key);
    assert!(other.plan(&other.request(by_fingerprint(&fingerprint), &[])).await.is_ok());
    let wrong = other.request(by_fingerprint("0123456789ABCDEF0123456789ABCDEF01234567"), &[]);
    assert!(matches!(TestArchive::plan(&TestArchive::new(), &wrong).await, Err(Error::Keyring { .. })));
}

trait Fingerprint {
    fn fingerprint_hex(&self) -> String;
}

impl<T: pgp::types::KeyDetails> Fingerprint for T {
    fn fingerprint_hex(&self) -> String {
        format!("{:X}", self.fingerprint())
    }
}

#[tokio::test]
async fn a_changed_release_is_refused() {
    let (archive, key) = (with_hello(), Key::new());
    let signed = key.clearsign(&archive.release(""), HashAlgorithm::Sha256);
    let request = archive.signed_request(&key, &[]);
    archive.in_release(&signed.replace("Codename: test", "Codename: tset"));
    assert!(matches!(rejection(archive.plan(&request).await), Rejection::Bad(_)));
    for (forged, why) in [
        (format!("SHA256:\n evil\n{signed}"), "text before"),
        (format!("{signed}SHA256:\n evil\n"), "text after"),
        (signed.replacen("Hash: SHA256\n", "Hash: SHA256\nComment: x\n", 1), "another header"),
        (archive.release(""), "no signature"),
        (signed.split("-----BEGIN PGP SIGNATURE").next().unwrap().to_owned(), "cut off"),
        ("<html>Please log in</html>".to_owned(), "a login page"),
    ] {
        archive.in_release(&forged);
        let result = archive.plan(&request).await;
        assert!(
            matches!(result, Err(Error::Signature { source: SignatureError::Shape(_), .. })),
            "{why}: {result:?}"
        );
    }
    archive.in_release(&signed);
    assert!(archive.plan(&request).await.is_ok());
}

#[tokio::test]
async fn another_key_s_signature_is_refused() {
    let (archive, key) = (with_hello(), Key::new());
    archive.publish(&Key::new());
    let request = archive.signed_request(&key, &[]);
    assert!(matches!(rejection(archive.plan(&request).await), Rejection::UnknownKey(_)));
    let none = archive.request(Trust::Keys(Vec::new()), &[]);
    assert!(matches!(archive.plan(&none).await, Err(Error::Keyring { .. })));
    assert!(archive.plan(&archive.request(Trust::Unsigned, &[])).await.is_ok(), "the administrator's word");
}

#[tokio::test]
async fn expired_and_revoked_keys_are_refused() {
    let key = Key::new().expiring(24 * 60 * 60);
    let archive = with_hello();
    archive.publish(&key);
    let mut request = archive.signed_request(&key, &[]);
    assert!(archive.plan(&request).await.is_ok(), "not yet expired");
    request.now += std::time::Duration::from_hours(48);
    assert!(matches!(rejection(archive.plan(&request).await), Rejection::Expired(..)));

    let revoked = Key::new().revoked();
    archive.publish(&revoked);
    let mut request = archive.signed_request(&revoked, &[]);
    request.freshness = std::time::Duration::ZERO;
    assert!(matches!(rejection(archive.plan(&request).await), Rejection::Revoked(_)));
}

#[tokio::test]
async fn a_weak_hash_is_refused() {
    let (archive, key) = (with_hello(), Key::rsa());
    archive.in_release(&key.clearsign(&archive.release(""), HashAlgorithm::Sha1));
    let request = archive.signed_request(&key, &[]);
    assert!(matches!(rejection(archive.plan(&request).await), Rejection::WeakHash(..)));
    archive.in_release(&key.clearsign(&archive.release(""), HashAlgorithm::Sha256));
    assert!(archive.plan(&request).await.is_ok());
}

#[tokio::test]
async fn an_archive_that_is_no_longer_valid_is_refused() {
    let (archive, key) = (with_hello(), Key::new());
    let text = archive.release("Valid-Until: Sat, 11 Jul 2026 11:00:00 UTC\n");
    archive.in_release(&key.clearsign(&text, HashAlgorithm::Sha256));
    let mut request = archive.signed_request(&key, &[]);
    let error = archive.plan(&request).await.unwrap_err();
    assert!(matches!(error, Error::Currency { .. }) && error.to_string().contains("Valid-Until"), "{error}");
    request.sources.archives[0].check_valid_until = Some(false);
    assert!(archive.plan(&request).await.is_ok());
}

#[tokio::test]
async fn indexes_and_packages_must_have_their_digests() {
    let (archive, key) = (with_hello(), Key::new());
    archive.publish(&key);
    let request = archive.signed_request(&key, &["hello"]);
    let index = archive.path().join("dists/test/main/binary-amd64/Packages.xz");
    let mut bytes = fs::read(&index).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&index, bytes).unwrap();
    assert!(matches!(archive.plan(&request).await, Err(Error::Fetch(FetchError::WrongDigest { .. }))));
    archive.publish(&key);
    let mut request = archive.signed_request(&key, &["hello"]);
    request.freshness = std::time::Duration::ZERO;
    let plan = archive.plan(&request).await.unwrap();
    let path = archive.path().join("pool/2.deb");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, [&whole[..whole.len() - 1], b"x"].concat()).unwrap();
    let fetch = || longshore_debian::fetch(&plan, &archive.fetcher, &archive.blobs, &|_| ());
    assert!(matches!(fetch().await, Err(Error::Fetch(FetchError::WrongDigest { .. }))));
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert!(matches!(fetch().await, Err(Error::Fetch(FetchError::WrongSize { .. }))));
    fs::write(&path, &whole).unwrap();
    fetch().await.unwrap();
}

#[tokio::test]
async fn third_parties_and_other_architectures_are_left_out_with_a_reason() {
    let (archive, key) = (with_hello(), Key::new());
    let text = archive.release("").replace("Origin: Debian", "Origin: Somebody");
    archive.in_release(&key.clearsign(&text, HashAlgorithm::Sha256));
    let mut request = archive.signed_request(&key, &[]);
    let error = archive.plan(&request).await.unwrap_err().to_string();
    assert!(error.contains("published by `Somebody`, not by Debian"), "{error}");
    request.sources.origins.clear();
    assert!(archive.plan(&request).await.is_ok());
    request.arch = Arch::Arm64;
    let error = archive.plan(&request).await.unwrap_err().to_string();
    assert!(error.contains("serves arm64") && error.contains("it has amd64"), "{error}");
    request.sources.archives[0].architectures = vec!["amd64".to_owned()];
    let error = archive.plan(&request).await.unwrap_err().to_string();
    assert!(error.contains("its entry is for amd64 only"), "{error}");
}

#[tokio::test]
async fn backports_are_not_taken_unasked() {
    let (archive, key) = (with_hello(), Key::new());
    let text = archive.release("NotAutomatic: yes\n");
    archive.in_release(&key.clearsign(&text, HashAlgorithm::Sha256));
    let result = archive.plan(&archive.signed_request(&key, &[])).await;
    assert!(matches!(result, Err(Error::NoArch { .. })), "{result:?}");
}

#[tokio::test]
async fn hostile_packages_make_no_image() {
    let cases: [(&str, Vec<Item<'static>>); 9] = [
        ("..", vec![Item::File("./../etc/passwd", b"x")]),
        ("an absolute path", vec![Item::File("/etc/passwd", b"x")]),
        ("below a link", vec![Item::Link("./var/x", "/etc"), Item::File("./var/x/passwd", b"x")]),
        ("below a file", vec![Item::File("./a", b"x"), Item::File("./a/b", b"x")]),
        ("twice", vec![Item::File("./a", b"x"), Item::File("./a", b"y")]),
        ("a device", vec![Item::Device("./dev/sda")]),
        ("a hard link out", vec![Item::HardLink("./a", "../../etc/shadow")]),
        ("a hard link to nothing", vec![Item::HardLink("./a", "./etc/shadow")]),
        ("a NUL", vec![Item::File("./a/../../b", b"x")]),
    ];
    for (what, items) in cases {
        let (mut archive, key) = (TestArchive::new(), Key::new());
        archive.package(HELLO, &items);
        archive.publish(&key);
        let result = archive.parent(&archive.signed_request(&key, &["hello"])).await;
        assert!(matches!(result, Err(Error::Deb { .. })), "{what}: {result:?}");
    }
}

#[tokio::test]
async fn broken_packages_make_no_image() {
    let whole = deb(HELLO, &[], &[Item::File("./usr/hello", &[7; 3000])]);
    let control_only =
        support::ar(&[("debian-binary", b"2.0\n"), ("control.tar.gz", &support::gz(&support::tar_of(&[])))]);
    let other = deb(&HELLO.replace("hello", "other"), &[], &[]);
    let future = support::ar(&[("debian-binary", b"3.0\n")]);
    let mut flipped = whole.clone();
    let middle = whole.len() - 60;
    flipped[middle] ^= 0x40;
    for (what, bytes) in [
        ("cut off", whole[..whole.len() - 40].to_vec()),
        ("a flipped bit", flipped),
        ("no data", control_only),
        ("another package", other),
        ("of the future", future),
        ("empty", Vec::new()),
    ] {
        let (mut archive, key) = (TestArchive::new(), Key::new());
        archive.raw(HELLO, bytes);
        archive.publish(&key);
        let result = archive.parent(&archive.signed_request(&key, &["hello"])).await;
        assert!(matches!(result, Err(Error::Deb { .. })), "{what}: {result:?}");
    }
}

#[tokio::test]
async fn all_compressions_are_read() {
    let tar = support::tar_of(&[Item::File("./usr/hello", b"hello")]);
    let control = support::tar_of(&[Item::File("./control", HELLO.as_bytes())]);
    let zst = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
    for (extension, control, data) in [
        ("", control.clone(), tar.clone()),
        (".gz", support::gz(&control), support::gz(&tar)),
        (".xz", support::xz(&control), support::xz(&tar)),
        (".zst", zst(&control), zst(&tar)),
    ] {
        let (control_name, data_name) = (format!("control.tar{extension}"), format!("data.tar{extension}"));
        let members = [
            ("debian-binary", &b"2.0\n"[..]),
            ("_skipped", b"x"),
            (&control_name, &control),
            (&data_name, &data),
        ];
        let (mut archive, key) = (TestArchive::new(), Key::new());
        archive.raw(HELLO, support::ar(&members));
        archive.publish(&key);
        let parent = archive.parent(&archive.signed_request(&key, &["hello"])).await.unwrap();
        let root = tempfile::tempdir().unwrap();
        support::unpack(&parent, &archive.blobs, root.path());
        assert_eq!(fs::read(root.path().join("usr/hello")).unwrap(), b"hello", "{extension}");
    }
}

#[tokio::test]
async fn two_packages_with_one_file_are_an_error_unless_one_replaces_the_other() {
    for replaces in [false, true] {
        let (mut archive, key) = (with_hello(), Key::new());
        let field = if replaces { "Replaces: hello (<< 2)\n" } else { "" };
        archive.package(
            &format!("Package: other\nVersion: 1\nArchitecture: all\n{field}"),
            &[Item::File("./usr/bin/hello", b"other")],
        );
        archive.publish(&key);
        let result = archive.parent(&archive.signed_request(&key, &["hello", "other"])).await;
        if replaces {
            let root = tempfile::tempdir().unwrap();
            support::unpack(&result.unwrap(), &archive.blobs, root.path());
            assert_eq!(fs::read(root.path().join("bin/hello")).unwrap(), b"other");
        } else {
            let error = result.unwrap_err().to_string();
            assert!(error.contains("`usr/bin/hello` is in hello and in other"), "{error}");
        }
    }
}

#[tokio::test]
async fn hard_links_survive_sorting_and_merging() {
    let (mut archive, key) = (TestArchive::new(), Key::new());
    archive.package(HELLO, &[Item::File("./bin/zz", b"content"), Item::HardLink("./bin/aa", "./bin/zz")]);
    archive.publish(&key);
    let parent = archive.parent(&archive.signed_request(&key, &["hello"])).await.unwrap();
    let root = tempfile::tempdir().unwrap();
    support::unpack(&parent, &archive.blobs, root.path());
    let inode =
        |name: &str| std::os::unix::fs::MetadataExt::ino(&fs::metadata(root.path().join(name)).unwrap());
    assert_eq!(inode("usr/bin/aa"), inode("usr/bin/zz"));
    assert_eq!(fs::read(root.path().join("usr/bin/zz")).unwrap(), b"content");
}
