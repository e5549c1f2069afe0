//! Names that Azure Machine Learning takes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use sha2::{Digest as _, Sha256};

/// The longest name of a node.
const LONGEST: usize = 60;

/// The names of a pipeline's nodes, by the names of its steps: `[a-z][a-z0-9_]*`, as names of Python's are, each once. A name
/// that had to be shortened, or that two steps would have, ends with a part of the digest of the step's name.
pub(crate) fn nodes<'a>(steps: impl Iterator<Item = &'a str> + Clone) -> BTreeMap<&'a str, String> {
    let mut wanted: BTreeMap<String, u32> = BTreeMap::new();
    for step in steps.clone() {
        *wanted.entry(plain(step)).or_default() += 1;
    }
    let mut taken: BTreeSet<String> = BTreeSet::new();
    let mut names = BTreeMap::new();
    for step in steps {
        let name = plain(step);
        let name = if name.len() <= LONGEST && wanted.get(&name) == Some(&1) && !taken.contains(&name) {
            name
        } else {
            let digest = digest(step);
            let start = name.get(..LONGEST - 9).unwrap_or(&name).trim_end_matches('_');
            // Digits are added until the name is one that no other step has or wants.
            let ending = |digits| format!("{start}_{}", digest.get(..digits).unwrap_or(&digest));
            let free = (8..=digest.len())
                .map(ending)
                .find(|name| !taken.contains(name) && !wanted.contains_key(name));
            free.unwrap_or_else(|| ending(digest.len()))
        };
        taken.insert(name.clone());
        names.insert(step, name);
    }
    names
}

/// The version of something that is the same when this text is: as long as a UUID.
pub(crate) fn version(text: &str) -> String {
    let mut digest = digest(text);
    digest.truncate(32);
    digest
}

fn digest(text: &str) -> String {
    Sha256::digest(text).iter().fold(String::new(), |mut hex, byte| {
        // Writing to a text does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Small letters, digits and single underscores, a letter first.
fn plain(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            name.push(c.to_ascii_lowercase());
        } else if !name.is_empty() && !name.ends_with('_') {
            name.push('_');
        }
    }
    let name = name.trim_end_matches('_');
    if name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        name.to_owned()
    } else {
        format!("step_{name}").trim_end_matches('_').to_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_stay_readable() {
        let names = nodes(["load-data", "Train", "2nd", "a.b", "a_b"].into_iter());
        assert_eq!((names["load-data"].as_str(), names["Train"].as_str()), ("load_data", "train"));
        assert_eq!(names["2nd"], "step_2nd");
        assert!(names["a.b"].starts_with("a_b_") && names["a_b"].starts_with("a_b_"), "{names:?}");
    }

    proptest! {
        #[test]
        fn every_name_is_valid_and_unique_and_the_same_each_time(
            steps in proptest::collection::btree_set("[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", 1..40)
        ) {
            let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
            let names = nodes(steps.iter().copied());
            prop_assert_eq!(&names, &nodes(steps.iter().copied()));
            let distinct: BTreeSet<&String> = names.values().collect();
            prop_assert_eq!(distinct.len(), steps.len());
            for name in names.values() {
                prop_assert!(name.len() <= 120, "{}", name);
                prop_assert!(name.starts_with(|c: char| c.is_ascii_lowercase()), "{}", name);
                prop_assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
            }
        }
    }
}
