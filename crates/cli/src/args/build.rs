//! The arguments of `longshore build`, and settings on the command line.

use std::path::{Path, PathBuf};

use clap::{
    Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches, builder::PossibleValuesParser,
    error::ErrorKind,
};
use longshore_pipeline::{DockerSettings, Field, Kind, Section};

use super::{OutputFormat, bytes::ByteCount, sbom::SbomChoice};

#[derive(Debug, Args)]
pub(crate) struct BuildArguments {
    /// The folder of code
    #[arg(default_value = ".", value_name = "FOLDER")]
    pub(crate) source: PathBuf,
    /// The image's name in the embedded registry, with a tag if it should not be the time of the build
    /// [default: the settings' target_repository and image_tag]
    #[arg(short, long, value_name = "NAME[:TAG]", conflicts_with_all = ["target_repository", "image_tag"])]
    pub(crate) tag: Option<String>,
    /// Where settings come from beside the command line
    #[command(flatten)]
    pub(crate) config: ConfigChoice,
    /// A lock to install exactly, without resolving: pylock.toml as `longshore image lock` prints it, or any lock file
    #[arg(long, value_name = "LOCKFILE")]
    pub(crate) locked: Option<PathBuf>,
    /// Ask again for the newest packages that the requirements allow, and for Debian's updates
    #[arg(long, env = "LONGSHORE_UPGRADE", value_parser = clap::builder::BoolishValueParser::new(), num_args = 0, default_missing_value = "true", default_value_t)]
    pub(crate) upgrade: bool,
    /// Which images get a bill of materials beside them
    #[command(flatten)]
    pub(crate) sbom: SbomChoice,
    /// Print the layers and, for each, why it would be made or not, and build nothing
    #[arg(long)]
    pub(crate) explain: bool,
    /// Print what would be built, and what would be moved from where to where, and do neither
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Fail, with nothing moved, if the build would download and push more than so many bytes, e.g. 100kB or 1MiB
    #[arg(long, value_name = "BYTES")]
    pub(crate) fail_if_moved: Option<ByteCount>,
    /// How to print the result
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: OutputFormat,
    /// The settings of the image
    #[command(flatten)]
    pub(crate) settings: DockerArguments,
}

/// Which file settings are read from.
#[derive(Debug, Args)]
pub(crate) struct ConfigChoice {
    /// The file of settings [default: longshore.toml, longshore.yaml or pyproject.toml of the code's folder or one around
    /// it]
    #[arg(long, env = "LONGSHORE_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// Settings given as options: one for each field of [`DockerSettings`], by the table of fields.
#[derive(Clone, Debug, Default)]
pub(crate) struct DockerArguments {
    /// What was given.
    pub(crate) given: DockerSettings,
}

impl DockerArguments {
    /// The settings that were given, with paths relative to the working directory.
    pub(crate) fn settings(&self, folder: &Path) -> DockerSettings {
        self.given.clone().below(folder)
    }
}

/// One requirement, in the place of a file of them.
const REQUIREMENT: &str = "requirement";
/// `--compile-bytecode=false`, by an older name.
const NO_BYTECODE: &str = "no_bytecode";

/// A second name for an option, shorter or for one of its values.
fn alias(field: &str) -> Option<&'static str> {
    Some(match field {
        "parent_image" => "parent",
        "apt_packages" => "apt",
        "environment" => "env",
        "runtime_environment" => "runtime-env",
        "extras" => "extra",
        "groups" => "group",
        "indexes" => "index",
        "secrets" => "secret",
        "labels" => "label",
        "replicate_local_python_environment" => "replicate",
        _ => return None,
    })
}

/// What stands for the value of a field in help texts.
fn value_name(field: &Field) -> &'static str {
    match (field.name, field.kind) {
        ("parent_image", _) => "IMAGE",
        ("apt_packages", _) => "PACKAGE",
        ("target_repository" | "extras" | "groups", _) => "NAME",
        ("image_tag", _) => "TAG",
        ("user", _) => "USER",
        ("indexes", _) => "NAME=URL",
        ("secrets", _) => "NAME=SOURCE",
        ("allow_secrets", _) => "PATH",
        ("platform", _) => "PLATFORM",
        (_, Kind::Path | Kind::ListOrPath) => "FILE",
        (_, Kind::Number) => "NUMBER",
        (_, Kind::Bool) => "BOOL",
        (_, Kind::Map) => "NAME=VALUE",
        (_, Kind::Word(_)) => "WORD",
        (_, Kind::Text | Kind::List | Kind::TextOrList) => "TEXT",
    }
}

/// The first sentence of a field's documentation.
fn help(field: &Field) -> String {
    let what = field.summary();
    if matches!(field.kind, Kind::List | Kind::TextOrList | Kind::Map) {
        format!("{what} (may be given several times)")
    } else {
        what
    }
}

fn argument(field: &'static Field) -> Arg {
    let mut argument = Arg::new(field.name)
        .long(field.name.replace('_', "-"))
        .visible_aliases(alias(field.name))
        .help(help(field))
        .help_heading(field.section.title())
        .value_name(value_name(field));
    argument = match field.kind {
        Kind::Bool => argument
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_parser(PossibleValuesParser::new(["true", "false"]))
            .hide_possible_values(true),
        Kind::Word(words) => argument.value_parser(PossibleValuesParser::new(words)),
        Kind::List | Kind::TextOrList | Kind::Map => argument.action(ArgAction::Append),
        Kind::Text | Kind::Path | Kind::Number | Kind::ListOrPath => argument,
    };
    match field.name {
        "environment" => argument.short('e'),
        "requirements" => argument.help("The path of a requirements file").conflicts_with(REQUIREMENT),
        "compile_bytecode" => argument.conflicts_with(NO_BYTECODE),
        _ => argument,
    }
}

