//! What a registry may do to those who ask it.

use std::time::Duration;

use serde::Deserialize;

use super::Operation;

/// One thing that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Fault {
    /// The connection is reset when the head of the request is there. Nothing is done.
    ResetAtOnce,
    /// The connection is reset when so many bytes of the body are there. An upload keeps them.
    ResetWhileReading {
        /// The bytes that are read.
        after: usize,
    },
    /// So many bytes of the body are read and kept, and nothing more for five seconds; then the connection is reset.
    StallWhileReading {
        /// The bytes that are read.
        after: usize,
    },
    /// What was asked for is done, and then the connection is reset.
    ResetAfterCommit,
    /// The head and so many bytes of the answer's body are sent, then the connection is reset.
    ResetWhileAnswering {
        /// The bytes of the body that are sent.
        after: usize,
    },
    /// The same with an orderly end of the connection instead of a reset.
    Truncated {
        /// The bytes of the body that are sent.
        after: usize,
    },
    /// 429.
    TooManyRequests {
        /// `Retry-After`, in seconds.
        retry_after: Option<u64>,
    },
    /// A status without anything being done: 500, 502, 503, or 403, 404 (no referrers API), 405.
    Refused {
        /// The status.
        status: u16,
    },
    /// A status although everything was done.
    RefusedAfterCommit {
        /// The status.
        status: u16,
    },
    /// The digest header names something else.
    WrongDigestHeader,
    /// One byte of the body is another.
    WrongBytes,
    /// The body is as long as announced, and longer than it should be: the registry has another size for it.
    LongerBytes,
    /// `Location` is not what it should be.
    Location(WrongLocation),
    /// The blob is elsewhere: 307 to the other address of this registry, which wants no credentials.
    Redirect,
    /// 307 to itself.
    RedirectLoop,
    /// 201 to `PATCH` (Amazon's registry).
    CreatedToPatch,
    /// 416 to a `PATCH` of more than so many bytes (GitHub's registry: 4 MiB).
    ChunkCap {
        /// The longest chunk that is taken.
        most: u64,
    },
    /// 413 to any body of more than so many bytes, before it is read (proxies).
    BodyCap {
        /// The longest body that is taken.
        most: u64,
    },
    /// Of the chunks of an upload the last one is kept, and success is reported (Artifactory, once).
    LastChunkOnly,
    /// The answer to a chunk says that less arrived.
    UploadRangeLie,
    /// All tokens so far are good no more: 401. Does nothing where no tokens are needed.
    TokensExpire,
    /// 401 with a challenge that no token satisfies.
    NeverAuthorized,
    /// The answer comes byte by byte, with a pause after each.
    Trickle {
        /// The pause.
        pause: Duration,
    },
    /// So many bytes of the answer come, head included, and then nothing until the client hangs up (five seconds at
    /// most).
    Stall {
        /// The bytes that are sent.
        after: usize,
    },
    /// `Link` names the same page again.
    PagingLoop,
    /// 200 and a page for people.
    Html,
    /// A mount is answered with an upload.
    MountRefused,
    /// An answer to a range that is another one than asked for, and says so or not.
    RangeLie(RangeLie),
    /// `HEAD` is answered without a length.
    NoLength,
}

/// How `Location` can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WrongLocation {
    /// There is none.
    Missing,
    /// It cannot be parsed.
    Garbage,
    /// It names an upload that does not exist.
    Unknown,
    /// The other address of this registry, which takes the upload.
    Elsewhere,
    /// Another host, where nobody listens.
    Nobody,
}

/// How the answer to a range can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RangeLie {
    /// 200 and all of it: a server may ignore ranges.
    Ignored,
    /// 206 and another part, which `Content-Range` names.
    Shifted,
    /// 206 and another part, while `Content-Range` names the one that was asked for.
    Silent,
}

impl Fault {
    /// Whether it makes a difference there.
    pub(super) fn concerns(&self, operation: Operation) -> bool {
        use Operation as O;
        match self {
            Self::ResetWhileReading { .. } | Self::StallWhileReading { .. } | Self::BodyCap { .. } => {
                matches!(operation, O::UploadPatch | O::UploadPut)
            }
            Self::WrongDigestHeader => matches!(
                operation,
                O::ManifestHead | O::ManifestGet | O::ManifestPut | O::BlobHead | O::BlobGet | O::UploadPut
            ),
            Self::ResetWhileAnswering { .. } | Self::Truncated { .. } => {
                operation.reads() && !matches!(operation, O::ManifestHead | O::BlobHead)
            }
            Self::WrongBytes | Self::LongerBytes => matches!(operation, O::ManifestGet | O::BlobGet),
            Self::Location(_) => matches!(operation, O::Mount | O::UploadBegin | O::UploadPatch),
            Self::Redirect => matches!(operation, O::BlobGet),
            Self::RedirectLoop => matches!(operation, O::BlobGet | O::ManifestGet),
            Self::CreatedToPatch | Self::ChunkCap { .. } | Self::UploadRangeLie => {
                operation == O::UploadPatch
            }
            Self::LastChunkOnly => operation == O::UploadPut,
            Self::PagingLoop => matches!(operation, O::Tags | O::Catalog | O::Referrers),
            Self::MountRefused => operation == O::Mount,
            Self::RangeLie(_) => operation == O::BlobGet,
            Self::NoLength => matches!(operation, O::ManifestHead | O::BlobHead),
            _ => true,
        }
    }

    /// Whether it makes a difference to a request with a body of that length, if the head says one.
    pub(super) fn meets(&self, length: Option<u64>) -> bool {
        match self {
            Self::BodyCap { most } | Self::ChunkCap { most } => length.is_none_or(|length| length > *most),
            _ => true,
        }
    }

    /// Once, the next time this is asked.
    pub fn once_on(self, operation: Operation) -> Rule {
        self.times_on(operation, 1)
    }

    /// So many times.
    pub fn times_on(self, operation: Operation, times: u32) -> Rule {
        Rule { operation, skip: 0, times, fault: self }
    }

    /// Every time.
    pub fn always_on(self, operation: Operation) -> Rule {
        self.times_on(operation, always())
    }
}

/// As often as it is asked.
const fn always() -> u32 {
    u32::MAX
}

/// A fault and when it happens.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Where.
    pub operation: Operation,
    /// How often it does not happen first.
    #[serde(default)]
    pub skip: u32,
    /// How often it happens then; every time if that is not said.
    #[serde(default = "always")]
    pub times: u32,
    /// What happens.
    pub fault: Fault,
}

impl Rule {
    /// Not the first so many times.
    #[must_use]
    pub const fn after(mut self, skip: u32) -> Self {
        self.skip = skip;
        self
    }
}
