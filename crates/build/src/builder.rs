//! The builder: plans an image, then makes it.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::future::try_join_all;
use jiff::Timestamp;
use longshore_client::Client;
use longshore_fetch::Fetcher;
use longshore_oci::{Arch, Digest, ImageConfig, Manifest, MediaType, Platform, Reference, Repository, Tag};
use longshore_pipeline::DockerSettings;
use longshore_python::{
    bytecode::Compiler,
    install::Venv,
    layers::OpenLayer,
    lock::Lock,
    plan::{WheelLayer, wheel_layers},
    uv::Search,
};
use longshore_store::{BlobStore, Durability, Registry, RepositoryPath, Table};
use tokio::sync::{OnceCell, Semaphore};

use crate::{
    BuildError, Images,
    bytecode::ImageInterpreter,
    code::{self, CodeKey},
    elsewhere::Delivered,
    event::{Event, ImageReport, LayerReport, LayerTitle, Observer, Origin, ParentReport},
    image::{ImageLayer, assemble},
    inputs,
    layer::{Lane, Layers, Made, format_of, processors},
    lock,
    parent::{self, FoundParent, Parent, PythonFacts},
    plan::{Content, Plan, PlannedLayer, PlannedParent},
    runtime::{self, RuntimeKey},
    sbom::{self, Sbom},
    sdist::Workshop,
    source::SourceTree,
    wheels::{self, Wheels},
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
    uv: Search,
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

    /// Finds out what an image consists of, and what of it exists.
    pub async fn plan(&self, request: Request, observer: Observer<'_>) -> Result<Plan, BuildError> {
        let arch = Arch::host().ok_or(BuildError::Machine)?;
        let root = request.source_root.clone();
        let allow = request.settings.allow_secrets.clone().unwrap_or_default();
        let table = self.table.clone();
        let scan = tokio::task::spawn_blocking(move || SourceTree::scan(&root, &allow, Some(&table)));
        let mut parent = self.plan_parent(&request, arch, observer).await?;
        let python = parent.python().clone();
        let target = longshore_python::target::Target { python: python.version, arch, glibc: python.glibc };
        let indexes = inputs::indexes(&request.settings, &request.source_root)?;
        let selection = lock::resolve(&self.table, &self.uv, &request, target, &indexes, observer).await?;
        let fetcher = self.fetcher.with_logins(inputs::logins(&indexes, &request)?);
        let workshop = Workshop {
            builder: self,
            request: &request,
            target,
            indexes: &indexes,
            fetcher: &fetcher,
            observer,
        };
        let lock = Box::pin(workshop.lock(&selection, &mut parent)).await?;
        let code = scan.await.map_err(|_| BuildError::Lost("reading the code"))??;
        let layers = self.plan_layers(&request, &python, &lock, &code)?;
        Ok(Plan { request, parent, lock, code, layers, fetcher })
    }

    pub(crate) async fn plan_parent(
        &self,
        request: &Request,
        arch: Arch,
        observer: Observer<'_>,
    ) -> Result<PlannedParent, BuildError> {
        let packages = request.settings.apt_packages.clone().unwrap_or_default();
        if let Some(name) = &request.settings.parent_image {
            if !packages.is_empty() {
                return Err(BuildError::AptOnParent(name.clone()));
            }
            let image: Reference = name.parse()?;
            if !self.is_embedded(&image.repository) {
                let parent = self.parent_elsewhere(image, arch, observer).await?;
                return Ok(PlannedParent::Ready(Box::new(parent)));
            }
            let builder = self.clone();
            let find = move || {
                let path = RepositoryPath::from(&image.repository);
                let (digest, manifest, config) =
                    parent::read(&builder.registry, &path, &image, &Platform::linux(arch))?;
                let found = FoundParent { image, digest, manifest, config, source: None };
                found.examine(&builder.table, &builder.images, arch)
            };
            let parent = tokio::task::spawn_blocking(find).await;
            return Ok(PlannedParent::Ready(Box::new(parent.map_err(|_| BuildError::Lost("the parent"))??)));
        }
        let debian = self
            .plan_debian(&packages, format_of(&request.settings), arch, request.upgrade, observer)
            .await?;
        Ok(match self.made_debian(&debian)? {
            Some(parent) => PlannedParent::Ready(Box::new(parent)),
            None => PlannedParent::Debian(Box::new(debian)),
        })
    }

    fn plan_layers(
        &self,
        request: &Request,
        python: &PythonFacts,
        lock: &Lock,
        code: &SourceTree,
    ) -> Result<Vec<PlannedLayer>, BuildError> {
        let wheels = wheel_layers(lock, &Venv::in_image(python.version));
        let compile = request.settings.compile_bytecode.unwrap_or(true);
        let mut contents: Vec<Content> = vec![Content::Venv];
        contents.extend(wheels.iter().cloned().map(Content::Wheels));
        if compile {
            contents.extend(wheels.into_iter().map(Content::Bytecode));
        }
        contents.push(Content::Sdk);
        if compile {
            contents.push(Content::SdkBytecode);
        }
        contents.push(Content::Code);
        let layers = self.layers.in_format(format_of(&request.settings));
        contents
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

    /// Makes an image.
    pub async fn build(&self, request: Request, observer: Observer<'_>) -> Result<Built, BuildError> {
        if request.settings.skip_build == Some(true) {
            return self.used(&request, observer).await;
        }
        let started = Instant::now();
        let plan = self.plan(request, observer).await?;
        Box::pin(self.execute(plan, started, observer)).await
    }

    async fn execute(
        &self,
        plan: Plan,
        started: Instant,
        observer: Observer<'_>,
    ) -> Result<Built, BuildError> {
        let work = Work {
            builder: self,
            plan: &plan,
            observer,
            wheels: Wheels::new(&plan.fetcher, &self.downloads, observer, &plan.lock),
            parent: OnceCell::new(),
            compiler: OnceCell::new(),
            sent: Mutex::default(),
            lanes: Semaphore::new(self.client.config().parallel.clamp(1, Semaphore::MAX_PERMITS)),
        };
        if matches!(plan.parent, PlannedParent::Ready(_)) {
            work.parent().await?;
        }
        // What is known is told first, in the order of the image; what is not is begun in the order of its weight.
        let mut order: Vec<usize> = (0..plan.layers.len()).collect();
        order.sort_by_key(|&position| {
            let layer = &plan.layers[position];
            std::cmp::Reverse(if layer.known.is_some() { u64::MAX } else { layer.weight() })
        });
        let layers = order.into_iter().map(|position| {
            let work = &work;
            async move { Ok::<_, BuildError>((position, work.layer(&work.plan.layers[position]).await?)) }
        });
        let survey = async { self.survey(&plan.request.repository, work.parent().await?).await };
        let (_, mut made, surveyed) = futures::try_join!(work.parent(), try_join_all(layers), survey)?;
        self.tell_clashes(&plan, observer).await?;
        made.sort_by_key(|(position, _)| *position);
        let parent = work.parent().await?;
        let layers: Vec<ImageLayer> = made
            .iter()
            .map(|(position, made)| ImageLayer {
                record: made.record,
                title: plan.layers[*position].title.title.clone(),
            })
            .collect();
        let (config, manifest) = assemble(parent, &layers, &plan.request.settings, &self.created);
        let config_bytes = config.to_bytes();
        let manifest_bytes = manifest.to_bytes();
        let Request { repository, tag, .. } = &plan.request;
        let written = self.layers.put(&config_bytes)?;
        let new = |(_, made): &&(usize, Made)| made.origin == Origin::New;
        let digest = Digest::of(&manifest_bytes);
        let (pushed, new_layers, mounted) = if self.is_embedded(repository) {
            let path = RepositoryPath::from(repository);
            self.registry.put_manifest(&path, &manifest_bytes, &MediaType::Manifest, Some(tag))?;
            let bytes = made.iter().filter(new).map(|(_, made)| made.record.size).sum::<u64>();
            (written + bytes, made.iter().filter(new).count(), 0)
        } else {
            let mut delivered = work.sent();
            delivered += self.deliver(repository, tag, &manifest, parent, observer).await?;
            (delivered.bytes, delivered.layers, delivered.mounted)
        };
        let described = sbom::Delivered { repository, manifest: &manifest, config: &config };
        self.describe(described, &plan, parent, surveyed, observer).await;
        let image = Reference::tagged(repository.clone(), tag.clone());
        observer(Event::ImageDone(ImageReport {
            image: Reference { digest: Some(digest), ..image.clone() },
            size: manifest.total_size(),
            pushed,
            new_layers,
            mounted,
            layers: manifest.layers.len(),
            took: started.elapsed(),
        }));
        let inputs = self.inputs(&plan, parent);
        Ok(Built { image, digest, manifest, config, inputs })
    }
}

/// A plan being carried out.
struct Work<'a> {
    builder: &'a Builder,
    plan: &'a Plan,
    observer: Observer<'a>,
    wheels: Wheels<'a>,
    parent: OnceCell<Parent>,
    compiler: OnceCell<Arc<Compiler>>,
    /// What went to another registry while layers were being made, and how many at a time may go.
    sent: Mutex<Delivered>,
    lanes: Semaphore,
}

