//! What is in the caches.

use std::{
    collections::HashSet,
    fs::{self, Metadata},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use longshore_oci::Digest;
use longshore_store::BlobStore;
use serde_json::Value;

use super::{Cache, CacheError, digest_of, hold, images::Images, plan::bytes};

/// The row of the table that says how large an unpacked layer is.
const SNAPSHOT_SIZE: &str = "snapshot-size";
/// The rows that can be large: each is a thing of its own.
const LARGE_ROWS: [&str; 2] = ["layer-contents", "scan"];
/// The row that has a layer of some inputs, and the one that says that a registry has it.
const LAYER: &str = "layer";
const PUSHED: &str = "pushed-layer";
/// While the registry is served, a layer that no image names may be one whose image is still to come.
const ARRIVING: Duration = Duration::from_hours(24);

/// A thing that can be removed for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What sort of thing it is.
    pub kind: Kind,
    /// Where it is.
    pub place: Place,
    /// The bytes that it takes on the disk and shares with nothing.
    pub size: u64,
    /// The file that it shares with other things, if there is one.
    pub shared: Option<Shared>,
    /// When it was last used, as far as the file system says: most note it once a day.
    pub used: SystemTime,
    /// Whether it has to stay, or to remove it would free nothing.
    pub kept: bool,
}

/// A file that has several names: a wheel among the downloads, and in the layer that is composed of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shared {
    /// Which file it is.
    pub file: Inode,
    /// The bytes that it takes on the disk.
    pub size: u64,
}

/// A file, whatever its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Inode {
    /// The file system.
    pub device: u64,
    /// Its number there.
    pub number: u64,
}

impl From<&Metadata> for Inode {
    fn from(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), number: metadata.ino() }
    }
}

/// The sorts of things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Wheels and Debian packages.
    Download,
    /// Layers, unpacked to run containers.
    Snapshot,
    /// Layers in the embedded registry that no image there names.
    Layer,
    /// What was computed once.
    Row,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Download, Self::Snapshot, Self::Layer, Self::Row];

    /// What they are called.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Download => "downloads",
            Self::Snapshot => "unpacked layers",
            Self::Layer => "layers of no image",
            Self::Row => "remembered results",
        }
    }
}

/// Where a thing is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Among the downloads.
    Download(Digest),
    /// Among the unpacked layers.
    Snapshot(Digest),
    /// Among the registry's blobs.
    Layer(Digest),
    /// A file of the table.
    Row(PathBuf),
}

/// What is there.
#[derive(Clone, Debug, Default)]
pub struct Stock {
    /// The things.
    pub items: Vec<Item>,
    /// The blobs that images of the embedded registry name. They are no cache.
    pub named: HashSet<Digest>,
    /// Their bytes.
    pub images: u64,
    /// Why something could not be looked at.
    pub remarks: Vec<String>,
}

impl Stock {
    /// The bytes of all things.
    pub fn size(&self) -> u64 {
        bytes(&self.items)
    }

    /// The bytes of all things but these.
    pub fn without(&self, removed: &[Item]) -> u64 {
        let removed: HashSet<&Place> = removed.iter().map(|item| &item.place).collect();
        bytes(self.items.iter().filter(|item| !removed.contains(&item.place)))
    }

    /// The things of a kind.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(move |item| item.kind == kind)
    }
}

/// Looks at everything. What cannot be read is remarked, and stays.
pub(super) fn take(cache: &Cache) -> Result<Stock, CacheError> {
    let mut stock = Stock::default();
    let images = Images::look(cache, &mut stock)?;
    downloads(cache, &images, &mut stock)?;
    snapshots(cache, &mut stock);
    if images.are_known {
        layers(cache, &images, &mut stock)?;
    }
    rows(cache, &mut stock);
    Ok(stock)
}

/// The bytes on the disk.
pub(super) fn room(metadata: &Metadata) -> u64 {
    metadata.blocks() * 512
}

/// When a file was last used or made.
pub(super) fn used(metadata: &Metadata) -> SystemTime {
    let times = [metadata.accessed(), metadata.modified()];
    times.into_iter().flatten().max().unwrap_or(SystemTime::UNIX_EPOCH)
}

