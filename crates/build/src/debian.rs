//! Parents made from Debian packages, and kept in the registry like any other image.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use longshore_debian::{
    Event as Making, LAYOUT_VERSION, Parent as Assembled, ParentLayer, ParentPlan, ParentRequest, Sources,
};
use longshore_fetch::Fetcher;
use longshore_layer::{
    EntryPath, Format,
    estargz::ESTARGZ_VERSION,
    zstd::{self, ZSTD_VERSION},
};
use longshore_oci::{
    Arch, Descriptor, Digest, ImageConfig, Manifest, MediaType, Platform, Reference, Repository, Tag,
};
use longshore_python::bytecode::{self, Compiler};
use longshore_store::RepositoryPath;
use serde::{Deserialize, Serialize};

use crate::{
    BuildError, Builder, Event, Observer, Origin, ParentReport, Upgrade, elsewhere,
    layer::Packing,
    parent::{self, Facts, Parent, PythonFacts, glibc_version},
};

/// The repository in which parents are kept.
const REPOSITORY: &str = "longshore/debian";
/// The row of the table that has the plan of a parent.
pub(crate) const PLAN: &str = "parent-plan";
/// The row of the table that has the image of a plan.
pub(crate) const IMAGE: &str = "parent-image";

/// A parent that is known package by package.
#[derive(Clone, Debug)]
pub struct DebianParent {
    pub(crate) plan: ParentPlan,
    pub(crate) format: Format,
    pub(crate) python: PythonFacts,
    pub(crate) title: String,
}

impl DebianParent {
    /// How many packages it has.
    pub fn packages(&self) -> usize {
        self.plan.packages.len()
    }

    /// The bytes of its packages.
    pub fn download_size(&self) -> u64 {
        self.plan.download_size()
    }
}

/// What the plan of a parent depends on, while nobody asks for updates. The sources are in it by digest: the URL of a
/// mirror can have a password.
#[derive(Serialize)]
struct PlanKey {
    layout: u32,
    arch: Arch,
    sources: Digest,
}

/// What the image of a plan depends on.
#[derive(Serialize)]
struct ImageKey {
    plan: Digest,
    bytecode: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    estargz: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    zstd: Option<(u32, u32)>,
}

impl ImageKey {
    fn of(debian: &DebianParent) -> Self {
        let estargz = (debian.format == Format::Estargz).then_some(ESTARGZ_VERSION);
        let zstd = (debian.format == Format::Zstd).then(|| (ZSTD_VERSION, zstd::library()));
        Self { plan: debian.plan.key(), bytecode: bytecode::LAYOUT_VERSION, estargz, zstd }
    }
}

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct ImageRow {
    pub(crate) digest: Digest,
}

impl Builder {
    /// Plans a Debian parent: the plan that it had before, unless an upgrade is asked for.
    pub(crate) async fn plan_debian(
        &self,
        format: Format,
        arch: Arch,
        upgrade: Upgrade,
        observer: Observer<'_>,
    ) -> Result<DebianParent, BuildError> {
        let sources = Sources::from_system()?;
        let digest = Digest::of(serde_json::to_vec(&sources).map_err(|error| BuildError::Io {
            doing: "reading apt's configuration".to_owned(),
            source: error.into(),
        })?);
        let key = PlanKey { layout: LAYOUT_VERSION, arch, sources: digest };
        let plan = match self.table.get::<ParentPlan>(PLAN, &key) {
            Some(plan) if upgrade == Upgrade::No => plan,
            _ => {
                observer(Event::ParentStarted);
                let fetcher = Fetcher::new(sources.network.fetch_config());
                let request = ParentRequest::python(arch, sources);
                let plan =
                    longshore_debian::plan(&request, &fetcher, &self.downloads, &self.table, &|_| {}).await?;
                self.table.put(PLAN, &key, &plan)?;
                plan
            }
        };
        let python = python_of(&plan)?;
        let title = format!("{}, Python {}", plan.distribution, python.version);
        Ok(DebianParent { plan, format, python, title })
    }

