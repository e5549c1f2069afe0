//! When to try again.

use std::{
    hash::{BuildHasher, RandomState},
    time::{Duration, SystemTime},
};

use http::StatusCode;

/// How often and after which pauses something is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pauses {
    /// How often an exchange is tried in all, while none of the tries makes headway.
    pub attempts: u32,
    /// The pause after the first failure; it doubles with each further one.
    pub first: Duration,
    /// The longest pause, also where `Retry-After` asks for more.
    pub longest: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { attempts: 5, first: Duration::from_millis(250), longest: Duration::from_mins(1) }
    }
}

/// Counts the tries of one exchange.
#[derive(Debug)]
pub struct Tries {
    pauses: Pauses,
    failures: u32,
}

impl Tries {
    /// None was made yet.
    pub const fn new(pauses: Pauses) -> Self {
        Self { pauses, failures: 0 }
    }

    /// Notes a failure; how long to wait before the next try, if there is to be one. A host that cannot be reached at
    /// all gets three tries: its user is waiting to be told that there is no network.
    pub fn failed(&mut self, stage: Stage, retry_after: Option<Duration>) -> Option<Duration> {
        self.failures += 1;
        let most =
            if stage == Stage::Connecting { self.pauses.attempts.min(3) } else { self.pauses.attempts };
        if self.failures >= most {
            return None;
        }
        let longest = self.pauses.longest;
        if let Some(asked) = retry_after {
            return Some(asked.min(longest));
        }
        let doubled = self.pauses.first.saturating_mul(1 << (self.failures - 1).min(16));
        Some(jittered(doubled.min(longest)))
    }

    /// Notes that the last try got further than the ones before, so that a large file over a bad line arrives.
    pub const fn made_headway(&mut self) {
        self.failures = 0;
    }
}

/// How far a try got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// There was no connection.
    Connecting,
    /// There was a connection.
    Connected,
}

/// Between half of the pause and all of it, so that clients that failed together do not come back together.
fn jittered(pause: Duration) -> Duration {
    // The standard library's one source of randomness; a guessable pause harms nobody.
    let random = RandomState::new().hash_one(());
    #[expect(clippy::cast_precision_loss, reason = "any fraction will do")]
    let fraction = (random >> 11) as f64 / (1_u64 << 53) as f64;
    pause.mul_f64(0.5 + fraction / 2.0)
}

/// Whether a server that answers so may answer otherwise later.
pub fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 425 | 429) || status.is_server_error() && status.as_u16() != 501
}

/// `Retry-After` (RFC 9110 §10.2.3): seconds or a date.
pub fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let pauses = Pauses { longest: Duration::from_millis(900), ..Pauses::default() };
        let mut tries = Tries::new(pauses);
        let pauses: Vec<_> = std::iter::from_fn(|| tries.failed(Stage::Connected, None)).collect();
        assert_eq!(pauses.len(), 4, "five tries have four pauses");
        for (pause, most) in pauses.iter().zip([250, 500, 900, 900]) {
            let most = Duration::from_millis(most);
            assert!(*pause >= most / 2 && *pause <= most, "{pause:?} of {most:?}");
        }
    }

    #[test]
    fn retry_after_is_obeyed_up_to_the_cap() {
        let pauses = Pauses::default();
        let seconds = Duration::from_secs;
        assert_eq!(Tries::new(pauses).failed(Stage::Connected, Some(seconds(7))), Some(seconds(7)));
        assert_eq!(Tries::new(pauses).failed(Stage::Connected, Some(seconds(7000))), Some(seconds(60)));
    }

    #[test]
    fn an_unreachable_host_is_given_up_early_and_headway_begins_anew() {
        let pauses = Pauses::default();
        let mut tries = Tries::new(pauses);
        assert!(tries.failed(Stage::Connecting, None).is_some());
        assert!(tries.failed(Stage::Connecting, None).is_some());
        assert!(tries.failed(Stage::Connecting, None).is_none());
        tries.made_headway();
        assert!(tries.failed(Stage::Connecting, None).is_some());
    }

    #[test]
    fn retry_after_has_two_spellings() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(retry_after("120", now), Some(Duration::from_mins(2)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:50:07 GMT", now), Some(Duration::from_secs(30)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:07 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("soon", now), None);
    }

    #[test]
    fn only_what_may_pass_is_transient() {
        for status in [408, 429, 500, 502, 503, 504] {
            assert!(is_transient(StatusCode::from_u16(status).unwrap()), "{status}");
        }
        for status in [400, 401, 403, 404, 410, 416, 501] {
            assert!(!is_transient(StatusCode::from_u16(status).unwrap()), "{status}");
        }
    }
}
