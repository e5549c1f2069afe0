//! Settings: what the image of a pipeline or of a step consists of.

mod docker;
mod error;
mod field;
mod file;
mod levels;
mod page;
mod tree;
mod value;
mod written;

pub use docker::DockerSettings;
pub use error::SettingsError;
pub use field::{Field, Kind, Section};
pub use file::{PipelineSettings, SETTINGS_FILES, SettingsFile, SettingsFileError, StepSettings};
pub use levels::LevelsError;
pub use page::settings_page;
pub use value::{
    BuildStrategy, Compression, IndexUrl, IndexUrlError, Lazy, Platforms, PlatformsError, Requirements,
    SecretSource, SecretSourceError,
};
pub use written::{OverrideError, Overrides};
