//! Numbers of bytes, as people write them.

use std::str::FromStr;

/// A number of bytes: `100000`, `100kB`, `1.5 MB`, `1MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ByteCount(pub(crate) u64);

impl FromStr for ByteCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a number of bytes such as 100kB, 1.5MB or 1MiB");
        let trimmed = text.trim();
        let end = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(end);
        let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kb" => 1_000,
            "m" | "mb" => 1_000_000,
            "g" | "gb" => 1_000_000_000,
            "kib" => 1 << 10,
            "mib" => 1 << 20,
            "gib" => 1 << 30,
            _ => return Err(wrong()),
        };
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() || part.len() > 9 || number.ends_with('.') {
            return Err(wrong());
        }
        let digits = |text: &str| if text.is_empty() { Ok(0) } else { text.parse::<u64>() };
        let (whole, part, scale) =
            (digits(whole), digits(part), 10_u64.pow(u32::try_from(part.len()).unwrap_or(0)));
        let (Ok(whole), Ok(part)) = (whole, part) else { return Err(wrong()) };
        let part = u128::from(part) * u128::from(factor) / u128::from(scale);
        let bytes = u128::from(whole) * u128::from(factor) + part;
        u64::try_from(bytes).map(Self).map_err(|_| wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_decimal_or_binary() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("100kB", 100_000),
            ("1.5 MB", 1_500_000),
            ("1MiB", 1 << 20),
            ("0.5 GiB", 1 << 29),
            ("2g", 2_000_000_000),
            ("7B", 7),
        ] {
            assert_eq!(text.parse(), Ok(ByteCount(bytes)), "{text}");
        }
        for text in ["", "kB", "-1", "1 parsec", "1.2.3", ".5", "1.", "99999999999999 GB", "1e3"] {
            assert!(text.parse::<ByteCount>().is_err(), "{text}");
        }
    }
}
