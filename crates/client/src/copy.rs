//! Copying images from registry to registry, through memory.

use std::{
    collections::HashMap,
    io::{self, Read},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::{Buf, Bytes};
use longshore_oci::{Descriptor, Digest, Reference, Repository};
use tokio::{runtime::Handle, sync::mpsc};

use crate::{
    BlobSource, BlobWriter, Client, ClientError, CommitError, ImageSink, ImageSource, Observer, PushOutcome,
    Result, Selection, Verification, ignore,
    pull::{fetch_plan, select},
    push,
};

/// How many pieces of a blob wait between download and upload.
const AHEAD: usize = 4;

/// The error of a source that could not go on, and can be opened again.
pub(crate) const BEGUN_AGAIN: io::ErrorKind = io::ErrorKind::ConnectionAborted;

/// Copies an image to its destinations. Blobs that a destination's registry can take from the image's own repository
/// are not moved; the others pass through memory, a few buffers at a time.
pub async fn copy(
    client: &Client,
    from: &Reference,
    selection: &Selection,
    to: &[Reference],
    observer: &Arc<Observer>,
) -> Result<PushOutcome> {
    let what = format!("copy {from}");
    let (_, root) = select(client, from, selection, &what).await?;
    let plan = fetch_plan(client, from, &root, &what).await?;
    let manifests =
        plan.manifests.iter().map(|document| (document.descriptor.digest, document.bytes.clone()));
    let source = Remote {
        blobs: RemoteBlobs::new(client.clone(), from.repository.clone()),
        root: root.descriptor(),
        manifests: manifests.collect(),
    };
    push(client, Arc::new(source), to, std::slice::from_ref(&from.repository), observer).await
}

/// An image in a registry, as a source.
struct Remote {
    blobs: RemoteBlobs,
    root: Descriptor,
    manifests: HashMap<Digest, Bytes>,
}

/// The blobs of a repository, as a source: they pass through memory, a few buffers at a time.
#[derive(Clone, Debug)]
pub struct RemoteBlobs {
    client: Client,
    repository: Repository,
    runtime: Handle,
}

impl RemoteBlobs {
    /// The blobs of that repository. Must be called within the runtime that is to do the downloads.
    pub fn new(client: Client, repository: Repository) -> Self {
        Self { client, repository, runtime: Handle::current() }
    }
}

impl ImageSource for Remote {
    fn root(&self) -> Descriptor {
        self.root.clone()
    }

    fn manifest(&self, descriptor: &Descriptor) -> io::Result<Vec<u8>> {
        let bytes = self.manifests.get(&descriptor.digest);
        bytes.map(|bytes| bytes.to_vec()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl BlobSource for Remote {
    fn open(&self, blob: &Descriptor, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        self.blobs.open(blob, offset)
    }
}

impl BlobSource for RemoteBlobs {
    fn open(&self, blob: &Descriptor, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let (client, repository, blob) = (self.client.clone(), self.repository.clone(), blob.clone());
        self.runtime.spawn(async move {
            let pipe: Arc<dyn ImageSink> = Arc::new(Pipe { sender: Mutex::new(Some(sender.clone())) });
            let observer: Arc<Observer> = Arc::new(ignore);
            if let Err(error) = client.pull_blob(&repository, &blob, &pipe, &observer).await {
                let kind = match &error {
                    ClientError::Sink { source, .. } => source.kind(),
                    _ => io::ErrorKind::Other,
                };
                // Whoever reads may have gone.
                let _ = sender.send(Err(io::Error::new(kind, error))).await;
            }
        });
        let mut reader = PipeReader { receiver, current: Bytes::new() };
        // What comes before is hashed by nobody here: whoever asks for an offset knows it.
        io::copy(&mut (&mut reader).take(offset), &mut io::sink())?;
        Ok(Box::new(reader))
    }
}

/// Hands a download on to whoever reads. It cannot begin again: what was handed on is gone.
struct Pipe {
    sender: Mutex<Option<mpsc::Sender<io::Result<Bytes>>>>,
}

impl ImageSink for Pipe {
    fn has(&self, _: &Descriptor) -> io::Result<bool> {
        Ok(false)
    }

    fn writer(&self, _: &Descriptor) -> io::Result<Box<dyn BlobWriter>> {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
        let again = || io::Error::new(BEGUN_AGAIN, "the download had to begin again");
        let sender = sender.ok_or_else(again)?;
        Ok(Box::new(PipeWriter { sender }))
    }

    fn manifest(&self, _: &Descriptor, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

struct PipeWriter {
    sender: mpsc::Sender<io::Result<Bytes>>,
}

impl BlobWriter for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let sent = self.sender.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn commit(self: Box<Self>, _: &Digest) -> Result<(), CommitError> {
        Ok(())
    }

    /// The upload hashes what it sends.
    fn verification(&self) -> Verification {
        Verification::Writer
    }
}

struct PipeReader {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl Read for PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.receiver.blocking_recv() {
                Some(next) => self.current = next?,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}
