//! scaffolding
#![forbid(unsafe_code)]
mod apt_conf;
pub mod control;
mod error;
pub mod index;
pub mod relation;
pub mod resolve;
pub mod signature;
pub mod sources;
pub mod version;
pub use error::Error;
