//! An image made again from the record of its build, and held against the one that there is.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use longshore_attest::contents::{Content as Entry, LayerContents};
use longshore_layer::estargz;
use longshore_oci::{Descriptor, Digest, MediaType, Reference, Tag};
use longshore_store::{BlobStore, Table};
use serde::Serialize;
use serde_json::Value;

use super::{FoundImage, Parts, Record, patch};
use crate::{
    BuildError, Builder, LayerRecord, Observer, Request, Upgrade,
    builder::{contents, title},
    image::{ImageLayer, assemble},
    layer::{Layers, Packing, format_of},
    parent::{Facts, Parent},
    plan::{Content, Plan, PlannedLayer, PlannedParent},
    sbom::layouts,
    source::SourceTree,
};

/// So many files that differ are named of a layer.
const MOST_FILES: usize = 20;

/// What came of making an image again.
#[derive(Clone, Debug, Serialize)]
pub struct Rebuilt {
    /// The digest of the image that there is.
    pub expected: Digest,
    /// The digest of the image that was made.
    pub found: Digest,
    /// Where the code was from.
    pub code: CodeFrom,
    /// How many layers were made.
    pub made: usize,
    /// What may be why they differ: other code, another version of longshore.
    pub remarks: Vec<String>,
    /// Where the images differ: nowhere if the digests are the same.
    pub differences: Vec<Difference>,
}

/// Where the code of an image that was made again is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CodeFrom {
    /// From a folder.
    Folder,
    /// It is the layer of the image itself, which was not made again.
    Image,
}

/// A place where two images differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Difference {
    /// A field of the configuration or the manifest.
    Field {
        /// Its path, e.g. `config.Env`.
        field: String,
        /// What the image has.
        expected: Value,
        /// What was made.
        found: Value,
    },
    /// A layer.
    Layer {
        /// What it holds.
        title: String,
        /// The digest in the image.
        expected: Option<Digest>,
        /// The digest that was made.
        found: Option<Digest>,
        /// The first of the files that differ.
        files: Vec<FileDifference>,
        /// How many files differ.
        count: usize,
    },
}

/// A file that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileDifference {
    /// Its path.
    pub path: String,
    /// In which way.
    pub change: FileChange,
}

/// In which way a file differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FileChange {
    /// The image has it, and it was not made.
    Missing,
    /// It was made, and the image does not have it.
    Added,
    /// It has other content.
    Changed,
}

impl Builder {
    /// Makes an image again, with nothing of what the table remembers, and compares. The parent is taken by its digest, and
    /// wheels by theirs. The code is from `source`, or else is the layer that the image has.
    pub async fn rebuild(
        &self,
        image: &Reference,
        inputs: &Value,
        source: Option<PathBuf>,
        observer: Observer<'_>,
    ) -> Result<Rebuilt, BuildError> {
        let record = Record::read(image, inputs)?;
        let found = self.find(image).await?;
        let there = found.only()?;
        let below =
            patch::layout(&there.parts, &image.to_string(), &record.settings, &record.python, &record.lock)?;
        let parent = self.recorded_parent(&record, there).await?;
        let scratch = tempfile::Builder::new()
            .prefix("longshore-rebuild-")
            .tempdir()
            .map_err(|source| BuildError::Io { doing: "making a folder to rebuild in".to_owned(), source })?;
        let mut builder = self.clone();
        builder.table = Table::open(scratch.path().join("table"))?;
        builder.layers = Layers::new(BlobStore::open(scratch.path().join("blobs"))?, builder.table.clone());
        builder.created.clone_from(&record.created);
        self.drop_damaged_wheels(&record)?;

        let mut remarks = remarks(&record);
        let code = self.code(&record, source.as_deref(), &mut remarks).await?;
        let mut plan = builder.plan_again(&record, &parent, there, below, code.as_ref())?;
        if let Some(addition) = record.apt.as_ref().filter(|addition| !addition.packages.is_empty()) {
            plan.layers.insert(0, builder.recorded_apt(addition, &parent, observer).await?);
        }
        let made = builder.make(&plan, observer).await?;
        let titles = plan.layers.iter().map(|layer| layer.title.title.clone());
        let layers: Vec<ImageLayer> =
            made.iter().zip(titles).map(|(made, title)| ImageLayer { record: made.record, title }).collect();
        let (config, manifest) = assemble(&parent, &layers, &record.settings, &record.created);
        let again = Parts { manifest, config };
        let (expected, found) = (there.digest, again.digest());
        let differences = if expected == found {
            Vec::new()
        } else {
            self.compare(there, &again, builder.layers_made(), observer).await?
        };
        Ok(Rebuilt {
            expected,
            found,
            code: if code.is_some() { CodeFrom::Folder } else { CodeFrom::Image },
            made: plan.layers.iter().filter(|layer| layer.known.is_none()).count(),
            remarks,
            differences,
        })
    }

    /// Where this builder's layers are.
    const fn layers_made(&self) -> &BlobStore {
        self.layers.blobs()
    }

