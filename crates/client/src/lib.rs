//! The registry client: challenges, blobs, manifests, tags, referrers, mounts, and registries' quirks.
#![forbid(unsafe_code)]
