//! The answers of a registry that keeps to the distribution specification, and is strict with those who ask.

use bytes::Bytes;
use http::header;
use longshore_oci::Digest;
use serde_json::{Value, json};

use super::{
    HostileConfig, MissingBlobs, Mounts, Referrers, SinglePost, Tags,
    content::{Content, Manifest, Upload},
    message::{Answer, Head},
    operation::{Operation, Target},
};

pub(super) const CONTENT_DIGEST: &str = "docker-content-digest";

/// Carries a request out.
pub(super) fn answer(
    content: &mut Content,
    config: &HostileConfig,
    operation: Operation,
    target: &Target,
    head: &Head,
    body: &Bytes,
) -> Answer {
    use Operation as O;
    let name = target.repository().unwrap_or_default();
    match (operation, target) {
        (O::Base, _) => Answer::new(200).body("application/json", "{}"),
        (O::Catalog, _) => {
            let names: Vec<_> = content.repositories.keys().cloned().collect();
            page(head, "/v2/_catalog", &names, |names| json!({ "repositories": names }))
        }
        (O::Tags, _) => match content.repositories.get(name) {
            None => error(404, "NAME_UNKNOWN", "no such repository"),
            Some(repository) => {
                let tags: Vec<_> = repository.tags.keys().cloned().collect();
                let path = format!("/v2/{name}/tags/list");
                page(head, &path, &tags, |tags| json!({ "name": name, "tags": tags }))
            }
        },
        (O::Referrers, Target::Referrers(_, digest)) => referrers(content, config, name, digest, head),
        (O::ManifestHead | O::ManifestGet, Target::Manifest(_, reference)) => {
            match content.manifest(name, reference) {
                None => error(404, "MANIFEST_UNKNOWN", "no such manifest"),
                Some((digest, manifest)) => Answer::new(200)
                    .body(&manifest.media_type, manifest.bytes.clone())
                    .with(CONTENT_DIGEST, &digest),
            }
        }
        (O::ManifestPut, Target::Manifest(_, reference)) => {
            put_manifest(content, config, name, reference, head, body)
        }
        (O::ManifestDelete, Target::Manifest(_, reference)) => delete_manifest(content, name, reference),
        (O::BlobHead | O::BlobGet, Target::Blob(_, digest)) => match content.blob(name, digest) {
            None => error(404, "BLOB_UNKNOWN", "no such blob"),
            Some(bytes) => blob(bytes, digest, head),
        },
        (O::BlobDelete, Target::Blob(_, digest)) => match content.repository(name).blobs.remove(digest) {
            None => error(404, "BLOB_UNKNOWN", "no such blob"),
            Some(_) => Answer::new(202),
        },
        (O::Mount, _) => mount(content, config, name, head),
        (O::UploadBegin, _) => begin(content, config, name, head, body),
        (_, Target::Upload(_, id)) => upload(content, operation, name, id, head, body),
        _ => error(404, "UNSUPPORTED", "no such end point"),
    }
}

/// An error as the specification writes it.
pub(super) fn error(status: u16, code: &str, message: &str) -> Answer {
    let body = json!({ "errors": [{ "code": code, "message": message }] });
    Answer::new(status).body("application/json", body.to_string())
}

/// Where an upload goes on. The query must be sent back as it is.
pub(super) fn location(repository: &str, id: &str, length: usize) -> String {
    format!("/v2/{repository}/blobs/uploads/{id}?_state={length}")
}

fn progress(status: u16, repository: &str, id: &str, length: usize) -> Answer {
    Answer::new(status)
        .with(header::LOCATION, &location(repository, id, length))
        .with(header::RANGE, &format!("0-{}", length.saturating_sub(1)))
        .with("docker-upload-uuid", id)
}

fn page(head: &Head, path: &str, all: &[String], body: impl FnOnce(&[String]) -> Value) -> Answer {
    let last = head.query("last").unwrap_or_default();
    let rest: Vec<_> = all.iter().filter(|item| **item > last).cloned().collect();
    let Some(n) = head.query("n") else {
        return Answer::new(200).body("application/json", body(&rest).to_string());
    };
    let Ok(n) = n.parse::<usize>() else {
        return error(400, "PAGINATION_NUMBER_INVALID", "n is not a number");
    };
    let shown = &rest[..n.min(rest.len())];
    let answer = Answer::new(200).body("application/json", body(shown).to_string());
    match shown.last() {
        Some(last) if rest.len() > n => {
            answer.with(header::LINK, &format!("<{path}?n={n}&last={last}>; rel=\"next\""))
        }
        _ => answer,
    }
}