    /// The parent that is recorded, its layers on this machine and whole.
    async fn recorded_parent(&self, record: &Record, child: &FoundImage) -> Result<Parent, BuildError> {
        let name: Reference = record.parent.name.parse()?;
        let found = self.find(&name.at(record.parent.digest)).await?;
        let FoundImage { parts: Parts { manifest, config }, .. } = found.only()?.clone();
        let sources = [name.repository.clone(), child.repository.clone()];
        for layer in &manifest.layers {
            if self.registry.blobs().verify(&layer.digest).is_err() {
                self.registry.blobs().remove(&layer.digest)?;
                self.bring_layers(std::slice::from_ref(layer), &sources).await?;
            }
        }
        Ok(Parent {
            title: record.parent.name.clone(),
            name: record.parent.name.clone(),
            digest: record.parent.digest,
            manifest,
            config,
            python: record.python.clone(),
            distributions: Vec::new(),
            facts: Facts::Known,
            source: None,
            tag: None,
            debian: None,
        })
    }

    /// A wheel that is here has to be the one that is recorded.
    fn drop_damaged_wheels(&self, record: &Record) -> Result<(), BuildError> {
        for package in &record.lock.packages {
            let digest = &package.wheel.digest;
            if self.downloads.size_of(digest)?.is_some() && self.downloads.verify(digest).is_err() {
                self.downloads.remove(digest)?;
            }
        }
        Ok(())
    }

    async fn code(
        &self,
        record: &Record,
        source: Option<&std::path::Path>,
        remarks: &mut Vec<String>,
    ) -> Result<Option<SourceTree>, BuildError> {
        let Some(source) = source.map(std::path::Path::to_owned) else { return Ok(None) };
        let allow = record.settings.allow_secrets.clone().unwrap_or_default();
        let shown = source.display().to_string();
        let scan = tokio::task::spawn_blocking(move || SourceTree::scan(&source, &allow, None)).await;
        let code = scan.map_err(|_| BuildError::Lost("reading the code"))??;
        if code.digest() != record.code {
            remarks.push(format!("the code in {shown} is not that of the build"));
        }
        Ok(Some(code))
    }

    fn plan_again(
        &self,
        record: &Record,
        parent: &Parent,
        there: &FoundImage,
        below: usize,
        code: Option<&SourceTree>,
    ) -> Result<Plan, BuildError> {
        let Parts { manifest, config } = &there.parts;
        let planned = contents(
            &record.settings,
            &record.python,
            patch::parents_own(&there.parts, below),
            &record.lock,
        )?
        .into_iter()
        .enumerate();
        let made_by = there.parts.made_by();
        let layers = planned.map(|(at, content)| {
            let mut title = title(&content, &record.lock, code.unwrap_or(&patch::no_code()));
            let mut known = None;
            if let (Content::Code, None) = (&content, code) {
                let (layer, diff_id) = (&manifest.layers[below + at], config.rootfs.diff_ids[below + at]);
                known = Some(record_of(layer, diff_id));
                let line = made_by[below + at].unwrap_or_default();
                line.trim_start_matches("longshore: ").clone_into(&mut title.title);
            }
            PlannedLayer { title, known, content }
        });
        Ok(Plan {
            request: Request {
                // Nothing is sent there: it is the registry of this machine.
                repository: format!("{}/rebuilt", self.uri).parse()?,
                tag: Tag::latest(),
                source_root: PathBuf::new(),
                settings: record.settings.clone(),
                host_python: None,
                upgrade: Upgrade::No,
                drivers: Vec::new(),
            },
            arch: config.platform.linux_arch().ok_or(BuildError::Machine)?,
            format: format_of(&record.settings)?,
            interpreter: None,
            parent: PlannedParent::Ready(Box::new(parent.clone())),
            lock: record.lock.clone(),
            code: code.cloned().unwrap_or_else(patch::no_code),
            layers: layers.collect(),
            fetcher: (*self.fetcher).clone(),
        })
    }

    async fn compare(
        &self,
        there: &FoundImage,
        again: &Parts,
        made: &BlobStore,
        observer: Observer<'_>,
    ) -> Result<Vec<Difference>, BuildError> {
        let mut differences = fields(&there.parts, again);
        let theirs = longshore_attest::layers(&there.parts.manifest, &there.parts.config)?;
        let ours = longshore_attest::layers(&again.manifest, &again.config)?;
        let (their_lines, our_lines) = (there.parts.made_by(), again.made_by());
        for at in 0..theirs.len().max(ours.len()) {
            let (their, our) = (theirs.get(at), ours.get(at));
            if their.map(|it| it.0.digest) == our.map(|it| it.0.digest) {
                continue;
            }
            let line = |lines: &[Option<&str>]| lines.get(at).copied().flatten().map(str::to_owned);
            let title = line(&their_lines).or_else(|| line(&our_lines)).unwrap_or_default();
            let files = match (their, our) {
                (Some(their), Some((layer, diff_id))) => {
                    let repository = std::slice::from_ref(&there.repository);
                    let before = self.contents_of(&[*their], repository, observer).await?;
                    let after = LayerContents::read(layer, diff_id, made.open_blob(&layer.digest)?)?;
                    before.0.first().map(|before| files(before, &after)).unwrap_or_default()
                }
                _ => Vec::new(),
            };
            differences.push(Difference::Layer {
                title: title.trim_start_matches("longshore: ").to_owned(),
                expected: their.map(|it| it.0.digest),
                found: our.map(|it| it.0.digest),
                count: files.len(),
                files: files.into_iter().take(MOST_FILES).collect(),
            });
        }
        Ok(differences)
    }
}