fn downloads(cache: &Cache, images: &Images, stock: &mut Stock) -> Result<(), CacheError> {
    for digest in cache.downloads.digests()? {
        let files = cache.downloads.files(&digest);
        stock.items.extend(images.item(Kind::Download, Place::Download(digest), &files));
    }
    Ok(())
}

fn snapshots(cache: &Cache, stock: &mut Stock) {
    for (name, path) in entries(&cache.snapshots) {
        let (Some(diff_id), Ok(metadata)) = (digest_of(&name), fs::metadata(&path)) else { continue };
        // An unpacked layer never changes; to look at each of its files takes long.
        let size = cache.table.get(SNAPSHOT_SIZE, &diff_id).unwrap_or_else(|| {
            let size = tree_size(&path);
            // Where nothing can be written, it is looked at again.
            let _ = cache.table.put(SNAPSHOT_SIZE, &diff_id, &size);
            size
        });
        let (place, used) = (Place::Snapshot(diff_id), used(&metadata));
        stock.items.push(Item { kind: Kind::Snapshot, place, size, shared: None, used, kept: false });
    }
}

/// The bytes of a folder's files, links not followed.
fn tree_size(root: &Path) -> u64 {
    let mut size = 0;
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        for (_, path) in entries(&folder) {
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            size += room(&metadata);
            if metadata.is_dir() {
                open.push(path);
            }
        }
    }
    size
}

fn entries(folder: &Path) -> impl Iterator<Item = (String, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
}

fn layers(cache: &Cache, images: &Images, stock: &mut Stock) -> Result<(), CacheError> {
    let blobs: &BlobStore = cache.registry.blobs();
    let is_served = blobs.root().parent().is_some_and(hold::is_served);
    let now = SystemTime::now();
    for digest in blobs.digests()? {
        if stock.named.contains(&digest) {
            continue;
        }
        let item = images.item(Kind::Layer, Place::Layer(digest), &blobs.files(&digest));
        let Some(mut item) = item else { continue };
        let is_young = now.duration_since(item.used).is_ok_and(|age| age < ARRIVING);
        item.kept |= is_served && is_young;
        stock.items.push(item);
    }
    Ok(())
}

/// The rows of the table: large ones, and layers that are nowhere any more.
fn rows(cache: &Cache, stock: &mut Stock) {
    let kinds: Vec<(String, PathBuf)> = entries(cache.table.root()).collect();
    let rows = |kind: &str| {
        let folder = kinds.iter().find(|(name, _)| name == kind).map(|(_, path)| path.clone());
        let shards = folder.into_iter().flat_map(|folder| entries(&folder).collect::<Vec<_>>());
        shards.flat_map(|(_, shard)| entries(&shard).map(|(_, row)| row).collect::<Vec<_>>())
    };
    let pushed: HashSet<Digest> =
        rows(PUSHED).filter_map(|row| digest_at(&read(&row)?, &["key", "layer"])).collect();
    for row in rows(LAYER) {
        let Some(digest) = read(&row).and_then(|row| digest_at(&row, &["value", "digest"])) else { continue };
        let is_here = cache.registry.blobs().size_of(&digest).is_ok_and(|size| size.is_some());
        if !is_here && !pushed.contains(&digest) {
            // It goes first: it is of no use to anybody.
            push_row(stock, row, Some(SystemTime::UNIX_EPOCH));
        }
    }
    for kind in LARGE_ROWS {
        rows(kind).for_each(|row| push_row(stock, row, None));
    }
}

fn push_row(stock: &mut Stock, path: PathBuf, when: Option<SystemTime>) {
    let Ok(metadata) = fs::metadata(&path) else { return };
    let (size, used) = (room(&metadata), when.unwrap_or_else(|| used(&metadata)));
    stock.items.push(Item {
        kind: Kind::Row,
        place: Place::Row(path),
        size,
        shared: None,
        used,
        kept: false,
    });
}

fn read(row: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(row).ok()?).ok()
}

