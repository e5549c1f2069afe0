//! Another version of one wheel in an image whose other layers stay.

use std::{collections::BTreeSet, path::PathBuf};

use longshore_oci::{Arch, Digest, Platform, Reference, Tag};
use longshore_pipeline::DockerSettings;
use longshore_python::{
    PackageName,
    lock::{Lock, LockedPackage, Origin, PresentPackage, Selected, Selection},
    requirements::Requirements,
    target::Target,
    uv::{Dependencies, Environment, Freshness, Indexes, LockRequest},
};
use serde_json::{Map, Value, json};

use super::{
    EditError, Found, FoundImage, Parts, Published, Record,
    rebase::{has_apt_layer, parents_layers, relisted},
};
use crate::{
    BuildError, Builder, Event, Observer, Request, Upgrade,
    builder::{contents, known, title},
    image::ImageLayer,
    layer::format_of,
    parent::{Facts, Parent, PythonFacts, Reading},
    plan::{Content, Plan, PlannedLayer, PlannedParent},
    sbom::{self, Ingredients, layouts},
    source::SourceTree,
};

/// What longshore puts before the title of a layer in an image's history.
const PREFIX: &str = "longshore: ";

/// An image, and the version that one of its wheels is to have.
#[derive(Clone, Debug)]
pub struct Patch {
    /// The image.
    pub image: Reference,
    /// The version: `NAME==VERSION`, or the path of a wheel.
    pub wheel: Wanted,
    /// What the result is called.
    pub name: Reference,
    /// A Python on this machine, for the resolver to run with.
    pub host_python: Option<PathBuf>,
}

/// The wheel that is to be in the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A version that an index has.
    Version {
        /// The package.
        name: PackageName,
        /// The requirement, as it was written.
        requirement: String,
    },
    /// A file on this machine.
    File {
        /// The package.
        name: PackageName,
        /// The wheel.
        path: PathBuf,
    },
}

impl Wanted {
    /// Reads `NAME==VERSION`, or the path of a wheel.
    pub fn parse(text: &str) -> Result<Self, EditError> {
        let wrong = || EditError::Wanted(text.to_owned());
        let path = PathBuf::from(text);
        if path.extension().is_some_and(|extension| extension == "whl") {
            let path = path.canonicalize().map_err(|_| wrong())?;
            let file = path.file_name().and_then(|name| name.to_str()).ok_or_else(wrong)?;
            let name = file.parse::<longshore_python::filename::WheelFilename>().map_err(|_| wrong())?;
            return Ok(Self::File { name: name.name().clone(), path });
        }
        let (name, version) = text.split_once("==").ok_or_else(wrong)?;
        let plain =
            |it: &str| !it.is_empty() && it.chars().all(|c| c.is_ascii_alphanumeric() || ".+!_-".contains(c));
        if !plain(version.trim()) {
            return Err(wrong());
        }
        let name: PackageName = name.trim().parse().map_err(|_| wrong())?;
        Ok(Self::Version { requirement: format!("{name}=={}", version.trim()), name })
    }

    const fn name(&self) -> &PackageName {
        match self {
            Self::Version { name, .. } | Self::File { name, .. } => name,
        }
    }

    fn requirement(&self) -> String {
        match self {
            Self::Version { requirement, .. } => requirement.clone(),
            Self::File { name, path } => {
                let url = url::Url::from_file_path(path);
                url.map_or_else(|()| format!("{name}"), |url| format!("{name} @ {url}"))
            }
        }
    }
}

/// A layer of the result.
#[derive(Clone, Debug)]
pub(crate) enum Slot {
    /// The image's, counted from its lowest layer.
    Keep(usize),
    /// Another one.
    Make(Box<Content>),
}

/// What is done to an image: pure.
#[derive(Clone, Debug)]
pub(crate) struct PatchPlan {
    /// How many layers are the parent's.
    pub(crate) below: usize,
    /// The layers above the parent, lowest first.
    pub(crate) slots: Vec<Slot>,
    /// The lock afterwards.
    pub(crate) lock: Lock,
}

