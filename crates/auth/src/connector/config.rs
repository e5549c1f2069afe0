//! What a connector is configured with.

use std::collections::BTreeMap;

use super::{
    ConnectorType, Field, Kind, Method, Need,
    form::{self, Hint},
};
use crate::Secret;

/// A checked configuration: type, authentication method and values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    connector: ConnectorType,
    method: &'static Method,
    values: BTreeMap<&'static str, Value>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Plain(String),
    Secret(Secret),
}

/// Why a configuration is refused. No message has a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No such type.
    #[error("there is no connector type '{name}'; {hint}")]
    UnknownType {
        /// What was given.
        name: String,
        /// What there is.
        hint: Hint,
    },
    /// No such method.
    #[error("{connector} connectors have no authentication method '{method}'; {hint}")]
    UnknownMethod {
        /// The type.
        connector: ConnectorType,
        /// What was given.
        method: String,
        /// What there is.
        hint: Hint,
    },
    /// No such field.
    #[error("{connector} connectors with the method {method} have no option '{field}'; {hint}")]
    UnknownField {
        /// The type.
        connector: ConnectorType,
        /// The method.
        method: &'static str,
        /// What was given.
        field: String,
        /// What there is.
        hint: Hint,
    },
    /// A field is given twice, as `a-b` and as `a_b`.
    #[error("the option '{field}' is given twice")]
    Twice {
        /// The field.
        field: &'static str,
    },
    /// Something needed is not there.
    #[error("{connector} connectors with the method {method} need {}", options(fields))]
    Missing {
        /// The type.
        connector: ConnectorType,
        /// The method.
        method: &'static str,
        /// What is needed.
        fields: Vec<&'static str>,
    },
    /// A value cannot be right.
    #[error("the value of '{field}' {reason}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong with it, and what it must be.
        reason: String,
    },
}

fn options(fields: &[&str]) -> String {
    fields.iter().map(|field| format!("--{field}")).collect::<Vec<_>>().join(", ")
}

/// The nearest of the names there are, and all of them.
pub(super) fn hint<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Hint {
    Hint::new(given, known)
}

impl Config {
    /// Checks values by the table. Names may be written with `-` for `_`; the line break at the end of a value, as files
    /// have it, is not a part of it.
    pub fn new(
        connector: ConnectorType,
        method: &str,
        values: BTreeMap<String, String>,
    ) -> Result<Self, ConfigError> {
        Self::checked(
            connector,
            method,
            values.into_iter().map(|(name, value)| (name, Value::Secret(Secret::new(value)))),
        )
    }

    /// A configuration from what [`Config::plain`] and [`Config::secrets`] gave, which were stored apart.
    pub fn restore(
        connector: ConnectorType,
        method: &str,
        plain: BTreeMap<String, String>,
        secrets: BTreeMap<String, Secret>,
    ) -> Result<Self, ConfigError> {
        let plain = plain.into_iter().map(|(name, value)| (name, Value::Plain(value)));
        let secrets = secrets.into_iter().map(|(name, value)| (name, Value::Secret(value)));
        Self::checked(connector, method, plain.chain(secrets))
    }

    fn checked(
        connector: ConnectorType,
        method: &str,
        given: impl Iterator<Item = (String, Value)>,
    ) -> Result<Self, ConfigError> {
        let method = connector.method(method)?;
        let mut values = BTreeMap::new();
        for (name, value) in given {
            let Some(field) = method.field(&name.replace('-', "_")) else {
                let hint = hint(&name, method.fields.iter().map(|field| field.name));
                return Err(ConfigError::UnknownField { connector, method: method.name, field: name, hint });
            };
            let text = value.text().trim_end_matches(['\r', '\n']);
            let value = match field.kind {
                Kind::Secret => Value::Secret(Secret::new(text)),
                Kind::Plain => Value::Plain(text.to_owned()),
            };
            form::check(field, value.text())
                .map_err(|reason| ConfigError::Invalid { field: field.name, reason })?;
            if values.insert(field.name, value).is_some() {
                return Err(ConfigError::Twice { field: field.name });
            }
        }
        let missing: Vec<_> = method
            .fields
            .iter()
            .filter(|field| field.need == Need::Required && !values.contains_key(field.name))
            .map(|field| field.name)
            .collect();
        if !missing.is_empty() {
            return Err(ConfigError::Missing { connector, method: method.name, fields: missing });
        }
        Ok(Self { connector, method, values })
    }

    /// The type.
    pub const fn connector_type(&self) -> ConnectorType {
        self.connector
    }

