//! The configuration of a component: values that its flavor has checked.

use std::{collections::BTreeMap, num::NonZeroU32};

use longshore_oci::ReferenceError;

use crate::{
    Field, Flavor, Need, Provider, Registrable, RegistryFlavor, RegistryUri, Shape, StoreUri, StoreUriError,
    UriError, Values, field,
};

/// Values that are valid for a flavor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    flavor: Flavor,
    values: Values,
}

/// Why values are not a configuration.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigurationError {
    /// The flavor has no such field.
    #[error("{} flavor {} has no option `{name}`{}; it takes: {}", .flavor.kind(), .flavor.as_str(), did_you_mean(.suggestion.as_ref()), list(*.flavor))]
    UnknownField {
        /// The flavor.
        flavor: Flavor,
        /// What was given.
        name: String,
        /// The field that may be meant.
        suggestion: Option<&'static str>,
    },
    /// A field that must be given is not.
    #[error("{} flavor {} needs --{}{}", .flavor.kind(), .flavor.as_str(), .field.name, example(*.flavor, .field))]
    Missing {
        /// The flavor.
        flavor: Flavor,
        /// The field.
        field: &'static Field,
    },
    /// A value is not what the field takes.
    #[error("--{name}: `{value}` {reason}")]
    Invalid {
        /// The field.
        name: &'static str,
        /// The value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The URI is wrong.
    #[error(transparent)]
    Uri(#[from] UriError),
    /// There is one component of the flavor already, and there can be no other.
    #[error("the {} of flavor {} is built in; it is named `{}`", .0.kind(), .0.as_str(), .0.as_str())]
    BuiltIn(Flavor),
}

fn did_you_mean(suggestion: Option<&&'static str>) -> String {
    suggestion.map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

fn list(flavor: Flavor) -> String {
    let names: Vec<_> = flavor.fields().iter().map(|field| field.name).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn example(flavor: Flavor, field: &Field) -> String {
    match (field.shape, flavor.example()) {
        (Shape::RegistryUri | Shape::StoreUri, Some(example)) => format!(", e.g. --{}={example}", field.name),
        _ => String::new(),
    }
}

/// What repositories are made with on Amazon, and whether they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EcrRepositories {
    /// Whether a repository that does not exist is made when something is first pushed to it.
    pub creation: Creation,
    /// Whether a tag can be moved to another image.
    pub tags_are: Mutability,
    /// When images are scanned.
    pub scan: Scan,
    /// The key of KMS, if it is not the service's own encryption.
    pub kms_key: Option<String>,
    /// Their tags.
    pub tags: BTreeMap<String, String>,
}

/// Whether repositories are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Creation {
    /// When something is first pushed.
    OnPush,
    /// By others.
    Never,
}

/// Whether a tag can be moved to another image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutability {
    /// It can.
    Mutable,
    /// It cannot.
    Immutable,
}

/// When images are scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    /// When they are pushed.
    OnPush,
    /// When somebody asks.
    OnDemand,
}

impl Configuration {
    /// The configuration of that flavor, if the values are valid and none is missing. Values are kept as they are
    /// understood: URIs in lower case, switches as `true` and `false`.
    pub fn new(flavor: Flavor, values: &Values) -> Result<Self, ConfigurationError> {
        if flavor.registrable() == Registrable::BuiltIn {
            return Err(ConfigurationError::BuiltIn(flavor));
        }
        let mut checked = Values::new();
        for (name, value) in values {
            let field = flavor.field(name).ok_or_else(|| unknown(flavor, name))?;
            checked.insert(name.clone(), check(flavor, field, value)?);
        }
        for field in flavor.fields() {
            if field.need == Need::Required && !checked.contains_key(field.name) {
                return Err(ConfigurationError::Missing { flavor, field });
            }
        }
        Ok(Self { flavor, values: checked })
    }

    /// A configuration that was checked when it was stored.
    pub(crate) const fn stored(flavor: Flavor, values: Values) -> Self {
        Self { flavor, values }
    }

    /// The flavor.
    pub const fn flavor(&self) -> Flavor {
        self.flavor
    }