/// Which layers of an image stay when its lock becomes another one. `image` must be laid out as `record` leads to.
pub(crate) fn plan(image: &Parts, name: &str, record: &Record, lock: Lock) -> Result<PatchPlan, BuildError> {
    let (settings, python) = (&record.settings, &record.python);
    let below = layout(image, name, settings, python, &record.lock)?;
    let own = parents_own(image, below);
    let old = contents(settings, python, own, &record.lock)?;
    let slots = contents(settings, python, own, &lock)?.into_iter().map(|content| {
        match old.iter().position(|other| is_same(other, &content)) {
            Some(at) => Slot::Keep(below + at),
            None => Slot::Make(Box::new(content)),
        }
    });
    Ok(PatchPlan { below, slots: slots.collect(), lock })
}

/// How many layers of the image are its parent's and its Debian packages', if those above are what the lock leads to.
pub(crate) fn layout(
    image: &Parts,
    name: &str,
    settings: &DockerSettings,
    python: &PythonFacts,
    lock: &Lock,
) -> Result<usize, BuildError> {
    let wrong = |why: String| EditError::Layout { image: name.to_owned(), why };
    let made_by = image.made_by();
    let below =
        parents_layers(image).ok_or_else(|| wrong("no layer is its virtual environment".to_owned()))?;
    let planned = contents(settings, python, parents_own(image, below), lock)?;
    if made_by.len() != below + planned.len() {
        let (found, wanted) = (made_by.len() - below, planned.len());
        return Err(wrong(format!("it has {found} layers of its own, {wanted} were planned")).into());
    }
    for (content, line) in planned.iter().zip(&made_by[below..]) {
        let line = line.unwrap_or_default();
        let wanted = match content {
            // Of the program's own package the version may be another, and the code is counted.
            Content::Code => "code: ".to_owned(),
            Content::Sdk => "longshore ".to_owned(),
            Content::SdkBytecode => "bytecode of longshore ".to_owned(),
            content => title(content, lock, &no_code()).title,
        };
        if !line.strip_prefix(PREFIX).is_some_and(|title| title.starts_with(&wanted)) {
            return Err(wrong(format!("a layer is `{line}`, and `{PREFIX}{wanted}` was planned")).into());
        }
    }
    Ok(below)
}

/// How many of the layers below the virtual environment are the parent's own: Debian packages that were added to it are
/// one more.
pub(super) fn parents_own(image: &Parts, below: usize) -> usize {
    below - usize::from(has_apt_layer(image))
}

fn is_same(one: &Content, other: &Content) -> bool {
    match (one, other) {
        (Content::Wheels(one), Content::Wheels(other)) => one.key == other.key,
        (Content::Bytecode(one), Content::Bytecode(other)) => one.bytecode_key == other.bytecode_key,
        (Content::Venv(one), Content::Venv(other)) => one == other,
        (Content::Sdk, Content::Sdk)
        | (Content::SdkBytecode, Content::SdkBytecode)
        | (Content::Code, Content::Code) => true,
        _ => false,
    }
}

/// The place of code that is not at hand: its layer stays as it is.
pub(crate) fn no_code() -> SourceTree {
    SourceTree { root: PathBuf::new(), entries: Vec::new(), allowed: Vec::new() }
}

/// The image with the layers of the plan: pure. `made` are those that were not kept, in order, with their titles.
pub(crate) fn patched(image: &Parts, plan: &PatchPlan, made: Vec<ImageLayer>, created: &str) -> Parts {
    let mut result = image.lowest(plan.below);
    let mut lines = image.config.history.iter().filter(|line| !line.empty_layer);
    let lines: Vec<_> = lines.by_ref().collect();
    let first_own = lines.get(plan.below).copied();
    let own = image.config.history.iter().position(|line| Some(line) == first_own);
    result.config.history.truncate(own.unwrap_or(image.config.history.len()));
    let mut made = made.into_iter();
    for slot in &plan.slots {
        match slot {
            Slot::Keep(at) => {
                result.manifest.layers.push(image.manifest.layers[*at].clone());
                result.config.rootfs.diff_ids.push(image.config.rootfs.diff_ids[*at]);
                result.config.history.extend(lines.get(*at).map(|line| (*line).clone()));
            }
            Slot::Make(_) => {
                let Some(ImageLayer { record, title }) = made.next() else { continue };
                result.manifest.layers.push(record.descriptor());
                let before = result.config.created.replace(created.to_owned());
                result.config.push_layer(record.diff_id, format!("{PREFIX}{title}"));
                result.config.created = before;
            }
        }
    }
    result.sealed()
}

