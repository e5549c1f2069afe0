//! The keys of `auths` and `credHelpers`, in every spelling that is about.

/// The names of Docker Hub's registry.
const DOCKER_HUB: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// What Docker Hub is called where credentials are kept, since the first version of its API.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// A registry's host in its one spelling: lower case, and `docker.io` for all of Docker Hub's.
pub(crate) fn canonical_host(host: &str) -> String {
    let host = host.to_ascii_lowercase();
    if DOCKER_HUB.contains(&host.as_str()) { DOCKER_HUB[0].to_owned() } else { host }
}

/// What a key stands for: `host` or `host/path`. Keys with a scheme are URLs of a registry's API, whose path means
/// nothing (docker); those without may name a part of a registry (podman).
pub(super) fn canonical(key: &str) -> String {
    let (rest, is_url) = match key.split_once("://") {
        Some(("http" | "https", rest)) => (rest, true),
        _ => (key, false),
    };
    let rest = rest.trim_end_matches('/');
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = canonical_host(host);
    if path.is_empty() || is_url || matches!(path, "v1" | "v2") { host } else { format!("{host}/{path}") }
}

/// The keys that a repository's credentials may be under, the most specific one first.
pub(super) fn candidates(host: &str, repository: Option<&str>) -> Vec<String> {
    let host = canonical_host(host);
    let mut keys = Vec::new();
    let mut path = repository.unwrap_or_default();
    while !path.is_empty() {
        keys.push(format!("{host}/{path}"));
        path = path.rsplit_once('/').map_or("", |(parent, _)| parent);
    }
    keys.push(host);
    keys
}

/// The key that docker keeps a registry's credentials under, and asks helpers for.
pub(super) fn written(host: &str) -> String {
    let host = canonical_host(host);
    if host == DOCKER_HUB[0] { DOCKER_HUB_KEY.to_owned() } else { host }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_spelling_is_one() {
        for (key, meant) in [
            ("https://index.docker.io/v1/", "docker.io"),
            ("index.docker.io", "docker.io"),
            ("registry-1.docker.io", "docker.io"),
            ("docker.io/library", "docker.io/library"),
            ("https://GHCR.io/v2/", "ghcr.io"),
            ("https://quay.io/organisation", "quay.io"),
            ("quay.io/organisation/", "quay.io/organisation"),
            ("localhost:5000/v2", "localhost:5000"),
            ("http://localhost:5000", "localhost:5000"),
        ] {
            assert_eq!(canonical(key), meant, "{key}");
        }
        assert_eq!(written("docker.io"), "https://index.docker.io/v1/");
        assert_eq!(written("ghcr.io"), "ghcr.io");
    }

    #[test]
    fn the_most_specific_key_comes_first() {
        assert_eq!(
            candidates("quay.io", Some("a/b/c")),
            ["quay.io/a/b/c", "quay.io/a/b", "quay.io/a", "quay.io"]
        );
        assert_eq!(candidates("index.docker.io", None), ["docker.io"]);
    }

    proptest! {
        #[test]
        fn any_key_is_read_to_the_same_each_time(key in "[ -~]{0,40}") {
            let once = canonical(&key);
            if !once.contains("://") && !once.ends_with('/') {
                let twice = canonical(&once);
                prop_assert_eq!(canonical(&twice), twice);
            }
        }

        #[test]
        fn what_is_written_is_found(host in "[a-z0-9.-]{1,20}(:[0-9]{1,4})?") {
            prop_assert_eq!(canonical(&written(&host)), canonical_host(&host));
        }
    }
}
