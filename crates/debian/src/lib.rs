//! A minimal parent image from Debian packages: for machines that have no registry to pull one from.
//!
//! [`plan`] reads the signed indexes of the archives that this machine's apt uses (or of those in the settings) and chooses
//! packages; [`fetch`] downloads them; [`assemble`] makes layers of them. A [`ParentPlan`] is a lock: with it, the last two
//! steps give the same bytes again, on every machine. Nothing needs root, and nothing of the packages is run, so that an
//! image for arm64 is made on amd64 like any other.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use longshore_debian::{ParentRequest, Sources, assemble, fetch, plan};
//! use longshore_layer::Format;
//! # let (fetcher, blobs, table): (longshore_fetch::Fetcher, longshore_store::BlobStore, longshore_store::Table) = todo!();
//! let request = ParentRequest::python(longshore_oci::Arch::Amd64, Sources::from_system()?);
//! let plan = plan(&request, &fetcher, &blobs, &table, &|_| ()).await?;
//! fetch(&plan, &fetcher, &blobs, &|_| ()).await?;
//! let parent = assemble(&plan, Format::Plain, &blobs, &blobs, &|_| ())?;
//! # Ok(()) }
//! ```
//!
//! What is trusted: the keyrings on this machine. They sign `InRelease`, which has the digests of the indexes, which have those
//! of the packages. All that comes from the network is treated as hostile until its digest is right, and as badly made after.
#![forbid(unsafe_code)]

pub mod addition;
mod apt_conf;
pub mod control;
pub mod deb;
mod error;
mod event;
mod image;
pub mod index;
mod plan;
mod planner;
pub mod relation;
pub mod release;
pub mod resolve;
pub mod signature;
pub mod sources;
mod suite;
pub mod version;

pub use error::Error;
pub use event::{Event, Progress};
pub use image::{Parent, ParentLayer, PythonSource, assemble};
pub use plan::{
    Distribution, Group, LAYOUT_VERSION, LockedPackage, LockedSuite, PYTHON_ROOTS, ParentPlan, ParentRequest,
    Python,
};
pub use planner::{fetch, plan};
pub use sources::Sources;
