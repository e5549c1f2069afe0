//! Versions of Debian packages, ordered as `dpkg` orders them (deb-version(7)).
//!
//! The comparison is our own sixty lines: it runs on borrowed text for every one of some 60 000 packages of an
//! index, where a parsed `debversion::Version` costs three allocations and a regular expression each.

use std::{cmp::Ordering, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A version as a package states it, e.g. `1:2.30-1+deb12u2`.
///
/// Two versions are equal when `dpkg` treats them so: `1.0`, `1.0-0` and `0:1.0` are the same.
#[derive(Clone, Debug)]
pub struct Version(String);

/// Why a text is not a version.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a Debian version ([epoch:]upstream[-revision], deb-version(7))")]
pub struct VersionError(String);

impl Version {
    /// The text as the package states it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b".+-~:_".contains(&b);
        let (epoch, rest) = text.split_once(':').unwrap_or(("0", text));
        let epoch_is_a_number = epoch.parse::<i32>().is_ok() && epoch.bytes().all(|b| b.is_ascii_digit());
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, "0"));
        if !epoch_is_a_number || upstream.is_empty() || revision.is_empty() || !rest.bytes().all(allowed) {
            return Err(VersionError(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.0, &other.0)
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Version {}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Compares two versions as `dpkg --compare-versions` does.
pub fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (parts(a), parts(b));
    compare_part(a.0.as_bytes(), b.0.as_bytes())
        .then_with(|| compare_part(a.1.as_bytes(), b.1.as_bytes()))
        .then_with(|| compare_part(a.2.as_bytes(), b.2.as_bytes()))
}

/// Epoch, upstream version and revision. What is missing is empty, which sorts like `0`.
fn parts(version: &str) -> (&str, &str, &str) {
    let (epoch, rest) = version.split_once(':').unwrap_or(("", version));
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
    (epoch, upstream, revision)
}

/// The order of a byte that is no digit: `~` before the end of the part, the end before letters, letters before
/// everything else.
fn order(byte: Option<&u8>) -> i32 {
    match byte {
        None => 0,
        Some(b) if b.is_ascii_digit() => 0,
        Some(b'~') => -1,
        Some(b) if b.is_ascii_alphabetic() => i32::from(*b),
        Some(b) => i32::from(*b) + 256,
    }
}

/// Alternates between a run of non-digits, compared byte by byte, and a run of digits, compared by value.
fn compare_part(mut a: &[u8], mut b: &[u8]) -> Ordering {
    let at_text = |part: &[u8]| part.first().is_some_and(|byte| !byte.is_ascii_digit());
    while !a.is_empty() || !b.is_empty() {
        while at_text(a) || at_text(b) {
            match order(a.first()).cmp(&order(b.first())) {
                Ordering::Equal => (a, b) = (&a[1..], &b[1..]),
                different => return different,
            }
        }
        let (a_digits, b_digits) = (digits(&mut a), digits(&mut b));
        match a_digits.len().cmp(&b_digits.len()).then_with(|| a_digits.cmp(b_digits)) {
            Ordering::Equal => {}
            different => return different,
        }
    }
    Ordering::Equal
}

/// Takes the leading run of digits off `part`, without its leading zeros.
fn digits<'a>(part: &mut &'a [u8]) -> &'a [u8] {
    let end = part.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(part.len());
    let (run, rest) = part.split_at(end);
    *part = rest;
    &run[run.iter().position(|byte| *byte != b'0').unwrap_or(run.len())..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    #[test]
    fn the_manual_s_order_holds() {
        let ascending = ["1.0~~", "1.0~~a", "1.0~", "1.0", "1.0a", "1.0+", "1.0.1", "1.1", "1.10", "1:0.1"];
        for (index, low) in ascending.iter().enumerate() {
            for high in &ascending[index + 1..] {
                assert_eq!(compare(low, high), Ordering::Less, "{low} {high}");
                assert_eq!(compare(high, low), Ordering::Greater, "{high} {low}");
            }
        }
        for same in [["1.0", "1.0-0"], ["0:1.0", "1.0"], ["1.01", "1.1"], ["1.0-", "1.0"]] {
            assert_eq!(compare(same[0], same[1]), Ordering::Equal, "{same:?}");
        }
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for wrong in ["", ":1", "a:1", "1:", "1 0", "1.0-", "99999999999:1", "+1:1", "1/2"] {
            assert!(wrong.parse::<Version>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn dpkg_agrees(a in "([0-2]:)?[0-9][a-b0-2.+~]{0,6}(-[a0-1.~]{1,3})?", b in "([0-2]:)?[0-9][a-b0-2.+~]{0,6}(-[a0-1.~]{1,3})?") {
            let dpkg = |operator: &str| {
                Command::new("dpkg").args(["--compare-versions", &a, operator, &b]).status().unwrap().success()
            };
            let expected = match (dpkg("lt"), dpkg("gt")) {
                (true, _) => Ordering::Less,
                (_, true) => Ordering::Greater,
                _ => Ordering::Equal,
            };
            prop_assert_eq!(compare(&a, &b), expected);
            prop_assert_eq!(compare(&b, &a), expected.reverse());
        }

        #[test]
        fn anything_can_be_compared(a: String, b: String) {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            prop_assert_eq!(compare(&a, &a), Ordering::Equal);
            if let Ok(version) = a.parse::<Version>() {
                prop_assert_eq!(version.to_string(), a);
            }
        }
    }
}
