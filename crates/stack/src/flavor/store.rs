//! Artifact stores elsewhere.

use longshore_auth::connector::ConnectorType;
use serde::{Serialize, Serializer};

use crate::{
    Field, StoreScheme,
    field::{Need, Shape},
};

/// The artifact stores that other machines reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StoreFlavor {
    /// Amazon S3, and what speaks its protocol.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

impl StoreFlavor {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::S3, Self::Gcs, Self::Azure];

    /// The flavor as commands spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gcs",
            Self::Azure => "azure",
        }
    }

    /// What its URIs begin with.
    pub const fn scheme(self) -> StoreScheme {
        match self {
            Self::S3 => StoreScheme::S3,
            Self::Gcs => StoreScheme::Gcs,
            Self::Azure => StoreScheme::Azure,
        }
    }

    /// An example of its URIs.
    pub(super) const fn example(self) -> &'static str {
        match self {
            Self::S3 => "s3://<bucket>/<prefix>",
            Self::Gcs => "gs://<bucket>/<prefix>",
            Self::Azure => "az://<container>/<prefix>",
        }
    }

    pub(super) const fn summary(self) -> &'static str {
        match self {
            Self::S3 => "Amazon S3 and what speaks its protocol",
            Self::Gcs => "Google Cloud Storage",
            Self::Azure => "Azure Blob Storage",
        }
    }

    pub(super) const fn fields(self) -> &'static [Field] {
        match self {
            Self::S3 => &S3,
            Self::Gcs => &GCS,
            Self::Azure => &AZURE,
        }
    }

    pub(super) const fn connectors(self) -> &'static [ConnectorType] {
        match self {
            Self::S3 => &[ConnectorType::Aws],
            Self::Gcs => &[ConnectorType::Gcp],
            Self::Azure => &[ConnectorType::Azure],
        }
    }

    /// The environment variable by which the driver in the container learns a value, if it does.
    pub(crate) fn variable(self, field: &str) -> Option<&'static str> {
        match (self, field) {
            (Self::S3, "endpoint_url") => Some("AWS_ENDPOINT_URL"),
            // fsspec takes options of its drivers so (fsspec, "Configuration").
            (Self::Gcs, "endpoint_url") => Some("FSSPEC_GS_ENDPOINT_URL"),
            (Self::S3, "region") => Some("AWS_DEFAULT_REGION"),
            (Self::Azure, "account") => Some("AZURE_STORAGE_ACCOUNT_NAME"),
            _ => None,
        }
    }
}

impl Serialize for StoreFlavor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

const URI: Field = Field {
    name: "uri",
    help: "Where it is: a bucket or container, and a prefix in it",
    value_name: "URI",
    need: Need::Required,
    shape: Shape::StoreUri,
    default: None,
};

const S3: [Field; 3] = [
    URI,
    Field {
        name: "endpoint_url",
        help: "Where the service is, if it is not Amazon's",
        value_name: "URL",
        need: Need::Optional,
        shape: Shape::Text,
        default: None,
    },
    Field {
        name: "region",
        help: "The bucket's region",
        value_name: "REGION",
        need: Need::Optional,
        shape: Shape::Text,
        default: None,
    },
];
const GCS: [Field; 2] = [
    URI,
    Field {
        name: "endpoint_url",
        help: "Where the service is, if it is not storage.googleapis.com",
        value_name: "URL",
        need: Need::Optional,
        shape: Shape::Text,
        default: None,
    },
];
const AZURE: [Field; 2] = [
    URI,
    Field {
        name: "account",
        help: "The storage account that has the container",
        value_name: "NAME",
        need: Need::Required,
        shape: Shape::Text,
        default: None,
    },
];
