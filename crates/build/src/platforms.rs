//! Images for several platforms: one for each, and an index that lists them.
//!
//! Nothing is emulated. Wheels are resolved for each platform, parents fetched or made for each. What runs is the Python of
//! this machine's own parent: bytecode does not depend on the processor, only on CPython's version, so the
//! two parents have to have the same.

use std::time::Instant;

use longshore_oci::{
    Arch, Descriptor, Digest, ImageConfig, Index, Manifest, MediaType, Platform, Reference, Repository,
    annotation,
};
use longshore_store::RepositoryPath;
use serde_json::{Map, Value};

use crate::{
    BuildError, Builder, Built, Event, Observer, Request,
    parent::{Parent, Reading},
    plan::{Plan, PlannedLayer, PlannedParent},
    work,
};

/// An image of an index, for one platform.
#[derive(Clone, Debug)]
pub struct PlatformImage {
    /// The platform.
    pub platform: Platform,
    /// The image's manifest.
    pub manifest: Manifest,
    /// The image's configuration.
    pub config: ImageConfig,
}

impl Builder {
    /// Finds out what an image consists of on each platform that it is for, and what of that exists. Nothing but manifests
    /// and configurations is moved, and what only the layers of a parent would say is presumed.
    pub async fn plan(&self, request: Request, observer: Observer<'_>) -> Result<Vec<Plan>, BuildError> {
        let plans = Box::pin(self.plans(&request, Reading::Manifests, observer)).await?;
        Ok(plans.into_iter().map(|(_, plan)| plan).collect())
    }

    /// The plans, each with the builder that it is to be carried out by.
    async fn plans(
        &self,
        request: &Request,
        reading: Reading,
        observer: Observer<'_>,
    ) -> Result<Vec<(Self, Plan)>, BuildError> {
        let archs = match &request.settings.platform {
            Some(platforms) => platforms.archs().to_vec(),
            None => vec![here()?],
        };
        let mut plans = Vec::with_capacity(archs.len());
        for &arch in &archs {
            if archs.len() > 1 {
                observer(Event::Platform(Platform::linux(arch)));
            }
            let builder = self.for_request(request);
            let plan = Box::pin(builder.planned(request.clone(), arch, reading, observer)).await?;
            plans.push((builder, plan));
        }
        Ok(plans)
    }

    /// Makes an image; one for each platform, and their index, if there are several.
    pub async fn build(&self, request: Request, observer: Observer<'_>) -> Result<Built, BuildError> {
        if request.settings.skip_build == Some(true) {
            return self.used(&request, observer).await;
        }
        let started = Instant::now();
        let mut plans = Box::pin(self.plans(&request, Reading::Layers, observer)).await?;
        if plans.len() == 1
            && let Some((builder, plan)) = plans.pop()
        {
            return Box::pin(work::execute(&builder, plan, Some(&request.tag), started, observer)).await;
        }
        let mut images = Vec::with_capacity(plans.len());
        for (builder, mut plan) in plans {
            let arch = plan.arch;
            observer(Event::Platform(Platform::linux(arch)));
            // What the platforms share was made for the first.
            builder.look_again(&mut plan)?;
            images
                .push((arch, Box::pin(work::execute(&builder, plan, None, Instant::now(), observer)).await?));
        }
        self.list(&request, images, started, observer).await
    }

    /// The digest that `build` would give the image of these plans, where nothing is left to make: the parent is there and
    /// every layer is known.
    pub fn digest(&self, plans: &[Plan]) -> Option<Digest> {
        let images = plans.iter().map(|plan| plan.image(&self.created));
        let images: Vec<(ImageConfig, Manifest)> = images.collect::<Option<_>>()?;
        let bytes = match images.as_slice() {
            [] => return None,
            [(_, manifest)] => manifest.to_bytes(),
            several => self.index(several.iter().map(|(config, manifest)| (config, manifest))).to_bytes(),
        };
        Some(Digest::of(&bytes))
    }

