//! What a pipeline is: its steps, how they depend on each other, and the settings of their images.
//!
//! The SDK writes a [`PipelineSpec`] as JSON (`docs/pipeline-spec.md`) and hands it to `longshore run`.
//! Everything here is a pure value; reading a spec checks it, so that what holds a spec can rely on it.
#![forbid(unsafe_code)]

mod cron;
mod name;
mod resources;
mod settings;
mod spec;

pub use cron::{Cron, CronError, CronField};
pub use name::repository_component;
pub use resources::{Cpu, Memory, MemoryError, Resources, ResourcesError};
pub use settings::{
    BuildStrategy, Compression, DockerSettings, Field, IndexUrl, IndexUrlError, Kind, Lazy, LevelsError,
    OverrideError, Overrides, PipelineSettings, Platforms, PlatformsError, Requirements, SETTINGS_FILES,
    SecretSource, SecretSourceError, Section, SettingsError, SettingsFile, SettingsFileError, StepSettings,
    settings_page,
};
pub use spec::{
    Caching, ClientPython, ImagePlan, OutputRef, PipelineSpec, Schedule, Settings, SourceRef, SpecError,
    StepSpec,
};
