//! Arguments about bills of materials.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use longshore_oci::Platform;

#[derive(Debug, Args)]
pub(crate) struct SbomArguments {
    /// The image: a name, or the digest of one that was built on this machine
    pub(crate) image: String,
    /// The format
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: SbomFormat,
    /// Of an image for several platforms, the one that is meant [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<Platform>,
    /// The file to write, instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// The formats of bills of materials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum SbomFormat {
    /// CycloneDX 1.6, JSON
    #[default]
    #[value(name = "cyclonedx")]
    CycloneDx,
    /// SPDX 2.3, JSON
    Spdx,
}

/// Which images get a bill of materials beside them.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct SbomChoice {
    /// Which images get a bill of materials (SBOM) beside them
    #[arg(long = "sbom", env = "LONGSHORE_SBOM", value_enum, default_value_t, value_name = "WHICH")]
    pub(crate) which: SbomWhich,
}

/// Which images get a bill of materials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum SbomWhich {
    /// Those in the embedded registry, where it costs no request
    #[default]
    Embedded,
    /// All; in another registry it takes some requests more
    Always,
    /// None
    Never,
}

impl From<SbomChoice> for longshore_build::Sbom {
    fn from(choice: SbomChoice) -> Self {
        match choice.which {
            SbomWhich::Embedded => Self::Embedded,
            SbomWhich::Always => Self::Always,
            SbomWhich::Never => Self::Never,
        }
    }
}
