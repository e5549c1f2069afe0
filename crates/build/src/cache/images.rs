//! What the images of the embedded registry need, and so is no cache.

use std::{
    collections::HashSet,
    fs::{self, Metadata},
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
};

use longshore_oci::{Digest, Index, Manifest};
use longshore_store::StoreError;

use super::{
    Cache, CacheError,
    stock::{Inode, Item, Kind, Place, Shared, Stock, room, used},
};

/// What images need.
pub(super) struct Images {
    /// The files that their blobs are in.
    files: HashSet<Inode>,
    /// Whether all images could be read.
    pub(super) are_known: bool,
}

impl Images {
    /// Looks at all images; says in the stock what they have.
    pub(super) fn look(cache: &Cache, stock: &mut Stock) -> Result<Self, CacheError> {
        let blobs = cache.registry.blobs();
        let mut images = Self { files: HashSet::new(), are_known: true };
        match named(cache) {
            Ok(named) => {
                let files = named.iter().flat_map(|digest| blobs.files(digest));
                for metadata in files.filter_map(|path| fs::metadata(path).ok()) {
                    if images.files.insert((&metadata).into()) {
                        stock.images += room(&metadata);
                    }
                }
                stock.named = named;
            }
            Err(error) => {
                // What an image names that cannot be read is not known, so no layer is without an image.
                stock
                    .remarks
                    .push(format!("layers are left alone, because an image cannot be read: {error}"));
                images.are_known = false;
                let files = blobs.digests()?.into_iter().flat_map(|digest| blobs.files(&digest));
                images.files = files.filter_map(|path| Some((&fs::metadata(path).ok()?).into())).collect();
            }
        }
        Ok(images)
    }

    /// The thing that is in these files, the first of which says when it was used. What an image has as well takes no room.
    pub(super) fn item(&self, kind: Kind, place: Place, files: &[PathBuf]) -> Option<Item> {
        let files: Vec<Metadata> = files.iter().filter_map(|path| fs::metadata(path).ok()).collect();
        let used = used(files.first()?);
        let own: Vec<&Metadata> =
            files.iter().filter(|metadata| !self.files.contains(&Inode::from(*metadata))).collect();
        let mut item = Item { kind, place, size: 0, shared: None, used, kept: own.is_empty() };
        // What a thing may share is the last of its files: a layer's recipe is its own, however many names it has.
        for metadata in own.into_iter().rev() {
            if metadata.nlink() > 1 && item.shared.is_none() {
                item.shared = Some(Shared { file: metadata.into(), size: room(metadata) });
            } else {
                item.size += room(metadata);
            }
        }
        Some(item)
    }
}

/// The blobs that the manifests of all repositories name, and the manifests.
fn named(cache: &Cache) -> Result<HashSet<Digest>, StoreError> {
    let mut named = HashSet::new();
    for repository in cache.registry.repositories()? {
        for digest in cache.registry.manifests(&repository)? {
            let stored = match cache.registry.manifest(&repository, digest) {
                // Its bytes are gone: nobody can pull it.
                Err(StoreError::ManifestUnknown { .. } | StoreError::BlobMissing { .. }) => continue,
                stored => stored?,
            };
            named.insert(digest);
            if stored.media_type.is_index() {
                named.extend(Index::parse(&stored.bytes)?.manifests.iter().map(|listed| listed.digest));
            } else {
                let manifest = Manifest::parse(&stored.bytes)?;
                named.extend(manifest.layers.iter().chain([&manifest.config]).map(|blob| blob.digest));
            }
        }
    }
    Ok(named)
}
