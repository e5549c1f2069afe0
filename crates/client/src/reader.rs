//! From a blob's source to a request's body: read and hashed in a blocking thread, a few buffers ahead.

use std::{
    io::{self, Read},
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use futures::stream;
use longshore_oci::{Descriptor, Digester};
use tokio::{sync::mpsc, task::JoinHandle};

use crate::BlobSource;

/// How much is read and sent at a time.
const BUFFER: usize = 512 << 10;
/// How many buffers wait to be sent.
const AHEAD: usize = 2;
/// How many buffers are kept for reuse: fresh ones cost page faults.
const KEPT: usize = 32;

/// Buffers that were used before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

impl Buffers {
    fn take(&self) -> Buffer {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Buffer { bytes: kept.unwrap_or_else(|| vec![0; BUFFER]), length: 0, home: self.clone() }
    }
}

/// A buffer, the first part of which is filled. It goes home when nobody uses it any more.
struct Buffer {
    bytes: Vec<u8>,
    length: usize,
    home: Buffers,
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut kept = self.home.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.push(std::mem::take(&mut self.bytes));
        }
    }
}

/// The hash of a blob's first bytes: where a part that is sent later goes on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prefix(pub(crate) Digester);

impl Prefix {
    pub(crate) const fn length(&self) -> u64 {
        self.0.length()
    }
}

/// A part of a blob on its way.
pub(crate) struct Sending {
    pub(crate) body: reqwest::Body,
    /// How many bytes of the part have been taken.
    pub(crate) sent: Arc<AtomicU64>,
    reading: JoinHandle<io::Result<Option<Prefix>>>,
}

impl Sending {
    /// The hash of everything up to the end of the part, if all of it was taken.
    pub(crate) async fn hashed(
        reading: JoinHandle<io::Result<Option<Prefix>>>,
    ) -> io::Result<Option<Prefix>> {
        // A reader that panicked has not read everything.
        reading.await.unwrap_or(Ok(None))
    }

    pub(crate) fn split(self) -> (reqwest::Body, Arc<AtomicU64>, JoinHandle<io::Result<Option<Prefix>>>) {
        (self.body, self.sent, self.reading)
    }
}

/// Sends the bytes of `part`. Those between `prefix` and its beginning are read and hashed only.
pub(crate) fn send(
    source: Arc<dyn BlobSource>,
    blob: Descriptor,
    prefix: Prefix,
    part: Range<u64>,
    buffers: Buffers,
    moved: impl Fn(u64) + Send + Sync + 'static,
) -> Sending {
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(AHEAD);
    let reading = tokio::task::spawn_blocking(move || {
        let read = read(source.as_ref(), &blob, prefix, part, &buffers, &sender);
        if let Err(error) = &read {
            // The request must break: what was announced does not come.
            let _ = sender.blocking_send(Err(io::Error::new(error.kind(), error.to_string())));
        }
        read
    });
    let sent = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&sent);
    let stream = stream::unfold(receiver, move |mut receiver| {
        let counter = Arc::clone(&counter);
        async move { receiver.recv().await.map(|next| ((next, counter), receiver)) }
    });
    let stream = futures::StreamExt::map(stream, move |(next, counter)| {
        if let Ok(bytes) = &next {
            let length = bytes.len() as u64;
            moved(counter.fetch_add(length, Ordering::Relaxed) + length);
        }
        next
    });
    Sending { body: reqwest::Body::wrap_stream(stream), sent, reading }
}

fn read(
    source: &dyn BlobSource,
    blob: &Descriptor,
    prefix: Prefix,
    part: Range<u64>,
    buffers: &Buffers,
    sender: &mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<Option<Prefix>> {
    let Prefix(mut digester) = prefix;
    let mut reader = source.open(blob, digester.length())?;
    while digester.length() < part.end {
        let position = digester.length();
        let until = if position < part.start { part.start } else { part.end };
        let mut buffer = buffers.take();
        let wanted = usize::try_from(until - position).unwrap_or(BUFFER).min(BUFFER);
        while buffer.length < wanted {
            let length = buffer.length;
            match reader.read(&mut buffer.bytes[length..wanted]) {
                Ok(0) => {
                    let end = position + length as u64;
                    let text = format!("it ends after {end} of {} bytes", blob.size);
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
                }
                Ok(more) => buffer.length += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        digester.update(buffer.as_ref());
        if position >= part.start && sender.blocking_send(Ok(Bytes::from_owner(buffer))).is_err() {
            return Ok(None);
        }
    }
    Ok(Some(Prefix(digester)))
}
