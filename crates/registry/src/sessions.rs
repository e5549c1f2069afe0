//! Uploads between two requests.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use longshore_store::{Registry, RepositoryPath, Result, Upload, UploadId};

/// How many uploads are kept open between requests. One that is put away is taken up again from disk.
const MOST_OPEN: usize = 256;

/// Uploads whose next request has not come yet, with what is hashed so far. They are on disk as well; being here
/// only saves reading them again.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<HashMap<UploadId, (Instant, Upload)>>);

impl Sessions {
    fn open(&self) -> MutexGuard<'_, HashMap<UploadId, (Instant, Upload)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an upload to write to it. Blocks when it must be read from disk.
    pub(crate) fn take(
        &self,
        registry: &Registry,
        repository: &RepositoryPath,
        id: UploadId,
    ) -> Result<Upload> {
        let mut open = self.open();
        if open.get(&id).is_some_and(|(_, upload)| upload.repository() == repository)
            && let Some((_, upload)) = open.remove(&id)
        {
            return Ok(upload);
        }
        drop(open);
        registry.uploads().resume(repository, id)
    }

    /// Keeps an upload for its next request.
    pub(crate) fn keep(&self, upload: Upload) {
        let mut open = self.open();
        if open.len() >= MOST_OPEN {
            let oldest = open.iter().min_by_key(|(_, (since, _))| *since).map(|(id, _)| *id);
            if let Some(oldest) = oldest {
                open.remove(&oldest);
            }
        }
        open.insert(upload.id(), (Instant::now(), upload));
    }

    /// Lets go of an upload that is being cancelled.
    pub(crate) fn forget(&self, id: UploadId) {
        self.open().remove(&id);
    }
}