fn referrers(content: &Content, config: &HostileConfig, name: &str, digest: &Digest, head: &Head) -> Answer {
    if config.referrers == Referrers::Missing {
        return error(404, "UNSUPPORTED", "404 page not found");
    }
    let artifact_type = head.query("artifactType");
    let index = content.referrers(name, digest, artifact_type.as_deref());
    let answer = Answer::new(200).body("application/vnd.oci.image.index+json", index.to_string());
    let answer = answer.with(header::CONTENT_TYPE, "application/vnd.oci.image.index.v1+json");
    if artifact_type.is_some() { answer.with("oci-filters-applied", "artifactType") } else { answer }
}

fn put_manifest(
    content: &mut Content,
    config: &HostileConfig,
    name: &str,
    reference: &str,
    head: &Head,
    body: &Bytes,
) -> Answer {
    let invalid = |message: &str| error(400, "MANIFEST_INVALID", message);
    if body.len() > 4 << 20 {
        return error(413, "SIZE_INVALID", "the manifest is too large");
    }
    let (Some(media_type), Ok(parsed)) =
        (head.header(header::CONTENT_TYPE), serde_json::from_slice::<Value>(body))
    else {
        return invalid("no media type, or not JSON");
    };
    if parsed["mediaType"].as_str().is_some_and(|says| says != media_type) {
        return invalid("the media type is another one than the manifest's own");
    }
    let digest = Digest::of(body);
    match reference.parse::<Digest>() {
        Ok(named) if named != digest => {
            return error(400, "DIGEST_INVALID", "the manifest has another digest");
        }
        Err(_) if reference.contains(':') => return error(400, "DIGEST_INVALID", "not a digest"),
        _ => {}
    }
    let lacks = content.lacks(name, body);
    if config.missing_blobs == MissingBlobs::Refused && lacks.iter().any(|lack| lack.ends_with("missing")) {
        return error(400, "MANIFEST_BLOB_UNKNOWN", &lacks.join(", "));
    }
    let repository = content.repository(name);
    let moves = repository.tags.get(reference).is_some_and(|tagged| *tagged != digest);
    if config.tags == Tags::Immutable && moves {
        return error(
            400,
            "TAG_INVALID",
            "the tag cannot be overwritten because the repository is immutable",
        );
    }
    let manifest = Manifest { media_type: media_type.to_owned(), bytes: body.clone() };
    repository.manifests.insert(digest, manifest);
    if reference.parse::<Digest>().is_err() {
        repository.tags.insert(reference.to_owned(), digest);
    }
    let answer = Answer::new(201)
        .with(header::LOCATION, &format!("/v2/{name}/manifests/{digest}"))
        .with(CONTENT_DIGEST, &digest);
    match super::content::digest(&parsed["subject"]) {
        Some(subject) if config.referrers == Referrers::Served => answer.with("oci-subject", &subject),
        _ => answer,
    }
}

fn delete_manifest(content: &mut Content, name: &str, reference: &str) -> Answer {
    let repository = content.repository(name);
    let was_there = match reference.parse::<Digest>() {
        Ok(digest) => {
            repository.tags.retain(|_, tagged| *tagged != digest);
            repository.manifests.remove(&digest).is_some()
        }
        Err(_) => repository.tags.remove(reference).is_some(),
    };
    if was_there { Answer::new(202) } else { error(404, "MANIFEST_UNKNOWN", "no such manifest") }
}

fn blob(bytes: &Bytes, digest: &Digest, head: &Head) -> Answer {
    let answer = Answer::new(200)
        .with(header::ACCEPT_RANGES, "bytes")
        .with(CONTENT_DIGEST, digest)
        .body("application/octet-stream", bytes.clone());
    let Some((first, last)) = head
        .header(header::RANGE)
        .and_then(|range| range.strip_prefix("bytes="))
        .and_then(|range| range.split_once('-'))
    else {
        return answer;
    };
    let size = bytes.len();
    let (Ok(first), last) = (first.parse::<usize>(), last.parse::<usize>().unwrap_or(usize::MAX)) else {
        return answer;
    };
    if first >= size || last < first {
        let unsatisfiable = error(416, "RANGE_INVALID", "there is nothing in that range");
        return unsatisfiable.with(header::CONTENT_RANGE, &format!("bytes */{size}"));
    }
    let end = last.saturating_add(1).min(size);
    let mut part = answer.with(header::CONTENT_RANGE, &format!("bytes {first}-{}/{size}", end - 1));
    part.status = http::StatusCode::PARTIAL_CONTENT;
    part.body = bytes.slice(first..end);
    part
}

