//! What an image consists of.

use std::collections::HashSet;

use bytes::Bytes;
use longshore_oci::{Descriptor, Digest, Index, Manifest, ManifestError, MediaType, Platform};

/// How deep indexes are nested at most.
const DEEPEST: usize = 4;
/// As many manifests an index may stand for.
const MOST_MANIFESTS: usize = 1024;

/// A manifest with its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Document {
    pub(crate) descriptor: Descriptor,
    pub(crate) bytes: Bytes,
}

/// What an image consists of: everything that must be there before the root is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The blobs, each once, largest first, so that the last to arrive are small.
    pub(crate) blobs: Vec<Descriptor>,
    /// The manifests, each after those that it lists. The root is the last.
    pub(crate) manifests: Vec<Document>,
}

/// Why there is no plan.
#[derive(Debug)]
pub(crate) enum PlanError {
    Manifest(ManifestError),
    /// The nesting has no end, or the number of manifests.
    TooMany,
}

impl From<ManifestError> for PlanError {
    fn from(error: ManifestError) -> Self {
        Self::Manifest(error)
    }
}

/// Gathers a plan from the root down: manifests are asked for one after another.
#[derive(Debug)]
pub(crate) struct Planner {
    wanted: Vec<(Descriptor, usize)>,
    known: HashSet<Digest>,
    blobs: Vec<Descriptor>,
    /// Each before those that it lists.
    manifests: Vec<Document>,
}

impl Planner {
    pub(crate) fn new(root: Descriptor) -> Self {
        let known = HashSet::from([root.digest]);
        Self { wanted: vec![(root, 0)], known, blobs: Vec::new(), manifests: Vec::new() }
    }

    /// The next manifest whose bytes are needed.
    pub(crate) fn next(&self) -> Option<&Descriptor> {
        self.wanted.last().map(|(descriptor, _)| descriptor)
    }

    /// Takes the bytes of the manifest that [`Self::next`] named.
    pub(crate) fn take(&mut self, bytes: Bytes) -> Result<(), PlanError> {
        let Some((descriptor, depth)) = self.wanted.pop() else { return Ok(()) };
        if descriptor.media_type.is_index() {
            if depth == DEEPEST {
                return Err(PlanError::TooMany);
            }
            for listed in Index::parse(&bytes)?.manifests {
                if self.known.insert(listed.digest) {
                    self.wanted.push((listed, depth + 1));
                }
            }
        } else {
            let manifest = Manifest::parse(&bytes)?;
            let blobs = manifest.layers.into_iter().chain([manifest.config]);
            for blob in blobs.filter(|blob| !is_kept_elsewhere(&blob.media_type)) {
                if self.known.insert(blob.digest) {
                    self.blobs.push(blob);
                }
            }
        }
        self.manifests.push(Document { descriptor, bytes });
        if self.manifests.len() + self.wanted.len() > MOST_MANIFESTS {
            return Err(PlanError::TooMany);
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Plan {
        self.blobs.sort_by_key(|blob| std::cmp::Reverse(blob.size));
        self.manifests.reverse();
        Plan { blobs: self.blobs, manifests: self.manifests }
    }
}

impl Plan {
    pub(crate) fn bytes(&self) -> u64 {
        self.blobs.iter().map(|blob| blob.size).sum()
    }
}

/// Layers that registries do not hand out (Windows base images): their manifests say where else they are.
fn is_kept_elsewhere(media_type: &MediaType) -> bool {
    let name = media_type.as_str();
    name.contains(".nondistributable.") || name.contains(".foreign.")
}

/// The manifest for a platform; or the platforms that there are.
pub(crate) fn choose<'a>(index: &'a Index, wanted: &Platform) -> Result<&'a Descriptor, Vec<Platform>> {
    index
        .for_platform(wanted)
        .ok_or_else(|| index.manifests.iter().filter_map(|manifest| manifest.platform.clone()).collect())
}

#[cfg(test)]
mod tests {
    use longshore_oci::Arch;

    use super::*;

    fn blob(size: u64) -> Descriptor {
        Descriptor::new(MediaType::LayerGzip, Digest::of(size.to_string()), size)
    }

    fn plan(root: Descriptor, documents: &[Vec<u8>]) -> Result<Plan, PlanError> {
        let mut planner = Planner::new(root);
        while let Some(next) = planner.next().cloned() {
            let bytes = documents.iter().find(|bytes| Digest::of(bytes) == next.digest).unwrap();
            planner.take(bytes.clone().into())?;
        }
        Ok(planner.finish())
    }

    #[test]
    fn everything_comes_before_what_names_it_and_once() {
        let one = Manifest::image(blob(1), vec![blob(30), blob(20)]).to_bytes();
        let other = Manifest::image(blob(2), vec![blob(30), blob(40)]).to_bytes();
        let listed = [&one, &other].map(|bytes| Descriptor::of(MediaType::Manifest, bytes));
        let inner = Index::new(listed.to_vec()).to_bytes();
        let inner_descriptor = Descriptor::of(MediaType::Index, &inner);
        let outer = Index::new(vec![listed[0].clone(), inner_descriptor.clone()]).to_bytes();
        let root = Descriptor::of(MediaType::Index, &outer);
        let plan = plan(root.clone(), &[one, other, inner, outer]).unwrap();
        let sizes: Vec<_> = plan.blobs.iter().map(|blob| blob.size).collect();
        assert_eq!(sizes, [40, 30, 20, 2, 1]);
        let order: Vec<_> = plan.manifests.iter().map(|document| document.descriptor.digest).collect();
        assert_eq!(order.len(), 4);
        let at = |digest| order.iter().position(|found| *found == digest).unwrap();
        assert_eq!(at(root.digest), 3);
        assert!(at(listed[1].digest) < at(inner_descriptor.digest));
    }

    #[test]
    fn what_registries_do_not_hand_out_is_left_out() {
        let mut foreign = blob(9);
        foreign.media_type = MediaType::from("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
        let manifest = Manifest::image(blob(1), vec![foreign]).to_bytes();
        let plan = plan(Descriptor::of(MediaType::Manifest, &manifest), &[manifest]).unwrap();
        assert_eq!(plan.bytes(), 1);
    }

    #[test]
    fn nesting_ends() {
        let mut documents = vec![Index::new(vec![]).to_bytes()];
        for _ in 0..=DEEPEST {
            let inner = Descriptor::of(MediaType::Index, documents.last().unwrap());
            documents.push(Index::new(vec![inner]).to_bytes());
        }
        let root = Descriptor::of(MediaType::Index, documents.last().unwrap());
        assert!(matches!(plan(root, &documents), Err(PlanError::TooMany)));
    }

    #[test]
    fn a_platform_is_chosen_or_the_choice_is_named() {
        let mut arm = blob(1);
        arm.platform = Some(Platform::linux(Arch::Arm64));
        let index = Index::new(vec![arm.clone()]);
        assert_eq!(choose(&index, &Platform::linux(Arch::Arm64)), Ok(&arm));
        assert_eq!(choose(&index, &Platform::linux(Arch::Amd64)), Err(vec![Platform::linux(Arch::Arm64)]));
    }
}
