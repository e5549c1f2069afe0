//! Which credentials go where, and what a URL looks like in a message.

use std::{env, fs, path::PathBuf, sync::OnceLock};

use percent_encoding::percent_decode_str;
use url::Url;

use crate::{
    NetrcSource,
    netrc::{Login, Netrc},
};

/// The credentials written into a URL.
pub(crate) fn embedded(url: &Url) -> Option<Login> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let plain = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    Some(Login { name: plain(url.username()), password: plain(url.password().unwrap_or_default()) })
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
    fn credentials_in_a_url_are_decoded() {
        let login = embedded(&Url::parse("https://a%40b:p%3Aw%25@h/").unwrap()).unwrap();
        assert_eq!((login.name.as_str(), login.password.as_str()), ("a@b", "p:w%"));
        assert!(embedded(&Url::parse("https://h/").unwrap()).is_none());
    }
}