fn mount(content: &mut Content, config: &HostileConfig, name: &str, head: &Head) -> Answer {
    let Some(digest) = head.query("mount").and_then(|digest| digest.parse::<Digest>().ok()) else {
        return error(400, "DIGEST_INVALID", "not a digest");
    };
    let from = head.query("from");
    let found = match (config.mounts, &from) {
        (Mounts::Never, _) | (Mounts::Named, None) => None,
        (_, Some(from)) => content.blob(from, &digest).cloned(),
        (Mounts::Anonymous, None) => {
            content.repositories.values().find_map(|repository| repository.blobs.get(&digest).cloned())
        }
    };
    if let Some(bytes) = found {
        content.repository(name).blobs.insert(digest, bytes);
        return created(name, &digest);
    }
    let id = content.begin(name);
    progress(202, name, &id, 0)
}

fn created(name: &str, digest: &Digest) -> Answer {
    Answer::new(201)
        .with(header::LOCATION, &format!("/v2/{name}/blobs/{digest}"))
        .with(CONTENT_DIGEST, digest)
}

/// What a client sends that took a form's type for an upload's.
fn is_form(head: &Head) -> bool {
    head.header(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"))
}

fn begin(content: &mut Content, config: &HostileConfig, name: &str, head: &Head, body: &Bytes) -> Answer {
    let digest = head.query("digest").filter(|_| config.single_post == SinglePost::Supported);
    let Some(digest) = digest else {
        let id = content.begin(name);
        return progress(202, name, &id, 0);
    };
    match digest.parse::<Digest>() {
        Ok(digest) if digest == Digest::of(body) => {
            content.repository(name).blobs.insert(digest, body.clone());
            created(name, &digest)
        }
        _ => error(400, "DIGEST_INVALID", "the bytes have another digest"),
    }
}

fn upload(
    content: &mut Content,
    operation: Operation,
    name: &str,
    id: &str,
    head: &Head,
    body: &Bytes,
) -> Answer {
    let unknown = || error(404, "BLOB_UPLOAD_UNKNOWN", "no such upload");
    let Some(mut upload) = content.uploads.remove(id).filter(|upload| upload.repository == name) else {
        return unknown();
    };
    if head.query("_state").is_none() {
        content.uploads.insert(id.to_owned(), upload);
        return error(400, "BLOB_UPLOAD_INVALID", "the query of the location did not come back");
    }
    let answer = match operation {
        Operation::UploadStatus => progress(204, name, id, upload.bytes.len()),
        Operation::UploadCancel => return Answer::new(204),
        Operation::UploadPatch => match append(&mut upload, head, body) {
            Ok(()) => progress(202, name, id, upload.bytes.len()),
            Err(()) => out_of_order(name, id, upload.bytes.len()),
        },
        _ if is_form(head) => error(400, "BLOB_UPLOAD_INVALID", "a form is not a blob"),
        _ => {
            let Some(digest) = head.query("digest").and_then(|digest| digest.parse::<Digest>().ok()) else {
                content.uploads.insert(id.to_owned(), upload);
                return error(400, "DIGEST_INVALID", "no digest");
            };
            if !body.is_empty() && append(&mut upload, head, body).is_err() {
                out_of_order(name, id, upload.bytes.len())
            } else if Digest::of(&upload.bytes) == digest {
                content.repository(name).blobs.insert(digest, Bytes::from(upload.bytes));
                return created(name, &digest);
            } else {
                // Such an upload is of no use any more.
                return error(400, "DIGEST_INVALID", "the bytes have another digest");
            }
        }
    };
    content.uploads.insert(id.to_owned(), upload);
    answer
}

fn out_of_order(name: &str, id: &str, length: usize) -> Answer {
    let mut answer = progress(416, name, id, length);
    answer.body = Bytes::from_static(br#"{"errors":[{"code":"BLOB_UPLOAD_INVALID"}]}"#);
    answer
}

/// Adds a chunk. One that says where it begins must begin where the upload ends, and be as long as it says.
fn append(upload: &mut Upload, head: &Head, body: &Bytes) -> Result<(), ()> {
    if let Some(range) = head.header(header::CONTENT_RANGE) {
        let (first, last) = range.split_once('-').ok_or(())?;
        let (first, last): (usize, usize) = (first.parse().map_err(drop)?, last.parse().map_err(drop)?);
        if first != upload.bytes.len() || (last + 1).checked_sub(first) != Some(body.len()) {
            return Err(());
        }
    }
    upload.last_chunk = upload.bytes.len();
    upload.bytes.extend_from_slice(body);
    Ok(())
}
