//! The builder: plans an image. [`work`] then makes it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use longshore_client::Client;
use longshore_fetch::Fetcher;
use longshore_layer::Format;
use longshore_oci::{Arch, Digest, ImageConfig, Manifest, Platform, Reference, Repository, Tag};
use longshore_pipeline::DockerSettings;
use longshore_python::{
    distribution::Distribution,
    install::Venv,
    lock::Lock,
    plan::{Budget, LAYERS, WheelLayer, wheel_layers},
    uv::Search,
};
use longshore_store::{BlobStore, Durability, Registry, RepositoryPath, StoreError, Table, TagOrDigest};

use crate::{
    BuildError, Images, LayerRecord,
    code::CodeKey,
    event::{Event, LayerTitle, Observer},
    inputs,
    layer::{Layers, format_of},
    lock,
    parent::{self, FoundParent, PythonFacts, Reading},
    plan::{Content, Plan, PlannedLayer, PlannedParent},
    platforms::PlatformImage,
    runtime::RuntimeKey,
    sbom::Sbom,
    sdist::Workshop,
    shared::Shared,
    source::SourceTree,
};

/// Whether what is known is good enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// Packages stay as they were while the inputs are the same.
    No,
    /// Packages move to the newest that the inputs allow.
    Yes,
}

/// An image that is wanted.
#[derive(Clone, Debug)]
pub struct Request {
    /// The repository that it goes into.
    pub repository: Repository,
    /// Its tag.
    pub tag: Tag,
    /// The folder of code.
    pub source_root: PathBuf,
    /// What it consists of.
    pub settings: DockerSettings,
    /// Python packages that the image needs besides those of the settings.
    pub drivers: Vec<String>,
    /// A Python on this machine, for the resolver to run with.
    pub host_python: Option<PathBuf>,
    /// Whether packages move.
    pub upgrade: Upgrade,
}

/// An image that is in the registry.
#[derive(Clone, Debug)]
pub struct Built {
    /// Its name, by tag.
    pub image: Reference,
    /// Its digest.
    pub digest: Digest,
    /// Its manifest.
    pub manifest: Manifest,
    /// Its configuration.
    pub config: ImageConfig,
    /// The images, if it is for several platforms: `digest` is then that of their index, and `manifest` and `config` are of
    /// the image for this machine, or of the first.
    pub platforms: Vec<PlatformImage>,
    /// What went into it: parent, lock, code.
    pub inputs: serde_json::Value,
}

/// What a builder works with.
#[derive(Debug)]
pub struct BuilderParts {
    /// Where images go, and where their layers are found again.
    pub registry: Registry,
    /// What the names of images in the registry begin with.
    pub uri: &'static str,
    /// The registry's images as folders, to run their interpreter.
    pub images: Images,
    /// What pulls from and pushes to other registries.
    pub client: Client,
    /// The table of pure functions.
    pub table: Table,
    /// Wheels and Debian packages.
    pub downloads: BlobStore,
    /// What downloads them.
    pub fetcher: Fetcher,
    /// Where to look for uv.
    pub uv: Search,
    /// The value of `SOURCE_DATE_EPOCH`: seconds since 1970.
    pub epoch: Option<String>,
}

/// Makes images.
#[derive(Clone, Debug)]
pub struct Builder {
    pub(crate) registry: Registry,
    pub(crate) uri: &'static str,
    pub(crate) images: Images,
    pub(crate) client: Client,
    pub(crate) table: Table,
    pub(crate) downloads: BlobStore,
    pub(crate) fetcher: Arc<Fetcher>,
    pub(crate) layers: Layers,
    pub(crate) uv: Search,
    /// Which images get a bill of materials.
    pub(crate) sbom: Sbom,
    /// The time that images bear, RFC 3339: that of `SOURCE_DATE_EPOCH`, or 1970, so that the same inputs give the same image.
    pub(crate) created: String,
}

impl Builder {
    /// A builder that works with these parts.
    pub fn new(parts: BuilderParts) -> Result<Self, BuildError> {
        let BuilderParts { registry, uri, images, client, table, downloads, fetcher, uv, epoch } = parts;
        let seconds = match &epoch {
            Some(text) => text.parse().map_err(|_| BuildError::Epoch(text.clone()))?,
            None => 0,
        };
        let created = Timestamp::from_second(seconds)
            .map_err(|_| BuildError::Epoch(epoch.unwrap_or_default()))?
            .to_string();
        // Blobs need to be on disk when the manifest that names them is, not before (DESIGN §6).
        let blobs = registry.blobs().with_durability(Durability::Deferred);
        let layers = Layers::new(blobs, table.clone());
        let fetcher = Arc::new(fetcher);
        Ok(Self {
            registry,
            uri,
            images,
            client,
            table,
            downloads,
            fetcher,
            layers,
            uv,
            sbom: Sbom::default(),
            created,
        })
    }

