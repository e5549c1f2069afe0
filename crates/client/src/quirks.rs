//! What registries do that the distribution specification does not have, or leaves open.
//!
//! Each is one row of [`QUIRKS`], with its source and what we do about it; the functions here are the places where the
//! rest of the client asks. Each row has one test of its name, in `tests/quirks.rs` if it takes a registry.

use http::StatusCode;

use crate::{RegistryError, refusal::is_web_page, wire::Answer};

/// The length of the chunks of an upload that is refused whole: GHCR takes no more in one PATCH.
pub(crate) const CHUNK: u64 = 4 << 20;
/// How many tags or repositories we ask for at a time: ECR takes no more.
pub(crate) const PAGE: usize = 1000;

/// Something that a registry does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quirk {
    /// Its name, which is that of its test.
    pub name: &'static str,
    /// Who does it.
    pub registry: &'static str,
    /// What it does.
    pub does: &'static str,
    /// What we do about it.
    pub remedy: &'static str,
    /// Where it is known from.
    pub source: &'static str,
}

/// The table.
pub const QUIRKS: &[Quirk] = &[
    Quirk {
        name: "patch_over_4_mib_is_refused",
        registry: "GitHub (ghcr.io)",
        does: "answers 416 to a PATCH of more than 4 MiB with Content-Range",
        remedy: "blobs are sent in one PUT; where that is refused, in chunks of 4 MiB",
        source: "oras-project/rust-oci-client issue 35",
    },
    Quirk {
        name: "chunked_upload_is_unsupported",
        registry: "Google Artifact Registry",
        does: "takes no upload in several PATCH requests",
        remedy: "blobs are sent in one PUT; chunks are used only after that was refused or cut",
        source: "Google Cloud, Artifact Registry, \"Limitations\" of the Docker API",
    },
    Quirk {
        name: "patch_is_answered_201",
        registry: "Amazon ECR",
        does: "answers 201 to PATCH where the specification has 202",
        remedy: "200, 201, 202 and 204 all mean that a chunk was taken",
        source: "jdx/mise issue 11376",
    },
    Quirk {
        name: "only_the_last_chunk_is_kept",
        registry: "JFrog Artifactory",
        does: "keeps only the last chunk of a chunked upload and answers 201",
        remedy: "a blob that was sent in parts is looked at afterwards: its length and digest must be right",
        source: "wasmCloud/wasmCloud issue 3405",
    },
    Quirk {
        name: "mount_without_from_is_refused",
        registry: "Red Hat Quay",
        does: "refuses to mount a blob when no repository is named",
        remedy: "a mount always names its repository",
        source: "distribution specification, \"Mounting a blob from another repository\"; quay.io",
    },
    Quirk {
        name: "mount_is_answered_with_an_error",
        registry: "JFrog Artifactory and others",
        does: "answers an error to a mount where the specification has 202",
        remedy: "the blob is uploaded, and the registry is not asked to mount for a week",
        source: "regclient, scheme/reg/blob.go; JFrog, \"Docker Registry\" limitations",
    },
    Quirk {
        name: "mount_is_answered_with_an_upload",
        registry: "Amazon ECR and others",
        does: "answers 202 to a mount, having started an upload",
        remedy: "that upload is used; nothing is remembered, because the question cost nothing",
        source: "distribution specification, \"Mounting a blob from another repository\"; aws/containers-roadmap",
    },
    Quirk {
        name: "manifest_put_without_location",
        registry: "Amazon ECR",
        does: "answers PUT of a manifest without Location",
        remedy: "the digest is computed from what was sent; Location is not needed",
        source: "aws/containers-roadmap; opencontainers/distribution-spec conformance results",
    },
    Quirk {
        name: "large_bodies_are_refused",
        registry: "proxies in front of registries (Cloudflare: 100 MB)",
        does: "answers 413 to large bodies",
        remedy: "the blob is sent in chunks of 4 MiB, then and for a week",
        source: "jdx/mise issue 11141",
    },
    Quirk {
        name: "post_with_digest_is_only_a_start",
        registry: "distribution 2.8",
        does: "answers 202 to POST?digest= with the blob: an upload was started and nothing stored",
        remedy: "uploads are always started by a POST without a body",
        source: "distribution/distribution 2.8, registry/handlers/blobupload.go",
    },
    Quirk {
        name: "status_of_an_empty_upload_is_0_0",
        registry: "distribution",
        does: "says `Range: 0-0` of an upload that has received nothing",
        remedy: "`0-0` means nothing: the upload begins again",
        source: "distribution/distribution, registry/handlers/blobupload.go",
    },
    Quirk {
        name: "referrers_are_unknown",
        registry: "GitHub (ghcr.io), distribution 2.8",
        does: "has no referrers API and answers 404",
        remedy: "the index under the tag `sha256-<hex>` is read, and kept up when a referrer is pushed or deleted",
        source: "distribution specification, \"Referrers Tag Schema\"",
    },
    Quirk {
        name: "more_than_1000_tags_are_refused",
        registry: "Amazon ECR",
        does: "answers an error to n > 1000 in a list of tags",
        remedy: "lists are asked for in pages of 1000",
        source: "Amazon ECR, \"Service quotas\"; ListImages maxResults",
    },
    Quirk {
        name: "no_tags_are_null",
        registry: "distribution 2.8 and others",
        does: "lists the tags of a repository without any as `null`",
        remedy: "`null` is no tags",
        source: "distribution/distribution, registry/handlers/tags.go",
    },
    Quirk {
        name: "pages_follow_each_other_in_circles",
        registry: "caches in front of registries",
        does: "links a page of tags to itself or to an earlier one",
        remedy: "a page is read once; a link to one that was read is an error",
        source: "distribution specification, \"Content Discovery\" sets no bound",
    },
    Quirk {
        name: "immutable_tag_of_the_same_image",
        registry: "Amazon ECR, Artifact Registry, Harbor",
        does: "refuses to put a tag that is immutable although it names this very manifest",
        remedy: "the tag is looked at: if it names the manifest, all is well",
        source: "Amazon ECR, \"Image tag mutability\"",
    },
    Quirk {
        name: "location_without_tls",
        registry: "registries behind a proxy that does TLS for them",
        does: "sends `Location: http://…` of itself where it is reached by HTTPS",
        remedy: "its own host is gone to by the scheme that it is configured with",
        source: "distribution project, \"Nginx as a proxy\" (X-Forwarded-Proto)",
    },
    Quirk {
        name: "head_is_not_supported",
        registry: "old proxies and simple static registries",
        does: "answers 405 to HEAD of a manifest, or leaves out Docker-Content-Digest",
        remedy: "the manifest is got and hashed",
        source: "distribution specification, \"Checking if content exists in the registry\"",
    },
    Quirk {
        name: "cancelling_an_upload_is_deleting",
        registry: "distribution",
        does: "wants the action `delete` of whoever cancels an upload",
        remedy: "an upload that cannot be cancelled is left to the registry, which forgets it",
        source: "distribution/distribution, registry/handlers/app.go (appendAccessRecords)",
    },
    Quirk {
        name: "empty_answers_are_html",
        registry: "Red Hat Quay",
        does: "answers without a body have the type text/html",
        remedy: "only what has a body is taken for a web page",
        source: "quay/quay, endpoints/v2/blob.py; Flask's default type",
    },
];

