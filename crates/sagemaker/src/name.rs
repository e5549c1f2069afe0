//! Names that `SageMaker` takes.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// The longest name of a pipeline is 256; the names of its jobs are made of it.
const LONGEST_PIPELINE: usize = 128;
/// The longest name of a schedule (`Name` of `CreateSchedule`).
const LONGEST_SCHEDULE: usize = 64;
/// The longest name of a step (`StepName`).
const LONGEST_STEP: usize = 64;
const DIGITS: usize = 12;

/// The name of a pipeline: `[a-zA-Z0-9](-*[a-zA-Z0-9])*`. Underscores become dashes, which names of pipelines do not have
/// otherwise. A name that lost something ends with a part of its digest after two dashes and an `x`.
pub(crate) fn pipeline(name: &str) -> String {
    let fits = name.len() <= LONGEST_PIPELINE
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !name.starts_with('_')
        && !name.ends_with('_')
        && !name.contains("__");
    if fits {
        return name.replace('_', "-");
    }
    let kept = plain(name, '-', LONGEST_PIPELINE - DIGITS - 3);
    let kept = kept.trim_matches('-');
    format!("{}--x{}", if kept.is_empty() { "pipeline" } else { kept }, digest(name))
}

/// The name of the schedule of a pipeline, by the pipeline's name: the same, or the beginning of it and a part of its digest
/// after two dashes and a `y`.
pub(crate) fn schedule(pipeline: &str) -> String {
    if pipeline.len() <= LONGEST_SCHEDULE {
        return pipeline.to_owned();
    }
    let kept = plain(pipeline, '-', LONGEST_SCHEDULE - DIGITS - 3);
    format!("{}--y{}", kept.trim_matches('-'), digest(pipeline))
}

/// The name of a step: `[A-Za-z0-9-_]*`. A name that lost something, or that ends as if it had, ends with a part of its digest
/// after a dash.
pub(crate) fn step(name: &str) -> String {
    let digits = |end: &str| end.len() == DIGITS && end.bytes().all(|digit| digit.is_ascii_hexdigit());
    let fits = !name.is_empty()
        && name.len() <= LONGEST_STEP
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
        && !name.rsplit_once('-').is_some_and(|(_, end)| digits(end));
    if fits {
        return name.to_owned();
    }
    format!("{}-{}", plain(name, '_', LONGEST_STEP - DIGITS - 1), digest(name))
}

fn plain(name: &str, other: char, most: usize) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { other }).take(most).collect()
}

fn digest(text: &str) -> String {
    let hex = Sha256::digest(text).iter().fold(String::new(), |mut hex, byte| {
        // Writing to a text does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    hex.get(..DIGITS).unwrap_or(&hex).to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn good_names_stay() {
        assert_eq!(pipeline("digits_pipeline"), "digits-pipeline");
        assert_eq!(step("load_data"), "load_data");
        assert_eq!(step("load-data"), "load-data");
        assert_ne!(step(&step("load.data")), step("load.data"));
        assert!(pipeline("_private_").starts_with("private--x"));
    }

    fn is_pipeline(name: &str) -> bool {
        let alphanumeric = |c: char| c.is_ascii_alphanumeric();
        name.len() <= 256
            && name.starts_with(alphanumeric)
            && name.ends_with(alphanumeric)
            && name.chars().all(|c| alphanumeric(c) || c == '-')
    }

    proptest! {
        #[test]
        fn every_name_is_valid(name in ".{0,300}") {
            prop_assert!(is_pipeline(&pipeline(&name)), "{}", pipeline(&name));
            let schedule = schedule(&pipeline(&name));
            prop_assert!((1..=64).contains(&schedule.len()) && is_pipeline(&schedule), "{}", schedule);
            let step = step(&name);
            prop_assert!((1..=64).contains(&step.len()));
            prop_assert!(step.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')));
        }

        #[test]
        fn no_two_names_become_one(a in "[aé_-]{0,4}", b in "[aé_-]{0,4}") {
            prop_assert_eq!(a == b, pipeline(&a) == pipeline(&b));
            prop_assert_eq!(a == b, step(&a) == step(&b));
        }
    }
}