    /// The same builder, which looks for uv beside this Python too: where a virtual environment has its programs.
    pub fn with_uv_beside(mut self, python: &Path) -> Self {
        self.uv.folders.extend(python.parent().map(Path::to_owned));
        self.uv.python = Some(python.to_owned());
        self
    }

    /// Where to look for uv.
    pub(crate) fn uv(&self) -> &Search {
        &self.uv
    }

    /// The same builder for one image, which also knows what the registry that it goes to knows; or, if nothing is to be
    /// reused, knows nothing.
    pub(crate) fn for_request(&self, request: &Request) -> Self {
        let table = if request.settings.prevent_build_reuse == Some(true) {
            self.table.anew()
        } else {
            let remote = (!self.is_embedded(&request.repository)).then_some(&request.repository);
            let shared = remote.and_then(|remote| Shared::new(self.client.clone(), remote.clone()));
            self.table.session(shared.map(|shared| shared as _))
        };
        Self { layers: self.layers.remembered_in(table.clone()), table, ..self.clone() }
    }

    /// Finds out what an image consists of, and what of it exists, for one processor.
    pub(crate) async fn planned(
        &self,
        request: Request,
        arch: Arch,
        reading: Reading,
        observer: Observer<'_>,
    ) -> Result<Plan, BuildError> {
        let format = format_of(&request.settings)?;
        let root = request.source_root.clone();
        let allow = request.settings.allow_secrets.clone().unwrap_or_default();
        let table = self.table.clone();
        let scan = tokio::task::spawn_blocking(move || SourceTree::scan(&root, &allow, Some(&table)));
        let parent = self.plan_parent(&request, arch, reading, observer).await?;
        let (mut parent, apt) = self.plan_apt(parent, &request, arch, observer).await?;
        let python = parent.python().clone();
        let target = longshore_python::target::Target { python: python.version, arch, glibc: python.glibc };
        let indexes = inputs::indexes(&request.settings, &request.source_root)?;
        let there = distributions(&request.settings, &parent, apt.as_ref());
        let resolver = lock::Resolver { table: &self.table, search: &self.uv, target, indexes: &indexes };
        let selection = resolver.resolve(&request, &there, observer).await?;
        let (selection, present) = selection.without(&there);
        if !present.is_empty() {
            let packages = present.iter().map(ToString::to_string).collect();
            observer(Event::PackagesPresent { packages });
        }
        let fetcher = self.fetcher.with_logins(inputs::logins(&indexes, &request)?);
        let workshop = Workshop {
            builder: self,
            request: &request,
            target,
            indexes: &indexes,
            fetcher: &fetcher,
            observer,
        };
        let lock = Lock { present, ..Box::pin(workshop.lock(&selection, &mut parent)).await? };
        let code = scan.await.map_err(|_| BuildError::Lost("reading the code"))??;
        let mut layers = self.plan_layers(&request, format, &parent, &lock, &code)?;
        layers.splice(0..0, apt);
        let interpreter = self.plan_interpreter(&request, arch, reading, &parent, &layers, observer).await?;
        Ok(Plan { request, arch, format, parent, interpreter, lock, code, layers, fetcher })
    }

    pub(crate) async fn plan_parent(
        &self,
        request: &Request,
        arch: Arch,
        reading: Reading,
        observer: Observer<'_>,
    ) -> Result<PlannedParent, BuildError> {
        if let Some(name) = &request.settings.parent_image {
            let image: Reference = name.parse()?;
            if !self.is_embedded(&image.repository) {
                let parent = self.parent_elsewhere(image, arch, reading, observer).await?;
                return Ok(PlannedParent::Ready(Box::new(parent)));
            }
            let registry = self.registry.clone();
            let find = move || {
                let path = RepositoryPath::from(&image.repository);
                let top = match registry.manifest(&path, TagOrDigest::from(&image)) {
                    Err(StoreError::ManifestUnknown { .. } | StoreError::RepositoryUnknown(_)) => {
                        return Err(BuildError::NoImage(Box::new(image)));
                    }
                    found => found?.digest,
                };
                let (digest, manifest, config) =
                    parent::read(&registry, &path, &image, &Platform::linux(arch))?;
                Ok::<_, BuildError>(FoundParent { image, top, digest, manifest, config, source: None })
            };
            let found =
                tokio::task::spawn_blocking(find).await.map_err(|_| BuildError::Lost("the parent"))??;
            self.notice(&found.image, found.top, observer);
            let parent = self.examine(found, arch, reading, observer).await?;
            return Ok(PlannedParent::Ready(Box::new(parent)));
        }
        let debian = self.plan_debian(format_of(&request.settings)?, arch, request.upgrade, observer).await?;
        Ok(match self.made_debian(&debian, &request.repository)? {
            Some(parent) => PlannedParent::Ready(Box::new(parent)),
            None => PlannedParent::Debian(Box::new(debian)),
        })
    }