    /// The index that lists the images of several platforms.
    fn index<'a>(&self, images: impl Iterator<Item = (&'a ImageConfig, &'a Manifest)>) -> Index {
        let listed = images.map(|(config, manifest)| Descriptor {
            platform: Some(config.platform.clone()),
            ..Descriptor::of(MediaType::Manifest, &manifest.to_bytes())
        });
        let mut index = Index::new(listed.collect());
        index.annotations.insert(annotation::CREATED.to_owned(), self.created.clone());
        index
    }

    /// Puts the index of images into their repository: last, for what it lists must be there.
    async fn list(
        &self,
        request: &Request,
        images: Vec<(Arch, Built)>,
        started: Instant,
        observer: Observer<'_>,
    ) -> Result<Built, BuildError> {
        let bytes = self.index(images.iter().map(|(_, built)| (&built.config, &built.manifest))).to_bytes();
        let inputs: Map<String, Value> = images
            .iter()
            .map(|(_, built)| (built.config.platform.to_string(), built.inputs.clone()))
            .collect();
        let platforms = images.iter().map(|(_, built)| PlatformImage {
            platform: built.config.platform.clone(),
            manifest: built.manifest.clone(),
            config: built.config.clone(),
        });
        let platforms: Vec<PlatformImage> = platforms.collect();
        // What runs here is this machine's; elsewhere the first is as good as any.
        let own = Arch::host();
        let chosen = images.iter().position(|(arch, ..)| Some(*arch) == own).unwrap_or(0);
        let Some((_, built)) = images.into_iter().nth(chosen) else {
            return Err(BuildError::Lost("building for several platforms"));
        };
        let Request { repository, tag, .. } = request;
        if self.is_embedded(repository) {
            let path = RepositoryPath::from(repository);
            self.registry.put_manifest(&path, &bytes, &MediaType::Index, Some(tag))?;
        } else {
            self.client
                .put_manifest(repository, &bytes, &MediaType::Index, std::slice::from_ref(tag))
                .await?;
        }
        let digest = Digest::of(&bytes);
        let image = Reference { digest: Some(digest), ..Reference::tagged(repository.clone(), tag.clone()) };
        observer(Event::IndexDone {
            image,
            platforms: platforms.iter().map(|image| image.platform.clone()).collect(),
            took: started.elapsed(),
        });
        let mut all = built.inputs.clone();
        if let Value::Object(all) = &mut all {
            all.insert("platforms".to_owned(), Value::Object(inputs));
        }
        Ok(Built { digest, platforms, inputs: all, ..built })
    }

    /// Plans the image whose Python compiles for a processor that this machine does not have, if anything is to be compiled.
    pub(crate) async fn plan_interpreter(
        &self,
        request: &Request,
        arch: Arch,
        reading: Reading,
        parent: &PlannedParent,
        layers: &[PlannedLayer],
        observer: Observer<'_>,
    ) -> Result<Option<PlannedParent>, BuildError> {
        let host = here()?;
        // The standard library of a parent made of Debian packages is compiled when it is made.
        let compiles =
            layers.iter().any(PlannedLayer::compiles) || matches!(parent, PlannedParent::Debian(_));
        if arch == host || !compiles {
            return Ok(None);
        }
        let interpreter = self.plan_parent(request, host, reading, observer).await?;
        let (python, here) = (parent.python().version, interpreter.python().version);
        if python == here {
            Ok(Some(interpreter))
        } else {
            Err(BuildError::Interpreter { arch, python, here })
        }
    }

    /// The image of a plan with its layers on this machine, made unless it was made since.
    pub(crate) async fn made(
        &self,
        planned: &PlannedParent,
        repository: &Repository,
        observer: Observer<'_>,
    ) -> Result<Parent, BuildError> {
        let found = match planned {
            PlannedParent::Ready(parent) => Some((**parent).clone()),
            PlannedParent::Debian(debian) => self.made_debian(debian, repository)?,
        };
        let debian = match (&found, planned) {
            (Some(parent), _) => parent.debian.as_deref(),
            (None, PlannedParent::Debian(debian)) => Some(&**debian),
            (None, PlannedParent::Ready(_)) => None,
        };
        if let Some(parent) = &found {
            let pulled = self.pull(&parent.manifest, &parent.sources(repository), observer).await;
            // One of ours can be made again, where its layers are lost.
            if debian.is_none() || pulled.is_ok() {
                return pulled.map(|()| parent.clone());
            }
        }
        match debian {
            Some(debian) => self.make_debian(debian, None, observer).await,
            None => Err(BuildError::Lost("looking for the parent for this machine")),
        }
    }
}

/// The processor of this machine.
fn here() -> Result<Arch, BuildError> {
    Arch::host().ok_or(BuildError::Machine)
}
