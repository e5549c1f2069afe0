//! The environment that uv runs in, and the indexes that it asks.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

use longshore_oci::{Digest, Digester};
use percent_encoding::percent_decode_str;
use url::Url;

/// Variables that are not uv's own and that it gets: to find programs (`git`, `keyring`) and its folders, the way to
/// the network, and the certificates to trust.
const PASSED: [&str; 19] = [
    "PATH",
    "HOME",
    "USER",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_CONFIG_DIRS",
    "XDG_DATA_HOME",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NETRC",
];

/// Settings of uv's that decide how it answers in our stead: they would turn the lock into something else.
const WITHHELD: [&str; 12] = [
    "UV_CUSTOM_COMPILE_COMMAND",
    "UV_PYTHON",
    "UV_SYSTEM_PYTHON",
    "UV_PYTHON_DOWNLOADS",
    "UV_OFFLINE",
    "UV_FORK_STRATEGY",
    "UV_NO_BINARY",
    "UV_NO_BUILD",
    "UV_EXCLUDE_NEWER",
    "UV_WORKING_DIR",
    "UV_WORKING_DIRECTORY",
    "UV_PROJECT",
];

/// Those of uv's variables that change where it keeps things or how it asks, but not what it answers.
const WITHOUT_EFFECT: [&str; 6] = [
    "UV_CACHE_DIR",
    "UV_HTTP_TIMEOUT",
    "UV_HTTP_RETRIES",
    "UV_CONCURRENT_DOWNLOADS",
    "UV_LINK_MODE",
    "UV_NO_PROGRESS",
];

/// The variables that uv runs with: a few of the process's, and `UV_…` but for those that would change
/// the form of its answer. Printed without values.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, OsString>);

impl Environment {
    /// What this process's environment has for uv.
    pub fn of_process() -> Self {
        Self::choose(std::env::vars_os())
    }

