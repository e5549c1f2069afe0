//! The vocabulary of container images: digests, references, media types, descriptors, manifests,
//! image configurations and platforms, after the OCI image and distribution specifications.
//!
//! Everything here is a pure value: no file, no socket, no clock. The types serialise with their
//! maps sorted, so that the same value always gives the same bytes and so the same digest; that is
//! why they are our own and not the `oci-spec` crate's, whose maps have no order (its types serve
//! as the oracle in the tests).
#![forbid(unsafe_code)]

mod config;
mod digest;
mod manifest;
mod media_type;
mod platform;
mod reference;

pub use config::{History, ImageConfig, Process, RootFs};
pub use digest::{Digest, DigestError, Digester};
pub use manifest::{Descriptor, Index, Manifest, ManifestError, annotation};
pub use media_type::MediaType;
pub use platform::{Arch, Platform, PlatformError};
pub use reference::{Reference, ReferenceError, Repository, Tag};
