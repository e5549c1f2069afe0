//! Options may be written with `_` or `-`: `--auth_method` is `--auth-method`.

use std::ffi::{OsStr, OsString};

use clap::{Arg, Command};

/// The arguments with the options that `command` knows spelled as it knows them. Values stay as they are, and so does
/// what it does not know.
pub(crate) fn normalise(command: &Command, arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments = arguments.into_iter();
    let mut normalised: Vec<OsString> = arguments.next().into_iter().collect();
    let mut path = vec![command];
    while let Some(argument) = arguments.next() {
        let Some(current) = path.last() else { break };
        if argument == "--" {
            normalised.push(argument);
            break;
        }
        if let Some(option) = argument.to_str().and_then(|text| text.strip_prefix("--")) {
            let (name, value) =
                option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
            let dashed = name.replace('_', "-");
            if let Some(known) = find(&path, &dashed) {
                let spelled = match value {
                    Some(value) => format!("--{dashed}={value}"),
                    None => format!("--{dashed}"),
                };
                normalised.push(spelled.into());
                if value.is_none() && takes_value(known) {
                    normalised.extend(arguments.next());
                }
                continue;
            }
        } else if is_short_with_value(&path, &argument) {
            normalised.push(argument);
            normalised.extend(arguments.next());
            continue;
        } else if let Some(inner) = argument.to_str().and_then(|name| current.find_subcommand(name)) {
            path.push(inner);
        } else if !argument.to_string_lossy().starts_with('-') && runs_other_programs(current) {
            // The rest is another program's.
            normalised.push(argument);
            break;
        }
        normalised.push(argument);
    }
    normalised.extend(arguments);
    normalised
}

/// The option of that name of the innermost command, or of those around it that give theirs to all.
fn find<'a>(path: &[&'a Command], name: &str) -> Option<&'a Arg> {
    options(path).find(|option| option.get_long() == Some(name))
}

fn options<'a>(path: &[&'a Command]) -> impl Iterator<Item = &'a Arg> {
    let innermost = path.len() - 1;
    path.iter().enumerate().flat_map(move |(depth, command)| {
        command.get_arguments().filter(move |option| depth == innermost || option.is_global_set())
    })
}

fn takes_value(option: &Arg) -> bool {
    option.get_action().takes_values() && option.get_num_args().is_none_or(|number| number.min_values() > 0)
}

/// `-p` where `-p VALUE` is meant; not `-pVALUE` nor `-p=VALUE`.
fn is_short_with_value(path: &[&Command], argument: &OsStr) -> bool {
    let mut characters =
        argument.to_str().and_then(|text| text.strip_prefix('-')).unwrap_or_default().chars();
    match (characters.next(), characters.next()) {
        (Some(short), None) => {
            options(path).any(|option| option.get_short() == Some(short) && takes_value(option))
        }
        _ => false,
    }
}

fn runs_other_programs(command: &Command) -> bool {
    command.get_positionals().any(Arg::is_trailing_var_arg_set)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::args::Arguments;

    fn normalised(line: &str) -> String {
        let command = Arguments::command();
        let arguments = normalise(&command, line.split(' ').map(OsString::from));
        arguments.iter().map(|argument| argument.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn names_of_options_are_spelled_with_dashes_and_values_stay() {
        let cases = [
            (
                "longshore service-connector register c --type gcp --auth_method=service-account --service_account_json=@/a_b",
                "longshore service-connector register c --type gcp --auth-method=service-account --service-account-json=@/a_b",
            ),
            (
                "longshore service-connector register c_d --type docker --username my_name --password --my_pass_word",
                "longshore service-connector register c_d --type docker --username my_name --password --my_pass_word",
            ),
            (
                "longshore service-connector register c -t docker --no_verify --password=a_b=c_d",
                "longshore service-connector register c -t docker --no-verify --password=a_b=c_d",
            ),
            ("longshore run --dry_run --spec a_b.json", "longshore run --dry-run --spec a_b.json"),
            // What is not known is shown as it was written.
            (
                "longshore container-registry list --no_such_thing",
                "longshore container-registry list --no_such_thing",
            ),
            ("longshore build -- --dry_run", "longshore build -- --dry_run"),
            ("longshore image run img:1 prog --dry_run", "longshore image run img:1 prog --dry_run"),
            ("longshore stack register s -o --x_y", "longshore stack register s -o --x_y"),
        ];
        for (line, expected) in cases {
            assert_eq!(normalised(line), expected);
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }
}
