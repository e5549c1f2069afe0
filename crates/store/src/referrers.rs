//! Which manifests say something about another (distribution specification, "Listing Referrers").
//!
//! `repositories/<path>/_referrers/<hex of the subject>/<hex of the referrer>` is an empty file. It is there before the
//! referrer is visible, and it counts only while the repository has the referrer: at every moment, and after every power
//! cut, what is listed is exactly what there is.

use std::{collections::BTreeMap, fs::File, path::PathBuf};

use longshore_oci::{Descriptor, Digest, MediaType};
use serde::Deserialize;

use crate::{
    Registry, RepositoryPath, Result, durability::Open, error::Context, folder, manifest::MANIFEST_LIMIT,
};

/// What a listing says of a manifest, and what the manifest is about.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct About {
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
    config: Option<Typed>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Typed {
    media_type: String,
}

/// The manifest that this one says something about.
pub fn subject_of(manifest: &[u8]) -> Option<Digest> {
    serde_json::from_slice::<About>(manifest).ok()?.subject.map(|subject| subject.digest)
}

impl Registry {
    /// The manifests of a repository that say something about `subject`, which itself need not be there, in ascending
    /// order of their digests: each with its artifact's type and its annotations.
    pub fn referrers(&self, repository: &RepositoryPath, subject: &Digest) -> Result<Vec<Descriptor>> {
        let mut names = folder::names(&self.referrers_folder(repository, subject))?;
        names.sort_unstable();
        let mut found = Vec::new();
        for digest in names.iter().filter_map(|name| Digest::from_hex(name).ok()) {
            let Some(media_type) = self.linked_manifest(repository, &digest)? else { continue };
            let bytes = self.blobs().read(&digest, MANIFEST_LIMIT)?;
            found.push(descriptor(media_type, digest, &bytes));
        }
        Ok(found)
    }

    /// Notes a manifest that is about to become visible; what must be written to disk before it does.
    pub(crate) fn note_referrer(
        &self,
        repository: &RepositoryPath,
        manifest: &[u8],
        digest: &Digest,
    ) -> Result<Vec<Open>> {
        let Some(subject) = subject_of(manifest) else { return Ok(Vec::new()) };
        let path = self.referrers_folder(repository, &subject);
        folder::create(&path).doing("create the folder", &path)?;
        let file = path.join(digest.hex());
        File::create(&file).doing("create", &file)?;
        let above = path.parent().into_iter().flat_map(|above| [Some(above), above.parent()]).flatten();
        [path.as_path()].into_iter().chain(above).map(folder::open).collect()
    }

    /// Forgets a manifest that was removed.
    pub(crate) fn forget_referrer(
        &self,
        repository: &RepositoryPath,
        manifest: &[u8],
        digest: &Digest,
    ) -> Result<()> {
        if let Some(subject) = subject_of(manifest) {
            folder::remove_file(&self.referrers_folder(repository, &subject).join(digest.hex()))?;
        }
        Ok(())
    }

    fn referrers_folder(&self, repository: &RepositoryPath, subject: &Digest) -> PathBuf {
        self.folder(repository, "_referrers").join(subject.hex())
    }
}

/// A manifest without a type of its own has its configuration's.
fn descriptor(media_type: MediaType, digest: Digest, bytes: &[u8]) -> Descriptor {
    let about: About = serde_json::from_slice(bytes).unwrap_or_default();
    let own = about.artifact_type.filter(|name| !name.is_empty());
    let mut descriptor = Descriptor::new(media_type, digest, bytes.len() as u64);
    descriptor.artifact_type = own.or_else(|| about.config.map(|config| config.media_type));
    descriptor.annotations = about.annotations;
    descriptor
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_oci::{Index, Manifest};

    fn about(text: &str) -> Descriptor {
        descriptor(MediaType::Manifest, Digest::of(text), text.as_bytes())
    }

    #[test]
    fn the_type_is_the_artifacts_or_else_the_configurations() {
        let empty = Descriptor::of(MediaType::Empty, b"{}");
        let mut manifest = Manifest::image(empty, vec![]);
        let kind =
            |manifest: &Manifest| about(str::from_utf8(&manifest.to_bytes()).unwrap()).artifact_type.unwrap();
        assert_eq!(kind(&manifest), MediaType::Empty.as_str());
        manifest.artifact_type = Some(String::new());
        assert_eq!(kind(&manifest), MediaType::Empty.as_str());
        manifest.artifact_type = Some("application/vnd.example".to_owned());
        assert_eq!(kind(&manifest), "application/vnd.example");
        let index = Index::new(vec![]).to_bytes();
        assert_eq!(about(str::from_utf8(&index).unwrap()).artifact_type, None);
    }

    #[test]
    fn a_subject_is_found_in_an_index_too() {
        let subject = Descriptor::of(MediaType::Manifest, b"subject");
        let mut index = serde_json::to_value(Index::new(vec![])).unwrap();
        assert_eq!(subject_of(index.to_string().as_bytes()), None);
        index["subject"] = serde_json::to_value(&subject).unwrap();
        assert_eq!(subject_of(index.to_string().as_bytes()), Some(subject.digest));
    }
}
