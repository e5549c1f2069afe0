//! Where packages come from: the archives that this machine's apt is configured with, or those of the settings.

use std::{
    fs,
    path::{Path, PathBuf},
};

use longshore_endpoint::{ProxySource, WebConfig};
use longshore_fetch::FetchConfig;
use longshore_oci::Arch;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{
    Error,
    apt_conf::{AptConf, fragments, truth},
    control::{Stanza, stanzas},
    error::io,
};

/// The archives to take packages from, and how they are reached and trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Sources {
    /// The archives, in apt's order.
    pub archives: Vec<Archive>,
    /// The release to take packages of, e.g. `bookworm`: what `/etc/os-release` calls `VERSION_CODENAME`. Archives of
    /// another release are left out. If absent, the first archive decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codename: Option<String>,
    /// The publishers (`Origin` of the `Release` file) whose suites are used; those of others are left out. Empty for all.
    #[serde(default)]
    pub origins: Vec<String>,
    /// How current an archive must be.
    #[serde(default)]
    pub currency: Currency,
    /// How archives are reached.
    #[serde(default)]
    pub network: Network,
}

/// One suite of one archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Archive {
    /// The archive's root, below which `dists` and `pool` lie.
    pub url: Url,
    /// The suite, e.g. `bookworm-security`.
    pub suite: String,
    /// The components, e.g. `main`.
    pub components: Vec<String>,
    /// The architectures to use it for; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub architectures: Vec<String>,
    /// What its signature is checked against.
    pub trust: Trust,
    /// Whether `Valid-Until` is checked; if absent, as `Currency` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check_valid_until: Option<bool>,
    /// Where this stands, for messages: `/etc/apt/sources.list:3`.
    #[serde(default)]
    pub place: String,
}

/// What an archive's signature is checked against.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trust {
    /// These keys. `Release` must be signed by one of them.
    Keys(Vec<KeySource>),
    /// Nothing: `Trusted: yes`, for an archive that is not signed.
    Unsigned,
}

/// Where keys are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeySource {
    /// A file of OpenPGP certificates, binary or armored.
    File(PathBuf),
    /// An armored certificate.
    Inline(String),
    /// Those of apt's trusted keys that have this fingerprint.
    Fingerprint {
        /// The fingerprint, in hexadecimal digits.
        fingerprint: String,
        /// The files of trusted keys.
        files: Vec<PathBuf>,
    },
}

/// How current an archive must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Currency {
    /// Whether an archive whose `Valid-Until` has passed is refused. It protects from being kept on old, vulnerable
    /// packages; snapshots of archives need it off.
    pub check_valid_until: bool,
    /// Whether an archive from the future is refused.
    pub check_date: bool,
    /// By how many seconds an archive's clock may be ahead of ours.
    pub max_future_seconds: u32,
}

impl Default for Currency {
    fn default() -> Self {
        Self { check_valid_until: true, check_date: true, max_future_seconds: 10 }
    }
}

/// How archives are reached, as apt is told: for the configuration of the fetcher.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Network {
    /// The proxy for http (`Acquire::http::Proxy`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_proxy: Option<String>,
    /// The proxy for https (`Acquire::https::Proxy`, else that for http, as in apt).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub https_proxy: Option<String>,
    /// A file of certificates that https servers are checked against (`Acquire::https::CAInfo`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

impl Network {
    /// How a fetcher reaches these archives: by apt's proxy, if apt is told of one, else as the environment says.
    pub fn fetch_config(&self) -> FetchConfig {
        let proxy =
            self.http_proxy.as_deref().or(self.https_proxy.as_deref()).and_then(|url| Url::parse(url).ok());
        FetchConfig {
            web: WebConfig {
                proxy: proxy.map_or(ProxySource::Environment, ProxySource::Fixed),
                ..WebConfig::default()
            },
            ..FetchConfig::default()
        }
    }
}

