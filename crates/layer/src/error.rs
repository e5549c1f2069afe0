//! What can go wrong.

use std::io;

use crate::{EntryPath, PathFault, read::ReadFault, zip::ZipFault};

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a layer could not be written or read, or a zip archive not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A text is not the path of an entry.
    #[error("`{path}` cannot be the path of an entry in a layer: {fault}")]
    Path {
        /// The text.
        path: String,
        /// Why not.
        fault: PathFault,
    },
    /// An entry cannot be added to a layer.
    #[error("cannot add `{path}` to the layer: {fault}")]
    Write {
        /// The entry.
        path: EntryPath,
        /// Why not.
        fault: WriteFault,
    },
    /// An earlier operation on the same writer failed, so what it wrote is not a layer.
    #[error("the layer is incomplete, because adding an earlier entry failed; start a new one")]
    Broken,
    /// A zip archive as a whole is refused.
    #[error("the zip archive is refused: {fault}")]
    Zip {
        /// Why.
        fault: ZipFault,
    },
    /// An entry of a zip archive is refused.
    #[error("the zip archive is refused for its entry `{entry}`: {fault}")]
    ZipEntry {
        /// The entry's name as far as it is readable.
        entry: String,
        /// Why.
        fault: ZipFault,
    },
    /// Somebody's layer as a whole is refused.
    #[error("the layer is refused: {fault}")]
    Layer {
        /// Why.
        fault: ReadFault,
    },
    /// An entry of somebody's layer is refused.
    #[error("the layer is refused for its entry `{entry}`: {fault}")]
    LayerEntry {
        /// The entry's path as far as it is readable.
        entry: String,
        /// Why.
        fault: ReadFault,
    },
    /// The input could not be read or the output not be written.
    #[error("{action} failed: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

/// Why an entry cannot be added to a layer.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriteFault {
    /// The same path twice.
    #[error("the layer has it already; each path may be added once")]
    Duplicate,
    /// The order is not ascending.
    #[error("it comes after `{after}`, but entries are added in ascending order of their path's parts")]
    Order {
        /// The entry before it.
        after: EntryPath,
    },
    /// The path leads through something that is not a directory.
    #[error("`{parent}` was added and is not a directory")]
    Parent {
        /// The entry that should be a directory.
        parent: EntryPath,
    },
    /// An ordinary entry with a name that means removal.
    #[error("names beginning with `.wh.` mean that something is removed, and unpacking it would remove it")]
    WhiteoutName,
    /// Content for something that has none, or the other way round.
    #[error("it is {is}, and {needs}")]
    Content {
        /// What the entry is.
        is: &'static str,
        /// What the called function takes.
        needs: &'static str,
    },
    /// A name in the root that means something to readers of eStargz.
    #[error("the name is eStargz's own in the root of a layer; rename it, or make the image without `lazy`")]
    EstargzName,
    /// A hard link that leads out of an eStargz layer.
    #[error(
        "it is a hard link to `{target}`, which is no file of the same layer; eStargz has no other hard links"
    )]
    HardLinkElsewhere {
        /// The target.
        target: EntryPath,
    },
    /// Mode bits beyond the twelve permission bits.
    #[error("its mode {mode:o} has bits beyond 7777")]
    Mode {
        /// The mode.
        mode: u32,
    },
    /// A symbolic link's target is empty, too long or has a NUL.
    #[error("the target of a symbolic link has 1 to {} bytes and no NUL", EntryPath::LONGEST)]
    SymlinkTarget,
    /// A hard link to something that comes after it.
    #[error(
        "it is a hard link to `{target}`, which sorts after it; add the file under the first of its names and the \
         others as links"
    )]
    HardLinkOrder {
        /// The target.
        target: EntryPath,
    },
    /// The name of an extended attribute is empty or has `=` or NUL.
    #[error("`{name}` is not the name of an extended attribute")]
    Xattr {
        /// The name.
        name: String,
    },
    /// The content is not as long as announced.
    #[error("its content has {is} the announced {size} bytes")]
    Size {
        /// `less than` or `more than`.
        is: &'static str,
        /// The announced size.
        size: u64,
    },
}

impl Error {
    /// For `map_err`: reading input.
    pub(crate) fn reading(source: io::Error) -> Self {
        Self::Io { action: "reading the input", source }
    }

    /// For `map_err`: writing a layer.
    pub(crate) fn writing(source: io::Error) -> Self {
        Self::Io { action: "writing the layer", source }
    }
}