    /// The image of a plan, if it was made before: still whole in the embedded registry; or, for an image that goes to
    /// another registry, with layers that may be there.
    pub(crate) fn made_debian(
        &self,
        debian: &DebianParent,
        repository: &Repository,
    ) -> Result<Option<Parent>, BuildError> {
        let key = ImageKey::of(debian);
        let Some(ImageRow { digest }) = self.table.get::<ImageRow>(IMAGE, &key) else { return Ok(None) };
        let image = self.parent_name(debian)?.at(digest);
        let path = RepositoryPath::from(&image.repository);
        let read = parent::read(&self.registry, &path, &image, &Platform::linux(debian.plan.arch));
        let here = match read {
            Err(error) if parent::is_missing(&error) => None,
            other => Some(other?),
        };
        if let Some((digest, manifest, config)) = here {
            let is_whole = manifest
                .layers
                .iter()
                .try_fold(true, |whole, layer| Ok::<_, BuildError>(whole && self.has(layer)?))?;
            if is_whole || !self.is_embedded(repository) {
                elsewhere::remember(&self.table, &digest, &manifest.to_bytes())?;
                elsewhere::remember(&self.table, &manifest.config.digest, &config.to_bytes())?;
                return Ok(Some(self.parent(debian, digest, manifest, config)?));
            }
            return Ok(None);
        }
        if self.is_embedded(repository) {
            return Ok(None);
        }
        let Some(text) = elsewhere::document(&self.table, &digest) else { return Ok(None) };
        let Ok(manifest) = Manifest::parse(text.as_bytes()) else { return Ok(None) };
        let Some(text) = elsewhere::document(&self.table, &manifest.config.digest) else { return Ok(None) };
        let Ok(config) = ImageConfig::parse(text.as_bytes()) else { return Ok(None) };
        Ok(Some(self.parent(debian, digest, manifest, config)?))
    }

    fn parent(
        &self,
        debian: &DebianParent,
        digest: Digest,
        manifest: Manifest,
        config: ImageConfig,
    ) -> Result<Parent, BuildError> {
        let name = self.parent_name(debian)?.to_string();
        Ok(Parent {
            name,
            title: debian.title.clone(),
            digest,
            manifest,
            config,
            python: debian.python.clone(),
            distributions: Vec::new(),
            facts: Facts::Known,
            source: None,
            tag: None,
            debian: Some(Box::new(debian.clone())),
        })
    }

    /// `localhost:5000/longshore/debian:bookworm-python3.11-amd64-0123456789ab`, with `-estargz` or `-zstd` behind it if that is
    /// what its layers are.
    fn parent_name(&self, debian: &DebianParent) -> Result<Reference, BuildError> {
        let repository: Repository = format!("{}/{REPOSITORY}", self.uri).parse()?;
        let ParentPlan { distribution, arch, .. } = &debian.plan;
        let python = debian.python.version.short();
        let key = debian.plan.key().short();
        let format = match debian.format {
            Format::Plain => "",
            Format::Estargz => "-estargz",
            Format::Zstd => "-zstd",
        };
        let tag: Tag = format!("{}-python{python}-{arch}-{key}{format}", distribution.codename).parse()?;
        Ok(Reference::tagged(repository, tag))
    }

    /// Makes the image of a plan: fetches the packages, turns them into layers, compiles the standard library.
    /// Where this machine cannot run its Python, that of `interpreter` does it.
    pub(crate) async fn make_debian(
        &self,
        debian: &DebianParent,
        interpreter: Option<&Parent>,
        observer: Observer<'_>,
    ) -> Result<Parent, BuildError> {
        let started = Instant::now();
        let meter = crate::wheels::Meter::new(observer);
        observer(Event::FetchStarted { bytes: debian.plan.download_size() });
        let progress = |event: Making| {
            if let Making::Fetching { package, bytes, .. } = event {
                meter.at(&package, bytes);
            }
        };
        let fetcher = Fetcher::new(Sources::from_system()?.network.fetch_config());
        longshore_debian::fetch(&debian.plan, &fetcher, &self.downloads, &progress).await?;
        let assembled = match self.assembled(debian).await {
            Err(_)
                if self.drops_damaged(debian.plan.packages.iter().map(|package| package.sha256)).await? =>
            {
                longshore_debian::fetch(&debian.plan, &fetcher, &self.downloads, &progress).await?;
                self.assembled(debian).await?
            }
            assembled => assembled?,
        };
        let name = self.parent_name(debian)?;
        let (mut config, mut layers) = described(&assembled, debian.format);
        config.created = Some(self.created.clone());
        let compiled =
            self.compile_standard_library(debian, interpreter, &assembled, &config, &layers).await?;
        config.push_layer(compiled.diff_id, "longshore: bytecode of the standard library");
        layers.push(compiled.descriptor());
        let config_bytes = config.to_bytes();
        let manifest = Manifest::image(Descriptor::of(MediaType::Config, &config_bytes), layers);
        self.registry.blobs().put(&config_bytes)?;
        let digest = self.registry.put_manifest(
            &RepositoryPath::from(&name.repository),
            &manifest.to_bytes(),
            &MediaType::Manifest,
            name.tag.as_ref(),
        )?;
        let key = ImageKey::of(debian);
        self.table.put(IMAGE, &key, &ImageRow { digest })?;
        elsewhere::remember(&self.table, &digest, &manifest.to_bytes())?;
        elsewhere::remember(&self.table, &manifest.config.digest, &config_bytes)?;
        let parent = self.parent(debian, digest, manifest, config)?;
        observer(Event::ParentDone(ParentReport {
            title: parent.title.clone(),
            size: parent.size(),
            origin: Origin::New,
            took: started.elapsed(),
            scripts_not_run: assembled.scripts_not_run,
        }));
        Ok(parent)
    }

