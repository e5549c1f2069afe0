//! Manifests: resolved, got, put.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{HeaderValue, Method, StatusCode, header};
use longshore_oci::{Descriptor, Digest, MediaType, Reference, Repository, Tag};
use serde::Deserialize;

use crate::{
    Client, ClientError, Result,
    client::path,
    exchange::{Call, Whole},
    refusal::is_web_page,
    scope::{Access, Scopes},
    site::Site,
};

/// The largest manifest that is accepted.
pub(crate) const LARGEST_RECEIVED: u64 = 8 << 20;
/// The largest manifest that is sent: every registry must accept as much (distribution specification, "Pushing
/// Manifests").
pub(crate) const LARGEST_SENT: u64 = 4 << 20;

/// The types that we read, best first.
const ACCEPT: HeaderValue = HeaderValue::from_static(
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json",
);

/// What a reference stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The manifest's digest.
    pub digest: Digest,
    /// Its type.
    pub media_type: MediaType,
    /// Its length in bytes.
    pub size: u64,
}

/// A manifest as it was received, its digest compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedManifest {
    /// The bytes.
    pub bytes: Bytes,
    /// The type.
    pub media_type: MediaType,
    /// The digest of the bytes.
    pub digest: Digest,
}

impl FetchedManifest {
    /// The descriptor of the bytes.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(self.media_type.clone(), self.digest, self.bytes.len() as u64)
    }
}

/// What is read of a manifest of any type.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Outline {
    media_type: Option<MediaType>,
    artifact_type: Option<String>,
    config: Option<ConfigOutline>,
    manifests: Option<serde::de::IgnoredAny>,
    pub(crate) subject: Option<Descriptor>,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConfigOutline {
    media_type: MediaType,
}

impl Outline {
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// The descriptor by which a list of referrers has this manifest (image specification, "Listing Referrers").
    pub(crate) fn referrer(self, manifest: Descriptor) -> Descriptor {
        let config_type = self.config.map(|config| config.media_type.as_str().to_owned());
        let artifact_type = self.artifact_type.or(config_type);
        Descriptor { artifact_type, annotations: self.annotations, ..manifest }
    }
}

impl Client {
    /// What a reference stands for. Only if a registry's answer to HEAD does not say it all is the manifest got: Docker
    /// Hub counts that as a pull.
    pub async fn resolve(&self, reference: &Reference) -> Result<Resolved> {
        let what = format!("resolve {reference}");
        let what = what.as_str();
        self.reading(reference.repository.host(), |site| async move {
            if let Some(resolved) = self.head_manifest(&site, what, reference, Access::Pull).await? {
                return Ok(resolved);
            }
            let manifest = self.get_manifest(&site, what, reference).await?;
            Ok(Resolved {
                digest: manifest.digest,
                size: manifest.bytes.len() as u64,
                media_type: manifest.media_type,
            })
        })
        .await
    }

    /// What several tags of a repository stand for: several at a time, and no faster than the client's pace.
    pub async fn resolve_all(
        &self,
        repository: &Repository,
        tags: impl IntoIterator<Item = Tag>,
    ) -> Vec<(Tag, Result<Resolved>)> {
        let resolutions = stream::iter(tags).map(|tag| async move {
            let resolved = self.resolve(&Reference::tagged(repository.clone(), tag.clone())).await;
            (tag, resolved)
        });
        resolutions.buffered(self.config().parallel.max(1)).collect().await
    }

    /// The manifest that a reference stands for.
    pub async fn manifest(&self, reference: &Reference) -> Result<FetchedManifest> {
        let what = format!("pull {reference}");
        let what = what.as_str();
        self.reading(reference.repository.host(), |site| async move {
            self.get_manifest(&site, what, reference).await
        })
        .await
    }