impl Work<'_> {
    /// The parent, made by whoever asks first.
    async fn parent(&self) -> Result<&Parent, BuildError> {
        self.parent
            .get_or_try_init(|| async {
                match &self.plan.parent {
                    PlannedParent::Ready(parent) => {
                        (self.observer)(Event::ParentDone(ParentReport {
                            title: parent.title.clone(),
                            size: parent.size(),
                            origin: Origin::Reused,
                            took: Duration::ZERO,
                            scripts_not_run: Vec::new(),
                        }));
                        Ok((**parent).clone())
                    }
                    PlannedParent::Debian(debian) => {
                        // Parents of one distribution have most packages in common, so that they are made in turn.
                        let _claim = self.builder.layers.claims.take("parent", &debian.title).await;
                        match self.builder.made_debian(debian)? {
                            Some(parent) => Ok(parent),
                            None => self.builder.make_debian(debian, self.observer).await,
                        }
                    }
                }
            })
            .await
    }

    /// The interpreters of the parent, started by whoever has something to compile first.
    async fn compiler(&self) -> Result<Arc<Compiler>, BuildError> {
        let compiler = self.compiler.get_or_try_init(|| async {
            let parent = self.parent().await?.clone();
            let images = self.builder.images.clone();
            let start = move || {
                let interpreter = ImageInterpreter {
                    layers: images.unpack(&parent.manifest, &parent.config)?,
                    scratch: images.scratch().to_owned(),
                    executable: parent.python.executable.clone(),
                };
                let version = parent.python.version;
                Ok::<_, BuildError>(Compiler::new(&(Arc::new(interpreter) as _), processors(), version)?)
            };
            let started = tokio::task::spawn_blocking(start).await;
            Ok::<_, BuildError>(Arc::new(started.map_err(|_| BuildError::Lost("the interpreters"))??))
        });
        compiler.await.cloned()
    }

    /// One layer: looked up, or made.
    async fn layer(&self, planned: &PlannedLayer) -> Result<Made, BuildError> {
        let made = match planned.known {
            Some(record) => Made { record, origin: Origin::Reused, took: Duration::ZERO },
            None => self.make(&planned.content).await?,
        };
        let repository = &self.plan.request.repository;
        (self.observer)(Event::LayerDone(LayerReport {
            layer: planned.title.clone(),
            size: made.record.size,
            origin: made.origin,
            took: made.took,
        }));
        if made.origin == Origin::New && !self.builder.is_embedded(repository) {
            // The semaphore is never closed; if it were, one layer too many would be sent at once.
            let _lane = self.lanes.acquire().await.ok();
            let sent = self.builder.send(repository, made.record.digest, made.record.size).await?;
            *self.sent.lock().unwrap_or_else(PoisonError::into_inner) += sent;
        }
        Ok(made)
    }

    /// What went to another registry so far.
    fn sent(&self) -> Delivered {
        *self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn make(&self, content: &Content) -> Result<Made, BuildError> {
        let layers = self.builder.layers.in_format(format_of(&self.plan.request.settings));
        let python = self.plan.parent.python().clone();
        match content {
            Content::Wheels(layer) => {
                let mut open = self.open(layer, &python).await?;
                layers.make(&layer.key, Lane::Splice, move |out| Ok(open()?.write(out)?)).await
            }
            Content::Bytecode(layer) => {
                let mut open = self.open(layer, &python).await?;
                let compiler = self.compiler().await?;
                let write = move |out| {
                    let (out, summary) = open()?.write_bytecode(&compiler, out)?;
                    Ok((out, summary.layer))
                };
                layers.make(&layer.bytecode_key, Lane::Compile, write).await
            }
            Content::Venv => {
                let key = RuntimeKey::venv(&python);
                layers.make(&key, Lane::Splice, move |out| runtime::venv(&python, out)).await
            }
            Content::Sdk => {
                let key = RuntimeKey::sdk(&python);
                layers.make(&key, Lane::Splice, move |out| runtime::sdk(&python, out)).await
            }
            Content::SdkBytecode => {
                let compiler = self.compiler().await?;
                let key = RuntimeKey::sdk_bytecode(&python);
                layers.make(&key, Lane::Compile, move |out| runtime::sdk_bytecode(&compiler, out)).await
            }
            Content::Code => {
                let code = self.plan.code.clone();
                layers.make(&CodeKey::of(&code), Lane::Splice, move |out| code::write(&code, out)).await
            }
        }
    }

    /// Fetches the wheels of a layer; what is returned opens them, on the thread that then writes the layer.
    async fn open(
        &self,
        layer: &WheelLayer,
        python: &PythonFacts,
    ) -> Result<impl FnMut() -> Result<OpenLayer<std::fs::File>, BuildError> + Send + 'static, BuildError>
    {
        let fetches = layer.wheels.iter().map(|wheel| async {
            let _claim = self.builder.layers.claims.take("wheel", &wheel.digest).await;
            self.wheels.get(wheel).await
        });
        try_join_all(fetches).await?;
        let (layer, downloads) = (layer.clone(), self.builder.downloads.clone());
        let venv = Venv::in_image(python.version);
        Ok(move || Ok(OpenLayer::open(&layer, &venv, |wheel| wheels::open(&downloads, wheel))?))
    }
}

