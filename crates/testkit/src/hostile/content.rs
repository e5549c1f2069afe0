//! What a registry holds.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use longshore_oci::Digest;
use serde_json::{Value, json};

/// Everything, in memory.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) repositories: BTreeMap<String, Repository>,
    pub(super) uploads: HashMap<String, Upload>,
    uploads_begun: u64,
}

/// One repository.
#[derive(Debug, Default)]
pub(super) struct Repository {
    /// By the digest that they were put under. A registry that lost bytes has others here than the digest says.
    pub(super) blobs: BTreeMap<Digest, Bytes>,
    pub(super) manifests: BTreeMap<Digest, Manifest>,
    pub(super) tags: BTreeMap<String, Digest>,
}

/// A manifest as it was put.
#[derive(Clone, Debug)]
pub(super) struct Manifest {
    pub(super) media_type: String,
    pub(super) bytes: Bytes,
}

/// An unfinished upload.
#[derive(Debug, Default)]
pub(super) struct Upload {
    pub(super) repository: String,
    pub(super) bytes: Vec<u8>,
    /// Where the last chunk begins.
    pub(super) last_chunk: usize,
}

impl Content {
    /// Begins an upload; its name.
    pub(super) fn begin(&mut self, repository: &str) -> String {
        self.uploads_begun += 1;
        let id = format!("upload-{}", self.uploads_begun);
        let upload = Upload { repository: repository.to_owned(), ..Upload::default() };
        self.uploads.insert(id.clone(), upload);
        id
    }

    pub(super) fn repository(&mut self, name: &str) -> &mut Repository {
        self.repositories.entry(name.to_owned()).or_default()
    }

    pub(super) fn blob(&self, repository: &str, digest: &Digest) -> Option<&Bytes> {
        self.repositories.get(repository)?.blobs.get(digest)
    }

    /// The manifest that a tag or digest names.
    pub(super) fn manifest(&self, repository: &str, reference: &str) -> Option<(Digest, &Manifest)> {
        let repository = self.repositories.get(repository)?;
        let digest = match reference.parse() {
            Ok(digest) => digest,
            Err(_) => *repository.tags.get(reference)?,
        };
        Some((digest, repository.manifests.get(&digest)?))
    }

    /// What a manifest of a repository lacks, or has with other bytes: digests, each with what is wrong.
    pub(super) fn lacks(&self, repository: &str, manifest: &[u8]) -> Vec<String> {
        let Ok(manifest) = serde_json::from_slice::<Value>(manifest) else {
            return vec!["the manifest is not JSON".to_owned()];
        };
        let nothing = Repository::default();
        let content = self.repositories.get(repository).unwrap_or(&nothing);
        let mut lacks = Vec::new();
        for blob in manifest["layers"].as_array().into_iter().flatten().chain(manifest.get("config")) {
            let Some(digest) = digest(blob).filter(|_| is_distributed(blob)) else { continue };
            match content.blobs.get(&digest) {
                None => lacks.push(format!("blob {digest} is missing")),
                Some(bytes) if Digest::of(bytes) != digest => {
                    lacks.push(format!("blob {digest} has other bytes ({})", bytes.len()));
                }
                Some(_) => {}
            }
        }
        for entry in manifest["manifests"].as_array().into_iter().flatten() {
            let Some(digest) = digest(entry) else { continue };
            match content.manifests.get(&digest) {
                None => lacks.push(format!("manifest {digest} is missing")),
                Some(inner) => lacks.extend(self.lacks(repository, &inner.bytes)),
            }
        }
        lacks
    }

    /// The index of what says something about a manifest.
    pub(super) fn referrers(&self, repository: &str, subject: &Digest, artifact_type: Option<&str>) -> Value {
        let manifests = self.repositories.get(repository).into_iter().flat_map(|content| &content.manifests);
        let entries: Vec<_> = manifests
            .filter_map(|(digest, manifest)| {
                let parsed: Value = serde_json::from_slice(&manifest.bytes).ok()?;
                if self::digest(&parsed["subject"])? != *subject {
                    return None;
                }
                let kind = parsed["artifactType"].as_str().or_else(|| parsed["config"]["mediaType"].as_str());
                if artifact_type.is_some() && artifact_type != kind {
                    return None;
                }
                let mut entry = json!({
                    "mediaType": manifest.media_type,
                    "digest": digest.to_string(),
                    "size": manifest.bytes.len(),
                });
                if let Some(kind) = kind {
                    entry["artifactType"] = Value::from(kind);
                }
                if let Some(annotations) = parsed.get("annotations") {
                    entry["annotations"] = annotations.clone();
                }
                Some(entry)
            })
            .collect();
        json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": entries,
        })
    }
}

/// Layers that may not be distributed are not asked for (image specification, "Non-Distributable Layers").
fn is_distributed(descriptor: &Value) -> bool {
    let kind = descriptor["mediaType"].as_str().unwrap_or_default();
    !kind.contains(".nondistributable.") && !kind.contains(".rootfs.foreign.")
}

/// The digest of a descriptor.
pub(super) fn digest(descriptor: &Value) -> Option<Digest> {
    descriptor["digest"].as_str()?.parse().ok()
}
