//! From async code to the disk.

use bytes::Bytes;
use tokio::task::JoinHandle;

use crate::{BlobWriter, Result, StoreError, Upload};

/// How much is gathered before it is handed to a blocking thread: enough that the hand-over costs nothing.
const BATCH: usize = 512 << 10;

/// What a [`Pump`] fills.
pub trait Sink: Send + 'static {
    /// Takes the next bytes.
    fn append(&mut self, bytes: &[u8]) -> Result<()>;
}

impl Sink for BlobWriter {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        Self::append(self, bytes)
    }
}

impl Sink for Upload {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        Self::append(self, bytes)
    }
}

/// Hashes and writes in a blocking thread what arrives in async code. While one batch is written the next one is
/// gathered; more than these two are never held. A disk that stalls does not stall the runtime.
#[derive(Debug)]
pub struct Pump<S> {
    state: State<S>,
    gathered: Vec<Bytes>,
    length: usize,
}

#[derive(Debug)]
enum State<S> {
    Idle(S),
    Writing(JoinHandle<Result<S>>),
    /// An earlier write failed, or the future that waited for one was dropped.
    Failed,
}

impl<S: Sink> Pump<S> {
    /// Begins to fill `sink`.
    pub const fn new(sink: S) -> Self {
        Self { state: State::Idle(sink), gathered: Vec::new(), length: 0 }
    }

    /// Takes the next bytes. After an error the sink is gone.
    pub async fn push(&mut self, bytes: Bytes) -> Result<()> {
        self.length += bytes.len();
        self.gathered.push(bytes);
        if self.length >= BATCH { self.write_batch().await } else { Ok(()) }
    }

    /// Writes what is left, and returns the sink.
    pub async fn finish(mut self) -> Result<S> {
        self.write_batch().await?;
        self.idle().await
    }

    async fn write_batch(&mut self) -> Result<()> {
        let mut sink = self.idle().await?;
        let batch = std::mem::take(&mut self.gathered);
        self.length = 0;
        self.state = State::Writing(tokio::task::spawn_blocking(move || {
            batch.iter().try_for_each(|bytes| sink.append(bytes))?;
            Ok(sink)
        }));
        Ok(())
    }

    async fn idle(&mut self) -> Result<S> {
        match std::mem::replace(&mut self.state, State::Failed) {
            State::Idle(sink) => Ok(sink),
            State::Writing(write) => write.await.unwrap_or(Err(StoreError::Unfinished)),
            State::Failed => Err(StoreError::Unfinished),
        }
    }
}
