//! Relations between packages: the syntax of `Depends`, `Provides`, `Conflicts` (Debian policy §7.1).

use std::{cmp::Ordering, fmt};

use crate::version::compare;

/// How a version is compared in a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `<<`
    Earlier,
    /// `<=`
    EarlierOrEqual,
    /// `=`
    Equal,
    /// `>=`
    LaterOrEqual,
    /// `>>`
    Later,
}

impl Operator {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Earlier => "<<",
            Self::EarlierOrEqual => "<=",
            Self::Equal => "=",
            Self::LaterOrEqual => ">=",
            Self::Later => ">>",
        }
    }

    fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Earlier => ordering.is_lt(),
            Self::EarlierOrEqual => ordering.is_le(),
            Self::Equal => ordering.is_eq(),
            Self::LaterOrEqual => ordering.is_ge(),
            Self::Later => ordering.is_gt(),
        }
    }
}

/// A package name, perhaps with an architecture qualifier and a constraint on the version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation<'a> {
    /// The name of a package, real or virtual.
    pub name: &'a str,
    /// What follows a colon: `any`, `native` or an architecture.
    pub qualifier: Option<&'a str>,
    /// The versions that will do; all if absent.
    pub constraint: Option<(Operator, &'a str)>,
}

/// Why a text is not a relation.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a relation between packages, e.g. `libc6 (>= 2.36) | libc6.1`")]
pub struct RelationError(String);

impl<'a> Relation<'a> {
    /// Whether a version meets the constraint.
    pub fn admits(&self, version: &str) -> bool {
        self.constraint.is_none_or(|(operator, wanted)| operator.holds(compare(version, wanted)))
    }

    /// Reads one relation: `name[:qualifier] [(operator version)] [[architectures]] [<profiles>]`. `None` if it
    /// is restricted to other architectures or to a build profile.
    fn parse(text: &'a str, arch: &str) -> Result<Option<Self>, RelationError> {
        let wrong = || RelationError(text.trim().to_owned());
        let text_ = text.trim();
        let end = text_.find([' ', '(', '[', '<', '\t', '\n']).unwrap_or(text_.len());
        let (head, mut rest) = text_.split_at(end);
        let (name, qualifier) = match head.split_once(':') {
            Some((name, qualifier)) => (name, Some(qualifier)),
            None => (head, None),
        };
        let well_formed = |word: &str| {
            word.starts_with(|c: char| c.is_ascii_alphanumeric())
                && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-._".contains(&b))
        };
        if !well_formed(name) || !qualifier.is_none_or(well_formed) {
            return Err(wrong());
        }
        let mut constraint = None;
        let mut applies = true;
        loop {
            rest = rest.trim_start();
            let Some(open) = rest.chars().next() else { break };
            let close = match open {
                '(' if constraint.is_none() => ')',
                '[' => ']',
                '<' => '>',
                _ => return Err(wrong()),
            };
            let (inside, after) = rest[1..].split_once(close).ok_or_else(wrong)?;
            rest = after;
            match open {
                '(' => constraint = Some(version_constraint(inside).ok_or_else(wrong)?),
                '[' => applies &= restricted_to(inside, arch),
                _ => applies = false,
            }
        }
        Ok(applies.then_some(Self { name, qualifier, constraint }))
    }
}

/// `>= 1.2`. The one-character `<` and `>` are the obsolete spellings of `<=` and `>=`.
fn version_constraint(text: &str) -> Option<(Operator, &str)> {
    let text = text.trim();
    let (operator, length) = [
        ("<<", Operator::Earlier),
        ("<=", Operator::EarlierOrEqual),
        (">=", Operator::LaterOrEqual),
        (">>", Operator::Later),
        ("=", Operator::Equal),
        ("<", Operator::EarlierOrEqual),
        (">", Operator::LaterOrEqual),
    ]
    .into_iter()
    .find(|(spelling, _)| text.starts_with(spelling))
    .map(|(spelling, operator)| (operator, spelling.len()))?;
    let version = text[length..].trim();
    (!version.is_empty() && !version.contains(char::is_whitespace)).then_some((operator, version))
}

/// Whether a list such as `amd64 linux-any` or `!armel` holds for `arch`.
fn restricted_to(list: &str, arch: &str) -> bool {
    let matches = |word: &str| {
        word == arch || matches!(word, "any" | "linux-any") || word.strip_prefix("any-") == Some(arch)
    };
    let (negative, positive): (Vec<&str>, Vec<&str>) =
        list.split_ascii_whitespace().partition(|word| word.starts_with('!'));
    if negative.is_empty() {
        positive.into_iter().any(matches)
    } else {
        !negative.iter().any(|word| matches(&word[1..]))
    }
}

impl fmt::Display for Relation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        if let Some(qualifier) = self.qualifier {
            write!(f, ":{qualifier}")?;
        }
        if let Some((operator, version)) = self.constraint {
            write!(f, " ({} {version})", operator.as_str())?;
        }
        Ok(())
    }
}

/// Reads `a (>= 1) | b, c`: groups of alternatives, all of which must hold. Groups that do not concern `arch`
/// are left out.
pub fn groups<'a>(text: &'a str, arch: &str) -> Result<Vec<Vec<Relation<'a>>>, RelationError> {
    let mut groups = Vec::new();
    for group in text.split(',').filter(|group| !group.trim().is_empty()) {
        let mut alternatives = Vec::new();
        for alternative in group.split('|') {
            alternatives.extend(Relation::parse(alternative, arch)?);
        }
        if !alternatives.is_empty() {
            groups.push(alternatives);
        }
    }
    Ok(groups)
}

/// A group of alternatives as it is written.
pub(crate) fn spell(group: &[Relation<'_>]) -> String {
    group.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_parts_of_a_relation_are_read() {
        let text = "python3:any (>= 3.9~) | python3.9 , libc6(<<2.40),x [!amd64], y [arm64 amd64] <!nocheck>, z [linux-any]";
        let spelt = |arch| groups(text, arch).unwrap().iter().map(|group| spell(group)).collect::<Vec<_>>();
        assert_eq!(spelt("amd64"), ["python3:any (>= 3.9~) | python3.9", "libc6 (<< 2.40)", "z"]);
        assert_eq!(spelt("arm64"), ["python3:any (>= 3.9~) | python3.9", "libc6 (<< 2.40)", "x", "z"]);
    }

    #[test]
    fn constraints_are_kept() {
        let of = |text: &'static str| groups(text, "amd64").unwrap().remove(0).remove(0);
        assert!(of("a (>= 1.0)").admits("1.0") && !of("a (>> 1.0)").admits("1.0"));
        assert!(
            of("a (<< 1.0)").admits("1.0~rc1") && !of("a (= 1.0-1)").admits("1.0-2") && of("a").admits("0")
        );
        assert!(of("a (< 1.0)").admits("1.0"), "the obsolete spelling means <=");
    }

    #[test]
    fn what_is_no_relation_is_refused() {
        for wrong in
            ["a b", "a (1.0)", "a (>= )", "a (>= 1", "(>= 1)", "a (>= 1) (<< 2)", "-a", "a || b", "a:"]
        {
            assert!(groups(wrong, "amd64").is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text: String) {
            let _ = groups(&text, "amd64");
        }

        #[test]
        fn parse_is_the_inverse_of_print(text in "[a-z][a-z0-9+.-]{1,5}(:any)?( \\((<<|<=|=|>=|>>) [0-9][a-z0-9.~]{0,4}\\))?") {
            prop_assert_eq!(spell(&groups(&text, "amd64").unwrap()[0]), text);
        }
    }
}
