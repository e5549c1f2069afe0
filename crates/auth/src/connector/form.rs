//! What the values of a configuration must look like.

use std::fmt;

use longshore_endpoint::is_loopback;
use url::Url;

use super::{Field, Form};
use crate::gcp;

/// The names there are, and the one that was probably meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    nearest: Option<String>,
    known: Vec<String>,
}

impl Hint {
    pub(super) fn new<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Self {
        let known: Vec<String> = known.map(str::to_owned).collect();
        let given = given.replace('-', "_").to_ascii_lowercase();
        let nearest = known
            .iter()
            .map(|name| (strsim::jaro_winkler(&given, &name.replace('-', "_")), name))
            .filter(|(likeness, _)| *likeness > 0.85)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, name)| name.clone());
        Self { nearest, known }
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(nearest) = &self.nearest {
            write!(f, "did you mean '{nearest}'? There are: ")?;
        } else {
            f.write_str("There are: ")?;
        }
        f.write_str(&self.known.join(", "))
    }
}

/// What is wrong with a value, as what follows "the value of 'x'". It never has the value: that may be a secret.
pub(super) fn check(field: &Field, value: &str) -> Result<(), String> {
    if value.trim().is_empty() {
        return Err("is empty".to_owned());
    }
    let fine = |fine: bool, wanted: &str| if fine { Ok(()) } else { Err(wanted.to_owned()) };
    match field.form {
        Form::Text => {
            fine(!value.contains(char::is_control), "has a line break or another control character")
        }
        Form::Username => fine(
            !value.contains(|c: char| c.is_control() || c == ':'),
            "has a colon or a control character, which user names cannot have",
        ),
        Form::OneOf(names) => fine(names.contains(&value), &format!("must be one of {}", names.join(", "))),
        Form::Host => host(value),
        Form::Url => url(value),
        Form::Tenant => fine(
            is_guid(value) || is_domain(value),
            "is not a tenant: it must be a GUID (00000000-0000-0000-0000-000000000000) or a domain (contoso.onmicrosoft.com)",
        ),
        Form::Guid => fine(is_guid(value), "is not a GUID (00000000-0000-0000-0000-000000000000)"),
        Form::Region => fine(
            value.contains('-')
                && value.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'),
            "is not a region, such as eu-central-1",
        ),
        Form::RoleArn => {
            let parts: Vec<_> = value.splitn(6, ':').collect();
            fine(
                matches!(parts[..], ["arn", partition, "iam", "", account, role]
                    if partition.starts_with("aws") && account.len() == 12
                        && account.bytes().all(|b| b.is_ascii_digit()) && role.starts_with("role/")),
                "is not the ARN of a role, such as arn:aws:iam::123456789012:role/name",
            )
        }
        Form::Seconds(least, most) => fine(
            value.parse::<u32>().is_ok_and(|seconds| (least..=most).contains(&seconds)),
            &format!("must be seconds, from {least} to {most}"),
        ),
        Form::Email => fine(
            value.split_once('@').is_some_and(|(name, domain)| !name.is_empty() && is_domain(domain))
                && !value.contains(['/', ' ']),
            "is not an email address, such as name@project.iam.gserviceaccount.com",
        ),
        Form::SessionName => fine(
            (2..=64).contains(&value.len())
                && value.chars().all(|c| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c)),
            "must have 2 to 64 letters, digits or _+=,.@-",
        ),
        Form::List => fine(value.split(',').all(|item| !item.trim().is_empty()), "has an empty item"),
        Form::Path => fine(value.starts_with('/'), "is not an absolute path"),
        Form::ServiceAccountKey => {
            gcp::ServiceAccountKey::parse(value).map(drop).map_err(|error| error.to_string())
        }
        Form::ExternalAccount => {
            gcp::ExternalAccount::parse(value).map(drop).map_err(|error| error.to_string())
        }
        Form::Json => match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(value) {
            Ok(_) => Ok(()),
            Err(error) => {
                Err(format!("is not a JSON object (line {}, column {})", error.line(), error.column()))
            }
        },
    }
}

