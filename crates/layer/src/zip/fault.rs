//! Why a zip archive is refused.

use crate::PathFault;

/// Why a zip archive or an entry of it is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ZipFault {
    // The archive's end.
    /// There is no end of central directory record.
    #[error("it has no end record: it is not a zip archive, or it was cut off")]
    NoEnd,
    /// The end record is not at the end.
    #[error("{bytes} bytes follow its end record")]
    TrailingData {
        /// How many.
        bytes: u64,
    },
    /// The archive has a comment, behind which another archive can hide.
    #[error("it has a comment")]
    ArchiveComment,
    /// It is one of several parts.
    #[error("it is a part of an archive over several disks")]
    MultiDisk,
    /// The zip64 end record or its locator is wrong.
    #[error("its zip64 end record is wrong: {0}")]
    Zip64End(&'static str),
    /// The central directory does not end where the end record begins.
    #[error("its central directory is not where the end record says, or not as long")]
    DirectoryPlace,
    /// The central directory does not have as many entries as the end record says.
    #[error("its end record counts {said} entries, but the central directory does not have exactly these")]
    EntryCount {
        /// What the end record says.
        said: u64,
    },

    // The places of entries.
    /// There is something before the first entry.
    #[error("{bytes} bytes stand before its first entry")]
    PrependedData {
        /// How many.
        bytes: u64,
    },
    /// Two entries share bytes.
    #[error("it overlaps `{other}`")]
    Overlap {
        /// The other entry, or the central directory.
        other: String,
    },
    /// Bytes between entries belong to none.
    #[error("{bytes} bytes after it belong to no entry")]
    Gap {
        /// How many.
        bytes: u64,
    },
    /// The archive ends, or another entry begins, within the entry.
    #[error("it is cut off")]
    Truncated,

    // Headers.
    /// A header does not begin with its signature.
    #[error("{0} is missing where it should be")]
    Signature(&'static str),
    /// The header before the content disagrees with the central directory.
    #[error("the header before its content and the central directory disagree on {field}")]
    Conflict {
        /// On what.
        field: &'static str,
    },
    /// The data descriptor is malformed or disagrees with the central directory.
    #[error("its data descriptor is wrong or disagrees with the central directory")]
    Descriptor,
    /// The extra fields cannot be taken apart.
    #[error("its extra fields are malformed: {0}")]
    Extra(&'static str),
    /// Encrypted content.
    #[error("it is encrypted")]
    Encrypted,
    /// Flags that no wheel needs.
    #[error("it has unknown flags ({flags:#06x})")]
    Flags {
        /// All its flags.
        flags: u16,
    },
    /// The entry has a comment.
    #[error("it has a comment")]
    EntryComment,
    /// A compression method that is not spliced.
    #[error(
        "it uses compression method {method}; longshore reads 0 (stored) and 8 (deflate): repack the wheel with one of these"
    )]
    Method {
        /// The method's number.
        method: u16,
    },

    // Names and kinds.
    /// The name is not the path of an entry.
    #[error("its name cannot be a path: {0}")]
    Path(PathFault),
    /// The name has bytes beyond ASCII and is not marked as UTF-8.
    #[error("its name has characters beyond ASCII without being marked as UTF-8")]
    NameEncoding,
    /// The name has a backslash, which some programs take for a separator.
    #[error("its name has a backslash")]
    Backslash,
    /// The name begins with a drive letter.
    #[error("its name begins with a drive letter")]
    DriveLetter,
    /// It is a symbolic link.
    #[error("it is a symbolic link")]
    Symlink,
    /// It is neither file nor directory, or says that it is both.
    #[error("it is neither a file nor a directory (Unix mode {mode:o})")]
    Special {
        /// The Unix mode.
        mode: u32,
    },
    /// A directory that has content.
    #[error("it is a directory with content")]
    DirectoryContent,
    /// Two entries have the same name, at least on some file systems.
    #[error("`{other}` has the same name, at least where letter case or Unicode normalisation is ignored")]
    Duplicate {
        /// The other entry.
        other: String,
    },
    /// A file that another entry needs as a directory.
    #[error("it is a file, but `{other}` is below it")]
    FileAsDirectory {
        /// The other entry.
        other: String,
    },

    // Sizes.
    /// More entries than the limit.
    #[error("it has {entries} entries, more than the limit of {limit}")]
    TooManyEntries {
        /// How many it has.
        entries: u64,
        /// The limit.
        limit: u64,
    },
    /// An entry is larger than the limit.
    #[error("it has {size} bytes, more than the limit of {limit}")]
    EntryTooLarge {
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// All entries together are larger than the limit.
    #[error("its entries together have more than the limit of {limit} bytes")]
    TotalTooLarge {
        /// The limit.
        limit: u64,
    },
    /// The entries unpack to so much more than the archive that it can only be a bomb.
    #[error("{packed} bytes of it unpack to {unpacked}, more than any honest content")]
    Bomb {
        /// The compressed size.
        packed: u64,
        /// The uncompressed size.
        unpacked: u64,
    },
    /// A stored entry whose two sizes differ.
    #[error("it is stored, but its compressed and uncompressed sizes differ")]
    StoredSize,

    // Content.
    /// The DEFLATE stream is damaged.
    #[error("its compressed content is damaged")]
    Stream,
    /// The DEFLATE stream ends before the compressed size.
    #[error("its compressed content ends before the compressed size that the archive says")]
    StreamEndsEarly,
    /// The DEFLATE stream is not over at the compressed size.
    #[error("its compressed content is not over at the compressed size that the archive says")]
    StreamEndsLate,
    /// The content is not as long as the archive says.
    #[error("its content is not as long as the archive says")]
    UncompressedSize,
    /// The content is not what was packed.
    #[error("its content does not have the CRC-32 that the archive says")]
    Crc,
}
