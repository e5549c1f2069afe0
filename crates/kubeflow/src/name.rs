//! Names that Kubeflow, Argo and Vertex AI take.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use sha2::{Digest as _, Sha256};

/// The longest name of a task. Argo makes names of pods of it, and of names that it makes of it: `<task>-driver`.
const LONGEST_TASK: usize = 50;
/// The longest name of a pipeline: Vertex AI takes 128 characters for the name of a job, which is this one and a time.
const LONGEST_PIPELINE: usize = 54;
/// What Argo's compiler of Kubeflow ends the names of its own tasks with.
const OWN_ENDINGS: [&str; 4] = ["-driver", "-iterations", "-iterator", "-dag"];

/// The names of a pipeline's tasks, by the names of its steps: `[a-z][a-z0-9-]*`, each once. A name that had to be shortened,
/// or that two steps would have, ends with a part of the digest of the step's name.
pub(crate) fn tasks<'a>(steps: impl Iterator<Item = &'a str> + Clone) -> BTreeMap<&'a str, String> {
    let mut wanted: BTreeMap<String, u32> = BTreeMap::new();
    for step in steps.clone() {
        *wanted.entry(plain(step)).or_default() += 1;
    }
    let mut taken: BTreeSet<String> = BTreeSet::new();
    let mut names = BTreeMap::new();
    for step in steps {
        let name = plain(step);
        let fits = name.len() <= LONGEST_TASK && !OWN_ENDINGS.iter().any(|ending| name.ends_with(ending));
        let name = if fits && wanted.get(&name) == Some(&1) && !taken.contains(&name) {
            name
        } else {
            let digest = digest(step);
            // Digits are added until the name is one that no other step has or wants.
            let free = (8..=digest.len())
                .step_by(8)
                .map(|digits| {
                    shortened(&name, LONGEST_TASK.max(digits + 9), digest.get(..digits).unwrap_or(&digest))
                })
                .find(|name| !taken.contains(name) && !wanted.contains_key(name));
            free.unwrap_or_else(|| shortened("step", 64, digest.get(..56).unwrap_or_default()))
        };
        taken.insert(name.clone());
        names.insert(step, name);
    }
    names
}

/// The name of a pipeline, where services want one of `[a-z][a-z0-9-]*`.
pub fn pipeline(name: &str) -> String {
    let plain = plain(name);
    if plain.len() <= LONGEST_PIPELINE {
        plain
    } else {
        shortened(&plain, LONGEST_PIPELINE, digest(name).get(..8).unwrap_or_default())
    }
}

fn digest(text: &str) -> String {
    Sha256::digest(text).iter().fold(String::new(), |mut hex, byte| {
        // Writing to a text does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Small letters, digits and single dashes, a letter first.
fn plain(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            name.push(c.to_ascii_lowercase());
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
    }
    let name = name.trim_end_matches('-');
    if name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        name.to_owned()
    } else {
        format!("step-{name}").trim_end_matches('-').to_owned()
    }
}

fn shortened(name: &str, longest: usize, ending: &str) -> String {
    let room = longest.saturating_sub(ending.len() + 1);
    let start = name.get(..room).unwrap_or(name).trim_end_matches('-');
    format!("{start}-{ending}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(steps: &[&str]) -> Vec<String> {
        let names = tasks(steps.iter().copied());
        steps.iter().map(|step| names[step].clone()).collect()
    }

    #[test]
    fn names_stay_readable() {
        assert_eq!(names(&["load_data", "Train", "2nd"]), ["load-data", "train", "step-2nd"]);
        assert_eq!(pipeline("digits_pipeline"), "digits-pipeline");
    }

    #[test]
    fn names_that_would_meet_are_told_apart() {
        let names = names(&["a_b", "a-b", "train", "train-driver"]);
        assert!(names[0].starts_with("a-b-") && names[1].starts_with("a-b-") && names[0] != names[1]);
        assert_eq!(names[2], "train");
        assert!(names[3].starts_with("train-driver-"), "{}", names[3]);
    }

    proptest! {
        #[test]
        fn every_name_is_valid_and_unique_and_the_same_each_time(
            steps in proptest::collection::btree_set("[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", 1..40)
        ) {
            let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
            let names = tasks(steps.iter().copied());
            prop_assert_eq!(&names, &tasks(steps.iter().copied()));
            let distinct: BTreeSet<&String> = names.values().collect();
            prop_assert_eq!(distinct.len(), steps.len());
            for name in names.values() {
                prop_assert!(!OWN_ENDINGS.iter().any(|ending| name.ends_with(ending)));
            }
            for name in names.values().cloned().chain(steps.iter().map(|step| pipeline(step))) {
                prop_assert!(name.len() <= 64, "{}", name);
                prop_assert!(name.starts_with(|c: char| c.is_ascii_lowercase()), "{}", name);
                prop_assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
                prop_assert!(!name.ends_with('-') && !name.contains("--"));
            }
        }
    }
}
