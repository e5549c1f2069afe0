//! A plan carried out: what is missing is fetched, made and sent, all at once.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::future::try_join_all;
use longshore_client::ClientError;
use longshore_oci::{Digest, MediaType, Reference, Tag};
use longshore_python::{bytecode::Compiler, install::Venv, layers::OpenLayer, plan::WheelLayer};
use longshore_store::{Blob, RepositoryPath};
use tokio::sync::{OnceCell, Semaphore};

use crate::{
    BuildError, Builder, Built, LayerRecord,
    bytecode::ImageInterpreter,
    code::{self, CodeKey},
    debian::DebianParent,
    deliver::{Delivered, Whence},
    event::{Event, ImageReport, LayerReport, Observer, Origin, ParentReport},
    history,
    image::{ImageLayer, assemble},
    layer::{Lane, Made, processors},
    parent::{Parent, PythonFacts, TAG_SEEN},
    plan::{Content, Plan, PlannedLayer, PlannedParent},
    runtime::{self, RuntimeKey},
    sbom,
    shared::{self, Lacked},
    stored::remove_damaged,
    wheels::{self, Meter, Wheels},
};

impl Builder {
    /// Makes the layers of a plan that are not known; the layers' order is the plan's.
    pub(crate) async fn make(&self, plan: &Plan, observer: Observer<'_>) -> Result<Vec<Made>, BuildError> {
        let work = Work::new(self, plan, observer);
        try_join_all(plan.layers.iter().map(|layer| work.layer(layer))).await
    }
}

/// Makes what a plan lacks, and puts the image into its registry, under a tag unless an index will have that.
pub(crate) async fn execute(
    builder: &Builder,
    plan: Plan,
    tag: Option<&Tag>,
    started: Instant,
    observer: Observer<'_>,
) -> Result<Built, BuildError> {
    let work = Work::new(builder, &plan, observer);
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
    // With Debian packages on the parent, dpkg's status in their layer says what is installed.
    let with_apt = plan.apt().is_some();
    let survey = async {
        if with_apt {
            return Ok(None);
        }
        builder.survey(&plan.request.repository, work.parent().await?, observer).await
    };
    let ((), mut made, mut surveyed) =
        futures::try_join!(work.deliver_parent(), try_join_all(layers), survey)?;
    builder.tell_clashes(&plan, observer).await?;
    made.sort_by_key(|(position, _)| *position);
    let parent = work.parent().await?;
    if let Some((_, apt)) = made.first().filter(|_| with_apt) {
        let with_apt = parent.with_layer(&apt.record);
        surveyed = builder.survey(&plan.request.repository, &with_apt, observer).await?;
    }
    let layers: Vec<ImageLayer> = made
        .iter()
        .map(|(position, made)| ImageLayer {
            record: made.record,
            title: plan.layers[*position].title.title.clone(),
        })
        .collect();
    let (config, manifest) = assemble(parent, &layers, &plan.request.settings, &builder.created);
    let config_bytes = config.to_bytes();
    let manifest_bytes = manifest.to_bytes();
    let repository = &plan.request.repository;
    let written = builder.layers.put(&config_bytes)?;
    let new = |(_, made): &&(usize, Made)| made.origin == Origin::New;
    let digest = Digest::of(&manifest_bytes);
    let (pushed, new_layers, mounted) = if builder.is_embedded(repository) {
        let path = RepositoryPath::from(repository);
        builder.registry.put_manifest(&path, &manifest_bytes, &MediaType::Manifest, tag)?;
        let bytes = made.iter().filter(new).map(|(_, made)| made.record.size).sum::<u64>();
        (written + bytes, made.iter().filter(new).count(), 0)
    } else {
        builder.layers.put(&manifest_bytes)?;
        let mut delivered = work.sent();
        delivered += builder.deliver(repository, tag, &manifest, &config_bytes).await?;
        (delivered.bytes, delivered.layers, delivered.mounted)
    };
    if let Some((image, top)) = &parent.tag {
        let image = image.to_string();
        if builder.table.get::<Digest>(TAG_SEEN, &image) != Some(*top) {
            builder.table.put(TAG_SEEN, &image, top)?;
        }
    }
    let described = sbom::Delivered { repository, manifest: &manifest, config: &config };
    builder.describe(described, &plan, parent, surveyed, observer).await;
    builder.table.keep()?;
    if work.is_remote() {
        let lacked = if new_layers > 1 { Lacked::Layers } else { Lacked::Code };
        shared::publish(&builder.client, &builder.table, repository, digest, lacked).await;
    }
    let made: Vec<LayerRecord> = made.iter().map(|(_, made)| made.record).collect();
    history::remember(&builder.table.apart(), &plan, &made)?;
    let image = Reference::tagged(repository.clone(), plan.request.tag.clone());
    observer(Event::ImageDone(ImageReport {
        image: Reference { digest: Some(digest), ..image.clone() },
        size: manifest.total_size(),
        pushed,
        new_layers,
        mounted,
        layers: manifest.layers.len(),
        took: started.elapsed(),
    }));
    let inputs = builder.inputs(&plan, parent);
    Ok(Built { image, digest, manifest, config, platforms: Vec::new(), inputs })
}