    /// The values, of fields that were given.
    pub const fn values(&self) -> &Values {
        &self.values
    }

    /// The same with some values given anew; an empty one is taken away.
    pub fn with(&self, changes: &Values) -> Result<Self, ConfigurationError> {
        let mut values = self.values.clone();
        values.extend(changes.clone());
        values.retain(|name, value| !value.is_empty() || self.flavor.field(name).is_none());
        Self::new(self.flavor, &values)
    }

    /// A value, or the field's default.
    fn value(&self, name: &str) -> Option<&str> {
        let default = || self.flavor.field(name).and_then(|field| field.default);
        self.values.get(name).map(String::as_str).or_else(default)
    }

    /// The URI of a registry; what is wrong with a stored one.
    pub(crate) fn uri(&self) -> Result<RegistryUri, UriError> {
        self.value("uri").unwrap_or_default().parse()
    }

    /// The URI of an artifact store; what is wrong with a stored one.
    pub(crate) fn store_uri(&self) -> Result<StoreUri, StoreUriError> {
        self.value("uri").unwrap_or_default().parse()
    }

    /// Whether a switch is on.
    pub(crate) fn is_on(&self, name: &str) -> bool {
        self.value(name).and_then(field::switch).unwrap_or_default()
    }

    /// How many steps may run at a time, where that is said.
    pub(crate) fn max_parallelism(&self) -> Option<NonZeroU32> {
        self.value("max_parallelism").and_then(|number| number.parse().ok())
    }

    pub(crate) fn default_repository(&self) -> Option<String> {
        self.value("default_repository").map(str::to_owned)
    }

    /// How repositories are made, where that is asked of longshore.
    pub(crate) fn repositories(&self) -> Option<EcrRepositories> {
        let is_ecr = self.flavor == Flavor::Registry(RegistryFlavor::Aws)
            && matches!(self.uri().ok()?.provider(), Some(Provider::Ecr(_)));
        let on = |name| self.is_on(name);
        is_ecr.then(|| EcrRepositories {
            creation: if on("create_repositories") { Creation::OnPush } else { Creation::Never },
            tags_are: if on("immutable_tags") { Mutability::Immutable } else { Mutability::Mutable },
            scan: if on("scan_on_push") { Scan::OnPush } else { Scan::OnDemand },
            kms_key: self.value("kms_key").map(str::to_owned),
            tags: self.value("tags").and_then(field::tags).unwrap_or_default(),
        })
    }
}