    /// What uv gets out of these variables.
    pub fn choose(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let chosen = variables.into_iter().filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            let own = name.starts_with("UV_") && !WITHHELD.contains(&name.as_str());
            (own || PASSED.contains(&name.as_str())).then_some((name, value))
        });
        Self(chosen.collect())
    }

    /// The variables.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&String, &OsString)> {
        self.0.iter()
    }

    /// The digest of everything here that has a say in what uv answers; no secret goes into it.
    pub(crate) fn digest(&self, indexes: &Indexes, folder: &Path) -> Digest {
        let mut digester = Digester::new();
        let mut note = |name: &[u8], value: &[u8]| {
            for part in [name, value] {
                digester.update(&(part.len() as u64).to_be_bytes());
                digester.update(part);
            }
        };
        for (name, value) in &self.0 {
            let secret = name.ends_with("_PASSWORD") || name.ends_with("_USERNAME");
            if name.starts_with("UV_") && !secret && !WITHOUT_EFFECT.contains(&name.as_str()) {
                note(name.as_bytes(), without_credentials(&value.to_string_lossy()).as_bytes());
            }
        }
        for (kind, url) in indexes.urls() {
            note(kind.as_bytes(), without_credentials(url.as_str()).as_bytes());
        }
        for file in self.configuration(folder) {
            if let Ok(bytes) = fs::read(&file) {
                note(b"configuration", without_credentials(&String::from_utf8_lossy(&bytes)).as_bytes());
            }
        }
        digester.finish()
    }

    /// The files that uv takes settings from, whether they exist or not: the nearest project's, the user's, the system's.
    fn configuration(&self, folder: &Path) -> Vec<PathBuf> {
        let mut files = Vec::new();
        if let Some(file) = self.0.get("UV_CONFIG_FILE") {
            return vec![folder.join(file)];
        }
        if self.0.contains_key("UV_NO_CONFIG") {
            return files;
        }
        for ancestor in folder.ancestors() {
            let own = ancestor.join("uv.toml");
            let project = ancestor.join("pyproject.toml");
            if own.is_file() {
                files.push(own);
                break;
            }
            // Only a project with a table for uv is taken; the file counts whole, for simplicity's sake.
            if fs::read_to_string(&project).is_ok_and(|text| text.contains("tool.uv")) {
                files.push(project);
                break;
            }
        }
        let configured = self.0.get("XDG_CONFIG_HOME").map(PathBuf::from);
        let user = configured.or_else(|| Some(PathBuf::from(self.0.get("HOME")?).join(".config")));
        files.extend(user.map(|folder| folder.join("uv/uv.toml")));
        let system =
            self.0.get("XDG_CONFIG_DIRS").map_or_else(|| OsStr::new("/etc/xdg"), OsString::as_os_str);
        files.extend(std::env::split_paths(system).map(|folder| folder.join("uv/uv.toml")));
        files.push("/etc/uv/uv.toml".into());
        files
    }

    /// The URLs of indexes that the variables name, with the credentials in them or beside them.
    fn index_urls(&self) -> Vec<Url> {
        let words = ["UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS"]
            .iter()
            .filter_map(|name| self.0.get(*name))
            .flat_map(|value| {
                value.to_str().unwrap_or_default().split([' ', ',']).map(str::to_owned).collect::<Vec<_>>()
            });
        let mut urls = Vec::new();
        for word in words {
            let (name, url) = match word.split_once('=') {
                Some((name, url)) if !name.contains(':') => (Some(name.to_owned()), url.to_owned()),
                _ => (None, word),
            };
            let Ok(mut url) = Url::parse(&url) else { continue };
            if let Some(name) = name.filter(|_| url.username().is_empty()) {
                let name: String = name
                    .to_uppercase()
                    .chars()
                    .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
                    .collect();
                let read = |part: &str| {
                    self.0.get(&format!("UV_INDEX_{name}_{part}")).and_then(|value| value.to_str())
                };
                let _ = url.set_username(read("USERNAME").unwrap_or_default());
                let _ = url.set_password(read("PASSWORD"));
            }
            urls.push(url);
        }
        urls
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Where packages come from. Empty: what the environment and uv's configuration say. Printed without credentials.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Indexes {
    /// The index that is asked last, instead of the public one.
    pub default: Option<Url>,
    /// Indexes that are asked before it.
    pub extra: Vec<Url>,
    /// Pages or folders (`file:`) with links to wheels.
    pub find_links: Vec<Url>,
    /// Indexes with a name, which are asked before all others; that of the name `default` is asked instead of the public one.
    pub named: Vec<NamedIndex>,
}

/// An index that the settings name. Printed without credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedIndex {
    /// Its name: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Its URL, without credentials.
    pub url: Url,
    /// Who asks.
    pub login: Option<IndexLogin>,
}

/// Credentials for an index. Neither is printed.
#[derive(Clone, PartialEq, Eq)]
pub struct IndexLogin {
    /// The user's name.
    pub user: String,
    /// The password or token.
    pub password: String,
}

impl IndexLogin {
    /// Reads `user:password`, or a token alone, which is sent as the password of `__token__`.
    pub fn parse(text: &str) -> Self {
        let (user, password) = text.split_once(':').unwrap_or(("__token__", text));
        Self { user: user.to_owned(), password: password.to_owned() }
    }
}

impl fmt::Debug for IndexLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IndexLogin(***)")
    }
}

impl NamedIndex {
    /// The name of the index that takes the place of the public one.
    pub const DEFAULT: &str = "default";

    /// What uv calls its variables.
    fn variable(&self, part: &str) -> String {
        let name = self.name.to_uppercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        format!("UV_INDEX_{name}_{part}")
    }
}

impl Indexes {
    fn urls(&self) -> impl Iterator<Item = (&'static str, &Url)> {
        let default = self.default.iter().map(|url| ("default", url));
        let extra = self.extra.iter().map(|url| ("extra", url));
        let named = self
            .named
            .iter()
            .map(|index| (if index.name == NamedIndex::DEFAULT { "default" } else { "extra" }, &index.url));
        named.chain(default).chain(extra).chain(self.find_links.iter().map(|url| ("links", url)))
    }

