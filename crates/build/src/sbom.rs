//! The bill of materials of an image that was just built: known from the lock and the parent, not found out afterwards.

use std::collections::{BTreeMap, BTreeSet};

use longshore_attest::{
    AttestError, BuildFacts, Format, Image, Inventory, Package, PackageKind, Survey, Surveyed,
    referrer::Referrer, wheels_of,
};
use longshore_debian::addition::Addition;
use longshore_oci::{Descriptor, Digest, ImageConfig, Manifest, MediaType, Repository};
use longshore_pipeline::DockerSettings;
use longshore_python::lock::Lock;
use longshore_store::RepositoryPath;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{BuildError, Builder, Event, Observer, image::VENV, parent::Parent, plan::Plan};

/// The row of the table that says what packages an image has, by the image's digest.
pub(crate) const PACKAGES: &str = "image-packages";
/// The version of what is looked for in layers: with another, they are read again.
const SURVEY: u32 = 2;

/// Which images get a bill of materials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sbom {
    /// Those that go into the embedded registry, where it costs no request.
    #[default]
    Embedded,
    /// All.
    Always,
    /// None.
    Never,
}

#[derive(Serialize)]
struct SurveyKey {
    survey: u32,
    image: Digest,
}

/// What went into an image: known from its plan, or from the record of its build.
pub(crate) struct Ingredients<'a> {
    pub(crate) lock: &'a Lock,
    /// The Debian packages that were added to the parent.
    pub(crate) apt: Option<&'a Addition>,
    pub(crate) code: Digest,
    pub(crate) settings: &'a DockerSettings,
    /// The time that it bears, if it is not the builder's.
    pub(crate) created: Option<&'a str>,
}

impl<'a> From<&'a Plan> for Ingredients<'a> {
    fn from(plan: &'a Plan) -> Self {
        let Plan { request, lock, code, .. } = plan;
        Self { lock, apt: plan.addition(), code: code.digest(), settings: &request.settings, created: None }
    }
}

/// An image in the place where it was delivered.
pub(crate) struct Delivered<'a> {
    pub(crate) repository: &'a Repository,
    pub(crate) manifest: &'a Manifest,
    pub(crate) config: &'a ImageConfig,
}

impl Builder {
    /// The same builder, with bills of materials for those images.
    pub fn with_sbom(mut self, sbom: Sbom) -> Self {
        self.sbom = sbom;
        self
    }

    fn describes(&self, repository: &Repository) -> bool {
        match self.sbom {
            Sbom::Embedded => self.is_embedded(repository),
            Sbom::Always => true,
            Sbom::Never => false,
        }
    }

    /// What packages a parent has, if an image in that repository is going to be described. Read from its layers once.
    pub(crate) async fn survey(
        &self,
        repository: &Repository,
        parent: &Parent,
        observer: Observer<'_>,
    ) -> Result<Option<Result<Surveyed, AttestError>>, BuildError> {
        if !self.describes(repository) {
            return Ok(None);
        }
        let key = SurveyKey { survey: SURVEY, image: parent.digest };
        if let Some(known) = self.table.get(PACKAGES, &key) {
            return Ok(Some(Ok(known)));
        }
        self.pull(&parent.manifest, &parent.sources(repository), observer).await?;
        let (manifest, config) = (parent.manifest.clone(), parent.config.clone());
        let blobs = self.registry.blobs().clone();
        let read = move || Survey::image(&manifest, &config, |layer| Ok(blobs.open_blob(&layer.digest)?));
        let found = tokio::task::spawn_blocking(read).await;
        let found = found.map_err(|_| BuildError::Lost("reading the parent's packages"))?;
        if let Ok(found) = &found {
            self.table.put(PACKAGES, &key, found)?;
        }
        Ok(Some(found))
    }

    /// Attaches the bill of materials. That it cannot be attached is told, and fails nothing: the image is whole.
    pub(crate) async fn describe(
        &self,
        image: Delivered<'_>,
        plan: impl Into<Ingredients<'_>>,
        parent: &Parent,
        surveyed: Option<Result<Surveyed, AttestError>>,
        observer: Observer<'_>,
    ) {
        let Some(surveyed) = surveyed else { return };
        let attached = match surveyed {
            Ok(surveyed) => self.attach(&image, self.inventory(&image, &plan.into(), parent, surveyed)).await,
            Err(error) => Err(error),
        };
        if let Err(error) = attached {
            observer(Event::SbomNotAttached { reason: error.to_string() });
        }
    }

