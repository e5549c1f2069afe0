//! What a token allows (distribution project, "Token Scope Documentation").

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// Scopes: for each resource (`repository:library/python`) the actions (`pull`, `push`).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Scopes(BTreeMap<String, BTreeSet<String>>);

/// What is to be done in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Pull,
    Push,
    Delete,
}

impl Scopes {
    /// None: what asks for nothing in particular (`/v2/`).
    pub(crate) fn none() -> Self {
        Self::default()
    }

    pub(crate) fn repository(path: &str, access: Access) -> Self {
        let actions: &[&str] = match access {
            Access::Pull => &["pull"],
            Access::Push => &["pull", "push"],
            // Who deletes looks first.
            Access::Delete => &["delete", "pull"],
        };
        let actions = actions.iter().map(|&action| action.to_owned()).collect();
        Self(BTreeMap::from([(format!("repository:{path}"), actions)]))
    }

    pub(crate) fn catalog() -> Self {
        Self(BTreeMap::from([("registry:catalog".to_owned(), BTreeSet::from(["*".to_owned()]))]))
    }

    /// Scopes as a challenge has them, separated by blanks. The name between the first and the last colon may have
    /// colons of its own. What is malformed is passed over.
    pub(crate) fn parse(text: &str) -> Self {
        let mut scopes = Self::none();
        for scope in text.split_ascii_whitespace() {
            if let Some((resource, actions)) =
                scope.rsplit_once(':').filter(|(resource, _)| resource.contains(':'))
            {
                let all = scopes.0.entry(resource.to_owned()).or_default();
                all.extend(actions.split(',').filter(|action| !action.is_empty()).map(str::to_owned));
            }
        }
        scopes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Both.
    pub(crate) fn union(mut self, other: Self) -> Self {
        for (resource, actions) in other.0 {
            self.0.entry(resource).or_default().extend(actions);
        }
        self
    }

    /// Whether a token for these serves where `wanted` is asked for. `*` is every action.
    pub(crate) fn include(&self, wanted: &Self) -> bool {
        wanted.0.iter().all(|(resource, actions)| {
            self.0.get(resource).is_some_and(|granted| granted.contains("*") || granted.is_superset(actions))
        })
    }

    /// Each scope as a token service is asked for it.
    pub(crate) fn each(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(resource, actions)| {
            let actions: Vec<_> = actions.iter().map(String::as_str).collect();
            format!("{resource}:{}", actions.join(","))
        })
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.each().collect::<Vec<_>>().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn scopes_grow() {
        let asked = Scopes::repository("a/b", Access::Pull);
        let demanded = Scopes::parse("repository:a/b:push repository:c:pull");
        let both = asked.clone().union(demanded.clone());
        assert_eq!(both.to_string(), "repository:a/b:pull,push repository:c:pull");
        assert!(both.include(&asked) && both.include(&demanded) && !asked.include(&demanded));
        assert!(Scopes::parse("repository:a/b:*").include(&asked));
        assert!(both.include(&Scopes::none()));
    }

    #[test]
    fn names_may_have_colons_and_nonsense_is_passed_over() {
        assert_eq!(Scopes::parse("repository:h:5000/a:pull").to_string(), "repository:h:5000/a:pull");
        assert!(Scopes::parse("pull nothing:").is_empty());
    }

    proptest! {
        #[test]
        fn parse_is_the_inverse_of_print(text in "(registry:catalog:\\* )?repository:[a-z]{1,5}(/[a-z]{1,5})?:(pull|push|pull,push)") {
            prop_assert_eq!(Scopes::parse(&text).to_string(), text);
        }

        #[test]
        fn parsing_never_panics(text: String) {
            let _ = Scopes::parse(&text);
        }
    }
}
