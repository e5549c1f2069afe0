//! What a step is given to reach its artifact store: a connector's credential, as the driver in the container reads it.

use std::collections::BTreeMap;

use longshore_auth::{
    Secret,
    connector::Config,
    storage::{BlobContainer, GcsBucket, Lifetime, S3Bucket, Storage, StorageCredential, StorageLease},
};

use crate::{RemoteStore, StoreFlavor};

/// A credential for an artifact store, as environment variables of the containers that use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreGrant {
    /// Variables that may be seen.
    pub environment: BTreeMap<String, String>,
    /// Those that must not be.
    pub secrets: BTreeMap<String, Secret>,
    /// How long the credential is good.
    pub lifetime: Lifetime,
    /// Where it comes from: `service connector minio`.
    pub origin: String,
}

/// What botocore reads, which is below `s3fs`.
const AMAZON: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
/// The option `token` of `gcsfs`, as fsspec takes it from the environment.
const GOOGLE: &str = "FSSPEC_GS_TOKEN";
/// Without it, `gcsfs` sends the token to another service to learn when it expires.
const GOOGLE_EXPIRY: (&str, &str) = ("FETCH_RAW_TOKEN_EXPIRY", "false");
/// What `adlfs` reads.
const AZURE: &str = "AZURE_STORAGE_SAS_TOKEN";
/// The option `account_host` of `adlfs`, as fsspec takes it from the environment.
const AZURE_HOST: &str = "FSSPEC_AZ_ACCOUNT_HOST";

impl From<StorageLease> for StoreGrant {
    fn from(lease: StorageLease) -> Self {
        let secret = |name: &str, secret: Secret| (name.to_owned(), secret);
        let (environment, secrets) = match lease.credential {
            StorageCredential::Amazon { id, secret: key, session } => {
                let [id_name, key_name, session_name] = AMAZON;
                let keys = [secret(id_name, Secret::new(id)), secret(key_name, key)];
                let session = session.map(|token| secret(session_name, token));
                (BTreeMap::new(), keys.into_iter().chain(session).collect())
            }
            StorageCredential::Google(token) => {
                let (name, value) = GOOGLE_EXPIRY;
                let environment = BTreeMap::from([(name.to_owned(), value.to_owned())]);
                (environment, BTreeMap::from([secret(GOOGLE, token)]))
            }
            StorageCredential::Azure { signature, host } => {
                let environment = host.map(|host| (AZURE_HOST.to_owned(), host)).into_iter().collect();
                (environment, BTreeMap::from([secret(AZURE, signature)]))
            }
        };
        Self { environment, secrets, lifetime: lease.lifetime, origin: lease.origin }
    }
}

impl StoreGrant {
    /// The grant that a connector would give, with nothing secret in it: for showing what would be submitted. Its variables are
    /// those of the connector's method.
    pub fn shown(store: &RemoteStore, connector: &str, config: &Config) -> Self {
        let hidden = || Secret::new("");
        let credential = match store.flavor {
            StoreFlavor::S3 => StorageCredential::Amazon {
                id: String::new(),
                secret: hidden(),
                session: (config.method().name != "secret-key").then(hidden),
            },
            StoreFlavor::Gcs => StorageCredential::Google(hidden()),
            StoreFlavor::Azure => StorageCredential::Azure { signature: hidden(), host: None },
        };
        let origin = format!("service connector {connector}");
        Self::from(StorageLease { credential, lifetime: Lifetime::Unknown, origin })
    }
}

