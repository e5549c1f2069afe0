//! Sizes and durations as people read them.

use std::time::Duration;

/// Bytes in decimal units, three digits at most: `999 B`, `1.2 kB`, `75.2 MB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    // 999.95 would print as 1000.0.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if value < 99.95 { format!("{value:.1} {}", UNITS[unit]) } else { format!("{value:.0} {}", UNITS[unit]) }
}

/// A duration with one or two significant decimals: `35 ms`, `0.62 s`, `4.2 s`, `1m 05s`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        0.0..0.1 => format!("{:.0} ms", seconds * 1000.0),
        0.1..1.0 => format!("{seconds:.2} s"),
        1.0..59.95 => format!("{seconds:.1} s"),
        _ => {
            let whole = duration.as_secs_f64().round();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "rounded and not negative"
            )]
            let whole = whole as u64;
            format!("{}m {:02}s", whole / 60, whole % 60)
        }
    }
}

/// `1 file`, `2 files`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits_at_most() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (99_949, "99.9 kB"),
            (99_950, "100 kB"),
            (999_600, "1.0 MB"),
            (75_200_000, "75.2 MB"),
            (5_000_000_000_000_000, "5000 TB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn durations_are_short() {
        let cases = [
            (0, "0 ms"),
            (35, "35 ms"),
            (620, "0.62 s"),
            (4_200, "4.2 s"),
            (59_960, "1m 00s"),
            (65_000, "1m 05s"),
        ];
        for (millis, text) in cases {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn nouns_agree_with_their_number() {
        assert_eq!((count(1, "file"), count(2, "file")), ("1 file".to_owned(), "2 files".to_owned()));
    }
}
