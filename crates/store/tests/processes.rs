//! The store as several processes see it: killed ones, full disks, folders that cannot be written.
//!
//! The tests start this very program again in a role: the ignored tests.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test may panic")]

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

use longshore_oci::{Descriptor, Digest, Manifest, MediaType};
use longshore_store::{BlobStore, Durability, Registry, RepositoryPath, StoreError, Table};

const FOLDER: &str = "LONGSHORE_TEST_FOLDER";
const NUMBER: &str = "LONGSHORE_TEST_NUMBER";

fn folder() -> String {
    env::var(FOLDER).expect("this is a role that other tests play")
}

fn number() -> u64 {
    env::var(NUMBER).unwrap().parse().unwrap()
}

/// This program in a role.
fn role(name: &str, folder: &Path) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "--nocapture", name]).env(FOLDER, folder);
    command
}

/// Runs to the end, and well.
fn succeeds(command: &mut Command) {
    let output = command.output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("test result: ok. 1 passed"), "{command:?}: {text}");
}

/// A shell that can mount: the script's `$1…` are the arguments.
fn with_mounts(script: &str, folder: &Path) -> Command {
    let root = rustix::process::geteuid().is_root();
    let mut command = Command::new("unshare");
    command.arg(if root { "-m" } else { "-Urm" }).args(["sh", "-euc", script, "sh"]);
    command.arg(folder).arg(env::current_exe().unwrap()).env(FOLDER, folder);
    command
}

/// Waits until a child says so. While what is returned is kept the child can say more.
fn says(child: &mut Child, wanted: &str) -> BufReader<ChildStdout> {
    let mut ear = BufReader::new(child.stdout.take().unwrap());
    let heard = ear.by_ref().lines().any(|line| line.unwrap().contains(wanted));
    assert!(heard, "the child ended without saying {wanted}");
    ear
}

fn entries(folder: &Path) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

#[test]
fn a_writer_that_is_killed_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let mut child = role("writes_without_end", root.path()).stdout(Stdio::piped()).spawn().unwrap();
    let _ear = says(&mut child, "writing");
    child.kill().unwrap();
    child.wait().unwrap();
    let store = BlobStore::open(root.path()).unwrap();
    assert!(store.digests().unwrap().is_empty());
    assert_eq!(entries(&root.path().join("tmp")), 0);
    let digest = store.put(b"after").unwrap();
    assert_eq!(store.read(&digest, 5).unwrap(), b"after");
}