/// How much of an upload a registry has after a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grown {
    /// So many bytes.
    To(u64),
    /// What cannot be.
    Nonsense,
}

/// Whether an answer is a page for people: it has that type, and something in it.
pub(crate) fn is_page(answer: &Answer) -> bool {
    is_web_page(answer.content_type(), b"") && answer.length() != Some(0)
}

/// Whether a chunk was taken.
pub(crate) fn is_chunk_taken(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 201 | 202 | 204)
}

/// Whether a body is refused because of its size.
pub(crate) fn is_too_large(status: StatusCode, said: Option<&RegistryError>) -> bool {
    matches!(status.as_u16(), 413 | 416)
        || status == StatusCode::BAD_REQUEST && said.is_some_and(|said| said.is("SIZE_INVALID"))
}

/// Whether a chunk that begins at `start` is refused because the registry has more or less of the blob than that: the
/// same status as for one that is too large, but it says what it has.
pub(crate) fn is_out_of_step(answer: StatusCode, range: Option<&str>, start: u64, size: u64) -> bool {
    answer == StatusCode::RANGE_NOT_SATISFIABLE && status(range, size).is_some_and(|has| has != start)
}

/// Whether a chunk is refused because it is one.
pub(crate) fn takes_no_chunks(status: StatusCode, said: Option<&RegistryError>) -> bool {
    matches!(status.as_u16(), 405 | 501) || said.is_some_and(|said| said.is("UNSUPPORTED"))
}

/// What the `Range` of the answer to the chunk from `start` to `end` says. Without one all of it has been taken.
pub(crate) fn received(range: Option<&str>, start: u64, end: u64) -> Grown {
    let Some(range) = range else { return Grown::To(end) };
    match last(range).map(|last| last.saturating_add(1)) {
        Some(received) if (start..=end).contains(&received) => Grown::To(received),
        // `0-0` is what distribution says of nothing.
        Some(1) if start == 0 => Grown::To(0),
        _ => Grown::Nonsense,
    }
}

/// How much of a blob of `size` bytes a registry says that it has, asked for the state of an upload.
pub(crate) fn status(range: Option<&str>, size: u64) -> Option<u64> {
    match last(range?)? {
        0 => Some(0),
        last if last < size => Some(last + 1),
        _ => None,
    }
}

/// The last byte of `0-<last>`, which some write as `bytes=0-<last>`.
fn last(range: &str) -> Option<u64> {
    let range = range.trim();
    let range = range.strip_prefix("bytes=").unwrap_or(range);
    let (first, last) = range.split_once('-')?;
    if first.trim() == "0" { last.trim().parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges_say_how_much_has_come() {
        assert_eq!(received(None, 0, 10), Grown::To(10));
        assert_eq!(received(Some("0-9"), 0, 10), Grown::To(10));
        assert_eq!(received(Some("bytes=0-4"), 0, 10), Grown::To(5));
        assert_eq!(received(Some("0-10"), 0, 10), Grown::Nonsense);
        assert_eq!(received(Some("0-3"), 5, 10), Grown::Nonsense);
        assert_eq!(received(Some("5-9"), 5, 10), Grown::Nonsense);
        assert_eq!(status(Some("0-4"), 10), Some(5));
        assert_eq!(status(Some("0-0"), 10), Some(0));
        assert_eq!(status(Some("0-10"), 10), None);
        assert_eq!(status(None, 10), None);
    }

    proptest! {
        #[test]
        fn no_range_leads_outside(range: String, start in 0_u64..100, length in 1_u64..100) {
            if let Grown::To(received) = received(Some(&range), start, start + length) {
                prop_assert!(received >= start && received <= start + length);
            }
            prop_assert!(status(Some(&range), length).is_none_or(|received| received <= length));
        }
    }
}
