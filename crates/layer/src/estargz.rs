//! eStargz: a layer whose files can be fetched one by one, while the container already runs.
//!
//! An eStargz layer (stargz-snapshotter, `docs/estargz.md`) is an ordinary layer for whoever does not know of it. Its last
//! entry, `stargz.index.json`, is a table of contents, TOC, that says of every file where in the compressed layer the
//! gzip member of its content begins; its last 51 bytes are an empty gzip member that says where the TOC's begins.
//! The ordinary layout has a member for each content already, so nothing is compressed otherwise than in an ordinary layer.
//!
//! The layout, version 1, is the ordinary one with these differences:
//! - The first entry is `.no.prefetch.landmark`, one byte 0x0f: nothing is to be fetched ahead. Its mode is 0644.
//! - The last entry is `stargz.index.json`, mode 0644, in a member of its own together with the archive's end, compressed
//!   like a file's content. It is JSON without blanks; the rows are in the order of the entries, their fields in the order
//!   `name`, `type`, `size`, `modtime`, `linkName`, `mode`, `uid`, `gid`, `offset`, `xattrs`, `digest`, `chunkDigest`, each
//!   of them only if it says something (mode and owner always).
//! - A file is one chunk, since it is one DEFLATE stream. Readers fetch and verify a chunk at a time: a large file whole.
//! - The footer follows.
//!
//! The three names that eStargz gives a meaning are refused in the layer's root, and so are hard links to what is not in the
//! same layer, which readers of the TOC do not find.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use longshore_oci::Digest;
use serde::Serialize;

use crate::{Entry, EntryPath, Error, Kind, Result, WriteFault};

/// The version of the layout that this module documents. It is remembered together with
/// [`LAYOUT_VERSION`](crate::LAYOUT_VERSION), which it builds on.
pub const ESTARGZ_VERSION: u32 = 1;
/// The annotation of a layer's descriptor that has the digest of the TOC: by it the TOC, and with it everything, is
/// verified without the rest of the layer.
pub const TOC_DIGEST: &str = "containerd.io/snapshot/stargz/toc.digest";
/// The annotation of a layer's descriptor that has the size of the uncompressed layer; Podman's store asks for it.
pub const UNCOMPRESSED_SIZE: &str = "io.containers.estargz.uncompressed-size";

/// The entry that is the TOC.
pub(crate) const TOC: &str = "stargz.index.json";
/// The entry that says that nothing is to be fetched ahead, and what it contains.
pub(crate) const LANDMARK: &str = ".no.prefetch.landmark";
pub(crate) const LANDMARK_CONTENT: [u8; 1] = [0x0f];
/// The names that mean something in the root of a layer.
const RESERVED: [&str; 3] = [TOC, LANDMARK, ".prefetch.landmark"];

/// Where a file's content is.
pub(crate) struct Member {
    /// The place of its gzip member in the compressed layer.
    pub(crate) offset: u64,
    /// The digest of the content.
    pub(crate) digest: Digest,
}

/// The TOC as it grows: its JSON, and the names that a hard link may lead to.
pub(crate) struct Toc {
    json: Vec<u8>,
    linkable: BTreeSet<EntryPath>,
}

/// A TOCEntry.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    modtime: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link_name: Option<&'a str>,
    mode: u32,
    uid: u32,
    gid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    xattrs: BTreeMap<&'a str, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chunk_digest: Option<Digest>,
}

impl Toc {
    pub(crate) fn new() -> Self {
        Self { json: br#"{"version":1,"entries":["#.to_vec(), linkable: BTreeSet::new() }
    }

    /// Refuses what an eStargz layer cannot have though an ordinary one can.
    pub(crate) fn check(&self, entry: &Entry) -> Result<()> {
        let refuse = |fault| Err(Error::Write { path: entry.path.clone(), fault });
        if RESERVED.contains(&entry.path.as_str()) {
            return refuse(WriteFault::EstargzName);
        }
        match &entry.kind {
            Kind::HardLink { target } if !self.linkable.contains(target) => {
                refuse(WriteFault::HardLinkElsewhere { target: target.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Adds the row of an entry, whose content has `size` bytes and, unless it is empty, is in `member`.
    pub(crate) fn append(&mut self, entry: &Entry, size: u64, member: Option<Member>) -> Result<()> {
        let mut name = entry.path.as_str().to_owned();
        let (kind, link_name) = match &entry.kind {
            Kind::File => ("reg", None),
            Kind::Directory => ("dir", None),
            Kind::Symlink { target } => ("symlink", Some(&**target)),
            Kind::HardLink { target } => ("hardlink", Some(target.as_str())),
            Kind::CharacterDevice { .. } => ("char", None),
            Kind::BlockDevice { .. } => ("block", None),
            Kind::Fifo => ("fifo", None),
        };
        if entry.kind == Kind::Directory {
            name.push('/');
        } else {
            self.linkable.insert(entry.path.clone());
        }
        // RFC 3339; nothing for 1970, which is how the format says that the time is not known.
        let modtime = i64::try_from(entry.mtime).ok().filter(|seconds| *seconds > 0);
        let modtime = modtime.and_then(|seconds| Timestamp::from_second(seconds).ok());
        let digest = member.as_ref().map(|member| member.digest);
        let row = Row {
            name: &name,
            kind,
            size: (size > 0).then_some(size),
            modtime: modtime.map(|time| time.to_string()),
            link_name,
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            offset: member.map(|member| member.offset),
            xattrs: entry.xattrs.iter().map(|(name, value)| (&**name, STANDARD.encode(value))).collect(),
            digest,
            chunk_digest: digest,
        };
        if self.json.last() == Some(&b'}') {
            self.json.push(b',');
        }
        serde_json::to_writer(&mut self.json, &row).map_err(|error| Error::writing(io::Error::from(error)))
    }

    /// The JSON.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.json.extend_from_slice(b"]}");
        self.json
    }
}

/// The footer: an empty gzip member, with the place of the TOC's member in an extra field `SG` (RFC 1952 §2.3.1.1).
pub(crate) fn footer(toc: u64) -> Vec<u8> {
    let field = format!("{toc:016x}STARGZ");
    // Magic, method 8, the flag FEXTRA, no time, unknown operating system; the extra fields' and the field's length.
    let mut bytes = vec![0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, 26, 0, b'S', b'G', 22, 0];
    bytes.extend_from_slice(field.as_bytes());
    // A last stored block of no bytes, their CRC-32 and their number.
    bytes.extend_from_slice(&[1, 0, 0, 0xff, 0xff]);
    bytes.extend_from_slice(&[0; 8]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_footer_has_51_bytes() {
        let bytes = footer(0x1234);
        assert_eq!(bytes.len(), 51);
        assert_eq!(&bytes[16..38], b"0000000000001234STARGZ");
    }

    #[test]
    fn an_empty_table_is_json() {
        assert_eq!(Toc::new().finish(), br#"{"version":1,"entries":[]}"#);
    }
}
