//! Byte ranges (RFC 9110 §14; distribution specification, "Pushing a blob in chunks").

use std::ops::Range;

/// What a `Range` header asks of something `size` bytes long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// All of it: there is no header, or one that may be ignored (several ranges, another unit, nonsense).
    Whole,
    /// One part of it.
    Part(Range<u64>),
    /// Nothing that there is.
    Nothing,
}

impl Asked {
    pub(crate) fn parse(header: Option<&str>, size: u64) -> Self {
        let Some((first, last)) = header
            .and_then(|header| header.trim().strip_prefix("bytes="))
            .and_then(|range| range.split_once('-'))
        else {
            return Self::Whole;
        };
        let range = match (number(first), number(last)) {
            (Some(first), Some(last)) if first > last => return Self::Whole,
            (Some(first), Some(last)) => first..last.saturating_add(1).min(size),
            (Some(first), None) if last.is_empty() => first..size,
            (None, Some(length)) if first.is_empty() => size - length.min(size)..size,
            _ => return Self::Whole,
        };
        if range.start < range.end { Self::Part(range) } else { Self::Nothing }
    }
}

/// The position of the first byte that a chunk's `Content-Range` names, and of the last: `5-9`. Some clients
/// write it as HTTP otherwise does, `bytes 5-9/*`.
pub(crate) fn chunk(header: &str) -> Option<(u64, u64)> {
    let range = header.trim();
    let range = range.strip_prefix("bytes ").unwrap_or(range);
    let (range, _) = range.split_once('/').unwrap_or((range, ""));
    let (first, last) = range.split_once('-')?;
    Some((number(first)?, number(last)?)).filter(|(first, last)| first <= last)
}

/// Digits only: `parse` alone would take a sign.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges_are_read_as_http_has_them() {
        let cases = [
            (None, Asked::Whole),
            (Some("bytes=0-4"), Asked::Part(0..5)),
            (Some("bytes=0-99"), Asked::Part(0..10)),
            (Some("bytes=3-"), Asked::Part(3..10)),
            (Some("bytes=-3"), Asked::Part(7..10)),
            (Some("bytes=-30"), Asked::Part(0..10)),
            (Some("bytes=9-9"), Asked::Part(9..10)),
            (Some("bytes=10-"), Asked::Nothing),
            (Some("bytes=10-12"), Asked::Nothing),
            (Some("bytes=-0"), Asked::Nothing),
            (Some("bytes=5-4"), Asked::Whole),
            (Some("bytes=0-1,3-4"), Asked::Whole),
            (Some("lines=0-1"), Asked::Whole),
            (Some("bytes=-"), Asked::Whole),
            (Some("bytes=+1-2"), Asked::Whole),
            (Some("bytes=0-18446744073709551615"), Asked::Part(0..10)),
        ];
        for (header, asked) in cases {
            assert_eq!(Asked::parse(header, 10), asked, "{header:?}");
        }
        assert_eq!(Asked::parse(Some("bytes=0-"), 0), Asked::Nothing);
    }

    #[test]
    fn chunks_are_read_in_both_spellings() {
        assert_eq!(chunk("0-9"), Some((0, 9)));
        assert_eq!(chunk("bytes 5-9/10"), Some((5, 9)));
        assert_eq!(chunk("bytes 5-9/*"), Some((5, 9)));
        for wrong in ["", "-", "9-5", "5-", "-5", "a-b", "bytes=0-1"] {
            assert_eq!(chunk(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_part_is_never_outside(header in "(bytes=)?[0-9]{0,4}-?[0-9]{0,4}|\\PC*", size in 0_u64..3000) {
            if let Asked::Part(range) = Asked::parse(Some(&header), size) {
                prop_assert!(range.start < range.end && range.end <= size);
            }
            let _ = chunk(&header);
        }
    }
}