    fn plan_layers(
        &self,
        request: &Request,
        format: Format,
        parent: &PlannedParent,
        lock: &Lock,
        code: &SourceTree,
    ) -> Result<Vec<PlannedLayer>, BuildError> {
        let python = parent.python();
        let layers = self.layers_of(request, format);
        contents(&request.settings, python, parent.layers(), lock)?
            .into_iter()
            .map(|content| {
                Ok(PlannedLayer {
                    title: title(&content, lock, code),
                    known: known(&layers, &content, python, code)?,
                    content,
                })
            })
            .collect()
    }

    /// Looks again for the layers of a plan that were not there when it was made.
    pub(crate) fn look_again(&self, plan: &mut Plan) -> Result<(), BuildError> {
        let layers = self.layers_of(&plan.request, plan.format);
        for layer in plan.layers.iter_mut().filter(|layer| layer.known.is_none()) {
            layer.known = known(&layers, &layer.content, plan.parent.python(), &plan.code)?;
        }
        Ok(())
    }

    /// The layers that count as known for an image, and the means to make others.
    pub(crate) fn layers_of(&self, request: &Request, format: Format) -> Layers {
        let layers = self.layers.in_format(format);
        if self.is_embedded(&request.repository) { layers } else { layers.anywhere() }
    }
}

/// What need not be installed on a parent, with the Debian packages that are added to it.
fn distributions(
    settings: &DockerSettings,
    parent: &PlannedParent,
    apt: Option<&PlannedLayer>,
) -> Vec<Distribution> {
    if settings.ignore_parent_packages == Some(true) {
        return Vec::new();
    }
    match apt.map(|layer| &layer.content) {
        Some(Content::Apt(layer)) => layer.distributions(parent.distributions(), parent.python()),
        _ => parent.distributions().to_vec(),
    }
}

/// What the layers above a parent of `below` layers hold, lowest first.
pub(crate) fn contents(
    settings: &DockerSettings,
    python: &PythonFacts,
    below: usize,
    lock: &Lock,
) -> Result<Vec<Content>, BuildError> {
    let most = settings.layers.map_or(LAYERS, |layers| layers.get().into());
    let budget = Budget::new(most, below)?;
    let wheels = wheel_layers(lock, &Venv::in_image(python.version), budget);
    let compile = settings.compile_bytecode.unwrap_or(true);
    let mut contents: Vec<Content> = vec![Content::Venv(lock.present_scripts())];
    contents.extend(wheels.iter().cloned().map(Content::Wheels));
    if compile {
        contents.extend(wheels.into_iter().map(Content::Bytecode));
    }
    contents.push(Content::Sdk);
    if compile {
        contents.push(Content::SdkBytecode);
    }
    contents.push(Content::Code);
    Ok(contents)
}

pub(crate) fn known(
    layers: &Layers,
    content: &Content,
    python: &PythonFacts,
    code: &SourceTree,
) -> Result<Option<LayerRecord>, BuildError> {
    match content {
        Content::Apt(layer) => layers.known(&layer.key()),
        Content::Wheels(layer) => layers.known(&layer.key),
        Content::Bytecode(layer) => layers.known(&layer.bytecode_key),
        Content::Venv(scripts) => layers.known(&RuntimeKey::venv(python, scripts)),
        Content::Sdk => layers.known(&RuntimeKey::sdk(python)),
        Content::SdkBytecode => layers.known(&RuntimeKey::sdk_bytecode(python)),
        Content::Code => layers.apart().known(&CodeKey::of(code)),
    }
}

pub(crate) fn title(content: &Content, lock: &Lock, code: &SourceTree) -> LayerTitle {
    let of_wheels = |layer: &WheelLayer| {
        let package = |digest| lock.packages.iter().find(move |package| package.wheel.digest == digest);
        match layer.wheels.as_slice() {
            [wheel] => package(wheel.digest)
                .map_or_else(|| wheel.filename.as_str().to_owned(), |p| format!("{} {}", p.name, p.version)),
            several => {
                let names = several.iter().filter_map(|wheel| package(wheel.digest));
                names.map(|package| package.name.to_string()).collect::<Vec<_>>().join(", ")
            }
        }
    };
    let (title, verb) = match content {
        Content::Apt(layer) => return layer.title(),
        Content::Wheels(layer) => (of_wheels(layer), "spliced"),
        Content::Bytecode(layer) => (format!("bytecode of {}", of_wheels(layer)), "compiled"),
        Content::Venv(_) => ("virtual environment".to_owned(), "packed"),
        Content::Sdk => (format!("longshore {}", env!("CARGO_PKG_VERSION")), "packed"),
        Content::SdkBytecode => (format!("bytecode of longshore {}", env!("CARGO_PKG_VERSION")), "compiled"),
        Content::Code => match code.files() {
            1 => ("code: 1 file".to_owned(), "packed"),
            files => (format!("code: {files} files"), "packed"),
        },
    };
    LayerTitle { title, verb }
}