    /// Hands them to uv: in its environment, because the arguments of a process are everybody's to read.
    pub(super) fn apply(&self, command: &mut Command) {
        let joined =
            |urls: &[Url], separator: &str| urls.iter().map(Url::as_str).collect::<Vec<_>>().join(separator);
        if let Some(default) = &self.default {
            command.env("UV_DEFAULT_INDEX", default.as_str()).env_remove("UV_INDEX_URL");
        }
        if !self.extra.is_empty() {
            command.env("UV_INDEX", joined(&self.extra, " ")).env_remove("UV_EXTRA_INDEX_URL");
        }
        let mut before = Vec::new();
        for index in &self.named {
            let named = format!("{}={}", index.name, index.url);
            if index.name == NamedIndex::DEFAULT {
                command.env("UV_DEFAULT_INDEX", named).env_remove("UV_INDEX_URL");
            } else {
                before.push(named);
            }
            if let Some(login) = &index.login {
                command.env(index.variable("USERNAME"), &login.user);
                command.env(index.variable("PASSWORD"), &login.password);
            }
        }
        if !before.is_empty() {
            // Those of the environment stay, after them.
            let others = command.get_envs().find(|(name, _)| *name == "UV_INDEX");
            before.extend(others.and_then(|(_, value)| value?.to_str().map(str::to_owned)));
            command.env("UV_INDEX", before.join(" "));
        }
        if !self.find_links.is_empty() {
            command.env("UV_FIND_LINKS", joined(&self.find_links, ","));
        }
    }

    /// The origins that have credentials, with them: those of named indexes, of URLs here, of the indexes that
    /// requirements name, and of the environment. uv writes none into a lock. The first of an origin counts.
    pub fn logins(&self, requirements: &[Url], environment: &Environment) -> Vec<(Url, IndexLogin)> {
        let named = self.named.iter().filter_map(|index| Some((index.url.clone(), index.login.clone()?)));
        let others = self.urls().map(|(_, url)| url.clone()).chain(requirements.iter().cloned());
        let others = others.chain(environment.index_urls()).filter_map(|url| {
            let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
            let has = !url.username().is_empty() || url.password().is_some();
            let user = decoded(url.username());
            let password = decoded(url.password().unwrap_or_default());
            has.then_some((url, IndexLogin { user, password }))
        });
        let bare = |(mut url, login): (Url, IndexLogin)| {
            // Both fail only for URLs that cannot have user information, and so have none.
            let _ = url.set_username("");
            let _ = url.set_password(None);
            (url, login)
        };
        named.chain(others).map(bare).collect()
    }
}

impl fmt::Debug for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.urls().map(|(kind, url)| (kind, without_credentials(url.as_str()))))
            .finish()
    }
}

