//! The command line.

pub(crate) mod build;
pub(crate) mod bytes;
pub(crate) mod cache;
pub(crate) mod component;
pub(crate) mod connector;
pub(crate) mod image;
pub(crate) mod run;
pub(crate) mod sbom;
pub(crate) mod schedule;
pub(crate) mod stack;
mod values;

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use longshore_oci::Platform;

use self::{
    build::BuildArguments,
    cache::CacheCommand,
    component::{
        Builders, ConnectedComponentCommand, Orchestrators, PlainComponentCommand, Registries, Stores,
    },
    connector::ConnectorCommand,
    image::{InspectArguments, PatchArguments, RebaseArguments, RebuildArguments},
    run::RunCommandLine,
    sbom::SbomArguments,
    schedule::ScheduleCommand,
    stack::{IntegrationCommand, StackCommand},
};

/// From a Python pipeline to a running container.
#[derive(Debug, Parser)]
#[command(name = "longshore", version, propagate_version = true, arg_required_else_help = true)]
#[command(
    after_help = "Data is kept in $LONGSHORE_HOME, or else in the XDG folders (~/.local/share/longshore and \
~/.cache/longshore).\nLONGSHORE_LOG=debug, or --verbose, tells what is asked of registries and clouds.\n\
Exit codes: 0 done, 1 failed, 2 wrong usage."
)]
pub(crate) struct Arguments {
    /// Tell in detail what is done; $LONGSHORE_LOG chooses more finely (warn, info, debug, longshore_client=trace, …)
    #[arg(long, global = true)]
    pub(crate) verbose: bool,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a pipeline (the Python package calls this), and look at runs
    Run(RunCommandLine),
    /// List and delete schedules: pipelines that run by themselves
    #[command(subcommand)]
    Schedule(ScheduleCommand),
    /// Build an image from a folder of code and requirements
    Build(Box<BuildArguments>),
    /// Look at, copy, export and run images
    #[command(subcommand)]
    Image(ImageCommand),
    /// Serve the embedded registry to docker, skopeo, clusters, …
    #[command(subcommand)]
    Registry(RegistryCommand),
    /// Register and choose stacks: what runs pipelines and where their images and outputs go
    #[command(subcommand)]
    Stack(StackCommand),
    /// Register container registries: where images are kept
    #[command(subcommand)]
    ContainerRegistry(ConnectedComponentCommand<Registries>),
    /// Register service connectors: the credentials of registries and clouds
    #[command(subcommand)]
    ServiceConnector(ConnectorCommand),
    /// Register orchestrators: what runs the steps
    #[command(subcommand)]
    Orchestrator(ConnectedComponentCommand<Orchestrators>),
    /// Register image builders
    #[command(subcommand)]
    ImageBuilder(PlainComponentCommand<Builders>),
    /// Register artifact stores: where the steps' outputs are kept
    #[command(subcommand)]
    ArtifactStore(ConnectedComponentCommand<Stores>),
    /// Look at integrations and what they need from outside
    #[command(subcommand)]
    Integration(IntegrationCommand),
    /// Look at the caches of this machine, and make them smaller
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Check this machine, the registered registries, connectors and stacks, and say what mends what is wrong
    Doctor(DoctorArguments),
    /// Look after a run, in the cluster that runs it
    #[command(hide = true, subcommand)]
    Cluster(ClusterCommand),
    /// List the settings of images
    #[command(hide = true)]
    Settings {
        /// How to list them: docs/settings.md is the Markdown
        #[arg(value_enum)]
        form: SettingsForm,
    },
    /// Print a completion script for a shell
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArguments {
    /// A registry's host, or a repository, to check instead of all that is registered (may be given several times)
    #[arg(value_name = "REGISTRY")]
    pub(crate) registries: Vec<String>,
    /// How to print what was found
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: OutputFormat,
}

/// What runs containers on this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    /// longshore itself
    #[default]
    Native,
    /// Docker
    Docker,
    /// Podman
    Podman,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// List the images in the embedded registry
    List {
        /// How to print them
        #[arg(short, long, value_enum, default_value_t)]
        output: OutputFormat,
    },
    /// Show what an image consists of: configuration, layers, packages, directories, and what would make it smaller
    Inspect(InspectArguments),
    /// Put an image onto another parent: its manifest is edited, its own layers stay
    Rebase(RebaseArguments),
    /// Replace one wheel in an image: all other layers stay
    Patch(PatchArguments),
    /// Make an image again from the record of its build, and compare
    Rebuild(RebuildArguments),
    /// Print the lock of an image that was built here, as pylock.toml (PEP 751)
    Lock {
        /// The image: a name, or the digest of one that was built on this machine
        image: String,
    },
    /// Copy an image from one registry to another; names without a host are in the embedded registry
    Copy(CopyArguments),
    /// Write an image to a file that other tools read
    Export {
        /// The image: a name, or the digest of one that was built on this machine
        image: String,
        /// The kind of archive
        #[arg(long, value_enum, default_value_t)]
        format: ArchiveFormat,
        /// The file to write, or - for standard output
        #[arg(short = 'f', long = "file", value_name = "FILE")]
        file: PathBuf,
    },
    /// Print an image's bill of materials (SBOM): the one that is attached to it, else one made from its layers
    Sbom(SbomArguments),
    /// Run a command in a container of an image, with this terminal
    Run(ContainerArguments),
}