fn host(value: &str) -> Result<(), String> {
    if value.contains("://") {
        return Err("must be a host without a scheme, such as ghcr.io".to_owned());
    }
    if value.contains('/') {
        return Err("must be a host without a path, such as ghcr.io".to_owned());
    }
    let name = value
        .rsplit_once(':')
        .filter(|(_, port)| port.parse::<u16>().is_ok())
        .map_or(value, |(name, _)| name);
    let plain = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).map_or_else(
        || {
            name.split('.').all(|label| {
                !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            })
        },
        |address| address.parse::<std::net::Ipv6Addr>().is_ok(),
    );
    if plain { Ok(()) } else { Err("is not a host, such as ghcr.io or registry.example.com:5000".to_owned()) }
}

/// Tokens and secrets go there, so nobody may listen in between.
pub(crate) fn url(value: &str) -> Result<(), String> {
    let Ok(url) = Url::parse(value) else {
        return Err("is not a URL".to_owned());
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must be a URL without credentials".to_owned());
    }
    match (url.scheme(), url.host_str()) {
        ("https", Some(_)) => Ok(()),
        ("http", Some(host)) if is_loopback(host) => Ok(()),
        ("http", Some(_)) => Err("must be an https URL".to_owned()),
        _ => Err("is not an https URL".to_owned()),
    }
}

fn is_guid(value: &str) -> bool {
    value.len() == 36
        && value
            .bytes()
            .enumerate()
            .all(|(at, b)| if matches!(at, 8 | 13 | 18 | 23) { b == b'-' } else { b.is_ascii_hexdigit() })
}

fn is_domain(value: &str) -> bool {
    value.contains('.')
        && value
            .split('.')
            .all(|label| !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connector::{Kind, Need};

    fn judge(form: Form, value: &str) -> Result<(), String> {
        check(
            &Field { name: "x", help: "x", need: Need::Optional, kind: Kind::Plain, form, default: None },
            value,
        )
    }

    #[test]
    fn right_values_pass() {
        for (form, value) in [
            (Form::Host, "ghcr.io"),
            (Form::Host, "localhost:5000"),
            (Form::Host, "[::1]:5000"),
            (Form::Url, "https://login.example.com/"),
            (Form::Url, "http://127.0.0.1:8080"),
            (Form::Tenant, "72f988bf-86f1-41af-91ab-2d7cd011db47"),
            (Form::Tenant, "contoso.onmicrosoft.com"),
            (Form::Region, "us-gov-west-1"),
            (Form::RoleArn, "arn:aws:iam::123456789012:role/path/name"),
            (Form::RoleArn, "arn:aws-cn:iam::123456789012:role/name"),
            (Form::Seconds(900, 3600), "900"),
            (Form::Email, "a-b@project.iam.gserviceaccount.com"),
            (Form::List, "a,b"),
            (Form::Json, "{\"Version\":\"2012-10-17\"}"),
        ] {
            assert_eq!(judge(form, value), Ok(()), "{form:?} {value}");
        }
    }

    #[test]
    fn wrong_values_are_named_by_what_is_wrong() {
        for (form, value, part) in [
            (Form::Text, "  ", "empty"),
            (Form::Text, "a\nb", "line break"),
            (Form::Username, "a:b", "colon"),
            (Form::OneOf(&["a", "b"]), "c", "must be one of a, b"),
            (Form::Host, "https://ghcr.io", "without a scheme"),
            (Form::Host, "ghcr.io/me", "without a path"),
            (Form::Host, "a b", "not a host"),
            (Form::Host, "a:99999", "not a host"),
            (Form::Url, "http://login.example.com", "must be an https URL"),
            (Form::Url, "http://127.0.0.1.example.com", "must be an https URL"),
            (Form::Url, "https://me:pw@login.example.com", "without credentials"),
            (Form::Tenant, "contoso", "not a tenant"),
            (Form::Guid, "72f988bf86f141af91ab2d7cd011db47", "not a GUID"),
            (Form::Region, "Frankfurt", "not a region"),
            (Form::RoleArn, "arn:aws:iam::123456789012:user/me", "ARN of a role"),
            (Form::Seconds(900, 3600), "60", "from 900 to 3600"),
            (Form::Email, "me", "email"),
            (Form::SessionName, "a", "2 to 64"),
            (Form::Path, "token", "absolute"),
            (Form::Json, "[]", "JSON object"),
        ] {
            let error = judge(form, value).unwrap_err();
            assert!(error.contains(part), "{form:?} {value}: {error}");
        }
    }
}
