//! Secrets: the credentials with which images are pulled, and the steps' secret environment variables.

use std::{collections::BTreeMap, fmt};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1 as core, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use longshore_auth::{Credential, Lease, Renewal, Secret, storage::Lifetime};
use longshore_orchestrator::{Purpose, Term, WorkflowStep};
use serde_json::{Map, Value, json};

/// The key that the kubelet reads a docker configuration from.
const DOCKER_CONFIG: &str = ".dockerconfigjson";
/// What is shown of a secret.
const HIDDEN: &str = "***";

/// A Secret to be. Its values are never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretManifest {
    /// Its name and labels.
    pub(crate) metadata: Box<Meta>,
    kind: Kind,
    values: BTreeMap<String, Secret>,
}

/// What is told of a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Opaque,
    DockerConfig,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Opaque => "Opaque",
            Self::DockerConfig => "kubernetes.io/dockerconfigjson",
        }
    }
}

impl fmt::Debug for SecretManifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self.values.keys().collect();
        f.debug_struct("SecretManifest")
            .field("metadata", &self.metadata)
            .field("keys", &keys)
            .finish_non_exhaustive()
    }
}

/// A registry's host, and the credential for it.
#[derive(Clone, Debug)]
pub struct PullCredential {
    /// The host, as image references spell it.
    pub host: String,
    /// The credential.
    pub lease: Lease,
}

impl SecretManifest {
    /// The Secret with which images are pulled; none if none of the registries asks for credentials.
    pub(crate) fn of_pull(mut metadata: Meta, credentials: &[PullCredential]) -> Option<Self> {
        let entries: Map<String, Value> = credentials
            .iter()
            .filter_map(|credential| {
                Some((docker_key(&credential.host).to_owned(), entry(&credential.lease.credential)?))
            })
            .collect();
        if entries.is_empty() {
            return None;
        }
        if let Some(expires) = expiry(credentials) {
            metadata.annotations.insert(crate::label::EXPIRES.to_owned(), expires.to_string());
        }
        let config = Secret::new(json!({"auths": entries}).to_string());
        let values = BTreeMap::from([(DOCKER_CONFIG.to_owned(), config)]);
        Some(Self { metadata: Box::new(metadata), kind: Kind::DockerConfig, values })
    }

    /// The same before the credentials are known: for showing.
    pub(crate) fn of_pull_unknown(metadata: Meta) -> Self {
        let values = BTreeMap::from([(DOCKER_CONFIG.to_owned(), Secret::new("{}"))]);
        Self { metadata: Box::new(metadata), kind: Kind::DockerConfig, values }
    }

    /// The Secret of the steps' secret variables, and for each step its keys by variable; no Secret if there are none.
    pub(crate) fn of_steps(
        metadata: Meta,
        steps: &[WorkflowStep],
    ) -> (Option<Self>, Vec<BTreeMap<String, String>>) {
        let mut values: BTreeMap<String, Secret> = BTreeMap::new();
        let keys = steps
            .iter()
            .map(|step| {
                let key = |(variable, secret): (&String, &Secret)| {
                    // Mostly all steps have the same; a number is added where they differ.
                    let base = key_of(variable);
                    let key = (1..=steps.len())
                        .map(|n| if n == 1 { base.clone() } else { format!("{base}.{n}") })
                        .find(|key| values.get(key).is_none_or(|known| known == secret))
                        .unwrap_or_else(|| base.clone());
                    values.insert(key.clone(), secret.clone());
                    (variable.clone(), key)
                };
                step.secrets.iter().map(key).collect()
            })
            .collect();
        let manifest =
            (!values.is_empty()).then(|| Self { metadata: Box::new(metadata), kind: Kind::Opaque, values });
        (manifest, keys)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.metadata.name
    }

    /// The object.
    pub(crate) fn object(&self, metadata: ObjectMeta) -> core::Secret {
        let bytes = |secret: &Secret| ByteString(secret.expose().as_bytes().to_vec());
        core::Secret {
            metadata,
            type_: Some(self.kind.as_str().to_owned()),
            data: Some(self.values.iter().map(|(key, value)| (key.clone(), bytes(value))).collect()),
            ..core::Secret::default()
        }
    }

    /// The object as it may be shown: what is secret is not in it.
    pub(crate) fn shown(&self, metadata: ObjectMeta) -> core::Secret {
        let hidden = self.values.keys().map(|key| {
            // A docker configuration is checked by whoever reads it.
            let shown = if self.kind == Kind::DockerConfig { "{}" } else { HIDDEN };
            (key.clone(), shown.to_owned())
        });
        core::Secret {
            metadata,
            type_: Some(self.kind.as_str().to_owned()),
            string_data: Some(hidden.collect()),
            ..core::Secret::default()
        }
    }
}

