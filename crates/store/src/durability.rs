//! What is on disk, and what only seems to be.
//!
//! The system may write a file's name to disk long before its bytes. After a power cut such a blob has the right
//! name and wrong bytes. So a blob that has a name before its bytes are known to be on disk also has a *mark*:
//! an empty file `unsynced/<boot>/<hex>`, made before the name and removed once bytes and name are on disk. Marks
//! of this boot say what is left to do; marks of an earlier boot say which blobs cannot be trusted, and those are
//! hashed when the store is opened. (Journalling file systems write names in the order in which they were made,
//! so no blob survives without its mark.)

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read},
    iter,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use longshore_oci::{Digest, Digester};
use rustix::{
    fs::{FlockOperation, Mode, OFlags},
    io::Errno,
};

use crate::{Result, StoreError, error::Context, folder, layout::Layout};

/// When the bytes of a blob are on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// When `commit` returns.
    #[default]
    Full,
    /// Soon: they are being written by a thread in the background when `commit` returns, and are there at the latest
    /// when [`BlobStore::sync`](crate::BlobStore::sync) or [`Registry::put_manifest`](crate::Registry::put_manifest)
    /// returns. After a power cut before that the blob is whole or absent.
    Deferred,
}

/// How many files are written to disk at once. The file system then writes its journal once for several.
const PARALLEL_SYNCS: usize = 8;

/// The marks of a store's blobs.
#[derive(Debug)]
pub(crate) struct Marks {
    layout: Layout,
    /// The folder of this boot's marks; none where the system does not tell boots apart, and then nothing is deferred.
    current: Option<PathBuf>,
    background: OnceLock<mpsc::Sender<Digest>>,
    /// Why the background thread could not write a blob; told to the next who asks for blobs to be on disk.
    failed: Arc<Mutex<Option<StoreError>>>,
}

