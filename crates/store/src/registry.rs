//! Repositories, manifests and tags over a blob store.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use longshore_oci::{Digest, MediaType, Tag};
use rustix::fs::FlockOperation;

use crate::{
    BlobStore, Durability, ManifestInfo, RepositoryPath, Result, StoreError, StoredManifest, TagOrDigest,
    Upload, Uploads,
    error::Context,
    folder,
    manifest::{MANIFEST_LIMIT, References},
};

/// The content of a registry in a folder:
///
/// ```text
/// blobs/                                 a BlobStore, with the bytes of manifests too
/// uploads/                               unfinished Uploads
/// repositories/<path>/_manifests/<hex>   a manifest of the repository; the file has its media type
/// repositories/<path>/_tags/<tag>        a tag; the file has the manifest's digest
/// repositories/<path>/_blobs/<hex>       a blob that may be pulled from the repository; empty
/// repositories/<path>/_referrers/<hex of the subject>/<hex>   a manifest that says something about another; empty
/// ```
///
/// (No part of a repository's path begins with `_`.) Any number of processes may use it at once.
#[derive(Clone, Debug)]
pub struct Registry {
    blobs: BlobStore,
    uploads: Uploads,
    root: PathBuf,
    repositories: PathBuf,
}

/// What must be true of the blobs that a new manifest refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// They are stored; that the repository shares them is decided by this manifest.
    Stored,
    /// They have been put into this repository before.
    Linked,
}

impl Registry {
    /// The registry in `root`, which is made when something is first written.
    pub fn open(root: impl AsRef<Path>) -> Result<Self> {
        let root = std::path::absolute(root.as_ref()).doing("find", root.as_ref())?;
        // Nothing that a manifest refers to stays deferred: see `put`.
        let blobs = BlobStore::open(root.join("blobs"))?.with_durability(Durability::Deferred);
        let uploads = Uploads::new(root.join("uploads"), blobs.clone());
        Ok(Self { blobs, uploads, repositories: root.join("repositories"), root })
    }

    /// The blobs of all repositories. What is written to them is durable once a manifest refers to it.
    pub const fn blobs(&self) -> &BlobStore {
        &self.blobs
    }

    /// The unfinished uploads.
    pub const fn uploads(&self) -> &Uploads {
        &self.uploads
    }