    /// What HEAD says; `None` if that is not enough.
    pub(crate) async fn head_manifest(
        &self,
        site: &Arc<Site>,
        what: &str,
        reference: &Reference,
        access: Access,
    ) -> Result<Option<Resolved>> {
        let name = name(reference);
        let call = manifest_call(site, what, Method::HEAD, &reference.repository, &name, access)?;
        let answer = match self.exchange(site, &call, &[StatusCode::OK]).await {
            Ok(answer) => answer,
            Err(ClientError::Refused { status, .. }) if status.is_client_error() => return Ok(None),
            Err(error) => return Err(error),
        };
        let digest = answer.named("docker-content-digest").and_then(|digest| digest.parse::<Digest>().ok());
        let media_type = answer.content_type().map(media_type);
        let (Some(digest), Some(media_type), Some(length)) = (digest, media_type, answer.length()) else {
            return Ok(None);
        };
        let is_manifest = media_type.is_manifest() || media_type.is_index();
        if !is_manifest || reference.digest.is_some_and(|wanted| wanted != digest) {
            return Ok(None);
        }
        Ok(Some(Resolved { digest, media_type, size: length }))
    }

    pub(crate) async fn get_manifest(
        &self,
        site: &Arc<Site>,
        what: &str,
        reference: &Reference,
    ) -> Result<FetchedManifest> {
        let mut call =
            manifest_call(site, what, Method::GET, &reference.repository, &name(reference), Access::Pull)?;
        call.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        match self.get_once(site, what, &call, reference).await {
            Err(ClientError::WrongDigest { .. }) => {
                // Perhaps only a cache on the way is damaged.
                call.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
                self.get_once(site, what, &call, reference).await
            }
            got => got,
        }
    }

    async fn get_once(
        &self,
        site: &Arc<Site>,
        what: &str,
        call: &Call<'_>,
        reference: &Reference,
    ) -> Result<FetchedManifest> {
        let whole = self.exchange_whole(site, call, &[StatusCode::OK], LARGEST_RECEIVED).await?;
        if is_web_page(whole.content_type(), &whole.bytes) {
            let url = longshore_endpoint::redacted(&whole.url);
            return Err(ClientError::NotRegistry { what: what.to_owned(), url });
        }
        let found = Digest::of(&whole.bytes);
        let named = whole.named("docker-content-digest").and_then(|digest| digest.parse::<Digest>().ok());
        match reference.digest.or(named).filter(|expected| *expected != found) {
            None => Self::read(site, what, whole, found),
            Some(expected) => {
                let (what, host) = (what.to_owned(), site.shown());
                Err(ClientError::WrongDigest { what, host, expected, found })
            }
        }
    }

    fn read(site: &Site, what: &str, whole: Whole, digest: Digest) -> Result<FetchedManifest> {
        let protocol = |reason: &str| ClientError::Protocol {
            what: what.to_owned(),
            host: site.shown(),
            reason: reason.to_owned(),
        };
        let Some(outline) = Outline::read(&whole.bytes) else {
            return Err(protocol("sent something that is not a manifest"));
        };
        let sent = whole.content_type().map(media_type);
        let media_type = match (sent, outline.media_type) {
            // Who reads by one of two types must not be told other things than who reads by the other (CVE-2021-41190).
            (Some(sent), Some(own)) if is_manifest_type(&sent) && sent != own => {
                return Err(protocol(&format!("sent a manifest of type {own} as {sent}")));
            }
            (_, Some(own)) => own,
            (Some(sent), None) if is_manifest_type(&sent) => sent,
            (_, None) if outline.manifests.is_some() => MediaType::Index,
            (_, None) => MediaType::Manifest,
        };
        Ok(FetchedManifest { bytes: whole.bytes, media_type, digest })
    }

    /// Puts a manifest under its digest, then under each tag. What it refers to must be there. If it is a referrer and
    /// the registry has no referrers API, the index that stands in for that is kept up.
    pub async fn put_manifest(
        &self,
        repository: &Repository,
        bytes: &[u8],
        media_type: &MediaType,
        tags: &[Tag],
    ) -> Result<Digest> {
        let what = format!("push a manifest to {repository}");
        let limit = LARGEST_SENT;
        if bytes.len() as u64 > limit {
            return Err(ClientError::TooLarge { what, limit });
        }
        let site = self.server(repository.host());
        let manifest = Descriptor::of(media_type.clone(), bytes);
        let bytes = Bytes::copy_from_slice(bytes);
        let name = manifest.digest.to_string();
        let indexed = self.put(&site, &what, repository, &manifest, &bytes, &name).await?;
        if indexed == Indexed::ByNobody
            && let Some(outline) = Outline::read(&bytes)
            && let Some(subject) = outline.subject.as_ref().map(|subject| subject.digest)
        {
            self.index_referrer(&site, repository, &subject, outline.referrer(manifest.clone())).await?;
        }
        for tag in tags {
            self.tag(repository, &manifest, &bytes, tag).await?;
        }
        Ok(manifest.digest)
    }

