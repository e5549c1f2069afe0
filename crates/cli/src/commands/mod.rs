//! What each command does: it gathers what it needs, lets the crates below do it, and prints.

pub(crate) mod build;
pub(crate) mod cache;
pub(crate) mod cluster;
pub(crate) mod component;
pub(crate) mod connector;
pub(crate) mod container;
pub(crate) mod copy;
pub(crate) mod doctor;
pub(crate) mod image;
pub(crate) mod images;
pub(crate) mod integration;
pub(crate) mod lock;
pub(crate) mod preflight;
pub(crate) mod registry;
pub(crate) mod run;
pub(crate) mod sbom;
pub(crate) mod settings;
pub(crate) mod stack;
