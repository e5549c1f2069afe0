//! Names of DAGs and tasks: letters, digits, `_`, `-` and `.`, at most 250 (`airflow.utils.helpers.validate_key`).

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// The longest name. It is the name of a file, too, and a task's is below 250 together with the name of its DAG in some tables.
const LONGEST: usize = 120;
/// Digits of a digest: no two names of a pipeline have the same.
const DIGITS: usize = 12;

/// The name of a DAG or a task. One that had to be changed ends with a dash and a part of its digest; names that end so of
/// themselves count among them, so that none is like another's.
pub(crate) fn valid(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !name.is_empty() && name.len() <= LONGEST && name.chars().all(allowed) && !is_changed(name) {
        return name.to_owned();
    }
    let room = LONGEST - DIGITS - 1;
    let start: String = name.chars().map(|c| if allowed(c) { c } else { '_' }).take(room).collect();
    let digest = Sha256::digest(name).iter().fold(String::new(), |mut hex, byte| {
        // Writing to a text does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    format!("{start}-{}", digest.get(..DIGITS).unwrap_or(&digest))
}

/// Whether a name ends as changed ones do.
fn is_changed(name: &str) -> bool {
    name.rsplit_once('-')
        .is_some_and(|(_, end)| end.len() == DIGITS && end.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn good_names_stay() {
        assert_eq!(valid("load_data2"), "load_data2");
        assert_eq!(valid("load-data"), "load-data");
        // What another name would become.
        let changed = valid("load.data");
        assert_ne!(valid(&changed), changed);
        assert!(valid("données").starts_with("donn_es-"));
        assert_eq!(valid(&"a".repeat(300)).len(), LONGEST);
    }

    proptest! {
        #[test]
        fn every_name_is_valid_and_another_names_is_another(a in ".{0,200}", b in "[a-zé_-]{0,4}", c in "[a-zé_-]{0,4}") {
            let name = valid(&a);
            prop_assert!(!name.is_empty() && name.len() <= LONGEST);
            prop_assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')));
            prop_assert_eq!(b == c, valid(&b) == valid(&c));
        }
    }
}
