//! What time a stand-in believes it is.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    extract::Request,
    http::{HeaderValue, header},
    middleware::Next,
    response::Response,
};

/// The time of this machine, and how far a stand-in's is from it.
#[derive(Debug, Default)]
pub struct Clock(AtomicI64);

impl Clock {
    /// Sets it this many seconds ahead, or behind.
    pub fn set_ahead(&self, seconds: i64) {
        self.0.store(seconds, Ordering::SeqCst);
    }

    /// Seconds since 1970.
    pub fn now(&self) -> i64 {
        let ours = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
        i64::try_from(ours).unwrap_or(i64::MAX).saturating_add(self.0.load(Ordering::SeqCst))
    }

    /// Dates an answer by it.
    pub(super) async fn date(clock: std::sync::Arc<Self>, request: Request, next: Next) -> Response {
        let mut response = next.run(request).await;
        let now = UNIX_EPOCH + Duration::from_secs(u64::try_from(clock.now()).unwrap_or_default());
        if let Ok(date) = HeaderValue::from_str(&httpdate::fmt_http_date(now)) {
            response.headers_mut().insert(header::DATE, date);
        }
        response
    }
}
