//! What says something about a manifest: signatures, SBOMs (distribution specification, "Listing Referrers").

use std::sync::Arc;

use http::{Method, StatusCode, header};
use longshore_oci::{Descriptor, Digest, Index, MediaType, Reference, Repository, Tag};

use crate::{
    Client, ClientError, Result,
    client::path,
    exchange::Call,
    manifest::LARGEST_RECEIVED,
    paging::{Pages, next_page, parse},
    scope::{Access, Scopes},
    site::Site,
};

/// How often the index that stands in for a referrers API is written again after somebody else wrote it meanwhile.
const MOST_WRITES: usize = 4;

/// What says something about a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrers {
    /// The manifests that do.
    pub manifests: Vec<Descriptor>,
}

/// A change to the index that stands in for a referrers API.
enum Change<'a> {
    Add(&'a Descriptor),
    Remove(&'a Digest),
}

impl Client {
    /// What says something about a manifest, of one type of artifact if one is given. That the list is empty means that
    /// the registry said so; that it could not be had is an error.
    pub async fn referrers(
        &self,
        repository: &Repository,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Referrers> {
        let what = format!("list what refers to {repository}@{digest}");
        let site = self.server(repository.host());
        let listed = self.listed(&site, &what, repository, digest, artifact_type).await?;
        let manifests = if let Some(manifests) = listed {
            manifests
        } else {
            let index = self.stand_in(&site, &what, repository, digest).await?;
            index.map(|index| index.manifests).unwrap_or_default()
        };
        // A registry need not filter.
        let wanted = |manifest: &Descriptor| {
            artifact_type.is_none_or(|wanted| manifest.artifact_type.as_deref() == Some(wanted))
        };
        Ok(Referrers { manifests: manifests.into_iter().filter(wanted).collect() })
    }

    /// What the registry's own API lists; `None` if it has none.
    async fn listed(
        &self,
        site: &Arc<Site>,
        what: &str,
        repository: &Repository,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Option<Vec<Descriptor>>> {
        let mut to = site.api(what, &path(repository, &format!("referrers/{digest}")))?;
        if let Some(artifact_type) = artifact_type {
            to.url.query_pairs_mut().append_pair("artifactType", artifact_type);
        }
        let mut manifests = Vec::new();
        let mut pages = Pages::default();
        loop {
            let scopes = Scopes::repository(repository.path(), Access::Pull);
            let mut call = Call::new(what, Method::GET, to.clone(), scopes).of(repository.path());
            let index = header::HeaderValue::from_static("application/vnd.oci.image.index.v1+json");
            call.headers.insert(header::ACCEPT, index);
            let page = match self.exchange_whole(site, &call, &[StatusCode::OK], LARGEST_RECEIVED).await {
                Ok(page) => page,
                // That the repository is unknown is answered so, too; then there is no index either.
                Err(ClientError::NotFound { .. }) if manifests.is_empty() => return Ok(None),
                Err(error) => return Err(error),
            };
            let index: Index = parse(site, what, &page)?;
            manifests.extend(index.manifests);
            match next_page(site, what, &mut pages, &to.url, &page)? {
                Some(next) => to = next,
                None => return Ok(Some(manifests)),
            }
        }
    }

    /// The index that stands in for a referrers API, if there is one.
    async fn stand_in(
        &self,
        site: &Arc<Site>,
        what: &str,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Option<Index>> {
        let reference = Reference::tagged(repository.clone(), stand_in_tag(what, subject)?);
        match self.get_manifest(site, what, &reference).await {
            Ok(manifest) => {
                let index = Index::parse(&manifest.bytes);
                index.map(Some).map_err(|source| ClientError::Manifest { what: what.to_owned(), source })
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn index_referrer(
        &self,
        site: &Arc<Site>,
        repository: &Repository,
        subject: &Digest,
        referrer: Descriptor,
    ) -> Result<()> {
        self.change_stand_in(site, repository, subject, &Change::Add(&referrer)).await
    }

    /// Takes a manifest that was deleted out of the index that stands in for a referrers API, if there is one.
    pub(crate) async fn unindex_referrer(
        &self,
        site: &Arc<Site>,
        repository: &Repository,
        subject: &Digest,
        referrer: &Digest,
    ) -> Result<()> {
        self.change_stand_in(site, repository, subject, &Change::Remove(referrer)).await
    }

    /// Reads, changes and writes the index, until the change is in it: others may write it at the same time, and the
    /// protocol has no way to lock it.
    async fn change_stand_in(
        &self,
        site: &Arc<Site>,
        repository: &Repository,
        subject: &Digest,
        change: &Change<'_>,
    ) -> Result<()> {
        let what = format!("keep the list of what refers to {repository}@{subject}");
        let tag = stand_in_tag(&what, subject)?;
        for _ in 0..MOST_WRITES {
            let before = self.stand_in(site, &what, repository, subject).await?;
            if matches!((&before, change), (None, Change::Remove(_))) {
                return Ok(());
            }
            let mut index = before.unwrap_or_else(|| Index::new(Vec::new()));
            let is_there =
                |digest: &Digest| index.manifests.iter().any(|manifest| manifest.digest == *digest);
            match change {
                Change::Add(referrer) if is_there(&referrer.digest) => return Ok(()),
                Change::Add(referrer) => index.manifests.push((*referrer).clone()),
                Change::Remove(digest) if !is_there(digest) => return Ok(()),
                Change::Remove(digest) => index.manifests.retain(|manifest| manifest.digest != **digest),
            }
            let bytes = index.to_bytes();
            let manifest = Descriptor::of(MediaType::Index, &bytes);
            self.tag(repository, &manifest, &bytes.into(), &tag).await?;
        }
        Err(ClientError::Protocol {
            what,
            host: site.shown(),
            reason: "does not keep the index that was written; somebody else may be writing it all the time"
                .to_owned(),
        })
    }
}

/// The tag of the index that stands in for a referrers API (distribution specification, "Referrers Tag Schema").
fn stand_in_tag(what: &str, subject: &Digest) -> Result<Tag> {
    let tag = format!("sha256-{}", subject.hex()).parse();
    tag.map_err(|error: longshore_oci::ReferenceError| ClientError::Usage {
        what: what.to_owned(),
        reason: error.to_string(),
    })
}
