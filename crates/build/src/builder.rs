//! The builder: plans an image. [`work`] then makes it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use jiff::Timestamp;
use longshore_client::Client;
use longshore_fetch::Fetcher;
use longshore_oci::{Arch, Digest, ImageConfig, Manifest, Platform, Reference, Repository, Tag};
use longshore_pipeline::DockerSettings;
use longshore_python::{
    install::Venv,
    lock::Lock,
    plan::{WheelLayer, wheel_layers},
    uv::Search,
};
use longshore_store::{BlobStore, Durability, Registry, RepositoryPath, Table, TagOrDigest};

use crate::{
    BuildError, Images,
    code::CodeKey,
    event::{LayerTitle, Observer},
    layer::{Layers, format_of},
    lock,
    parent::{self, FoundParent, PythonFacts, Reading},
    plan::{Content, Plan, PlannedLayer, PlannedParent},
    runtime::RuntimeKey,
    sbom::Sbom,
    shared::Shared,
    source::SourceTree,
    work,
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

    /// The same builder for one image, which also knows what the registry that it goes to knows; or, if nothing is to be
    /// reused, knows nothing.
    fn for_request(&self, request: &Request) -> Self {
        let table = if request.settings.prevent_build_reuse == Some(true) {
            self.table.anew()
        } else {
            let remote = (!self.is_embedded(&request.repository)).then_some(&request.repository);
            let shared = remote.and_then(|remote| Shared::new(self.client.clone(), remote.clone()));
            self.table.session(shared.map(|shared| shared as _))
        };
        Self { layers: self.layers.remembered_in(table.clone()), table, ..self.clone() }
    }

    /// Finds out what an image consists of, and what of it exists. Nothing but manifests and configurations is moved, and
    /// what only the layers of a parent would say is presumed.
    pub async fn plan(&self, request: Request, observer: Observer<'_>) -> Result<Plan, BuildError> {
        self.for_request(&request).planned(request, Reading::Manifests, observer).await
    }

    async fn planned(
        &self,
        request: Request,
        reading: Reading,
        observer: Observer<'_>,
    ) -> Result<Plan, BuildError> {
        let arch = Arch::host().ok_or(BuildError::Machine)?;
        let root = request.source_root.clone();
        let allow = request.settings.allow_secrets.clone().unwrap_or_default();
        let table = self.table.clone();
        let scan = tokio::task::spawn_blocking(move || SourceTree::scan(&root, &allow, Some(&table)));
        let parent = self.plan_parent(&request, arch, reading, observer).await?;
        let python = parent.python().clone();
        let target = longshore_python::target::Target { python: python.version, arch, glibc: python.glibc };
        let lock = lock::resolve(&self.table, &self.uv, &request, target, observer).await?;
        let code = scan.await.map_err(|_| BuildError::Lost("reading the code"))??;
        let layers = self.plan_layers(&request, &python, &lock, &code)?;
        Ok(Plan { request, parent, lock, code, layers })
    }

    pub(crate) async fn plan_parent(
        &self,
        request: &Request,
        arch: Arch,
        reading: Reading,
        observer: Observer<'_>,
    ) -> Result<PlannedParent, BuildError> {
        let packages = request.settings.apt_packages.clone().unwrap_or_default();
        if let Some(name) = &request.settings.parent_image {
            if !packages.is_empty() {
                return Err(BuildError::AptOnParent(name.clone()));
            }
            let image: Reference = name.parse()?;
            if !self.is_embedded(&image.repository) {
                let parent = self.parent_elsewhere(image, arch, reading, observer).await?;
                return Ok(PlannedParent::Ready(Box::new(parent)));
            }
            let registry = self.registry.clone();
            let find = move || {
                let path = RepositoryPath::from(&image.repository);
                let top = registry.manifest(&path, TagOrDigest::from(&image))?.digest;
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
        let debian = self
            .plan_debian(&packages, format_of(&request.settings), arch, request.upgrade, observer)
            .await?;
        Ok(match self.made_debian(&debian, &request.repository)? {
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
        let layers = self.layers_of(request);
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

    /// The layers that count as known for an image, and the means to make others.
    pub(crate) fn layers_of(&self, request: &Request) -> Layers {
        let layers = self.layers.in_format(format_of(&request.settings));
        if self.is_embedded(&request.repository) { layers } else { layers.anywhere() }
    }

    /// Makes an image.
    pub async fn build(&self, request: Request, observer: Observer<'_>) -> Result<Built, BuildError> {
        if request.settings.skip_build == Some(true) {
            return self.used(&request, observer).await;
        }
        let started = Instant::now();
        let builder = self.for_request(&request);
        let plan = builder.planned(request, Reading::Layers, observer).await?;
        Box::pin(work::execute(&builder, plan, started, observer)).await
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
        Content::Code => layers.apart().known(&CodeKey::of(code)),
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
