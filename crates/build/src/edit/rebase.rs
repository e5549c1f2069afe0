//! Another parent below the same layers.

use std::collections::{BTreeMap, BTreeSet};

use longshore_oci::{
    Descriptor, Digest, History, Index, MediaType, Platform, Process, Reference, annotation,
};

use longshore_attest::contents::Anatomy;
use longshore_python::distribution::{Distribution, Maker, Part, Place, folders};
use serde_json::{Value, json};

use super::{
    EditError, Found, FoundImage, Parts, Published,
    libc::{Libc, interpreters, short_version},
};
use crate::{
    BuildError, Builder, Observer,
    edit::Record,
    image::{APP, DEFAULT_PATH, VENV},
    parent::{Facts, Parent, PythonFacts},
};

/// The line of history of the layer with the virtual environment.
pub(crate) const VENV_LAYER: &str = "longshore: virtual environment";
/// How the line of history of the layer with Debian packages begins.
const APT_LAYER: &str = "longshore: Debian packages: ";
/// What longshore sets in every image, whatever the parent has.
const OURS: [&str; 2] = ["VIRTUAL_ENV", "PYTHONPATH"];

/// An image and what is to be below it.
#[derive(Clone, Debug)]
pub struct Rebase {
    /// The image, by tag or digest.
    pub image: Reference,
    /// The new parent.
    pub onto: Reference,
    /// The old parent, where the image does not say.
    pub from: Option<Reference>,
    /// What the result is called.
    pub name: Reference,
}

/// A parent as an image names it.
#[derive(Clone, Debug)]
pub struct Base<'a> {
    /// Its name, for the annotation.
    pub name: String,
    /// The digest of its manifest.
    pub digest: Digest,
    /// Its documents.
    pub parts: &'a Parts,
}

/// How many of the image's layers are the parent's.
pub fn shared_layers(image: &Parts, name: &str, old: &Base<'_>) -> Result<usize, EditError> {
    let theirs = &old.parts.config.rootfs.diff_ids;
    let ours = &image.config.rootfs.diff_ids;
    let same = theirs.iter().zip(ours).take_while(|(a, b)| a == b).count();
    if same == theirs.len() && image.manifest.layers.len() == ours.len() {
        return Ok(same);
    }
    Err(EditError::OtherBase { image: name.to_owned(), parent: old.name.clone(), layer: same + 1 })
}

/// The image on its new parent: pure. What came from the old parent and was not changed is as the new one has it; what the
/// image added or changed stays.
pub fn rebased(image: &Parts, name: &str, old: &Base<'_>, new: &Base<'_>) -> Result<Parts, EditError> {
    let shared = shared_layers(image, name, old)?;
    if is_ours(image) && has_apt_layer(image) {
        return Err(EditError::AptLayer { image: name.to_owned(), parent: new.name.clone() });
    }
    let wanted = &image.config.platform;
    if !new.parts.config.platform.serves(wanted) {
        return Err(EditError::Platform { parent: new.name.clone(), wanted: wanted.to_string() });
    }
    let mut result = image.clone();
    let (theirs, before) = (&new.parts.config, &old.parts.config);
    let config = &mut result.config;
    config.platform = theirs.platform.clone();
    config.rootfs.diff_ids.splice(..shared, theirs.rootfs.diff_ids.iter().copied());
    config.history = history(&image.config.history, &before.history, shared, &theirs.history);
    config.config = process(&image.config.config, &before.config, &theirs.config, is_ours(image));
    config.other = merged(&image.config.other, &before.other, &theirs.other);
    let below = new
        .parts
        .manifest
        .layers
        .iter()
        .map(|layer| Descriptor { media_type: layer.media_type.to_oci(), ..layer.clone() });
    let above = image.manifest.layers[shared..].iter().cloned();
    result.manifest.layers = below.chain(above).collect();
    let annotations = &mut result.manifest.annotations;
    annotations.insert(annotation::BASE_DIGEST.to_owned(), new.digest.to_string());
    annotations.insert(annotation::BASE_NAME.to_owned(), new.name.clone());
    Ok(result.sealed())
}