/// A text with the user information of every URL in it replaced by `***`.
pub(crate) fn without_credentials(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        clean.push_str(before);
        clean.push_str("://");
        let end = after
            .find(|c: char| {
                matches!(c, '/' | '?' | '#' | '"' | '\'' | '`' | ',' | '>' | ')') || c.is_whitespace()
            })
            .unwrap_or(after.len());
        rest = match after[..end].rfind('@') {
            Some(at) => {
                clean.push_str("***");
                &after[at..]
            }
            None => after,
        };
    }
    clean.push_str(rest);
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::choose(variables.iter().map(|(name, value)| (name.into(), value.into())))
    }

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn only_stated_variables_pass() {
        let chosen = environment(&[
            ("HOME", "/h"),
            ("AWS_SECRET_ACCESS_KEY", "x"),
            ("UV_INDEX", "a"),
            ("UV_OFFLINE", "1"),
            ("PYTHONPATH", "/p"),
        ]);
        let names: Vec<_> = chosen.variables().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["HOME", "UV_INDEX"]);
        assert!(
            !format!("{:?}", environment(&[("UV_INDEX", "https://u:sekrit@h.invalid")])).contains("sekrit")
        );
    }

    #[test]
    fn the_key_sees_indexes_but_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        let digest = |variables: &[(&str, &str)], indexes: &Indexes| {
            environment(variables).digest(indexes, folder.path())
        };
        let none = Indexes::default();
        let plain = digest(&[("UV_INDEX", "https://h.invalid/simple")], &none);
        assert_ne!(plain, digest(&[], &none));
        let one =
            digest(&[("UV_INDEX", "https://u:one@h.invalid/simple"), ("UV_INDEX_X_PASSWORD", "1")], &none);
        let two =
            digest(&[("UV_INDEX", "https://u:two@h.invalid/simple"), ("UV_INDEX_X_PASSWORD", "2")], &none);
        assert_eq!(one, two);
        assert_eq!(digest(&[("UV_CACHE_DIR", "/a"), ("HOME", "/b")], &none), digest(&[], &none));
        let extra = Indexes { extra: vec![url("https://other.invalid/")], ..Indexes::default() };
        assert_ne!(digest(&[], &extra), digest(&[], &none));
        fs::write(folder.path().join("uv.toml"), "no-index = true").unwrap();
        assert_ne!(digest(&[], &none), plain);
    }

    #[test]
    fn credentials_are_known_by_origin_and_printed_nowhere() {
        let login = IndexLogin { user: "me".into(), password: "sekrit".into() };
        let named = NamedIndex {
            name: "my-index".into(),
            url: url("https://named.invalid/simple"),
            login: Some(login.clone()),
        };
        let indexes = Indexes {
            default: Some(url("https://u:p%40w@private.invalid/simple")),
            named: vec![named],
            ..Indexes::default()
        };
        let known = environment(&[
            ("UV_INDEX", "corp=https://corp.invalid/simple"),
            ("UV_INDEX_CORP_USERNAME", "them"),
            ("UV_INDEX_CORP_PASSWORD", "theirs"),
        ]);
        let logins = indexes.logins(&[url("https://none.invalid/")], &known);
        let shown: Vec<_> = logins
            .iter()
            .map(|(url, login)| (url.as_str(), login.user.as_str(), login.password.as_str()))
            .collect();
        assert_eq!(
            shown,
            [
                ("https://named.invalid/simple", "me", "sekrit"),
                ("https://private.invalid/simple", "u", "p@w"),
                ("https://corp.invalid/simple", "them", "theirs"),
            ]
        );
        let printed = format!("{indexes:?} {logins:?}");
        assert!(
            !printed.contains("sekrit") && !printed.contains("p@w") && !printed.contains("p%40w"),
            "{printed}"
        );
        assert_eq!(IndexLogin::parse("tok"), IndexLogin { user: "__token__".into(), password: "tok".into() });
        assert_eq!(IndexLogin::parse("a:b:c"), IndexLogin { user: "a".into(), password: "b:c".into() });
    }

    #[test]
    fn named_indexes_go_into_the_environment_of_uv_with_their_logins() {
        let login = Some(IndexLogin { user: "me".into(), password: "sekrit".into() });
        let index =
            |name: &str, login| NamedIndex { name: name.into(), url: url("https://h.invalid/s"), login };
        let named = vec![index("my.index", login), index("default", None)];
        let mut command = Command::new("uv");
        command.env("UV_INDEX", "https://other.invalid/s");
        Indexes { named, ..Indexes::default() }.apply(&mut command);
        let set = |name: &str| {
            let found = command.get_envs().find(|(set, _)| *set == name);
            found.and_then(|(_, value)| value?.to_str()).map(str::to_owned)
        };
        assert_eq!(set("UV_INDEX").unwrap(), "my.index=https://h.invalid/s https://other.invalid/s");
        assert_eq!(set("UV_DEFAULT_INDEX").unwrap(), "default=https://h.invalid/s");
        assert_eq!(set("UV_INDEX_MY_INDEX_PASSWORD").unwrap(), "sekrit");
        assert_eq!(set("UV_INDEX_MY_INDEX_USERNAME").unwrap(), "me");
        assert_eq!(command.get_args().count(), 0);
    }

    #[test]
    fn credentials_are_taken_out_of_texts() {
        assert_eq!(
            without_credentials("see `https://u:p@h/x` and http://h/@scope and https://a@b@c/"),
            "see `https://***@h/x` and http://h/@scope and https://***@c/"
        );
    }
}
