//! Names that registries accept, made from names that Python accepts.

use longshore_oci::Digest;

/// The longest component made: leaves room for a host, a namespace and a suffix in the 255 characters of a name.
const LONGEST: usize = 128;

/// A repository path component for a pipeline or step of this name: the name itself where it is one already,
/// else made valid, with a few digits of the name's digest so that two names never become one.
///
/// ```
/// use longshore_pipeline::repository_component;
/// assert_eq!(repository_component("training_pipeline"), "training_pipeline");
/// assert!(repository_component("Training__ Pipeline").starts_with("training-pipeline-"));
/// ```
pub fn repository_component(name: &str) -> String {
    let mut component = String::with_capacity(name.len());
    let mut characters = name.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            'a'..='z' | '0'..='9' => component.push(c),
            'A'..='Z' => component.push(c.to_ascii_lowercase()),
            // One separator between two alphanumerics; of a run, only a single underscore survives as it is.
            '_' if !component.is_empty()
                && !component.ends_with('-')
                && characters.peek().is_some_and(char::is_ascii_alphanumeric) =>
            {
                component.push('_');
            }
            _ if component.is_empty() || component.ends_with(['-', '_']) => {}
            _ => component.push('-'),
        }
    }
    component.truncate(LONGEST);
    let component = component.trim_end_matches(['-', '_']);
    if component == name && !name.is_empty() {
        return name.to_owned();
    }
    let digest = Digest::of(name).short();
    match component {
        "" => format!("pipeline-{}", &digest[..8]),
        some => format!("{some}-{}", &digest[..8]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_oci::Repository;
    use proptest::prelude::*;

    #[test]
    fn what_is_valid_stays() {
        for name in ["a", "my_pipeline", "train2", "a_b_c"] {
            assert_eq!(repository_component(name), name);
        }
    }

    #[test]
    fn names_that_differ_in_case_alone_stay_apart() {
        assert_ne!(repository_component("Train"), repository_component("train"));
    }

    proptest! {
        #[test]
        fn every_name_becomes_a_valid_component(name: String) {
            let component = repository_component(&name);
            let repository: Repository = format!("localhost:5000/{component}").parse().unwrap();
            prop_assert_eq!(repository.path(), component);
        }

        #[test]
        fn identifiers_become_valid_components(name in "[A-Za-z_][A-Za-z0-9_]{0,40}") {
            let component = repository_component(&name);
            let repository = format!("h.io/{component}").parse::<Repository>();
            prop_assert!(repository.is_ok());
        }
    }
}
