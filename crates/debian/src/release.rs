//! `Release` files: what a suite is, how current it is, and the digests of its indexes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use longshore_oci::{Arch, Digest};

use crate::{
    control::stanzas,
    sources::{Archive, Currency},
};

/// A suite, as its `Release` describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// `Debian`, `Ubuntu`, or whoever else publishes it.
    pub origin: String,
    /// `bookworm-security`, ….
    pub codename: String,
    /// `12.15`; not every suite has one.
    pub version: Option<String>,
    /// When it was made.
    pub date: Timestamp,
    /// When it ceases to be current.
    pub valid_until: Option<Timestamp>,
    /// Whether indexes can be fetched by their digest, undisturbed by updates of the mirror.
    pub by_hash: bool,
    /// Whether its packages are to be installed only when asked for by suite, like backports.
    pub not_automatic: bool,
    /// The architectures it has packages for.
    pub architectures: Vec<String>,
    /// Whether packages for all architectures have indexes of their own.
    pub separate_all: bool,
    /// Its `Packages` files: by path below the suite, digest and size.
    pub indexes: BTreeMap<String, (Digest, u64)>,
}

/// One `Packages` file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IndexFile {
    /// Below the suite's folder, by digest where the archive has that.
    pub(crate) path: String,
    /// The name it is compressed by: `Packages.xz`.
    pub(crate) name: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// The ways in which indexes are compressed, in order of preference. gzip decodes in a tenth of xz's time; for Debian's main
/// index that is half a second against 3 MB more to fetch, which pays from some 60 Mbit/s.
const COMPRESSIONS: [&str; 3] = [".gz", ".xz", ""];

impl Release {
    /// Reads a `Release` file's text, of which only the SHA-256 section counts.
    pub fn parse(text: &str) -> Result<Self, String> {
        let stanza = stanzas(text).map_err(|error| error.to_string())?;
        let stanza = stanza.first().ok_or("it is empty")?;
        let get = |name: &str| stanza.get(name).map(ToOwned::to_owned);
        let time = |name: &str| {
            let text = stanza.get(name);
            text.map(|text| date(text).ok_or_else(|| format!("`{name}: {text}` is no date in UTC")))
                .transpose()
        };
        let mut indexes = BTreeMap::new();
        for line in stanza.get("SHA256").ok_or("it has no SHA256 section")?.lines() {
            let mut words = line.split_ascii_whitespace();
            let (Some(digest), Some(size), Some(path)) = (words.next(), words.next(), words.next()) else {
                continue;
            };
            if !path.contains("/binary-") || !path.contains("/Packages") {
                continue;
            }
            let digest = Digest::from_hex(digest).map_err(|error| format!("{path}: {error}"))?;
            indexes.insert(
                path.to_owned(),
                (digest, size.parse().map_err(|_| format!("{path}: `{size}` is no size"))?),
            );
        }
        let has = |name: &str, word: &str| stanza.words(name).any(|it| it == word);
        Ok(Self {
            origin: get("Origin").unwrap_or_default(),
            codename: get("Codename").or_else(|| get("Suite")).ok_or("it names no Codename")?,
            version: get("Version"),
            date: time("Date")?.ok_or("it has no Date")?,
            valid_until: time("Valid-Until")?,
            by_hash: stanza.get("Acquire-By-Hash") == Some("yes"),
            not_automatic: stanza.get("NotAutomatic") == Some("yes"),
            architectures: stanza.words("Architectures").map(ToOwned::to_owned).collect(),
            separate_all: has("Architectures", "all") && !has("No-Support-for-Architecture-all", "Packages"),
            indexes,
        })
    }

    /// The release that the suite belongs to: `bookworm` for `bookworm-security`.
    pub fn base_codename(&self) -> &str {
        let name = self.codename.split('/').next().unwrap_or_default();
        name.split('-').next().unwrap_or_default()
    }

    /// Whether the suite is neither expired nor from the future, as apt would judge.
    ///
    /// `Valid-Until` counts unless the entry or apt's configuration says that it is not checked. It is the archive's
    /// promise of a newer file: without it, whoever controls the network could keep us on old packages for ever.
    pub fn check_current(
        &self,
        archive: &Archive,
        currency: &Currency,
        now: Timestamp,
    ) -> Result<(), String> {
        let ahead = self.date.as_second() - now.as_second();
        if currency.check_date && ahead > i64::from(currency.max_future_seconds) {
            return Err(format!(
                "it is from {}, which is in the future; set this machine's clock",
                self.date
            ));
        }
        let until =
            self.valid_until.filter(|_| archive.check_valid_until.unwrap_or(currency.check_valid_until));
        match until {
            Some(until) if until < now => Err(format!(
                "it expired on {until}: the mirror is out of date, or somebody keeps this machine from seeing updates; use \
                 another mirror, or for a snapshot that never changes set `Check-Valid-Until: no` in its entry"
            )),
            _ => Ok(()),
        }
    }

