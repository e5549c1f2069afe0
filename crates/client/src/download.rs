//! Downloads: hashed and written in a blocking thread while they arrive, resumed where one was cut.

use std::{io, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use longshore_endpoint::Tries;
use longshore_oci::{Descriptor, Digester, Repository};
use tokio::{sync::mpsc, task::JoinHandle};

use crate::{
    BlobOutcome, BlobWriter, Client, ClientError, CommitError, Event, ImageSink, Observer, Result,
    Verification,
    client::path,
    exchange::Call,
    scope::{Access, Scopes},
    site::Site,
    wire::Failure,
};

/// How much is gathered before it is handed to the thread that writes.
const BATCH: usize = 256 << 10;
/// How many batches wait to be written.
const AHEAD: usize = 2;

/// The part of a blob that has arrived.
struct Partial {
    writer: Box<dyn BlobWriter>,
    /// `None` if the writer hashes.
    digester: Option<Digester>,
    length: u64,
}

/// How a try ended that did not bring the whole blob.
enum Ended {
    /// Something that may pass; perhaps part of the blob is there.
    Cut(Failure, Option<Partial>),
    /// The registry does not go on where the part that is there ends.
    NotResumed,
    /// What came is not the blob.
    Spoilt(ClientError),
    Final(ClientError),
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        if failure.error.is_retryable() { Self::Cut(failure, None) } else { Self::Final(failure.error) }
    }
}

/// Whether caches on the way may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caches {
    Allowed,
    Passed,
}

/// One blob on its way out of a repository.
struct Download<'a> {
    client: &'a Client,
    site: Arc<Site>,
    what: &'a str,
    repository: &'a Repository,
    blob: &'a Descriptor,
    sink: &'a Arc<dyn ImageSink>,
    observer: &'a Arc<Observer>,
}

impl Client {
    /// Downloads a blob. The sink keeps it only if it has the right length and digest.
    pub async fn pull_blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        sink: &Arc<dyn ImageSink>,
        observer: &Arc<Observer>,
    ) -> Result<()> {
        let what = format!("pull blob {} of {repository}", blob.digest);
        let what = what.as_str();
        self.reading(repository.host(), |site| async move {
            Download { client: self, site, what, repository, blob, sink, observer }.run().await
        })
        .await?;
        observer(Event::Blob { digest: blob.digest, outcome: BlobOutcome::Moved, size: blob.size });
        Ok(())
    }
}

impl Download<'_> {
    async fn run(&self) -> Result<()> {
        let mut tries = Tries::new(self.client.config().pauses);
        let mut partial = None;
        let mut furthest = 0;
        let mut caches = Caches::Allowed;
        loop {
            let (failure, arrived) = match self.try_once(partial.take(), caches).await {
                Ok(()) => return Ok(()),
                Err(Ended::Final(error)) => return Err(error),
                Err(Ended::NotResumed) => continue,
                Err(Ended::Spoilt(error)) if caches == Caches::Passed => return Err(error),
                Err(Ended::Spoilt(error)) => {
                    // Perhaps only a cache on the way is damaged.
                    caches = Caches::Passed;
                    (error.into(), None)
                }
                Err(Ended::Cut(failure, arrived)) => (failure, arrived),
            };
            let length = arrived.as_ref().map_or(0, |arrived: &Partial| arrived.length);
            if length > furthest {
                furthest = length;
                tries.made_headway();
            }
            let Some(pause) = tries.failed(failure.stage, failure.retry_after) else {
                return Err(failure.error);
            };
            let (what, reason) = (self.what.to_owned(), failure.error.to_string());
            tracing::debug!(what, reason, ?pause, "download broken, trying again");
            (self.observer)(Event::Retry { what, reason, pause });
            tokio::time::sleep(pause).await;
            partial = arrived;
        }
    }

    async fn try_once(&self, partial: Option<Partial>, caches: Caches) -> Result<(), Ended> {
        let to = path(self.repository, &format!("blobs/{}", self.blob.digest));
        let to = self.site.api(self.what, &to).map_err(Ended::Final)?;
        let scopes = Scopes::repository(self.repository.path(), Access::Pull);
        let mut call = Call::new(self.what, Method::GET, to, scopes).of(self.repository.path());
        // Digests are of the bytes as they are, not as a server may compress them.
        call.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if caches == Caches::Passed {
            call.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        }
        let mut hoped = vec![StatusCode::OK];
        let partial = partial.filter(|partial| partial.length > 0);
        if let Some(partial) = &partial
            && let Ok(range) = HeaderValue::from_str(&format!("bytes={}-", partial.length))
        {
            call.headers.insert(header::RANGE, range);
            hoped.extend([StatusCode::PARTIAL_CONTENT, StatusCode::RANGE_NOT_SATISFIABLE]);
        }
        let mut answer = match self.client.once(&self.site, &call, &hoped).await {
            Ok(answer) => answer,
            Err(failure) if failure.error.is_retryable() => return Err(Ended::Cut(failure, partial)),
            Err(failure) => return Err(failure.into()),
        };
        let partial = match (answer.status(), partial) {
            (StatusCode::OK, _) => {
                if let Some(found) = answer.length().filter(|length| *length != self.blob.size) {
                    return Err(Ended::Spoilt(self.wrong_size(found)));
                }
                self.begin().await?
            }
            (StatusCode::PARTIAL_CONTENT, Some(partial))
                if goes_on(answer.header(&header::CONTENT_RANGE), partial.length, self.blob.size) =>
            {
                partial
            }
            _ => return Err(Ended::NotResumed),
        };
        let mut arrived = partial.length;
        let mut writing = Writing::start(partial);
        let broken = loop {
            match answer.chunk().await {
                Ok(Some(bytes)) => {
                    arrived += bytes.len() as u64;
                    if arrived > self.blob.size {
                        return Err(Ended::Spoilt(self.wrong_size(arrived)));
                    }
                    if writing.push(bytes).await.is_err() {
                        break None;
                    }
                    let (digest, size) = (self.blob.digest, self.blob.size);
                    (self.observer)(Event::Moved { digest, bytes: arrived, size });
                }
                Ok(None) => break None,
                Err(failure) => break Some(failure),
            }
        };
        let partial = writing.finish().await.map_err(|error| self.unwritable(error))?;
        match broken {
            None if partial.length == self.blob.size => self.commit(partial).await,
            None => {
                // A server that ends early without saying how much there is.
                let error = longshore_endpoint::Fault::Broken {
                    host: self.site.shown(),
                    reason: format!("it ended after {} of {} bytes", partial.length, self.blob.size),
                };
                let error = ClientError::Unreachable { what: self.what.to_owned(), fault: error };
                Err(Ended::Cut(error.into(), Some(partial)))
            }
            Some(failure) if failure.error.is_retryable() => Err(Ended::Cut(failure, Some(partial))),
            Some(failure) => Err(failure.into()),
        }
    }

    async fn begin(&self) -> Result<Partial, Ended> {
        let (sink, blob) = (Arc::clone(self.sink), self.blob.clone());
        let begin = tokio::task::spawn_blocking(move || sink.writer(&blob));
        let writer = joined(begin).await.map_err(|error| self.unwritable(error))?;
        let digester = (writer.verification() == Verification::Client).then(Digester::new);
        Ok(Partial { writer, digester, length: 0 })
    }

    async fn commit(&self, partial: Partial) -> Result<(), Ended> {
        let expected = self.blob.digest;
        let commit = tokio::task::spawn_blocking(move || {
            if let Some(found) = partial.digester.map(Digester::finish).filter(|found| *found != expected) {
                return Ok(Err(CommitError::WrongDigest(found)));
            }
            Ok(partial.writer.commit(&expected))
        });
        match joined(commit).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(CommitError::WrongDigest(found))) => {
                let (what, host) = (self.what.to_owned(), self.site.shown());
                Err(Ended::Spoilt(ClientError::WrongDigest { what, host, expected, found }))
            }
            Ok(Err(CommitError::Io(error))) | Err(error) => Err(self.unwritable(error)),
        }
    }

    fn wrong_size(&self, found: u64) -> ClientError {
        let (what, host) = (self.what.to_owned(), self.site.shown());
        ClientError::WrongSize { what, host, expected: self.blob.size, found }
    }

    fn unwritable(&self, source: io::Error) -> Ended {
        Ended::Final(ClientError::Sink { what: self.what.to_owned(), source })
    }
}

