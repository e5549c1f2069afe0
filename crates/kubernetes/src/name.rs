//! Names that Kubernetes accepts, made from names that Python accepts.
//!
//! A Job's name becomes a label of its pods, so it has at most 63 characters; the CronJob controller adds `-` and eight digits
//! to a CronJob's name for each Job. From left to right:
//!
//! ```text
//! pipeline (18) - random (6) [- minutes (8)] - step (26)
//! ```

use std::collections::BTreeMap;

use longshore_oci::Digest;
use uuid::Uuid;

/// The longest name of a Job (RFC 1123 label).
pub(crate) const LONGEST: usize = 63;
/// What of it is the pipeline's.
const PIPELINE: usize = 18;
/// What of it is a step's.
const STEP: usize = 26;
/// The digits of a digest that tell two names apart that would be the same otherwise.
const SUFFIX: usize = 6;

/// A name in lower-case letters, digits and single dashes, beginning with a letter or digit and ending with one.
fn plain(name: &str) -> String {
    let mut plain = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            'a'..='z' | '0'..='9' => plain.push(c),
            'A'..='Z' => plain.push(c.to_ascii_lowercase()),
            _ if plain.is_empty() || plain.ends_with('-') => {}
            _ => plain.push('-'),
        }
    }
    plain.truncate(plain.trim_end_matches('-').len());
    plain
}

/// A name of at most `longest` characters; with some digits of its digest where it had to be cut or nothing was left.
fn fitting(name: &str, longest: usize) -> String {
    let plain = plain(name);
    if !plain.is_empty() && plain.len() <= longest { plain } else { distinct(name, longest) }
}

/// The same with the digits in any case.
fn distinct(name: &str, longest: usize) -> String {
    let digest = Digest::of(name).short();
    let suffix = &digest[..SUFFIX];
    let plain = plain(name);
    let kept = &plain[..plain.len().min(longest - SUFFIX - 1)];
    match kept.trim_end_matches('-') {
        "" => suffix.to_owned(),
        kept => format!("{kept}-{suffix}"),
    }
}

/// A pipeline's part of names, and its label.
pub(crate) fn pipeline_part(pipeline: &str) -> String {
    fitting(pipeline, PIPELINE)
}

/// A new name for a run or a schedule of a pipeline.
pub(crate) fn run_name(pipeline: &str) -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    // The low half of a version 7 UUID is random but for its first two bits (RFC 9562 §5.7).
    let (_, mut random) = Uuid::now_v7().as_u64_pair();
    let mut name = pipeline_part(pipeline);
    name.push('-');
    for _ in 0..6 {
        name.push(char::from(DIGITS[usize::try_from(random & 31).unwrap_or_default()]));
        random >>= 5;
    }
    name
}

/// The steps' parts of names, one for each, all distinct: the plain names where these are.
pub(crate) fn step_parts<'a>(steps: impl Iterator<Item = &'a str> + Clone) -> Vec<String> {
    let mut times: BTreeMap<String, u32> = BTreeMap::new();
    for step in steps.clone() {
        *times.entry(fitting(step, STEP)).or_default() += 1;
    }
    steps
        .map(|step| {
            let fitting = fitting(step, STEP);
            if times[&fitting] == 1 { fitting } else { distinct(step, STEP) }
        })
        .collect()
}

/// The name of something that belongs to a run: a step's Job, a Secret.
pub(crate) fn of_run(run: &str, part: &str) -> String {
    let name = format!("{run}-{part}");
    // Names that longshore gave to runs leave room; a run may have been named by somebody else.
    if name.len() <= LONGEST { name } else { distinct(&name, LONGEST) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn is_label(name: &str) -> bool {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !name.is_empty()
            && name.len() <= LONGEST
            && name.chars().all(inner)
            && !name.starts_with('-')
            && !name.ends_with('-')
    }

    #[test]
    fn plain_names_stay_readable() {
        assert_eq!(pipeline_part("train"), "train");
        assert_eq!(step_parts(["load_data", "train"].into_iter()), ["load-data", "train"]);
        let run = run_name("training_pipeline");
        assert!(
            run.starts_with("training-pipeline-") && run.len() == "training-pipeline-".len() + 6,
            "{run}"
        );
        assert_eq!(of_run("train-0abc12", "load-data"), "train-0abc12-load-data");
    }

    #[test]
    fn names_that_would_be_the_same_are_told_apart() {
        let parts = step_parts(["load_data", "Load_Data", "other"].into_iter());
        assert!(parts[0].starts_with("load-data-") && parts[1].starts_with("load-data-"), "{parts:?}");
        assert_ne!(parts[0], parts[1]);
        assert_eq!(parts[2], "other");
    }

    #[test]
    fn a_job_of_a_schedule_leaves_room_for_the_longest_step() {
        let run = format!("{}-29123456", run_name(&"p".repeat(200)));
        let step = step_parts([&*"s".repeat(200)].into_iter()).remove(0);
        let name = of_run(&run, &step);
        assert!(name.starts_with(&run) && name.ends_with(&step) && is_label(&name), "{name}");
    }

    proptest! {
        #[test]
        fn every_name_is_valid(pipeline: String, step: String) {
            let run = run_name(&pipeline);
            prop_assert!(is_label(&run), "{run}");
            let part = step_parts([step.as_str()].into_iter()).remove(0);
            prop_assert!(is_label(&of_run(&run, &part)));
        }

        #[test]
        fn different_steps_have_different_names(steps in proptest::collection::btree_set("[A-Za-z_.-]{1,40}", 1..20)) {
            let parts = step_parts(steps.iter().map(String::as_str));
            prop_assert_eq!(parts.iter().collect::<BTreeSet<_>>().len(), steps.len());
        }
    }
}
