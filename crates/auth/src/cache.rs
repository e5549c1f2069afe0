//! What was got, kept until shortly before it expires, and got by one task at a time.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use jiff::{SignedDuration, Timestamp};

use crate::AuthError;

/// What expires.
pub(crate) trait Expires {
    /// When, if that is known.
    fn expires(&self) -> Option<Timestamp>;
}

/// Values by key.
pub(crate) struct Cache<V, K = String>(Mutex<HashMap<K, Arc<Slot<V>>>>);

struct Slot<V> {
    /// Counts what [`Cache::forget`] was told, so that what was on its way then is not kept either.
    generation: AtomicU64,
    /// Counts the attempts that ended, so that those who waited for one share its failure: ten tasks with a wrong
    /// password must not be ten wrong passwords.
    attempts: AtomicU64,
    state: tokio::sync::Mutex<State<V>>,
}

enum State<V> {
    Nothing,
    Held { value: V, until: Option<Timestamp>, generation: u64 },
    Failed(AuthError),
}

impl<V: Expires + Clone, K: Eq + Hash> Cache<V, K> {
    /// The value for `key`: what is held, else what `make` gets.
    pub(crate) async fn get(
        &self,
        key: K,
        make: impl Future<Output = Result<V, AuthError>>,
    ) -> Result<V, AuthError> {
        let slot = self.slot(key);
        let before = slot.attempts.load(Ordering::Acquire);
        let mut state = slot.state.lock().await;
        match &*state {
            State::Held { value, until, generation }
                if *generation == slot.generation.load(Ordering::Acquire)
                    && until.is_none_or(|until| Timestamp::now() < until) =>
            {
                return Ok(value.clone());
            }
            State::Failed(error) if slot.attempts.load(Ordering::Acquire) != before => {
                return Err(error.clone());
            }
            _ => {}
        }
        let generation = slot.generation.load(Ordering::Acquire);
        let result = make.await;
        slot.attempts.fetch_add(1, Ordering::AcqRel);
        *state = match &result {
            Ok(value) => {
                let until = value.expires().map(|expires| fresh_until(Timestamp::now(), expires));
                State::Held { value: value.clone(), until, generation }
            }
            Err(error) => State::Failed(error.clone()),
        };
        result
    }

    /// What is held for `key` is no good.
    pub(crate) fn forget(&self, key: &K) {
        self.forget_where(|other| other == key);
    }

    /// What is held for these keys is no good.
    pub(crate) fn forget_where(&self, chosen: impl Fn(&K) -> bool) {
        let slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, slot) in slots.iter().filter(|(key, _)| chosen(key)) {
            slot.generation.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn slot(&self, key: K) -> Arc<Slot<V>> {
        // Nothing panics while this is held.
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(key).or_insert_with(|| {
            Arc::new(Slot {
                generation: AtomicU64::new(0),
                attempts: AtomicU64::new(0),
                state: tokio::sync::Mutex::new(State::Nothing),
            })
        }))
    }
}

impl<V, K> Default for Cache<V, K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<V, K> fmt::Debug for Cache<V, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cache")
    }
}

/// Until when something is handed out: five minutes, or a tenth of its life, before it ends.
fn fresh_until(now: Timestamp, expires: Timestamp) -> Timestamp {
    let life = expires.duration_since(now).max(SignedDuration::ZERO);
    let margin = (life / 10).min(SignedDuration::from_mins(5));
    expires.checked_sub(margin).unwrap_or(expires)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Number(usize, Option<Timestamp>);

    impl Expires for Number {
        fn expires(&self) -> Option<Timestamp> {
            self.1
        }
    }

    fn after(seconds: i64) -> Timestamp {
        Timestamp::now() + SignedDuration::from_secs(seconds)
    }

    #[tokio::test]
    async fn one_at_a_time_and_until_it_expires() {
        let (cache, made) = (Cache::<Number, &str>::default(), AtomicUsize::new(0));
        let get = async |expires| {
            let attempt = async {
                tokio::task::yield_now().await;
                Ok(Number(made.fetch_add(1, Ordering::SeqCst), expires))
            };
            cache.get("a", attempt).await
        };
        let hour = Some(after(3600));
        let got = futures::future::join_all((0..20).map(|_| get(hour))).await;
        assert!(got.into_iter().all(|got| got.unwrap().0 == 0));
        cache.forget(&"a");
        assert_eq!(get(Some(after(-1))).await.unwrap().0, 1, "what was forgotten is got anew");
        assert_eq!(get(None).await.unwrap().0, 2, "what has expired is got anew");
        assert_eq!(get(None).await.unwrap().0, 2, "what never expires is kept");
        cache.forget(&"b");
        assert_eq!(get(None).await.unwrap().0, 2, "another key is another thing");
    }

    #[tokio::test]
    async fn what_is_forgotten_on_its_way_is_not_kept() {
        let cache = Cache::default();
        let first = cache
            .get("a", async {
                cache.forget(&"a");
                Ok(Number(1, None))
            })
            .await;
        assert_eq!(first.unwrap().0, 1);
        assert_eq!(cache.get("a", async { Ok(Number(2, None)) }).await.unwrap().0, 2);
    }

    #[tokio::test]
    async fn those_who_waited_share_a_failure_and_those_who_come_later_do_not() {
        let (cache, made) = (Cache::<Number, &str>::default(), AtomicUsize::new(0));
        let fail = || {
            cache.get("a", async {
                tokio::task::yield_now().await;
                made.fetch_add(1, Ordering::SeqCst);
                Err(AuthError::unusable("a", "b", "c"))
            })
        };
        assert!(futures::future::join_all((0..10).map(|_| fail())).await.iter().all(Result::is_err));
        assert_eq!(made.load(Ordering::SeqCst), 1);
        fail().await.unwrap_err();
        assert_eq!(made.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn the_margin_is_five_minutes_at_most() {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        for (life, fresh) in [(43_200, 42_900), (3600, 3300), (600, 540), (0, 0), (-60, -60)] {
            assert_eq!(
                fresh_until(now, now + SignedDuration::from_secs(life)),
                now + SignedDuration::from_secs(fresh)
            );
        }
    }
}
