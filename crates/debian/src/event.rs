//! What is told while a parent image is made.

use longshore_fetch::Origin;

use crate::ParentLayer;

/// Receives events; from several threads at once.
pub type Progress<'a> = dyn Fn(Event) + Send + Sync + 'a;

/// Something that happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A suite's signature and dates were checked.
    Suite {
        /// Address and name.
        suite: String,
        /// Whether the mirror need not be asked.
        remembered: bool,
    },
    /// A package index is there.
    Index {
        /// The suite's address and name.
        suite: String,
        /// Its size.
        bytes: u64,
        /// Where it came from.
        from: Origin,
    },
    /// The packages are chosen.
    Planned {
        /// How many.
        packages: usize,
        /// Their size together.
        bytes: u64,
    },
    /// Part of a package has arrived.
    Fetching {
        /// Its name.
        package: String,
        /// How many bytes.
        bytes: u64,
        /// Of how many.
        size: u64,
    },
    /// A package is there.
    Fetched {
        /// Its name.
        package: String,
        /// Its size.
        size: u64,
        /// Where it came from.
        from: Origin,
        /// How many packages there are in all.
        total: usize,
    },
    /// A package was unpacked.
    Unpacked {
        /// Its name.
        package: String,
        /// How many packages there are in all.
        total: usize,
    },
    /// A layer was written.
    Layer {
        /// Which.
        layer: ParentLayer,
    },
}
