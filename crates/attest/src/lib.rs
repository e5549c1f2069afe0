//! What is in an image: a bill of materials (SBOM), made, attached to the image, and read.
//!
//! ```text
//! lock, parent ─┐
//!               ├─▶ Inventory ──▶ Sbom (CycloneDX 1.6, SPDX 2.3) ──▶ referrer of the image
//! layers ─Survey┘
//! ```
//!
//! Documents are pure functions of an [`Inventory`]: no time, no random number, nothing of this machine is in them.
//! [`Survey`] finds the packages of an image that anybody made by reading its layers, of which it keeps no more than the
//! packages' names; [`contents`] tells what an image's bytes are for; [`referrer`] talks to registries.
#![forbid(unsafe_code)]

pub mod contents;
mod cyclonedx;
mod dpkg;
mod error;
mod inventory;
mod metadata;
mod os_release;
mod purl;
pub mod referrer;
mod spdx;
mod survey;

pub use error::AttestError;
pub use inventory::{BuildFacts, DebianSource, Image, Inventory, Package, PackageKind, python_of, wheels_of};
pub use os_release::OsRelease;
pub use survey::{Survey, Surveyed, layers};

/// The formats of bills of materials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// CycloneDX 1.6, JSON.
    CycloneDx,
    /// SPDX 2.3, JSON.
    Spdx,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::CycloneDx, Self::Spdx];

    /// The registered media type of its documents, which is the type of the artifact too.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::CycloneDx => "application/vnd.cyclonedx+json",
            Self::Spdx => "application/spdx+json",
        }
    }

    /// The name of its files, as the formats recommend.
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::CycloneDx => "bom.cdx.json",
            Self::Spdx => "bom.spdx.json",
        }
    }

    /// The document of an inventory: the same for the same inventory, byte by byte.
    pub fn document(self, inventory: &Inventory) -> Vec<u8> {
        match self {
            Self::CycloneDx => cyclonedx::document(inventory),
            Self::Spdx => spdx::document(inventory),
        }
    }
}

/// JSON, indented: people read these documents too.
fn json(value: &impl serde::Serialize) -> Vec<u8> {
    #[expect(clippy::expect_used, reason = "every map in these types has string keys and no Serialize fails")]
    let mut bytes = serde_json::to_vec_pretty(value).expect("plain data serialises");
    bytes.push(b'\n');
    bytes
}