    /// The repositories that have a manifest, in ascending order.
    pub fn repositories(&self) -> Result<Vec<RepositoryPath>> {
        let mut found = Vec::new();
        let mut open = vec![String::new()];
        while let Some(path) = open.pop() {
            for name in folder::names(&self.repositories.join(&path))? {
                if name == "_manifests" {
                    let repository: RepositoryPath = path.parse()?;
                    if self.exists(&repository)? {
                        found.push(repository);
                    }
                } else if !name.starts_with('_') {
                    open.push(if path.is_empty() { name } else { format!("{path}/{name}") });
                }
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    fn exists(&self, repository: &RepositoryPath) -> Result<bool> {
        Ok(!folder::names(&self.folder(repository, "_manifests"))?.is_empty())
    }

    /// The tags of a repository, in ascending order.
    pub fn tags(&self, repository: &RepositoryPath) -> Result<Vec<Tag>> {
        let names = folder::names(&self.folder(repository, "_tags"))?;
        let mut tags: Vec<Tag> = names.iter().filter_map(|name| name.parse().ok()).collect();
        if tags.is_empty() && !self.exists(repository)? {
            return Err(StoreError::RepositoryUnknown(repository.clone()));
        }
        tags.sort_unstable();
        Ok(tags)
    }

    /// The manifests of a repository, tagged or not, in ascending order.
    pub fn manifests(&self, repository: &RepositoryPath) -> Result<Vec<Digest>> {
        let names = folder::names(&self.folder(repository, "_manifests"))?;
        let mut digests: Vec<Digest> = names.iter().filter_map(|name| Digest::from_hex(name).ok()).collect();
        digests.sort_unstable();
        Ok(digests)
    }

    /// The digest that a tag names now.
    pub fn resolve(&self, repository: &RepositoryPath, tag: &Tag) -> Result<Option<Digest>> {
        let Some(text) = read_small(&self.tag_path(repository, tag))? else { return Ok(None) };
        Ok(text.trim().parse().ok())
    }

    /// What is known of a manifest without reading it.
    pub fn manifest_info(
        &self,
        repository: &RepositoryPath,
        reference: impl Into<TagOrDigest>,
    ) -> Result<ManifestInfo> {
        let reference = reference.into();
        let digest = match &reference {
            TagOrDigest::Digest(digest) => Some(*digest),
            TagOrDigest::Tag(tag) => self.resolve(repository, tag)?,
        };
        let unknown =
            || StoreError::ManifestUnknown { repository: repository.clone(), reference: reference.clone() };
        let digest = digest.ok_or_else(unknown)?;
        let media_type = self.linked_manifest(repository, &digest)?.ok_or_else(unknown)?;
        let size = self.blobs.size_of(&digest)?.ok_or_else(unknown)?;
        Ok(ManifestInfo { digest, media_type, size })
    }

    /// A manifest, checked against its digest.
    pub fn manifest(
        &self,
        repository: &RepositoryPath,
        reference: impl Into<TagOrDigest>,
    ) -> Result<StoredManifest> {
        let ManifestInfo { digest, media_type, .. } = self.manifest_info(repository, reference)?;
        Ok(StoredManifest { digest, media_type, bytes: self.blobs.read(&digest, MANIFEST_LIMIT)? })
    }

    /// Puts a manifest into a repository, and tags it. Its configuration and layers must be in [`blobs`](Self::blobs),
    /// and become pullable from this repository; the manifests of an index must be in the repository.
    ///
    /// When this returns everything is on disk. What is visible, and what a power cut leaves, is never a manifest
    /// without its blobs or a tag without its manifest.
    pub fn put_manifest(
        &self,
        repository: &RepositoryPath,
        bytes: &[u8],
        media_type: &MediaType,
        tag: Option<&Tag>,
    ) -> Result<Digest> {
        self.put(repository, bytes, media_type, tag, Trust::Stored)
    }

    /// The same for a manifest from someone who may not know what else is stored here: all that it refers to must have
    /// been put into this very repository before.
    pub fn put_foreign_manifest(
        &self,
        repository: &RepositoryPath,
        bytes: &[u8],
        media_type: &MediaType,
        tag: Option<&Tag>,
    ) -> Result<Digest> {
        self.put(repository, bytes, media_type, tag, Trust::Linked)
    }

    fn put(
        &self,
        repository: &RepositoryPath,
        bytes: &[u8],
        media_type: &MediaType,
        tag: Option<&Tag>,
        trust: Trust,
    ) -> Result<Digest> {
        let references = References::of(bytes, media_type)?;
        let is_new = !self.folder(repository, "_manifests").exists();
        let _lock = self.lock(repository, FlockOperation::LockShared)?;
        for descriptor in references.descriptors() {
            let missing =
                || StoreError::ReferenceMissing { repository: repository.clone(), digest: descriptor.digest };
            let is_here = match (&references, trust) {
                (References::Blobs(_), Trust::Stored) => true,
                (References::Blobs(_), Trust::Linked) => self.is_linked(repository, &descriptor.digest),
                (References::Manifests(_), _) => {
                    self.linked_manifest(repository, &descriptor.digest)?.is_some()
                }
            };
            let found = self.blobs.size_of(&descriptor.digest)?.filter(|_| is_here).ok_or_else(missing)?;
            if found != descriptor.size {
                return Err(StoreError::ReferenceSize {
                    digest: descriptor.digest,
                    expected: descriptor.size,
                    found,
                });
            }
        }

        let digest = self.blobs.put(bytes)?;
        let mut to_sync = Vec::new();
        if let References::Blobs(blobs) = &references {
            let mut linked = false;
            for blob in blobs {
                linked |= self.link(repository, &blob.digest)?;
            }
            if linked {
                to_sync.push(folder::open(&self.folder(repository, "_blobs"))?);
            }
        }
        // All files are written to disk in one go, which costs little more than one of them; then the names, in order.
        let staging = self.blobs.staging();
        let link_path = self.manifest_path(repository, &digest);
        let link = if self.linked_manifest(repository, &digest)?.as_ref() == Some(media_type) {
            None
        } else {
            Some(staging.write(&link_path, media_type.as_str().as_bytes())?)
        };
        if link.is_some() {
            to_sync.extend(self.note_referrer(repository, bytes, &digest)?);
        }
        let tagging = match tag {
            Some(tag) => {
                let path = self.tag_path(repository, tag);
                Some((staging.write(&path, digest.to_string().as_bytes())?, path))
            }
            None => None,
        };
        if is_new {
            let tags = self.folder(repository, "_tags");
            folder::create(&tags).doing("create the folder", &tags)?;
            let made = self.repositories.join(repository.as_str());
            for folder in folder::with_ancestors(&made, &self.root) {
                to_sync.push(folder::open(folder)?);
            }
        }
        if let Some(link) = &link {
            to_sync.push(link.reopen(&link_path)?);
        }
        if let Some((file, path)) = &tagging {
            to_sync.push(file.reopen(path)?);
        }
        let mut digests: Vec<Digest> = references.descriptors().iter().map(|blob| blob.digest).collect();
        digests.push(digest);
        self.blobs.sync_with(&digests, to_sync)?;
        if let Some(link) = link {
            link.replace(&link_path)?;
            folder::sync(&self.folder(repository, "_manifests"))?;
        }
        if let Some((file, path)) = tagging {
            file.replace(&path)?;
            folder::sync(&self.folder(repository, "_tags"))?;
        }
        Ok(digest)
    }

    /// Lets a tag name a manifest of the repository.
    pub fn tag(&self, repository: &RepositoryPath, tag: &Tag, digest: &Digest) -> Result<()> {
        let _lock = self.lock(repository, FlockOperation::LockShared)?;
        self.manifest_info(repository, *digest)?;
        let path = self.tag_path(repository, tag);
        let file = self.blobs.staging().write(&path, digest.to_string().as_bytes())?;
        file.sync(&path)?;
        file.replace(&path)?;
        folder::sync(&self.folder(repository, "_tags"))
    }

    /// Removes a tag; says whether it was there. The manifest stays.
    pub fn delete_tag(&self, repository: &RepositoryPath, tag: &Tag) -> Result<bool> {
        folder::remove_file(&self.tag_path(repository, tag))
    }

    /// Removes a manifest from a repository with all its tags; says whether it was there. The bytes stay in
    /// [`blobs`](Self::blobs), where other repositories may use them.
    pub fn delete_manifest(&self, repository: &RepositoryPath, digest: &Digest) -> Result<bool> {
        if self.linked_manifest(repository, digest)?.is_none() {
            return Ok(false);
        }
        // Nobody may tag it in between.
        let _lock = self.lock(repository, FlockOperation::LockExclusive)?;
        for tag in self.tags(repository)? {
            if self.resolve(repository, &tag)? == Some(*digest) {
                self.delete_tag(repository, &tag)?;
            }
        }
        let was_there = folder::remove_file(&self.manifest_path(repository, digest))?;
        // What cannot be read is left in the index of referrers, where it does not count.
        if let Ok(bytes) = self.blobs.read(digest, MANIFEST_LIMIT) {
            self.forget_referrer(repository, &bytes, digest)?;
        }
        Ok(was_there)
    }

    /// The length of a blob that may be pulled from the repository.
    pub fn blob_size(&self, repository: &RepositoryPath, digest: &Digest) -> Result<Option<u64>> {
        if self.is_linked(repository, digest) { self.blobs.size_of(digest) } else { Ok(None) }
    }

    /// Makes a stored blob pullable from the repository. Fails where the blob is not stored.
    pub fn link_blob(&self, repository: &RepositoryPath, digest: &Digest) -> Result<()> {
        self.blobs.size_of(digest)?.ok_or_else(|| self.blobs.missing(digest))?;
        self.link(repository, digest).map(drop)
    }

    /// Makes a blob no longer pullable from the repository; says whether it was. The bytes stay.
    pub fn unlink_blob(&self, repository: &RepositoryPath, digest: &Digest) -> Result<bool> {
        folder::remove_file(&self.blob_path(repository, digest))
    }

    /// Ends an upload: keeps the blob if it has this digest, and makes it pullable from the upload's repository.
    pub fn commit_upload(&self, upload: Upload, digest: &Digest) -> Result<u64> {
        let repository = upload.repository().clone();
        let size = upload.commit_as(digest)?;
        self.link(&repository, digest)?;
        Ok(size)
    }

    /// Says whether the link is new.
    fn link(&self, repository: &RepositoryPath, digest: &Digest) -> Result<bool> {
        let path = self.blob_path(repository, digest);
        if path.exists() {
            return Ok(false);
        }
        let create = || File::create(&path).map(drop);
        match (create(), path.parent()) {
            (Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound => {
                folder::create(parent).doing("create the folder", parent)?;
                create()
            }
            (made, _) => made,
        }
        .doing("create", &path)?;
        Ok(true)
    }

    fn is_linked(&self, repository: &RepositoryPath, digest: &Digest) -> bool {
        self.blob_path(repository, digest).exists()
    }

    /// The media type of a manifest, if the repository has it.
    pub(crate) fn linked_manifest(
        &self,
        repository: &RepositoryPath,
        digest: &Digest,
    ) -> Result<Option<MediaType>> {
        Ok(read_small(&self.manifest_path(repository, digest))?.map(|text| MediaType::from(text.trim())))
    }

    /// Held shared by those who add manifests and tags, and alone by those who remove a manifest.
    fn lock(&self, repository: &RepositoryPath, how: FlockOperation) -> Result<File> {
        let path = self.folder(repository, "_manifests");
        let folder = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                folder::create(&path).doing("create the folder", &path)?;
                File::open(&path)
            }
            opened => opened,
        }
        .doing("open", &path)?;
        rustix::fs::flock(&folder, how).doing("lock", &path)?;
        Ok(folder)
    }

    pub(crate) fn folder(&self, repository: &RepositoryPath, name: &str) -> PathBuf {
        self.repositories.join(repository.as_str()).join(name)
    }

    fn manifest_path(&self, repository: &RepositoryPath, digest: &Digest) -> PathBuf {
        self.folder(repository, "_manifests").join(digest.hex())
    }

    fn tag_path(&self, repository: &RepositoryPath, tag: &Tag) -> PathBuf {
        self.folder(repository, "_tags").join(tag.as_str())
    }

    fn blob_path(&self, repository: &RepositoryPath, digest: &Digest) -> PathBuf {
        self.folder(repository, "_blobs").join(digest.hex())
    }
}

/// The text of one of our small files, if it is there.
fn read_small(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error).doing("read", path),
    }
}