/// A layer of an image as the record of one that was made.
fn record_of(layer: &Descriptor, diff_id: Digest) -> LayerRecord {
    let annotation = |name: &str| layer.annotations.get(name);
    LayerRecord {
        digest: layer.digest,
        size: layer.size,
        diff_id,
        uncompressed_size: annotation(estargz::UNCOMPRESSED_SIZE)
            .and_then(|size| size.parse().ok())
            .unwrap_or_default(),
        packing: if layer.media_type == MediaType::LayerZstd { Packing::Zstd } else { Packing::Gzip },
        toc: annotation(estargz::TOC_DIGEST).and_then(|digest| digest.parse().ok()),
    }
}

/// What of the program was another one when the image was built.
fn remarks(record: &Record) -> Vec<String> {
    let mut remarks = Vec::new();
    let this = env!("CARGO_PKG_VERSION");
    if record.longshore != this {
        remarks.push(format!("the image was built with longshore {}, and this is {this}", record.longshore));
    }
    for (name, version) in layouts() {
        if let Some(recorded) = record.layouts.get(name).filter(|recorded| **recorded != version) {
            remarks.push(format!("layout {name} was version {recorded}, and is {version} now"));
        }
    }
    remarks
}

/// The fields in which two images differ, layers aside.
fn fields(there: &Parts, again: &Parts) -> Vec<Difference> {
    let documents = |parts: &Parts| {
        let mut documents = serde_json::json!({"configuration": parts.config, "manifest": parts.manifest});
        // They follow from the layers.
        documents["configuration"]["rootfs"] = Value::Null;
        documents["manifest"]["config"] = Value::Null;
        documents["manifest"]["layers"] = Value::Null;
        documents
    };
    let mut found = Vec::new();
    differing(&documents(there), &documents(again), "", &mut found);
    found
}

fn differing(one: &Value, other: &Value, path: &str, found: &mut Vec<Difference>) {
    if let (Value::Object(one), Value::Object(other)) = (one, other) {
        let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
        for name in names {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let null = &Value::Null;
            differing(one.get(name).unwrap_or(null), other.get(name).unwrap_or(null), &path, found);
        }
    } else if one != other {
        let (expected, other) = (one.clone(), other.clone());
        found.push(Difference::Field { field: path.to_owned(), expected, found: other });
    }
}

/// The files in which two layers differ, in the order of their paths.
fn files(before: &LayerContents, after: &LayerContents) -> Vec<FileDifference> {
    let by_path = |layer: &LayerContents| -> BTreeMap<String, Entry> {
        layer.items.iter().map(|item| (item.path.clone(), item.content.clone())).collect()
    };
    let (before, after) = (by_path(before), by_path(after));
    let mut differences = Vec::new();
    for path in before.keys().chain(after.keys().filter(|path| !before.contains_key(*path))) {
        let change = match (before.get(path), after.get(path)) {
            (Some(_), None) => FileChange::Missing,
            (None, Some(_)) => FileChange::Added,
            (one, other) if one != other => FileChange::Changed,
            _ => continue,
        };
        differences.push(FileDifference { path: format!("/{path}"), change });
    }
    differences.sort_by(|a, b| a.path.cmp(&b.path));
    differences
}

#[cfg(test)]
mod tests {
    use longshore_attest::contents::{Item, Nature};

    use super::*;

    #[test]
    fn layers_are_compared_file_by_file() {
        let layer = |files: &[(&str, u64)]| LayerContents {
            diff_id: Digest::of([]),
            uncompressed_size: 0,
            items: files
                .iter()
                .map(|(path, size)| Item {
                    path: (*path).to_owned(),
                    content: Entry::File { size: *size, hash: 0, nature: Nature::Plain },
                })
                .collect(),
            claims: Vec::new(),
            debian: Vec::new(),
        };
        let found = files(&layer(&[("a", 1), ("b", 2), ("d", 4)]), &layer(&[("b", 3), ("c", 1), ("d", 4)]));
        let found: Vec<_> = found.iter().map(|it| (it.path.as_str(), it.change)).collect();
        assert_eq!(
            found,
            [("/a", FileChange::Missing), ("/b", FileChange::Changed), ("/c", FileChange::Added)]
        );
    }

    #[test]
    fn fields_are_named_by_their_path() {
        let mut found = Vec::new();
        let (one, other) = (serde_json::json!({"a": {"b": 1, "c": 2}}), serde_json::json!({"a": {"b": 1}}));
        differing(&one, &other, "", &mut found);
        let [Difference::Field { field, .. }] = &found[..] else { panic!("{found:?}") };
        assert_eq!(field, "a.c");
    }
}
