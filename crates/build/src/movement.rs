//! The byte plan: what a build would move, from where to where, before anything is moved.
//!
//! Other registries are asked what they have with HEAD requests, and asked nothing else. The size of a layer that was not
//! made yet is estimated from what it is made of.

use std::{collections::BTreeSet, fmt};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use longshore_oci::{Descriptor, Digest, Repository};
use serde::Serialize;

use crate::{
    BuildError, Builder,
    debian::DebianParent,
    deliver::Whence,
    parent::{Facts, Parent},
    plan::{Content, Plan, PlannedLayer, PlannedParent},
    runtime::RuntimeKey,
};

/// So many questions are asked of a registry at once.
const QUESTIONS: usize = 16;

/// What a build would move.
#[derive(Clone, Debug, Default, Serialize)]
pub struct BytePlan {
    /// Each piece, once.
    pub movements: Vec<Movement>,
}

/// A piece that a build would move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Movement {
    /// How.
    pub way: Way,
    /// What it is, e.g. `pandas 2.2.3`.
    pub what: String,
    /// Where it comes from: a host, a repository, or this machine.
    pub from: String,
    /// Where it goes.
    pub to: String,
    /// How many bytes.
    pub bytes: u64,
    /// Whether `bytes` is a guess, because the piece was not made yet.
    pub estimated: bool,
    /// What tells it from others.
    #[serde(skip)]
    id: String,
}

/// How a piece is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// It is downloaded.
    Fetch,
    /// It is sent to a registry.
    Push,
    /// The registry has it in another repository. No bytes are moved.
    Mount,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fetch => "fetch",
            Self::Push => "push",
            Self::Mount => "mount",
        })
    }
}

/// What this machine is called among places.
const HERE: &str = "this machine";

impl BytePlan {
    /// The bytes that are moved in one way. What is mounted is not moved.
    pub fn bytes(&self, way: Way) -> u64 {
        self.movements.iter().filter(|movement| movement.way == way).map(|movement| movement.bytes).sum()
    }

    /// The bytes that are downloaded or sent.
    pub fn moved(&self) -> u64 {
        self.bytes(Way::Fetch) + self.bytes(Way::Push)
    }

    /// Whether some of the sizes are guesses.
    pub fn is_estimated(&self) -> bool {
        self.movements.iter().any(|movement| movement.estimated)
    }

    /// This and another build, one after the other: what both would move is moved once.
    pub fn and(mut self, other: Self) -> Self {
        let known: BTreeSet<_> = self.movements.iter().map(Movement::identity).collect();
        let more = other.movements.into_iter().filter(|movement| !known.contains(&movement.identity()));
        let more: Vec<_> = more.collect();
        self.movements.extend(more);
        self
    }
}

impl Movement {
    fn fetched(what: String, from: &Repository, layer: &Descriptor) -> Self {
        Self {
            way: Way::Fetch,
            what,
            from: from.to_string(),
            to: HERE.to_owned(),
            bytes: layer.size,
            estimated: false,
            id: layer.digest.to_string(),
        }
    }

    fn identity(&self) -> (Way, String, String) {
        (self.way, self.id.clone(), self.to.clone())
    }
}

/// A layer that the image's repository may or may not have.
struct Outgoing {
    what: String,
    /// Where it is, if that is not this machine.
    from: Option<Repository>,
    state: Layer,
}

enum Layer {
    Known(Descriptor),
    ToMake { id: String, estimate: u64 },
}

impl Builder {
    /// What making the image of a plan would move.
    pub async fn byte_plan(&self, plan: &Plan) -> Result<BytePlan, BuildError> {
        let mut movements = self.wheels_to_fetch(plan)?;
        for parent in std::iter::once(&plan.parent).chain(&plan.interpreter) {
            match parent {
                PlannedParent::Debian(debian) => movements.extend(self.packages_to_fetch(debian)?),
                PlannedParent::Ready(parent) => movements.extend(self.layers_to_fetch(plan, parent)?),
            }
        }
        if !self.is_embedded(plan.repository()) {
            movements.extend(self.layers_to_push(plan).await?);
        }
        let mut seen = BTreeSet::new();
        movements.retain(|movement| seen.insert(movement.identity()));
        Ok(BytePlan { movements })
    }

