//! The OCI distribution server (distribution specification 1.1) over a [`Registry`](longshore_store::Registry) on disk.
//!
//! It holds no state that matters: several servers, and programs that use the folder directly, may work on the same
//! registry at once. There is no authentication yet, so it listens on loopback addresses only unless told otherwise.
#![forbid(unsafe_code)]

mod api;
mod blobs;
mod error;
mod listing;
mod manifests;
mod range;
mod referrers;
mod route;
mod server;
mod sessions;
mod uploads;

pub use api::router;
pub use error::RegistryError;
pub use server::{Exposure, ServeConfig, Server, serve};