/// Whether longshore made the image.
fn is_ours(image: &Parts) -> bool {
    image.config.history.iter().any(|line| line.created_by.as_deref() == Some(VENV_LAYER))
}

/// Whether longshore has put Debian packages onto the parent: the layer below the virtual environment is theirs.
pub(super) fn has_apt_layer(image: &Parts) -> bool {
    let top = parents_layers(image).and_then(|below| below.checked_sub(1));
    top.and_then(|top| image.made_by()[top]).is_some_and(|line| line.starts_with(APT_LAYER))
}

/// How many layers of an image that longshore made are its parent's, with that of Debian packages if there is one.
pub fn parents_layers(image: &Parts) -> Option<usize> {
    image.made_by().iter().rposition(|line| *line == Some(VENV_LAYER))
}

/// The new parent's history, and what came after the old one's.
fn history(image: &[History], old: &[History], layers: usize, new: &[History]) -> Vec<History> {
    let above = image.strip_prefix(old).unwrap_or_else(|| {
        // Others have rewritten the lines of what they built on: then the layers are counted.
        let mut left = layers;
        let ends = image.iter().position(|line| {
            left -= usize::from(!line.empty_layer && left > 0);
            left == 0
        });
        ends.map_or(&[][..], |at| &image[at + usize::from(layers > 0)..])
    });
    new.iter().chain(above).cloned().collect()
}

/// What was not changed since the old parent is the new one's.
fn settled<T: Clone + PartialEq>(image: &T, old: &T, new: &T) -> T {
    if image == old { new.clone() } else { image.clone() }
}

/// The same for each key of a map.
fn merged<T: Clone + PartialEq>(
    image: &BTreeMap<String, T>,
    old: &BTreeMap<String, T>,
    new: &BTreeMap<String, T>,
) -> BTreeMap<String, T> {
    let keys = image.keys().chain(new.keys());
    keys.filter_map(|key| {
        let value = settled(&image.get(key), &old.get(key), &new.get(key));
        value.map(|value| (key.clone(), value.clone()))
    })
    .collect()
}

fn process(image: &Process, old: &Process, new: &Process, ours: bool) -> Process {
    let none = BTreeMap::new();
    let labels = |process: &'_ Process| process.labels.clone().unwrap_or_default();
    let labels = merged(&labels(image), &labels(old), &labels(new));
    let mut result = Process {
        user: settled(&image.user, &old.user, &new.user),
        env: None,
        entrypoint: settled(&image.entrypoint, &old.entrypoint, &new.entrypoint),
        cmd: settled(&image.cmd, &old.cmd, &new.cmd),
        working_dir: if ours {
            Some(APP.to_owned())
        } else {
            settled(&image.working_dir, &old.working_dir, &new.working_dir)
        },
        labels: (labels != none || new.labels.is_some()).then_some(labels),
        other: merged(&image.other, &old.other, &new.other),
    };
    // The new parent's variables first, in their order, as a build on it would have them.
    for entry in new.env.iter().flatten() {
        let Some((name, theirs)) = entry.split_once('=') else { continue };
        let value = match (image.env(name), old.env(name)) {
            (Some(value), _) if ours && OURS.contains(&name) => value.to_owned(),
            (Some(value), before) if before != Some(value) => with_its_ends(name, value, before, theirs),
            // Removed from the image: it stays so.
            (None, Some(_)) => continue,
            _ => theirs.to_owned(),
        };
        result.set_env(name, &value);
    }
    for entry in image.env.iter().flatten() {
        let Some((name, value)) = entry.split_once('=') else { continue };
        let unchanged = old.env(name) == Some(value) && !(ours && OURS.contains(&name));
        if result.env(name).is_none() && !unchanged {
            let value = if name == "PATH" {
                with_its_ends(name, value, old.env(name), DEFAULT_PATH)
            } else {
                value.to_owned()
            };
            result.set_env(name, &value);
        }
    }
    result
}

