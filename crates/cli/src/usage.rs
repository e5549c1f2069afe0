//! How the command line is refused.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// What is said of an option that a command does not take, in a sentence with the remedy; none for other errors.
pub(crate) fn unknown_option(error: &clap::Error) -> Option<String> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let text = |kind| match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::StyledStr(text) => Some(text.to_string()),
        _ => None,
    };
    let given = text(ContextKind::InvalidArg)?;
    let usage = text(ContextKind::Usage)?;
    // `Usage: longshore stack register [OPTIONS] <NAME>`
    let is_name = |word: &&str| !word.starts_with(['-', '<', '[']);
    let command: Vec<_> = usage.split_whitespace().skip(1).take_while(is_name).collect();
    let command = command.join(" ");
    let suggestion = text(ContextKind::SuggestedArg)
        .map_or_else(String::new, |option| format!("; did you mean `{option}`?"));
    Some(format!("`{command}` takes no `{given}`{suggestion} (`{command} --help` lists what it takes)"))
}

/// What is wrong with the value of an option, where the error says it all itself; none for other errors.
pub(crate) fn wrong_value(error: &clap::Error) -> Option<String> {
    let is_whole = error.kind() == ErrorKind::ValueValidation && error.get(ContextKind::InvalidArg).is_none();
    let text = is_whole.then(|| error.to_string())?;
    Some(text.strip_prefix("error: ")?.lines().next()?.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::Arguments;

    fn said(line: &str) -> Option<String> {
        unknown_option(&Arguments::try_parse_from(line.split(' ')).unwrap_err())
    }

    #[test]
    fn an_unknown_option_is_answered_with_the_one_that_is_meant() {
        assert_eq!(
            said("longshore container-registry register x --flavor=default --urii=gcr.io/p").as_deref(),
            Some(
                "`longshore container-registry register` takes no `--urii`; did you mean `--uri`? (`longshore \
                 container-registry register --help` lists what it takes)"
            )
        );
        assert_eq!(
            said("longshore stack list --colour").as_deref(),
            Some(
                "`longshore stack list` takes no `--colour` (`longshore stack list --help` lists what it takes)"
            )
        );
        assert_eq!(said("longshore stack describe a b").unwrap().find("takes no `b`"), Some(27));
    }

    #[test]
    fn other_errors_are_left_to_say_themselves() {
        assert_eq!(said("longshore stack rename a"), None);
    }

    #[test]
    fn a_wrong_value_is_a_sentence() {
        let error = |line: &str| Arguments::try_parse_from(line.split(' ')).unwrap_err();
        assert_eq!(
            wrong_value(&error("longshore build --tag a --layers many")).as_deref(),
            Some("DockerSettings: `layers` must be a number from 1 to 65535, not \"many\"")
        );
        assert_eq!(wrong_value(&error("longshore build --tag a --fail-if-moved many")), None);
    }
}