/// When the first of the credentials expires.
pub(crate) fn expiry(credentials: &[PullCredential]) -> Option<Timestamp> {
    credentials.iter().filter_map(|credential| credential.lease.expires).min()
}

impl PullCredential {
    /// How long it is good; nothing of one that is no credential.
    pub(crate) fn term(&self) -> Option<Term> {
        let lifetime = match (self.lease.expires, self.lease.renewal, &self.lease.credential) {
            (_, _, Credential::Anonymous) => return None,
            (Some(expires), ..) => Lifetime::Until(expires),
            (None, Renewal::Automatic, _) => Lifetime::Unlimited,
            (None, Renewal::ByHand, _) => Lifetime::Unknown,
        };
        Some(Term {
            object: self.host.clone(),
            origin: self.lease.origin.clone(),
            lifetime,
            purpose: Purpose::Images,
        })
    }
}

/// A host as docker configurations have it.
fn docker_key(host: &str) -> &str {
    match host {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => "https://index.docker.io/v1/",
        host => host,
    }
}

/// A host's entry of a docker configuration; none where nothing is sent.
fn entry(credential: &Credential) -> Option<Value> {
    match credential {
        Credential::Basic { username, password } => {
            let auth = STANDARD.encode(format!("{username}:{}", password.expose()));
            Some(json!({"username": username, "password": password.expose(), "auth": auth}))
        }
        Credential::IdentityToken { username, token } => {
            let auth = STANDARD.encode(format!("{username}:"));
            Some(json!({"auth": auth, "identitytoken": token.expose()}))
        }
        Credential::RegistryToken(token) => Some(json!({"registrytoken": token.expose()})),
        Credential::Anonymous => None,
    }
}

/// A key of a Secret: letters, digits, `-`, `_` and `.`.
pub(crate) fn key_of(variable: &str) -> String {
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    variable.chars().map(|c| if valid(c) { c } else { '_' }).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_auth::Renewal;

    fn lease(credential: Credential, expires: Option<&str>) -> Lease {
        Lease {
            credential,
            expires: expires.map(|text| text.parse().unwrap()),
            renewal: Renewal::Automatic,
            origin: "service connector c".to_owned(),
        }
    }

    fn basic(user: &str) -> Credential {
        Credential::Basic { username: user.to_owned(), password: Secret::new("hunter2") }
    }

    fn text(manifest: &SecretManifest, key: &str) -> String {
        let object = manifest.object(ObjectMeta::default());
        String::from_utf8(object.data.unwrap()[key].0.clone()).unwrap()
    }

    #[test]
    fn a_pull_secret_is_a_docker_configuration() {
        let credentials = [
            PullCredential {
                host: "gcr.io".to_owned(),
                lease: lease(basic("oauth2accesstoken"), Some("2030-01-01T00:00:00Z")),
            },
            PullCredential { host: "docker.io".to_owned(), lease: lease(basic("me"), None) },
            PullCredential { host: "quay.io".to_owned(), lease: Lease::anonymous() },
        ];
        let manifest = SecretManifest::of_pull(Meta::default(), &credentials).unwrap();
        let config: Value = serde_json::from_str(&text(&manifest, DOCKER_CONFIG)).unwrap();
        let auth = STANDARD.encode("oauth2accesstoken:hunter2");
        assert_eq!(config["auths"]["gcr.io"]["auth"], auth);
        assert_eq!(config["auths"]["https://index.docker.io/v1/"]["username"], "me");
        assert_eq!(config["auths"].as_object().unwrap().len(), 2);
        assert_eq!(manifest.metadata.annotations[crate::label::EXPIRES], "2030-01-01T00:00:00Z");
        assert_eq!(SecretManifest::of_pull(Meta::default(), &credentials[2..]), None);
    }

    #[test]
    fn nothing_secret_is_shown() {
        let credentials = [PullCredential { host: "gcr.io".to_owned(), lease: lease(basic("me"), None) }];
        let manifest = SecretManifest::of_pull(Meta::default(), &credentials).unwrap();
        let shown = serde_json::to_string(&manifest.shown(ObjectMeta::default())).unwrap();
        for text in [shown, format!("{manifest:?}")] {
            assert!(!text.contains("hunter2") && !text.contains(&STANDARD.encode("me:hunter2")), "{text}");
        }
    }
}