/// The value of a variable that the image changed: where it put something before or after the old parent's value, that
/// stands around the new parent's.
fn with_its_ends(name: &str, value: &str, before: Option<&str>, new: &str) -> String {
    let before = before.or((name == "PATH").then_some(DEFAULT_PATH)).filter(|before| !before.is_empty());
    let Some(before) = before else { return value.to_owned() };
    if let Some(start) = value.strip_suffix(before).filter(|start| start.ends_with(':')) {
        return format!("{start}{new}");
    }
    match value.strip_prefix(before).filter(|end| end.starts_with(':')) {
        Some(end) => format!("{new}{end}"),
        None => value.to_owned(),
    }
}

/// What came of a rebase.
#[derive(Clone, Debug)]
pub struct Rebased {
    /// Where the image is.
    pub published: Published,
    /// What determines the image now, if that was known before.
    pub inputs: Option<Value>,
}

impl Builder {
    /// Puts an image onto another parent by editing its manifest and its configuration: no layer is unpacked, and those that
    /// the registry lacks are mounted or copied. Refused where the result could not work. `inputs` are those of the image's
    /// build, if they are known.
    pub async fn rebase(
        &self,
        rebase: &Rebase,
        inputs: Option<&Value>,
        observer: Observer<'_>,
    ) -> Result<Rebased, BuildError> {
        let record = inputs.map(|inputs| Record::read(&rebase.image, inputs)).transpose()?;
        let found = self.find(&rebase.image).await?;
        let parent = self.find(&rebase.onto).await?;
        let mut images = Vec::new();
        for image in &found.images {
            images.push(self.rebase_one(rebase, image, &parent, record.as_ref(), observer).await?);
        }
        let index = found.index.as_ref().map(|index| relisted(index, &found.images, &images));
        let mut sources = vec![rebase.image.repository.clone(), rebase.onto.repository.clone()];
        sources.extend(rebase.from.as_ref().map(|from| from.repository.clone()));
        let published = self.publish(&rebase.name, &images, index.as_ref(), &sources).await?;
        let mut inputs = inputs.cloned();
        if let (Some(inputs), Some(record), [parts], None) = (&mut inputs, record, &images[..], &index) {
            let new =
                parent.for_platform(&parts.config.platform).ok_or(BuildError::Lost("the new parent"))?;
            let base = Parent {
                name: parent.image.to_string(),
                title: parent.image.to_string(),
                digest: new.digest,
                manifest: new.parts.manifest.clone(),
                config: new.parts.config.clone(),
                python: record.python.clone(),
                distributions: Vec::new(),
                facts: Facts::Known,
                source: Some(rebase.onto.repository.clone()),
                tag: None,
                debian: None,
            };
            inputs["parent"] = json!({"name": base.name, "digest": base.digest});
            inputs["rebased"] = json!({"from": found.digest});
            self.describe_edited(&rebase.name, parts, &record, &record.lock, &base, observer).await?;
        }
        Ok(Rebased { published, inputs })
    }

    async fn rebase_one(
        &self,
        rebase: &Rebase,
        image: &FoundImage,
        parent: &Found,
        record: Option<&Record>,
        observer: Observer<'_>,
    ) -> Result<Parts, BuildError> {
        let platform = &image.parts.config.platform;
        let other = |parent: &Found| EditError::Platform {
            parent: parent.image.to_string(),
            wanted: platform.to_string(),
        };
        let new = parent.for_platform(platform).ok_or_else(|| other(parent))?;
        let (old_name, old) = self.old_parent(rebase, image, platform).await?;
        let old_base = Base { name: old_name, digest: old.digest, parts: &old.parts };
        let new_base = Base { name: parent.image.to_string(), digest: new.digest, parts: &new.parts };
        let name = rebase.image.to_string();
        let result = rebased(&image.parts, &name, &old_base, &new_base)?;
        self.check(&name, image, (&old, &old_base), (new, &new_base), record, observer).await?;
        Ok(result)
    }

