//! What a request is about.

use http::Method;
use longshore_oci::Digest;
use serde::Deserialize;

/// What is asked of a registry, whatever it is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// `GET /v2/`
    Base,
    /// `GET /v2/_catalog`
    Catalog,
    /// `GET …/tags/list`
    Tags,
    /// `GET …/referrers/<digest>`
    Referrers,
    /// `HEAD …/manifests/<reference>`
    ManifestHead,
    /// `GET …/manifests/<reference>`
    ManifestGet,
    /// `PUT …/manifests/<reference>`
    ManifestPut,
    /// `DELETE …/manifests/<reference>`
    ManifestDelete,
    /// `HEAD …/blobs/<digest>`
    BlobHead,
    /// `GET …/blobs/<digest>`
    BlobGet,
    /// `DELETE …/blobs/<digest>`
    BlobDelete,
    /// `POST …/blobs/uploads/?mount=<digest>`
    Mount,
    /// `POST …/blobs/uploads/`
    UploadBegin,
    /// `GET …/blobs/uploads/<id>`
    UploadStatus,
    /// `PATCH …/blobs/uploads/<id>`
    UploadPatch,
    /// `PUT …/blobs/uploads/<id>`
    UploadPut,
    /// `DELETE …/blobs/uploads/<id>`
    UploadCancel,
}

impl Operation {
    /// What the token for it must allow.
    pub(super) const fn action(self) -> &'static str {
        match self {
            Self::ManifestDelete | Self::BlobDelete => "delete",
            Self::ManifestPut
            | Self::Mount
            | Self::UploadBegin
            | Self::UploadStatus
            | Self::UploadPatch
            | Self::UploadPut
            | Self::UploadCancel => "push",
            _ => "pull",
        }
    }

    /// Whether its answer is a document or a blob.
    pub(super) const fn reads(self) -> bool {
        matches!(
            self,
            Self::Base
                | Self::Catalog
                | Self::Tags
                | Self::Referrers
                | Self::ManifestHead
                | Self::ManifestGet
                | Self::BlobHead
                | Self::BlobGet
        )
    }
}

/// What a request names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Base,
    Catalog,
    Tags(String),
    Referrers(String, Digest),
    Manifest(String, String),
    Blob(String, Digest),
    Uploads(String),
    Upload(String, String),
}

impl Target {
    /// Names may look like end points, so a path is read from its end.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let rest = match path {
            "/v2" | "/v2/" => return Some(Self::Base),
            "/v2/_catalog" => return Some(Self::Catalog),
            _ => path.strip_prefix("/v2/")?,
        };
        if let Some(name) = rest.strip_suffix("/tags/list") {
            return Some(Self::Tags(name.to_owned()));
        }
        if let Some(name) = rest.strip_suffix("/blobs/uploads/") {
            return Some(Self::Uploads(name.to_owned()));
        }
        let (rest, last) = rest.rsplit_once('/')?;
        let last = last.replace("%3A", ":").replace("%3a", ":");
        if let Some(name) = rest.strip_suffix("/blobs/uploads") {
            return Some(Self::Upload(name.to_owned(), last));
        }
        if let Some(name) = rest.strip_suffix("/manifests") {
            return Some(Self::Manifest(name.to_owned(), last));
        }
        if let Some(name) = rest.strip_suffix("/blobs") {
            return Some(Self::Blob(name.to_owned(), last.parse().ok()?));
        }
        Some(Self::Referrers(rest.strip_suffix("/referrers")?.to_owned(), last.parse().ok()?))
    }

    /// The repository's path, where there is one.
    pub(super) fn repository(&self) -> Option<&str> {
        match self {
            Self::Base | Self::Catalog => None,
            Self::Tags(name)
            | Self::Referrers(name, _)
            | Self::Manifest(name, _)
            | Self::Blob(name, _)
            | Self::Uploads(name)
            | Self::Upload(name, _) => Some(name),
        }
    }

    /// What the method asks of it.
    pub(super) fn operation(&self, method: &Method, is_mount: bool) -> Option<Operation> {
        Some(match (self, method) {
            (Self::Base, &Method::GET | &Method::HEAD) => Operation::Base,
            (Self::Catalog, &Method::GET) => Operation::Catalog,
            (Self::Tags(_), &Method::GET) => Operation::Tags,
            (Self::Referrers(..), &Method::GET) => Operation::Referrers,
            (Self::Manifest(..), &Method::HEAD) => Operation::ManifestHead,
            (Self::Manifest(..), &Method::GET) => Operation::ManifestGet,
            (Self::Manifest(..), &Method::PUT) => Operation::ManifestPut,
            (Self::Manifest(..), &Method::DELETE) => Operation::ManifestDelete,
            (Self::Blob(..), &Method::HEAD) => Operation::BlobHead,
            (Self::Blob(..), &Method::GET) => Operation::BlobGet,
            (Self::Blob(..), &Method::DELETE) => Operation::BlobDelete,
            (Self::Uploads(_), &Method::POST) if is_mount => Operation::Mount,
            (Self::Uploads(_), &Method::POST) => Operation::UploadBegin,
            (Self::Upload(..), &Method::GET) => Operation::UploadStatus,
            (Self::Upload(..), &Method::PATCH) => Operation::UploadPatch,
            (Self::Upload(..), &Method::PUT) => Operation::UploadPut,
            (Self::Upload(..), &Method::DELETE) => Operation::UploadCancel,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_from_their_end() {
        let digest = Digest::of([]);
        let cases = [
            ("/v2/".to_owned(), Target::Base),
            ("/v2/a/tags/list/tags/list".to_owned(), Target::Tags("a/tags/list".to_owned())),
            (format!("/v2/a/blobs/sha256%3A{}", digest.hex()), Target::Blob("a".to_owned(), digest)),
            ("/v2/a/b/blobs/uploads/".to_owned(), Target::Uploads("a/b".to_owned())),
            ("/v2/a/blobs/uploads/7".to_owned(), Target::Upload("a".to_owned(), "7".to_owned())),
            ("/v2/a/manifests/1".to_owned(), Target::Manifest("a".to_owned(), "1".to_owned())),
            (format!("/v2/a/referrers/{digest}"), Target::Referrers("a".to_owned(), digest)),
        ];
        for (path, target) in cases {
            assert_eq!(Target::parse(&path), Some(target), "{path}");
        }
        assert_eq!(Target::parse("/v2/a/blobs/sha256:0"), None);
        assert_eq!(Target::parse("/"), None);
    }
}
