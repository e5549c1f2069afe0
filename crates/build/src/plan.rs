//! What a build is going to do: a value, made before anything is downloaded or written.

use longshore_debian::addition::Addition;
use longshore_oci::Digest;
use longshore_python::{lock::Lock, plan::WheelLayer};

use crate::{
    AptReport, Request,
    apt::AptLayer,
    debian::DebianParent,
    event::LayerTitle,
    layer::LayerRecord,
    parent::{Parent, PythonFacts},
    source::SourceTree,
};

/// An image before it is made.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) request: Request,
    /// The image that is built on.
    pub parent: PlannedParent,
    /// The packages.
    pub lock: Lock,
    /// The code.
    pub code: SourceTree,
    /// The layers above the parent, lowest first.
    pub layers: Vec<PlannedLayer>,
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

    fn apt_layer(&self) -> Option<&AptLayer> {
        self.layers.iter().find_map(|layer| match &layer.content {
            Content::Apt(layer) => Some(layer),
            _ => None,
        })
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

    /// What it is, for people.
    pub fn title(&self) -> &str {
        match self {
            Self::Ready(parent) => &parent.title,
            Self::Debian(parent) => &parent.title,
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

/// What a layer holds, and so what it is made from.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// Debian packages.
    Apt(AptLayer),
    /// Wheels, installed.
    Wheels(WheelLayer),
    /// The bytecode of the same wheels.
    Bytecode(WheelLayer),
    /// The frame of the virtual environment.
    Venv,
    /// longshore's own Python package.
    Sdk,
    /// Its bytecode.
    SdkBytecode,
    /// The user's code.
    Code,
}

impl PlannedLayer {
    /// The wheels that must be at hand to make it, whether or not they are.
    pub fn wheels(&self) -> &[longshore_python::lock::PinnedWheel] {
        match (&self.content, self.known) {
            (Content::Wheels(layer) | Content::Bytecode(layer), None) => &layer.wheels,
            _ => &[],
        }
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
