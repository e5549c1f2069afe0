//! Which wheels share a layer: pure.
//!
//! An image has a limited number of layers, and a changed wheel should change as little as possible. So each of the
//! [`ALONE`] largest wheels of at least 1 MB has a layer of its own, and the others share [`BINS`] layers by a hash of
//! their name: adding, removing or changing a package changes its own layer and no other (except when it pushes
//! another one out of the largest, which then changes its bin too).
//!
//! The budget: of the 60 layers that are longshore's (runtimes limit how many can be mounted), wheels get
//! `ALONE` + `BINS` = 26 and their bytecode as many; 8 are left for the parent's additions, the environment, the
//! standard library's bytecode, the SDK and the code. It is the same with and without bytecode, so that both have the same
//! wheel layers.

use longshore_oci::Digest;
use serde::Serialize;

use crate::{
    filename::WheelFilename,
    install::Venv,
    lock::{Lock, LockedPackage, Origin, PinnedWheel},
    target::PythonVersion,
};

/// How many wheels have a layer of their own.
pub const ALONE: usize = 14;
/// How many layers the other wheels share.
pub const BINS: usize = 12;
/// From this size on, in bytes, a wheel may have a layer of its own.
pub const LARGE: u64 = 1_000_000;

// The budget above.
const _: () = assert!(2 * (ALONE + BINS) + 8 <= 60);

/// Raised when the same wheels are to become another layer: another tree, another order.
pub const LAYOUT_VERSION: u32 = 1;

/// The wheels of one layer. They lie over each other in this order: of two files at one path, the later wheel's shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WheelLayer {
    /// The wheels, in order of their packages' names.
    pub wheels: Vec<PinnedWheel>,
    /// What the layer is a function of.
    pub key: WheelLayerKey,
    /// What its bytecode layer is a function of.
    pub bytecode_key: BytecodeLayerKey,
}

/// Everything that the bytes of a wheel layer depend on; what digest, `diff_id` and size are kept under.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct WheelLayerKey {
    layout: u32,
    layer_layout: u32,
    prefix: String,
    python: String,
    wheels: Vec<WheelInput>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
struct WheelInput {
    // The name of the file is an input: it is checked, and names the folder of its headers.
    filename: WheelFilename,
    digest: Digest,
    #[serde(skip_serializing_if = "Option::is_none")]
    direct_url: Option<String>,
}

/// Everything that the bytes of a bytecode layer depend on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct BytecodeLayerKey {
    wheels: WheelLayerKey,
    bytecode_layout: u32,
    python: PythonVersion,
}

/// Everything that the bytes of an [environment's layer](crate::layers::write_venv) depend on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct VenvLayerKey {
    layout: u32,
    layer_layout: u32,
    prefix: String,
    python: PythonVersion,
    interpreter: String,
}

impl VenvLayerKey {
    /// The key of the layer that makes `venv` an environment of the Python at `interpreter` in the image.
    pub fn new(venv: &Venv, interpreter: &str) -> Self {
        Self {
            layout: LAYOUT_VERSION,
            layer_layout: longshore_layer::LAYOUT_VERSION,
            prefix: venv.prefix().to_string(),
            python: venv.python(),
            interpreter: interpreter.to_owned(),
        }
    }
}

impl PinnedWheel {
    /// The URL that `direct_url.json` states, if there is to be one: without credentials, and of a file on this machine
    /// only the name, because the machine's folders are not the image's.
    pub fn direct_url(&self) -> Option<String> {
        if self.origin == Origin::Index {
            return None;
        }
        if self.url.scheme() == "file" {
            return Some(format!("file:///{}", self.filename));
        }
        let mut url = self.url.clone();
        // Both fail only for URLs that cannot have user information, and so have none.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.set_fragment(None);
        Some(url.to_string())
    }
}

/// Divides the wheels of a lock into layers: first those alone, by name, then the bins that are not empty.
pub fn wheel_layers(lock: &Lock, venv: &Venv) -> Vec<WheelLayer> {
    let mut large: Vec<&LockedPackage> =
        lock.packages.iter().filter(|package| package.wheel.size.unwrap_or(0) >= LARGE).collect();
    // The name decides between equals, so that the order of the lock does not.
    large.sort_by_key(|package| (std::cmp::Reverse(package.wheel.size), package.name.clone()));
    large.truncate(ALONE);
    large.sort_by(|a, b| a.name.cmp(&b.name));

    let mut bins: Vec<Vec<&LockedPackage>> = vec![Vec::new(); BINS];
    for package in &lock.packages {
        if large.binary_search_by(|other| other.name.cmp(&package.name)).is_err() {
            bins[bin(package)].push(package);
        }
    }
    for bin in &mut bins {
        bin.sort_by(|a, b| a.name.cmp(&b.name));
    }
    let alone = large.into_iter().map(|package| vec![package]);
    alone.chain(bins).filter(|packages| !packages.is_empty()).map(|packages| layer(&packages, venv)).collect()
}

/// The bin of a package: by its name alone, so that versions stay in theirs.
fn bin(package: &LockedPackage) -> usize {
    usize::from(Digest::of(package.name.as_ref()).as_bytes()[0]) % BINS
}

fn layer(packages: &[&LockedPackage], venv: &Venv) -> WheelLayer {
    let wheels: Vec<PinnedWheel> = packages.iter().map(|package| package.wheel.clone()).collect();
    let inputs = wheels.iter().map(|wheel| WheelInput {
        filename: wheel.filename.clone(),
        digest: wheel.digest,
        direct_url: wheel.direct_url(),
    });
    let key = WheelLayerKey {
        layout: LAYOUT_VERSION,
        layer_layout: longshore_layer::LAYOUT_VERSION,
        prefix: venv.prefix().to_string(),
        python: venv.python().short(),
        wheels: inputs.collect(),
    };
    let bytecode_key = BytecodeLayerKey {
        wheels: key.clone(),
        bytecode_layout: crate::bytecode::LAYOUT_VERSION,
        python: venv.python(),
    };
    WheelLayer { wheels, key, bytecode_key }
}

