//! Blobs whose bytes stand in another file.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test may panic")]

use std::{
    fs,
    io::{Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread,
};

use longshore_oci::Digest;
use longshore_store::{BlobStore, BlobWriter, Durability, StoreError};
use proptest::prelude::*;

/// Bytes of which no two places are alike.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect()
}

/// A store of downloads with one in it, and an empty store beside it.
struct Test {
    root: tempfile::TempDir,
    downloads: BlobStore,
    store: BlobStore,
    bytes: Vec<u8>,
    source: Digest,
}

impl Test {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let downloads = BlobStore::open(root.path().join("downloads")).unwrap();
        let store = BlobStore::open(root.path().join("store")).unwrap();
        let bytes = noise(300_000);
        let source = downloads.put(&bytes).unwrap();
        Self { root, downloads, store, bytes, source }
    }

    fn writer(&self) -> BlobWriter {
        self.store.composing_writer(&self.downloads.open_blob(&self.source).unwrap())
    }

    /// Takes bytes of the source.
    fn copy(&self, writer: &mut BlobWriter, from: usize, to: usize) {
        writer.copy(from as u64, &self.bytes[from..to]).unwrap();
    }

    /// A blob of a head, nearly all of the source, and a tail; with what it consists of.
    fn put(&self) -> (Digest, Vec<u8>) {
        let mut writer = self.writer();
        writer.append(b"head").unwrap();
        for piece in (1000..290_000).step_by(50_000) {
            self.copy(&mut writer, piece, (piece + 50_000).min(290_000));
        }
        writer.append(b"tail").unwrap();
        let expected = [b"head", &self.bytes[1000..290_000], b"tail"].concat();
        let (digest, size) = writer.commit().unwrap();
        assert_eq!((digest, size), (Digest::of(&expected), expected.len() as u64));
        (digest, expected)
    }

    fn folder(&self, digest: &Digest) -> PathBuf {
        self.store.path(digest).with_extension("composed")
    }
}

fn content(store: &BlobStore, digest: &Digest) -> Vec<u8> {
    let mut bytes = Vec::new();
    store.open_blob(digest).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

fn files(folder: &Path) -> usize {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .map(|path| if path.is_dir() { files(&path) } else { 1 })
        .sum()
}

#[test]
fn a_composed_blob_is_one_like_any_other_and_its_bytes_are_written_once() {
    let test = Test::new();
    let (digest, expected) = test.put();
    let names = test.store.files(&digest);
    assert_eq!(names, [test.folder(&digest).join("recipe"), test.folder(&digest).join("source")]);
    let [recipe, source] = [&names[0], &names[1]].map(|path| fs::metadata(path).unwrap());
    assert!(recipe.len() < 200, "{}", recipe.len());
    assert_eq!(source.ino(), fs::metadata(test.downloads.path(&test.source)).unwrap().ino());

    assert_eq!(test.store.size_of(&digest).unwrap(), Some(expected.len() as u64));
    assert_eq!(test.store.verify(&digest).unwrap(), expected.len() as u64);
    assert_eq!(test.store.read(&digest, 1 << 20).unwrap(), expected);
    assert!(matches!(test.store.read(&digest, 1000), Err(StoreError::TooLarge { limit: 1000, .. })));
    assert_eq!(test.store.digests().unwrap(), [digest]);
    test.store.sync([&digest]).unwrap();
    assert_eq!(files(&test.root.path().join("store/unsynced")), 0);

    // Written once more, whole or composed: it is there.
    test.store.put(&expected).unwrap();
    test.put();
    assert_eq!(files(test.store.root()), 2);

    // The downloads may go.
    assert!(test.downloads.remove(&test.source).unwrap());
    assert_eq!(content(&test.store, &digest), expected);
    let mut open = test.store.open_blob(&digest).unwrap();
    assert!(test.store.remove(&digest).unwrap());
    assert!(!test.store.remove(&digest).unwrap());
    assert_eq!((files(test.store.root()), test.store.size_of(&digest).unwrap()), (0, None));
    let mut bytes = Vec::new();
    open.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, expected, "who was reading reads on");
}