    fn wheels_to_fetch(&self, plan: &Plan) -> Result<Vec<Movement>, BuildError> {
        let mut movements = Vec::new();
        for wheel in plan.layers.iter().flat_map(PlannedLayer::wheels) {
            // A wheel of this machine's own is read where it is.
            if wheel.url.scheme() == "file" || self.downloads.size_of(&wheel.digest)?.is_some() {
                continue;
            }
            let package = plan.lock.packages.iter().find(|package| package.wheel.digest == wheel.digest);
            movements.push(Movement {
                way: Way::Fetch,
                what: package.map_or_else(
                    || wheel.filename.to_string(),
                    |package| format!("{} {}", package.name, package.version),
                ),
                from: wheel.url.host_str().unwrap_or_default().to_owned(),
                to: HERE.to_owned(),
                bytes: wheel.size.unwrap_or(0),
                estimated: wheel.size.is_none(),
                id: wheel.digest.to_string(),
            });
        }
        Ok(movements)
    }

    fn packages_to_fetch(&self, debian: &DebianParent) -> Result<Vec<Movement>, BuildError> {
        let mut movements = Vec::new();
        for package in &debian.plan.packages {
            if self.downloads.size_of(&package.sha256)?.is_some() {
                continue;
            }
            let suite = debian.plan.suites.get(package.suite);
            let host = suite.and_then(|suite| suite.url.host_str()).unwrap_or(HERE);
            movements.push(Movement {
                way: Way::Fetch,
                what: format!("{} {}", package.name, package.version),
                from: host.to_owned(),
                to: HERE.to_owned(),
                bytes: package.size,
                estimated: false,
                id: package.sha256.to_string(),
            });
        }
        Ok(movements)
    }

    /// The layers of a parent that have to come here: to be in the embedded registry, to be read, or to run its Python.
    fn layers_to_fetch(&self, plan: &Plan, parent: &Parent) -> Result<Vec<Movement>, BuildError> {
        let destination = plan.repository();
        let runs = plan.interpreter.is_none() && plan.layers.iter().any(PlannedLayer::compiles);
        let is_interpreter =
            matches!(&plan.interpreter, Some(PlannedParent::Ready(it)) if it.digest == parent.digest);
        let is_read = parent.facts == Facts::Presumed;
        if !(runs || is_interpreter || is_read || self.is_embedded(destination)) {
            return Ok(Vec::new());
        }
        let Some(source) = parent.sources(destination).into_iter().find(|source| !self.is_embedded(source))
        else {
            return Ok(Vec::new());
        };
        let mut movements = Vec::new();
        for layer in &parent.manifest.layers {
            if !self.has(layer)? {
                movements.push(Movement::fetched(format!("layer of {}", parent.name), &source, layer));
            }
        }
        Ok(movements)
    }

    async fn layers_to_push(&self, plan: &Plan) -> Result<Vec<Movement>, BuildError> {
        let destination = plan.repository();
        let mut layers = Vec::new();
        match &plan.parent {
            PlannedParent::Ready(parent) => {
                let source = parent.source.clone();
                layers.extend(parent.manifest.layers.iter().map(|layer| Outgoing {
                    what: format!("layer of {}", parent.name),
                    from: source.clone(),
                    state: Layer::Known(layer.clone()),
                }));
            }
            PlannedParent::Debian(debian) => layers.push(Outgoing {
                what: debian.title.clone(),
                from: None,
                state: Layer::ToMake {
                    id: debian.plan.key().to_string(),
                    // Packages are in xz, layers are not.
                    estimate: debian.download_size() * 5 / 4,
                },
            }),
        }
        layers.extend(plan.layers.iter().map(|layer| Outgoing {
            what: layer.title.title.clone(),
            from: None,
            state: match layer.known {
                Some(record) => Layer::Known(record.descriptor()),
                None => Layer::ToMake { id: layer.id(plan), estimate: estimate(layer, plan) },
            },
        }));
        // The configuration and the manifest name every layer.
        let documents = 4_000 + 400 * layers.len() as u64;
        let asked = stream::iter(layers)
            .map(|layer| async move { self.one_to_push(destination, layer).await })
            .buffered(QUESTIONS);
        let mut movements: Vec<Movement> = asked.try_concat().await?;
        movements.push(Movement {
            way: Way::Push,
            what: "configuration and manifest".to_owned(),
            from: HERE.to_owned(),
            to: destination.to_string(),
            bytes: documents,
            estimated: true,
            id: format!("documents for {}", plan.arch),
        });
        Ok(movements)
    }