    /// What an image was built on: what was named, else what its annotations say.
    async fn old_parent(
        &self,
        rebase: &Rebase,
        image: &FoundImage,
        platform: &Platform,
    ) -> Result<(String, FoundImage), BuildError> {
        let annotations = &image.parts.manifest.annotations;
        let digest =
            annotations.get(annotation::BASE_DIGEST).and_then(|digest| digest.parse::<Digest>().ok());
        let unknown = || EditError::NoBase(Box::new(rebase.image.clone()));
        let from = match (&rebase.from, digest) {
            (Some(from), _) => from.clone(),
            (None, Some(digest)) => {
                let name =
                    annotations.get(annotation::BASE_NAME).and_then(|name| name.parse::<Reference>().ok());
                // Without a name, it may be beside the image, or here.
                name.unwrap_or_else(|| rebase.image.clone()).at(digest)
            }
            (None, None) => return Err(unknown().into()),
        };
        let found = self.find(&from).await?;
        let one = found.for_platform(platform).cloned().ok_or_else(unknown)?;
        Ok((from.to_string(), one))
    }

    /// Whether the image's packages work on the new parent: its interpreter is there, and its C library no older than they
    /// need.
    async fn check(
        &self,
        name: &str,
        image: &FoundImage,
        (old, old_base): (&FoundImage, &Base<'_>),
        (new, new_base): (&FoundImage, &Base<'_>),
        record: Option<&Record>,
        observer: Observer<'_>,
    ) -> Result<(), BuildError> {
        let there = self.contents(new, observer).await?.anatomy();
        let shared = old_base.parts.manifest.layers.len();
        if let Some(executable) = self.interpreter(image, shared, observer).await?
            && !there.has(executable.trim_start_matches('/'))
        {
            let found = interpreters(&there);
            return Err(EditError::Python {
                image: name.to_owned(),
                wanted: short_version(&executable).unwrap_or("3").to_owned(),
                executable,
                parent: new_base.name.clone(),
                found: if found.is_empty() { "no Python".to_owned() } else { found.join(" and ") },
            }
            .into());
        }
        let missing: Vec<String> = record.map(|record| lacking(record, &there)).unwrap_or_default();
        if !missing.is_empty() {
            let (image, parent) = (name.to_owned(), new_base.name.clone());
            return Err(EditError::ParentPackages { image, parent, missing: missing.join(", ") }.into());
        }
        let found = Libc::of(&there);
        let needed = match record.and_then(Record::needed_libc) {
            Some(needed) => Libc::Glibc(needed),
            None => Libc::of(&self.contents(old, observer).await?.anatomy()),
        };
        if needed.runs_with(found) || record.is_some_and(Record::is_pure) {
            return Ok(());
        }
        let (parent, found, wanted) = (new_base.name.clone(), found.to_string(), needed.to_string());
        Err(EditError::Libc { parent, found, wanted }.into())
    }

    /// The interpreter that the image's own layers are for.
    async fn interpreter(
        &self,
        image: &FoundImage,
        shared: usize,
        observer: Observer<'_>,
    ) -> Result<Option<String>, BuildError> {
        use longshore_attest::contents::Content;
        let layers = longshore_attest::layers(&image.parts.manifest, &image.parts.config)?;
        // Of ours, one layer says it.
        let own = match parents_layers(&image.parts) {
            Some(at) => &layers[at..=at],
            None => &layers[shared.min(layers.len())..],
        };
        let own = self.contents_of(own, std::slice::from_ref(&image.repository), observer).await?;
        let mut found = None;
        for item in own.0.iter().flat_map(|layer| &layer.items) {
            let at_venv = item.path == format!("{}/bin/python", VENV.trim_start_matches('/'));
            if let Content::Link { target } = &item.content
                && at_venv
            {
                return Ok(Some(target.clone()));
            }
            // Packages beside the parent's own: `usr/local/lib/python3.11/site-packages/…`.
            let (folder, below) = item.path.split_once("/lib/python3.").unwrap_or_default();
            if let Some((minor, rest)) = below.split_once('/')
                && (rest.starts_with("site-packages/") || rest.starts_with("dist-packages/"))
                && ["usr", "usr/local"].contains(&folder)
            {
                found = Some(format!("/{folder}/bin/python3.{minor}"));
            }
        }
        Ok(found)
    }
}

/// The packages that an image has of its parent, and that another one does not have where the image's interpreter looks.
fn lacking(record: &Record, there: &Anatomy) -> Vec<String> {
    let PythonFacts { version, executable, .. } = &record.python;
    let makers = [Maker::Debian, Maker::Other];
    let folders = makers.into_iter().flat_map(|maker| folders(executable, *version, maker));
    let folders: BTreeSet<String> = folders.map(|folder| format!("{folder}/")).collect();
    let has = |installed: &Distribution| {
        folders.iter().flat_map(|folder| there.beginning_with(folder)).any(|path| {
            let named = Place::of(path).filter(|place| place.part == Part::Metadata);
            let named = named.filter(|place| folders.contains(&format!("{}/", place.folder)));
            named.and_then(|place| place.named())
                == Some((installed.name.clone(), Some(installed.version.clone())))
        })
    };
    let present = record.lock.present.iter().filter(|package| !has(&package.installed));
    present.map(ToString::to_string).collect()
}

/// An index with other images in the places of those that it had, and without what is for no machine: that was about them.
pub(super) fn relisted(index: &Index, before: &[FoundImage], after: &[Parts]) -> Index {
    let mut index = index.clone();
    index.media_type = Some(MediaType::Index);
    index.manifests = index
        .manifests
        .iter()
        .filter_map(|listed| {
            let at = before.iter().position(|image| image.digest == listed.digest)?;
            let bytes = after[at].manifest.to_bytes();
            let descriptor = Descriptor::of(MediaType::Manifest, &bytes);
            Some(Descriptor {
                platform: listed.platform.clone(),
                annotations: listed.annotations.clone(),
                ..descriptor
            })
        })
        .collect();
    index
}

#[cfg(test)]
mod tests {
    use longshore_oci::{Arch, ImageConfig, Manifest};

    use super::*;

    fn image(layers: &[&str], env: &[&str], above: Option<&Parts>) -> Parts {
        let mut parts = above.cloned().unwrap_or_else(|| Parts {
            manifest: Manifest::image(Descriptor::of(MediaType::Config, b""), Vec::new()),
            config: ImageConfig::linux(Arch::Amd64),
        });
        for layer in layers {
            parts.config.push_layer(Digest::of(format!("{layer} unpacked")), *layer);
            parts.manifest.layers.push(Descriptor::of(MediaType::LayerGzip, layer.as_bytes()));
        }
        for variable in env {
            let (name, value) = variable.split_once('=').unwrap();
            parts.config.config.set_env(name, value);
        }
        parts.sealed()
    }

    fn base<'a>(name: &str, parts: &'a Parts) -> Base<'a> {
        Base { name: name.to_owned(), digest: parts.digest(), parts }
    }

