//! The registry client: challenges, blobs, manifests, tags, referrers, mounts, and registries' quirks.
//!
//! [`Client`] speaks the OCI distribution protocol with one registry at a time; [`push()`], [`pull()`] and [`copy()`] move
//! whole images with it. What is received is hashed and compared with the digest that was asked for, manifests and
//! configurations included; what is sent is hashed while it is sent. Blobs stream: no more than a few buffers of any
//! is in memory.
//!
//! **Where credentials go.** A credential is looked up for a registry's name and sent to the place where that registry
//! is served, and to the token service that its challenge names (the protocol demands that) if that service is on the
//! same host, or is reached by HTTPS, or both it and the registry are on this machine. No other host, by redirect,
//! `Location` or `Link`, is sent an `Authorization` header.
//!
//! **Where registries may send us.** A redirect or `Location` is followed from HTTPS to HTTPS, and to an address that
//! is written as a private or loopback one only if the registry itself is at such an address.
#![forbid(unsafe_code)]

mod authorize;
mod blob;
mod capability;
mod challenge;
mod client;
mod config;
mod copy;
mod delete;
mod download;
mod error;
mod exchange;
mod image;
mod location;
mod manifest;
mod pace;
mod paging;
mod plan;
mod progress;
mod pull;
mod push;
mod quirks;
mod quota;
mod reader;
mod referrers;
mod refusal;
mod scope;
mod site;
mod token;
mod upload;
mod wire;

pub use blob::BlobPushed;
pub use client::{Client, Pong};
pub use config::ClientConfig;
pub use copy::{RemoteBlobs, copy};
pub use error::{ClientError, Result};
pub use image::{BlobSource, BlobWriter, CommitError, ImageSink, ImageSource, Verification};
pub use manifest::{FetchedManifest, Resolved};
pub use pace::Pace;
pub use progress::{BlobOutcome, Event, Observer, ignore};
pub use pull::{PullOutcome, Selection, pull};
pub use push::{PushOutcome, Pushed, push, push_manifest};
pub use quirks::{QUIRKS, Quirk};
pub use quota::Quota;
pub use referrers::Referrers;
pub use refusal::RegistryError;