#[test]
#[ignore = "a role"]
fn writes_without_end() {
    let mut writer = BlobStore::open(folder()).unwrap().writer();
    for i in 0..1000 {
        writer.write_all(&vec![1; 1 << 20]).unwrap();
        if i == 8 {
            println!("writing");
            std::io::stdout().flush().unwrap();
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// A registry that processes push to is whole whenever they are killed.
#[test]
fn pushers_that_are_killed_leave_only_whole_images() {
    let root = tempfile::tempdir().unwrap();
    for round in 0..6 {
        let mut children: Vec<_> = (0..2)
            .map(|i| {
                let mut command = role("pushes", root.path());
                command.env(NUMBER, (round * 2 + i).to_string()).stdout(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        let _ear = says(&mut children[0], "pushed");
        thread::sleep(Duration::from_millis(7 * round));
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        check_registry(root.path());
    }
    let registry = Registry::open(root.path()).unwrap();
    assert!(!registry.repositories().unwrap().is_empty());
    assert_eq!(
        entries(&root.path().join("blobs/tmp")),
        0,
        "the next opening clears what the killed ones left"
    );
}

/// Every blob has its digest; every tag its manifest; every manifest its blobs.
fn check_registry(root: &Path) {
    let registry = Registry::open(root).unwrap();
    for digest in registry.blobs().digests().unwrap() {
        registry.blobs().verify(&digest).unwrap();
    }
    for repository in registry.repositories().unwrap() {
        for tag in registry.tags(&repository).unwrap() {
            let found = registry.manifest(&repository, tag).unwrap();
            let manifest = Manifest::parse(&found.bytes).unwrap();
            for blob in manifest.layers.iter().chain([&manifest.config]) {
                assert_eq!(registry.blob_size(&repository, &blob.digest).unwrap(), Some(blob.size));
            }
        }
    }
}

#[test]
#[ignore = "a role"]
fn pushes() {
    let registry = Registry::open(folder()).unwrap();
    for i in 0..u64::MAX {
        push(&registry, number() * 1_000_000 + i);
        println!("pushed");
    }
}

fn push(registry: &Registry, number: u64) -> Digest {
    let layer: Vec<u8> = number.to_le_bytes().repeat(1 << 15);
    let mut writer = registry.blobs().writer();
    layer.chunks(100_000).for_each(|piece| writer.write_all(piece).unwrap());
    writer.commit().unwrap();
    registry.blobs().put(b"{}").unwrap();
    let layer = Descriptor::of(MediaType::LayerTar, &layer);
    let manifest = Manifest::image(Descriptor::of(MediaType::Config, b"{}"), vec![layer]).to_bytes();
    let path: RepositoryPath = format!("team/app{}", number % 3).parse().unwrap();
    let tag = format!("v{number}").parse().unwrap();
    let digest = registry.put_manifest(&path, &manifest, &MediaType::Manifest, Some(&tag)).unwrap();
    registry.tag(&path, &"latest".parse().unwrap(), &digest).unwrap();
    digest
}

#[test]
fn eight_processes_write_the_same_and_different_things() {
    let root = tempfile::tempdir().unwrap();
    let mut children: Vec<_> = (0..8)
        .map(|i| {
            role("writes_its_share", root.path())
                .env(NUMBER, i.to_string())
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    check_registry(&root.path().join("registry"));
    let registry = Registry::open(root.path().join("registry")).unwrap();
    let tags: usize = registry
        .repositories()
        .unwrap()
        .iter()
        .map(|repository| registry.tags(repository).unwrap().len())
        .sum();
    assert_eq!(tags, 10 + 8 * 5 + 3, "ten common tags, five of each process, and three times latest");
    let table = Table::open(root.path().join("table")).unwrap();
    for i in 0..10 {
        assert_eq!(table.get::<u64>("square", &i), Some(i * i));
    }
}

#[test]
#[ignore = "a role"]
fn writes_its_share() {
    let root = folder();
    let registry = Registry::open(Path::new(&root).join("registry")).unwrap();
    let table = Table::open(Path::new(&root).join("table")).unwrap();
    for i in 0..10 {
        push(&registry, i);
        table.put("square", &i, &(i * i)).unwrap();
        assert_eq!(table.get::<u64>("square", &i), Some(i * i));
    }
    for i in 0..5 {
        push(&registry, (number() + 1) * 1_000 + i);
    }
}

#[test]
fn a_full_disk_is_named_and_leaves_nothing_half() {
    let root = tempfile::tempdir().unwrap();
    let script =
        "mount -t tmpfs -o size=3m none \"$1\"; exec \"$2\" --ignored --exact --nocapture meets_a_full_disk";
    succeeds(&mut with_mounts(script, root.path()));
}

#[test]
#[ignore = "a role"]
fn meets_a_full_disk() {
    let root = folder();
    for durability in [Durability::Full, Durability::Deferred] {
        let store = BlobStore::open(&root).unwrap().with_durability(durability);
        let kept = store.put(&[1; 10_000]).unwrap();
        let mut writer = store.writer();
        let error = (0..8).find_map(|_| writer.append(&vec![2; 1 << 20]).err()).expect("the disk has 3 MiB");
        assert!(matches!(error, StoreError::NoSpace { .. }), "{error}");
        assert!(
            error.to_string().contains(&root) && error.to_string().contains("free some space"),
            "{error}"
        );
        assert!(
            matches!(writer.commit(), Err(StoreError::Unfinished)),
            "what was not written cannot be committed"
        );
        assert!(matches!(store.put(&vec![3; 8 << 20]), Err(StoreError::NoSpace { .. })));
        let mut writer = store.writer();
        let error =
            (0..8).find_map(|_| writer.write_all(&vec![2; 1 << 20]).err()).expect("the disk has 3 MiB");
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        drop(writer);
        assert_eq!(store.digests().unwrap(), [kept]);
        // The space is free again.
        let big = store.put(&vec![4; 2 << 20]).unwrap();
        assert_eq!(store.verify(&big).unwrap(), 2 << 20);
        assert!(store.remove(&big).unwrap() && store.remove(&kept).unwrap());
    }

    let registry = Registry::open(Path::new(&root).join("registry")).unwrap();
    push(&registry, 1);
    let app: RepositoryPath = "team/app1".parse().unwrap();
    let mut upload = registry.uploads().begin(&app).unwrap();
    let error = (0..8).find_map(|_| upload.append(&vec![5; 1 << 20]).err()).expect("the disk has 3 MiB");
    assert!(matches!(error, StoreError::NoSpace { .. }), "{error}");
    // Not a byte is left now for a manifest.
    let manifest = Manifest::image(Descriptor::of(MediaType::Config, b"{}"), vec![]).to_bytes();
    let put = || registry.put_manifest(&app, &manifest, &MediaType::Manifest, Some(&"new".parse().unwrap()));
    assert!(matches!(put(), Err(StoreError::NoSpace { .. })));
    assert_eq!(registry.tags(&app).unwrap().len(), 2);
    let id = upload.id();
    drop(upload);
    registry.uploads().cancel(&app, id).unwrap();
    put().unwrap();
    check_registry(&Path::new(&root).join("registry"));
}

#[test]
fn a_read_only_store_can_be_read() {
    let root = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=3m none \"$1\"; \"$2\" --ignored --exact --nocapture prepares_a_store; \
                  mount -o remount,ro \"$1\"; exec \"$2\" --ignored --exact --nocapture meets_a_read_only_store";
    succeeds(&mut with_mounts(script, root.path()));
}

#[test]
#[ignore = "a role"]
fn prepares_a_store() {
    let root = folder();
    let registry = Registry::open(Path::new(&root).join("registry")).unwrap();
    push(&registry, 1);
    // As a power cut leaves it.
    let digest = registry.blobs().put(b"marked").unwrap();
    let earlier = registry.blobs().root().join("unsynced/earlier");
    fs::create_dir_all(&earlier).unwrap();
    fs::write(earlier.join(digest.hex()), "").unwrap();
    fs::create_dir_all(Path::new(&root).join("empty")).unwrap();
}

#[test]
#[ignore = "a role"]
fn meets_a_read_only_store() {
    let root = folder();
    check_registry(&Path::new(&root).join("registry"));
    let registry = Registry::open(Path::new(&root).join("registry")).unwrap();
    let read_only = |error: StoreError| {
        assert!(matches!(error, StoreError::ReadOnly { .. }), "{error:?}");
        assert!(error.to_string().contains(&root) && error.to_string().contains("read-only"), "{error}");
    };
    read_only(registry.blobs().put(b"new").unwrap_err());
    registry.blobs().put(b"{}").expect("what is there need not be written");
    read_only(registry.uploads().begin(&"a".parse().unwrap()).unwrap_err());
    read_only(registry.delete_tag(&"team/app1".parse().unwrap(), &"latest".parse().unwrap()).unwrap_err());
    read_only(Table::open(Path::new(&root).join("empty")).unwrap().put("kind", &1, &1).unwrap_err());
    read_only(BlobStore::open(Path::new(&root).join("not/there")).unwrap().put(b"x").unwrap_err());
}

#[test]
fn a_folder_of_somebody_else_is_named() {
    // As root nothing is forbidden, so the role is played by nobody; who must be able to reach everything.
    let root = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir().unwrap();
    let program = root.path().join("program");
    fs::copy(env::current_exe().unwrap(), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let store = root.path().join("store");
    BlobStore::open(&store).unwrap().put(b"{}").unwrap();
    for folder in ["", "tmp"] {
        fs::set_permissions(store.join(folder), fs::Permissions::from_mode(0o555)).unwrap();
    }
    let mut command = if rustix::process::geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--clear-groups", "--"]).arg(&program);
        command
    } else {
        Command::new(&program)
    };
    command.args(["--ignored", "--exact", "--nocapture", "meets_a_folder_of_somebody_else"]);
    succeeds(command.env(FOLDER, &store));
    fs::set_permissions(&store, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
#[ignore = "a role"]
fn meets_a_folder_of_somebody_else() {
    let store = BlobStore::open(folder()).unwrap();
    assert_eq!(store.read(&Digest::of("{}"), 2).unwrap(), b"{}");
    let error = store.put(b"new").unwrap_err();
    assert!(matches!(error, StoreError::Permission { .. }), "{error:?}");
    assert!(
        error.to_string().contains(&folder()) && error.to_string().contains("this user may not"),
        "{error}"
    );
}