impl Marks {
    /// The marks of the store at `root`. Blobs that an earlier boot left marked are checked now.
    pub(crate) fn open(root: &Path, layout: Layout) -> Result<Self> {
        let folder = root.join("unsynced");
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let boot = Some(boot.trim()).filter(|boot| !boot.is_empty() && !boot.contains(['/', '.']));
        for earlier in folder::names(&folder)? {
            if Some(earlier.as_str()) != boot {
                match recover(&folder.join(earlier), &layout) {
                    // A store that cannot be written can still be read: each reader of a whole blob checks it.
                    Ok(()) | Err(StoreError::ReadOnly { .. } | StoreError::Permission { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        let current = boot.map(|boot| folder.join(boot));
        Ok(Self { layout, current, background: OnceLock::new(), failed: Arc::default() })
    }

    /// Whether there are marks on this system, and so whether anything can be deferred.
    pub(crate) const fn are_kept(&self) -> bool {
        self.current.is_some()
    }

    fn of(&self, digest: &Digest) -> Option<PathBuf> {
        self.current.as_ref().map(|folder| folder.join(digest.hex()))
    }

    /// Marks a blob that is about to get its name.
    pub(crate) fn set(&self, digest: &Digest) -> Result<()> {
        let Some(mark) = self.of(digest) else { return Ok(()) };
        let create = || {
            let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::open(&mark, flags, Mode::from_raw_mode(0o644)).map(drop)
        };
        match (create(), mark.parent()) {
            (Err(Errno::NOENT), Some(folder)) => folder::create(folder).and_then(|()| create()),
            (made, _) => made,
        }
        .doing("create", &mark)
    }

    /// Has the background thread write a marked blob to disk.
    pub(crate) fn settle_soon(&self, digest: Digest) -> Result<()> {
        let queue = self.background.get_or_init(|| {
            let (queue, work) = mpsc::channel();
            let (layout, current, failed) =
                (self.layout.clone(), self.current.clone(), Arc::clone(&self.failed));
            // It ends when the store's last handle is dropped, or with the process: the marks stay then.
            let run = move || work_off(&work, &layout, current.as_deref(), &failed);
            // Without the thread the queue is closed, and the next line does its work.
            let _ = thread::Builder::new().name("blob-sync".to_owned()).spawn(run);
            queue
        });
        match queue.send(digest) {
            Ok(()) => Ok(()),
            Err(_) => self.settle([&digest], Vec::new()),
        }
    }

    /// Writes those of the blobs that are marked to disk, and their names, and `others` with them.
    pub(crate) fn settle<'a>(
        &self,
        digests: impl IntoIterator<Item = &'a Digest>,
        others: Vec<Open>,
    ) -> Result<()> {
        if let Some(error) = self.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(error);
        }
        let marked: BTreeSet<Digest> = match &self.current {
            Some(current) if current.is_dir() => {
                digests.into_iter().filter(|digest| current.join(digest.hex()).exists()).copied().collect()
            }
            _ => BTreeSet::new(),
        };
        settle(&self.layout, self.current.as_deref(), &marked, others)
    }
}

/// The background thread's life. What has queued up meanwhile is written in one go.
fn work_off(
    work: &mpsc::Receiver<Digest>,
    layout: &Layout,
    current: Option<&Path>,
    failed: &Mutex<Option<StoreError>>,
) {
    while let Ok(first) = work.recv() {
        let marked = iter::once(first).chain(work.try_iter().take(PARALLEL_SYNCS - 1)).collect();
        if let Err(error) = settle(layout, current, &marked, Vec::new()) {
            *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
    }
}

/// An open file or folder that is to be on disk, and what it is called.
pub(crate) type Open = (File, PathBuf);

/// Writes marked blobs, their names and other files to disk, then removes the marks.
fn settle(
    layout: &Layout,
    current: Option<&Path>,
    marked: &BTreeSet<Digest>,
    mut files: Vec<Open>,
) -> Result<()> {
    let mut folders = BTreeSet::new();
    for digest in marked {
        let (of_blob, above) = layout.to_sync(digest)?;
        files.extend(of_blob);
        folders.extend(above);
    }
    for folder in folders {
        files.push(folder::open(&folder)?);
    }
    if let Err(error) = sync_all(&files) {
        // The system forgets a failed write once it has reported it: asked again, it would call these blobs written.
        for digest in marked {
            layout.remove(digest)?;
        }
        return Err(error);
    }
    for mark in marked.iter().filter_map(|digest| Some(current?.join(digest.hex()))) {
        folder::remove_file(&mark)?;
    }
    Ok(())
}

/// Writes files and folders to disk, several at once.
fn sync_all(files: &[Open]) -> Result<()> {
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some((file, path)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            file.sync_all().doing("write to disk", path)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let helpers = files.len().min(PARALLEL_SYNCS).saturating_sub(1);
        // A thread that cannot be had leaves its share to the others.
        let spawn = |_| thread::Builder::new().spawn_scoped(scope, work).ok();
        let helpers: Vec<_> = (0..helpers).filter_map(spawn).collect();
        let own = work();
        helpers.into_iter().map(|helper| helper.join().unwrap_or(Ok(()))).fold(own, Result::and)
    })
}

/// Checks the blobs that an earlier boot left marked; those that did not survive whole are removed.
fn recover(marks: &Path, layout: &Layout) -> Result<()> {
    // One process at a time: else a slow one could remove what a fast one has already found damaged, removed and
    // written anew.
    let lock = match File::open(marks) {
        Ok(folder) => folder,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).doing("open", marks),
    };
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).doing("lock", marks)?;
    for name in folder::names(marks)? {
        if let Ok(digest) = Digest::from_hex(&name) {
            let found = match hash(layout, &digest) {
                // What is left of a composed blob.
                Err(StoreError::Recipe { .. }) => None,
                found => found?,
            };
            match found {
                Some((found, _)) if found == digest => sync_all(&layout.to_sync(&digest)?.0)?,
                _ => drop(layout.remove(&digest)?),
            }
        }
        folder::remove_file(&marks.join(name))?;
    }
    // Somebody else may have removed it first.
    let _ = fs::remove_dir(marks);
    Ok(())
}

/// The digest and length of what is stored as a blob; none where there is none.
pub(crate) fn hash(layout: &Layout, digest: &Digest) -> Result<Option<(Digest, u64)>> {
    let Some(mut blob) = layout.open(digest)? else { return Ok(None) };
    let mut digester = Digester::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match blob.read(&mut buffer).doing("read", layout.path(digest))? {
            0 => break,
            length => digester.update(&buffer[..length]),
        }
    }
    let length = digester.length();
    Ok(Some((digester.finish(), length)))
}

