//! How many pulls a registry still allows (Docker Hub's `RateLimit-*` headers).

use std::time::Duration;

use http::HeaderMap;

/// What a registry says of its limit on pulls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// How many pulls it allows in a window.
    pub limit: u64,
    /// How many of them are left.
    pub remaining: u64,
    /// The window.
    pub window: Option<Duration>,
    /// Whom it counts for: an address or an account.
    pub source: Option<String>,
}

impl Quota {
    /// Reads the headers of an answer: `RateLimit-Limit: 100;w=21600` (Docker, "Docker Hub usage and limits").
    pub(crate) fn read(headers: &HeaderMap) -> Option<Self> {
        let text = |name: &str| headers.get(name)?.to_str().ok();
        let (limit, window) = counted(text("ratelimit-limit")?)?;
        let (remaining, _) = counted(text("ratelimit-remaining")?)?;
        Some(Self { limit, remaining, window, source: text("docker-ratelimit-source").map(str::to_owned) })
    }
}

/// `100;w=21600`
fn counted(value: &str) -> Option<(u64, Option<Duration>)> {
    let mut parts = value.split(';').map(str::trim);
    let count = parts.next()?.parse().ok()?;
    let window = parts.find_map(|part| part.strip_prefix("w=")?.parse().ok()).map(Duration::from_secs);
    Some((count, window))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_hubs_headers_are_read() {
        let mut headers = HeaderMap::new();
        headers.insert("ratelimit-limit", "100;w=21600".parse().unwrap());
        assert_eq!(Quota::read(&headers), None);
        headers.insert("ratelimit-remaining", "76;w=21600".parse().unwrap());
        headers.insert("docker-ratelimit-source", "192.0.2.1".parse().unwrap());
        let quota = Quota::read(&headers).unwrap();
        assert_eq!((quota.limit, quota.remaining, quota.window), (100, 76, Some(Duration::from_hours(6))));
        assert_eq!(quota.source.as_deref(), Some("192.0.2.1"));
    }
}