    /// The authentication method.
    pub const fn method(&self) -> &'static Method {
        self.method
    }

    /// The values that may be shown, by their fields' names; defaults are not among them.
    pub fn plain(&self) -> BTreeMap<&'static str, &str> {
        self.values
            .iter()
            .filter_map(|(name, value)| match value {
                Value::Plain(text) => Some((*name, text.as_str())),
                Value::Secret(_) => None,
            })
            .collect()
    }

    /// The values that may not be shown.
    pub fn secrets(&self) -> BTreeMap<&'static str, &Secret> {
        self.values
            .iter()
            .filter_map(|(name, value)| match value {
                Value::Secret(secret) => Some((*name, secret)),
                Value::Plain(_) => None,
            })
            .collect()
    }

    /// The text of a field: what was given, else its default.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        match self.values.get(name) {
            Some(value) => Some(value.text()),
            None => self.method.field(name).and_then(|field: &Field| field.default),
        }
    }

    /// A field that the table requires.
    pub(crate) fn required(&self, name: &str) -> &str {
        self.text(name).unwrap_or_default()
    }

    /// A field that the table requires, and that is a secret.
    pub(crate) fn secret(&self, name: &str) -> Secret {
        Secret::new(self.required(name))
    }
}

impl Value {
    fn text(&self) -> &str {
        match self {
            Self::Plain(text) => text,
            Self::Secret(secret) => secret.expose(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(
        connector: ConnectorType,
        method: &str,
        values: &[(&str, &str)],
    ) -> Result<Config, ConfigError> {
        let values = values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Config::new(connector, method, values)
    }

    #[test]
    fn secrets_are_apart_and_never_shown() {
        let made = config(ConnectorType::Docker, "password", &[("username", "me"), ("password", "hunter2")])
            .unwrap();
        assert_eq!(made.plain(), BTreeMap::from([("username", "me")]));
        assert_eq!(made.secrets()["password"].expose(), "hunter2");
        assert!(!format!("{made:?}").contains("hunter2"));
        let plain =
            made.plain().into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let secrets =
            made.secrets().into_iter().map(|(name, value)| (name.to_owned(), value.clone())).collect();
        assert_eq!(Config::restore(ConnectorType::Docker, "password", plain, secrets).unwrap(), made);
    }

    #[test]
    fn what_is_unknown_gets_a_suggestion_and_the_list() {
        let error = "dokcer".parse::<ConnectorType>().unwrap_err().to_string();
        assert_eq!(
            error,
            "there is no connector type 'dokcer'; did you mean 'docker'? There are: docker, gcp, azure, aws"
        );
        let error = config(ConnectorType::Gcp, "service-acount", &[]).unwrap_err().to_string();
        assert!(error.contains("did you mean 'service-account'?"), "{error}");
        let error = config(ConnectorType::Aws, "secret-key", &[("aws_acces_key_id", "AKIA")]).unwrap_err();
        assert!(error.to_string().contains("did you mean 'aws_access_key_id'?"), "{error}");
        let error = config(ConnectorType::Aws, "secret-key", &[("zzz", "1")]).unwrap_err().to_string();
        assert!(
            error.contains("There are: aws_access_key_id, ") && !error.contains("did you mean"),
            "{error}"
        );
    }

    #[test]
    fn a_files_last_line_break_is_not_a_part_of_the_value() {
        let made = config(ConnectorType::Gcp, "oauth2-token", &[("token", "ya29.x\r\n")]).unwrap();
        assert_eq!(made.secrets()["token"].expose(), "ya29.x");
    }

    #[test]
    fn dashes_are_underscores_and_once_is_enough() {
        let keys = [("aws-access-key-id", "AKIA"), ("aws-secret-access-key", "s")];
        let made = config(ConnectorType::Aws, "secret-key", &keys).unwrap();
        assert_eq!(made.plain(), BTreeMap::from([("aws_access_key_id", "AKIA")]));
        let error =
            config(ConnectorType::Aws, "secret-key", &[keys[0], ("aws_access_key_id", "B")]).unwrap_err();
        assert_eq!(error, ConfigError::Twice { field: "aws_access_key_id" });
    }

    #[test]
    fn what_is_missing_is_named_at_once() {
        let error = config(ConnectorType::Azure, "service-principal", &[]).unwrap_err().to_string();
        assert_eq!(
            error,
            "azure connectors with the method service-principal need --tenant_id, --client_id, --client_secret"
        );
    }

    #[test]
    fn the_table_is_sound() {
        for connector in ConnectorType::ALL {
            assert_eq!(connector.name().parse::<ConnectorType>().unwrap(), connector);
            for method in connector.methods() {
                for (index, field) in method.fields.iter().enumerate() {
                    assert!(
                        field.name.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit()),
                        "{}",
                        field.name
                    );
                    assert!(
                        method.fields[..index].iter().all(|other| other.name != field.name),
                        "{}",
                        field.name
                    );
                    assert!(!field.help.is_empty() && !field.help.ends_with('.'), "{}", field.help);
                    if let Some(default) = field.default {
                        assert_eq!(field.need, Need::Optional);
                        form::check(field, default).unwrap();
                    }
                }
            }
        }
    }
}
