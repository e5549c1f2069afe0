//! Work that several images need at the same time, and that one of them does.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use longshore_oci::Digest;
use serde::Serialize;
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

/// What is being made, by a digest of what it is made from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims(Arc<Mutex<HashMap<Digest, Weak<Turn<()>>>>>);

impl Claims {
    /// Waits until nobody else makes what these inputs give, and keeps others waiting until the guard is dropped. Whoever has
    /// waited looks again before making it.
    pub(crate) async fn take(&self, kind: &str, inputs: &impl Serialize) -> OwnedMutexGuard<()> {
        // What cannot be written as JSON has no key in the table either; it waits with the others of its kind.
        let key =
            Digest::of(serde_json::to_vec(&(kind, inputs)).unwrap_or_else(|_| kind.as_bytes().to_vec()));
        let turn = {
            let mut claims = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            claims.retain(|_, turn| turn.strong_count() > 0);
            if let Some(turn) = claims.get(&key).and_then(Weak::upgrade) {
                turn
            } else {
                let turn = Arc::new(Turn::new(()));
                claims.insert(key, Arc::downgrade(&turn));
                turn
            }
        };
        turn.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn one_at_a_time_makes_the_same_and_others_do_not_wait() {
        let (claims, count) = (Claims::default(), AtomicUsize::new(0));
        let make = || async {
            let _claim = claims.take("layer", &"numpy").await;
            // Another may begin here, if it is not kept waiting.
            tokio::task::yield_now().await;
            if count.load(Ordering::Relaxed) == 0 {
                tokio::task::yield_now().await;
                count.fetch_add(1, Ordering::Relaxed);
            }
        };
        let held = claims.take("layer", &"pandas").await;
        futures::join!(make(), make(), make());
        assert_eq!(count.load(Ordering::Relaxed), 1);
        drop(held);
        // What nobody makes any more is forgotten.
        drop(claims.take("wheel", &"numpy").await);
        assert_eq!(claims.0.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn whoever_is_given_up_gives_way() {
        let claims = Claims::default();
        let abandoned = tokio::spawn({
            let claims = claims.clone();
            async move {
                let _claim = claims.take("layer", &1).await;
                std::future::pending::<()>().await;
            }
        });
        tokio::task::yield_now().await;
        abandoned.abort();
        let _ = abandoned.await;
        drop(claims.take("layer", &1).await);
    }
}