    /// Gives a manifest a tag.
    pub(crate) async fn tag(
        &self,
        repository: &Repository,
        manifest: &Descriptor,
        bytes: &Bytes,
        tag: &Tag,
    ) -> Result<()> {
        let what = format!("tag {repository}:{tag}");
        let site = self.server(repository.host());
        match self.put(&site, &what, repository, manifest, bytes, tag.as_str()).await {
            Ok(_) => Ok(()),
            Err(error @ (ClientError::Refused { .. } | ClientError::Denied { .. })) => {
                // A tag that cannot be moved need not be, if it is where it should be.
                let tagged = Reference::tagged(repository.clone(), tag.clone());
                match self.head_manifest(&site, &what, &tagged, Access::Push).await {
                    Ok(Some(resolved)) if resolved.digest == manifest.digest => Ok(()),
                    _ => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    async fn put(
        &self,
        site: &Arc<Site>,
        what: &str,
        repository: &Repository,
        manifest: &Descriptor,
        bytes: &Bytes,
        name: &str,
    ) -> Result<Indexed> {
        let mut call = manifest_call(site, what, Method::PUT, repository, name, Access::Push)?;
        if let Ok(media_type) = HeaderValue::from_str(manifest.media_type.as_str()) {
            call.headers.insert(header::CONTENT_TYPE, media_type);
        }
        call.headers.remove(header::ACCEPT);
        call.body = Some(bytes.clone());
        let hoped = [StatusCode::CREATED, StatusCode::OK, StatusCode::ACCEPTED, StatusCode::NO_CONTENT];
        let answer = self.exchange(site, &call, &hoped).await?;
        let named = answer.named("docker-content-digest").map(str::parse::<Digest>);
        let indexed =
            if answer.named("oci-subject").is_some() { Indexed::ByRegistry } else { Indexed::ByNobody };
        let is_denied = named.is_some_and(|named| named.as_ref() != Ok(&manifest.digest));
        if is_denied || answer.status() != StatusCode::CREATED {
            // What it says is wrong, or not what a registry says; what it has counts.
            let reference = Reference {
                repository: repository.clone(),
                tag: name.parse().ok(),
                digest: name.parse().ok(),
            };
            let found = self.get_manifest(site, what, &reference).await?.digest;
            if found != manifest.digest {
                let (what, host) = (what.to_owned(), site.shown());
                return Err(ClientError::WrongDigest { what, host, expected: manifest.digest, found });
            }
        }
        Ok(indexed)
    }
}

/// A request for, or with, a manifest.
fn manifest_call<'a>(
    site: &Site,
    what: &'a str,
    method: Method,
    repository: &'a Repository,
    name: &str,
    access: Access,
) -> Result<Call<'a>> {
    let to = site.api(what, &path(repository, &format!("manifests/{name}")))?;
    let mut call = Call::new(what, method, to, Scopes::repository(repository.path(), access));
    call.headers.insert(header::ACCEPT, ACCEPT);
    Ok(call.of(repository.path()))
}

/// Who lists a manifest among its subject's referrers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Indexed {
    ByRegistry,
    ByNobody,
}

/// What stands in the URL. With tag and digest, the digest decides.
fn name(reference: &Reference) -> String {
    match (&reference.digest, reference.tag_or_latest()) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.unwrap_or_else(Tag::latest).to_string(),
    }
}

/// A media type without parameters.
fn media_type(content_type: &str) -> MediaType {
    let name = content_type.split(';').next().unwrap_or_default().trim();
    MediaType::from(name.to_ascii_lowercase().as_str())
}

fn is_manifest_type(media_type: &MediaType) -> bool {
    media_type.is_manifest() || media_type.is_index()
}