    /// How a layer gets into the image's repository, unless it is there.
    async fn one_to_push(
        &self,
        destination: &Repository,
        layer: Outgoing,
    ) -> Result<Vec<Movement>, BuildError> {
        let Outgoing { what, from, state } = layer;
        let here = Movement {
            way: Way::Push,
            what: what.clone(),
            from: HERE.to_owned(),
            to: destination.to_string(),
            bytes: 0,
            estimated: false,
            id: String::new(),
        };
        let layer = match state {
            Layer::ToMake { id, estimate } => {
                return Ok(vec![Movement { bytes: estimate, estimated: true, id, ..here }]);
            }
            Layer::Known(layer) => layer,
        };
        if self.is_there(destination, &layer).await? {
            return Ok(Vec::new());
        }
        let push = Movement { bytes: layer.size, id: layer.digest.to_string(), ..here };
        for neighbour in self.neighbours(destination, Whence { layer: &layer, source: from.as_ref() }) {
            if self.is_there(&neighbour, &layer).await? {
                return Ok(vec![Movement { way: Way::Mount, from: neighbour.to_string(), ..push }]);
            }
        }
        // What is passed on from another registry comes through this machine.
        match from.filter(|from| !self.is_embedded(from)) {
            Some(from) if !self.has(&layer)? => Ok(vec![Movement::fetched(what, &from, &layer), push]),
            _ => Ok(vec![push]),
        }
    }
}

impl PlannedLayer {
    /// What tells a layer that was not made yet from others.
    fn id(&self, plan: &Plan) -> String {
        let inputs = match &self.content {
            Content::Wheels(layer) => serde_json::to_vec(&layer.key),
            Content::Bytecode(layer) => serde_json::to_vec(&layer.bytecode_key),
            Content::Apt(layer) => serde_json::to_vec(&layer.key()),
            Content::Code => return plan.code.digest().to_string(),
            Content::Venv(scripts) => serde_json::to_vec(&RuntimeKey::venv(plan.parent.python(), scripts)),
            Content::Sdk | Content::SdkBytecode => serde_json::to_vec(&(self.slot(), plan.parent.python())),
        };
        // Strings, numbers and digests always serialise.
        Digest::of(inputs.unwrap_or_default()).to_string()
    }
}

/// About how large a layer will be. A wheel's streams become the layer's; bytecode is a third of what it is compiled from,
/// as wheels of the usual sort go; code shrinks to a third.
fn estimate(layer: &PlannedLayer, plan: &Plan) -> u64 {
    match &layer.content {
        Content::Wheels(wheels) => wheels.weight(),
        Content::Bytecode(wheels) => wheels.weight() / 3,
        Content::Apt(layer) => layer.weight(),
        Content::Venv(scripts) => 1_000 + 200 * scripts.len() as u64,
        Content::Sdk | Content::SdkBytecode => 60_000,
        Content::Code => plan.code.bytes() / 3 + 150 * plan.code.entries.len() as u64 + 500,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn movement(way: Way, id: &str, bytes: u64) -> Movement {
        Movement {
            way,
            what: id.to_owned(),
            from: HERE.to_owned(),
            to: "there".to_owned(),
            bytes,
            estimated: false,
            id: id.to_owned(),
        }
    }

    #[test]
    fn what_two_builds_move_is_moved_once() {
        let one = BytePlan { movements: vec![movement(Way::Fetch, "a", 10), movement(Way::Push, "a", 12)] };
        let other = BytePlan {
            movements: vec![
                movement(Way::Fetch, "a", 10),
                movement(Way::Push, "b", 3),
                movement(Way::Mount, "c", 99),
            ],
        };
        let both = one.and(other);
        assert_eq!((both.bytes(Way::Fetch), both.bytes(Way::Push), both.moved()), (10, 15, 25));
        assert_eq!(both.bytes(Way::Mount), 99);
        assert!(!both.is_estimated());
    }
}
