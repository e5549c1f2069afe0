//! Object stores: what a connector's credentials for them are, and how long they are good.

use jiff::Timestamp;

use crate::Secret;

/// A part of an object store: a bucket, or a container of blobs, and what the names in it begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage<'a> {
    /// Amazon S3, and what speaks its protocol.
    S3(S3Bucket<'a>),
    /// Google Cloud Storage.
    Gcs(GcsBucket<'a>),
    /// Azure Blob Storage.
    Azure(BlobContainer<'a>),
}

/// A bucket of S3, or of what speaks its protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct S3Bucket<'a> {
    /// Its name.
    pub name: &'a str,
    /// What the names of objects begin with; empty for the whole bucket.
    pub prefix: &'a str,
    /// Its region, if that is known.
    pub region: Option<&'a str>,
    /// Where the service is, if it is not Amazon's.
    pub endpoint: Option<&'a str>,
}

/// A bucket of Google Cloud Storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GcsBucket<'a> {
    /// Its name.
    pub name: &'a str,
    /// What the names of objects begin with; empty for the whole bucket.
    pub prefix: &'a str,
    /// Where the service is, if it is not Google's public endpoint.
    pub endpoint: Option<&'a str>,
}

/// A container of Azure Blob Storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobContainer<'a> {
    /// The storage account that has it.
    pub account: &'a str,
    /// Its name.
    pub name: &'a str,
    /// What the names of blobs begin with; empty for the whole container.
    pub prefix: &'a str,
}

/// What an object store is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorageCredential {
    /// An access key, or that of a session, that requests are signed with.
    Amazon {
        /// The key's ID.
        id: String,
        /// The key.
        secret: Secret,
        /// The session's token.
        session: Option<Secret>,
    },
    /// An access token.
    Google(Secret),
    /// A shared access signature for one container.
    Azure {
        /// The signature, as the query of a URL.
        signature: Secret,
        /// Where the storage account is, if it is not in the public cloud.
        host: Option<String>,
    },
}

/// A credential for an object store, for as long as it is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageLease {
    /// The credential.
    pub credential: StorageCredential,
    /// How long it is good.
    pub lifetime: Lifetime,
    /// Where it comes from, as messages name it: `service connector minio`.
    pub origin: String,
}

/// How long a credential is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Until somebody takes it back: it is a key.
    Unlimited,
    /// Until then.
    Until(Timestamp),
    /// It ends, or may end; when is not known.
    Unknown,
}

impl Storage<'_> {
    /// Its URI, as messages name it.
    pub fn uri(&self) -> String {
        let (scheme, name, prefix) = match self {
            Self::S3(bucket) => ("s3", bucket.name, bucket.prefix),
            Self::Gcs(bucket) => ("gs", bucket.name, bucket.prefix),
            Self::Azure(container) => ("az", container.name, container.prefix),
        };
        let slash = if prefix.is_empty() { "" } else { "/" };
        format!("{scheme}://{name}{slash}{prefix}")
    }
}