/// A plan being carried out.
struct Work<'a> {
    builder: &'a Builder,
    plan: &'a Plan,
    observer: Observer<'a>,
    wheels: Wheels<'a>,
    parent: OnceCell<Parent>,
    interpreter: OnceCell<Parent>,
    /// Layers that the registry was found to have.
    there: Mutex<BTreeSet<Digest>>,
    /// Set when the parent's layers are on this machine.
    here: OnceCell<()>,
    compiler: OnceCell<Arc<Compiler>>,
    /// What went to another registry while layers were being made, and how many at a time may go.
    sent: Mutex<Delivered>,
    pushed: Meter<'a>,
    lanes: Semaphore,
}

impl<'a> Work<'a> {
    fn new(builder: &'a Builder, plan: &'a Plan, observer: Observer<'a>) -> Self {
        Self {
            builder,
            plan,
            observer,
            wheels: Wheels::new(&plan.fetcher, &builder.downloads, observer, &plan.lock),
            parent: OnceCell::new(),
            there: Mutex::default(),
            interpreter: OnceCell::new(),
            here: OnceCell::new(),
            compiler: OnceCell::new(),
            sent: Mutex::default(),
            pushed: Meter::new(observer),
            lanes: Semaphore::new(builder.client.config().parallel.clamp(1, Semaphore::MAX_PERMITS)),
        }
    }
}

