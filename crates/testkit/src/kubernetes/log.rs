//! Logs of pods.

use std::{io, sync::Arc};

use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use jiff::Timestamp;
use tokio::sync::watch::Receiver;

use super::Shared;

struct Log {
    shared: Arc<Shared>,
    changed: Receiver<u64>,
    pod: String,
    next: usize,
    follow: bool,
    timestamps: bool,
    /// After how many lines the connection breaks.
    left: Option<usize>,
    is_over: bool,
}

/// The log of a pod, from a time on.
pub(super) fn body(
    shared: Arc<Shared>,
    pod: &str,
    since: Option<Timestamp>,
    follow: bool,
    timestamps: bool,
) -> Body {
    let mut state = shared.lock();
    let next =
        state.store.log(pod).iter().take_while(|(time, _)| since.is_some_and(|since| *time < since)).count();
    let left = state.log_breaks.pop_front();
    drop(state);
    let changed = shared.changed.subscribe();
    let log = Log { shared, changed, pod: pod.to_owned(), next, follow, timestamps, left, is_over: false };
    Body::from_stream(stream::unfold(log, |mut log| async move {
        let answer = log.next().await?;
        Some((answer, log))
    }))
}

impl Log {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            if self.is_over {
                return None;
            }
            if let Some(answer) = self.look() {
                return Some(answer);
            }
            if self.is_over {
                return None;
            }
            self.changed.changed().await.ok()?;
        }
    }

    fn look(&mut self) -> Option<io::Result<Bytes>> {
        let state = self.shared.lock();
        let Some((time, line)) = state.store.log(&self.pod).get(self.next) else {
            let phase = state.store.get("pods", &self.pod).map(|pod| pod["status"]["phase"].clone());
            self.is_over = !self.follow || phase.is_none_or(|phase| phase != "Running");
            return None;
        };
        if self.left == Some(0) {
            self.is_over = true;
            return Some(Err(io::Error::other("the connection is lost")));
        }
        self.left = self.left.map(|left| left - 1);
        self.next += 1;
        let text = if self.timestamps { format!("{time} {line}\n") } else { format!("{line}\n") };
        Some(Ok(text.into()))
    }
}