#[derive(Debug, Args)]
pub(crate) struct CopyArguments {
    /// The image, e.g. docker.io/library/python:3.12-slim
    #[arg(value_name = "FROM")]
    pub(crate) source: String,
    /// Where it goes, with the tag that it gets there, e.g. python:3.12-slim
    #[arg(value_name = "TO")]
    pub(crate) destination: String,
    /// Of an image for several platforms, copy only the one for this, e.g. linux/arm64
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<Platform>,
    /// How to print the result
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: OutputFormat,
}

#[derive(Debug, Args)]
pub(crate) struct ContainerArguments {
    /// The image: a name, or the digest of one that was built on this machine
    pub(crate) image: String,
    /// Make a folder of this machine visible in the container, read-only unless :rw follows
    #[arg(short, long = "volume", value_name = "HOST:CONTAINER[:rw]")]
    pub(crate) volumes: Vec<String>,
    /// Set an environment variable
    #[arg(short, long = "env", value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// The command, instead of the image's own
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

/// The kinds of image archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ArchiveFormat {
    /// An OCI image layout in a tar file: skopeo's oci-archive
    #[default]
    Oci,
    /// What docker load and podman load read
    Docker,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RegistryCommand {
    /// Serve until interrupted
    Serve {
        /// The address to listen on. There is no authentication yet: others than loopback need --insecure-anyone
        #[arg(long, default_value = "127.0.0.1:5000", value_name = "ADDRESS:PORT")]
        listen: SocketAddr,
        /// Let everyone who reaches the address read, write and delete images
        #[arg(long)]
        insecure_anyone: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Look after the run of a plan until it ends
    Run {
        /// The plan, as longshore has put it into the pod
        #[arg(long, value_name = "FILE")]
        plan: PathBuf,
    },
}

/// How the settings of images are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SettingsForm {
    /// A page
    Markdown,
    /// For programs
    Json,
}

/// How a command prints its result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people
    #[default]
    Table,
    /// For programs
    Json,
    /// For programs, and people who prefer it
    Yaml,
}

/// How a command prints its result for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DataFormat {
    /// Indented JSON.
    Json,
    /// YAML.
    Yaml,
}

impl OutputFormat {
    /// The format for programs, if it is one.
    pub(crate) const fn data(self) -> Option<DataFormat> {
        match self {
            Self::Table => None,
            Self::Json => Some(DataFormat::Json),
            Self::Yaml => Some(DataFormat::Yaml),
        }
    }
}