#[test]
fn a_reader_seeks() {
    let test = Test::new();
    let (digest, expected) = test.put();
    let mut blob = test.store.open_blob(&digest).unwrap();
    let end = expected.len() as u64;
    for (to, at) in [
        (SeekFrom::Start(2), 2),
        (SeekFrom::Current(100_000), 100_007),
        (SeekFrom::End(-5), end - 5),
        (SeekFrom::Current(-5), end - 5),
        (SeekFrom::Start(end + 5), end + 5),
    ] {
        assert_eq!(blob.seek(to).unwrap(), at);
        let mut piece = [0; 5];
        let from = usize::try_from(at).unwrap();
        match expected.get(from..from + 5) {
            Some(there) => {
                blob.read_exact(&mut piece).unwrap();
                assert_eq!(piece, there);
            }
            None => assert_eq!(blob.read(&mut piece).unwrap(), 0),
        }
    }
    assert!(blob.seek(SeekFrom::Current(-1_000_000)).is_err());
    assert_eq!(blob.size().unwrap(), end);
}

#[test]
fn what_is_not_in_the_source_is_written_whatever_is_said() {
    let test = Test::new();
    let mut writer = test.writer();
    let mut expected = Vec::new();
    let wrong = vec![7; 10_000];
    // Other bytes than are there; beyond the end; too few to be worth it.
    for (offset, bytes) in [(0, &wrong[..]), (295_000, &wrong), (500_000, &wrong), (50, &test.bytes[50..100])]
    {
        writer.copy(offset, bytes).unwrap();
        expected.extend_from_slice(bytes);
    }
    let (digest, _) = writer.commit().unwrap();
    assert_eq!(content(&test.store, &digest), expected);
    assert_eq!(test.store.files(&digest), [test.store.path(&digest)], "then it is a file like any other");

    let mut writer = test.writer();
    test.copy(&mut writer, 0, 10_000);
    let error = writer.commit_as(&Digest::of("other"), None).unwrap_err();
    assert!(matches!(error, StoreError::DigestMismatch { .. }), "{error}");
    assert_eq!(files(test.store.root()), 1, "nothing was kept");
}

#[test]
fn where_the_source_cannot_be_kept_the_blob_is_written_as_a_whole() {
    let test = Test::new();
    // A file that has lost its last name gets no other.
    let mut writer = test.writer();
    test.copy(&mut writer, 0, 200_000);
    writer.append(b"tail").unwrap();
    test.downloads.remove(&test.source).unwrap();
    let (digest, _) = writer.commit().unwrap();
    assert_eq!(test.store.files(&digest), [test.store.path(&digest)]);
    assert_eq!(content(&test.store, &digest), [&test.bytes[..200_000], b"tail"].concat());
    assert_eq!(files(test.store.root()), 1);
}

#[test]
fn from_another_file_system_the_blob_is_written_as_a_whole() {
    let test = Test::new();
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    let store = BlobStore::open(elsewhere.path().join("store")).unwrap();
    let source = test.downloads.open_blob(&test.source).unwrap();
    assert_ne!(fs::metadata("/dev/shm").unwrap().dev(), fs::metadata(test.root.path()).unwrap().dev());
    let mut writer = store.composing_writer(&source);
    test.copy(&mut writer, 0, 200_000);
    let (digest, _) = writer.commit().unwrap();
    assert_eq!(store.files(&digest), [store.path(&digest)]);
    assert_eq!(content(&store, &digest), &test.bytes[..200_000]);
}

#[test]
fn damage_is_found_and_mended_by_making_the_blob_again() {
    let test = Test::new();
    let (digest, expected) = test.put();
    let [recipe, source] = ["recipe", "source"].map(|name| test.folder(&digest).join(name));
    let cut = |path: &Path| {
        let bytes = fs::read(path).unwrap();
        fs::remove_file(path).unwrap();
        fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
    };
    let cases: [(&str, &dyn Fn()); 4] = [
        ("recipe", &|| cut(&recipe)),
        ("bytes and now has", &|| cut(&source)),
        ("is gone", &|| fs::remove_file(&source).unwrap()),
        ("too short", &|| fs::write(&recipe, "short").unwrap()),
    ];
    for (why, damage) in cases {
        damage();
        assert_eq!(test.store.size_of(&digest).unwrap(), None, "{why}: it counts as absent");
        for error in
            [test.store.open_blob(&digest).map(drop).unwrap_err(), test.store.verify(&digest).unwrap_err()]
        {
            assert!(error.is_damage() && error.to_string().contains(why), "{why}: {error}");
            assert!(error.to_string().contains(&recipe.display().to_string()), "{error}");
        }
        assert_eq!(test.put().0, digest);
        assert_eq!(test.store.verify(&digest).unwrap(), expected.len() as u64, "{why}: mended");
    }
    // Written as a whole, it takes the place of what is damaged.
    cut(&recipe);
    test.store.put(&expected).unwrap();
    assert_eq!(test.store.files(&digest), [test.store.path(&digest)]);
    assert_eq!(files(test.store.root()), 1);
    // And the other way about.
    fs::write(test.store.path(&digest), "cut").unwrap();
    test.put();
    assert_eq!(content(&test.store, &digest), expected);
    assert_eq!(test.store.files(&digest).len(), 2);

    let mut changed = fs::read(&source).unwrap();
    changed[5000] ^= 1;
    fs::remove_file(&source).unwrap();
    fs::write(&source, changed).unwrap();
    let StoreError::Damaged { path, found } = test.store.verify(&digest).unwrap_err() else { panic!() };
    assert_eq!(path, recipe);
    assert_ne!(found, digest);
    // Without the recipe, what is left is no blob, and can be removed.
    fs::remove_file(&recipe).unwrap();
    assert!(matches!(test.store.verify(&digest), Err(StoreError::BlobMissing { .. })));
    assert_eq!(test.store.digests().unwrap(), [digest]);
    test.store.remove(&digest).unwrap();
    assert_eq!(files(test.store.root()), 0);
}