    /// The indexes of a component for `arch`; none if the suite lacks it.
    pub(crate) fn index_files(&self, component: &str, arch: Arch) -> Vec<IndexFile> {
        // The archive of security updates of old releases calls its components `updates/main` and their folders `main`.
        let component = component.strip_prefix("updates/").unwrap_or(component);
        let of = |arch: &str| {
            let folder = format!("{component}/binary-{arch}");
            COMPRESSIONS.iter().find_map(|compression| {
                let name = format!("Packages{compression}");
                let (digest, size) = *self.indexes.get(&format!("{folder}/{name}"))?;
                let path = if self.by_hash {
                    format!("{folder}/by-hash/SHA256/{}", digest.hex())
                } else {
                    format!("{folder}/{name}")
                };
                Some(IndexFile { path, name, digest, size })
            })
        };
        let own = of(arch.as_str());
        let all = own.as_ref().and_then(|_| Some("all").filter(|_| self.separate_all).and_then(of));
        own.into_iter().chain(all).collect()
    }
}

/// `Sat, 11 Jul 2026 10:16:37 UTC`. The weekday is not looked at, as apt does not.
fn date(text: &str) -> Option<Timestamp> {
    let text = text.split_once(", ").map_or(text, |(_, rest)| rest).trim();
    let text = ["UTC", "GMT", "Z", "+0000"].iter().find_map(|zone| text.strip_suffix(zone))?.trim_end();
    let time = jiff::civil::DateTime::strptime("%d %b %Y %H:%M:%S", text).ok()?;
    jiff::tz::TimeZone::UTC.to_timestamp(time).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::Trust;
    use proptest::prelude::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn release() -> Release {
        let text = format!(
            "Origin: Debian\nCodename: bookworm-security\nDate: Sat, 11 Jul 2026 10:16:37 UTC\nValid-Until: Sat, 18 Jul 2026 10:16:37 UTC\n\
             Acquire-By-Hash: yes\nArchitectures: amd64 all\nMD5Sum:\n x 0 main/binary-amd64/Packages\nSHA256:\n {EMPTY} 0 main/binary-amd64/Packages.xz\n \
             {EMPTY}   12 main/binary-amd64/Packages.gz\n {EMPTY} 3 main/binary-all/Packages\n {EMPTY} 3 main/source/Sources\n"
        );
        Release::parse(&text).unwrap()
    }

    #[test]
    fn indexes_are_found() {
        let release = release();
        assert_eq!((release.base_codename(), release.indexes.len()), ("bookworm", 3));
        let files = release.index_files("updates/main", Arch::Amd64);
        assert_eq!(files.len(), 2);
        assert_eq!(files[0].path, format!("main/binary-amd64/by-hash/SHA256/{EMPTY}"));
        assert_eq!((files[0].name.as_str(), files[1].name.as_str()), ("Packages.gz", "Packages"));
        assert!(release.index_files("main", Arch::Arm64).is_empty());
    }

    #[test]
    fn a_suite_is_current_between_its_dates() {
        let mut archive = Archive {
            url: "http://localhost/".parse().unwrap(),
            suite: String::new(),
            components: Vec::new(),
            architectures: Vec::new(),
            trust: Trust::Unsigned,
            check_valid_until: None,
            place: String::new(),
        };
        let at = |text: &str| date(text).unwrap();
        let check = |archive: &Archive, now| release().check_current(archive, &Currency::default(), now);
        assert!(
            check(&archive, at("11 Jul 2026 10:16:30 UTC")).is_ok(),
            "within the allowed difference of clocks"
        );
        assert!(check(&archive, at("11 Jul 2026 10:00:00 UTC")).unwrap_err().contains("in the future"));
        assert!(check(&archive, at("19 Jul 2026 10:00:00 UTC")).unwrap_err().contains("expired"));
        archive.check_valid_until = Some(false);
        assert!(check(&archive, at("19 Jul 2026 10:00:00 UTC")).is_ok());
    }

    #[test]
    fn what_is_no_release_is_refused() {
        for text in
            ["", "Codename: x\nDate: Sat, 11 Jul 2026 10:16:37 UTC\n", "Codename: x\nSHA256:\nDate: today\n"]
        {
            assert!(Release::parse(text).is_err(), "{text}");
        }
        assert_eq!(date("11 Jul 2026 10:16:37 CET"), None);
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text: String, lines in "(SHA256:|Date: |Codename: x\n| [0-9a-f]{3} 1 a/binary-b/Packages\n){0,8}") {
            let _ = Release::parse(&text);
            let _ = Release::parse(&lines);
            let _ = date(&text);
        }
    }
}