/// Whether a partial answer begins at `start` and is of the blob: `Content-Range: bytes 5-9/10`.
fn goes_on(range: Option<&str>, start: u64, size: u64) -> bool {
    let parts = range.and_then(|range| range.strip_prefix("bytes ")?.split_once('/'));
    let Some((range, total)) = parts else { return false };
    let first = range.split_once('-').and_then(|(first, _)| first.trim().parse().ok());
    first == Some(start) && (total.trim() == "*" || total.trim().parse() == Ok(size))
}

/// What a blocking task returns; one that panicked has failed.
async fn joined<T>(task: JoinHandle<io::Result<T>>) -> io::Result<T> {
    task.await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// Writes what arrives, in a blocking thread.
struct Writing {
    sender: mpsc::Sender<Vec<Bytes>>,
    thread: JoinHandle<io::Result<Partial>>,
    gathered: Vec<Bytes>,
    length: usize,
}

/// The thread has ended, with an error.
struct Stopped;

impl Writing {
    fn start(mut partial: Partial) -> Self {
        let (sender, mut receiver) = mpsc::channel::<Vec<Bytes>>(AHEAD);
        let thread = tokio::task::spawn_blocking(move || {
            while let Some(batch) = receiver.blocking_recv() {
                for bytes in batch {
                    if let Some(digester) = &mut partial.digester {
                        digester.update(&bytes);
                    }
                    partial.writer.write(&bytes)?;
                    partial.length += bytes.len() as u64;
                }
            }
            Ok(partial)
        });
        Self { sender, thread, gathered: Vec::new(), length: 0 }
    }

    async fn push(&mut self, bytes: Bytes) -> Result<(), Stopped> {
        self.length += bytes.len();
        self.gathered.push(bytes);
        if self.length < BATCH {
            return Ok(());
        }
        self.length = 0;
        self.sender.send(std::mem::take(&mut self.gathered)).await.map_err(|_| Stopped)
    }

    async fn finish(self) -> io::Result<Partial> {
        // A thread that has ended says why.
        let _ = self.sender.send(self.gathered).await;
        drop(self.sender);
        joined(self.thread).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_part_goes_on() {
        assert!(goes_on(Some("bytes 5-9/10"), 5, 10));
        assert!(goes_on(Some("bytes 5-9/*"), 5, 10));
        for range in [None, Some("bytes 4-9/10"), Some("bytes 5-9/11"), Some("5-9/10"), Some("bytes */10")] {
            assert!(!goes_on(range, 5, 10), "{range:?}");
        }
    }
}
