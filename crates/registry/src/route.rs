//! What a path asks for. A repository's name may have slashes in it, so paths are read from their end.

use longshore_oci::Digest;
use longshore_store::{RepositoryPath, StoreError, TagOrDigest, UploadId};
use percent_encoding::percent_decode_str;

use crate::error::ApiError;

/// An end point of the distribution specification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// `/v2/`
    Base,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/<name>/tags/list`
    Tags(RepositoryPath),
    /// `/v2/<name>/manifests/<reference>`
    Manifest(RepositoryPath, TagOrDigest),
    /// `/v2/<name>/blobs/<digest>`
    Blob(RepositoryPath, Digest),
    /// `/v2/<name>/referrers/<digest>`
    Referrers(RepositoryPath, Digest),
    /// `/v2/<name>/blobs/uploads/`
    Uploads(RepositoryPath),
    /// `/v2/<name>/blobs/uploads/<id>`
    Upload(RepositoryPath, UploadId),
}

impl Route {
    pub(crate) fn parse(path: &str) -> Result<Self, ApiError> {
        let path = percent_decode_str(path).decode_utf8().map_err(|_| ApiError::no_such_page())?;
        let rest = match path.strip_prefix("/v2") {
            Some("" | "/") => return Ok(Self::Base),
            Some("/_catalog") => return Ok(Self::Catalog),
            rest => rest.and_then(|rest| rest.strip_prefix('/')).ok_or_else(ApiError::no_such_page)?,
        };
        let name =
            |name: &str| name.parse::<RepositoryPath>().map_err(|error: StoreError| ApiError::from(error));
        if let Some(repository) = rest.strip_suffix("/tags/list") {
            return Ok(Self::Tags(name(repository)?));
        }
        if let Some(repository) =
            rest.strip_suffix("/blobs/uploads").or_else(|| rest.strip_suffix("/blobs/uploads/"))
        {
            return Ok(Self::Uploads(name(repository)?));
        }
        let (rest, last) = rest.rsplit_once('/').ok_or_else(ApiError::no_such_page)?;
        if let Some(repository) = rest.strip_suffix("/blobs/uploads") {
            let id = last.parse().map_err(|_| ApiError::upload_unknown(last))?;
            return Ok(Self::Upload(name(repository)?, id));
        }
        if let Some(repository) = rest.strip_suffix("/manifests") {
            let repository = name(repository)?;
            let reference = if last.contains(':') {
                last.parse().map(TagOrDigest::Digest).map_err(|error| ApiError::digest_invalid(&error))?
            } else {
                last.parse().map(TagOrDigest::Tag).map_err(|error| ApiError::tag_invalid(&error))?
            };
            return Ok(Self::Manifest(repository, reference));
        }
        if let Some(repository) = rest.strip_suffix("/blobs") {
            let digest = last.parse().map_err(|error| ApiError::digest_invalid(&error))?;
            return Ok(Self::Blob(name(repository)?, digest));
        }
        if let Some(repository) = rest.strip_suffix("/referrers") {
            let digest = last.parse().map_err(|error| ApiError::digest_invalid(&error))?;
            return Ok(Self::Referrers(name(repository)?, digest));
        }
        Err(ApiError::no_such_page())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn repository(path: &str) -> RepositoryPath {
        path.parse().unwrap()
    }

    #[test]
    fn names_may_look_like_end_points() {
        let digest = Digest::of([]);
        let id = "01890a5d-ac96-774b-bcce-b302099a8057";
        let cases = [
            ("/v2".to_owned(), Route::Base),
            ("/v2/".to_owned(), Route::Base),
            ("/v2/_catalog".to_owned(), Route::Catalog),
            ("/v2/a/tags/list".to_owned(), Route::Tags(repository("a"))),
            ("/v2/tags/list/tags/list".to_owned(), Route::Tags(repository("tags/list"))),
            (
                "/v2/a/b/manifests/1".to_owned(),
                Route::Manifest(repository("a/b"), TagOrDigest::Tag("1".parse().unwrap())),
            ),
            (format!("/v2/a/manifests/{digest}"), Route::Manifest(repository("a"), digest.into())),
            (format!("/v2/a/blobs/{digest}"), Route::Blob(repository("a"), digest)),
            (format!("/v2/a/blobs/sha256%3a{}", digest.hex()), Route::Blob(repository("a"), digest)),
            (
                format!("/v2/a/referrers/referrers/{digest}"),
                Route::Referrers(repository("a/referrers"), digest),
            ),
            ("/v2/blobs/uploads/blobs/uploads/".to_owned(), Route::Uploads(repository("blobs/uploads"))),
            ("/v2/a/blobs/uploads".to_owned(), Route::Uploads(repository("a"))),
            (format!("/v2/a/blobs/uploads/{id}"), Route::Upload(repository("a"), id.parse().unwrap())),
        ];
        for (path, route) in cases {
            assert_eq!(Route::parse(&path).unwrap(), route, "{path}");
        }
    }

    #[test]
    fn anything_else_is_an_error() {
        for path in [
            "/",
            "/v1/",
            "/v2/a",
            "/v2/a/",
            "/v2/a/tags",
            "/v2/A/tags/list",
            "/v2//tags/list",
            "/v2/../tags/list",
            "/v2/a%2f..%2fb/tags/list",
            "/v2/a/manifests/",
            "/v2/a/manifests/.x",
            "/v2/a/blobs/sha256:0",
            "/v2/a/blobs/sha512:00",
            "/v2/a/blobs/uploads/x",
            "/v2/a/blobs/uploads/../x",
            "/v2/%ff/tags/list",
            "/v2/a/referrers/sha256:0",
        ] {
            assert!(Route::parse(path).is_err(), "{path}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(path in "(/v2)?\\PC*") {
            let _ = Route::parse(&path);
        }
    }
}