    /// What a build makes of a parent.
    fn built_on(parent: &Parts) -> Parts {
        let path = parent.config.config.env("PATH").unwrap_or(DEFAULT_PATH).to_owned();
        let path = format!("PATH=/opt/venv/bin:{path}");
        let env = [path.as_str(), "VIRTUAL_ENV=/opt/venv", "PYTHONPATH=/app", "MINE=1"];
        let mut built = image(&[VENV_LAYER, "longshore: code"], &env, Some(parent));
        built.config.config.working_dir = Some(APP.to_owned());
        let annotations = &mut built.manifest.annotations;
        annotations.insert(annotation::BASE_NAME.to_owned(), "the parent".to_owned());
        annotations.insert(annotation::BASE_DIGEST.to_owned(), parent.digest().to_string());
        built.sealed()
    }

    #[test]
    fn the_result_is_what_a_build_on_the_new_parent_gives() {
        let mut old = image(&["a", "b"], &["PATH=/old/bin:/bin", "LANG=C", "GONE=1", "VERSION=1"], None);
        old.config.config.cmd = Some(vec!["old".to_owned()]);
        old.config.history.push(History { empty_layer: true, ..History::default() });
        let mut new = image(&["a", "c", "d"], &["VERSION=2", "PATH=/new/bin:/bin", "LANG=C", "NEW=1"], None);
        new.config.config.cmd = Some(vec!["new".to_owned()]);
        new.config.config.working_dir = Some("/elsewhere".to_owned());
        new.config.other.insert("docker_version".to_owned(), "27".into());
        let new = new.sealed();
        let result =
            rebased(&built_on(&old), "image", &base("old", &old), &base("the parent", &new)).unwrap();
        assert_eq!(result, built_on(&new));
        // And back again.
        let back = rebased(&result, "image", &base("new", &new), &base("the parent", &old)).unwrap();
        assert_eq!(back, built_on(&old));
    }

