//! Images as one file that other tools read.

use std::io::{self, Write};

use longshore_oci::{Descriptor, Digest, Index, Manifest, MediaType, Reference, annotation};
use serde_json::json;

use crate::{
    BlobStore, Registry, RepositoryPath, Result, StoreError, StoredManifest, TagOrDigest, error::Context,
};

/// The kinds of archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// An OCI image layout (image specification, "OCI Image Layout") in a tar file; skopeo's `oci-archive`.
    Oci,
    /// What `docker load` and `podman load` read; skopeo's `docker-archive`. Layers stay compressed.
    Docker,
}

impl Registry {
    /// Writes an image as an archive. The same image and name give the same bytes.
    pub fn export(
        &self,
        repository: &RepositoryPath,
        image: &Reference,
        manifest: &StoredManifest,
        format: ArchiveFormat,
        out: impl Write,
    ) -> Result<()> {
        let parsed = Manifest::parse(&manifest.bytes)?;
        let mut archive = Archive { tar: tar::Builder::new(out), blobs: self.blobs() };
        match format {
            ArchiveFormat::Oci => archive.oci(image, manifest, &parsed)?,
            ArchiveFormat::Docker => archive.docker(image, &parsed)?,
        }
        let out = archive.tar.into_inner().and_then(|mut out| out.flush());
        out.doing("write the archive of", repository.as_str())
    }
}

struct Archive<'a, W: Write> {
    tar: tar::Builder<W>,
    blobs: &'a BlobStore,
}

impl<W: Write> Archive<'_, W> {
    fn oci(&mut self, image: &Reference, stored: &StoredManifest, manifest: &Manifest) -> Result<()> {
        let mut descriptor =
            Descriptor::new(stored.media_type.clone(), stored.digest, stored.bytes.len() as u64);
        // The specification leaves the value's meaning open; skopeo and umoci read it as the tag.
        if let Some(tag) = image.tag_or_latest() {
            descriptor.annotations.insert(annotation::REF_NAME.to_owned(), tag.to_string());
        }
        self.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        self.file("index.json", &Index::new(vec![descriptor]).to_bytes())?;
        self.file(&blob_path(&stored.digest), &stored.bytes)?;
        self.blobs(manifest, |descriptor| blob_path(&descriptor.digest))
    }

    fn docker(&mut self, image: &Reference, manifest: &Manifest) -> Result<()> {
        let name = |descriptor: &Descriptor| match descriptor.media_type {
            MediaType::Config | MediaType::DockerConfig => format!("{}.json", descriptor.digest.hex()),
            MediaType::LayerZstd => format!("{}.tar.zst", descriptor.digest.hex()),
            _ => format!("{}.tar.gz", descriptor.digest.hex()),
        };
        let tags: Vec<String> = image
            .tag_or_latest()
            .map(|tag| Reference::tagged(image.repository.clone(), tag).to_string())
            .into_iter()
            .collect();
        let layers: Vec<String> = manifest.layers.iter().map(name).collect();
        let document = json!([{"Config": name(&manifest.config), "RepoTags": tags, "Layers": layers}]);
        self.file("manifest.json", document.to_string().as_bytes())?;
        self.blobs(manifest, name)
    }

    /// The configuration and each layer once.
    fn blobs(&mut self, manifest: &Manifest, name: impl Fn(&Descriptor) -> String) -> Result<()> {
        let mut written: Vec<Digest> = Vec::new();
        for descriptor in std::iter::once(&manifest.config).chain(&manifest.layers) {
            if written.contains(&descriptor.digest) {
                continue;
            }
            written.push(descriptor.digest);
            let path = self.blobs.path(&descriptor.digest);
            let mut file = self.blobs.open_blob(&descriptor.digest)?;
            let size = self.blobs.size_of(&descriptor.digest)?;
            if size != Some(descriptor.size) {
                return Err(StoreError::ReferenceSize {
                    digest: descriptor.digest,
                    expected: descriptor.size,
                    found: size.unwrap_or(0),
                });
            }
            self.entry(&name(descriptor), descriptor.size, &mut file).doing("copy into the archive", path)?;
        }
        Ok(())
    }

    fn file(&mut self, path: &str, content: &[u8]) -> Result<()> {
        self.entry(path, content.len() as u64, &mut &*content).doing("write into the archive", path)
    }

    fn entry(&mut self, path: &str, size: u64, content: &mut dyn io::Read) -> io::Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_size(size);
        header.set_mode(0o644);
        header.set_entry_type(tar::EntryType::Regular);
        self.tar.append_data(&mut header, path, content)
    }
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

impl From<&Reference> for TagOrDigest {
    fn from(image: &Reference) -> Self {
        match (image.digest, image.tag_or_latest()) {
            (Some(digest), _) => Self::Digest(digest),
            (None, Some(tag)) => Self::Tag(tag),
            (None, None) => Self::Tag(longshore_oci::Tag::latest()),
        }
    }
}
