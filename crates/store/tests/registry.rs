//! Repositories, manifests, tags and uploads as one process sees them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test may panic")]

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use longshore_oci::{Descriptor, Digest, Index, Manifest, MediaType, Tag};
use longshore_store::{Registry, RepositoryPath, StoreError, TagOrDigest};

fn registry() -> (tempfile::TempDir, Registry) {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::open(root.path().join("registry")).unwrap();
    (root, registry)
}

fn path(text: &str) -> RepositoryPath {
    text.parse().unwrap()
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

/// A manifest whose blobs are stored.
fn image(registry: &Registry, text: &str) -> Manifest {
    let layer = format!("layer of {text}");
    registry.blobs().put(b"{}").unwrap();
    registry.blobs().put(layer.as_bytes()).unwrap();
    let layer = Descriptor::of(MediaType::LayerGzip, layer.as_bytes());
    Manifest::image(Descriptor::of(MediaType::Config, b"{}"), vec![layer])
}

fn put(registry: &Registry, repository: &str, text: &str, name: Option<&str>) -> Digest {
    let bytes = image(registry, text).to_bytes();
    let name = name.map(tag);
    registry.put_manifest(&path(repository), &bytes, &MediaType::Manifest, name.as_ref()).unwrap()
}

#[test]
fn a_manifest_is_found_by_tag_and_by_digest() {
    let (_root, registry) = registry();
    let bytes = image(&registry, "a").to_bytes();
    let digest = put(&registry, "me/app", "a", Some("v1"));
    assert_eq!(digest, Digest::of(&bytes));
    for reference in [TagOrDigest::from(tag("v1")), TagOrDigest::from(digest)] {
        let found = registry.manifest(&path("me/app"), reference.clone()).unwrap();
        assert_eq!((found.digest, &found.media_type, &found.bytes), (digest, &MediaType::Manifest, &bytes));
        let info = registry.manifest_info(&path("me/app"), reference).unwrap();
        assert_eq!((info.digest, info.size), (digest, bytes.len() as u64));
    }
    let error = registry.manifest(&path("me/app"), tag("v2")).unwrap_err();
    assert_eq!(error.to_string(), "repository me/app has no manifest v2");
    assert!(registry.manifest(&path("me/other"), digest).is_err(), "another repository does not have it");
}

#[test]
fn repositories_nest_and_names_that_look_like_folders_do_not_meet() {
    let (_root, registry) = registry();
    for name in ["a", "a/b", "a/manifests", "a/tags/c", "blobs", "z.z/y__y/x-x"] {
        put(&registry, name, "i", Some("latest"));
    }
    // An upload alone makes no repository.
    registry.uploads().begin(&path("only/started")).unwrap();
    let names: Vec<_> = registry.repositories().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["a", "a/b", "a/manifests", "a/tags/c", "blobs", "z.z/y__y/x-x"]);
    assert_eq!(registry.tags(&path("a")).unwrap(), [tag("latest")]);
    assert!(matches!(registry.tags(&path("a/tags")), Err(StoreError::RepositoryUnknown(_))));
}

#[test]
fn tags_move_and_go() {
    let (_root, registry) = registry();
    let app = path("app");
    let first = put(&registry, "app", "1", Some("v1"));
    let second = put(&registry, "app", "2", None);
    assert_eq!(registry.tags(&app).unwrap(), [tag("v1")]);
    for name in ["latest", "v10", "v2"] {
        registry.tag(&app, &tag(name), &second).unwrap();
    }
    assert_eq!(registry.tags(&app).unwrap(), ["latest", "v1", "v10", "v2"].map(tag));
    registry.tag(&app, &tag("latest"), &first).unwrap();
    assert_eq!(registry.resolve(&app, &tag("latest")).unwrap(), Some(first));
    let error = registry.tag(&app, &tag("x"), &Digest::of("nothing")).unwrap_err();
    assert!(matches!(error, StoreError::ManifestUnknown { .. }), "{error}");

    assert!(registry.delete_tag(&app, &tag("v10")).unwrap());
    assert!(!registry.delete_tag(&app, &tag("v10")).unwrap());
    assert!(registry.delete_manifest(&app, &first).unwrap());
    assert!(!registry.delete_manifest(&app, &first).unwrap());
    assert_eq!(registry.tags(&app).unwrap(), [tag("v2")], "v1 and latest went with their manifest");
    assert!(registry.delete_manifest(&app, &second).unwrap());
    assert!(matches!(registry.tags(&app), Err(StoreError::RepositoryUnknown(_))));
    assert!(registry.repositories().unwrap().is_empty());
    assert_eq!(registry.blobs().verify(&first).unwrap(), registry.blobs().size_of(&first).unwrap().unwrap());
}