    #[test]
    fn a_parent_without_a_path_has_the_usual_one() {
        let (old, new) = (image(&["a"], &[], None), image(&["b"], &["PATH=/new"], None));
        let result = rebased(&built_on(&old), "i", &base("old", &old), &base("the parent", &new)).unwrap();
        assert_eq!(result.config.config.env("PATH"), Some("/opt/venv/bin:/new"));
        let back = rebased(&result, "i", &base("new", &new), &base("the parent", &old)).unwrap();
        assert_eq!(back, built_on(&old));
    }

    #[test]
    fn what_the_image_changed_stays() {
        let old = image(&["a"], &["A=1", "LIST=x:y", "KEPT=1"], None);
        let mut child = image(&["mine"], &["A=2", "LIST=x:y:z"], Some(&old));
        child.config.config.user = Some("me".to_owned());
        let new = image(&["b"], &["A=3", "LIST=n", "KEPT=4", "B=5"], None);
        let result = rebased(&child.sealed(), "i", &base("old", &old), &base("new", &new)).unwrap();
        let env = result.config.config.env.unwrap();
        assert_eq!(env, ["A=2", "LIST=n:z", "KEPT=4", "B=5"]);
        assert_eq!(result.config.config.user.as_deref(), Some("me"));
    }

    #[test]
    fn another_base_and_another_machine_are_refused() {
        let (old, new) = (image(&["a", "b"], &[], None), image(&["c"], &[], None));
        let child = built_on(&old);
        let error = rebased(&child, "app:1", &base("wrong", &new), &base("new", &new)).unwrap_err();
        assert!(error.to_string().contains("do not begin with those of wrong: 1 of them"), "{error}");
        let longer = image(&["a", "b", VENV_LAYER, "longshore: code", "more"], &[], None);
        assert!(rebased(&child, "app:1", &base("longer", &longer), &base("new", &new)).is_err());
        let mut arm = new.clone();
        arm.config.platform = Platform::linux(Arch::Arm64);
        let error = rebased(&child, "app:1", &base("old", &old), &base("arm", &arm)).unwrap_err();
        assert_eq!(error.to_string(), "arm has no image for linux/amd64, which the image is for");
    }

    #[test]
    fn lines_of_history_that_others_rewrote_are_counted_by_layers() {
        let line = |by: &str, empty_layer| History {
            created_by: Some(by.to_owned()),
            empty_layer,
            ..History::default()
        };
        let old = [line("a", false), line("ENV", true)];
        let image = [line("other words for a", false), line("mine", false)];
        let new = [line("b", false)];
        let made = history(&image, &old, 1, &new);
        assert_eq!(made.iter().filter_map(|it| it.created_by.as_deref()).collect::<Vec<_>>(), ["b", "mine"]);
        assert_eq!(history(&image, &[], 0, &new).len(), 3);
    }
}
