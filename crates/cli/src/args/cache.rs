//! The commands that look at the caches of this machine and make them smaller.

use clap::{Args, Subcommand};
use longshore_build::cache::CacheSize;

use super::OutputFormat;

#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// Show what the caches hold; images in the embedded registry are not part of them
    Info(CacheInfoArguments),
    /// Remove what was used least recently, down to a size; images in the embedded registry stay
    Prune(PruneArguments),
    /// Hash all downloads and layers again, and remove what is damaged
    Check,
}

#[derive(Debug, Args)]
pub(crate) struct CacheInfoArguments {
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: OutputFormat,
}

#[derive(Debug, Args)]
pub(crate) struct PruneArguments {
    /// The size that may be left, e.g. 20GB, 500MB, 0 [default: $LONGSHORE_CACHE_SIZE, else 20GB]
    #[arg(long, value_name = "SIZE")]
    pub(crate) max_size: Option<CacheSize>,
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// How to print the result
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: OutputFormat,
}