/// What became of the image for one platform.
struct PatchedPlatform {
    platform: Platform,
    parts: Parts,
    record: Record,
    lock: Lock,
    parent: Parent,
    before: String,
    after: String,
    replaced: usize,
    kept: usize,
    inputs: Value,
}

/// What came of a patch.
#[derive(Clone, Debug)]
pub struct Patched {
    /// Where the image is.
    pub published: Published,
    /// The version that it has now, e.g. `idna 3.10`.
    pub package: String,
    /// The version that it had.
    pub before: String,
    /// How many layers are other ones, of all platforms together.
    pub replaced: usize,
    /// How many were kept.
    pub kept: usize,
    /// What determines the image now.
    pub inputs: Value,
}

impl Builder {
    /// Replaces the layers of one wheel, on each platform that the image is for. `inputs` are those of the image's build.
    pub async fn patch(
        &self,
        patch: &Patch,
        inputs: &Value,
        observer: Observer<'_>,
    ) -> Result<Patched, BuildError> {
        let found = self.find(&patch.image).await?;
        let mut done = Vec::with_capacity(found.images.len());
        for image in &found.images {
            let platform = &image.parts.config.platform;
            let inputs = inputs_of(inputs, &found, platform)?;
            if found.index.is_some() {
                observer(Event::Platform(platform.clone()));
            }
            done.push(Box::pin(self.patch_one(patch, image, inputs, observer)).await?);
        }
        let parts: Vec<Parts> = done.iter().map(|one| one.parts.clone()).collect();
        let index = found.index.as_ref().map(|index| relisted(index, &found.images, &parts));
        let sources = [patch.image.repository.clone()];
        let published = self.publish(&patch.name, &parts, index.as_ref(), &sources).await?;
        for one in &done {
            self.describe_edited(&patch.name, &one.parts, &one.record, &one.lock, &one.parent, observer)
                .await?;
        }
        let (replaced, kept) =
            done.iter().fold((0, 0), |(replaced, kept), one| (replaced + one.replaced, kept + one.kept));
        let platforms: Map<String, Value> =
            done.iter().map(|one| (one.platform.to_string(), one.inputs.clone())).collect();
        // Of several, the record has that of this machine's in front, as a build's does.
        let own = done
            .iter()
            .position(|one| one.platform.linux_arch().is_some_and(|arch| Some(arch) == Arch::host()));
        let Some(PatchedPlatform { after, before, mut inputs, .. }) = done.into_iter().nth(own.unwrap_or(0))
        else {
            return Err(BuildError::Lost("patching an image"));
        };
        if index.is_some() {
            inputs["platforms"] = Value::Object(platforms);
        }
        Ok(Patched { published, package: after, before, replaced, kept, inputs })
    }

    async fn patch_one(
        &self,
        patch: &Patch,
        image: &FoundImage,
        inputs: &Value,
        observer: Observer<'_>,
    ) -> Result<PatchedPlatform, BuildError> {
        let name = patch.image.to_string();
        let record = Record::read(&patch.image, inputs)?;
        let (before, after, lock) = self.other_version(patch, &record, image).await?;
        let plan = plan(&image.parts, &name, &record, lock)?;
        let parent = base(image, &record, plan.below);
        let made = self.make_slots(patch, &record, &plan, &parent, image, observer).await?;
        let replaced = made.len();
        let parts = patched(&image.parts, &plan, made, &record.created);
        let kept = plan.slots.len() + plan.below - replaced;
        let mut inputs = inputs.clone();
        inputs["lock"] = json!(plan.lock);
        inputs["patched"] = json!({"from": image.digest, "package": after});
        inputs["layouts"] = json!(layouts());
        let (platform, lock) = (image.parts.config.platform.clone(), plan.lock);
        Ok(PatchedPlatform { platform, parts, record, lock, parent, before, after, replaced, kept, inputs })
    }

