//! Deleting.

use http::{Method, StatusCode};
use longshore_oci::{Digest, Reference, Repository, Tag};

use crate::{
    Client, ClientError, Result,
    client::path,
    exchange::Call,
    manifest::Outline,
    scope::{Access, Scopes},
};

const DELETED: [StatusCode; 3] = [StatusCode::ACCEPTED, StatusCode::OK, StatusCode::NO_CONTENT];

impl Client {
    /// Deletes a manifest, and with it every tag that names it. If it is a referrer, and the registry has no referrers
    /// API, it is taken out of the index that stands in for that.
    pub async fn delete_manifest(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        let what = format!("delete {repository}@{digest}");
        let site = self.server(repository.host());
        let reference = Reference { repository: repository.clone(), tag: None, digest: Some(*digest) };
        let manifest = self.get_manifest(&site, &what, &reference).await?;
        self.delete(repository, &what, &format!("manifests/{digest}")).await?;
        match Outline::read(&manifest.bytes).and_then(|outline| outline.subject) {
            Some(subject) => self.unindex_referrer(&site, repository, &subject.digest, digest).await,
            None => Ok(()),
        }
    }

    /// Deletes a tag and leaves its manifest, in a registry that can do that.
    pub async fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<()> {
        let what = format!("delete the tag {repository}:{tag}");
        self.delete(repository, &what, &format!("manifests/{tag}")).await
    }

    /// Deletes a blob.
    pub async fn delete_blob(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        let what = format!("delete blob {digest} of {repository}");
        self.delete(repository, &what, &format!("blobs/{digest}")).await
    }

    async fn delete(&self, repository: &Repository, what: &str, rest: &str) -> Result<()> {
        let site = self.server(repository.host());
        let to = site.api(what, &path(repository, rest))?;
        let call = Call::new(what, Method::DELETE, to, Scopes::repository(repository.path(), Access::Delete));
        match self.exchange(&site, &call.of(repository.path()), &DELETED).await {
            Ok(_) => Ok(()),
            Err(ClientError::Refused { status, reason, .. })
                if status == StatusCode::METHOD_NOT_ALLOWED
                    || reason.as_ref().is_some_and(|said| said.is("UNSUPPORTED")) =>
            {
                let reason = "does not delete such things; whoever runs it can allow it, \
                              or delete it by the registry's own means"
                    .to_owned();
                Err(ClientError::Protocol { what: what.to_owned(), host: site.shown(), reason })
            }
            Err(error) => Err(error),
        }
    }
}