#[cfg(test)]
mod tests {
    use crate::{BlobStore, Durability};
    use longshore_oci::Digest;
    use std::fs;

    fn marks(store: &BlobStore) -> Vec<String> {
        let folder = store.root().join("unsynced");
        let boots = crate::folder::names(&folder).unwrap();
        boots.iter().flat_map(|boot| crate::folder::names(&folder.join(boot)).unwrap()).collect()
    }

    #[test]
    fn what_a_power_cut_damaged_is_removed_and_the_rest_is_kept() {
        let root = tempfile::tempdir().unwrap();
        let store = BlobStore::open(root.path()).unwrap();
        let [whole, torn, unmarked] =
            ["whole", "torn", "unmarked"].map(|text| store.put(text.as_bytes()).unwrap());
        fs::write(store.path(&torn), "to\0\0").unwrap();
        fs::write(store.path(&unmarked), "bit rot!").unwrap();
        let earlier = root.path().join("unsynced/0b1c2d3e-earlier-boot");
        fs::create_dir_all(&earlier).unwrap();
        for digest in [&whole, &torn, &Digest::of("never linked")] {
            fs::write(earlier.join(digest.hex()), "").unwrap();
        }

        let store = BlobStore::open(root.path()).unwrap();
        assert_eq!(store.verify(&whole).unwrap(), 5);
        assert_eq!(store.size_of(&torn).unwrap(), None);
        assert_eq!(store.size_of(&unmarked).unwrap(), Some(8), "only marked blobs are in doubt");
        assert!(!earlier.exists());
    }

    #[test]
    fn nothing_stays_marked_once_it_is_on_disk() {
        let root = tempfile::tempdir().unwrap();
        let store = BlobStore::open(root.path()).unwrap();
        let digest = store.put(b"full").unwrap();
        assert_eq!(marks(&store), [""; 0]);

        let deferred = store.with_durability(Durability::Deferred);
        let digests: Vec<_> = (0..40).map(|i| deferred.put(format!("{i}").as_bytes()).unwrap()).collect();
        deferred.sync(&digests).unwrap();
        let ours: Vec<_> = digests.iter().map(Digest::hex).collect();
        assert!(!marks(&store).iter().any(|mark| ours.contains(mark)));
        assert_eq!(store.verify(&digest).unwrap(), 4);
    }

    /// What one writer left to the background, another who needs it durable must not take for durable.
    #[test]
    fn a_full_writer_settles_what_a_deferred_one_left() {
        let root = tempfile::tempdir().unwrap();
        let store = BlobStore::open(root.path()).unwrap();
        let digest = store.put(b"x").unwrap();
        // As a process leaves it that is killed before its background thread comes to it.
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        fs::write(root.path().join("unsynced").join(boot.trim()).join(digest.hex()), "").unwrap();
        let store = BlobStore::open(root.path()).unwrap();
        assert_eq!(marks(&store), [digest.hex()]);
        store.with_durability(Durability::Deferred).put(b"x").unwrap();
        store.put(b"x").unwrap();
        assert_eq!(marks(&store), [""; 0]);
    }
}
