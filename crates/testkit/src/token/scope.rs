//! What a token is for (the distribution project's "Token Scope Documentation").

use std::{convert::Infallible, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What may be done with something: `repository:team/app:pull,push`, `registry:catalog:*`. In a grant, a name may end
/// in `*`, which stands for any end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// `repository` or `registry`.
    pub kind: String,
    /// The repository's path, or `catalog`.
    pub name: String,
    /// `pull`, `push`, `delete`, `*`.
    pub actions: Vec<String>,
}

impl Scope {
    /// What a repository is to be used for: `pull`, or `pull,push`.
    pub fn repository(name: &str, actions: &str) -> Self {
        let actions = actions.split(',').map(str::to_owned).collect();
        Self { kind: "repository".to_owned(), name: name.to_owned(), actions }
    }

    /// What of this the grants allow; nothing is left where they allow none of it.
    pub(crate) fn allowed_by(&self, grants: &[Self]) -> Option<Self> {
        let covers = |grant: &Self, action: &String| {
            grant.kind == self.kind
                && match grant.name.strip_suffix('*') {
                    Some(beginning) => self.name.starts_with(beginning),
                    None => grant.name == self.name,
                }
                && grant.actions.iter().any(|granted| granted == action || granted == "*")
        };
        let mut allowed = self.clone();
        allowed.actions.retain(|action| grants.iter().any(|grant| covers(grant, action)));
        (!allowed.actions.is_empty()).then_some(allowed)
    }
}

impl FromStr for Scope {
    type Err = Infallible;

    /// A name may have colons in it (a host's port). What has too few parts allows nothing.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        let (name, actions) = rest.rsplit_once(':').unwrap_or((rest, ""));
        // `repository(plugin)`: the class says nothing about what may be done.
        let (kind, _) = kind.split_once('(').unwrap_or((kind, ""));
        let actions = actions.split(',').filter(|action| !action.is_empty()).map(str::to_owned).collect();
        Ok(Self { kind: kind.to_owned(), name: name.to_owned(), actions })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.kind, self.name, self.actions.join(","))
    }
}

impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let Ok(scope) = text.parse();
        Ok(scope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(text: &str) -> Scope {
        let Ok(scope) = text.parse();
        scope
    }

    #[test]
    fn scopes_are_read_as_they_are_written() {
        let asked = scope("repository:host:5000/team/app:pull,push");
        assert_eq!((asked.kind.as_str(), asked.name.as_str()), ("repository", "host:5000/team/app"));
        assert_eq!(asked.to_string(), "repository:host:5000/team/app:pull,push");
        assert_eq!(scope("repository(plugin):a:pull").to_string(), "repository:a:pull");
        assert!(scope("nonsense").allowed_by(&[scope("nonsense:*:*")]).is_none());
    }

    #[test]
    fn a_token_has_what_was_asked_for_and_granted() {
        let grants = [scope("repository:team/*:pull"), scope("repository:team/app:pull,push")];
        let allowed = |text| scope(text).allowed_by(&grants).map(|scope| scope.to_string());
        assert_eq!(
            allowed("repository:team/app:push,pull").as_deref(),
            Some("repository:team/app:push,pull")
        );
        assert_eq!(allowed("repository:team/other:pull,push").as_deref(), Some("repository:team/other:pull"));
        assert_eq!(allowed("repository:teams:pull"), None);
        assert_eq!(allowed("registry:catalog:*"), None);
    }
}
