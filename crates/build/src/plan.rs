//! What a build is going to do: a value, made before anything is downloaded or written.

use longshore_debian::addition::Addition;
use longshore_fetch::Fetcher;
use longshore_layer::Format;
use longshore_oci::{Arch, Digest, ImageConfig, Manifest, Repository};
use longshore_python::{
    distribution::Distribution,
    entry_points::Script,
    lock::{Lock, PinnedWheel},
    plan::{Slot, WheelLayer},
};
use serde::{Deserialize, Serialize};

use crate::{
    AptReport, Request,
    apt::AptLayer,
    debian::DebianParent,
    event::LayerTitle,
    image::{ImageLayer, assemble},
    layer::LayerRecord,
    parent::{Facts, Parent, PythonFacts},
    source::SourceTree,
};

/// An image before it is made.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) request: Request,
    /// The processor that it is for.
    pub arch: Arch,
    pub(crate) format: Format,
    /// The image that is built on.
    pub parent: PlannedParent,
    /// The image whose Python compiles bytecode, where this machine cannot run the parent's own.
    pub(crate) interpreter: Option<PlannedParent>,
    /// The packages.
    pub lock: Lock,
    /// The code.
    pub code: SourceTree,
    /// The layers above the parent, lowest first.
    pub layers: Vec<PlannedLayer>,
    /// What fetches the wheels: it has the credentials of their indexes.
    pub(crate) fetcher: Fetcher,
}

impl Plan {
    /// What `apt_packages` add to the parent, and how.
    pub fn apt(&self) -> Option<AptReport> {
        self.apt_layer().map(AptLayer::report)
    }

    /// The packages that are added to the parent.
    pub(crate) fn addition(&self) -> Option<&Addition> {
        self.apt_layer().map(AptLayer::addition)
    }

    /// The packages that the parent has already, each with its version: nothing of them is installed.
    pub fn present(&self) -> Vec<String> {
        self.lock.present.iter().map(ToString::to_string).collect()
    }

    fn apt_layer(&self) -> Option<&AptLayer> {
        self.layers.iter().find_map(|layer| match &layer.content {
            Content::Apt(layer) => Some(layer),
            _ => None,
        })
    }
}

impl Plan {
    /// The repository that the image goes into.
    pub fn repository(&self) -> &Repository {
        &self.request.repository
    }

    /// The image, if nothing of it is left to make. `created` is the time that it bears.
    pub(crate) fn image(&self, created: &str) -> Option<(ImageConfig, Manifest)> {
        let PlannedParent::Ready(parent) = &self.parent else { return None };
        // What the parent's layers say, once they are read, may ask for other layers on top.
        if parent.facts == Facts::Presumed {
            return None;
        }
        let layer = |layer: &PlannedLayer| {
            Some(ImageLayer { record: layer.known?, title: layer.title.title.clone() })
        };
        let layers = self.layers.iter().map(layer).collect::<Option<Vec<_>>>()?;
        Some(assemble(parent, &layers, &self.request.settings, created))
    }
}

/// The parent of an image before it is made.
#[derive(Clone, Debug)]
pub enum PlannedParent {
    /// It is in the registry.
    Ready(Box<Parent>),
    /// It is to be made from Debian packages.
    Debian(Box<DebianParent>),
}

impl PlannedParent {
    pub(crate) fn python(&self) -> &PythonFacts {
        match self {
            Self::Ready(parent) => &parent.python,
            Self::Debian(parent) => &parent.python,
        }
    }

    /// What its Python has installed. One that is made from Debian packages has the interpreter and its library alone.
    pub(crate) fn distributions(&self) -> &[Distribution] {
        match self {
            Self::Ready(parent) => &parent.distributions,
            Self::Debian(_) => &[],
        }
    }

    /// What it is, for people.
    pub fn title(&self) -> &str {
        match self {
            Self::Ready(parent) => &parent.title,
            Self::Debian(parent) => &parent.title,
        }
    }

    /// How many layers it has; one that is to be made, at most.
    pub(crate) fn layers(&self) -> usize {
        match self {
            Self::Ready(parent) => parent.manifest.layers.len(),
            Self::Debian(_) => longshore_python::plan::PARENT,
        }
    }

    /// Its digest, if it exists.
    pub fn digest(&self) -> Option<Digest> {
        match self {
            Self::Ready(parent) => Some(parent.digest),
            Self::Debian(_) => None,
        }
    }
}

/// A layer before it is made.
#[derive(Clone, Debug)]
pub struct PlannedLayer {
    /// What it is called.
    pub title: LayerTitle,
    /// The layer, if it was made before and is still there.
    pub known: Option<LayerRecord>,
    pub(crate) content: Content,
}

/// Which of an image's layers one is: the same from build to build, whatever it holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LayerSlot {
    /// Debian packages on top of the parent.
    Apt,
    /// The frame of the virtual environment.
    Venv,
    /// Wheels.
    Wheels(Slot),
    /// The bytecode of the same wheels.
    Bytecode(Slot),
    /// longshore's own Python package.
    Sdk,
    /// Its bytecode.
    SdkBytecode,
    /// The user's code.
    Code,
}

/// What a layer holds, and so what it is made from.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// Debian packages.
    Apt(AptLayer),
    /// Wheels, installed.
    Wheels(WheelLayer),
    /// The bytecode of the same wheels.
    Bytecode(WheelLayer),
    /// The frame of the virtual environment, with the scripts of packages that the parent has.
    Venv(Vec<Script>),
    /// longshore's own Python package.
    Sdk,
    /// Its bytecode.
    SdkBytecode,
    /// The user's code.
    Code,
}

impl PlannedLayer {
    /// Which layer it is.
    pub fn slot(&self) -> LayerSlot {
        match &self.content {
            Content::Apt(_) => LayerSlot::Apt,
            Content::Wheels(layer) => LayerSlot::Wheels(layer.slot.clone()),
            Content::Bytecode(layer) => LayerSlot::Bytecode(layer.slot.clone()),
            Content::Venv(_) => LayerSlot::Venv,
            Content::Sdk => LayerSlot::Sdk,
            Content::SdkBytecode => LayerSlot::SdkBytecode,
            Content::Code => LayerSlot::Code,
        }
    }

    /// The wheels that must be at hand to make it, whether or not they are.
    pub fn wheels(&self) -> &[PinnedWheel] {
        if self.known.is_some() { &[] } else { self.all_wheels() }
    }

    /// The wheels that it is made from.
    pub(crate) fn all_wheels(&self) -> &[PinnedWheel] {
        match &self.content {
            Content::Wheels(layer) | Content::Bytecode(layer) => &layer.wheels,
            _ => &[],
        }
    }

    /// Whether the parent's interpreter must run to make it.
    pub(crate) fn compiles(&self) -> bool {
        self.known.is_none() && matches!(self.content, Content::Bytecode(_) | Content::SdkBytecode)
    }

    /// How much work it is, in bytes of input: what takes longest is begun first.
    pub(crate) fn weight(&self) -> u64 {
        match &self.content {
            Content::Wheels(layer) => layer.weight(),
            // Compiling costs some fifty times what splicing does, but it needs the wheels too, and its order among
            // its own kind is all that counts.
            Content::Bytecode(layer) => layer.weight() / 2,
            Content::Apt(layer) => layer.weight(),
            _ => 0,
        }
    }
}