impl WheelLayer {
    /// How much there is to do, in bytes of wheels: what takes longest is best begun first.
    pub fn weight(&self) -> u64 {
        self.wheels.iter().filter_map(|wheel| wheel.size).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn package(name: &str, size: u64) -> LockedPackage {
        let filename: WheelFilename =
            format!("{}-1.0-py3-none-any.whl", name.replace('-', "_")).parse().unwrap();
        LockedPackage {
            name: name.parse().unwrap(),
            version: "1.0".parse().unwrap(),
            wheel: PinnedWheel {
                url: format!("https://files.invalid/{filename}").parse().unwrap(),
                digest: Digest::of(format!("{name} {size}")),
                filename,
                size: Some(size),
                origin: Origin::Index,
            },
            source: None,
        }
    }

    /// `count` packages with sizes as they are in practice: most are small, some are large.
    fn lock(count: u32) -> Lock {
        let mut packages: Vec<LockedPackage> = (0..count)
            .map(|i| package(&format!("package-{i:03}"), 20_000 + u64::from(i % 7).pow(9)))
            .collect();
        packages.sort_by(|a, b| a.name.cmp(&b.name));
        Lock { packages }
    }

    fn venv() -> Venv {
        Venv::in_image(PythonVersion::new(3, 11, 2))
    }

    #[test]
    fn every_wheel_is_in_one_layer_and_layers_stay_within_the_budget() {
        for count in [0, 1, 10, 150, 400] {
            let lock = lock(count);
            let layers = wheel_layers(&lock, &venv());
            assert!(layers.len() <= ALONE + BINS, "{count} packages: {} layers", layers.len());
            let mut seen: Vec<String> = layers
                .iter()
                .flat_map(|layer| &layer.wheels)
                .map(|wheel| wheel.filename.to_string())
                .collect();
            seen.sort();
            let mut all: Vec<String> =
                lock.packages.iter().map(|package| package.wheel.filename.to_string()).collect();
            all.sort();
            assert_eq!(seen, all);
        }
        assert_eq!(wheel_layers(&lock(400), &venv()).len(), ALONE + BINS, "the budget is used");
    }

    #[test]
    fn up_to_the_budget_every_large_wheel_is_alone() {
        let mut packages: Vec<_> = (0..14).map(|i| package(&format!("large-{i:02}"), LARGE + i)).collect();
        packages.push(package("small", LARGE - 1));
        let layers = wheel_layers(&Lock { packages }, &venv());
        assert_eq!(layers.iter().map(|layer| layer.wheels.len()).collect::<Vec<_>>(), [1; 15]);
    }

    #[test]
    fn one_more_package_changes_one_layer() {
        for count in [5, 150, 400] {
            let before = lock(count);
            let mut after = before.clone();
            after.packages.insert(0, package("aaa", 50_000));
            let (old, new) = (wheel_layers(&before, &venv()), wheel_layers(&after, &venv()));
            let changed = new.iter().filter(|layer| old.iter().all(|other| other.key != layer.key)).count();
            assert_eq!(changed, 1);
        }
    }

    #[test]
    fn another_version_changes_one_layer_and_another_python_all() {
        let before = lock(150);
        let mut after = before.clone();
        after.packages[40].wheel.digest = Digest::of("another version");
        let (old, new) = (wheel_layers(&before, &venv()), wheel_layers(&after, &venv()));
        assert_eq!(old.iter().zip(&new).filter(|(old, new)| old.key != new.key).count(), 1);

        let patch = wheel_layers(&before, &Venv::in_image(PythonVersion::new(3, 11, 9)));
        assert!(old.iter().zip(&patch).all(|(a, b)| a.key == b.key && a.bytecode_key != b.bytecode_key));
        let minor = wheel_layers(&before, &Venv::in_image(PythonVersion::new(3, 12, 2)));
        assert!(old.iter().zip(&minor).all(|(a, b)| a.key != b.key));
    }

    #[test]
    fn a_direct_url_has_no_credentials_and_no_folders_of_this_machine() {
        let mut wheel = package("thing", 1).wheel;
        assert_eq!(wheel.direct_url(), None);
        wheel.origin = Origin::Direct;
        wheel.url = "https://me:secret@files.invalid/thing-1.0-py3-none-any.whl#sha256=00".parse().unwrap();
        assert_eq!(wheel.direct_url().unwrap(), "https://files.invalid/thing-1.0-py3-none-any.whl");
        wheel.url = "file:///home/me/thing-1.0-py3-none-any.whl".parse().unwrap();
        assert_eq!(wheel.direct_url().unwrap(), "file:///thing-1.0-py3-none-any.whl");
    }

    proptest! {
        #[test]
        fn the_order_of_the_lock_decides_nothing(sizes in proptest::collection::vec(0u64..3_000_000, 1..60), seed: u64) {
            let mut packages: Vec<_> =
                sizes.iter().enumerate().map(|(i, size)| package(&format!("p{i}"), *size)).collect();
            let one = wheel_layers(&Lock { packages: packages.clone() }, &venv());
            let turn = usize::try_from(seed % packages.len() as u64).unwrap();
            packages.rotate_left(turn);
            prop_assert_eq!(one, wheel_layers(&Lock { packages }, &venv()));
        }
    }
}
