//! How large the caches may be.

use std::{fmt, str::FromStr};

use super::CacheError;

/// The most bytes that the caches may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheSize {
    /// No more than these.
    Bytes(u64),
    /// As many as there are.
    Unlimited,
}

impl Default for CacheSize {
    /// 20 GB.
    fn default() -> Self {
        Self::Bytes(20_000_000_000)
    }
}

const UNITS: [(&str, u64); 9] = [
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("kb", 1000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("b", 1),
];

impl FromStr for CacheSize {
    type Err = CacheError;

    fn from_str(text: &str) -> Result<Self, CacheError> {
        let wrong = || CacheError::Size(text.to_owned());
        let lower = text.trim().to_ascii_lowercase();
        if lower == "unlimited" {
            return Ok(Self::Unlimited);
        }
        let unit = UNITS.iter().find_map(|(unit, bytes)| Some((lower.strip_suffix(unit)?, *bytes)));
        let (number, unit) = unit.unwrap_or((lower.as_str(), 1));
        let (whole, part) = number.trim().split_once('.').unwrap_or((number.trim(), ""));
        if !part.chars().all(|digit| digit.is_ascii_digit()) || part.len() > 6 {
            return Err(wrong());
        }
        let whole: u64 = whole.parse().map_err(|_| wrong())?;
        let parts: u64 = if part.is_empty() { 0 } else { part.parse().map_err(|_| wrong())? };
        let scale = 10_u64.pow(u32::try_from(part.len()).map_err(|_| wrong())?);
        let bytes =
            whole.checked_mul(unit).and_then(|bytes| bytes.checked_add(parts * (unit / scale.max(1))));
        bytes.map(Self::Bytes).ok_or_else(wrong)
    }
}

impl fmt::Display for CacheSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => bytes.fmt(f),
            Self::Unlimited => f.write_str("unlimited"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_as_people_write_them() {
        let bytes = |text: &str| text.parse::<CacheSize>().ok();
        for (text, size) in [
            ("20GB", 20_000_000_000),
            ("500 mb", 500_000_000),
            ("1.5GB", 1_500_000_000),
            ("2GiB", 2 << 30),
            ("0", 0),
            ("1234", 1234),
            ("7B", 7),
        ] {
            assert_eq!(bytes(text), Some(CacheSize::Bytes(size)), "{text}");
        }
        assert_eq!(bytes("Unlimited"), Some(CacheSize::Unlimited));
        for wrong in ["", "GB", "-1GB", "1.GBs", "1.2.3GB", "99999999999TB", "much"] {
            assert_eq!(bytes(wrong), None, "{wrong}");
        }
    }
}
