//! URLs as they may be shown and sent.

use url::Url;

/// A URL as it may be shown: without credentials, and without its query, which often is one (signed URLs).
pub fn redacted(url: &Url) -> String {
    let mut shown = bare(url);
    shown.set_fragment(None);
    let had_query = shown.query().is_some();
    shown.set_query(None);
    if had_query { format!("{shown}?…") } else { shown.to_string() }
}

/// The URL without the credentials written into it.
pub fn bare(url: &Url) -> Url {
    let mut bare = url.clone();
    // Only URLs that cannot have credentials refuse.
    let _ = bare.set_username("");
    let _ = bare.set_password(None);
    bare
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_credentials_nor_queries_are_shown() {
        let url = Url::parse("https://me:secret@example.com/a?sig=secret#secret").unwrap();
        assert_eq!(redacted(&url), "https://example.com/a?…");
        assert_eq!(bare(&url).as_str(), "https://example.com/a?sig=secret#secret");
    }
}
