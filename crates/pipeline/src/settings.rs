//! Settings: what the image of a pipeline or of a step consists of.

mod docker;
mod error;
mod field;
mod value;

pub use docker::DockerSettings;
pub use error::SettingsError;
pub use field::{Field, Kind, Section};
pub use value::{
    BuildStrategy, Compression, IndexUrl, IndexUrlError, Lazy, Platforms, PlatformsError, Requirements,
    SecretSource, SecretSourceError,
};
