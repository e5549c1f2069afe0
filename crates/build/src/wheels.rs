//! Getting wheels, each once however many layers want it.

use std::{
    collections::HashMap,
    io,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use longshore_fetch::{Download, Fetcher, Origin as From};
use longshore_oci::Digest;
use longshore_python::lock::{Lock, LockedPackage, PinnedWheel};
use longshore_store::{Blob, BlobStore};
use tokio::sync::OnceCell;

use crate::{BuildError, Builder, Event, Observer, stored::remove_damaged};

/// Tells an observer how much more of several downloads has arrived, from how much of each has.
pub(crate) struct Meter<'a> {
    observer: Observer<'a>,
    arrived: Mutex<HashMap<String, u64>>,
}

impl<'a> Meter<'a> {
    pub(crate) fn new(observer: Observer<'a>) -> Self {
        Self { observer, arrived: Mutex::default() }
    }

    /// Of `what`, this many bytes have arrived in all.
    pub(crate) fn at(&self, what: &str, bytes: u64) {
        let mut arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        let before = arrived.insert(what.to_owned(), bytes).unwrap_or(0);
        (self.observer)(Event::FetchProgress { bytes: bytes.cast_signed() - before.cast_signed() });
    }
}

/// The wheels of a lock that a build needs.
pub(crate) struct Wheels<'a> {
    fetcher: &'a Fetcher,
    downloads: &'a BlobStore,
    observer: Observer<'a>,
    meter: Meter<'a>,
    packages: HashMap<Digest, (&'a LockedPackage, OnceCell<()>)>,
}

impl<'a> Wheels<'a> {
    pub(crate) fn new(
        fetcher: &'a Fetcher,
        downloads: &'a BlobStore,
        observer: Observer<'a>,
        lock: &'a Lock,
    ) -> Self {
        let packages = lock.packages.iter().map(|package| (package.wheel.digest, (package, OnceCell::new())));
        Self { fetcher, downloads, observer, meter: Meter::new(observer), packages: packages.collect() }
    }

    /// Sees to it that a wheel is in the store.
    pub(crate) async fn get(&self, wheel: &PinnedWheel) -> Result<(), BuildError> {
        let Some((_, cell)) = self.packages.get(&wheel.digest) else { return Ok(()) };
        cell.get_or_try_init(|| self.fetch(wheel)).await.copied()
    }

    /// The same for one that was there before and is no more.
    pub(crate) async fn fetch(&self, wheel: &PinnedWheel) -> Result<(), BuildError> {
        let Some((package, _)) = self.packages.get(&wheel.digest) else { return Ok(()) };
        if self.downloads.size_of(&wheel.digest)?.is_some() {
            return Ok(());
        }
        let what = format!("{} {}", package.name, package.version);
        let started = Instant::now();
        (self.observer)(Event::FetchStarted { bytes: wheel.size.unwrap_or(0) });
        let download = Download {
            url: wheel.url.clone(),
            digest: Some(wheel.digest),
            size: wheel.size,
            what: wheel.filename.as_str().to_owned(),
        };
        let progress = |bytes| self.meter.at(&what, bytes);
        let fetched = self.fetcher.fetch(&download, self.downloads, &progress).await?;
        if fetched.from != From::Store {
            let (bytes, took) = (fetched.size, started.elapsed());
            (self.observer)(Event::FetchDone { what: what.clone(), bytes, took });
        }
        Ok(())
    }
}

impl Builder {
    /// Removes those of some downloads that are damaged; says whether there were any.
    pub(crate) async fn drops_damaged(
        &self,
        downloads: impl Iterator<Item = Digest>,
    ) -> Result<bool, BuildError> {
        let (store, digests) = (self.downloads.clone(), downloads.collect::<Vec<_>>());
        let look = move || {
            digests
                .iter()
                .try_fold(false, |any, digest| Ok::<_, BuildError>(remove_damaged(&store, digest)? || any))
        };
        tokio::task::spawn_blocking(look).await.map_err(|_| BuildError::Lost("reading downloads again"))?
    }
}

/// The file of a wheel that was fetched.
pub(crate) fn open(downloads: &BlobStore, wheel: &PinnedWheel) -> io::Result<Blob> {
    downloads.open_blob(&wheel.digest).map_err(io::Error::other)
}
