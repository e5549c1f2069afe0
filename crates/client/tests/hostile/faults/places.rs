//! Blobs, pages and lists that are elsewhere.

use super::*;

#[tokio::test]
async fn a_blob_that_is_elsewhere() {
    pulls(200_000, [Fault::Redirect.always_on(Operation::BlobGet).after(1)]).await;
    // There it breaks off, too.
    pulls(
        300_000,
        [
            Fault::Redirect.once_on(Operation::BlobGet),
            Fault::Truncated { after: 100_000 }.times_on(Operation::BlobGet, 2),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_redirect_to_itself() {
    let (_, outcome) = pull(10, [Fault::RedirectLoop.always_on(Operation::BlobGet)]).await;
    assert!(outcome.is_err());
    let (_, outcome) = pull(10, [Fault::RedirectLoop.always_on(Operation::ManifestGet)]).await;
    assert!(outcome.is_err());
}

#[tokio::test]
async fn pages_that_lead_back() {
    let desk = Desk::new();
    image(10).store(&desk.registry, "team/app", "1");
    for (operation, is_catalog) in [(Operation::Tags, false), (Operation::Catalog, true)] {
        desk.registry.plan(Fault::PagingLoop.always_on(operation));
        let listed = if is_catalog {
            desk.client.catalog(&desk.registry.host()).await.map(drop)
        } else {
            desk.client.tags(&desk.repository("team/app")).await.map(drop)
        };
        assert!(matches!(listed, Err(ClientError::Protocol { .. })), "{listed:?}");
        assert!(desk.registry.count(operation) < 4);
    }
}

#[tokio::test]
async fn no_referrers_api() {
    let config = HostileConfig { referrers: Referrers::Missing, ..HostileConfig::default() };
    let (desk, image) = (Desk::with(config, Entrance::Open), image(10));
    image.store(&desk.registry, "team/app", "1");
    let repository = desk.repository("team/app");
    let config = Descriptor::of(MediaType::Empty, b"{}");
    desk.registry.put_blob("team/app", &b"{}"[..]);
    let mut said = Vec::new();
    for kind in ["application/vnd.a", "application/vnd.b"] {
        let mut manifest = Manifest::image(config.clone(), vec![]);
        manifest.subject = Some(image.root.clone());
        manifest.artifact_type = Some(kind.to_owned());
        // The list is kept under a tag, and kept when a request of it fails.
        desk.registry.plan(Fault::ResetAtOnce.once_on(Operation::ManifestGet));
        let bytes = manifest.to_bytes();
        let put = desk.client.put_manifest(&repository, &bytes, &MediaType::Manifest, &[]).await;
        said.push(put.unwrap());
    }
    let found = desk.client.referrers(&repository, &image.root.digest, None).await.unwrap();
    let mut found: Vec<Digest> = found.manifests.iter().map(|found| found.digest).collect();
    found.sort_unstable();
    said.sort_unstable();
    assert_eq!(found, said);
    let tag = format!("sha256-{}", image.root.digest.hex());
    assert!(desk.registry.tags("team/app").contains(&tag));
}
