//! The native builder: from settings and code to an image in the registry, with no daemon and no root.
//!
//! ```text
//! Request ──plan──▶ Plan ──execute──▶ Built
//! ```
//!
//! [`Builder::plan`] finds out what the image consists of (its parent, its lock, its code) and which of its
//! layers exist already; the [`Plan`] is a value that can be printed. [`Builder::build`] makes what is missing, all
//! at once: downloads, splicing, bytecode and the parent overlap.
#![forbid(unsafe_code)]

mod apt;
mod builder;
mod bytecode;
mod claim;
mod clash;
mod code;
mod container;
mod debian;
mod deliver;
mod elsewhere;
mod error;
mod event;
mod examine;
mod history;
mod image;
mod inputs;
mod layer;
mod lock;
mod movement;
mod parent;
mod plan;
mod platforms;
mod runtime;
mod sbom;
mod sdist;
mod shared;
pub mod source;
mod stored;
mod used;
mod wheels;
mod work;

pub use builder::{Builder, BuilderParts, Built, Request, Upgrade};
pub use container::Images;
pub use error::BuildError;
pub use event::{AptReport, Event, ImageReport, LayerReport, LayerTitle, Observer, Origin, ParentReport};
pub use history::{PackageChange, Why};
pub use layer::{LayerRecord, Packing};
pub use longshore_debian::addition::Way as AptWay;
pub use movement::{BytePlan, Movement, Way};
pub use parent::read as read_image;
pub use plan::{LayerSlot, Plan, PlannedLayer, PlannedParent};
pub use platforms::PlatformImage;
pub use sbom::Sbom;
pub use stored::{BlobSink, RegistrySink, StoredImage};
