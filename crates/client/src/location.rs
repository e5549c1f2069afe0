//! Where a registry sends us, and whether we go there.

use std::net::IpAddr;

use longshore_endpoint::is_loopback;
use url::{Host, Url};

/// Where to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) url: Url,
    /// Whether that is the registry itself, which may be sent credentials.
    pub(crate) is_registry: bool,
}

/// Why we do not go there, as a clause that follows "sends us to …, ".
pub(crate) type Reason = &'static str;

/// Resolves a `Location` (or the target of a `Link`) that came with the answer of `from`, on behalf of the registry
/// whose API is at `registry`.
pub(crate) fn follow(registry: &Url, from: &Url, location: &str) -> Result<Destination, (String, Reason)> {
    let Ok(mut url) = from.join(location) else {
        return Err((shortened(location), "which is not a URL"));
    };
    // Credentials in a URL would be the sender's, not ours.
    url = longshore_endpoint::bare(&url);
    url.set_fragment(None);
    // Behind a proxy that does TLS for it, a registry takes itself to be served by plain HTTP.
    if url.scheme() == "http" && registry.scheme() == "https" && url.host() == registry.host() {
        let is_default = url.port().is_none() || url.port() == registry.port();
        if is_default && url.set_scheme("https").is_ok() {
            let _ = url.set_port(registry.port());
        }
    }
    let shown = longshore_endpoint::redacted(&url);
    match (from.scheme(), url.scheme()) {
        (_, "https") | ("http", "http") => {}
        ("https", "http") => return Err((shown, "from HTTPS to plain HTTP, which is not followed")),
        _ => return Err((shown, "which is neither http nor https")),
    }
    let is_registry = url.origin() == registry.origin();
    if !is_registry && is_inside(&url) && !is_inside(registry) {
        return Err((
            shown,
            "a private address, which is followed only from a registry at a private address",
        ));
    }
    Ok(Destination { url, is_registry })
}

/// Whether a token service at `realm` may be sent the credential of a registry at `registry`.
pub(crate) fn may_be_sent_credentials(registry: &Url, realm: &Url) -> bool {
    realm.scheme() == "https"
        || realm.scheme() == "http" && realm.origin() == registry.origin()
        || realm.scheme() == "http" && is_this_machine(realm) && is_this_machine(registry)
}

/// Whether the URL is written with a name or address of this machine.
fn is_this_machine(url: &Url) -> bool {
    url.host_str().is_some_and(is_loopback)
}

/// Whether the URL is written with an address that only its own network, or this machine, can reach. Names are not
/// resolved: whoever resolves them for the connection might be told something else.
pub(crate) fn is_inside(url: &Url) -> bool {
    let address = match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address),
        Some(Host::Ipv6(address)) => address.to_canonical(),
        Some(Host::Domain(_)) => return is_this_machine(url),
        None => return true,
    };
    match address {
        IpAddr::V4(v4) => {
            let shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.octets()[0] == 0 || shared
        }
        IpAddr::V6(v6) => {
            v6.is_loopback() || v6.is_unspecified() || v6.is_unique_local() || v6.is_unicast_link_local()
        }
    }
}

fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn go(registry: &str, location: &str) -> Result<(String, bool), Reason> {
        let registry = url(registry);
        let from = registry.join("/v2/a/blobs/uploads/").unwrap();
        follow(&registry, &from, location)
            .map(|found| (found.url.to_string(), found.is_registry))
            .map_err(|(_, reason)| reason)
    }

    #[test]
    fn relative_and_absolute_locations_are_followed() {
        assert_eq!(
            go("https://r.io/", "x?_state=1").unwrap().0,
            "https://r.io/v2/a/blobs/uploads/x?_state=1"
        );
        assert_eq!(go("https://r.io/", "/v2/x").unwrap(), ("https://r.io/v2/x".to_owned(), true));
        assert_eq!(go("https://r.io/", "https://s.io/x").unwrap(), ("https://s.io/x".to_owned(), false));
        assert_eq!(go("https://r.io/", "https://me:pw@s.io/x").unwrap().0, "https://s.io/x");
        assert!(!go("http://127.0.0.1:5000/", "http://127.0.0.1:5001/x").unwrap().1);
    }

    #[test]
    fn location_without_tls() {
        assert_eq!(go("https://r.io/", "http://r.io/v2/x").unwrap(), ("https://r.io/v2/x".to_owned(), true));
        assert_eq!(go("https://r.io:8443/", "http://r.io:8443/v2/x").unwrap().0, "https://r.io:8443/v2/x");
        assert_eq!(go("https://r.io:8443/", "http://r.io/v2/x").unwrap().0, "https://r.io:8443/v2/x");
    }

    #[test]
    fn nobody_sends_us_to_plain_http_or_inside() {
        for (location, part) in [
            ("http://s.io/x", "plain HTTP"),
            ("ftp://s.io/x", "neither"),
            ("https://169.254.169.254/latest", "private address"),
            ("https://10.0.0.1/x", "private address"),
            ("https://localhost/x", "private address"),
            ("https://[::ffff:127.0.0.1]/x", "private address"),
            ("https://[fd00::1]/x", "private address"),
            ("https://[", "not a URL"),
        ] {
            let reason = go("https://r.io/", location).unwrap_err();
            assert!(reason.contains(part), "{location}: {reason}");
        }
        assert!(go("https://10.0.0.2/", "https://10.0.0.1/x").is_ok());
    }

    #[test]
    fn credentials_go_to_the_registrys_own_token_service() {
        for (registry, realm, allowed) in [
            ("https://r.io/", "https://auth.io/token", true),
            ("https://r.io/", "http://auth.io/token", false),
            ("https://r.io/", "http://r.io/token", false),
            ("https://r.io/", "http://127.0.0.1/token", false),
            ("http://r.lan:5000/", "http://r.lan:5000/token", true),
            ("http://r.lan:5000/", "http://other.lan/token", false),
            ("http://127.0.0.1:5000/", "http://localhost:5001/token", true),
            ("http://127.0.0.1:5000/", "http://10.0.0.1/token", false),
        ] {
            assert_eq!(may_be_sent_credentials(&url(registry), &url(realm)), allowed, "{registry} {realm}");
        }
    }

    proptest! {
        #[test]
        fn following_never_panics(location: String) {
            let _ = go("https://r.io/", &location);
        }
    }
}
