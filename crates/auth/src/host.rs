//! Which hosts a credential is for.

/// Hosts, matched on the boundaries of labels: `*.azurecr.io` is `myregistry.azurecr.io`, and neither
/// `evilazurecr.io` nor `azurecr.io` itself nor `azurecr.io.evil.com`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern(String);

impl HostPattern {
    /// A host, or one whose first labels are `*`, each of which stands for exactly one label. Ports are part of hosts.
    pub fn new(pattern: &str) -> Self {
        Self(pattern.to_ascii_lowercase())
    }

    /// Whether it stands for `host`.
    pub fn matches(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let (pattern, host): (Vec<_>, Vec<_>) = (self.0.split('.').collect(), host.split('.').collect());
        pattern.len() == host.len()
            && pattern
                .iter()
                .zip(&host)
                .all(|(pattern, label)| if *pattern == "*" { !label.is_empty() } else { pattern == label })
    }

    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn labels_are_whole() {
        let acr = HostPattern::new("*.azurecr.io");
        assert!(acr.matches("MyRegistry.azurecr.io"));
        for other in [
            "azurecr.io",
            "evilazurecr.io",
            ".azurecr.io",
            "a.b.azurecr.io",
            "a.azurecr.io.evil.com",
            "a.azurecr.io:444",
        ] {
            assert!(!acr.matches(other), "{other}");
        }
    }

    #[test]
    fn several_labels_may_be_open() {
        let ecr = HostPattern::new("*.dkr.ecr.*.amazonaws.com");
        assert!(ecr.matches("123456789012.dkr.ecr.eu-west-1.amazonaws.com"));
        assert!(!ecr.matches("123456789012.dkr.ecr.eu-west-1.amazonaws.com.cn"));
    }

    proptest! {
        #[test]
        fn a_pattern_never_matches_what_only_looks_like_it(label in "[a-z0-9-]{1,10}", more in "[a-z0-9-]{1,10}") {
            let pattern = HostPattern::new("*.azurecr.io");
            let right = format!("{label}.azurecr.io");
            prop_assert!(pattern.matches(&right));
            for wrong in [
                format!("{label}azurecr.io"),
                format!("{right}.{more}"),
                format!("{more}.{right}"),
                format!("{right}{more}"),
                format!("{right}:443"),
            ] {
                prop_assert!(!pattern.matches(&wrong), "{}", wrong);
            }
        }
    }
}
