//! Whether this machine's clock can be trusted with tokens.

use std::time::{Duration, SystemTime};

use crate::{Check, Finding};

/// So far a clock may be off before a token service may refuse what it signs. Google and Microsoft allow five minutes,
/// and Amazon as much for signatures; a minute of that is left for the way.
const MOST: Duration = Duration::from_mins(4);
/// What is not worth a word: the header counts in seconds, and the answer takes its time.
const UNNOTICED: Duration = Duration::from_secs(30);

/// How this machine's clock differs from the one that a host's `Date` header (RFC 9110 §6.6.1) shows.
pub(crate) fn compare(host: &str, date: Option<&str>, now: SystemTime) -> Option<Finding> {
    let theirs = httpdate::parse_http_date(date?).ok()?;
    let (ahead, difference) = match now.duration_since(theirs) {
        Ok(ahead) => (true, ahead),
        Err(behind) => (false, behind.duration()),
    };
    if difference <= UNNOTICED {
        return Some(Finding::ok(Check::Clock, host, "agrees with this machine's clock"));
    }
    let way = if ahead { "ahead of" } else { "behind" };
    let message = format!("this machine's clock is {} s {way} the registry's", difference.as_secs());
    let remedy = "set the clock (`timedatectl set-ntp true`), else tokens look expired or not yet valid";
    Some(if difference > MOST {
        Finding::error(Check::Clock, host, message, Some(remedy.to_owned()))
    } else {
        Finding::warning(Check::Clock, host, message, remedy)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Level;

    const DATE: &str = "Mon, 23 Nov 2026 16:00:00 GMT";

    fn level(seconds: i64) -> Option<Level> {
        let theirs = httpdate::parse_http_date(DATE).unwrap();
        let by = Duration::from_secs(seconds.unsigned_abs());
        let now = if seconds < 0 { theirs - by } else { theirs + by };
        compare("r.io", Some(DATE), now).map(|finding| finding.level)
    }

    #[test]
    fn a_clock_is_judged_by_what_token_services_allow() {
        assert_eq!(level(3), Some(Level::Ok));
        assert_eq!(level(-90), Some(Level::Warning));
        assert_eq!(level(90), Some(Level::Warning));
        assert_eq!(level(-600), Some(Level::Error));
        assert_eq!(level(600), Some(Level::Error));
    }

    #[test]
    fn a_host_without_a_clock_is_not_judged() {
        assert_eq!(compare("r.io", None, SystemTime::now()), None);
        assert_eq!(compare("r.io", Some("yesterday"), SystemTime::now()), None);
    }
}