impl RemoteStore {
    /// What a connector is asked for credentials for.
    pub fn storage(&self) -> Storage<'_> {
        let value = |name: &str| self.values.get(name).map(String::as_str);
        let (name, prefix) = (self.uri.bucket(), self.uri.prefix());
        match self.flavor {
            StoreFlavor::S3 => Storage::S3(S3Bucket {
                name,
                prefix,
                region: value("region"),
                endpoint: value("endpoint_url"),
            }),
            StoreFlavor::Gcs => Storage::Gcs(GcsBucket { name, prefix, endpoint: value("endpoint_url") }),
            StoreFlavor::Azure => {
                Storage::Azure(BlobContainer { account: value("account").unwrap_or_default(), name, prefix })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use longshore_auth::connector::ConnectorType;

    use super::*;
    use crate::{Component, ComponentKind, Configuration, Flavor, Origin};

    fn store(flavor: &str, values: &[(&str, &str)]) -> RemoteStore {
        let values = values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let flavor = Flavor::named(ComponentKind::ArtifactStore, flavor).unwrap();
        let now = jiff::Timestamp::now();
        let component = Component {
            name: "bucket".parse().unwrap(),
            configuration: Configuration::new(flavor, &values).unwrap(),
            connector: None,
            origin: Origin::Registered,
            created: now,
            updated: now,
        };
        match component.artifact_store().unwrap() {
            Some(crate::ArtifactStore::Remote(store)) => *store,
            other => panic!("{other:?}"),
        }
    }

    /// Names and values of variables.
    type Variables = Vec<(String, String)>;

    /// What may be seen, and what must not be.
    fn given(credential: StorageCredential) -> (Variables, Variables) {
        let lease = StorageLease {
            credential,
            lifetime: Lifetime::Unknown,
            origin: "service connector c".to_owned(),
        };
        let grant = StoreGrant::from(lease);
        assert!(!format!("{grant:?}").contains("hunter2"));
        let secrets = grant.secrets.iter().map(|(name, secret)| (name.clone(), secret.expose().to_owned()));
        (grant.environment.clone().into_iter().collect(), secrets.collect())
    }

    fn pairs(of: &[(&str, &str)]) -> Variables {
        of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn credentials_are_variables_of_the_drivers() {
        let hunter = || Secret::new("hunter2");
        let amazon = |session| StorageCredential::Amazon { id: "AKIA".to_owned(), secret: hunter(), session };
        let key = [("AWS_ACCESS_KEY_ID", "AKIA"), ("AWS_SECRET_ACCESS_KEY", "hunter2")];
        assert_eq!(given(amazon(None)), (vec![], pairs(&key)));
        let session = [key[0], key[1], ("AWS_SESSION_TOKEN", "hunter2")];
        assert_eq!(given(amazon(Some(hunter()))), (vec![], pairs(&session)));
        assert_eq!(
            given(StorageCredential::Google(hunter())),
            (pairs(&[("FETCH_RAW_TOKEN_EXPIRY", "false")]), pairs(&[("FSSPEC_GS_TOKEN", "hunter2")]))
        );
        let host = Some("team.blob.core.chinacloudapi.cn".to_owned());
        assert_eq!(
            given(StorageCredential::Azure { signature: hunter(), host }),
            (
                pairs(&[("FSSPEC_AZ_ACCOUNT_HOST", "team.blob.core.chinacloudapi.cn")]),
                pairs(&[("AZURE_STORAGE_SAS_TOKEN", "hunter2")])
            )
        );
    }

    #[test]
    fn what_is_shown_has_the_variables_of_the_method() {
        let keys =
            [("aws_access_key_id", "AKIA"), ("aws_secret_access_key", "hunter2"), ("aws_session_token", "t")];
        let config = |method: &str, count: usize| {
            let values = pairs(&keys[..count]).into_iter().collect();
            Config::new(ConnectorType::Aws, method, values).unwrap()
        };
        let bucket = store("s3", &[("uri", "s3://team/runs")]);
        let names = |config: &Config| StoreGrant::shown(&bucket, "c", config).secrets.len();
        assert_eq!(names(&config("secret-key", 2)), 2);
        assert_eq!(names(&config("sts-token", 3)), 3);
    }

    #[test]
    fn a_store_is_asked_as_it_is_registered() {
        let values =
            [("uri", "s3://team/ml/runs"), ("endpoint_url", "http://minio:9000"), ("region", "here")];
        let bucket = store("s3", &values);
        let expected = S3Bucket {
            name: "team",
            prefix: "ml/runs",
            region: Some("here"),
            endpoint: Some("http://minio:9000"),
        };
        assert_eq!(bucket.storage(), Storage::S3(expected));
        assert_eq!(bucket.storage().uri(), "s3://team/ml/runs");
        let bucket = store("azure", &[("uri", "az://runs"), ("account", "team")]);
        assert_eq!(
            bucket.storage(),
            Storage::Azure(BlobContainer { account: "team", name: "runs", prefix: "" })
        );
    }
}
