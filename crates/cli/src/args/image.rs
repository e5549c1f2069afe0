//! The commands that look into images and edit them.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use longshore_oci::Platform;

use super::OutputFormat;

/// What the size of an image is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    /// Layers
    Layer,
    /// Python and Debian packages
    Package,
    /// Directories
    Directory,
    /// What need not be in the image
    Saving,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArguments {
    /// The image: a name, or the digest of one that was built on this machine
    pub(crate) image: String,
    /// Show the size by this alone; packages, directories and savings are found by reading the layers, once
    #[arg(long, value_enum)]
    pub(crate) by: Option<By>,
    /// Of an image for several platforms, look at the one for this, e.g. linux/arm64
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<Platform>,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: OutputFormat,
}

#[derive(Debug, Args)]
pub(crate) struct RebaseArguments {
    /// The image: a name, or the digest of one that was built on this machine
    pub(crate) image: String,
    /// The image that is to be below its layers
    #[arg(long, value_name = "PARENT")]
    pub(crate) onto: String,
    /// The image that it was built on [default: what its annotations say]
    #[arg(long, value_name = "PARENT")]
    pub(crate) from: Option<String>,
    /// The name of the result [default: the image's own, which moves]
    #[arg(short, long, value_name = "NAME[:TAG]")]
    pub(crate) tag: Option<String>,
    /// How to print the result
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: OutputFormat,
}

#[derive(Debug, Args)]
pub(crate) struct PatchArguments {
    /// The image: a name, or the digest of one that was built on this machine
    pub(crate) image: String,
    /// The version to put in: NAME==VERSION, or the path of a wheel
    #[arg(long, value_name = "WHEEL")]
    pub(crate) wheel: String,
    /// The name of the result [default: the image's own, which moves]
    #[arg(short, long, value_name = "NAME[:TAG]")]
    pub(crate) tag: Option<String>,
    /// How to print the result
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: OutputFormat,
}

#[derive(Debug, Args)]
pub(crate) struct RebuildArguments {
    /// The image: a name, or the digest of one that was built on this machine
    #[arg(value_name = "IMAGE|DIGEST")]
    pub(crate) image: String,
    /// The folder of the code that it was built from [default: the image's own layer of code is taken]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) source: Option<PathBuf>,
    /// How to print the result
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: OutputFormat,
}
