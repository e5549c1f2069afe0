//! `longshore run`, and what is done with runs.

use std::{num::NonZeroU32, path::PathBuf};

use clap::{Args, Subcommand, ValueEnum};

use super::{Engine, OutputFormat, build::ConfigChoice, bytes::ByteCount, sbom::SbomChoice};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct RunCommandLine {
    /// What is done with runs, if not running
    #[command(subcommand)]
    pub(crate) command: Option<RunCommand>,
    /// What is run, otherwise.
    #[command(flatten)]
    pub(crate) arguments: RunArguments,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub(crate) struct RunArguments {
    /// The pipeline specification: a JSON file, or - for standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) spec: Option<PathBuf>,
    /// The stack to run on [default: the active one]
    #[arg(long, env = "LONGSHORE_STACK", value_name = "NAME")]
    pub(crate) stack: Option<String>,
    /// Where settings come from beside the code
    #[command(flatten)]
    pub(crate) config: ConfigChoice,
    /// Set a field of the settings, whatever code and files say: docker.user=1000, or step.train.docker.user=1000 for one
    /// step (may be given several times; in $LONGSHORE_SET, one to a line)
    #[arg(long, env = "LONGSHORE_SET", value_name = "FIELD=VALUE", value_delimiter = '\n')]
    pub(crate) set: Vec<String>,
    /// What runs the containers
    #[arg(long, env = "LONGSHORE_ENGINE", value_enum, default_value_t)]
    pub(crate) engine: Engine,
    /// How many steps run at a time on this machine [default: what the orchestrator says; in containers, one for each
    /// processor]
    #[arg(long, env = "LONGSHORE_MAX_PARALLELISM", value_name = "NUMBER")]
    pub(crate) max_parallelism: Option<NonZeroU32>,
    /// A lock to install exactly, without resolving: pylock.toml as `longshore image lock` prints it, or any lock file
    #[arg(long, env = "LONGSHORE_LOCKED", value_name = "LOCKFILE")]
    pub(crate) locked: Option<PathBuf>,
    /// Write the run's id, image and outputs as JSON to FILE
    #[arg(long, value_name = "FILE")]
    pub(crate) result: Option<PathBuf>,
    /// Ask again for the newest packages that the requirements allow, and for Debian's updates
    #[arg(long, env = "LONGSHORE_UPGRADE", value_parser = clap::builder::BoolishValueParser::new(), num_args = 0, default_missing_value = "true", default_value_t)]
    pub(crate) upgrade: bool,
    /// Which images get a bill of materials beside them
    #[command(flatten)]
    pub(crate) sbom: SbomChoice,
    /// Return when an orchestrator elsewhere has the run, and do not wait for its end
    #[arg(long, env = "LONGSHORE_DETACH", value_parser = clap::builder::BoolishValueParser::new(), num_args = 0, default_missing_value = "true", default_value_t)]
    pub(crate) detach: bool,
    /// Build and push the images, and run nothing
    #[arg(long, conflicts_with_all = ["dry_run", "detach"])]
    pub(crate) build_only: bool,
    /// Print what would be built and run, and do neither
    #[arg(long, env = "LONGSHORE_DRY_RUN", value_parser = clap::builder::BoolishValueParser::new(), num_args = 0, default_missing_value = "true", default_value_t)]
    pub(crate) dry_run: bool,
    /// Fail, with nothing moved, if the builds would download and push more than so many bytes, e.g. 100kB or 1MiB
    #[arg(long, env = "LONGSHORE_FAIL_IF_MOVED", value_name = "BYTES")]
    pub(crate) fail_if_moved: Option<ByteCount>,
    /// How to print it: yaml and json are exactly what an orchestrator elsewhere would be given
    #[arg(short, long, env = "LONGSHORE_OUTPUT", value_enum, default_value_t)]
    pub(crate) output: OutputFormat,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RunCommand {
    /// List the newest runs
    List {
        /// How many
        #[arg(short, long, default_value_t = 20, value_name = "NUMBER")]
        number: u32,
        /// How to print them
        #[arg(short, long, value_enum, default_value_t)]
        output: OutputFormat,
    },
    /// Show a run: its steps, how far they are, and why
    Describe {
        /// The run, or how its id begins
        run: String,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t)]
        output: OutputFormat,
    },
    /// Draw a run's steps and what they wait for
    Graph {
        /// The run, or how its id begins
        run: String,
        /// How to draw it
        #[arg(long, value_enum, default_value_t)]
        format: GraphFormat,
    },
    /// Print what the steps of a run printed
    Logs {
        /// The run, or how its id begins
        run: String,
        /// The step [default: all of them]
        step: Option<String>,
        /// Wait for what is printed later, until the steps end
        #[arg(short, long)]
        follow: bool,
    },
    /// End a run; a schedule is taken away
    Cancel {
        /// The run, or how its id begins
        run: String,
    },
    /// Follow a run on an orchestrator elsewhere to its end; exits with 1 if it fails
    Wait {
        /// The run, or how its id begins
        run: String,
        /// Write the run's id, image and outputs as JSON to FILE
        #[arg(long, value_name = "FILE")]
        result: Option<PathBuf>,
    },
}

/// How a graph is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum GraphFormat {
    /// In the terminal
    #[default]
    Text,
    /// A diagram of Mermaid, for Markdown pages
    Mermaid,
    /// A picture for browsers
    Svg,
}