    async fn assembled(&self, debian: &DebianParent) -> Result<Assembled, BuildError> {
        let (builder, plan, format) = (self.clone(), debian.plan.clone(), debian.format);
        let assemble = move || {
            let (debs, blobs) = (&builder.downloads, builder.registry.blobs());
            longshore_debian::assemble(&plan, format, debs, blobs, &|_| {})
        };
        let assembled = tokio::task::spawn_blocking(assemble).await;
        Ok(assembled.map_err(|_| BuildError::Lost("assembling the parent"))??)
    }

    /// Debian compiles the modules of the standard library when it installs them; no script of a package is run here.
    async fn compile_standard_library(
        &self,
        debian: &DebianParent,
        interpreter: Option<&Parent>,
        assembled: &Assembled,
        config: &ImageConfig,
        layers: &[Descriptor],
    ) -> Result<crate::LayerRecord, BuildError> {
        #[derive(Serialize)]
        struct Key {
            standard_library_of: Digest,
            bytecode: u32,
        }
        let key = Key { standard_library_of: debian.plan.key(), bytecode: bytecode::LAYOUT_VERSION };
        let sources = assembled.python_sources.iter().map(|source| EntryPath::new(&source.path));
        let sources = sources.collect::<Result<Vec<_>, _>>()?;
        let (images, python) = (self.images.clone(), debian.python.clone());
        let other = interpreter.map(|image| (image.manifest.clone(), image.config.clone()));
        let manifest = Manifest::image(Descriptor::of(MediaType::Config, &[]), layers.to_vec());
        let config = config.clone();
        let layers = self.layers.in_format(debian.format);
        let made = layers.get(&key, crate::layer::Lane::Compile, move |out| {
            let folders = images.unpack(&manifest, &config)?;
            let runs = other.map(|(manifest, config)| images.unpack(&manifest, &config)).transpose()?;
            let interpreter = crate::bytecode::ImageInterpreter {
                layers: runs.unwrap_or_else(|| folders.clone()),
                scratch: images.scratch().to_owned(),
                executable: python.executable.clone(),
            };
            let compiler =
                Compiler::new(&(Arc::new(interpreter) as _), crate::layer::processors(), python.version)?;
            let read = |path: &EntryPath| read_source(&folders, path);
            let jobs = sources.into_iter().map(|path| (path.clone(), path));
            let (out, summary) = bytecode::write_layer(&compiler, jobs, read, out)?;
            Ok((out, summary.layer))
        });
        Ok(made.await?.record)
    }
}

/// The configuration and layers of an assembled parent.
fn described(assembled: &Assembled, format: Format) -> (ImageConfig, Vec<Descriptor>) {
    let packing = Packing::of(format);
    let layers = assembled.layers.iter().map(|layer| {
        let ParentLayer { digest, size, diff_id, uncompressed_size, toc, .. } = *layer;
        crate::LayerRecord { digest, size, diff_id, uncompressed_size, toc, packing }.descriptor()
    });
    (assembled.config.clone(), layers.collect())
}

/// A module of the parent, from the topmost of its unpacked layers that has it.
fn read_source(layers: &[PathBuf], path: &EntryPath) -> Result<Vec<u8>, longshore_python::Error> {
    let find = |layer: &PathBuf| {
        let file = layer.join(Path::new(path.as_str()));
        // Links in an unpacked layer lead where they would in the image, not here.
        fs::symlink_metadata(&file).ok().filter(fs::Metadata::is_file).map(|_| file)
    };
    let file = layers.iter().rev().find_map(find);
    let read = file.map_or_else(|| Err(std::io::ErrorKind::NotFound.into()), fs::read);
    read.map_err(|source| longshore_python::Error::Io {
        doing: format!("reading {path} of the parent"),
        source,
    })
}

/// The Python of a plan, and the C library that its wheels have to run with.
fn python_of(plan: &ParentPlan) -> Result<PythonFacts, BuildError> {
    let missing = |what: &str| BuildError::DebianPython {
        distribution: plan.distribution.to_string(),
        missing: what.to_owned(),
    };
    let python = plan.python.as_ref().ok_or_else(|| missing("python3"))?;
    let version = python.version.parse().map_err(|_| missing("a Python with a version of three numbers"))?;
    let libc = plan.packages.iter().find(|package| package.name == "libc6");
    let glibc = libc.and_then(|libc| glibc_version(libc.version.as_str())).ok_or_else(|| missing("libc6"))?;
    Ok(PythonFacts { version, executable: python.interpreter.clone(), glibc })
}