impl Work<'_> {
    /// Whether the image goes into another registry than the embedded one.
    fn is_remote(&self) -> bool {
        !self.builder.is_embedded(&self.plan.request.repository)
    }

    /// The parent, made by whoever asks first.
    async fn parent(&self) -> Result<&Parent, BuildError> {
        self.parent
            .get_or_try_init(|| async {
                let parent = match &self.plan.parent {
                    PlannedParent::Ready(parent) => parent,
                    PlannedParent::Debian(debian) => return self.make_parent(debian).await,
                };
                if let Some(debian) = &parent.debian
                    && !self.is_somewhere(parent).await?
                {
                    return self.make_parent(debian).await;
                }
                (self.observer)(Event::ParentDone(ParentReport {
                    title: parent.title.clone(),
                    size: parent.size(),
                    origin: Origin::Reused,
                    took: Duration::ZERO,
                    scripts_not_run: Vec::new(),
                }));
                Ok((**parent).clone())
            })
            .await
    }

    /// Makes a parent from Debian packages, unless another image has just made it: parents of one distribution have most
    /// packages in common, so that they are made in turn.
    async fn make_parent(&self, debian: &DebianParent) -> Result<Parent, BuildError> {
        let _claim = self.builder.layers.claims.take("parent", &debian.title).await;
        match self.builder.made_debian(debian, &self.plan.request.repository)? {
            Some(parent) if self.is_somewhere(&parent).await? => Ok(parent),
            _ => self.builder.make_debian(debian, self.interpreter().await?, self.observer).await,
        }
    }

    /// The image whose Python compiles, if that is not the parent: here, made by whoever asks first.
    async fn interpreter(&self) -> Result<Option<&Parent>, BuildError> {
        let Some(planned) = &self.plan.interpreter else { return Ok(None) };
        let repository = &self.plan.request.repository;
        let made = || self.builder.made(planned, repository, self.observer);
        self.interpreter.get_or_try_init(made).await.map(Some)
    }

    /// Whether every layer of a parent is on this machine, or in the repository that the image goes into.
    async fn is_somewhere(&self, parent: &Parent) -> Result<bool, BuildError> {
        let (builder, repository) = (self.builder, &self.plan.request.repository);
        let looks = parent.manifest.layers.iter().map(|layer| async move {
            if builder.has(layer)? {
                return Ok(true);
            }
            let is_there = self.is_remote() && builder.is_there(repository, layer).await?;
            if is_there {
                self.there.lock().unwrap_or_else(PoisonError::into_inner).insert(layer.digest);
            }
            Ok::<_, BuildError>(is_there)
        });
        Ok(try_join_all(looks).await?.into_iter().all(|found| found))
    }

    /// The parent, with its layers on this machine: for what must run or read it.
    async fn parent_here(&self) -> Result<&Parent, BuildError> {
        let parent = self.parent().await?;
        let from = parent.sources(&self.plan.request.repository);
        self.here.get_or_try_init(|| self.builder.pull(&parent.manifest, &from, self.observer)).await?;
        Ok(parent)
    }

    /// Sees to it that the parent's layers are where the image goes.
    async fn deliver_parent(&self) -> Result<(), BuildError> {
        if !self.is_remote() {
            return self.parent_here().await.map(drop);
        }
        let parent = self.parent().await?;
        let layers = parent.manifest.layers.iter().map(|layer| async move {
            let whence = Whence { layer, source: parent.source.as_ref() };
            self.bring(whence).await.map(|brought| (!brought).then_some(layer))
        });
        let missing: Vec<_> = try_join_all(layers).await?.into_iter().flatten().collect();
        let Some(first) = missing.first() else { return Ok(()) };
        // One of ours can be made again, where its layers are lost.
        let Some(debian) = &parent.debian else { return Err(BuildError::Nowhere(first.digest)) };
        self.builder.make_debian(debian, self.interpreter().await?, self.observer).await?;
        for layer in missing {
            if !self.bring(Whence { layer, source: None }).await? {
                return Err(BuildError::Nowhere(layer.digest));
            }
        }
        Ok(())
    }

    /// Sees to it that the registry has a layer; says whether it was to be had.
    async fn bring(&self, whence: Whence<'_>) -> Result<bool, BuildError> {
        if self.there.lock().unwrap_or_else(PoisonError::into_inner).contains(&whence.layer.digest) {
            return Ok(true);
        }
        // The semaphore is never closed; if it were, one layer too many would be sent at once.
        let _lane = self.lanes.acquire().await.ok();
        let repository = &self.plan.request.repository;
        let brought = match self.builder.bring(repository, whence, &self.pushed).await {
            // What is damaged here may be whole elsewhere.
            Err(error) if is_of_content(&error) && self.is_damaged(whence.layer.digest).await? => {
                self.builder.bring(repository, whence, &self.pushed).await?
            }
            brought => brought?,
        };
        let Some(sent) = brought else { return Ok(false) };
        *self.sent.lock().unwrap_or_else(PoisonError::into_inner) += sent;
        Ok(true)
    }

    /// Whether a layer on this machine is damaged. Then it is there no more.
    async fn is_damaged(&self, layer: Digest) -> Result<bool, BuildError> {
        let blobs = self.builder.registry.blobs().clone();
        let looked = tokio::task::spawn_blocking(move || remove_damaged(&blobs, &layer)).await;
        Ok(looked.map_err(|_| BuildError::Lost("reading a layer again"))??)
    }

    /// The interpreters of the parent, started by whoever has something to compile first.
    async fn compiler(&self) -> Result<Arc<Compiler>, BuildError> {
        let compiler = self.compiler.get_or_try_init(|| async {
            let parent = match self.interpreter().await? {
                Some(interpreter) => interpreter.clone(),
                None => self.parent_here().await?.clone(),
            };
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

    /// One layer: looked up, or made; and in the registry that the image goes to.
    async fn layer(&self, planned: &PlannedLayer) -> Result<Made, BuildError> {
        if let Some(record) = planned.known {
            let layer = record.descriptor();
            if !self.is_remote() || self.bring(Whence { layer: &layer, source: None }).await? {
                let made = Made { record, origin: Origin::Reused, took: Duration::ZERO };
                self.tell(planned, &made);
                return Ok(made);
            }
            tracing::debug!(layer = %layer.digest, title = planned.title.title, "neither here nor there any more: made again");
        }
        let made = self.make(&planned.content).await?;
        self.tell(planned, &made);
        if self.is_remote() {
            self.bring(Whence { layer: &made.record.descriptor(), source: None }).await?;
        }
        Ok(made)
    }

    fn tell(&self, planned: &PlannedLayer, made: &Made) {
        (self.observer)(Event::LayerDone(LayerReport {
            layer: planned.title.clone(),
            size: made.record.size,
            origin: made.origin,
            took: made.took,
        }));
    }

    /// What went to another registry so far.
    fn sent(&self) -> Delivered {
        *self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn make(&self, content: &Content) -> Result<Made, BuildError> {
        match self.attempt(content).await {
            Err(_) if self.fetches_again(content).await? => self.attempt(content).await,
            made => made,
        }
    }

    /// Fetches those wheels of a layer again that are damaged on this machine; says whether there were any.
    async fn fetches_again(&self, content: &Content) -> Result<bool, BuildError> {
        let (Content::Wheels(layer) | Content::Bytecode(layer)) = content else { return Ok(false) };
        let any = self.builder.drops_damaged(layer.wheels.iter().map(|wheel| wheel.digest)).await?;
        for wheel in layer.wheels.iter().filter(|_| any) {
            self.wheels.fetch(wheel).await?;
        }
        Ok(any)
    }

    async fn attempt(&self, content: &Content) -> Result<Made, BuildError> {
        let layers = self.builder.layers_of(&self.plan.request, self.plan.format);
        let python = self.plan.parent.python().clone();
        match content {
            Content::Apt(layer) => {
                self.builder.make_apt(layer, &layers, self.parent_here().await?, self.observer).await
            }
            Content::Wheels(layer) => {
                let mut open = self.open(layer, &python).await?;
                let write = move |out| Ok(open()?.write(out)?);
                if let [wheel] = &layer.wheels[..] {
                    let wheel = self.builder.downloads.open_blob(&wheel.digest)?;
                    layers.make_of(&wheel, &layer.key, write).await
                } else {
                    layers.make(&layer.key, Lane::Splice, write).await
                }
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
            Content::Venv(scripts) => {
                let (key, scripts) = (RuntimeKey::venv(&python, scripts), scripts.clone());
                layers.make(&key, Lane::Splice, move |out| runtime::venv(&python, &scripts, out)).await
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
                layers
                    .apart()
                    .make(&CodeKey::of(&code), Lane::Splice, move |out| code::write(&code, out))
                    .await
            }
        }
    }

    /// Fetches the wheels of a layer; what is returned opens them, on the thread that then writes the layer.
    async fn open(
        &self,
        layer: &WheelLayer,
        python: &PythonFacts,
    ) -> Result<impl FnMut() -> Result<OpenLayer<Blob>, BuildError> + Send + 'static, BuildError> {
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

/// Whether sending failed because of what is sent, not because of who was to get it.
fn is_of_content(error: &BuildError) -> bool {
    let BuildError::Client(error) = error else { return false };
    matches!(**error, ClientError::Changed { .. } | ClientError::Source { .. })
}