    async fn attach(&self, image: &Delivered<'_>, inventory: Inventory) -> Result<(), AttestError> {
        let subject = Descriptor::of(MediaType::Manifest, &image.manifest.to_bytes());
        for format in Format::ALL {
            let document = format.document(&inventory);
            let created = image.config.created.as_deref();
            let referrer = Referrer::new(format, document, subject.clone(), created);
            if self.is_embedded(image.repository) {
                referrer.store(&self.registry, &RepositoryPath::from(image.repository))?;
            } else {
                referrer.push(&self.client, image.repository).await?;
            }
        }
        Ok(())
    }

    fn inventory(
        &self,
        image: &Delivered<'_>,
        plan: &Ingredients<'_>,
        parent: &Parent,
        surveyed: Surveyed,
    ) -> Inventory {
        let python = Package {
            kind: PackageKind::Interpreter,
            name: "python".to_owned(),
            version: parent.python.version.to_string(),
            digest: None,
            origin: None,
            locations: BTreeSet::from([parent.python.executable.clone()]),
        };
        let sdk = Package {
            kind: PackageKind::Python,
            name: "longshore".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            locations: BTreeSet::from([VENV.to_owned()]),
            ..python.clone()
        };
        let mut packages = wheels_of(plan.lock, VENV);
        packages.extend([python, sdk]);
        packages.extend(surveyed.packages);
        Inventory {
            image: Image {
                repository: image.repository.clone(),
                digest: Digest::of(image.manifest.to_bytes()),
                created: image.config.created.clone(),
            },
            os: surveyed.os,
            packages,
            build: Some(BuildFacts {
                longshore: env!("CARGO_PKG_VERSION").to_owned(),
                inputs: self.facts(plan, parent),
            }),
        }
    }

    /// What determines the image, as the bill of materials names it.
    fn facts(&self, plan: &Ingredients<'_>, parent: &Parent) -> BTreeMap<String, String> {
        // The settings may hold what their author would not publish; that they are the same can be seen by the digest.
        let settings = serde_json::to_value(plan.settings).unwrap_or_default();
        let mut facts = BTreeMap::from([
            ("parent:name".to_owned(), parent.name.clone()),
            ("parent:digest".to_owned(), parent.digest.to_string()),
            ("lock:digest".to_owned(), lock_digest(plan.lock).to_string()),
            ("code:digest".to_owned(), plan.code.to_string()),
            ("settings:digest".to_owned(), Digest::of(settings.to_string()).to_string()),
            ("created".to_owned(), plan.created.map_or_else(|| self.created.clone(), str::to_owned)),
        ]);
        if let Some(addition) = plan.apt {
            let package = |package: &longshore_debian::LockedPackage| {
                format!("{} {} {}\n", package.name, package.version, package.sha256)
            };
            let all: String = addition.packages.iter().map(package).collect();
            facts.insert("apt:digest".to_owned(), Digest::of(all).to_string());
        }
        facts.extend(
            layouts().into_iter().map(|(name, version)| (format!("layout:{name}"), version.to_string())),
        );
        facts
    }

    /// All that determines an image: what is recorded of a build.
    pub(crate) fn inputs(&self, plan: &Plan, parent: &Parent) -> Value {
        json!({
            "parent": {"name": parent.name, "digest": parent.digest},
            "python": parent.python, "apt": plan.addition(), "lock": plan.lock, "code": plan.code.digest(),
            "secrets_allowed": plan.code.allowed,
            "settings": plan.request.settings, "created": self.created,
            "longshore": env!("CARGO_PKG_VERSION"), "layouts": layouts(),
        })
    }
}

/// The versions of the ways in which layers are made.
pub(crate) fn layouts() -> BTreeMap<&'static str, u32> {
    BTreeMap::from([
        ("layer", longshore_layer::LAYOUT_VERSION),
        ("bytecode", longshore_python::bytecode::LAYOUT_VERSION),
        ("wheel", longshore_python::plan::LAYOUT_VERSION),
        ("debian", longshore_debian::LAYOUT_VERSION),
        ("apt", longshore_debian::addition::LAYOUT_VERSION),
    ])
}

/// The digest of what a lock installs: the same wheels from another mirror have the same.
fn lock_digest(lock: &Lock) -> Digest {
    let wheel = |package: &longshore_python::lock::LockedPackage| {
        format!("{} {} {}\n", package.name, package.version, package.wheel.digest)
    };
    Digest::of(lock.packages.iter().map(wheel).collect::<String>())
}
