//! Whether a plan can work, found out before anything is built.
//!
//! [`registry`] looks at one registry the way a build will use it: can it be reached, does this machine's clock agree
//! with it, are the credentials accepted and for how long, may images be pulled and pushed? [`machine`] looks at this
//! machine. Each answer is a [`Finding`]: what was checked, on which object, what was found and what mends it. Nothing
//! is changed by looking: the upload that shows whether a push is allowed is cancelled.
#![forbid(unsafe_code)]

mod clock;
mod finding;
pub mod machine;
pub mod registry;
mod remedy;

pub use finding::{Check, Finding, Level, worst};