fn known(
    layers: &Layers,
    content: &Content,
    python: &PythonFacts,
    code: &SourceTree,
) -> Result<Option<crate::LayerRecord>, BuildError> {
    match content {
        Content::Wheels(layer) => layers.known(&layer.key),
        Content::Bytecode(layer) => layers.known(&layer.bytecode_key),
        Content::Venv => layers.known(&RuntimeKey::venv(python)),
        Content::Sdk => layers.known(&RuntimeKey::sdk(python)),
        Content::SdkBytecode => layers.known(&RuntimeKey::sdk_bytecode(python)),
        Content::Code => layers.known(&CodeKey::of(code)),
    }
}

fn title(content: &Content, lock: &Lock, code: &SourceTree) -> LayerTitle {
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
        Content::Wheels(layer) => (of_wheels(layer), "spliced"),
        Content::Bytecode(layer) => (format!("bytecode of {}", of_wheels(layer)), "compiled"),
        Content::Venv => ("virtual environment".to_owned(), "packed"),
        Content::Sdk => (format!("longshore {}", env!("CARGO_PKG_VERSION")), "packed"),
        Content::SdkBytecode => (format!("bytecode of longshore {}", env!("CARGO_PKG_VERSION")), "compiled"),
        Content::Code => match code.files() {
            1 => ("code: 1 file".to_owned(), "packed"),
            files => (format!("code: {files} files"), "packed"),
        },
    };
    LayerTitle { title, verb }
}
