//! Images that are changed, looked into and made again without a build of all their layers.
//!
//! What an edit makes of an image is planned as a value from manifests and configurations alone ([`rebase`], [`patch`]);
//! [`Builder`](crate::Builder)'s methods find the images, in the embedded registry or another one, and put the result there.

mod contents;
mod error;
pub mod libc;
mod parts;
pub mod patch;
mod place;
pub mod rebase;
pub mod rebuild;
mod record;

pub use contents::Contents;
pub use error::EditError;
pub use parts::Parts;
pub use place::{Found, FoundImage, Published};
pub use record::Record;