#[test]
fn after_a_power_cut_a_composed_blob_is_whole_or_absent() {
    let test = Test::new();
    let (whole, _) = test.put();
    let mut writer = test.writer();
    test.copy(&mut writer, 0, 100_000);
    let (torn, _) = writer.commit().unwrap();
    fs::write(test.folder(&torn).join("recipe"), vec![0; 72]).unwrap();
    let mut writer = test.writer();
    test.copy(&mut writer, 0, 90_000);
    let (other, _) = writer.commit().unwrap();
    let source = test.folder(&other).join("source");
    fs::remove_file(&source).unwrap();
    fs::write(&source, vec![0; 300_000]).unwrap();
    let marks = test.store.root().join("unsynced/of-an-earlier-boot");
    fs::create_dir_all(&marks).unwrap();
    for digest in [whole, torn, other] {
        fs::write(marks.join(digest.hex()), "").unwrap();
    }
    let again = BlobStore::open(test.store.root()).unwrap();
    assert_eq!(again.digests().unwrap(), [whole]);
    assert!(!marks.exists());
}

#[test]
fn writers_of_the_same_blob_do_not_disturb_each_other() {
    let test = Test::new();
    let store = test.store.with_durability(Durability::Deferred);
    let expected = [b"head", &test.bytes[..250_000]].concat();
    let digest = Digest::of(&expected);
    thread::scope(|scope| {
        for number in 0..8 {
            let (store, test, expected) = (&store, &test, &expected);
            scope.spawn(move || {
                for _ in 0..20 {
                    let source = test.downloads.open_blob(&test.source).unwrap();
                    let mut writer =
                        if number % 4 == 3 { store.writer() } else { store.composing_writer(&source) };
                    writer.append(b"head").unwrap();
                    writer.copy(0, &test.bytes[..250_000]).unwrap();
                    assert_eq!(writer.commit().unwrap().0, digest);
                    let mut bytes = Vec::new();
                    store.open_blob(&digest).unwrap().read_to_end(&mut bytes).unwrap();
                    assert!(bytes == *expected);
                }
            });
        }
    });
    store.sync([&digest]).unwrap();
    assert_eq!(files(&store.root().join("tmp")), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_was_written_is_read_from_any_place(
        steps in prop::collection::vec((any::<bool>(), 0_usize..290_000, 1_usize..30_000), 1..12),
        reads in prop::collection::vec((any::<prop::sample::Index>(), 1_usize..40_000), 1..8),
    ) {
        let test = Test::new();
        let (mut writer, mut expected) = (test.writer(), Vec::new());
        for (copied, from, length) in steps {
            let piece = &test.bytes[from..(from + length).min(test.bytes.len())];
            if copied {
                writer.copy(from as u64, piece).unwrap();
            } else {
                writer.append(piece).unwrap();
            }
            expected.extend_from_slice(piece);
        }
        let (digest, size) = writer.commit().unwrap();
        prop_assert_eq!((digest, size), (Digest::of(&expected), expected.len() as u64));
        let mut blob = test.store.open_blob(&digest).unwrap();
        for (from, length) in reads {
            let from = from.index(expected.len());
            blob.seek(SeekFrom::Start(from as u64)).unwrap();
            let mut piece = Vec::new();
            (&mut blob).take(length as u64).read_to_end(&mut piece).unwrap();
            prop_assert!(piece == expected[from..(from + length).min(expected.len())]);
        }
    }
}
