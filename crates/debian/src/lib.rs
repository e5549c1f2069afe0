//! scaffolding
#![forbid(unsafe_code)]
pub mod control;
pub mod index;
pub mod relation;
pub mod resolve;
pub mod version;