/// The suffixes that suites of one release have, and the aliases of releases. Third-party archives name theirs otherwise
/// (`nodistro`, `cloud-sdk-bookworm`, `bookworm-pgdg`); those that do not are told by the `Origin` of their `Release`.
const POCKETS: [&str; 5] = ["", "-updates", "-security", "/updates", "-proposed-updates"];
const ALIASES: [&str; 6] = ["stable", "oldstable", "oldoldstable", "testing", "unstable", "sid"];
/// What the distributions' own archives call their publisher.
const DISTRIBUTIONS: [&str; 2] = ["Debian", "Ubuntu"];
/// Components of the distributions themselves.
const COMPONENTS: [&str; 8] = [
    "main",
    "contrib",
    "non-free",
    "non-free-firmware",
    "restricted",
    "universe",
    "multiverse",
    "updates/main",
];

impl Sources {
    /// What apt on this machine is configured with.
    pub fn from_system() -> Result<Self, Error> {
        Self::from_root(Path::new("/"))
    }

    /// What apt in the system at `root` is configured with. Of all archives those stay that are, by their suite and
    /// components, of the distribution itself; suites with `Origin`s of their own are left out when their `Release` is
    /// read.
    pub fn from_root(root: &Path) -> Result<Self, Error> {
        let conf = AptConf::read(root)?;
        let mut reader = Reader { root, archives: Vec::new(), trusted: None };
        let list = root.join("etc/apt/sources.list");
        if list.exists() {
            reader.list(&list)?;
        }
        let folder = root.join("etc/apt/sources.list.d");
        for path in fragments(&folder, &["list", "sources"])? {
            if path.extension().is_some_and(|it| it == "list") {
                reader.list(&path)?;
            } else {
                reader.deb822(&path)?;
            }
        }
        let codename = codename(root);
        let all = reader.archives;
        if all.is_empty() {
            return Err(Error::NoApt);
        }
        let of_the_distribution = |archive: &Archive| belongs(archive, codename.as_deref());
        let archives: Vec<Archive> = all.iter().filter(|it| of_the_distribution(it)).cloned().collect();
        if archives.is_empty() {
            return Err(Error::NoDistribution {
                codename: codename.unwrap_or_else(|| "the distribution".to_owned()),
                places: all.iter().map(|it| it.place.as_str()).collect::<Vec<_>>().join(", "),
            });
        }
        let proxy = |scheme: &str| {
            let value = conf.get(&format!("Acquire::{scheme}::Proxy"))?;
            (!value.eq_ignore_ascii_case("direct") && !value.is_empty() && value != "false")
                .then(|| value.to_owned())
        };
        let number = conf.get("Acquire::Max-FutureTime").and_then(|text| text.parse().ok());
        Ok(Self {
            archives,
            codename,
            origins: DISTRIBUTIONS.map(ToOwned::to_owned).to_vec(),
            currency: Currency {
                check_valid_until: conf.flag("Acquire::Check-Valid-Until").unwrap_or(true),
                check_date: conf.flag("Acquire::Check-Date").unwrap_or(true),
                max_future_seconds: number.unwrap_or(Currency::default().max_future_seconds),
            },
            network: Network {
                http_proxy: proxy("http"),
                https_proxy: if conf.get("Acquire::https::Proxy").is_some() {
                    proxy("https")
                } else {
                    proxy("http")
                },
                ca_file: conf.get("Acquire::https::CAInfo").map(PathBuf::from),
            },
        })
    }
}

/// `VERSION_CODENAME` of the system's `os-release`.
fn codename(root: &Path) -> Option<String> {
    let text = fs::read_to_string(root.join("etc/os-release")).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    let value = value.trim().trim_matches(['"', '\'']);
    (!value.is_empty()).then(|| value.to_owned())
}

/// The rule by which third-party archives are left out before anything is fetched from them.
fn belongs(archive: &Archive, codename: Option<&str>) -> bool {
    let of = |name: &str| POCKETS.iter().any(|pocket| archive.suite.strip_prefix(name) == Some(pocket));
    let suite = codename.is_none_or(of) || ALIASES.iter().any(|alias| of(alias));
    suite && archive.components.iter().any(|component| COMPONENTS.contains(&component.as_str()))
}