#[test]
fn referrers_are_what_there_is() {
    let (_root, registry) = registry();
    let (app, subject) = (path("app"), Digest::of("subject"));
    let refer = |text: &str, repository: &str| {
        let mut manifest = image(&registry, text);
        manifest.subject = Some(Descriptor::of(MediaType::Manifest, b"subject"));
        manifest.artifact_type = Some(format!("application/vnd.{text}"));
        manifest.annotations.insert("about".to_owned(), text.to_owned());
        let bytes = manifest.to_bytes();
        registry.put_manifest(&path(repository), &bytes, &MediaType::Manifest, Some(&tag(text))).unwrap()
    };
    let listed = || -> Vec<Digest> {
        registry.referrers(&app, &subject).unwrap().iter().map(|found| found.digest).collect()
    };
    assert!(listed().is_empty(), "neither subject nor repository are there");
    let (one, two) = (refer("one", "app"), refer("two", "app"));
    refer("three", "other");
    put(&registry, "app", "about nothing", None);
    let mut both = [one, two];
    both.sort_unstable();
    assert_eq!(listed(), both);
    let found = registry.referrers(&app, &subject).unwrap().into_iter().find(|found| found.digest == one);
    let found = found.unwrap();
    assert_eq!(found.artifact_type.as_deref(), Some("application/vnd.one"));
    assert_eq!(found.annotations["about"], "one");
    assert_eq!(found.size, registry.manifest(&app, one).unwrap().bytes.len() as u64);
    registry.delete_tag(&app, &tag("two")).unwrap();
    assert_eq!(listed(), both, "a tag is not the manifest");
    registry.delete_manifest(&app, &one).unwrap();
    assert_eq!(listed(), [two]);
    assert_eq!(refer("one", "app"), one);
    assert_eq!(listed(), both, "back again");
    let names: Vec<_> = registry.repositories().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["app", "other"]);
}

#[test]
fn a_manifest_needs_all_that_it_refers_to() {
    let (_root, registry) = registry();
    let app = path("app");
    let mut manifest = image(&registry, "a");
    let refuse = |manifest: &Manifest| {
        registry.put_manifest(&app, &manifest.to_bytes(), &MediaType::Manifest, Some(&tag("t"))).unwrap_err()
    };
    manifest.layers.push(Descriptor::of(MediaType::LayerGzip, b"absent"));
    assert!(
        matches!(refuse(&manifest), StoreError::ReferenceMissing { digest, .. } if digest == Digest::of("absent"))
    );
    manifest.layers.pop();
    manifest.layers[0].size += 1;
    assert!(matches!(
        refuse(&manifest),
        StoreError::ReferenceSize { expected: 12, found: 11, .. } | StoreError::ReferenceSize { .. }
    ));
    assert!(registry.repositories().unwrap().is_empty());
    assert_eq!(registry.resolve(&app, &tag("t")).unwrap(), None);

    let child = put(&registry, "app", "a", None);
    let size = registry.blobs().size_of(&child).unwrap().unwrap();
    let index = Index::new(vec![Descriptor::new(MediaType::Manifest, child, size)]).to_bytes();
    registry.put_manifest(&app, &index, &MediaType::Index, Some(&tag("all"))).unwrap();
    let error = registry.put_manifest(&path("other"), &index, &MediaType::Index, None).unwrap_err();
    assert!(
        matches!(error, StoreError::ReferenceMissing { .. }),
        "the manifests must be in the same repository"
    );
}

