//! What an image consists of, file by file: which layer, package and directory its bytes belong to.
//!
//! ```text
//! layer ──read──▶ LayerContents (remembered) ─┐
//! layer ──read──▶ LayerContents (remembered) ─┴─▶ Anatomy ──▶ packages, directories, savings
//! ```
//!
//! Reading takes a layer as hostile; what is kept of it has a limit. [`Anatomy`] is pure.

mod anatomy;
mod coding;
mod directory;
mod elf;
mod layer;
mod owner;
mod saving;

pub use anatomy::{Anatomy, Hidden, LayerShare};
pub use directory::Directory;
pub use layer::{Claim, Content, Item, LayerContents, Nature};
pub use owner::{OwnerKind, PackageShare};
pub use saving::{Saving, SavingKind};

/// What follows the last dot of a path.
fn extension(path: &str) -> Option<&str> {
    path.rsplit_once('.').map(|(_, extension)| extension)
}