struct Reader<'a> {
    root: &'a Path,
    archives: Vec<Archive>,
    /// The files of apt's trusted keys, once they have been looked for.
    trusted: Option<Vec<PathBuf>>,
}

/// The options of one entry, in either format.
#[derive(Default)]
struct Options {
    architectures: Vec<String>,
    signed_by: Option<String>,
    trusted: bool,
    check_valid_until: Option<bool>,
}

impl Options {
    fn set(&mut self, name: &str, value: &str) {
        let list =
            || value.split([',', ' ', '\n']).filter(|word| !word.is_empty()).map(ToOwned::to_owned).collect();
        match name.to_ascii_lowercase().as_str() {
            "arch" | "architectures" => self.architectures = list(),
            "signed-by" => self.signed_by = Some(value.to_owned()),
            "trusted" => self.trusted = truth(value) == Some(true),
            "check-valid-until" => self.check_valid_until = truth(value),
            _ => {}
        }
    }
}

impl Reader<'_> {
    /// One-line entries (sources.list(5)): `deb [option=value …] uri suite component …`.
    fn list(&mut self, path: &Path) -> Result<(), Error> {
        let text = fs::read_to_string(path).map_err(io("read", path))?;
        for (index, line) in text.lines().enumerate() {
            let place = format!("{}:{}", path.display(), index + 1);
            let line = line.split('#').next().unwrap_or_default().trim();
            let Some(rest) = line.strip_prefix("deb").filter(|rest| rest.starts_with([' ', '\t', '[']))
            else {
                continue;
            };
            let wrong = |why: &str| Error::AptConfiguration { place: place.clone(), why: why.to_owned() };
            let mut rest = rest.trim_start();
            let mut options = Options::default();
            if let Some(inside) = rest.strip_prefix('[') {
                let (inside, after) = inside.split_once(']').ok_or_else(|| wrong("`[` is not closed"))?;
                for option in inside.split_ascii_whitespace() {
                    let (name, value) =
                        option.split_once('=').ok_or_else(|| wrong("an option is `name=value`"))?;
                    options.set(name.trim_end_matches(['+', '-']), value);
                }
                rest = after;
            }
            let words: Vec<String> = rest.split_ascii_whitespace().map(ToOwned::to_owned).collect();
            let [uri, suite, components @ ..] = words.as_slice() else {
                return Err(wrong("an entry is `deb uri suite component …`"));
            };
            self.entry(uri, suite, components, &options, &place)?;
        }
        Ok(())
    }

    /// Stanzas (sources.list(5), "deb822-style format").
    fn deb822(&mut self, path: &Path) -> Result<(), Error> {
        let text = fs::read_to_string(path).map_err(io("read", path))?;
        let wrong = |why: String| Error::AptConfiguration { place: path.display().to_string(), why };
        for stanza in stanzas(&text).map_err(|error| wrong(error.to_string()))? {
            let disabled = stanza.get("Enabled").and_then(truth) == Some(false);
            if disabled || !stanza.words("Types").any(|kind| kind == "deb") {
                continue;
            }
            self.stanza(&stanza, &path.display().to_string())?;
        }
        Ok(())
    }

    fn stanza(&mut self, stanza: &Stanza, place: &str) -> Result<(), Error> {
        let mut options = Options::default();
        for (name, value) in stanza.fields() {
            options.set(name, value);
        }
        let components: Vec<String> = stanza.words("Components").map(ToOwned::to_owned).collect();
        for uri in stanza.words("URIs") {
            for suite in stanza.words("Suites") {
                self.entry(uri, suite, &components, &options, place)?;
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        uri: &str,
        suite: &str,
        components: &[String],
        options: &Options,
        place: &str,
    ) -> Result<(), Error> {
        // A flat archive (its suite is a path) is nobody's distribution; a disc cannot be fetched from.
        if suite.ends_with('/') || components.is_empty() || uri.starts_with("cdrom:") {
            return Ok(());
        }
        let wrong = |why: String| Error::AptConfiguration { place: place.to_owned(), why };
        let uri = self.mirror(uri).map_err(|why| wrong(format!("`{uri}`: {why}")))?;
        let mut url = Url::parse(&uri).map_err(|error| wrong(format!("`{uri}`: {error}")))?;
        if !matches!(url.scheme(), "http" | "https" | "file" | "copy") {
            return Ok(());
        }
        if url.scheme() == "copy" {
            url = Url::parse(&uri.replacen("copy:", "file:", 1)).map_err(|error| wrong(error.to_string()))?;
        }
        let trust = if options.trusted {
            Trust::Unsigned
        } else {
            Trust::Keys(self.keys(options.signed_by.as_deref())?)
        };
        self.archives.push(Archive {
            url,
            suite: suite.to_owned(),
            components: components.to_vec(),
            architectures: options.architectures.clone(),
            trust,
            check_valid_until: options.check_valid_until,
            place: place.to_owned(),
        });
        Ok(())
    }

    /// Debian's cloud images say `mirror+file:/etc/apt/mirrors/…`: a file of mirrors, the first of which we take.
    fn mirror(&self, uri: &str) -> Result<String, String> {
        let Some(list) = uri.strip_prefix("mirror+file:") else { return Ok(uri.to_owned()) };
        let path = self.below_root(list.trim_start_matches("//"));
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
        let first = first.and_then(|line| line.split_ascii_whitespace().next());
        first.map(ToOwned::to_owned).ok_or_else(|| format!("{} lists no mirror", path.display()))
    }

    fn below_root(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// `Signed-By`: paths, fingerprints or a key; without it, all that apt trusts.
    fn keys(&mut self, signed_by: Option<&str>) -> Result<Vec<KeySource>, Error> {
        let Some(signed_by) = signed_by else {
            return Ok(self.trusted()?.into_iter().map(KeySource::File).collect());
        };
        if signed_by.contains("-----BEGIN PGP PUBLIC KEY BLOCK-----") {
            let lines = signed_by.lines().map(|line| if line.trim() == "." { "" } else { line.trim() });
            return Ok(vec![KeySource::Inline(lines.collect::<Vec<_>>().join("\n").trim().to_owned())]);
        }
        let mut keys = Vec::new();
        for word in signed_by.split([',', ' ', '\n']).filter(|word| !word.is_empty()) {
            keys.push(if word.starts_with('/') {
                KeySource::File(self.below_root(word))
            } else {
                let fingerprint = word.trim_end_matches('!').to_ascii_uppercase();
                KeySource::Fingerprint { fingerprint, files: self.trusted()? }
            });
        }
        Ok(keys)
    }

    fn trusted(&mut self) -> Result<Vec<PathBuf>, Error> {
        if self.trusted.is_none() {
            let mut files = fragments(&self.root.join("etc/apt/trusted.gpg.d"), &["gpg", "asc"])?;
            files.extend(Some(self.root.join("etc/apt/trusted.gpg")).filter(|path| path.exists()));
            self.trusted = Some(files);
        }
        Ok(self.trusted.clone().unwrap_or_default())
    }
}

impl Archive {
    /// Whether this entry is meant for `arch`.
    pub fn serves(&self, arch: Arch) -> bool {
        self.architectures.is_empty() || self.architectures.iter().any(|it| it == arch.as_str())
    }

    /// The address of something below the archive's root.
    pub(crate) fn join(&self, path: &str) -> Result<Url, Error> {
        join(&self.url, path)
    }
}

/// The address of something below `base`.
pub(crate) fn join(base: &Url, path: &str) -> Result<Url, Error> {
    let mut folder = base.clone();
    if !folder.path().ends_with('/') {
        folder.set_path(&format!("{}/", folder.path()));
    }
    let wrong =
        |why: String| Error::Address { base: longshore_endpoint::redacted(base), path: path.to_owned(), why };
    let joined = folder.join(path).map_err(|error| wrong(error.to_string()))?;
    if !joined.as_str().starts_with(folder.as_str()) {
        return Err(wrong("it leads elsewhere".to_owned()));
    }
    Ok(joined)
}

#[cfg(test)]
mod tests;
