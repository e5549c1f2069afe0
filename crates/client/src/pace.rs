//! No more requests in a second than a registry is to be sent.

use std::{num::NonZeroU32, time::Duration};

use tokio::{sync::Mutex, time::Instant};

/// A number of requests per second, for each host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace(NonZeroU32);

impl Pace {
    /// That many requests per second.
    pub const fn per_second(requests: NonZeroU32) -> Self {
        Self(requests)
    }

    fn interval(self) -> Duration {
        Duration::from_secs(1) / self.0.get()
    }
}

/// Spaces the requests to one host: at equal intervals, so that no second has more of them than the pace allows.
#[derive(Debug)]
pub(crate) struct Metronome {
    pace: Option<Pace>,
    next: Mutex<Option<Instant>>,
}

impl Metronome {
    pub(crate) fn new(pace: Option<Pace>) -> Self {
        Self { pace, next: Mutex::new(None) }
    }

    /// Waits until the next request may be sent.
    pub(crate) async fn beat(&self) {
        let Some(pace) = self.pace else { return };
        let at = {
            let mut next = self.next.lock().await;
            let now = Instant::now();
            let at = next.map_or(now, |next| next.max(now));
            *next = Some(at + pace.interval());
            at
        };
        tokio::time::sleep_until(at).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_come_no_faster_than_the_pace() {
        let pace = Pace::per_second(NonZeroU32::new(200).unwrap());
        let metronome = Metronome::new(Some(pace));
        let start = Instant::now();
        futures::future::join_all((0..21).map(|_| metronome.beat())).await;
        assert!(
            start.elapsed() >= Duration::from_millis(100),
            "twenty intervals of 5 ms: {:?}",
            start.elapsed()
        );
    }
}
