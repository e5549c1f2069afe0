//! Which credentials go where, and what a URL looks like in a message.

use std::{env, fs, path::PathBuf, sync::OnceLock};

use percent_encoding::percent_decode_str;
use url::Url;

use crate::{
    NetrcSource,
    netrc::{Login, Netrc},
};

/// A URL as it may be shown: without credentials, and without its query, which often is one (signed URLs).
pub fn redacted(url: &Url) -> String {
    let mut shown = url.clone();
    // Only URLs that cannot have credentials refuse.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.set_fragment(None);
    let had_query = shown.query().is_some();
    shown.set_query(None);
    if had_query { format!("{shown}?…") } else { shown.to_string() }
}

/// The credentials written into a URL.
pub(crate) fn embedded(url: &Url) -> Option<Login> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let plain = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    Some(Login { name: plain(url.username()), password: plain(url.password().unwrap_or_default()) })
}

/// The URL without the credentials written into it.
pub(crate) fn bare(url: &Url) -> Url {
    let mut bare = url.clone();
    let _ = bare.set_username("");
    let _ = bare.set_password(None);
    bare
}

/// Looks up credentials by host; the file is read at the first question.
#[derive(Debug)]
pub(crate) struct Credentials {
    source: NetrcSource,
    netrc: OnceLock<Netrc>,
}

impl Credentials {
    pub(crate) const fn new(source: NetrcSource) -> Self {
        Self { source, netrc: OnceLock::new() }
    }

    pub(crate) fn for_host(&self, host: &str) -> Option<&Login> {
        self.netrc.get_or_init(|| self.load()).get(host)
    }

    fn load(&self) -> Netrc {
        let path = match &self.source {
            NetrcSource::None => None,
            NetrcSource::File(path) => Some(path.clone()),
            NetrcSource::Environment => env::var_os("NETRC").map(PathBuf::from).or_else(|| {
                let home = env::home_dir()?;
                Some(home.join(".netrc"))
            }),
        };
        // A file that is not there or not readable holds no credentials; the server's 401 says so then.
        path.and_then(|path| fs::read_to_string(path).ok())
            .map(|text| Netrc::parse(&text))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_shown() {
        let url = Url::parse("https://me:s3cret@h.io:8443/a/b.whl?sig=s3cret#sha256=1").unwrap();
        assert_eq!(redacted(&url), "https://h.io:8443/a/b.whl?…");
        assert_eq!(redacted(&Url::parse("file:///a/b").unwrap()), "file:///a/b");
    }

    #[test]
    fn credentials_in_a_url_are_decoded() {
        let login = embedded(&Url::parse("https://a%40b:p%3Aw%25@h/").unwrap()).unwrap();
        assert_eq!((login.name.as_str(), login.password.as_str()), ("a@b", "p:w%"));
        assert!(embedded(&Url::parse("https://h/").unwrap()).is_none());
    }
}