#[test]
fn what_others_store_is_not_had_by_knowing_its_digest() {
    let (_root, registry) = registry();
    let manifest = image(&registry, "secret");
    let (bytes, layer) = (manifest.to_bytes(), manifest.layers[0].digest);
    put(&registry, "mine", "secret", None);
    let yours = path("yours");
    assert_eq!(registry.blob_size(&yours, &layer).unwrap(), None);
    let put_foreign = || registry.put_foreign_manifest(&yours, &bytes, &MediaType::Manifest, None);
    assert!(matches!(put_foreign(), Err(StoreError::ReferenceMissing { .. })));
    registry.link_blob(&yours, &layer).unwrap();
    registry.link_blob(&yours, &manifest.config.digest).unwrap();
    put_foreign().unwrap();
    assert_eq!(registry.blob_size(&yours, &layer).unwrap(), Some(15));
    assert!(registry.unlink_blob(&yours, &layer).unwrap());
    assert_eq!(registry.blob_size(&yours, &layer).unwrap(), None);
    assert_eq!(registry.blob_size(&path("mine"), &layer).unwrap(), Some(15));
    assert!(matches!(registry.link_blob(&yours, &Digest::of("no")), Err(StoreError::BlobMissing { .. })));
}

#[test]
fn an_upload_survives_its_writer() {
    let (_root, registry) = registry();
    let app = path("app");
    let mut upload = registry.uploads().begin(&app).unwrap();
    let id = upload.id();
    upload.append(b"first ").unwrap();
    assert!(matches!(registry.uploads().resume(&app, id), Err(StoreError::UploadBusy(_))));
    drop(upload);
    assert_eq!(registry.uploads().length(&app, id).unwrap(), 6);
    assert!(matches!(registry.uploads().resume(&path("b"), id), Err(StoreError::UploadUnknown { .. })));
    let mut upload = registry.uploads().resume(&app, id).unwrap();
    assert_eq!(upload.length(), 6);
    upload.append(b"second").unwrap();
    let digest = Digest::of("first second");
    assert_eq!(registry.commit_upload(upload, &digest).unwrap(), 12);
    assert_eq!(registry.blobs().read(&digest, 12).unwrap(), b"first second");
    assert_eq!(registry.blob_size(&app, &digest).unwrap(), Some(12));
    assert!(matches!(registry.uploads().length(&app, id), Err(StoreError::UploadUnknown { .. })));

    let mut upload = registry.uploads().begin(&app).unwrap();
    let id = upload.id();
    upload.append(b"x").unwrap();
    assert!(matches!(registry.commit_upload(upload, &digest), Err(StoreError::DigestMismatch { .. })));
    assert!(registry.uploads().resume(&app, id).is_err(), "a wrong upload is gone");
}

#[test]
fn only_forgotten_uploads_are_removed() {
    let (root, registry) = registry();
    let app = path("app");
    let living = registry.uploads().begin(&app).unwrap();
    let forgotten = registry.uploads().begin(&app).unwrap().id();
    assert_eq!(registry.uploads().remove_stale(Duration::from_hours(1)).unwrap(), 0);
    assert_eq!(registry.uploads().remove_stale(Duration::ZERO).unwrap(), 1);
    assert!(registry.uploads().length(&app, forgotten).is_err());
    registry.uploads().length(&app, living.id()).unwrap();
    registry.uploads().cancel(&app, living.id()).unwrap();
    assert_eq!(std::fs::read_dir(root.path().join("registry/uploads")).unwrap().count(), 0);
}

/// Eight threads tag, retag and delete while others look: whatever a look finds is whole.
#[test]
fn readers_never_see_a_half_state() {
    let (_root, registry) = registry();
    let app = path("app");
    let writing = AtomicUsize::new(4);
    thread::scope(|scope| {
        for writer in 0..4 {
            let (registry, writing) = (&registry, &writing);
            scope.spawn(move || {
                for round in 0..8 {
                    let digest = put(registry, "app", &format!("{writer} {round}"), Some("latest"));
                    if round % 3 == 0 {
                        registry.delete_manifest(&path("app"), &digest).unwrap();
                    }
                }
                writing.fetch_sub(1, Ordering::Relaxed);
            });
        }
        for _ in 0..4 {
            scope.spawn(|| {
                while writing.load(Ordering::Relaxed) > 0 {
                    let Ok(found) = registry.manifest(&app, tag("latest")) else { continue };
                    let manifest = Manifest::parse(&found.bytes).unwrap();
                    for layer in &manifest.layers {
                        assert_eq!(registry.blob_size(&app, &layer.digest).unwrap(), Some(layer.size));
                    }
                    registry.tags(&app).unwrap_or_default();
                }
            });
        }
    });
    for name in registry.tags(&app).unwrap_or_default() {
        registry.manifest(&app, name).unwrap();
    }
}
