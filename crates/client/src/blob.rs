//! Blobs in a repository: whether they are there, and how they come there.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode, header};
use longshore_oci::{Descriptor, Digest, Repository};

use crate::{
    BlobOutcome, BlobSource, Client, ClientError, Event, Observer, Result,
    capability::Lack,
    client::path,
    exchange::Call,
    refusal::is_web_page,
    scope::{Access, Scopes},
    site::Site,
    upload::{Session, Upload},
};

/// In as many repositories a blob is looked for.
const MOST_SOURCES: usize = 4;

/// How a blob came into a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobPushed {
    /// It was there.
    Existed,
    /// The registry took it from another of its repositories.
    Mounted,
    /// Its bytes were sent.
    Uploaded,
}

impl From<BlobPushed> for BlobOutcome {
    fn from(pushed: BlobPushed) -> Self {
        match pushed {
            BlobPushed::Existed => Self::Existed,
            BlobPushed::Mounted => Self::Mounted,
            BlobPushed::Uploaded => Self::Moved,
        }
    }
}

/// What a registry says of a blob that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Presence {
    pub(crate) size: Option<u64>,
}

impl Client {
    /// The size of a blob, if the repository has it.
    pub async fn has_blob(&self, repository: &Repository, digest: &Digest) -> Result<Option<u64>> {
        let what = format!("look for blob {digest} in {repository}");
        let site = self.server(repository.host());
        match self.look(&site, &what, repository, digest, Access::Pull).await? {
            None => Ok(None),
            Some(Presence { size: Some(found) }) => Ok(Some(found)),
            Some(Presence { size: None }) => Err(ClientError::Protocol {
                what,
                host: site.shown(),
                reason: "does not say how long the blob is (Content-Length)".to_owned(),
            }),
        }
    }

