//! Watches: changes of a resource from a version on, one JSON object a line.

use std::{io, sync::Arc};

use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use serde_json::{Value, json};
use tokio::sync::watch::Receiver;

use super::{Shared, rest::Selector, rest::status};

struct Watch {
    shared: Arc<Shared>,
    changed: Receiver<u64>,
    resource: String,
    selector: Selector,
    version: u64,
    disconnects: u64,
    kind: Value,
    is_over: bool,
}

/// A watch from a version on.
pub(super) fn body(
    shared: Arc<Shared>,
    resource: &str,
    selector: Selector,
    version: u64,
    kind: Value,
) -> Body {
    let disconnects = shared.lock().disconnects;
    let changed = shared.changed.subscribe();
    let watch = Watch {
        shared,
        changed,
        resource: resource.to_owned(),
        selector,
        version,
        disconnects,
        kind,
        is_over: false,
    };
    Body::from_stream(stream::unfold(watch, |mut watch| async move {
        let answer = watch.next().await?;
        Some((answer, watch))
    }))
}

impl Watch {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            if self.is_over {
                return None;
            }
            if let Some(answer) = self.look() {
                return Some(answer);
            }
            self.changed.changed().await.ok()?;
        }
    }

    /// What there is to send now.
    fn look(&mut self) -> Option<io::Result<Bytes>> {
        let state = self.shared.lock();
        if state.disconnects != self.disconnects {
            self.is_over = true;
            return Some(Err(io::Error::other("the connection is lost")));
        }
        let Some(changes) = state.store.since(self.version) else {
            self.is_over = true;
            let gone = status(410, "Expired", &format!("too old resource version: {}", self.version));
            return Some(Ok(line(&json!({"type": "ERROR", "object": gone}))));
        };
        let mut text = Vec::new();
        for change in
            changes.filter(|change| change.resource == self.resource && self.selector.has(&change.object))
        {
            text.extend_from_slice(&line(&json!({"type": change.kind, "object": change.object})));
        }
        let version = state.store.version();
        if text.is_empty() {
            // Now and then a watch that sees nothing is told how far it is.
            if version < self.version + 16 {
                return None;
            }
            let mut object = self.kind.clone();
            object["metadata"] = json!({"resourceVersion": version.to_string()});
            text.extend_from_slice(&line(&json!({"type": "BOOKMARK", "object": object})));
        }
        self.version = version;
        Some(Ok(text.into()))
    }
}

fn line(value: &Value) -> Bytes {
    format!("{value}\n").into()
}
