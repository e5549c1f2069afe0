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

mod builder;
mod bytecode;
mod claim;
mod code;
mod container;
mod debian;
mod deliver;
mod elsewhere;
mod error;
mod event;
mod examine;
mod image;
mod layer;
mod lock;
mod parent;
mod plan;
mod runtime;
mod sbom;
mod shared;
pub mod source;
mod stored;
mod used;
mod wheels;
mod work;

pub use builder::{Builder, BuilderParts, Built, Request, Upgrade};
pub use container::Images;
pub use error::BuildError;
pub use event::{Event, ImageReport, LayerReport, LayerTitle, Observer, Origin, ParentReport};
pub use layer::LayerRecord;
pub use parent::read as read_image;
pub use plan::{Plan, PlannedLayer, PlannedParent};
pub use sbom::Sbom;
pub use stored::{BlobSink, RegistrySink, StoredImage};