    /// Looks for a blob. One that the registry gives another digest is not the one that is meant.
    pub(crate) async fn look(
        &self,
        site: &Arc<Site>,
        what: &str,
        repository: &Repository,
        digest: &Digest,
        access: Access,
    ) -> Result<Option<Presence>> {
        let to = site.api(what, &path(repository, &format!("blobs/{digest}")))?;
        let call = Call::new(what, Method::HEAD, to, Scopes::repository(repository.path(), access));
        let answer = self.exchange(site, &call.of(repository.path()), &[StatusCode::OK]).await;
        match answer {
            Ok(answer) => {
                let named = answer.named("docker-content-digest").map(str::parse::<Digest>);
                let is_page = named.is_none() && is_web_page(answer.content_type(), b"");
                if is_page || named.is_some_and(|named| named.as_ref() != Ok(digest)) {
                    return Ok(None);
                }
                Ok(Some(Presence { size: answer.length() }))
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A small blob, whole.
    pub async fn blob(&self, repository: &Repository, blob: &Descriptor, limit: u64) -> Result<Bytes> {
        let what = format!("pull blob {} of {repository}", blob.digest);
        if blob.size > limit {
            return Err(ClientError::TooLarge { what, limit });
        }
        let what = what.as_str();
        self.reading(repository.host(), |site| async move {
            let to = site.api(what, &path(repository, &format!("blobs/{}", blob.digest)))?;
            let mut call =
                Call::new(what, Method::GET, to, Scopes::repository(repository.path(), Access::Pull));
            let identity = header::HeaderValue::from_static("identity");
            call.headers.insert(header::ACCEPT_ENCODING, identity);
            let call = call.of(repository.path());
            let whole = self.exchange_whole(&site, &call, &[StatusCode::OK], limit).await?;
            let found = Digest::of(&whole.bytes);
            if found != blob.digest {
                let (what, host) = (what.to_owned(), site.shown());
                return Err(ClientError::WrongDigest { what, host, expected: blob.digest, found });
            }
            Ok(whole.bytes)
        })
        .await
    }

    /// Brings a blob into a repository: looks whether it is there, has it mounted from one of the repositories that are
    /// known to have it, or uploads it. The digest of the bytes that are sent is compared with the blob's.
    pub async fn push_blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        source: Arc<dyn BlobSource>,
        mount_from: &[Repository],
        observer: &Arc<Observer>,
    ) -> Result<BlobPushed> {
        let what = format!("push blob {} to {repository}", blob.digest);
        let site = self.server(repository.host());
        let pushed = self.bring(&site, &what, repository, blob, source, mount_from, observer).await?;
        observer(Event::Blob { digest: blob.digest, outcome: pushed.into(), size: blob.size });
        Ok(pushed)
    }

    #[expect(clippy::too_many_arguments, reason = "one call, whose arguments have nothing else in common")]
    async fn bring(
        &self,
        site: &Arc<Site>,
        what: &str,
        repository: &Repository,
        blob: &Descriptor,
        source: Arc<dyn BlobSource>,
        mount_from: &[Repository],
        observer: &Arc<Observer>,
    ) -> Result<BlobPushed> {
        if let Some(presence) = self.look(site, what, repository, &blob.digest, Access::Push).await?
            && presence.size.is_none_or(|size| size == blob.size)
        {
            return Ok(BlobPushed::Existed);
        }
        let session = match self.mount(site, what, repository, blob, mount_from).await? {
            Mounting::Mounted => return Ok(BlobPushed::Mounted),
            Mounting::Upload(session) => Some(*session),
            Mounting::Refused => None,
        };
        let upload = Upload { client: self, site, what, repository, blob, source, observer };
        upload.run(session).await?;
        Ok(BlobPushed::Uploaded)
    }

    /// The first of several repositories that has a blob, as far as that can be found out.
    async fn holder<'a>(
        &self,
        site: &Arc<Site>,
        what: &str,
        blob: &Descriptor,
        others: &[&'a Repository],
    ) -> Option<&'a Repository> {
        for other in others {
            if let Ok(Some(_)) = self.look(site, what, other, &blob.digest, Access::Pull).await {
                return Some(other);
            }
        }
        None
    }

    /// Asks for a blob of another repository of the same registry.
    async fn mount(
        &self,
        site: &Arc<Site>,
        what: &str,
        repository: &Repository,
        blob: &Descriptor,
        mount_from: &[Repository],
    ) -> Result<Mounting> {
        if self.capabilities().lacks(site, Lack::Mounts) {
            return Ok(Mounting::Refused);
        }
        let others =
            mount_from.iter().filter(|other| other.host() == repository.host() && *other != repository);
        let others: Vec<_> = others.take(MOST_SOURCES).collect();
        let other = match others[..] {
            [] => None,
            // Asking costs as much as trying.
            [only] => Some(only),
            _ => self.holder(site, what, blob, &others).await,
        };
        let Some(other) = other else { return Ok(Mounting::Refused) };
        let mut to = site.api(what, &path(repository, "blobs/uploads/"))?;
        to.url
            .query_pairs_mut()
            .append_pair("mount", &blob.digest.to_string())
            .append_pair("from", other.path());
        // The registry takes the blob for us only if we may pull it there.
        let scopes = Scopes::repository(repository.path(), Access::Push)
            .union(Scopes::repository(other.path(), Access::Pull));
        let call = Call::new(what, Method::POST, to, scopes).of(repository.path());
        match self.exchange(site, &call, &[StatusCode::CREATED, StatusCode::ACCEPTED]).await {
            Ok(answer) if answer.status() == StatusCode::CREATED => Ok(Mounting::Mounted),
            Ok(answer) => {
                let session = Session::started(site, what, &answer)?;
                Ok(session.map_or(Mounting::Refused, |session| Mounting::Upload(Box::new(session))))
            }
            Err(ClientError::Refused { status, .. }) if status.is_client_error() => {
                self.capabilities().note(site, Lack::Mounts);
                Ok(Mounting::Refused)
            }
            // Whoever may not pull from there may perhaps push here.
            Err(
                ClientError::Unauthorized { .. } | ClientError::Denied { .. } | ClientError::NotFound { .. },
            ) => Ok(Mounting::Refused),
            Err(error) => Err(error),
        }
    }
}

/// What a registry makes of the wish to mount a blob.
enum Mounting {
    Mounted,
    /// It has started an upload instead.
    Upload(Box<Session>),
    Refused,
}