fn digest_at(row: &Value, path: &[&str]) -> Option<Digest> {
    path.iter().try_fold(row, |value, name| value.get(name))?.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use longshore_oci::{Descriptor, Manifest, MediaType, Tag};
    use longshore_store::{Registry, Table};
    use serde_json::json;

    use super::super::{CacheSize, Hold};
    use super::*;

    fn cache(root: &Path) -> Cache {
        Cache {
            registry: Registry::open(root.join("registry")).unwrap(),
            table: Table::open(root.join("cache/table")).unwrap(),
            downloads: BlobStore::open(root.join("cache/downloads")).unwrap(),
            snapshots: root.join("cache/snapshots"),
            folder: root.join("cache"),
        }
    }

    /// An image of one layer, and a layer of none.
    fn filled(root: &Path) -> (Cache, Digest, Digest) {
        let cache = cache(root);
        let blobs = cache.registry.blobs();
        let (config, layer, loose) =
            (blobs.put(b"{}").unwrap(), blobs.put(b"layer").unwrap(), blobs.put(b"loose").unwrap());
        let manifest = Manifest::image(
            Descriptor::new(MediaType::Config, config, 2),
            vec![Descriptor::new(MediaType::LayerGzip, layer, 5)],
        );
        let bytes = manifest.to_bytes();
        let path = "app".parse().unwrap();
        cache.registry.put_manifest(&path, &bytes, &MediaType::Manifest, Some(&Tag::latest())).unwrap();
        cache.downloads.put(b"wheel").unwrap();
        for digest in [layer, loose, Digest::of("gone")] {
            cache.table.put(LAYER, &json!({"of": digest}), &json!({"digest": digest})).unwrap();
        }
        cache.table.put("layer-contents", &1, &"much").unwrap();
        (cache, layer, loose)
    }

    #[test]
    fn what_images_name_is_no_cache() {
        let root = tempfile::tempdir().unwrap();
        let (cache, layer, loose) = filled(root.path());
        let stock = cache.stock().unwrap();
        assert!(stock.named.contains(&layer) && !stock.named.contains(&loose));
        assert_eq!(Kind::ALL.map(|kind| stock.of(kind).count()), [1, 0, 1, 2]);
        let alone = Hold::alone(&cache.folder).unwrap();
        let pruned = cache.prune(CacheSize::Bytes(0), &stock, &alone);
        assert_eq!((pruned.removed.len(), pruned.failed.len(), pruned.left), (4, 0, 0));
        let left = cache.stock().unwrap();
        assert_eq!(left.of(Kind::Download).count() + left.of(Kind::Layer).count(), 0);
        assert!(cache.registry.manifest(&"app".parse().unwrap(), Tag::latest()).is_ok());
        assert_eq!(cache.registry.blobs().verify(&layer).unwrap(), 5);
        // The row of the layer that is gone now, and no other.
        assert_eq!(left.of(Kind::Row).count(), 1);
    }

    #[test]
    fn what_others_may_be_pushing_stays() {
        let root = tempfile::tempdir().unwrap();
        let (cache, _, _) = filled(root.path());
        let server = hold::serving(&root.path().join("registry"));
        assert!(cache.stock().unwrap().of(Kind::Layer).all(|item| item.kept));
        drop(server);
        assert!(cache.stock().unwrap().of(Kind::Layer).all(|item| !item.kept));
    }

    #[test]
    fn when_an_image_cannot_be_read_no_layer_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let (cache, ..) = filled(root.path());
        let path = "app".parse().unwrap();
        let digest = cache.registry.manifest(&path, Tag::latest()).unwrap().digest;
        fs::write(cache.registry.blobs().path(&digest), "rubbish").unwrap();
        let stock = cache.stock().unwrap();
        assert_eq!(stock.of(Kind::Layer).count(), 0);
        assert!(stock.remarks[0].contains("cannot be read"), "{:?}", stock.remarks);
    }

    /// A layer composed of a wheel that is among the downloads.
    fn composed(cache: &Cache, wheel: &Digest, from: usize) -> Digest {
        let mut source = cache.downloads.open_blob(wheel).unwrap();
        let mut writer = cache.registry.blobs().composing_writer(&source);
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut source, &mut bytes).unwrap();
        writer.copy(from as u64, &bytes[from..]).unwrap();
        writer.commit().unwrap().0
    }

    #[test]
    fn a_wheel_that_a_layer_is_composed_of_is_counted_once() {
        const WHEEL: usize = 1 << 20;
        let root = tempfile::tempdir().unwrap();
        let cache = cache(root.path());
        let blobs = cache.registry.blobs();
        let wheel = cache.downloads.put(&vec![7; WHEEL]).unwrap();
        let (layer, loose) = (composed(&cache, &wheel, 0), composed(&cache, &wheel, 10));
        let stock = cache.stock().unwrap();
        let once = WHEEL as u64..2 * WHEEL as u64;
        assert_eq!((stock.of(Kind::Download).count(), stock.of(Kind::Layer).count()), (1, 2));
        assert!(once.contains(&stock.size()), "{}", stock.size());

        let config = blobs.put(b"{}").unwrap();
        let manifest = Manifest::image(
            Descriptor::new(MediaType::Config, config, 2),
            vec![Descriptor::new(MediaType::LayerGzip, layer, WHEEL as u64)],
        );
        let path = "app".parse().unwrap();
        let put = cache.registry.put_manifest(&path, &manifest.to_bytes(), &MediaType::Manifest, None);
        let digest = put.unwrap();
        let stock = cache.stock().unwrap();
        assert!(once.contains(&stock.images), "{}", stock.images);
        assert!(stock.size() < WHEEL as u64, "the image has it: {}", stock.size());
        let alone = Hold::alone(&cache.folder).unwrap();
        let pruned = cache.prune(CacheSize::Bytes(0), &stock, &alone);
        assert_eq!((pruned.removed.len(), pruned.left), (1, 0), "{:?}", pruned.removed);
        assert_eq!(blobs.size_of(&loose).unwrap(), None);
        assert!(cache.downloads.size_of(&wheel).unwrap().is_some(), "to remove it would free nothing");

        cache.registry.delete_manifest(&path, &digest).unwrap();
        let stock = cache.stock().unwrap();
        let pruned = cache.prune(CacheSize::Bytes(WHEEL as u64 / 2), &stock, &alone);
        assert!(pruned.freed >= WHEEL as u64 && pruned.left < WHEEL as u64 / 2, "{pruned:?}");
        assert_eq!((cache.downloads.digests().unwrap(), blobs.size_of(&layer).unwrap()), (vec![], None));
    }

    #[test]
    fn a_composed_layer_that_is_damaged_is_found() {
        let root = tempfile::tempdir().unwrap();
        let cache = cache(root.path());
        let wheel = cache.downloads.put(&vec![7; 1 << 20]).unwrap();
        let layers = [composed(&cache, &wheel, 0), composed(&cache, &wheel, 10)];
        let files = layers.map(|layer| cache.registry.blobs().files(&layer));
        fs::write(&files[0][0], "wrong").unwrap();
        fs::remove_file(&files[1][1]).unwrap();
        fs::write(&files[1][1], vec![8; 1 << 20]).unwrap();
        let alone = Hold::alone(&cache.folder).unwrap();
        let said = cache.check(&cache.stock().unwrap(), &alone).unwrap();
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said.iter().all(|line| line.starts_with("layer removed: ")), "{said:?}");
        assert_eq!(cache.registry.blobs().digests().unwrap(), []);
        assert!(cache.downloads.verify(&wheel).is_ok());
    }

    #[test]
    fn damaged_things_are_found_and_removed() {
        let root = tempfile::tempdir().unwrap();
        let (cache, layer, loose) = filled(root.path());
        let wheel = cache.downloads.digests().unwrap()[0];
        for path in [
            cache.downloads.path(&wheel),
            cache.registry.blobs().path(&layer),
            cache.registry.blobs().path(&loose),
        ] {
            fs::write(path, "wrong").unwrap();
        }
        let alone = Hold::alone(&cache.folder).unwrap();
        let said = cache.check(&cache.stock().unwrap(), &alone).unwrap();
        assert_eq!(said.len(), 3, "{said:?}");
        assert_eq!(cache.downloads.size_of(&wheel).unwrap(), None);
        assert_eq!(cache.registry.blobs().size_of(&loose).unwrap(), None);
        assert_eq!(cache.registry.blobs().size_of(&layer).unwrap(), None);
        assert!(said.iter().any(|line| line.contains("build or copy the image again")), "{said:?}");
        assert!(cache.check(&cache.stock().unwrap(), &alone).unwrap().is_empty());
    }
}
