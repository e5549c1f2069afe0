//! The types of connectors, their authentication methods and the fields of each: data, for programs and help texts.

use std::{fmt, str::FromStr};

use super::{ConfigError, table};

/// Whose credentials a connector has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConnectorType {
    /// Any registry that takes a name and a password.
    Docker,
    /// Google Cloud.
    Gcp,
    /// Microsoft Azure.
    Azure,
    /// Amazon Web Services.
    Aws,
}

/// One way to authenticate.
#[derive(Debug, PartialEq, Eq)]
pub struct Method {
    /// Its name: `service-account`.
    pub name: &'static str,
    /// What it is, in one sentence.
    pub summary: &'static str,
    /// What it takes.
    pub fields: &'static [Field],
}

/// One value of a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name, with underscores: `service_account_json`.
    pub name: &'static str,
    /// What it is.
    pub help: &'static str,
    /// Whether it must be given.
    pub need: Need,
    /// Whether it may be shown.
    pub kind: Kind,
    /// What it must look like.
    pub form: Form,
    /// What is meant when it is not given.
    pub default: Option<&'static str>,
}

/// Whether a field must be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It must.
    Required,
    /// It need not.
    Optional,
}

/// Whether a field may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It may.
    Plain,
    /// It may not: it is sealed where it is stored, and `***` where it is printed.
    Secret,
}

/// What a field must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Form {
    /// A line of text.
    Text,
    /// A user name, which `Basic` has no place for a colon in (RFC 7617 §2).
    Username,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// The host of a registry, with its port if it has one.
    Host,
    /// An https URL; http is accepted for this machine itself.
    Url,
    /// A tenant of Microsoft Entra: a GUID or a domain.
    Tenant,
    /// A GUID.
    Guid,
    /// The name of an AWS region.
    Region,
    /// The ARN of an IAM role.
    RoleArn,
    /// Seconds, in this range.
    Seconds(u32, u32),
    /// A service account's email address.
    Email,
    /// The name of a session of AWS's.
    SessionName,
    /// Names, separated by commas.
    List,
    /// An absolute path of a file.
    Path,
    /// A Google service account key.
    ServiceAccountKey,
    /// A Google external account configuration (workload identity federation).
    ExternalAccount,
    /// A JSON object.
    Json,
}

impl ConnectorType {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Docker, Self::Gcp, Self::Azure, Self::Aws];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Gcp => "gcp",
            Self::Azure => "azure",
            Self::Aws => "aws",
        }
    }

    /// What it connects to, in one sentence.
    pub const fn summary(self) -> &'static str {
        match self {
            Self::Docker => "Any container registry that takes a user name and a password or access token.",
            Self::Gcp => "Google Cloud: Artifact Registry and gcr.io hosts.",
            Self::Azure => "Microsoft Azure: Azure Container Registry, sovereign clouds included.",
            Self::Aws => "Amazon Web Services: Elastic Container Registry, private and public.",
        }
    }

    /// Its authentication methods.
    pub const fn methods(self) -> &'static [Method] {
        match self {
            Self::Docker => table::DOCKER,
            Self::Gcp => table::GCP,
            Self::Azure => table::AZURE,
            Self::Aws => table::AWS,
        }
    }

    /// The method of that name.
    pub fn method(self, name: &str) -> Result<&'static Method, ConfigError> {
        self.methods().iter().find(|method| method.name == name).ok_or_else(|| ConfigError::UnknownMethod {
            connector: self,
            method: name.to_owned(),
            hint: super::config::hint(name, self.methods().iter().map(|method| method.name)),
        })
    }
}

impl Method {
    /// The field of that name.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

impl fmt::Display for ConnectorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ConnectorType {
    type Err = ConfigError;

    fn from_str(name: &str) -> Result<Self, ConfigError> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| ConfigError::UnknownType {
            name: name.to_owned(),
            hint: super::config::hint(name, Self::ALL.into_iter().map(Self::name)),
        })
    }
}