fn unknown(flavor: Flavor, name: &str) -> ConfigurationError {
    let closest = flavor
        .fields()
        .iter()
        .map(|field| (strsim::jaro_winkler(field.name, name), field.name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    ConfigurationError::UnknownField {
        flavor,
        name: name.to_owned(),
        suggestion: closest.map(|(_, name)| name),
    }
}

/// A value as it is kept.
fn check(flavor: Flavor, field: &Field, value: &str) -> Result<String, ConfigurationError> {
    let invalid = |reason: &str| ConfigurationError::Invalid {
        name: field.name,
        value: value.to_owned(),
        reason: reason.to_owned(),
    };
    match field.shape {
        Shape::RegistryUri => {
            let uri: RegistryUri = value.parse()?;
            if let Flavor::Registry(flavor) = flavor {
                flavor.check(&uri)?;
            }
            Ok(uri.to_string())
        }
        Shape::StoreUri => {
            let uri: StoreUri = value.parse().map_err(|error: StoreUriError| invalid(error.reason()))?;
            match flavor {
                Flavor::Store(store) if store.scheme() != uri.scheme() => Err(invalid(&format!(
                    "is not of this flavor, whose URIs are {}",
                    flavor.example().unwrap_or_default()
                ))),
                _ => Ok(uri.to_string()),
            }
        }
        Shape::RepositoryPath => match format!("localhost/{value}").parse::<longshore_oci::Repository>() {
            Ok(_) => Ok(value.to_owned()),
            Err(ReferenceError::TooLong(_)) => Err(invalid("is too long")),
            Err(_) => Err(invalid(
                "is not a repository path: lower-case letters and digits, separated by single `.`, one or two `_`, or \
                 dashes, in parts separated by `/`",
            )),
        },
        Shape::Switch => {
            field::switch(value).map(|on| on.to_string()).ok_or_else(|| invalid("is neither true nor false"))
        }
        Shape::Count => match value.trim().parse::<NonZeroU32>() {
            Ok(number) => Ok(number.to_string()),
            Err(_) => Err(invalid("is not a whole number above zero")),
        },
        Shape::Text if value.trim().is_empty() => Err(invalid("is empty")),
        Shape::Text => Ok(value.to_owned()),
        Shape::Tags => {
            field::tags(value).ok_or_else(|| invalid("is not a list of tags such as team=ml,cost=42"))?;
            Ok(value.to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ECR: &str = "123456789012.dkr.ecr.us-east-1.amazonaws.com";

    fn values(pairs: &[(&str, &str)]) -> Values {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn said(flavor: RegistryFlavor, pairs: &[(&str, &str)]) -> String {
        Configuration::new(Flavor::Registry(flavor), &values(pairs)).unwrap_err().to_string()
    }

    #[test]
    fn a_misspelt_field_is_answered_with_the_right_one() {
        assert_eq!(
            said(RegistryFlavor::Default, &[("urii", "gcr.io/p")]),
            "container registry flavor default has no option `urii`; did you mean `uri`?; it takes: uri, \
             default_repository"
        );
        assert!(
            said(RegistryFlavor::Gcp, &[("uri", "gcr.io/p"), ("zone", "x")]).contains("`zone`; it takes")
        );
    }

    #[test]
    fn a_registry_has_a_uri() {
        assert_eq!(
            said(RegistryFlavor::Gcp, &[]),
            "container registry flavor gcp needs --uri, e.g. --uri=gcr.io/<project>"
        );
    }

    #[test]
    fn values_are_what_the_field_takes() {
        for (pair, part) in [
            (("immutable_tags", "maybe"), "--immutable_tags: `maybe` is neither true nor false"),
            (("tags", "team"), "is not a list of tags"),
            (("kms_key", " "), "is empty"),
            (("default_repository", "Team"), "is not a repository path"),
            (("uri", "foo"), "does not begin with a host"),
        ] {
            let text = said(RegistryFlavor::Aws, &[("uri", ECR), pair]);
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn repositories_are_made_unless_that_is_turned_off() {
        let aws = Flavor::Registry(RegistryFlavor::Aws);
        let by_default = Configuration::new(aws, &values(&[("uri", ECR)])).unwrap().repositories().unwrap();
        assert_eq!((by_default.creation, by_default.tags_are), (Creation::OnPush, Mutability::Mutable));
        let set = values(&[
            ("uri", ECR),
            ("create_repositories", "no"),
            ("immutable_tags", "yes"),
            ("scan_on_push", "1"),
            ("kms_key", "alias/k"),
            ("tags", "team=ml"),
        ]);
        let set = Configuration::new(aws, &set).unwrap();
        assert_eq!(set.values()["create_repositories"], "false");
        let repositories = set.repositories().unwrap();
        assert_eq!((repositories.creation, repositories.scan), (Creation::Never, Scan::OnPush));
        assert_eq!(repositories.tags["team"], "ml");
        let public = Configuration::new(aws, &values(&[("uri", "public.ecr.aws/a")])).unwrap();
        assert_eq!(public.repositories(), None);
    }

    #[test]
    fn counts_are_above_zero() {
        let wide = |value| {
            Configuration::new(Flavor::LocalContainerOrchestrator, &values(&[("max_parallelism", value)]))
        };
        assert_eq!(wide("04").unwrap().max_parallelism(), NonZeroU32::new(4));
        for bad in ["0", "-1", "many", "1.5", "99999999999"] {
            let text = wide(bad).unwrap_err().to_string();
            assert_eq!(text, format!("--max_parallelism: `{bad}` is not a whole number above zero"));
        }
    }

    #[test]
    fn the_built_in_registry_is_not_registered() {
        let error = Configuration::new(Flavor::EmbeddedRegistry, &Values::new()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the container registry of flavor embedded is built in; it is named `embedded`"
        );
    }
}