impl Args for DockerArguments {
    fn augment_args(command: Command) -> Command {
        let command = DockerSettings::FIELDS.iter().map(argument).fold(command, Command::arg);
        command
            .arg(
                Arg::new(REQUIREMENT)
                    .short('r')
                    .long("requirement")
                    .help("A Python package, e.g. pandas==2.2.3 (may be given several times)")
                    .help_heading(Section::Packages.title())
                    .value_name("REQUIREMENT")
                    .action(ArgAction::Append),
            )
            .arg(
                Arg::new(NO_BYTECODE)
                    .long("no-bytecode")
                    .help("--compile-bytecode=false: a smaller image whose first imports are slow")
                    .help_heading(Section::Code.title())
                    .action(ArgAction::SetTrue),
            )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for DockerArguments {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut given = DockerSettings::default();
        let mut set = |field: &str, texts: &[&String]| {
            let settings = DockerSettings::written(field, texts)
                .map_err(|error| Error::raw(ErrorKind::ValueValidation, format!("{error}\n")))?;
            given = settings.over(&given);
            Ok::<_, Error>(())
        };
        for field in DockerSettings::FIELDS {
            if let Some(texts) = matches.get_many::<String>(field.name) {
                set(field.name, &texts.collect::<Vec<_>>())?;
            }
        }
        if let Some(texts) = matches.get_many::<String>(REQUIREMENT) {
            given.requirements = Some(longshore_pipeline::Requirements::List(texts.cloned().collect()));
        }
        if matches.get_flag(NO_BYTECODE) {
            given.compile_bytecode = Some(false);
        }
        Ok(Self { given })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;
    use crate::args::{Arguments, Command as Asked};

    fn parse(line: &str) -> Result<serde_json::Value, Error> {
        let words = ["longshore", "build", "--tag", "a"].into_iter().chain(line.split_whitespace());
        match Arguments::try_parse_from(words)?.command {
            Asked::Build(build) => Ok(serde_json::to_value(build.settings.given).unwrap()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_field_has_an_option() {
        let line = "--parent a:1 --apt git --apt curl --skip-build -r b --lock uv.lock --pyproject p.toml --extra x \
                    --group y --replicate --ignore-parent-packages --index mine=https://packages.example.com/simple --secret mine=env:TOKEN \
                    --allow-secrets g --no-bytecode -e D=d --env E=e=e --runtime-env R=r --user e --label l=m \
                    --platform linux/arm64 --platform linux/amd64 --layers 20 --compression zstd --lazy estargz \
                    --prevent-build-reuse --build-strategy local";
        let expected = json!({
            "parent_image": "a:1", "apt_packages": ["git", "curl"], "skip_build": true, "requirements": ["b"],
            "lock": "uv.lock", "pyproject": "p.toml", "extras": ["x"], "groups": ["y"],
            "replicate_local_python_environment": true, "ignore_parent_packages": true,
            "indexes": {"mine": "https://packages.example.com/simple"}, "secrets": {"mine": "env:TOKEN"},
            "allow_secrets": ["g"], "compile_bytecode": false, "environment": {"D": "d", "E": "e=e"},
            "runtime_environment": {"R": "r"}, "user": "e", "labels": {"l": "m"},
            "platform": ["linux/arm64", "linux/amd64"], "layers": 20, "compression": "zstd", "lazy": "estargz",
            "prevent_build_reuse": true, "build_strategy": "local",
        });
        assert_eq!(parse(line).unwrap(), expected);
        // The two that --tag is for have their own too.
        let named = "longshore build --target-repository r --image-tag t";
        let named = Arguments::try_parse_from(named.split(' ')).unwrap();
        let Asked::Build(named) = named.command else { panic!("{named:?}") };
        let named = serde_json::to_value(named.settings.given).unwrap();
        assert_eq!(named, json!({"target_repository": "r", "image_tag": "t"}));
        let fields = expected.as_object().unwrap().len() + named.as_object().unwrap().len();
        assert_eq!(fields, DockerSettings::FIELDS.len());
    }

    #[test]
    fn the_help_lists_the_options_by_what_they_are_about_in_80_columns() {
        use clap::CommandFactory;
        let mut command = Arguments::command();
        let mut build = command.find_subcommand_mut("build").unwrap().clone().term_width(80);
        let help = build.render_help().to_string();
        let mut rest = help.as_str();
        for section in Section::ALL {
            let heading = format!("\n{}:\n", section.title());
            rest = rest
                .split_once(heading.as_str())
                .unwrap_or_else(|| panic!("no {heading} in order: {help}"))
                .1;
        }
        assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
        for field in DockerSettings::FIELDS {
            assert!(help.contains(&format!("--{}", field.name.replace('_', "-"))), "{help}");
        }
    }

    #[test]
    fn nothing_given_sets_nothing() {
        assert_eq!(parse("").unwrap(), json!({}));
        assert_eq!(parse("--compile-bytecode").unwrap(), json!({"compile_bytecode": true}));
        assert_eq!(parse("--compile-bytecode=false .").unwrap(), json!({"compile_bytecode": false}));
        assert_eq!(parse("--requirements r.txt").unwrap(), json!({"requirements": "r.txt"}));
    }

    #[test]
    fn a_wrong_value_is_refused_with_its_field() {
        let error = parse("--layers few").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ValueValidation);
        assert!(
            error.to_string().contains("`layers` must be a number from 1 to 65535, not \"few\""),
            "{error}"
        );
        assert!(parse("--user a --requirements r.txt -r pandas").is_err());
    }
}