    /// Attaches the bill of materials of an image that was edited.
    pub(crate) async fn describe_edited(
        &self,
        name: &Reference,
        parts: &Parts,
        record: &Record,
        lock: &Lock,
        parent: &Parent,
        observer: Observer<'_>,
    ) -> Result<(), BuildError> {
        let mut below = parent.clone();
        if has_apt_layer(parts) {
            // What the parent alone has is remembered by its own digest.
            below.digest = Digest::of(below.manifest.to_bytes());
        }
        let surveyed = self.survey(&name.repository, &below, observer).await?;
        let Parts { manifest, config } = parts;
        let delivered = sbom::Delivered { repository: &name.repository, manifest, config };
        let (settings, created) = (&record.settings, Some(record.created.as_str()));
        let apt = record.apt.as_ref();
        let ingredients = Ingredients { lock, apt, code: record.code, settings, created };
        self.describe(delivered, ingredients, parent, surveyed, observer).await;
        Ok(())
    }

    /// The lock with the other version: what the resolver says when every other package is held where it is. Also the
    /// versions before and after.
    async fn other_version(
        &self,
        patch: &Patch,
        record: &Record,
        image: &FoundImage,
    ) -> Result<(String, String, Lock), BuildError> {
        let (image_name, name) = (patch.image.to_string(), patch.wheel.name());
        let shown = |package: &LockedPackage| format!("{} {}", package.name, package.version);
        if let Some(there) = record.lock.present.iter().find(|package| package.installed.name == *name) {
            let (package, parent) = (there.to_string(), record.parent.name.clone());
            return Err(EditError::OfParent { image: image_name, package, parent }.into());
        }
        let Some(before) = record.lock.get(name) else {
            let others: Vec<_> = record.packages().collect();
            return Err(EditError::NoPackage {
                image: image_name,
                package: name.to_string(),
                others: if others.is_empty() { "none".to_owned() } else { others.join(", ") },
            }
            .into());
        };
        let pins = record.lock.packages.iter().filter(|package| package.name != *name).map(pin);
        let pins = pins.chain(record.lock.present.iter().map(pin_there));
        let wanted: Vec<String> = pins.chain([patch.wheel.requirement()]).collect();
        let resolved = self.ask(patch, record, image, wanted).await?;
        let news: BTreeSet<String> = additions(&record.lock, &resolved);
        if !news.is_empty() {
            // The parent may have packages that the lock leaves out; those it needs no more than before.
            let there = record.lock.present.iter().map(pin_there);
            let as_it_is = record.lock.packages.iter().map(pin).chain(there).collect();
            let known = additions(&record.lock, &self.ask(patch, record, image, as_it_is).await?);
            let missing: Vec<_> = news.difference(&known).cloned().collect();
            if !missing.is_empty() {
                let package = resolved.get(name).map_or_else(|| name.to_string(), shown);
                return Err(
                    EditError::Missing { package, missing: missing.join(", "), image: image_name }.into()
                );
            }
        }
        let after = resolved.get(name).ok_or(BuildError::Lost("resolving one package"))?;
        if after.wheel.digest == before.wheel.digest {
            return Err(EditError::Same { image: image_name, package: shown(after) }.into());
        }
        let packages = record.lock.packages.iter();
        let lock = Lock {
            packages: packages.map(|it| if it.name == *name { after } else { it }).cloned().collect(),
            present: record.lock.present.clone(),
        };
        Ok((shown(before), shown(after), lock))
    }

    async fn ask(
        &self,
        patch: &Patch,
        record: &Record,
        image: &FoundImage,
        requirements: Vec<String>,
    ) -> Result<Lock, BuildError> {
        let platform: &Platform = &image.parts.config.platform;
        let arch = platform.linux_arch().ok_or(BuildError::Machine)?;
        let PythonFacts { version, glibc, .. } = record.python;
        let question = LockRequest {
            requirements: Requirements::List(requirements),
            project: None,
            dependencies: Dependencies::Followed,
            folder: std::env::temp_dir(),
            target: Target { python: version, arch, glibc },
            indexes: Indexes::default(),
            exclude_newer: None,
            preferred: Vec::new(),
            interpreter: patch.host_python.clone(),
        };
        let (search, last) = (self.uv().clone(), Selection::from(&record.lock));
        let ask = move || {
            let environment = Environment::of_process();
            search.find(&environment)?.lock(&question, Freshness::Keep(Some(&last)), &environment)
        };
        let answer = tokio::task::spawn_blocking(ask).await;
        let selection = answer.map_err(|_| BuildError::Lost("the resolver"))??;
        selection.of_wheels().ok_or_else(|| EditError::OnlySource.into())
    }

