//! Python requirements to image layers: `uv` resolves, and wheels become layers without being
//! unpacked, recompressed or installed.
//!
//! ```text
//! Requirements + Target ──uv──▶ Lock ──plan──▶ WheelLayer … ──layers──▶ layer, bytecode layer
//! ```
//!
//! Planning is pure: [`lock`] parses, [`plan`] divides, [`install`] says which path of the virtual
//! environment holds which bytes. Only [`uv`] starts the resolver, only [`layers`] and [`bytecode`]
//! read wheels, and all they know of the world is what they are handed.
#![forbid(unsafe_code)]

pub mod bytecode;
pub mod distribution;
pub mod entry_points;
mod error;
pub mod filename;
pub mod install;
pub mod installed;
pub mod layers;
pub mod lock;
pub mod lockfile;
pub mod marker;
pub mod plan;
pub mod project;
pub mod pylock;
pub mod record;
pub mod requirements;
pub mod tags;
pub mod target;
pub mod uv;
pub mod wheel;

pub use error::{Error, Resolution, WheelProblem};
pub use pep508_rs::{PackageName, pep440_rs::Version};
