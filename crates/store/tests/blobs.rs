//! The blob store as one process sees it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test may panic")]

use std::{fs, io::Write, os::unix::fs::PermissionsExt, sync::Barrier, thread};

use longshore_oci::Digest;
use longshore_store::{BlobStore, Durability, StoreError};
use proptest::prelude::*;

fn store() -> (tempfile::TempDir, BlobStore) {
    let root = tempfile::tempdir().unwrap();
    let store = BlobStore::open(root.path().join("not/there/yet")).unwrap();
    (root, store)
}

/// Everything below a folder, as paths relative to it.
fn files(root: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path.strip_prefix(root).unwrap().display().to_string());
            }
        }
    }
    found
}

#[test]
fn opening_and_asking_writes_nothing() {
    let (root, store) = store();
    let digest = Digest::of("x");
    assert_eq!(store.size_of(&digest).unwrap(), None);
    assert!(matches!(store.open_blob(&digest), Err(StoreError::BlobMissing { .. })));
    assert!(matches!(store.verify(&digest), Err(StoreError::BlobMissing { .. })));
    assert!(store.digests().unwrap().is_empty());
    assert!(!store.remove(&digest).unwrap());
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
}

#[test]
fn blobs_lie_where_the_layout_says_with_plain_modes() {
    let (_root, store) = store();
    let digest = store.put(b"content").unwrap();
    let hex = digest.hex();
    let path = store.root().join("sha256").join(&hex[..2]).join(&hex);
    assert_eq!(store.path(&digest), path);
    assert_eq!(fs::read(&path).unwrap(), b"content");
    let umask = rustix::process::umask(rustix::fs::Mode::empty());
    rustix::process::umask(umask);
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o644 & !umask.as_raw_mode());
    assert_eq!(mode(path.parent().unwrap()), 0o755 & !umask.as_raw_mode());
    assert_eq!(files(store.root()), [path.strip_prefix(store.root()).unwrap().display().to_string()]);
}

#[test]
fn what_was_not_announced_is_not_kept() {
    let (_root, store) = store();
    let written = |bytes: &[u8]| {
        let mut writer = store.writer();
        writer.write_all(bytes).unwrap();
        writer
    };
    let big = vec![7; 3 << 20];
    for bytes in [b"small".as_slice(), &big] {
        let digest = Digest::of(bytes);
        let error = written(bytes).commit_as(&Digest::of("other"), None).unwrap_err();
        assert!(matches!(error, StoreError::DigestMismatch { found, .. } if found == digest), "{error}");
        let error = written(bytes).commit_as(&digest, Some(1)).unwrap_err();
        assert!(matches!(error, StoreError::SizeMismatch { expected: 1, .. }), "{error}");
        drop(written(bytes));
        assert_eq!(files(store.root()), [""; 0]);
    }
    let size = written(&big).commit_as(&Digest::of(&big), Some(3 << 20)).unwrap();
    assert_eq!(size, 3 << 20);
}

#[test]
fn damage_is_found_and_a_wrong_length_mended() {
    let (_root, store) = store();
    let digest = store.put(b"content").unwrap();
    fs::write(store.path(&digest), b"c0ntent").unwrap();
    for error in [store.read(&digest, 100).unwrap_err(), store.verify(&digest).unwrap_err()] {
        let StoreError::Damaged { path, found } = &error else { panic!("{error}") };
        assert_eq!((path, found), (&store.path(&digest), &Digest::of("c0ntent")));
        assert!(error.to_string().contains("delete the file"), "{error}");
    }
    fs::write(store.path(&digest), b"cont").unwrap();
    store.put(b"content").unwrap();
    assert_eq!(store.read(&digest, 7).unwrap(), b"content");
    assert!(matches!(store.read(&digest, 6), Err(StoreError::TooLarge { size: 7, limit: 6, .. })));
}

#[test]
fn a_blob_that_is_there_is_not_written_again() {
    let (_root, store) = store();
    let digest = store.put(b"content").unwrap();
    let before = fs::metadata(store.path(&digest)).unwrap().modified().unwrap();
    let mut writer = store.writer();
    writer.write_all(b"content").unwrap();
    assert_eq!(writer.commit().unwrap(), (digest, 7));
    assert_eq!(fs::metadata(store.path(&digest)).unwrap().modified().unwrap(), before);
}

#[test]
fn a_damaged_blob_is_mended_by_writing_it_again() {
    let (_root, store) = store();
    for content in [b"content".to_vec(), vec![7; 300_000]] {
        let digest = store.put(&content).unwrap();
        let mut damaged = content.clone();
        damaged[1] ^= 1;
        fs::write(store.path(&digest), &damaged).unwrap();
        assert!(matches!(store.verify(&digest), Err(StoreError::Damaged { .. })));
        store.put(&content).unwrap();
        store.verify(&digest).unwrap();
        fs::write(store.path(&digest), &damaged).unwrap();
        let mut writer = store.writer();
        writer.write_all(&content).unwrap();
        writer.commit().unwrap();
        store.verify(&digest).unwrap();
    }
}

#[test]
fn a_reader_reads_on_when_the_blob_is_removed() {
    let (_root, store) = store();
    let digest = store.put(b"content").unwrap();
    let file = store.open_blob(&digest).unwrap();
    assert!(store.remove(&digest).unwrap());
    assert_eq!(std::io::read_to_string(file).unwrap(), "content");
    assert_eq!(store.size_of(&digest).unwrap(), None);
}

#[test]
fn eight_threads_write_the_same_and_different_blobs() {
    for durability in [Durability::Full, Durability::Deferred] {
        let (_root, store) = store();
        let start = Barrier::new(8);
        thread::scope(|scope| {
            for thread in 0..8 {
                let (start, store) = (&start, store.with_durability(durability));
                scope.spawn(move || {
                    start.wait();
                    for i in 0..10_u32 {
                        let same = vec![u8::try_from(i).unwrap(); 300_000 + i as usize];
                        let mut writer = store.writer();
                        same.chunks(70_001).for_each(|piece| writer.write_all(piece).unwrap());
                        assert_eq!(writer.commit().unwrap().0, Digest::of(&same));
                        store.put(format!("{thread} {i}").as_bytes()).unwrap();
                    }
                });
            }
        });
        let digests = store.digests().unwrap();
        assert_eq!(digests.len(), 10 + 8 * 10);
        for digest in &digests {
            store.verify(digest).unwrap();
        }
        store.sync(&digests).unwrap();
        drop(store);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn pieces_become_the_blob_that_they_make_together(
        sizes in prop::collection::vec(prop_oneof![0_usize..100, 200_000_usize..600_000], 0..6),
        seed: u8,
    ) {
        let (_root, store) = store();
        let store = store.with_durability(Durability::Deferred);
        let mut whole = Vec::new();
        let mut writer = store.writer();
        for (i, size) in sizes.into_iter().enumerate() {
            let piece: Vec<u8> = (0..size).map(|j| (j * 31 + i).to_le_bytes()[0] ^ seed).collect();
            writer.write_all(&piece).unwrap();
            whole.extend(piece);
        }
        let (digest, size) = writer.commit().unwrap();
        prop_assert_eq!((digest, size), (Digest::of(&whole), whole.len() as u64));
        prop_assert_eq!(store.read(&digest, size).unwrap(), whole);
        prop_assert_eq!(store.verify(&digest).unwrap(), size);
    }
}