    async fn make_slots(
        &self,
        patch: &Patch,
        record: &Record,
        plan: &PatchPlan,
        parent: &Parent,
        image: &FoundImage,
        observer: Observer<'_>,
    ) -> Result<Vec<ImageLayer>, BuildError> {
        let layers = self.layers.in_format(format_of(&record.settings)?);
        let wanted = plan.slots.iter().filter_map(|slot| match slot {
            Slot::Make(content) => Some(&**content),
            Slot::Keep(_) => None,
        });
        let planned = wanted.map(|content| {
            Ok::<_, BuildError>(PlannedLayer {
                title: title(content, &plan.lock, &no_code()),
                known: known(&layers, content, &record.python, &no_code())?,
                content: content.clone(),
            })
        });
        let planned = planned.collect::<Result<Vec<_>, _>>()?;
        let compiles =
            |layer: &PlannedLayer| layer.known.is_none() && matches!(layer.content, Content::Bytecode(_));
        if planned.iter().any(compiles) {
            // The parent's own interpreter compiles.
            self.bring_layers(&parent.manifest.layers, std::slice::from_ref(&image.repository)).await?;
        }
        let request = Request {
            repository: patch.name.repository.clone(),
            tag: patch.name.tag.clone().unwrap_or_else(Tag::latest),
            source_root: PathBuf::new(),
            settings: record.settings.clone(),
            host_python: patch.host_python.clone(),
            upgrade: Upgrade::No,
            drivers: Vec::new(),
        };
        let arch = image.parts.config.platform.linux_arch().ok_or(BuildError::Machine)?;
        let base = PlannedParent::Ready(Box::new(parent.clone()));
        let interpreter =
            self.plan_interpreter(&request, arch, Reading::Layers, &base, &planned, observer).await?;
        let plan = Plan {
            request,
            arch,
            format: format_of(&record.settings)?,
            interpreter,
            parent: base,
            lock: plan.lock.clone(),
            code: no_code(),
            layers: planned,
            fetcher: (*self.fetcher).clone(),
        };
        let made = self.make(&plan, observer).await?;
        let titles = plan.layers.iter().map(|layer| layer.title.title.clone());
        Ok(made.iter().zip(titles).map(|(made, title)| ImageLayer { record: made.record, title }).collect())
    }
}

/// What determined the image for one platform.
fn inputs_of<'a>(inputs: &'a Value, found: &Found, platform: &Platform) -> Result<&'a Value, EditError> {
    if found.index.is_none() {
        return Ok(inputs);
    }
    let platforms = inputs.get("platforms");
    let one = platforms.and_then(|platforms| platforms.get(platform.to_string()));
    one.ok_or_else(|| EditError::NoRecord(Box::new(found.image.clone())))
}

/// The parent of a recorded build, as far as its child has it.
pub(crate) fn base(image: &FoundImage, record: &Record, below: usize) -> Parent {
    let Parts { manifest, config } = image.parts.lowest(below);
    Parent {
        name: record.parent.name.clone(),
        title: record.parent.name.clone(),
        digest: record.parent.digest,
        manifest,
        config,
        python: record.python.clone(),
        distributions: Vec::new(),
        facts: Facts::Known,
        source: Some(image.repository.clone()),
        tag: None,
        debian: None,
    }
}

/// The requirement that holds a package where it is.
fn pin(package: &LockedPackage) -> String {
    match package.wheel.origin {
        Origin::Direct => format!("{} @ {}", package.name, package.wheel.url),
        Origin::Index => format!("{}=={}", package.name, package.version),
    }
}

/// The same for a package that the parent has: it is no other than the lock wanted.
fn pin_there(package: &PresentPackage) -> String {
    let Selected { name, version, .. } = &package.selected;
    version.as_ref().map_or_else(|| name.to_string(), |version| format!("{name}=={version}"))
}

/// The packages of `new` that `old` does not have.
fn additions(old: &Lock, new: &Lock) -> BTreeSet<String> {
    let is_there = |name: &PackageName| old.present.iter().any(|package| package.installed.name == *name);
    let added =
        new.packages.iter().filter(|package| old.get(&package.name).is_none() && !is_there(&package.name));
    added.map(|package| format!("{} {}", package.name, package.version)).collect()
}
